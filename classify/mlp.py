"""A small neural network for all classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.utils import check_random_state

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import MultiLabelHead
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.transform import InputTransform, check_transform
from birdemb.errors import InputError, MissingDependencyError

__all__ = ["MLPHead"]

ENOUGH_STEPS = 1000
FEWEST_EPOCHS = 10
MOST_EPOCHS = 60

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""


class MLPHead(MultiLabelHead):
    """A network with rectified hidden layers and one logistic output for each class.

    PyTorch is needed to fit it and not to ask it: predictions are NumPy.

    Parameters
    ----------
    hidden : sequence of int, default=(256,)
        Units of each hidden layer. Empty for none.
    dropout : float, default=0.2
        Share of the hidden units that are left out in each step.
    learning_rate : float, default=1e-3
        Highest step of AdamW. It rises to it in the first tenth of the steps and then falls as half a
        cosine to 0.
    weight_decay : float, default=0.01
        Decoupled ridge of AdamW on the weights, not on the biases.
    epochs : int or None, default=None
        Passes over the windows. None takes as many as make 1,000 steps, but at least 10 and at most 60:
        small data need many passes, and large data would take long.
    batch_size : int, default=256
        Windows in a step.
    input_transform : "sqrt" or "none", default="sqrt"
        What is done to the embeddings before they are standardised: the signed square root or nothing.
    class_weight : "balanced", dict or None, default="balanced"
        See `birdemb.classify.reweighting.reweight`. A dict maps labels to weights, for a 1-D `y` alone.
    n_jobs : int or None, default=None
        Threads of the training, and of a prediction. None leaves PyTorch's and NumPy's own; -1 is all cores.
    random_state : int, RandomState or None, default=None
        Seed of the first weights, the order of the windows, and dropout. Nobody else's random numbers
        are touched.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (units before, units after)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (units after,)
        Biases of each layer.

    Notes
    -----
    The loss is the binary cross-entropy of every entry, weighted, so that masked entries take no part.
    AdamW: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. First weights:
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """

    name: ClassVar[str] = "mlp"

    def __init__(
        self,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        epochs: int | None = None,
        batch_size: int = 256,
        input_transform: str = "sqrt",
        class_weight: str | Mapping[Any, float] | None = "balanced",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.input_transform = input_transform
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.hidden, list | tuple):
            raise InputError(f"hidden is {self.hidden!r}. It has to be the units of each hidden layer, as (256,).")
        for units in self.hidden:
            check_whole_number("Each number in hidden", units, at_least=1)
        check_number("dropout", self.dropout, at_least=0, below=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("weight_decay", self.weight_decay, at_least=0)
        if self.epochs is not None:
            check_whole_number("epochs", self.epochs, at_least=1)
        check_whole_number("batch_size", self.batch_size, at_least=1)
        check_transform(self.input_transform)

    def _fit_columns(
        self,
        X: NDArray[Any],
        targets: NDArray[np.bool_],
        weights: NDArray[np.float64],
        of_windows: NDArray[np.float64],
    ) -> None:
        self._transform_ = InputTransform.learn(X, of_windows, self.input_transform)
        rng = check_random_state(self.random_state)
        layers = self._first_weights(X.shape[1], targets.shape[1], X.dtype, rng)
        if targets.shape[1]:
            layers = self._train(self._transform_.apply(X), targets, weights, layers, rng)
        self.coefs_ = [coef for coef, _ in layers]
        self.intercepts_ = [intercept for _, intercept in layers]

    def _first_weights(
        self, dim: int, columns: int, dtype: np.dtype[Any], rng: np.random.RandomState
    ) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Draw the weights of a network that has seen nothing; the outputs all begin at 0.5."""
        sizes = (dim, *self.hidden)
        layers = [
            (
                (rng.standard_normal((before, after)) * math.sqrt(2 / before)).astype(dtype),
                np.zeros(after, dtype),
            )
            for before, after in pairwise(sizes)
        ]
        return [*layers, (np.zeros((sizes[-1], columns), dtype), np.zeros(columns, dtype))]

    def _train(
        self,
        X: NDArray[Any],
        targets: NDArray[np.bool_],
        weights: NDArray[np.float64],
        layers: list[tuple[NDArray[Any], NDArray[Any]]],
        rng: np.random.RandomState,
    ) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError(
                "PyTorch, which fits the MLP head, is not installed. Run: pip install 'birdemb[torch]'"
            ) from error
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        inputs = torch.from_numpy(X)
        outputs = torch.from_numpy(targets.astype(X.dtype))
        # The mean weight is 1, so that the learning rate means the same whatever the unit of the weights.
        losses = torch.from_numpy((weights / weights.mean()).astype(X.dtype))
        coefs = [torch.from_numpy(coef).requires_grad_() for coef, _ in layers]
        intercepts = [torch.from_numpy(intercept).requires_grad_() for _, intercept in layers]
        optimiser = torch.optim.AdamW(
            [
                {"params": coefs, "weight_decay": self.weight_decay},
                {"params": intercepts, "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
        )
        batches = math.ceil(len(X) / self.batch_size)
        epochs = self._choose_epochs(batches)
        steps = epochs * batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share_of_rate(step, steps))
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
        with _limit_threads(torch, self.n_jobs), torch.enable_grad():
            for _ in range(epochs):
                order = torch.from_numpy(rng.permutation(len(X)))
                for batch in order.split(self.batch_size):
                    units = inputs[batch]
                    for coef, intercept in zip(coefs[:-1], intercepts[:-1], strict=True):
                        units = torch.relu(torch.addmm(intercept, units, coef))
                        if self.dropout:
                            kept = torch.empty_like(units).bernoulli_(1 - self.dropout, generator=generator)
                            units = units * kept / (1 - self.dropout)
                    logits = torch.addmm(intercepts[-1], units, coefs[-1])
                    loss = cross_entropy(logits, outputs[batch], weight=losses[batch])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    schedule.step()
        return [(c.detach().numpy(), i.detach().numpy()) for c, i in zip(coefs, intercepts, strict=True)]

    def _choose_epochs(self, batches: int) -> int:
        if self.epochs is not None:
            return self.epochs
        return min(max(math.ceil(ENOUGH_STEPS / batches), FEWEST_EPOCHS), MOST_EPOCHS)

    def _predict_columns(self, X: NDArray[Any]) -> NDArray[Any]:
        units = self._transform_.apply(X)
        for coef, intercept in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            units = np.maximum(units @ coef + intercept, 0)
        probabilities: NDArray[Any] = expit(units @ self.coefs_[-1] + self.intercepts_[-1])
        return probabilities

    def _get_column_state(self) -> dict[str, StateValue]:
        state = self._transform_.get_state()
        for layer, (coef, intercept) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            state[f"coef_{layer}"] = coef
            state[f"intercept_{layer}"] = intercept
        return state

    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        self._transform_ = InputTransform.read_state(reader, self.input_transform, self.n_features_in_)
        sizes = (self.n_features_in_, *self.hidden, columns)
        shapes = list(pairwise(sizes))
        self.coefs_ = [reader.array(f"coef_{layer}", shape) for layer, shape in enumerate(shapes)]
        self.intercepts_ = [reader.array(f"intercept_{layer}", shape[1:]) for layer, shape in enumerate(shapes)]


@contextmanager
def _limit_threads(torch: ModuleType, n_jobs: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads in the block; None leaves its own."""
    before = torch.get_num_threads()
    if n_jobs is not None:
        torch.set_num_threads(effective_n_jobs(n_jobs))
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
