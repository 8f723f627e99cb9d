"""The offline kit: a folder with a bundle and all that it needs to predict where there is no network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import birdemb.kit_check
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.catalogue import find_card
from birdemb.errors import InputError
from birdemb.inference import check_weights
from birdemb.kit_check import (
    BUNDLE_FILE,
    FORMAT,
    KIND,
    MANIFEST_FILE,
    MODELS_FOLDER,
    WHEELS_FOLDER,
    KitError,
    name_platform,
    read_manifest,
)
from birdemb.kit_distribution import make_own_wheel
from birdemb.kit_files import (
    CHECK_FILE,
    NOTEBOOK_FILE,
    README_FILE,
    RUN_FILE,
    make_notebook,
    make_readme,
    make_run_script,
)
from birdemb.kit_models import PackedEncoder, forbids_commerce, pack_encoder
from birdemb.kit_wheels import PackedWheels, check_target, pack_wheels
from birdemb.offline import OFFLINE_VARIABLE, is_offline
from birdemb.storage import hash_file, replace_folder_atomically, write_json
from birdemb.tables.text import make_csv
from birdemb.workspace import Workspace

__all__ = ["CLASSES_FILE", "VERSIONS", "KitReport", "describe_encoder", "pack"]

CLASSES_FILE = "labels/classes.csv"
VERSIONS = ("installed", "newest")


@dataclass(frozen=True)
class KitReport:
    """What `pack` did.

    Parameters
    ----------
    path : Path
        The kit.
    bundle : Bundle
    encoders : tuple of PackedEncoder
    wheels : PackedWheels or None
        None where none were asked for.
    files, bytes : int
        How many files, and their size.
    manifest_sha256 : str
        Names all of it: whoever has it from you can tell that nothing was altered.
    """

    path: Path
    bundle: Bundle
    encoders: tuple[PackedEncoder, ...]
    wheels: PackedWheels | None
    files: int
    bytes: int
    manifest_sha256: str


def pack(
    model: str | Path,
    output: str | Path,
    *,
    wheels: bool = False,
    python: str | None = None,
    platform: str | None = None,
    versions: str = "installed",
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    force: bool = False,
) -> KitReport:
    """Write an offline kit.

    The folder is there whole or not at all. All of the encoders' weights are checked, and have to be those that the
    bundle was fitted with.

    Parameters
    ----------
    model : path
        A bundle.
    output : path
        The folder to write.
    wheels : bool
        Whether to put birdemb and all that it requires into it, too.
    python : str, optional
        The Python that the wheels are for, such as ``"3.11"``; the one that runs by default.
    platform : str, optional
        The platform that they are for, one of `birdemb.kit_wheels.PLATFORMS` or a tag of wheels; this one by default.
    versions : {"installed", "newest"}
        Which versions of what birdemb requires: those that are installed here, or the newest.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them.
    workspace : path
        The working folder, which knows where users' own cards lie.
    force : bool
        Whether to replace an older kit.

    Returns
    -------
    KitReport

    Raises
    ------
    BirdembError
        If there is no bundle, its encoder cannot be had as it was when the bundle was fitted, pip cannot get the
        wheels, or the folder cannot be written.
    """
    model, place = Path(model), Workspace(Path(workspace))
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    bundle = read_bundle(model)
    check_weights(weights, bundle, model)
    if not wheels and (python or platform):
        raise InputError(f"--{'python' if python else 'platform'} says what wheels are for: give --wheels, too.")
    if versions not in VERSIONS:
        raise InputError(f"--versions is {versions!r}; expected {' or '.join(VERSIONS)}.")
    python, platform = python or ".".join(map(str, sys.version_info[:2])), platform or name_platform()
    if wheels:
        check_target(python, platform)
        if is_offline():
            raise InputError(f"--wheels gets wheels over the network, which {OFFLINE_VARIABLE} or --offline forbids.")
    # A link's own name stays: what it leads to is written anew.
    target = Path(output).resolve()
    _refuse_target(target, force)
    with replace_folder_atomically(target) as folder:
        shutil.copyfile(model, folder / BUNDLE_FILE)
        models = folder / MODELS_FOLDER
        models.mkdir()
        encoders = tuple(
            pack_encoder(
                identity,
                models,
                encoder=find_card(str(identity["encoder"]), place.last_card(str(identity["encoder"]))),
                weights=weights,
            )
            for identity in bundle.identities
        )
        packed = None
        if wheels:
            extras = {encoder.extra for encoder in encoders if encoder.extra}
            with TemporaryDirectory() as temporary:
                packed = pack_wheels(
                    make_own_wheel(Path(temporary)),
                    folder / WHEELS_FOLDER,
                    python=python,
                    platform=platform,
                    extras=extras,
                    versions=versions,
                )
        _write_classes(bundle, folder / CLASSES_FILE)
        _write_starters(folder, encoders, packed)
        files = _list_files(folder)
        write_json(folder / MANIFEST_FILE, _describe(bundle, encoders, packed, files))
        sha256 = hash_file(folder / MANIFEST_FILE)
    return KitReport(
        Path(output), bundle, encoders, packed, len(files) + 1, sum(entry["bytes"] for entry in files.values()), sha256
    )


def _refuse_target(target: Path, force: bool) -> None:
    """Refuse to replace anything but an older kit, and that only if it is asked for and holds nothing else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file; name a folder to write the kit to.")
    try:
        listed = read_manifest(target)["files"].keys() | {MANIFEST_FILE}
    except KitError as error:
        raise InputError(
            f"{target} is not empty, and no kit that could be replaced. Name another folder with -o."
        ) from error
    if not force:
        raise InputError(f"There is a kit in {target}. Give --force to replace it, or name another folder with -o.")
    more = sorted(
        name
        for path in target.rglob("*")
        if not path.is_dir() and (name := path.relative_to(target).as_posix()) not in listed
    )
    if more:
        raise InputError(f"The kit in {target} holds {more[0]}, which was not packed. Move it away to replace the kit.")


def _write_classes(bundle: Bundle, path: Path) -> None:
    path.parent.mkdir()
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = make_csv(file)
        rows.writerow(("label", "scientific_name", "common_name"))
        rows.writerows((name.label, name.scientific, name.common) for name in bundle.classes)


def _write_starters(folder: Path, encoders: Sequence[PackedEncoder], wheels: PackedWheels | None) -> None:
    shutil.copyfile(Path(birdemb.kit_check.__file__), folder / CHECK_FILE)
    readme = make_readme(
        encoders=[describe_encoder(encoder) for encoder in encoders],
        wheels=f"Python {wheels.python} on {wheels.platform}" if wheels is not None else "",
        version=_version(wheels),
    )
    for name, text in (
        (RUN_FILE, make_run_script()),
        (NOTEBOOK_FILE, make_notebook(hash_file(folder / BUNDLE_FILE))),
        (README_FILE, readme),
    ):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    (folder / RUN_FILE).chmod(0o755)


def describe_encoder(encoder: PackedEncoder) -> str:
    """Say in one line which encoder is in a kit, and under which licence."""
    line = f"{encoder.name} ({encoder.precision})"
    if encoder.weights_sha256 is None:
        return f"{line}, which has no weights"
    warning = ": NOT FOR COMMERCIAL USE, nor is what holds a copy" if forbids_commerce(encoder.licence) else ""
    return f"{line}, licence of the weights {encoder.licence}{warning}"


def _version(wheels: PackedWheels | None) -> str:
    if wheels is not None:
        return wheels.versions["birdemb"]
    try:
        return version("birdemb")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def _list_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _describe(
    bundle: Bundle, encoders: Sequence[PackedEncoder], wheels: PackedWheels | None, files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "birdemb": _version(wheels),
        "heads": list(bundle.heads),
        "classes": len(bundle.classes),
        "window": bundle.window,
        "hop": bundle.hop,
        "encoders": [
            {**asdict(encoder), "commercial_use_forbidden": forbids_commerce(encoder.licence)} for encoder in encoders
        ],
        "wheels": asdict(wheels) if wheels is not None else None,
        "files": files,
    }
