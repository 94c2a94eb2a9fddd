from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pedicle_screws import describe_inputs, make_manifest

from edgekit.backends import tensorrt_rtx as backend
from edgekit.errors import GateError, InputError, MissingError
from edgekit.formats.engine_layers import find_fallbacks
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.rewriting import halve
from edgekit.sessions import tensorrt_rtx as session_module
from edgekit.sessions.cuda_engine import Gpu
from edgekit.targets import load_target
from edgekit.types import Bundle

pytest.importorskip("tensorrt_rtx_bindings", reason="pip install 'edgekit-imaging[export]' on Linux x86-64 runs this")

CONVOLUTION = "members.ap.network.conv_stem/conv2d_1"


def small_graph() -> Any:
    """A convolution with ReLU, float32."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8, 16, 16)) for name in ("x", "y")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name=CONVOLUTION, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="members.ap.network.bn1/relu"),
    ]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_float16_graph_becomes_a_float16_engine_and_a_float32_one_is_noticed() -> None:
    model = small_graph()
    engine, layers = backend.build_engine(halve(model, set()).SerializeToString(), "8.6")
    assert len(engine) > 10_000
    assert find_fallbacks(layers, {CONVOLUTION: "fp16"}) == []
    _, layers = backend.build_engine(model.SerializeToString(), "8.6")
    (fault,) = find_fallbacks(layers, {CONVOLUTION: "fp16"})
    assert f"'{CONVOLUTION}' is computed in fp32, not fp16" in fault


def test_two_engines_of_a_graph_differ_at_most_in_the_order_of_their_bytes() -> None:
    model = halve(small_graph(), set()).SerializeToString()
    first, second = (np.frombuffer(backend.build_engine(model, "8.9")[0], np.uint8) for _ in range(2))
    assert len(first) == len(second)
    np.testing.assert_array_equal(np.bincount(first, minlength=256), np.bincount(second, minlength=256))


def test_what_the_parser_refuses_is_told_by_node() -> None:
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4,)), helper.make_tensor_value_info("y", TensorProto.INT64, (1,))]
    graph = helper.make_graph([helper.make_node("ArgMax", ["x"], ["y"], name="top brand")], "test", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(InputError, match=r"TensorRT-RTX 1\.\S+ does not read the graph: node 'top brand'"):
        backend.build_engine(model.SerializeToString(), "8.6")


@pytest.mark.parametrize("capability", ["8.7", 8.6, "sm86"])
def test_a_compute_capability_that_is_not_compiled_for_is_refused(capability: object, tmp_path: Path) -> None:
    target = load_target("desktop-gpu")
    with pytest.raises(InputError, match="compute capability") as raised:
        backend.convert(
            None, replace(target, settings={**target.settings, "compute_capabilities": [capability]}), tmp_path, CalibrationPatients()
        )
    assert "8.6 (RTX 30" in raised.value.remedy


def test_a_machine_without_tensorrt_rtx_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(MissingError, match="TensorRT-RTX does not load") as raised:
        backend.convert(None, load_target("desktop-gpu"), tmp_path, CalibrationPatients())
    assert "pip install 'edgekit-imaging[export]'" in raised.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny pipeline converted for two GPUs, as far as a session looks at it."""
    folder = tmp_path_factory.mktemp("desktop-gpu")
    target = load_target("desktop-gpu")
    target = replace(target, settings={**target.settings, "compute_capabilities": ["8.6", "12.0"]})
    artifact = backend.convert(load_pipeline(tiny_run, "ap+lateral"), target, folder, CalibrationPatients())
    assert artifact.files == ("model.onnx", "precisions.json", "engine-sm86.trt", "engine-sm120.trt")
    assert "without a GPU" in artifact.unproven[0]
    assert "no engine has been loaded or run" in artifact.unproven[0]
    return Bundle(folder, make_manifest(model=artifact.model, tensors={"inputs": describe_inputs(128)}))


def test_every_convolution_of_the_pipeline_is_found_in_the_engines(bundle: Bundle) -> None:
    promised = json.loads((bundle.folder / "precisions.json").read_text())
    convolutions = [node.name for node in onnx.load(bundle.model).graph.node if node.op_type == "Conv"]
    assert set(convolutions) < set(promised)
    assert set(promised.values()) == {"fp16"}
    _, layers = backend.build_engine(bundle.model.read_bytes(), "8.6")
    assert find_fallbacks(layers, promised) == []
    assert len(find_fallbacks(layers, dict.fromkeys(promised, "int8"))) == len(promised)


def test_an_engine_that_falls_back_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("desktop-gpu")
    monkeypatch.setattr("edgekit.graphs.tensorrt.export_lowered", lambda *_, **__: (small_graph(), ()))
    monkeypatch.setattr("edgekit.graphs.tensorrt.list_precisions", lambda *_: {CONVOLUTION: "fp16"})
    monkeypatch.setattr("edgekit.graphs.tensorrt.find_places", lambda _: None)
    monkeypatch.setattr(
        "edgekit.graphs.tensorrt.write_graph",
        lambda model, pipeline, path: path.write_bytes(model.SerializeToString()),  # noqa: ARG005
    )
    with pytest.raises(GateError, match=r"compute capability 8.6 computes 1 of 1 layers wider than the recipe says: .* fp32, not fp16"):
        backend.convert(None, target, tmp_path, CalibrationPatients())


def test_a_gpu_gets_the_engine_of_its_compute_capability(bundle: Bundle) -> None:
    assert session_module.choose_engine(bundle, Gpu("RTX 5090", "12.0")).name == "engine-sm120.trt"
    with pytest.raises(
        MissingError, match=r"no engine for RTX 4090, compute capability 8.9: it has engine-sm86.trt, engine-sm120.trt"
    ) as raised:
        session_module.choose_engine(bundle, Gpu("RTX 4090", "8.9"))
    assert 'add "8.9" to compute_capabilities' in raised.value.remedy


@pytest.mark.gpu
def test_the_engine_runs_on_a_gpu(bundle: Bundle) -> None:
    canvas = np.zeros((1, 1, 128, 128), np.uint8)
    with session_module.open_session(bundle) as session:
        found = session.infer({"ap": canvas, "lateral": canvas, "present": np.array([1, 0], np.float32)})
    assert found["probabilities"].shape == (3,)
