"""ultralytics' own ONNX export and predictor, and the members exported one by one to onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.task import PEDICLE_SCREWS
from peers.eager import load_member
from peers.setup import Script, Setup, export_detector, predict_boxes

if TYPE_CHECKING:
    from pathlib import Path


VIEWS = PEDICLE_SCREWS.views


def prepare(setup: Setup) -> None:
    """Export the three networks."""
    _export(setup)
    for view in VIEWS:
        export_member(setup, view)


def open_peer(setup: Setup, threads: int | None) -> Script:
    """Open the three files."""
    import onnxruntime

    from edgekit.models.detector import import_ultralytics
    from edgekit.models.runfolder import load_detector_settings

    import_ultralytics()
    from ultralytics import YOLO, __version__

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    members = {}
    for view in VIEWS:
        session = onnxruntime.InferenceSession(str(export_member(setup, view)), options, providers=["CPUExecutionProvider"])
        members[view] = lambda crop, session=session: session.run(None, {"film": crop})[0][0]
    find = predict_boxes(YOLO(_export(setup), task="detect"), setup.detector_side, load_detector_settings(setup.run).box_threshold)
    return Script(f"ultralytics {__version__}, onnxruntime {onnxruntime.__version__}", find, members, setup.run)


def export_member(setup: Setup, view: str) -> Path:
    """Return a member's ONNX file: ``film`` float32 (1, 1, side, side) in [0, 1] to ``logits`` (1, K)."""
    import torch

    from edgekit.models.runfolder import load_settings

    path = setup.folder / f"member_{view}.onnx"
    if not path.exists():
        side = load_settings(setup.run).crop_side
        film, names = torch.zeros(1, 1, side, side), {"input_names": ["film"], "output_names": ["logits"]}
        torch.onnx.export(load_member(setup, view), (film,), path, dynamo=True, external_data=False, verbose=False, **names)
    return path


def _export(setup: Setup) -> Path:
    return export_detector(setup, "detector.onnx", format="onnx", simplify=False)
