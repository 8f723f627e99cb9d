"""What is tried of the heads' parameters, and how Optuna's choices become parameters and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SPACES", "Choice", "Range", "Space", "as_cell"]

_DIGITS = 3  # of a tried number: a command line with more of them would be no better


@dataclass(frozen=True)
class Range:
    """Numbers between two edges, tried evenly in their logarithm unless `linear`.

    Parameters
    ----------
    low, high : float
    whole : bool
        Whether they are whole numbers.
    linear : bool
    others : tuple
        What the parameter can be beside a number.
    where : tuple of str and value, optional
        Another parameter and the value that it must have; else this one is left at its default.
    """

    low: float
    high: float
    whole: bool = False
    linear: bool = False
    others: tuple[Any, ...] = ()
    where: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Choice:
    """A few values.

    Parameters
    ----------
    options : tuple
    where : tuple of str and value, optional
        As for `Range`.
    """

    options: tuple[Any, ...]
    where: tuple[str, Any] | None = None


SPACES: dict[str, dict[str, Range | Choice]] = {
    "lr": {
        # Weighed against a sum over all windows: many of them want a small one, and so does a prior.
        "C": Range(1e-8, 1.0, others=("cv",)),
        "input_transform": Choice(
            (
                "none",
                "sqrt",
                "power:0.3",
                "unit",
                "sqrt+unit",
                "sqrt+pca:32",
                "sqrt+pca:64",
                "sqrt+pca:128",
                "sqrt+pca:256",
            )
        ),
    },
    "lgbm": {
        "n_estimators": Range(50, 800, whole=True),
        "learning_rate": Range(0.01, 0.3),
        "num_leaves": Range(2, 32, whole=True),
        "feature_fraction": Range(0.01, 1.0),
        "extra_trees": Choice((True, False)),
        "lambda_l2": Range(0.01, 100.0),
        "min_data_in_leaf": Range(1, 50, whole=True),
        # A scale for each feature by itself makes no difference to trees.
        "input_transform": Choice(("none", "unit", "sqrt+unit")),
    },
    "mlp": {
        "hidden": Choice(([], [128], [256], [512], [1024], [512, 256])),
        "dropout": Range(0.0, 0.6, linear=True),
        "learning_rate": Range(1e-4, 1e-2),
        "weight_decay": Range(1e-4, 1.0),
        "mixup": Range(0.1, 4.0, others=(0.0,)),
        "mixup_labels": Choice(("union", "proportion")),
        "label_smoothing": Range(0.01, 0.3, others=(0.0,)),
        "loss": Choice(("bce", "focal", "asymmetric")),
        "gamma": Range(0.5, 5.0, linear=True, where=("loss", "focal")),
        "gamma_negative": Range(0.5, 6.0, linear=True, where=("loss", "asymmetric")),
        "sampling": Choice(("uniform", "balanced")),
        "input_transform": Choice(("none", "sqrt", "power:0.3", "sqrt+unit")),
    },
}
"""What is tried of each head's parameters. The defaults are tried first, whether they are in here or not."""


@dataclass(frozen=True)
class Space:
    """What is tried of one head's parameters.

    Parameters
    ----------
    parts : mapping of str to Range or Choice
    usual : mapping
        The parameters that the head has unless others are given.
    """

    parts: Mapping[str, Range | Choice]
    usual: Mapping[str, Any]

    def suggest(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401 - Optuna has no types here
        """Let Optuna choose the parameters of a trial, those first on which others depend.

        Parameters
        ----------
        trial : optuna.Trial

        Returns
        -------
        dict
            As the head takes them; without those that are left at their defaults.
        """
        for name, part in sorted(self.parts.items(), key=lambda item: item[1].where is not None):
            if not self._applies(part, self.read(trial.params)):
                continue
            if isinstance(part, Choice):
                trial.suggest_categorical(name, [_label(value) for value in part.options])
                continue
            if part.others:
                labels = ["number", *map(_label, part.others)]
                if trial.suggest_categorical(_kind(name), labels) != "number":
                    continue
            if part.whole:
                trial.suggest_int(name, int(part.low), int(part.high), log=not part.linear)
            else:
                trial.suggest_float(name, part.low, part.high, log=not part.linear)
        return self.read(trial.params)

    def read(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Turn what Optuna chose into parameters of the head, numbers with three digits."""
        found: dict[str, Any] = {}
        for name, part in self.parts.items():
            label = chosen.get(name if isinstance(part, Choice) else _kind(name))
            options = part.options if isinstance(part, Choice) else part.others
            for value in options:
                if label == _label(value):
                    found[name] = value
            if isinstance(part, Range) and name in chosen:
                found[name] = chosen[name] if part.whole else float(f"{chosen[name]:.{_DIGITS}g}")
        return found

    def write_usual(self) -> dict[str, Any]:
        """Turn the defaults into what Optuna could have chosen; nothing if they are not all in the space."""
        chosen: dict[str, Any] = {}
        for name, part in self.parts.items():
            value = self.usual[name]
            if not self._applies(part, {}):
                continue
            options = part.options if isinstance(part, Choice) else part.others
            if _label(value) in map(_label, options):
                chosen[name if isinstance(part, Choice) else _kind(name)] = _label(value)
            elif isinstance(part, Range) and isinstance(value, int | float) and part.low <= value <= part.high:
                chosen[name] = value
                if part.others:
                    chosen[_kind(name)] = "number"
            else:
                return {}
        return chosen

    def _applies(self, part: Range | Choice, found: Mapping[str, Any]) -> bool:
        return part.where is None or {**self.usual, **found}[part.where[0]] == part.where[1]


def as_cell(value: object) -> object:
    """Give a value as a cell of a table holds it."""
    return value if isinstance(value, str | int | float) else json.dumps(value)


def _label(value: object) -> str:
    """Name a value among Optuna's choices, which cannot be lists."""
    return value if isinstance(value, str) else json.dumps(value)


def _kind(name: str) -> str:
    """Name the choice between a number and what else there is."""
    return f"{name}.kind"
