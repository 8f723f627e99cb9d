"""What an encoder already knows: its own logits of those classes that it was trained on, as the start of a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["PRIOR_KINDS", "Prior"]

PRIOR_KINDS = ("offset", "features")
_ROWS_AT_ONCE = 16_384  # float32 copies of a large cache's float16 rows must not fill the memory
_MOST_LOGITS = 10_000_000
_LARGEST_SCALE = 100.0


@dataclass(frozen=True, eq=False)
class Prior:
    """The encoder's own logits of the classes of a table.

    Where the encoder's logits are linear in its embedding, they are computed from the embedding with the encoder's own
    class weights. Where the logits were kept beside the embeddings, their columns are taken instead: such a prior
    (`uses_logits`) can only be used where logits are kept too. For BirdNET the second are the largest of a window's
    frames of 3 s, the first those of one pass over the whole window.

    Logits are the encoder's own, times `scale`. They are meant for its own training set, where most classes are
    rarer than in any table: a head that starts from them learns an intercept for each class, and no scale needs to be
    learnt. Fitted on 14 species, the best common factor of BirdNET's logits was 1.04, on unheard recordings 1.20 and on
    mixed soundscapes .78; the class intercepts were +1 to +4.

    Parameters
    ----------
    kind : {"offset", "features"}
        How heads use it: as logits to which they learn what to add, or as more features.
    known : ndarray of shape (classes,), bool
        Which classes of the table the encoder knows.
    weights : ndarray of shape (dim, classes), float32
        The encoder's own class weights; 0 where a class is not known. For a prior of logits they have no rows.
    intercepts : ndarray of shape (classes,), float32
        The encoder's own; 0 where a class is not known, and for a prior of logits.
    indices : ndarray of shape (classes,), int64, optional
        For a prior of logits: which of the encoder's own logits each class has, -1 where it is not known.
    width : int
        For a prior of logits: how many own logits the encoder has; else 0.
    scale : float
        By which the logits are multiplied, above 0 and at most 100.
    """

    kind: str
    known: NDArray[np.bool_]
    weights: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    indices: NDArray[np.int64] | None = None
    width: int = 0
    scale: float = 1.0

    @classmethod
    def from_classifier(
        cls,
        indices: NDArray[np.int64],
        weights: NDArray[np.float32],
        intercepts: NDArray[np.float32],
        *,
        kind: str = "offset",
        scale: float = 1.0,
    ) -> Prior:
        """Take the class weights of an encoder whose logits are linear in its embedding.

        Parameters
        ----------
        indices : ndarray of shape (classes,), int64
            For each class of the table its place among the encoder's own; -1 for none.
        weights : ndarray of shape (dim, own classes), float32
        intercepts : ndarray of shape (own classes,), float32
        kind : {"offset", "features"}
        scale : float

        Returns
        -------
        Prior

        Raises
        ------
        InputError
            If a place is out of range, no class is known, or `kind` or `scale` is not allowed.

        Examples
        --------
        >>> own = np.eye(2, 3, dtype=np.float32), np.zeros(3, np.float32)
        >>> Prior.from_classifier(np.array([1, -1]), *own).offset(np.array([[2.0, 5.0]]))
        array([[5., 0.]], dtype=float32)
        """
        known = _check(kind, scale, indices, weights.shape[1])
        return cls(
            kind=kind,
            known=known,
            weights=np.where(known, weights[:, indices], np.float32(0)),
            intercepts=np.where(known, intercepts[indices], np.float32(0)),
            scale=scale,
        )

    @classmethod
    def from_logits(cls, indices: NDArray[np.int64], width: int, *, kind: str = "offset", scale: float = 1.0) -> Prior:
        """Take the columns of logits that are kept beside the embeddings.

        Parameters
        ----------
        indices : ndarray of shape (classes,), int64
            For each class of the table its place among the encoder's own; -1 for none.
        width : int
            How many own logits the encoder has.
        kind : {"offset", "features"}
        scale : float

        Returns
        -------
        Prior

        Raises
        ------
        InputError
            If a place is out of range, no class is known, or `kind` or `scale` is not allowed.
        """
        known = _check(kind, scale, indices, width)
        return cls(
            kind=kind,
            known=known,
            weights=np.zeros((0, len(indices)), np.float32),
            intercepts=np.zeros(len(indices), np.float32),
            indices=indices.astype(np.int64),
            width=width,
            scale=scale,
        )

    @property
    def uses_logits(self) -> bool:
        """Whether the encoder's own logits have to be kept beside the embeddings."""
        return self.indices is not None

    @property
    def more_features(self) -> int:
        """How many features `features` appends."""
        return int(self.known.sum())

    def offset(self, embeddings: NDArray[Any], logits: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Give the logits from which a head starts.

        Parameters
        ----------
        embeddings : ndarray of shape (n, dim), any float
        logits : ndarray of shape (n, own classes), any float, optional
            The encoder's own logits of the same windows; needed for a prior of logits, and unused by others.

        Returns
        -------
        ndarray of shape (n, classes), float32
            Before any sigmoid; 0 where the encoder does not know the class.

        Raises
        ------
        InputError
            If the embeddings or logits have another shape, or logits are needed and absent.
        """
        source = self._source(embeddings, logits)
        result = np.zeros((len(source), len(self.known)), np.float32)
        for start in range(0, len(source), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            if self.indices is not None:
                result[part, self.known] = source[part][:, self.indices[self.known]]
            else:
                result[part] = source[part].astype(np.float32) @ self.weights + self.intercepts
        if self.scale != 1:
            result *= np.float32(self.scale)
        return result

    def features(self, embeddings: NDArray[Any], logits: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Append the logits of the known classes to the embeddings.

        Parameters
        ----------
        embeddings : ndarray of shape (n, dim), any float
        logits : ndarray of shape (n, own classes), any float, optional
            As in `offset`.

        Returns
        -------
        ndarray of shape (n, dim + known classes), float32

        Raises
        ------
        InputError
            If the embeddings or logits have another shape, or logits are needed and absent.
        """
        known = self.offset(embeddings, logits)[:, self.known]
        return np.concatenate([embeddings, known], axis=1, dtype=np.float32)

    def _source(self, embeddings: NDArray[Any], logits: NDArray[Any] | None) -> NDArray[Any]:
        """Give the array that the offset comes from, checked."""
        if self.indices is None:
            source, width, what = embeddings, len(self.weights), "Embeddings"
        elif logits is None:
            raise InputError(
                "This head starts from the encoder's own logits, and there are none beside the embeddings. "
                "Embed with --logits."
            )
        else:
            source, width, what = logits, self.width, "Logits"
        if source.ndim != 2 or source.shape[1] != width or len(source) != len(embeddings):
            raise InputError(
                f"{what} of shape {source.shape} were given for what the encoder knows; "
                f"expected ({len(embeddings)}, {width})."
            )
        return source

    def get_state(self) -> dict[str, StateValue]:
        """Give the arrays and texts from which `read_state` rebuilds this prior; unknown classes take no room.

        Returns
        -------
        dict of str to ndarray or str
        """
        state: dict[str, StateValue] = {
            "prior_kind": self.kind,
            "prior_source": "logits" if self.uses_logits else "embeddings",
            "prior_known": self.known.astype(np.uint8),
            "prior_scale": np.array(self.scale, np.float64),
        }
        if self.indices is not None:
            return state | {"prior_indices": self.indices, "prior_width": np.array(self.width, np.int64)}
        return state | {
            "prior_weights": np.ascontiguousarray(self.weights[:, self.known]),
            "prior_intercepts": self.intercepts[self.known],
        }

    @classmethod
    def read_state(cls, reader: StateReader, classes: int, dim: int) -> Prior:
        """Rebuild a prior from its state.

        Parameters
        ----------
        reader : StateReader
        classes : int
            How many classes the table has.
        dim : int
            Width of an embedding.

        Returns
        -------
        Prior

        Raises
        ------
        InputError
            If a part is missing, does not fit, or is out of range.
        """
        kind, source = reader.text("prior_kind"), reader.text("prior_source")
        flags = reader.array("prior_known", (classes,), "u")
        scale = float(reader.array("prior_scale", ()))
        if source not in ("embeddings", "logits") or flags.max(initial=0) > 1:
            raise InputError(
                f"The state of a prior has the source {source!r} and flags up to {flags.max(initial=0)}; "
                "expected embeddings or logits, and flags of 0 and 1."
            )
        _check_use(kind, scale)
        known = flags.astype(bool)
        if source == "logits":
            width = reader.count("prior_width")
            indices = reader.array("prior_indices", (classes,), "i").astype(np.int64)
            if width > _MOST_LOGITS or not np.array_equal(_check(kind, scale, indices, width), known):
                raise InputError("The part 'prior_indices' in the state of a prior does not fit 'prior_known'.")
            return cls.from_logits(indices, width, kind=kind, scale=scale)
        count = int(known.sum())
        if not count:
            raise InputError("The state of a prior knows no class.")
        # Wider floats would become infinite here.
        parts = [("prior_weights", (dim, count)), ("prior_intercepts", (count,))]
        own = [reader.array(key, shape) for key, shape in parts]
        if any(array.dtype != np.float32 for array in own):
            raise InputError("The weights in the state of a prior are no float32.")
        weights, intercepts = np.zeros((dim, classes), np.float32), np.zeros(classes, np.float32)
        weights[:, known], intercepts[known] = own
        return cls(kind=kind, known=known, weights=weights, intercepts=intercepts, scale=scale)


def _check(kind: str, scale: float, indices: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Refuse what is out of range, and tell which classes are known."""
    _check_use(kind, scale)
    known: NDArray[np.bool_] = indices >= 0
    if not known.any():
        raise InputError("The encoder knows none of the classes, so that there is no prior. Fit without one.")
    if indices.min() < -1 or indices.max() >= width:
        raise InputError(
            f"The places of classes among the encoder's own go from {indices.min()} to {indices.max()}; "
            f"expected -1 to {width - 1}."
        )
    return known


def _check_use(kind: str, scale: float) -> None:
    if kind not in PRIOR_KINDS:
        raise InputError(f"The kind of a prior is {kind!r}. Use one of {', '.join(map(repr, PRIOR_KINDS))}.")
    check_number("scale", scale, above=0, at_most=_LARGEST_SCALE)
