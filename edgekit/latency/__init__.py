"""Is it fast? Every session in a process of its own, measured in turns, so that they share the machine's quiet and busy moments.

A row is one patient with both films, from decoded canvases to the answer, batch 1. ``ratio[peer]`` is the median over the rounds of
the peer's median time divided by this row's: above 1, this row is faster. ``n`` tells how many inferences were counted: on a slow or
busy machine the rounds end after `BUDGET_S`.

The modules: `workers` (a process each, and their turns), `host` (what happens before the graph), `stages` (where a graph spends its time),
`cost` and `peaks` (how fast it could be here), `device`, `records` (what a device sent back).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, GateError, MissingError, UsageError
from edgekit.latency.device import describe_device, find_disturbances, read_load
from edgekit.latency.host import FILM_SIDE, time_host
from edgekit.latency.workers import Worker, measure_rounds, summarize_turns
from edgekit.provenance import describe_software
from edgekit.sessions import REFERENCE, RUNTIMES, SESSIONS, list_baselines
from edgekit.types import Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edgekit.sessions import Runtime, SessionModule
    from edgekit.sessions.about import About
    from edgekit.types import Bundle, Tensors

ROW = "two-view"
ROUNDS = 20
PER_ROUND = 5
BUDGET_S = 45.0

PROFILED = "onnxruntime"
"""The session whose own profiler tells where its time goes (`edgekit.latency.stages`)."""
LEAST_GAIN = 1.02
"""How many times faster than the same graph in float onnxruntime has to be in 8 bits: less is not worth what rounding costs."""


def measure_latency(
    bundle: Bundle,
    sessions: Sequence[str] | None = None,
    threads: Sequence[int | None] = (None,),
    rounds: int = ROUNDS,
    per_round: int = PER_ROUND,
    in_depth: bool = False,
    check: bool = False,
    modules: Mapping[str, SessionModule] = SESSIONS,
) -> dict[str, Any]:
    """Measure a bundle and the reference it was made from.

    Parameters
    ----------
    sessions
        Names; ``torch`` is the reference. None takes the bundle's sessions and ``torch``.
    threads
        Numbers of threads, a row each where a session lets them be chosen; None takes the runtime's own choice.
    rounds, per_round
        Turns of each session at most, and inferences in a turn.
    in_depth
        Also find where onnxruntime spends its time, and how fast the graph could be at this machine's measured peaks.
    check
        Let every session of the bundle pass its golden vectors first (`edgekit.golden.require_golden`): a wrong answer is no fast one.
    modules
        The modules of sessions by name. They travel to the processes by their own names, so Python must be able to import them.

    Returns
    -------
    dict
        The document of ``latency.json``: ``device``, ``provenance``, ``rows`` (`Latency`), ``not_measured`` (``session`` and ``reason``),
        ``warnings`` (sentences) and ``cost`` (`edgekit.latency.cost.measure_floor`; None unless `in_depth`).

    Raises
    ------
    UsageError
        A session is unknown.
    MissingError
        No session could be measured.
    GateError
        A session misses the golden vectors, or computes wider than the bundle promises.
    """
    from edgekit.golden import require_golden
    from edgekit.progress import track

    load = read_load()
    runtimes = {REFERENCE: RUNTIMES[REFERENCE], **modules}
    plans, not_measured = _plan(bundle, sessions, threads, runtimes)
    inputs = _find_patient(bundle)
    with ExitStack() as stack:
        opened: list[tuple[str, int | None, Worker]] = []
        for session, count in track(plans, "Opening the sessions"):
            gate = partial(require_golden, bundle, threads=count) if check and session != REFERENCE else None
            try:
                worker = Worker(_label(session, count), _choose_opener(session, bundle, count, modules), inputs, check=gate)
            except GateError:
                raise
            except (EdgekitError, ModuleNotFoundError) as error:
                reason = {"session": session, "reason": str(error)}
                not_measured += [reason] if reason not in not_measured else []
            else:
                stack.callback(worker.kill)
                opened.append((session, count, worker))
        if not opened:
            reasons = "; ".join(f"{each['session']}: {each['reason']}" for each in not_measured)
            raise MissingError(f"no session could be measured: {reasons}")
        times = measure_rounds([worker for _, _, worker in opened], rounds, per_round, BUDGET_S)
        peaks = {worker.name: worker.close() for _, _, worker in opened}
    host = time_host(len(bundle.views), bundle.canvas_side)
    rows, baselines = [], list_baselines(modules)
    cost: dict[str, Any] | None = None
    for session, count, worker in opened:
        row = _make_row(session, count, worker, bundle, times, peaks[worker.name], runtimes[session].ABOUT)
        row["stages"] = {**host, "infer": row["p50_ms"]}
        gain = row["ratio"].get(_label(baselines[session], count)) if session in baselines else None
        if gain is not None and gain < LEAST_GAIN:
            row["notes"].append(f"8 bits gain nothing on this machine: {gain:.2f} times as fast as the same graph in float; use fp32 here")
        if in_depth and session == PROFILED:
            cost = cost or {"floors": []}
            _look_inside(row, bundle, inputs, host, cost)
        elif in_depth:
            row["notes"].append(f"stages not told apart: only {PROFILED}'s profiler is read, not {session}'s")
        rows.append(asdict(Latency(**row)))
    spreads = {worker.name: row["spread"] for (_, _, worker), row in zip(opened, rows, strict=True)}
    return {
        "device": describe_device(),
        "provenance": {
            **describe_software(),
            "bundle": bundle.manifest.model_sha256,
            "threads": list(threads),
            "rounds": len(next(iter(times.values()))),
            "films_px": FILM_SIDE,
            "load_average": load,
        },
        "rows": rows,
        "not_measured": not_measured,
        "warnings": find_disturbances(load, spreads),
        "cost": cost,
    }


def _plan(
    bundle: Bundle, sessions: Sequence[str] | None, threads: Sequence[int | None], runtimes: Mapping[str, Runtime]
) -> tuple[list[tuple[str, int | None]], list[dict[str, str]]]:
    """Return each session with each number of threads that it takes; and what is left out, with the reason."""
    offered = (*bundle.sessions, REFERENCE)
    for name in sessions or ():
        if name not in offered:
            raise UsageError(f"this bundle has no session {name!r}", f"choose among {', '.join(offered)}")
    known = {name: module.ABOUT for name, module in runtimes.items()}
    proxies = {name: known[name].stands_in_for for name in offered if name in known and known[name].stands_in_for is not None}
    left_out = [{"session": name, "reason": f"it stands in for {device}, and is no way to answer fast"} for name, device in proxies.items()]
    wanted = sessions or [name for name in offered if name not in proxies]
    plans = [(name, count) for name in wanted for count in (threads if name in known and known[name].takes_threads else (None,))]
    return plans, [] if sessions else left_out


def _label(session: str, threads: int | None) -> str:
    return session if threads is None else f"{session}, {threads} thread{'s' if threads > 1 else ''}"


def _choose_opener(session: str, bundle: Bundle, threads: int | None, modules: Mapping[str, SessionModule]) -> Callable[[], Any]:
    if session == REFERENCE:
        from edgekit.sessions.torch import open_run

        return partial(open_run, _find_run(bundle), bundle.manifest.ensemble, threads)
    if session not in modules:
        raise MissingError(f"no module here opens the session {session!r}", "open the bundle with the package that made it")
    return partial(modules[session].open_session, bundle, threads)


def _find_run(bundle: Bundle) -> Path:
    from edgekit.models.runfolder import find_run  # torch comes with it, which running a bundle does without

    return find_run(bundle)


def _find_patient(bundle: Bundle) -> Tensors:
    """Return the graph's inputs for the golden patient with both films."""
    from edgekit.golden import read_golden

    return next(case.inputs for case in read_golden(bundle) if case.inputs["present"].all())


def _make_row(
    session: str, threads: int | None, worker: Worker, bundle: Bundle, times: dict[str, list[list[float]]], peak: float, about: About
) -> dict[str, Any]:
    """Return the fields of `Latency`, without the stages."""
    return {
        "name": ROW,
        "session": session,
        "precision": "fp32" if session == REFERENCE else bundle.manifest.precision,
        **summarize_turns(worker.name, times),
        "load_ms": worker.load_ms,
        "peak_rss_mb": peak if about.in_process else None,
        "size_mb": _size_mb(bundle, session),
        "threads": threads,
        "first_ms": worker.first_ms,
        "opening": worker.opening,
        "runtime": worker.runtime,
        "notes": list(about.notes),
    }


def _look_inside(row: dict[str, Any], bundle: Bundle, inputs: Tensors, host: dict[str, float], cost: dict[str, Any]) -> None:
    """Add to an onnxruntime row its stages and its floor, and to `cost` what the floor was computed from."""
    from edgekit.latency.cost import measure_floor
    from edgekit.latency.stages import profile_stages

    try:
        shares = profile_stages(bundle.model, row["threads"], inputs)
        row["stages"] = {**host, **{stage: share * row["p50_ms"] for stage, share in shares.items()}}
        floor = measure_floor(bundle.model, row["threads"])
    except MissingError as error:
        row["notes"].append(f"neither stages nor floor: {error.message}")
        return
    cost["floors"].append(floor)
    row["floor_ms"] = floor["floor_ms"]
    row["floor_fraction"] = floor["floor_ms"] / row["p50_ms"]


def _size_mb(bundle: Bundle, session: str) -> float:
    """Size of what the session loads, in MB: the bundle's model, or the weights of the reference."""
    if session == REFERENCE:
        run = _find_run(bundle)
        networks = [run / f"member_{name}.safetensors" for name in bundle.manifest.members]
        if bundle.manifest.task.locate:
            networks.append(run / "detector.safetensors")
        return sum(path.stat().st_size for path in networks) / 1e6
    model = bundle.manifest.model
    files = bundle.manifest.files.items()
    return float(sum(entry["size"] for name, entry in files if name == model or name.startswith(f"{model}/"))) / 1e6
