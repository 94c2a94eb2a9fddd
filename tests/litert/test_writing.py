"""Each operator that is written, against onnxruntime on the same graph; and a whole pipeline, in float and in 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import InputError, MissingError

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install 'edgekit-imaging[litert]' runs this")

from edgekit.formats.litert import count_operators, import_litert  # noqa: E402
from edgekit.litert.operators import lower_graph  # noqa: E402

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
FILM = RANDOM.normal(size=(2, 6, 9, 11)).astype(np.float32)
ROWS = RANDOM.normal(size=(3, 5)).astype(np.float32)
TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "bool": TensorProto.BOOL}


def build(nodes: Sequence[Any], inputs: dict[str, Array], output: str, constants: dict[str, Array], kind: int = TensorProto.FLOAT) -> Any:
    """Return a graph with one output whose shape is inferred."""
    given = [helper.make_tensor_value_info(name, TYPES[value.dtype.name], value.shape) for name, value in inputs.items()]
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "graph", given, [helper.make_tensor_value_info(output, kind, None)], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def answer(model: Any, inputs: dict[str, Array], folder: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return what onnxruntime, which leaves the graph as it is, and LiteRT make of the same inputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    path = folder / "model.tflite"
    path.write_bytes(lower_graph(model, {"edgekit": "test"}))
    opened = interpreter.Interpreter(str(path), num_threads=1)
    opened.allocate_tensors()
    return dict(zip(names, session.run(names, inputs), strict=True)), opened.get_signature_runner()(**inputs)


def node(operator: str, inputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), ["y"], name=f"some.module/{operator.lower()}", **attributes)


def convolution(pads: int, stride: int, groups: int = 1, kernel: int = 3) -> tuple[Any, dict[str, Array]]:
    constants = {"w": RANDOM.normal(size=(6, 6 // groups, kernel, kernel)).astype(np.float32), "b": ROWS.ravel()[:6]}
    return node("Conv", "x w b", pads=[pads] * 4, strides=[stride] * 2, group=groups, kernel_shape=[kernel] * 2), constants


CASES: dict[str, tuple[Any, dict[str, Array], dict[str, Array]]] = {
    "convolution": (*convolution(1, 1), {"x": FILM}),
    "convolution with a stride, padded on both sides": (*convolution(1, 2), {"x": FILM}),
    "convolution without padding": (*convolution(0, 1), {"x": FILM}),
    "depthwise convolution": (*convolution(2, 2, groups=6, kernel=5), {"x": FILM}),
    "largest of a window": (node("MaxPool", "x", pads=[2] * 4, strides=[1, 1], kernel_shape=[5, 5]), {}, {"x": FILM}),
    "mean of a window": (node("AveragePool", "x", strides=[3, 3], kernel_shape=[3, 3]), {}, {"x": FILM}),
    "blocks": (node("SpaceToDepth", "x", blocksize=3), {}, {"x": FILM[:, :1, :9, :9]}),
    "twice as large": (
        node("Resize", "x roi scales", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)},
        {"x": FILM},
    ),
    "join": (node("Concat", "x x", axis=1), {}, {"x": FILM}),
    "mean of a film": (node("ReduceMean", "x a", keepdims=1), {"a": np.array([-1, -2])}, {"x": FILM}),
    "sum of rows": (node("ReduceSum", "x a", keepdims=0), {"a": np.array([1])}, {"x": ROWS}),
    "bounds": (
        node("Clip", "x low high"),
        {"low": np.float32([-0.5])[0:1].reshape(()), "high": np.float32([0.75]).reshape(())},
        {"x": ROWS},
    ),
    "part from the end": (
        node("Slice", "x s e a t"),
        {"s": np.array([-3]), "e": np.array([np.iinfo(np.int64).max]), "a": np.array([1]), "t": np.array([1])},
        {"x": ROWS},
    ),
    "chosen columns": (node("Gather", "x i", axis=1), {"i": np.array([4, 0])}, {"x": ROWS}),
    "chosen row": (node("Gather", "x i", axis=0), {"i": np.array(2)}, {"x": ROWS}),
    "chosen of each row": (node("GatherElements", "x i", axis=1), {"i": np.array([[4], [0], [2]])}, {"x": ROWS}),
    "product with a vector": (node("MatMul", "x v"), {"v": ROWS[0]}, {"x": ROWS}),
    "product of a vector": (node("MatMul", "v x"), {"v": ROWS[:, 0]}, {"x": ROWS}),
    "products of many": (node("MatMul", "x v"), {"v": FILM[:, :1].transpose(0, 1, 3, 2)}, {"x": FILM}),
    "layer": (node("Gemm", "x w b", transB=1), {"w": FILM[0, :5, 0, :5], "b": ROWS[0]}, {"x": ROWS}),
    "softmax": (node("Softmax", "x", axis=1), {}, {"x": ROWS}),
    "spread": (node("Expand", "x s"), {"s": np.array([2, 3, 5])}, {"x": ROWS}),
    "turned": (node("Transpose", "x", perm=[1, 0]), {}, {"x": ROWS}),
    "over": (node("Reciprocal", "x"), {}, {"x": ROWS}),
    "mirror": (
        node("Slice", "x s e a t"),
        {"s": np.array([-1]), "e": np.array([np.iinfo(np.int64).min]), "a": np.array([3]), "t": np.array([-1])},
        {"x": FILM},
    ),
    "twice as large, between the pixels": (
        node("Resize", "x roi scales", mode="linear", coordinate_transformation_mode="half_pixel"),
        {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)},
        {"x": FILM},
    ),
    "chosen blocks": (node("GatherND", "x i"), {"i": np.array([[2], [0], [2]])}, {"x": ROWS}),
    "normalized rows": (node("LayerNormalization", "x w b", epsilon=1e-3), {"w": ROWS[0], "b": ROWS[1]}, {"x": 3 + ROWS}),
    "rectified by its error function": (node("Gelu", "x"), {}, {"x": ROWS}),
    "rectified by a hyperbolic tangent": (node("Gelu", "x", approximate="tanh"), {}, {"x": ROWS}),
    "channel factors": (node("Mul", "x f"), {"f": ROWS.ravel()[:6].reshape(6, 1, 1)}, {"x": FILM}),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    made, constants, inputs = CASES[name]
    expected, found = answer(build([made], inputs, "y", constants), inputs, tmp_path)
    assert found["y"].shape == expected["y"].shape
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)


def test_parts_of_a_split_are_told_apart(tmp_path: Path) -> None:
    split = helper.make_node("Split", ["x"], ["a", "b"], name="split", axis=0, num_outputs=2)
    nodes = [split, helper.make_node("Sub", ["a", "b"], ["y"], name="sub")]
    expected, found = answer(build(nodes, {"x": FILM}, "y", {}), {"x": FILM}, tmp_path)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-6)


@pytest.mark.parametrize("operator", ["Greater", "Less", "LessOrEqual", "GreaterOrEqual", "Equal"])
def test_a_comparison_chooses(operator: str, tmp_path: Path) -> None:
    nodes = [helper.make_node(operator, ["x", "z"], ["c"], name="c"), helper.make_node("Where", ["c", "x", "z"], ["y"], name="y")]
    inputs = {"x": ROWS, "z": np.where(RANDOM.random(ROWS.shape) < 0.5, ROWS, -ROWS)}
    expected, found = answer(build(nodes, inputs, "y", {}), inputs, tmp_path)
    np.testing.assert_array_equal(found["y"], expected["y"])


def test_the_place_of_the_largest_keeps_its_axis_or_not(tmp_path: Path) -> None:
    for keep in (0, 1):
        made = node("ArgMax", "x", axis=1, keepdims=keep)
        expected, found = answer(build([made], {"x": ROWS}, "y", {}, TensorProto.INT64), {"x": ROWS}, tmp_path)
        np.testing.assert_array_equal(found["y"], expected["y"])
        assert found["y"].dtype == np.int32


def stack(groups: int = 1) -> tuple[list[Any], dict[str, Array]]:
    """Return two convolutions with an activation function each, the second with the stride that takes a padding of its own."""
    nodes, constants = [], {}
    for place, (name, result) in enumerate((("x", "h"), ("r", "y"))):
        constants[f"w{place}"] = RANDOM.normal(size=(6, 6 // groups, 3, 3)).astype(np.float32) / 5
        constants[f"b{place}"] = RANDOM.normal(size=6).astype(np.float32)
        settings = {"pads": [1] * 4, "strides": [1 + place] * 2, "group": groups, "kernel_shape": [3, 3]}
        nodes.append(helper.make_node("Conv", [name, f"w{place}", f"b{place}"], [result], name=f"net.{place}/conv", **settings))
        if place == 0:
            nodes.append(helper.make_node("Clip", ["h", "low", "high"], ["r"], name="net.0/relu6"))
    return nodes, {**constants, "low": np.array(0, np.float32), "high": np.array(6, np.float32)}


def test_nothing_is_turned_between_convolutions(tmp_path: Path) -> None:
    (nodes, constants), film = stack(), FILM[:, :, :8, :10]
    expected, found = answer(build(nodes, {"x": film}, "y", constants), {"x": film}, tmp_path)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)
    counted = count_operators(tmp_path / "model.tflite")
    assert counted == {"CONV_2D": 2, "PAD": 1, "TRANSPOSE": 2}  # the film comes and goes channels first; the clip is the convolution's


def quantized(make: Callable[[], tuple[list[Any], dict[str, Array]]]) -> Any:
    """Return a graph in the form of `edgekit.quantization`: 8-bit activations with a zero point, weights with a scale for each channel."""
    from edgekit.quantization.observing import Observation, observe
    from edgekit.quantization.placement import insert_quantization, round_graph

    nodes, constants = make()
    model = build(nodes, {"x": FILM}, "y", constants)
    names = {each.name for each in model.graph.node}
    seen: Observation = observe(model, names, [{"x": FILM}], "minmax")
    return insert_quantization(model, names, seen, round_graph(model, names, seen, "int8"), "int8", symmetric=False)


@pytest.mark.parametrize("groups", [1, 6])
def test_codes_are_those_of_the_graph(groups: int, tmp_path: Path) -> None:
    model = quantized(lambda: stack(groups))
    expected, found = answer(model, {"x": FILM}, tmp_path)
    step = 2 * np.abs(expected["y"]).max() / 255
    assert np.abs(found["y"] - expected["y"]).max() <= 1.01 * step  # a rounding that went the other way
    assert np.mean(np.abs(found["y"] - expected["y"]) > step / 2) < 0.02
    counted = count_operators(tmp_path / "model.tflite")
    assert (counted["QUANTIZE"], counted["DEQUANTIZE"]) == (1, 1)


def test_codes_of_other_steps_are_joined_and_added(tmp_path: Path) -> None:
    def make() -> tuple[list[Any], dict[str, Array]]:
        nodes, constants = stack()
        nodes[-1].output[0] = "s"
        constants["w0"] = constants["w0"] * 3  # of another range
        more = [
            helper.make_node("MaxPool", ["s"], ["p"], name="pool", pads=[1] * 4, strides=[1, 1], kernel_shape=[3, 3]),
            helper.make_node("Add", ["s", "p"], ["a"], name="sum"),
            helper.make_node("Concat", ["a", "s"], ["y"], name="join", axis=1),
        ]
        return [*nodes, *more], constants

    expected, found = answer(quantized(make), {"x": FILM}, tmp_path)
    step = 2 * np.abs(expected["y"]).max() / 255
    assert np.abs(found["y"] - expected["y"]).max() <= 2.01 * step
    assert count_operators(tmp_path / "model.tflite")["ADD"] == 1


def test_weights_kept_in_8_bits_are_computed_with_in_float(tmp_path: Path) -> None:
    from edgekit.quantization.observing import observe
    from edgekit.quantization.placement import round_graph, store_weights

    nodes, constants = stack()
    model = build(nodes, {"x": FILM}, "y", constants)
    names = {each.name for each in model.graph.node if each.op_type == "Conv"}
    seen = observe(model, names, [{"x": FILM}], "minmax")
    stored = store_weights(model, names, seen, round_graph(model, names, seen, None))
    expected, found = answer(stored, {"x": FILM}, tmp_path)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)
    assert count_operators(tmp_path / "model.tflite")["DEQUANTIZE"] == 2


def test_what_cannot_be_written_is_named_with_where_it_comes_from() -> None:
    with pytest.raises(InputError, match=r"the operator Erf can't be written; it is 'erf' of some\.module") as caught:
        lower_graph(build([node("Erf", "x")], {"x": ROWS}, "y", {}), {})
    assert caught.value.remedy
    with pytest.raises(InputError, match="Softmax with an axis that is not the last"):
        lower_graph(build([node("Softmax", "x", axis=0)], {"x": ROWS}, "y", {}), {})


def test_the_same_graph_gives_the_same_bytes() -> None:
    nodes, constants = stack()
    model = build(nodes, {"x": FILM}, "y", constants)
    assert lower_graph(model, {"a": "b"}) == lower_graph(model, {"a": "b"})


def test_without_litert_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("ai_edge_litert.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingError, match="ai-edge-litert is not installed") as caught:
        import_litert("interpreter")
    assert "edgekit-imaging[litert]" in str(caught.value.remedy)
