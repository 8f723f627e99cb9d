"""Weights of tests, cards about them, and archives that hold them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile

from birdemb.embed.card import LabelFile, Source
from birdemb.embed.catalogue import load_card

CONTENT = b"weights of a test" * 1000
NAMES = "Parus major_Great Tit\nTurdus merula_Eurasian Blackbird\n"
NOWHERE = "http://127.0.0.1:9/nothing-listens-here.zip"
SAVED_MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/label.csv": b"label\nParus\n"}


def make_card(*urls, **weights):
    """A card like BirdNET's whose weights are known, and nowhere."""
    birdnet = load_card("birdnet-2.4")
    settings = {
        "file": "test.bin",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "package": "no_such_package",
        "sources": [Source(url, archive="zip", member="member.bin") for url in urls or [NOWHERE]],
    } | weights
    labels = LabelFile(
        "names.txt",
        names_sha256=hashlib.sha256(b"Parus major\nTurdus merula").hexdigest(),
        package_path="names.txt",
        archive_member="labels/en_us.txt",
    )
    return dataclasses.replace(
        birdnet, classes=2, weights=dataclasses.replace(birdnet.weights, **settings), labels=labels
    )


def make_folder_card(*sources, **weights):
    """A card like that of a SavedModel whose hash nobody publishes."""
    return make_card(file="model", folder=True, bytes=0, sha256="", sources=list(sources), **weights)


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members, *further):
    """A tar.gz of files, and of further entries as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in further:
            archive.addfile(entry)
    return buffer.getvalue()
