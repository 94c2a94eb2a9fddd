"""A run that can be known by heart: the answer is written in the films' grey level."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pedicle_screws import VIEWS
from PIL import Image
from torch import Tensor

from edgekit import studies as table
from edgekit.evaluation import charts
from edgekit.models import runfolder
from edgekit.models.ensemble import Case, Ensemble
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import DECISIONS, Box, Study

BRANDS = ("a", "b", "c")
SIDE = 64
UNFOUND = 200
"""Grey level of a film of "a" on which the detector finds nothing; on others 20, 40 and 60 are the three brands."""
FOUND_BOX = (8.0, 8.0, 56.0, 56.0)
HALF_BOX = (8.0, 8.0, 56.0, 32.0)


def make_study(
    folder: Path,
    patient: str,
    brand: str | None,
    levels: tuple[int | None, int | None],
    boxes: tuple[Box | None, Box | None] = (None, None),
    crosslink: bool | None = None,
    other_metal: bool | None = None,
    levels_operated: int | None = None,
    **more: Any,
) -> Study:
    """Paint the AP and lateral film of one patient with these mean grey levels; None: no film."""
    films: dict[str, Path | None] = dict.fromkeys(VIEWS)
    for view, level in zip(VIEWS, levels, strict=True):
        if level is not None:
            films[view] = folder / f"{patient}-{view}.png"
            pixels = np.full((SIDE, SIDE), level, np.uint8)
            pixels[:, : SIDE // 2] -= 10  # a film without contrast is refused
            pixels[:, SIDE // 2 :] += 10
            Image.fromarray(pixels).save(folder / f"{patient}-{view}.png")
    has = {"crosslink": crosslink} | ({} if other_metal is None else {"other_metal": other_metal})
    return Study(patient, brand, has, films=films, boxes=dict(zip(VIEWS, boxes, strict=True)), levels=levels_operated, **more)


class Pipeline:
    """Answers what the grey level says, with 0.8; and always "c" where the crop is low."""

    spec = SimpleNamespace(
        task=PEDICLE_SCREWS,
        brands=BRANDS,
        members=("ap", "lateral"),
        canvas_side=SIDE,
        crop_margin=0.05,
        ensemble="ap+lateral",
        box_threshold=0.5,
    )

    def __call__(self, ap: Tensor, lateral: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        canvases = torch.cat([ap, lateral]).float() / 255
        levels = (canvases.mean(dim=(1, 2, 3)) * 255).round()
        scores = present * torch.where(levels == UNFOUND, 0.1, 0.9)
        boxes = torch.tensor([FOUND_BOX] * 2) * present[:, None]
        found = (scores > 0.5).int()
        members, _ = self.classify(canvases, boxes, found.float())
        heatmaps = torch.full((2, 8, 8), 0.5)
        nothing = torch.zeros(3)
        decision = torch.tensor([0 if found.any() else DECISIONS.index("no construct found")])
        possible = (members.sum(0) > 0.3).int()
        return nothing, members, boxes, scores, found, torch.zeros(2, 2), heatmaps, possible, torch.zeros(1), decision

    def classify(self, canvases: Tensor, crops: Tensor, found: Tensor) -> tuple[Tensor, None]:
        members = torch.full((2, 3), 0.1)
        for row, (film, crop) in enumerate(zip(canvases, crops, strict=True)):
            level = round(float(film.mean()) * 255)
            members[row, 2 if crop[3] - crop[1] < 40 else {0: 0, 20: 0, 40: 1, 60: 2, UNFOUND: 0}[level]] = 0.8
        return members * found[:, None], None


def make_case(*weights: tuple[str, float]) -> Case:
    coefficients = np.concatenate([np.eye(3, dtype=np.float32) * weight for _, weight in weights], axis=1)
    return Case(tuple(name for name, _ in weights), coefficients, np.zeros(3, np.float32), 1.0, 0.2, 0.9)


ENSEMBLES = {
    "lateral": Ensemble("lateral", ("lateral",), {"lateral": make_case(("lateral", 5)), "both": make_case(("lateral", 5))}, 0.5),
    "ap+lateral": Ensemble(
        "ap+lateral",
        ("ap", "lateral"),
        {"ap": make_case(("ap", 5)), "lateral": make_case(("lateral", 5)), "both": make_case(("ap", 1), ("lateral", 5))},
        0.4,
    ),
}


def replace_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runfolder, "load_members_pipeline", lambda _: Pipeline())
    patch.setattr(runfolder, "load_ensembles", lambda _: ENSEMBLES)
    patch.setattr(runfolder, "run_hash", lambda _: "0" * 64)
    patch.setattr(charts, "chart_explanations", lambda *_: {})  # there are no networks to explain


def write_studies(folder: Path, studies: list[Study]) -> Path:
    table.write_studies(folder / "studies.csv", studies)
    return folder / "studies.csv"
