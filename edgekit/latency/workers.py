"""Whatever answers, each in a process of its own, measured in turns: they share the machine's quiet and busy moments."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.cores import unshared
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection

    from edgekit.types import Tensors

WARMUP = 5
FEWEST_ROUNDS = 5


class Answering(Protocol):
    """What an opener gives: `edgekit.types.Session` is one. A peer's answer holds at least ``probabilities``."""

    def infer(self, inputs: Tensors) -> Tensors:
        """Answer for one patient."""
        ...


class Worker:
    """One way to answer, in a fresh process.

    Parameters
    ----------
    name
        What it is called in rows and errors; unique among the workers of a measurement.
    opener
        Opens it: a function of a module, or a ``functools.partial`` of one, since it travels to the process. Its module should import
        nothing heavy: what it imports when it is called is a part of the cold load.
    inputs
        What it answers for; arrays.
    warmup
        Inferences after the first that are not counted.
    check
        Called in the process with what `opener` gave, after the warm-up, so that neither loading nor the first answer is mistimed; None
        does nothing. It travels to the process like `opener`.

    Attributes
    ----------
    load_ms
        Opening, with every import that it takes.
    first_ms
        The first answer after it.
    runtime
        What the opened thing calls its runtime; empty if it does not say.
    opening
        Parts of `load_ms` in ms, where it tells them as ``timings``: the browser does.
    own_clock
        Whether it times itself: the browser's ``elapsed_ms`` leaves out the way between Python and the page.

    Raises
    ------
    Exception
        Whatever goes wrong in the process, here and in `measure` and `close`.
    EdgekitError
        The process ended.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], AbstractContextManager[Answering]],
        inputs: Tensors,
        warmup: int = WARMUP,
        check: Callable[[Any], None] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, opener, inputs, warmup, check), daemon=True)
        with unshared():
            self._process.start()
        other.close()
        self.name = name
        opened: dict[str, Any] = self._receive()
        self.load_ms: float = opened["load_ms"]
        self.first_ms: float = opened["first_ms"]
        self.runtime: str = opened["runtime"]
        self.opening: dict[str, float] = opened["opening"]
        self.own_clock: bool = opened["own_clock"]

    def measure(self, count: int) -> list[float]:
        """Run `count` inferences after one that is not counted, and return their times in ms."""
        times: list[float] = self._ask(count)
        return times

    def close(self) -> float:
        """End the process and return the most memory it ever held, in MB (10^6 bytes)."""
        peak: float = self._ask(0)
        self._process.join()
        return peak

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()

    def _ask(self, count: int) -> Any:
        try:
            self._pipe.send(count)
        except ConnectionError:
            raise self._describe_end() from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise self._describe_end() from None
        if isinstance(answer, BaseException):
            self._process.join()
            raise answer
        return answer

    def _describe_end(self) -> EdgekitError:
        self._process.join()
        return EdgekitError(f"the process of {self.name} ended with code {self._process.exitcode}")


def measure_rounds(workers: Sequence[Worker], rounds: int, per_round: int, budget_s: float) -> dict[str, list[list[float]]]:
    """Let the workers take turns, each round begun by the next of them, so that nobody is always first.

    Parameters
    ----------
    rounds, per_round
        Rounds at most, and inferences of each worker in a round.
    budget_s
        No round begins after so many seconds, except the first `FEWEST_ROUNDS`.

    Returns
    -------
    dict
        By worker, for each round its times in ms.
    """
    from edgekit.progress import track

    times: dict[str, list[list[float]]] = {worker.name: [] for worker in workers}
    started = time.monotonic()
    for turn in track(range(rounds), "Measuring"):
        if turn >= FEWEST_ROUNDS and time.monotonic() - started > budget_s:
            break
        first = turn % len(workers)
        for worker in [*workers[first:], *workers[:first]]:
            times[worker.name].append(worker.measure(per_round))
    return times


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


def time_call(call: Callable[[], object]) -> float:
    """Return how long `call` takes, in ms."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def _serve(
    pipe: Connection,
    opener: Callable[[], AbstractContextManager[Answering]],
    inputs: Tensors,
    warmup: int,
    check: Callable[[Any], None] | None,
) -> None:
    """Open and answer the parent: a number measures so many inferences, 0 ends and returns the memory."""
    try:
        started = time.perf_counter()
        with opener() as opened:
            load_ms = 1000 * (time.perf_counter() - started)

            def infer_once() -> float:
                elapsed_ms = time_call(lambda: opened.infer(inputs))
                return float(getattr(opened, "elapsed_ms", elapsed_ms))

            first_ms = infer_once()
            for _ in range(warmup):
                infer_once()
            if check is not None:
                check(opened)
            pipe.send(
                {
                    "load_ms": load_ms,
                    "first_ms": first_ms,
                    "runtime": getattr(opened, "runtime", ""),
                    "opening": getattr(opened, "timings", {}),
                    "own_clock": hasattr(opened, "elapsed_ms"),
                }
            )
            while count := pipe.recv():
                infer_once()
                pipe.send([infer_once() for _ in range(count)])
            pipe.send(peak_rss_mb())
    except EOFError:  # the parent is gone
        return
    except Exception as error:  # the parent raises it
        pipe.send(error)


def summarize_turns(name: str, times: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Return the fields of ``edgekit.types.Latency`` that follow from the times of `measure_rounds`, for the worker `name`."""
    medians = {worker: [statistics.median(turn) for turn in turns] for worker, turns in times.items()}
    own = medians[name]
    every = [value for turn in times[name] for value in turn]
    p50, p95, p99 = (float(value) for value in np.percentile(every, [50, 95, 99]))
    lower, middle, upper = (float(value) for value in np.percentile(own, [25, 50, 75]))
    return {
        "n": len(every),
        "warmup": WARMUP,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "ratio": {
            peer: statistics.median(other / mine for other, mine in zip(theirs, own, strict=True))
            for peer, theirs in medians.items()
            if peer != name
        },
        "spread": (upper - lower) / middle,
        "throughput_per_s": 1000 / statistics.fmean(every),
    }
