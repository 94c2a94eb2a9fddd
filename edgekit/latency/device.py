"""What the figures belong to, and whether it was quiet."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from edgekit.cores import count_cores

BUSY_LOAD = 0.5
"""Load average of the last minute, a core, above which a machine is called busy before anything was measured."""
BUSY_SPREAD = 0.15
"""Spread of the rounds above which it is called busy while something was measured."""


def describe_device() -> dict[str, Any]:
    """Return what the figures belong to: processor, cores, system."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():  # platform.processor() is empty or the bare architecture on Linux
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    return {"cpu": processor or platform.machine(), "cores": count_cores(), "os": platform.platform(), "python": platform.python_version()}


def read_load() -> float | None:
    """Return the load average of the last minute, or None where the system keeps none (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def find_disturbances(load: float | None, spreads: dict[str, float]) -> list[str]:
    """Say in plain sentences why figures are not to be trusted; nothing if the machine was quiet.

    Parameters
    ----------
    load
        `read_load` before the measurement.
    spreads
        By row, `edgekit.types.Latency.spread`.
    """
    sentences = []
    cores = count_cores()
    if load is not None and load > BUSY_LOAD * cores:
        sentences.append(f"the machine was busy before anything was measured: load average {load:.1f} on {cores} cores")
    shaken = {name: spread for name, spread in spreads.items() if spread > BUSY_SPREAD}
    if shaken:
        told = ", ".join(f"{name} {100 * spread:.0f} %" for name, spread in shaken.items())
        sentences.append(
            f"the machine was busy while it measured: the rounds' medians spread by {told} (quiet: below {100 * BUSY_SPREAD:.0f} %); "
            "compare ratios, not times"
        )
    return sentences
