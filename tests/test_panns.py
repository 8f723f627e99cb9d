"""PANNs: true architectures with random numbers, through the code that a user's weights go through."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import panns_checkpoints
import pytest
from card_files import write_card
from panns_checkpoints import NETWORKS, PUBLISHED, SMALL, list_tensors, make_tensors, make_windows, write_checkpoint
from threadpoolctl import threadpool_limits

from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.panns import name_network
from birdemb.embed.panns_conversion import convert_checkpoint
from birdemb.embed.precision import has_bf16
from birdemb.errors import InputError, MissingDependencyError, MissingWeightsError
from birdemb.locking import hold_lock

pytestmark = pytest.mark.slow  # torch alone takes seconds to import

PARAMETERS = {"Cnn14": 80_753_615, "MobileNetV1": 4_796_303, "MobileNetV2": 4_075_343}
"""As the authors count them: Kong et al. (2020), table XII. The front end is none of them."""


@pytest.fixture
def copied(panns_card, tmp_path):
    """A card whose files a test may spoil: the small network's, converted."""
    shutil.copytree(panns_card(SMALL).parent, tmp_path / "copy")
    return tmp_path / "copy" / "own.toml"


@pytest.fixture
def write_other_card(panns_card, tmp_path):
    """Write cards that say something else of the small network, which is converted already."""
    shutil.copytree(panns_card(SMALL).parent, tmp_path / "other", copy_function=os.link)
    (tmp_path / "other" / "own.toml").unlink()
    return lambda **changes: write_card(tmp_path / "other", SMALL, "weights.pth", **changes)


def run_torch(name, samples):
    """Give what torch gives: Cnn14 from its package, the others from here, which another test compares."""
    import torch

    from birdemb.embed.panns_networks import make_network
    from birdemb.embed.panns_package import import_networks

    network = import_networks().Cnn14(32_000, 1024, 320, 64, 50, 14_000, 527) if name == "Cnn14" else make_network(name)
    network.load_state_dict({key: torch.from_numpy(np.asarray(tensor)) for key, tensor in make_tensors(name).items()})
    with torch.no_grad():
        given = network.eval()(torch.from_numpy(samples))
        return {"logits": network.fc_audioset(given["embedding"]).numpy()} | {k: v.numpy() for k, v in given.items()}


@pytest.mark.parametrize("network", PARAMETERS)
def test_every_tensor_of_the_published_checkpoint_has_its_place(network):
    from birdemb.embed.panns_networks import make_network

    made = make_network(network)
    assert {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()} == list_tensors(network)
    learned = [part.numel() for name, part in made.named_parameters() if name not in panns_checkpoints.FRONT_END]
    assert sum(learned) == PARAMETERS[network]
    assert not any(part.training for part in made.modules())


@pytest.mark.parametrize("network", PUBLISHED)
def test_networks_give_what_the_published_source_gives(network):
    rows = run_torch(network, make_windows())["embedding"]
    np.testing.assert_allclose(rows[:, :6], PUBLISHED[network], atol=1e-4)


# The large network hears little, as it takes torch long.
@pytest.mark.parametrize(
    ("name", "seconds"), [("panns-cnn14", 1.5), ("panns-mobilenetv1", 5.0), ("panns-mobilenetv2", 5.0)]
)
def test_converted_network_agrees_with_torch(panns_card, name, seconds):
    windows = make_windows(seconds)
    encoder = load_encoder(str(panns_card(name)), window=seconds, logits=True)
    rows, logits = encoder.encode_with_logits(windows)
    wanted = run_torch(NETWORKS[name], windows)
    np.testing.assert_allclose(rows, wanted["embedding"], atol=1e-4)
    np.testing.assert_allclose(logits, wanted["logits"], atol=1e-4)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(probabilities, wanted["clipwise_output"], atol=1e-4)


@pytest.mark.parametrize("seconds", [1.0, 3.0, 10.01])
def test_one_conversion_serves_windows_of_any_length(panns_card, seconds):
    windows = make_windows(seconds)
    rows = load_encoder(str(panns_card(SMALL)), window=seconds).encode(windows)
    np.testing.assert_allclose(rows, run_torch(NETWORKS[SMALL], windows)["embedding"], atol=1e-4)


def test_windows_of_less_than_a_second_are_padded(panns_card):
    windows = make_windows(0.25)
    rows = load_encoder(str(panns_card(SMALL)), window=0.25).encode(windows)
    padded = np.pad(windows, ((0, 0), (0, 24_000)))
    np.testing.assert_allclose(rows, run_torch(NETWORKS[SMALL], padded)["embedding"], atol=1e-4)


def test_windows_that_are_too_short_are_refused_where_the_card_does_not_pad_them(write_other_card):
    card = write_other_card(shortest_seconds=0.0)
    with pytest.raises(InputError, match=r"cannot hear windows as short as 0.2 s. Set shortest_seconds = 1.0"):
        load_encoder(str(card), window=0.2).prepare()


def test_bf16_is_near_float32(write_other_card):
    if not has_bf16():
        pytest.skip("no bfloat16 instructions here")
    card = str(write_other_card(precisions=["f32", "bf16"]))
    exact, near = (load_encoder(card, precision=precision).encode(make_windows()) for precision in ("f32", "bf16"))
    cosine = (exact * near).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    assert cosine.min() > 0.99


def test_identity_names_the_checkpoint(panns_card):
    import hashlib

    card = panns_card(SMALL)
    identity = load_encoder(str(card)).identity
    assert identity["weights_sha256"] == hashlib.sha256((card.parent / "weights.pth").read_bytes()).hexdigest()
    assert identity["tensors.call"] == "MobileNetV2"
    record = json.loads((card.parent / "own-openvino" / "conversion.json").read_text())
    assert identity["conversion"] == record["format"] == 1


WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchlibrosa", "panns_inference"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())  # SciPy would stumble over a None in sys.modules
import numpy as np
from threadpoolctl import threadpool_limits
from birdemb.embed.encoder import load_encoder
encoder = load_encoder(sys.argv[1], logits=True)
with threadpool_limits(1):
    rows, logits = encoder.encode_with_logits(np.load(sys.argv[2]))
np.save(sys.argv[3], rows)
print(encoder.weights_sha256)
"""


@pytest.mark.parametrize("place", ["beside the card", "BIRDEMB_MODELS"])
def test_prediction_needs_neither_torch_nor_the_checkpoint(copied, tmp_path, monkeypatch, place):
    encoder = load_encoder(str(copied))
    (copied.parent / "weights.pth").unlink()
    card = copied
    if place == "BIRDEMB_MODELS":
        monkeypatch.setenv(place, str(copied.parent))
        card = copied.rename(tmp_path / "own.toml")
    np.save("windows.npy", make_windows())
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, card, "windows.npy", "rows.npy"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with threadpool_limits(1):  # as in a run: with more threads products come out otherwise in their last digits
        expected = encoder.encode(make_windows())
    np.testing.assert_array_equal(np.load("rows.npy"), expected)
    assert said.strip() == encoder.weights_sha256


def test_without_torch_and_without_a_conversion_the_extra_is_named(panns_card, tmp_path, monkeypatch):
    shutil.copy(panns_card(SMALL).with_name("weights.pth"), tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("panns_networks", "panns_conversion"):
        monkeypatch.delitem(sys.modules, f"birdemb.embed.{module}", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[torch\]'"):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))
    assert not list(tmp_path.glob("own-openvino*"))


def test_without_checkpoint_and_without_a_conversion_ways_to_get_it_are_told(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"put weights.pth beside the card"):
        load_encoder(str(write_card(tmp_path, SMALL, "weights.pth")))


WATCHED = """
import sys
started = []
def watch(event, details):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system")):
        started.append((event, details))
sys.addaudithook(watch)
from birdemb.embed.encoder import load_encoder
load_encoder(sys.argv[1]).prepare()
assert "torch" in sys.modules
assert "panns_inference" not in sys.modules
assert not started, started
"""


def test_conversion_starts_no_process_and_opens_no_socket(panns_card, tmp_path):
    """Importing panns-inference starts wget where the home has no labels of its own, and matplotlib looks for fonts."""
    os.link(panns_card("panns-cnn14").with_name("weights.pth"), tmp_path / "weights.pth")
    card = write_card(tmp_path, "panns-cnn14", "weights.pth")
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, card], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert not (home / "panns_data").exists()


def test_altered_conversion_is_refused(copied):
    tensors = copied.parent / "own-openvino" / "trunk.bin"
    content = bytearray(tensors.read_bytes())
    content[1000] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(InputError, match=r"trunk.bin is not what was written.* Delete the folder .*own-openvino"):
        load_encoder(str(copied))
    tensors.unlink()
    with pytest.raises(InputError, match=r"trunk.bin cannot be read: No such file"):
        load_encoder(str(copied))


@pytest.mark.parametrize("change", [{"format": 2}, {"files": {}}, {"weights_sha256": None}, "[]", "{"])
def test_altered_record_is_refused(copied, change):
    record = copied.parent / "own-openvino" / "conversion.json"
    record.write_text(change if isinstance(change, str) else json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(InputError, match=r"conversion.json (does not describe|is no valid JSON).* Delete the folder"):
        load_encoder(str(copied))


def test_conversion_of_other_weights_is_made_anew(copied):
    before = load_encoder(str(copied))
    write_checkpoint(copied.parent / "weights.pth", "MobileNetV2", zipped=True)  # the same tensors, in another file
    after = load_encoder(str(copied))
    assert after.weights_sha256 != before.weights_sha256
    np.testing.assert_allclose(after.encode(make_windows()), before.encode(make_windows()), atol=1e-5)
    assert [path.name for path in copied.parent.iterdir() if path.name.startswith(".")] == []


def test_conversion_of_other_weights_than_the_card_names_is_not_taken(copied):
    (copied.parent / "weights.pth").unlink()
    write_card(copied.parent, SMALL, "weights.pth", weights={"sha256": "0" * 64})
    with pytest.raises(MissingWeightsError, match="not on this machine"):
        load_encoder(str(copied))
    for chosen in (copied.parent / "own-openvino", copied.parent):
        with pytest.raises(InputError, match=r"own-openvino was made of other weights than the card of own names"):
            load_encoder(str(copied), weights=chosen)


def test_where_weights_are_chosen_no_other_place_is_used(copied, tmp_path):
    """Neither the checkpoint beside the card nor its conversion stands in for those of other weights."""
    digest = load_encoder(str(copied)).weights_sha256
    chosen = tmp_path / "chosen"
    shutil.copytree(copied.parent / "own-openvino", chosen / "own-openvino")
    assert load_encoder(str(copied), weights=chosen).weights == chosen / "own-openvino"
    write_card(copied.parent, SMALL, "weights.pth", weights={"sha256": digest})
    record = chosen / "own-openvino" / "conversion.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"weights_sha256": "0" * 64}))
    assert load_encoder(str(copied)).weights == copied.parent / "own-openvino"
    with pytest.raises(InputError, match=r"chosen/own-openvino was made of other weights"):
        load_encoder(str(copied), weights=chosen)


def test_two_runs_at_once_convert_once(panns_card, tmp_path, monkeypatch, capfd):
    shutil.copy(panns_card(SMALL).with_name("weights.pth"), tmp_path / "weights.pth")
    card, converted = str(write_card(tmp_path, SMALL, "weights.pth")), []

    def convert(*arguments):
        converted.append(arguments)
        convert_checkpoint(*arguments)

    monkeypatch.setattr(sys.modules[convert_checkpoint.__module__], "convert_checkpoint", convert)
    with ThreadPoolExecutor(2) as threads, hold_lock(tmp_path / ".own-openvino.lock"):
        runs = [threads.submit(load_encoder, card) for _ in "ab"]
        said = ""
        while said.count("is converting") < 2:
            said += capfd.readouterr().err
            time.sleep(0.01)
        assert not converted
    assert runs[0].result().identity == runs[1].result().identity
    assert len(converted) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own-openvino", "own.toml", "weights.pth"]


def test_width_that_the_network_has_not_is_told(write_other_card):
    encoder = load_encoder(str(write_other_card(dim=2048)))
    with pytest.raises(InputError, match=r"shape \(4, 1024\); expected a width of 2,048 .* Correct dim"):
        encoder.prepare()
    encoder = load_encoder(str(write_other_card(classes=500)), logits=True)
    with pytest.raises(InputError, match=r"shape \(4, 527\) for 4 frames; expected 500 classes"):
        encoder.prepare()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tensors": {"call": "Cnn10"}}, r"tensors.call 'Cnn10'; expected Cnn14 or MobileNetV1 or MobileNetV2"),
        ({"sample_rate": 16_000}, r"sample_rate = 16000 .* expected 32000"),
        ({"tensors": {"layout": "single"}}, r"tensors.layout = 'single'; expected 32000 and 'batch'"),
        ({"tensors": {"embedding": "fc1"}}, r"no output 'fc1', which its card asks for. Outputs: 0: embedding"),
    ],
)
def test_card_that_says_what_no_network_does_is_refused(write_other_card, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        load_encoder(str(write_other_card(**changes))).prepare()


@pytest.mark.parametrize("name", NETWORKS)
def test_cards_name_their_networks(name):
    card = load_card(name)
    assert name_network(card) == NETWORKS[name]
    assert card.dim == list_tensors(NETWORKS[name])["fc_audioset.weight"][1]
