"""Files that are kept: what was made once, unless anything about it is not as it was."""

import json
import multiprocessing

import pytest

from birdemb.embed.kept_files import get_kept, locate_kept

FILES = {"a": b"first", "b": b"second"}
MADE_OF = {"weights": "x", "version": [1, 2]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return locate_kept("small")


def refuse():
    raise AssertionError("made again")


def test_what_was_made_is_read_and_nothing_else_is_left_behind(folder):
    assert get_kept(folder, ["a"], MADE_OF, lambda: FILES) == FILES
    assert get_kept(folder, ["b"], MADE_OF, refuse) == {"b": b"second"}
    assert get_kept(folder, ["a", "b"], MADE_OF, refuse) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


@pytest.mark.parametrize("made_of", [MADE_OF | {"weights": "y"}, MADE_OF | {"more": 1}, {}])
def test_what_was_made_of_something_else_is_made_anew(folder, made_of):
    get_kept(folder, ["a"], MADE_OF, lambda: FILES)
    assert get_kept(folder, ["a"], made_of, lambda: {"a": b"other"}) == {"a": b"other"}
    assert get_kept(folder, ["a"], made_of, refuse) == {"a": b"other"}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"made_of": MADE_OF}),
        json.dumps({"made_of": MADE_OF, "files": ["a"]}),
        json.dumps({"made_of": MADE_OF, "files": {"a": ["0" * 64]}}),
        json.dumps({"made_of": MADE_OF, "files": {"b": "0" * 64}}),
    ],
)
def test_an_odd_record_is_none(folder, record):
    get_kept(folder, ["a"], MADE_OF, lambda: FILES)
    (folder / "record.json").write_text(record)
    assert get_kept(folder, ["a"], MADE_OF, lambda: {"a": b"other"}) == {"a": b"other"}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"fIrst")])
def test_a_file_that_is_not_what_was_written_is_made_anew(folder, damage):
    get_kept(folder, ["a"], MADE_OF, lambda: FILES)
    damage(folder / "a")
    assert get_kept(folder, ["b"], MADE_OF, refuse) == {"b": b"second"}
    assert get_kept(folder, ["a"], MADE_OF, lambda: FILES) == FILES
    assert get_kept(folder, ["a"], MADE_OF, refuse) == {"a": b"first"}


def test_where_nothing_can_be_written_it_is_made_each_time(folder):
    folder.parent.parent.parent.write_text("no folder")
    for content in (b"one", b"two"):
        assert get_kept(folder, ["a"], MADE_OF, lambda content=content: {"a": content}) == {"a": content}


def _get(folder, log):
    def make():
        with log.open("a") as file:
            file.write("made\n")
        return FILES

    assert get_kept(folder, ["a", "b"], MADE_OF, make) == FILES


def test_of_several_processes_one_makes_it(folder, tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_get, args=(folder, log)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text() == "made\n"
    assert [path.name for path in folder.parent.iterdir()] == ["small"]
