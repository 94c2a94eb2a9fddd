"""Every backend and session of ours keeps the contract that others are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.backends import coreml, litert, onnx, tensorrt, tensorrt_rtx
from edgekit.manifest import open_bundle
from edgekit.testing import BackendContract, SessionContract
from edgekit.types import Bundle

OPSET = {"opset": 20}
ENGINES = {**OPSET, "compute_capabilities": ["8.6"]}
SYSTEM = {"minimum_os": "iOS17"}


class TestOnnx(BackendContract):
    name, backend, settings = "onnx", onnx, OPSET


class TestLiteRt(BackendContract):
    name, backend = "litert", litert


class TestCoreML(BackendContract):
    name, backend, settings = "coreml", coreml, SYSTEM


class TestTensorRT(BackendContract):
    name, backend, settings = "tensorrt", tensorrt, OPSET


class TestTensorRTRTX(BackendContract):
    name, backend, settings = "tensorrt-rtx", tensorrt_rtx, ENGINES


class TestOnnxRuntime(SessionContract):
    name, backend, settings, session = "onnx", onnx, OPSET, "onnxruntime"


class TestOpenVino(SessionContract):
    name, backend, settings, session = "onnx", onnx, OPSET, "openvino"


class TestLiteRtSession(SessionContract):
    name, backend, session = "litert", litert, "litert"


@pytest.mark.browser
class TestBrowser(SessionContract):
    name, backend, session = "onnx", onnx, "browser"

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tiny_run: Path) -> Path:
        return tiny_run

    @pytest.fixture(scope="class")
    @classmethod
    def bundle(cls, web_bundle: Path) -> Bundle:
        return open_bundle(web_bundle)  # it needs the web target's runner


class TestOnnxRuntimeFloat(SessionContract):
    name, backend, session = "onnx", onnx, "onnxruntime-float"

    @pytest.fixture(scope="class")
    @classmethod
    def bundle(cls, eight_bit_bundle: Path) -> Bundle:
        return open_bundle(eight_bit_bundle)


class TestCoreMLReference(SessionContract):
    name, backend, settings, session = "coreml", coreml, SYSTEM, "coreml-reference"


class TestCoreMLDevice(SessionContract):
    name, backend, settings, session = "coreml", coreml, SYSTEM, "coreml"


class TestOnnxRuntimeRounded(SessionContract):
    name, backend, settings, session = "tensorrt", tensorrt, OPSET, "onnxruntime-rounded"


class TestTensorRTDevice(SessionContract):
    name, backend, settings, session = "tensorrt", tensorrt, OPSET, "tensorrt"


class TestOnnxRuntimeCuda(SessionContract):
    name, backend, settings, session = "tensorrt-rtx", tensorrt_rtx, ENGINES, "onnxruntime-cuda"


class TestTensorRTRTXDevice(SessionContract):
    name, backend, settings, session = "tensorrt-rtx", tensorrt_rtx, ENGINES, "tensorrt-rtx"
