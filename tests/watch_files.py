"""A bundle for tests that watch folders, and watches whose time passes by itself."""

import csv
import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import soundfile

from birdemb.classify.blending import Blend
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import write_bundle
from birdemb.classify.ensemble import Ensemble, Member
from birdemb.classify.heads import make_head
from birdemb.embed.encoder import load_encoder
from birdemb.embed.run import identify
from birdemb.embed.windows import WindowGrid
from birdemb.taxonomy import ClassName
from birdemb.watching import watch

RATE = 8000
CLASSES = (ClassName("amecro", "Corvus brachyrhynchos", "American Crow"), ClassName("norcar"), ClassName("noise, wind"))


def make_model(path, *, seed=0, method="mean", heads=1):
    """Write a bundle that knows three classes by chance, and says something of every recording."""
    identity = identify(load_encoder("melspec"), WindowGrid())
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, identity["dim"])).astype(np.float32)
    y = (X[:, :3] > 0).astype(int)
    members = tuple(Member(make_head("lr", random_state=0, C=1e-3).fit(X, y)) for _ in range(heads))
    ensemble = Ensemble(members, (None,), Blend.equal(method, heads, 3))
    write_bundle(Bundle(ensemble, CLASSES, (identity,), np.full(3, 0.3), {}, {}), path)
    return path


def sound_of(seconds=7.0, seed=0):
    """The bytes of a WAV file."""
    path = Path("sound.wav")
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    content = path.read_bytes()
    path.unlink()
    return content


def without_length(content):
    """The same with the length in its header left open, as recorders have it until the end."""
    return content[:4] + struct.pack("<I", 0) + content[8:40] + struct.pack("<I", 0) + content[44:]


class Script:
    """Lets time pass where a watch waits, and things happen at their times in seconds.

    Parameters
    ----------
    events : dict
        From the time to a callable, or a list of some.
    until : float
        When the watch ends.
    """

    def __init__(self, events=None, until=4.0):
        self._events = dict(sorted((events or {}).items()))
        self._until = until
        self.now = 0.0
        self.lines = []
        self._happen()

    def clock(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        self._happen()

    def stop(self):
        return self.now >= self._until

    def _happen(self):
        for time in [time for time in self._events if time <= self.now]:
            self._events.pop(time)()


def run_watch(events=None, *, until=4.0, folder="in", output="found.csv", form="long", **settings):
    """Watch a folder with a look each second, and give the lines that it said and its report."""
    script = Script(events, until)
    report = watch(
        folder,
        output=output,
        form=form,
        **{"model": "model.birdemb", "jobs": 1, "interval": 1.0, "patience": 3.0, **settings},
        stop=script.stop,
        tell=script.lines.append,
        wait=script.wait,
        clock=script.clock,
    )
    return script.lines, report


def put(name, content, folder="in"):
    """Give what writes a file, replacing an older one in its place."""

    def write():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


def hash_of(content):
    return hashlib.sha256(content).hexdigest()


def assert_same_rows(found, expected):
    """The same lines in any order, but for the last digits, which depend on how many windows are predicted together."""
    found, expected = ([re.split("[,:} ]", line) for line in sorted(lines)] for lines in (found, expected))
    for ours, theirs in zip(found, expected, strict=True):
        assert [cell for cell in ours if not is_fraction(cell)] == [cell for cell in theirs if not is_fraction(cell)]
        values = ([float(cell) for cell in cells if is_fraction(cell)] for cells in (ours, theirs))
        np.testing.assert_allclose(*values, atol=1e-6)


def is_fraction(cell):
    return re.fullmatch(r"0\.\d{5,}(e-\d+)?", cell) is not None


def rows_of(path="found.csv"):
    with Path(path).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def recordings_of(path="found.csv"):
    """The names in the first column, each once for all its rows that follow each other."""
    names = [row[0] for row in rows_of(path)[1]]
    return [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
