"""What recordings tell without being decoded: when they were made, how far up they reach, and how long they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo

from birdemb.embed.audio import HIGHEST_SAMPLE_RATE, LOWEST_SAMPLE_RATE, open_sound
from birdemb.embed.origins import origin_of_name, read_origin
from birdemb.embed.recordings import Recording
from birdemb.embed.windows import WindowGrid
from birdemb.errors import RecordingError
from birdemb.listing import EmbeddedRecording, SkippedRecording
from birdemb.origin import Origin, with_zone

__all__ = ["count_lost_windows", "find_top_frequency", "measure_length", "read_origins"]

_LONGEST = 14 * 24 * 3600  # seconds; a header that says more is more likely damaged than true


def find_top_frequency(recordings: Iterable[Recording], sample_rate: int) -> Callable[[str], float]:
    """Make the function that tells the highest frequency of a recording: half of its sample rate.

    Parameters
    ----------
    recordings : iterable of Recording
    sample_rate : int
        Of the encoder, in Hz; half of it is what it hears of recordings whose header is not read, as they are at a URL,
        or have gone or changed since.

    Returns
    -------
    callable
        From a recording's name to Hz.
    """
    by_name = {recording.name: recording for recording in recordings}

    def tell(name: str) -> float:
        header = _read_header(by_name[name]) if name in by_name and not by_name[name].is_remote else None
        return (header[1] if header is not None else sample_rate) / 2

    return tell


def read_origins(recordings: Iterable[Recording], zone: tzinfo | None = None) -> dict[str, Origin]:
    """Read when and where recordings were made.

    Parameters
    ----------
    recordings : iterable of Recording
    zone : tzinfo, optional
        In which local times are, and in which all are told.

    Returns
    -------
    dict of str to Origin
        By the recording's name. At a URL, and where the file cannot be read any more, the name alone tells.
    """
    origins = {}
    for recording in recordings:
        try:
            origin = origin_of_name(recording.name) if recording.is_remote else read_origin(recording)
        except RecordingError:
            origin = origin_of_name(recording.name)
        origins[recording.name] = origin if zone is None else with_zone(origin, zone)
    return origins


def count_lost_windows(
    recordings: Mapping[str, Recording], skipped: Iterable[SkippedRecording], grid: WindowGrid
) -> list[EmbeddedRecording]:
    """Count the windows that skipped recordings would have had, where their headers tell.

    Parameters
    ----------
    recordings : mapping of str to Recording
        By name.
    skipped : iterable of SkippedRecording
    grid : WindowGrid

    Returns
    -------
    list of EmbeddedRecording
        Without a sha256, as they are in no cache; those of which no length is known are left out.
    """
    lost = (measure_length(recordings[entry.recording], grid) for entry in skipped if entry.recording in recordings)
    return [entry for entry in lost if entry is not None]


def measure_length(recording: Recording, grid: WindowGrid) -> EmbeddedRecording | None:
    """Tell how many windows a recording has by its header: without a sha256; None where the header does not tell."""
    header = _read_header(recording)
    if header is None or header[0] > _LONGEST * header[1]:
        return None
    samples, rate = header
    return EmbeddedRecording(recording.name, "", grid.count(samples, rate), samples / rate)


def _read_header(recording: Recording) -> tuple[int, int] | None:
    """Give the samples of a channel and the sample rate."""
    try:
        with open_sound(recording) as sound:
            samples, rate = sound.file.frames, sound.file.samplerate
    except RecordingError:
        return None
    return (samples, rate) if samples > 0 and LOWEST_SAMPLE_RATE <= rate <= HIGHEST_SAMPLE_RATE else None
