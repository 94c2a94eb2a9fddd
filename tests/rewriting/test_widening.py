"""An 8-bit graph computed in float, against torch with the weights that the bytes stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import MissingError
from edgekit.golden import read_golden
from edgekit.manifest import open_bundle
from edgekit.quantization.observing import Observation
from edgekit.quantization.placement import insert_quantization, round_graph
from edgekit.rewriting import compute_in_float
from edgekit.sessions import onnxruntime_float, open_session


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_weights_are_what_their_bytes_stand_for_and_activations_are_only_cut(activations: str) -> None:
    """Two convolutions with a ReLU between, which the 8-bit graph keeps as the low end of a range."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(4, 4, 3, 3)).astype(np.float32) for name in ("first", "second")}
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.zeros(4, np.float32), f"{name}.bias") for name in weights]
    operators = [
        helper.make_node("Conv", ["x", "first", "first.bias"], ["a"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second", "second.bias"], ["c"], name="conv2", pads=[1] * 4),
        helper.make_node("Sigmoid", ["c"], ["y"], name="sigmoid"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in "xy"]
    graph = helper.make_graph(operators, "two", values[:1], values[1:], constants)
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    ranges = {"x": (-1.0, 1.0), "a": (-8.0, 8.0), "b": (0.0, 4.0), "c": (-20.0, 20.0)}
    seen = Observation(ranges, {"x": np.zeros(4), "b": np.zeros(4)}, {name: np.eye(36)[None] for name in ("conv1", "conv2")})
    nodes = {"conv1", "relu", "conv2"}
    quantized = insert_quantization(model, nodes, seen, round_graph(model, nodes, seen, activations), activations, symmetric=False)
    wide = compute_in_float(quantized)
    assert not {node.op_type for node in wide.graph.node} & {"QuantizeLinear", "DequantizeLinear"}

    tensors = {tensor.name: numpy_helper.to_array(tensor).astype(np.float32) for tensor in quantized.graph.initializer}
    first, second = (torch.tensor(tensors[f"{name}_quantized"] * tensors[f"{name}_scale"].reshape(-1, 1, 1, 1)) for name in weights)
    x = random.uniform(-2, 2, (1, 4, 8, 8)).astype(np.float32)
    ends = np.iinfo(activations)
    low, high = (float((end - tensors["x_zero_point"]) * tensors["x_scale"]) for end in (ends.min, ends.max))
    assert (low, high) == pytest.approx((-1, 1), abs=0.01)
    a = torch.nn.functional.conv2d(torch.tensor(x).clamp(low, high), first, padding=1).clamp(0, 4)
    expected = torch.nn.functional.conv2d(a, second, padding=1).clamp(-20, 20).sigmoid()
    found = onnxruntime.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert (a == 4).any()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    rounded = onnxruntime.InferenceSession(quantized.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert np.abs(rounded - found).max() > 0.02


def test_a_bundle_in_8_bits_can_be_opened_in_float_and_no_other(tiny_bundle: Path, eight_bit_bundle: Path) -> None:
    with pytest.raises(MissingError, match="nothing in this file is computed in 8 bits"):
        onnxruntime_float.open_session(open_bundle(tiny_bundle))
    bundle = open_bundle(eight_bit_bundle)
    case = read_golden(bundle)[0]
    with open_session("onnxruntime-float", bundle) as session:
        found = session.infer(case.inputs)
    assert session.name == "onnxruntime-float"
    assert 0 < np.abs(found["members"] - case.outputs["members"]).max() < 0.5  # rounding, in a random network
