"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from edgekit.contract import OUTPUTS
from edgekit.errors import MissingError
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors

ABOUT = About(extras=("export",), takes_threads=True, by_processor=True)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle's ONNX file; see `edgekit.sessions.SessionModule`."""
    return OpenVinoSession(bundle.model, bundle.manifest.tensors["inputs"], threads)


def import_openvino() -> Any:
    """Import OpenVINO without the report that importing it sends to Google Analytics, unasked, wherever no file forbids it.

    Raises
    ------
    MissingError
        It is not installed.
    """
    reporter = "openvino_telemetry"
    kept = sys.modules.get(reporter)
    sys.modules[reporter] = None  # type: ignore[assignment]  # makes its import fail, and OpenVINO then puts a stub in its place
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingError("OpenVINO is not installed", "pip install 'edgekit-imaging[export]'") from error
    finally:
        del sys.modules[reporter]
        if kept is not None:
            sys.modules[reporter] = kept
    return openvino


class OpenVinoSession:
    """OpenVINO's CPU plugin, one patient at a time.

    What the file holds as float32 is computed in float32: left alone, the plugin takes bfloat16 wherever the processor has it.

    Parameters
    ----------
    model
        The ONNX file.
    tensors
        Its inputs; see `edgekit.sessions.inputs.check_inputs`.
    threads
        Threads in all; None takes one a core.

    Raises
    ------
    MissingError
        OpenVINO is not installed, or can't open the file.
    """

    name = "openvino"

    def __init__(self, model: Path, tensors: Mapping[str, Any], threads: int | None = None) -> None:
        openvino = import_openvino()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._tensors = tensors
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(model), "CPU", settings)
        except RuntimeError as error:
            raise MissingError(f"OpenVINO {openvino.__version__} can't open {model}: {error}", "pip install --upgrade openvino") from error
        precision, count = (compiled.get_property(key) for key in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"))
        self.runtime = f"openvino {openvino.__version__.split('-')[0]} CPU {precision.to_string()}, threads {count}"
        self._request = compiled.create_infer_request()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._request

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        check_inputs(inputs, self._tensors)
        answer = self._request.infer(inputs)
        return {name: answer[name] for name in OUTPUTS}
