"""onnxruntime on the CPU with the 8-bit parts of a file computed in float: what eight bits are to be faster than on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import MissingError
from edgekit.sessions.about import About
from edgekit.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    from edgekit.types import Bundle, Session

ABOUT = About(extras=("export",), takes_threads=True, only_for=("w8a8",), baseline_of="onnxruntime")


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle's ONNX file, widened (`edgekit.rewriting.compute_in_float`); see `edgekit.sessions.SessionModule`."""
    if not ABOUT.opens(bundle.manifest.stages):
        raise MissingError(
            "nothing in this file is computed in 8 bits: onnxruntime-float would repeat onnxruntime", "use the session onnxruntime"
        )
    try:
        import onnx
    except ImportError as error:
        raise MissingError(f"onnx does not load: {error}", "pip install 'edgekit-imaging[export]'") from error
    from edgekit.rewriting import compute_in_float

    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / "wide.onnx"
        onnx.save(compute_in_float(onnx.load(bundle.model)), wide)
        session = OnnxRuntimeSession(wide, bundle.manifest.tensors["inputs"], threads)
    session.name = "onnxruntime-float"
    session.runtime += ", 8 bits computed in float"
    return session
