"""Detector: ultralytics' YOLOv5n on one gray channel, read out as the single best box of a film.

Its backbone is YOLOv5n's own, or the first five stages of EfficientNet-Lite0 with their ImageNet weights: features that were learnt on
photographs and are kept while the rest learns on simulated films carry over to real ones (Hinterstoisser et al., *On pre-trained image
features and synthetic images for deep learning*, ECCV Workshops 2018).

Its classes are the views, so the detector also tells an AP film from a lateral one. One construct a film, so the best
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
from edgekit.models.classifier import Classifier, start_classifier

BACKBONES = ("yolov5n", "efficientnet_lite0")
FROZEN_LAYERS = {"yolov5n": (), "efficientnet_lite0": (0,)}
"""Layers of the network that training leaves as they are, BatchNorm's statistics included."""
REACH = 2
"""Cells on each side of the best one that its box depends on."""
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
    # Started by accelerate, this process is one of several; ultralytics would take itself for one of its own.
    launched = {name: os.environ.pop(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if name in os.environ}
    import ultralytics
    import ultralytics.utils

    os.environ.update(launched)
    if threads is None:  # it asks every child process for one thread; torch here is already loaded and keeps its own number
        os.environ.pop("OMP_NUM_THREADS", None)
    if ultralytics.settings["sync"]:
        ultralytics.settings.update(dict.fromkeys(("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb"), False))


def build_network(activation: str, backbone: str, n_views: int) -> Any:
    """Build ultralytics' YOLOv5n for one gray channel and a class for each view, with random weights.

    Parameters
    ----------
    activation
        ``relu`` (quantizes well) or ``silu`` (ultralytics' own).
    backbone
        A name in `BACKBONES`.

    Returns
    -------
    ultralytics.nn.tasks.DetectionModel
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"unknown detector activation {activation!r}", f"choose one of {', '.join(ACTIVATIONS)}")
    if backbone not in BACKBONES:
        raise InputError(f"unknown detector backbone {backbone!r}", f"choose one of {', '.join(BACKBONES)}")
    import_ultralytics()
    from ultralytics.nn.modules import Conv
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    previous = Conv.default_act
    try:  # parse_model sets the activation on the class, for every later model of the process
        settings = {**yaml_model_load("yolov5n.yaml"), "nc": n_views, "activation": ACTIVATIONS[activation]}
        network = DetectionModel(settings, ch=1, verbose=False)
        if backbone == "efficientnet_lite0":
            _replace_backbone(network, Conv, n_views)
        return network
    finally:
        Conv.default_act = previous


class Stages(nn.Module):
    """Consecutive stages of a timm EfficientNet, with the stem when they start at the first.

    Parameters
    ----------
    classifier
        Where the layers come from.
    first, last
        Stages, `last` not included.
    """

    def __init__(self, classifier: Classifier, first: int, last: int) -> None:
        super().__init__()
        network: Any = classifier.network
        self.stem = nn.Sequential(network.conv_stem, network.bn1) if first == 0 else None
        self.blocks = nn.Sequential(*network.blocks[first:last])
        self.mean, self.std = classifier.mean, classifier.std

    def forward(self, x: Tensor) -> Tensor:
        """Map a film in [0, 1], or the feature map of the stage before, to the feature map of the last stage."""
        if self.stem is not None:
            x = self.stem((x - self.mean) / self.std)
        result: Tensor = self.blocks(x)
        return result


def _replace_backbone(network: Any, conv: Any, n_views: int) -> None:
    """Put EfficientNet-Lite0's stages in the place of YOLOv5n's layers up to stride 16; the neck and the head stay."""
    activation = type(network.model[0].act)  # by now the class of `conv` has its own again
    classifier = Classifier("efficientnet_lite0", n_views)
    deep, fine = 5, 3
    layers = {
        0: (Stages(classifier, 0, fine), -1),  # stride 8, 40 channels
        1: (nn.Identity(), -1),
        2: (nn.Identity(), -1),
        3: (nn.Identity(), -1),
        4: (conv(40, 64, 1, act=activation()), -1),
        5: (Stages(classifier, fine, deep), 0),  # stride 16, 112 channels
        6: (conv(112, 128, 1, act=activation()), -1),
    }
    for index, (layer, source) in layers.items():
        layer.i, layer.f, layer.type = index, source, type(layer).__name__
        layer.np = sum(parameter.numel() for parameter in layer.parameters())
        network.model[index] = layer
    network.save = sorted({*network.save, 0})


def start_backbone(detector: Detector) -> None:
    """Give an EfficientNet-Lite0 backbone its ImageNet weights.

    Raises
    ------
    MissingError
        The package that they come from is missing.
    """
    source = start_classifier("efficientnet_lite0", detector.n_views, "imagenet")
    layers: Any = detector.network.model
    layers[0].load_state_dict(Stages(source, 0, 3).state_dict())
    layers[5].load_state_dict(Stages(source, 3, 5).state_dict())


class Detector(nn.Module):
    """YOLOv5n whose answer is one box per film.

    Parameters
    ----------
    activation
        See `build_network`.
    side
        Side of the square input in pixels, a multiple of 32.
    backbone
        A name in `BACKBONES`.
    n_views
        Number of views V, which are its classes.
    """

    notice = (
        "The detector's network comes from ultralytics (AGPL-3.0): whoever distributes this bundle, or serves a program that embeds it, "
        "owes its users the source under that licence."
    )

    anchors: Tensor
    strides: Tensor
    bins: Tensor

    def __init__(self, activation: str, side: int, backbone: str, n_views: int) -> None:
        super().__init__()
        if side % 32:
            raise InputError(f"detector side {side} is not a multiple of 32")
        self.activation = activation
        self.side = side
        self.backbone = backbone
        self.n_views = n_views
        self.network: Any = build_network(activation, backbone, n_views)
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

    @property
    def settings(self) -> dict[str, Any]:
        """Side, activation and backbone."""
        return {"side": self.side, "activation": self.activation, "backbone": self.backbone}

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the loss of ultralytics' network and its parts; see `edgekit.models.networks.Locator`."""
        total, parts = self.network.loss(batch)
        return total, parts

    def list_blocks(self) -> dict[str, str]:
        """Return the blocks of ultralytics' network; see `edgekit.models.networks.Network`.

        Each of its layers is one. Of a borrowed backbone each stage is, and of the head each layer of a branch: boxes and classes bear
        8 bits differently.
        """
        paths, last = ["network"], len(self.network.model) - 1
        for place, layer in enumerate(self.network.model):
            paths.append(f"network.model.{place}")
            if isinstance(layer, Stages):
                paths += [f"{paths[-1]}.stem"] if layer.stem is not None else []
                paths += [f"network.model.{place}.blocks.{stage}" for stage in range(len(layer.blocks))]
        for name in ("cv2", "cv3"):
            for level, branch in enumerate(getattr(self.network.model[last], name)):
                paths += [f"network.model.{last}.{name}.{level}.{part}" for part in range(len(branch))]
        return {path: path for path in paths}

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
            float (N, V), the best score of each class: how much the film looks like each view.
        """
        layers: Any = self.network.model
        outputs: list[Tensor] = []
        x = films
        for layer in layers[:-1]:  # ultralytics' own walk, stopped before the head's decode
            sources = [x if i == -1 else outputs[i] for i in (layer.f if isinstance(layer.f, list) else [layer.f])]
            x = layer(sources if isinstance(layer.f, list) else sources[0])
            outputs.append(x)
        head = layers[-1]
        maps = [outputs[i] for i in head.f]
        logits = torch.cat([branch(level).flatten(2) for branch, level in zip(head.cv3, maps, strict=True)], dim=2)  # (N, V, A)
        best = logits.amax(dim=1, keepdim=True).argmax(dim=2, keepdim=True)  # (N, 1, 1), on logits: sigmoids saturate and tie
        count = films.shape[0]
        anchor = torch.gather(self.anchors.expand(count, -1, -1), 2, best.expand(-1, 2, -1)).squeeze(2)
        stride = torch.gather(self.strides.expand(count, -1, -1), 2, best).squeeze(2)
        distances = torch.zeros(count, 4 * self.bins.shape[2], device=films.device)
        for branch, level in zip(head.cv2, maps, strict=True):
            chosen = (stride == float(self.side // level.shape[2])).to(level.dtype)
            distances = distances + chosen * regress_at(branch, level, anchor)
        distances = (distances.reshape(-1, 4, self.bins.shape[2]).softmax(dim=2) * self.bins).sum(dim=2)
        boxes = torch.cat([anchor - distances[:, :2], anchor + distances[:, 2:]], dim=1) * stride
        view_scores = logits.amax(dim=2).sigmoid()
        return boxes.clamp(0.0, float(self.side)), view_scores.amax(dim=1), view_scores


def regress_at(branch: nn.Sequential, level: Tensor, anchor: Tensor) -> Tensor:
    """Run the box branch of a level around one cell of each film: what the branch says of every other cell is not asked.

    Its two 3x3 convolutions see 5x5 cells. These are picked by products with zeros and ones, which lower on every toolchain; a cell beyond
    the border becomes zero before each convolution, as their own padding would have made it.

    Parameters
    ----------
    branch
        Convolution, convolution, 1x1 convolution.
    level
        float (N, C, h, w).
    anchor
        float (N, 2), x and y of the cells' centres. Beyond the level the answer means nothing.

    Returns
    -------
    float (N, O)
    """
    around = torch.arange(-REACH, REACH + 1, device=level.device).to(level.dtype) - 0.5
    x, y = (anchor[:, axis : axis + 1] + around for axis in (0, 1))  # (N, 5), indices of columns and rows
    columns, rows = (
        ((index.unsqueeze(2) - torch.arange(size, device=level.device).to(level.dtype)).abs() < 0.5).to(level.dtype)
        for index, size in ((x, level.shape[3]), (y, level.shape[2]))
    )
    inside = (rows.sum(dim=2, keepdim=True) @ columns.sum(dim=2, keepdim=True).transpose(1, 2)).unsqueeze(1)  # (N, 1, 5, 5)
    patch = rows.unsqueeze(1) @ level @ columns.transpose(1, 2).unsqueeze(1)
    result: Tensor = branch[2](branch[1](branch[0](patch) * inside))
    return result[:, :, REACH, REACH]
