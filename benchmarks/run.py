"""Runs a suite: our bundles and what people would use instead, in turns on one machine, each with its accuracy.

.venv/bin/python benchmarks/run.py two-view --run RUN --b0-run B0RUN --bundle build/desktop-cpu ... --studies STUDIES --out RECORD.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import tomllib
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accuracy import Candidate, measure_accuracy
from peers import PEERS, USUAL_SIDE
from peers.setup import ENSEMBLE, Setup
from processes import measure_cold, measure_screening, measure_shared

from edgekit.errors import EdgekitError, MissingError, UsageError
from edgekit.files import write_json
from edgekit.latency.device import describe_device, find_disturbances, read_load
from edgekit.latency.workers import Worker, measure_rounds, summarize_turns
from edgekit.manifest import open_bundle
from edgekit.provenance import describe_software
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgekit.types import Bundle, Study

VIEWS = PEDICLE_SCREWS.views

FOLDER = Path(__file__).parent
PACKAGES = ("numpy", "onnxruntime", "openvino", "torch", "ultralytics", "timm", "nncf", "litert-torch", "playwright")


def main() -> None:
    """Run a suite and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help=f"one of {', '.join(list_suites())}")
    parser.add_argument("--run", type=Path, required=True, help="the Lite0 run, which the bundles were made from")
    parser.add_argument("--b0-run", type=Path, help="the EfficientNet-B0 run, for the peers in their usual shape")
    parser.add_argument("--bundle", type=Path, nargs="+", required=True)
    parser.add_argument("--studies", type=Path, required=True, help="patients with both films, of known brand")
    parser.add_argument("--patients", type=int, default=300, help="that accuracy is measured on")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="the peers' files and the accuracies found, kept")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=NUMBER", help="replace numbers of the suite, such as rounds=3")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit, which the cold suite measures in turns")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.suite not in list_suites():
        parser.error(f"no suite {arguments.suite!r}: choose one of {', '.join(list_suites())}")
    try:
        record = run_suite(arguments)
    except EdgekitError as error:
        raise SystemExit(f"{error.message}\n{error.remedy}") from None
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, record)
    print(describe_record(record))


def list_suites() -> list[str]:
    """Return the names of the suites: the TOML files here that have a ``kind``."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if "kind" in tomllib.loads(path.read_text()))


def run_suite(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the record: ``latency.json`` with ``suite``, ``accuracy`` and ``goals``."""
    from edgekit.studies import read_studies

    suite = read_suite(arguments.suite, arguments.set)
    load = read_load()
    bundles = [open_bundle(folder.resolve()) for folder in arguments.bundle]
    studies = [
        study
        for study in read_studies(arguments.studies)
        if study.film("ap") and study.film("lateral") and study.brand and not study.exclude
    ]
    if not studies:
        raise UsageError(f"{arguments.studies} has no patient of known brand with both films")
    if suite["kind"] == "two-view":
        rows, not_measured, accuracy = measure_two_view(suite, arguments, bundles, studies[: arguments.patients])
    else:
        measure = {"cold": measure_cold, "screening": measure_screening, "shared": measure_shared}[suite["kind"]]
        wanted = [bundle for bundle in bundles if name_bundle(bundle) in suite["bundles"]]
        missing = set(suite["bundles"]) - {name_bundle(bundle) for bundle in wanted}
        rows = [row for bundle in wanted for row in measure(suite, bundle, name_bundle(bundle), studies, arguments)]
        not_measured = [{"session": name, "reason": "no such bundle was given with --bundle"} for name in sorted(missing)]
        accuracy = {}
    if not rows:
        raise MissingError("nothing could be measured: " + "; ".join(f"{each['session']}: {each['reason']}" for each in not_measured))
    return {
        "suite": arguments.suite,
        "device": describe_device(),
        "provenance": {**describe_software(), "packages": find_versions(), "load_average": load, "settings": suite},
        "rows": [asdict(row) for row in rows],
        "not_measured": not_measured,
        "warnings": find_disturbances(load, {row.session: row.spread for row in rows if row.spread is not None}),
        "accuracy": accuracy,
        "goals": [judge_goal(goal, rows) for goal in suite.get("goals", [])],
    }


def read_suite(name: str, replaced: Sequence[str] = ()) -> dict[str, Any]:
    """Return a suite, with the numbers of ``NAME=NUMBER`` in it replaced."""
    suite = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    for each in replaced:
        key, _, number = each.partition("=")
        if not isinstance(suite.get(key), int) or not number.isdigit():
            known = ", ".join(key for key, value in suite.items() if isinstance(value, int))
            raise UsageError(f"--set {each}: not a whole number of {name}.toml", f"give NAME=NUMBER; its names are {known}")
        suite[key] = int(number)
    return suite


def measure_two_view(
    suite: dict[str, Any], arguments: argparse.Namespace, bundles: Sequence[Bundle], studies: Sequence[Study]
) -> tuple[list[Latency], list[dict[str, str]], dict[str, Any]]:
    """Measure every candidate in turns, and each one's accuracy before that."""
    from edgekit.canvases import stream_inputs

    candidates, not_measured = list_candidates(suite, arguments, bundles, studies)
    side = bundles[0].canvas_side
    _, inputs, _ = next(stream_inputs(studies[:1], VIEWS, side, "Reading a patient"))
    opened: list[tuple[Candidate, Worker]] = []
    accuracy: dict[str, Any] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1))
        for candidate in candidates:
            try:
                found = measure_accuracy(pool, candidate, arguments.studies, studies, side, arguments.work)
                worker = Worker(candidate.name, candidate.opener, inputs)
            except (EdgekitError, ImportError) as error:
                not_measured.append({"session": candidate.name, "reason": str(error)})
                continue
            stack.callback(worker.kill)
            opened.append((candidate, worker))
            accuracy[candidate.name] = found
        if not opened:
            return [], not_measured, {}
        times = measure_rounds([worker for _, worker in opened], suite["rounds"], suite["per_round"], suite["budget_s"])
        rows = [make_row(candidate, worker, times, worker.close()) for candidate, worker in opened]
    floors = suite.get("floors", [])
    rows = [
        add_floor(row, candidate, suite["threads"]) if row.session in floors else row
        for (candidate, _), row in zip(opened, rows, strict=True)
    ]
    return rows, not_measured, accuracy


def list_candidates(
    suite: dict[str, Any], arguments: argparse.Namespace, bundles: Sequence[Bundle], studies: Sequence[Study]
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Return what can be tried, and what can't with the reason."""
    from edgekit.models.runfolder import load_detector_settings, load_settings, run_hash
    from edgekit.sessions import open_session
    from edgekit.sessions.torch import open_run

    threads, left_out = suite["threads"], []
    browser = suite.get("browser_threads", threads), suite.get("throttle", 1)
    named = {name_bundle(bundle): bundle for bundle in bundles}
    run = arguments.run.resolve()
    weights, brands = run_hash(run), tuple(load_settings(run).brands)
    candidates = []
    for wanted in suite["sessions"]:
        if wanted == "torch":
            opener = partial(open_run, run, ENSEMBLE, threads)
            candidates.append(Candidate(wanted, "fp32", "our pipeline in torch, the reference", weights, brands, opener))
            continue
        bundle, _, session = wanted.partition("/")
        if bundle not in named:
            left_out.append({"session": wanted, "reason": "no such bundle was given with --bundle"})
            continue
        manifest = named[bundle].manifest
        if manifest.provenance["run"]["sha256"] != weights:
            raise UsageError(f"{named[bundle].folder} was not made from {run}", "give the bundles of --run")
        opener, in_browser = partial(open_session, session, named[bundle], threads), session.startswith("browser")
        if in_browser:
            opener = partial(open_slowed, partial(open_session, session, named[bundle], browser[0]), browser[1])
        model = named[bundle].model
        candidates.append(
            Candidate(wanted, manifest.precision, "one graph", manifest.model_sha256, brands, opener, model=model, in_browser=in_browser)
        )
    graphs = [bundle.model for name, bundle in named.items() if name == "desktop-cpu:fp32"]
    for name in suite["peers"]:
        peer = PEERS[name]
        source = run if peer.footing == "equal" else arguments.b0_run and arguments.b0_run.resolve()
        if source is None:
            left_out.append({"session": name, "reason": "it takes the members of --b0-run, which was not given"})
            continue
        digest = run_hash(source)
        folder = (arguments.work / digest[:16]).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        side = load_detector_settings(source).side if peer.footing == "equal" else USUAL_SIDE
        setup = Setup(source, folder, side, graphs[0] if graphs else None, tuple(studies))
        architecture, own = load_settings(source).architectures["ap"], tuple(load_settings(source).brands)
        what = f"{peer.what}; detector at {side} px (trained at {load_detector_settings(source).side}), {architecture}"
        opener = peer.opener(setup, threads)
        if peer.in_browser:
            opener = partial(open_slowed, peer.opener(setup, browser[0]), browser[1])
        prepare = partial(peer.prepare, setup)
        candidates.append(Candidate(name, peer.precision, what, digest, own, opener, prepare, in_browser=peer.in_browser))
    return candidates, left_out


def open_slowed(opener: Callable[[], Any], throttle: float) -> Any:
    """Open something in a browser that is `throttle` times as slow."""
    opened = opener()
    if throttle != 1:
        opened.slow_down(throttle)
        opened.runtime += f", slowed down {throttle} times"
    return opened


def make_row(candidate: Candidate, worker: Worker, times: dict[str, list[list[float]]], peak: float) -> Latency:
    """Return a candidate's row; ratios are medians over the rounds."""
    return Latency(
        name="two-view",
        session=candidate.name,
        precision=candidate.precision,
        **summarize_turns(candidate.name, times),
        load_ms=worker.load_ms,
        peak_rss_mb=None if candidate.in_browser else peak,
        size_mb=candidate.model.stat().st_size / 1e6 if candidate.model and candidate.model.is_file() else None,
        first_ms=worker.first_ms,
        opening=worker.opening,
        runtime=worker.runtime,
        notes=[candidate.what],
    )


def add_floor(row: Latency, candidate: Candidate, threads: int) -> Latency:
    """Return a row with the time that its graph's arithmetic takes at this machine's peaks, or a note why there is none."""
    from edgekit.latency.cost import measure_floor

    try:
        floor = measure_floor(candidate.model, threads)["floor_ms"]
    except MissingError as error:
        return replace(row, notes=[*row.notes, f"no floor: {error.message}"])
    return replace(row, floor_ms=floor, floor_fraction=floor / row.p50_ms)


def judge_goal(goal: dict[str, Any], rows: Sequence[Latency]) -> dict[str, Any]:
    """Return a goal with what was measured and ``verdict``: reached, missed or not measured.

    ``figure`` is a field of the row, or a sum of fields and parts of ``opening``, as in ``"fetch + create + first_ms"``.
    """
    row = next((row for row in rows if row.session == goal["row"]), None)
    if row is None:
        figures = [None]
    elif "against" in goal:
        figures = [row.ratio.get(goal["against"])]
    else:
        fields = {**asdict(row), **row.opening}
        figures = [fields[name] for name in goal["figure"].split(" + ")]
    measured = None if None in figures else sum(figures)
    if measured is None:
        return {**goal, "measured": None, "verdict": "not measured"}
    reached = measured >= goal["at_least"] if "at_least" in goal else measured <= goal["at_most"]
    return {**goal, "measured": measured, "verdict": "reached" if reached else "missed"}


def describe_record(record: dict[str, Any]) -> str:
    """Return a record as lines for the terminal."""
    lines = [f"warning: {warning}" for warning in record["warnings"]]
    for row in record["rows"]:
        found = record["accuracy"].get(row["session"])
        told = f"accuracy {found['right'] / found['n']:.4f} of {found['n']}" if found else ""
        spread = "  -" if row["spread"] is None else f"{100 * row['spread']:3.0f} %"
        lines.append(f"{row['session']:34} {row['p50_ms']:9.1f} ms  spread {spread}  {told}".rstrip())
        lines += [f"    {ratio:6.2f} x against {name}" for name, ratio in row["ratio"].items() if "/" in row["session"]]
    lines += [f"{each['session']}: not measured: {each['reason']}" for each in record["not_measured"]]
    for goal in record["goals"]:
        found = "-" if goal["measured"] is None else f"{goal['measured']:.2f}"
        lines.append(f"{goal['verdict']:12} {goal['what']}: {found}")
    return "\n".join(lines)


def name_bundle(bundle: Bundle) -> str:
    """Return ``target:precision``."""
    return f"{bundle.manifest.target}:{bundle.manifest.precision}"


def find_versions() -> dict[str, str | None]:
    """Return the versions of what may have run; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


if __name__ == "__main__":
    main()
