"""TensorRT-RTX: engines for RTX GPUs, compiled ahead of time on a machine without a GPU.

Beside ``model.onnx`` there is one engine for each compute capability that the recipe names, ``engine-sm86.trt``. The GPU's own machine
finishes it within seconds when it is loaded; nothing else has to be built there.
"""

from __future__ import annotations

import platform
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from edgekit.backends.onnx import VERSIONED as ONNX_VERSIONED
from edgekit.backends.onnx import describe as describe
from edgekit.errors import GateError, InputError
from edgekit.formats.engine_layers import EngineLayer, find_fallbacks, read_builder_log
from edgekit.formats.tensorrt_rtx import engine_name, import_tensorrt_rtx
from edgekit.graphs.exporting import MODEL
from edgekit.graphs.places import check_stages
from edgekit.graphs.tensorrt import write_model
from edgekit.sessions import onnxruntime, onnxruntime_cuda, onnxruntime_rounded, tensorrt_rtx
from edgekit.types import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.types import Target

EXTRAS: tuple[str, ...] = ("train", "export")
SETTINGS: dict[str, type] = {"opset": int, "compute_capabilities": list}
OPTIONS: dict[str, tuple[str, ...]] = {}
PRECISIONS: dict[str, tuple[str, ...]] = {
    "detector": ("fp32", "fp16"),
    "geometry": ("fp32",),
    "members": ("fp32", "fp16"),
    "ensemble": ("fp32",),
}
IN_HALVES: tuple[str, ...] = ("fp16",)
SESSIONS: dict[str, SessionModule] = {
    "onnxruntime": onnxruntime,
    "onnxruntime-rounded": onnxruntime_rounded,
    "onnxruntime-cuda": onnxruntime_cuda,
    "tensorrt-rtx": tensorrt_rtx,
}
EMULATED = False
VERSIONED: tuple[str, ...] = (*ONNX_VERSIONED, "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs")

CAPABILITIES = {
    "7.5": "Turing",
    "8.0": "A100",
    "8.6": "RTX 30, RTX A",
    "8.9": "RTX 40, RTX Ada",
    "12.0": "RTX 50, RTX PRO Blackwell",
    "12.1": "DGX Spark",
}
"""Compute capabilities that TensorRT-RTX compiles for without the GPU, and what has them."""


def list_missing() -> list[str]:
    """Return what this machine is not: NVIDIA's compiler runs on Linux on x86-64 only."""
    return [] if (sys.platform, platform.machine()) == ("linux", "x86_64") else ["Linux on x86-64"]


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
    """Write ``model.onnx``, what tells its precisions, and an engine for each compute capability; see `edgekit.backends.Backend`.

    The same pipeline and target give the same ``model.onnx``. Two engines of it have the same bytes but for the order of the outputs
    in three tables, which the compiler sorts by the addresses of its objects in memory.

    Raises
    ------
    InputError
        The recipe asks for a precision, a compute capability or an opset that is not made, or TensorRT does not take the graph.
    GateError
        An engine computes a convolution of the detector or a member wider than the recipe says.
    MissingError
        TensorRT-RTX is not installed.
    """
    check_stages(target, PRECISIONS)
    capabilities = target.settings["compute_capabilities"]
    for capability in capabilities:
        if capability not in CAPABILITIES:
            accepted = ", ".join(f"{name} ({gpus})" for name, gpus in CAPABILITIES.items())
            raise InputError(f"recipe of {target.name}: compute capability {capability!r}", f"accepted: {accepted}")
    rtx = import_tensorrt_rtx()
    promised, files = write_model(pipeline, target, folder, calibration)
    for capability in capabilities:
        files.append(engine_name(capability))
        engine, layers = build_engine((folder / MODEL).read_bytes(), capability)
        (folder / files[-1]).write_bytes(engine)
        if faults := find_fallbacks(layers, promised):
            raise GateError(
                f"the engine for compute capability {capability} computes {len(faults)} of {len(promised)} layers wider than the recipe "
                f"says: {faults[0]}",
                "give the stage the wider precision, or use another version of tensorrt-rtx",
            )
    kept = " and ".join(f"{number} in {precision}" for precision, number in sorted(Counter(promised.values()).items()))
    return Artifact(
        model=MODEL,
        files=tuple(files),
        unproven=(
            f"The engines were compiled by TensorRT-RTX {rtx.__version__} without a GPU. The compiler's own list of their layers says that "
            f"they compute the convolutions and products of detector and members as promised ({kept}); no engine has been loaded or run, "
            "and the GPU chooses its kernels when it loads one.",
            "Whether a GPU adds products up in float16 or in float32, and how fast it is, is known only there: run runner/run.py on it.",
        ),
    )


def parse_graph(model: bytes) -> Any:
    """Let TensorRT-RTX's parser read an ONNX file as a strongly typed network.

    Returns
    -------
    builder, network, log
        The network lives as long as the builder.

    Raises
    ------
    InputError
        The parser refuses it; the message names the node.
    MissingError
        TensorRT-RTX is not installed.
    """
    rtx = import_tensorrt_rtx()
    log = _open_log(rtx)
    builder = rtx.Builder(log)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log)
    if not parser.parse(model):
        faults = [parser.get_error(index) for index in range(parser.num_errors)]
        told = "; ".join(f"node '{fault.node_name()}': {fault.desc().splitlines()[-1]}" for fault in faults)
        raise InputError(f"TensorRT-RTX {rtx.__version__} does not read the graph: {told}", "change the model, or export another target")
    return builder, network, log


def build_engine(model: bytes, capability: str) -> tuple[bytes, list[EngineLayer]]:
    """Compile an ONNX file for one compute capability.

    Returns
    -------
    engine, layers
        The file's content, and its layers as the compiler lists them.

    Raises
    ------
    InputError
        TensorRT-RTX refuses the graph.
    MissingError
        TensorRT-RTX is not installed.
    """
    rtx = import_tensorrt_rtx()
    builder, network, log = parse_graph(model)
    config = builder.create_builder_config()
    config.profiling_verbosity = rtx.ProfilingVerbosity.DETAILED  # without it neither the log nor the engine tells its layers' types
    config.clear_flag(rtx.BuilderFlag.TF32)  # float32 is float32: 10 bits of a canvas coordinate are not enough
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(rtx.ComputeCapability, f"SM{capability.replace('.', '')}"), 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise InputError(f"TensorRT-RTX {rtx.__version__} can't compile for {capability}: {'; '.join(log.errors)}")
    return bytes(engine), read_builder_log(log.lines)


def _open_log(rtx: Any) -> Any:
    """Return a logger that keeps all messages in ``lines`` and those of errors in ``errors`` as well."""

    class Log(rtx.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(message)
            if severity in (rtx.ILogger.Severity.ERROR, rtx.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()
