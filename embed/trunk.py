"""The part of an encoder that can be stored and computed in fewer bits: what an encoder has to give for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray

__all__ = ["Rows", "Trunk"]

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Trunk:
    """An encoder's network in float32, and how it is given windows.

    Parameters
    ----------
    model : openvino.Model
        With one input, frames along its first axis; all other axes of fixed length.
    seconds : float
        Length of a window that the network hears in one pass.
    samples : int
        The same in samples.
    look : callable
        Turns windows of shape (n, samples) into what the network is given, shape (n, ...): the front end, where it is
        no part of the model, and always float32.
    embedding : int
        The output that holds the embedding.
    pool : callable
        Turns that output for n windows into embeddings, shape (n, dim).
    at_once : int
        How many windows go through it together in a real run.
    fast : bool
        Whether a real run computes it in the form that `birdemb.embed.fast_trunks` makes of it.
    """

    model: ov.Model
    seconds: float
    samples: int
    look: Callable[[Rows], Rows]
    embedding: int = 0
    pool: Callable[[Rows], Rows] = lambda rows: rows
    at_once: int = 4
    fast: bool = False
