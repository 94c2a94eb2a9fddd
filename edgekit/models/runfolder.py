"""The run folder: what training leaves behind and everything else starts from.

::

    RUN/  config.toml  detector.safetensors  detector.json  member_<name>.safetensors  ensembles.json  pipeline.json
          history.csv  provenance.json  films.json  corners.safetensors

``pipeline.json`` is written last: a folder without it is unfinished. ``detector.json`` is written when the detector is done, so that
it can be used before there are members; a run whose task takes whole films has no detector. ``corners.safetensors`` finds films in
photos: it is not part of the pipeline, and may be missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.files import hash_file, replacing, write_json
from edgekit.models.classifier import Classifier
from edgekit.models.corners import CornerFinder
from edgekit.models.detector import Detector
from edgekit.models.ensemble import Ensemble
from edgekit.models.pipeline import Pipeline, PipelineSpec
from edgekit.task import PEDICLE_SCREWS, Task, parse_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from edgekit.task import View
    from edgekit.types import Bundle

CORNERS = "corners.safetensors"
"""The run's corner finder."""
FILMS = "films.json"
"""Hashes of the films that the run learnt from (`edgekit.canvases.hash_canvas`): no film can be made from them."""


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """``detector.json``: what loading and using the run's detector needs to know.

    Attributes
    ----------
    side, activation, backbone
        See `edgekit.models.detector.Detector`.
    box_threshold
        Something is found when the box's score is at least this.
    views
        Its classes.
    threshold_basis
        How `box_threshold` was chosen, in words; empty in runs that did not keep it.
    """

    side: int
    activation: str
    backbone: str
    box_threshold: float
    views: tuple[View, ...] = PEDICLE_SCREWS.views
    """A run of before tasks were data is one of the study."""
    threshold_basis: str = ""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """``pipeline.json``: what the run's pipeline needs to know beside its detector.

    Attributes
    ----------
    crop_margin
        Share of a box's side that is added on each side before cropping.
    black
        See `edgekit.models.pipeline.PipelineSpec`.
    architectures
        timm architecture by trained member.
    ensemble
        The ensemble chosen on validation.
    """

    brands: tuple[str, ...]
    canvas_side: int
    crop_side: int
    architectures: dict[str, str]
    ensemble: str
    view_margin: float
    coverage: float
    crop_margin: float = 0.05
    black: int = 8
    task: Task = PEDICLE_SCREWS
    """A run of before tasks were data is one of the study, and its crops had this margin."""


def save_films(run: Path, hashes: Iterable[str]) -> None:
    """Write the hashes of the films that a run learnt from: its train and validation rows."""
    write_json(run / FILMS, {"sha256": sorted(hashes)})


def load_films(run: Path) -> frozenset[str] | None:
    """Return the hashes that `save_films` wrote; None when the run is older than they are."""
    return frozenset(read_json(run / FILMS)["sha256"]) if (run / FILMS).is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run folder.

    Raises
    ------
    InputError
        It is missing, or not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} is not a finished run: {path.name} is missing", "train with: edgekit train STUDIES --out RUN")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})", "restore the file or train again") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: not a JSON object", "restore the file or train again")
    return document


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    with replacing(path) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, partial)


def load_weights(path: Path, module: nn.Module) -> None:
    """Read a safetensors file into a module.

    Raises
    ------
    InputError
        It is missing, damaged, or holds another network's tensors.
    """
    state = load_state(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path}: does not fit the network of this run ({str(error)[:200]})", "restore the file, or train again"
        ) from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises
    ------
    InputError
        It is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path} is missing", "train with: edgekit train STUDIES --out RUN")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})", "restore the file, or train again") from error


def save_settings(run: Path, settings: RunSettings) -> None:
    """Write ``pipeline.json``."""
    write_json(run / "pipeline.json", {**asdict(settings), "task": settings.task.to_json()})


def save_detector(run: Path, detector: Detector, box_threshold: float, views: tuple[View, ...], threshold_basis: str = "") -> None:
    """Write ``detector.safetensors`` and ``detector.json``."""
    save_weights(run / "detector.safetensors", detector)
    settings = DetectorSettings(**detector.settings, box_threshold=box_threshold, views=views, threshold_basis=threshold_basis)
    write_json(run / "detector.json", asdict(settings))


def load_detector_settings(run: Path) -> DetectorSettings:
    """Read ``detector.json``.

    Raises
    ------
    InputError
        The run has no detector yet, has none because its task takes whole films, or was written by another version.
    """
    if (run / "pipeline.json").is_file() and not load_settings(run).task.locate:
        raise InputError(f"{run} has no detector: its task takes whole films", "name a run whose task has [task] locate = true")
    document = read_json(run / "detector.json")
    try:
        return DetectorSettings(**{**document, "views": tuple(document.get("views", PEDICLE_SCREWS.views))})
    except TypeError as error:
        raise InputError(f"{run / 'detector.json'}: {error}", "the run was made by another version of edgekit: train again") from error


def load_settings(run: Path) -> RunSettings:
    """Read ``pipeline.json``.

    Raises
    ------
    InputError
        The run is missing, unfinished or written by another version.
    """
    document = read_json(run / "pipeline.json")
    try:
        task = parse_task(document["task"], f"{run / 'pipeline.json'} [task]") if "task" in document else PEDICLE_SCREWS
        return RunSettings(**{**document, "brands": tuple(document["brands"]), "task": task})
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / 'pipeline.json'}: {error}", "the run was made by another version of edgekit: train again") from error


def save_ensembles(run: Path, ensembles: Iterable[Ensemble]) -> None:
    """Write ``ensembles.json``."""
    write_json(run / "ensembles.json", {ensemble.name: ensemble.to_json() for ensemble in ensembles})


def load_ensembles(run: Path) -> dict[str, Ensemble]:
    """Read ``ensembles.json``, by name.

    Raises
    ------
    InputError
        It is missing or damaged: coefficients must be finite, a row for each brand and a column for each of the members' answers.
    """
    path = run / "ensembles.json"
    try:
        with np.errstate(over="ignore"):
            ensembles = {name: Ensemble.from_json(document) for name, document in read_json(path).items()}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}", "restore the file or train again") from error
    for name, ensemble in ensembles.items():
        for case, fitted in ensemble.fitted.items():
            brands = fitted.intercepts.size
            is_whole = fitted.intercepts.shape == (brands,) and fitted.coefficients.shape == (brands, len(fitted.members) * brands)
            if not is_whole or not np.isfinite(fitted.coefficients.sum() + fitted.intercepts.sum()):
                raise InputError(f"{path}: {name}, case {case}: not the coefficients of a fit", "restore the file or train again")
    return ensembles


def load_detector(run: Path) -> Detector:
    """Build the run's detector and load its weights."""
    settings = load_detector_settings(run)
    detector = Detector(settings.activation, settings.side, settings.backbone, len(settings.views))
    load_weights(run / "detector.safetensors", detector)
    return detector.eval()


def load_corner_finder(run: Path) -> CornerFinder | None:
    """Build the run's corner finder and load its weights; None where it has none."""
    if not (run / CORNERS).is_file():
        return None
    finder = CornerFinder()
    load_weights(run / CORNERS, finder)
    return finder.eval()


def load_pipeline(run: Path, ensemble: str | None = None) -> Pipeline:
    """Load the pipeline that answers with one ensemble; only the members that it needs are in it.

    Parameters
    ----------
    run
        A finished run folder.
    ensemble
        A name in ``ensembles.json``; None takes the one chosen on validation.

    Returns
    -------
    Pipeline in eval mode, float32, on the CPU.

    Raises
    ------
    InputError
        The run is unfinished, the name is unknown, or the ensemble can't answer a case of a task that wants every case answered.
    """
    ensembles, settings = load_ensembles(run), load_settings(run)
    name = ensemble or settings.ensemble
    if name not in ensembles:
        raise InputError(f"the run has no ensemble {name!r}", f"choose one of {', '.join(ensembles)}")
    task = settings.task
    if task.every_case and (unanswered := [case for case in task.cases if case not in ensembles[name].fitted]):
        needed = [f"{case} (without a film of {' and '.join(task.missing_views(case)) or 'any other view'})" for case in unanswered]
        complete = [other.name for other in ensembles.values() if set(other.fitted) == set(task.cases)]
        raise InputError(
            f"ensemble {name!r} answers only for {', '.join(ensembles[name].cases)}, not for {', '.join(needed)}",
            f"choose one that answers every case: {', '.join(complete) or 'the run has none'}; "
            f"or say in [task] every_case = false that the answer then is 'no {task.found} found', and train with --only ensemble",
        )
    return assemble_pipeline(run, ensembles[name], ensembles[name].members)


def load_members_pipeline(run: Path) -> Pipeline:
    """Load a pipeline whose ``members`` rows are every trained member, for evaluation."""
    settings = load_settings(run)
    trained = [member.name for member in settings.task.members if member.name in settings.architectures]
    return assemble_pipeline(run, load_ensembles(run)[settings.ensemble], trained)


def assemble_pipeline(run: Path, ensemble: Ensemble, members: Iterable[str]) -> Pipeline:
    """Put the run's detector, the named members and one ensemble together."""
    settings = load_settings(run)
    located = load_detector_settings(run) if settings.task.locate else None
    classifiers = {}
    for name in members:
        classifiers[name] = Classifier(settings.architectures[name], len(settings.brands))
        load_weights(run / f"member_{name}.safetensors", classifiers[name])
    spec = PipelineSpec(
        task=settings.task,
        brands=settings.brands,
        canvas_side=settings.canvas_side,
        crop_side=settings.crop_side,
        crop_margin=settings.crop_margin,
        black=settings.black,
        members=tuple(classifiers),
        ensemble=ensemble.name,
        box_threshold=0.0 if located is None else located.box_threshold,
        view_margin=settings.view_margin,
        coverage=settings.coverage,
    )
    return Pipeline(spec, None if located is None else load_detector(run), classifiers, ensemble)


def run_hash(run: Path) -> str:
    """Sha256 over everything that decides the run's answers: its weights, ensembles and settings."""
    digest = hashlib.sha256()
    weights = [path for path in run.glob("*.safetensors") if path.name != CORNERS]
    settings = [run / "ensembles.json", run / "pipeline.json"]
    if load_settings(run).task.locate:
        settings.append(run / "detector.json")
    files = sorted([*weights, *settings])
    for path in files:
        if not path.is_file():
            raise InputError(f"{run} is not a finished run folder: {path.name} is missing")
        digest.update(path.name.encode() + b"\0" + hash_file(path).encode())
    return digest.hexdigest()


def find_studies(run: Path) -> Path | None:
    """Return the ``studies.csv`` that a run was trained on; None when its provenance names none.

    Raises
    ------
    InputError
        It is not there any more, or has changed.
    """
    recorded = read_json(run / "provenance.json").get("studies") or {}
    if not isinstance(recorded, dict):
        raise InputError(f"{run / 'provenance.json'}: studies is {recorded!r}", "say where they are with --studies")
    if not recorded.get("path"):
        return None
    studies = run / str(recorded["path"])
    if not os.path.isfile(studies):  # noqa: PTH113  (false too where the name is too long for a file)
        raise InputError(f"{studies}: the run's own studies are not there", "say where they are with --studies")
    if hash_file(studies) != recorded["sha256"]:
        raise InputError(f"{studies} has changed since the run was trained on it", "name the table to verify on with --studies")
    return studies


def find_run(bundle: Bundle, run: Path | None = None) -> Path:
    """Return the run folder that a bundle was made from.

    Parameters
    ----------
    run
        Where it is now; None looks where it was.

    Raises
    ------
    InputError
        It is not there, or it is another run.
    """
    origin = bundle.manifest.provenance["run"]
    folder = run or Path(os.path.normpath(bundle.folder / origin["path"]))
    if not folder.is_dir():
        raise InputError(f"{folder}: the run that this bundle was made from is not there", "say where it is with --run RUN")
    if run_hash(folder) != origin["sha256"]:
        raise InputError(f"{folder} is not the run that this bundle was made from: its weights differ", "say where that is with --run RUN")
    return folder
