"""Train everything a pipeline needs into one run folder: detector, members, ensembles."""

from __future__ import annotations

import csv
import ctypes
import gc
import importlib.metadata
import platform
import shutil
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.boxes import box_iou
from edgekit.errors import InputError
from edgekit.files import hash_file, write_json, write_text
from edgekit.models import runfolder
from edgekit.models.classifier import start_classifier
from edgekit.models.ensemble import CASES, EVALUABLE
from edgekit.progress import progress_bar, track
from edgekit.provenance import describe_software
from edgekit.studies import NO_CONSTRUCT, read_studies, select
from edgekit.training.detector import shrink_films, train_detector
from edgekit.training.ensembles import Evidence, choose_ensemble, fit_ensembles
from edgekit.training.films import FilmSet, cache_films
from edgekit.training.members import classify_crops, crop_films, train_member
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.models.classifier import Classifier
    from edgekit.models.detector import Detector
    from edgekit.training.config import TrainingConfig
    from edgekit.types import Study

SCRATCH = ".scratch"
"""Folder of an unfinished run."""
VIEW_MARGIN = 0.25
"""A film is in the wrong slot when the other view's score is larger than its own by this much."""
DEFAULT_BOX_THRESHOLD = 0.25
"""ultralytics' own prediction threshold; used when validation holds no film without a construct."""
LEAST_OVERLAP = 0.5
"""A detector box that overlaps the annotated one less than this (IoU) does not teach a member; the annotated one does."""


@contextmanager
def keep_freed_memory() -> Iterator[Callable[[], None]]:
    """Within the block, have glibc reuse freed memory instead of returning it to the kernel after every layer.

    On a CPU a third of a training step goes to mapping the same pages again; see ``docs/performance.md``. Yields what returns all that
    is free at once: called after each epoch, it keeps fragments from piling up. Other C libraries have no such switch and need none.
    Values: ``mallopt(3)``.
    """
    if platform.libc_ver()[0] != "glibc":
        yield lambda: None
        return
    libc = ctypes.CDLL(None)

    def release() -> None:
        gc.collect()  # a trainer holds its networks in reference cycles
        libc.malloc_trim(0)

    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    for parameter, value in ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**28)):
        libc.mallopt(parameter, value)
    try:
        yield release
    finally:
        for parameter, value in ((m_mmap_max, 65536), (m_trim_threshold, 2**17), (m_top_pad, 0)):  # glibc's defaults
            libc.mallopt(parameter, value)
        release()


def train_run(
    studies_file: Path, out: Path, config: TrainingConfig, *, weights: Path | None = None, detector_weights: Path | None = None
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
    detector_weights
        A ``detector.safetensors`` to start the detector from; None starts it at random.

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
    studies = read_studies(studies_file)
    splits = {split: select(studies, split) for split in ("train", "validation")}
    brands = check_brands(splits, config.members.names)
    start_classifier(config.members.architecture, len(brands), config.members.init, weights)  # fails now, not after the detector
    device = choose_device(config.device)
    started = time.perf_counter()

    scratch.mkdir(parents=True, exist_ok=True)
    for left in out.glob("*.safetensors"):  # of an earlier, interrupted training
        left.unlink()
    write_text(out / "config.toml", config.to_toml())
    history = History(out / "history.csv")
    films = {split: cache_films(rows, config.canvas_side, scratch / f"{split}.npy") for split, rows in splits.items()}

    with keep_freed_memory() as release, progress_bar("training detector", config.detector.epochs) as advance:
        detector = train_detector(
            films["train"],
            films["validation"],
            config.detector,
            str(device),
            config.seed,
            scratch,
            detector_weights,
            history.recorder("detector", advance, release),
        )
    runfolder.save_weights(out / "detector.safetensors", detector)
    found = {split: find_boxes(detector, some) for split, some in films.items()}
    threshold = choose_threshold(found["validation"][1], films["validation"])
    boxes = {split: cropping_boxes(*found[split], films[split].boxes, threshold) for split in films}

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
            "studies": {"path": str(studies_file.resolve()), "sha256": hash_file(studies_file)},
            "patients": {split: len({study.patient_id for study in rows}) for split, rows in splits.items()},
            "ensemble_patients": {case: len(some.brands) for case, some in evidence.items()},
            "start": {
                "detector": describe_start(detector_weights, "random"),
                "members": describe_start(weights, config.members.init),
            },
            "box_threshold": "Youden's J on validation" if (films["validation"].brands == "none").any() else "ultralytics' default",
        },
    )
    # Written last: a run folder without it is unfinished.
    runfolder.save_settings(
        out,
        runfolder.RunSettings(
            brands=brands,
            canvas_side=config.canvas_side,
            detector_side=config.detector.side,
            detector_activation=config.detector.activation,
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


def check_brands(splits: dict[str, list[Study]], members: tuple[str, ...]) -> tuple[str, ...]:
    """Return the brands of the training rows, sorted, after checking that each member can learn all of them.

    Raises
    ------
    InputError
        There are fewer than two brands, validation has a brand that training has not, or a member lacks patients of a brand: one in
        train, and two in validation, because the ensembles are cross-validated there. All shortages are listed.
    """
    brands = {split: {study.brand for study in rows if study.brand not in (None, NO_CONSTRUCT)} for split, rows in splits.items()}
    remedy = "split with: edgekit studies split STUDIES, or move patients between splits by hand"
    if len(brands["train"]) < 2:
        raise InputError(f"the train split holds {len(brands['train'])} brands, at least two are needed", remedy)
    if unknown := brands["validation"] - brands["train"]:
        raise InputError(f"the train split lacks {', '.join(sorted(map(str, unknown)))}, which validation has", remedy)
    shortages = []
    for member in members:
        for split, least in (("train", 1), ("validation", 2)):
            for brand in sorted(map(str, brands["train"])):
                found = {study.patient_id for study in splits[split] if study.brand == brand and has_films(study, member)}
                if len(found) < least:
                    shortages.append(f"member {member}: {len(found)} {split} patients of {brand} have its films, expected at least {least}")
    if shortages:
        raise InputError("\n".join(shortages), f"{remedy}; or train other [members] names")
    return tuple(sorted(map(str, brands["train"])))


def has_films(study: Study, member: str) -> bool:
    """Tell whether a patient has the films that `member` looks at."""
    given = [study.film(view) is not None for view in VIEWS]
    return all(given) if member == "concat" else any(given) if member == "merge" else given[("ap", "lateral").index(member)]


def describe_start(weights: Path | None, otherwise: str) -> str | dict[str, str]:
    """Return where weights started: a file by path and hash, or `otherwise`."""
    return otherwise if weights is None else {"path": str(weights.resolve()), "sha256": hash_file(weights)}


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


def find_boxes(detector: Detector, films: FilmSet, batch: int = 16) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run the detector over films; boxes float32 (N, 4) in canvas pixels and scores float32 (N,)."""
    ratio = films.canvases.shape[1] / detector.side
    boxes, scores = [], []
    with torch.inference_mode():
        for rows in track(np.array_split(np.arange(len(films)), -(-len(films) // batch)), "finding constructs"):
            small = torch.from_numpy(shrink_films(films, rows, detector.side)).float()[:, None] / 255
            box, score, _ = detector(small)
            boxes.append(box.numpy() * ratio)
            scores.append(score.numpy())
    return np.concatenate(boxes), np.concatenate(scores)


def choose_threshold(scores: NDArray[np.float32], films: FilmSet) -> float:
    """Choose the detector's threshold on validation films: the middle of the range that maximises Youden's J.

    J = sensitivity + specificity - 1 (Youden 1950). Without films that hold no construct there is nothing to choose by.
    """
    has_construct = np.isfinite(films.boxes).all(axis=1)
    empty = films.brands == "none"
    if not empty.any():
        return DEFAULT_BOX_THRESHOLD
    cuts = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    middles = (cuts[:-1] + cuts[1:]) / 2
    youden = [(scores[has_construct] >= cut).mean() + (scores[empty] < cut).mean() for cut in middles]
    best = np.flatnonzero(np.isclose(youden, np.max(youden)))
    return float(middles[best[len(best) // 2]])


def cropping_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], truth: NDArray[np.float32], threshold: float
) -> NDArray[np.float32]:
    """Choose the boxes to crop: the detector's where it found the construct, else the annotated one, else NaN."""
    annotated = np.isfinite(truth).all(axis=1)
    right = ~annotated | (box_iou(boxes, truth) >= LEAST_OVERLAP)
    return np.where(((scores >= threshold) & right)[:, None], boxes, truth)


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
