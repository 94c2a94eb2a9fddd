"""Whole processes: what `edgekit predict` takes from the command to the answer, and how much memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError
from edgekit.latency.workers import summarize_turns
from edgekit.studies import write_studies
from edgekit.types import Latency

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from edgekit.types import Bundle, Study

EVERY_S = 0.01
CHECKOUT = Path(__file__).parents[1]


def measure_cold(suite: dict[str, Any], bundle: Bundle, name: str, studies: Sequence[Study], arguments: Namespace) -> list[Latency]:
    """Time fresh processes that answer for one patient from DICOM, in turns.

    Parameters
    ----------
    arguments
        ``before`` is a checkout of an earlier commit, measured as `name` with ``", before"``; None measures none.

    Returns
    -------
    The row `name`: the golden vectors passed here before. The row `name` with ``", first time"``: they run before the answer.
    """
    films = ["--ap", str(Path(studies[0].film("ap")).absolute()), "--lateral", str(Path(studies[0].film("lateral")).absolute())]
    command = ["predict", str(bundle.folder), *films, "--json"]
    times: dict[str, list[list[float]]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept"

        def run(kind: str, checkout: Path, cache: Path, counts: bool) -> None:
            seconds, memory = watch(command, checkout, cache)
            if counts:
                times.setdefault(kind, []).append([1000 * seconds])
                peaks[kind] = max(peaks.get(kind, 0.0), *memory)

        for turn in range(-suite["warmup"], suite["runs"]):
            run(name, CHECKOUT, kept, turn >= 0)
            run(f"{name}, first time", CHECKOUT, Path(folder) / str(turn), turn >= 0)
            if arguments.before is not None:
                run(f"{name}, before", arguments.before.resolve(), kept, turn >= 0)
    return _compare_turns("cold", bundle, times, peaks, suite["warmup"])


def measure_screening(suite: dict[str, Any], bundle: Bundle, name: str, studies: Sequence[Study], _: Namespace) -> list[Latency]:
    """Time one process that answers for many rows; they point at the same films again and again."""
    few = list(studies)[: suite["films_of"]]
    rows = [few[index % len(few)] for index in range(suite["rows"])]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "studies.csv"
        write_studies(table, rows)
        command = ["predict", str(bundle.folder), "--studies", str(table), "--out", str(Path(folder) / "predictions.csv")]
        seconds, memory = watch(command, CHECKOUT, Path(folder) / "cache")
    row = _make_row("screening", name, bundle, [1000 * seconds / len(rows)], max(memory), 0)
    quarters = [statistics.median(memory[len(memory) * part // 4 : len(memory) * (part + 1) // 4] or [0.0]) for part in range(4)]
    row.notes.append(f"{len(rows)} rows on the films of {len(few)} patients, start of the process included")
    row.notes.append("resident memory by quarter of the time: " + ", ".join(f"{value:.0f}" for value in quarters) + " MB")
    return [row]


def measure_shared(suite: dict[str, Any], bundle: Bundle, _: str, studies: Sequence[Study], arguments: Namespace) -> list[Latency]:
    """Time ``predict --studies`` and ``evaluate`` alone and beside a process that keeps one core busy, in turns.

    Parameters
    ----------
    arguments
        ``run`` is the run that is evaluated.

    Returns
    -------
    Rows ``"<command>"``, ``"<command>, beside a busy core"``, and the latter also ``", spinning"``: as OpenMP waits if nobody asks.
    """
    few = list(studies)[: suite["films_of"]]
    times: dict[str, dict[str, list[list[float]]]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        many, some = Path(folder) / "many.csv", Path(folder) / "some.csv"
        write_studies(many, [few[index % len(few)] for index in range(suite["rows"])])
        write_studies(some, list(studies)[: suite["evaluated"]])
        for turn in range(suite["runs"]):
            out = Path(folder) / str(turn)
            commands = {
                "predict --studies": ["predict", str(bundle.folder), "--studies", str(many), "--out"],
                "evaluate": ["evaluate", str(arguments.run.absolute()), str(some), "--out"],
            }
            for name, command in commands.items():
                for kind, busy, variables in (
                    (name, False, {}),
                    (f"{name}, beside a busy core", True, {}),
                    (f"{name}, beside a busy core, spinning", True, {"OMP_WAIT_POLICY": "active"}),
                ):
                    place = out / f"{kind}.csv"
                    place.parent.mkdir(exist_ok=True)
                    with _busy_core() if busy else nullcontext():
                        seconds, memory = watch([*command, str(place)], CHECKOUT, Path(folder) / "cache", variables)
                    times.setdefault(name, {}).setdefault(kind, []).append([1000 * seconds])
                    peaks[kind] = max(peaks.get(kind, 0.0), *memory)
    return [row for kinds in times.values() for row in _compare_turns("shared", bundle, kinds, peaks, 0)]


@contextmanager
def _busy_core() -> Iterator[None]:
    """Keep one core busy with a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def watch(
    command: Sequence[str], checkout: Path, cache: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> tuple[float, list[float]]:
    """Run ``edgekit`` and return its seconds and its resident memory in MB over time, the last value its peak.

    Parameters
    ----------
    checkout
        Whose edgekit.
    cache
        The user's cache folder.
    variables
        Of its environment, beside this process's.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgekit", *command],
            cwd=checkout,  # where -m looks first
            env={**os.environ, "XDG_CACHE_HOME": str(cache), **variables},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        memory, peak = [], 0.0
        while process.poll() is None:
            status = _read_status(process.pid)
            peak = max(peak, status.get("VmHWM", 0.0))
            if "VmRSS" in status:
                memory.append(status["VmRSS"])
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - started
        if process.returncode:
            errors.seek(0)
            raise EdgekitError(f"edgekit {' '.join(command)} ended with {process.returncode}: {errors.read()[-500:]}")
    return seconds, [*memory, peak]


def _read_status(pid: int) -> dict[str, float]:
    """Return the memory fields of a process in MB; nothing when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(("VmHWM", "VmRSS"))}


def _compare_turns(kind: str, bundle: Bundle, times: dict[str, list[list[float]]], peaks: dict[str, float], warmup: int) -> list[Latency]:
    """Return a row for each name in `times`, with its ratios to the others."""
    return [
        replace(
            _make_row(kind, name, bundle, [ms for turn in turns for ms in turn], peaks[name], warmup),
            ratio=summarize_turns(name, times)["ratio"],
        )
        for name, turns in times.items()
    ]


def _make_row(kind: str, name: str, bundle: Bundle, times: list[float], peak: float, warmup: int) -> Latency:
    import numpy as np

    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]))
    lower, upper = (float(value) for value in np.percentile(times, [25, 75]))
    return Latency(
        name=kind,
        session=name,
        precision=bundle.manifest.precision,
        n=len(times),
        warmup=warmup,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        load_ms=None,
        peak_rss_mb=peak,
        size_mb=bundle.model.stat().st_size / 1e6,
        spread=(upper - lower) / p50 if len(times) > 1 else None,
        throughput_per_s=1000 / statistics.fmean(times),
        notes=["the whole process: interpreter, imports, hashes, session, golden vectors unless they passed before, films, answer"],
    )
