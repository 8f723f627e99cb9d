"""The values of a bundle as bytes: numeric arrays in NumPy's own format, and text. Nothing is ever pickled."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.state import StateValue
from birdemb.errors import InputError

__all__ = ["from_bytes", "suffix_of", "to_bytes"]

NUMPY_HEADER = re.compile(
    rb"\{'descr': '[<|][biuf](1|2|4|8)', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,18}(?:,|(?:, \d{1,18})+))?)\), \} *\n"
)


def suffix_of(value: StateValue) -> str:
    """Give the suffix of the file that holds a value: ``npy`` or ``txt``."""
    return "txt" if isinstance(value, str) else "npy"


def to_bytes(value: StateValue) -> bytes:
    """Give the bytes of the file that holds a value; they do not depend on the machine."""
    if isinstance(value, str):
        return value.encode("utf-8")
    buffer = io.BytesIO()
    # Little-endian everywhere, so that the bytes do not depend on the machine.
    np.save(buffer, np.ascontiguousarray(value).reshape(value.shape).astype(value.dtype.newbyteorder("<")))
    return buffer.getvalue()


def from_bytes(name: str, content: bytes) -> StateValue:
    """Read what `to_bytes` wrote.

    Parameters
    ----------
    name : str
        Of the file, whose suffix says what is in it.
    content : bytes

    Returns
    -------
    ndarray or str

    Raises
    ------
    InputError
        If it is no text in UTF-8, or no plain array of numbers.
    """
    return _to_text(name, content) if name.endswith(".txt") else _to_array(name, content)


def _to_text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except ValueError as error:
        raise InputError(f"{name} is no text ({error})") from error


def _to_array(name: str, content: bytes) -> NDArray[Any]:
    _check_array_size(name, content)
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{name} cannot be read ({error})") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_array_size(name: str, content: bytes) -> None:
    """Refuse an array that is not of numbers, or whose header promises other than what follows it.

    NumPy evaluates the header and then takes the memory that it asks for, so it has to be right first.
    """
    magic, length, rest = content[:8], int.from_bytes(content[8:10], "little"), content[10:]
    header = NUMPY_HEADER.fullmatch(rest[:length])
    if magic != b"\x93NUMPY\x01\x00" or header is None:
        raise InputError(f"{name} is not a plain array of numbers in NumPy's format 1.0")
    itemsize, *shape = (int(number) for number in re.findall(rb"\d+", header[1] + b" " + header[2]))
    if itemsize * math.prod(shape) != len(rest) - length:
        raise InputError(f"{name} does not hold the values that its header promises")
