"""The parts about answers: each yields names and what was found, as soon as it is."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph_stages import time_graph
from machine import measure_energy
from plan import BUNDLES
from torch_device import open_pipeline
from training_parts import describe_parity

from edgekit.errors import EdgekitError, InputError, MissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plan import Plan

    from edgekit.types import Bundle, Study, Tensors

    Found = Iterator[tuple[str, Any]]

REFERENCED = "jetson:fp16"
"""The bundle whose manifest says how the reference answers, for what has no bundle of its own; it takes no NVIDIA library to make."""
REPOSITORY = Path(__file__).parents[2]
ENERGY_S = 3.0


def export_bundles(plan: Plan) -> Found:
    """Export the run for every session, judged by onnxruntime on the CPU alone: the others have parts of their own."""
    from edgekit.bundle import export_bundle
    from edgekit.targets import load_target

    for spec in sorted(set(BUNDLES.values()), key=lambda spec: spec != REFERENCED):
        start = time.perf_counter()
        if plan.bundle(spec).exists():
            yield spec, "kept from an earlier call"
            continue
        try:
            target = replace(load_target(spec), sessions=("onnxruntime",))
            bundle = export_bundle(plan.finished_run(), target, plan.bundle(spec), plan.studies("demo"), force=True)
        except MissingError as error:
            yield spec, {"not proven": error.message}
            continue
        size_mb = round(bundle.model.stat().st_size / 1e6, 2)
        yield spec, {"size_mb": size_mb, "unproven": bundle.manifest.unproven, "seconds": round(time.perf_counter() - start, 1)}


def judge(plan: Plan, session: str) -> Found:
    """Judge one session against the reference, which is torch on the CPU, on the further patients."""
    from edgekit.models.runfolder import load_settings
    from edgekit.parity.comparison import Gate, compare, read_gate
    from edgekit.parity.recording import record
    from edgekit.parity.reference import Reference
    from edgekit.types import Judge

    bundle, rows = open_made(plan, session), read_patients(plan)
    gate = read_gate(bundle)
    if session == "torch":
        run = plan.finished_run()
        settings = load_settings(run)
        gate = Gate(Judge("numerical"), "fp32", settings.brands, settings.task.views)
    with choose_opener(plan, session, bundle)() as opened:  # before the minutes that the reference takes
        reference = Reference(plan.finished_run(), bundle, rows)
        expected = reference.find() or reference.compute()
        start = time.perf_counter()
        (answers,) = record([opened], rows, bundle.views, bundle.canvas_side)
        seconds = time.perf_counter() - start
    yield "parity", describe_parity(compare(expected, answers, rows, gate))
    yield "patients_per_s", round(len(rows) / seconds, 2)


def open_made(plan: Plan, session: str) -> Bundle:
    """Open the bundle that a session is judged with.

    Raises
    ------
    InputError
        It could not be made.
    """
    from edgekit.manifest import open_bundle

    spec = BUNDLES.get(session, REFERENCED)
    if not plan.bundle(spec).is_dir():
        raise InputError(f"{spec} was not made", "see the part 'bundles'")
    return open_bundle(plan.bundle(spec))


def read_patients(plan: Plan) -> list[Study]:
    """Return the rows to judge on."""
    from edgekit.bundle import verification_rows
    from edgekit.task import PEDICLE_SCREWS

    return verification_rows(plan.studies("further"), PEDICLE_SCREWS.views)[: plan.patients]


def choose_opener(plan: Plan, session: str, bundle: Bundle) -> Callable[[], Any]:
    """Return what opens a session, as a process of its own can call it."""
    from edgekit.sessions import open_session

    if session == "torch":
        return partial(open_pipeline, plan.finished_run(), bundle.manifest.ensemble, plan.device)
    return partial(open_session, session, bundle)


def ask_runner(plan: Plan) -> Found:
    """Let the runner in the TensorRT bundle answer for a pack of canvases as on a device, and judge what it sends back."""
    from edgekit.latency.records import read_latency
    from edgekit.packs import read_outputs, write_pack
    from edgekit.parity import judge_recording

    bundle, rows = open_made(plan, "tensorrt"), read_patients(plan)[: plan.sizes.packed]
    folder = plan.work / "runner"
    folder.mkdir(parents=True, exist_ok=True)
    write_pack(bundle, rows, folder / "canvases.npz")
    command = [sys.executable, str(bundle.folder / "runner" / "run.py"), "--cache", str(folder / "engines")]
    done = subprocess.run(
        [*command, "--pack", str(folder / "canvases.npz"), "--out", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MissingError(f"the runner ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    yield "latency", read_latency(folder / "latency.json")["rows"]
    yield (
        "parity",
        describe_parity(judge_recording(bundle, plan.finished_run(), rows, read_outputs(folder / "outputs.npz", bundle, len(rows)))),
    )


def measure_latency(plan: Plan, sessions: tuple[str, ...]) -> Found:
    """Measure one patient with both films, copies included, every session in a process of its own and in turns; then stages and energy."""
    from edgekit.golden import read_golden
    from edgekit.latency.workers import Worker, measure_rounds, summarize_turns
    from edgekit.types import Latency

    inputs = next(case.inputs for case in read_golden(open_made(plan, "torch")) if case.inputs["present"].all())
    with ExitStack() as stack:
        workers: dict[str, tuple[Worker, Bundle]] = {}
        for session in sessions:
            try:
                bundle = open_made(plan, session)
                worker = Worker(session, choose_opener(plan, session, bundle), inputs)
            except (EdgekitError, ImportError) as error:
                yield session, {"not proven": str(error)}
                continue
            stack.callback(worker.kill)
            workers[session] = worker, bundle
        every = [worker for worker, _ in workers.values()]
        times = measure_rounds(every, plan.sizes.rounds, plan.sizes.per_round, ENERGY_S * len(every))
        for session, (worker, bundle) in workers.items():
            turns = summarize_turns(session, times)
            try:
                energy: dict[str, Any] = measure_energy(partial(keep_busy, worker, turns["p50_ms"]), plan.device)
            except MissingError as error:
                energy = {"not proven": error.message}
            row = Latency(
                name="two-view",
                session=session,
                precision="fp32" if session == "torch" else bundle.manifest.precision,
                **turns,
                load_ms=worker.load_ms,
                peak_rss_mb=worker.close(),
                size_mb=None if session == "torch" else bundle.model.stat().st_size / 1e6,
                first_ms=worker.first_ms,
                runtime=worker.runtime,
                notes=["copies to and from the device are included"],
            )
            yield session, {**asdict(row), "energy": energy, "device_stages_ms": find_stages(plan, session, bundle, inputs)}


def keep_busy(worker: Any, p50_ms: float) -> int:
    """Let a worker answer for about `ENERGY_S` seconds, and return for how many patients it did."""
    count = max(1, round(1000 * ENERGY_S / p50_ms))
    worker.measure(count)
    return count + 1  # one before those that are timed


def find_stages(plan: Plan, session: str, bundle: Bundle, inputs: Tensors) -> dict[str, Any]:
    """Return the median ms of each stage on the device and of the copies to it and back; why not, where they can't be told apart."""
    try:
        if session == "torch":
            with open_pipeline(plan.finished_run(), bundle.manifest.ensemble, plan.device) as opened:
                return opened.time_stages(inputs)
        if session in ("onnxruntime", "onnxruntime-cuda"):
            return time_graph(bundle.model, inputs, "cuda" if session == "onnxruntime-cuda" else "cpu")
    except Exception as error:  # a runtime's own: the row itself must not be lost for it
        return {"not proven": f"{type(error).__name__}: {error}"}
    return {"not proven": "an engine fuses across stages: the part 'runner' tells engine and copies apart"}


def run_marked_tests(plan: Plan) -> Found:
    """Run the tests marked ``gpu``; without a GPU, find them."""
    files = [str(path) for path in sorted((REPOSITORY / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")]
    only = [] if plan.device == "cuda" else ["--collect-only"]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider", *only, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("SKIPPED", "FAILED", "ERROR"))]
    yield "told", [*lines, done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]]
    if done.returncode:
        raise EdgekitError(f"pytest ended with code {done.returncode}")
    if plan.device != "cuda":
        raise MissingError("the tests marked gpu were found and not run: they need an NVIDIA GPU")
