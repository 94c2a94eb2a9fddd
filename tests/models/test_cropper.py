from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from edgekit.models.cropper import crop_and_resize, expand_boxes, triangle_weights


def test_crop_equals_pillows_antialiased_resize() -> None:
    random = np.random.default_rng(0)
    canvas = random.integers(0, 256, (96, 96), dtype=np.uint8)
    boxes = [(10.0, 20.0, 90.0, 80.0), (0.0, 0.0, 96.0, 96.0), (40.3, 12.7, 61.9, 50.1)]
    tensor = torch.from_numpy(canvas).float().expand(3, 1, 96, 96)
    crops = crop_and_resize(tensor, torch.tensor(boxes), 32, 48)
    for box, crop in zip(boxes, crops, strict=True):
        # Pillow's float mode: no rounding in between.
        truth = np.asarray(Image.fromarray(canvas.astype(np.float32)).resize((48, 32), Image.Resampling.BILINEAR, box=box))
        # At the box's edge Pillow stops at the box and the graph reads on into the canvas: compare inside.
        assert np.abs(crop[0].numpy() - truth)[3:-3, 3:-3].max() < 0.05


def test_weights_sum_to_one_and_shrink_without_aliasing() -> None:
    weights = triangle_weights(torch.tensor([0.0]), torch.tensor([64.0]), 64, 8)
    assert torch.allclose(weights.sum(dim=2), torch.ones(1, 8))
    stripes = (torch.arange(64) % 2).float()  # the finest pattern there is
    assert torch.allclose(weights[0] @ stripes, torch.full((8,), 0.5), atol=0.02)


def test_boxes_grow_by_a_margin_inside_the_canvas_and_never_vanish() -> None:
    boxes = torch.tensor(
        [[100.0, 50.0, 200.0, 250.0], [0.0, 0.0, 640.0, 640.0], [300.0, 300.0, 300.0, 300.0], [640.0, 640.0, 640.0, 640.0]]
    )
    grown = expand_boxes(boxes, 640, 0.05)
    assert grown[0].tolist() == [95.0, 40.0, 205.0, 260.0]
    assert grown[1].tolist() == [0.0, 0.0, 640.0, 640.0]
    assert ((grown[:, 2:] - grown[:, :2]) >= 2).all()
    assert (grown >= 0).all()
    assert (grown <= 640).all()
