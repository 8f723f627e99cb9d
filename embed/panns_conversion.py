"""Checkpoints of PANNs: read by torch, and converted to OpenVINO."""

from __future__ import annotations

import pickle
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from birdemb.embed.card import Card
from birdemb.embed.converted import FRONT_END_FILE, TRUNK_FILE, write_record
from birdemb.embed.panns import EMBEDDING, LOGITS, SAMPLE_RATE, name_network
from birdemb.embed.weights import FoundWeights
from birdemb.errors import InputError, MissingDependencyError
from birdemb.storage import replace_folder_atomically

__all__ = ["convert_checkpoint"]

_EXAMPLE_SECONDS = 1
_LARGEST_DIFFERENCE = 1e-3
"""Between torch's and OpenVINO's outputs, relative to the largest value: float32 sums in another order give 1e-6."""

_PACKAGES = ("openvino", "panns-inference", "torch", "torchlibrosa")


def convert_checkpoint(card: Card, checkpoint: FoundWeights, folder: Path) -> None:
    """Convert the network in a checkpoint to OpenVINO, for windows of any length.

    Parameters
    ----------
    card : Card
    checkpoint : FoundWeights
        A dict saved by torch, with the network's tensors under ``"model"``, as PANNs' authors publish it.
    folder : Path
        Where the converted network is written, whole or not at all.

    Raises
    ------
    MissingDependencyError
        If torch or panns-inference is not installed.
    InputError
        If the checkpoint is damaged, holds another network, or could run code when it is read; or if the converted
        network does not give what the checkpoint's gives.
    """
    try:
        import torch

        from birdemb.embed.panns_networks import make_network
    except ImportError as error:
        raise MissingDependencyError(
            f"PyTorch, which is needed once to convert {checkpoint.path}, the checkpoint of {card.name}, is not "
            f"installed ({error}). Run: pip install 'birdemb[torch]'"
        ) from error
    network = make_network(name_network(card))
    _load_tensors(network, _read_checkpoint(checkpoint.path, card), checkpoint.path, card)
    samples = torch.from_numpy(_make_noise())
    with torch.no_grad():
        wanted = network(samples)
        front_end = torch.nn.Sequential(network.spectrogram_extractor, network.logmel_extractor)
        mels = front_end(samples)
        # Outputs are compared below, of what was converted; to do so of what was traced would take three times as long.
        traced = torch.jit.trace(front_end, samples, check_trace=False)
        models = {FRONT_END_FILE: ov.convert_model(traced, input=[-1, -1])}
        traced = torch.jit.trace(_cut_trunk(network), mels, check_trace=False)
        models[TRUNK_FILE] = ov.convert_model(traced, input=[-1, 1, -1, mels.shape[3]])
    for port, name in zip(models[TRUNK_FILE].outputs, (EMBEDDING, LOGITS), strict=True):
        port.get_tensor().set_names({name})
    difference = _compare(models, samples.numpy(), {key: value.numpy() for key, value in wanted.items()})
    if difference > _LARGEST_DIFFERENCE:
        raise InputError(
            f"OpenVINO {ov.__version__} computes {card.name} otherwise than torch {torch.__version__}: outputs differ "
            f"by {difference:.2g} of the largest, expected {_LARGEST_DIFFERENCE:g} at the most. Nothing was written; "
            "install other versions of either."
        )
    with replace_folder_atomically(folder) as temporary:
        for file, model in models.items():
            ov.save_model(model, temporary / file, compress_to_fp16=False)
        facts = {
            "encoder": card.name,
            "network": name_network(card),
            "weights": checkpoint.path.name,
            "licence": card.licence,
            "largest_difference": difference,
            "versions": {package: version(package) for package in _PACKAGES},
        }
        write_record(temporary, checkpoint.sha256, facts)


def _make_noise() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Give two frames of noise, one of them loud in its second half."""
    noise = np.random.default_rng(0).normal(0, 0.05, (2, _EXAMPLE_SECONDS * SAMPLE_RATE)).astype(np.float32)
    noise[1, noise.shape[1] // 2 :] *= 10
    return noise


def _read_checkpoint(path: Path, card: Card) -> dict[str, Any]:
    """Read the tensors in a checkpoint, by their names. Nothing in it is ever run."""
    import torch

    advice = f"Delete it and get {card.name}'s weights again."
    try:
        with torch.serialization.safe_globals(_list_types_of_numpy()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        code = re.search(r"GLOBAL (\w+(?:\.\w+)+)", str(error))
        if code is not None:
            raise InputError(
                f"{path} is refused: it names {code[1]}, and reading that could run code. Expected a checkpoint that "
                f"holds nothing but numbers. {advice}"
            ) from error
        raise InputError(
            f"{path} is no whole checkpoint of PyTorch. It was cut short or is another file. {advice}"
        ) from error
    tensors = content.get("model") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise InputError(
            f"{path} is no checkpoint of PANNs: it has no table 'model' of tensors, as their authors' have. {advice}"
        )
    return tensors


def _list_types_of_numpy() -> list[Any]:
    """List what stands for NumPy's numbers in a pickle: training may have left some beside the network's tensors."""
    # Taken from what NumPy pickles, as they are private; under NumPy 1's names too, which are those in older files.
    rebuilders: list[Any] = [value.__reduce__()[0] for value in (np.zeros(0), np.float64(0))]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    rebuilt = [(rebuild, f"{module}.{rebuild.__name__}") for rebuild in rebuilders for module in modules]
    return [*rebuilt, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}]


def _load_tensors(network: Any, tensors: dict[str, Any], path: Path, card: Card) -> None:  # noqa: ANN401 - a torch.nn.Module
    expected = network.state_dict()
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} of shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    found = [
        f"{what} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for what, names in (("lacks", missing), ("has in excess", unknown), ("has", shapes))
        if names
    ]
    if found:
        raise InputError(
            f"{path} is no checkpoint of {name_network(card)}, the network of {card.name}: it {'; it '.join(found)}. "
            "Give the weights that the card is about, or correct tensors.call in the card."
        )
    network.load_state_dict(tensors, strict=True)


def _cut_trunk(network: Any) -> Any:  # noqa: ANN401 - torch.nn.Modules
    """Give what of a network comes after the log-mels; the network itself is used up."""
    import torch

    class Trunk(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, mels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            embedding = self.network(mels)["embedding"]
            # The probabilities' own logits: made of the probabilities they would lose digits at both ends.
            return embedding, self.network.fc_audioset(embedding)

    network.spectrogram_extractor = network.logmel_extractor = torch.nn.Identity()
    return Trunk().eval()


def _compare(models: dict[str, Any], samples: Any, wanted: dict[str, Any]) -> float:  # noqa: ANN401 - an array
    """Give by how much converted outputs differ from torch's, relative to the largest of each."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    front_end, trunk = (ov.Core().compile_model(models[file], "CPU", settings) for file in (FRONT_END_FILE, TRUNK_FILE))
    embeddings, logits = trunk(front_end(samples)[0]).to_tuple()
    got = {"embedding": embeddings, "clipwise_output": 1 / (1 + np.exp(-logits))}
    return max(float(np.abs(got[key] - value).max() / np.abs(value).max()) for key, value in wanted.items())
