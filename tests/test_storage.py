"""Files that are never half-written, and hashes."""

import contextlib
import hashlib
import json
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdemb.errors import InputError
from birdemb.storage import (
    check_writable,
    hash_file,
    hash_json,
    read_json,
    replace_atomically,
    replace_folder_atomically,
    write_json,
)

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text):
    with replace_atomically(path) as temporary:
        temporary.write_text(text)


def test_a_file_gets_its_content_and_nothing_else_is_left(tmp_path):
    write(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_the_old_file_stays_until_the_block_has_ended(tmp_path):
    path = tmp_path / "a.txt"
    write(path, "old")
    with replace_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    write(path, "old")

    def fail():
        with replace_atomically(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="there are no modes elsewhere")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "a.txt", "new")
        assert os.umask(umask) == umask  # and it is left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask


def test_a_folder_is_made(tmp_path):
    write(tmp_path / "deep/deeper/a.txt", "new")
    assert (tmp_path / "deep/deeper/a.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["a b.txt", "鳥.txt", "x" * 255, ".hidden", "%s.csv"])
def test_names_of_all_kinds_can_be_written(tmp_path, name):
    write(tmp_path / name, "new")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("act", [lambda path: write(path, "new"), check_writable], ids=["write", "check"])
def test_a_folder_is_no_file_to_write(tmp_path, act):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"Cannot write .*folder: it is a folder"):
        act(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("act", [lambda path: write(path, "new"), check_writable], ids=["write", "check"])
@pytest.mark.parametrize("below", ["file/a.txt", "file/deep/a.txt", "x" * 256 + "/a.txt"])
def test_where_no_file_can_lie_the_error_says_so(tmp_path, act, below):
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match="Cannot write") as caught:
        act(tmp_path / below)
    assert str(tmp_path / below) in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"


def test_checking_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a.txt")
    assert names(tmp_path) == []
    write(tmp_path / "a.txt", "old")
    check_writable(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(AS_ROOT, reason="nothing is protected from root")
def test_a_protected_file_or_folder_is_told(tmp_path):
    write(tmp_path / "a.txt", "old")
    (tmp_path / "a.txt").chmod(0o444)
    with pytest.raises(InputError, match="protected"):
        check_writable(tmp_path / "a.txt")
    (tmp_path / "folder").mkdir(mode=0o555)
    with pytest.raises(InputError, match="Cannot write"):
        check_writable(tmp_path / "folder/a.txt")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=JSON_VALUES)
def test_json_comes_back(tmp_path, content):
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_what_is_no_json_is_told_with_its_path(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no valid JSON") as caught:
        read_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"abc", bytes(10**6)])
def test_the_hash_of_a_file_is_sha256(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert hash_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_the_hash_of_json_does_not_know_the_order_of_keys(content):
    shuffled = dict(reversed(content.items()))
    assert hash_json(shuffled) == hash_json(content) == hash_json(json.loads(json.dumps(content)))


def test_the_hash_of_json_is_sha256_of_its_shortest_form():
    assert hash_json({"b": [1, 2.5], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": 1, "b": 1}, [1]])
def test_different_json_has_a_different_hash(other):
    assert hash_json(other) != hash_json({"a": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_cannot_hold_what_is_not_finite(value):
    with pytest.raises(ValueError, match="JSON"):
        hash_json({"a": value})


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "network"
    for content in ("first", "second"):
        with replace_folder_atomically(target) as temporary:
            (temporary / "file").write_text(content)
        assert (target / "file").read_text() == content
    with contextlib.suppress(KeyboardInterrupt), replace_folder_atomically(target) as temporary:
        (temporary / "file").write_text("third")
        raise KeyboardInterrupt
    assert (target / "file").read_text() == "second"
    assert names(tmp_path) == ["network"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(InputError, match=r"Cannot write .*network: Not a directory"),
        replace_folder_atomically(tmp_path / "file" / "network"),
    ):
        pass
