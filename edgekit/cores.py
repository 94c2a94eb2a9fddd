"""The cores of a machine that has other work: how many threads a process takes, and whether those that wait sleep.

OpenMP's threads, and onnxruntime's, wait for each other by spinning: beside one busy process, on two cores, they cost each other most of
the time. ``OMP_NUM_THREADS`` and ``OMP_WAIT_POLICY`` (OpenMP 5.2, 21.2 and 21.5) change both, for all of edgekit's runtimes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = "OMP_NUM_THREADS"
POLICY = "OMP_WAIT_POLICY"

_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")

_shared: dict[str, str] = {}
"""What `share_machine` set in this process's environment."""


def share_machine() -> None:
    """Let the libraries of this process, and of those that it starts, share the machine with others; before the first of them is loaded.

    They take as many threads as there are cores for them, and these sleep while they wait. What the user has set stays.

    Raises
    ------
    UsageError
        ``OMP_NUM_THREADS`` or ``OMP_WAIT_POLICY`` has no meaning.
    """
    threads = count_threads()
    if os.environ.get(POLICY, "").lower() not in ("", "active", "passive"):
        raise UsageError(f"{POLICY} is {os.environ[POLICY]!r}", "unset it, or set it to passive or active")
    for name, value in ((NUMBER, str(threads)), (POLICY, "passive")):
        if not os.environ.get(name):
            os.environ[name] = _shared[name] = value


@contextmanager
def unshared() -> Iterator[None]:
    """Let the processes that are started within take the machine for themselves, as a measurement of latency does."""
    for name in _shared:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.update(_shared)


def is_sharing() -> bool:
    """Tell whether threads are to sleep while they wait."""
    return os.environ.get(POLICY, "").lower() == "passive"


def count_cores() -> int:
    """Count the logical cores that this process may use, by its affinity and by the limits of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_read_quotas()]))


def count_threads() -> int:
    """Count the threads to compute with, or processes: one a core, or what the user has set.

    Raises
    ------
    UsageError
        ``OMP_NUM_THREADS`` has no meaning.
    """
    if wanted := os.environ.get(NUMBER):
        first = wanted.split(",")[0].strip()  # OpenMP's list is by nested level
        if not first.isdecimal() or int(first) < 1:
            raise UsageError(f"{NUMBER} is {wanted!r}", "unset it, or set it to a number of threads")
        return int(first)
    return count_cores()


def _read_quotas() -> list[int]:
    """Return how many cores' time a container leaves this process, rounded up, for each of its groups that has a limit (cgroup v2)."""
    try:
        group = next(line[3:] for line in _CGROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    quotas = []
    place = _CGROUPS / group.strip("/")
    for folder in (place, *place.parents):
        if folder.is_relative_to(_CGROUPS):
            try:
                quota, period = (folder / "cpu.max").read_text().split()
            except (OSError, ValueError):
                continue
            if quota != "max":
                quotas.append(-(-int(quota) // int(period)))
    return quotas
