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
from onnx import TensorProto, helper, numpy_helper

from edgekit.backends import tensorrt as backend
from edgekit.backends.engine_layers import EngineLayer, find_fallbacks, read_builder_log, read_inspector
from edgekit.backends.tensorrt_graph import check_graph, list_precisions
from edgekit.errors import GateError, InputError, MissingError
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.sessions import cuda_engine, onnxruntime_cuda, onnxruntime_rounded
from edgekit.sessions import tensorrt as session_module
from edgekit.sessions.cuda_engine import Gpu
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.targets import load_target
from edgekit.types import OUTPUTS, Bundle

RECORDED = Path(__file__).parents[1] / "golden" / "engine_layers"
FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64
ZERO, SCALE = np.int8(0), np.float32(0.1)


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
    assert list_precisions(model) == {"members.ap.network.conv_stem/conv2d_1": "int8"}


def test_a_promise_is_the_type_of_the_weights_and_only_for_the_networks() -> None:
    names = ("detector.network.model.0/conv2d", "members.ap.network.conv_head/conv2d_2", "conv2d_3")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name=names[0]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["b", "h"], ["c"], name=names[1]),
        helper.make_node("Conv", ["c", "h"], ["y"], name=names[2]),
    ]
    weight = np.ones((4, 4, 1, 1), np.float32)
    assert list_precisions(film(*nodes, w=weight, h=weight.astype(np.float16))) == {names[0]: "fp32", names[1]: "fp16"}


def test_the_inspectors_layers_tell_their_precision() -> None:
    layers = read_inspector(json.loads((RECORDED / "tensorrt-10-int8.json").read_text()))
    assert [layer.kind for layer in layers] == ["CaskConvolution", "CudaDepthwiseConvolution", "CaskConvolution", "Reformat"]
    # the third adds a float16 residual to its int8 product
    assert [layer.precision for layer in layers] == ["int8", "int8", "int8", "fp16"]
    assert "Conv_142" in layers[2].nodes


def test_the_builders_log_tells_them_too() -> None:
    helper_layer, stem, depthwise, product = read_builder_log([(RECORDED / "tensorrt-rtx-1.7-fp16.log").read_text()])
    assert (helper_layer.kind, helper_layer.precision) == ("kgen", "fp32")
    assert [layer.kind for layer in (stem, depthwise, product)] == ["correlation", "correlation", "runtime_fusion"]
    assert {layer.precision for layer in (stem, depthwise, product)} == {"fp16"}
    assert product.nodes == ("members.ap.network.blocks.6.0.conv_pwl/conv2d_132",)
    assert [layer.precision for layer in read_builder_log([(RECORDED / "tensorrt-rtx-1.7-int8.log").read_text()])] == ["fp32", "int8"]


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        ({"Inputs": [{"Datatype": "Half"}], "Constants": [{"Datatype": "Half"}, {"Datatype": "Float"}]}, None),
        ({"Inputs": [{"Format/Datatype": "Row major linear FP16 format"}], "Weights": {"Type": "Half"}}, None),
        ({"Inputs": [{"Datatype": "Float"}], "Constants": [{"Datatype": "Float"}]}, "is computed in fp32, not fp16"),
        ({"Inputs": [{"Format/Datatype": "Row major linear FP32"}], "Weights": {"Type": "Float"}}, "is computed in fp32, not fp16"),
        # 8-bit weights beside float data are stored small and multiplied as float
        ({"Inputs": [{"Datatype": "Float"}], "Constants": [{"Datatype": "Int8"}]}, "is computed in fp32, not fp16"),
        ({"Inputs": [], "Constants": []}, "no layer of the engine says that it computes"),
    ],
)
def test_a_silent_fallback_is_found(layer: dict[str, Any], fault: str | None) -> None:
    engine = {"Layers": [{"Name": "a_myl0_3", "LayerType": "correlation", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]", **layer}]}
    faults = find_fallbacks(read_inspector(engine), {"a": "fp16"})
    assert (faults == []) if fault is None else (len(faults) == 1 and fault in faults[0])


def test_a_convolution_in_float32_is_not_excused_by_the_layer_that_converts_for_it() -> None:
    layers = [EngineLayer("a", "correlation", ("conv",), "fp32"), EngineLayer("b", "kgen", ("conv",), "fp16")]
    assert len(find_fallbacks(layers, {"conv": "fp16"})) == 1
    assert find_fallbacks(layers[1:], {"conv": "fp16"}) == []


def test_an_engine_that_tells_names_only_is_not_taken_for_a_good_one() -> None:
    with pytest.raises(ValueError, match="not built with profiling verbosity DETAILED"):
        read_inspector({"Layers": ["conv1", "conv2"]})


@pytest.fixture(scope="module")
def half_bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny pipeline converted to jetson:fp16, as far as a session looks at it."""
    folder = tmp_path_factory.mktemp("jetson")
    artifact = backend.convert(load_pipeline(tiny_run, "ap+lateral"), load_target("jetson:fp16"), folder, CalibrationPatients())
    assert sorted(artifact.files) == sorted(path.name for path in folder.iterdir()) == ["model.onnx", "precisions.json"]
    assert "No engine was built" in artifact.unproven[1]
    assert "the published rules of TensorRT 10.3 to 11" in artifact.unproven[0]
    return Bundle(folder, {"model": artifact.model, "canvas": {"side": 128}, "sessions": ["onnxruntime-rounded"]})


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
    with OnnxRuntimeSession(half_bundle.model, 128, 1) as plain:
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
