"""ONNX: one file that onnxruntime (desktop, mobile and web) and other runtimes read."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgekit.graphs.exporting import MODEL, write_graph
from edgekit.graphs.lowering import export_lowered
from edgekit.graphs.places import check_stages
from edgekit.rewriting import IN_INTEGERS
from edgekit.sessions import browser, onnxruntime, onnxruntime_float, openvino
from edgekit.types import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.types import Target

EXTRAS: tuple[str, ...] = ("train", "export")
SETTINGS: dict[str, type] = {"opset": int}
OPTIONS: dict[str, tuple[str, ...]] = {"activations": ("uint8", "int8"), "depthwise": ("int8", "float32")}
"""Type of 8-bit activations: x86 multiplies unsigned by signed bytes, ARM signed by signed. What blocks with a depthwise convolution
compute in: WebAssembly takes five times as long for it in 8 bits as in float."""

PRECISIONS: dict[str, tuple[str, ...]] = {
    "detector": ("fp32", "fp16", "w8a8"),
    "geometry": ("fp32",),
    "members": ("fp32", "fp16", "w8a8"),
    "ensemble": ("fp32",),
}
IN_HALVES: tuple[str, ...] = ("fp16",)
SESSIONS: dict[str, SessionModule] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "browser": browser,
    "onnxruntime-float": onnxruntime_float,
}
EMULATED = True
VERSIONED: tuple[str, ...] = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "timm", "ultralytics")


def list_missing() -> list[str]:
    """Return nothing: it converts on any machine."""
    return []


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
    """Write `pipeline` as one ONNX file of standard operators with static shapes; see `edgekit.backends.Backend`.

    The same pipeline, target and calibration give the same bytes: what the exporter notes about its own run is removed.

    Raises
    ------
    InputError
        The recipe asks for a precision or an opset that this backend does not make, or an operator can't be lowered.
    """
    check_stages(target, PRECISIONS)
    model, files = export_lowered(pipeline, target, folder, calibration, target.settings["opset"], target.options, IN_INTEGERS)
    write_graph(model, pipeline, folder / MODEL)
    return Artifact(model=MODEL, files=(MODEL, *files))


def describe(model: Path) -> dict[str, Any]:
    """Return what a manifest tells about the file.

    ``opset``; ``operators``, type to number of nodes; and ``saturation``, what its 8-bit products can add up to (see
    `edgekit.quantization.saturation.Saturation`).
    """
    import onnx

    from edgekit.quantization.saturation import find_saturation

    proto = onnx.load(model)
    operators = Counter(node.op_type for node in proto.graph.node)
    return {
        "opset": proto.opset_import[0].version,
        "operators": dict(sorted(operators.items())),
        "saturation": asdict(find_saturation(proto)),
    }
