"""Checkpoints of PANNs: those with code in them, cut short, of another kind or of another network are refused."""

import os
import pickle

import numpy as np
import pytest
from card_files import write_card
from panns_checkpoints import PUBLISHED, SMALL, make_tensors, make_windows, write_checkpoint

from birdemb.embed.encoder import load_encoder
from birdemb.errors import InputError

pytestmark = pytest.mark.slow  # torch alone takes seconds to import


class Code:
    def __reduce__(self):
        return (os.mkdir, ("made-by-a-pickle",))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_with_code_in_it_is_refused(tmp_path, zipped):
    write_checkpoint(tmp_path / "weights.pth", "MobileNetV2", zipped=zipped, sampler=Code())
    with pytest.raises(InputError, match=r"weights.pth is refused: it names \w+.mkdir, .* could run code"):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_numbers_of_numpy_beside_the_tensors_are_read(panns_card):
    """Those of a zipped checkpoint are read where test_panns.py converts one anew."""
    card = panns_card(SMALL)
    assert b"numpy" in (card.parent / "weights.pth").read_bytes()
    np.testing.assert_allclose(
        load_encoder(str(card)).encode(make_windows())[:, :6], PUBLISHED["MobileNetV2"], atol=1e-4
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 1000, 0.5, -10])
def test_checkpoint_that_was_cut_short_is_refused(tmp_path, kept, zipped):
    write_checkpoint(tmp_path / "whole.pth", "MobileNetV2", zipped=zipped)
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
    with pytest.raises(InputError, match=r"weights.pth is no whole checkpoint of PyTorch\. It was cut short"):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))
    assert not (tmp_path / "own-openvino").exists()


@pytest.mark.parametrize("content", [b"<html>Not found</html>", pickle.dumps({"a": 1}), b"\x80\x02" + bytes(100)])
def test_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"weights.pth is no "):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))


@pytest.mark.parametrize("content", [[1], {"iteration": 1}, {"model": 5}, {"model": {"a": 1}}])
def test_checkpoint_of_another_form_is_refused(tmp_path, content):
    import torch

    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights.pth is no checkpoint of PANNs: it has no table 'model' of tensors"):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))


def test_checkpoint_of_another_network_is_refused_with_the_first_tensor(tmp_path):
    write_checkpoint(tmp_path / "weights.pth", "MobileNetV1")
    sentence = (
        r"no checkpoint of MobileNetV2, the network of own: it lacks features.1.conv.0.weight and 305 more; it has in "
        r"excess features.1.0.weight and 155 more; it has fc1.weight of shape \(1024, 1024\) instead of \(1024, 1280\)"
    )
    with pytest.raises(InputError, match=sentence):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))


def test_checkpoint_with_another_fourier_transform_is_refused(tmp_path):
    import torch

    tensors = {name: torch.from_numpy(np.asarray(tensor)) for name, tensor in make_tensors("MobileNetV2").items()}
    tensors["spectrogram_extractor.stft.conv_imag.weight"] *= 2
    torch.save({"model": tensors}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights.pth gives something else than in torch .* Nothing was written"):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))
    assert not (tmp_path / "own-openvino").exists()
