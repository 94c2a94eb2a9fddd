"""Toolchains, one module each: *convert* a pipeline into an artefact.

A backend is a module that satisfies `Backend`; adding one is a file and a line in `BACKENDS`. A module of somebody else's needs no line:
`edgekit.bundle.export_bundle` takes the module itself. What runs its artefacts is in `edgekit.sessions`; `edgekit.testing` holds both to
what they promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgekit.backends import coreml, litert, onnx, tensorrt, tensorrt_rtx

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.types import Artifact, Target


class Backend(Protocol):
    """What a module in this package offers."""

    EXTRAS: tuple[str, ...]
    """Install extras that converting needs beyond the base."""

    SETTINGS: dict[str, type]
    """Recipe keys of its own, and their types."""

    OPTIONS: dict[str, tuple[str, ...]]
    """Options that a variant may set, and the values accepted; the first is the default."""

    PRECISIONS: dict[str, tuple[str, ...]]
    """The precisions it makes, by stage."""

    IN_HALVES: tuple[str, ...]
    """Of these precisions, those with float16 activations: a layer beyond the range of float16 would spoil them."""

    SESSIONS: dict[str, SessionModule]
    """The modules that open its artefacts, by the name that bundles and commands have for them; the first is the default."""

    EMULATED: bool
    """Whether emulated processors can answer with its files (`edgekit.emulation`): its first session says what its runner imports then."""

    VERSIONED: tuple[str, ...]
    """Packages whose version decides what is made."""

    def list_missing(self) -> list[str]:
        """Return what this machine lacks to convert, beside packages, in words."""
        ...

    def convert(self, pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
        """Write `pipeline` into `folder` as `target` asks.

        Parameters
        ----------
        pipeline
            A ``models.pipeline.Pipeline`` in eval mode.
        folder
            An existing folder.
        calibration
            The patients to calibrate on; none only where `target` asks for no calibration.

        Raises
        ------
        InputError
            `target` asks for what it does not make (`edgekit.graphs.places.check_stages`); the message names it.
        MissingError
            A package is not installed.
        """
        ...

    def describe(self, model: Path) -> dict[str, Any]:
        """Return what a manifest tells about the file: its format's version and its operators."""
        ...


BACKENDS: dict[str, Backend] = {"onnx": onnx, "litert": litert, "coreml": coreml, "tensorrt": tensorrt, "tensorrt-rtx": tensorrt_rtx}
