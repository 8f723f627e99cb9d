"""The losses and the training of the network head, against formulas written by hand."""

import numpy as np
import pytest
from head_data import make, make_data
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

torch = pytest.importorskip("torch")

from birdemb.classify.mlp_losses import binary_cross_entropy, make_loss  # noqa: E402
from birdemb.classify.mlp_training import (  # noqa: E402
    WARM_UP,
    Examples,
    Recipe,
    _Batch,
    _share_of_rate,
    _Tensors,
    choose_device,
    train,
)
from birdemb.errors import InputError  # noqa: E402


def of_hand(logits, present, absent, gamma_negative, gamma_positive, clip):
    p = expit(logits)
    lowered = np.maximum(p - clip, 0)
    of_present = -((1 - p) ** gamma_positive) * np.log(p)
    of_absent = -(lowered**gamma_negative) * np.log(1 - lowered)
    return (present * of_present + absent * of_absent).mean()


def value(loss, *parts):
    return float(loss(*(torch.from_numpy(part) for part in parts)))


entries = arrays(np.float64, (5, 3), elements=st.floats(-12, 12))
weights = arrays(np.float64, (5, 3), elements=st.one_of(st.just(0.0), st.floats(0, 5)))


@given(entries, weights, weights, st.floats(0, 5), st.floats(0, 5), st.floats(0, 0.5))
def test_losses_are_their_formulas(logits, present, absent, negative, positive, clip):
    asymmetric = make_loss("asymmetric", gamma_negative=negative, gamma_positive=positive, clip=clip)
    expected = of_hand(logits, present, absent, negative, positive, clip)
    assert value(asymmetric, logits, present, absent) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    focal = make_loss("focal", gamma=positive)
    expected = of_hand(logits, present, absent, positive, positive, 0)
    assert value(focal, logits, present, absent) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(entries, arrays(np.bool_, (5, 3)), weights)
def test_cross_entropy_is_that_of_torch_and_the_limit_of_the_others(logits, targets, of_entries):
    present, absent = of_entries * targets, of_entries * ~targets
    expected = float(
        torch.nn.functional.binary_cross_entropy_with_logits(
            torch.from_numpy(logits), torch.from_numpy(targets.astype(float)), torch.from_numpy(of_entries)
        )
    )
    for loss in (
        make_loss("bce"),
        make_loss("focal", gamma=0),
        make_loss("asymmetric", gamma_negative=0, gamma_positive=0, clip=0),
    ):
        assert value(loss, logits, present, absent) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_focal_counts_what_is_certain_less():
    loss = make_loss("focal", gamma=2)
    easy, hard = (value(loss, np.full((1, 1), s), np.ones((1, 1)), np.zeros((1, 1))) for s in (np.log(9), -np.log(9)))
    assert easy == pytest.approx(0.01 * -np.log(0.9))
    assert hard == pytest.approx(0.81 * -np.log(0.1))


@pytest.mark.parametrize(
    "loss", [make_loss("bce"), make_loss("focal", gamma=0.5), make_loss("asymmetric", gamma_negative=0.5)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slopes_are_finite_however_large_the_logit(loss, dtype):
    logits = torch.tensor([[-1e4, -100.0, -3.0, -2.944439, 0.0, 100.0, 1e4]], dtype=dtype, requires_grad=True)
    ones = torch.ones_like(logits)
    result = loss(logits, ones.detach(), ones.detach())
    result.backward()
    assert torch.isfinite(result)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [make_loss("bce"), make_loss("focal"), make_loss("asymmetric")])
def test_masked_entries_pull_at_nothing(loss):
    logits = torch.zeros(2, 2, requires_grad=True)
    known = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    loss(logits, known, torch.zeros(2, 2)).backward()
    assert (logits.grad != 0).tolist() == [[True, False], [False, False]]


def mixed(union, offset=True):
    # Two windows and four classes: in the first, in the second, in neither, unknown in the second.
    examples = Examples(
        inputs=np.array([[1.0, 0.0], [0.0, 1.0]]),
        present=np.array([[2.0, 0.0, 0.0, 2.0], [0.0, 3.0, 0.0, 0.0]]),
        absent=np.array([[0.0, 0.5, 0.5, 0.0], [0.7, 0.0, 0.7, 0.0]]),
        offset=np.array([[1.0, -2.0, 0.0, 4.0], [-1.0, 3.0, 0.0, 0.0]]) if offset else None,
    )
    batch = _Batch(np.array([0]), np.array([1]), np.array([0.25]))
    return [None if part is None else part.numpy()[0] for part in _Tensors(examples, "cpu").take(batch, union)]


def test_a_union_has_the_classes_of_both():
    inputs, present, absent, offset = mixed(union=True)
    np.testing.assert_allclose(inputs, [0.25, 0.75])
    np.testing.assert_allclose(present, [2.0, 3.0, 0.0, 0.0])
    np.testing.assert_allclose(absent, [0.0, 0.0, 0.25 * 0.5 + 0.75 * 0.7, 0.0])
    np.testing.assert_allclose(offset, [1.0, 3.0, 0.0, 4.0])
    assert mixed(union=True, offset=False)[3] is None


def test_a_proportion_has_as_much_of_each_class_as_of_its_window():
    inputs, present, absent, offset = mixed(union=False)
    np.testing.assert_allclose(inputs, [0.25, 0.75])
    np.testing.assert_allclose(present, [0.5, 2.25, 0.0, 0.0])
    np.testing.assert_allclose(absent, [0.75 * 0.7, 0.25 * 0.5, 0.25 * 0.5 + 0.75 * 0.7, 0.0])
    np.testing.assert_allclose(offset, [-0.5, 1.75, 0.0, 1.0])


def linear(networks=1, columns=1, width=2):
    return [(np.zeros((networks, width, columns)), np.zeros((networks, columns)))]


@pytest.mark.slow
def test_the_rate_rises_and_then_falls_as_a_cosine():
    shares = np.array([_share_of_rate(step, 200) for step in range(200)])
    rise = round(200 * WARM_UP)
    np.testing.assert_allclose(shares[:rise], np.arange(1, rise + 1) / rise)
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=200 - rise)
    for share in shares[rise:]:
        assert share == pytest.approx(cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()
    assert _share_of_rate(0, 1) == 1


def test_a_linear_network_finds_the_optimum_with_its_offset():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 2))
    offset = rng.normal(size=(400, 1))
    targets = rng.random((400, 1)) < expit(inputs @ [[1.5], [-1.0]] + 0.5 + offset)
    examples = Examples(inputs, targets.astype(float), (~targets).astype(float), offset)
    recipe = Recipe(binary_cross_entropy, epochs=400, batch_size=400, learning_rate=0.05, weight_decay=0.0)
    ((weights, biases),) = train(examples, linear(), recipe, np.random.RandomState(0))
    residual = expit(inputs @ weights[0] + biases[0] + offset) - targets
    # At the optimum of a logistic regression the residuals are orthogonal to the inputs.
    np.testing.assert_allclose(np.c_[inputs, np.ones(400)].T @ residual / 400, 0, atol=1e-4)


def test_networks_side_by_side_do_not_touch_each_other():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(50, 3)), rng.random((50, 2)) < 0.5
    examples = Examples(inputs, targets.astype(float), (~targets).astype(float))
    recipe = Recipe(binary_cross_entropy, epochs=5, batch_size=16, learning_rate=0.01)
    layers = [
        (rng.normal(size=(3, 3, 4)), np.zeros((3, 4))),
        (rng.normal(size=(3, 4, 2)), np.zeros((3, 2))),
    ]
    together = train(examples, layers, recipe, np.random.RandomState(0))
    for network in range(3):
        own = [(weights[[network]], biases[[network]]) for weights, biases in layers]
        alone = train(examples, own, recipe, np.random.RandomState(0))
        for (weights, biases), (own_weights, own_biases) in zip(together, alone, strict=True):
            np.testing.assert_allclose(weights[network], own_weights[0], rtol=1e-9)
            np.testing.assert_allclose(biases[network], own_biases[0], rtol=1e-9)


def test_training_leaves_what_it_was_given_and_stops_when_told():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(50, 2)), rng.random((50, 1)) < 0.5
    examples = Examples(inputs, targets.astype(float), (~targets).astype(float))
    recipe, layers, seen = Recipe(binary_cross_entropy, epochs=9, batch_size=16), linear(), []
    ended = train(
        examples,
        layers,
        recipe,
        np.random.RandomState(0),
        stop_after=4,
        watch=lambda epoch, now: seen.append((epoch, now[0][0].copy())),
    )
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert np.array_equal(seen[-1][1], ended[0][0])
    assert not np.array_equal(seen[0][1], ended[0][0])
    assert not layers[0][0].any()


def test_a_window_without_a_chance_is_never_drawn():
    inputs = np.array([[1.0, 0.0], [0.0, 1.0]])
    examples = Examples(inputs, np.ones((2, 1)), np.zeros((2, 1)), chances=np.array([1.0, 0.0]))
    ((weights, _),) = train(examples, linear(), Recipe(binary_cross_entropy, epochs=3), np.random.RandomState(0))
    assert weights[0, 0, 0] > 0
    assert weights[0, 1, 0] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    assert choose_device("auto").type == "cpu"
    with pytest.raises(InputError, match="PyTorch sees no GPU here"):
        choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_gpu_trains_the_same_networks(mixup):
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(300, 8)), rng.random((300, 3)) < 0.3
    examples = Examples(inputs, targets.astype(float), (~targets).astype(float), rng.normal(size=(300, 3)))
    layers = [(rng.normal(size=(2, 8, 6)), np.zeros((2, 6))), (np.zeros((2, 6, 3)), np.zeros((2, 3)))]
    of_devices = [
        train(
            examples,
            layers,
            Recipe(binary_cross_entropy, epochs=5, mixup=mixup, device=device),
            np.random.RandomState(0),
        )
        for device in ("cpu", "cuda")
    ]
    for on_cpu, on_gpu in zip(*of_devices, strict=True):
        np.testing.assert_allclose(on_gpu[0], on_cpu[0], rtol=1e-6, atol=1e-9)


def test_a_network_that_runs_away_is_told():
    X, y = make_data(0)
    with pytest.raises(InputError, match=r"ran away.*smaller learning_rate"):
        make("mlp", learning_rate=1e38).fit(X, y)
