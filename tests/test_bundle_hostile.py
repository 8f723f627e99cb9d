"""A file that is damaged, or made with bad intentions, is refused in one sentence and nothing in it is executed."""

import io
import json
import zipfile

import numpy as np
import pytest
from bundle_files import (
    CLASSES,
    IDENTITY,
    assert_refused,
    change_index,
    make_bundle,
    members_of,
    relist,
    save,
    write_raw,
)

from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import write_bundle
from birdemb.errors import InputError

LR = make_bundle()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "lr.birdemb"
    write_bundle(LR, path)
    return path


def test_truncated_at_many_lengths(written):
    content = written.read_bytes()
    for length in range(0, len(content), 37):
        written.write_bytes(content[:length])
        assert_refused(written)


@pytest.mark.parametrize(
    "content", [b"", b"no zip at all\n", b"PK\x03\x04", b"\x80\x04\x95\x00", b"PK\x05\x06" + bytes(18)]
)
def test_files_that_are_no_bundle(tmp_path, content):
    path = tmp_path / "a.birdemb"
    path.write_bytes(content)
    assert_refused(path)


def test_no_file_and_a_folder(tmp_path):
    assert_refused(tmp_path / "missing.birdemb", "No such file")
    assert_refused(tmp_path)


def test_every_missing_member(written):
    members = members_of(written)
    for name in members:
        write_raw(written, [(other, content) for other, content in members.items() if other != name])
        assert_refused(written, f"(lacks|has no) {name}")


def test_a_member_that_is_not_listed(written):
    write_raw(written, [*members_of(written).items(), ("more.npy", b"x")])
    assert_refused(written, "does not list")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.npy",
        "/etc/passwd",
        "arrays/../../evil.npy",
        "arrays\\evil.npy",
        "C:\\evil.npy",
        "evil.npy/",
        "Evil.npy",
        "evil.npy.txt",
        "ev\nil.npy",
        "evil.pkl",
        "evil",
        "e" * 80 + ".npy",
        "arrays/evil.npy",
    ],
)
def test_hostile_names(written, name):
    members = relist({**members_of(written), name: b"x"})
    write_raw(written, list(members.items()))
    assert_refused(written, "no bundle has")
    assert list(written.parent.iterdir()) == [written]


def test_a_name_with_a_zero_byte(written):
    write_raw(written, [*members_of(written).items(), ("evil.npyZ", b"x")])
    written.write_bytes(written.read_bytes().replace(b"evil.npyZ", b"evil.npy\0"))
    assert_refused(written)


def test_the_same_member_twice(written):
    members = members_of(written)
    write_raw(written, [*members.items(), ("head0_coef.npy", members["head0_coef.npy"])])
    assert_refused(written, "twice")


def test_the_same_part_as_array_and_text(written):
    members = relist({**members_of(written), "head0_coef.txt": b"x"})
    write_raw(written, list(members.items()))
    assert_refused(written, "comes twice")


def test_compressed(written):
    write_raw(written, list(members_of(written).items()), zipfile.ZIP_DEFLATED)
    assert_refused(written, "compressed")


def test_members_that_claim_to_be_larger_than_the_file(written):
    huge = (2**31).to_bytes(4, "little")
    content = bytearray(written.read_bytes())
    start = content.rindex(b"PK\x01\x02")
    content[start + 20 : start + 24] = content[start + 24 : start + 28] = huge
    written.write_bytes(content)
    assert_refused(written, "larger than the file")


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


def header(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        save(np.array([Explosive()], dtype=object), allow_pickle=True),
        np.array([Explosive()], dtype=object).dumps(),
        save(np.array(["text"])),
        save(np.array([1 + 2j])),
        save(np.zeros(3, dtype=[("x", "f8")])),
        save(np.array(["2020"], dtype="M8[Y]")),
        save(np.zeros((2, 4))),
        save(np.full((3, 4), np.nan)),
        save(np.zeros((3, 4)))[:-1],
        save(np.zeros((3, 4))) + b"x",
        header((2**40, 2**20)),
        header((-1, -1)) + bytes(8),
        save(np.zeros(3, np.int8)).replace(b"|i1", b"<f1"),
        header((3, 4)).replace(b"(3, 4)", b"(3,04)") + bytes(96),
        header((3, 4)).replace(b"(3, 4), }  ", b"(03, 04), }") + bytes(96),
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x10\x00((((((((((((((((",
        b"\x93NUMPY\x03\x00\x10\x00\x00\x00{}              ",
        b"PK\x05\x06" + bytes(18),
    ],
)
def test_hostile_arrays_with_the_right_hash(written, content):
    members = relist({**members_of(written), "head0_coef.npy": content})
    write_raw(written, list(members.items()))
    assert_refused(written, "coef")


@pytest.mark.parametrize(
    ("content", "match"), [(b"\xff\xfe", "head0_trees_0.txt"), (b"tree", "hold together"), (b"", "hold together")]
)
def test_hostile_texts_with_the_right_hash(tmp_path, content, match):
    path = tmp_path / "lgbm.birdemb"
    write_bundle(make_bundle("lgbm"), path)
    write_raw(path, list(relist({**members_of(path), "head0_trees_0.txt": content}).items()))
    assert_refused(path, match)


def test_a_text_in_place_of_an_array_and_the_other_way_round(written):
    members = members_of(written)
    for part, told in (("head0_coef", "coef"), ("shares", "shares")):
        changed = relist({**{name: c for name, c in members.items() if name != f"{part}.npy"}, f"{part}.txt": b"x"})
        write_raw(written, list(changed.items()))
        assert_refused(written, told)
    write_bundle(make_bundle("lgbm"), written)
    members = members_of(written)
    members["head0_trees_0.npy"] = save(np.zeros(3))
    del members["head0_trees_0.txt"]
    write_raw(written, list(relist(members).items()))
    assert_refused(written, "has to be text")


def test_another_hash(written):
    members = members_of(written)
    write_raw(written, list({**members, "head0_coef.npy": save(np.ones((3, 4), np.float32))}.items()))
    assert_refused(written, "sha256")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format_version": NaN}'])
def test_an_index_that_is_none(written, content):
    write_raw(written, list({**members_of(written), "bundle.json": content}.items()))
    assert_refused(written, "bundle.json")


def member(**changes):
    return {"members": [{"head": "lr", "params": {}, "encoder": 0, "trust": False, **changes}]}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format_version": 4}, "written by a newer birdemb"),
        ({"format_version": 1}, "format version 1"),
        ({"format_version": "2"}, "format version '2'"),
        ({"format_version": True}, "format version True"),
        ({"extra": 1}, "keys"),
        (member(head="svm"), "svm"),
        (member(head=["lr"]), "head"),
        (member(head="lgbm"), "lacks the part"),
        (member(params=[]), "'params'"),
        (member(params={"C": {"a": 1}}), "parameter C"),
        (member(params={"C": [[1]]}), "parameter C"),
        (member(params={"C": -1}), "C is -1"),
        (member(params={"gamma": 1}), "gamma"),
        (member(params={"input_transform": "exec"}), "input_transform"),
        (member(params={"n_jobs": None}), "n_jobs"),
        (member(encoder=1), "encoder 1, which is not there"),
        (member(encoder=-1), "encoder -1, which is not there"),
        (member(encoder=True), "belongs to the encoder True"),
        (member(trust=1), "'trust' of a head"),
        (member(trust=True), "lacks the part 'trust_0'"),
        (member(extra=1), "has not the keys head, params, encoder and trust"),
        ({"members": []}, "'members' in bundle.json has 0 entries"),
        ({"members": "lr"}, "'members'"),
        ({"encoders": []}, "'encoders' in bundle.json has 0 entries"),
        ({"encoders": [{"identity": IDENTITY}]}, "an encoder in bundle.json"),
        ({"encoders": [{"identity": IDENTITY, "prior": True}]}, "prior"),
        ({"encoders": [{"identity": None, "prior": False}]}, "an encoder in bundle.json"),
        ({"classes": "abc"}, "'classes'"),
        ({"classes": [["a", "", ""], ["b", "", ""]]}, "shape"),
        ({"classes": [["a", "", ""], ["b", "", ""], ["b", "", ""]]}, "more than once"),
        ({"classes": [["a", "", ""], ["b", "", ""], ["", "", ""]]}, "no name"),
        ({"classes": [["a", "", ""], ["b", "", ""], ["c", 3, ""]]}, "a class in bundle.json"),
        ({"classes": ["a", "b", "c"]}, "a class in bundle.json"),
        ({"calibrated": 1}, "'calibrated'"),
        ({"calibrated": True}, "calibration"),
        ({"thresholds": True}, "thresholds"),
        ({"scores": []}, "'scores'"),
        ({"provenance": []}, "'provenance'"),
        ({"files": []}, "'files'"),
        ({"files": {"head0_coef.npy": 3}}, "does not list"),
    ],
)
def test_an_index_that_says_something_else(written, changes, match):
    write_raw(written, list(change_index(members_of(written), **changes).items()))
    assert_refused(written, match)


@pytest.mark.parametrize("wrong", [2.0, -0.1, np.nan, np.inf])
def test_shares_that_are_no_shares(written, wrong):
    members = relist({**members_of(written), "shares.npy": save(np.array([0.1, wrong, 0.3]))})
    write_raw(written, list(members.items()))
    assert_refused(written, "share of the bundle is not between 0 and 1|NaN or infinity")


BAD_IDENTITIES = [
    *(({"encoder": name}, "which is no name of one") for name in ("/x/own.toml", "own.toml", "../own", "a b", "")),
    ({"encoder": ""}, "encoder ''"),
    ({"encoder": None}, "encoder None"),
    ({"encoder": ["fake"]}, "encoder"),
    ({"dim": 5}, "makes 5 features; the head lr was fitted on 4"),
    ({"dim": 0}, "dim"),
    ({"dim": 4.0}, "dim"),
    ({"dim": True}, "dim"),
    ({"dim": "4"}, "dim"),
    ({"window": 0}, "window"),
    ({"window": 3601}, "window"),
    ({"window": 10**400}, "window"),
    ({"window": "5"}, "window"),
    ({"window": None}, "window"),
    ({"window": True}, "window"),
    ({"hop": 0}, "hop"),
    ({"hop": -1}, "hop"),
    ({"hop": 0.009}, "hop"),
    ({"hop": 5.1}, "hop"),
    ({"hop": [5]}, "hop"),
]


@pytest.mark.parametrize(("changes", "match"), BAD_IDENTITIES)
def test_an_identity_that_predictions_cannot_use(written, changes, match):
    identity = {**IDENTITY, **changes}
    encoders = [{"identity": identity, "prior": False}]
    write_raw(written, list(change_index(members_of(written), encoders=encoders).items()))
    assert_refused(written, match)
    with pytest.raises(InputError, match=match):
        Bundle(**{**vars(LR), "identities": (identity,)})


@pytest.mark.parametrize("key", ["encoder", "dim", "window", "hop"])
def test_an_identity_that_lacks_a_part(written, key):
    identity = {other: value for other, value in IDENTITY.items() if other != key}
    encoders = [{"identity": identity, "prior": False}]
    write_raw(written, list(change_index(members_of(written), encoders=encoders).items()))
    assert_refused(written, f"identity in the bundle lacks {key}")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "1e999"])
def test_an_identity_that_is_not_finite(written, constant):
    members = members_of(written)
    index = members["bundle.json"].replace(b'"window": 5.0', b'"window": ' + constant.encode())
    assert index != members["bundle.json"]
    write_raw(written, list({**members, "bundle.json": index}.items()))
    assert_refused(written, constant if constant != "1e999" else "window")


def test_parts_of_a_head_that_is_not_named(written):
    members = members_of(written)
    members["head1_coef.npy"] = members["head0_coef.npy"]
    write_raw(written, list(relist(members).items()))
    assert_refused(written, "parts of head1, which it does not name")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("blend_weights.npy", save(np.full((2, 3), -1.0))),
        ("blend_weights.npy", save(np.zeros((2, 3)))),
        ("blend_method.txt", b"exec"),
        ("calibration_method.txt", b"exec"),
        ("calibration_slope.npy", save(np.full(3, -1.0))),
        ("encoder0_prior_known.npy", save(np.full(3, 7, np.uint8))),
        ("encoder1_prior_indices.npy", save(np.array([5, -1, 0]))),
        ("encoder0_prior_weights.npy", save(np.zeros((9, 2), np.float32))),
        ("thresholds_aim.txt", b"7"),
        ("trust_0.npy", save(np.array([0.5, 1.5, 0.0]))),
        ("trust_0.npy", save(np.zeros(2))),
    ],
)
def test_every_part_is_checked(tmp_path, part, content):
    path = tmp_path / "all.birdemb"
    write_bundle(make_bundle("all"), path)
    members = members_of(path)
    assert part in members
    write_raw(path, list(relist({**members, part: content}).items()))
    assert_refused(path)


def test_the_whole_index_is_read(tmp_path):
    path = tmp_path / "all.birdemb"
    write_bundle(make_bundle("all"), path)
    index = json.loads(members_of(path)["bundle.json"])
    assert [name[0] for name in index["classes"]] == [name.label for name in CLASSES]
    assert index["calibrated"]
    assert index["thresholds"]
