"""The parts of the day a GPU is at hand: how long each may take, and how large it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError

if TYPE_CHECKING:
    from edgekit.training.config import TrainingConfig

MINUTES = 12.0
BUDGETS_S = {
    "films": 70,
    "training": 80,
    "resumption": 75,
    "members": 40,
    "processes": 30,
    "bundles": 40,
    "judge torch": 100,
    "judge onnxruntime": 15,
    "judge onnxruntime-cuda": 25,
    "judge tensorrt": 40,
    "judge tensorrt-rtx": 15,
    "runner": 35,
    "latency": 45,
    "tests": 35,
    "cpu": 70,
}
"""Seconds of each part in `MINUTES`, in order: what only a GPU can tell comes before what compares it with the CPU."""

BUNDLES = {
    "onnxruntime": "jetson:fp16",
    "onnxruntime-cuda": "desktop-gpu:fp16",
    "tensorrt": "jetson:fp16",
    "tensorrt-rtx": "desktop-gpu:fp16",
}
"""The bundle that each session is judged and measured with. onnxruntime stands in for the others where there is no GPU."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done.

    Attributes
    ----------
    films
        By cohort, the fields of `edgekit.phantom.plan.CohortParameters`: ``demo`` is trained on, ``further`` judged on.
    kept
        The cohort that the kept study's members are trained on.
    fractions
        Train, validation and test in ``demo``; None leaves its preset's.
    patients
        Patients to judge on.
    packed
        Of them, those that the bundle's own runner answers for.
    rounds, per_round
        Turns of each session, and inferences in a turn.
    """

    films: dict[str, dict[str, Any]]
    kept: str
    fractions: tuple[float, float, float] | None
    patients: int
    packed: int
    rounds: int
    per_round: int


SIZES = {
    "full": Size(
        films={
            "demo": {"preset": "demo", "size": 768, "seed": 0},
            "paper": {"preset": "paper", "size": 768, "seed": 1},
            "further": {"split": "test", "size": 768, "seed": 9},
        },
        kept="paper",
        fractions=None,
        patients=1500,
        packed=48,
        rounds=40,
        per_round=25,
    ),
    "smallest": Size(
        films={"demo": {"patients": 42, "size": 192, "seed": 5}, "further": {"split": "test", "size": 192, "seed": 9}},
        kept="demo",
        fractions=(0.34, 0.33, 0.33),
        patients=7,
        packed=2,
        rounds=2,
        per_round=2,
    ),
}
"""``smallest`` proves that the machinery runs. Its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call does.

    Attributes
    ----------
    device
        ``cuda`` or ``cpu``, as torch names it.
    size
        A name in `SIZES`.
    patients
        Patients to judge on.
    work
        Folder of films, runs and bundles; what is in it is gone on with.
    run
        The run whose bundles are judged; None takes the one that is trained here.
    """

    device: str
    size: str
    patients: int
    work: Path
    run: Path | None

    @property
    def sizes(self) -> Size:
        """How much is done."""
        return SIZES[self.size]

    @property
    def judged_run(self) -> Path:
        """The run whose bundles are judged."""
        return self.run or self.work / "runs" / "training"

    def bundle(self, spec: str) -> Path:
        """Return the folder of a bundle."""
        return self.work / "bundles" / spec.replace(":", "-")

    def studies(self, cohort: str) -> Path:
        """Return a cohort's table.

        Raises
        ------
        InputError
            Its films were not made.
        """
        table = self.work / "films" / cohort / ("split.csv" if cohort == "demo" and self.sizes.fractions else "studies.csv")
        if not table.is_file():
            raise InputError(f"the films of {cohort} were not made in time", "make them first, with --only films and more --minutes")
        return table

    def finished_run(self) -> Path:
        """Return `judged_run`.

        Raises
        ------
        InputError
            It is unfinished.
        """
        if not (self.judged_run / "pipeline.json").is_file():
            raise InputError(f"{self.judged_run.name} is no finished run", "see why the part 'training' did not end")
        return self.judged_run


def read_plan(path: Path) -> Plan:
    """Read what `write_plan` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return Plan(**{**document, "work": Path(document["work"]), "run": document["run"] and Path(document["run"])})


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON has it."""
    return {**asdict(plan), "work": str(plan.work), "run": plan.run and str(plan.run)}


def choose_settings(plan: Plan, device: str) -> TrainingConfig:
    """Return the settings of the demo's training on a device, with the corner finder's at their least: its photos take longer than it."""
    from edgekit.training.config import load_config
    from edgekit.training.screens import LEAST_PHOTOS

    config = replace(load_config("demo"), device=device)
    if plan.size == "full":
        return replace(config, corners=replace(config.corners, photos=LEAST_PHOTOS + 4 * config.corners.batch, epochs=1))
    return shrink(replace(config, corners=replace(config.corners, photos=0)))


def choose_kept_settings(plan: Plan) -> TrainingConfig:
    """Return the settings of the kept study's members for two epochs.

    Without photos: they are taken before the loop, which is as fast with them.
    """
    from edgekit.training.config import load_config

    config = replace(load_config("paper"), device=plan.device)
    config = replace(config, members=replace(config.members, epochs=2, photo_share=0.0), corners=replace(config.corners, photos=0))
    return config if plan.size == "full" else shrink(config)


def shrink(config: TrainingConfig) -> TrainingConfig:
    """Return settings for films of 192 px, trained in seconds."""
    return replace(
        config,
        canvas_side=192,
        detector=replace(config.detector, side=64, film_passes=56, photo_share=0.0),
        members=replace(config.members, side=64, epochs=2, batch=8, cuda_batch=8),
        ensembles=replace(config.ensembles, folds=2),
    )
