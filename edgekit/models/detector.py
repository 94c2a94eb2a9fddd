"""Detector: ultralytics' YOLOv5n on one gray channel, read out as the single best box of a film.

The two classes are the two views, so the detector also tells an AP film from a lateral one. One construct a film, so the best
anchor is the answer and the graph needs no non-maximum suppression.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import InputError
from edgekit.types import VIEWS

ACTIVATIONS = {"relu": "torch.nn.ReLU()", "silu": "torch.nn.SiLU()"}


def import_ultralytics() -> None:
    """Import ultralytics without its network calls, automatic installs, loggers, and settings shared with other programs."""
    if "YOLO_CONFIG_DIR" not in os.environ:  # its settings hold folders of the process that wrote them first
        os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="edgekit-ultralytics-")
        atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    threads = os.environ.get("OMP_NUM_THREADS")
    import ultralytics

    if threads is None:  # it asks every child process for one thread; torch here is already loaded and keeps its own number
        os.environ.pop("OMP_NUM_THREADS", None)
    if ultralytics.settings["sync"]:
        ultralytics.settings.update(dict.fromkeys(("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb"), False))


def build_network(activation: str) -> Any:
    """Build ultralytics' YOLOv5n for one gray channel and two classes, with random weights.

    Parameters
    ----------
    activation
        ``relu`` (quantizes well) or ``silu`` (ultralytics' own).

    Returns
    -------
    ultralytics.nn.tasks.DetectionModel
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"unknown detector activation {activation!r}", f"choose one of {', '.join(ACTIVATIONS)}")
    import_ultralytics()
    from ultralytics.nn.modules import Conv
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    previous = Conv.default_act
    try:  # parse_model sets the activation on the class, for every later model of the process
        settings = {**yaml_model_load("yolov5n.yaml"), "nc": len(VIEWS), "activation": ACTIVATIONS[activation]}
        return DetectionModel(settings, ch=1, verbose=False)
    finally:
        Conv.default_act = previous


class Detector(nn.Module):
    """YOLOv5n whose answer is one box per film.

    Parameters
    ----------
    activation
        See `build_network`.
    side
        Side of the square input in pixels, a multiple of 32.
    """

    anchors: Tensor
    strides: Tensor
    bins: Tensor

    def __init__(self, activation: str, side: int) -> None:
        super().__init__()
        if side % 32:
            raise InputError(f"detector side {side} is not a multiple of 32")
        self.activation = activation
        self.side = side
        self.network: Any = build_network(activation)
        centres, strides = [], []
        for stride in self.network.stride.int().tolist():
            cells = torch.arange(side // stride) + 0.5
            y, x = torch.meshgrid(cells, cells, indexing="ij")
            centres.append(torch.stack([x.flatten(), y.flatten()]))
            strides.append(torch.full((1, x.numel()), float(stride)))
        self.register_buffer("anchors", torch.cat(centres, dim=1).unsqueeze(0), persistent=False)  # (1, 2, A), cells
        self.register_buffer("strides", torch.cat(strides, dim=1).unsqueeze(0), persistent=False)  # (1, 1, A), pixels
        bins = self.network.model[-1].reg_max
        self.register_buffer("bins", torch.arange(bins, dtype=torch.float32).reshape(1, 1, bins), persistent=False)

    def forward(self, films: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the construct.

        Parameters
        ----------
        films
            float (N, 1, side, side) in [0, 1].

        Returns
        -------
        boxes
            float (N, 4), x0 y0 x1 y1 in input pixels, clipped to the film.
        scores
            float (N,), confidence of the box.
        view_scores
            float (N, 2), the best score of each class: how AP-like and how lateral-like the film's construct is.
        """
        layers: Any = self.network.model
        outputs: list[Tensor] = []
        x = films
        for layer in layers[:-1]:  # ultralytics' own walk, stopped before the head's decode
            sources = [x if i == -1 else outputs[i] for i in (layer.f if isinstance(layer.f, list) else [layer.f])]
            x = layer(sources if isinstance(layer.f, list) else sources[0])
            outputs.append(x)
        head = layers[-1]
        raw = head.forward_head([outputs[i] for i in head.f], **head.one2many)

        logits = raw["scores"]  # (N, 2, A)
        best = logits.amax(dim=1, keepdim=True).argmax(dim=2, keepdim=True)  # (N, 1, 1), on logits: sigmoids saturate and tie
        distances = torch.gather(raw["boxes"], 2, best.expand(-1, raw["boxes"].shape[1], -1))
        distances = (distances.reshape(-1, 4, self.bins.shape[2]).softmax(dim=2) * self.bins).sum(dim=2)
        count = films.shape[0]
        anchor = torch.gather(self.anchors.expand(count, -1, -1), 2, best.expand(-1, 2, -1)).squeeze(2)
        stride = torch.gather(self.strides.expand(count, -1, -1), 2, best).squeeze(2)
        boxes = torch.cat([anchor - distances[:, :2], anchor + distances[:, 2:]], dim=1) * stride
        view_scores = logits.amax(dim=2).sigmoid()
        return boxes.clamp(0.0, float(self.side)), view_scores.amax(dim=1), view_scores
