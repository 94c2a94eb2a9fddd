from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import InputError
from edgekit.graphs.places import Place, Places
from edgekit.graphs.tensorrt import check_graph, list_precisions

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64
ZERO, SCALE = np.int8(0), np.float32(0.1)


PLACES = Places({"detector.network": Place("detector"), "members": Place("members")})


def make_model(nodes: list[Any], inputs: dict[str, tuple[int, tuple[int, ...]]], shape: tuple[str, ...] = (), **weights: np.ndarray) -> Any:
    """A graph whose output is the last node's; its type and shape are inferred, or float32 with the symbolic `shape`."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    initializers = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
    name = nodes[-1].output[0]
    output = helper.make_tensor_value_info(name, FLOAT, shape) if shape else onnx.ValueInfoProto(name=name)
    graph = helper.make_graph(nodes, "test", values, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


def film(*nodes: Any, **weights: np.ndarray) -> Any:
    """A graph on `x`, float32 (1, 4, 8, 8)."""
    return make_model(list(nodes), {"x": (FLOAT, (1, 4, 8, 8))}, **weights)


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(","), outputs.split(","), name=f"the {kind}", **attributes)


def quantized_convolution(zero: Any = ZERO, axis: int = 0, data_scale: Any = SCALE) -> Any:
    """A convolution in the explicit Q/DQ form, as a film's 8-bit layer is written."""
    nodes = [
        node("QuantizeLinear", "x,s,z", "q", **({"axis": 1} if np.ndim(data_scale) else {})),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="", **({"axis": 1} if np.ndim(data_scale) else {})),
        node("DequantizeLinear", "w,ws", "wd", axis=axis),
        helper.make_node("Conv", ["d", "wd"], ["y"], name="members.ap.network.conv_stem/conv2d_1"),
    ]
    weight = np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
    return film(*nodes, s=data_scale, z=np.broadcast_to(zero, np.shape(data_scale)), w=weight, ws=np.full(4, 0.01, np.float32))


BROKEN = {
    "operator": (film(node("Mish", "x")), "'the Mish' (Mish): TensorRT has no such operator"),
    "type": (make_model([node("Sigmoid", "x")], {"x": (TensorProto.DOUBLE, (2, 2))}), "its input is DOUBLE, accepted: FLOAT, FLOAT16"),
    "uint8": (make_model([node("Concat", "x,x", axis=0)], {"x": (UINT8, (1, 4))}), "its input is UINT8"),
    "uint8 inside": (film(node("Cast", "x", to=UINT8)), "its output is UINT8, which only a graph input may be"),
    "argmax": (make_model([node("ArgMax", "x")], {"x": (FLOAT, (4,))}), "its input has one dimension, at least two are needed"),
    "axes": (
        make_model([node("ReduceSum", "x,axes")], {"x": (FLOAT, (2, 2)), "axes": (INT64, (1,))}, shape=("n", "m")),
        "its input 1 is computed, it must be an initializer",
    ),
    "indices": (film(node("MaxPool", "x", "i,y", kernel_shape=[2, 2]), node("Cast", "y", "z", to=FLOAT)), "'Indices' is not taken"),
    "dilated pool": (film(node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])), "a dilated pool is not taken"),
    "resize": (
        film(node("Resize", "x,,scales", mode="cubic"), scales=np.array([1, 1, 2, 2], np.float32)),
        "'mode' is b'cubic', accepted: nearest, linear",
    ),
    "zero point": (quantized_convolution(zero=np.int8(3)), "the zero point is not 0"),
    "unsigned": (quantized_convolution(zero=np.uint8(0)), "the zero point is uint8, it must be int8"),
    "channels of data": (quantized_convolution(data_scale=np.full(4, 0.1, np.float32)), "a scale per channel is for weights only"),
    "axis": (quantized_convolution(axis=1), "scales run along axis 1, the output channels of"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_graph_that_tensorrt_refuses_is_refused_by_node_and_rule(name: str) -> None:
    model, rule = BROKEN[name]
    with pytest.raises(InputError) as raised:
        check_graph(model)
    assert rule in raised.value.message
    assert "node '" in raised.value.message


@pytest.mark.parametrize("name", ["uint8", "argmax", "axes", "indices", "zero point"])
def test_nvidias_parser_refuses_them_too(name: str) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="pip install 'edgekit-imaging[export]' runs this")
    from edgekit.backends.tensorrt_rtx import parse_graph

    with pytest.raises(InputError, match="does not read the graph"):
        parse_graph(BROKEN[name][0].SerializeToString())


def test_another_operator_set_is_refused() -> None:
    model = film(node("Relu", "x"))
    model.opset_import[0].version = 21
    with pytest.raises(InputError, match=r"sets 9 to 20; the graph needs \{'': 21\}"):
        check_graph(model)


def test_a_quantized_convolution_is_taken_and_promised_as_int8() -> None:
    model = quantized_convolution()
    check_graph(model)
    assert list_precisions(model, PLACES) == {"members.ap.network.conv_stem/conv2d_1": "int8"}


def test_a_promise_is_the_type_of_the_weights_and_only_for_the_networks() -> None:
    names = ("detector.network.model.0/conv2d", "members.ap.network.conv_head/conv2d_2", "conv2d_3")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name=names[0]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["b", "h"], ["c"], name=names[1]),
        helper.make_node("Conv", ["c", "h"], ["y"], name=names[2]),
    ]
    weight = np.ones((4, 4, 1, 1), np.float32)
    assert list_precisions(film(*nodes, w=weight, h=weight.astype(np.float16)), PLACES) == {names[0]: "fp32", names[1]: "fp16"}
