"""TorchScript files: traced and scripted networks, and what is none."""

import pickle
import sys

import numpy as np
import pytest
from onnx_networks import NETWORK, STEP
from torch_networks import Channel, Named, NamedPair, Pair, Pooled, Single, Steps, torch, torch_card

from birdemb.embed.encoder import load_encoder
from birdemb.errors import InputError, MissingDependencyError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture
def windows():
    return np.random.default_rng(4).normal(0, 0.3, (6, 5000)).astype(np.float32)


def assert_is_the_network(card, windows, logits=True):
    encoder = load_encoder(card, logits=logits)
    frames = windows.reshape(-1, 5, 1000)
    expected = np.mean([NETWORK.embed(frames[:, i]) for i in range(5)], axis=0)
    np.testing.assert_allclose(encoder.encode(windows), expected, atol=2e-5)
    if logits:
        expected = np.max([NETWORK.logits(frames[:, i]) for i in range(5)], axis=0)
        np.testing.assert_allclose(encoder.encode_with_logits(windows)[1], expected, atol=5e-5)


@pytest.mark.parametrize(
    ("module", "tensors"),
    [
        (Pair, {"embedding": "1", "logits": "0"}),
        (Named, {}),
        (NamedPair, {}),
        (NamedPair, {"embedding": "1", "logits": "0"}),
        (Channel, {"embedding": "1", "logits": "0", "layout": "channel"}),
        (Single, {"embedding": "1", "logits": "0", "layout": "single"}),
    ],
)
def test_scripted_networks(tmp_path, windows, module, tensors):
    torch.jit.save(torch.jit.script(module()), tmp_path / "own.pt")  # in training, as it may have been left
    assert_is_the_network(torch_card(tmp_path, tensors=tensors), windows)


def test_traced_network_with_one_output_of_steps(tmp_path, windows):
    traced = torch.jit.trace(Steps().eval(), torch.zeros(2, 1000))
    torch.jit.save(traced, tmp_path / "own.pt")
    card = torch_card(tmp_path, tensors={"embedding": "", "logits": ""})
    assert_is_the_network(card, windows, logits=False)
    largest = load_encoder(card, pooling="max").encode(windows)
    np.testing.assert_allclose(largest, NETWORK.steps(windows).max(axis=1), atol=2e-5)


def test_half_precision_comes_out_as_float32(tmp_path, windows):
    class Half(torch.nn.Module):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return waveform[:, :8].half()

    torch.jit.save(torch.jit.script(Half()), tmp_path / "own.pt")
    rows = load_encoder(torch_card(tmp_path, tensors={"embedding": "", "logits": ""}), window=1.0).encode(
        np.ascontiguousarray(windows[:, :1000])
    )
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, windows[:, :8].astype(np.float16))


def test_network_that_writes_into_its_input_changes_no_window(tmp_path, windows):
    class Writes(torch.nn.Module):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            waveform.mul_(2)
            return waveform[:, :8]

    torch.jit.save(torch.jit.script(Writes()), tmp_path / "own.pt")
    encoder = load_encoder(torch_card(tmp_path, tensors={"embedding": "", "logits": ""}), window=1.0)
    given = np.ascontiguousarray(windows[:, :1000])
    before = given.copy()
    np.testing.assert_array_equal(encoder.encode(given), 2 * before[:, :8])
    np.testing.assert_array_equal(given, before)


def test_one_thread_and_the_setting_as_it_was(tmp_path, windows, monkeypatch):
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "own.pt")
    encoder = load_encoder(torch_card(tmp_path, tensors={"embedding": "", "logits": ""}), window=1.0)
    before, really, asked = torch.get_num_threads(), torch.set_num_threads, []
    monkeypatch.setattr(torch, "set_num_threads", lambda count: (asked.append(count), really(count)))
    encoder.encode(np.ascontiguousarray(windows[:1, :1000]))
    assert asked == [1, before] * 2  # a silent frame goes first, to see whether the card is right
    assert torch.get_num_threads() == before


def refusal(card, **settings):
    with pytest.raises(InputError) as caught:
        load_encoder(card, **settings).prepare()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_outputs_are_named(tmp_path):
    torch.jit.save(torch.jit.script(Named()), tmp_path / "own.pt")
    assert "gives no tensor 'emb', which its card asks for. It gives: label [4, 5], embedding [4, 8]." in refusal(
        torch_card(tmp_path, tensors={"embedding": "emb"})
    )
    assert "gives no tensor ''" in refusal(torch_card(tmp_path, tensors={"embedding": ""}))
    assert "expected a width of 8" in refusal(torch_card(tmp_path, tensors={"embedding": "label"}))


def test_input_that_the_network_cannot_hear(tmp_path):
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "own.pt")
    said = refusal(torch_card(tmp_path, frame_seconds=1.05, tensors={"embedding": "", "logits": ""}))
    assert 'cannot hear input of shape (4, 1050): layout "batch", 1.05 s at 1,000 Hz' in said
    assert STEP == 100  # as in the modules above, which cannot read it


def test_network_traced_for_one_frame_is_told_apart(tmp_path, windows):
    class Fixed(Steps):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return (waveform.reshape(1, 10, 100) @ self.weights).abs()

    torch.jit.save(torch.jit.trace(Fixed().eval(), torch.zeros(1, 1000)), tmp_path / "own.pt")
    tensors = {"embedding": "", "logits": ""}
    with pytest.raises(InputError, match=r"cannot hear input of shape \(4, 1000\).* tensors\.at_once = 1"):
        load_encoder(torch_card(tmp_path, tensors=tensors)).encode(windows)
    assert_is_the_network(torch_card(tmp_path, tensors=tensors | {"at_once": 1}), windows, logits=False)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (exec, ("open('unpickled', 'w').close()",))


@pytest.mark.parametrize("what", [Pooled(), Pooled().state_dict(), Bomb(), {"state_dict": {}}], ids=type)
def test_pickles_are_refused_unread(tmp_path, what):
    torch.save(what, tmp_path / "own.pt")
    said = refusal(torch_card(tmp_path))
    assert "is no TorchScript file but a pickled module, a state_dict or an exported program" in said
    assert "torch.jit.save(torch.jit.trace(network, example), path)" in said
    assert not (tmp_path / "unpickled").exists()


def test_old_pickles_and_broken_files_are_refused_unread(tmp_path):
    (tmp_path / "own.pt").write_bytes(pickle.dumps(Bomb()))
    assert "is no whole TorchScript file (File is not a zip file)" in refusal(torch_card(tmp_path))
    assert not (tmp_path / "unpickled").exists()
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "own.pt")
    content = (tmp_path / "own.pt").read_bytes()
    for size in (0, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "own.pt").write_bytes(content[:size])
        assert "own.pt" in refusal(torch_card(tmp_path))


@pytest.mark.slow
def test_exported_program_is_refused(tmp_path):
    exported = torch.export.export(Pooled().eval(), (torch.zeros(2, 1000),))
    torch.export.save(exported, tmp_path / "own.pt2")
    (tmp_path / "own.pt2").rename(tmp_path / "own.pt")
    assert "is no TorchScript file but" in refusal(torch_card(tmp_path))


def test_missing_torch_is_one_sentence(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "own.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingDependencyError, match=r"runs own, is not installed\. Run: pip install 'birdemb\[torch\]'"
    ):
        load_encoder(torch_card(tmp_path)).prepare()
