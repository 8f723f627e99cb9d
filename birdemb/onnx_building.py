"""ONNX graphs, one node after the other: what the encoders' and the heads' translations have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import onnx

__all__ = ["LOWEST_OPSET", "ML_DOMAIN", "OPSET", "GraphBuilder", "import_optional"]

OPSET = 17
"""Of the operators: old enough for ONNX Runtime 1.17 and most other engines. A model that is added may have another,
which then holds for all."""

LOWEST_OPSET = 13
"""Since which operations take what is written here as inputs (Squeeze, Unsqueeze, ReduceSum)."""

ML_DOMAIN = "ai.onnx.ml"
"""Of the operators for trees."""

_AXES_AS_INPUT = 18  # the opset since which all reductions take their axes as an input
_REDUCTIONS = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin")
_ML_OPSET = 3
_FILE_FORMAT = 8  # of the file itself; the one that goes with the opset


def import_optional(name: str) -> ModuleType:
    """Import a package of the extra ``onnx``.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "is not installed" if missing else f"cannot be imported ({error})"
        raise MissingDependencyError(
            f"{package}, which exporting to ONNX needs, {reason}. Run: pip install 'birdemb[onnx]'"
        ) from error


class GraphBuilder:
    """Collects the nodes of one graph; every value in it is known by its name.

    Parameters
    ----------
    name : str
        Of the graph.

    Raises
    ------
    MissingDependencyError
        If the package onnx is not installed.

    Examples
    --------
    >>> graph = GraphBuilder("twice")
    >>> half = graph.add_input("half", ("n", 3))
    >>> graph.add_output("whole", graph.add("Add", half, half), ("n", 3))
    >>> [node.op_type for node in graph.build({}).graph.node]
    ['Add', 'Identity']
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._onnx = import_optional("onnx")
        self._helper = import_optional("onnx.helper")
        self._numpy_helper = import_optional("onnx.numpy_helper")
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._model: onnx.ModelProto | None = None
        self._uses_trees = False

    def add_input(self, name: str, shape: Sequence[int | str]) -> str:
        """Add an input of float32; an open size in its shape is a name. Gives the name back."""
        self._inputs.append(self._describe(name, shape))
        return name

    def add_output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        """Make a value of float32 an output, under a name of its own."""
        self._nodes.append(self._helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(self._describe(name, shape))

    def add_constant(self, values: NDArray[Any]) -> str:
        """Add an array, once however often it is asked for. Gives its name."""
        array = np.ascontiguousarray(values).reshape(np.shape(values))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self._tensors.append(self._numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def add_number(self, value: float) -> str:
        """Add a single number of float32. Gives its name."""
        return self.add_constant(np.array(value, np.float32))

    def add_integers(self, *values: int) -> str:
        """Add a list of int64, as shapes and axes are. Gives its name."""
        return self.add_constant(np.array(values, np.int64))

    def add(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 - each operation has its own
        """Add a node with one output.

        Parameters
        ----------
        operation : str
            As ONNX names it.
        *inputs : str
            Names of values.
        domain : str
            Of the operation; by default ONNX's own.
        **attributes
            As ONNX names them.

        Returns
        -------
        str
            Name of its output.
        """
        (output,) = self.add_several(operation, 1, *inputs, domain=domain, **attributes)
        return output

    def add_several(
        self,
        operation: str,
        count: int,
        *inputs: str,
        domain: str = "",
        **attributes: Any,  # noqa: ANN401 - as of `add`
    ) -> list[str]:
        """Add a node with several outputs.

        Parameters
        ----------
        operation : str
            As ONNX names it.
        count : int
            How many outputs it has.
        *inputs, domain, **attributes
            As of `add`.

        Returns
        -------
        list of str
            Names of its outputs, in ONNX's order.
        """
        name = f"{operation.lower()}_{len(self._nodes)}"
        outputs = [name, *(f"{name}_{number}" for number in range(1, count))]
        self._uses_trees |= domain == ML_DOMAIN
        self._nodes.append(
            self._helper.make_node(operation, list(inputs), outputs, name=name, domain=domain, **attributes)
        )
        return outputs

    def add_model(self, model: onnx.ModelProto, value: str, *, one_by_one: bool = False) -> list[str]:
        """Add a model with one input, the only one that can be added: its opset holds for the whole graph.

        Parameters
        ----------
        model : onnx.ModelProto
            All of its names, in subgraphs too, have to be its own. Its opset is `LOWEST_OPSET` or later.
        value : str
            What its input is.
        one_by_one : bool
            Whether it is given the value's entries along the first axis one after the other. What it gives for them
            then lies along a new first axis.

        Returns
        -------
        list of str
            Names of its outputs.
        """
        self._model = model
        (source,), names = model.graph.input, [output.name for output in model.graph.output]
        if one_by_one:
            outputs = [f"{name}_of_all" for name in names]
            node = self._helper.make_node(
                "Scan", [value], outputs, name=f"scan_{len(self._nodes)}", body=model.graph, num_scan_inputs=1
            )
            self._nodes.append(node)
            return outputs
        self._nodes.append(self._helper.make_node("Identity", [value], [source.name], name=source.name))
        self._nodes += model.graph.node
        self._tensors += model.graph.initializer
        return names

    def build(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Make a model of all that was added.

        Parameters
        ----------
        metadata : mapping
            What is to be known of the model, as text.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        InputError
            If what was added needs two versions of the same operations.
        """
        domains, added = {"": OPSET}, self._model
        if added is not None:
            domains |= {entry.domain: entry.version for entry in added.opset_import}
        if self._uses_trees and domains.setdefault(ML_DOMAIN, _ML_OPSET) != _ML_OPSET:
            raise InputError(
                f"The network uses version {domains[ML_DOMAIN]} of the operations of {ML_DOMAIN}, the heads of trees "
                f"version {_ML_OPSET}: one graph has room for one. Export the heads alone with --heads-only, or fit "
                "without --head lgbm."
            )
        graph = self._helper.make_graph(
            [self._with_axes(node, domains[""]) for node in self._nodes],
            self._name,
            self._inputs,
            self._outputs,
            self._tensors,
        )
        model: onnx.ModelProto = self._helper.make_model(
            graph,
            opset_imports=[self._helper.make_opsetid(domain, opset) for domain, opset in domains.items()],
            functions=added.functions if added is not None else [],
            ir_version=max(_FILE_FORMAT, added.ir_version if added is not None else 0),
            producer_name="birdemb",
        )
        self._helper.set_model_props(model, dict(metadata))
        return model

    def _with_axes(self, node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
        """Give a node as an opset wants it, the axes of a reduction as an attribute or as an input."""
        axes = [entry.ints for entry in node.attribute if entry.name == "axes" and node.op_type in _REDUCTIONS]
        if opset < _AXES_AS_INPUT or not axes:
            return node
        changed = self._onnx.NodeProto()
        changed.CopyFrom(node)
        kept = [entry for entry in node.attribute if entry.name != "axes"]
        del changed.attribute[:]
        changed.attribute.extend(kept)
        changed.input.append(self.add_integers(*axes[0]))
        return changed

    def _describe(self, name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
        info: onnx.ValueInfoProto = self._helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, list(shape))
        return info
