"""Where and when soundscapes were made, and what is to be expected there, for the post-processing that asks for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from birdemb.classify.postprocessing import Context
from birdemb.embed.origins import origin_of_name
from birdemb.embed.recordings import FoundRecordings, find_recordings
from birdemb.embed.species_range import WHOLE_YEAR, explain_place, load_species_range
from birdemb.errors import InputError
from birdemb.headers import read_origins
from birdemb.origin import day_of_year, hour_of_day, week_of_year_48
from birdemb.taxonomy import ClassName

__all__ = ["check_place", "read_context"]


def check_place(latitude: float | None, longitude: float | None, week: int | None, asked: Collection[str] = ()) -> None:
    """Refuse a place that is half of one, or none, or a week that there is not; and a place that nothing is known of.

    Parameters
    ----------
    latitude, longitude, week : number, optional
    asked : collection of str
        What is wanted, by the names of `Context`.

    Raises
    ------
    InputError
        If there is no such place or week.
    MissingWeightsError
        If occurrences are wanted of the place, and there is no range model.
    """
    if (latitude is None) != (longitude is None):
        raise InputError("Latitude and longitude belong together: give both, or none.")
    if latitude is not None and longitude is not None:
        problem = explain_place(latitude, longitude, WHOLE_YEAR)
        if problem:
            raise InputError(problem)
        if "occurrence" in asked:
            load_species_range()
    if week is not None:
        problem = explain_place(0, 0, week)
        if problem:
            raise InputError(problem)


def read_context(
    location: str | Path | FoundRecordings,
    names: Sequence[str],
    classes: Sequence[ClassName],
    asked: Collection[str],
    *,
    latitude: float | None = None,
    longitude: float | None = None,
    week: int | None = None,
) -> Context:
    """Read where and when recordings were made, as their names and files tell.

    Hours and days are those of the recorder's clock, in whatever zone it ran: priors are learnt and used by it.

    Parameters
    ----------
    location : path, URL or FoundRecordings
        Of the recordings: a folder or one of them.
    names : sequence of str
        The recordings, as `birdemb.embed.recordings.find_recordings` names them, in the order that is wanted.
    classes : sequence of ClassName
        Those that occurrences are wanted of.
    asked : collection of str
        What is wanted, by the names of `Context`; where it is nothing, no file is opened, and without ``"occurrence"``
        the range model is not needed.
    latitude, longitude, week : number, optional
        Of recordings that do not tell theirs.

    Returns
    -------
    Context
        A place without a date has the occurrences of the whole year.

    Raises
    ------
    MissingWeightsError
        If occurrences are wanted of a known place, and there is no range model.
    InputError
        If there is no such place or week.
    """
    check_place(latitude, longitude, week)
    if not asked:
        return Context.of(len(names))
    found = {recording.name: recording for recording in find_recordings(location).recordings}
    told = read_origins(found[name] for name in names if name in found)
    origins = [told[name] if name in told else origin_of_name(name) for name in names]
    places = np.array(
        [
            (origin.latitude, origin.longitude)
            if origin.latitude is not None and origin.longitude is not None
            else (latitude, longitude)
            for origin in origins
        ],
        np.float64,
    ).reshape(len(names), 2)
    weeks = np.array(
        [week_of_year_48(origin.day) if origin.day is not None else week for origin in origins], np.float64
    )
    occurrence = None
    if "occurrence" in asked and not np.isnan(places).all():
        expected = load_species_range().for_classes(classes)
        weeks_of_model = np.nan_to_num(weeks, nan=WHOLE_YEAR)
        occurrence = expected.occurrence(places[:, 0], places[:, 1], weeks_of_model).astype(np.float64)
    return Context.of(
        len(names),
        site=[origin.place or "" for origin in origins],
        hour=[np.nan if origin.start is None else hour_of_day(origin.start) for origin in origins],
        day=[np.nan if origin.day is None else day_of_year(origin.day) for origin in origins],
        latitude=places[:, 0],
        longitude=places[:, 1],
        week=weeks,
        occurrence=occurrence,
    )
