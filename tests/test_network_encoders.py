"""What every network that a card describes goes through, on ONNX files in OpenVINO: against NumPy and ONNX Runtime."""

import itertools

import numpy as np
import openvino as ov
import pytest
from card_files import own_card
from onnx_graphs import start_bytes
from onnx_networks import NETWORK, Network

from birdemb.embed.encoder import load_encoder
from birdemb.embed.onnx_graph import add_encoder
from birdemb.embed.precision import has_bf16
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.errors import InputError, RecordingError
from birdemb.onnx_building import GraphBuilder

RATE = 1000


@pytest.fixture
def card(tmp_path):
    """The network with sound of open length, beside a card."""
    NETWORK.write(tmp_path / "own.onnx")
    return lambda **changes: own_card(tmp_path, **changes)


@pytest.fixture
def windows():
    """Noise at several levels, with an offset, and digital silence."""
    rng = np.random.default_rng(4)
    sound = rng.normal(0, 1, (6, 5 * RATE)) * 10.0 ** rng.uniform(-4, 0, (6, 1)) + rng.uniform(-0.5, 0.5, (6, 1))
    sound[2] = 0
    sound[4, 2000:] = 0
    return sound.astype(np.float32)


def assert_encodes(encoder, windows, embeddings, logits=None):
    rows, own = encoder.encode_with_logits(windows) if logits is not None else (encoder.encode(windows), None)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, embeddings, atol=2e-5)
    if logits is not None:
        np.testing.assert_allclose(own, logits, atol=5e-5)


@pytest.mark.parametrize(
    ("frame", "starts"),
    [
        (5.0, [0]),  # as long as the window
        (2.0, [0, 1500, 3000]),  # a window of several, the last at its end
        (3.0, [0, 2000]),
        (7.0, [0]),  # longer: silence behind the window
        (0, [0]),  # any length
    ],
)
def test_frames_cover_the_window_and_are_averaged(card, windows, frame, starts):
    samples = round((frame or 5) * RATE)
    padded = np.pad(windows, ((0, 0), (0, max(0, samples - windows.shape[1]))))
    frames = [padded[:, start : start + samples] for start in starts]
    encoder = load_encoder(card(frame_seconds=frame), logits=True)
    assert encoder.identity["frame_starts"] == [start / RATE for start in starts]
    embeddings = np.mean([NETWORK.embed(part) for part in frames], axis=0)
    assert_encodes(encoder, windows, embeddings, np.max([NETWORK.logits(part) for part in frames], axis=0))


def test_what_is_too_short_for_the_network_is_padded(card):
    window = np.random.default_rng(0).normal(0, 1, (2, 300)).astype(np.float32)
    encoder = load_encoder(card(frame_seconds=0, shortest_seconds=1.0), window=0.3)
    assert_encodes(encoder, window, NETWORK.embed(np.pad(window, ((0, 0), (0, 700)))))


def hoplite_normalize_audio(frames, target_peak):
    """The rule of perch-hoplite's function of this name, in float64."""
    centred = frames.astype(np.float64)
    centred = centred - centred.mean(axis=-1, keepdims=True)
    peak = np.abs(centred).max(axis=-1, keepdims=True)
    return np.divide(centred, peak, out=np.zeros_like(centred), where=peak > 0) * target_peak


def peak_alone(frames, target_peak):
    peak = np.abs(frames).max(axis=-1, keepdims=True).astype(np.float64)
    return np.divide(frames, peak, out=np.zeros(frames.shape), where=peak > 0) * target_peak


@pytest.mark.parametrize(("level", "rule"), [("centred-peak", hoplite_normalize_audio), ("peak", peak_alone)])
def test_each_frame_is_brought_to_its_level_by_itself(card, windows, level, rule):
    windows[:, 2500:] *= np.float32(0.1)
    encoder = load_encoder(card(frame_seconds=2.5, level=level, level_peak=0.25))
    frames = [rule(part, 0.25) for part in (windows[:, :2500], windows[:, 2500:])]
    assert_encodes(encoder, windows, np.mean([NETWORK.embed(part) for part in frames], axis=0))
    whole = np.hsplit(rule(windows, 0.25), 2)
    assert not np.allclose(encoder.encode(windows), np.mean([NETWORK.embed(part) for part in whole], axis=0), atol=1e-2)


@pytest.mark.parametrize(("level", "unchanged"), [("none", False), ("peak", True), ("centred-peak", True)])
def test_gain_changes_what_the_card_says(card, windows, level, unchanged):
    encoder = load_encoder(card(level=level, level_peak=0.0 if level == "none" else 0.25))
    quiet, loud = encoder.encode(windows[:1]), encoder.encode(windows[:1] * 8)
    assert np.allclose(quiet, loud, atol=1e-4) == unchanged
    shifted = encoder.encode(windows[:1] + np.float32(0.5))
    assert np.allclose(quiet, shifted, atol=1e-4) == (level == "centred-peak")


POOLED = {
    "mean": lambda rows: rows.mean(axis=1),
    "max": lambda rows: rows.max(axis=1),
    "mean+max": lambda rows: np.concatenate([rows.mean(axis=1), rows.max(axis=1)], axis=1),
}


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize("tensors", [{"embedding": "steps"}, {"embedding": "turned", "embedding_axis": 1}], ids=str)
def test_pooling_goes_over_frames_and_over_the_network_s_own_steps(card, windows, pooling, tensors):
    encoder = load_encoder(card(frame_seconds=2.5, tensors=tensors), pooling=pooling)
    assert encoder.card.dim == (16 if pooling == "mean+max" else 8)
    rows = np.concatenate([NETWORK.steps(part) for part in np.hsplit(windows, 2)], axis=1)
    assert_encodes(encoder, windows, POOLED[pooling](rows))


def test_whole_is_one_pass_over_the_window(card, windows):
    encoder = load_encoder(card(frame_seconds=1.0, pooling="whole"), logits=True)
    assert encoder.identity["frame_starts"] == [0.0]
    assert_encodes(encoder, windows, NETWORK.embed(windows), NETWORK.logits(windows))


def test_largest_logits_of_frames_and_steps_scaled_and_shifted(card, windows):
    encoder = load_encoder(card(tensors={"logits": "framewise", "scale": 0.97, "shift": -10.0}), logits=True)
    expected = 0.97 * (NETWORK.steps(windows) @ NETWORK.classifier).max(axis=1) - 10
    assert_encodes(encoder, windows, NETWORK.embed(windows), expected)


def test_negative_scale_comes_before_the_largest(card, windows):
    encoder = load_encoder(card(tensors={"logits": "framewise", "scale": -1.0}), logits=True)
    expected = (-NETWORK.steps(windows) @ NETWORK.classifier).max(axis=1)
    assert_encodes(encoder, windows, NETWORK.embed(windows), expected)


def test_probabilities_become_logits(card, windows):
    encoder = load_encoder(card(tensors={"logits": "probability", "values": "probabilities"}), logits=True)
    expected = np.max([NETWORK.logits(part) for part in np.hsplit(windows, 5)], axis=0)
    assert_encodes(encoder, windows, NETWORK.embed(windows), expected)


def test_probabilities_that_round_to_0_and_1_become_finite_logits(tmp_path, windows):
    loud = Network(NETWORK.weights, NETWORK.classifier * 1e4)
    loud.write(tmp_path / "own.onnx")
    card = own_card(tmp_path, tensors={"logits": "probability", "values": "probabilities"})
    logits = load_encoder(card, logits=True).encode_with_logits(windows)[1]
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(np.abs(logits).max(), 16.118, atol=0.01)  # log(1e-7)


FORMS = [
    *itertools.product(["batch"], ["n", 1, 3], [1000, "samples"]),
    *itertools.product(["channel"], ["n", 1, 3], [1000]),
    *itertools.product(["channel"], ["n", 1], ["samples"]),  # one frame alone is baked into its graph
    *itertools.product(["single"], ["none"], [1000, "samples"]),
]


@pytest.mark.parametrize(("layout", "batch", "samples"), FORMS)
def test_every_layout_and_batch_agrees_with_numpy_and_onnx_runtime(tmp_path, windows, layout, batch, samples):
    fixed = batch if isinstance(batch, int) and samples == 1000 else None
    path = NETWORK.write(tmp_path / "own.onnx", layout=layout, batch=batch, samples=samples, fixed=fixed)
    at_once = 1 if (layout, samples) == ("channel", "samples") else 4
    encoder = load_encoder(own_card(tmp_path, tensors={"layout": layout, "at_once": at_once}), logits=True)
    frames = windows.reshape(-1, 5, RATE)
    embeddings = np.mean([NETWORK.embed(frames[:, i]) for i in range(5)], axis=0)
    assert_encodes(encoder, windows, embeddings, np.max([NETWORK.logits(frames[:, i]) for i in range(5)], axis=0))
    session = start_bytes(path.read_bytes())
    shape = {"batch": (-1, RATE), "channel": (-1, 1, RATE), "single": (RATE,)}[layout]
    first = frames[:3, 0] if batch == 3 else frames[:1, 0]
    (expected,) = session.run(["embedding"], {"waveform": first.reshape(shape)})
    one = load_encoder(own_card(tmp_path, name="one", tensors={"layout": layout, "at_once": at_once}), window=1.0)
    np.testing.assert_allclose(one.encode(first), expected, atol=2e-5)


def test_outputs_may_be_called_by_number(card, windows):
    encoder = load_encoder(card(tensors={"embedding": "1", "logits": "0"}), logits=True)
    assert_encodes(encoder, windows, NETWORK.embed(windows))
    named = load_encoder(card(name="named", tensors={"embedding": "embedding"}), logits=True)
    np.testing.assert_array_equal(named.encode(windows), encoder.encode(windows))
    assert encoder.identity != named.identity


def test_output_whose_name_is_a_number_is_found_by_its_name(tmp_path, windows):
    import onnx

    model = onnx.load(NETWORK.write(tmp_path / "own.onnx"))
    for node, name in itertools.product(model.graph.node, ("label", "embedding")):
        if node.output[0] == name:
            node.output[0] = {"label": "1", "embedding": "0"}[name]
    for output in model.graph.output:
        output.name = {"label": "1", "embedding": "0"}.get(output.name, output.name)
    onnx.save(model, tmp_path / "own.onnx")
    encoder = load_encoder(own_card(tmp_path, tensors={"embedding": "0", "logits": "1"}), logits=True)
    assert_encodes(encoder, windows, NETWORK.embed(windows))


def test_openvino_ir_gives_what_the_onnx_file_gives(tmp_path, windows):
    NETWORK.write(tmp_path / "own.onnx")
    ov.save_model(ov.Core().read_model(tmp_path / "own.onnx"), tmp_path / "own.xml", compress_to_fp16=False)
    network = load_encoder(own_card(tmp_path, "own.xml", name="ir"), logits=True)
    expected = load_encoder(own_card(tmp_path), logits=True).encode_with_logits(windows)
    for ours, theirs in zip(network.encode_with_logits(windows), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert network.card.weights.also == ["own.bin"]
    content = bytearray((tmp_path / "own.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "own.bin").write_bytes(content)
    assert load_encoder(own_card(tmp_path, "own.xml", name="ir")).weights_sha256 != network.weights_sha256


def test_half_precision_of_input_and_weights(tmp_path, windows):
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(NETWORK.write(tmp_path / "own.onnx", samples=1000))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.float16))
    onnx.save(model, tmp_path / "own.onnx")
    rows = load_encoder(own_card(tmp_path)).encode(windows)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, NETWORK.embed(windows), atol=5e-3)


def test_network_that_gives_nan_is_no_silent_embedding(tmp_path, windows):
    graph = GraphBuilder("divides")
    sound = graph.add_input("waveform", ("n", 1000))
    steps = graph.add("Reshape", sound, graph.add_integers(-1, 8, 125))
    energy = graph.add("ReduceMean", graph.add("Abs", steps), axes=[2], keepdims=0)
    total = graph.add("ReduceMean", energy, axes=[1], keepdims=1)
    graph.add_output("embedding", graph.add("Div", energy, total), ("n", 8))
    (tmp_path / "own.onnx").write_bytes(graph.build({}).SerializeToString())
    encoder = load_encoder(own_card(tmp_path, tensors={"logits": ""}))
    assert np.isfinite(encoder.encode(windows[:1])).all()
    with pytest.raises(RecordingError, match=r"no finite numbers .* digital silence"):
        encoder.encode(windows)


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16 instructions")
def test_bf16_is_near_f32(card, windows):
    chosen = card(precisions=["f32", "bf16"])
    nearly, exactly = (load_encoder(chosen, precision=precision) for precision in ("bf16", "f32"))
    np.testing.assert_allclose(nearly.encode(windows), exactly.encode(windows), rtol=0.03, atol=1e-3)
    assert nearly.identity != exactly.identity


@pytest.mark.skipif(has_bf16(), reason="this processor has them")
def test_bf16_is_refused_where_it_would_be_emulated(card):
    with pytest.raises(InputError, match=r"no bfloat16 instructions .* --precision f32"):
        load_encoder(card(precisions=["f32", "bf16"]), precision="bf16")
    with pytest.raises(InputError, match=r"own runs in f32, not in bf16"):
        load_encoder(card(), precision="bf16")


@pytest.mark.slow
def test_real_birdnet_as_a_file_of_a_user_s(tmp_path, birdnet_weights, recordings):
    """Its network as birdemb exports it, with the spectrograms in the graph: through a card, as anybody's."""
    birdnet = load_encoder("birdnet-2.4", weights=birdnet_weights, logits=True)
    graph = GraphBuilder("birdnet")
    waveform = graph.add_input("waveform", ("windows", birdnet.window_samples))
    embeddings, logits = add_encoder(graph, birdnet, waveform, logits=True)
    graph.add_output("embedding", embeddings, ("windows", 1024))
    graph.add_output("label", logits, ("windows", 6522))
    (tmp_path / "own.onnx").write_bytes(graph.build({}).SerializeToString())
    card = own_card(tmp_path, sample_rate=48_000, frame_seconds=5.0, dim=1024, classes=6522)
    (recording,) = find_recordings(recordings / "soundscapes" / "soundscape_0000001.ogg").recordings
    windows = next(iter(stream_windows(recording, 48_000, WindowGrid())))[0][:3]
    expected = birdnet.encode_with_logits(windows)
    for ours, theirs, limit in zip(
        load_encoder(card, logits=True).encode_with_logits(windows), expected, (2e-4, 5e-3), strict=True
    ):
        assert np.abs(ours - theirs).max() < limit
