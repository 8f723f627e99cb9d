"""The species that are to be expected at a place, as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from birdemb.embed.species_range import WHOLE_YEAR, SpeciesRange
from birdemb.errors import InputError
from birdemb.storage import replace_atomically

__all__ = ["list_species", "write_species"]


def list_species(
    model: SpeciesRange,
    latitude: float,
    longitude: float,
    week: int = WHOLE_YEAR,
    *,
    threshold: float | None = None,
) -> pd.DataFrame:
    """List the species whose occurrence at a place reaches a threshold.

    Parameters
    ----------
    model : SpeciesRange
    latitude, longitude : float
        In degrees, north and east positive.
    week : int
        1 to 48, four to a month; or -1 for the whole year.
    threshold : float, optional
        From 0 to 1; by default that of the model's authors.

    Returns
    -------
    pandas.DataFrame
        Columns scientific_name, common_name and occurrence (float32), the largest first.

    Raises
    ------
    InputError
        If there is no such place, week or threshold.
    """
    least = model.card.threshold if threshold is None else threshold
    if not 0 <= least <= 1:
        raise InputError(f"The threshold of the occurrence is {least:g}; expected a number from 0 to 1.")
    occurrence = model.occurrence(latitude, longitude, week)
    # Stable, so that equal ones stand in the order of the classes on every machine.
    order = np.argsort(-occurrence, kind="stable")
    places = order[occurrence[order] >= np.float32(least)]
    return pd.DataFrame(
        {
            "scientific_name": [model.classes[place].scientific for place in places],
            "common_name": [model.classes[place].common for place in places],
            "occurrence": occurrence[places],
        }
    )


def write_species(path: Path, table: pd.DataFrame) -> None:
    """Write such a table as CSV, atomically.

    Raises
    ------
    InputError
        If the path cannot be written.
    """
    with replace_atomically(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
