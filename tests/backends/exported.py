"""torch.export: an archive that PyTorch opens without this package."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import exported_session

from edgekit.graphs.places import check_stages
from edgekit.types import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.types import Target

EXTRAS: tuple[str, ...] = ("train",)
SETTINGS: dict[str, type] = {}
OPTIONS: dict[str, tuple[str, ...]] = {}
PRECISIONS: dict[str, tuple[str, ...]] = dict.fromkeys(("detector", "geometry", "members", "ensemble"), ("fp32",))
SESSIONS: dict[str, SessionModule] = {"exported": exported_session}
EMULATED = False
IN_HALVES: tuple[str, ...] = ()
VERSIONED: tuple[str, ...] = ("torch", "timm", "ultralytics")
MODEL = "model.pt2"


def list_missing() -> list[str]:
    """Return nothing: it converts on any machine."""
    return []


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:  # noqa: ARG001
    """Write `pipeline` as a ``.pt2`` archive; see `edgekit.backends.Backend`."""
    import torch

    check_stages(target, PRECISIONS)
    views, side = pipeline.spec.task.views, pipeline.spec.canvas_side
    canvases = [torch.zeros(1, 1, side, side, dtype=torch.uint8) for _ in views]
    program = torch.export.export(pipeline, (*canvases, torch.ones(len(views))))
    with warnings.catch_warnings(action="ignore"):  # it warns of weights that are not on the CPU
        torch.export.save(program, folder / MODEL)
    return Artifact(model=MODEL, files=(MODEL,))


def describe(model: Path) -> dict[str, Any]:
    """Return the number of calls by operator."""
    import torch

    graph = torch.export.load(model).graph
    return {"operators": dict(sorted(Counter(str(node.target) for node in graph.nodes if node.op == "call_function").items()))}
