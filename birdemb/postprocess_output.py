"""What was found when post-processing was chosen, told on a few lines: for `birdemb fit` and `birdemb info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["describe_steps", "tell_tuning"]

_TITLES = {"macro_roc_auc": "ROC-AUC", "cmap": "cmAP"}
_WIDE = 17


def describe_steps(described: Sequence[Mapping[str, Any]]) -> str:
    """Name steps with their parameters, in their order.

    Parameters
    ----------
    described : sequence of mapping
        As `birdemb.classify.postprocessing.Postprocessing.describe` gives them.

    Examples
    --------
    >>> describe_steps([{"step": "scale", "params": {"power": 0.4, "top": 1}}])
    'scale (power 0.4, top 1)'
    """
    return ", ".join(f"{entry['step']} ({_describe(entry['params'])})" for entry in described) or "none"


def tell_tuning(summary: Mapping[str, Any]) -> Iterator[str]:
    """Give the gain of the choice and the table of single steps, line by line.

    Parameters
    ----------
    summary : mapping
        As `birdemb.classify.postprocessing.tuning.Tuning.summary` gives it.

    Yields
    ------
    str
    """
    yield f"chosen on {summary['groups']} groups of soundscapes, figures from {summary['folds']} folds:"
    for metric, title in _TITLES.items():
        gain = summary["gains"][metric]
        yield (
            f"  {title:<8} {_number(gain['before'])} -> {_number(gain['after'])}, "
            f"{_gain(gain)}, with steps and parameters chosen on the other folds"
        )
    if summary["reason"]:
        yield f"  nothing is kept: {summary['reason']}"
    columns = ("alone", "up to this", "all but this", "gain over kept")
    yield f"  {'ROC-AUC / cmAP':<16}" + "".join(f"{column:>{_WIDE}}" for column in columns)
    for row in summary["ablation"]:
        cells = (
            _pair({metric: row["alone"][metric]["after"] for metric in _TITLES}),
            _pair(row["cumulated"]),
            _pair(row["without"]),
            _signed(row["added"]["macro_roc_auc"]) + (" kept" if row["kept"] else "     "),
        )
        yield f"  {row['step']:<16}" + "".join(f"{cell:>{_WIDE}}" for cell in cells).rstrip()
    for name, reason in summary["untried"].items():
        yield f"  {name} was not tried: {reason}"


def _describe(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in params.items())


def _value(value: object) -> str:
    if not isinstance(value, list):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if all(isinstance(entry, str) for entry in value):
        # Sites and groups of classes may be many.
        return f"{len(value)}"
    return "+".join(map(_value, value))


def _pair(values: Mapping[str, float | None]) -> str:
    return " / ".join(_number(values[metric]) for metric in _TITLES)


def _gain(gain: Mapping[str, float | None]) -> str:
    low, high = gain["low"], gain["high"]
    return _signed(gain) + (f" ({low:+.4f} to {high:+.4f})" if low is not None and high is not None else "")


def _signed(gain: Mapping[str, float | None]) -> str:
    before, after = gain["before"], gain["after"]
    return f"{after - before:+.4f}" if before is not None and after is not None else "-"


def _number(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else "-"
