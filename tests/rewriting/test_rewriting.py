"""Rewritten graphs answer as the plain ones do; crops are held to Pillow's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from edgekit.contract import OUTPUTS
from edgekit.graphs.exporting import export_graph
from edgekit.graphs.places import find_places
from edgekit.models.classifier import start_classifier
from edgekit.models.cropper import crop_and_resize
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.quantization.observing import observe
from edgekit.quantization.placement import OPERATORS, insert_quantization, round_graph
from edgekit.quantization.repair import foresee, quantize_graph, rewrite_graph
from edgekit.rewriting import (
    BY_GATHERING,
    CROP_IN_INTEGERS,
    IN_INTEGERS,
    READ_BYTES,
    UNFOLD_STEMS,
    crop_by_gathering,
    crop_in_integers,
    read_bytes,
    unfold_stems,
)
from edgekit.rewriting.films import unfold
from edgekit.rewriting.passes import OWN, count_readers, run_passes
from edgekit.rewriting.sharing import own_weights
from edgekit.types import Calibration

SIDE = 96


def smooth_film(seed: int, side: int) -> np.ndarray:
    """uint8 (1, 1, side, side), shades as wide as a twelfth of the film."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))[None, None].copy()


def grainy_film(seed: int, side: int) -> np.ndarray:
    """The same with grain: random weights see little else, and the rounding of a smooth film would be all the grain that it has."""
    grain = np.random.default_rng(seed + 1000).integers(0, 128, (1, 1, side, side))
    return (smooth_film(seed, side) // 2 + grain).astype(np.uint8)


def run(model: onnx.ModelProto, inputs: dict[str, Any], outputs: list[str] | None = None) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(outputs, inputs)


@pytest.fixture(scope="module", params=["ap+lateral", "all"])
def plain(request: pytest.FixtureRequest, tiny_run: Path) -> onnx.ModelProto:
    """With the concatenated and the merged member too, whose crops take other ways. Random features turn the rounding of a crop into
    another answer, those from ImageNet do not."""
    pipeline = load_pipeline(tiny_run, request.param)
    torch.manual_seed(0)
    for name in pipeline.spec.members:
        pipeline.members[name].load_state_dict(start_classifier("efficientnet_lite0", 3, "imagenet").state_dict())
    return export_graph(pipeline, 20)


@pytest.fixture(scope="module")
def patients() -> list[dict[str, np.ndarray]]:
    return [
        {"ap": grainy_film(2 * seed, 128), "lateral": grainy_film(2 * seed + 1, 128), "present": np.array(present, np.float32)}
        for seed, present in enumerate([(1, 1), (1, 1), (1, 0), (0, 1)])
    ]


def largest_differences(one: onnx.ModelProto, other: onnx.ModelProto, patients: list[dict[str, np.ndarray]]) -> dict[str, float]:
    differences = dict.fromkeys(OUTPUTS, 0.0)
    for inputs in patients:
        for name, a, b in zip(OUTPUTS, run(one, inputs), run(other, inputs), strict=True):
            differences[name] = max(differences[name], float(np.abs(a.astype(np.float64) - b).max()))
    return differences


def test_canvases_read_as_bytes_are_the_same_films(plain: onnx.ModelProto, patients: list[dict[str, np.ndarray]]) -> None:
    changed = read_bytes(plain)
    readers = [node.op_type for node in changed.graph.node if {"ap", "lateral"} & set(node.input)]
    assert readers == ["Concat"]
    differences = largest_differences(plain, changed, patients)
    assert differences.pop("boxes") < 1e-4
    assert max(differences.values()) < 1e-4


def test_everything_rewritten_answers_alike(plain: onnx.ModelProto, patients: list[dict[str, np.ndarray]]) -> None:
    changed = unfold_stems(crop_in_integers(read_bytes(plain)))
    differences = largest_differences(plain, changed, patients)
    assert 0 < differences["members"] < 0.05
    assert differences["boxes"] < 0.02
    makers = {output: node for node in changed.graph.node for output in node.output}
    stems = [node for node in changed.graph.node if node.op_type == "Conv" and makers[node.input[0]].op_type == "DequantizeLinear"]
    assert len(stems) == sum(node.op_type == "Conv" and "conv_stem" in node.name for node in plain.graph.node) + 1
    assert {makers[makers[node.input[0]].input[0]].op_type for node in stems} == {"SpaceToDepth"}
    assert not {"AveragePool"} & {node.op_type for node in changed.graph.node}
    assert sorted(node.name for node in changed.graph.node if "network" in node.name) == sorted(
        node.name for node in plain.graph.node if "network" in node.name
    ), "stages are told by these names"


@pytest.mark.parametrize(("kernel", "stride", "pad", "pool"), [(3, 2, 1, 1), (3, 2, 1, 3), (6, 2, 2, 2), (5, 2, 2, 1), (3, 1, 1, 2)])
def test_a_stem_over_blocks_is_the_pooled_and_strided_convolution(kernel: int, stride: int, pad: int, pool: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(4, 1, kernel, kernel, generator=generator)
    film = torch.rand(1, 1, 48, 48, generator=generator)
    expected = torch.nn.functional.conv2d(torch.nn.functional.avg_pool2d(film, pool), weights, stride=stride, padding=pad)
    unfolded, before, after = unfold(weights.numpy(), stride, pad, pool)
    blocks = torch.nn.functional.pixel_unshuffle(film, stride * pool)
    found = torch.nn.functional.conv2d(torch.nn.functional.pad(blocks, (before, after, before, after)), torch.from_numpy(unfolded))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


class Cropper(torch.nn.Module):
    """Both canvases and a box of each, in: the crops out."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, ap: torch.Tensor, lateral: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return crop_and_resize(torch.cat([ap.float(), lateral.float()]) / 255.0, boxes * 1.0, self.height, self.width)


def export_cropper(height: int, width: int) -> onnx.ModelProto:
    films = [torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8) for _ in range(2)]  # the same twice would be one input
    boxes = torch.tensor([[0.0, 0, 9, 9]] * 2)
    program = torch.onnx.export(
        Cropper(height, width).eval(), (*films, boxes), input_names=["ap", "lateral", "boxes"], dynamo=True, verbose=False
    )
    assert program is not None
    return program.model_proto


BOXES = [(20.0, 30.0, 50.0, 81.0), (0.0, 0.0, 96.0, 96.0), (3.3, 70.2, 14.9, 96.0), (50.0, 40.0, 52.0, 42.0)]
"""Enlarged, shrunk, at the border and as narrow as a box may be."""


@pytest.mark.parametrize(
    ("crop", "operator", "count"),
    [(crop_in_integers, "MatMulInteger", 4), (partial(crop_by_gathering, in_levels=True), "Floor", 2)],
    ids=["in integers", "by gathering"],
)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 32)])
def test_crops_in_gray_levels_are_pillow_s(crop: Callable[[Any], Any], operator: str, count: int, height: int, width: int) -> None:
    changed = crop(read_bytes(export_cropper(height, width)))
    assert sum(node.op_type == operator for node in changed.graph.node) == count
    films = smooth_film(1, SIDE), smooth_film(2, SIDE)
    for box in BOXES:
        (found,) = run(changed, {"ap": films[0], "lateral": films[1], "boxes": np.array([box, box], np.float32)})
        for film, crop in zip(films, found, strict=True):
            truth = np.asarray(Image.fromarray(film[0, 0]).resize((width, height), Image.Resampling.BILINEAR, box=box), np.float64)
            difference = np.abs(crop[0] * 255 - truth)
            assert difference.max() <= 2
            assert difference.mean() <= 0.5


def test_what_is_gathered_is_the_plain_crop() -> None:
    """Each film by its own box, on grains of one pixel; a sample that sees beyond the canvas sees less, not the edge again."""
    plain = export_cropper(64, 48)
    changed = crop_by_gathering(read_bytes(plain), in_levels=False)
    films = {"ap": grainy_film(1, SIDE), "lateral": grainy_film(2, SIDE)}
    for one, other in pairwise([*BOXES, BOXES[0]]):
        inputs = {**films, "boxes": np.array([one, other], np.float32)}
        np.testing.assert_allclose(run(changed, inputs)[0], run(plain, inputs)[0], atol=2e-5)


def test_a_stem_that_pools_first_is_the_same_stem(plain: onnx.ModelProto, patients: list[dict[str, np.ndarray]]) -> None:
    changed = unfold_stems(read_bytes(plain), pool_first=True)
    pools = [node for node in changed.graph.node if node.op_type == "Conv" and node.name.endswith(".pooled")]
    assert len(pools) == 1
    assert "network" not in pools[0].name, "what averages belongs to no block, so that nothing rounds it"
    differences = largest_differences(plain, changed, patients)
    assert differences.pop("boxes") < 1e-3
    assert max(differences.values()) < 1e-3


def test_an_even_film_stays_even() -> None:
    """Rounded weights don't add up to one by themselves: divided by their sum they do."""
    changed = crop_in_integers(read_bytes(export_cropper(40, 40)))
    for level in (1, 128, 255):
        film = np.full((1, 1, SIDE, SIDE), level, np.uint8)
        (found,) = run(changed, {"ap": film, "lateral": film, "boxes": np.array([[3.3, 7.7, 61.4, 88.8]] * 2, np.float32)})
        np.testing.assert_allclose(found * 255, level, atol=1e-4)


def test_two_products_of_the_crop_fit_16_bits() -> None:
    """Where a processor has no 8-bit dot product, onnxruntime adds pairs of products in 16 bits, and what does not fit is cut off."""
    changed = crop_in_integers(read_bytes(export_cropper(64, 64)))
    products = [node for node in changed.graph.node if node.op_type == "MatMulInteger"]
    operands = list(dict.fromkeys(name for node in products for name in node.input[:2] if name.endswith("levels") or name == "crop.across"))
    for name in operands:
        changed.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8 if "rows" not in name else onnx.TensorProto.UINT8, None)
        )
    white = np.full((1, 1, SIDE, SIDE), 255, np.uint8)
    values = run(changed, {"ap": white, "lateral": 0 * white, "boxes": np.array([[0, 0, 64.0, 64.0]] * 2, np.float32)}, operands)
    columns, across, rows = (
        next(value for name, value in zip(operands, values, strict=True) if part in name) for part in ("columns", "across", "rows")
    )
    assert (columns.min(), columns.max(), rows.min(), rows.max(), across.min(), across.max()) == (0, 64, 1, 128, -128, 127)
    for offset in (0, 128):  # x86; ARM, which takes it from unsigned bytes
        for lefts, rights in (((0, 255), (0, 64)), ((1, 128), (-128, 127))):
            pairs = [2 * (left - offset) * right for left in lefts for right in rights]
            assert min(pairs) >= -(2**15)
            assert max(pairs) < 2**15


@pytest.mark.parametrize(("limit", "crop", "products"), [(0.99, "integers", 4), (1e-6, "float32", 0)])
def test_the_crop_stays_float_where_the_answers_do_not_bear_its_rounding(
    tiny_run: Path, patients: list[dict[str, np.ndarray]], limit: float, crop: str, products: int
) -> None:
    model = export_graph(load_pipeline(tiny_run, "ap+lateral"), 20)
    calibration = CalibrationPatients([*patients[:2], *patients[:2]], ("a", "b") * 2)
    changed, found = rewrite_graph(model, calibration, foresee(model, calibration), limit, located=True, form=IN_INTEGERS)
    assert found == crop
    assert sum(node.op_type == "MatMulInteger" for node in changed.graph.node) == products
    assert any(node.op_type == "SpaceToDepth" for node in changed.graph.node), "the detector reads bytes in any case"
    gathered, said = rewrite_graph(model, calibration, foresee(model, calibration), limit, located=True, form=BY_GATHERING)
    assert said == ("float32" if crop == "float32" else "gray levels")
    assert sum(node.op_type == "Floor" for node in gathered.graph.node) == 2
    if crop == "float32":
        assert largest_differences(model, changed, patients)["members"] < 1e-3


@pytest.mark.parametrize(("limit", "crop", "products"), [(0.99, "integers", 4), (0.0, "float32", 0)])
def test_one_whole_film_is_rewritten_too(tiny_front_run: Path, limit: float, crop: str, products: int) -> None:
    """Nothing joins the films of a task with one view, and without a detector no convolution sees a film before the crop."""
    pipeline = load_pipeline(tiny_front_run, "front")
    torch.manual_seed(0)
    pipeline.members["front"].load_state_dict(start_classifier("efficientnet_lite0", 3, "imagenet").state_dict())  # see `plain`
    model = export_graph(pipeline, 20)
    films = [{"front": grainy_film(seed, 128), "present": np.ones(1, np.float32)} for seed in range(4)]
    calibration = CalibrationPatients(films, ("a", "b") * 2)
    changed, found = rewrite_graph(model, calibration, foresee(model, calibration), limit, located=False, form=IN_INTEGERS)
    assert found == crop
    assert sum(node.op_type == "MatMulInteger" for node in changed.graph.node) == products
    assert any(node.op_type == "SpaceToDepth" for node in changed.graph.node) == (crop == "integers")
    assert largest_differences(model, changed, films)["members"] < (0.05 if crop == "integers" else 1e-4)


def count_shared(model: onnx.ModelProto) -> int:
    """How many weights and biases of convolutions another node reads too."""
    readers = count_readers(model)
    return sum(readers[name] > 1 for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:])


def test_members_whose_first_stages_are_alike_are_quantized_each_by_itself(tiny_run: Path, patients: list[dict[str, np.ndarray]]) -> None:
    """torch's exporter stores equal weights once; equalized, rounded and corrected for one member, they would be wrong for the other.

    A member that differs by a millionth shares nothing, and must be quantized to the same answers.
    """

    def quantize(apart: float) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        pipeline = load_pipeline(tiny_run, "ap+lateral")
        torch.manual_seed(0)
        for name in pipeline.spec.members:
            network = pipeline.members[name]
            network.load_state_dict(start_classifier("efficientnet_lite0", 3, "imagenet").state_dict())
            last = network.network.conv_head.weight.data
            last *= 1 + 0.1 * torch.rand(last.shape)  # what was trained differs
        for weights in pipeline.members["lateral"].parameters():
            weights.data *= 1 + apart
        plain = run_passes(export_graph(pipeline, 20), [READ_BYTES, CROP_IN_INTEGERS, UNFOLD_STEMS])
        calibration, places = CalibrationPatients([*patients[:2], *patients[:2]], ("a", "b") * 2), find_places(pipeline)
        found = {node.name: places.find(node.name) for node in plain.graph.node}
        wanted = {name: place.block for name, place in found.items() if place.block and place.stage == "members"}
        settings = Calibration("minmax", 4, 0.99)
        return plain, quantize_graph(plain, foresee(plain, calibration), wanted, calibration, settings, "uint8", symmetric=False)[0]

    (plain, together), (different, alone) = quantize(0), quantize(1e-6)
    assert count_shared(plain) > 50 > 10 > count_shared(different)
    own = own_weights(plain)
    assert OWN.holds(own)
    assert max(largest_differences(plain, own, patients).values()) == 0
    assert largest_differences(plain, different, patients)["members"] < 1e-3
    assert largest_differences(together, alone, patients)["members"] < 0.02


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_bytes_are_not_rounded_again(tiny_run: Path, patients: list[dict[str, np.ndarray]], activations: str) -> None:
    pipeline = load_pipeline(tiny_run, "ap+lateral")
    model, places = unfold_stems(crop_in_integers(read_bytes(export_graph(pipeline, 20)))), find_places(pipeline)
    nodes = {node.name for node in model.graph.node if node.op_type in OPERATORS and places.find(node.name).block}
    seen = observe(model, nodes, patients, "minmax")
    quantized = insert_quantization(model, nodes, seen, round_graph(model, nodes, seen, activations), activations, symmetric=False)
    onnx.checker.check_model(quantized, full_check=True)
    makers = {output: node for node in quantized.graph.node for output in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    stems = [
        node
        for node in quantized.graph.node
        if node.op_type == "Conv" and node.name in nodes and trace(makers, node.input[0]).endswith("SpaceToDepth")
    ]
    assert len(stems) == 3
    for node in stems:
        ways = trace(makers, node.input[0]).split()
        assert ways == (
            ["DequantizeLinear", "SpaceToDepth"]
            if activations == "uint8"
            else ["DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "SpaceToDepth"]
        )
        if activations == "int8":
            last = makers[node.input[0]]
            first = makers[makers[last.input[0]].input[0]]
            assert constants[last.input[1]] == constants[first.input[1]]
            zero = constants[last.input[2]] if len(last.input) > 2 else np.int8(0)
            assert int(zero) == int(constants[first.input[2]]) - 128


def trace(makers: dict[str, onnx.NodeProto], tensor: str) -> str:
    """The operators that make a tensor, the last first, up to the blocks that films are cut into; only Q/DQ pairs stand between."""
    way = []
    while makers[tensor].op_type in ("QuantizeLinear", "DequantizeLinear"):
        way.append(makers[tensor].op_type)
        tensor = makers[tensor].input[0]
    return " ".join([*way, makers[tensor].op_type])
