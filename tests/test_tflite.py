"""TensorFlow Lite files: the real BirdNET through a user's card, small ones of every form, and what fits no card."""

import sys
import warnings

import numpy as np
import pytest
from card_files import own_card, write_card
from test_birdnet import FRAME, GOLDEN, signals

from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.recordings import find_recordings
from birdemb.embed.tflite_files import add_outputs
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.errors import InputError, MissingDependencyError

pytest.importorskip("ai_edge_litert")

from tflite_networks import OPERATORS, OPTIONS, TfliteBuilder, schema, write_model


@pytest.fixture(scope="module")
def birdnet_card(birdnet_weights, tmp_path_factory):
    """A card about the real FP32 file, which has the tensors where the official FP16 file has them."""
    folder = tmp_path_factory.mktemp("birdnet")
    (folder / "birdnet.tflite").symlink_to(birdnet_weights)
    return str(write_card(folder, "birdnet-2.4-fp16", "birdnet.tflite"))


@pytest.fixture(scope="module")
def soundscape(recordings):
    (recording,) = find_recordings(recordings / "soundscapes" / "soundscape_0000001.ogg").recordings
    return np.concatenate([part for part, _ in stream_windows(recording, 48_000, WindowGrid(5.0, 5.0))])[:4]


def test_real_birdnet_has_the_pinned_values(birdnet_card):
    encoder = load_encoder(birdnet_card, window=3.0)
    rows = encoder.encode(np.stack(list(signals().values())))
    for row, (first, norm) in zip(rows, GOLDEN.values(), strict=True):
        np.testing.assert_allclose(row[: len(first)], first, atol=1e-4)
        assert np.linalg.norm(row) == pytest.approx(norm, abs=1e-3)


@pytest.mark.slow
def test_real_birdnet_gives_what_our_own_engine_gives(birdnet_card, birdnet_weights, soundscape):
    ours = load_encoder("birdnet-2.4", weights=birdnet_weights, pooling="mean", logits=True)
    theirs = load_encoder(birdnet_card, logits=True)
    assert theirs.identity["frame_starts"] == ours.identity["frame_starts"] == [0.0, 2.0]
    for one, other, limit in zip(
        ours.encode_with_logits(soundscape), theirs.encode_with_logits(soundscape), (2e-4, 5e-3), strict=True
    ):
        assert np.abs(one - other).max() < limit


@pytest.mark.slow
def test_tensors_of_the_real_birdnet_by_name(birdnet_card, birdnet_weights, tmp_path):
    (tmp_path / "birdnet.tflite").symlink_to(birdnet_weights)
    names = {"input": "INPUT", "embedding": "model/GLOBAL_AVG_POOL/Mean", "logits": "Identity"}
    card = write_card(tmp_path, "birdnet-2.4-fp16", "birdnet.tflite", tensors=names)
    window = signals()["trill"][None]
    named, numbered = (load_encoder(str(path), window=3.0, logits=True) for path in (card, birdnet_card))
    for one, other in zip(named.encode_with_logits(window), numbered.encode_with_logits(window), strict=True):
        np.testing.assert_array_equal(one, other)


def make_half(source, target):
    """Keep the weights of a TensorFlow Lite file in float16, as TensorFlow's converter does: each behind an operator
    that makes float32 of it again, so that no other tensor's number changes."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(source.read_bytes()), 0)
    (graph,) = model.subgraphs
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = OPERATORS.DEQUANTIZE
    code.version = 3
    model.operatorCodes.append(code)
    turned = []
    for number, tensor in enumerate(list(graph.tensors)):
        content = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or content is None or len(content) < 4096:
            continue
        half = schema.TensorT()
        half.name, half.shape, half.type = tensor.name + b"_half", tensor.shape, schema.TensorType.FLOAT16
        half.buffer = len(model.buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.frombuffer(bytes(content), np.float32).astype(np.float16).tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = 0
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors)], [number]
        operator.builtinOptionsType, operator.builtinOptions = OPTIONS.DequantizeOptions, schema.DequantizeOptionsT()
        graph.tensors.append(half)
        turned.append(operator)
    graph.operators = turned + graph.operators
    used = {tensor.buffer for tensor in graph.tensors}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
    write_model(model, target)


@pytest.mark.slow
def test_weights_in_float16_through_the_card_of_the_official_file(birdnet_weights, birdnet_card, soundscape, tmp_path):
    """The official FP16 file cannot be had here; this one is made of the FP32 file in the same way."""
    file = load_card("birdnet-2.4-fp16").weights.file
    make_half(birdnet_weights, tmp_path / file)
    assert (tmp_path / file).stat().st_size < 0.55 * birdnet_weights.stat().st_size
    # In silence and in a tone without noise, most bands hold nothing but rounding, which float16 changes.
    windows = np.concatenate([signals()["trill"][None], soundscape[:2, :FRAME], soundscape[:2, -FRAME:]])
    half = load_encoder(str(write_card(tmp_path, "birdnet-2.4-fp16", file)), window=3.0, logits=True)
    whole = load_encoder(birdnet_card, window=3.0, logits=True)
    for ours, theirs in zip(half.encode_with_logits(windows), whole.encode_with_logits(windows), strict=True):
        cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        assert cosines.min() > 0.999
        assert not np.array_equal(ours, theirs)


WEIGHTS = np.random.default_rng(0).normal(0, 0.3, (8, 100)).astype(np.float32)


@pytest.mark.slow
def test_output_added_to_the_real_birdnet_is_what_keeping_all_tensors_gives(birdnet_weights):
    from ai_edge_litert.interpreter import Interpreter

    content = birdnet_weights.read_bytes()
    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        keeping = Interpreter(model_content=content, experimental_preserve_all_tensors=True, num_threads=1)
    longer = Interpreter(model_content=add_outputs(content, [545]), num_threads=1)
    assert [entry["index"] for entry in longer.get_output_details()] == [546, 545]
    rows = []
    for interpreter in (keeping, longer):
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, signals()["trill"][None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(545).copy())
    np.testing.assert_allclose(*rows, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x08\x00\x00\x00TFL3", b"\xff\xff\xff\x00TFL3" + bytes(99)])
def test_output_added_to_what_is_no_such_file(content):
    with pytest.raises(ValueError, match=r"it does not begin|it ends too early|it lacks the field"):
        add_outputs(content, [1])


def write_network(path, *, shape=(-1, 1000), dtype="float32", twice=False):
    """``|steps @ weights|`` of steps of 100 samples, in the midst of the graph, and its mean at the end."""
    graph = TfliteBuilder()
    sound = graph.add_tensor("waveform", shape, dtype=dtype)
    steps = graph.add_tensor("steps", (-1, 10, 100), dtype=dtype)
    target = graph.add_tensor("shape", (3,), np.array([-1, 10, 100]), "int32")
    graph.add(OPERATORS.RESHAPE, [sound, target], steps, OPTIONS.ReshapeOptions, schema.ReshapeOptionsT())
    if dtype != "float32":
        graph.write(path, [sound], [steps])
        return
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    weights = graph.add_tensor("weights", WEIGHTS.shape, WEIGHTS)
    bands = graph.add_tensor("bands", (-1, 10, 8))
    graph.add(OPERATORS.FULLY_CONNECTED, [steps, weights, -1], bands, OPTIONS.FullyConnectedOptions, options)
    loud = graph.add(OPERATORS.ABS, [bands], graph.add_tensor("bands" if twice else "loud", (-1, 10, 8)))
    axis = graph.add_tensor("axis", (1,), np.array([1]), "int32")
    pooled = graph.add_tensor("pooled", (-1, 8))
    graph.add(OPERATORS.MEAN, [loud, axis], pooled, OPTIONS.ReducerOptions, schema.ReducerOptionsT())
    result = graph.add(OPERATORS.LOGISTIC, [pooled], graph.add_tensor("result", (-1, 8)))
    graph.write(path, [sound], [result])


def tflite_card(folder, **changes):
    tensors = {"embedding": "pooled", "logits": ""} | changes.pop("tensors", {})
    return own_card(folder, "own.tflite", kind="tflite", tensors=tensors, **changes)


@pytest.fixture
def windows():
    return np.random.default_rng(4).normal(0, 0.3, (3, 5000)).astype(np.float32)


def loudness(windows):
    return np.abs(windows.astype(np.float64).reshape(len(windows), -1, 100) @ WEIGHTS.T)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((-1, 1000), "batch"), ((1, 1000), "batch"), ((-1, 1, 1000), "channel"), ((1000,), "single"), ((-1,), "single")],
)
def test_tensor_in_the_midst_is_neither_stale_nor_shared(tmp_path, windows, shape, layout):
    write_network(tmp_path / "own.tflite", shape=shape)
    encoder = load_encoder(tflite_card(tmp_path, tensors={"layout": layout}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # LiteRT's, that keeping all tensors is for debugging
        rows = encoder.encode(windows)
    np.testing.assert_allclose(rows, loudness(windows).mean(axis=1), atol=1e-5)
    kept = rows.copy()
    encoder.encode(windows * 2)
    np.testing.assert_array_equal(rows, kept)
    largest = load_encoder(tflite_card(tmp_path, tensors={"layout": layout, "embedding": "loud"}), pooling="max")
    np.testing.assert_allclose(largest.encode(windows), loudness(windows).max(axis=1), atol=1e-5)


def test_embedding_and_logits_side_by_side(tmp_path, windows):
    write_network(tmp_path / "own.tflite")
    tensors = {"embedding": "loud", "logits": "result", "values": "probabilities"}
    encoder = load_encoder(tflite_card(tmp_path, tensors=tensors, classes=8), logits=True)
    rows, logits = encoder.encode_with_logits(windows)
    np.testing.assert_allclose(rows, loudness(windows).mean(axis=1), atol=1e-5)
    frames = loudness(windows).reshape(3, 5, 10, 8).mean(axis=2)
    np.testing.assert_allclose(logits, frames.max(axis=1), atol=1e-3)


def test_only_output_needs_no_name(tmp_path, windows):
    write_network(tmp_path / "own.tflite")
    rows = load_encoder(tflite_card(tmp_path, tensors={"embedding": ""}), window=1.0).encode(
        np.ascontiguousarray(windows[:, :1000])
    )
    np.testing.assert_allclose(rows, 1 / (1 + np.exp(-loudness(windows[:, :1000]).mean(axis=1))), atol=1e-5)


def test_stored_integers_become_numbers(tmp_path, windows):
    graph = TfliteBuilder()
    sound = graph.add_tensor("waveform", (-1, 1000))
    stored = graph.add_tensor("stored", (-1, 1000), dtype="int8", scale=0.02)
    graph.add(OPERATORS.QUANTIZE, [sound], stored, OPTIONS.QuantizeOptions, schema.QuantizeOptionsT())
    graph.write(tmp_path / "own.tflite", [sound], [stored])
    encoder = load_encoder(tflite_card(tmp_path, dim=1000, tensors={"embedding": ""}), window=1.0)
    given = np.ascontiguousarray(windows[:, :1000])
    np.testing.assert_allclose(encoder.encode(given), np.round(given / 0.02) * 0.02, atol=1e-5)


def refusal(card, **settings):
    with pytest.raises(InputError) as caught:
        load_encoder(card, **settings).prepare()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"tensors": {"embedding": "poled"}},
            "has none 'poled', which the card of own asks for. Outputs: 8: result [-1, 8]",
        ),
        ({"tensors": {"embedding": "99"}}, "with 9 tensors has none '99', which the card of own asks for"),
        ({"tensors": {"input": "audio"}}, "has the inputs waveform [-1, 1000]; expected one alone, 'audio', as"),
        ({"frame_seconds": 2.0}, 'input of shape [-1, 1000]; the card of own gives [1, 2000]: layout "batch", 2 s at'),
        ({"tensors": {"layout": "channel"}}, 'the card of own gives [1, 1, 1000]: layout "channel"'),
        ({"dim": 9}, "gives an embedding of shape (1, 8); expected a width of 9"),
    ],
)
def test_card_that_disagrees_with_the_file(tmp_path, changes, said):
    write_network(tmp_path / "own.tflite")
    assert said in refusal(tflite_card(tmp_path, **changes))


def test_name_of_two_tensors(tmp_path):
    write_network(tmp_path / "own.tflite", twice=True)
    assert "has 2 tensors 'bands', which the card" in refusal(tflite_card(tmp_path, tensors={"embedding": "bands"}))
    load_encoder(tflite_card(tmp_path, tensors={"embedding": "4"})).prepare()


def test_input_of_integers(tmp_path):
    write_network(tmp_path / "own.tflite", dtype="int8")
    assert "has an input of int8; expected float32" in refusal(tflite_card(tmp_path))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 20, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 200])
def test_file_of_another_kind(tmp_path, content):
    (tmp_path / "own.tflite").write_bytes(content)
    assert "LiteRT cannot read" in refusal(tflite_card(tmp_path))


def test_file_cut_short(tmp_path):
    write_network(tmp_path / "own.tflite")
    content = (tmp_path / "own.tflite").read_bytes()
    for size in (10, len(content) // 2):
        (tmp_path / "own.tflite").write_bytes(content[:size])
        assert "LiteRT cannot read" in refusal(tflite_card(tmp_path))


def test_missing_litert_is_one_sentence(tmp_path, monkeypatch):
    write_network(tmp_path / "own.tflite")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingDependencyError, match=r"LiteRT, .*\. Run: pip install 'birdemb\[tflite\]'"):
        load_encoder(tflite_card(tmp_path)).prepare()


def test_frame_of_birdnet_is_3_s():
    for name in ("birdnet-2.4-fp16", "birdnet-2.4-int8"):
        card = load_card(name)
        assert card.frame_seconds * card.sample_rate == FRAME
