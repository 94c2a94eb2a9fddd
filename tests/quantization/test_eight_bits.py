"""Ranges, biases and Q/DQ pairs on a network small enough to check by hand, and repair on one with a block that can't be 8-bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from pedicle_screws import make_spec

from edgekit.errors import GateError
from edgekit.graphs.exporting import export_graph
from edgekit.graphs.places import Place, Places
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.quantization.observing import Observation, observe
from edgekit.quantization.placement import OPERATORS, correct_biases, insert_quantization, round_graph, widen
from edgekit.quantization.repair import Damage, answer, answer_members, foresee, measure_damage, quantize_graph
from edgekit.types import Calibration

SIDE = 16


class Network(torch.nn.Module):
    """A stem and two blocks, one of them with a residual; `spread` scales the channels of the last one apart."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.conv_stem = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.bn1 = torch.nn.ReLU6()
        self.blocks = torch.nn.ModuleList([self.block(), self.block()])
        self.head = torch.nn.Linear(8, 3)
        # One huge activation channel that the head ignores takes all 8-bit steps away from the others.
        with torch.no_grad():
            self.blocks[1][2].weight[0] *= spread
            self.head.weight[:, 0] /= spread

    @staticmethod
    def block() -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.ReLU6(), torch.nn.Conv2d(8, 8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv_stem(x))
        x = x + self.blocks[0](x)
        return self.head(self.blocks[1](x).mean(dim=(2, 3)))


class Pipeline(torch.nn.Module):
    def __init__(self, spread: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spec = make_spec(SIDE, ("a", "b", "c"))
        member = torch.nn.Module()
        member.network = Network(spread)
        self.members = torch.nn.ModuleDict({"ap": member})
        self.eval()

    def forward(self, ap: torch.Tensor, lateral: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        films = torch.cat([ap.float(), lateral.float()]) / 255
        logits = self.members["ap"].network(films) * present.unsqueeze(1)
        probabilities = (4 * logits.sum(dim=0)).softmax(dim=0)
        chosen, found = (probabilities > 0.5).to(torch.int32), present.to(torch.int32)
        heatmaps = logits[:, :, None] * torch.ones(3)
        scores = logits.sum(dim=1)
        return probabilities, logits, logits, scores, found, logits[:, 1:], heatmaps, chosen, scores[:1], chosen[:1]


def films(count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    shape = (1, 1, SIDE, SIDE)
    draw = lambda: (random.integers(0, 256, shape) * random.uniform(0.2, 1)).astype(np.uint8)  # noqa: E731
    return [{"ap": draw(), "lateral": draw(), "present": np.ones(2, np.float32)} for _ in range(count)]


def patients(count: int) -> CalibrationPatients:
    return CalibrationPatients(films(count), ["ab"[number % 2] for number in range(count)])


def place(model: onnx.ModelProto, nodes: set[str], seen: Observation, activations: str, symmetric: bool) -> onnx.ModelProto:
    """Quantize with weights rounded from the same films."""
    return insert_quantization(model, nodes, seen, round_graph(model, nodes, seen, activations), activations, symmetric)


NETWORK = "members.ap.network"
BLOCKS = {"": "", ".conv_stem": ".conv_stem", ".bn1": ".conv_stem", ".blocks.0": ".blocks.0", ".blocks.1": ".blocks.1"}
PLACES = Places({f"{NETWORK}{path}": Place("members", f"{NETWORK}{block}") for path, block in BLOCKS.items()})


def quantizable(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.node if node.op_type in OPERATORS and PLACES.find(node.name).stage == "members"}


def blocks_of(model: onnx.ModelProto) -> dict[str, str]:
    return {name: PLACES.find(name).block or "" for name in quantizable(model)}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.fixture(scope="module")
def graph(pipeline: Pipeline) -> onnx.ModelProto:
    return export_graph(pipeline, 20)


def stem_outputs(pipeline: Pipeline, calibration: list[dict[str, np.ndarray]]) -> torch.Tensor:
    """What leaves the stem's activation, by torch."""
    network = pipeline.members["ap"].network
    canvases = torch.tensor(np.concatenate([inputs[view] for inputs in calibration for view in ("ap", "lateral")]))
    return network.bn1(network.conv_stem(canvases.float() / 255)).detach()


def test_nodes_are_named_by_module_and_sorted_into_blocks(graph: onnx.ModelProto) -> None:
    blocks = Counter(blocks_of(graph).values())
    assert set(blocks) == {
        "members.ap.network.conv_stem",
        "members.ap.network.blocks.0",
        "members.ap.network.blocks.1",
        "members.ap.network",
    }
    assert blocks["members.ap.network.conv_stem"] == 2  # with its activation


def test_ranges_and_means_are_those_of_torch(pipeline: Pipeline, graph: onnx.ModelProto) -> None:
    calibration = films(6)
    stem = stem_outputs(pipeline, calibration)
    clip = next(node for node in graph.graph.node if node.op_type == "Clip")
    seen = observe(graph, quantizable(graph), calibration, "minmax")
    assert seen.ranges[clip.output[0]] == pytest.approx((0.0, float(stem.max())), rel=1e-5)
    np.testing.assert_allclose(seen.channel_means[clip.output[0]], stem.mean(dim=(0, 2, 3)), rtol=1e-5)
    average = observe(graph, quantizable(graph), calibration, "average")
    per_patient = stem.reshape(6, -1).amax(dim=1).mean()
    assert average.ranges[clip.output[0]] == pytest.approx((0.0, float(per_patient)), rel=1e-5)


def test_corrected_biases_restore_the_mean_of_every_channel() -> None:
    """Weights coarse enough to show: the mean output of a 1x1 convolution with rounded weights is that of the float one."""
    torch.manual_seed(1)
    coarse = Pipeline()
    conv = coarse.members["ap"].network.blocks[0][2]
    with torch.no_grad():
        conv.weight[:, 0] *= 300  # one large weight a channel leaves few steps for the others
    model = export_graph(coarse, 20)
    calibration = films(8)
    nodes = quantizable(model)
    seen = observe(model, nodes, calibration, "minmax")
    rounded = round_graph(model, nodes, seen, "int8")
    corrected = correct_biases(model, nodes, seen, rounded)
    node = next(node for node in model.graph.node if node.op_type == "Conv" and "blocks.0.2" in node.name)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in corrected.graph.initializer}
    network = coarse.members["ap"].network
    with torch.no_grad():
        inputs = network.blocks[0][1](network.blocks[0][0](stem_outputs(coarse, calibration)))
        weights = torch.tensor(widen(*rounded[node.input[1]])).double()
        expected = conv.double()(inputs.double()).mean(dim=(0, 2, 3))
        plain = torch.nn.functional.conv2d(inputs.double(), weights, conv.bias.double()).mean(dim=(0, 2, 3))
        found = torch.nn.functional.conv2d(inputs.double(), weights, torch.tensor(tensors[node.input[2]]).double()).mean(dim=(0, 2, 3))
    assert (plain - expected).abs().max() > 1e-3
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("activations", "symmetric"), [("uint8", False), ("int8", False), ("int8", True)])
def test_the_answers_hold_and_the_types_are_those_asked_for(graph: onnx.ModelProto, activations: str, symmetric: bool) -> None:
    calibration = films(6)
    nodes = quantizable(graph)
    quantized = place(graph, nodes, observe(graph, nodes, calibration, "minmax"), activations, symmetric)
    onnx.checker.check_model(quantized, full_check=True)
    change = np.abs(answer(quantized, calibration) - answer(graph, calibration)).max()
    assert 0 < change < 0.05
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    zero_points = [tensors[node.input[2]] for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    assert {point.dtype for point in zero_points} == {np.dtype(activations)}
    assert any(point.any() for point in zero_points) != symmetric
    makers = {output: node.op_type for node in quantized.graph.node for output in node.output}
    quantized_inputs = [makers[name] for node in quantized.graph.node if node.op_type == "Conv" for name in node.input[:2]]
    assert quantized_inputs == ["DequantizeLinear"] * 10
    rounded = {makers.get(node.input[0]) for node in quantized.graph.node if node.op_type == "QuantizeLinear"}
    clips = sum(node.op_type == "Clip" for node in quantized.graph.node)
    if symmetric:  # nothing between a convolution and its activation, which the runtime fuses
        assert clips == 3
        followers = {node.input[0]: node.op_type for node in quantized.graph.node}
        activated = [node for node in quantized.graph.node if node.op_type == "Conv" and followers.get(node.output[0]) == "Clip"]
        assert len(activated) == 3
        assert "Clip" in rounded
    else:  # the output range of the convolution is the activation
        assert clips == 0


def test_every_operator_is_fused_on_this_machine(graph: onnx.ModelProto, tmp_path: Path) -> None:
    """One pair where the 8-bit part begins and one where it ends; between them no float."""
    nodes = quantizable(graph)
    quantized = place(graph, nodes, observe(graph, nodes, films(6), "minmax"), "uint8", False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert (operators["QLinearConv"], operators["QLinearAdd"], operators["Conv"]) == (5, 1, 0)
    assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (1, 1)


def test_the_damage_is_how_far_log_odds_move() -> None:
    """By hand: from 4 : 1 to 2 : 1, and from 9 : 1 to 1 : 9; which brands are meant is what was expected."""
    expected = np.array([[0.8, 0.2, 0.0], [0.05, 0.45, 0.05 / 9 * 9]])
    found = np.array([[0.5, 0.25, 0.25], [0.45, 0.05, 0.5]])
    assert measure_damage(found, expected) == pytest.approx((np.log(2) + 2 * np.log(9)) / 2)
    assert measure_damage(expected, expected) == 0
    assert np.isfinite(measure_damage(np.zeros((2, 3)), expected))


def test_everything_is_quantized_where_the_answers_allow_it(graph: onnx.ModelProto) -> None:
    calibration = patients(6)
    quantized, repair = quantize_graph(
        graph, foresee(graph, calibration), blocks_of(graph), calibration, Calibration("minmax", 6, 0.1), "uint8", False
    )
    assert (repair.kept_float, repair.ranking, repair.float_share) == ((), (), 0.0)
    assert repair.before == repair.after
    assert repair.after == pytest.approx(foresee(graph, calibration).predict(answer_members(quantized, calibration)))
    again, _ = quantize_graph(
        graph, foresee(graph, calibration), blocks_of(graph), calibration, Calibration("minmax", 6, 0.1), "uint8", False
    )
    assert again.SerializeToString(deterministic=True) == quantized.SerializeToString(deterministic=True)


def test_the_block_that_can_not_be_8_bit_is_found_and_given_back() -> None:
    model = export_graph(Pipeline(spread=3000.0), 20)
    calibration = patients(6)
    quantized, repair = quantize_graph(
        model, foresee(model, calibration), blocks_of(model), calibration, Calibration("minmax", 6, 0.02), "uint8", False
    )
    assert repair.before > 0.02 >= repair.after
    assert repair.kept_float[0] == repair.ranking[0].block == "members.ap.network.blocks.1"
    urgencies = [damage.urgency for damage in repair.ranking]
    assert urgencies == sorted(urgencies, reverse=True)
    assert repair.float_share == pytest.approx((8 * 9 + 64) / (8 * 9 + 2 * (8 * 9 + 64)))
    assert repair.after == pytest.approx(foresee(model, calibration).predict(answer_members(quantized, calibration)))


def test_a_heavy_block_that_is_given_back_keeps_8_bit_weights_and_computes_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.quantization.repair.FLOAT_WEIGHTS", 10)
    model = export_graph(Pipeline(spread=3000.0), 20)
    calibration = patients(6)
    quantized, repair = quantize_graph(
        model, foresee(model, calibration), blocks_of(model), calibration, Calibration("minmax", 6, 0.02), "uint8", False
    )
    onnx.checker.check_model(quantized, full_check=True)
    assert repair.kept_float == ("members.ap.network.blocks.1",)
    types = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    makers = {output: node for node in quantized.graph.node for output in node.output}
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv" and "blocks.1" in node.name]
    assert len(convolutions) == 2
    for node in convolutions:
        widened = makers[node.input[1]]
        assert (widened.op_type, makers[widened.input[0]].op_type) == ("Mul", "Cast")
        assert types[makers[widened.input[0]].input[0]] == onnx.TensorProto.INT8
        assert node.input[0] not in makers or makers[node.input[0]].op_type != "DequantizeLinear" or "blocks.1.0" in node.name
    assert repair.after == pytest.approx(foresee(model, calibration).predict(answer_members(quantized, calibration)))


def test_a_block_costs_what_it_multiplies_and_a_cheap_one_goes_first() -> None:
    model = export_graph(Pipeline(spread=3000.0), 20)
    _, repair = quantize_graph(
        model, foresee(model, patients(6)), blocks_of(model), patients(6), Calibration("minmax", 6, 0.02), "uint8", False
    )
    costs = {damage.block.rpartition(".network.")[2]: damage.multiply_adds for damage in repair.ranking}
    pixels = 2 * SIDE * SIDE  # of both films
    assert (costs["conv_stem"], costs["blocks.0"], costs["blocks.1"]) == (72 * pixels, (72 + 64) * pixels, (72 + 64) * pixels)
    assert Damage("cheap", 0.01, 1, 100, 1).urgency > Damage("dear", 0.02, 1, 1000, 1).urgency
    assert Damage("small", 0.01, 1, 100, 1).urgency > Damage("spread", 0.01, 1, 100, 10).urgency


def test_depthwise_blocks_compute_in_float_where_the_recipe_says_so(graph: onnx.ModelProto, tmp_path: Path) -> None:
    calibration = patients(6)
    settings = Calibration("minmax", 6, 0.1)
    quantized, repair = quantize_graph(
        graph, foresee(graph, calibration), blocks_of(graph), calibration, settings, "uint8", False, depthwise="float32"
    )
    assert repair.kept_float == ("members.ap.network.blocks.0", "members.ap.network.blocks.1")
    assert repair.float_share == pytest.approx(272 / (72 + 272))
    types = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for name, kind in types.items() if "weight" in name and "zero" not in name) == 5
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    constants = {tensor.name for tensor in optimized.initializer}
    wide = [node for node in optimized.node if node.op_type in ("Conv", "FusedConv")]
    assert len(wide) == 4
    assert all(node.input[1] in constants for node in wide), "weights become float once, when the graph is loaded"
    assert repair.after == pytest.approx(foresee(graph, calibration).predict(answer_members(quantized, calibration)))


def test_a_convolution_between_8_bit_neighbours_stays_float_in_onnxruntime(graph: onnx.ModelProto, tmp_path: Path) -> None:
    """It would round weights that stand between a pair of 8-bit neighbours, all with one scale."""
    nodes = quantizable(graph)
    wide = next(node for node in graph.graph.node if node.op_type == "Conv" and "blocks.0.0" in node.name)
    clip = next(node for node in graph.graph.node if node.op_type == "Clip" and node.input[0] == wide.output[0])
    seen = observe(graph, nodes, films(6), "minmax")
    quantized = place(graph, nodes - {wide.name, clip.name}, seen, "uint8", False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in optimized.initializer}
    (found,) = [node for node in optimized.node if node.op_type in ("Conv", "FusedConv")]
    truth = next(numpy_helper.to_array(tensor) for tensor in graph.graph.initializer if tensor.name == wide.input[1])
    np.testing.assert_array_equal(constants[found.input[1]], truth)


def test_a_tolerance_that_no_block_meets_is_an_error(graph: onnx.ModelProto) -> None:
    with pytest.raises(GateError, match="with any block in 8 bits"):
        quantize_graph(graph, foresee(graph, patients(4)), blocks_of(graph), patients(4), Calibration("minmax", 4, 1e-9), "uint8", False)
