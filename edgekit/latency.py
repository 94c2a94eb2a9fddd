"""Is it fast? Every session in a process of its own, measured in turns, so that they share the machine's quiet and busy moments.

A row is one patient with both films, from decoded canvases to the answer, batch 1. ``ratio[peer]`` is the median over the rounds of
the peer's median time divided by this row's: above 1, this row is faster. Before each turn one inference is not counted. ``n`` tells
how many were: on a slow or busy machine the rounds end after `BUDGET_S`.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, MissingError, UsageError
from edgekit.manifest import open_bundle
from edgekit.provenance import describe_software
from edgekit.types import VIEWS, Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from edgekit.types import Bundle

ROW = "two-view"
WARMUP = 5
ROUNDS = 20
PER_ROUND = 5
FEWEST_ROUNDS = 5
BUDGET_S = 60.0
FILM_SIDE = 1500
"""Long side in pixels of the DICOM films on which decoding is timed."""


class Worker:
    """One session in a process of its own.

    Parameters
    ----------
    name
        The session.
    folder
        The bundle.
    run
        The run folder, which the session ``torch`` needs.
    threads
        Threads within an operator; None takes the runtime's own choice.

    Raises
    ------
    EdgekitError
        The session can't be opened here; what went wrong there is raised here.
    """

    def __init__(self, name: str, folder: Path, run: Path | None, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, name, folder, run, threads), daemon=True)
        self._process.start()
        other.close()
        self.name = name
        self.load_ms: float = self._ask(WARMUP)[0]

    def measure(self, count: int) -> list[float]:
        """Run `count` inferences and return their times in ms."""
        return self._ask(count)

    def close(self) -> float:
        """End the process and return the most memory it ever held, in MB (10^6 bytes)."""
        peak: float = self._ask(0)[0]
        self._process.join()
        return peak

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()

    def _ask(self, count: int) -> list[float]:
        try:
            self._pipe.send(count)
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise EdgekitError(f"the process of session {self.name} ended with code {self._process.exitcode}") from None
        if isinstance(answer, BaseException):
            self._process.join()
            raise answer
        return list(answer)


def measure_latency(
    bundle: Bundle, sessions: Sequence[str] | None = None, threads: int | None = None, rounds: int = ROUNDS, per_round: int = PER_ROUND
) -> dict[str, Any]:
    """Measure a bundle and the reference it was made from.

    Parameters
    ----------
    sessions
        Names; ``torch`` is the reference. None takes the bundle's sessions and ``torch``.
    threads
        Threads within an operator; None takes each runtime's own choice.
    rounds, per_round
        Turns of each session at most, and inferences in a turn.

    Returns
    -------
    dict
        The document of ``latency.json``: ``device``, ``provenance``, ``rows`` (`Latency`) and ``not_measured`` (``session`` and
        ``reason``).

    Raises
    ------
    UsageError
        A session is unknown.
    MissingError
        No session could be measured.
    """
    from edgekit.progress import track

    offered = (*bundle.sessions, "torch")
    wanted = list(sessions or offered)
    for name in wanted:
        if name not in offered:
            raise UsageError(f"this bundle has no session {name!r}", f"choose among {', '.join(offered)}")
    not_measured = []
    with ExitStack() as stack:
        workers: list[Worker] = []
        for name in wanted:
            try:
                run = _find_run(bundle) if name == "torch" else None
                workers.append(Worker(name, bundle.folder, run, threads))
            except (EdgekitError, ModuleNotFoundError) as error:
                not_measured.append({"session": name, "reason": str(error)})
            else:
                stack.callback(workers[-1].kill)
        if not workers:
            reasons = "; ".join(f"{each['session']}: {each['reason']}" for each in not_measured)
            raise MissingError(f"no session could be measured: {reasons}")
        times: dict[str, list[list[float]]] = {worker.name: [] for worker in workers}
        started = time.monotonic()
        for turn in track(range(rounds), "Measuring"):
            if turn >= FEWEST_ROUNDS and time.monotonic() - started > BUDGET_S:
                break
            for worker in workers if turn % 2 == 0 else workers[::-1]:  # nobody is always first
                times[worker.name].append(worker.measure(per_round))
        peaks = {worker.name: worker.close() for worker in workers}
    host = _time_host(bundle.canvas_side)
    rows = [_make_row(worker, bundle, times, peaks[worker.name], host) for worker in workers]
    return {
        "device": describe_device(),
        "provenance": {
            **describe_software(),
            "bundle": bundle.manifest["files"][bundle.manifest["model"]]["sha256"],
            "threads": threads,
            "rounds": len(times[workers[0].name]),
            "films_px": FILM_SIDE,
        },
        "rows": [asdict(row) for row in rows],
        "not_measured": not_measured,
    }


def describe_device() -> dict[str, Any]:
    """Return what the figures belong to: processor, cores, system."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():  # platform.processor() is empty or the bare architecture on Linux
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": processor or platform.machine(), "cores": cores, "os": platform.platform(), "python": platform.python_version()}


def _serve(pipe: Connection, name: str, folder: Path, run: Path | None, threads: int | None) -> None:
    """Answer the parent: the first number warms up and returns the load time, 0 ends and returns the memory, others measure."""
    try:
        with ExitStack() as stack:
            bundle = open_bundle(folder)
            inputs = _decoded_patient(bundle)
            started = time.perf_counter()
            session = stack.enter_context(_open(name, bundle, run, threads))
            load_ms = 1000 * (time.perf_counter() - started)
            for _ in range(pipe.recv()):
                session.infer(inputs)
            pipe.send([load_ms])
            while count := pipe.recv():
                session.infer(inputs)
                pipe.send([_time(lambda: session.infer(inputs)) for _ in range(count)])
            pipe.send([peak_rss_mb()])
    except EOFError:  # the parent is gone
        return
    except Exception as error:  # the parent raises it
        pipe.send(error)


def _open(name: str, bundle: Bundle, run: Path | None, threads: int | None) -> Any:
    if name == "torch":
        from edgekit.sessions.torch import open_run

        assert run is not None
        return open_run(run, bundle.manifest["ensemble"], threads)
    from edgekit.sessions import open_session

    return open_session(name, bundle, threads)


def _find_run(bundle: Bundle) -> Path:
    from edgekit.models.runfolder import find_run  # torch comes with it, which running a bundle does without

    return find_run(bundle)


def _decoded_patient(bundle: Bundle) -> dict[str, Any]:
    """Return the graph's inputs for the golden patient with both films."""
    from edgekit.golden import read_golden

    return next(case.inputs for case in read_golden(bundle) if case.inputs["present"].all())


def _time(call: Callable[[], object]) -> float:
    """Return how long `call` takes, in ms."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held, in MB (10^6 bytes).

    ``ru_maxrss`` is no measure of a child on Linux: across fork and exec it keeps the parent's. ``VmHWM`` starts anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e6


def _make_row(worker: Worker, bundle: Bundle, times: dict[str, list[list[float]]], peak: float, host: dict[str, float]) -> Latency:
    own = times[worker.name]
    every = [value for turn in own for value in turn]
    ratio = {
        peer: statistics.median(statistics.median(other) / statistics.median(mine) for other, mine in zip(theirs, own, strict=True))
        for peer, theirs in times.items()
        if peer != worker.name
    }
    p50, p95, p99 = (float(value) for value in np.percentile(every, [50, 95, 99]))
    return Latency(
        name=ROW,
        session=worker.name,
        precision="fp32" if worker.name == "torch" else bundle.manifest["precision"],
        n=len(every),
        warmup=WARMUP,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        load_ms=worker.load_ms,
        peak_rss_mb=peak,
        size_mb=_size_mb(bundle, worker.name),
        stages={**host, "infer": p50},
        ratio=ratio,
    )


def _size_mb(bundle: Bundle, session: str) -> float:
    """Size of what the session loads, in MB: the bundle's model, or the weights of the reference."""
    if session == "torch":
        run = _find_run(bundle)
        members = (run / f"member_{name}.safetensors" for name in bundle.manifest["members"])
        return sum(path.stat().st_size for path in (run / "detector.safetensors", *members)) / 1e6
    model = bundle.manifest["model"]
    files = bundle.manifest["files"].items()
    return float(sum(entry["size"] for name, entry in files if name == model or name.startswith(f"{model}/"))) / 1e6


def _time_host(side: int, repeats: int = 5) -> dict[str, float]:
    """Median ms that the host takes to decode and to letterbox one patient's two films."""
    from edgekit.radiograph import make_canvas, read_radiograph

    with _simple_film() as path:
        pixels = read_radiograph(path).pixels
        decode = statistics.median(_time(lambda: read_radiograph(path)) for _ in range(repeats))
    canvas = statistics.median(_time(lambda: make_canvas(pixels, side)) for _ in range(repeats))
    return {"decode": len(VIEWS) * decode, "canvas": len(VIEWS) * canvas}


@contextmanager
def _simple_film() -> Iterator[Path]:
    """Write an uncompressed 12-bit DICOM film: what it shows does not change how long it takes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    film.Rows, film.Columns = FILM_SIDE, FILM_SIDE * 4 // 5
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = np.random.default_rng(0).integers(0, 4096, (film.Rows, film.Columns), np.uint16).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        film.save_as(path, enforce_file_format=True)
        yield path
