from __future__ import annotations

import pytest
import torch

from edgekit.errors import InputError
from edgekit.models.detector import Detector, regress_at


@pytest.mark.parametrize(("activation", "backbone"), [("relu", "yolov5n"), ("silu", "yolov5n"), ("relu", "efficientnet_lite0")])
def test_the_box_is_the_best_of_ultralytics_own_decode(activation: str, backbone: str) -> None:
    from ultralytics.nn.modules import Conv

    before = Conv.default_act
    torch.manual_seed(1)
    detector = Detector(activation, 96, backbone, 2).eval()
    assert Conv.default_act is before, "building a detector must not change ultralytics for the rest of the process"
    kind = {"relu": torch.nn.ReLU, "silu": torch.nn.SiLU}[activation]
    activations = {
        type(module) for module in detector.network.modules() if isinstance(module, torch.nn.ReLU | torch.nn.SiLU | torch.nn.ReLU6)
    }
    assert activations - {torch.nn.ReLU6} == {kind}, "the backbone from ImageNet keeps its own ReLU6"
    for module in detector.network.modules():  # random running statistics, so that the films matter
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    head = detector.network.model[-1]
    for branch in [*head.cv2, *head.cv3]:
        torch.nn.init.normal_(branch[-1].weight, std=0.5)
    films = torch.rand(3, 1, 96, 96)
    for level in range(3):
        for other, branch in enumerate(head.cv3):  # the best cell is one of this level
            branch[-1].bias.data.fill_(0.0 if other == level else -50.0)
        with torch.inference_mode():
            boxes, scores, views = detector(films)
            decoded = detector.network(films)[0]  # (N, 4 + 2, A), centre and size
        best = decoded[:, 4:].amax(dim=1).argmax(dim=1)
        assert all(first <= anchor < last for anchor in best for first, last in [((0, 144), (144, 180), (180, 189))[level]])
        for film, anchor in enumerate(best):
            x, y, w, h = decoded[film, :4, anchor]
            truth = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clamp(0, 96)
            assert torch.allclose(boxes[film], truth, atol=1e-3)
            assert torch.isclose(scores[film], decoded[film, 4:].max(), atol=1e-6)
            assert torch.allclose(views[film], decoded[film, 4:].amax(dim=1), atol=1e-6)


def test_a_box_is_regressed_at_one_cell_as_it_would_be_at_all() -> None:
    """Every cell of a map of 4 x 6, the corners and the borders among them."""
    torch.manual_seed(0)
    branch = Detector("relu", 64, "yolov5n", 2).network.model[-1].cv2[1].eval()
    for module in branch.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # its padding is not what batch normalization makes of zero
            module.bias.data.normal_()
    level = torch.rand(1, 128, 4, 6)
    cells = torch.tensor([[x + 0.5, y + 0.5] for y in range(4) for x in range(6)])
    with torch.inference_mode():
        truth = branch(level)[0].flatten(1).T
        found = regress_at(branch, level.expand(24, -1, -1, -1), cells)
    assert truth.std(dim=0).min() > 0.01
    assert torch.allclose(found, truth, atol=1e-5)


def test_impossible_settings_are_named() -> None:
    with pytest.raises(InputError, match="multiple of 32"):
        Detector("relu", 100, "yolov5n", 2)
    with pytest.raises(InputError, match="tanh"):
        Detector("tanh", 64, "yolov5n", 2)
    with pytest.raises(InputError, match="resnet"):
        Detector("relu", 64, "resnet", 2)


def test_the_imagenet_backbone_is_timm_s_and_stays_while_the_rest_trains() -> None:
    """Up to stride 8 the features are those of the ImageNet network that timm builds, on any gray film."""
    from edgekit.models.classifier import start_classifier
    from edgekit.models.detector import FROZEN_LAYERS, start_backbone

    torch.manual_seed(0)
    detector = Detector("relu", 64, "efficientnet_lite0", 2).eval()
    start_backbone(detector)
    source = start_classifier("efficientnet_lite0", 2, "imagenet").eval()
    films = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        seen = detector.network.model[0](films)
        network = source.network
        truth = network.blocks[:3](network.bn1(network.conv_stem((films - 0.5) / 0.5)))
    assert seen.shape == (2, 40, 8, 8)
    assert torch.equal(seen, truth)
    assert FROZEN_LAYERS["efficientnet_lite0"] == (0,)
