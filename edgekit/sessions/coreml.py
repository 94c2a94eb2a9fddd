"""Core ML's own runtime, on a Mac."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgekit.contract import OUTPUTS, views_of
from edgekit.errors import MissingError
from edgekit.formats.mlpackage import import_coremltools
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors


def list_missing() -> list[str]:
    """Return what this machine lacks to be a Mac."""
    return [] if platform.system() == "Darwin" else ["macOS"]


ABOUT = About(extras=("export",), takes_threads=False, list_missing=list_missing)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:  # noqa: ARG001  (Core ML chooses its own)
    """Open the bundle's package; see `edgekit.sessions.SessionModule`."""
    return CoreMLSession(bundle.model, bundle.manifest.tensors["inputs"])


class CoreMLSession:
    """The package in Core ML, on the units that it chooses: CPU, GPU, Neural Engine.

    Parameters
    ----------
    model
        The ``.mlpackage``.
    tensors
        Its inputs; see `edgekit.sessions.inputs.check_inputs`.

    Raises
    ------
    MissingError
        This is not a Mac, or Core ML can't open the package.
    """

    name = "coreml"

    def __init__(self, model: Path, tensors: Mapping[str, Any]) -> None:
        if list_missing():
            raise MissingError("Core ML runs on a Mac only", "use the session coreml-reference here, or run this on macOS")
        coremltools = import_coremltools()
        try:
            self._model = coremltools.models.MLModel(str(model))
        except Exception as error:  # Core ML's own errors share no base
            raise MissingError(f"Core ML on macOS {platform.mac_ver()[0]} can't open {model}: {error}", "update macOS") from error
        self._tensors = tensors
        self.runtime = f"Core ML, macOS {platform.mac_ver()[0]} {platform.machine()}, coremltools {coremltools.__version__}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._model

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the program.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        from PIL import Image

        check_inputs(inputs, self._tensors)
        given: dict[str, Any] = {view: Image.fromarray(inputs[view][0, 0]) for view in views_of(inputs)}
        answer = self._model.predict({**given, "present": inputs["present"]})
        return {name: np.asarray(answer[name]) for name in OUTPUTS}
