"""The instructions by which runtimes choose their 8-bit kernels: which this processor has, and which others can be emulated.

An 8-bit answer belongs to the kernel that computed it. onnxruntime (MLAS) and OpenVINO (oneDNN) choose one when they load, by these
instructions alone, so two processors that have the same of them compute the same. LiteRT (XNNPACK) chooses its kernels
in float by the model too: a Haswell and an EPYC of the first generation round differently there (`docs/performance.md`, "LiteRT").
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError

FEATURES: dict[str, tuple[str, ...]] = {
    "x86_64": ("sse4_1", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "i8mm"),
}
"""By architecture, each under Linux's name for it, from the oldest to the newest."""

ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
"""What systems call them, in small letters."""

MACOS = {"asimddp": "hw.optional.arm.FEAT_DotProd", "i8mm": "hw.optional.arm.FEAT_I8MM", "asimd": "hw.optional.AdvSIMD"}
MACOS |= {"sse4_1": "hw.optional.sse4_1", "avx2": "hw.optional.avx2_0", "avx512bw": "hw.optional.avx512bw"}

WINDOWS = {"sse4_1": 37, "avx2": 40, "asimd": 19, "asimddp": 43}
"""Numbers of ``IsProcessorFeaturePresent`` (winnt.h); Windows tells nothing of the others without an instruction of its own."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor that ``qemu-user`` can be.

    Attributes
    ----------
    architecture
        A key of `FEATURES`.
    model
        What its ``-cpu`` calls it.
    features
        All that it has of `FEATURES`; the others it lacks.
    description
        Who has such a processor.
    midr
        Arm's main identification register, as qemu gives it to `model`; 0 where there is none.
    """

    name: str
    architecture: str
    model: str
    features: tuple[str, ...]
    description: str
    midr: int = 0


CPUS: dict[str, Cpu] = {
    cpu.name: cpu
    for cpu in (
        Cpu("haswell", "x86_64", "Haswell", ("sse4_1", "avx2"), "AVX2 without VNNI: most of Intel's made from 2013 to 2020"),
        Cpu("epyc", "x86_64", "EPYC", ("sse4_1", "avx2"), "AVX2 without VNNI: AMD's Zen to Zen 3"),
        Cpu("nehalem", "x86_64", "Nehalem", ("sse4_1",), "SSE4 alone: made before 2013, and many virtual machines"),
        Cpu("neon", "aarch64", "cortex-a53", ("asimd",), "ARMv8.0: Cortex-A53 and A72, phones of 2014 to 2017, Raspberry Pi 4", 0x410FD034),
        Cpu("neon-dotprod", "aarch64", "neoverse-n1", ("asimd", "asimddp"), "ARMv8.2 with dot products: phones since 2018", 0x414FD0C1),
    )
}
"""The processors that can be emulated. AVX-512, VNNI and AMX can't: qemu would be something less without a word."""

NOT_EMULATED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("x86_64", ("sse4_1", "avx2", "avx_vnni")),
    ("x86_64", ("sse4_1", "avx2", "avx512bw")),
    ("x86_64", ("sse4_1", "avx2", "avx512bw", "avx512_vnni")),
    ("x86_64", ("sse4_1", "avx2", "avx_vnni", "avx512bw", "avx512_vnni")),
    ("x86_64", ("sse4_1", "avx2", "avx512bw", "avx512_vnni", "amx_int8")),
    ("x86_64", ("sse4_1", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8")),
    ("aarch64", ("asimd", "asimddp", "i8mm")),
)
"""Architecture and features of the other processors there are. They are right where no sum of a file can overflow, whatever the kernel."""


def choose_cpus(names: str) -> list[Cpu]:
    """Return the `CPUS` of a list such as ``haswell,neon``, each once.

    Raises
    ------
    UsageError
        One is unknown.
    """
    chosen = dict.fromkeys(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in CPUS:
            known = "; ".join(f"{cpu.name} ({cpu.description})" for cpu in CPUS.values())
            raise UsageError(f"unknown CPU {name!r}: AVX-512 and VNNI can't be emulated, these can", f"choose of: {known}")
    return [CPUS[name] for name in chosen]


def describe_processor(threads: int | None) -> dict[str, Any]:
    """Return what a verdict reached on this machine says it ran on: ``name``, ``architecture``, ``features``, ``threads``, ``emulated``.

    Parameters
    ----------
    threads
        Threads within an operator; None was the runtime's own choice.
    """
    machine = platform.machine().lower()
    return {
        "name": _read_name(),
        "architecture": ARCHITECTURES.get(machine, machine),
        "features": list(read_features()),
        "threads": threads,
        "emulated": None,
    }


def read_features() -> tuple[str, ...]:
    """Return the entries of `FEATURES` that this processor has, as far as its system tells; empty on another architecture.

    Under ``qemu-user`` the system is the host's: what is emulated is known to whoever started it.
    """
    known = FEATURES.get(ARCHITECTURES.get(platform.machine().lower(), ""), ())
    if sys.platform == "win32":
        has = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return tuple(name for name in known if name in WINDOWS and has(WINDOWS[name]))
    if sys.platform == "darwin":
        return tuple(name for name in known if name in MACOS and _ask_macos(MACOS[name]) == "1")
    return read_flags(Path("/proc/cpuinfo"), known)


def read_flags(cpuinfo: Path, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of `known` that the first processor of a Linux ``/proc/cpuinfo`` lists among its flags."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return tuple(name for name in known if name in flags)


def _read_name() -> str:
    """Return what the maker calls this processor, as far as the system tells."""
    if sys.platform == "darwin":
        return _ask_macos("machdep.cpu.brand_string")
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty or the bare architecture on Linux
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _ask_macos(name: str) -> str:
    return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()
