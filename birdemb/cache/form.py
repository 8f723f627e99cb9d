"""What the rows of a cache are like: the identity that they have, and the dtype that they are brought into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError, RecordingError
from birdemb.storage import read_json

__all__ = ["CACHE_FORMAT", "Form", "narrow", "read_identity"]

CACHE_FORMAT = 2
"""Part of every identity; raised when the files' form changes."""

_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Form:
    """What every row of a cache is like.

    Parameters
    ----------
    dim : int
        Width of the embeddings.
    dtype : numpy dtype
        float16 or float32; of the logits too.
    logits : int
        Width of the encoder's logits; 0 for none.
    """

    dim: int
    dtype: np.dtype[Any]
    logits: int

    @classmethod
    def of(cls, identity: dict[str, Any]) -> Form:
        """Take it out of an identity.

        Raises
        ------
        InputError
            If the identity says nothing that can be cached.
        """
        dtype = identity.get("dtype", "float32")
        if dtype not in _DTYPES:
            raise InputError(f"The dtype of the cache is {dtype!r}; expected one of {', '.join(_DTYPES)}.")
        return cls(int(identity["dim"]), np.dtype(dtype), int(identity.get("logits") or 0))


def read_identity(folder: Path) -> dict[str, Any]:
    """Read the identity of a folder of the cache.

    Raises
    ------
    InputError
        If there is none, or it is of another format.
    """
    path = folder / "identity.json"
    identity = read_json(path, "Delete its folder and run `birdemb embed` again.")
    if not isinstance(identity, dict) or not {"encoder", "dim"} <= identity.keys():
        raise InputError(f"{path} is no identity of embeddings. Delete its folder and run `birdemb embed` again.")
    if identity.get("format", CACHE_FORMAT) != CACHE_FORMAT:
        raise InputError(
            f"{folder} has format {identity['format']}; this version of birdemb reads format {CACHE_FORMAT}. "
            "Run `birdemb embed` again, which embeds anew beside it, and delete the folder."
        )
    return identity


def narrow(
    values: NDArray[np.float32], dtype: np.dtype[Any] | str, what: str = "embeddings"
) -> NDArray[np.float16] | NDArray[np.float32]:
    """Bring an encoder's values into the cache's dtype.

    Parameters
    ----------
    values : ndarray, float32
    dtype : numpy dtype or str
        float16 or float32.
    what : str
        What they are, for messages.

    Returns
    -------
    ndarray
        Rounded to the nearest value that `dtype` has.

    Raises
    ------
    RecordingError
        If a value is not finite, or too large for `dtype`.

    Examples
    --------
    >>> narrow(np.array([[0.1, 60000.0]], np.float32), "float16").tolist()
    [[0.0999755859375, 60000.0]]
    """
    if not np.isfinite(values).all():
        raise RecordingError("encode", f"its {what} are not finite (NaN or infinite)")
    with np.errstate(over="ignore"):
        narrowed = values.astype(dtype)
    if not np.isfinite(narrowed).all():
        largest, most = float(np.abs(values).max()), float(np.finfo(narrowed.dtype).max)
        raise RecordingError(
            "encode",
            f"its {what} are too large: the largest is {largest:.1e}, {narrowed.dtype} holds up to {most:g}; "
            "use --dtype float32",
        )
    return narrowed
