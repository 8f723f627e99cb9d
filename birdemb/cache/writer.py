"""Writing into a cache: what comes recording by recording is gathered into shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from birdemb.cache.form import Form
from birdemb.cache.shards import Part, hash_rows
from birdemb.errors import InputError

__all__ = ["CacheWriter"]

_ROWS_A_SHARD = 8192
_SECONDS_A_SHARD = 30.0  # the most work that a kill can cost


class CacheWriter:
    """Gathers embeddings into shards, and writes one whenever it is large or old enough.

    Parameters
    ----------
    form : Form
        What every row has to be like.
    write : callable
        Takes parts, embeddings and logits, and makes a shard of them.
    end : callable
        Called when the ``with`` block has ended.
    """

    def __init__(
        self,
        form: Form,
        write: Callable[[Sequence[Part], Sequence[NDArray[Any]], Sequence[NDArray[Any]]], None],
        end: Callable[[], None],
    ) -> None:
        self._form = form
        self._write = write
        self._end = end
        self._clear()

    def _clear(self) -> None:
        # One list, so that Ctrl-C finds a part whole in it or not at all.
        self._waiting: list[tuple[Part, NDArray[Any], NDArray[Any] | None]] = []
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also after an error or Ctrl-C: what is finished is kept.
        self.flush()
        self._end()

    def add(
        self,
        sha256: str,
        embeddings: NDArray[Any],
        *,
        first_window: int = 0,
        last: bool = True,
        seconds: float = 0.0,
        logits: NDArray[Any] | None = None,
    ) -> None:
        """Add a part of a recording, by default the whole of it.

        Parameters
        ----------
        sha256 : str
            Of the recording's content.
        embeddings : ndarray of shape (windows, dim)
            In the cache's dtype; see `narrow`. Copied.
        first_window : int
            The part's first window within the recording.
        last : bool
            Whether the recording ends with this part; only such a one may be without windows.
        seconds : float
            The whole recording's length; needed with its last part.
        logits : ndarray of shape (windows, logits_width), optional
            The encoder's own, in the same dtype; where the cache keeps these.

        Raises
        ------
        InputError
            If the values are not finite, have another width or type, or are not as many as they should be.
        """
        form = self._form
        if (logits is not None) != bool(form.logits):
            told = f"without logits, which this cache keeps ({form.logits} wide)" if form.logits else "with logits"
            raise InputError(f"Embeddings {told}; expected what the identity says.")
        if first_window < 0 or (not last and not len(embeddings)):
            raise InputError(
                f"A part of {len(embeddings)} windows from window {first_window} on; expected 0 or more for the first "
                "window, and at least one window in a part that is not the last."
            )
        _refuse_other_form("Embeddings", embeddings, len(embeddings), form.dim, form.dtype)
        if logits is not None:
            _refuse_other_form("Logits", logits, len(embeddings), form.logits, form.dtype)
        before = self._waiting[-1][0] if self._waiting else None
        rows = before.first_row + before.windows if before else 0
        part = Part(
            *(sha256, int(first_window), len(embeddings), rows, bool(last), float(seconds)),
            rows_sha256=hash_rows(embeddings),
            logits_sha256=hash_rows(logits) if logits is not None else None,
        )
        # Copied, as the caller may use its memory again.
        self._waiting.append((part, embeddings.copy(), logits.copy() if logits is not None else None))
        if rows + part.windows >= _ROWS_A_SHARD or time.monotonic() - self._written > _SECONDS_A_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._waiting:
            parts, embeddings, logits = zip(*self._waiting, strict=True)
            self._write(parts, embeddings, [rows for rows in logits if rows is not None])
        self._clear()


def _refuse_other_form(what: str, values: NDArray[Any], rows: int, width: int, dtype: np.dtype[Any]) -> None:
    if values.ndim != 2 or values.shape != (rows, width) or values.dtype != dtype:
        raise InputError(
            f"{what} of shape {values.shape} and type {values.dtype}; expected ({rows} windows, {width}) {dtype}."
        )
    if not np.isfinite(values).all():
        raise InputError(f"{what} that are not finite (NaN or infinite) are not kept.")
