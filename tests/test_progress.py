"""Progress on a terminal, and elsewhere."""

import io
import os
import struct
import time

import pytest

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
    assert all("x real time" in line and "s left" in line for line in lines)
    assert "0.02 h" in lines[0]
    assert stream.getvalue().endswith("\n")


def test_a_short_run_into_a_file_says_nothing():
    stream = io.StringIO()
    run(stream, total=100)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar():
    text = show_on_terminal()
    assert "\r" in text
    assert "embedding" in text
    assert "100%|" in text
    assert "3/3 recordings" in text
    assert "0.05 h" in text


@pytest.mark.usefixtures("often")
def test_a_terminal_gets_no_lines_beside_the_bar():
    text = show_on_terminal()
    assert "embedding 100%" in text
    assert "embedding: " not in text


@pytest.mark.usefixtures("often")
def test_what_is_not_shown_is_silent():
    stream = io.StringIO()
    run(stream, shown=False)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("often")
def test_what_is_not_shown_is_silent_on_a_terminal():
    assert show_on_terminal(shown=False) == ""


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


def show_on_terminal(**options):
    """Give what a pseudo-terminal received."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    controller, terminal = os.openpty()
    try:
        with os.fdopen(terminal, "w") as stream:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
            run(stream, **options)
            time.sleep(0.05)
            os.set_blocking(controller, False)
            try:
                return os.read(controller, 65_536).decode()
            except BlockingIOError:
                return ""
    finally:
        os.close(controller)
