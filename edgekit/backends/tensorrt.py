"""TensorRT on Jetson and data-centre GPUs: an ONNX file that the device builds its engine from.

An engine belongs to one GPU, one version of TensorRT and one system, so the bundle ships the graph and ``runner/run.py`` builds on the
device. Precision lives in the graph: float16 casts, or explicit symmetric quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.backends.onnx import VERSIONED as VERSIONED
from edgekit.backends.onnx import describe as describe
from edgekit.backends.tensorrt_rtx import parse_graph
from edgekit.errors import MissingError
from edgekit.formats.engine_layers import PROMISE
from edgekit.formats.tensorrt_rtx import import_tensorrt_rtx
from edgekit.graphs.exporting import MODEL
from edgekit.graphs.places import check_stages
from edgekit.graphs.tensorrt import write_model
from edgekit.sessions import onnxruntime, onnxruntime_rounded, tensorrt
from edgekit.types import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.types import Target

EXTRAS: tuple[str, ...] = ("train", "export")
SETTINGS: dict[str, type] = {"opset": int}
OPTIONS: dict[str, tuple[str, ...]] = {}
PRECISIONS: dict[str, tuple[str, ...]] = {
    "detector": ("fp32", "fp16", "w8a8"),
    "geometry": ("fp32",),
    "members": ("fp32", "fp16", "w8a8"),
    "ensemble": ("fp32",),
}
IN_HALVES: tuple[str, ...] = ("fp16",)
SESSIONS: dict[str, SessionModule] = {"onnxruntime": onnxruntime, "onnxruntime-rounded": onnxruntime_rounded, "tensorrt": tensorrt}
EMULATED = False


def list_missing() -> list[str]:
    """Return nothing: it converts on any machine."""
    return []


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
    """Write ``model.onnx`` and what tells its precisions; see `edgekit.backends.Backend`.

    Raises
    ------
    InputError
        The recipe asks for a precision or an opset that is not made, or TensorRT does not take the graph: so say its published tables
        (`edgekit.graphs.tensorrt`), or the parser of TensorRT-RTX where that is installed.
    """
    check_stages(target, PRECISIONS)
    promised, files = write_model(pipeline, target, folder, calibration)
    try:
        parse_graph((folder / MODEL).read_bytes())
        read = f"TensorRT-RTX {import_tensorrt_rtx().__version__}'s parser reads the graph; TensorRT's own did not run"
    except MissingError:
        read = "no parser of NVIDIA's has read the graph: TensorRT-RTX is not installed here"
    return Artifact(
        model=MODEL,
        files=tuple(files),
        unproven=(
            f"The graph keeps the published rules of TensorRT 10.3 to 11; {read}.",
            f"No engine was built: whether the device computes all {len(promised)} convolutions and products of detector and members as "
            f"{PROMISE} promises, its own arithmetic and its speed are known only there. runner/run.py builds, inspects and measures, and "
            "fails where a layer is wider than promised.",
        ),
    )
