"""A start for EfficientNet-B0 where its ImageNet weights can't be had: EfficientNet-Lite0's, in the layers that both have.

Lite0 is B0 without squeeze-excitation and with ReLU6 in place of SiLU (Liu, *Higher accuracy on vision models with EfficientNet-Lite*,
2020): the convolutions correspond one to one. Squeeze-excitation starts open (it multiplies by 0.98), and BatchNorm's statistics are taken
again on the training films, because another activation gives others. No substitute for B0's own weights, only a better start than none.

.venv/bin/python benchmarks/start_b0.py STUDIES b0-start.safetensors
edgekit train STUDIES --weights b0-start.safetensors --config b0.toml --out RUN
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from edgekit.models.classifier import imagenet_state, start_classifier
from edgekit.models.runfolder import save_weights
from edgekit.studies import read_studies, select
from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import load_config
from edgekit.training.crops import crop_films
from edgekit.training.films import cache_films

VIEWS = PEDICLE_SCREWS.views

OPEN = 4.0
"""Bias of squeeze-excitation's gate: its sigmoid is 0.98."""


def main() -> None:
    """Write the start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=256, help="Training films that BatchNorm's statistics are taken on.")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    classifier = start_classifier("efficientnet_b0", 2, "random")
    own = classifier.network.state_dict()
    shared = {
        name: tensor for name, tensor in imagenet_state("efficientnet_lite0").items() if name in own and not name.startswith("classifier")
    }
    gates = {name: torch.full_like(own[name], OPEN) for name in own if name.endswith("se.conv_expand.bias")}
    closed = {name: torch.zeros_like(own[name]) for name in own if name.endswith("se.conv_expand.weight")}
    classifier.network.load_state_dict({**own, **shared, **gates, **closed})
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain average over all batches
    with tempfile.TemporaryDirectory() as folder:
        rows = [study for study in select(read_studies(arguments.studies), "train") if study.box("ap") or study.box("lateral")]
        films = cache_films(rows[: arguments.films], VIEWS, load_config("paper").canvas_side, Path(folder) / "films.npy")
        some = np.flatnonzero(np.isfinite(films.boxes).all(axis=1))[: arguments.films]
        crops = crop_films(films, films.boxes, some[:, None], 256, load_config("paper").crop_margin)
    classifier.train()
    with torch.no_grad():
        for batch in crops[torch.randperm(len(crops))].split(32):
            classifier(batch)
    save_weights(arguments.out, classifier.network)
    print(f"{arguments.out}: {len(shared)} of {len(own)} tensors from Lite0, statistics of {len(crops)} films")


if __name__ == "__main__":
    main()
