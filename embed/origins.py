"""When and where a recording was made: what its file and its name tell, weighed against each other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from birdemb.embed.clues import Clue
from birdemb.embed.origin_metadata import read_metadata
from birdemb.embed.origin_names import read_name
from birdemb.embed.recordings import Recording
from birdemb.errors import RecordingError
from birdemb.origin import Origin, write_time

__all__ = ["origin_of_name", "read_origin"]

_HOUR = timedelta(hours=1)
# Clocks of different zones differ by quarters of an hour; and a recorder names a file a moment before it begins.
_QUARTER, _TOLERANCE = timedelta(minutes=15), timedelta(minutes=2)
_FARTHEST_FROM_UTC, _FARTHEST_ZONES = timedelta(hours=14), timedelta(hours=26)


def read_origin(recording: Recording) -> Origin:
    """Read when and where a recording was made, from its file and its name.

    What a recorder writes into its files goes before the name, and the name before the dates that any program may
    write; but a time with a zone goes before one without. No sound is read, and no more than 1 MiB.

    Parameters
    ----------
    recording : Recording

    Returns
    -------
    Origin
        With a note where two of these contradict each other by more than an hour, and no time zone explains it.

    Raises
    ------
    RecordingError
        If the file cannot be read. Of a file that is damaged or no audio, its name tells.
    """
    with recording.open() as raw:
        try:
            clues = read_metadata(raw)
        except OSError as error:
            raise RecordingError("read", f"it cannot be read: {error.strerror or error}") from error
    return _weigh(clues, read_name(recording.name))


def origin_of_name(name: str) -> Origin:
    """Read when and where a recording was made from its name alone.

    Examples
    --------
    >>> origin_of_name("north/S4A03895_20190522_063000.wav").recorder
    'S4A03895'
    """
    return _weigh([], read_name(name))


def _weigh(metadata: Sequence[Clue], name: Clue) -> Origin:
    by_trust = [*(clue for clue in metadata if not clue.any_program), name]
    by_trust += [clue for clue in metadata if clue.any_program]
    # Stable: among those with a zone, and those without, the order stays.
    timed = sorted(
        (clue for clue in by_trust if clue.start is not None),
        key=lambda clue: (clue.any_program, clue.start is not None and clue.start.tzinfo is None),
    )
    days = [clue for clue in by_trust if clue.day is not None]
    positions = [clue.position for clue in by_trust if clue.position is not None]
    # Files are renamed after the place where a recorder was.
    sites = [clue.site for clue in (name, *by_trust) if clue.site is not None]
    recorders = [clue.recorder for clue in by_trust if clue.recorder is not None]
    telling = [*timed, *days, *(clue for clue in by_trust if clue.position or clue.site or clue.recorder)]
    start = timed[0].start if timed else None
    return Origin(
        start=start,
        known_day=start.date() if start is not None else (days[0].day if days else None),
        latitude=positions[0][0] if positions else None,
        longitude=positions[0][1] if positions else None,
        site=sites[0] if sites else None,
        recorder=recorders[0] if recorders else None,
        source=telling[0].source if telling else "",
        note=_find_contradictions(start, timed, days),
    )


def _find_contradictions(start: datetime | None, timed: Sequence[Clue], days: Sequence[Clue]) -> str:
    if start is None:
        return ""
    told = [
        f"{clue.source} {write_time(clue.start)}"
        for clue in timed[1:]
        if clue.start is not None and _contradict(start, clue.start)
    ]
    told += [
        f"{clue.source} {clue.day}"
        for clue in days
        if clue.day is not None and abs(clue.day - start.date()) > timedelta(days=1)
    ]
    return f"{timed[0].source} tells {write_time(start)}, but {' and '.join(told)}" if told else ""


def _contradict(first: datetime, second: datetime) -> bool:
    """Tell whether two times of a start differ by more than an hour, which no time zone explains."""
    if first.tzinfo is not None and second.tzinfo is not None:
        return abs(first - second) > _HOUR
    one_has_zone = first.tzinfo is not None or second.tzinfo is not None
    difference = abs(_drop_zone(first) - _drop_zone(second))
    # Of one, what it is in UTC is known; of two without a zone each may be of any.
    farthest = _FARTHEST_FROM_UTC if one_has_zone else _FARTHEST_ZONES
    explained = min(difference % _QUARTER, -difference % _QUARTER) <= _TOLERANCE and difference <= farthest + _TOLERANCE
    # A zone that is told has a clock on the wall too, which a name may follow.
    on_the_wall = abs(first.replace(tzinfo=None) - second.replace(tzinfo=None)) <= _HOUR
    return not (explained or on_the_wall)


def _drop_zone(time: datetime) -> datetime:
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
