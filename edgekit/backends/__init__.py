"""Toolchains, one module each: *convert* a pipeline into an artefact, *open* an artefact as a session.

A backend is a module that satisfies `Backend`; adding one is a file and a line in `BACKENDS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from edgekit.backends import onnx

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from edgekit.types import Artifact, Bundle, Target

Tensors = dict[str, "NDArray[np.generic]"]


class Session(Protocol):
    """A loaded artefact that answers. A context manager: leaving it frees the runtime."""

    name: str
    runtime: str

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def infer(self, inputs: Tensors) -> Tensors:
        """Map the graph's inputs (`edgekit.types.INPUTS`) to its outputs (`edgekit.types.OUTPUTS`)."""
        ...


class Backend(Protocol):
    """What a module in this package offers."""

    SESSIONS: tuple[str, ...]
    """Sessions that can open this backend's artefacts; the first is the default."""

    def convert(self, pipeline: Any, target: Target, folder: Path) -> Artifact:
        """Write `pipeline` (a ``models.pipeline.Pipeline`` in eval mode) into `folder` as `target` asks."""
        ...

    def describe(self, model: Path) -> dict[str, Any]:
        """Return what a manifest tells about the file: its format's version and its operators."""
        ...

    def open_session(self, name: str, bundle: Bundle, threads: int | None = None) -> Session:
        """Open `bundle` in the session `name`; `threads` None takes the runtime's own choice."""
        ...


BACKENDS: dict[str, Backend] = {"onnx": onnx}
