"""A bundle comes back as it was written, or not at all."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundle_files import (
    CLASSES,
    IDENTITY,
    NAMES,
    hear,
    make_bundle,
    make_data,
    make_postprocessing,
    make_small_head,
    members_of,
    process,
    same,
    wrap,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle, write_bundle
from birdemb.classify.ensemble import Ensemble, Member
from birdemb.classify.heads import make_head
from birdemb.classify.postprocessing import Postprocessing, Temperature
from birdemb.errors import BirdembError, InputError
from birdemb.taxonomy import ClassName


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "lr.birdemb"
    write_bundle(make_bundle(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_comes_back_as_it_was(name, tmp_path):
    bundle = make_bundle(name)
    write_bundle(bundle, tmp_path / "a.birdemb")
    again = read_bundle(tmp_path / "a.birdemb")
    assert same(bundle, again)
    assert again.heads == bundle.heads
    # The second writing is of the head that was read, so everything came back.
    write_bundle(again, tmp_path / "b.birdemb")
    assert (tmp_path / "a.birdemb").read_bytes() == (tmp_path / "b.birdemb").read_bytes()


@pytest.mark.parametrize("name", NAMES)
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


@settings(max_examples=min(30, settings().max_examples))
@given(
    labels=st.lists(st.text(min_size=1), min_size=3, max_size=3, unique=True),
    common=st.text(),
    identity=st.dictionaries(st.text(), JSON, max_size=4),
    shares=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_any_names_and_any_json(labels, common, identity, shares, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "any.birdemb"
    bundle = Bundle(
        LR.ensemble,
        tuple(ClassName(label, "", common) for label in labels),
        ({**identity, **IDENTITY},),
        np.array(shares),
        {"x": identity},
        {"y": identity},
    )
    write_bundle(bundle, path)
    assert same(bundle, read_bundle(path))


def test_a_path_that_is_not_utf8(tmp_path):
    bundle = Bundle(**{**vars(LR), "provenance": {"command": ["birdemb", "embed", "M\udc80we"]}})
    write_bundle(bundle, tmp_path / "a.birdemb")
    assert same(bundle, read_bundle(tmp_path / "a.birdemb"))


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_jobs_is_not_kept(name, tmp_path):
    bundle = make_bundle(name)
    write_bundle(bundle, tmp_path / "a.birdemb")
    bundle.ensemble.set_jobs(2)
    write_bundle(bundle, tmp_path / "b.birdemb")
    assert (tmp_path / "a.birdemb").read_bytes() == (tmp_path / "b.birdemb").read_bytes()
    assert read_bundle(tmp_path / "b.birdemb").ensemble.members[0].head.n_jobs is None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_altered_byte(name, tmp_path):
    step = 7 if name == "lr" else 61  # the others differ in their arrays and texts alone
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


@pytest.mark.parametrize(("window", "hop"), [(3600, 3600), (5, 5), (0.01, 0.01), (5.0, 2.5)])
def test_identities_at_the_limits(tmp_path, window, hop):
    bundle = Bundle(**{**vars(LR), "identities": ({**IDENTITY, "window": window, "hop": hop},)})
    write_bundle(bundle, tmp_path / "a.birdemb")
    assert same(bundle, read_bundle(tmp_path / "a.birdemb"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"classes": CLASSES[:2]}, "names 2"),
        ({"classes": (*CLASSES[:2], ClassName(""))}, "no name"),
        ({"classes": (*CLASSES[:2], CLASSES[0])}, "more than once in the bundle: Turdus merula"),
        ({"shares": np.zeros(2)}, "shares"),
        ({"shares": np.zeros(3, np.float32)}, "shares"),
        ({"shares": np.array([np.nan, 0, 0])}, "share"),
        ({"identities": ()}, "names 0 encoders; its heads take 1"),
        ({"identities": (IDENTITY, IDENTITY)}, "names 2 encoders"),
    ],
)
def test_parts_that_do_not_fit_together(changes, match):
    with pytest.raises(InputError, match=match):
        Bundle(**{**vars(LR), **changes})


def test_postprocessing_for_other_classes():
    steps = Postprocessing((Temperature(("all",), np.ones(1), np.zeros(4, np.int64)),))
    with pytest.raises(InputError, match="learnt for 4 classes; the bundle names 3"):
        Bundle(**{**vars(LR), "postprocessing": steps})
    assert Bundle(**{**vars(LR), "postprocessing": make_postprocessing()}).postprocessing
    assert not LR.postprocessing


def test_encoders_with_other_windows():
    full = make_bundle("all")
    with pytest.raises(InputError, match="do not have the same hop"):
        Bundle(**{**vars(full), "identities": (IDENTITY, {**IDENTITY, "hop": 5.0})})


def test_heads_that_do_not_fit_together():
    X, y = make_data()
    blend, fitted = Blend("mean", np.ones((1, 3))), make_head("lr").fit(X, y)
    with pytest.raises(InputError, match="at least one head"):
        Ensemble((), (None,), blend)
    with pytest.raises(InputError, match="not fitted"):
        Ensemble((Member(make_head("lr")),), (None,), blend)
    with pytest.raises(InputError, match="encoder 1, which is not there"):
        Ensemble((Member(fitted, 1),), (None,), blend)
    with pytest.raises(InputError, match="2 and 3 classes"):
        Ensemble((Member(fitted), Member(make_head("lr").fit(X, y[:, :2]))), (None,), blend)


def test_the_heads_of_an_ensemble_are_blended_and_calibrated():
    X, _ = make_data()
    ensemble = make_bundle("all").ensemble
    scores = ensemble.score_members(hear(X))
    assert scores.shape == (2, 30, 3)
    blended = scores.mean(axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(hear(X)), ensemble.calibration.apply(blended))
    assert make_bundle("all").heads == ("lr on fake", "lgbm on other")


def test_labels_in_place_of_an_indicator_cannot_be_kept(tmp_path):
    X, _ = make_data()
    head = make_head("lr").fit(X, np.arange(30) % 3)
    with pytest.raises(InputError, match="1-D labels"):
        write_bundle(wrap(head), tmp_path / "a.birdemb")


@pytest.mark.parametrize("value", [np.zeros(2), float("nan"), b"bytes"])
def test_what_json_cannot_hold(tmp_path, value):
    for part in ({"identities": ({**IDENTITY, "x": value},)}, {"provenance": {"x": value}}, {"scores": {"x": value}}):
        with pytest.raises(InputError, match="JSON"):
            write_bundle(Bundle(**{**vars(LR), **part}), tmp_path / "a.birdemb")
    assert not list(tmp_path.iterdir())


def test_a_random_state_that_is_no_number_cannot_be_kept(tmp_path):
    X, y = make_data()
    head = make_small_head("lr").set_params(random_state=np.random.RandomState(0)).fit(X, y)
    with pytest.raises(InputError, match="random_state"):
        write_bundle(wrap(head), tmp_path / "a.birdemb")


def test_another_suffix(tmp_path):
    with pytest.raises(InputError, match=r"\.birdemb"):
        write_bundle(LR, tmp_path / "a.zip")


def test_every_part_has_its_head_or_encoder_in_its_name(tmp_path):
    write_bundle(make_bundle("all"), tmp_path / "a.birdemb")
    names = set(members_of(tmp_path / "a.birdemb"))
    assert {"head0_coef.npy", "head1_trees_0.txt", "encoder0_prior_kind.txt", "blend_weights.npy"} <= names


PROCESSED = [[0.028339312, 0.514762005, 0.163516591], [0.071598466, 0.110434329, 0.029073863]]


# Made by make_bundle("all") when each format came into being: later versions have to open it as it is.
@pytest.mark.parametrize("version", [2, 3])
def test_a_bundle_that_was_written_before_opens_and_predicts_what_it_did(version):
    X, _ = make_data()
    bundle = read_bundle(Path(__file__).parent / "bundles" / f"format-{version}.birdemb")
    expected = [
        [0.124956971, 0.363858732, 0.03816438],
        [0.244958801, 0.653769795, 0.232182365],
        [0.899681314, 0.984270123, 0.949561689],
    ]
    np.testing.assert_allclose(bundle.ensemble.predict_proba(hear(X[:3])), expected, rtol=1e-6)
    assert bundle.classes == CLASSES
    # Format 2 knew no post-processing.
    assert bool(bundle.postprocessing) == (version > 2)
    if version == 2:
        np.testing.assert_array_equal(process(bundle), bundle.ensemble.predict_proba(hear(X)))
    else:
        np.testing.assert_allclose(process(bundle)[[0, -1]], PROCESSED, rtol=1e-6)
