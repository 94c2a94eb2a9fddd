"""A run with random weights that trains nothing and exports in seconds: what converters and runtimes are tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.canvases import graph_inputs
from edgekit.files import hash_file, write_json
from edgekit.models import runfolder
from edgekit.models.classifier import Classifier
from edgekit.models.detector import Detector
from edgekit.models.ensemble import Case, Ensemble
from edgekit.studies import write_studies
from edgekit.task import PEDICLE_SCREWS, parse_task
from edgekit.types import Study

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.task import View
    from edgekit.types import Tensors

VIEWS = PEDICLE_SCREWS.views
MEMBERS = tuple(member.name for member in PEDICLE_SCREWS.members)
BRANDS = ("design-a", "design-b", "design-c")
CANVAS_SIDE, DETECTOR_SIDE, CROP_SIDE = 128, 64, 64
HIPS = {
    "name": "hips",
    "question": "Which hip stem is this?",
    "found": "hip stem",
    "told": "stem",
    "views": ["front"],
    "locate": False,
    "intended_use": "Research software for hips. Not for choosing implants.",
}
"""A task of one view, in which no detector looks for anything."""


def make_run(run: Path) -> Path:
    """Write a finished run folder: three brands, every member and ensemble, random weights; it names no studies.

    Parameters
    ----------
    run
        The folder to make.

    Returns
    -------
    `run`
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    run.mkdir(parents=True)
    detector = settle(Detector("relu", DETECTOR_SIDE, "yolov5n", len(VIEWS)), DETECTOR_SIDE)
    head = detector.network.model[-1]
    for branch in [*head.cv2, *head.cv3]:
        torch.nn.init.normal_(branch[-1].weight, std=0.01)
    runfolder.save_detector(run, detector, box_threshold=0.0, views=VIEWS)
    for name in MEMBERS:
        member = settle(Classifier("efficientnet_lite0", len(BRANDS)), CROP_SIDE)
        member.network.get_classifier().weight.data *= 0.1  # random features are large: keep the softmax out of saturation
        runfolder.save_weights(run / f"member_{name}.safetensors", member)
    ensembles = {"ap": ("ap",), "lateral": ("lateral",), "ap+lateral": ("ap", "lateral"), "all": MEMBERS}
    runfolder.save_ensembles(run, [_draw_ensemble(name, members, random) for name, members in ensembles.items()])
    runfolder.save_settings(
        run,
        runfolder.RunSettings(
            brands=BRANDS,
            canvas_side=CANVAS_SIDE,
            crop_side=CROP_SIDE,
            architectures=dict.fromkeys(MEMBERS, "efficientnet_lite0"),
            ensemble="ap+lateral",
            view_margin=0.3,
            coverage=0.95,
        ),
    )
    write_json(run / "provenance.json", {"studies": {"path": "", "sha256": ""}})
    return run


def make_front_run(run: Path) -> Path:
    """Write a finished run folder of another task: hip stems on one view, ``front``, whole films without a detector, one member.

    Parameters
    ----------
    run
        The folder to make.

    Returns
    -------
    `run`
    """
    torch.manual_seed(1)
    random = np.random.default_rng(1)
    run.mkdir(parents=True)
    member = settle(Classifier("efficientnet_lite0", len(BRANDS)), CROP_SIDE)
    member.network.get_classifier().weight.data *= 0.1  # as in `make_run`
    runfolder.save_weights(run / "member_front.safetensors", member)
    coefficients = random.normal(size=(len(BRANDS), len(BRANDS))).astype(np.float32) * 3
    case = Case(("front",), coefficients, random.normal(size=len(BRANDS)).astype(np.float32), 1.0, 0.2, 0.9)
    runfolder.save_ensembles(run, [Ensemble("front", ("front",), {"front": case}, 1.0)])
    runfolder.save_settings(
        run,
        runfolder.RunSettings(
            brands=BRANDS,
            canvas_side=CANVAS_SIDE,
            crop_side=CROP_SIDE,
            architectures={"front": "efficientnet_lite0"},
            ensemble="front",
            view_margin=0.3,
            coverage=0.95,
            task=parse_task(HIPS, "edgekit.testing [task]"),
        ),
    )
    write_json(run / "provenance.json", {"studies": {"path": "", "sha256": ""}})
    return run


def add_studies(run: Path, patients: int = 4) -> Path:
    """Write films of noise beside a run and name them in its provenance: validation patients, and one to judge on.

    Returns
    -------
    The ``studies.csv``.
    """
    from PIL import Image

    folder, random, rows = run.with_name(f"{run.name}-films"), np.random.default_rng(2), []
    folder.mkdir()
    for number, split in enumerate((*["validation"] * patients, "test")):
        films: dict[str, Any] = {view: folder / f"{number}-{view}.png" for view in VIEWS}
        for path in films.values():
            Image.fromarray(random.integers(0, 256, (CANVAS_SIDE, CANVAS_SIDE), np.uint8)).save(path)
        rows.append(Study(f"p{number}", BRANDS[number % 2], split=split, films=films))
    table = folder / "studies.csv"
    write_studies(table, rows)
    write_json(run / "provenance.json", {"studies": {"path": f"../{folder.name}/{table.name}", "sha256": hash_file(table)}})
    return table


def draw_patients(side: int) -> list[Tensors]:
    """Return the graph's inputs of three patients, one of whom has both films: noise that is coarse enough to survive a crop."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (4, side // 8, side // 8), np.uint8)
    first, second, third, fourth = coarse.repeat(8, axis=1).repeat(8, axis=2)
    given: tuple[dict[View, NDArray[np.uint8]], ...] = ({"ap": first, "lateral": second}, {"ap": third}, {"lateral": fourth})
    return [graph_inputs(films, VIEWS, side) for films in given]


def settle(module: Any, side: int, lightest: float = 1.0) -> Any:
    """Give BatchNorm the statistics of real activations: a fresh network answers every film alike.

    Parameters
    ----------
    module
        A network of one gray channel.
    side
        Side of its input in pixels.
    lightest
        The brightest value of its films.
    """
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    smooth = torch.nn.functional.interpolate(torch.rand(16, 1, side // 8, side // 8), scale_factor=8, mode="bilinear")
    module.train()(lightest * smooth)
    return module


def _draw_ensemble(name: str, members: tuple[str, ...], random: np.random.Generator) -> Ensemble:
    fitted = {}
    for case in PEDICLE_SCREWS.cases:
        used = tuple(member for member in members if PEDICLE_SCREWS.can_answer(member, case))
        if used:
            coefficients = random.normal(size=(len(BRANDS), len(used) * len(BRANDS))).astype(np.float32) * 3
            intercepts = random.normal(size=len(BRANDS)).astype(np.float32)
            fitted[case] = Case(used, coefficients, intercepts, 1.0, 0.2, 0.9)
    return Ensemble(name, members, fitted, 1.0)
