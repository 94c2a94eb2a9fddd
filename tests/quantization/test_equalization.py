"""Channels brought to one range: the same answers, and ranges as worked out by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from edgekit.quantization.equalization import LARGEST, equalize
from edgekit.quantization.observing import observe
from edgekit.quantization.placement import insert_quantization, round_graph

SIDE, CHANNELS = 12, 6
SPREAD = torch.tensor([1.0, 4.0, 16.0, 64.0, 256.0, 1.0]).reshape(-1, 1, 1, 1)


class Network(torch.nn.Module):
    """Every kind of node that channels pass: depthwise, residual, joined, pooled, resized, clipped, and a mean that they can't pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.depthwise = torch.nn.ModuleList([torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS) for _ in range(2)])
        self.linear = torch.nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.joined = torch.nn.Conv2d(2 * CHANNELS, CHANNELS, 3, padding=1)
        self.last = torch.nn.Conv2d(CHANNELS, CHANNELS, 1)
        with torch.no_grad():
            self.first.bias.abs_()
            for layer in (self.first, self.linear):  # what they write differs by a factor of 256, and its readers make up for it
                layer.weight /= SPREAD
                layer.bias /= SPREAD.ravel()
            for layer in self.depthwise:
                layer.weight *= SPREAD
                layer.bias.abs_()
            self.joined.weight *= torch.cat([SPREAD, SPREAD]).reshape(1, -1, 1, 1)

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.relu6(self.first(film))
        one, two = (self.linear(torch.nn.functional.relu(layer(x))) for layer in self.depthwise)  # one set of weights, two readers
        z = one + two
        pooled = torch.nn.functional.interpolate(torch.nn.functional.max_pool2d(z, 2), scale_factor=2.0)
        joined = torch.nn.functional.relu(self.joined(torch.cat([pooled, z], dim=1)))
        return self.last(joined).mean(dim=(2, 3))


class Excited(torch.nn.Module):
    """A block of EfficientNet-B0: SiLU on both sides of a depthwise convolution, then squeeze-and-excitation; its channels differ much."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.expand = torch.nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
        self.squeeze = torch.nn.Conv2d(CHANNELS, 3, 1)
        self.excite = torch.nn.Conv2d(3, CHANNELS, 1)
        self.project = torch.nn.Conv2d(CHANNELS, CHANNELS, 1)
        with torch.no_grad():
            self.expand.weight *= torch.tensor([1.0, 4.0, 16.0, 64.0, 1.0, 1.0]).reshape(-1, 1, 1, 1)
            self.expand.weight[3] *= -1  # its input goes far below what a SiLU lets out
            self.depthwise.weight[3] /= 64
            self.depthwise.weight[2] /= 16

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        silu = torch.nn.functional.silu
        x = silu(self.depthwise(silu(self.expand(film))))
        gate = torch.sigmoid(self.excite(silu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))))
        return self.project(x * gate).mean(dim=(2, 3))


def films(count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(3)
    return [{"film": random.random((1, 1, SIDE, SIDE), np.float32)} for _ in range(count)]


def answer(model: onnx.ModelProto, film: dict[str, np.ndarray], name: str = "answer") -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], film)[0]


def show(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    return shown


@pytest.fixture(scope="module")
def network() -> Network:
    return Network().eval()


def export(network: torch.nn.Module) -> onnx.ModelProto:
    program = torch.onnx.export(
        network, (torch.zeros(1, 1, SIDE, SIDE),), input_names=["film"], output_names=["answer"], opset_version=20, dynamo=True
    )
    model = program.model_proto
    for place, node in enumerate(model.graph.node):
        node.name = f"members.ap.network.blocks.{place}"
    return model


def reach(model: onnx.ModelProto, tensor: str) -> np.ndarray:
    """The largest absolute value of each channel."""
    return np.max([np.abs(answer(show(model, [tensor]), film, tensor)).max(axis=(0, 2, 3)) for film in films(8)], axis=0)


def miss(model: onnx.ModelProto, network: torch.nn.Module, nodes: set[str]) -> float:
    """How far the 8-bit answers are from torch's, on average."""
    calibration = films(8)
    seen = observe(model, nodes, calibration, "minmax")
    quantized = insert_quantization(model, nodes, seen, round_graph(model, nodes, seen, "uint8"), "uint8", False)
    with torch.no_grad():
        return float(np.mean([np.abs(answer(quantized, film) - network(torch.from_numpy(film["film"])).numpy()) for film in calibration]))


@pytest.fixture(scope="module")
def graph(network: Network) -> onnx.ModelProto:
    return export(network)


@pytest.fixture(scope="module")
def excited() -> Excited:
    return Excited().eval()


@pytest.fixture(scope="module")
def excited_graph(excited: Excited) -> onnx.ModelProto:
    return export(excited)


@pytest.fixture(scope="module")
def convolutions(excited_graph: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    names = ("expand", "depthwise", "squeeze", "excite", "project")
    return dict(zip(names, (node for node in excited_graph.graph.node if node.op_type == "Conv"), strict=True))


@pytest.fixture(scope="module")
def excited_nodes(convolutions: dict[str, onnx.NodeProto]) -> set[str]:
    return {node.name for node in convolutions.values()}


@pytest.fixture(scope="module")
def excited_equalized(excited_graph: onnx.ModelProto, excited_nodes: set[str]) -> onnx.ModelProto:
    return equalize(excited_graph, excited_nodes, films(8))


@pytest.fixture(scope="module")
def nodes(graph: onnx.ModelProto) -> set[str]:
    return {node.name for node in graph.graph.node if node.op_type in ("Conv", "Relu", "Clip", "Add", "Concat", "MaxPool", "Resize")}


@pytest.fixture(scope="module")
def equalized(graph: onnx.ModelProto, nodes: set[str]) -> onnx.ModelProto:
    return equalize(graph, nodes, films(8))


def test_the_answers_are_those_of_torch(network: Network, equalized: onnx.ModelProto) -> None:
    for film in films(8):
        with torch.no_grad():
            expected = network(torch.from_numpy(film["film"])).numpy()
        np.testing.assert_allclose(answer(equalized, film), expected, rtol=1e-4, atol=1e-5)


def test_the_ranges_come_together_by_half(graph: onnx.ModelProto, equalized: onnx.ModelProto) -> None:
    """The range of a channel that stays r below the largest comes within the root of r; one that ReLU6 bounds never beyond six."""
    added = next(node.output[0] for node in graph.graph.node if node.op_type == "Add")
    clipped = next(node.output[0] for node in graph.graph.node if node.op_type == "Clip")

    before, after = reach(graph, clipped), reach(equalized, clipped)
    np.testing.assert_allclose(after, before * np.sqrt(before.max() / before), rtol=1e-4)
    assert after.max() <= 6

    # The sum shares its channels with what is added, pooled and joined: the largest of all of them is what counts.
    linear = next(node for node in graph.graph.node if node.op_type == "Add")
    shared = np.max([reach(graph, tensor) for tensor in (*linear.input, added)], axis=0)
    factors = np.minimum(np.sqrt(shared.max() / shared), LARGEST)
    np.testing.assert_allclose(reach(equalized, added), reach(graph, added) * factors, rtol=1e-4)
    assert factors.max() > 5  # the network is one that needs it


def test_what_a_mean_reads_keeps_its_scale(graph: onnx.ModelProto, equalized: onnx.ModelProto) -> None:
    last = next(node.input[0] for node in graph.graph.node if node.op_type == "ReduceMean")
    for film in films(2):
        np.testing.assert_allclose(
            answer(show(equalized, [last]), film, last), answer(show(graph, [last]), film, last), rtol=1e-3, atol=1e-5
        )


def test_only_the_nodes_asked_for_change(graph: onnx.ModelProto) -> None:
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    some = equalize(graph, {node.name for node in convolutions[:2]}, films(2))
    before, after = ({tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} for model in (graph, some))
    for node in convolutions[2:]:
        np.testing.assert_array_equal(before[node.input[1]], after[node.input[1]])


def test_eight_bits_answer_better(graph: onnx.ModelProto, nodes: set[str], equalized: onnx.ModelProto, network: Network) -> None:
    assert miss(equalized, network, nodes) < 0.5 * miss(graph, network, nodes)


# -- SiLU and squeeze-and-excitation -----------------------------------------------------------------------------------------


def test_the_answers_are_those_of_torch_through_silus_and_gates(
    excited: Excited, excited_graph: onnx.ModelProto, excited_equalized: onnx.ModelProto
) -> None:
    onnx.checker.check_model(excited_equalized)
    added = len(excited_equalized.graph.node) - len(excited_graph.graph.node)
    assert added == 5, "a Mul for each of three SiLUs, for what the gate reads, and for what it gives"
    for film in films(8):
        with torch.no_grad():
            expected = excited(torch.from_numpy(film["film"])).numpy()
        np.testing.assert_allclose(answer(excited_equalized, film), expected, rtol=1e-4, atol=1e-5)


def test_what_only_a_depthwise_convolution_reads_gets_one_range(
    excited_graph: onnx.ModelProto, excited_equalized: onnx.ModelProto, convolutions: dict[str, onnx.NodeProto]
) -> None:
    written, read = convolutions["expand"].output[0], convolutions["depthwise"].input[0]
    seen = np.concatenate([answer(show(excited_graph, [written]), film, written) for film in films(8)])
    counted = np.maximum(seen.max(axis=(0, 2, 3)), np.minimum(-seen.min(axis=(0, 2, 3)), 6))  # a SiLU's input counts from -6
    factors = np.minimum(counted.max() / counted, LARGEST)
    assert factors.max() > 20
    for tensor in (written, read):
        np.testing.assert_allclose(reach(excited_equalized, tensor), reach(excited_graph, tensor) * factors, rtol=1e-3)


def test_what_the_gate_makes_has_factors_of_its_own(
    excited_graph: onnx.ModelProto, excited_equalized: onnx.ModelProto, convolutions: dict[str, onnx.NodeProto]
) -> None:
    product = convolutions["project"].input[0]
    before = reach(excited_graph, product)
    np.testing.assert_allclose(reach(excited_equalized, product), before * np.sqrt(before.max() / before), rtol=1e-3)


def test_nothing_below_a_silus_reach_stretches_its_range(
    excited_graph: onnx.ModelProto, excited_equalized: onnx.ModelProto, excited_nodes: set[str], convolutions: dict[str, onnx.NodeProto]
) -> None:
    written = convolutions["expand"].output[0]
    factors = reach(excited_equalized, written) / reach(excited_graph, written)
    seen = np.concatenate([answer(show(excited_graph, [written]), film, written) for film in films(8)])
    assert seen.min() < 3 * -6
    counted = np.where(seen > -6, seen, 0)
    plain = observe(excited_graph, excited_nodes, films(8), "minmax").ranges[written]
    assert plain == pytest.approx((counted.min(), counted.max()), rel=1e-4)
    scaled = counted * factors.reshape(1, -1, 1, 1)
    assert observe(excited_equalized, excited_nodes, films(8), "minmax").ranges[written] == pytest.approx(
        (scaled.min(), scaled.max()), rel=1e-3
    )


def test_eight_bits_answer_better_through_silus(
    excited: Excited, excited_graph: onnx.ModelProto, excited_equalized: onnx.ModelProto, excited_nodes: set[str]
) -> None:
    assert miss(excited_equalized, excited, excited_nodes) < 0.5 * miss(excited_graph, excited, excited_nodes)
