"""The precision of an encoder's arithmetic, and what this processor has instructions for."""

from __future__ import annotations

from birdemb.embed.card import Card
from birdemb.errors import InputError

__all__ = ["PRECISIONS", "STORED_PRECISIONS", "has_bf16", "require_precision", "resolve_precision"]

PRECISIONS = ("auto", "f32", "bf16", "f16", "int8")

STORED_PRECISIONS = ("f16", "int8")
"""Those whose network `birdemb quantize` makes and stores: weights of half precision, or integers."""


def has_bf16() -> bool:
    """Tell whether this processor multiplies in bfloat16 by itself; emulated it would be six times slower."""
    from openvino import Core  # heavy

    return "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def resolve_precision(card: Card, precision: str) -> str:
    """Make ``"auto"`` a precision: the fastest that this processor has instructions for and the encoder can use.

    Never int8: its network depends on the recordings that it was calibrated with, and is nobody's default. Nor f16,
    which computes as f32 does.

    Parameters
    ----------
    card : Card
        Of the encoder.
    precision : str
        One of `PRECISIONS`.

    Returns
    -------
    str
        Never ``"auto"``: embeddings of two precisions differ, and what they were made with has to be known.

    Raises
    ------
    InputError
        If there is no such precision.

    Examples
    --------
    >>> from birdemb.embed.catalogue import load_card
    >>> resolve_precision(load_card("melspec"), "auto")
    'f32'
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision
    return "bf16" if "bf16" in card.precisions and has_bf16() else "f32"


def require_precision(card: Card, precision: str) -> None:
    """Raise unless an encoder can run in a precision on this processor.

    Raises
    ------
    InputError
        Says what it can run in.
    """
    if precision not in card.precisions:
        raise InputError(f"{card.name} runs in {' or '.join(card.precisions)}, not in {precision}.")
    if precision == "bf16" and not has_bf16():
        raise InputError(
            "This processor has no bfloat16 instructions (avx512_bf16 or amx_bf16), and emulates them slowly. "
            "Embed with --precision f32, which every processor can, and fit on these embeddings."
        )
