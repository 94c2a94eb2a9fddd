from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.formats.engine_layers import EngineLayer, find_fallbacks, read_builder_log, read_inspector

RECORDED = Path(__file__).parents[1] / "golden" / "engine_layers"


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
