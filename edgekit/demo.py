"""The main job end to end on simulated films: cohort, train, evaluate, export, verify, measure, report.

::

    OUT/  cohort/studies.csv  run/  evaluation/metrics.json  build/<target>/  latency.json  report.html

Each stage that finished is kept, so an interrupted demo continues where it stopped.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, MissingError
from edgekit.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TARGETS = ("web", "desktop-cpu")
PRECISION = "fp32"
PRESET = "demo"
FILM_SIZE = 768
SEED = 0
BENCH_ROUNDS = 8
GATE_PATIENTS = 1500
"""What the recipes' statistical verdicts need."""

SIMULATION = """\
Every film on this page is simulated. Seven invented screw designs (design-a to design-g) were modelled in millimetres: core, thread, \
pitch, tip, head, rod and crosslink. Each simulated patient got a construct of one design in a procedural spine, and one three-dimensional \
scene gave both the AP and the lateral film: thickness along each ray, attenuation of a three-energy beam, scatter, noise, blur and the \
processing of a radiography machine.

The designs imitate no product, and these figures say nothing about real films. The detector's first stages and the classifiers \
started from ImageNet; both were trained here, on this machine, in this run."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made.

    Attributes
    ----------
    report
        The page to look at.
    seconds
        Wall time by stage; a stage that was kept from an earlier run is absent.
    following
        What to type next, and what it does.
    """

    report: Path
    metrics: dict[str, Any]
    bundles: tuple[Path, ...]
    parity: tuple[dict[str, Any], ...]
    latency: dict[str, Any]
    seconds: dict[str, float]
    following: tuple[tuple[str, str], ...]


def run_demo(out: Path, say: Callable[[str], None]) -> Demo:
    """Run the main job into `out`.

    Parameters
    ----------
    out
        Folder to make or to continue in.
    say
        Called with one line before each stage.

    Raises
    ------
    InputError
        `out` holds something else.
    GateError
        An exported pipeline is not at parity with the trained one.
    """
    from edgekit.bundle import add_latency, export_bundle
    from edgekit.evaluation.report import write_report
    from edgekit.evaluation.study import evaluate_run
    from edgekit.latency import measure_latency
    from edgekit.manifest import open_bundle
    from edgekit.models.runfolder import run_hash
    from edgekit.phantom.cohort import make_cohort
    from edgekit.phantom.plan import CohortParameters
    from edgekit.targets import load_target
    from edgekit.training.config import load_config
    from edgekit.training.run import train_run
    from edgekit.training.unfinished import CHECKPOINTS

    if out.exists() and not (out.is_dir() and ((out / "cohort").is_dir() or not any(out.iterdir()))):
        raise InputError(f"{out} exists and is not a demo", "choose another --out")
    seconds: dict[str, float] = {}

    def timed(stage: str, line: str, work: Callable[[], Any]) -> Any:
        say(line)
        start = time.perf_counter()
        result = work()
        seconds[stage] = round(time.perf_counter() - start, 1)
        return result

    studies = timed(
        "cohort",
        "1/6  Simulating patients: an AP and a lateral film each",
        lambda: make_cohort(out / "cohort", CohortParameters(preset=PRESET, size=FILM_SIZE, seed=SEED)),
    )
    run = out / "run"
    if (run / "pipeline.json").exists():
        say(f"2/6  Training: kept {run}")
    else:
        begun = (run / CHECKPOINTS).is_dir()
        line = "2/6  Training the detector, the members and the ensembles"
        timed("train", line, lambda: train_run(studies, run, load_config(PRESET), resume=begun))
    evaluation = timed("evaluate", "3/6  Evaluating on the test patients", lambda: evaluate_run(run, studies, out / "evaluation"))
    bundles = []
    for name in TARGETS:
        target, folder = load_target(f"{name}:{choose_variant(name, say)}"), out / "build" / name
        if folder.exists() and open_bundle(folder).manifest.provenance["run"]["sha256"] == run_hash(run):
            say(f"4/6  Exporting {name}: kept {folder}")
            bundles.append(open_bundle(folder))
        else:
            line = f"4/6  Exporting {name} and verifying it against the trained pipeline on every test film"
            bundles.append(timed(f"export {name}", line, partial(export_bundle, run, target, folder)))
    measured = timed("bench", "5/6  Measuring speed", lambda: measure_latency(bundles[-1], rounds=BENCH_ROUNDS))
    write_json(out / "latency.json", measured)
    add_latency(bundles[-1], measured)

    say("6/6  Writing the report")
    parity = tuple({"target": name, **row} for name, bundle in zip(TARGETS, bundles, strict=True) for row in bundle.manifest.parity)
    report = out / "report.html"
    write_report(report, replace(evaluation.report, parity=parity, latency=tuple(measured["rows"]), simulation=SIMULATION))
    folders = tuple(bundle.folder for bundle in bundles)
    return Demo(report, evaluation.metrics, folders, parity, measured, seconds, suggest_following(out, studies))


def choose_variant(name: str, say: Callable[[str], None]) -> str:
    """Return the variant of a target that the demo exports: in ONNX, and told so, where what the target's own format needs is missing."""
    from edgekit.formats.litert import import_schema
    from edgekit.targets import load_target

    if load_target(f"{name}:{PRECISION}").backend != "litert":
        return PRECISION
    try:
        import_schema()
    except MissingError as error:
        variant = f"onnx-{PRECISION}"
        say(f"     {name} as {variant}: {error.message}; {error.remedy} makes it faster")
        return variant
    return PRECISION


def suggest_following(out: Path, studies: Path) -> tuple[tuple[str, str], ...]:
    """Return commands that work on a demo as they are typed, each with what it does.

    Parameters
    ----------
    out
        The demo's folder.
    studies
        Its table; the films to predict on are those of its first test patient who has both.
    """
    from edgekit.studies import read_studies, select

    patient = next(study for study in select(read_studies(studies), "test") if len(study.given) == len(study.films))
    films = shlex.join([word for view, film in patient.given.items() for word in (f"--{view}", str(film))])
    run, web, desktop = (shlex.quote(str(path)) for path in (out / "run", out / "build" / "web", out / "build" / "desktop-cpu"))
    return (
        (f"edgekit predict {desktop} {films}", "a brand for two films"),
        (f"edgekit app {web} --lan", "the phone app: scan the code that it prints"),
        (f"edgekit export {run} web --simulate {GATE_PATIENTS}", "8 bits for the phone, verified on patients that the run has not seen"),
    )


def summarize_demo(demo: Demo) -> dict[str, Any]:
    """Return the headline figures as one JSON document."""
    return {**asdict(demo), "report": str(demo.report), "bundles": [str(folder) for folder in demo.bundles]}
