"""onnxruntime on an NVIDIA GPU, and nothing else: a graph of which a single node would run on the CPU is refused."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError
from edgekit.sessions.about import About
from edgekit.sessions.cuda_engine import COPIES, list_missing_gpu
from edgekit.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgekit.types import Bundle, Session

ABOUT = About(extras=(), takes_threads=False, notes=COPIES, list_missing=list_missing_gpu)
PROVIDER = "CUDAExecutionProvider"


def open_session(bundle: Bundle, threads: int | None = None) -> Session:  # noqa: ARG001  (a GPU has none to choose)
    """Open the bundle's ONNX file on the first GPU; see `edgekit.sessions.SessionModule`."""
    return OnnxRuntimeCudaSession(bundle.model, bundle.manifest.tensors["inputs"])


SETTINGS = {"use_tf32": "0"}
"""float32 is float32: left alone, the provider rounds it to TF32's 10 bits (CUDA Execution Provider, *use_tf32*)."""


class OnnxRuntimeCudaSession(OnnxRuntimeSession):
    """onnxruntime with its CUDA provider.

    onnxruntime gives to the CPU what the provider lacks, and what computes shapes. Our graphs have static shapes and compute none, so any
    node on the CPU is one that would be measured and judged as if it had run on the GPU.

    Parameters
    ----------
    model
        The ONNX file.
    tensors
        Its inputs; see `edgekit.sessions.inputs.check_inputs`.

    Raises
    ------
    MissingError
        There is no such provider or GPU, or a node would run on the CPU.
    """

    name = "onnxruntime-cuda"

    def __init__(self, model: Path, tensors: Mapping[str, Any]) -> None:
        import onnxruntime

        if PROVIDER not in onnxruntime.get_available_providers():
            raise MissingError(
                f"onnxruntime {onnxruntime.__version__} has no {PROVIDER}",
                "pip uninstall onnxruntime; pip install onnxruntime-gpu, on a machine with an NVIDIA GPU",
            )
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=[(PROVIDER, SETTINGS)])
        except Exception as error:  # onnxruntime's own exceptions share no base
            raise MissingError(f"onnxruntime {onnxruntime.__version__} can't open {model} on a GPU: {error}", "edgekit doctor") from error
        self._session.disable_fallback()  # else a failing run is repeated on the CPU
        refuse_other_providers(self._session, PROVIDER)
        self.runtime = f"onnxruntime {onnxruntime.__version__} {PROVIDER}"
        self._tensors = tensors


def refuse_other_providers(session: Any, provider: str) -> None:
    """Raise when onnxruntime gave a node of the graph to another provider than `provider`.

    Parameters
    ----------
    session
        Opened with ``session.record_ep_graph_assignment_info``.
    """
    strayed = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != provider]
    if strayed:
        operators = Counter(node.op_type for part in strayed for node in part.get_nodes())
        told = ", ".join(f"{number} {operator}" for operator, number in operators.most_common())
        raise MissingError(
            f"onnxruntime would run a part of the graph outside {provider}, in {strayed[0].ep_name}: {told}",
            "use a version of onnxruntime-gpu whose provider has these operators",
        )
