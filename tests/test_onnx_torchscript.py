"""TorchScript networks in ONNX graphs with heads, against birdemb, which runs them in PyTorch."""

import sys

import pytest
from head_data import NAMES as HEADS
from onnx_bundles import assert_gives_what_birdemb_gives, fit, run_export
from torch_networks import Channel, Named, NamedPair, Pair, Pooled, Single, Steps, torch, torch_card

from birdemb.errors import InputError, MissingDependencyError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

BY_NUMBER = {"embedding": "1", "logits": "0"}
ALONE = {"embedding": "", "logits": ""}


class Likely(Pair):
    """Probabilities and embedding."""

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.trunk(waveform)
        return torch.sigmoid(embedding @ self.trunk.classifier), embedding


class Looped(Steps):
    """Steps heard one after the other, for as long as there are some."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(waveform.shape[0], self.weights.shape[1])
        for step in range(waveform.shape[1] // 100):
            total = total + (waveform[:, 100 * step : 100 * step + 100] @ self.weights).abs()
        return total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "tensors"),
    [
        (Pair, BY_NUMBER),
        (Named, {}),
        (NamedPair, {}),
        (Channel, BY_NUMBER | {"layout": "channel"}),
        (Single, BY_NUMBER | {"layout": "single"}),
        (Likely, BY_NUMBER | {"values": "probabilities"}),
        (Steps, ALONE),
        (Looped, ALONE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_scripted_networks(tmp_path, module, tensors):
    torch.jit.save(torch.jit.script(module()), tmp_path / "own.pt")
    card = torch_card(tmp_path, tensors=tensors)
    encoder, bundle = fit(card, tmp_path, kept_logits=tensors != ALONE)
    report = run_export(tmp_path)
    assert (report.encoder, report.licence) == ("own", encoder.card.licence)
    assert report.embedding_difference < 1e-4
    assert_gives_what_birdemb_gives(report, encoder, bundle)


@pytest.mark.slow
def test_all_heads_with_a_traced_network(tmp_path):
    torch.jit.save(torch.jit.trace(Pooled().eval(), torch.zeros(2, 1000)), tmp_path / "own.pt")
    encoder, bundle = fit(torch_card(tmp_path, tensors=ALONE), tmp_path, heads=HEADS)
    assert_gives_what_birdemb_gives(run_export(tmp_path), encoder, bundle)


def test_network_traced_for_one_frame_hears_one_at_a_time(tmp_path):
    class Fixed(Steps):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return (waveform.reshape(1, 10, 100) @ self.weights).abs()

    torch.jit.save(torch.jit.trace(Fixed().eval(), torch.zeros(1, 1000)), tmp_path / "own.pt")
    encoder, bundle = fit(torch_card(tmp_path, tensors=ALONE | {"at_once": 1}), tmp_path)
    assert_gives_what_birdemb_gives(run_export(tmp_path), encoder, bundle)


class Bessel(torch.nn.Module):
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(waveform[:, :8])


class Spectrum(torch.nn.Module):
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return torch.stft(waveform, 64, 32, window=torch.hann_window(64), return_complex=True).abs()[:, :8].mean(dim=2)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(Bessel, "aten::special_bessel_j0' .* is not supported"), (Spectrum, "STFT does not currently support complex")],
)
def test_operation_without_a_counterpart_is_refused_in_one_sentence(tmp_path, capfd, module, reason):
    torch.jit.save(torch.jit.script(module()), tmp_path / "own.pt")
    fit(torch_card(tmp_path, tensors=ALONE), tmp_path)
    with pytest.raises(InputError, match=rf"^PyTorch .* cannot write the network of own as ONNX: .*{reason}") as caught:
        run_export(tmp_path)
    assert "\n" not in str(caught.value)
    assert "Caused by" not in str(caught.value)
    assert "--heads-only" in str(caught.value)
    assert capfd.readouterr() == ("", "")  # PyTorch prints its whole graph by itself
    assert not (tmp_path / "m.onnx").exists()


def test_missing_torch_is_one_sentence(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "own.pt")
    fit(torch_card(tmp_path, tensors=ALONE), tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"runs own, is not installed\. .*'birdemb\[torch\]'"):
        run_export(tmp_path)
