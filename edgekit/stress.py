"""Golden vectors below float32: films that every sound runtime passes, and one that a broken kernel can't.

Sound runtimes round a tie in their own ways, and one element that differs by a step is enough: a few layers on, a third of all elements
differ. What a film's answer bears of that is seen by making every pixel one grey level lighter: nothing may move by more than half of
the tolerance.

Ordinary films can be kind to a kernel that saturates or rounds down. Candidates are the golden films themselves with more and more
contrast, which drives activations to the ends of their ranges. The one taken changes the answers most under the fault that it exposes
least, among those that the answers bear.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import graph_inputs
from edgekit.contract import measure_errors
from edgekit.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edgekit.task import View
    from edgekit.types import Bundle, Session, Tensors

    Canvases = dict[View, NDArray[np.uint8]]

CONTRASTS = (1.0, 2.0, 4.0, 16.0)
"""How far grey levels are stretched about the mean of a film's own."""


BORNE = 1 / 2
"""Tolerances by which an answer may move when every pixel is one grey level lighter."""


@dataclass(frozen=True, slots=True, eq=False)
class Stress:
    """The films chosen.

    Attributes
    ----------
    canvases
        uint8 (S, S) by view.
    exposes
        By fault, the largest change of an output, in tolerances: above 1 the fault is caught.
    """

    canvases: Canvases
    exposes: dict[str, float]


@contextmanager
def open_faults(bundle: Bundle) -> Iterator[dict[str, Session]]:
    """Open `bundle` with each fault of `edgekit.quantization.faults`; none where no ONNX file computes in 8 bits."""
    if bundle.model.suffix != ".onnx" or "w8a8" not in bundle.manifest.stages.values():
        yield {}
        return
    import onnx

    from edgekit.quantization.faults import FAULTS, spoil
    from edgekit.sessions.onnxruntime import OnnxRuntimeSession

    model = onnx.load(bundle.model)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        opened: dict[str, Session] = {}
        for fault in FAULTS:
            path = Path(folder) / "spoiled.onnx"
            onnx.save(spoil(model, fault), path)
            opened[fault] = stack.enter_context(OnnxRuntimeSession(path, bundle.manifest.tensors["inputs"], None))
        yield opened


def choose_stress(
    patients: Sequence[Canvases], side: int, sound: Session, faults: Mapping[str, Session], outputs: Mapping[str, Any]
) -> Stress:
    """Choose among the films of `patients` with more and more contrast; without faults the widest contrast that the answers bear.

    Where they bear none, those are taken whose answers a grey level moves least.

    Parameters
    ----------
    patients
        Canvases of all views in order, uint8 (S, S).
    side
        S, in pixels.
    sound
        Computes as it should.
    faults
        Sessions that don't, by fault.
    outputs
        The manifest's ``tensors``: what is compared, and how closely.
    """
    best: tuple[tuple[bool, float], Stress] | None = None
    candidates = [(canvases, contrast) for contrast in CONTRASTS for canvases in patients]
    for canvases, contrast in track(candidates, "Choosing a golden vector"):
        stretched: Canvases = {view: _stretch(canvas, contrast) for view, canvas in canvases.items()}
        views = tuple(canvases)
        inputs = graph_inputs(stretched, views, side)
        expected, moved = nudge(stretched, views, side, sound, outputs)
        exposes = {name: _measure_change(expected, session.infer(inputs), outputs) for name, session in faults.items()}
        rank = (True, min(exposes.values(), default=contrast)) if moved <= BORNE else (False, -moved)
        if best is None or rank > best[0]:
            best = rank, Stress(stretched, exposes)
    assert best is not None
    return best[1]


def nudge(canvases: Canvases, views: Sequence[View], side: int, sound: Session, outputs: Mapping[str, Any]) -> tuple[Tensors, float]:
    """Answer, and measure how far the answer moves when every pixel is one grey level lighter, in tolerances; see `choose_stress`."""
    lighter = {view: np.where(canvas < 255, canvas + 1, 254).astype(np.uint8) for view, canvas in canvases.items()}
    expected, found = (sound.infer(graph_inputs(films, views, side)) for films in (canvases, lighter))
    return expected, _measure_change(expected, found, outputs)


def _stretch(canvas: NDArray[np.uint8], contrast: float) -> NDArray[np.uint8]:
    """Stretch the grey levels about the mean of those above zero; the padding stays black."""
    shown = canvas > 0
    centre = canvas[shown].mean() if shown.any() else 0.0
    stretched = np.clip((canvas.astype(np.float64) - centre) * contrast + centre, 0, 255).round()
    return np.where(shown, stretched, 0).astype(np.uint8)


def _measure_change(expected: Tensors, found: Tensors, outputs: Mapping[str, Any]) -> float:
    """Return the largest change of an output that is compared, in tolerances."""
    largest = 0.0
    for name, error in measure_errors(expected, found, outputs).items():
        if tolerance := outputs[name]["tolerance"]:
            largest = max(largest, error / tolerance)
    return largest
