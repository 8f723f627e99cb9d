"""BirdNET 2.4 against its own TFLite file in LiteRT, and against values pinned from there."""

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from openvino.frontend import ConversionExtension

from birdemb.embed import birdnet_passes
from birdemb.embed.convolution_kernels import takes_slower_kernels
from birdemb.embed.encoder import load_encoder
from birdemb.embed.precision import has_bf16
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.errors import InputError

FRAME = 144_000
TENSORS = {"embedding": "model/GLOBAL_AVG_POOL/Mean", "logits": "Identity"}

# First eight values and the norm of LiteRT's embedding (ai-edge-litert 2.3) of `signals()`.
GOLDEN = {
    "sweep": ([1.41164, 1.98646, 0.51502, 0.95802, 0.27952, 0.52866, 0.17965, 0.10431], 23.5813),
    "trill": ([0.01896, 0.0, 0.02334, 0.48107, 0.09419, 0.87641, 0.26122, 0.05602], 18.7562),
    "silence": ([0.05517, 0.12141, 0.01953, 0.15369, 0.33484, 0.61919, 0.0, 0.38996], 9.1456),
    "impulse": ([0.06726, 0.14146, 0.00068, 0.11282, 0.45052, 0.68919, 0.0, 0.50805], 9.2129),
}


def signals():
    """Deterministic frames of 3 s: a sweep, a trill in noise, silence, an impulse."""
    time = np.arange(FRAME) / 48_000
    rng = np.random.default_rng(20_240_101)
    sweep = 0.3 * np.sin(2 * np.pi * (2000 * time + 800 * time**2))
    trill = 0.2 * np.sin(2 * np.pi * 4500 * time) * (np.sin(2 * np.pi * 12 * time) > 0)
    impulse = np.zeros(FRAME)
    impulse[FRAME // 2] = 1
    return {
        "sweep": sweep.astype(np.float32),
        "trill": (trill + rng.normal(0, 0.01, FRAME)).astype(np.float32),
        "silence": np.zeros(FRAME, np.float32),
        "impulse": impulse.astype(np.float32),
    }


@pytest.fixture(scope="module")
def litert(birdnet_weights):
    """The reference: LiteRT on the official file, keeping the tensor in front of the classifier."""
    from ai_edge_litert.interpreter import Interpreter

    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        interpreter = Interpreter(str(birdnet_weights), experimental_preserve_all_tensors=True, num_threads=2)
    interpreter.allocate_tensors()
    details = interpreter.get_tensor_details()

    def encode(frames, tensor="embedding"):
        index = next(t["index"] for t in details if t["name"] == TENSORS[tensor])
        rows = []
        for frame in frames:
            interpreter.set_tensor(0, frame[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(index)[0].copy())
        return np.stack(rows)

    return encode


@pytest.fixture(scope="module")
def soundscape(recordings):
    """Cut the real soundscape into windows of so many seconds."""

    def cut(seconds):
        (recording,) = find_recordings(recordings / "soundscapes" / "soundscape_0000001.ogg").recordings
        parts = stream_windows(recording, 48_000, WindowGrid(seconds, seconds))
        return np.concatenate([part for part, _ in parts])

    return cut


def assert_same(ours, expected, limit=1e-3):
    assert np.abs(ours - expected).max() < limit
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((ours * expected).sum(axis=1) / norms).min() > 0.99999


@pytest.fixture(scope="module")
def frames(birdnet_weights):
    return load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights)


@pytest.fixture(scope="module")
def exact(birdnet_weights):
    """The same network behind a spectrogram that NumPy computes in float64, as the graph defines it."""
    core = ov.Core()
    core.add_extension(ConversionExtension("RFFT2D", lambda node: [ops.relu(node.get_input(0)).output(0)]))
    nodes = core.read_model(birdnet_weights).get_ordered_ops()
    constant = {node.get_friendly_name(): node for node in nodes if node.get_type_name() == "Constant"}
    joined = next(
        node
        for node in nodes
        if node.get_type_name() == "Concat" and node.get_output_partial_shape(0).rank.get_length() == 4
    )
    spectrogram = ops.parameter([-1, -1, 96, 2], np.float32)
    for reader in list(joined.output(0).get_target_inputs()):
        reader.replace_source_output(spectrogram.output(0))
    pooled = [node for node in nodes if node.get_type_name() == "ReduceMean"][-1]
    trunk = ov.Model([ops.result(pooled.output(0))], [spectrogram], "trunk")
    trunk = core.compile_model(trunk, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def encode(frames):
        rows = []
        for frame in frames.astype(np.float64):
            shifted = frame - frame.min()
            level = 2 * (shifted / (shifted.max() + 1e-6) - 0.5)
            bands = []
            for branch in ("model/MEL_SPEC1", "model/MEL_SPEC2"):
                hann = constant[f"{branch}/stft/hann_window/sub_2"].data.astype(np.float64)
                mel = constant[f"{branch}/Tensordot/MatMul"].data.astype(np.float64)
                hop = int(constant[f"{branch}/stft/frame_step"].data)
                pieces = np.lib.stride_tricks.sliding_window_view(level, len(hann))[::hop]
                energy = (np.fft.rfft(pieces * hann, axis=1).real @ mel.T) ** 2
                bands.append(energy[:, ::-1] ** float(constant[f"{branch}/truediv_1"].data))
            steps = min(map(len, bands))
            rows.append(np.stack([band[:steps] for band in bands], axis=2))
        return trunk(np.array(rows, np.float32))[0].copy()

    return encode


@pytest.mark.slow
def test_frames_of_a_real_soundscape_are_litert_s(frames, litert, soundscape):
    windows = soundscape(3.0)
    assert len(windows) == 40
    assert_same(frames.encode(windows), litert(windows), limit=2e-4)


@pytest.mark.slow
def test_mean_pooling_is_that_of_the_frames_at_0_and_2_s(birdnet_weights, litert, soundscape):
    windows = soundscape(5.0)
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights, pooling="mean")
    expected = (litert(windows[:, :FRAME]) + litert(windows[:, 96_000:])) / 2
    assert_same(encoder.encode(windows), expected)
    assert encoder.identity["frame_starts"] == [0.0, 2.0]


@pytest.mark.slow
def test_window_of_5_s_is_heard_in_one_pass(birdnet_weights, exact, soundscape):
    windows = soundscape(5.0)[:6]
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    assert_same(encoder.encode(windows), exact(windows), limit=2e-4)
    assert encoder.identity["frame_starts"] == [0.0]
    assert encoder.identity["frame_seconds"] == 5.0


@pytest.mark.slow
def test_one_pass_over_3_s_is_the_frame_itself(birdnet_weights, frames, soundscape):
    windows = soundscape(3.0)[:3]
    averaging = load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights, pooling="mean")
    np.testing.assert_array_equal(averaging.encode(windows), frames.encode(windows))


@pytest.mark.slow
def test_logits_of_a_frame_are_litert_s(birdnet_weights, litert, soundscape):
    windows = soundscape(3.0)[:8]
    encoder = load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights, logits=True)
    embeddings, logits = encoder.encode_with_logits(windows)
    np.testing.assert_array_equal(embeddings, encoder.encode(windows))
    assert np.abs(logits - litert(windows, tensor="logits")).max() < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "whole"])
def test_logits_of_5_s_are_the_larger_of_its_frames(birdnet_weights, soundscape, pooling):
    windows = soundscape(5.0)[:8]
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights, pooling=pooling, logits=True)
    frames = load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights, logits=True)
    first, second = (frames.encode_with_logits(windows[:, s : s + FRAME])[1] for s in (0, 96_000))
    embeddings, logits = encoder.encode_with_logits(windows)
    np.testing.assert_allclose(logits, np.maximum(first, second), atol=1e-4)
    np.testing.assert_array_equal(embeddings, encoder.encode(windows))


def test_synthetic_signals_are_litert_s(frames, litert):
    windows = np.stack(list(signals().values()))
    as_in_16_bit_files = (np.round(windows * 32_767) / 32_767).astype(np.float32)
    assert_same(frames.encode(as_in_16_bit_files), litert(as_in_16_bit_files))
    # Without any noise, most bands of the sweep hold nothing but what the window's float32 values are off by; folding
    # takes these as symmetric, which they are to 3e-7.
    assert_same(frames.encode(windows), litert(windows), limit=5e-3)


@pytest.mark.slow
def test_padded_frames_are_nearer_to_exact_arithmetic_than_litert_s(frames, litert, exact, soundscape):
    windows = soundscape(3.0)[:4]
    for kept in (FRAME // 2, FRAME // 6):
        padded = windows.copy()
        padded[:, kept:] = 0
        expected = exact(padded)
        error = np.abs(frames.encode(padded) - expected).max()
        assert error < 1e-4
        # LiteRT's rounding errors in the silent part are what is left between the two.
        assert error < np.abs(litert(padded) - expected).max() < 0.05


@pytest.mark.parametrize("offset", [0.3, -0.3])
def test_constant_offset_of_a_recorder_does_no_harm(frames, litert, soundscape, offset):
    shifted = soundscape(3.0)[:2] * np.float32(0.1) + np.float32(offset)
    assert_same(frames.encode(shifted), litert(shifted))


@pytest.mark.parametrize("name", GOLDEN)
def test_values_are_the_pinned_ones(frames, name):
    first, norm = GOLDEN[name]
    (row,) = frames.encode(signals()[name][None])
    np.testing.assert_allclose(row[: len(first)], first, atol=1e-3)
    assert np.linalg.norm(row) == pytest.approx(norm, abs=1e-2)


def test_short_window_is_padded_with_zeros(birdnet_weights, frames):
    short = load_encoder("birdnet-2.4", window=1.0, weights=birdnet_weights)
    window = signals()["sweep"][None, :48_000]
    padded = np.pad(window, ((0, 0), (0, FRAME - 48_000)))
    np.testing.assert_array_equal(short.encode(window), frames.encode(padded))


@pytest.mark.slow
def test_row_is_the_same_to_the_bit_alone_and_among_others(birdnet_weights):
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights, logits=True)
    windows = np.random.default_rng(5).normal(0, 0.1, (7, encoder.window_samples)).astype(np.float32)
    together = encoder.encode_with_logits(windows)
    for row in (0, 3, 6):
        alone = encoder.encode_with_logits(windows[row : row + 1])
        # Elsewhere OpenVINO may take another kernel for one pass than for several.
        limit = 0 if takes_slower_kernels() else 1e-5
        np.testing.assert_allclose(alone[0][0], together[0][row], rtol=0, atol=limit)
        np.testing.assert_allclose(alone[1][0], together[1][row], atol=1e-4)


@pytest.mark.skipif(not takes_slower_kernels(), reason="here the last few always go through the same")
@pytest.mark.parametrize("window", [3.0, 5.0])
def test_last_few_are_the_same_to_the_bit_whatever_they_go_through(birdnet_weights, monkeypatch, window):
    compiled = []

    def compile_it(*args):
        compiled.append(args[1][0])
        return real(*args)

    real = birdnet_passes.compile_fast_trunk
    monkeypatch.setattr(birdnet_passes, "compile_fast_trunk", compile_it)
    monkeypatch.setattr(birdnet_passes, "_MOST_IDLE", 2.5 * window)
    encoder = load_encoder("birdnet-2.4", window=window, weights=birdnet_weights)
    windows = np.random.default_rng(6).normal(0, 0.1, (5, encoder.window_samples)).astype(np.float32)
    together = encoder.encode(windows)
    many = {3.0: 4, 5.0: 2}[window]
    assert compiled == ([many, 1] if window == 3.0 else [many])
    for _ in range(3):
        for row in range(5):
            np.testing.assert_array_equal(encoder.encode(windows[row : row + 1])[0], together[row])
    assert compiled == [many, 1]


def test_windows_too_long_for_one_pass_are_refused(birdnet_weights):
    with pytest.raises(InputError, match=r"in one pass.*60 s"):
        load_encoder("birdnet-2.4", window=90.0, weights=birdnet_weights)


@pytest.mark.skipif(has_bf16(), reason="this processor has them")
def test_bf16_is_refused_where_it_would_be_emulated(birdnet_weights):
    with pytest.raises(InputError, match=r"no bfloat16 instructions .* --precision f32"):
        load_encoder("birdnet-2.4", weights=birdnet_weights, precision="bf16")
    assert load_encoder("birdnet-2.4", weights=birdnet_weights, precision="auto").precision == "f32"


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16 instructions")
def test_bf16_is_near_f32(birdnet_weights, soundscape):
    windows = soundscape(5.0)
    exactly, nearly = (load_encoder("birdnet-2.4", weights=birdnet_weights, precision=p) for p in ("f32", "bf16"))
    assert nearly.identity["precision"] == "bf16"
    rows, expected = nearly.encode(windows), exactly.encode(windows)
    cosines = (rows * expected).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.mean() > 0.999


def test_graph_that_openvino_reads_otherwise_is_refused(birdnet_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where no parts of the file are kept yet
    monkeypatch.setattr("birdemb.embed.birdnet_graph._SPECTROGRAM_SHAPE", "[?,512,96,2]")
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    with pytest.raises(InputError, match=r"OpenVINO .* 0 nodes Concat of shape"):
        encoder.encode(np.zeros((1, encoder.window_samples), np.float32))


def test_ctrl_c_while_the_file_is_read_is_no_damaged_file(birdnet_weights, monkeypatch):
    """OpenVINO makes an error of its own of whatever a function of Python's raises inside its reader."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("birdemb.embed.birdnet_graph.ops.relu", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_encoder("birdnet-2.4", weights=birdnet_weights).read_classifier()
