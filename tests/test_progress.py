"""Progress on a terminal, and elsewhere."""

import io
import os
import re
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb import progress
from birdemb.progress import Progress


@pytest.fixture
def often(monkeypatch):
    """Lines as often as there is something to say."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)


def run(stream, total=3, **options):
    with Progress("embedding", total, stream=stream, **options) as bar:
        for _ in range(total):
            bar.advance(60.0)


@pytest.mark.usefixtures("often")
def test_a_file_gets_plain_lines():
    stream = io.StringIO()
    run(stream)
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["embedding: 1/3 recordings", "embedding: 2/3 recordings"]
    assert all("x real time" in line and re.search(r"\d\d:\d\d left$", line) for line in lines)
    assert "0.02 h" in lines[0]
    assert stream.getvalue().endswith("\n")


def test_a_short_run_into_a_file_says_nothing():
    stream = io.StringIO()
    run(stream, total=100)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar():
    text = show_on_terminal(run)
    assert "\r" in text
    assert "embedding" in text
    assert "100%|" in text
    assert "3/3 recordings" in text
    assert "0.05 h" in text


@pytest.mark.usefixtures("often")
def test_a_terminal_gets_no_lines_beside_the_bar():
    text = show_on_terminal(run)
    assert "embedding 100%" in text
    assert "embedding: " not in text


@pytest.mark.usefixtures("often")
def test_what_is_not_shown_is_silent():
    stream = io.StringIO()
    run(stream, shown=False)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("often")
def test_what_is_not_shown_is_silent_on_a_terminal():
    assert show_on_terminal(run, shown=False) == ""


@pytest.mark.usefixtures("often")
def test_progress_goes_to_standard_error(capsys):
    run(None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "embedding: 1/3" in captured.err


@pytest.mark.parametrize("total", [0, 1])
@pytest.mark.usefixtures("often")
def test_a_run_of_nothing_or_of_one_ends_well(total):
    stream = io.StringIO()
    run(stream, total)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("often")
def test_recordings_without_sound_are_counted():
    stream = io.StringIO()
    with Progress("embedding", 2, stream=stream) as bar:
        bar.advance()
    assert "1/2 recordings, 0.00 h, 0 x real time" in stream.getvalue()


def test_a_bar_moves_by_the_parts_of_one_long_recording():
    def embed_a_day(stream):
        with Progress("embedding", 1, stream=stream) as bar:
            bar.expect(400.0)
            for part in range(4):
                bar.advance(100.0, recordings=part == 3, expected=100.0)
                time.sleep(0.15)  # tqdm draws ten times a second at most

    text = show_on_terminal(embed_a_day)
    assert [told for told in ("25%|", "50%|", "75%|", "100%|") if told in text] == ["25%|", "50%|", "75%|", "100%|"]
    assert "0/1 recordings, 0.06 h" in text


def fraction(bar):
    return bar._fraction()


def test_sound_and_not_recordings_says_how_much_is_left():
    with Progress("embedding", 11, shown=False) as bar:
        bar.expect(10.0, recordings=10)
        bar.expect(90.0)
        bar.advance(10.0, recordings=10, expected=10.0)
        assert fraction(bar) == pytest.approx(0.1)


def test_recordings_that_were_not_looked_at_yet_are_taken_to_be_like_the_others():
    with Progress("embedding", 100, shown=False) as bar:
        bar.expect(50.0, recordings=50)
        bar.advance(25.0, recordings=25, expected=25.0)
        assert fraction(bar) == pytest.approx(0.25)


@given(
    steps=st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 5), st.booleans()), max_size=20),
    ahead=st.integers(0, 10),
)
def test_a_fraction_is_never_whole_before_the_end(steps, ahead):
    total = sum(recordings for _, recordings, _ in steps) + ahead
    with Progress("embedding", total, shown=False) as bar:
        done = 0
        for seconds, recordings, needed in steps:
            bar.expect(seconds if needed else 0.0, recordings=recordings)
            bar.advance(seconds, recordings=recordings, expected=seconds if needed else 0.0)
            done += recordings
            assert 0 <= fraction(bar) <= 1
            assert (fraction(bar) == 1) == (done == total)


def show_on_terminal(show, **options):
    """Give what a pseudo-terminal received."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    controller, terminal = os.openpty()
    try:
        with os.fdopen(terminal, "w") as stream:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
            show(stream, **options)
            time.sleep(0.05)
            os.set_blocking(controller, False)
            try:
                return os.read(controller, 65_536).decode()
            except BlockingIOError:
                return ""
    finally:
        os.close(controller)
