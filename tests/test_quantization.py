"""Int8 networks: the windows they are made of, how near they are, and that no other is ever taken for one."""

import json
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib.externals.loky import get_reusable_executor
from run_files import write_noise

from birdemb import fitting, predicting
from birdemb.embed import quantization
from birdemb.embed.calibration import choose_diverse, choose_windows
from birdemb.embed.encoder import load_encoder
from birdemb.embed.places import user_folder
from birdemb.embed.precision import has_bf16
from birdemb.embed.quantization import Judge, quantize_encoder
from birdemb.embed.quantization_record import Gate
from birdemb.embed.quantizer import Quantizer
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.embedding import embed_recordings
from birdemb.errors import InputError, MissingDependencyError
from birdemb.quantize_command import quantize as quantize_command
from birdemb.quantizing import quantize

NAME = "birdnet-2.4"
LOW = {"goal_mean": 0.9, "goal_worst": 0.8, "max_auc_loss": 1.0}  # few synthetic windows are no real calibration


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A cache folder of its own, as what is compiled of a network that exists once would stay in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(birdnet_weights, world, tmp_path_factory):
    """A network that was really made, of a few synthetic windows."""
    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("models")
    return quantize(NAME, calibrate=world.data, windows=16, output=folder, weights=birdnet_weights, **LOW)


@pytest.fixture
def models(made, tmp_path, monkeypatch):
    """A copy of it, where it is looked for."""
    folder = tmp_path / "models"
    shutil.copytree(made.folder, folder / made.folder.name)
    monkeypatch.setenv("BIRDEMB_MODELS", str(folder))
    get_reusable_executor().shutdown()  # workers of an earlier test look elsewhere
    yield folder
    get_reusable_executor().shutdown()


@pytest.fixture(scope="module")
def quantizer(birdnet_weights):
    pytest.importorskip("nncf")
    return Quantizer(load_encoder(NAME, weights=birdnet_weights).read_trunk(), NAME)


def windows_of(folder, seconds):
    grid = WindowGrid(seconds, seconds)
    parts = [
        windows for each in find_recordings(folder).recordings for windows, _ in stream_windows(each, 48_000, grid)
    ]
    return np.concatenate(parts)


def cosines(ours, theirs):
    return (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5.0, 3.0, 10.0])
def test_embeddings_are_near_those_of_f32_whatever_the_window(models, world, birdnet_weights, seconds):
    windows = windows_of(world.soundscapes, seconds)[:16]
    assert len(windows) > 4
    ours, exact = (
        load_encoder(NAME, window=seconds, weights=birdnet_weights, precision=precision, logits=True)
        for precision in ("int8", "f32")
    )
    near = cosines(ours.encode(windows), exact.encode(windows))
    assert near.mean() > 0.96
    assert near.min() > 0.9
    assert near.max() < 0.999999, "it computes in float32"
    assert np.corrcoef(*(each.encode_with_logits(windows)[1].ravel() for each in (ours, exact)))[0, 1] > 0.95


@pytest.mark.slow
def test_report_and_record_say_the_same(made):
    record = json.loads((made.folder / "quantization.json").read_text())
    assert record["sha256"] == made.sha256
    assert record["figures"] == made.figures
    assert made.cosine_mean >= made.cosine_worst >= LOW["goal_worst"]
    assert record["calibration"]["windows"] == len(made.calibration.inputs) >= 8
    assert record["convolutions"] == {"all": 61, "int8": 34, "left_in_f32_by_measurement": []}
    assert made.bytes == sum(path.stat().st_size for path in made.folder.glob("trunk.*")) < 0.3 * made.float_bytes
    assert [path.name for path in made.folder.parent.iterdir()] == [made.folder.name]
    loss = record["gate"]["auc_loss"]
    assert record["gate"]["result"] == "passed"
    assert loss["refitted"]["low"] <= loss["refitted"]["value"] == made.figures["auc_loss_refitted"]
    assert loss["windows"] == len(made.calibration.judged) > 4
    assert loss["classes"] >= 1


@pytest.mark.slow
def test_identity_names_the_network_and_says_how_good_it_is(models, made, birdnet_weights):
    first, second = (load_encoder(NAME, weights=birdnet_weights, precision="int8").identity for _ in range(2))
    exact = load_encoder(NAME, weights=birdnet_weights).identity
    assert first == second
    assert first == exact | {
        "precision": "int8",
        "quantized_sha256": made.sha256,
        "quantization": json.loads(json.dumps(made.figures)),
    }
    assert {"bytes", "milliseconds", "cosine_mean", "cosine_worst", "auc_loss_fed", "auc_loss_refitted"} < {
        *first["quantization"]
    }


@pytest.mark.slow
def test_network_that_loses_too_much_embeds_only_where_that_was_accepted(models, birdnet_weights):
    path = models / f"{NAME}-int8" / "quantization.json"
    record = json.loads(path.read_text())
    record["gate"] |= {"result": "failed", "max_auc_loss": 0.002}
    record["gate"]["auc_loss"]["refitted"]["value"] = 0.0312
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"to lose 0\.0312 in macro ROC-AUC, .* was 0\.002\. .* --force --accept-loss"):
        load_encoder(NAME, weights=birdnet_weights, precision="int8")
    record["gate"]["accepted"] = True
    path.write_text(json.dumps(record))
    assert load_encoder(NAME, weights=birdnet_weights, precision="int8").precision == "int8"


@pytest.mark.slow
def test_auto_is_never_int8(models, birdnet_weights):
    assert load_encoder(NAME, weights=birdnet_weights, precision="auto").precision in ("f32", "bf16")


def test_missing_network_is_refused_with_the_command(birdnet_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    with pytest.raises(InputError, match=r"no int8 network .*`birdemb quantize birdnet-2.4 --calibrate FOLDER`"):
        load_encoder(NAME, weights=birdnet_weights, precision="int8")


def test_network_that_was_made_before_the_folder_was_named_is_found(birdnet_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = user_folder() / f"{NAME}-int8"
    folder.mkdir(parents=True)
    (folder / "quantization.json").write_text("{}")
    with pytest.raises(InputError, match=rf"{folder}/quantization.json does not describe a quantized network"):
        load_encoder(NAME, weights=birdnet_weights, precision="int8")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["trunk.xml", "trunk.bin"])
def test_file_that_was_altered_is_refused(models, birdnet_weights, file):
    path = models / f"{NAME}-int8" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{file} is not what was written: its sha256 is .* --force"):
        load_encoder(NAME, weights=birdnet_weights, precision="int8")
    path.unlink()
    with pytest.raises(InputError, match=rf"{file} cannot be read"):
        load_encoder(NAME, weights=birdnet_weights, precision="int8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record.pop("files"), "does not describe a quantized network"),
        (lambda record: record["files"].pop("trunk.bin"), "does not describe a quantized network"),
        (lambda record: record["files"].update({"trunk.xml": 7}), "does not describe a quantized network"),
        (lambda record: record.update(format=1), "does not describe a quantized network of format 2"),
        (lambda record: record.pop("figures"), "does not describe a quantized network"),
        (lambda record: record.update(gate={"result": "fine"}), "does not describe a quantized network"),
        (lambda record: record.update(weights_sha256="0" * 64), f"was made of {NAME} in int8 with the weights 000"),
        (lambda record: record.update(precision="f16"), f"was made of {NAME} in f16 with"),
    ],
)
def test_record_that_was_altered_is_refused(models, birdnet_weights, change, said):
    path = models / f"{NAME}-int8" / "quantization.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=said):
        load_encoder(NAME, weights=birdnet_weights, precision="int8")
    for text in ("[]", "{", "null"):
        path.write_text(text)
        with pytest.raises(InputError, match="Make it again"):
            load_encoder(NAME, weights=birdnet_weights, precision="int8")


@pytest.mark.slow
def test_recordings_are_embedded_in_int8_by_worker_processes(models, made, world, birdnet_weights):
    embedded = {}
    for jobs in (1, 2):
        report = embed_recordings(
            world.data, precision="int8", weights=birdnet_weights, workspace=f"work{jobs}", jobs=jobs, dtype="float32"
        )
        assert not report.listing.skipped
        assert report.listing.identity["quantized_sha256"] == made.sha256
        embedded[jobs] = np.concatenate([report.run.cache.read([each.sha256]) for each in report.listing.recordings])
    assert embedded[1].tobytes() == embedded[2].tobytes()
    exact = load_encoder(NAME, weights=birdnet_weights).encode(windows_of(world.data, 5.0))
    assert cosines(embedded[1], exact).mean() > 0.96


@pytest.mark.slow
def test_bundle_refuses_embeddings_of_another_calibration(models, world, birdnet_weights):
    embed_recordings(world.data, precision="int8", weights=birdnet_weights, jobs=1)
    fitting.fit("lr", jobs=1)
    predicting.predict_folder(world.soundscapes, weights=birdnet_weights, output="one.csv", jobs=1)
    quantize_encoder(NAME, calibrate=world.data, windows=4, weights=birdnet_weights, force=True, **LOW)
    with pytest.raises(InputError, match=r"quantization is|quantized_sha256 is"):
        predicting.predict_folder(world.soundscapes, weights=birdnet_weights, output="two.csv", jobs=1)


@pytest.mark.slow
def test_same_recordings_give_the_same_network(models, made, world, birdnet_weights):
    with pytest.raises(InputError, match=r"There is an int8 network in .* --force"):
        quantize_encoder(NAME, calibrate=world.data, weights=birdnet_weights)
    (models / f"{NAME}-int8" / "trunk.xml").write_text("broken")
    again = quantize(NAME, calibrate=world.data, windows=16, weights=birdnet_weights, force=True, **LOW)
    assert again.sha256 == made.sha256
    assert again.calibration.sha256 == made.calibration.sha256
    assert again.figures == made.figures, "embeddings made with it would be no more valid"
    assert load_encoder(NAME, weights=birdnet_weights, precision="int8").identity["quantized_sha256"] == made.sha256


@pytest.mark.slow
def test_command_stores_half_precision_and_tells_what_it_costs(world, birdnet_weights, tmp_path, monkeypatch):
    given = [NAME, "--calibrate", world.data, "--windows", 8, "--weights", birdnet_weights, "--precision", "f16",
             "--output", tmp_path, "--max-auc-loss", 0.5]  # fmt: skip
    result = CliRunner().invoke(quantize_command, [str(each) for each in given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for said in (
        f"Stored {NAME} in f16",
        "cosine to f32: mean 1.0000, worst 1.0000",
        "loss in macro ROC-AUC",
        "gate: passed, at most 0.5",
        "size: 12.6 MB, in f32 24.6 MB",
        "ms a window, in f32",
        "network:",
    ):
        assert said in result.output
    monkeypatch.setenv("BIRDEMB_MODELS", str(tmp_path))
    windows = windows_of(world.soundscapes, 3.0)[:4]
    ours, exact = (
        load_encoder(NAME, window=3.0, weights=birdnet_weights, precision=precision) for precision in ("f16", "f32")
    )
    assert cosines(ours.encode(windows), exact.encode(windows)).min() > 0.9999
    assert (ours.encode(windows) != exact.encode(windows)).any()
    assert ours.identity["quantization"]["gate"] == "passed"


@pytest.mark.slow
def test_scale_is_applied_once_where_a_convolution_is_read_twice(quantizer, world):
    """The fourth convolution, alone in int8: without `_keep_summand` the cosine is 0.5."""
    spectrograms = quantizer.look(windows_of(world.data, 5.0)[:8])
    model = quantizer.quantize([3], spectrograms, correct_bias=False)
    assert quantizer.compare(model, spectrograms).min() > 0.99


@pytest.mark.slow
def test_convolution_that_loses_most_stays_in_float(quantizer, world, monkeypatch):
    spectrograms = quantizer.look(windows_of(world.data, 5.0)[:4])
    chosen = quantization.Calibration(spectrograms, spectrograms, 1, [], "")
    really_quantize, made_before = quantizer.quantize, {}

    def quantize_once(numbers, inputs, *, correct_bias=True):
        """Quantize as ever, but the same convolutions with the same windows only once: it takes seconds."""
        assert len(inputs) == len(spectrograms)
        key = (*numbers, correct_bias)
        if key not in made_before:
            made_before[key] = really_quantize(numbers, inputs, correct_bias=correct_bias)
        return made_before[key]

    monkeypatch.setattr(quantizer, "quantize", quantize_once)
    monkeypatch.setattr(quantizer, "quantizable", [6, 27, 60])
    monkeypatch.setattr(quantization, "_LEFT_IN_FLOAT", (0, 1))
    all_three = quantizer.compare(quantizer.quantize([6, 27, 60], spectrograms), spectrograms).mean()
    measure = quantization._Measure(quantizer, chosen, Judge(), Gate(0.002))
    made = quantization._reach_goal(measure, all_three + 1e-7, 0, lambda _: None)
    alone = {n: quantizer.compare(quantizer.quantize([n], spectrograms, correct_bias=False), spectrograms).mean()
             for n in (6, 27, 60)}  # fmt: skip
    assert [layer.number for layer in made.float_layers] == [min(alone, key=alone.get)]
    assert made.cosines.mean() > all_three
    with pytest.raises(InputError, match=r"With 1 convolutions left in float32 .* Nothing was written"):
        quantization._reach_goal(measure, 1.1, 0, lambda _: None)


def test_encoder_without_int8_is_refused():
    with pytest.raises(InputError, match="melspec runs in f32, not in int8"):
        quantize_encoder("melspec", calibrate=".")


def test_bf16_is_refused_where_it_would_be_emulated():
    if has_bf16():
        pytest.skip("this processor has bfloat16")
    with pytest.raises(InputError, match=r"no bfloat16 instructions .* Embed with --precision f32"):
        quantize_encoder(NAME, calibrate=".", precision="bf16")


def test_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r"--precision is 'int4'; expected int8, f16, bf16\."):
        quantize_encoder(NAME, calibrate=".", precision="int4")


def test_missing_nncf_is_told_of(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'birdemb\[quantize\]'"):
        quantize_encoder(NAME, calibrate=".")


def choose(folder, windows):
    return choose_windows(
        folder,
        windows=windows,
        sample_rate=8000,
        grid=WindowGrid(),
        look=lambda rows: rows[:, :64].copy(),
        embed=lambda inputs: inputs,
        labelled={"0.wav"},
    )


@pytest.mark.parametrize("recordings", [2, 7])
def test_what_is_measured_on_was_not_calibrated_with(tmp_path, recordings):
    for number in range(recordings):
        write_noise(tmp_path / f"in/{number}.wav", 60, seed=number)
    (tmp_path / "in/bad.wav").write_bytes(b"no sound")
    chosen = choose(tmp_path / "in", 10)
    assert len(chosen.inputs) == 10
    assert chosen.recordings == recordings
    assert [each.recording for each in chosen.skipped] == ["bad.wav"]
    inputs, held_out, judged = (
        {row.tobytes() for row in rows} for rows in (chosen.inputs, chosen.held_out, chosen.judged)
    )
    assert len(inputs) == 10
    assert len(held_out) == len(chosen.held_out) >= 4
    assert not inputs & held_out
    assert len(judged) == len(chosen.judged) == len(chosen.judged_recordings) >= 4
    assert not inputs & judged
    assert set(chosen.judged_recordings) == {"0.wav"}
    again = choose(tmp_path / "in", 10)
    assert (again.sha256, again.inputs.tobytes()) == (chosen.sha256, chosen.inputs.tobytes())


@pytest.mark.slow
def test_windows_come_from_all_over_a_long_recording(tmp_path):
    write_noise(tmp_path / "in/night.wav", 3600)
    whole = np.concatenate([windows for windows, _ in stream_windows(
        find_recordings(tmp_path / "in").recordings[0], 8000, WindowGrid())])[:, :64]  # fmt: skip
    chosen = choose(tmp_path / "in", 60)
    places = [np.flatnonzero((whole == row).all(axis=1))[0] for row in chosen.inputs]
    assert len(set(places)) == 60
    assert set(np.array(places) // 72) == set(range(10)), "none from a tenth of it"


def test_too_few_windows_are_refused(tmp_path):
    write_noise(tmp_path / "in/a.wav", 19)
    with pytest.raises(InputError, match=r"has 4 windows of 5 s that can be used, expected 5 or more"):
        choose(tmp_path / "in", 10)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_rows_are_chosen_once_and_the_farthest_first(rows, count, seed, silent):
    embeddings = np.random.default_rng(seed).integers(-2, 3, (rows, 3)).astype(np.float32)
    if silent:
        embeddings[0] = 0
    chosen = choose_diverse(embeddings, count)
    assert len(chosen) == len(set(chosen)) == min(rows, count)
    assert chosen[: count // 2] == choose_diverse(embeddings, count // 2 or 1)[: count // 2]
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    for position in range(1, len(chosen)):
        nearness = (unit @ unit[chosen[:position]].T).max(axis=1)
        rest = [row for row in range(rows) if row not in chosen[:position]]
        assert nearness[chosen[position]] <= nearness[rest].min() + 1e-6
