"""Frames: what a network hears at once of a window, at the level that it is used to, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut_frames", "pool_rows", "set_level"]


def cut_frames(windows: NDArray[np.float32], starts: Sequence[int], samples: int) -> NDArray[np.float32]:
    """Cut frames out of windows; what a frame lacks behind the window's end is filled with zeros.

    Parameters
    ----------
    windows : ndarray of shape (n, window samples), float32
    starts : sequence of int
        Where the frames begin in a window, in samples.
    samples : int
        Length of a frame.

    Returns
    -------
    ndarray of shape (n * len(starts), samples), float32
        The frames of a window one after the other.
    """
    short = max(starts) + samples - windows.shape[1]
    if short > 0:
        windows = np.pad(windows, ((0, 0), (0, short)))
    return np.stack([windows[:, start : start + samples] for start in starts], axis=1).reshape(-1, samples)


def set_level(frames: NDArray[np.float32], level: str, peak: float) -> NDArray[np.float32]:
    """Bring each frame to the level that a network is used to.

    Parameters
    ----------
    frames : ndarray of shape (n, samples), float32
    level : {"none", "peak", "centred-peak"}
        Leave it; bring its largest absolute sample to `peak`; or take its mean away first, which is what Perch's
        authors do (``normalize_audio`` of perch-hoplite's ``zoo_interface``, with a peak of 0.25).
    peak : float
        Full scale is 1.

    Returns
    -------
    ndarray of shape (n, samples), float32
        A frame without any sound stays 0.

    Examples
    --------
    >>> set_level(np.array([[0.0, 2.0, 4.0]], np.float32), "centred-peak", 0.25)
    array([[-0.25,  0.  ,  0.25]], dtype=float32)
    """
    if level == "none":
        return frames
    if level == "centred-peak":
        frames = frames - frames.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    largest = np.abs(frames).max(axis=1, keepdims=True)
    # Divided first: a gain of its own would be infinite for the smallest of numbers.
    return np.multiply(frames / np.where(largest > 0, largest, np.float32(1)), np.float32(peak), dtype=np.float32)


def pool_rows(rows: NDArray[np.float32], pooling: str) -> NDArray[np.float32]:
    """Make one row of the rows of each window.

    Parameters
    ----------
    rows : ndarray of shape (windows, rows of a window, width), float32
    pooling : {"mean", "max", "mean+max", "whole"}
        The last is the mean, of what is but one row.

    Returns
    -------
    ndarray of shape (windows, width), float32
        Of twice that width with ``"mean+max"``: the mean, then the maximum.
    """
    pooled = []
    if pooling != "max":
        pooled.append(rows.mean(axis=1))
    if pooling in ("max", "mean+max"):
        pooled.append(rows.max(axis=1))
    return np.concatenate(pooled, axis=1)
