"""Assets of a SavedModel that change what its network gives: files of its lookup tables, and whatever else it reads.

Most assets are for people alone: names of classes, which copies of one network have in several forms and which no
operation reads. Which those are is told without TensorFlow, as weights are hashed where that is not installed.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["READING_OPERATIONS", "find_read_assets"]

READING_OPERATIONS = (
    "CSVDataset",
    "CSVDatasetV2",
    "ExperimentalCSVDataset",
    "ExperimentalLMDBDataset",
    "FixedLengthRecordDataset",
    "FixedLengthRecordDatasetV2",
    "FixedLengthRecordReader",
    "FixedLengthRecordReaderV2",
    "FixedUnigramCandidateSampler",
    "GenerateVocabRemapping",
    "InitializeTableFromTextFile",
    "InitializeTableFromTextFileV2",
    "LMDBDataset",
    "LMDBReader",
    "LoadAndRemapMatrix",
    "LoadDataset",
    "ReadFile",
    "RecordInput",
    "Skipgram",
    "SnapshotChunkDataset",
    "TFRecordDataset",
    "TFRecordDatasetV2",
    "TFRecordReader",
    "TFRecordReaderV2",
    "TextLineDataset",
    "TextLineReader",
    "TextLineReaderV2",
    "WholeFileReader",
    "WholeFileReaderV2",
)
"""Of TensorFlow 2.21, those that take the content of a file, but for checkpoints and for what they have written."""

# As protobuf writes the field `op`, the second of NodeDef (node_def.proto of TensorFlow): its tag, its length, itself.
_READS = re.compile(
    b"\x12(?:%s)" % b"|".join(re.escape(bytes([len(name)]) + name.encode()) for name in READING_OPERATIONS)
)


def find_read_assets(folder: Path) -> list[Path]:
    """List the assets of a SavedModel that its graph may read.

    These are none where the graph has no operation that reads a file; else all whose names are in it, be they read or
    not. It depends on nothing but the graph and the names of the assets.

    Parameters
    ----------
    folder : Path
        Of the SavedModel.

    Returns
    -------
    list of Path
        Files below its folder ``assets``.

    Raises
    ------
    OSError
        If the graph cannot be read.
    """
    assets = sorted(path for path in folder.glob("assets/**/*") if path.is_file())
    graph = folder / "saved_model.pb"
    if not assets or not graph.is_file():
        return []
    content = graph.read_bytes()
    if not _READS.search(content):
        return []
    return [path for path in assets if path.name.encode(errors="surrogateescape") in content]
