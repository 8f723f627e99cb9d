"""Wheels for an offline kit: all that predicting needs, for one Python on one platform, each with its hash."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from birdemb.errors import BirdembError, InputError
from birdemb.kit_distribution import run_pip
from birdemb.storage import hash_file

__all__ = [
    "PLATFORMS",
    "REQUIREMENTS_FILE",
    "PackedWheels",
    "Wheel",
    "check_target",
    "make_environment",
    "pack_wheels",
    "select_wheels",
]

REQUIREMENTS_FILE = "requirements.txt"

_NEWEST_GLIBC = {"x86_64": 28, "aarch64": 35}
"""Minor version of the newest glibc 2 whose wheels are taken: what those of OpenVINO 2026 are built for. RHEL 8 has
2.28, Debian 12 and Ubuntu 22.04 have 2.35 or newer."""

PLATFORMS: dict[str, tuple[str, ...]] = {
    "linux-x86_64": (
        *(f"manylinux_2_{minor}_x86_64" for minor in range(_NEWEST_GLIBC["x86_64"], 4, -1)),
        "manylinux2014_x86_64",  # and older names, which pip adds by itself
    ),
    "linux-aarch64": (
        *(f"manylinux_2_{minor}_aarch64" for minor in range(_NEWEST_GLIBC["aarch64"], 16, -1)),
        "manylinux2014_aarch64",
    ),
    "macos-arm64": ("macosx_14_0_arm64",),  # pip takes those for older ones, too
    "macos-x86_64": ("macosx_13_0_x86_64",),
    "windows-amd64": ("win_amd64",),
}
"""Platforms by name, each with the tags of wheels that it can install
(https://packaging.python.org/specifications/platform-compatibility-tags)."""

_SYSTEMS = {
    "linux": ("Linux", "linux", "posix"),
    "macos": ("Darwin", "darwin", "posix"),
    "windows": ("Windows", "win32", "nt"),
}
"""What Python's platform.system(), sys.platform and os.name say."""

_TAG = re.compile(r"(manylinux|musllinux|macosx|linux|win)[a-z0-9_]+")
_PYTHON = re.compile(r"3\.(1[1-9]|[2-9][0-9])")
_MOST_ROUNDS = 4
"""In which pip is asked for what it left out; a package that is needed by one that was left out takes a second."""


@dataclass(frozen=True)
class PackedWheels:
    """The wheels in a kit.

    Parameters
    ----------
    python : str
        The Python that they are for, such as ``"3.11"``.
    platform : str
        One of `PLATFORMS`, or a tag of wheels.
    versions : dict
        Of each package, by its name.
    extras : tuple of str
        Of birdemb, that its encoders need.
    """

    python: str
    platform: str
    versions: dict[str, str]
    extras: tuple[str, ...]


class Wheel(NamedTuple):
    """A wheel, and what it says of itself."""

    path: Path
    version: str
    requirements: list[Requirement]


def pack_wheels(
    own: Path, folder: Path, *, python: str, platform: str, extras: Iterable[str] = (), versions: str = "installed"
) -> PackedWheels:
    """Get wheels of birdemb and of all that it needs to predict, and list them with their hashes for pip.

    Parameters
    ----------
    own : Path
        The wheel of birdemb itself, as `birdemb.kit_distribution.make_own_wheel` makes it.
    folder : Path
        Where to put them; made if need be.
    python : str
        The Python that they are for, such as ``"3.11"``.
    platform : str
        One of `PLATFORMS`, or a tag of wheels, such as ``"musllinux_1_2_x86_64"``.
    extras : iterable of str
        Of birdemb, that its encoders need.
    versions : {"installed", "newest"}
        Which versions of what birdemb requires: those that are installed here, or the newest.

    Returns
    -------
    PackedWheels

    Raises
    ------
    BirdembError
        If there are no wheels for that Python and platform, or pip cannot get them.
    """
    tags = check_target(python, platform)
    chosen = tuple(sorted(set(extras)))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wanted = f"{own}[{','.join(chosen)}]" if chosen else str(own)
        constraints = Path(temporary) / "constraints.txt"
        constraints.write_text("\n".join(_pin_installed(own)) if versions == "installed" else "", encoding="utf-8")
        selected = _download(folder, [wanted], chosen, constraints, python, platform, tags)
    for path in folder.glob("*.whl"):
        if path not in {wheel.path for wheel in selected.values()}:
            path.unlink()  # needed by the Python that runs here, and not by the other
    lines = [
        f"{name}=={wheel.version} --hash=sha256:{hash_file(wheel.path)}" for name, wheel in sorted(selected.items())
    ]
    (folder / REQUIREMENTS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return PackedWheels(python, platform, {name: wheel.version for name, wheel in sorted(selected.items())}, chosen)


def check_target(python: str, platform: str) -> tuple[str, ...]:
    """Make sure that there is such a Python and platform, and give the tags of its wheels.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> check_target("3.12", "windows-amd64")
    ('win_amd64',)
    """
    if not _PYTHON.fullmatch(python):
        raise InputError(f"--python is {python!r}; expected 3.11, 3.12 or newer, without a third number.")
    if platform not in PLATFORMS and not _TAG.fullmatch(platform):
        raise InputError(
            f"--platform is {platform!r}; expected {', '.join(PLATFORMS)}, or a tag of wheels such as "
            "musllinux_1_2_x86_64."
        )
    return PLATFORMS.get(platform, (platform,))


def _pin_installed(own: Path) -> list[str]:
    """Give constraints: what birdemb requires, in the versions that are installed here."""
    pins = []
    for requirement in _read_wheel(own).requirements:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        pins.append(f"{requirement.name}=={installed.partition('+')[0]}")
    return sorted(set(pins))


def _download(
    folder: Path,
    wanted: list[str],
    extras: Sequence[str],
    constraints: Path,
    python: str,
    platform: str,
    tags: Sequence[str],
) -> dict[str, Wheel]:
    """Let pip get wheels until nothing is missing. It decides by the Python that runs it what needs what."""
    for _ in range(_MOST_ROUNDS):
        problem = run_pip(
            "download",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={python}",
            *(f"--platform={tag}" for tag in tags),
            "--constraint",
            constraints,
            "--dest",
            folder,
            *wanted,
        )
        if problem:
            raise BirdembError(
                f"pip cannot get the wheels for Python {python} on {platform}: {problem.rstrip('.')}. Check the "
                "connection, name another --python or --platform, or take other versions with --versions newest."
            )
        selected, missing = select_wheels(folder, extras, make_environment(python, platform))
        if not missing:
            return selected
        wanted += missing
    raise BirdembError(f"pip leaves out what Python {python} on {platform} needs: {', '.join(missing)}.")


def make_environment(python: str, platform: str) -> dict[str, str]:
    """Give what the markers of requirements ask for, of a Python on a platform.

    Parameters
    ----------
    python : str
    platform : str
        One of `PLATFORMS`, or a tag of wheels.

    Returns
    -------
    dict

    Examples
    --------
    >>> environment = make_environment("3.12", "windows-amd64")
    >>> environment["sys_platform"], environment["platform_machine"], environment["python_version"]
    ('win32', 'AMD64', '3.12')

    Notes
    -----
    Their names are those of https://packaging.python.org/specifications/dependency-specifiers.
    """
    kind = next((kind for kind in _SYSTEMS if platform.startswith(kind[:3])), "linux")  # of musllinux, too
    system, short, operating = _SYSTEMS[kind]
    found = re.search(r"x86_64|aarch64|arm64|amd64|i686|armv7l|ppc64le|s390x", platform)
    machine = found[0] if found else ""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": operating,
        "platform_machine": machine.upper() if system == "Windows" else machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": short,
    }


def select_wheels(
    folder: Path, extras: Iterable[str], environment: Mapping[str, str]
) -> tuple[dict[str, Wheel], list[str]]:
    """Follow the requirements of birdemb through the wheels in a folder.

    Parameters
    ----------
    folder : Path
    extras : iterable of str
        Of birdemb.
    environment : dict
        As `make_environment` gives it.

    Returns
    -------
    wheels : dict
        Those that are needed, by the names of their packages.
    missing : list of str
        Requirements that none of the wheels meets.
    """
    wheels = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            package = parse_wheel_filename(path.name)[0]
        except InvalidWheelFilename as error:
            raise InputError(f"{path.name} is no name for a wheel ({error}).") from error
        wheels[package] = _read_wheel(path)
    selected: dict[str, Wheel] = {}
    missing: list[str] = []
    seen: set[tuple[str, str]] = set()
    waiting = [("birdemb", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        wheel = wheels[canonicalize_name(name)]
        selected[name] = wheel
        for requirement in wheel.requirements:
            if requirement.marker is not None and not requirement.marker.evaluate({**environment, "extra": extra}):
                continue
            needed = canonicalize_name(requirement.name)
            if needed in wheels and requirement.specifier.contains(wheels[needed].version, prereleases=True):
                waiting += [(needed, more) for more in ("", *requirement.extras)]
            else:
                more = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
                missing.append(f"{requirement.name}{more}{requirement.specifier}")
    return selected, sorted(set(missing))


def _read_wheel(path: Path) -> Wheel:
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            headers = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise InputError(f"{path} is no wheel that can be read ({error}). Pack again.") from error
    requirements = [Requirement(line) for line in headers.get_all("Requires-Dist", [])]
    return Wheel(path, str(headers["Version"]), requirements)
