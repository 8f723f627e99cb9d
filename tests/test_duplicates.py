import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdemb.classify.duplicates import find_near_duplicates, keep_exceptional
from birdemb.errors import InputError

DIM = 48


def make_recordings(rng, lengths, songs=4):
    """Embeddings as those of encoders are: not negative, skewed, and alike within a recording and within a species."""
    species = rng.exponential(size=(songs, DIM))
    embeddings = []
    for length in lengths:
        own = species[rng.integers(songs)] * 0.3 + rng.exponential(size=DIM)
        embeddings.append(own + rng.exponential(size=(length, DIM)))
    return embeddings


def find(recordings, **options):
    codes = np.repeat(np.arange(len(recordings)), [len(windows) for windows in recordings])
    return find_near_duplicates(np.concatenate(recordings).astype(np.float32), codes, **options)


def cut(rng, windows, share=0.0):
    """Change a recording as another encoding does, and let it begin a share of a window later."""
    later = np.vstack([windows[1:], rng.exponential(size=(1, DIM)) * 0.1])
    moved = (1 - share) * windows + share * later
    return np.maximum(moved + rng.normal(scale=0.05, size=moved.shape), 0)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_a_copy_is_found_and_nothing_else_is(seed, share):
    rng = np.random.default_rng(seed)
    recordings = make_recordings(rng, rng.integers(5, 12, size=30))
    recordings.append(cut(rng, recordings[7], share))
    recordings.append(cut(rng, recordings[20], share)[1:])
    found = find(recordings)
    assert {pair[:2] for pair in found.pairs} == {(7, 30), (20, 31)}
    assert found.groups[30] == found.groups[7]
    assert found.groups[31] == found.groups[20]
    assert len(set(found.groups)) == 30


def test_pairs_tell_how_similar_and_on_how_many_windows():
    rng = np.random.default_rng(0)
    recordings = make_recordings(rng, [9] * 12)
    recordings += [recordings[3].copy(), cut(rng, recordings[5])[:6]]
    found = find(recordings)
    assert [pair[:2] for pair in found.pairs] == [(3, 12), (5, 13)]
    assert found.pairs[0].similarity == pytest.approx(1, abs=1e-4)
    assert 0.8 < found.pairs[1].similarity < 0.999
    assert [pair.windows for pair in found.pairs] == [8, 5]


def test_a_copy_that_begins_half_a_window_later_is_as_similar_as_the_windows_between():
    rng = np.random.default_rng(8)
    recordings = [rng.exponential(size=(8, DIM)) for _ in range(20)]
    later = (recordings[0][:-1] + recordings[0][1:]) / 2
    (pair,) = find([*recordings, later], threshold=0.4).pairs
    assert pair[:2] == (0, 20)
    assert pair.similarity > 0.8


def test_padding_at_the_end_is_not_compared():
    rng = np.random.default_rng(1)
    recordings = make_recordings(rng, [2] * 40)
    for windows in recordings:
        windows[-1] = 0.01
    assert not find(recordings).pairs


def test_one_window_has_to_be_more_similar():
    rng = np.random.default_rng(2)
    recordings = make_recordings(rng, [1] * 30)
    half = 0.5 * recordings[0] + 0.5 * recordings[1]
    similar = find([*recordings, half], threshold=0.5).pairs
    assert not similar
    assert len(find([*recordings, recordings[0] * 1.01], threshold=0.5).pairs) == 1


def test_copies_of_copies_are_one_group():
    rng = np.random.default_rng(3)
    recordings = make_recordings(rng, [8] * 10)
    recordings += [cut(rng, recordings[0], 0.3)[1:]]
    recordings += [cut(rng, recordings[-1], 0.3)[1:]]
    found = find(recordings)
    assert found.groups[0] == found.groups[10] == found.groups[11]
    assert len(set(found.groups)) == 10


def test_a_higher_threshold_joins_less():
    rng = np.random.default_rng(4)
    recordings = make_recordings(rng, [8] * 10)
    recordings += [recordings[2].copy(), cut(rng, recordings[4], 0.5)]
    assert len(find(recordings).pairs) == 2
    assert [pair[:2] for pair in find(recordings, threshold=0.98).pairs] == [(2, 10)]


def test_windows_may_lie_in_any_order_of_recordings():
    rng = np.random.default_rng(5)
    recordings = make_recordings(rng, rng.integers(4, 9, size=15))
    recordings.append(cut(rng, recordings[6], 0.4))
    codes = np.repeat(np.arange(16), [len(windows) for windows in recordings])
    embeddings = np.concatenate(recordings)
    # Recordings are mixed, but time runs forward in each.
    mixed = rng.permutation(codes)
    rows = np.empty(len(codes), np.int64)
    rows[np.argsort(mixed, kind="stable")] = np.arange(len(codes))
    expected, got = find_near_duplicates(embeddings, codes), find_near_duplicates(embeddings[rows], mixed)
    assert [pair[:2] for pair in got.pairs] == [pair[:2] for pair in expected.pairs] == [(6, 15)]
    np.testing.assert_array_equal(got.groups, expected.groups)


def test_numbers_of_recordings_may_have_gaps():
    rng = np.random.default_rng(6)
    recordings = make_recordings(rng, [6] * 8)
    recordings.append(recordings[1].copy())
    codes = np.repeat(np.arange(9) * 3 + 1, 6)
    found = find_near_duplicates(np.concatenate(recordings), codes)
    assert [pair[:2] for pair in found.pairs] == [(4, 25)]
    assert len(found.groups) == 26
    assert found.groups[4] == found.groups[25]
    assert len(set(found.groups)) == 25


def test_many_recordings_are_looked_up_in_fewer_directions(monkeypatch):
    rng = np.random.default_rng(7)
    recordings = make_recordings(rng, [4] * 120)
    recordings += [cut(rng, recordings[index], 0.2) for index in range(0, 100, 10)]
    everywhere = find(recordings)
    monkeypatch.setattr("birdemb.classify.duplicates._MANY", 10)
    monkeypatch.setattr("birdemb.classify.duplicates._DIRECTIONS", 24)
    monkeypatch.setattr("birdemb.classify.duplicates._ROWS", 50)
    assert find(recordings).pairs == everywhere.pairs
    assert len(everywhere.pairs) == 10


@pytest.mark.parametrize("recordings", [[np.ones((1, DIM))], [np.ones((3, DIM))], [np.ones((3, DIM))] * 2])
def test_what_cannot_be_told_apart_is_no_duplicate(recordings):
    found = find(recordings)
    assert found.pairs == ()
    assert len(set(found.groups)) == len(recordings)


@pytest.mark.parametrize(
    ("embeddings", "codes", "threshold", "message"),
    [
        (np.ones((3, 2)), np.zeros(2, np.int64), 0.6, r"shape \(3, 2\) and the recordings \(2,\)"),
        (np.ones((0, 2)), np.zeros(0, np.int64), 0.6, "at least one window"),
        (np.ones(3), np.zeros(3, np.int64), 0.6, r"expected \(windows, dim\)"),
        (np.ones((2, 2)), np.array([0, -4]), 0.6, "of recording -4"),
        (np.ones((2, 2)), np.zeros(2, np.int64), 0, "threshold is 0"),
        (np.ones((2, 2)), np.zeros(2, np.int64), 1.1, "threshold is 1.1"),
        (np.array([[1, np.nan], [1, 1]]), np.zeros(2, np.int64), 0.6, "not finite"),
        (np.array([[1, np.inf], [1, 1]]), np.arange(2), 0.6, "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(embeddings, codes, threshold, message):
    with pytest.raises(InputError, match=message):
        find_near_duplicates(embeddings, codes, threshold)


def test_where_strangers_are_as_similar_only_what_is_more_similar_counts():
    rng = np.random.default_rng(0)
    recordings = make_recordings(rng, [9] * 12)
    recordings += [recordings[3].copy(), cut(rng, recordings[5], 0.3), cut(rng, recordings[8], 0.3)]
    found = find(recordings)
    assert found.pairs[0][:2] == (3, 12)
    assert {pair[:2] for pair in found.pairs} == {(3, 12), (5, 13), (8, 14)}
    classes = np.eye(15, dtype=bool)
    classes[12], classes[13], classes[14] = classes[3], classes[5], classes[8]
    assert keep_exceptional(found, classes) is found
    one_stranger = classes.copy()
    one_stranger[12] = np.eye(15, dtype=bool)[12]
    assert keep_exceptional(found, one_stranger) is found  # one of three may be a wrong label
    classes[13:15] = np.eye(15, dtype=bool)[13:15]  # two of three copies pass for something else
    kept = keep_exceptional(found, classes)
    assert [pair[:2] for pair in kept.pairs] == [(3, 12)]
    assert kept.groups[3] == kept.groups[12]
    assert kept.groups[5] != kept.groups[13]
    # What is as good as equal is a copy, whatever its labels say.
    assert keep_exceptional(found, np.eye(15, dtype=bool)).pairs[0][:2] == (3, 12)
