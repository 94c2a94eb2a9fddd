"""The range that float16 needs, against sums in double precision and a network that really overflows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.graphs.exporting import fold_batch_norms
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.headroom import LARGEST, measure_headroom

STAGES = {"detector", "members"}


class Two(torch.nn.Module):
    """A detector of one convolution and a member of one matrix product, of whole numbers."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.detector, member = torch.nn.Module(), torch.nn.Module()
        self.detector.conv = torch.nn.Conv2d(1, 1, 2, bias=True)
        member.head = torch.nn.Linear(3, 1, bias=False)
        self.members = torch.nn.ModuleDict({"ap": member})
        with torch.no_grad():
            self.detector.conv.weight.copy_(torch.tensor([[[[weight, -weight], [1.0, 0.0]]]]))
            self.detector.conv.bias.fill_(-3)
            member.head.weight.copy_(torch.tensor([[2.0, -1.0, 0.5]]))

    def forward(self, ap: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        found = self.detector.conv(ap.float())
        return found.sum() + self.members["ap"].head(torch.tensor([4.0, 2.0, 8.0]))


def films(*rows: list[list[int]]) -> list[dict[str, np.ndarray]]:
    return [
        {"ap": np.array([[row]], np.uint8), "lateral": np.zeros((1, 1, 2, 2), np.uint8), "present": np.ones(2, np.float32)} for row in rows
    ]


def test_both_figures_by_hand() -> None:
    headroom = measure_headroom(Two(10), STAGES, films([[5, 4], [1, 9]], [[1, 1], [0, 0]]), 0.5)
    conv, head = headroom.layers
    assert (conv.layer, conv.largest, conv.largest_sum) == ("detector.conv", 8.0, 94.0)  # 50 - 40 + 1 - 3; 50 + 40 + 1 + 3
    assert (head.layer, head.largest, head.largest_sum) == ("members.ap.head", 10.0, 14.0)  # 8 - 2 + 4; 8 + 2 + 4
    assert (headroom.widest, headroom.exceeded, headroom.patients) == (conv, [], 2)
    assert [layer.layer for layer in measure_headroom(Two(10), {"members"}, films([[5, 4], [1, 9]]), 0.5).layers] == ["members.ap.head"]


def test_a_sum_that_overflows_on_its_way_is_named_though_its_end_is_small() -> None:
    """255 x 300 leaves float16 before the next product brings it back."""
    network, shown = Two(300.0), films([[255, 255], [0, 0]])
    (conv,) = measure_headroom(network, STAGES, shown, 1.0).exceeded
    assert conv.largest == 3.0
    assert conv.largest_sum == 2 * 255 * 300 + 3 > LARGEST
    with np.errstate(over="ignore"):
        assert np.isinf(np.float16(255) * np.float16(300))


def test_what_is_not_a_number_is_beyond_every_limit() -> None:
    assert [layer.layer for layer in measure_headroom(Two(np.nan), STAGES, films([[1, 1], [0, 0]]), 1.0).exceeded] == ["detector.conv"]


def test_every_convolution_of_the_pipeline_is_looked_at(tiny_run: Path) -> None:
    pipeline: Any = fold_batch_norms(load_pipeline(tiny_run, "ap+lateral"))
    random = np.random.default_rng(0)
    shown = {view: random.integers(0, 256, (1, 1, 128, 128), np.uint8) for view in ("ap", "lateral")} | {"present": np.ones(2, np.float32)}
    layers = {layer.layer: layer for layer in measure_headroom(pipeline, STAGES, [shown], 0.5).layers}
    products = [name for name, module in pipeline.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(products) > 100
    assert all(layers[name].largest_sum >= layers[name].largest * (1 - 1e-5) > 0 for name in products if "dfl" not in name)
    assert not any(name.startswith("ensemble") for name in layers)
    stem = layers["members.ap.network.conv_stem"]
    with torch.no_grad():
        crop: list[torch.Tensor] = []
        hook = pipeline.member("ap").network.conv_stem.register_forward_pre_hook(lambda _, inputs: crop.append(inputs[0]))
        pipeline(*(torch.from_numpy(shown[name]) for name in ("ap", "lateral", "present")))
        hook.remove()
        conv = pipeline.member("ap").network.conv_stem.double()
        assert stem.largest == pytest.approx(float(conv(crop[0].double()).abs().max()), rel=1e-5)
