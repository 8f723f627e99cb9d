"""Which species are to be expected at a place in a week: BirdNET's own range model, without TensorFlow.

The model takes (latitude, longitude, week), in this order, in degrees and weeks of a year of 48, four to a month, and
gives for each of BirdNET's classes the probability that a complete checklist of eBird's names it. The network turns the
week into sines; outside 1 to 48 it takes them as 0, on which it was trained as the whole year. So -1, which
BirdNET-Analyzer documents, is not the largest of the weeks: in Berlin it lists 259 species, and the weeks together 210.
Sources: the file's own graph; ``birdnet_analyzer/cli.py`` (--lat, --lon, --week, --sf_thresh) in
https://github.com/birdnet-team/BirdNET-Analyzer; https://github.com/birdnet-team/BirdNET-Analyzer/discussions/234.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import ArrayLike, NDArray

from birdemb.embed.catalogue import load_card
from birdemb.embed.openvino_models import compile_model, reason_of
from birdemb.embed.own_classes import find_own_classes
from birdemb.embed.range_card import RangeCard, find_range_model, load_range_card
from birdemb.errors import InputError
from birdemb.taxonomy import ClassName, OwnClass, UnmatchedClass, match_classes

__all__ = ["WEEKS", "WHOLE_YEAR", "ClassRanges", "SpeciesRange", "explain_place", "load_species_range"]

WEEKS = 48
"""Of the model's year: four to a month."""

WHOLE_YEAR = -1
"""In place of a week."""

_AT_ONCE = 256  # places: their 6,522 occurrences take 7 MB


def explain_place(latitude: float, longitude: float, week: float = WHOLE_YEAR) -> str:
    """Say what is wrong with a place and a week.

    Parameters
    ----------
    latitude, longitude : float
        In degrees, north and east positive.
    week : float
        1 to 48, four to a month; or -1 for the whole year.

    Returns
    -------
    str
        A sentence; empty if nothing is.

    Examples
    --------
    >>> explain_place(91, 13.4)
    'The latitude is 91; expected degrees from -90 (south) to 90 (north).'
    >>> explain_place(52.5, 13.4, 20)
    ''
    """
    if not -90 <= latitude <= 90:
        return f"The latitude is {latitude:g}; expected degrees from -90 (south) to 90 (north)."
    if not -180 <= longitude <= 180:
        return f"The longitude is {longitude:g}; expected degrees from -180 (west) to 180 (east)."
    if week != WHOLE_YEAR and not (1 <= week <= WEEKS and week == round(week)):
        return f"The week is {week:g}; expected 1 to {WEEKS}, four to a month, or {WHOLE_YEAR} for the whole year."
    return ""


class SpeciesRange:
    """The range model: how likely each of an encoder's own classes is at a place in a week.

    It is read and compiled when it is first used. One serves one thread at a time.

    Parameters
    ----------
    card : RangeCard
    path : Path
        Its file, whose hash was checked.
    classes : tuple of OwnClass
        In the order of its output.

    Attributes
    ----------
    card : RangeCard
    classes : tuple of OwnClass
        As given.
    modelled : ndarray of shape (own classes,), bool
        Which of them it was trained on; of the others it says "nowhere".
    """

    def __init__(self, card: RangeCard, path: Path, classes: tuple[OwnClass, ...]) -> None:
        self.card = card
        self.classes = classes
        left_out = set(card.not_modelled)
        self.modelled: NDArray[np.bool_] = np.array([entry.scientific not in left_out for entry in classes])
        self._path = path

    @property
    def identity(self) -> dict[str, Any]:
        """What its output depends on, as JSON."""
        return {"range_model": self.card.name, "sha256": self.card.weights.sha256}

    def occurrence(self, latitude: float, longitude: float, week: int = WHOLE_YEAR) -> NDArray[np.float32]:
        """Give the occurrence of each class at one place.

        Parameters
        ----------
        latitude, longitude : float
            In degrees, north and east positive.
        week : int
            1 to 48, four to a month; or -1 for the whole year.

        Returns
        -------
        ndarray of shape (own classes,), float32
            From 0 to 1; near 0 for all that are not `modelled`.

        Raises
        ------
        InputError
            If there is no such place or week.
        """
        problem = explain_place(latitude, longitude, week)
        if problem:
            raise InputError(problem)
        row: NDArray[np.float32] = self.occurrences(np.array([[latitude, longitude, week]]))[0]
        return row

    def occurrences(self, places: NDArray[np.float64]) -> NDArray[np.float32]:
        """Give the occurrence of each class at several places, which are not looked at.

        Parameters
        ----------
        places : ndarray of shape (n, 3), float64
            Latitude, longitude and week, as `explain_place` finds nothing wrong with them.

        Returns
        -------
        ndarray of shape (n, own classes), float32
        """
        self._request.infer([np.ascontiguousarray(places, np.float32)])
        # Copied, as OpenVINO reuses the memory of its results.
        occurrence: NDArray[np.float32] = self._request.get_output_tensor(0).data.copy()
        return occurrence

    def for_classes(self, names: Sequence[ClassName]) -> ClassRanges:
        """Find the classes of a table among the model's.

        Parameters
        ----------
        names : sequence of ClassName

        Returns
        -------
        ClassRanges
        """
        match = match_classes(names, self.classes)
        known = (match.indices >= 0) & self.modelled[match.indices]
        strangers = {entry.label: entry for entry in match.unmatched}
        unknown = tuple(
            strangers.get(name.label)
            or UnmatchedClass(name.label, f"the range model was not trained on {self.classes[index].scientific}")
            for name, index, is_known in zip(names, match.indices.tolist(), known.tolist(), strict=True)
            if not is_known
        )
        return ClassRanges(self, np.where(known, match.indices, -1), unknown)

    @cached_property
    def _request(self) -> ov.InferRequest:
        try:
            model = ov.Core().read_model(self._path)
        except RuntimeError as error:  # what OpenVINO raises
            raise InputError(
                f"OpenVINO {ov.__version__} cannot read the range model {self._path}: {reason_of(error)}. Install the "
                "version of OpenVINO that constraints.txt names."
            ) from error
        shapes = [str(port.partial_shape) for port in (*model.inputs, *model.outputs)]
        if shapes != ["[?,3]", f"[?,{self.card.classes}]"]:
            raise InputError(
                f"OpenVINO {ov.__version__} reads the range model into another graph than expected: inputs and outputs "
                f"of shapes {' and '.join(shapes)}. Install the version of OpenVINO that constraints.txt names."
            )
        return compile_model(model, "f32").create_infer_request()


@dataclass(frozen=True, eq=False)
class ClassRanges:
    """The range model for the classes of a table.

    Parameters
    ----------
    model : SpeciesRange
    indices : ndarray of shape (classes,), int64
        For each class its place among the model's; -1 for one that the model does not know.
    unknown : tuple of UnmatchedClass
        The classes that it does not know, with the reason. They are never to be filtered.
    """

    model: SpeciesRange
    indices: NDArray[np.int64]
    unknown: tuple[UnmatchedClass, ...]

    def occurrence(self, latitudes: ArrayLike, longitudes: ArrayLike, weeks: ArrayLike) -> NDArray[np.float32]:
        """Give the occurrence of each class at the place and in the week of each recording.

        Each different place and week is computed once.

        Parameters
        ----------
        latitudes, longitudes : array of shape (recordings,)
            In degrees, north and east positive; NaN where it is not known.
        weeks : array of shape (recordings,)
            1 to 48, four to a month, or -1 for the whole year; NaN where it is not known.

        Returns
        -------
        ndarray of shape (recordings, classes), float32
            From 0 to 1; NaN for classes that the model does not know, and all along a recording without a place or a
            week.

        Raises
        ------
        InputError
            If the arrays have other shapes, or there is no such place or week.
        """
        places = _lay_out(latitudes, longitudes, weeks)
        result = np.full((len(places), len(self.indices)), np.nan, np.float32)
        rows = np.flatnonzero(~np.isnan(places).any(axis=1))
        known = np.flatnonzero(self.indices >= 0)
        if not len(rows) or not len(known):
            return result
        different, which = np.unique(places[rows], axis=0, return_inverse=True)
        for place in different:
            problem = explain_place(*place)
            if problem:
                raise InputError(f"A recording is nowhere or never. {problem}")
        found = np.concatenate(
            [
                self.model.occurrences(different[start : start + _AT_ONCE])[:, self.indices[known]]
                for start in range(0, len(different), _AT_ONCE)
            ]
        )
        result[np.ix_(rows, known)] = found[which.reshape(-1)]
        return result


def _lay_out(latitudes: ArrayLike, longitudes: ArrayLike, weeks: ArrayLike) -> NDArray[np.float64]:
    columns = [np.asarray(column, np.float64) for column in (latitudes, longitudes, weeks)]
    shapes = [column.shape for column in columns]
    if columns[0].ndim != 1 or len(set(shapes)) != 1:
        raise InputError(
            f"Latitudes, longitudes and weeks have the shapes {', '.join(map(str, shapes))}. "
            "Expected three arrays with one value for each recording."
        )
    return np.stack(columns, axis=1)


def load_species_range(chosen: Path | None = None) -> SpeciesRange:
    """Find the range model on this machine, check it, and find the names of its classes.

    Parameters
    ----------
    chosen : Path, optional
        Its file, or a folder that holds it under its official name; found by itself otherwise.

    Returns
    -------
    SpeciesRange

    Raises
    ------
    MissingWeightsError
        If it, or the names of its classes, is nowhere; the message says how to get it.
    InputError
        If a file was found that is another.
    """
    card = load_range_card()
    path = find_range_model(card, chosen)
    return SpeciesRange(card, path, find_own_classes(load_card(card.encoder), path))
