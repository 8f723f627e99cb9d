"""Which of OpenVINO's convolution kernels are asked for, where those that it takes by itself are not the fastest.

On processors with AVX2 and without AVX-512, OpenVINO 2026.4 takes oneDNN's ``brgconv`` kernels. The older direct ones
are faster by a twentieth on BirdNET's trunk. There is no setting for that but an attribute of single layers in
OpenVINO's own format.
"""

from __future__ import annotations

from functools import cache
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from birdemb.embed.openvino_models import compile_model

__all__ = ["ask_for_kernels", "name_own_kernel", "takes_slower_kernels"]

_TAKEN = "brgconv_avx2"
_ASKED_FOR = {"Convolution": "jit_avx2_1x1", "GroupConvolution": "jit_avx2_dw"}


@cache
def name_own_kernel() -> str:
    """Name the kernel that OpenVINO takes by itself on this processor, by what it does with a small network."""
    given = ops.parameter([1, 16, 8, 8], np.float32)
    weights = ops.constant(np.ones((16, 16, 1, 1), np.float32))
    small = ov.Model([ops.convolution(given, weights, [1, 1], [0, 0], [0, 0], [1, 1])], [given], "small")
    nodes = compile_model(small, "f32").get_runtime_model().get_ops()
    layers = [node.get_rt_info() for node in nodes]
    kernels = [str(layer["primitiveType"].value) for layer in layers if layer["layerType"].value == "Convolution"]
    return kernels[0] if kernels else ""


def takes_slower_kernels() -> bool:
    """Tell whether OpenVINO by itself takes slower kernels on this processor than could be asked for."""
    return name_own_kernel().startswith(_TAKEN)


def ask_for_kernels(graph: bytes) -> bytes:
    """Ask for the faster kernels in a graph, for processors on which they are not taken anyway.

    Parameters
    ----------
    graph : bytes
        The ``.xml`` of OpenVINO's own format, as OpenVINO wrote it.

    Returns
    -------
    bytes
        The same with an attribute in each convolution that has such a kernel: a 1x1 one over more than one place, or
        one of each channel by itself. OpenVINO's own choice stands as the second.
    """
    root = ElementTree.fromstring(graph)  # noqa: S314 - made by this project
    for layer in root.iterfind("layers/layer"):
        kind, data = layer.get("type", ""), layer.find("data")
        if data is not None and kind in _ASKED_FOR and (kind == "GroupConvolution" or _is_pointwise(layer)):
            asked_for = _ASKED_FOR[kind]
            own = asked_for.replace("jit_avx2", _TAKEN)
            data.set("PrimitivesPriority", f"cpu:{asked_for},cpu:{own}")
    return ElementTree.tostring(root)


def _is_pointwise(layer: ElementTree.Element) -> bool:
    kernel, output = (
        [int(size.text or 0) for size in layer.findall(path)][-2:]
        for path in ("input/port[@id='1']/dim", "output/port/dim")
    )
    return kernel == [1, 1] and output != [1, 1]
