"""What this processor has of the instructions by which runtimes choose their 8-bit kernels.

An 8-bit answer belongs to the kernel that computed it. onnxruntime (MLAS) and OpenVINO (oneDNN) choose one when they load, by these
instructions alone, so two processors that have the same of them compute the same.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

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


def _ask_macos(name: str) -> str:
    return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()
