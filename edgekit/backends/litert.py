"""LiteRT: one ``.tflite`` file for Android, browsers and Python, whose convolutions and products XNNPACK computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.formats.litert import count_operators, import_schema
from edgekit.graphs.exporting import describe_file
from edgekit.graphs.lowering import export_lowered
from edgekit.graphs.places import check_stages
from edgekit.litert.operators import lower_graph
from edgekit.rewriting import BY_GATHERING
from edgekit.sessions import browser, browser_compat, litert
from edgekit.types import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.types import Target

EXTRAS: tuple[str, ...] = ("train", "export", "litert")
SETTINGS: dict[str, type] = {}
OPTIONS: dict[str, tuple[str, ...]] = {}
PRECISIONS: dict[str, tuple[str, ...]] = {
    "detector": ("fp32", "w8a16", "w8a8"),
    "geometry": ("fp32",),
    "members": ("fp32", "w8a16", "w8a8"),
    "ensemble": ("fp32",),
}
"""In w8a16 the weights are stored in 8 bits, and everything is computed in float32."""
IN_HALVES: tuple[str, ...] = ()
SESSIONS: dict[str, SessionModule] = {"litert": litert, "browser": browser, "browser-compat": browser_compat}
EMULATED = True
VERSIONED: tuple[str, ...] = ("torch", "onnx", "onnxscript", "onnxruntime", "ai-edge-litert", "numpy", "timm", "ultralytics")
MODEL = "model.tflite"
ACTIVATIONS = "int8"
"""XNNPACK's kernels with a scale for each channel of the weights read signed bytes."""
OPSET = 20


def list_missing() -> list[str]:
    """Return nothing: it converts on any machine."""
    return []


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
    """Write `pipeline` as one LiteRT file with static shapes; see `edgekit.backends.Backend`.

    The graph is the one that the ONNX backend lowers, in a form that suits LiteRT (`edgekit.rewriting.BY_GATHERING`), and it is written
    operator by operator (`edgekit.litert`). The same pipeline, target and calibration give the same bytes.

    Raises
    ------
    InputError
        The recipe asks for a precision that this backend does not make, or an operator can't be written.
    MissingError
        ai-edge-litert is not installed.
    """
    import_schema()  # before minutes are spent
    check_stages(target, PRECISIONS)
    settings = {"activations": ACTIVATIONS}
    model, files = export_lowered(pipeline, target, folder, calibration, OPSET, settings, BY_GATHERING)
    (folder / MODEL).write_bytes(lower_graph(model, describe_file(pipeline)))
    return Artifact(model=MODEL, files=(MODEL, *files))


def describe(model: Path) -> dict[str, Any]:
    """Return what a manifest tells about the file: ``operators``, type to number of nodes."""
    return {"operators": count_operators(model)}
