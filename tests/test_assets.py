"""Assets belong to the hash of a SavedModel where its graph reads them, and not where they are for people alone."""

import re
import shutil

import pytest

from birdemb.embed.assets import READING_OPERATIONS, find_read_assets
from birdemb.embed.tensorflow_runtime import start_tensorflow
from birdemb.embed.weights import hash_weights

pytestmark = pytest.mark.slow  # TensorFlow alone takes seconds to import

WRITES_OR_CHECKPOINTS = {
    "CacheDataset",
    "CacheDatasetV2",
    "CalibrationStatisticsSaver",
    "CreateSummaryFileWriter",
    "DatasetToTFRecord",
    "DistributedSave",
    "DumpTensor",
    "ExperimentalDatasetToTFRecord",
    "ListSnapshotChunksDataset",
    "MergeV2Checkpoints",
    "Restore",
    "RestoreSlice",
    "Save",
    "SaveDataset",
    "SaveDatasetV2",
    "SaveSlices",
    "SnapshotDataset",
    "SnapshotDatasetV2",
    "TensorSliceDataset",
    "WriteFile",
}
NAMES_ALONE = {"ExperimentalMatchingFilesDataset", "MatchingFiles", "MatchingFilesDataset"}
NO_FILES = {"RegexFullMatch", "RegexReplace", "StaticRegexFullMatch", "StaticRegexReplace", "CTCBeamSearchDecoder"}
"""Which have a pattern, or a path, of another kind."""


def save(folder, name, content="Parus major\nTurdus merula\n"):
    """Write a network with an asset: to fill a table from, to read, or to tell its path, as YAMNet does."""
    tf, _ = start_tensorflow()
    source = folder / "names.txt"
    source.write_text(content)
    module = tf.Module()
    if name == "table":
        index = tf.lookup.TextFileIndex
        lines = (tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
        module.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(source), *lines), -1)
        module.call = tf.function(module.table.lookup, input_signature=[tf.TensorSpec([None], tf.string)])
    else:
        module.asset = tf.saved_model.Asset(str(source))
        read = tf.io.read_file if name == "reads" else tf.identity
        module.call = tf.function(lambda: read(module.asset), input_signature=[])
    tf.saved_model.save(module, str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module")
def weights():
    from weights_files import make_folder_card

    return make_folder_card().weights


@pytest.mark.parametrize("name", ["table", "reads"])
def test_asset_that_the_graph_reads_is_hashed(tmp_path, weights, name):
    model = save(tmp_path, name)
    asset = model / "assets" / "names.txt"
    assert find_read_assets(model) == [asset]
    before = hash_weights(model, weights)
    shutil.copytree(model, tmp_path / "copy")
    (tmp_path / "copy" / "assets" / "more.txt").write_text("of one copy alone")
    assert hash_weights(tmp_path / "copy", weights) == before
    asset.write_text("Turdus merula\nParus major\n")
    assert hash_weights(model, weights) != before
    asset.unlink()
    assert hash_weights(model, weights) != before


@pytest.mark.parametrize("name", ["table", "reads"])
def test_it_changes_what_the_network_gives(tmp_path, name):
    tf, hub = start_tensorflow()
    model = save(tmp_path, name)
    given = [tf.constant(["Parus major"])] if name == "table" else []
    before = hub.load(str(model)).call(*given).numpy()
    (model / "assets" / "names.txt").write_text("Turdus merula\nParus major\n")
    assert hub.load(str(model)).call(*given).numpy() != before


def test_asset_for_people_alone_is_not_hashed(tmp_path, weights, saved_model):
    named = save(tmp_path, "names")
    shutil.copytree(saved_model("yamnet"), tmp_path / "yamnet")
    for model in (named, tmp_path / "yamnet"):
        (asset,) = (model / "assets").iterdir()
        before = hash_weights(model, weights)
        asset.write_text("other names")
        assert find_read_assets(model) == []
        assert hash_weights(model, weights) == before


def test_every_operation_of_tensorflow_that_takes_a_file_is_known():
    start_tensorflow()
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    names = {op.name: [part.name for part in (*op.input_arg, *op.attr)] for op in listed.op}
    takes = {op for op, parts in names.items() if re.search(r"file(?!s_)|path|pattern|director", " ".join(parts))}
    readers = {op for op in names if re.fullmatch(r"(?!Identity)\w*(Record|Line|File|LMDB)Reader(V2)?", op)}
    assert takes | readers <= {*READING_OPERATIONS} | WRITES_OR_CHECKPOINTS | NAMES_ALONE | NO_FILES
    assert {*READING_OPERATIONS} <= names.keys()
