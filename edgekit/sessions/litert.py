"""LiteRT on the CPU, through XNNPACK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgekit.contract import OUTPUTS
from edgekit.cores import count_threads
from edgekit.errors import MissingError
from edgekit.formats.litert import INSTALL, PACKAGE, import_litert
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors

ABOUT = About(extras=("litert",), takes_threads=True, by_processor=True, runner_imports={"ai_edge_litert.interpreter": PACKAGE})
"""The interpreter imports numpy alone: what else the package requires is for its other modules."""


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle's LiteRT file; see `edgekit.sessions.SessionModule`."""
    return LiteRtSession(bundle.model, bundle.manifest.tensors["inputs"], threads)


class LiteRtSession:
    """LiteRT's interpreter with XNNPACK, its default on the CPU; no other accelerator is tried.

    Parameters
    ----------
    model
        The ``.tflite`` file.
    tensors
        Its inputs; see `edgekit.sessions.inputs.check_inputs`.
    threads
        Threads in all; None takes one a core.

    Raises
    ------
    MissingError
        ai-edge-litert is not installed, or can't open the file.
    """

    name = "litert"

    def __init__(self, model: Path, tensors: Mapping[str, Any], threads: int | None = None) -> None:
        from importlib.metadata import version

        interpreter, threads = import_litert("interpreter"), threads or count_threads()
        self.runtime = f"{PACKAGE} {version(PACKAGE)} XNNPACK, threads {threads}"
        self._tensors = tensors
        try:
            self._interpreter = interpreter.Interpreter(str(model), num_threads=threads)
            self._interpreter.allocate_tensors()
            self._run = self._interpreter.get_signature_runner()
        except (RuntimeError, ValueError) as error:
            raise MissingError(f"{self.runtime} can't open {model}: {error}", f"{INSTALL} --upgrade") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._run, self._interpreter

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        check_inputs(inputs, self._tensors)
        answer = self._run(**inputs)
        return {name: np.array(answer[name]) for name in OUTPUTS}
