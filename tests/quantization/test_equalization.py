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


@pytest.fixture(scope="module")
def graph(network: Network) -> onnx.ModelProto:
    program = torch.onnx.export(
        network, (torch.zeros(1, 1, SIDE, SIDE),), input_names=["film"], output_names=["answer"], opset_version=20, dynamo=True
    )
    model = program.model_proto
    for place, node in enumerate(model.graph.node):
        node.name = f"members.ap.network.blocks.{place}"
    return model


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

    def reach(model: onnx.ModelProto, tensor: str) -> np.ndarray:
        seen = [np.abs(answer(show(model, [tensor]), film, tensor)).max(axis=(0, 2, 3)) for film in films(8)]
        return np.max(seen, axis=0)

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
    calibration = films(8)

    def miss(model: onnx.ModelProto) -> float:
        seen = observe(model, nodes, calibration, "minmax")
        quantized = insert_quantization(model, nodes, seen, round_graph(model, nodes, seen, "uint8"), "uint8", False)
        with torch.no_grad():
            return float(
                np.mean([np.abs(answer(quantized, film) - network(torch.from_numpy(film["film"])).numpy()) for film in calibration])
            )

    assert miss(equalized) < 0.5 * miss(graph)
