"""No sum of two products of bytes leaves 16 bits: the arithmetic of AVX2 without VNNI, done by hand, against exact arithmetic."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.graphs.exporting import export_graph
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.observing import Observation
from edgekit.quantization.placement import insert_quantization, round_graph
from edgekit.quantization.saturation import LIMIT, find_saturation, sum_neighbours
from edgekit.rewriting import crop_in_integers, read_bytes

SHAPES = [(6, 8, 1, 1), (5, 3, 3, 3), (4, 16, 2, 2), (3, 1, 3, 3)]


def convolution(weights: np.ndarray, groups: int = 1) -> onnx.ModelProto:
    """A graph of one convolution, float32."""
    channels = weights.shape[1] * groups
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", kernel_shape=list(weights.shape[2:]), group=groups)
    initializers = [
        numpy_helper.from_array(weights.astype(np.float32), "w"),
        numpy_helper.from_array(np.zeros(len(weights), np.float32), "b"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 8, 8]) for name, size in (("x", channels), ("y", len(weights)))
    ]
    graph = helper.make_graph([node], "one", values[:1], values[1:], initializers)
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def quantize(weights: np.ndarray, activations: str, groups: int = 1) -> onnx.ModelProto:
    model, ranges = convolution(weights, groups), {"x": (0.0, 1.0), "y": (-4.0, 4.0)}
    moments = np.stack([np.eye(int(np.prod(weights.shape[1:])))] * groups)
    seen = Observation(ranges, {"x": np.full(weights.shape[1] * groups, 0.5)}, {"conv": moments})
    return insert_quantization(model, {"conv"}, seen, round_graph(model, {"conv"}, seen, activations), activations, symmetric=False)


def codes_of(model: onnx.ModelProto) -> np.ndarray:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return tensors["w_quantized"].astype(np.int64)


def products(codes: np.ndarray, films: np.ndarray, start: int, saturate: bool) -> np.ndarray:
    """Products of weight rows (O, K) and bytes (K, N), added in pairs from `start`, each pair in 16 bits if `saturate`; (O, N)."""
    total = np.zeros((len(codes), films.shape[1]), np.int64)
    for first in range(-start, codes.shape[1], 2):
        places = [place for place in (first, first + 1) if 0 <= place < codes.shape[1]]
        pair = codes[:, places] @ films[places]
        total += np.clip(pair, -LIMIT - 1, LIMIT) if saturate else pair
    return total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_saturating_arithmetic_is_exact_for_every_film(shape: tuple[int, ...], activations: str) -> None:
    random = np.random.default_rng(3)
    weights = random.normal(size=shape) + 0.5  # mostly of one sign, the worst case
    codes = codes_of(quantize(weights, activations))
    assert np.abs(codes).max(axis=(1, 2, 3)).min() > 60
    low, high = (0, 255) if activations == "uint8" else (-128, 127)
    size = int(np.prod(shape[1:]))
    films = np.concatenate([random.integers(low, high + 1, (size, 50)), np.full((size, 1), low), np.full((size, 1), high)], axis=1)
    for rows in (codes.transpose(0, 2, 3, 1), codes):
        for start in (0, 1):
            flat = rows.reshape(len(rows), -1)
            np.testing.assert_array_equal(products(flat, films, start, saturate=True), flat @ films)


def test_full_range_weights_would_saturate() -> None:
    """What the rule is for: the same weights with a step of a 127th."""
    weights = np.random.default_rng(3).normal(size=SHAPES[0]) + 0.5
    scales = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    codes = np.round(weights / scales).astype(np.int64).reshape(len(weights), -1)
    films = np.full((codes.shape[1], 1), 255)
    assert (products(codes, films, 0, saturate=True) != codes @ films).any()


def test_depthwise_weights_keep_all_their_steps() -> None:
    weights = np.ones((4, 1, 3, 3))
    model = quantize(weights, "uint8", groups=4)
    assert (np.abs(codes_of(model)[:, 0, 1] + codes_of(model)[:, 0, 0]) > 128).all()
    assert find_saturation(model).layers == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_are_found_in_both_orders_of_memory(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(5).integers(-127, 128, shape)
    expected = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    for rows in (weights, np.moveaxis(weights, 1, -1)):
        for channel, row in enumerate(rows.reshape(len(rows), -1)):
            expected[channel] = max([expected[channel], *(abs(a + b) for a, b in pairwise(row))])
    np.testing.assert_array_equal(sum_neighbours(weights), expected)


def test_the_proof_names_a_layer_that_can_overflow() -> None:
    safe = quantize(np.random.default_rng(3).normal(size=(6, 8, 1, 1)) + 0.5, "uint8")
    proof = find_saturation(safe)
    assert (proof.layers, proof.can_overflow) == (1, ())
    assert proof.largest_pair_sum == 255 * int(sum_neighbours(codes_of(safe)).max()) <= LIMIT
    for tensor in safe.graph.initializer:
        if tensor.name == "w_quantized":
            codes = numpy_helper.to_array(tensor).copy()
            codes[2, 4:6] = 65
            tensor.CopyFrom(numpy_helper.from_array(codes, tensor.name))
    broken = find_saturation(safe)
    assert (broken.can_overflow, broken.largest_pair_sum) == (("conv",), 255 * 130)
    assert find_saturation(quantize(np.ones((2, 4, 1, 1)), "int8")).largest_pair_sum == 128 * 254


def test_the_crop_in_integers_fits_too(tiny_run: object) -> None:
    """The crop's first product reads bytes by weights up to 64, its second weights from 1 to 128 by signed bytes: -128 x 128 twice fits."""
    model = crop_in_integers(read_bytes(export_graph(load_pipeline(tiny_run, "ap+lateral"), 20)))
    proof = find_saturation(model)
    assert proof.layers == 4  # two products, and the sums of their weights
    assert (proof.can_overflow, proof.largest_pair_sum) == ((), 2 * 128 * 128 - 1)


def test_a_zero_beside_a_black_pixel_overflows_on_arm() -> None:
    """Where a weight of zero is the code 0, ARM multiplies -128 by -128, twice."""
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in PRODUCT.items()]
    nodes = [
        helper.make_node("QuantizeLinear", ["weights", "fine", "nothing"], ["rows"]),
        helper.make_node("QuantizeLinear", ["levels", "whole", "black"], ["centred"]),
        helper.make_node("MatMulInteger", ["rows", "centred", "nothing", "black"], ["y"], name="product"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "product", [], [], constants))
    proof = find_saturation(model)
    assert (proof.can_overflow, proof.largest_pair_sum) == (("product",), 2 * 128 * 128)
    constants[1].CopyFrom(numpy_helper.from_array(np.uint8(1), "nothing"))
    model = helper.make_model(helper.make_graph(nodes, "product", [], [], constants))
    assert find_saturation(model).can_overflow == ()


PRODUCT = {"fine": np.float32(1 / 127), "nothing": np.uint8(0), "whole": np.float32(1), "black": np.int8(-128)}
