"""The commands that look after the cache."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cache_files import HALF, IDENTITY, assert_holds, fill, shards
from card_files import own_card
from click.testing import CliRunner
from test_cache_maintenance import damage_rows
from test_cache_view import remember

from birdemb.cache import EmbeddingCache
from birdemb.cache_commands import cache
from birdemb.errors import InputError


def run(*arguments, status=0):
    result = CliRunner().invoke(cache, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


@pytest.mark.parametrize("command", cache.commands)
def test_every_command_explains_itself_with_examples(command):
    said = run(command, "--help")
    assert "Examples:" in said
    assert f"birdemb cache {command}" in said


def test_info_tells_what_is_there(tmp_path):
    fill(Path(".birdemb/cache"), range(8), HALF | {"weights_sha256": "ab" * 32, "quantized_sha256": "cd" * 32})
    fill(Path(".birdemb/cache"), range(8), IDENTITY | {"encoder": "abc"})
    said = run("info")
    assert "melspec: .birdemb/cache/melspec-" in said
    assert "width 4, float16, 3 logits" in said
    assert "window 5.0, hop 5.0, weights abababababab..., quantized cdcdcdcdcdcd..." in said
    assert "8 complete, 0 unfinished" in said
    assert "20 (0.01 h)" in said
    assert said == run("info", ".birdemb") == run("info", "--workspace", ".birdemb")
    assert "abc: " in said
    shards(tmp_path / ".birdemb" / "cache", ".npy")[0].unlink()
    assert "1 shards, passed over; `birdemb cache gc` removes them" in run("info")


def test_info_tells_of_another_format():
    folder = fill(Path("cache"), [1]).folder
    (folder / "identity.json").write_text(json.dumps(IDENTITY | {"format": 1}))
    assert "has format 1" in run("info", "cache")


def test_verify_and_gc_mend(tmp_path):
    fill(tmp_path / ".birdemb" / "cache", range(8))
    assert "Read 20 windows in 8 parts and 1 shards (320 bytes): nothing damaged" in run("verify")
    damage_rows(tmp_path / ".birdemb" / "cache", 3)
    said = run("verify", status=1)
    assert "1 damaged" in said
    assert "`birdemb cache gc` removes what is damaged; `birdemb embed` then embeds it again" in said
    assert "This would be done:\n  1 damaged shards and parts removed" in run("gc", "--dry-run")
    run("verify", status=1)
    said = run("gc")
    assert "1 damaged shards and parts removed" in said
    assert "1 shards written anew, as 1" in said
    run("verify")
    assert_holds(EmbeddingCache(tmp_path / ".birdemb" / "cache", IDENTITY), [0, 1, 2, 4, 5, 6, 7])
    remember(tmp_path / ".birdemb", [1])
    for sidecar in shards(tmp_path / ".birdemb" / "cache", ".json"):
        os.utime(sidecar, (0, 0))
    assert "6 parts of recordings that are not listed removed" in run("gc", "--unlisted")


def test_merge_tells_what_it_did(tmp_path):
    fill(tmp_path / "a", range(4))
    fill(tmp_path / "b", range(2, 8))
    assert "Copied 20 windows in 8 parts; 2 parts were there already" in run("merge", "a", "b", "--into", "c")
    assert_holds(EmbeddingCache(tmp_path / "c", IDENTITY), range(8))
    fill(tmp_path / "b", [12])
    damage_rows(tmp_path / "b", 12)
    assert "left out as damaged, or of another format: 1" in run("merge", "b", "--into", "c", status=3)


def test_export_writes_what_its_name_says(tmp_path):
    fill(tmp_path / ".birdemb" / "cache", range(4))
    assert run("export", "-o", "out.npz") == "Exported 10 windows to out.npz\n"
    assert np.load("out.npz", allow_pickle=False)["embeddings"].shape == (10, 4)
    fill(tmp_path / ".birdemb" / "cache", range(2), IDENTITY | {"encoder": "abc"})
    with pytest.raises(InputError, match="2 identities"):
        run("export", "-o", "out.npz")
    assert run("export", "-e", "abc", "-o", "out.npz") == "Exported 3 windows to out.npz\n"
    card = own_card(tmp_path / "cards", name="abc")
    assert run("export", "-e", card, "-o", "out.npz") == "Exported 3 windows to out.npz\n"
    with pytest.raises(InputError, match="the one you are in"):
        run("export", "-e", "abc", "-o", ".")


@pytest.mark.parametrize("command", ["info", "verify", "gc", "export -o x.npz", "merge x --into y"])
def test_no_cache_is_told(command):
    with pytest.raises(InputError, match=r"No cache of embeddings in .* `birdemb embed FOLDER`"):
        run(*command.split())
