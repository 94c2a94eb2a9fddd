"""What this machine can do: which packages are here, which targets it converts, which sessions it runs, and what is missing.

Only package metadata is read: no toolchain is imported, so the answer is quick and works in the base install.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from edgekit.cores import count_cores, count_threads
from edgekit.emulation.arm64 import default_folder, find_arm64
from edgekit.emulation.machines import find_qemu
from edgekit.errors import MissingError
from edgekit.processors import CPUS
from edgekit.sessions import RUNTIMES
from edgekit.sessions.cuda_engine import list_gpus

DISTRIBUTION = "edgekit-imaging"
"""Its name for pip: PyPI's `edgekit` is another project."""

LIBRARIES_REMEDY = "apt-get install libgl1 libglib2.0-0 libxcb1"
"""Brings `_LIBRARIES` on Debian and Ubuntu."""

_LIBRARIES = ("libGL.so.1", "libgthread-2.0.so.0", "libxcb.so.1")

_DISTRIBUTIONS = {"tensorrt_rtx_bindings": "tensorrt-rtx-cu13-bindings", "cv2": "ultralytics", "PIL": "pillow", "sklearn": "scikit-learn"}
"""Distribution to ask for where an import name does not tell (OpenCV comes with ultralytics)."""


@dataclass(frozen=True, slots=True)
class Package:
    """One requirement of edgekit on this platform.

    Attributes
    ----------
    extra
        The extra that asks for it; empty for the base install.
    required
        Accepted versions, as in ``pyproject.toml``.
    installed
        The version that is here; None when it is missing.
    """

    name: str
    extra: str
    required: str
    installed: str | None

    @property
    def is_usable(self) -> bool:
        """Whether an accepted version is installed."""
        return self.installed is not None and Requirement(f"{self.name}{self.required}").specifier.contains(
            self.installed, prereleases=True
        )


@cache
def list_packages() -> tuple[Package, ...]:
    """List what edgekit requires on this platform, the base first (the extra ``all`` repeats the others), and what is installed.

    Raises
    ------
    MissingError
        If edgekit itself is not installed, as in a checkout that was only put on the path.
    """
    try:
        about = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise MissingError("edgekit is not installed in this Python environment.", "In the checkout, run: pip install -e .") from None
    packages = []
    for extra in ["", *(extra for extra in about.get_all("Provides-Extra") or [] if extra != "all")]:
        for line in about.get_all("Requires-Dist") or []:
            requirement = Requirement(line)
            wanted_by_base = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            if wanted and not (extra and wanted_by_base):
                packages.append(Package(requirement.name, extra, str(requirement.specifier), _installed_version(requirement.name)))
    return tuple(packages)


def extra_of(module: str) -> str | None:
    """Return the install extra that brings `module` (an import name); empty for the base install, None when no extra does."""
    name = _DISTRIBUTIONS.get(module.split(".")[0], module.split(".")[0]).replace("_", "-").lower()
    return next((package.extra for package in list_packages() if package.name.lower() == name), None)


def list_missing(*extras: str) -> list[str]:
    """List the packages of the base and of `extras` that are missing here or have a version that is not accepted."""
    return [package.name for package in list_packages() if package.extra in ("", *extras) and not package.is_usable]


def list_missing_libraries() -> list[str]:
    """List the system libraries that training needs and this machine lacks (OpenCV, which ultralytics requires, loads them)."""
    if platform.system() != "Linux":
        return []
    return [library for library in _LIBRARIES if not _can_load(library)]


def examine() -> dict[str, Any]:
    """Examine this machine.

    Returns
    -------
    dict
        The document that ``edgekit doctor --json`` prints: ``edgekit``, ``python``, ``platform``, ``machine`` (``cores``, the
        ``threads`` that edgekit computes with, ``memory_gb`` of 10^9 bytes or None, ``gpus``), ``packages``, ``train`` (whether this
        machine can train), ``sessions`` (``run``: this machine can open it), ``emulation`` (``run``: bundles can be judged as that
        processor answers), ``targets`` (``convert``; ``run``: the sessions that open it here) and ``advice``:
        what to type for all that is missing. Wherever something can't be done, ``missing`` says why.
    """
    from edgekit.backends import BACKENDS
    from edgekit.targets import list_targets, load_target

    sessions = {name: list_missing(*module.ABOUT.extras) + module.ABOUT.list_missing() for name, module in RUNTIMES.items()}
    targets = []
    for name in list_targets():
        target = load_target(name)
        backend = BACKENDS[target.backend]
        missing = list_missing(*backend.EXTRAS) + list_missing_libraries() + backend.list_missing()
        runnable = [session for session in backend.SESSIONS if not sessions[session]]
        targets.append({"name": name, "backend": target.backend, "convert": not missing, "missing": missing, "run": runnable})
    emulation = {cpu.name: _list_missing_emulation(cpu.architecture) for cpu in CPUS.values()}
    training = list_missing("train") + list_missing_libraries()
    return {
        "edgekit": metadata.version(DISTRIBUTION),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"cores": count_cores(), "threads": count_threads(), "memory_gb": _measure_memory_gb(), "gpus": list_gpus()},
        "packages": [asdict(package) | {"usable": package.is_usable} for package in list_packages()],
        "train": {"run": not training, "missing": training},
        "sessions": [{"name": name, "run": not missing, "missing": missing} for name, missing in sessions.items()],
        "emulation": [{"name": name, "run": not missing, "missing": missing} for name, missing in emulation.items()],
        "targets": targets,
        "advice": _advise(),
    }


def _list_missing_emulation(architecture: str) -> list[str]:
    """List what emulating processors of `architecture` needs, and does not find, with what brings it."""
    try:
        find_qemu(architecture)
        if architecture == "aarch64":
            find_arm64(default_folder())
    except MissingError as error:
        return [f"{error.message} ({error.remedy})"]
    return []


def _advise() -> list[str]:
    extras = [extra for extra in ("train", "export", "litert", "app") if any(p.extra == extra and not p.is_usable for p in list_packages())]
    advice = []
    if list_missing():
        advice.append("pip install --upgrade edgekit-imaging")
    if extras:
        advice.append(f"pip install 'edgekit-imaging[{','.join(extras)}]'")
    if list_missing_libraries():
        advice.append(LIBRARIES_REMEDY)
    return advice


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _measure_memory_gb() -> float | None:
    """Return the machine's memory in 10^9 bytes; None where the system does not tell (Windows)."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
