from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.errors import EdgekitError, InputError
from edgekit.latency.workers import Worker, peak_rss_mb
from edgekit.manifest import open_bundle
from edgekit.sessions import open_session
from edgekit.sessions.torch import open_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit.types import Tensors

PATIENT = {"ap": np.zeros((1, 1, 8, 8), np.uint8)}


class Clock:
    """Answers by what it was told, and says how long that took itself."""

    runtime = "clock 1.0"
    timings = {"wind": 3.0}  # noqa: RUF012

    def __init__(self) -> None:
        self.answered = 0
        self.elapsed_ms = 0.0

    def infer(self, inputs: Tensors) -> Tensors:
        assert inputs["ap"].shape == (1, 1, 8, 8)
        self.answered += 1
        self.elapsed_ms = float(self.answered)
        return {}


@contextmanager
def open_clock() -> Iterator[Clock]:
    yield Clock()


@contextmanager
def open_broken() -> Iterator[Any]:
    raise InputError("it is broken", "mend it")
    yield


def open_patient(bundle: Path) -> tuple[Any, Tensors]:
    from edgekit.golden import read_golden

    opened = open_bundle(bundle)
    return opened, read_golden(opened)[0].inputs


def test_the_first_answer_is_apart_and_warming_up_is_not_counted() -> None:
    worker = Worker("clock", open_clock, PATIENT, warmup=3)
    assert (worker.first_ms, worker.runtime, worker.opening, worker.own_clock) == (1.0, "clock 1.0", {"wind": 3.0}, True)
    # 1 first, 3 to warm up, 1 before each turn
    assert worker.measure(2) == [6.0, 7.0]
    assert worker.measure(1) == [9.0]
    worker.close()


def test_what_goes_wrong_in_a_worker_is_raised_here() -> None:
    with pytest.raises(InputError, match="it is broken") as caught:
        Worker("broken", open_broken, PATIENT)
    assert caught.value.remedy == "mend it"
    worker = Worker("clock", open_clock, PATIENT)
    worker.kill()
    with pytest.raises(EdgekitError, match="the process of clock ended with code -9"):
        worker.measure(1)


def test_a_session_answers_from_a_process_of_its_own(tiny_bundle: Path) -> None:
    ballast = np.ones(100_000_000)  # 800 MB here must not count there
    assert peak_rss_mb() > 760
    bundle, inputs = open_patient(tiny_bundle)
    worker = Worker("onnxruntime", partial(open_session, "onnxruntime", bundle, 1), inputs)
    assert ballast[-1] == 1
    times = worker.measure(3)
    assert len(times) == 3
    assert 0 < min(times) < max(times) < 10_000
    assert worker.runtime.startswith("onnxruntime ")
    assert worker.load_ms > 0
    assert worker.first_ms > 0
    assert not worker.own_clock
    assert 30 < worker.close() < 700
    assert multiprocessing.active_children() == []


def test_the_reference_has_a_worker_too(tiny_bundle: Path, tiny_run: Path) -> None:
    bundle, inputs = open_patient(tiny_bundle)
    worker = Worker("torch", partial(open_run, tiny_run, bundle.manifest.ensemble, 1), inputs)
    assert len(worker.measure(2)) == 2
    worker.close()
