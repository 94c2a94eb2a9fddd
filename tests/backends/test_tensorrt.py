from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from pedicle_screws import describe_inputs, make_manifest

from edgekit.backends import tensorrt as backend
from edgekit.contract import OUTPUTS
from edgekit.errors import GateError, InputError, MissingError
from edgekit.formats.engine_layers import find_fallbacks
from edgekit.graphs.tensorrt import check_graph
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.sessions import cuda_engine, onnxruntime_cuda, onnxruntime_rounded
from edgekit.sessions import tensorrt as session_module
from edgekit.sessions.cuda_engine import Gpu
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.targets import load_target
from edgekit.types import Bundle


@pytest.fixture(scope="module")
def half_bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny pipeline converted to jetson:fp16, as far as a session looks at it."""
    folder = tmp_path_factory.mktemp("jetson")
    artifact = backend.convert(load_pipeline(tiny_run, "ap+lateral"), load_target("jetson:fp16"), folder, CalibrationPatients())
    assert sorted(artifact.files) == sorted(path.name for path in folder.iterdir()) == ["model.onnx", "precisions.json"]
    assert "No engine was built" in artifact.unproven[1]
    assert "the published rules of TensorRT 10.3 to 11" in artifact.unproven[0]
    manifest = make_manifest(model=artifact.model, sessions=("onnxruntime-rounded",), tensors={"inputs": describe_inputs(128)})
    return Bundle(folder, manifest)


def canvases() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    films = {view: random.integers(0, 256, (1, 1, 128, 128), np.uint8) for view in ("ap", "lateral")}
    return {**films, "present": np.ones(2, np.float32)}


def test_the_converted_pipeline_promises_float16_for_every_layer_of_its_networks(half_bundle: Bundle) -> None:
    promised = json.loads((half_bundle.folder / "precisions.json").read_text())
    model = onnx.load(half_bundle.model)
    assert set(promised.values()) == {"fp16"}
    assert len(promised) == sum(each.op_type in ("Conv", "Gemm") for each in model.graph.node)
    check_graph(model)


def test_the_rounded_session_answers_in_the_graphs_own_types(half_bundle: Bundle) -> None:
    with onnxruntime_rounded.open_session(half_bundle, 1) as session:
        found = session.infer(canvases())
        assert session.name == "onnxruntime-rounded"
        assert "float16 results rounded" in session.runtime
    assert list(found) == list(OUTPUTS)
    assert found["decision"].dtype == np.int32
    assert found["boxes"].dtype == np.float32


def test_the_8_bit_pipeline_is_taken_and_every_convolution_becomes_int8(tiny_run: Path, tmp_path: Path) -> None:
    target = load_target("jetson")
    assert target.calibration is not None
    unrepaired = replace(target, calibration=replace(target.calibration, changed=0.99))
    artifact = backend.convert(
        load_pipeline(tiny_run, "ap+lateral"), unrepaired, tmp_path, CalibrationPatients([canvases()] * 4, ("a", "b") * 2)
    )
    assert artifact.files == ("model.onnx", "precisions.json", "quantization.json")
    promised = json.loads((tmp_path / "precisions.json").read_text())
    assert {kind for name, kind in promised.items() if "/conv2d" in name} == {"int8"}
    assert {kind for name, kind in promised.items() if "/linear" in name} == {"fp32"}
    pytest.importorskip("tensorrt_rtx_bindings", reason="pip install 'edgekit-imaging[export]' runs the rest of this")
    from edgekit.backends.tensorrt_rtx import build_engine

    _, layers = build_engine((tmp_path / "model.onnx").read_bytes(), "8.9")
    assert find_fallbacks(layers, promised) == []


def test_an_opset_that_tensorrt_does_not_read_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    target = load_target("jetson:fp16")
    with pytest.raises(InputError, match="opset 21"):
        backend.convert(load_pipeline(tiny_run, "ap+lateral"), replace(target, settings={"opset": 21}), tmp_path, CalibrationPatients())


def test_a_machine_without_the_package_or_the_gpu_is_told_what_to_do(half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingError, match="tensorrt does not load") as raised:
        session_module.open_session(half_bundle)
    assert "edgekit-imaging[tensorrt]" in raised.value.remedy
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(MissingError, match="cuda-python does not load"):
        cuda_engine.find_gpu()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(MissingError, match="has no CUDAExecutionProvider"):
            onnxruntime_cuda.open_session(half_bundle)


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver:
        class cudaError_t:
            cudaSuccess = "fine"

        class Error:
            name = "cudaErrorInsufficientDriver"

        def cudaGetDeviceCount(self) -> tuple[Any, int]:
            return self.Error, 0

    monkeypatch.setattr(cuda_engine, "import_cuda", NoDriver)
    with pytest.raises(MissingError, match="no NVIDIA GPU that CUDA can use here \\(cudaErrorInsufficientDriver\\)"):
        cuda_engine.find_gpu()


def test_a_graph_of_which_a_node_strays_to_the_cpu_is_refused(half_bundle: Bundle) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(half_bundle.model), options, providers=["CPUExecutionProvider"])
    onnxruntime_cuda.refuse_other_providers(session, "CPUExecutionProvider")
    with pytest.raises(MissingError, match=r"outside CUDAExecutionProvider, in CPUExecutionProvider: .*Conv"):
        onnxruntime_cuda.refuse_other_providers(session, "CUDAExecutionProvider")


class InspectedEngine:
    """An engine as far as the inspector goes."""

    LayerInformationFormat = type("Format", (), {"JSON": 1})

    def __init__(self, kind: str, nodes: list[str]) -> None:
        tensor = {"Datatype": kind}
        self.layers = [
            {
                "Name": f"{name}_myl0_1",
                "LayerType": "correlation",
                "Metadata": f"[ONNX Layer: {name}]",
                "Inputs": [tensor],
                "Constants": [tensor],
            }
            for name in nodes
        ]

    def create_engine_inspector(self) -> InspectedEngine:
        return self

    def get_engine_information(self, _: int) -> str:
        return json.dumps({"Layers": self.layers})


def test_an_engine_that_fell_back_is_not_opened(half_bundle: Bundle) -> None:
    nodes = list(json.loads((half_bundle.folder / "precisions.json").read_text()))
    good, fallen = InspectedEngine("Half", nodes), InspectedEngine("Float", nodes)
    cuda_engine.require_precisions(good, good, half_bundle)
    with pytest.raises(GateError, match=f"falls back in {len(nodes)} of {len(nodes)} layers: .* is computed in fp32, not fp16"):
        cuda_engine.require_precisions(fallen, fallen, half_bundle)


def load_double(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "gpu_doubles" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_session_carries_every_tensor_to_the_gpu_and_back(half_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = list(json.loads((half_bundle.folder / "precisions.json").read_text()))
    (tmp_path / "layers.json").write_text(InspectedEngine("Half", nodes).get_engine_information(1))
    monkeypatch.setenv("LAYERS", str(tmp_path / "layers.json"))
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds.txt"))
    monkeypatch.setitem(sys.modules, "tensorrt", load_double("library"))
    card = load_double("cuda_runtime")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", card)
    with session_module.open_session(half_bundle) as session:
        assert (session.name, session.runtime) == ("tensorrt", "tensorrt 10.3.0 on Test Card")
        found = session.infer(canvases())
        with pytest.raises(InputError, match="'ap' is uint8"):
            session.infer({**canvases(), "ap": np.zeros((1, 1, 64, 64), np.uint8)})
    assert card.held == {}  # all memory was given back
    with OnnxRuntimeSession(half_bundle.model, half_bundle.manifest.tensors["inputs"], 1) as plain:
        expected = plain.infer(canvases())
    assert list(found) == list(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.gpu
def test_the_engine_answers_on_a_gpu_as_the_rounded_graph_does(half_bundle: Bundle) -> None:
    pytest.importorskip("tensorrt", reason="pip install 'edgekit-imaging[tensorrt]' on a machine with an NVIDIA GPU runs this")
    assert isinstance(cuda_engine.find_gpu(), Gpu)
    with session_module.open_session(half_bundle) as session, onnxruntime_rounded.open_session(half_bundle, 1) as reference:
        found, expected = session.infer(canvases()), reference.infer(canvases())
    assert np.abs(found["view_scores"] - expected["view_scores"]).max() < 0.02
