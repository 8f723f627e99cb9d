"""Files that do not fit their card, or are not what they seem: one sentence each, that says what to do."""

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from card_files import own_card
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_networks import NETWORK, Network

from birdemb.embed.encoder import load_encoder
from birdemb.embed.onnx_files import read_onnx_contents
from birdemb.errors import InputError, MissingWeightsError
from birdemb.onnx_building import GraphBuilder

WHOLE = NETWORK.build().SerializeToString()


def refusal(card, **settings):
    with pytest.raises(InputError) as caught:
        load_encoder(card, **settings).prepare()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"input": "audio"}, "own.onnx has the inputs waveform [?,?]; expected one alone, 'audio', as the card of own"),
        ({"embedding": "embeding"}, "no output 'embeding', which its card asks for. Outputs: 0: label [?,5], 1: emb"),
        ({"embedding": "6"}, "no output '6', which its card asks for. Outputs: 0: label"),
        ({"embedding": ""}, "has 6 outputs, and its card does not say which one is the embedding. Outputs: 0: label"),
        ({"embedding": "label"}, "gives an embedding of shape (4, 5); expected a width of 8 in axis -1"),
        ({"embedding_axis": 0}, "expected a width of 8 in axis 0"),
        ({"embedding": "turned"}, "gives an embedding of shape (4, 8, 10); expected a width of 8 in axis -1"),
        ({"layout": "channel"}, 'has an input of shape [?,?]; the card of own gives [?,1,1000]: layout "channel", 1 s'),
        ({"layout": "single"}, 'has an input of shape [?,?]; the card of own gives [1000]: layout "single", 1 s at'),
    ],
)
def test_card_that_disagrees_with_the_network(tmp_path, tensors, said):
    NETWORK.write(tmp_path / "own.onnx")
    assert said in refusal(own_card(tmp_path, tensors=tensors))


def test_width_and_classes_that_disagree_with_the_network(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")
    assert "shape (4, 8); expected a width of 1,024" in refusal(own_card(tmp_path, dim=1024))
    said = refusal(own_card(tmp_path, classes=6), logits=True)
    assert "gives logits of shape (4, 5) for 4 frames; expected 6 classes" in said
    # Whoever does not ask for logits is not kept from embedding.
    load_encoder(own_card(tmp_path, classes=6)).prepare()


def test_frame_of_another_length_than_the_network_s(tmp_path):
    NETWORK.write(tmp_path / "own.onnx", samples=3000)
    said = refusal(own_card(tmp_path))
    assert 'input of shape [?,3000]; the card of own gives [?,1000]: layout "batch", 1 s at 1,000 Hz' in said
    assert "Correct tensors.layout, frame_seconds" in said
    load_encoder(own_card(tmp_path, frame_seconds=3.0)).prepare()
    assert "[?,5000]" in refusal(own_card(tmp_path, frame_seconds=3.0), pooling="whole")


def test_length_that_the_network_s_arithmetic_cannot_take(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")  # steps of 100 samples
    assert "cannot hear input of shape [?,1050]" in refusal(own_card(tmp_path, frame_seconds=1.05))


def test_network_with_several_inputs_or_with_numbers_for_words(tmp_path):
    graph = GraphBuilder("two")
    first, second = graph.add_input("waveform", ("n", 1000)), graph.add_input("length", ("n", 1000))
    graph.add_output("embedding", graph.add("Add", first, second), ("n", 1000))
    (tmp_path / "own.onnx").write_bytes(graph.build({}).SerializeToString())
    assert "has the inputs waveform [?,1000], length [?,1000]; expected one" in refusal(own_card(tmp_path))
    entry = helper.make_tensor_value_info("waveform", onnx.TensorProto.INT64, ["n", 8])
    result = helper.make_tensor_value_info("embedding", onnx.TensorProto.INT64, ["n", 8])
    node = helper.make_node("Identity", ["waveform"], ["embedding"])
    model = helper.make_model(helper.make_graph([node], "words", [entry], [result]), ir_version=8)
    onnx.save(model, tmp_path / "own.onnx")
    assert "has an input of i64; expected samples" in refusal(own_card(tmp_path, frame_seconds=0.008))


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"<html>not found</html>", os.urandom(1000), b"\x08\x08"])
def test_file_of_another_kind(tmp_path, content):
    (tmp_path / "own.onnx").write_bytes(content)
    said = refusal(own_card(tmp_path))
    assert "own.onnx is no " in said
    assert "ONNX file" in said


@pytest.mark.slow
def test_file_cut_short_anywhere(tmp_path):
    content = NETWORK.write(tmp_path / "whole.onnx").read_bytes()
    for size in range(1, len(content), 97):
        (tmp_path / "own.onnx").write_bytes(content[:size])
        assert "own.onnx" in refusal(own_card(tmp_path))
    digest = load_encoder(own_card(tmp_path, "whole.onnx")).weights_sha256
    (tmp_path / "own.onnx").write_bytes(content[:-1])
    known = own_card(tmp_path, weights={"bytes": len(content), "sha256": digest})
    with pytest.raises(InputError, match=r"it has [\d,]+ bytes, expected .* cut short"):
        load_encoder(known)
    (tmp_path / "own.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"its sha256 is .*, expected {digest}.* altered"):
        load_encoder(known)


def test_operation_that_openvino_does_not_know(tmp_path):
    graph = GraphBuilder("strange")
    sound = graph.add_input("waveform", ("n", 1000))
    graph.add_output("embedding", graph.add("Warble", sound, domain="org.example"), ("n", 1000))
    model = graph.build({})
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    onnx.save(model, tmp_path / "own.onnx")
    assert "No conversion rule found for operations: org.example.Warble. Expected" in refusal(own_card(tmp_path))


def test_operation_that_openvino_misreads_is_refused(tmp_path):
    graph = GraphBuilder("spectrum")
    sound = graph.add_input("waveform", ("n", 1000))
    frames = graph.add("Reshape", sound, graph.add_integers(-1, 10, 100, 1))
    graph.add_output("embedding", graph.add("DFT", frames, axis=2, onesided=1), ("n", 10, 51, 2))
    (tmp_path / "own.onnx").write_bytes(graph.build({}).SerializeToString())
    assert "uses the operation DFT (one-sided), which OpenVINO" in refusal(own_card(tmp_path))
    # Why: the day it is read as ONNX means it, this fails, and the refusal can go.
    model = ov.Core().compile_model(ov.Core().read_model(tmp_path / "own.onnx"), "CPU")
    assert model(np.ones((1, 1000), np.float32))[0].shape != (1, 10, 51, 2)


def test_missing_file_says_how_to_get_it(tmp_path):
    card = own_card(tmp_path)
    with pytest.raises(MissingWeightsError, match=r"put own\.onnx beside the card .*own\.toml"):
        load_encoder(card)


@pytest.fixture
def divided(tmp_path):
    """The network with its tensors in a file of their own, of a path of choice."""

    def write(location, folder=None):
        model = onnx.load(NETWORK.write(tmp_path / "own.onnx"))
        (tmp_path / "parts").mkdir(exist_ok=True)
        onnx.save(model, tmp_path / "own.onnx", save_as_external_data=True, location="all", size_threshold=0)
        model = onnx.load(tmp_path / "own.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        onnx.save(model, tmp_path / "own.onnx")
        shutil.move(tmp_path / "all", (folder or tmp_path) / location.rpartition("/")[2])
        return tmp_path

    return write


def test_tensors_in_a_file_beside_it_have_to_be_named_and_are_hashed(divided, tmp_path):
    folder = divided("own.data")
    said = refusal(own_card(folder))
    assert "keeps tensors in 'own.data', which the card of own does not name" in said
    assert "Write also = ['own.data'] into its table [weights]" in said
    encoder = load_encoder(own_card(folder, weights={"also": ["own.data"]}))
    frames = np.random.default_rng(0).normal(0, 1, (2, 5000)).astype(np.float32)
    np.testing.assert_allclose(encoder.encode(frames), NETWORK.embed(frames), atol=2e-5)
    content = bytearray((folder / "own.data").read_bytes())
    content[3] ^= 1
    (folder / "own.data").write_bytes(content)
    changed = load_encoder(own_card(folder, weights={"also": ["own.data"]}))
    assert changed.weights_sha256 != encoder.weights_sha256
    (folder / "own.data").unlink()
    with pytest.raises(InputError, match=r"own\.data cannot be read: No such file"):
        load_encoder(own_card(folder, weights={"also": ["own.data"]}))


def test_tensors_in_a_folder_below(divided, tmp_path):
    folder = divided("parts/own.data", tmp_path / "parts")
    load_encoder(own_card(folder, weights={"also": ["parts/own.data"]})).prepare()


@pytest.mark.parametrize("location", ["../own.data", "/etc/own.data", "parts/../../own.data", "c:own.data", "..\\x"])
def test_tensors_outside_the_folder_are_refused(divided, tmp_path, location):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = divided(location, outside)
    assert f"draws on the file {location!r}, outside its own folder" in refusal(own_card(folder))


def test_tensors_are_found_wherever_a_graph_can_hold_them():
    """In a graph, an attribute, a branch, a function, a sparse tensor: as the package onnx writes them."""

    def tensor(name):
        values = numpy_helper.from_array(np.ones(2, np.float32), name)
        onnx.external_data_helper.set_external_data(values, f"{name}.data")
        values.ClearField("raw_data")
        values.data_location = onnx.TensorProto.EXTERNAL
        return values

    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    branches = [
        helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor(name))], name, [], [result])
        for name in ("then", "else")
    ]
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1])
    function = helper.make_function(
        "org.example", "F", [], ["y"], [helper.make_node("Constant", [], ["y"], value=tensor("function"))], []
    )
    sparse = helper.make_sparse_tensor(tensor("sparse"), numpy_helper.from_array(np.arange(2), "places"), [9])
    graph = helper.make_graph([node], "g", [flag], [result], [tensor("graph")], sparse_initializer=[sparse])
    model = helper.make_model(graph, functions=[function])
    Path("model.onnx").write_bytes(model.SerializeToString())
    contents = read_onnx_contents(Path("model.onnx"))
    assert contents.outside == {f"{name}.data" for name in ("then", "else", "function", "sparse", "graph")}
    assert contents.operations == {"If", "Constant"}


@given(st.data())
def test_whatever_the_bytes_reading_ends_in_contents_or_in_a_sentence(data):
    """Whole files with some bytes changed, and files of any bytes."""
    content = bytearray(WHOLE if data.draw(st.booleans()) else data.draw(st.binary(min_size=1, max_size=200)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    Path("any.onnx").write_bytes(content)
    try:
        assert isinstance(read_onnx_contents(Path("any.onnx")).outside, set)
    except InputError as error:
        assert "any.onnx is no " in str(error)  # noqa: PT017 - most are refused, some are not


def test_openvino_ir_that_is_not_whole(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")
    ov.save_model(ov.Core().read_model(tmp_path / "own.onnx"), tmp_path / "own.xml", compress_to_fp16=False)
    card = own_card(tmp_path, "own.xml")
    text, tensors = (tmp_path / "own.xml").read_text(), (tmp_path / "own.bin").read_bytes()
    (tmp_path / "own.bin").write_bytes(tensors[: len(tensors) // 2])
    assert "Incorrect weights in bin file" in refusal(card)
    (tmp_path / "own.bin").unlink()
    assert "own.bin cannot be read: No such file" in refusal(card)
    (tmp_path / "own.bin").write_bytes(tensors)
    (tmp_path / "own.xml").write_text(text[: len(text) // 2])
    assert "OpenVINO" in refusal(card)
    (tmp_path / "own.xml").write_text("<html>not found</html>")
    assert "Unable to read the model" in refusal(card)


def test_weights_of_another_network_of_the_same_form_have_another_hash(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")
    first = load_encoder(own_card(tmp_path))
    Network.random(seed=1).write(tmp_path / "own.onnx")
    assert load_encoder(own_card(tmp_path)).identity != first.identity


@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("output", ["embedding", "label"])
def test_output_that_has_no_axis_of_frames_is_refused(tmp_path, batch, output):
    """Rows of steps one below the other: of these the first ones are no embeddings of frames."""
    graph = GraphBuilder("flat")
    sound = graph.add_input("waveform", (batch, 1000))
    steps = graph.add("Reshape", sound, graph.add_integers(-1, 100))
    whole = graph.add("Reshape", sound, graph.add_integers(-1, 10, 100))
    flat = {name: name == output for name in ("embedding", "label")}
    for name, width in (("embedding", 8), ("label", 5)):
        rows = steps if flat[name] else graph.add("ReduceMean", whole, axes=[1], keepdims=0)
        weights = graph.add_constant(np.ones((100, width), np.float32))
        graph.add_output(name, graph.add("MatMul", rows, weights), ("rows", width))
    (tmp_path / "own.onnx").write_bytes(graph.build({}).SerializeToString())
    said = refusal(own_card(tmp_path), logits=True)
    frames = 3 if batch == 3 else 4
    if output == "embedding":
        assert f"gives {10 * frames} embeddings for {frames} frames; expected one row of its first axis" in said
    else:
        assert f"gives logits of shape ({10 * frames}, 5) for {frames} frames; expected 5 classes" in said
