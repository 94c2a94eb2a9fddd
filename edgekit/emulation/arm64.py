"""A folder with what runs a bundle on 64-bit ARM: Debian's interpreter and libraries, and PyPI's wheels of this environment's versions.

::

    arm64/  system/   Debian's packages, unpacked        site/  the wheels, unpacked
            arm64.json   versions of all of them; written last

Nothing is installed and no root is needed: ``apt-get download`` with a configuration of its own fetches packages of another architecture
and checks their signatures by Debian's keyring.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.emulation.runtimes import COMMON, list_runtimes, list_versions
from edgekit.errors import InputError, MissingError
from edgekit.files import write_json
from edgekit.progress import progress_bar
from edgekit.remembered import find_cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VARIABLE = "EDGEKIT_ARM64"
"""Names the folder, where it is not in the user's cache."""

SYSTEM, SITE, DOWNLOADS, VERSIONS = "system", "site", "downloads", "arm64.json"

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN = (
    "libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal libpython3.11-stdlib libssl3 libstdc++6 libuuid1 "
    "python3.11-minimal zlib1g"
)
"""Its packages of the interpreter, and all that this loads."""

PYTHON = "3.11"
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))
"""Wheels that Debian 12's C library (2.36) can load."""

COMMAND = "edgekit emulator arm64"


def default_folder() -> Path:
    """Return where the folder is looked for: where `VARIABLE` says, else in the user's cache."""
    return Path(given) if (given := os.environ.get(VARIABLE)) else find_cache_folder() / "edgekit" / "arm64"


def find_arm64(folder: Path, packages: Iterable[str] | None = None) -> Path:
    """Return the folder, absolute, once it is found to be whole and of this environment's versions.

    Parameters
    ----------
    packages
        Those that must be in it, if this environment has them; None: all that it is laid out with.

    Raises
    ------
    MissingError
        It is not there, or of other versions.
    """
    found = _read_versions(folder)
    if found is None:
        raise MissingError(f"{folder} does not hold what 64-bit ARM is emulated with", f"lay it out once (it downloads 70 MB): {COMMAND}")
    wanted = _list_wheels() if packages is None else list_versions(packages)
    if changed := [f"{name} {found.get(name, 'none')}, here {version}" for name, version in wanted.items() if found.get(name) != version]:
        raise MissingError(f"{folder} is of other versions than this environment: {'; '.join(changed)}", f"lay it out again: {COMMAND}")
    return folder.absolute()


def lay_out_arm64(folder: Path) -> dict[str, str]:
    """Download and unpack everything; what is there already is not fetched again, and a folder that is whole is left alone.

    Parameters
    ----------
    folder
        Where to; new, empty, or of an earlier call that was interrupted or is of other versions.

    Returns
    -------
    The versions, by package.

    Raises
    ------
    InputError
        `folder` holds something else.
    MissingError
        apt-get, dpkg-deb, pip or Debian's keyring are missing, or a download failed.
    """
    if folder.is_dir() and (others := sorted({path.name for path in folder.iterdir()} - {SYSTEM, SITE, DOWNLOADS, VERSIONS})):
        raise InputError(f"{folder} holds other things: {', '.join(others[:5])}", "name an empty folder with --out")
    wheels, found = _list_wheels(), _read_versions(folder)
    if found is not None and all(found.get(name) == version for name, version in wheels.items()):
        return found
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise MissingError(
                f"{program} is not here: the folder is laid out on Debian and its descendants", "lay it out on such a machine"
            )
    if not KEYRING.exists():
        raise MissingError(f"{KEYRING} is missing: Debian's signatures can't be checked", "apt-get install debian-archive-keyring")
    (folder / VERSIONS).unlink(missing_ok=True)  # until the end it is not whole
    downloads = folder / DOWNLOADS
    downloads.mkdir(parents=True, exist_ok=True)
    with progress_bar("Laying out arm64", len(DEBIAN.split()) + len(wheels) + 3) as advance:
        apt = _write_apt(downloads)
        _call(["apt-get", "update"], downloads, apt)
        advance()
        for name in DEBIAN.split():
            if not any(downloads.glob(f"{name}_*.deb")):
                _call(["apt-get", "download", name], downloads, apt)
            advance()
        for name, version in wheels.items():
            _download_wheel(downloads, name, version)
            advance()
        versions = dict(wheels)
        for part in (SYSTEM, SITE):
            shutil.rmtree(folder / part, ignore_errors=True)
        for package in sorted(downloads.glob("*.deb")):
            _call(["dpkg-deb", "-x", package.name, str(folder / SYSTEM)], downloads, {})
            name, version, _ = package.stem.split("_")
            versions[name] = version
        advance()
        for name, version in wheels.items():
            with zipfile.ZipFile(_find_wheel(downloads, name, version)[0]) as archive:
                archive.extractall(folder / SITE)
        advance()
    write_json(folder / VERSIONS, versions)
    shutil.rmtree(downloads)
    return versions


def _read_versions(folder: Path) -> dict[str, str] | None:
    """Return the versions of a folder that is whole; None of any other."""
    try:
        return dict(json.loads((folder / VERSIONS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _list_wheels() -> dict[str, str]:
    """Return this environment's versions of what the runners of emulated bundles import; a runtime that it lacks is left out."""
    return list_versions([*COMMON.values(), *(name for runtime in list_runtimes() for name in runtime.modules.values())])


def _write_apt(folder: Path) -> dict[str, str]:
    """Write a configuration of apt's for another architecture, and return the environment that makes apt read it."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt" / "status").touch()
    (folder / "apt" / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::State": str(folder / "apt" / "state"),
        "Dir::State::status": str(folder / "apt" / "status"),
        "Dir::Cache": str(folder / "apt" / "cache"),
        "Dir::Etc::sourcelist": str(folder / "apt" / "sources.list"),
        "Dir::Etc::sourceparts": "-",
    }
    (folder / "apt" / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return {"APT_CONFIG": str(folder / "apt" / "apt.conf")}


def _download_wheel(folder: Path, name: str, version: str) -> None:
    if _find_wheel(folder, name, version):
        return
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary", ":all:", *platforms]
    _call([*pip, "--implementation", "cp", "--python-version", PYTHON, "--dest", ".", f"{name}=={version}"], folder, {})


def _find_wheel(folder: Path, name: str, version: str) -> list[Path]:
    return sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*aarch64.whl"))


def _call(command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command that must succeed."""
    ended = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()[-3:]
        shown = " ".join(word for word in command if not word.startswith("manylinux") and word != "--platform")
        raise MissingError(f"{shown}: {' '.join(said)}", f"what was downloaded is kept; when the network is there, again: {COMMAND}")
