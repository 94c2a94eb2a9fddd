"""Where a bundle's runner runs: this machine's interpreter, or one under ``qemu-user`` that believes to be another processor."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.emulation import probe
from edgekit.emulation.arm64 import SITE, SYSTEM, default_folder, find_arm64
from edgekit.errors import MissingError
from edgekit.processors import ARCHITECTURES, describe_processor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgekit.processors import Cpu

THREADS = 1
"""Of the graph: the chunks of a table fill the cores."""

VERSIONS = "import json, {}; from importlib.metadata import version; print(json.dumps([version(name) for name in {}]))"
"""Prints the versions of packages, once the modules that they bring are imported."""

QUIET = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Nothing is written into a bundle; nothing is found but what `edgekit.emulation.runtimes` names."""

BLAS = "Nehalem"
"""Kernels of numpy's OpenBLAS that every x86-64 CPU can run; by itself it takes newer ones under qemu. No answer comes from them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Somewhere a Python script can run.

    Attributes
    ----------
    label
        Name for people.
    cpu
        The processor, as ``cpu`` of `edgekit.types.Parity`.
    command
        What goes before the script.
    environment
        All variables there.
    versions
        Versions of all that decides an answer: the packages of `edgekit.emulation.runtimes`, and the emulator.
    """

    label: str
    cpu: dict[str, Any]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    versions: Mapping[str, str]

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a script, and return how it ended and what it printed."""
        return _run((*self.command, *map(str, words)), self.environment)


def open_here(modules: Mapping[str, str]) -> Machine:
    """Return this very machine.

    Parameters
    ----------
    modules
        As of `open_emulated`.
    """
    command, environment = (sys.executable, "-P"), {**os.environ, **QUIET}
    return Machine(
        "this machine", describe_processor(THREADS), command, environment, _import_modules("this machine", command, environment, modules)
    )


@contextmanager
def open_emulated(cpu: Cpu, modules: Mapping[str, str], arm64: Path | None = None) -> Iterator[Machine]:
    """Set up an emulated processor, and make sure that it is that one.

    Parameters
    ----------
    modules
        What scripts import there, and the package that brings each (`edgekit.emulation.runtimes.Runtime`).
    arm64
        The folder that `edgekit.emulation.arm64` laid out; None: where it is looked for.

    Raises
    ------
    MissingError
        This machine lacks qemu, the folder for arm64, or an environment that runs there; or qemu makes another processor than asked for.
    """
    qemu = find_qemu(cpu.architecture)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        # An empty home: what this machine remembers of a bundle was established on another processor.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": name, "XDG_CACHE_HOME": name, **QUIET}
        if cpu.architecture == "x86_64":
            command = (qemu, "-cpu", cpu.model, *_find_own_interpreter(cpu))
            environment |= {"PYTHONPATH": os.pathsep.join(_find_own_packages(modules)), "OPENBLAS_CORETYPE": BLAS}
        else:
            arm64 = find_arm64(arm64 or default_folder(), modules.values())
            for part in ("lib", "usr"):
                (folder / part).symlink_to(arm64 / SYSTEM / part)
            command = (qemu, "-cpu", cpu.model, "-L", name, str(arm64 / SYSTEM / "usr" / "bin" / "python3.11"), "-P")
            environment |= {"PYTHONHOME": str(arm64 / SYSTEM / "usr"), "PYTHONPATH": str(arm64 / SITE)}
        found = _ask_processor(cpu, command, environment)
        if cpu.architecture == "aarch64":  # runtimes read it: without one onnxruntime crashes, and with a richer one too
            (folder / "proc").mkdir()
            (folder / "proc" / "cpuinfo").write_text(describe_cores(cpu, found["flags"], os.cpu_count() or 1))
        version = _read_version(qemu)
        described = {
            "name": f"{cpu.model}, {version}",
            "architecture": cpu.architecture,
            "features": list(cpu.features),
            "threads": THREADS,
            "emulated": cpu.name,
        }
        versions = {**_import_modules(cpu.name, command, environment, modules), "emulator": version}
        yield Machine(cpu.name, described, command, environment, versions)


def find_qemu(architecture: str) -> str:
    """Return the program that emulates processors of `architecture` for one process.

    Raises
    ------
    MissingError
        It is not installed, or this is not Linux.
    """
    if platform.system() != "Linux":
        raise MissingError(f"processors are emulated on Linux only, this is {platform.system()}", "run the command on a Linux machine")
    for name in (f"qemu-{architecture}", f"qemu-{architecture}-static"):
        if found := shutil.which(name):
            return found
    raise MissingError(f"qemu-{architecture} is not installed: it emulates the processor", "On Debian or Ubuntu: apt-get install qemu-user")


def describe_cores(cpu: Cpu, flags: list[str], cores: int) -> str:
    """Return what Linux would say of an ARM processor in ``/proc/cpuinfo``."""
    implementer, variant, part, revision = cpu.midr >> 24, cpu.midr >> 20 & 15, cpu.midr >> 4 & 0xFFF, cpu.midr & 15
    lines = (
        f"Features\t: {' '.join(flags)}",
        f"CPU implementer\t: {implementer:#04x}",
        "CPU architecture: 8",
        f"CPU variant\t: {variant:#x}",
        f"CPU part\t: {part:#05x}",
        f"CPU revision\t: {revision}",
    )
    return "".join(f"processor\t: {core}\n" + "\n".join(lines) + "\n\n" for core in range(cores))


def _ask_processor(cpu: Cpu, command: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, Any]:
    """Let `edgekit.emulation.probe` ask the emulated processor what it has.

    Raises
    ------
    MissingError
        It has other instructions than `cpu`: qemu drops what it can't emulate, and goes on.
    """
    ended = _run((*command, probe.__file__), environment)
    if ended.returncode:
        raise MissingError(f"Python does not run as {cpu.name} here: {say_last(ended)}", "apt-get install --only-upgrade qemu-user")
    found = dict(json.loads(ended.stdout))
    if (found["architecture"], tuple(found["features"])) != (cpu.architecture, cpu.features):
        wanted, have = " ".join(cpu.features), " ".join(found["features"])
        raise MissingError(
            f"qemu makes another processor than {cpu.name} ({cpu.model}): {found['architecture']} with {have}, wanted {wanted}",
            "another version of qemu-user may have it; a verdict on something less would say nothing",
        )
    return found


def _import_modules(label: str, command: tuple[str, ...], environment: Mapping[str, str], modules: Mapping[str, str]) -> dict[str, str]:
    """Import `modules` there, and return the versions of the packages that bring them.

    Raises
    ------
    MissingError
        They can't be imported.
    """
    packages = list(modules.values())
    ended = _run((*command, "-c", VERSIONS.format(", ".join(modules), packages)), environment)
    if ended.returncode:
        raise MissingError(
            f"{', '.join(modules)} can't be imported on {label}: {say_last(ended)}",
            "edgekit doctor says what is missing; packages built for newer processors only don't run on old ones",
        )
    return dict(zip(packages, json.loads(ended.stdout), strict=True))


def say_last(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a process had to say, or how it ended."""
    lines = [line for line in ended.stderr.splitlines() if line.strip() and "TCG doesn't support" not in line]
    return lines[-1].strip() if lines else f"exit code {ended.returncode}"


def _run(command: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, errors="replace", check=False)


def _find_own_interpreter(cpu: Cpu) -> tuple[str, ...]:
    """Return the interpreter that runs edgekit: the real one, for qemu does not know what a link to it stands for."""
    if ARCHITECTURES.get(platform.machine().lower()) != cpu.architecture:
        raise MissingError(f"{cpu.name} is emulated with this very environment, which is {platform.machine()}", "use an x86-64 machine")
    return (str(Path(sys.executable).resolve()), "-P")


def _find_own_packages(modules: Mapping[str, str]) -> list[str]:
    """Return the folders that hold `modules`."""
    specs = [importlib.util.find_spec(name.partition(".")[0]) for name in modules]
    return list(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin))


def _read_version(qemu: str) -> str:
    """Return ``qemu`` and its version."""
    ended = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False)
    words = ended.stdout.split()
    return f"qemu {words[2]}" if len(words) > 2 else "qemu"
