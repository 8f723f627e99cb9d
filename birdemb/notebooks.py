"""One line for notebooks: a path, an array or an open file in, one table out."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.postprocessing import Postprocessing
from birdemb.classify.postprocessing.spelling import choose_steps
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.recordings import AUDIO_SUFFIXES
from birdemb.embed.remote import hide_secrets
from birdemb.errors import InputError
from birdemb.inference import check_weights, predict_soundscapes
from birdemb.kit_use import find_bundle, use_models
from birdemb.listening import check_sample_rate, read_samples
from birdemb.postprocess import postprocess as apply_steps
from birdemb.tables.wide import frame_windows
from birdemb.workspace import Workspace

__all__ = ["predict"]


def predict(
    source: str | Path | NDArray[Any] | IO[bytes],
    *,
    model: str | Path | Bundle | None = None,
    sample_rate: int | None = None,
    postprocess: str | Postprocessing = "auto",
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
) -> pd.DataFrame:
    """Predict the probability of each class in each window.

    Parameters
    ----------
    source : path or URL, ndarray of shape (samples,) or (samples, channels), or file open for reading bytes
        A folder of recordings, or one; samples, as `birdemb.listening.Listener.feed` takes them; or the content of a
        recording in any form that can be read.
    model : path or Bundle, optional
        A bundle, or the folder of an offline kit. By default the bundle that was fitted last.
    sample_rate : int, optional
        Of samples, in Hz; needed with an array, and with nothing else.
    postprocess : str or Postprocessing
        What is done with the probabilities, as `birdemb.predict_folder` has it.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them.
    workspace : path
        The working folder. Embeddings of recordings at a path are cached there; of an array or an open file nothing is.
    jobs : int
        Processes at the same time, for recordings at a path; -1 for as many as there are cores.

    Returns
    -------
    pandas.DataFrame
        A row for each window: recording (its path below the folder; "" for an array or an open file), start and end (in
        seconds), and the probability of each class. Recordings that cannot be used are told of by a warning, and
        listed in ``attrs["skipped"]`` as (path, reason).

    Raises
    ------
    BirdembError
        If there is no such bundle or source, the encoder cannot be had, or none of the recordings can be used.
    """
    is_array = isinstance(source, np.ndarray)
    if is_array != (sample_rate is not None):
        raise InputError(
            "An array of samples needs its sample_rate."
            if is_array
            else "A sample_rate was given, and no array of samples: recordings tell their own."
        )
    place = Workspace(Path(workspace))
    named = model if model is not None else place.last_bundle()
    bundle = named if isinstance(named, Bundle) else read_bundle(find_bundle(named))
    check_weights(weights, bundle, named)
    steps = choose_steps(postprocess, bundle.postprocessing, bundle.window)
    if isinstance(source, str | Path):
        with use_models(named):
            return _predict_path(bundle, source, place, steps, weights=weights, jobs=jobs)
    with use_models(named), tempfile.TemporaryDirectory(prefix="birdemb-") as name:
        folder = Path(name)
        # Kept as a recording, so that it is looked at as closely as every other, and gives the same.
        path = _keep_samples(source, sample_rate, folder) if sample_rate is not None else _keep(source, folder)
        if place.cards.is_file():
            shutil.copy(place.cards, folder)
        what = "array" if is_array else "file"
        table = _predict_path(bundle, path, Workspace(folder), steps, weights=weights, jobs=1, what=what)
    table["recording"] = ""
    return table


def _keep_samples(samples: object, sample_rate: int, folder: Path) -> Path:
    check_sample_rate(sample_rate)
    mono = read_samples(np.asarray(samples))
    if not len(mono):
        raise InputError("The array holds no samples. Expected at least one.")
    path = folder / "sound.wav"
    # RF64 is WAV without its limit of 4 GiB.
    soundfile.write(path, mono, sample_rate, subtype="FLOAT", format="RF64" if mono.nbytes > 1 << 31 else "WAV")
    return path


def _keep(file: object, folder: Path) -> Path:
    if not hasattr(file, "read"):
        raise InputError(
            f"A {type(file).__name__} cannot be predicted. Expected a path, an array of samples or an open file."
        )
    suffix = PurePosixPath(str(getattr(file, "name", ""))).suffix.lower()
    path = folder / f"sound{suffix if suffix in AUDIO_SUFFIXES else '.wav'}"
    with path.open("wb") as copy:
        try:
            shutil.copyfileobj(file, copy)
        except TypeError as error:
            raise InputError("The file is open for text; open it for bytes, as in open(path, 'rb').") from error
    return path


def _predict_path(
    bundle: Bundle,
    source: str | Path,
    place: Workspace,
    steps: Postprocessing,
    *,
    weights: str | Path | None,
    jobs: int,
    what: str | None = None,
) -> pd.DataFrame:
    listing, prediction = predict_soundscapes(bundle, source, place, weights=weights, jobs=jobs, show_progress=False)
    if listing.skipped:
        first, count = listing.skipped[0], len(listing.skipped)
        if not listing.recordings:
            raise InputError(
                f"The {what} cannot be predicted: {first.reason}."
                if what is not None
                else f"No recording in {hide_secrets(str(source))} could be used. The first, {first.recording}: "
                f"{first.reason}."
            )
        warnings.warn(
            f"{count} recording{'s were' if count > 1 else ' was'} left out. The first, {first.recording}: "
            f"{first.reason}.",
            stacklevel=3,
        )
    unused: list[str] = []
    prediction = apply_steps(prediction, steps, source, tell=unused.append, in_place=True)
    for reason in unused:
        warnings.warn(reason, stacklevel=3)
    names = np.array([entry.recording for entry in prediction.recordings], object)[prediction.recording_numbers]
    times = {"recording": names, "start": prediction.starts, "end": prediction.starts + prediction.window}
    table = frame_windows(times, prediction.labels, prediction.probabilities)
    table.attrs["skipped"] = [(entry.recording, entry.reason) for entry in listing.skipped]
    return table
