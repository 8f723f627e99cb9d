"""The parts that a time budget is made of: windows in between, runs that stop early, scores that lack some heads."""

import time
from pathlib import Path

import numpy as np
import pytest
from budget_files import fit_two_heads
from fit_files import write_noise

from birdemb.budget.scores import Scores
from birdemb.cache.chains import Placed, choose_first_parts
from birdemb.cache.shards import Part
from birdemb.classify.blend_weights import keep_weights
from birdemb.classify.blending import BLENDS
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
    np.testing.assert_allclose(combined["both"], ensemble.combine(first))
    np.testing.assert_allclose(combined["one"], ensemble.keep([1]).combine(second[1:]))
    np.testing.assert_allclose(combined["late"], ensemble.keep([0]).combine(second[:1]))
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
    np.testing.assert_allclose(combined["b"], ensemble.combine(rows))
    assert not np.allclose(combined["a"], combined["b"])


def test_an_ensemble_of_all_its_heads_is_itself(ensemble):
    assert ensemble.keep([0, 1]) is ensemble
    assert ensemble.keep([1]).members == ensemble.members[1:]
    assert ensemble.blend.method in BLENDS
