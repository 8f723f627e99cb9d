"""An ONNX file's own graph as a part of a larger one: what is wanted of it, under names that nothing else has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birdemb.errors import InputError
from birdemb.onnx_building import LOWEST_OPSET, import_optional

if TYPE_CHECKING:
    import onnx

__all__ = ["bypass_sigmoid", "keep_outputs", "raise_opset", "read_onnx_model", "rename_with_prefix"]

_OWN_DOMAINS = ("", "ai.onnx")  # two names of the same
_TENSORS_ARE_NO_INPUTS = 4  # the version of the file's format since which they need not be
_MOVING_ONLY = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def read_onnx_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, and the tensors that it keeps in files beside it.

    Parameters
    ----------
    path : Path
        Which files it draws on has to be checked already, as `birdemb.embed.openvino_models.read_model` does.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    InputError
        If it cannot be read.
    """
    package = import_optional("onnx")
    decode_error = import_optional("google.protobuf.message").DecodeError
    try:
        model: onnx.ModelProto = package.load(path)
    except (decode_error, package.checker.ValidationError, OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read by onnx {package.__version__}: {error}. Save it again with all its tensors inside, "
            "or export the heads alone with --heads-only."
        ) from error
    return model


def keep_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Leave out of a model whatever does not lead from its one input to these outputs.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    outputs : sequence of str
        Names of some of its outputs, in the order that they are to have.
    """
    graph, needed = model.graph, set(outputs)
    for index in reversed(range(len(graph.node))):  # sorted, so that whoever reads a value stands behind its maker
        if needed.isdisjoint(graph.node[index].output):
            del graph.node[index]
        else:
            needed.update(_names_read(graph.node[index]))
    # In older files tensors stand among the inputs, too.
    constant = {tensor.name for tensor in graph.initializer}
    results = {entry.name: entry for entry in graph.output}
    kept = [entry for entry in graph.input if entry.name not in constant], [results[name] for name in outputs]
    for entries, wanted in zip((graph.input, graph.output), kept, strict=True):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in wanted]
        del entries[:]
        entries.extend(copies)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    # What is known of values in between may disagree with what they are in the larger graph.
    del graph.value_info[:], graph.quantization_annotation[:]
    model.ir_version = max(model.ir_version, _TENSORS_ARE_NO_INPUTS)
    _keep_used_domains(model)


def _keep_used_domains(model: onnx.ModelProto) -> None:
    """Ask for no operations that nothing uses: of other domains, whose versions might be at odds with the heads'."""
    used = {node.domain for node in _walk(model.graph.node)}
    for function in model.functions:
        used |= {function.domain, *(node.domain for node in _walk(function.node))}
    used = {"" if domain in _OWN_DOMAINS else domain for domain in used | {""}}
    versions = {"" if entry.domain in _OWN_DOMAINS else entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    for domain in sorted(used & versions.keys()):
        model.opset_import.add(domain=domain, version=versions[domain])


def bypass_sigmoid(model: onnx.ModelProto, output: str, others: Collection[str]) -> bool:
    """Let an output be the logits that its probabilities were made of, where a sigmoid alone made them.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    output : str
        Name of the probabilities.
    others : collection of str
        Outputs that must not change.

    Returns
    -------
    bool
        Whether it could be done. Behind the sigmoid there may be what only moves values.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in _names_read(node))
    name, expected = output, 0  # readers that lead to the output
    while (node := makers.get(name)) is not None and node.domain in _OWN_DOMAINS:
        if readers[name] != expected or name in others:
            return False
        if node.op_type == "Sigmoid":
            node.op_type = "Identity"
            return True
        if node.op_type not in _MOVING_ONLY:
            return False
        name, expected = node.input[0], 1
    return False


def raise_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Bring a model to the oldest opset that a graph of birdemb's can have, if it has an older one.

    Parameters
    ----------
    model : onnx.ModelProto
    path : Path
        Where it comes from.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    InputError
        If onnx does not know how.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("", 0) >= LOWEST_OPSET:
        return model
    converter = import_optional("onnx.version_converter")
    try:
        raised: onnx.ModelProto = converter.convert_version(model, LOWEST_OPSET)
    except (converter.ConvertError, RuntimeError) as error:
        raise InputError(
            f"{path} has opset {versions.get('', 'of none')}, which onnx cannot raise to {LOWEST_OPSET} ({error}). "
            f"Write it again with opset {LOWEST_OPSET} or later, or export the heads alone with --heads-only."
        ) from error
    return raised


def rename_with_prefix(graph: onnx.GraphProto, prefix: str) -> None:
    """Put a prefix before all names in a graph and its subgraphs, which change nothing of what it gives.

    `onnx.compose.add_prefix` leaves subgraphs to name tensors of the graph around them as before.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place.
    prefix : str
    """
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.name = prefix + entry.name
    for node in graph.node:
        # An empty name is an absent one.
        node.name = prefix + node.name if node.name else ""
        for names in (node.input, node.output):
            names[:] = [prefix + name if name else "" for name in names]
        for subgraph in _subgraphs(node):
            rename_with_prefix(subgraph, prefix)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _walk(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Give nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for subgraph in _subgraphs(node):
            yield from _walk(subgraph.node)


def _names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Give the names of the values that a node needs, with all that its subgraphs read: theirs and those around."""
    yield from node.input
    for subgraph in _subgraphs(node):
        yield from (entry.name for entry in subgraph.output)
        for inner in subgraph.node:
            yield from _names_read(inner)
