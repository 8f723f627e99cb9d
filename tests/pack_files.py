"""Bundles whose encoders are real, and what is done to the kits that are packed of them."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
from bundle_files import make_small_head

from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import write_bundle
from birdemb.classify.ensemble import Ensemble, Member
from birdemb.embed.encoder import load_encoder
from birdemb.embed.tasks import identify
from birdemb.embed.windows import WindowGrid
from birdemb.taxonomy import ClassName

CLASSES = (ClassName("Turdus merula"), ClassName("parmaj", "Parus major", "Great Tit"), ClassName("Übergröße"))


def write_model(path: Path, encoder: str = "melspec", **settings) -> Path:
    """Write a bundle of one head that was fitted on embeddings as this encoder makes them, of nothing but noise."""
    made = load_encoder(encoder, **settings)
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(30, made.card.dim)).astype(np.float32)
    y = (X[:, : len(CLASSES)] > 1).astype(int)
    ensemble = Ensemble(
        (Member(make_small_head("lr", C=1.0).fit(X, y)),), (None,), Blend("mean", np.ones((1, len(CLASSES))))
    )
    identity = identify(made, WindowGrid(5.0, 5.0))
    write_bundle(Bundle(ensemble, CLASSES, (identity,), y.mean(axis=0), {"seed": 0}), path)
    return path


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_manifest(kit: Path, change) -> None:
    path = kit / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def write_wheel(folder: Path, name: str, version: str = "1.0", *requirements: str) -> Path:
    """Write a wheel with nothing but what it says of itself."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return folder / f"{stem}-py3-none-any.whl"


def plain_environment(home: Path, **changes: str) -> dict[str, str]:
    """The environment of somebody whose home is empty and who has set nothing."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BIRDEMB_", "PIP_", "XDG_", "KAGGLE_", "VIRTUAL_ENV"))
    }
    return {**kept, "HOME": str(home), **changes}
