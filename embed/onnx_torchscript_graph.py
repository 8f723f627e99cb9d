"""Encoders whose network is a TorchScript file as nodes of an ONNX graph, written by PyTorch's own exporter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from birdemb.embed.onnx_model_calls import add_calls, cut_network
from birdemb.embed.onnx_network_graph import add_network_frames, add_network_results, hear_shapes
from birdemb.embed.torchscript_encoder import TorchScriptEncoder, reason_of
from birdemb.errors import InputError
from birdemb.onnx_building import OPSET, GraphBuilder, import_optional

if TYPE_CHECKING:
    import onnx

__all__ = ["add_torchscript"]

_INPUT, _OUTPUTS = "frames", ("embedding", "logits")


def add_torchscript(
    graph: GraphBuilder, encoder: TorchScriptEncoder, waveform: str, *, logits: bool = False
) -> tuple[str, str | None]:
    """Add an encoder whose network is a TorchScript file to a graph, as `birdemb.embed.onnx_graph.add_encoder` does.

    Where the network hears one frame at a time, so does it in the graph, in a loop.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    InputError
        If the network disagrees with its card, or does what PyTorch cannot write as ONNX.
    """
    shapes = hear_shapes(encoder)  # first, as it refuses what disagrees with the card
    network, is_logit = cut_network(_export(encoder, logits=logits), _OUTPUTS[: 2 if logits else 1], encoder)
    frames = add_network_frames(graph, encoder, waveform)
    names = add_calls(graph, encoder, network, frames, shapes)
    return add_network_results(graph, encoder, names, shapes, is_logit=is_logit)


def _export(encoder: TorchScriptEncoder, *, logits: bool) -> onnx.ModelProto:
    """Let PyTorch write what leads from frames to the embedding and, if they are wanted, the logits."""
    import torch

    tensors = encoder.tensors
    names = [tensors.embedding, *([tensors.logits] if logits else [])]
    outputs = list(_OUTPUTS[: len(names)])

    class Chosen(torch.nn.Module):  # type: ignore[misc]
        """The network, with its outputs in a form that all exporters know: tensors one after the other."""

        def __init__(self) -> None:
            super().__init__()
            self.network = encoder.module

        def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.network(frames)
            return tuple(encoder.find_output(result, name).float() for name in names)

    shape = {"batch": [encoder.frames_at_once], "channel": [encoder.frames_at_once, 1], "single": []}[tensors.layout]
    example = torch.zeros(*shape, encoder.frame_samples)
    written = BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _no_dump():
            # PyTorch means to give TorchScript up some day, and this exporter, the only one that reads it, too.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(Chosen().eval(), example, check_trace=False)
            torch.onnx.export(
                traced,
                (example,),
                written,
                dynamo=False,
                opset_version=OPSET,
                input_names=[_INPUT],
                output_names=outputs,
                dynamic_axes={} if tensors.layout == "single" else {name: {0: "n"} for name in (_INPUT, *outputs)},
            )
    except RuntimeError as error:  # what PyTorch raises
        raise InputError(
            f"PyTorch {torch.__version__} cannot write the network of {encoder.card.name} as ONNX: "
            f"{_reason_of(error)}. Make the network without that, where there is another way, or export the heads "
            "alone with --heads-only."
        ) from error
    model: onnx.ModelProto = import_optional("onnx").load_model_from_string(written.getvalue())
    return model


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keep PyTorch from printing its whole graph where it fails: its option for that is always on (seen in 2.13)."""
    import torch

    name = "_jit_onnx_log"
    kept = getattr(torch._C, name, None)
    if kept is None:
        yield
        return
    setattr(torch._C, name, lambda *_: None)
    try:
        yield
    finally:
        setattr(torch._C, name, kept)


def _reason_of(error: RuntimeError) -> str:
    """Give what is of use to people in a message of the exporter's: what comes before a description of the graph."""
    reason, described, _ = str(error).partition("[Caused by")
    return " ".join(reason.split()) if described else reason_of(error)
