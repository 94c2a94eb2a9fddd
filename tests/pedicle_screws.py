"""The study's task, as tests name its tensors."""

from __future__ import annotations

from typing import Any

from edgekit.contract import describe_tensors, input_names
from edgekit.models.pipeline import PipelineSpec
from edgekit.task import INTENDED_USE, PEDICLE_SCREWS
from edgekit.types import Manifest

VIEWS = PEDICLE_SCREWS.views
INPUTS = input_names(VIEWS)
MEMBERS = tuple(member.name for member in PEDICLE_SCREWS.members)


def describe_inputs(side: int) -> dict[str, Any]:
    """Return the graph's inputs for canvases of `side` pixels, as sessions check them."""
    return describe_tensors(VIEWS, {"S": side, "K": 3, "M": 2, "h": 2, "w": 2}, exact=True)["inputs"]


def make_spec(side: int, brands: tuple[str, ...] = ("a", "b")) -> PipelineSpec:
    """Return what a pipeline with canvases of `side` pixels says of itself."""
    return PipelineSpec(
        task=PEDICLE_SCREWS,
        brands=brands,
        canvas_side=side,
        crop_side=side,
        crop_margin=0.05,
        black=8,
        members=("ap", "lateral"),
        ensemble="ap+lateral",
        box_threshold=0.5,
        view_margin=0.25,
        coverage=0.95,
    )


def make_manifest(**changes: Any) -> Manifest:
    """Return the manifest of a bundle that is not there, with some `changes`."""
    values: dict[str, Any] = {
        "name": "ap+lateral for desktop-cpu",
        "target": "desktop-cpu",
        "precision": "fp32",
        "verified": True,
        "intended_use": INTENDED_USE,
        "task": PEDICLE_SCREWS,
        "brands": ("design-a", "design-b", "design-c"),
        "members": ("ap", "lateral"),
        "ensemble": "ap+lateral",
        "cases": tuple(PEDICLE_SCREWS.cases),
        "thresholds": {"box": 0.5, "view_margin": 0.25, "coverage": 0.95},
        "canvas": {"side": 64, "dtype": "uint8", "padding": 0, "specification": "docs/canvas.md"},
        "crop": {"side": 64, "margin": 0.05, "black": 8},
        "tensors": describe_tensors(VIEWS, {"S": 64, "K": 3, "M": 2, "h": 2, "w": 2}, exact=True),
        "backend": "onnx",
        "stages": dict.fromkeys(("detector", "geometry", "members", "ensemble"), "fp32"),
        "judge": {"basis": "numerical", "margin": None, "agreement": None},
        "recipe": {},
        "sessions": ("onnxruntime",),
        "model": "model.onnx",
        "model_sha256": "0" * 64,
        "graph": {},
        "corners": None,
        "unproven": (),
        "parity": (),
        "latency": (),
        "provenance": {"run": {"path": "run", "sha256": "0" * 64}},
        "licence": "AGPL-3.0-or-later",
        "notices": (),
        "files": {},
    }
    return Manifest(**{**values, **changes})
