"""The tables of a prediction: what is checked and chosen before the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.classify.checks import check_number
from birdemb.embed.recordings import AUDIO_SUFFIXES, OTHER_SUFFIXES, find_recordings
from birdemb.errors import InputError
from birdemb.tables.forms import Output, choose_output

__all__ = ["choose_outputs", "choose_thresholds", "refuse_among_recordings", "refuse_recordings", "refuse_to_overwrite"]


def choose_outputs(
    output: str | Path,
    form: str | None,
    detections: str | Path | None,
    detections_form: str | None,
    *,
    min_confidence: float | None,
    merge: float | None,
) -> list[Output]:
    """Choose the forms of the tables, and make sure that there is one of detections where something is said of these.

    Parameters
    ----------
    output : path
    form : str, optional
        By default what its suffix says.
    detections : path, optional
    detections_form : str, optional
        By default what its suffix says.
    min_confidence : float, optional
        Threshold of every class.
    merge : float, optional
        Seconds over which detections are joined.

    Returns
    -------
    list of Output
        The result, and the detections where they are wanted.

    Raises
    ------
    InputError
        If a suffix says nothing, or something is said of detections and no table of them is wanted.
    """
    outputs = [choose_output(output, form)]
    if detections is not None:
        outputs.append(choose_output(detections, detections_form, detections=True))
    elif detections_form is not None:
        raise InputError(
            f"--detections-format {detections_form} is about the table of --detections, which is not asked for. Give "
            "that too; the form of the result is --format."
        )
    for option, given in (("--min-confidence", min_confidence), ("--merge", merge)):
        if given is not None and all(one.of_windows for one in outputs):
            raise InputError(
                f"{option} {given:g} is about detections, and {outputs[0].path} is to be {outputs[0].form}, a table of "
                "all windows. Name a table of detections with --detections, or leave it out."
            )
    if merge is not None:
        check_number("The gap over which detections are joined", merge, at_least=0)
    return outputs


def refuse_recordings(*paths: str | Path | None) -> None:
    """Make sure that no table has the name of a recording.

    Raises
    ------
    InputError
    """
    for path in paths:
        if path is not None and Path(path).suffix.lower() in AUDIO_SUFFIXES | OTHER_SUFFIXES:
            raise InputError(f"{path} has the name of a recording, which a table must not replace. Name it .csv.")


def refuse_among_recordings(output: Output, folder: Path) -> None:
    """Make sure that no file of a recording that is still to come can lie beside one, as labels made by hand lie there.

    Parameters
    ----------
    output : Output
    folder : Path
        Of the recordings.

    Raises
    ------
    InputError
        If the table is a folder of a file for each recording, and that is the folder of recordings, or another where
        recordings lie.
    """
    if not output.is_folder:
        return
    tables, recordings = output.path.resolve(), folder.resolve()
    if recordings == tables:
        is_beside = True
    elif recordings in tables.parents:
        is_beside = _has_recordings(tables)
    else:
        is_beside = tables in recordings.parents and _has_recordings(recordings / recordings.relative_to(tables))
    if is_beside:
        raise InputError(
            f"Files in {output.path} would lie beside recordings, and might replace what somebody made by hand. "
            "Name another folder with -o or --detections."
        )


def _has_recordings(folder: Path) -> bool:
    try:
        return bool(find_recordings(folder).recordings)
    except InputError:  # there is none, or no such folder
        return False


def refuse_to_overwrite(outputs: Sequence[Output], *inputs: str | Path | None) -> None:
    """Make sure that no table takes the place of what is read, or of the other table.

    Raises
    ------
    InputError
    """
    if len({output.path.resolve() for output in outputs}) < len(outputs):
        raise InputError(f"The result and the detections would both be written to {outputs[0].path}. Name two files.")
    read = {Path(one).resolve() for one in inputs if one is not None}
    for output in outputs:
        if output.path.resolve() in read:
            raise InputError(f"{output.path} is read here, and would be replaced by the result. Name another file.")


def choose_thresholds(
    bundle: Bundle, model: Path, min_confidence: float | None, outputs: Sequence[Output]
) -> NDArray[np.float64] | None:
    """Choose the probability from which on each class is detected.

    Parameters
    ----------
    bundle : Bundle
    model : Path
        Where it lies.
    min_confidence : float, optional
        That of every class.
    outputs : sequence of Output
        The tables that are wanted.

    Returns
    -------
    ndarray of shape (classes,), or None
        The bundle's own, where none is given and it has some.

    Raises
    ------
    InputError
        If it is not in 0 to 1, or there are none and a table of detections is wanted.
    """
    if min_confidence is not None:
        check_number("The least confidence", min_confidence, at_least=0, at_most=1)
        return np.full(len(bundle.classes), float(min_confidence))
    thresholds = bundle.ensemble.thresholds
    if thresholds is not None:
        return thresholds.threshold
    needing = next((output for output in outputs if not output.of_windows), None)
    if needing is not None:
        raise InputError(
            f"{needing.path} is to be {needing.form}, a table of detections, and {model} has no thresholds, as nothing "
            "was validated when it was fitted. Give one for all classes with --min-confidence, fit it with --cv, on "
            "classes that have several recordings, or name a table of all windows, such as submission.csv."
        )
    return None
