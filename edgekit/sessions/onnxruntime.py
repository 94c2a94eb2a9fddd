"""onnxruntime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from edgekit.contract import OUTPUTS
from edgekit.cores import count_threads, is_sharing
from edgekit.errors import MissingError
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors

ABOUT = About(extras=(), takes_threads=True, by_processor=True, runner_imports={"onnxruntime": "onnxruntime"})


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle's ONNX file; see `edgekit.sessions.SessionModule`."""
    return OnnxRuntimeSession(bundle.model, bundle.manifest.tensors["inputs"], threads)


class OnnxRuntimeSession:
    """onnxruntime on the CPU, and nothing else: no other provider is tried.

    Parameters
    ----------
    model
        The ONNX file.
    tensors
        Its inputs; see `edgekit.sessions.inputs.check_inputs`.
    threads
        Threads within an operator; None takes one a core. They spin while they wait, which makes one answer quicker, unless the process
        shares the machine (`edgekit.cores`).
    """

    name = "onnxruntime"

    def __init__(self, model: Path, tensors: Mapping[str, Any], threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or (count_threads() if is_sharing() else 0)
        if is_sharing():
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider"
        self._tensors = tensors
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base
            raise MissingError(
                f"onnxruntime {onnxruntime.__version__} can't open {model}: {error}", "pip install --upgrade onnxruntime"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._session

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        check_inputs(inputs, self._tensors)
        return dict(zip(OUTPUTS, self._session.run(list(OUTPUTS), inputs), strict=True))
