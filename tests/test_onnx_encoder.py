"""Encoders as ONNX graphs, against the encoders themselves, and each translated operation against OpenVINO."""

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_graphs import start

from birdemb.embed.encoder import load_encoder
from birdemb.embed.onnx_graph import add_encoder
from birdemb.embed.openvino_onnx import translate_model
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.errors import InputError
from birdemb.onnx_building import OPSET, GraphBuilder

RATE = 48_000


def export(encoder):
    graph = GraphBuilder("encoder")
    waveform = graph.add_input("waveform", ("windows", encoder.window_samples))
    graph.add_output("embeddings", add_encoder(graph, encoder, waveform)[0], ("windows", encoder.card.dim))
    return start(graph)


def make_windows(samples, rate=RATE):
    """Noise, a whistle and a trill in noise, an offset, a padded end, silence, an impulse."""
    rng = np.random.default_rng(7)
    noise, seconds = rng.normal(0, 0.05, (5, samples)), np.arange(samples) / rate
    whistle = 0.3 * np.sin(2 * np.pi * (2000 * seconds + 400 * seconds**2))
    trill = 0.2 * np.sin(2 * np.pi * 4500 * seconds) * (np.sin(2 * np.pi * 12 * seconds) > 0)
    padded = np.where(np.arange(samples) < samples // 4, noise[4], 0)
    impulse = np.zeros(samples)
    impulse[samples // 2] = 1
    return np.stack(
        [noise[0], noise[1] / 9 + whistle, noise[2] / 9 + trill, noise[3] / 9 - 0.3, padded, 0 * seconds, impulse]
    ).astype(np.float32)


@pytest.mark.parametrize(
    ("window", "pooling"),
    [
        (5.0, "whole"),
        *(
            pytest.param(window, pooling, marks=pytest.mark.slow)
            for window, pooling in (
                (5.0, "mean"),
                (7.0, "mean"),
                (3.0, "mean"),
                (1.0, "whole"),
                (1.0, "mean"),
                (7.0, "max"),
                (5.0, "mean+max"),
            )
        ),
    ],
)
def test_birdnet_s_embeddings_are_the_encoder_s(birdnet_weights, window, pooling):
    encoder = load_encoder("birdnet-2.4", window=window, weights=birdnet_weights, pooling=pooling)
    windows, run = make_windows(encoder.window_samples), export(encoder)
    np.testing.assert_allclose(run(windows), encoder.encode(windows), atol=1e-4)
    # One window by itself, and so another size of the open axis.
    np.testing.assert_allclose(run(windows[1:2]), encoder.encode(windows[1:2]), atol=1e-4)


@pytest.mark.slow
def test_birdnet_s_embeddings_of_a_real_soundscape_are_the_encoder_s(birdnet_weights, recordings):
    (recording,) = find_recordings(recordings / "soundscapes" / "soundscape_0000001.ogg").recordings
    windows = np.concatenate([part for part, _ in stream_windows(recording, RATE, WindowGrid())])
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    np.testing.assert_allclose(export(encoder)(windows), encoder.encode(windows), atol=1e-4)


@pytest.mark.slow
def test_quiet_bands_are_not_lost(birdnet_weights):
    # A pure sweep leaves most bands with nothing but rounding errors, which the small exponents make large: there
    # both are equally far from exact arithmetic, and they need not agree better than this.
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    seconds = np.arange(encoder.window_samples) / RATE
    sweep = (0.3 * np.sin(2 * np.pi * (2000 * seconds + 800 * seconds**2))).astype(np.float32)[None]
    np.testing.assert_allclose(export(encoder)(sweep), encoder.encode(sweep), atol=2e-3)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_another_precision_is_refused(birdnet_weights, precision):
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    encoder.precision = precision
    with pytest.raises(InputError, match=rf"birdnet-2\.4 in {precision} .* in f32 it can.*--heads-only"):
        export(encoder)


def compare(model, shape, values=None):
    """Run a model of OpenVINO and its translation on the same numbers; the first axis is open."""
    graph = GraphBuilder("model")
    source = graph.add_input("values", ("n", *shape[1:]))
    known = {model.inputs[0].get_node().get_name(): source}
    (result,) = translate_model(model, graph, known)
    sizes = [entry.get_length() if entry.is_static else "n" for entry in model.outputs[0].get_partial_shape()]
    graph.add_output("result", result, sizes)
    if values is None:
        values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(start(graph)(values), compiled(values)[0], atol=1e-5)


def parameter(*sizes):
    return ops.parameter([-1, *sizes], np.float32, "values")


def normal(*shape):
    return ops.constant(np.random.default_rng(1).normal(size=shape).astype(np.float32))


def integers(*values):
    return np.array(values, np.int64)


GEOMETRY = st.fixed_dictionaries(
    {
        "sizes": st.tuples(st.integers(5, 12), st.integers(5, 12)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "pads": st.tuples(*[st.integers(0, 2)] * 4),
        "dilation": st.integers(1, 2),
        "padding": st.sampled_from(["same_upper", "valid", "explicit"]),
        "groups": st.sampled_from([0, 1, 3]),
    }
)


@pytest.mark.slow
@given(GEOMETRY)
def test_convolutions_of_any_geometry_are_openvino_s(geometry):
    sizes, kernel, groups = geometry["sizes"], geometry["kernel"], geometry["groups"]
    dilations = [min(geometry["dilation"], (size - 1) // max(1, k - 1)) for size, k in zip(sizes, kernel, strict=True)]
    images = parameter(3, *sizes)
    arguments = {
        "strides": list(geometry["strides"]),
        "pads_begin": list(geometry["pads"][:2]),
        "pads_end": list(geometry["pads"][2:]),
        "dilations": dilations,
        "auto_pad": geometry["padding"],
    }
    if groups:
        node = ops.group_convolution(images, normal(groups, 2, 3 // groups, *kernel), **arguments)
    else:
        node = ops.convolution(images, normal(4, 3, *kernel), **arguments)
    compare(ov.Model([node], [images]), (2, 3, *sizes))


def squeeze_and_excite(images):
    """A block of the network: a reshape whose shape is computed, and a product that is spread over the image."""
    mean = ops.reduce_mean(images, integers(2, 3), keep_dims=False)
    batch = ops.gather(ops.shape_of(mean), integers(0), np.int64(0))
    shape = ops.concat([batch, ops.constant(integers(3, 1, 1))], 0)
    return ops.multiply(images, ops.sigmoid(ops.reshape(mean, shape, special_zero=False)))


BLOCKS = {
    "squeeze and excite": squeeze_and_excite,
    "largest": lambda images: ops.max_pool(images, [1, 2], [1, 1], [0, 0], [0, 0], [1, 2]).output(0),
    "mean of pieces": lambda images: ops.avg_pool(images, [2, 1], [0, 0], [0, 0], [2, 3], True),
    "padding": lambda images: ops.pad(images, integers(0, 0, 1, 2), integers(0, 1, 0, 3), "constant", np.float32(0.5)),
    "turned axes": lambda images: ops.transpose(images, integers(0, 3, 1, 2)),
    "new axis": lambda images: ops.unsqueeze(images, integers(1)),
    "side by side": lambda images: ops.concat([images, ops.relu(images)], -1),
    "kept axis": lambda images: ops.reduce_mean(images, integers(-1), keep_dims=True),
    "product": lambda images: ops.matmul(images, normal(6, 2), False, False),
    "product, second turned": lambda images: ops.matmul(images, normal(2, 6), False, True),
    "product, first turned": lambda images: ops.matmul(images, normal(5, 2), True, False),
    "power by logarithm": lambda images: ops.exp(ops.multiply(ops.log(ops.absolute(images)), np.float32(0.4))),
    "four operations": lambda images: ops.divide(
        ops.subtract(images, np.float32(2)), ops.add(ops.power(images, np.float32(2)), ops.exp(normal(1, 3, 1, 1)))
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_operation_is_openvino_s(name):
    images = parameter(3, 5, 6)
    compare(ov.Model([BLOCKS[name](images)], [images]), (2, 3, 5, 6))


def test_power_by_logarithm_keeps_0():
    images = parameter(4)
    model = ov.Model([BLOCKS["power by logarithm"](images)], [images])
    compare(model, (1, 4), np.array([[0, -0.0, 1e-30, 4]], np.float32))


REFUSED = {
    "Cos": ops.cos,
    "Elu": lambda images: ops.elu(ops.relu(images), 1.0),
    "Convolution whose input 1 is computed": lambda images: ops.convolution(
        images, ops.exp(normal(4, 3, 1, 1)), [1, 1], [0, 0], [0, 0], [1, 1]
    ),
    "Convolution with padding same_lower": lambda images: ops.convolution(
        images, normal(4, 3, 2, 2), [1, 1], [0, 0], [0, 0], [1, 1], "same_lower"
    ),
    "AvgPool with padding": lambda images: ops.avg_pool(images, [2, 1], [1, 1], [1, 1], [2, 3], True),
    "MaxPool with dilation": lambda images: ops.max_pool(images, [1, 1], [2, 2], [0, 0], [0, 0], [2, 2]).output(0),
    "Pad of mode edge": lambda images: ops.pad(images, integers(0, 0, 1, 2), integers(0, 1, 0, 3), "edge"),
    "of another operation's second output": lambda images: ops.convert(
        ops.max_pool(images, [1, 2], [1, 1], [0, 0], [0, 0], [1, 2]).output(1), np.float32
    ),
    "Add with an unusual broadcast": lambda images: ops.add(images, images, "none"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_translation_is_refused_by_name(what):
    images = parameter(3, 5, 6)
    model = ov.Model([REFUSED[what](images)], [images])
    graph = GraphBuilder("model")
    with pytest.raises(InputError, match=rf"cannot be exported.*{what}.*--heads-only"):
        translate_model(model, graph, {model.inputs[0].get_node().get_name(): "values"})


def test_reshape_with_two_open_sizes_is_refused():
    images = ops.parameter([-1, -1, 6], np.float32, "values")
    model = ov.Model([ops.reshape(images, integers(0, 0, 2, 3), special_zero=True)], [images])
    with pytest.raises(InputError, match=r"Reshape to the shape \[\?,\?,2,3\]"):
        translate_model(model, GraphBuilder("model"), {images.get_name(): "values"})


def test_graph_is_of_a_version_that_older_engines_read():
    graph = GraphBuilder("nothing")
    values = graph.add_input("values", ("n", 2))
    graph.add_output("result", graph.add("Relu", values), ("n", 2))
    model = graph.build({"name": "value"})
    # What ONNX Runtime 1.17 takes at the most: opset 20 and the file format 9.
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert OPSET <= 20
    assert model.ir_version <= 9
    assert {entry.key: entry.value for entry in model.metadata_props} == {"name": "value"}


def test_constant_is_kept_once():
    graph = GraphBuilder("constants")
    assert graph.add_number(1) == graph.add_number(1) != graph.add_constant(np.ones(1, np.float32))
    assert graph.add_integers(1, 2) != graph.add_constant(np.array([1, 2], np.int32))
