"""onnxruntime on the CPU with the rounding of a float16 device: what a GPU's answers are judged by where there is no GPU.

The plain session computes a float16 graph in float32 between its weights (see `edgekit.rewriting.half.round_to_half`): it would pass a
graph that overflows or drowns in rounding on the device.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import MissingError
from edgekit.sessions.about import About
from edgekit.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    from edgekit.types import Bundle, Session

ABOUT = About(extras=("export",), takes_threads=True, stands_in_for="a device that rounds to float16", only_for=("fp16",))


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle's ONNX file with every float16 result rounded; see `edgekit.sessions.SessionModule`."""
    try:
        import onnx
    except ImportError as error:
        raise MissingError(f"onnx does not load: {error}", "pip install 'edgekit-imaging[export]'") from error
    from edgekit.rewriting import round_to_half

    model = onnx.load(bundle.model)
    if not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise MissingError("nothing in this file is float16: onnxruntime-rounded would repeat onnxruntime", "use the session onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / "rounded.onnx"
        onnx.save(round_to_half(model), rounded)
        session = OnnxRuntimeSession(rounded, bundle.manifest.tensors["inputs"], threads)
    session.name = "onnxruntime-rounded"
    session.runtime += ", float16 results rounded"
    return session
