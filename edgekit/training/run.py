"""Train everything a pipeline needs into one run folder: detector, members, ensembles."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
import shutil
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.errors import InputError, UsageError
from edgekit.files import hash_file, write_json, write_text
from edgekit.models import runfolder
from edgekit.models.classifier import start_classifier
from edgekit.models.ensemble import CASES, EVALUABLE
from edgekit.models.runfolder import load_detector
from edgekit.progress import progress_bar
from edgekit.provenance import describe_software
from edgekit.studies import NO_CONSTRUCT, read_studies, select
from edgekit.training.config import check_config
from edgekit.training.detector import count_epochs, train_detector
from edgekit.training.ensembles import Evidence, choose_ensemble, fit_ensembles
from edgekit.training.films import FilmSet, cache_films
from edgekit.training.localisation import choose_threshold, cropping_boxes, find_boxes
from edgekit.training.members import classify_crops, crop_films, train_member
from edgekit.training.memory import keep_freed_memory
from edgekit.training.requirements import check_brands
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.models.classifier import Classifier
    from edgekit.models.detector import Detector
    from edgekit.training.config import DetectorConfig, TrainingConfig
    from edgekit.types import Study

SCRATCH = ".scratch"
"""Folder of an unfinished run."""
VIEW_MARGIN = 0.25
"""A film is in the wrong slot when the other view's score is larger than its own by this much."""


@dataclass(frozen=True, slots=True)
class DetectorSource:
    """Where a run's detector comes from; without any of these it is trained on the run's own studies.

    Attributes
    ----------
    run
        Another run, whose detector and threshold are taken as they are.
    studies
        A ``studies.csv`` of the detector's own films: its train rows teach, its validation rows choose the threshold.
    weights
        A ``detector.safetensors`` to start from.
    """

    run: Path | None = None
    studies: Path | None = None
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.run is not None and (self.studies is not None or self.weights is not None):
            raise UsageError("--detector takes a trained detector as it is", "leave out --detector-studies and --detector-weights")


def train_run(
    studies_file: Path,
    out: Path,
    config: TrainingConfig,
    *,
    weights: Path | None = None,
    source: DetectorSource = DetectorSource(),
) -> Path:
    """Train a run.

    Parameters
    ----------
    studies_file
        ``studies.csv`` with rows in ``train`` and ``validation``.
    out
        The run folder to make; see ``edgekit.models.runfolder``.
    weights
        ImageNet weights of the members (safetensors, timm naming); None takes the packaged ones.
    source
        Where the detector comes from.

    Returns
    -------
    `out`.

    Raises
    ------
    InputError
        The studies can't teach (no boxes, a brand missing from a split, ...) or `out` already holds a finished run.
    """
    scratch = out / SCRATCH
    if (out / "pipeline.json").exists():
        raise InputError(f"{out} already holds a finished run", "choose another --out, or delete it")
    if out.exists() and not (out.is_dir() and (scratch.is_dir() or not any(out.iterdir()))):
        raise InputError(f"{out} exists and is not an unfinished run", "choose another --out")
    splits = read_splits(studies_file)
    detector_splits = splits if source.studies is None else read_splits(source.studies)
    brands = check_brands(splits, config.members.names)
    start_classifier(config.members.architecture, len(brands), config.members.init, weights)  # fails now, not after the detector
    taken = None if source.run is None else load_detector(source.run)
    if taken is not None:
        config = follow_detector(config, taken)
    device = choose_device(config.device)
    started = time.perf_counter()

    scratch.mkdir(parents=True, exist_ok=True)
    for left in out.glob("*.safetensors"):  # of an earlier, interrupted training
        left.unlink()
    write_text(out / "config.toml", config.to_toml())
    history = History(out / "history.csv")
    films = {split: cache_films(rows, config.canvas_side, scratch / f"{split}.npy") for split, rows in splits.items()}

    if source.run is not None and taken is not None:
        detector, threshold = taken, runfolder.load_settings(source.run).box_threshold
    else:
        own = films
        if source.studies is not None:
            ratio = config.canvas_side // config.detector.side
            own = {s: cache_films(rows, config.canvas_side, scratch / f"detector_{s}.npy", ratio) for s, rows in detector_splits.items()}
        with keep_freed_memory() as release, progress_bar("training detector", count_epochs(config.detector, own["train"])) as advance:
            record = history.recorder("detector", advance, release)
            detector = train_detector(
                own["train"], own["validation"], config.detector, str(device), config.seed, scratch, source.weights, record
            )
        threshold = choose_threshold(find_boxes(detector, own["validation"])[1], own["validation"])
    runfolder.save_weights(out / "detector.safetensors", detector)
    boxes = {split: cropping_boxes(*find_boxes(detector, some), some.boxes, threshold) for split, some in films.items()}

    members: dict[str, Classifier] = {}
    for name in config.members.names:
        with keep_freed_memory() as release, progress_bar(f"training member {name}", config.members.epochs) as advance:
            members[name] = train_member(
                name,
                films["train"],
                boxes["train"],
                films["validation"],
                boxes["validation"],
                brands,
                config.members,
                device,
                config.seed,
                weights,
                history.recorder(f"member_{name}", advance, release),
            )
        runfolder.save_weights(out / f"member_{name}.safetensors", members[name])

    evidence = gather_evidence(members, films["validation"], boxes["validation"], brands, config.members.side)
    ensembles = fit_ensembles(evidence, config.ensembles, config.seed)
    runfolder.save_ensembles(out, ensembles)
    write_json(
        out / "provenance.json",
        {
            **describe_software(),
            "seconds": round(time.perf_counter() - started, 1),
            "device": str(device),
            "platform": platform.platform(),
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "ultralytics", "timm", "scikit-learn", "numpy")},
            "seed": config.seed,
            "studies": describe_file(studies_file),
            "patients": count_patients(splits),
            "ensemble_patients": {case: len(some.brands) for case, some in evidence.items()},
            "detector": describe_detector(source, config.detector, detector_splits),
            "start": {"members": config.members.init if weights is None else describe_file(weights)},
        },
    )
    # Written last: a run folder without it is unfinished.
    runfolder.save_settings(
        out,
        runfolder.RunSettings(
            brands=brands,
            canvas_side=config.canvas_side,
            detector_side=detector.side,
            detector_activation=detector.activation,
            detector_backbone=detector.backbone,
            crop_side=config.members.side,
            architectures=dict.fromkeys(members, config.members.architecture),
            ensemble=choose_ensemble(ensembles),
            box_threshold=threshold,
            view_margin=VIEW_MARGIN,
            coverage=config.ensembles.coverage,
        ),
    )
    shutil.rmtree(scratch)
    return out


def read_splits(studies_file: Path) -> dict[str, list[Study]]:
    """Return the rows that teach and those that choose."""
    studies = read_studies(studies_file)
    return {split: select(studies, split) for split in ("train", "validation")}


def follow_detector(config: TrainingConfig, detector: Detector) -> TrainingConfig:
    """Return the settings with the shape of a detector that is taken as it is."""
    shape = replace(config.detector, side=detector.side, activation=detector.activation, backbone=detector.backbone)
    followed = replace(config, detector=shape)
    check_config(followed)
    return followed


def describe_detector(source: DetectorSource, config: DetectorConfig, splits: dict[str, list[Study]]) -> dict[str, Any]:
    """Return what the detector learnt from, for the provenance."""
    if source.run is not None:
        return {"run": str(source.run.resolve()), "sha256": hash_file(source.run / "detector.safetensors")}
    has_negatives = any(study.brand == NO_CONSTRUCT for study in splits["validation"])
    start = "imagenet" if config.backbone != "yolov5n" else "random"
    return {
        "studies": None if source.studies is None else describe_file(source.studies),
        "patients": count_patients(splits),
        "start": start if source.weights is None else describe_file(source.weights),
        "box_threshold": "Youden's J on validation" if has_negatives else "ultralytics' default",
    }


def count_patients(splits: dict[str, list[Study]]) -> dict[str, int]:
    """Return the number of patients by split."""
    return {split: len({study.patient_id for study in rows}) for split, rows in splits.items()}


def describe_file(path: Path) -> dict[str, str]:
    """Return a file's place and hash."""
    return {"path": str(path.resolve()), "sha256": hash_file(path)}


class History:
    """``history.csv``: one row an epoch, written as it happens."""

    COLUMNS = ("stage", "epoch", "loss", "box_loss", "cls_loss", "dfl_loss", "validation_loss", "validation_accuracy")

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(self.COLUMNS)

    def recorder(self, stage: str, *then: Callable[[], None]) -> Callable[[dict[str, float]], None]:
        """Return what a training loop calls after each epoch of `stage`: append a row, then do `then`."""
        epochs = count(1)

        def record(figures: dict[str, float]) -> None:
            row: dict[str, Any] = {"stage": stage, "epoch": next(epochs), **{name: f"{value:.6g}" for name, value in figures.items()}}
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.COLUMNS).writerow(row)
            for step in then:
                step()

        return record


def choose_device(name: str) -> torch.device:
    """Return the device to train on.

    Raises
    ------
    InputError
        The device named is not there: never a silent fall to the CPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} can't be used: {str(error).splitlines()[0]}", 'set device = "auto" or "cpu"') from error
    return device


def gather_evidence(
    members: dict[str, Classifier], films: FilmSet, boxes: NDArray[np.float32], brands: tuple[str, ...], side: int
) -> dict[str, Evidence]:
    """Run the members over the validation patients, by case: on all patients whose films of that case can be cropped.

    Raises
    ------
    InputError
        No case has a patient.
    """
    columns = np.stack([films.film_of(view) for view in range(len(VIEWS))], axis=1)
    cropable = (columns >= 0) & np.isfinite(boxes[columns]).all(axis=2)
    index = {brand: number for number, brand in enumerate(brands)}
    truth = np.array([index.get(study.brand or "", -1) for study in films.studies], dtype=np.int64)

    def classify(name: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return classify_crops(members[name], crop_films(films, boxes, rows, side, name)).numpy()

    evidence = {}
    for case, views in CASES.items():
        chosen = (truth >= 0) & cropable[:, views].all(axis=1)
        probabilities = {}
        for name in members:
            if name not in EVALUABLE[case] or not chosen.any():
                continue
            if name == "merge":
                probabilities[name] = np.mean([classify(name, columns[chosen][:, [view]]) for view in views], axis=0)
            else:
                seen = list(views) if name == "concat" else [VIEWS.index(name)]
                probabilities[name] = classify(name, columns[chosen][:, seen])
        if probabilities:
            evidence[case] = Evidence(probabilities, truth[chosen])
    if not evidence:
        raise InputError("no validation film of a known brand can be cropped", "annotate boxes, or train the detector longer")
    return evidence
