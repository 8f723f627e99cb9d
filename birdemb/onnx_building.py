"""ONNX graphs, one node after the other: what the encoders' and the heads' translations have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import MissingDependencyError

if TYPE_CHECKING:
    import onnx

__all__ = ["ML_DOMAIN", "OPSET", "GraphBuilder", "import_optional"]

OPSET = 17
"""Of the operators: old enough for ONNX Runtime 1.17 and most other engines."""

ML_DOMAIN = "ai.onnx.ml"
"""Of the operators for trees."""

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
        output = f"{operation.lower()}_{len(self._nodes)}"
        self._nodes.append(
            self._helper.make_node(operation, list(inputs), [output], name=output, domain=domain, **attributes)
        )
        return output

    def build(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Make a model of all that was added.

        Parameters
        ----------
        metadata : mapping
            What is to be known of the model, as text.

        Returns
        -------
        onnx.ModelProto
        """
        graph = self._helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._tensors)
        uses_trees = any(node.domain == ML_DOMAIN for node in self._nodes)
        domains = {"": OPSET} | ({ML_DOMAIN: _ML_OPSET} if uses_trees else {})
        model: onnx.ModelProto = self._helper.make_model(
            graph,
            opset_imports=[self._helper.make_opsetid(domain, opset) for domain, opset in domains.items()],
            ir_version=_FILE_FORMAT,
            producer_name="birdemb",
        )
        self._helper.set_model_props(model, dict(metadata))
        return model

    def _describe(self, name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
        info: onnx.ValueInfoProto = self._helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, list(shape))
        return info
