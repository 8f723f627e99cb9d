"""The parts that a time budget is made of: windows in between, runs that stop early, scores that lack some heads."""

import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from budget_files import fit_two_heads
from fit_files import write_noise

from birdemb.budget.overlap import average_overlapping
from birdemb.budget.scores import Scores
from birdemb.cache.chains import Placed, choose_first_parts
from birdemb.cache.shards import Part
from birdemb.classify.blend_weights import keep_weights
from birdemb.classify.blending import BLENDS, Blend
from birdemb.embed.run import embed_folder
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.identity import refuse_other_identity


def embed(path, **settings):
    return embed_folder(path, Path("cache"), encoder="melspec", jobs=1, show_progress=False, **settings)


@pytest.mark.parametrize("rate", [32_000, 44_100, 11_025])
def test_windows_in_between_are_those_of_a_finer_grid(rate):
    write_noise(Path("data/short.wav"), 21, rate=rate)
    fine, between = embed("data", grid=WindowGrid(5.0, 2.5)), embed("data", grid=WindowGrid(5.0, 5.0, 2.5))
    (entry,) = between.listing.recordings
    assert entry.windows == 4
    np.testing.assert_allclose(between.cache.read([entry.sha256]), fine.cache.read([entry.sha256])[1::2], 2e-3, 2e-3)
    assert entry.seconds == 21


@pytest.mark.slow
def test_windows_in_between_of_a_recording_of_several_parts():
    write_noise(Path("data/long.wav"), 400, rate=8000)
    fine, between = embed("data", grid=WindowGrid(5.0, 2.5)), embed("data", grid=WindowGrid(5.0, 5.0, 2.5))
    (entry,) = between.listing.recordings
    assert len(between.cache.place_begun([entry.sha256])[entry.sha256]) > 1
    np.testing.assert_allclose(between.cache.read([entry.sha256]), fine.cache.read([entry.sha256])[1::2], 2e-3, 2e-3)


def test_a_recording_of_one_window_has_none_in_between():
    write_noise(Path("data/a.wav"), 4)
    write_noise(Path("data/b.wav"), 5)
    run = embed("data", grid=WindowGrid(5.0, 5.0, 2.5))
    assert [entry.windows for entry in run.listing.recordings] == [0, 0]
    assert [entry.seconds for entry in run.listing.recordings] == [4, 5]
    assert embed("data", grid=WindowGrid(5.0, 5.0, 2.5)).fresh_seconds == 0


def test_windows_that_begin_later_are_another_identity():
    write_noise(Path("data/a.wav"), 12)
    plain, between = embed("data"), embed("data", grid=WindowGrid(offset=2.5))
    with pytest.raises(InputError, match=r"offset is 2\.5, expected absent"):
        refuse_other_identity(plain.cache.identity, between.cache.identity, who="it", advice="")


@pytest.mark.parametrize("offset", [-1.0, 5.0, 7.0])
def test_offsets_that_make_no_sense_are_refused(offset):
    with pytest.raises(InputError, match="begin"):
        WindowGrid(offset=offset)


class Stopping:
    """Lets a run go on until so many windows have come."""

    def __init__(self, windows):
        self.left = windows
        self.seen = {}

    def stop_at(self):
        return 0.0 if self.left <= 0 else time.monotonic() + 1000

    def follow(self, standing, windows):
        self.left -= windows
        standing.flush()
        with standing.cache_lock:
            for name, sha256 in standing.recordings():
                chain = standing.cache.place_begun([sha256]).get(sha256, [])
                self.seen[name] = sum(placed.part.windows for placed in chain)


def test_a_run_that_is_stopped_lists_what_it_has_and_the_next_one_goes_on(monkeypatch):
    monkeypatch.setattr("birdemb.embed.planning._RECORDINGS_A_TASK", 1)
    for index in range(6):
        write_noise(Path(f"data/{index}.wav"), 12, seed=index)
    follower = Stopping(6)
    run = embed("data", follower=follower)
    assert not run.complete
    assert not run.listing.skipped
    done = [entry.recording for entry in run.listing.recordings]
    assert 2 <= len(done) < 6
    assert {name for name, windows in follower.seen.items() if windows == 3} >= set(done[:-1])
    again = embed("data", follower=Stopping(1000))
    assert again.complete
    assert len(again.listing.recordings) == 6
    assert again.fresh_seconds == pytest.approx(12 * (6 - len(done)))


def test_a_run_that_may_not_begin_has_nothing():
    write_noise(Path("data/a.wav"), 12)
    run = embed("data", follower=Stopping(0))
    assert (run.complete, list(run.listing.recordings), list(run.listing.skipped)) == (False, [], [])


def test_the_first_parts_of_a_recording_end_where_one_is_missing():
    placed = [(0, 24, False), (48, 24, False), (24, 24, False), (96, 10, True)]
    parts = [Placed(Part("x", first, windows, 0, last, 0.0, ""), "a") for first, windows, last in placed]
    assert [placed.part.first_window for placed in choose_first_parts(parts)] == [0, 24, 48]
    assert choose_first_parts(parts[1:2]) == []


def test_weights_of_missing_members_go_to_those_that_are_left():
    weights = np.array([[0.5, 0.0, 0.2], [0.3, 0.0, 0.8], [0.2, 1.0, 1.5]])
    kept = keep_weights(weights, [0, 1])
    np.testing.assert_allclose(kept.sum(axis=0), weights.sum(axis=0))  # 2.5 for the last one, as of a stack
    np.testing.assert_allclose(kept[:, 0], [0.625, 0.375])
    np.testing.assert_allclose(kept[:, 1], [0.5, 0.5])  # neither says anything there
    np.testing.assert_allclose(keep_weights(weights, [0, 1, 2]), weights)


@pytest.fixture(scope="module")
def ensemble(world, tmp_path_factory):
    return fit_two_heads(world, tmp_path_factory.mktemp("parts") / ".birdemb").bundle.ensemble


@pytest.mark.slow
def test_scores_that_lack_a_head_are_those_of_the_others(ensemble):
    rng = np.random.default_rng(0)
    scores = Scores(ensemble, 0.5)
    first, second = (rng.normal(size=(2, 3, ensemble.classes)) for _ in range(2))
    for member in (0, 1):
        scores.add("both", member, first[member][:1], between=False)
        scores.add("both", member, first[member][1:], between=False)
    scores.add("one", 1, second[1], between=False)
    scores.add("late", 0, second[0], between=False)
    scores.add("late", 1, second[1][:2], between=False)  # has not come to its end
    combined, averaged = scores.combine(["one", "none", "both", "late"])
    assert set(combined) == {"both", "one", "late"}
    np.testing.assert_allclose(combined["both"], ensemble.combine(first), rtol=1e-6)
    np.testing.assert_allclose(combined["one"], ensemble.keep([1]).combine(second[1:]), rtol=1e-6)
    np.testing.assert_allclose(combined["late"], ensemble.keep([0]).combine(second[:1]), rtol=1e-6)
    assert averaged == 0
    assert scores.count("late", 1, between=False) == 2


def test_windows_in_between_count_where_the_same_heads_have_scored_them(ensemble):
    rng = np.random.default_rng(1)
    scores = Scores(ensemble, 0.5)
    rows, others = rng.normal(size=(2, 3, ensemble.classes)), rng.normal(size=(2, 2, ensemble.classes))
    for member in (0, 1):
        scores.add("a", member, rows[member], between=False)
        scores.add("b", member, rows[member], between=False)
        scores.add("a", member, others[member], between=True)
    scores.add("b", 0, others[0], between=True)
    combined, averaged = scores.combine(["a", "b"])
    assert averaged == 3
    np.testing.assert_allclose(combined["b"], ensemble.combine(rows), rtol=1e-6)
    assert not np.allclose(combined["a"], combined["b"])


def test_scores_take_half_of_what_probabilities_do(ensemble):
    scores, rows = Scores(ensemble, 0.5), np.random.default_rng(0).normal(size=(20_000, ensemble.classes))
    tracemalloc.start()
    try:
        for member in (0, 1):
            scores.add("a", member, rows.copy(), between=False)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.1 * rows.nbytes


@pytest.fixture(scope="module")
def ranking(ensemble):
    return replace(ensemble, blend=Blend.equal("ranks", 2, ensemble.classes))


def draw(ranking, *windows):
    """Logits of both heads in recordings of so many windows, as float32 keeps them, and the same in one table."""
    rng = np.random.default_rng(2)
    drawn = [rng.normal(size=(2, count, ranking.classes)).astype(np.float32).astype(float) for count in windows]
    return drawn, np.concatenate(drawn, axis=1)


def test_ranks_are_those_among_all_windows_of_the_heads_that_scored_all(ranking):
    (first, second), table = draw(ranking, 3, 4)
    scores = Scores(ranking, 0.5)
    scores.add("a", 0, first[0], between=False)
    scores.add("a", 1, first[1], between=False)
    scores.add("b", 0, second[0], between=False)
    scores.add("b", 1, second[1][:3], between=False)  # has not come to its end
    combined, _ = scores.combine(["a", "none", "b"])
    assert list(combined) == ["a", "b"]
    np.testing.assert_allclose(np.concatenate([*combined.values()]), ranking.keep([0]).combine(table[:1]))
    scores.add("b", 1, second[1][3:], between=False)
    combined, averaged = scores.combine(["a", "none", "b"])
    np.testing.assert_allclose(np.concatenate([*combined.values()]), ranking.combine(table))
    assert averaged == 0


def test_ranks_where_no_head_scored_all_are_those_of_the_one_that_scored_the_most(ranking):
    (first, second), table = draw(ranking, 3, 4)
    scores = Scores(ranking, 0.5)
    assert scores.combine(["a", "b"]) == scores.combine([]) == ({}, 0)
    scores.add("a", 0, first[0], between=False)
    scores.add("b", 1, second[1], between=False)
    combined, _ = scores.combine(["a", "b"])
    assert list(combined) == ["b"]
    np.testing.assert_allclose(combined["b"], ranking.keep([1]).combine(table[1:, 3:]))


def test_ranks_of_windows_in_between_are_those_among_all(ranking):
    (first, others, second, few), table = draw(ranking, 3, 2, 4, 3)
    scores = Scores(ranking, 0.5)
    for member in (0, 1):
        scores.add("a", member, first[member], between=False)
        scores.add("a", member, others[member], between=True)
        scores.add("b", member, second[member], between=False)
    scores.add("b", 0, few[0], between=True)  # the other head has not heard them
    combined, averaged = scores.combine(["a", "b"])
    expected = ranking.combine(table[:, :9])
    np.testing.assert_allclose(combined["a"], average_overlapping(expected[:3], expected[3:5]))
    np.testing.assert_allclose(combined["b"], expected[5:])
    assert averaged == 3


def test_recordings_of_which_few_are_combined_together_are_the_same(ensemble, monkeypatch):
    drawn, table = draw(ensemble, 3, 1, 4)
    monkeypatch.setattr("birdemb.budget.scores._WINDOWS_AT_ONCE", 2)
    scores = Scores(ensemble, 0.5)
    for name, rows in zip("abc", drawn, strict=True):
        for member in (0, 1):
            scores.add(name, member, rows[member], between=False)
    combined, _ = scores.combine("abc")
    np.testing.assert_allclose(np.concatenate([combined[name] for name in "abc"]), ensemble.combine(table))


def test_an_ensemble_of_all_its_heads_is_itself(ensemble):
    assert ensemble.keep([0, 1]) is ensemble
    assert ensemble.keep([1]).members == ensemble.members[1:]
    assert ensemble.blend.method in BLENDS
