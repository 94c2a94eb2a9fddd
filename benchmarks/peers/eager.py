"""The paper's shape: ultralytics' predictor, timm members in torch eager, the ensemble in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.task import PEDICLE_SCREWS
from peers.setup import Script, Setup, predict_boxes, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray


VIEWS = PEDICLE_SCREWS.views


def prepare(setup: Setup) -> None:
    """Write the detector's checkpoint."""
    save_checkpoint(setup)


def open_peer(setup: Setup, threads: int | None, batch: int) -> Script:
    """Open the checkpoint and the members; the detector takes `batch` films a call."""
    import torch

    from edgekit.models.detector import import_ultralytics
    from edgekit.models.runfolder import load_detector_settings

    import_ultralytics()
    import ultralytics
    from ultralytics import YOLO

    if threads is not None:
        torch.set_num_threads(threads)
    yolo = YOLO(save_checkpoint(setup))
    members = {view: _open_member(setup, view) for view in VIEWS}
    find = predict_boxes(yolo, setup.detector_side, load_detector_settings(setup.run).box_threshold, batch)
    runtime = f"ultralytics {ultralytics.__version__}, torch {torch.__version__} eager, threads {torch.get_num_threads()}"
    return Script(runtime, find, members, setup.run)


def load_member(setup: Setup, view: str) -> torch.nn.Module:
    """Return one member in eval mode."""
    from edgekit.models.classifier import Classifier
    from edgekit.models.runfolder import load_settings, load_weights

    settings = load_settings(setup.run)
    member = Classifier(settings.architectures[view], len(settings.brands))
    load_weights(setup.run / f"member_{view}.safetensors", member)
    return member.eval()


def _open_member(setup: Setup, view: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    import torch

    member = load_member(setup, view)

    def classify(crop: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = member(torch.from_numpy(crop))[0].numpy()
        return logits

    return classify
