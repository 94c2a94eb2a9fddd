"""The parts about training: each yields names and what was found, as soon as it is."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from feeding import Feeding
from plan import choose_kept_settings, choose_settings

from edgekit.errors import EdgekitError, MissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plan import Plan

    from edgekit.training.config import TrainingConfig
    from edgekit.training.run import DetectorSource

    Found = Iterator[tuple[str, Any]]

POLL_S = 0.02
KEPT_FIGURES = ("n", "accuracy")


def make_films(plan: Plan) -> Found:
    """Simulate every cohort, or go on with it."""
    from edgekit.phantom.cohort import make_cohort
    from edgekit.phantom.plan import CohortParameters
    from edgekit.studies import read_studies, split_studies, write_studies

    for name, fields in plan.sizes.films.items():
        counted = {"patients": plan.patients} if name == "further" else {}
        start = time.perf_counter()
        table = make_cohort(plan.work / "films" / name, CohortParameters(**fields, **counted))
        studies = read_studies(table)
        if name == "demo" and plan.sizes.fractions:
            blank = [replace(study, split=None) for study in studies]
            write_studies(table.with_name("split.csv"), split_studies(blank, 0, plan.sizes.fractions))
        yield name, {"patients": len(studies), "seconds": round(time.perf_counter() - start, 1)}


def train_demo(plan: Plan) -> Found:
    """Train the demo on the device."""
    yield from _train_and_score(plan, plan.work / "runs" / "training", choose_settings(plan, plan.device))


def train_on_cpu(plan: Plan) -> Found:
    """Train the same on the CPU, and compare the answers of both for the test patients."""
    if plan.device == "cpu":
        raise MissingError("the training above ran on the CPU: there is no other device to set beside it")
    run, trained = plan.work / "runs" / "cpu", plan.work / "runs" / "training"
    yield from _train_and_score(plan, run, choose_settings(plan, "cpu"))
    yield "answers of the device against those of the CPU", compare_runs(run, trained, plan.studies("demo"))


def _train_and_score(plan: Plan, run: Path, config: TrainingConfig) -> Found:
    if (run / "pipeline.json").is_file():
        yield "training", "kept: it ended in an earlier call, which did not score it"
    else:
        yield from train_watched(plan.studies("demo"), run, config)
    yield "test patients", score_run(run, plan.studies("demo"))


def train_watched(studies: Path, run: Path, config: TrainingConfig, source: DetectorSource | None = None, members: bool = False) -> Found:
    """Train, or go on, with every step timed; yield ``feeding``, ``memory`` and ``history``.

    Parameters
    ----------
    source
        Where the detector comes from; None trains it.
    members
        Stop after the members.
    """
    import torch

    from edgekit.latency.workers import peak_rss_mb
    from edgekit.training.run import DetectorSource, train_run
    from edgekit.training.unfinished import CHECKPOINTS

    begun = (run / CHECKPOINTS).is_dir()
    feeding, start = Feeding(), time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with feeding.watching():
        if members:
            for stage in ("detector", "members"):
                train_run(studies, run, config, source=source or DetectorSource(), only=stage)
        else:
            train_run(studies, run, config, source=source or DetectorSource(), resume=begun)
    memory = {"peak_rss_mb": round(peak_rss_mb(), 1)}
    if torch.cuda.is_available():
        memory |= {
            "cuda_allocated_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1),
            "cuda_reserved_mb": round(torch.cuda.max_memory_reserved() / 1e6, 1),
        }
    yield "seconds", round(time.perf_counter() - start, 1)
    yield "taken_up_again", begun
    yield "feeding", feeding.summarize()
    yield "memory", memory
    yield "history", summarize_history(run)


def summarize_history(run: Path) -> dict[str, dict[str, float]]:
    """Return the last epoch of each stage, without what the stage has not."""
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = {row.pop("stage"): row for row in csv.DictReader(file)}
    return {stage: {name: float(value) for name, value in row.items() if value} for stage, row in rows.items()}


def score_run(run: Path, table: Path) -> dict[str, Any]:
    """Return what a run's members and its own ensemble are worth on the test patients, and its detector's overlaps."""
    from edgekit.evaluation.asked import name_model
    from edgekit.evaluation.cohort import ask_cohort, load_models, score_cohort, select_test
    from edgekit.studies import read_studies

    models, studies = load_models(run), read_studies(table)
    scores = score_cohort(models, ask_cohort(models, table, studies, select_test(table, studies), run.with_name(f"{run.name}-answers")))
    wanted = [name for name in ("ap", "lateral", name_model(models.chosen)) if name in scores["models"]]
    figures = {
        name: {**{key: scores["models"][name][key] for key in KEPT_FIGURES}, "macro_auc": scores["models"][name]["macro"]["auc"]}
        for name in wanted
    }
    return {"models": figures, "detector": scores["detector"]}


def compare_runs(reference: Path, candidate: Path, table: Path) -> dict[str, Any]:
    """Return what changes for the test patients from one run's answers to another's, as a parity row; both answer in torch on the CPU."""
    from edgekit.evaluation.cohort import select_test
    from edgekit.models.runfolder import load_settings
    from edgekit.parity.comparison import Gate, compare
    from edgekit.parity.recording import record
    from edgekit.sessions.torch import open_run
    from edgekit.studies import read_studies
    from edgekit.types import Judge

    settings = load_settings(reference)
    rows = select_test(table, read_studies(table))
    with open_run(reference, settings.ensemble) as one, open_run(candidate, settings.ensemble) as other:
        expected, answers = record([other], rows, settings.task.views, settings.canvas_side, one)
    gate = Gate(Judge("numerical"), "fp32", settings.brands, settings.task.views)
    return describe_parity(compare(expected, answers, rows, gate))


def describe_parity(parity: Any) -> dict[str, Any]:
    """Return a verdict without the rows behind it."""
    return {name: value for name, value in asdict(parity).items() if name not in ("flipped", "flipped_unlisted")}


def kill_and_resume(plan: Plan) -> Found:
    """Train the demo by the user's own command, killed in the detector's and in a member's epochs; compare its end with `train_demo`'s."""
    run, whole = plan.work / "runs" / "killed", plan.work / "runs" / "training"
    config = choose_settings(plan, plan.device)
    command = [sys.executable, "-m", *begin_command(plan, run, config)]
    for stage in ("detector", f"member_{config.members.names[-1]}"):
        yield f"killed in {stage}", kill_in(command, run, stage)
    run_command([*command, "--resume"])
    names = sorted(path.name for path in whole.glob("*.safetensors"))
    yield "files of weights", {"compared": len(names), "the same to the bit": sum(_same_bytes(whole / name, run / name) for name in names)}
    yield "largest difference of a weight", max(_largest_difference(whole / name, run / name) for name in names)
    yield "answers against those of the uninterrupted", compare_runs(whole, run, plan.studies("demo"))


def begin_command(plan: Plan, run: Path, config: TrainingConfig) -> list[str]:
    """Return ``edgekit train`` into an empty folder: what an earlier call left there was not measured to its end."""
    shutil.rmtree(run, ignore_errors=True)
    settings = run.with_suffix(".toml")
    settings.write_text(config.to_toml(), encoding="utf-8")
    return ["edgekit", "train", str(plan.studies("demo")), "--config", str(settings), "--out", str(run)]


def kill_in(command: list[str], run: Path, stage: str) -> dict[str, Any]:
    """Start or go on with a training, and kill it (-9) once `stage` has an epoch behind it."""
    resumed = ["--resume"] if run.exists() else []
    with subprocess.Popen([*command, *resumed], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None and count_epochs_done(run, stage) == 0:
            time.sleep(POLL_S)
        process.kill()
        told = process.communicate()[1].decode(errors="replace")
    if process.returncode != -signal.SIGKILL:
        raise EdgekitError(f"the training ended with code {process.returncode} before it could be killed in {stage}: {told[-500:]}")
    return {"epochs_done": count_epochs_done(run, stage), "begun_by": "resuming" if resumed else "the first start"}


def count_epochs_done(run: Path, stage: str) -> int:
    """Return how many epochs of a stage stand in the run's history."""
    history = run / "history.csv"
    if not history.is_file():
        return 0
    return sum(line.startswith(f"{stage},") for line in history.read_text(encoding="utf-8").splitlines())


def run_command(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command to its end; its failure is an error with the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise EdgekitError(f"{' '.join(command[1:4])} ended with code {done.returncode}: {done.stderr[-800:]}")


def _same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _largest_difference(one: Path, other: Path) -> float:
    from safetensors.numpy import load_file

    left, right = load_file(one), load_file(other)
    return max(float(np.abs(left[name].astype(np.float64) - right[name]).max(initial=0.0)) for name in left)


def train_kept_members(plan: Plan) -> Found:
    """Train the kept study's members for two epochs on the boxes of the demo's detector."""
    from edgekit.training.run import DetectorSource

    source = DetectorSource(run=plan.finished_run())
    run = plan.work / "runs" / "members"
    shutil.rmtree(run, ignore_errors=True)  # of an earlier call that did not end: its steps were not kept
    yield from train_watched(plan.studies(plan.sizes.kept), run, choose_kept_settings(plan), source, members=True)


def train_in_two_processes(plan: Plan) -> Found:
    """Train the demo by ``accelerate launch`` in two processes, one a GPU, on films and settings of `train_demo`."""
    import torch

    if plan.device == "cuda" and torch.cuda.device_count() < 2:
        raise MissingError(f"two processes need two GPUs, and this machine has {torch.cuda.device_count()}")
    run = plan.work / "runs" / "processes"
    train = begin_command(plan, run, choose_settings(plan, plan.device))
    placed = ["--multi_gpu", "--mixed_precision", "bf16"] if plan.device == "cuda" else ["--cpu", "--mixed_precision", "no"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", *placed, "--num_processes", "2", "--num_machines", "1"]
    launch += ["--dynamo_backend", "no", "--num_cpu_threads_per_process", str(max(1, (os.cpu_count() or 2) // 2))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE")}
    start = time.perf_counter()
    run_command([*launch, "-m", *train], environment)
    yield "seconds", round(time.perf_counter() - start, 1)
    yield "history", summarize_history(run)
    yield "history of one process", summarize_history(plan.work / "runs" / "training")
