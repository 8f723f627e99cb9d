"""Archives of which nothing is trusted."""

import gzip
import io
import tarfile
import zipfile

import pytest
from weights_files import SAVED_MODEL, tarred, zipped

from birdemb.embed import archives
from birdemb.embed.archives import choose_folder, choose_members, list_entries, unpack
from birdemb.errors import InputError


@pytest.fixture
def put(tmp_path):
    def write(content):
        path = tmp_path / "archive"
        path.write_bytes(content)
        return path

    return write


def entry(kind, name="model/x", target="saved_model.pb"):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def zip_with_mode(mode):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("model/x")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def unpack_all(archive, form, folder):
    entries = list_entries(archive, form)
    unpack(archive, form, {entry.path: folder / entry.path for entry in entries}, entries)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_files_come_out_as_they_went_in(put, tmp_path, form):
    archive = put(zipped(SAVED_MODEL) if form == "zip" else tarred(SAVED_MODEL))
    assert unpack_all(archive, form, tmp_path / "out") == SAVED_MODEL


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:/x", "c:x"])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_path_that_leads_out_is_refused(put, form, name):
    members = SAVED_MODEL | {name: b"x"}
    with pytest.raises(InputError, match="a path that may lead out of it"):
        list_entries(put(zipped(members) if form == "zip" else tarred(members)), form)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_link_or_device_in_a_tar_is_refused(put, kind, said):
    with pytest.raises(InputError, match=f"'model/x', which is {said} and no file"):
        list_entries(put(tarred(SAVED_MODEL, entry(kind))), "tar.gz")


@pytest.mark.parametrize(("mode", "said"), [(0o120777, "a link"), (0o020666, "a device"), (0o010666, "a device")])
def test_link_or_device_in_a_zip_is_refused(put, mode, said):
    with pytest.raises(InputError, match=f"'model/x', which is {said} and no file"):
        list_entries(put(zip_with_mode(mode)), "zip")


def test_rights_are_not_taken_over(put, tmp_path):
    unpack_all(put(zip_with_mode(0o104777)), "zip", tmp_path / "out")
    assert (tmp_path / "out/model/x").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("other", ["Saved_Model.pb", "./saved_model.pb"])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_name_twice_is_refused(put, form, other):
    members = SAVED_MODEL | {other: b"other"}
    with pytest.raises(InputError, match="twice"):
        list_entries(put(zipped(members) if form == "zip" else tarred(members)), form)


@pytest.mark.parametrize(("name", "said"), [("saved_model.pb/x", "below a file"), (".", "and no file")])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_file_that_would_be_a_folder_is_refused(put, form, name, said):
    members = SAVED_MODEL | {name: b"x"}
    with pytest.raises(InputError, match=said):
        list_entries(put(zipped(members) if form == "zip" else tarred(members)), form)


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_bombs_are_refused_before_they_are_unpacked(put, form, monkeypatch):
    make = zipped if form == "zip" else tarred
    with pytest.raises(InputError, match="would unpack to more than 67,108,864 bytes"):
        list_entries(put(make({"saved_model.pb": b"\0" * (70 << 20)})), form)
    monkeypatch.setattr(archives, "_MOST_ENTRIES", 10)
    with pytest.raises(InputError, match="more than 10 entries"):
        list_entries(put(make({f"{i}": b"" for i in range(11)})), form)


def test_encrypted_member_is_refused(put):
    content = bytearray(zipped({"saved_model.pb": b"x"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match="encrypted"):
        list_entries(put(bytes(content)), "zip")


@pytest.mark.parametrize(
    ("form", "content"),
    [
        pytest.param("zip", b"", id="empty zip"),
        pytest.param("zip", tarred(SAVED_MODEL), id="tar for zip"),
        pytest.param("zip", zipped(SAVED_MODEL)[:-30], id="zip cut short"),
        pytest.param("tar.gz", b"", id="empty tar"),
        pytest.param("tar.gz", b"<html>", id="page"),
        pytest.param("tar.gz", zipped(SAVED_MODEL), id="zip for tar"),
        pytest.param("tar.gz", tarred(SAVED_MODEL)[:-30], id="tar cut short"),
        pytest.param("tar.gz", gzip.compress(gzip.decompress(tarred(SAVED_MODEL))[:700]), id="tar cut short inside"),
        pytest.param("tar.gz", gzip.compress(b"no tar" * 200), id="no tar inside"),
    ],
)
def test_what_is_no_whole_archive_is_one_sentence(put, tmp_path, form, content):
    with pytest.raises(InputError, match="what came is no whole archive"):
        unpack_all(put(content), form, tmp_path / "out")


def test_member_larger_than_the_list_says_is_not_written_whole(put, tmp_path):
    archive = put(zipped(SAVED_MODEL))
    entries = [archives.Entry(entry.path, entry.bytes - 1) for entry in list_entries(archive, "zip")]
    targets = {entry.path: tmp_path / "out" / entry.path for entry in entries}
    with pytest.raises(InputError, match="another size than its list says"):
        unpack(archive, "zip", targets, entries)


def test_members_and_folders_are_found_wherever_they_are_and_once(put):
    entries = list_entries(put(zipped({"a/model/saved_model.pb": b"", "a/b/x.bin": b"12", "c/x.bin.txt": b""})), "zip")
    assert {str(path): name for path, name in choose_members(entries, {"x.bin": 2}).items()} == {"a/b/x.bin": "x.bin"}
    for names, said in (({"y.bin": 0}, "0 files y.bin"), ({"x.bin": 3}, "x.bin has 2 bytes, expected 3")):
        with pytest.raises(InputError, match=said):
            choose_members(entries, names)
    for name in ("", "model", "a/model"):
        assert set(choose_folder(entries, name).values()) == {"saved_model.pb"}
    with pytest.raises(InputError, match="0 folders odel"):
        choose_folder(entries, "odel")
    entries += list_entries(put(zipped({"d/saved_model.pb": b""})), "zip")
    with pytest.raises(InputError, match=r"2 folders with a saved_model\.pb"):
        choose_folder(entries, "")
