"""A bundle comes back as it was written, or not at all."""

import hashlib
import io
import json
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.classify.bundle import Bundle, read_bundle, write_bundle
from birdemb.classify.heads import make_head
from birdemb.errors import BirdembError, InputError

CLASSES = ("Turdus merula", "Übergröße", "Parus major")
IDENTITY = {
    "encoder": "fake",
    "dim": 4,
    "window": 5.0,
    "hop": 2.5,
    "weights": {"sha256": "00"},
    "list": [1, None, True],
}


def make_data():
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(30, 4)).astype(np.float32)
    y = np.stack([X[:, 0] > 1, X[:, 1] > 1, X[:, 2] > 1], axis=1).astype(int)
    return X, y


def make_bundle(name="lr", **params):
    if name == "mlp":
        pytest.importorskip("torch")
        params = {"hidden": (3,), "epochs": 2, **params}
    if name == "lgbm":
        params = {"n_estimators": 3, "feature_fraction": 1.0, **params}
    X, y = make_data()
    head = make_head(name, random_state=0, **params).fit(X, y)
    return Bundle(head, CLASSES, IDENTITY, y.mean(axis=0), {"seed": 0, "command": "birdemb fit"})


def same(first, second):
    """Whether two bundles are the same, to the last bit of their predictions."""
    X, _ = make_data()
    return (
        first.classes == second.classes
        and first.identity == second.identity
        and first.provenance == second.provenance
        and np.array_equal(first.priors, second.priors)
        and np.array_equal(first.head.predict_proba(X), second.head.predict_proba(X))
    )


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "lr.birdemb"
    write_bundle(make_bundle(), path)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_raw(path, members, compression=zipfile.ZIP_STORED):
    """Write members, in pairs, as they are."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in members:
            archive.writestr(name, content)


def relist(members):
    """Let the index list the members as they are now: what somebody with bad intentions would do."""
    index = json.loads(members["bundle.json"])
    index["members"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in members.items() if name != "bundle.json"
    }
    return {**members, "bundle.json": json.dumps(index).encode()}


def change_index(members, /, **changes):
    return {**members, "bundle.json": json.dumps({**json.loads(members["bundle.json"]), **changes}).encode()}


def assert_refused(path, match=None):
    with pytest.raises(InputError, match=match) as caught:
        read_bundle(path)
    assert str(path) in str(caught.value)
    assert "Fit again with `birdemb fit`." in str(caught.value)


@pytest.mark.parametrize("name", ["lr", "lgbm", "mlp"])
def test_comes_back_as_it_was(name, tmp_path):
    bundle = make_bundle(name)
    write_bundle(bundle, tmp_path / "a.birdemb")
    again = read_bundle(tmp_path / "a.birdemb")
    assert same(bundle, again)
    assert type(again.head) is type(bundle.head)
    # The second writing is of the head that was read, so everything came back.
    write_bundle(again, tmp_path / "b.birdemb")
    assert (tmp_path / "a.birdemb").read_bytes() == (tmp_path / "b.birdemb").read_bytes()


@pytest.mark.parametrize("name", ["lr", "lgbm", "mlp"])
def test_same_content_same_bytes(name, tmp_path):
    write_bundle(make_bundle(name), tmp_path / "a.birdemb")
    write_bundle(make_bundle(name), tmp_path / "b.birdemb")
    assert (tmp_path / "a.birdemb").read_bytes() == (tmp_path / "b.birdemb").read_bytes()


def test_nothing_is_pickled_or_compressed(written):
    with zipfile.ZipFile(written) as archive:
        assert archive.namelist()[0] == "bundle.json"
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            if member.filename.endswith(".npy"):
                np.load(io.BytesIO(archive.read(member)), allow_pickle=False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
LR = make_bundle()


@given(
    classes=st.lists(st.text(min_size=1), min_size=3, max_size=3, unique=True),
    identity=st.dictionaries(st.text(), JSON, max_size=4),
    priors=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_any_names_and_any_json(classes, identity, priors, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "any.birdemb"
    bundle = Bundle(LR.head, tuple(classes), {**identity, **IDENTITY}, np.array(priors), {"x": identity})
    write_bundle(bundle, path)
    assert same(bundle, read_bundle(path))


def test_a_path_that_is_not_utf8(tmp_path):
    bundle = Bundle(LR.head, CLASSES, IDENTITY, LR.priors, {"command": ["birdemb", "embed", "M\udc80we"]})
    write_bundle(bundle, tmp_path / "a.birdemb")
    assert same(bundle, read_bundle(tmp_path / "a.birdemb"))


@pytest.mark.parametrize("name", ["lr", "lgbm", "mlp"])
def test_the_number_of_jobs_is_not_kept(name, tmp_path):
    bundle = make_bundle(name)
    write_bundle(bundle, tmp_path / "a.birdemb")
    bundle.head.set_params(n_jobs=2)
    write_bundle(bundle, tmp_path / "b.birdemb")
    assert (tmp_path / "a.birdemb").read_bytes() == (tmp_path / "b.birdemb").read_bytes()
    assert read_bundle(tmp_path / "b.birdemb").head.n_jobs is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lr", "lgbm", "mlp"])
def test_one_altered_byte_at_every_position(name, tmp_path):
    check_altered_bytes(name, tmp_path, step=1 if name == "lr" else 7)


def test_one_altered_byte(tmp_path):
    check_altered_bytes("lr", tmp_path, step=11)


def check_altered_bytes(name, tmp_path, step):
    bundle, path = make_bundle(name), tmp_path / "a.birdemb"
    write_bundle(bundle, path)
    content = path.read_bytes()
    refused, altered = 0, tmp_path / "altered.birdemb"
    positions = range(0, len(content), step)
    for position in positions:
        flip = 1 << position % 8 if position % 3 else 0xFF
        altered.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
        try:
            read = read_bundle(altered)
        except BirdembError:
            refused += 1
        else:
            assert same(bundle, read), position
    assert refused > len(positions) / 2


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_several_altered_bytes(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(LR, folder / "a.birdemb")
    content = bytearray((folder / "a.birdemb").read_bytes())
    # The directory at the end is where zipfile looks first.
    position = st.integers(0, len(content) - 1) | st.integers(len(content) - 400, len(content) - 1)
    for index, value in data.draw(st.lists(st.tuples(position, st.integers(0, 255)), min_size=1, max_size=6)):
        content[index] = value
    (folder / "b.birdemb").write_bytes(content)
    try:
        read = read_bundle(folder / "b.birdemb")
    except BirdembError:
        return
    assert same(LR, read)


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
    write_raw(written, [*members.items(), ("coef.npy", members["coef.npy"])])
    assert_refused(written, "twice")


def test_the_same_part_as_array_and_text(written):
    members = relist({**members_of(written), "coef.txt": b"x"})
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


def save(array, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


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
    members = relist({**members_of(written), "coef.npy": content})
    write_raw(written, list(members.items()))
    assert_refused(written, "coef")


@pytest.mark.parametrize(
    ("content", "match"), [(b"\xff\xfe", "trees_0.txt"), (b"tree", "hold together"), (b"", "hold together")]
)
def test_hostile_texts_with_the_right_hash(tmp_path, content, match):
    path = tmp_path / "lgbm.birdemb"
    write_bundle(make_bundle("lgbm"), path)
    write_raw(path, list(relist({**members_of(path), "trees_0.txt": content}).items()))
    assert_refused(path, match)


def test_a_text_in_place_of_an_array_and_the_other_way_round(written):
    members = members_of(written)
    for part in ("coef", "priors"):
        changed = relist({**{name: c for name, c in members.items() if name != f"{part}.npy"}, f"{part}.txt": b"x"})
        write_raw(written, list(changed.items()))
        assert_refused(written, part)
    write_bundle(make_bundle("lgbm"), written)
    members = members_of(written)
    members["trees_0.npy"] = save(np.zeros(3))
    del members["trees_0.txt"]
    write_raw(written, list(relist(members).items()))
    assert_refused(written, "has to be text")


def test_another_hash(written):
    members = members_of(written)
    write_raw(written, list({**members, "coef.npy": save(np.ones((3, 4), np.float32))}.items()))
    assert_refused(written, "sha256")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format_version": NaN}'])
def test_an_index_that_is_none(written, content):
    write_raw(written, list({**members_of(written), "bundle.json": content}.items()))
    assert_refused(written, "bundle.json")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format_version": 2}, "written by a newer birdemb"),
        ({"format_version": 0}, "format version 0"),
        ({"format_version": "1"}, "format version '1'"),
        ({"format_version": True}, "format version True"),
        ({"extra": 1}, "keys"),
        ({"head": "svm"}, "svm"),
        ({"head": ["lr"]}, "head"),
        ({"head": "lgbm"}, "parameter"),
        ({"params": []}, "'params'"),
        ({"params": {"C": {"a": 1}}}, "parameter C"),
        ({"params": {"C": [[1]]}}, "parameter C"),
        ({"params": {"C": -1}}, "C is -1"),
        ({"params": {"gamma": 1}}, "gamma"),
        ({"params": {"input_transform": "exec"}}, "input_transform"),
        ({"classes": "abc"}, "'classes'"),
        ({"classes": ["a", "b"]}, "names 2"),
        ({"classes": ["a", "b", "b"]}, "more than once"),
        ({"classes": ["a", "b", 3]}, "no name"),
        ({"classes": ["a", "b", []]}, "no name"),
        ({"params": {"n_jobs": None}}, "n_jobs"),
        ({"identity": None}, "'identity'"),
        ({"provenance": []}, "'provenance'"),
        ({"members": []}, "'members'"),
        ({"members": {"coef.npy": 3}}, "does not list"),
    ],
)
def test_an_index_that_says_something_else(written, changes, match):
    write_raw(written, list(change_index(members_of(written), **changes).items()))
    assert_refused(written, match)


@pytest.mark.parametrize("wrong", [2.0, -0.1, np.nan, np.inf])
def test_priors_that_are_no_shares(written, wrong):
    members = relist({**members_of(written), "priors.npy": save(np.array([0.1, wrong, 0.3]))})
    write_raw(written, list(members.items()))
    assert_refused(written, "share between 0 and 1")


BAD_IDENTITIES = [
    ({"encoder": ""}, "encoder ''"),
    ({"encoder": None}, "encoder None"),
    ({"encoder": ["fake"]}, "encoder"),
    ({"dim": 5}, "dim 5; the head was fitted on 4"),
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
    write_raw(written, list(change_index(members_of(written), identity=identity).items()))
    assert_refused(written, match)
    with pytest.raises(InputError, match=match):
        Bundle(**{**vars(LR), "identity": identity})


@pytest.mark.parametrize("key", ["encoder", "dim", "window", "hop"])
def test_an_identity_that_lacks_a_part(written, key):
    identity = {other: value for other, value in IDENTITY.items() if other != key}
    write_raw(written, list(change_index(members_of(written), identity=identity).items()))
    assert_refused(written, f"identity in the bundle lacks {key}")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "1e999"])
def test_an_identity_that_is_not_finite(written, constant):
    members = members_of(written)
    index = members["bundle.json"].replace(b'"window": 5.0', b'"window": ' + constant.encode())
    assert index != members["bundle.json"]
    write_raw(written, list({**members, "bundle.json": index}.items()))
    assert_refused(written, constant if constant != "1e999" else "window")


@pytest.mark.parametrize(("window", "hop"), [(3600, 3600), (5, 5), (0.01, 0.01), (5.0, 2.5)])
def test_identities_at_the_limits(tmp_path, window, hop):
    bundle = Bundle(**{**vars(LR), "identity": {**IDENTITY, "window": window, "hop": hop}})
    write_bundle(bundle, tmp_path / "a.birdemb")
    assert same(bundle, read_bundle(tmp_path / "a.birdemb"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"classes": ("a", "b")}, "names 2"),
        ({"classes": ("a", "b", "")}, "no name"),
        ({"classes": ("a", "b", "a")}, "more than once in the bundle: a"),
        ({"priors": np.zeros(2)}, "priors"),
        ({"priors": np.zeros(3, np.float32)}, "priors"),
        ({"priors": np.array([np.nan, 0, 0])}, "share"),
        ({"head": make_head("lr")}, "not fitted"),
    ],
)
def test_parts_that_do_not_fit_together(changes, match):
    with pytest.raises(InputError, match=match):
        Bundle(**{**vars(LR), **changes})


def test_labels_in_place_of_an_indicator_cannot_be_kept(tmp_path):
    X, _ = make_data()
    head = make_head("lr").fit(X, np.arange(30) % 3)
    with pytest.raises(InputError, match="1-D labels"):
        write_bundle(Bundle(head, CLASSES, IDENTITY, np.zeros(3), {}), tmp_path / "a.birdemb")


@pytest.mark.parametrize("value", [np.zeros(2), float("nan"), b"bytes"])
def test_what_json_cannot_hold(tmp_path, value):
    with pytest.raises(InputError, match="JSON"):
        write_bundle(Bundle(LR.head, CLASSES, {**IDENTITY, "x": value}, LR.priors, {}), tmp_path / "a.birdemb")
    assert not list(tmp_path.iterdir())


def test_a_random_state_that_is_no_number_cannot_be_kept(tmp_path):
    X, y = make_data()
    head = make_head("lr", random_state=np.random.RandomState(0)).fit(X, y)
    with pytest.raises(InputError, match="random_state"):
        write_bundle(Bundle(head, CLASSES, IDENTITY, LR.priors, {}), tmp_path / "a.birdemb")


def test_another_suffix(tmp_path):
    with pytest.raises(InputError, match=r"\.birdemb"):
        write_bundle(LR, tmp_path / "a.zip")
