"""Train everything a pipeline needs into one run folder: detector, members, ensembles, and what finds films in photos.

::

    studies ─► films (cached, photographed) ─► detector ─► boxes ─► members ─► ensembles ─► RUN/
                                    └────────► photos of screens ─► corner finder ────────►

A stage whose result is in the run folder is done; what is not is trained, from its last checkpoint if it has one.
"""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import hash_canvas
from edgekit.errors import InputError, UsageError
from edgekit.files import hash_file, replacing, write_json
from edgekit.models import runfolder
from edgekit.models.classifier import Classifier, start_classifier
from edgekit.progress import progress_bar
from edgekit.provenance import describe_software
from edgekit.studies import read_studies, require_views
from edgekit.training.checkpoints import load_checkpoint
from edgekit.training.config import check_config
from edgekit.training.corners import train_corner_finder
from edgekit.training.detector import count_epochs, lay_out_films, select_annotated, train_detector
from edgekit.training.devices import choose_device, name_detector_device, start_accelerator
from edgekit.training.ensembles import choose_ensemble, fit_ensembles
from edgekit.training.evidence import gather_evidence
from edgekit.training.films import FilmSet, cache_films, read_unreadable
from edgekit.training.history import History
from edgekit.training.localisation import choose_threshold, cropping_boxes, find_boxes, find_whole_films
from edgekit.training.members import prepare_lesson, train_member
from edgekit.training.memory import keep_freed_memory
from edgekit.training.photos import photograph_films
from edgekit.training.requirements import check_boxes, check_brands, select_teaching
from edgekit.training.screens import photograph_screens
from edgekit.training.unfinished import CHECKPOINTS, Stopwatch, claim_run, release_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from accelerate import Accelerator
    from numpy.typing import NDArray

    from edgekit.task import Task
    from edgekit.training.config import TrainingConfig
    from edgekit.types import Study


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
    only: str | None = None,
    resume: bool = False,
) -> Path:
    """Train a run, or one stage of it.

    Started by ``accelerate launch``, every process calls this: the main one reads films, trains the detector (with ultralytics' own
    processes, one a GPU) and fits the ensembles; the members are trained by all of them together.

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
    only
        Train this stage alone: ``detector``, ``members``, ``corners`` or ``ensemble``; the stages that it builds on are done. The last one
        finishes the run, and fits the ensembles of a finished run again; ``corners`` too may be trained for a finished run.
    resume
        Go on with an unfinished run.

    Returns
    -------
    `out`.

    Raises
    ------
    InputError
        The studies can't teach (no boxes, a brand missing from a split, ...) or `out` holds something else.
    """
    task = config.task
    splits = read_splits(studies_file, task)
    detector_splits = splits if source.studies is None else read_splits(source.studies, task)
    brands = check_brands(splits, task, config.members.names)
    if not task.locate and (source != DetectorSource() or only == "detector"):
        raise UsageError(f"the task {task.name} takes whole films: it has no detector", "leave out the detector's options")
    if task.locate and source.run is None:
        check_boxes(detector_splits, task.views)
    start_classifier(config.members.architecture, len(brands), config.members.init, weights)  # fails now, not after the detector
    if source.run is not None:
        config = follow_detector(config, runfolder.load_detector_settings(source.run))
    accelerator = start_accelerator(choose_device(config.device))
    sources = describe_sources(studies_file, source, weights)
    if accelerator.is_main_process:
        claim_run(out, config, sources, resume=resume, only=only)
    run = _Run(out, config, source, accelerator, splits, detector_splits, brands, weights, Stopwatch(out))
    try:
        if task.locate and only in (None, "detector"):
            run.train_detector()
        if only in (None, "members"):
            run.train_members()
        if only in (None, "corners") and accelerator.is_main_process:
            run.train_corner_finder()
        if only in (None, "ensemble") and accelerator.is_main_process:
            run.finish(sources)
    finally:  # Ctrl-C and errors too: who goes on counts from here
        if accelerator.is_main_process:
            run.stopwatch.keep()
    if (out / "pipeline.json").is_file() and accelerator.is_main_process:
        run.stopwatch.record()
        release_run(out)
    accelerator.wait_for_everyone()
    return out


def read_splits(studies_file: Path, task: Task) -> dict[str, list[Study]]:
    """Return the rows that teach and those that choose, those with a film of the task's views."""
    studies = read_studies(studies_file)
    require_views(studies, task.views, str(studies_file))
    return select_teaching([study for study in studies if any(view in study.given for view in task.views)])


def follow_detector(config: TrainingConfig, detector: runfolder.DetectorSettings) -> TrainingConfig:
    """Return the settings with the shape of a detector that is taken as it is.

    Raises
    ------
    InputError
        It tells other views apart than the task's.
    """
    if detector.views != config.task.views:
        raise InputError(
            f"the detector tells {', '.join(detector.views)} apart, the task's views are {', '.join(config.task.views)}",
            "train one of its own: leave out --detector",
        )
    shape = replace(config.detector, side=detector.side, activation=detector.activation, backbone=detector.backbone)
    followed = replace(config, detector=shape)
    check_config(followed)
    return followed


def describe_sources(studies_file: Path, source: DetectorSource, weights: Path | None) -> dict[str, Any]:
    """Return what a run is trained from: files with their hashes."""
    files = {
        "studies": studies_file,
        "detector": None if source.run is None else source.run / "detector.safetensors",
        "detector_studies": source.studies,
        "detector_weights": source.weights,
        "weights": weights,
    }
    return {name: None if path is None else {"path": str(path.resolve()), "sha256": hash_file(path)} for name, path in files.items()}


def count_patients(splits: dict[str, list[Study]]) -> dict[str, int]:
    """Return the number of patients by split."""
    return {split: len({study.patient_id for study in rows}) for split, rows in splits.items()}


@dataclass(frozen=True, slots=True)
class _Run:
    """One training: what it works with, and its stages."""

    out: Path
    config: TrainingConfig
    source: DetectorSource
    accelerator: Accelerator
    splits: dict[str, list[Study]]
    detector_splits: dict[str, list[Study]]
    brands: tuple[str, ...]
    weights: Path | None
    stopwatch: Stopwatch

    @property
    def scratch(self) -> Path:
        return self.out / CHECKPOINTS

    @property
    def task(self) -> Task:
        return self.config.task

    def train_detector(self) -> None:
        """Take or train the detector and choose its threshold; every process waits for it."""
        if self.accelerator.is_main_process and not (self.out / "detector.json").is_file():
            if self.source.run is not None:
                settings = runfolder.load_detector_settings(self.source.run)
                detector = runfolder.load_detector(self.source.run)
                runfolder.save_detector(self.out, detector, settings.box_threshold, settings.views, settings.threshold_basis)
            else:
                self._train_own_detector()
        self.accelerator.wait_for_everyone()

    def _train_own_detector(self) -> None:
        settings, own = self.config.detector, self.source.studies is not None
        ratio = self.config.canvas_side // settings.side if own else 1
        prefix = "detector_" if own else ""
        films = {split: self.cache(f"{prefix}{split}", rows, ratio) for split, rows in self.detector_splits.items()}
        folder = self.scratch / "detector"
        photos = None
        if settings.photo_share:
            teaching = select_annotated(films["train"], "training")
            some = np.random.default_rng(self.config.seed).permutation(teaching)[: round(settings.photo_share * len(teaching))]
            photos = some, photograph_films(films["train"], some, self.config.canvas_side, ratio, self.config.seed, folder / "photos.npy")
        lay_out_films(folder, films, photos, settings, self.config.seed, self.source.weights)
        epochs = count_epochs(settings, films["train"])
        device = name_detector_device(self.accelerator)
        with keep_freed_memory() as release, progress_bar("training detector", epochs) as advance:
            record = self.recorder("detector", "detector/checkpoints", epochs, advance, release)
            detector = train_detector(folder, settings, epochs, device, self.config.seed, record)
        threshold = choose_threshold(find_boxes(detector, films["validation"])[1], films["validation"], settings)
        runfolder.save_detector(self.out, detector, threshold.score, self.task.views, threshold.basis)

    def train_members(self) -> None:
        """Train the members, all processes together."""
        if self.accelerator.is_main_process:
            self.make_films()
        self.accelerator.wait_for_everyone()
        films, boxes = self.open_films()
        photos = self.photograph(films["train"]) if self.config.members.photo_share else None
        settings = replace(self.config.members, margin=self.config.crop_margin)
        for name in self.config.members.names:
            if (self.out / f"member_{name}.safetensors").is_file():
                continue
            folder = f"members/{name}"
            epochs = self.config.members.epochs
            lesson = prepare_lesson(self.task.member(name), films, boxes, photos, self.brands, settings.side, settings.margin)
            with keep_freed_memory() as release, self.show(f"training member {name}", epochs) as advance:
                record = self.recorder(f"member_{name}", folder, epochs, advance, release)
                seed = self.config.seed + self.task.repetition(name)
                member = train_member(lesson, settings, self.accelerator, seed, self.weights, self.scratch / folder, record)
            if self.accelerator.is_main_process:
                runfolder.save_weights(self.out / f"member_{name}.safetensors", member)
            self.accelerator.wait_for_everyone()

    def train_corner_finder(self) -> None:
        """Train the network that finds a film in a photo, if one is wanted; one process does."""
        settings, path = self.config.corners, self.out / runfolder.CORNERS
        if not settings.photos or path.is_file():
            return
        folder = self.scratch / "corners"
        photos = photograph_screens(self.cache("train", self.splits["train"]), settings.photos, self.config.seed, folder / "photos.npy")
        with keep_freed_memory() as release, progress_bar("training corner finder", settings.epochs) as advance:
            record = self.recorder("corners", "corners/checkpoints", settings.epochs, advance, release)
            finder = train_corner_finder(photos, settings, self.accelerator.device, self.config.seed, folder / "checkpoints", record)
        runfolder.save_weights(path, finder)

    def finish(self, sources: dict[str, Any]) -> None:
        """Fit the ensembles and write what makes the run whole."""
        self.make_films()
        films, boxes = self.open_films()
        config, members = self.config, {}
        for name in config.members.names:
            members[name] = Classifier(config.members.architecture, len(self.brands)).eval()
            runfolder.load_weights(self.out / f"member_{name}.safetensors", members[name])
        evidence = gather_evidence(
            self.task, members, films["validation"], boxes["validation"], self.brands, config.members.side, config.crop_margin
        )
        ensembles = fit_ensembles(evidence, self.task, config.ensembles, config.seed)
        (self.out / "pipeline.json").unlink(missing_ok=True)  # fitted again: unfinished until all that follows is new
        runfolder.save_ensembles(self.out, ensembles)
        packages = ("torch", "ultralytics", "timm", "accelerate", "scikit-learn", "numpy")
        runfolder.save_films(self.out, {hash_canvas(canvas) for some in films.values() for canvas in some.canvases})
        write_json(
            self.out / "provenance.json",
            {
                **describe_software(),
                "seconds": round(self.stopwatch.seconds, 1),
                "device": str(self.accelerator.device),
                "processes": self.accelerator.num_processes,
                "mixed_precision": self.accelerator.mixed_precision,
                "platform": platform.platform(),
                "versions": {name: importlib.metadata.version(name) for name in packages},
                "seed": config.seed,
                "sources": sources,
                "studies": sources["studies"],
                "patients": count_patients(self.splits),
                "unreadable": self.read_unreadable(),
                "class_imbalance": "loss weighted by the inverse frequency of each brand",
                "ensemble_patients": {case: len(some.brands) for case, some in evidence.items()},
                "detector": self.describe_detector(sources) if self.task.locate else None,
                "start": {"members": config.members.init if self.weights is None else sources["weights"]},
            },
        )
        # Written last: a run folder without it is unfinished.
        runfolder.save_settings(
            self.out,
            runfolder.RunSettings(
                brands=self.brands,
                canvas_side=config.canvas_side,
                crop_side=config.members.side,
                architectures=dict.fromkeys(members, config.members.architecture),
                ensemble=choose_ensemble(ensembles, self.task),
                view_margin=config.detector.view_margin,
                coverage=config.ensembles.coverage,
                crop_margin=config.crop_margin,
                black=config.members.black,
                task=self.task,
            ),
        )

    def cache(self, name: str, rows: list[Study], ratio: int = 1) -> FilmSet:
        """Decode films, or open those decoded."""
        return cache_films(rows, self.task.views, self.config.canvas_side, self.scratch / f"{name}.npy", ratio)

    def make_films(self) -> None:
        """Decode the films and find the boxes to crop, unless that is done; the main process does."""
        for split, rows in self.splits.items():
            films, path = self.cache(split, rows), self.scratch / f"{split}_boxes.npy"
            if not path.is_file():
                boxes = self.find_crops(films)
                with replacing(path) as partial, partial.open("wb") as file:
                    np.save(file, boxes)

    def find_crops(self, films: FilmSet) -> NDArray[np.float32]:
        """Return the boxes that members crop, float32 (N, 4) in canvas pixels."""
        if not self.task.locate:
            return find_whole_films(films, self.config.members.black)
        detector, threshold = runfolder.load_detector(self.out), runfolder.load_detector_settings(self.out).box_threshold
        return cropping_boxes(*find_boxes(detector, films), films.boxes, threshold)

    def open_films(self) -> tuple[dict[str, FilmSet], dict[str, NDArray[np.float32]]]:
        """Return films and the boxes to crop by split."""
        boxes = {split: np.load(self.scratch / f"{split}_boxes.npy") for split in self.splits}
        return {split: self.cache(split, rows) for split, rows in self.splits.items()}, boxes

    def photograph(self, films: FilmSet) -> NDArray[np.uint8]:
        """Return every training film as photographed off a screen; the main process makes them, the others open them."""

        def take() -> NDArray[np.uint8]:
            path = self.scratch / "train_photos.npy"
            return photograph_films(films, np.arange(len(films)), self.config.canvas_side, 1, self.config.seed, path)

        if self.accelerator.is_main_process:
            take()
        self.accelerator.wait_for_everyone()
        return take()

    def show(self, description: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Show a bar in the main process."""
        return progress_bar(description, total) if self.accelerator.is_main_process else nullcontext(lambda: None)

    def recorder(
        self, stage: str, folder: str, epochs: int, advance: Callable[[], None], *then: Callable[[], None]
    ) -> Callable[[dict[str, float]], None]:
        """Return what a loop calls after each epoch; epochs that an interruption left done are shown as done."""
        if not self.accelerator.is_main_process:
            return lambda _: None
        state = load_checkpoint(self.scratch / folder)
        done = 0 if state is None else min(state["epoch"] + 1, epochs)
        for _ in range(done):
            advance()
        self.stopwatch.keep()  # what came before the first epoch: films were read, photos taken
        return History(self.out, self.config.tensorboard).recorder(stage, done, self.stopwatch.keep, advance, *then)

    def read_unreadable(self) -> dict[str, str]:
        """Return the patients left out because a film can't be read, with the reason."""
        names = [*self.splits, *(f"detector_{split}" for split in self.splits if self.source.studies is not None)]
        paths = [self.scratch / f"{name}.npy" for name in names]
        return {patient: why for path in paths if path.is_file() for patient, why in read_unreadable(path).items()}

    def describe_detector(self, sources: dict[str, Any]) -> dict[str, Any]:
        """Return what the detector learnt from."""
        if self.source.run is not None:
            return {"run": str(self.source.run.resolve()), "sha256": sources["detector"]["sha256"]}
        start = "imagenet" if self.config.detector.backbone != "yolov5n" else "random"
        return {
            "studies": sources["detector_studies"],
            "patients": count_patients(self.detector_splits),
            "start": start if self.source.weights is None else sources["detector_weights"],
            "box_threshold": runfolder.load_detector_settings(self.out).threshold_basis or "not kept",
        }
