"""The training of the network head, in PyTorch: several networks at once, on a CPU or a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray

from birdemb.classify.folds import assign_folds
from birdemb.classify.mlp_losses import Loss
from birdemb.errors import InputError

__all__ = ["Examples", "Layer", "Recipe", "choose_device", "choose_epochs", "train"]

Layer = tuple[NDArray[Any], NDArray[Any]]
"""Weights of shape (networks, units before, units after) and biases of shape (networks, units after)."""

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""

HELD_OUT = 5
"""One group of so many is held out to choose the number of epochs."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What networks are trained on.

    Parameters
    ----------
    inputs : ndarray of shape (n, width), float32 or float64
    present, absent : ndarray of shape (n, columns), of the same dtype
        How much each entry says that the class is in the window, and that it is not; both 0 where it is unknown.
    offset : ndarray of shape (n, columns), of the same dtype, or None
        Logits known beforehand.
    chances : ndarray of shape (n,), float64, or None
        How likely each window is to be drawn for a place in an epoch; sums to 1. None takes each window once.
    """

    inputs: NDArray[Any]
    present: NDArray[Any]
    absent: NDArray[Any]
    offset: NDArray[Any] | None = None
    chances: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Recipe:
    """How networks are trained.

    Parameters
    ----------
    loss : callable
        As `birdemb.classify.mlp_losses.make_loss` gives.
    epochs : int
        Passes over the windows that the schedule of the learning rate is made for.
    batch_size : int
        Windows in a step.
    learning_rate, weight_decay : float
        Of AdamW.
    dropout : float
        Share of hidden units that are left out in each step.
    mixup : float
        Alpha of the Beta distribution of the share in which two windows are mixed; 0 for none.
    union : bool
        Whether a mixed window has the classes of both, or of each as much as there is of the window.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    threads : int or None
        Of PyTorch, as joblib counts them; None leaves its own.
    """

    loss: Loss
    epochs: int
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.0
    mixup: float = 0.0
    union: bool = True
    device: str = "auto"
    threads: int | None = None


def choose_device(device: str) -> torch.device:
    """Choose where to train.

    Parameters
    ----------
    device : "auto", "cpu" or "cuda"
        "auto" is a GPU where PyTorch sees one.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        If a GPU is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is 'cuda', but PyTorch sees no GPU here. Use 'auto' or 'cpu', or install its CUDA build."
        )
    return torch.device(device)


def train(
    examples: Examples,
    layers: Sequence[Layer],
    recipe: Recipe,
    rng: np.random.RandomState,
    *,
    stop_after: int | None = None,
    watch: Callable[[int, list[Layer]], None] | None = None,
) -> list[Layer]:
    """Train networks side by side: each sees the same windows in the same order, and has dropout of its own.

    Parameters
    ----------
    examples : Examples
    layers : sequence of (ndarray, ndarray)
        Where to start, from the inputs to the outputs; left as they are.
    recipe : Recipe
    rng : RandomState
        Decides the order, the mixing and the dropout; nobody else's random numbers are touched.
    stop_after : int, optional
        End after so many epochs of the recipe's, all of them by default.
    watch : callable, optional
        Called after each epoch with its number, from 1, and the layers as they are, which it must not keep.

    Returns
    -------
    list of (ndarray, ndarray)
        The trained layers, in the dtype of the inputs.
    """
    device = choose_device(recipe.device)
    generator = torch.Generator(device).manual_seed(int(rng.randint(2**31 - 1)))
    tensors = _Tensors(examples, device)
    parameters = [tuple(torch.tensor(part, device=device).requires_grad_() for part in layer) for layer in layers]
    optimiser = torch.optim.AdamW(
        [
            {"params": [weights for weights, _ in parameters], "weight_decay": recipe.weight_decay},
            {"params": [biases for _, biases in parameters], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        fused=True,
    )
    steps = recipe.epochs * math.ceil(len(examples.inputs) / recipe.batch_size)
    step = 0
    with _limit_threads(recipe.threads), torch.enable_grad():
        for epoch in range(recipe.epochs if stop_after is None else stop_after):
            for batch in _draw_epoch(examples, recipe, rng):
                inputs, present, absent, offset = tensors.take(batch, recipe.union)
                logits = _run(inputs, parameters, recipe.dropout, generator)
                if offset is not None:
                    logits = logits + offset
                loss = recipe.loss(logits, present, absent)
                for group in optimiser.param_groups:
                    group["lr"] = recipe.learning_rate * _share_of_rate(step, steps)
                optimiser.zero_grad()
                # The mean of a loss of several networks would give each of them a share of its gradient.
                (loss * len(layers[0][0])).backward()
                optimiser.step()
                step += 1
            if watch is not None:
                watch(epoch + 1, _to_numpy(parameters))
    trained = _to_numpy(parameters)
    if not all(np.isfinite(part).all() for layer in trained for part in layer):
        raise InputError(
            f"The network ran away: its weights are no longer finite. Use a smaller learning_rate than "
            f"{recipe.learning_rate:g}."
        )
    return trained


def choose_epochs(
    examples: Examples,
    layers: Sequence[Layer],
    recipe: Recipe,
    rng: np.random.RandomState,
    groups: NDArray[np.int64],
) -> int:
    """Choose the number of epochs after which groups that were not trained on are told best.

    Parameters
    ----------
    examples, layers, recipe, rng
        As in `train`.
    groups : ndarray of shape (n,), int64
        Windows of one group are held out together or not at all.

    Returns
    -------
    int
        The epochs of the recipe after which the mean loss of the held-out entries was lowest, of the classes that
        have positives and negatives on both sides; all its epochs where there is no such class.
    """
    positive, negative = examples.present > examples.absent, examples.absent > examples.present
    if len(np.unique(groups)) < HELD_OUT:
        return recipe.epochs
    folds = assign_folds(positive, groups, folds=HELD_OUT, seed=int(rng.randint(2**31 - 1)))
    kept, held = np.flatnonzero(folds), np.flatnonzero(folds == 0)
    sides = [side[part].any(axis=0) for side in (positive, negative) for part in (kept, held)]
    assessable = np.logical_and.reduce(sides)
    if not assessable.any():
        return recipe.epochs
    inner, outer = _take_windows(examples, kept), _take_windows(examples, held)
    losses: list[float] = []

    def watch(_: int, layers: list[Layer]) -> None:
        scores = _mean_scores(layers, outer.inputs)
        if outer.offset is not None:
            scores = scores + outer.offset
        parts = (part[:, assessable] for part in (scores, outer.present, outer.absent))
        losses.append(float(recipe.loss(*(torch.from_numpy(part) for part in parts))))

    train(inner, layers, recipe, rng, watch=watch)
    return int(np.argmin(np.nan_to_num(losses, nan=np.inf))) + 1


def _take_windows(examples: Examples, windows: NDArray[np.intp]) -> Examples:
    chances = None if examples.chances is None else examples.chances[windows]
    return Examples(
        examples.inputs[windows],
        examples.present[windows],
        examples.absent[windows],
        None if examples.offset is None else examples.offset[windows],
        None if chances is None else chances / chances.sum(),
    )


def _mean_scores(layers: Sequence[Layer], inputs: NDArray[Any]) -> NDArray[Any]:
    units = inputs[np.newaxis]
    for weights, biases in layers[:-1]:
        units = np.maximum(units @ weights + biases[:, np.newaxis], 0)
    scores: NDArray[Any] = (units @ layers[-1][0] + layers[-1][1][:, np.newaxis]).mean(axis=0)
    return scores


@dataclass(frozen=True)
class _Batch:
    """The windows of a step, and with what each is mixed, and how much there is of itself in the mixture."""

    windows: NDArray[np.intp]
    partners: NDArray[np.intp] | None
    shares: NDArray[np.float64] | None


def _draw_epoch(examples: Examples, recipe: Recipe, rng: np.random.RandomState) -> Iterator[_Batch]:
    count = len(examples.inputs)
    order = rng.permutation(count) if examples.chances is None else rng.choice(count, count, p=examples.chances)
    partners = shares = None
    if recipe.mixup:
        partners = rng.permutation(order)
        shares = rng.beta(recipe.mixup, recipe.mixup, count)
    for start in range(0, count, recipe.batch_size):
        part = slice(start, start + recipe.batch_size)
        yield _Batch(
            order[part], None if partners is None else partners[part], None if shares is None else shares[part]
        )


class _Tensors:
    """The examples where the training is."""

    def __init__(self, examples: Examples, device: torch.device) -> None:
        self._device = device
        self._inputs, self._present, self._absent = (
            torch.from_numpy(np.ascontiguousarray(part)).to(device)
            for part in (examples.inputs, examples.present, examples.absent)
        )
        self._offset = None if examples.offset is None else torch.from_numpy(examples.offset).to(device)

    def take(self, batch: _Batch, union: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        inputs, present, absent, offset = self._take(batch.windows)
        if batch.partners is None or batch.shares is None:
            return inputs, present, absent, offset
        other_inputs, other_present, other_absent, other_offset = self._take(batch.partners)
        share = torch.from_numpy(batch.shares).to(inputs)[:, None]
        inputs = torch.lerp(other_inputs, inputs, share)
        known = (present + absent > 0) & (other_present + other_absent > 0)
        of_entry = share
        if union:
            # Where one of the two says that the class is present, that one alone speaks.
            speaks, other_speaks = present > absent, other_present > other_absent
            of_entry = torch.where(speaks == other_speaks, share, speaks.to(share))
        if offset is not None:
            offset = torch.maximum(offset, other_offset) if union else torch.lerp(other_offset, offset, share)
        present = torch.lerp(other_present, present, of_entry) * known
        absent = torch.lerp(other_absent, absent, of_entry) * known
        return inputs, present, absent, offset

    def _take(self, windows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        rows = torch.from_numpy(windows).to(self._device)
        offset = None if self._offset is None else self._offset.index_select(0, rows)
        return *(part.index_select(0, rows) for part in (self._inputs, self._present, self._absent)), offset


def _run(
    inputs: torch.Tensor,
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
    dropout: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Give the logits of every network, of shape (networks, n, columns)."""
    units = inputs.expand(len(layers[0][0]), *inputs.shape)
    for weights, biases in layers[:-1]:
        units = torch.relu(torch.baddbmm(biases[:, None], units, weights))
        if dropout:
            kept = torch.empty_like(units).bernoulli_(1 - dropout, generator=generator)
            units = units * kept.div_(1 - dropout)
    weights, biases = layers[-1]
    return torch.baddbmm(biases[:, None], units, weights)


def _to_numpy(layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[Layer]:
    return [(weights.detach().cpu().numpy(), biases.detach().cpu().numpy()) for weights, biases in layers]


@contextmanager
def _limit_threads(jobs: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads in the block; None leaves its own."""
    before = torch.get_num_threads()
    if jobs is not None:
        torch.set_num_threads(effective_n_jobs(jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _share_of_rate(step: int, steps: int) -> float:
    """Give the share of the learning rate in a step: a straight rise, then half a cosine."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
