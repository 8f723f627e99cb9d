"""Names of classes, and which of an encoder's own classes they are."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.embed.encoder import load_encoder
from birdemb.errors import InputError
from birdemb.synonyms import Synonyms, read_synonyms
from birdemb.taxonomy import (
    ClassName,
    OwnClass,
    find_taxonomy,
    match_classes,
    name_classes,
    read_taxonomy,
)

OWN = (
    OwnClass("Corvus monedula", "Eurasian Jackdaw"),
    OwnClass("Corvus corone", "Carrion Crow"),
    OwnClass("Corvus cornix", "Hooded Crow"),
    OwnClass("Motacilla alba", "White Wagtail"),
    OwnClass("Accipiter gentilis", "Northern Goshawk"),
    OwnClass("Larus argentatus", "Herring Gull"),
    OwnClass("Bubulcus ibis", "Cattle Egret"),
    OwnClass("Crinifer concolor", "Gray Go-away-bird"),
    OwnClass("Dasyornis longirostris", "Rüppell's Robin-Chat"),
    OwnClass("Gryllus assimilis", "Gryllus assimilis"),
    OwnClass("Human vocal", "Human vocal"),
    OwnClass("Noise", "Noise"),
    OwnClass("Dog", "Dog"),
)


@pytest.fixture(scope="module")
def birdnet_classes(birdnet_weights):
    return load_encoder("birdnet-2.4", weights=birdnet_weights).own_classes


def match(*names, own=OWN, synonyms=None):
    return match_classes(names, own, synonyms)


def found(name, **options):
    """What one class was taken for, and how."""
    matched = match(name, **options)
    (index,), (how,) = matched.indices, matched.how
    assert (index < 0) == (how == "") == bool(matched.unmatched)
    return (OWN[index].scientific, how) if index >= 0 else None


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


BIRDCLEF_2025 = """primary_label,inat_taxon_id,scientific_name,common_name,class_name
1139490,1139490,Ragoniella pulchella,Ragoniella pulchella,Insecta
amakin1,2136,Chloroceryle amazona,Amazon Kingfisher,Aves
"""
TRAIN = """primary_label,secondary_labels,scientific_name,common_name,filename
NA,[],Nettapus auritus,African Pygmy-Goose,NA/XC1.ogg
NA,[],Nettapus auritus,African Pygmy-Goose,NA/XC2.ogg
mixed,[],Parus major,Great Tit,mixed/XC3.ogg
mixed,[],Turdus merula,Eurasian Blackbird,mixed/XC4.ogg
"""
EBIRD = """TAXON_ORDER,CATEGORY,SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME,ORDER1
2,species,ostric2,Common Ostrich,Struthio camelus,Struthioniformes
6,species,amered,American Redstart,Setophaga ruticilla,Passeriformes
"""


@pytest.mark.parametrize(
    ("label", "scientific", "common"),
    [
        ("Acrocephalus_scirpaceus", "Acrocephalus scirpaceus", ""),
        ("Acrocephalus scirpaceus", "Acrocephalus scirpaceus", ""),
        ("Parus major_Great Tit", "Parus major", "Great Tit"),
        ("Parus_major_Great_Tit", "Parus major", "Great Tit"),
        ("Corvus corone cornix", "Corvus corone cornix", ""),
        ("Corvus_corone_cornix_Hooded Crow", "Corvus corone cornix", "Hooded Crow"),
        ("Noise_Noise", "Noise", "Noise"),
        ("amered", "", ""),
        ("1139490", "", ""),
        ("Great_Tit", "", ""),
        ("Noise", "", ""),
        ("", "", ""),
    ],
)
def test_label_that_is_a_scientific_name_names_the_class(label, scientific, common):
    assert name_classes([label]) == (ClassName(label, scientific, common),)


def test_taxonomy_of_birdclef_names_numbers_and_codes(tmp_path):
    taxonomy = write(tmp_path / "taxonomy.csv", BIRDCLEF_2025)
    assert name_classes(["1139490", "amakin1"], taxonomy=taxonomy) == (
        ClassName("1139490", "Ragoniella pulchella", "Ragoniella pulchella"),
        ClassName("amakin1", "Chloroceryle amazona", "Amazon Kingfisher"),
    )


@pytest.mark.parametrize("text", [EBIRD, EBIRD.replace("SPECIES_CODE", "species_code"), "\ufeff" + EBIRD])
def test_taxonomy_of_ebird_names_codes(tmp_path, text):
    names = read_taxonomy(write(tmp_path / "eBird_Taxonomy_v2021.csv", text))
    assert names["amered"] == ClassName("amered", "Setophaga ruticilla", "American Redstart")


def test_table_of_labels_names_its_classes_and_contradictions_are_dropped(tmp_path):
    table = write(tmp_path / "train.csv", TRAIN)
    named = name_classes(["NA", "mixed"], table)
    assert named == (ClassName("NA", "Nettapus auritus", "African Pygmy-Goose"), ClassName("mixed"))


def test_taxonomy_comes_before_the_table_of_labels(tmp_path):
    table = write(tmp_path / "train.csv", TRAIN)
    taxonomy = write(tmp_path / "taxonomy.csv", "primary_label,scientific_name\nNA,Noctua alba\n")
    assert name_classes(["NA"], table, taxonomy) == (ClassName("NA", "Noctua alba"),)


def test_table_of_labels_without_names_is_no_error(tmp_path):
    table = write(tmp_path / "train.csv", "filename,primary_label\na.wav,Parus major\n")
    assert name_classes(["Parus major"], table) == (ClassName("Parus major", "Parus major"),)
    assert name_classes(["Parus major"], tmp_path) == (ClassName("Parus major", "Parus major"),)


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("a,b\n1,2\n", "utf-8", "other columns than expected"),
        ("", "utf-8", r"Names of classes cannot be read\. .*taxonomy\.csv are empty"),
        (BIRDCLEF_2025 + "x,1,Parus major,Great, Tit,Aves\n", "utf-8", "6 cells in line 4 and 5 columns"),
        (BIRDCLEF_2025 + 'x,1,"Parus major', "utf-8", "Look at line 4"),
    ],
)
def test_taxonomy_that_cannot_be_read_is_refused(tmp_path, text, encoding, message):
    with pytest.raises(InputError, match=message):
        read_taxonomy(write(tmp_path / "taxonomy.csv", text, encoding))


@pytest.mark.parametrize(("encoding", "separator"), [("latin-1", ","), ("utf-16", ","), ("utf-8-sig", ";")])
def test_taxonomy_is_read_as_tables_of_labels_are(tmp_path, encoding, separator):
    text = f"primary_label{separator}scientific_name{separator}common_name\nsbil{separator}Larus sp{separator}Möwe\n"
    path = write(tmp_path / "labels.csv", text, encoding)
    assert name_classes(["sbil"], path) == (ClassName("sbil", "Larus sp", "Möwe"),)
    # A table without such columns is none of names, whatever its encoding.
    assert name_classes(["Möwe"], write(path, "filename;label\nx.wav;Möwe\n", encoding)) == (ClassName("Möwe"),)


def test_taxonomy_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        read_taxonomy(tmp_path / "taxonomy.csv")


def test_taxonomy_is_found_in_or_beside_the_folder(tmp_path):
    folder = tmp_path / "data" / "train_audio"
    folder.mkdir(parents=True)
    assert find_taxonomy(folder) is None
    older, newer = (write(tmp_path / "data" / f"eBird_Taxonomy_v{year}.csv", EBIRD) for year in (2019, 2021))
    assert find_taxonomy(folder) == newer
    beside = write(tmp_path / "data" / "taxonomy.csv", BIRDCLEF_2025)
    assert find_taxonomy(folder) == beside
    inside = write(folder / "ebird_taxonomy.CSV", EBIRD)
    assert find_taxonomy(folder) == inside
    assert older.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (ClassName("x", "corvus_MONEDULA"), ("Corvus monedula", "scientific")),
        (ClassName("x", "Coloeus monedula"), ("Corvus monedula", "synonym")),
        (ClassName("x", "Astur gentilis", "Eurasian Goshawk"), ("Accipiter gentilis", "synonym")),
        (ClassName("x", "Larus smithsonianus", "American Herring Gull"), ("Larus argentatus", "synonym")),
        (ClassName("x", "Ardea coromanda"), ("Bubulcus ibis", "synonym")),
        (ClassName("x", "Motacilla alba yarrellii", "Pied Wagtail"), ("Motacilla alba", "scientific")),
        (ClassName("x", "Coloeus monedula spermologus"), ("Corvus monedula", "synonym")),
        (ClassName("x", "Corvus corone cornix"), ("Corvus cornix", "synonym")),
        (ClassName("x", "Corvus corone orientalis", "Hooded Crow"), None),
        (ClassName("x", "Corvus corone orientalis", "Carrion Crow"), ("Corvus corone", "scientific")),
        (ClassName("x", "Corythaixoides concolor", "Grey go-away bird"), ("Crinifer concolor", "common name")),
        (ClassName("x", "Cossypha longirostris", "Ruppells Robin Chat"), ("Dasyornis longirostris", "common name")),
        (ClassName("White wagtail", "White wagtail"), ("Motacilla alba", "common name")),
        (ClassName("white_wagtail"), ("Motacilla alba", "common name")),
        (ClassName("Gryllus_assimilis", "Gryllus assimilis"), ("Gryllus assimilis", "scientific")),
        (ClassName("Noise"), ("Noise", "scientific")),
        (ClassName("Human vocal_Human vocal", "Human vocal", "Human vocal"), ("Human vocal", "scientific")),
        (ClassName("noise"), None),
        (ClassName("dog"), None),
        (ClassName("1139490"), None),
        (ClassName("x", "Motacilla flava", "Western Yellow Wagtail"), None),
    ],
)
def test_class_is_found_by_its_names(name, expected):
    assert found(name) == expected


def test_reasons_are_told():
    names = [
        ClassName("a", "Motacilla flava"),
        ClassName("b"),
        ClassName("c", "Corvus corone orientalis", "Hooded Crow"),
        ClassName("d", "Gallinula albus", "Cattle Egret"),
        ClassName("e", "Gallinula nigra", "Cattle-Egret"),
    ]
    matched = match(*names)
    assert [entry.label for entry in matched.unmatched] == ["a", "b", "c", "d", "e"]
    reasons = [entry.reason for entry in matched.unmatched]
    assert reasons[0] == "the encoder knows no Motacilla flava"
    assert reasons[1] == "no scientific name is known for it"
    assert reasons[2].endswith("may be Corvus corone or Corvus cornix")
    assert reasons[3] == "several classes have the English name Cattle Egret"


def test_name_that_two_own_classes_share_is_not_guessed():
    own = (OwnClass("Gryllus a", "Field Cricket"), OwnClass("Gryllus b", "Field Cricket"))
    matched = match(ClassName("x", "", "Field Cricket"), own=own)
    assert matched.indices.tolist() == [-1]
    assert matched.unmatched[0].reason == "Field Cricket may be Gryllus a or Gryllus b"


def test_synonyms_of_two_own_classes_are_not_guessed():
    synonyms = Synonyms((("Corvus x", "Corvus corone"), ("Corvus x", "Corvus cornix")), ())
    assert found(ClassName("x", "Corvus x"), synonyms=synonyms) is None


def test_part_of_a_species_does_not_stand_for_the_whole():
    synonyms = Synonyms((), (("Larus argentatus", "Larus magnus"),))
    assert found(ClassName("x", "Larus magnus"), synonyms=synonyms) is None


def test_no_classes_give_no_match():
    matched = match()
    assert (matched.indices.shape, matched.indices.dtype, matched.how) == ((0,), np.int64, ())


@given(st.permutations(range(8)), st.data())
def test_order_and_writing_of_classes_do_not_matter(order, data):
    names = []
    for place in order:
        words = OWN[place].scientific
        form = data.draw(st.sampled_from([str.upper, str.lower, str.title, lambda x: x.replace(" ", "_")]))
        names.append(ClassName(str(place), form(words)))
    assert match(*names).indices.tolist() == list(order)


def test_every_class_of_birdnet_is_found_by_its_own_label(birdnet_classes):
    labels = [f"{entry.scientific}_{entry.common}" for entry in birdnet_classes]
    matched = match_classes(name_classes(labels), birdnet_classes)
    assert matched.indices.tolist() == list(range(len(birdnet_classes)))
    assert set(matched.how) == {"scientific"}


def test_every_class_of_birdnet_is_found_by_its_english_name(birdnet_classes):
    species = [place for place, entry in enumerate(birdnet_classes) if entry.scientific != entry.common]
    names = [ClassName(str(place), "", birdnet_classes[place].common.lower()) for place in species]
    assert match_classes(names, birdnet_classes).indices.tolist() == species


def test_synonyms_have_one_name_that_birdnet_knows(birdnet_classes):
    known = {entry.scientific for entry in birdnet_classes}
    synonyms = read_synonyms()
    assert len(synonyms.same) > 800
    for first, *others in synonyms.same:
        assert first in known
        assert not known.intersection(others), first
    for narrow, wide in synonyms.part:
        assert narrow not in known
        assert wide in known
    assert match_classes([ClassName("x", "Botaurus minutus")], birdnet_classes).how == ("synonym",)


def test_synonyms_are_scientific_names_and_none_stands_twice():
    synonyms = read_synonyms()
    names = [name for group in synonyms.same for name in group] + [narrow for narrow, _ in synonyms.part]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[A-Z][a-z]+( [a-z]{3,}){1,2}", name)] == []


def test_synonyms_of_one_s_own_are_added(tmp_path):
    path = write(
        tmp_path / "own.toml", 'same = [["Corvus mihi", "Corvus corone"]]\npart = [["Dohle alpina", "Corvus monedula"]]'
    )
    synonyms = read_synonyms(path)
    assert found(ClassName("x", "Corvus mihi"), synonyms=synonyms) == ("Corvus corone", "synonym")
    assert found(ClassName("x", "Dohle alpina"), synonyms=synonyms) == ("Corvus monedula", "synonym")
    assert found(ClassName("x", "Coloeus monedula"), synonyms=synonyms) == ("Corvus monedula", "synonym")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("same = [", "no TOML"),
        ("other = []", "unknown key 'other'"),
        ('same = "Parus major"', "list of two or more names"),
        ('same = [["Parus major"]]', "list of two or more names"),
        ("same = [[1, 2]]", "list of two or more names"),
        ('part = [["a", "b", "c"]]', "pair of names"),
        ("same = 3", "list of two or more names"),
    ],
)
def test_synonyms_of_another_form_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_synonyms(write(tmp_path / "own.toml", text))


def test_synonyms_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        read_synonyms(tmp_path / "none.toml")
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_synonyms(write(tmp_path / "own.toml", 'same = [["ä", "ö"]]', "latin-1"))
