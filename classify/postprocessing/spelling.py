"""Post-processing as it is typed: ``auto``, ``none``, or steps by name with their parameters."""

from __future__ import annotations

import difflib
import json
from dataclasses import fields, replace
from typing import Any

from birdemb.classify.postprocessing.chain import STEPS, Postprocessing
from birdemb.classify.postprocessing.smoothing import Smooth
from birdemb.classify.postprocessing.step import Step
from birdemb.errors import InputError

__all__ = ["choose_steps"]


def choose_steps(choice: str | Postprocessing, fitted: Postprocessing, window: float) -> Postprocessing:
    """Read which steps are to be applied.

    Parameters
    ----------
    choice : str or Postprocessing
        Steps themselves; or ``"auto"`` for those that were fitted, ``"none"``, or steps by commas, each ``NAME``,
        ``NAME=VALUE`` or ``NAME:PARAMETER=VALUE:...``: as ``"smooth=0.1,raise,scale=0.4:top=2"``. A step that was
        fitted starts from its parameters, another one from the usual ones; several weights of neighbours are joined by
        ``+``. In whatever order they are named, they are applied in that of `STEPS`.
    fitted : Postprocessing
        That of the bundle.
    window : float
        Length of a window in seconds, which is how far neighbours are apart.

    Returns
    -------
    Postprocessing

    Raises
    ------
    InputError
        If there is no such step or parameter, a value is out of range, or a step that has to be learnt was not.

    Examples
    --------
    >>> choose_steps("scale=0.5:top=2, raise", Postprocessing(), 5.0).steps
    (Raise(factor=1.5, threshold=0.96), Scale(power=0.5, top=2))
    """
    if isinstance(choice, Postprocessing):
        return choice
    words = [word.strip() for word in choice.split(",")]
    if words == ["auto"]:
        return fitted
    if words == ["none"]:
        return Postprocessing()
    if {"auto", "none"} & set(words):
        raise InputError(f"--postprocess {choice}: auto and none stand alone. Name steps, or one of these.")
    names = [word.partition(":")[0].partition("=")[0].strip() for word in words]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"--postprocess names the step {twice[0]} twice. Name it once, with all its parameters.")
    return Postprocessing.arrange(_read_step(word, fitted, window) for word in words)


def _read_step(word: str, fitted: Postprocessing, window: float) -> Step:
    first, *others = (part.strip() for part in word.split(":"))
    name, has_value, value = (part.strip() for part in first.partition("="))
    kinds = {kind.name: kind for kind in STEPS}
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, 1)
        raise InputError(
            f"--postprocess names the step {name!r}, which there is not. Steps are {', '.join(kinds)}"
            + (f"; did you mean {near[0]}?" if near else ".")
        )
    kind = kinds[name]
    own = fitted.only([name]).steps
    if not own and kind.learnt:
        raise InputError(
            f"The step {name} has to be learnt, and this bundle has none. Leave it out, or fit with "
            "`birdemb fit --tune-postprocess` on labelled soundscapes of which enough is known."
        )
    step = own[0] if own else Smooth(distance=window) if kind is Smooth else kind()
    parameters = {kind.main: value} if has_value else {}
    for other in others:
        parameter, equals, value = (part.strip() for part in other.partition("="))
        if not equals or parameter in parameters:
            raise InputError(f"--postprocess {word}: expected NAME=VALUE:PARAMETER=VALUE, and each parameter once.")
        parameters[parameter] = value
    return _change(step, parameters)


def _change(step: Step, parameters: dict[str, str]) -> Step:
    typed = [name for name in step.get_params() if name not in ("names", "sites")]
    for name in parameters:
        if name not in typed:
            allowed = f"It has {', '.join(typed)}." if typed else "It has none that can be typed."
            raise InputError(f"The step {step.name} has no parameter {name!r}. {allowed}")
    values = {name: _read_value(step, name, text) for name, text in parameters.items()}
    return replace(step, **values)  # type: ignore[type-var]


def _read_value(step: Step, name: str, text: str) -> Any:  # noqa: ANN401 - each parameter has its own type
    """Read a number, or text where it is none; the step itself says what is wrong with either."""
    several = any(field.name == name and isinstance(getattr(step, name), tuple) for field in fields(step))  # type: ignore[arg-type]
    values = tuple(_read_number(part.strip()) for part in text.split("+")) if several else (_read_number(text),)
    return values if several else values[0]


def _read_number(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
