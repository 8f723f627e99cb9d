"""Networks of cards as parts of an ONNX graph: against their own file in ONNX Runtime, the encoder, and NumPy."""

import numpy as np
import pytest
from card_files import own_card
from onnx_graphs import onnx, start_bytes
from onnx_networks import NETWORK, Network

from birdemb.embed.encoder import load_encoder
from birdemb.embed.frames import cut_frames, pool_rows, set_level
from birdemb.embed.onnx_graph import add_encoder
from birdemb.onnx_building import OPSET, GraphBuilder

RATE = 1000


@pytest.fixture
def windows():
    """Noise at several levels, with an offset, and digital silence."""
    rng = np.random.default_rng(4)
    sound = rng.normal(0, 1, (7, 5 * RATE)) * 10.0 ** rng.uniform(-4, 0, (7, 1)) + rng.uniform(-0.5, 0.5, (7, 1))
    sound[2] = 0
    sound[4, 2000:] = 0
    return sound.astype(np.float32)


def export(encoder):
    """Give a function that runs the exported encoder, and the exported model."""
    graph = GraphBuilder("encoder")
    waveform = graph.add_input("waveform", ("windows", encoder.window_samples))
    embeddings, logits = add_encoder(graph, encoder, waveform, logits=bool(encoder.logits_width))
    graph.add_output("embeddings", embeddings, ("windows", encoder.card.dim))
    if logits is not None:
        graph.add_output("logits", logits, ("windows", encoder.logits_width))
    model = graph.build({})
    onnx.checker.check_model(model, full_check=True)
    session = start_bytes(model.SerializeToString())
    return lambda sound: session.run(None, {"waveform": sound}), model


def assert_same(chosen, windows, atol=2e-5, **settings):
    """Compare the exported encoder with the encoder, for several windows and for one; gives what both gave."""
    encoder = load_encoder(chosen, logits=True, **settings)
    run, _ = export(encoder)
    expected = encoder.encode_with_logits(windows)
    for count in (len(windows), 1):
        for ours, theirs in zip(run(windows[:count]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs[:count], atol=atol)
    return run(windows)


@pytest.fixture
def card(tmp_path):
    NETWORK.write(tmp_path / "own.onnx")
    return lambda **changes: own_card(tmp_path, **changes)


@pytest.mark.parametrize("frame", [5.0, 2.0, 3.0, 7.0, 0])
@pytest.mark.parametrize("level", ["none", "peak", "centred-peak"])
def test_frames_at_their_level(card, windows, frame, level):
    chosen = card(frame_seconds=frame, level=level, level_peak=0.0 if level == "none" else 0.25)
    embeddings, logits = assert_same(chosen, windows)
    starts = {2.0: [0, 1500, 3000], 3.0: [0, 2000]}.get(frame, [0])
    frames = set_level(cut_frames(windows, starts, round((frame or 5) * RATE)), level, 0.25)
    np.testing.assert_allclose(embeddings, NETWORK.embed(frames).reshape(7, len(starts), -1).mean(axis=1), atol=2e-5)
    np.testing.assert_allclose(logits, NETWORK.logits(frames).reshape(7, len(starts), -1).max(axis=1), atol=5e-5)


def test_what_is_too_short_for_the_network_is_padded(card, windows):
    short = np.ascontiguousarray(windows[:, :300])
    embeddings, _ = assert_same(card(frame_seconds=0, shortest_seconds=1.0), short, window=0.3)
    np.testing.assert_allclose(embeddings, NETWORK.embed(np.pad(short, ((0, 0), (0, 700)))), atol=2e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+max", "whole"])
@pytest.mark.parametrize(
    "tensors", [{"embedding": "steps"}, {"embedding": "turned", "embedding_axis": 1}, {"embedding_axis": 1}], ids=str
)
def test_pooling_goes_over_frames_and_over_the_network_s_own_steps(card, windows, pooling, tensors):
    embeddings, _ = assert_same(card(frame_seconds=2.5, tensors=tensors), windows, pooling=pooling)
    if "embedding" in tensors and pooling != "whole":
        rows = np.concatenate([NETWORK.steps(part) for part in np.hsplit(windows, 2)], axis=1)
        np.testing.assert_allclose(embeddings, pool_rows(rows, pooling), atol=2e-5)


@pytest.mark.parametrize(
    "tensors",
    [
        {"logits": "framewise", "scale": 0.97, "shift": -10.0},
        {"logits": "framewise", "scale": -1.0},
        {"logits": "probability", "values": "probabilities"},
        {"logits": "probability", "values": "probabilities", "scale": 0.5, "shift": 1.0},
        {"logits": "embedding", "values": "probabilities"},  # of no sigmoid, and the embedding too
    ],
    ids=str,
)
def test_logits_are_the_largest_of_frames_and_steps(card, windows, tensors):
    classes = 8 if tensors["logits"] == "embedding" else 5
    assert_same(card(frame_seconds=2.5, classes=classes, tensors=tensors), windows, atol=1e-4)


def test_improbable_classes_keep_their_exact_logits(tmp_path, windows):
    # ONNX Runtime's sigmoid is off by a tenth at 1e-6, and gives 0 further down.
    rare = Network(NETWORK.weights, -8 * np.abs(NETWORK.classifier))
    rare.write(tmp_path / "own.onnx")
    encoder = load_encoder(
        own_card(tmp_path, frame_seconds=5.0, tensors={"logits": "probability", "values": "probabilities"}), logits=True
    )
    loud = windows * np.float32(5)
    (_, logits), expected = export(encoder)[0](loud), np.maximum(rare.logits(loud), np.log(1e-7 / (1 - 1e-7)))
    assert (expected < -12).any()
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    np.testing.assert_allclose(logits, encoder.encode_with_logits(loud)[1], atol=1e-3)


FORMS = {
    "channel": {"layout": "channel", "samples": 2500},
    "single": {"layout": "single"},
    "batch of 1": {"batch": 1, "samples": 2500},
    "batch of 4": {"batch": 4, "samples": 2500},
    "channel, batch of 3": {"batch": 3, "samples": 2500, "layout": "channel"},
    "one at a time by the card": {"fixed": 1, "samples": 2500},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("embedding", ["embedding", "turned"])
def test_network_hears_frames_in_its_own_way(tmp_path, windows, form, embedding):
    layout, form = FORMS[form].get("layout", "batch"), FORMS[form]
    NETWORK.write(tmp_path / "own.onnx", **form)
    tensors = {"layout": layout, "embedding": embedding, "embedding_axis": 1 if embedding == "turned" else -1}
    tensors |= {"at_once": 1} if "fixed" in form else {}
    chosen = own_card(tmp_path, frame_seconds=2.5, tensors=tensors)
    embeddings, logits = assert_same(chosen, windows)  # 14 frames, which neither 3 nor 4 divide
    parts = np.hsplit(windows, 2)
    np.testing.assert_allclose(embeddings, np.mean([NETWORK.embed(part) for part in parts], axis=0), atol=2e-5)
    np.testing.assert_allclose(logits, np.max([NETWORK.logits(part) for part in parts], axis=0), atol=5e-5)


@pytest.mark.parametrize("logits", [True, False])
def test_only_what_leads_to_the_outputs_is_in_the_graph(card, logits):
    _, model = export(load_encoder(card(), logits=logits))
    classifier = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [8, 5]]
    assert len(classifier) == logits
    assert not [node for node in model.graph.node if node.op_type == "Sigmoid"]


def write_variant(path, change, **form):
    """Write the network after a change of its model, whose result is the same."""
    model = NETWORK.build(**form)
    changed = change(model) or model
    path.write_bytes(changed.SerializeToString())


def with_opset(version):
    if version > OPSET:
        return lambda model: onnx.version_converter.convert_version(model, version)

    def lower(model):  # which changes none of its operations
        model.opset_import[0].version = version

    return lower


def with_old_opset(model):
    """As torch.onnx.export wrote for years: opset 9, and format 3, in which tensors are inputs too."""
    model.opset_import[0].version, model.ir_version = 9, 3
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def with_branches(model):
    """An If around the first product, whose branches read values around them; names that are ours, too."""
    (product, *_) = [node for node in model.graph.node if node.op_type == "MatMul"]
    kind = onnx.TensorProto.FLOAT
    branches = []
    for name in ("yes", "no"):
        inner = onnx.helper.make_node("MatMul", list(product.input), [f"{name}_product"])
        result = onnx.helper.make_tensor_value_info(f"{name}_product", kind, None)
        branches.append(onnx.helper.make_graph([inner], name, [], [result]))
    chosen = onnx.helper.make_node(
        "If", ["choice"], list(product.output), then_branch=branches[0], else_branch=branches[1]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "choice"))
    place = list(model.graph.node).index(product)
    model.graph.node.remove(product)
    model.graph.node.insert(place, chosen)


def with_other_name_of_the_domain(model):
    model.opset_import[0].domain = "ai.onnx"
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 2))  # as tf2onnx does, though nothing uses it


VARIANTS = {
    "opset 9, tensors as inputs": with_old_opset,
    **{f"opset {version}": with_opset(version) for version in (13, 15, 18, 21)},
    "branches": with_branches,
    "domain by its other name": with_other_name_of_the_domain,
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", ["batch", "single"])
def test_file_of_any_make(tmp_path, windows, variant, layout):
    write_variant(tmp_path / "own.onnx", VARIANTS[variant], layout=layout)
    chosen = own_card(
        tmp_path, frame_seconds=2.5, level="centred-peak", level_peak=0.25, tensors={"layout": layout, "scale": 0.97}
    )
    assert_same(chosen, windows)


def test_tensors_beside_the_file(tmp_path, windows):
    onnx.save(NETWORK.build(), tmp_path / "own.onnx", save_as_external_data=True, location="own.data", size_threshold=0)
    embeddings, _ = assert_same(own_card(tmp_path, weights={"also": ["own.data"]}, frame_seconds=5.0), windows)
    np.testing.assert_allclose(embeddings, NETWORK.embed(windows), atol=2e-5)


def test_network_of_half_precision(tmp_path, windows):
    NETWORK.write_halved(tmp_path / "own.onnx", np.float16, samples=5000)
    assert_same(own_card(tmp_path, frame_seconds=5.0), windows, atol=5e-3)  # half precision has 11 bits
