"""A small neural network for all classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.utils import check_random_state

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.head import Columns, MultiLabelHead
from birdemb.classify.state import StateReader, StateValue
from birdemb.classify.transform import InputTransform, read_steps
from birdemb.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from birdemb.classify.mlp_training import Layer, Recipe

__all__ = ["MLPHead"]

ENOUGH_STEPS = 1000
FEWEST_EPOCHS = 10
MOST_EPOCHS = 300


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
        Passes over the windows. None takes as many as make 1,000 steps, but at least 10 and at most 300:
        small data need many passes, and large data would take long.
    batch_size : int, default=64
        Windows in a step.
    loss : "bce", "focal" or "asymmetric", default="bce"
        What is minimised: binary cross-entropy, or one that counts less what is told with certainty; see
        `birdemb.classify.mlp_losses`.
    gamma : float, default=2.0
        Of the focal loss: how much less.
    gamma_negative, gamma_positive : float, default=4.0 and 1.0
        Of the asymmetric loss: the same for absent and for present classes.
    clip : float, default=0.05
        Of the asymmetric loss: a negative with a lower probability counts nothing.
    label_smoothing : float, default=0.0
        By how much the targets 1 and 0 are pulled together; 0.1 makes them 0.95 and 0.05.
    mixup : float, default=1.0
        Alpha of the Beta distribution of the share in which each window is mixed with another one, in every step
        anew; 1 is the uniform distribution, 0 mixes nothing. Windows are mixed behind `input_transform`. For an
        indicator matrix alone: a window with a 1-D label has that one class and could not be a mixture.
    mixup_labels : "union" or "proportion", default="union"
        Whether a mixture has the classes of both windows, as two birds that sing at once, or each of them in
        proportion. An entry that is unknown in either is unknown in the mixture.
    sampling : "uniform" or "balanced", default="uniform"
        Whether every window is taken once an epoch, or drawn with a chance of one over the square root of the number
        of windows that its rarest class has.
    early_stopping : bool, default=False
        Whether to choose the number of epochs, up to `epochs`, on a fifth of the groups held out; then the networks
        are trained again on everything. All epochs are taken where no class has positives and negatives on both sides.
    seeds : int, default=1
        Networks that begin with different weights and whose scores are averaged.
    input_transform : str, default="sqrt"
        What is done to the embeddings before they are standardised; see
        `birdemb.classify.transform.read_steps`.
    class_weight : "sqrt", "balanced", "effective", dict or None, default="sqrt"
        See `birdemb.classify.reweighting.reweight`. A dict maps labels to weights, for a 1-D `y` alone.
    positive_weight : float or sequence of float, default=1.0
        What the positives of every class, or of each class, are multiplied by after that.
    device : "auto", "cpu" or "cuda", default="auto"
        Where to train; "auto" is a GPU where PyTorch sees one. The same seed gives the same head on a CPU.
    n_jobs : int or None, default=None
        Threads of the training, and of a prediction. None leaves PyTorch's and NumPy's own; -1 is all cores.
    random_state : int, RandomState or None, default=None
        Seed of the first weights, the order of the windows, the mixing and dropout. Nobody else's random numbers
        are touched.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (units before, units after)
        Weights of each layer; several networks stand side by side in them, as one wide network that gives the mean
        of their scores.
    intercepts_ : list of ndarray of shape (units after,)
        Biases of each layer.
    n_epochs_ : int
        Epochs of the training; not in the state.

    Notes
    -----
    The loss of every entry is weighted, so that masked entries take no part. A mixture of two offsets is their
    maximum for the union of the classes (whichever window made the encoder sure would do so in the mixture), and
    their weighted mean for labels in proportion. The scores of several networks are averaged as logits: the same
    as one wide network, so that whatever can run one network can run several.

    AdamW: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. First weights:
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015. Mixup: H. Zhang et al., "mixup: Beyond Empirical Risk
    Minimization", ICLR 2018. Label smoothing: C. Szegedy et al., "Rethinking the Inception Architecture for
    Computer Vision", CVPR 2016. Several networks: B. Lakshminarayanan et al., "Simple and Scalable Predictive
    Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.
    """

    name: ClassVar[str] = "mlp"

    def __init__(
        self,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        epochs: int | None = None,
        batch_size: int = 64,
        loss: str = "bce",
        gamma: float = 2.0,
        gamma_negative: float = 4.0,
        gamma_positive: float = 1.0,
        clip: float = 0.05,
        label_smoothing: float = 0.0,
        mixup: float = 1.0,
        mixup_labels: str = "union",
        sampling: str = "uniform",
        early_stopping: bool = False,
        seeds: int = 1,
        input_transform: str = "sqrt",
        class_weight: str | Mapping[Any, float] | None = "sqrt",
        positive_weight: float | Sequence[float] = 1.0,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.loss = loss
        self.gamma = gamma
        self.gamma_negative = gamma_negative
        self.gamma_positive = gamma_positive
        self.clip = clip
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.mixup_labels = mixup_labels
        self.sampling = sampling
        self.early_stopping = early_stopping
        self.seeds = seeds
        self.input_transform = input_transform
        self.class_weight = class_weight
        self.positive_weight = positive_weight
        self.device = device
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
        for name in ("weight_decay", "gamma", "gamma_negative", "gamma_positive", "mixup"):
            check_number(name, getattr(self, name), at_least=0)
        for name in ("clip", "label_smoothing"):
            check_number(name, getattr(self, name), at_least=0, below=1)
        if self.epochs is not None:
            check_whole_number("epochs", self.epochs, at_least=1)
        check_whole_number("batch_size", self.batch_size, at_least=1)
        check_whole_number("seeds", self.seeds, at_least=1)
        _check_choice("loss", self.loss, "bce", "focal", "asymmetric")
        _check_choice("mixup_labels", self.mixup_labels, "union", "proportion")
        _check_choice("sampling", self.sampling, "uniform", "balanced")
        _check_choice("device", self.device, "auto", "cpu", "cuda")
        if not isinstance(self.early_stopping, bool | np.bool_):
            raise InputError(f"early_stopping is {self.early_stopping!r}. Use True or False.")
        read_steps(self.input_transform)

    @property
    def _networks(self) -> int:
        # Without a hidden layer nothing is random in a network: all would be one and the same.
        return self.seeds if self.hidden else 1

    def _fit_columns(self, X: NDArray[Any], columns: Columns) -> None:
        self._transform_ = InputTransform.learn(X, columns.of_windows, self.input_transform)
        rng = check_random_state(self.random_state)
        layers = self._first_layers(self._transform_.width(X.shape[1]), columns, X.dtype, rng)
        self.n_epochs_ = 0
        if columns.targets.shape[1]:
            layers = self._train(self._transform_.apply(X), columns, layers, rng)
        self._set_layers(layers)

    def _first_layers(
        self, width: int, columns: Columns, dtype: np.dtype[Any], rng: np.random.RandomState
    ) -> list[Layer]:
        """Draw the weights of networks that have seen nothing: their outputs all begin at the prior or the offset."""
        networks = self._networks
        sizes = (width, *self.hidden)
        layers: list[Layer] = [
            (
                (rng.standard_normal((networks, before, after)) * math.sqrt(2 / before)).astype(dtype),
                np.zeros((networks, after), dtype),
            )
            for before, after in pairwise(sizes)
        ]
        outputs = columns.targets.shape[1]
        positives = np.where(columns.targets, columns.weights, 0.0).sum(axis=0)
        biases = np.log(positives / (columns.weights.sum(axis=0) - positives))
        if columns.offset is not None:
            biases[columns.offset.any(axis=0)] = 0.0
        return [
            *layers,
            (np.zeros((networks, sizes[-1], outputs), dtype), np.tile(biases, (networks, 1)).astype(dtype)),
        ]

    def _train(
        self, inputs: NDArray[Any], columns: Columns, layers: list[Layer], rng: np.random.RandomState
    ) -> list[Layer]:
        try:
            import torch  # noqa: F401

            from birdemb.classify.mlp_training import Examples, choose_epochs, train
        except ImportError as error:
            raise MissingDependencyError(
                "PyTorch, which fits the MLP head, is not installed. Run: pip install 'birdemb[torch]'"
            ) from error
        targets, weights = columns.targets, columns.weights
        # The mean weight is 1, so that the learning rate means the same whatever the unit of the weights.
        weights = weights / weights.mean()
        smoothed = np.where(targets, 1 - self.label_smoothing / 2, self.label_smoothing / 2)
        examples = Examples(
            inputs=inputs,
            present=(weights * smoothed).astype(inputs.dtype),
            absent=(weights * (1 - smoothed)).astype(inputs.dtype),
            offset=None if columns.offset is None else columns.offset.astype(inputs.dtype),
            chances=_balance(targets & (weights > 0)) if self.sampling == "balanced" else None,
        )
        recipe = self._make_recipe(len(inputs))
        self.n_epochs_ = recipe.epochs
        if self.early_stopping:
            groups = np.arange(len(inputs)) if columns.groups is None else columns.groups
            self.n_epochs_ = choose_epochs(examples, layers, recipe, rng, groups)
        return train(examples, layers, recipe, rng, stop_after=self.n_epochs_)

    def _make_recipe(self, windows: int) -> Recipe:
        from birdemb.classify.mlp_losses import make_loss
        from birdemb.classify.mlp_training import Recipe

        epochs = self.epochs
        if epochs is None:
            epochs = math.ceil(ENOUGH_STEPS / math.ceil(windows / self.batch_size))
            epochs = min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)
        return Recipe(
            loss=make_loss(
                self.loss,
                gamma=self.gamma,
                gamma_negative=self.gamma_negative,
                gamma_positive=self.gamma_positive,
                clip=self.clip,
            ),
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            mixup=self.mixup if self._task_ == "multi-label" else 0.0,
            union=self.mixup_labels == "union",
            device=self.device,
            threads=self.n_jobs,
        )

    def _set_layers(self, layers: Sequence[Layer]) -> None:
        self._layers_ = list(layers)
        merged = _merge(self._layers_)
        self.coefs_ = [coef for coef, _ in merged]
        self.intercepts_ = [intercept for _, intercept in merged]

    def _predict_scores(self, X: NDArray[Any]) -> NDArray[Any]:
        units = self._transform_.apply(X)
        for coef, intercept in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            units = np.maximum(units @ coef + intercept, 0)
        scores: NDArray[Any] = units @ self.coefs_[-1] + self.intercepts_[-1]
        return scores

    def _get_column_state(self) -> dict[str, StateValue]:
        state = self._transform_.get_state()
        for layer, (weights, biases) in enumerate(self._layers_):
            state[f"coef_{layer}"] = weights
            state[f"intercept_{layer}"] = biases
        return state

    def _set_column_state(self, reader: StateReader, columns: int) -> None:
        self._transform_ = InputTransform.read_state(reader, self.input_transform, self.n_features_in_)
        sizes = (self._transform_.width(self.n_features_in_), *self.hidden, columns)
        self._set_layers(
            [
                (
                    reader.array(f"coef_{layer}", (self._networks, before, after)),
                    reader.array(f"intercept_{layer}", (self._networks, after)),
                )
                for layer, (before, after) in enumerate(pairwise(sizes))
            ]
        )


def _check_choice(name: str, value: object, *allowed: str) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} is {value!r}. Use {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}.")


def _balance(positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the chance of each window: one over the square root of how many windows its rarest class has."""
    of_class = 1 / np.sqrt(np.maximum(positive.sum(axis=0), 1))
    chances: NDArray[np.float64] = np.where(positive, of_class, 0.0).max(axis=1)
    empty = chances == 0
    if empty.any():  # a class of their own
        chances[empty] = 1 / math.sqrt(empty.sum())
    chances /= chances.sum()
    return chances


def _merge(layers: Sequence[Layer]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Make one wide network of several: its scores are the mean of theirs."""
    networks = len(layers[0][0])
    if networks == 1:
        return [(weights[0], biases[0]) for weights, biases in layers]
    (first, first_biases), *middle, (last, last_biases) = layers
    return [
        (np.concatenate(list(first), axis=1), first_biases.ravel()),
        *((block_diag(*weights), biases.ravel()) for weights, biases in middle),
        (np.concatenate(list(last)) / networks, last_biases.mean(axis=0)),
    ]
