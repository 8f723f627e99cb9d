"""What heads lose with embeddings that are not quite float32's, and the labels that it is measured with."""

import numpy as np
import pytest
from run_files import write_noise

from birdemb.auc_loss import measure_auc_loss
from birdemb.embed.quantization_record import AucLoss, Estimate, Gate
from birdemb.errors import InputError
from birdemb.quantizing import make_judge, quantize

CLASSES = 4


def make_windows(seed=0, *, recordings=24, each=6, dim=16):
    """Embeddings in which the class of a recording can be told, though not surely."""
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(recordings), each)
    label = recording % CLASSES
    centres = rng.normal(0, 1, (CLASSES, dim))
    of_recording = rng.normal(0, 0.6, (recordings, dim))
    embeddings = centres[label] + of_recording[recording] + rng.normal(0, 1.2, (len(label), dim))
    targets = label[:, None] == np.arange(CLASSES)
    return np.abs(embeddings).astype(np.float32), targets, np.ones(targets.shape), recording.astype(np.int64)


@pytest.mark.slow
def test_same_embeddings_lose_nothing():
    exact, targets, weights, groups = make_windows()
    loss = measure_auc_loss(exact, exact.copy(), targets, weights, groups)
    assert 0.6 < loss.roc_auc < 1
    assert (loss.windows, loss.groups, loss.classes, loss.splits) == (144, 24, CLASSES, 3)
    for estimate in (loss.fed, loss.refitted):
        assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_heads_that_are_refitted_learn_an_encoder_that_turned():
    exact, targets, weights, groups = make_windows()
    turned = np.roll(exact, 5, axis=1)
    loss = measure_auc_loss(exact, turned, targets, weights, groups, seeds=(0,))
    assert abs(loss.refitted.value) < 1e-6
    assert loss.fed.low > 0.05


def test_what_is_gone_is_lost_by_refitted_heads_too():
    exact, targets, weights, groups = make_windows()
    noise = np.abs(np.random.default_rng(1).normal(0, 1, exact.shape)).astype(np.float32)
    loss = measure_auc_loss(exact, noise, targets, weights, groups, seeds=(0,))
    assert loss.refitted.low > 0.05
    assert loss.refitted.low <= loss.refitted.value <= loss.refitted.high
    assert loss.roc_auc - loss.refitted.value == pytest.approx(0.5, abs=0.15)


def test_loss_is_that_of_the_entries_that_are_known():
    exact, targets, weights, groups = make_windows()
    ours = exact + np.random.default_rng(2).normal(0, 0.5, exact.shape).astype(np.float32)
    masked = weights.copy()
    masked[:, 1] = 0
    kept = [0, 2, 3]
    loss = measure_auc_loss(exact, ours, targets, masked, groups, seeds=(0,))
    without = measure_auc_loss(exact, ours, targets[:, kept], weights[:, kept], groups, seeds=(0,))
    assert loss.classes == without.classes == CLASSES - 1
    assert loss.roc_auc == pytest.approx(without.roc_auc, abs=1e-9)
    assert loss.refitted.value == pytest.approx(without.refitted.value, abs=1e-9)
    assert loss.refitted.value != 0


@pytest.mark.parametrize(("kept", "said"), [([0], "of one recording"), ([0, 1, 2, 3], "no class is known")])
def test_too_few_recordings_are_told_of(kept, said):
    exact, targets, weights, groups = make_windows()
    rows = np.isin(groups, kept)
    with pytest.raises(InputError, match=said):
        measure_auc_loss(exact[rows], exact[rows], targets[rows], weights[rows], groups[rows])


@pytest.mark.parametrize(("lost", "result"), [(-0.01, "passed"), (0.002, "passed"), (0.0021, "failed")])
def test_refitted_heads_decide_the_gate(lost, result):
    loss = AucLoss(0.9, Estimate(0.5, 0.4, 0.6), Estimate(lost, lost - 1, lost + 1), 100, 10, 5, 3)
    assert Gate(0.002, loss).result == result
    assert Gate(0.002, loss, accepted=True).record()["result"] == result
    assert Gate(0.002, reason="no labels").result == "not measured"


def lay_out(folder, places):
    for number, place in enumerate(places):
        write_noise(folder / place, 1, seed=number)
    return folder


def test_judge_knows_class_folders_and_tables(tmp_path):
    folder = lay_out(tmp_path / "in", ["a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav", "loose.wav"])
    exact, *_ = make_windows(recordings=4, each=5)
    names = ["b/4.wav", "a/1.wav", "a/2.wav", "b/3.wav"] * 5
    judge = make_judge(folder)
    assert judge.labelled == {"a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav"}
    by_folders = judge.measure(names, exact, exact)
    assert (by_folders.windows, by_folders.groups, by_folders.classes) == (20, 4, 2)
    (tmp_path / "train.csv").write_text(
        "filename,primary_label\na/1.wav,wren\na/2.wav,wren\nb/3.wav,owl\nb/4.wav,owl\nloose.wav,owl\n"
    )
    assert make_judge(folder).labelled == {*judge.labelled, "loose.wav"}
    other = tmp_path / "other.csv"
    other.write_text("filename,primary_label\na/1.wav,x\nb/3.wav,y\n")
    assert make_judge(folder, other).labelled == {"a/1.wav", "b/3.wav"}


@pytest.mark.slow
def test_order_of_windows_does_not_matter_to_the_judge(tmp_path):
    judge = make_judge(lay_out(tmp_path / "in", [f"{label}/{n}.wav" for label in "ab" for n in range(4)]))
    exact, *_ = make_windows(3, recordings=8, each=5)
    ours = exact + np.random.default_rng(4).normal(0, 0.5, exact.shape).astype(np.float32)
    names = np.array([f"{'ab'[n % 2]}/{n // 2}.wav" for n in np.repeat(np.arange(8), 5)], object)
    shuffled = np.random.default_rng(5).permutation(len(names))
    first = judge.measure(names.tolist(), exact, ours)
    again = judge.measure(names[shuffled].tolist(), exact[shuffled], ours[shuffled])
    assert again.roc_auc == pytest.approx(first.roc_auc, abs=0.02)
    assert (again.windows, again.groups, again.classes) == (first.windows, first.groups, first.classes)


def test_without_labels_it_says_so(tmp_path):
    folder = lay_out(tmp_path / "in", ["1.wav", "2.wav"])
    judge = make_judge(folder)
    assert judge.measure is None
    assert not judge.labelled
    assert "There are no labels" in judge.reason
    one_class = make_judge(lay_out(tmp_path / "one", ["a/1.wav", "a/2.wav"]))
    assert "one class only, 'a'" in one_class.reason
    with pytest.raises(InputError, match=r"none\.csv"):
        make_judge(folder, tmp_path / "none.csv")


def test_impossible_loss_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--min-worst-cosine is nan; expected a number from 0 to 1, such as 0\.97"):
        quantize("birdnet-2.4", calibrate=".", goal_worst=float("nan"))
    with pytest.raises(InputError, match=r"--max-auc-loss is 2; expected a number from 0 to 1, such as 0\.002"):
        quantize(calibrate=tmp_path, max_auc_loss=2)
