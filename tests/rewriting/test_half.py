from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pedicle_screws import INPUTS

from edgekit.contract import OUTPUTS
from edgekit.errors import InputError
from edgekit.graphs.exporting import export_graph
from edgekit.graphs.places import Places, find_places
from edgekit.models.runfolder import load_pipeline
from edgekit.rewriting import halve, round_to_half

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def make_model(nodes: list[Any], weights: dict[str, np.ndarray], outputs: tuple[str, ...], shape: tuple[int, ...], scale: int = 1) -> Any:
    """A graph from `x` to `outputs`, all float32; the outputs have the input's shape, `scale` times as high and wide."""
    grown = (*shape[:-2], *(scale * size for size in shape[-2:]))
    values = [helper.make_tensor_value_info(name, FLOAT, size) for name, size in (("x", shape), *((name, grown) for name in outputs))]
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def convolutions() -> Any:
    """Three 1x1 convolutions with ReLU, then a kept addition and multiplication."""
    weights = {f"w{index}": np.random.default_rng(index).normal(size=(8, 8, 1, 1)).astype(np.float32) for index in range(3)}
    nodes, name = [], "x"
    for index in range(3):
        nodes.append(helper.make_node("Conv", [name, f"w{index}"], [f"c{index}"], name=f"conv{index}"))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}"))
        name = f"r{index}"
    nodes.append(helper.make_node("Add", [name, "one"], ["sum"], name="add"))
    nodes.append(helper.make_node("Mul", ["sum", "one"], ["y"], name="multiply"))
    return make_model(nodes, {**weights, "one": np.ones((), np.float32)}, ("y",), (1, 8, 4, 4))


def infer_types(model: Any) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {each.name: each.data_type for each in graph.initializer}


def types_of(model: Any, node: Any) -> set[int]:
    types = infer_types(model)
    return {types[name] for name in (*node.input, *node.output) if types[name] in (FLOAT, HALF)}


def run(model: Any, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_each_node_computes_in_the_precision_asked_for_and_casts_stand_only_between() -> None:
    halved = halve(convolutions(), {"add", "multiply"})
    nodes = {node.name: node for node in halved.graph.node}
    for name, kind in {"conv0": HALF, "relu0": HALF, "conv2": HALF, "add": FLOAT, "multiply": FLOAT}.items():
        assert types_of(halved, nodes[name]) == {kind}, name
    assert [node.name for node in halved.graph.node if node.op_type == "Cast"] == ["x_to_half", "r2_to_float"]
    assert {each.name: each.data_type for each in halved.graph.initializer} == {f"w{i}_half": HALF for i in range(3)} | {"one": FLOAT}
    assert [value.type.tensor_type.elem_type for value in (*halved.graph.input, *halved.graph.output)] == [FLOAT, FLOAT]


def test_what_passes_between_kept_nodes_is_never_rounded() -> None:
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["moved"], name="box"),
        helper.make_node("Mul", ["moved", "one"], ["y"], name="crop"),
        helper.make_node("Relu", ["moved"], ["z"], name="network"),
    ]
    model = make_model(nodes, {"shift": np.float32(600), "one": np.float32(1)}, ("y", "z"), (1,))
    found = run(halve(model, {"box", "crop"}), x=np.array([0.3], np.float32))
    assert found["y"] == np.float32(600.3)
    rounded = run(round_to_half(halve(model, {"box", "crop"})), x=np.array([0.3], np.float32))
    assert rounded["y"] == np.float32(600.3)
    assert rounded["z"] == 600.5  # the float16 nearest to 600.3: they are half a pixel apart there


def test_a_weight_that_both_precisions_read_is_stored_in_both() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features"], name="network"),
        helper.make_node("Conv", ["features", "w"], ["y"], name="heatmap"),
    ]
    weight = np.random.default_rng(0).normal(size=(8, 8, 1, 1)).astype(np.float32)
    halved = halve(make_model(nodes, {"w": weight}, ("y",), (1, 8, 4, 4)), {"heatmap"})
    stored = {each.name: numpy_helper.to_array(each) for each in halved.graph.initializer}
    np.testing.assert_array_equal(stored["w"], weight)
    np.testing.assert_array_equal(stored["w_half"], weight.astype(np.float16))


def test_resize_keeps_its_scales_in_float32_as_onnx_demands() -> None:
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], name="resize", mode="nearest")]
    model = make_model(nodes, {"scales": np.array([1, 1, 2, 2], np.float32)}, ("y",), (1, 1, 2, 2), scale=2)
    (resize,) = (node for node in halve(model, set()).graph.node if node.op_type == "Resize")
    assert list(resize.input) == ["x_half", "", "scales"]


def test_the_rounded_graph_has_the_values_of_torch_in_half_precision() -> None:
    model = convolutions()
    x = np.random.default_rng(9).normal(size=(1, 8, 4, 4)).astype(np.float32)
    expected = torch.from_numpy(x).half()
    for weight in model.graph.initializer[:3]:
        expected = torch.relu(torch.nn.functional.conv2d(expected, torch.tensor(numpy_helper.to_array(weight)).half()))
    halved = halve(model, {"add", "multiply"})
    np.testing.assert_array_equal(run(round_to_half(halved), x=x)["y"], expected.float().numpy() + 1)
    assert np.abs(run(halved, x=x)["y"] - expected.float().numpy() - 1).max() > 0  # onnxruntime alone does not round between nodes


def test_an_overflow_on_the_device_is_seen_only_in_the_rounded_graph() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["square"], name="grow"),
        helper.make_node("Mul", ["square", "small"], ["y"], name="shrink"),
    ]
    model = make_model(nodes, {"large": np.float32(6e4), "small": np.float32(1e-3)}, ("y",), (1,))
    halved, x = halve(model, set()), np.array([2.0], np.float32)
    assert np.isfinite(run(halved, x=x)["y"]).all()
    assert np.isinf(run(round_to_half(halved), x=x)["y"]).all()
    assert torch.isinf(torch.tensor(x).half() * torch.tensor(6e4).half())


@pytest.mark.parametrize(
    ("value", "keep", "message"),
    [
        (7e4, set(), "the weight 'w' holds 70000: float16 ends at 65504"),
        (1.0, {"convolution"}, "no node 'convolution' to keep"),
    ],
)
def test_what_can_not_be_halved_is_an_error(value: float, keep: set[str], message: str) -> None:
    model = make_model([helper.make_node("Mul", ["x", "w"], ["y"], name="scale")], {"w": np.float32(value)}, ("y",), (1,))
    with pytest.raises(InputError, match=message):
        halve(model, keep)


@pytest.fixture(scope="module")
def places(tiny_run: Path) -> Places:
    return find_places(load_pipeline(tiny_run, "ap+lateral"))


@pytest.fixture(scope="module")
def pipelines(tiny_run: Path, places: Places) -> tuple[Any, Any]:
    """The tiny pipeline in float32, and with detector and members in float16."""
    model = export_graph(load_pipeline(tiny_run, "ap+lateral"), 20)
    keep = {node.name for node in model.graph.node if places.find(node.name).stage not in ("detector", "members")}
    return model, halve(model, keep)


def test_the_pipelines_networks_are_half_and_all_else_is_not(pipelines: tuple[Any, Any], places: Places) -> None:
    model, halved = pipelines
    types = infer_types(halved)
    nodes = {node.name: node for node in halved.graph.node}
    for original in model.graph.node:
        kinds = {types[name] for name in (*nodes[original.name].input, *nodes[original.name].output) if name} & {FLOAT, HALF}
        wanted = {HALF} if places.find(original.name).stage in ("detector", "members") else {FLOAT}
        if original.op_type == "Resize":
            kinds -= {FLOAT}  # its scales
        assert kinds <= wanted, original.name
    convolutions = [node for node in halved.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in model.graph.node) > 100
    assert all(types[node.input[1]] == HALF for node in convolutions)
    assert [value.name for value in (*halved.graph.input, *halved.graph.output)] == [*INPUTS, *OUTPUTS]
    added = len(halved.graph.node) - len(model.graph.node)
    at_borders = 10 + 3 * 5  # of the networks; five at each of the detector's levels, whose best cell is picked and whose padding is masked
    assert added == sum(node.name.endswith(("_to_half", "_to_float")) for node in halved.graph.node) <= at_borders
    assert halved.ByteSize() < 0.55 * model.ByteSize()


def test_the_halved_pipeline_answers_like_the_float32_one(pipelines: tuple[Any, Any]) -> None:
    model, halved = pipelines
    rounded = round_to_half(halved)
    random = np.random.default_rng(0)
    alike = 0
    for _ in range(5):
        films = [random.integers(0, 256, (16, 16), np.uint8).repeat(8, axis=0).repeat(8, axis=1)[None, None] for _ in range(2)]
        inputs = {"ap": films[0], "lateral": films[1], "present": np.ones(2, np.float32)}
        expected, found = run(model, **inputs), run(rounded, **inputs)
        assert {name: value.dtype for name, value in found.items()} == {name: value.dtype for name, value in expected.items()}
        assert 0 < np.abs(found["view_scores"] - expected["view_scores"]).max() < 0.05
        if np.abs(found["boxes"] - expected["boxes"]).max() < 1:  # untrained, the best two cells may swap, and all that follows
            alike += 1
            assert np.abs(found["probabilities"] - expected["probabilities"]).max() < 0.2
    assert alike


def test_openvino_reads_the_halved_pipeline(pipelines: tuple[Any, Any], tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="pip install 'edgekit-imaging[export]' runs this")
    onnx.save(pipelines[1], tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(str(tmp_path / "model.onnx"), "CPU")
    assert all(name in output.names for name, output in zip(OUTPUTS, compiled.outputs, strict=True))
