"""Second-order rounding: against nearest rounding, every choice there is, and torch's own columns."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekit.quantization import observing
from edgekit.quantization.observing import observe
from edgekit.quantization.placement import widen
from edgekit.quantization.rounding import round_weights
from edgekit.quantization.saturation import sum_neighbours

SHAPES = [((16, 24, 1, 1), 1), ((8, 6, 3, 3), 1), ((12, 1, 3, 3), 12)]


def draw(shape: tuple[int, ...], groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and the second moments of values of which each goes with the others."""
    random, size = np.random.default_rng(0), int(np.prod(shape[1:]))
    seen = np.maximum(random.normal(size=(groups, 2000, size)) @ random.normal(size=(groups, size, size)), 0)
    return random.normal(size=shape).astype(np.float32), seen.transpose(0, 2, 1) @ seen


def measure_loss(weights: np.ndarray, rounded: np.ndarray, moments: np.ndarray) -> float:
    """Squared error of the outputs, summed over what was seen."""
    error = (rounded - weights).astype(np.float64).reshape(len(moments), -1, moments.shape[1])
    return float(np.einsum("grk,gkl,grl->", error, moments, error))


def round_to_nearest(weights: np.ndarray) -> np.ndarray:
    scales = np.abs(weights).reshape(len(weights), -1).max(axis=1).reshape(-1, 1, 1, 1) / 127
    return np.round(weights / scales) * scales


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_outputs_move_less_than_with_nearest_rounding(shape: tuple[int, ...], groups: int) -> None:
    weights, moments = draw(shape, groups)
    codes, scales = round_weights(weights, moments, None)
    assert np.abs(codes).max() <= 127
    assert measure_loss(weights, widen(codes, scales), moments) < 0.65 * measure_loss(weights, round_to_nearest(weights), moments)


def test_where_nothing_goes_together_each_weight_is_rounded_to_the_nearest_step() -> None:
    weights, _ = draw((6, 5, 1, 1), 1)
    codes, scales = round_weights(weights, np.eye(5)[None], None)
    np.testing.assert_array_equal(codes, np.clip(np.round(weights / scales.reshape(-1, 1, 1, 1)), -127, 127))


def test_few_weights_come_near_the_best_of_all_choices() -> None:
    """Three weights a channel: every step up or down is tried."""
    random = np.random.default_rng(1)
    seen = random.normal(size=(500, 3)) @ np.array([[1, 0.9, 0.8], [0, 0.4, 0.3], [0, 0, 0.3]])
    weights, moments = random.normal(size=(40, 3, 1, 1)).astype(np.float32), (seen.T @ seen)[None]
    codes, scales = round_weights(weights, moments, None)
    found = nearest = best = 0.0
    for row, steps, scale in zip(weights, codes, scales, strict=True):
        each = row.astype(np.float64).reshape(-1)
        choices = [scale * np.clip(np.floor(each / scale) + up, -127, 127) for up in product((0, 1), repeat=3)]
        losses = [float((choice - each) @ moments[0] @ (choice - each)) for choice in choices]
        best += min(losses)
        found += measure_loss(row[None], widen(steps[None], np.array([scale])), moments)
        nearest += measure_loss(row[None], scale * np.clip(np.round(row[None] / scale), -127, 127), moments)
    assert found < 0.8 * nearest
    assert found < 1.6 * best


@pytest.mark.parametrize(("shape", "groups"), SHAPES[:2])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_no_two_neighbours_exceed_the_sum_that_is_allowed(shape: tuple[int, ...], groups: int, shift: float) -> None:
    weights, moments = draw(shape, groups)
    codes, _ = round_weights(weights + np.float32(shift), moments, 128)
    largest = sum_neighbours(codes.astype(np.int64))
    assert largest.max() <= 128
    assert np.median(largest) > 100  # steps are not wasted


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4)])
def test_moments_are_those_of_torchs_columns(stride: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place of every film, without drawing."""
    monkeypatch.setattr(observing, "POSITIONS", 10**6)
    weights = np.zeros((4, 4 // groups, 3, 3), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4, strides=[stride] * 2, group=groups)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4, 9, 9] if name == "x" else None) for name in "xy"]
    graph = helper.make_graph([node], "one", values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    random = np.random.default_rng(0)
    films = [{"x": random.normal(size=(2, 4, 9, 9)).astype(np.float32)} for _ in range(3)]
    (found,) = observe(model, {"conv"}, films, "minmax").moments.values()
    columns = torch.cat([torch.nn.functional.unfold(torch.tensor(each["x"]), 3, 1, 1, stride) for each in films]).double()
    each = columns.transpose(1, 2).reshape(-1, groups, 36 // groups).transpose(0, 1)
    np.testing.assert_allclose(found, (each.transpose(1, 2) @ each).numpy(), rtol=1e-4, atol=1e-3)
