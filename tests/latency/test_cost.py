"""Multiply-adds against hand calculation, torch's own counter and the published figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.latency.cost import Cost, bound_time, count_cost
from edgekit.latency.peaks import DEPTH, make_layers

if TYPE_CHECKING:
    from pathlib import Path

onnx = pytest.importorskip("onnx", reason="pip install 'edgekit-imaging[export]'")


def make_model(nodes: list[Any], weights: dict[str, Any], given: tuple[Any, ...], made: tuple[Any, ...]) -> Any:
    helper = onnx.helper
    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info(*given)], [helper.make_tensor_value_info(*made)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_convolution_and_a_product_by_hand() -> None:
    node = onnx.helper.make_node
    model = make_model(
        [
            node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Conv", ["y", "d"], ["z"], pads=[1, 1, 1, 1], group=16),
            node("Relu", ["z"], ["r"]),
            node("MatMul", ["r", "m"], ["out"]),
        ],
        {"w": np.zeros((16, 3, 3, 3), np.float32), "d": np.zeros((16, 1, 3, 3), np.float32), "m": np.zeros((10, 7), np.float32)},
        ("x", 1, [1, 3, 20, 20]),
        ("out", 1, [1, 16, 10, 7]),
    )
    cost = count_cost(model, ["detect"] * 3 + ["members"])
    pixels = 10 * 10
    assert cost["detect"]["dense fp32"] == Cost(16 * pixels * 3 * 9, 4 * (3 * 400 + 16 * 3 * 9 + 16 * pixels))
    assert cost["detect"]["depthwise fp32"] == Cost(16 * pixels * 9, 4 * (16 * pixels + 16 * 9 + 16 * pixels))
    assert cost["detect"]["other"] == Cost(0, 4 * 2 * 16 * pixels)
    assert cost["members"] == {"dense fp32": Cost(16 * 10 * 7 * 10, 4 * (16 * pixels + 70 + 16 * 70))}


@pytest.mark.parametrize("both", [True, False])
def test_a_layer_is_8_bit_when_its_weights_and_its_film_are(both: bool) -> None:
    node = onnx.helper.make_node
    film = [node("QuantizeLinear", ["x", "s", "zero"], ["q"]), node("DequantizeLinear", ["q", "s", "zero"], ["f"])] if both else []
    model = make_model(
        [*film, node("DequantizeLinear", ["w8", "s"], ["w"]), node("Conv", ["f" if both else "x", "w"], ["out"])],
        {"w8": np.zeros((8, 4, 1, 1), np.int8), "s": np.float32(1), "zero": np.uint8(0)},
        ("x", 1, [1, 4, 5, 5]),
        ("out", 1, [1, 8, 5, 5]),
    )
    (kinds,) = count_cost(model, ["members"] * len(model.graph.node)).values()
    macs = 8 * 25 * 4
    expected = Cost(macs, 100 + 32 + 200) if both else Cost(macs, 400 + 32 + 800)
    assert kinds == {"dense int8" if both else "dense fp32": expected}


def test_lite0_counts_what_torch_counts_and_its_authors_published() -> None:
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = timm.create_model("efficientnet_lite0").eval()
    film = torch.zeros(1, 3, 224, 224)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network(film)
    program = torch.onnx.export(network, (film,), dynamo=True, verbose=False)
    assert program is not None
    (kinds,) = count_cost(program.model_proto, ["members"] * len(program.model_proto.graph.node)).values()
    macs = sum(kind.macs for kind in kinds.values())
    assert macs == counter.get_total_flops() // 2  # a multiply-add is two of its operations
    assert macs == pytest.approx(0.4e9, rel=0.05)  # timm's table: 0.40 G


def test_an_unknown_shape_is_an_error() -> None:
    model = make_model([onnx.helper.make_node("Relu", ["x"], ["out"])], {}, ("x", 1, ["n", 3]), ("out", 1, ["n", 3]))
    with pytest.raises(InputError, match=r"the shape of tensor '.*' is not known"):
        count_cost(model, ["detect"])


def test_a_stage_takes_as_long_as_the_longer_of_arithmetic_and_traffic() -> None:
    cost = {
        "detect": {"dense int8": Cost(10_000_000, 10_000), "depthwise fp32": Cost(1_000_000, 10_000), "other": Cost(0, 10**12)},
        "crop": {"dense fp32": Cost(1_000, 40_000_000)},
    }
    floors = bound_time(cost, {"dense int8": 10e9, "dense fp32": 5e9, "depthwise fp32": 1e9}, 10e9)
    assert floors == pytest.approx({"detect": 1.0 + 1.0, "crop": 4.0})


@pytest.mark.parametrize("eight", [True, False])
def test_the_layers_of_a_peak_run_and_are_counted_right(eight: bool) -> None:
    import onnxruntime

    model, macs = make_layers(8, 8, 3, 8, 10, eight)
    onnx.checker.check_model(model, full_check=True)
    assert macs == DEPTH * 8 * 100 * 9
    (kinds,) = count_cost(model, ["detect"] * DEPTH).values()
    assert {kind: each.macs for kind, each in kinds.items()} == {f"depthwise {'int8' if eight else 'fp32'}": macs}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    film = np.zeros((1, 8, 10, 10), np.uint8 if eight else np.float32)
    assert session.run(None, {"x0": film})[0].shape == (1, 8, 10, 10)


def test_the_stages_of_a_pipeline_are_those_of_its_modules(tiny_bundle: Path, tiny_run: Path) -> None:
    from edgekit.graphs.places import find_places
    from edgekit.latency.stages import find_stages
    from edgekit.models.runfolder import load_pipeline

    graph = onnx.load(tiny_bundle / "model.onnx").graph
    places = find_places(load_pipeline(tiny_run, "ap+lateral"))
    pairs = {(places.find(node.name).stage, stage) for node, stage in zip(graph.node, find_stages(graph), strict=True)}
    told = {module: {stage for name, stage in pairs if name == module} for module in ("detector", "members", "ensemble")}
    assert told == {"detector": {"detect"}, "members": {"members"}, "ensemble": {"ensemble"}}
    assert ("geometry", "crop") in pairs


def test_a_profile_is_shared_out_whole() -> None:
    from edgekit.latency.stages import share_time

    def kernel(name: str, ts: int, dur: int) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur}

    run = {"cat": "Session", "name": "model_run", "dur": 100}
    events = [
        {**run, "ts": 0}, kernel("a", 1, 99),  # the first run warms up
        {**run, "ts": 200}, kernel("a", 201, 50), kernel("b", 260, 20), kernel("new", 290, 5),
    ]  # fmt: skip
    shares = share_time(events, {"a": "detect", "b": "crop"}, warmup=1)
    assert shares == pytest.approx({"detect": 0.5, "crop": 0.2, "members": 0.0, "ensemble": 0.0, "unattributed": 0.05, "overhead": 0.25})
