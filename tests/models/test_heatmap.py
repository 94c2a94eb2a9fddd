"""The heatmap of the graph, which needs no gradient, against the grad-cam library, which takes it from one."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from edgekit.models.classifier import Classifier
from edgekit.models.detector import Detector
from edgekit.models.ensemble import Case, Ensemble
from edgekit.models.pipeline import Pipeline, PipelineSpec
from edgekit.task import PEDICLE_SCREWS

BRANDS = ("a", "b", "c", "d", "e", "f", "g")


def settle(classifier: Classifier, crops: torch.Tensor) -> Classifier:
    """Give BatchNorm the statistics of real activations: a fresh network's die out on the way."""
    for part in classifier.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        classifier.train()(crops)
    return classifier.eval()


@pytest.mark.parametrize("brand", [0, 6])
@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "efficientnet_b0"])
def test_the_heatmap_of_the_graph_is_grad_cam(architecture: str, brand: int) -> None:
    torch.manual_seed(brand)
    crops = torch.rand(4, 1, 256, 256)
    member = settle(Classifier(architecture, len(BRANDS)), crops)
    spec = PipelineSpec(PEDICLE_SCREWS, BRANDS, 256, 256, 0.05, 8, ("ap",), "ap", 0.0, 0.3, 0.95)
    case = Case(("ap",), np.eye(len(BRANDS), dtype=np.float32), np.zeros(len(BRANDS), np.float32), 1.0, 0.2, 0.9)
    pipeline = Pipeline(spec, cast("Detector", torch.nn.Identity()), {"ap": member}, Ensemble("ap", ("ap",), {"ap": case}, 1.0))
    top = torch.nn.functional.one_hot(torch.tensor(brand), len(BRANDS)).float()
    with torch.no_grad():
        ours = pipeline.explain({"ap": member.features(crops[:1])}, "ap", top).numpy()

    layer = member.network.bn2  # normalization and activation after the last convolution
    library = GradCAM(member, [layer])
    library(crops[:1], [ClassifierOutputTarget(brand)])
    watched = library.activations_and_grads
    raw = library.get_cam_image(crops[:1], layer, [], watched.activations[0], watched.gradients[0].numpy())[0]

    assert ours.shape == raw.shape == (8, 8)
    assert (raw > 0).any()
    assert (raw < 0).any()
    theirs = np.maximum(raw, 0)
    np.testing.assert_allclose(ours, theirs / theirs.max(), atol=2e-6)
