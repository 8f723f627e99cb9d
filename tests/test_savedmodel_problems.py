"""SavedModels that are not what a card says, and a TensorFlow that is not what it has to be: one sentence each."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from card_files import write_card
from saved_models import write_compiled

from birdemb.embed.encoder import load_encoder
from birdemb.embed.tensorflow_runtime import require_tensorflow, start_tensorflow
from birdemb.errors import InputError, MissingDependencyError

slow = pytest.mark.slow  # TensorFlow alone takes seconds to import


@pytest.fixture
def refuse(saved_model, tmp_path):
    """Use the weights of one encoder with a card like another's, and give the message."""

    def refuse_one(like, weights, *, window=5.0, logits=True, kind=InputError, **changes):
        path = saved_model(weights) if isinstance(weights, str) else weights
        card = write_card(tmp_path, like, "weights", **changes)
        encoder = load_encoder(str(card), window=window, weights=path, logits=logits)
        with pytest.raises(kind) as caught:
            encoder.encode(np.zeros((1, encoder.window_samples), np.float32))
        said = str(caught.value)
        assert said.startswith(("The network of own ", f"{path}", "TensorFlow "))
        assert "\n" not in said
        assert said.endswith((".", "tensorflow"))
        return said

    return refuse_one


@slow
@pytest.mark.parametrize(
    ("like", "weights", "changes", "said", "fits"),
    [
        ("perch-1", "perch-1-v4", {}, "takes float32 of shape (1, 160000)", "perch-1-v4"),
        ("perch-1", "perch-1-v4", {"tensors": {"at_once": 1}}, "gives '0' (1, 10932), '1' (1, 1280)", "perch-1-v4"),
        ("perch-1-v4", "perch-1", {}, "expected an output '1' of floating-point numbers", "perch-1"),
        ("perch-2", "perch-1", {}, "an embedding of shape (4, 1280); expected a width of 1,536", "perch-1"),
        ("perch-1", "perch-2", {}, "no method 'infer_tf'", "perch-2"),
        ("yamnet", "vggish", {}, "gives '0' (5, 128)", "vggish"),
        ("perch-2", "yamnet", {}, "takes waveform with its signature serving_default; expected 'inputs'", "yamnet"),
        ("perch-1", "yamnet", {}, "Signatures: serving_default; methods: the model itself.", "yamnet"),
    ],
)
def test_weights_of_another_card_are_told_by_its_name(refuse, saved_model, like, weights, changes, said, fits):
    message = refuse(like, weights, logits=like != "vggish", **changes)
    assert said in message
    assert message.endswith(
        f"They fit the card {fits}: for that, give --encoder {fits} --weights {saved_model(weights)}."
    )


@slow
@pytest.mark.parametrize(
    ("like", "changes", "said"),
    [
        ("perch-2", {"tensors": {"call": "serving"}}, "no signature and no method 'serving'"),
        ("perch-2", {"tensors": {"call": "__class__"}}, "Signatures: serving_default; methods: infer."),
        ("perch-2", {"tensors": {"call": ""}}, "no signature and no method ''"),
        (
            "perch-2",
            {"tensors": {"input": "waveform"}},
            "takes inputs with its signature serving_default; expected 'waveform'",
        ),
        ("perch-2", {"tensors": {"logits": "logits"}}, "expected an output 'logits' of"),
        ("perch-2", {"tensors": {"embedding": ""}}, "expected one output of"),
        ("perch-2", {"dim": 1024}, "an embedding of shape (4, 1536); expected a width of 1,024"),
        ("perch-2", {"classes": 10932}, "logits of shape (4, 14795) for 4 frames; expected 10,932 classes"),
        ("perch-2", {"sample_rate": 48000}, "takes float32 of shape (any, 160000); it would be given float32 of shape"),
        ("perch-2", {"tensors": {"layout": "single"}}, "it would be given float32 of shape (160000,)"),
        ("perch-2", {"tensors": {"layout": "channel"}}, "(1, 1, 160000) and (4, 1, 160000)"),
        ("yamnet", {"tensors": {"layout": "batch"}}, "takes float32 of shape (any)"),
        ("yamnet", {"tensors": {"embedding": "2"}}, "expected a width of 1,024"),
    ],
)
def test_card_that_says_something_else_is_told_what(refuse, like, changes, said):
    assert said in refuse(like, like, **changes)


@slow
def test_window_too_short_for_a_network_is_told(refuse):
    said = refuse("vggish", "vggish", window=0.5, logits=False, shortest_seconds=0.0)
    assert "gives no embedding at all for 8,000 samples; set shortest_seconds" in said


@slow
def test_output_that_holds_no_numbers_is_refused(refuse, tmp_path):
    tensorflow, _ = start_tensorflow()
    module = tensorflow.Module()
    module.name_it = tensorflow.function(
        lambda inputs: {"embedding": tensorflow.as_string(inputs)},
        input_signature=[tensorflow.TensorSpec([None, 160_000], tensorflow.float32, name="inputs")],
    )
    tensorflow.saved_model.save(module, str(tmp_path / "text"), signatures={"serving_default": module.name_it})
    said = refuse("perch-2", tmp_path / "text", logits=False)
    assert "gives 'embedding' (4, 160000); expected an output 'embedding' of floating-point numbers" in said


@pytest.mark.parametrize("held", [["weights.tar.gz"], []])
def test_folder_that_is_no_savedmodel_is_told_before_tensorflow_starts(tmp_path, held):
    (tmp_path / "no").mkdir()
    for name in held:
        (tmp_path / "no" / name).touch()
    card = write_card(tmp_path, "perch-2", "weights")
    found = held[0] if held else "an empty one"
    with pytest.raises(InputError, match=rf"no is no SavedModel: expected a folder .*, found {found}\. Unpack"):
        load_encoder(str(card), weights=tmp_path / "no")


@slow
@pytest.mark.parametrize(
    ("file", "keep", "said"),
    [
        ("saved_model.pb", 0.5, "saved_model.pb cannot be read"),
        ("saved_model.pb", 0, "was cut short"),
        ("variables/variables.index", 0.5, "cannot load"),
        ("variables/variables.data-00000-of-00001", 0.5, "cannot load"),
        ("variables/variables.data-00000-of-00001", None, "cannot load"),
    ],
)
def test_savedmodel_cut_short_is_told(refuse, saved_model, tmp_path, file, keep, said):
    shutil.copytree(saved_model("perch-1-v4"), tmp_path / "cut")
    path = tmp_path / "cut" / file
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[: int(len(content) * keep)])
    message = refuse("perch-1-v4", tmp_path / "cut")
    assert said in message
    assert "get" in message
    assert "again" in message


OF_COMPILED = {"sample_rate": 16_000, "frame_seconds": 0.1, "dim": 1600, "classes": 0, "labels": None}
ONE_OUTPUT = {"tensors": {"at_once": 1, "logits": ""}}


@slow
def test_network_compiled_for_gpus_alone_is_told_without_one(refuse, tmp_path):
    if start_tensorflow()[0].config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees a GPU here")
    write_compiled(tmp_path / "gpu", version=9, platform="CUDA")
    said = refuse("perch-2-gpu", tmp_path / "gpu", window=0.1, logits=False, **OF_COMPILED, **ONE_OUTPUT)
    assert "was compiled for CUDA alone" in said
    assert "sees no GPU here. Choose the variant that was compiled for CPUs (of Perch 2: --encoder perch-2)" in said


@slow
def test_network_for_a_newer_tensorflow_is_told(refuse, tmp_path):
    write_compiled(tmp_path / "new", version=99, platform="CPU")
    said = refuse(
        "perch-2",
        tmp_path / "new",
        window=0.1,
        logits=False,
        kind=MissingDependencyError,
        **OF_COMPILED,
        **ONE_OUTPUT,
    )
    assert "is too old for the network of own" in said
    assert "version 99" in said
    assert said.endswith("Run: pip install --upgrade tensorflow")


@pytest.mark.parametrize("found", ["2.19.1", "1.15.0", "2.9.0", "unknown"])
def test_older_tensorflow_is_refused(found):
    with pytest.raises(MissingDependencyError, match=rf"TensorFlow 2\.20 or newer; found {found}\. Run: pip install"):
        require_tensorflow(found)


@pytest.mark.parametrize("found", ["2.20.0", "2.20.0-rc0", "2.21.0", "3.0.0"])
def test_newer_tensorflow_is_taken(found):
    require_tensorflow(found)


def start_without(*missing):
    """Start TensorFlow in a process that lacks first one module, then another, and give what went wrong."""
    code = (
        "import sys\n"
        "from birdemb.embed.tensorflow_runtime import start_tensorflow\n"
        "from birdemb.errors import MissingDependencyError\n"
        f"for name in {missing!r}:\n"
        "    sys.modules[name] = None\n"
        "    try:\n        start_tensorflow()\n    except MissingDependencyError as error:\n        print(error)\n"
        "    del sys.modules[name]"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_missing_tensorflow_is_told():
    assert start_without("tensorflow") == [
        "Encoders that come as SavedModels need TensorFlow 2.20 or newer, which is not installed. "
        "Run: pip install 'birdemb[tf]'"
    ]


@slow
def test_missing_tensorflow_hub_and_too_new_a_setuptools_are_told():
    assert start_without("tensorflow_hub", "pkg_resources") == [
        "Encoders that come as SavedModels need tensorflow_hub, which is not installed. Run: pip install 'birdemb[tf]'",
        "tensorflow_hub cannot be imported: it needs pkg_resources, which setuptools 81 dropped; expected an older "
        "setuptools beside it. Run: pip install 'birdemb[tf]'",
    ]


def test_listing_and_making_encoders_imports_no_tensorflow(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "saved_model.pb").touch()
    card = write_card(tmp_path, "perch-2", "weights")
    code = (
        "import sys; from click.testing import CliRunner; from birdemb.cli import main\n"
        "from birdemb.embed.encoder import load_encoder\n"
        "said = CliRunner().invoke(main, ['encoders'], catch_exceptions=False)\n"
        "assert said.exit_code == 0 and 'perch-2' in said.output\n"
        f"encoder = load_encoder({str(card)!r}, logits=True)\n"
        "assert encoder.identity and encoder.own_logits == 14795\n"
        "heavy = {'tensorflow', 'tensorflow_hub', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
