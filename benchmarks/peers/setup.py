"""What a peer is made from, and the script around its networks that every user writes."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.models.ensemble import Ensemble
    from edgekit.types import Study, Tensors

VIEWS = PEDICLE_SCREWS.views

ENSEMBLE = "ap+lateral"
CALIBRATION = 128
"""Validation patients that 8-bit ranges are found on, as in our own recipes."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a peer is made from.

    Attributes
    ----------
    run
        A finished run folder, whose detector and two members answer.
    folder
        Where the peer's files are kept; it belongs to these weights.
    detector_side
        Side in pixels of what the detector is given.
    graph
        Our own float ONNX file, for the peers that start from it; None when there is none.
    judged_on
        The patients that accuracy is measured on: a peer may not find its ranges on their films.
    """

    run: Path
    folder: Path
    detector_side: int
    graph: Path | None
    judged_on: tuple[Study, ...]


class Script(AbstractContextManager["Script"]):
    """Detector, crops, members and ensemble, one after the other in Python.

    Parameters
    ----------
    runtime
        What it runs on, with versions.
    find
        Maps uint8 films (S, S) to a box each, float (4,) in film pixels, or None.
    members
        By view: maps a float32 film (1, 1, side, side) in [0, 1] to logits (K,).
    run
        Where the ensemble, the crop's side and the film's margin come from.
    """

    def __init__(
        self,
        runtime: str,
        find: Callable[[Sequence[NDArray[np.uint8]]], list[NDArray[np.float32] | None]],
        members: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]],
        run: Path,
    ) -> None:
        from edgekit.models.runfolder import load_ensembles, load_settings

        self.runtime = runtime
        self._find, self._members = find, members
        self._side = load_settings(run).crop_side
        self._brands = len(load_settings(run).brands)
        self._ensemble: Ensemble = load_ensembles(run)[ENSEMBLE]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        del self._find, self._members

    def infer(self, inputs: Tensors) -> Tensors:
        """Return ``probabilities`` (K,); zeros when nothing was found."""
        given = [view for view, present in zip(VIEWS, inputs["present"], strict=True) if present > 0.5]
        films = [inputs[view][0, 0].astype(np.uint8, copy=False) for view in given]
        rows = {view: np.zeros((1, self._brands), np.float32) for view in VIEWS}
        found = dict.fromkeys(VIEWS, False)
        for view, film, box in zip(given, films, self._find(films), strict=True):
            if box is None:
                continue
            logits = self._members[view](cut_crop(film, box, self._side))
            exponentials = np.exp(logits - logits.max())
            rows[view] = (exponentials / exponentials.sum()).reshape(1, -1)
            found[view] = True
        seen = np.array([[found[view] for view in VIEWS]])
        return {"probabilities": self._ensemble.predict(rows, seen, PEDICLE_SCREWS.cases)[0]}


def cut_crop(film: NDArray[np.uint8], box: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Cut a box with 5 % more on each side and stretch it, antialiased, to float32 (1, 1, side, side) in [0, 1]."""
    from PIL import Image

    x0, y0, x1, y1 = (float(value) for value in box)
    pad_x, pad_y = 0.05 * (x1 - x0), 0.05 * (y1 - y0)
    height, width = film.shape
    area = max(0.0, x0 - pad_x), max(0.0, y0 - pad_y), min(float(width), x1 + pad_x), min(float(height), y1 + pad_y)
    crop = Image.fromarray(film).resize((side, side), Image.Resampling.BILINEAR, box=area)
    return (np.asarray(crop, np.float32) / np.float32(255))[None, None]


def predict_boxes(
    yolo: Any, side: int, threshold: float, batch: int = 1
) -> Callable[[Sequence[NDArray[np.uint8]]], list[NDArray[np.float32] | None]]:
    """Return what finds boxes through ultralytics' predictor, `batch` films a call: its exports take one."""

    def find(films: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32] | None]:
        images = [np.ascontiguousarray(film[:, :, None]) for film in films]
        calls = [images[first : first + batch] for first in range(0, len(images), batch)]
        given = {"imgsz": side, "conf": threshold, "max_det": 1, "device": "cpu", "verbose": False}
        boxes = [result.boxes.xyxy for call in calls for result in yolo.predict(call, **given)]
        return [np.asarray(each[0], np.float32) if len(each) else None for each in boxes]

    return find


def save_checkpoint(setup: Setup) -> Path:
    """Write the run's detector as the checkpoint that a user of ultralytics has."""
    import torch

    from edgekit.models.runfolder import load_detector, load_detector_settings

    path = setup.folder / "detector.pt"
    if not path.exists():
        network = load_detector(setup.run).network
        network.names = dict(enumerate(VIEWS))
        made = {"task": "detect", "imgsz": load_detector_settings(setup.run).side}
        network.args = made
        torch.save({"model": network, "train_args": made}, path)
    return path


def export_detector(setup: Setup, name: str, **options: Any) -> Path:
    """Let ultralytics export the detector, in a folder of the input's side; return what it made, `name`."""
    import shutil

    from edgekit.models.detector import import_ultralytics

    folder = setup.folder / f"detector-{setup.detector_side}"
    if not (folder / name).exists():
        import_ultralytics()
        from ultralytics import YOLO

        folder.mkdir(exist_ok=True)
        shutil.copy(save_checkpoint(setup), folder / "detector.pt")
        YOLO(folder / "detector.pt").export(imgsz=setup.detector_side, device="cpu", verbose=False, **options)
    return folder / name


def without_telemetry() -> AbstractContextManager[None]:
    """Import OpenVINO and NNCF without the reports that both send to Google Analytics, unasked."""
    from edgekit.sessions.openvino import import_openvino

    import_openvino()
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # for NNCF, which then sends nothing
    return nullcontext()
