"""The graph's tensors: the one place that lists them.

The pipeline returns its outputs in this order; golden vectors compare what is compared here; the manifest of a bundle carries the rows
(``tensors``), and every runner reads them there. Shapes in letters: V views, S side of the canvas, K brands, M members, h and w of a
feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    Tensors = Mapping[str, NDArray[np.generic]]

PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor.

    Attributes
    ----------
    dtype
        ``uint8``, ``float32`` or ``int32``.
    shape
        Sides; those that a run decides are letters.
    description
        One sentence for whoever opens the file.
    tolerance
        Largest difference accepted between runtimes where every stage is float32; None where it is not compared.
    loose_tolerance
        The same where a stage is below float32 and every runtime rounds in its own way; None where it is not compared: a score beside a
        threshold may fall on either side of it, and the last word is a verdict on many patients.
    of_found
        Whether a film's row means something only where something was found on it: elsewhere it is not compared.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    description: str
    tolerance: float | None = None
    loose_tolerance: float | None = None
    of_found: bool = False


_CANVAS = "Canvas of the {view} film, 8-bit gray, padded with 0; all 0 where the film is missing."
_PRESENT = "1 where the film was given, else 0: {views}."

_OUTPUTS = (
    Row("probabilities", "float32", ("K",), "Calibrated probability of each brand, in the order of the manifest.", 1e-4, 0.05),
    Row("members", "float32", ("M", "K"), "Each member's own probabilities; a row that can't be evaluated is zeros.", 1e-4, 0.1),
    Row("boxes", "float32", ("V", 4), "x0, y0, x1, y1 of what was found on each film, in canvas pixels.", 0.5, 4.0, of_found=True),
    Row("box_scores", "float32", ("V",), "Confidence of each box.", 1e-4, 0.05),
    Row("found", "int32", ("V",), "1 where the film was given and counts as found.", 0.0),
    Row("view_scores", "float32", ("V", "V"), "By film: how much it looks like each view.", 1e-4, 0.05),
    Row("heatmaps", "float32", ("V", "h", "w"), "Class activation of the top brand on each crop, 0 to 1.", 1e-2, 0.25),
    Row("prediction_set", "int32", ("K",), "1 for the brands that can't be excluded at the manifest's coverage.", 0.0),
    Row("unfamiliarity", "float32", (1,), "How far the films are from anything trained on.", 1e-4, 0.1),
    Row("decision", "int32", (1,), "0 identified, 1 ambiguous, 2 unfamiliar, 3 nothing found, 4 films swapped.", 0.0),
)

OUTPUTS = tuple(row.name for row in _OUTPUTS)
"""Names of the graph's outputs, in order."""


def exact_tolerance(output: str) -> float:
    """Return the largest difference of an output that is accepted between runtimes where every stage is float32."""
    return next(row.tolerance for row in _OUTPUTS if row.name == output and row.tolerance is not None)


def input_names(views: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the graph's inputs, in order: one canvas a view, and which films are there."""
    return (*views, PRESENT)


def input_rows(views: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows of the graph's inputs, in order."""
    canvases = [Row(view, "uint8", (1, 1, "S", "S"), _CANVAS.format(view=view)) for view in views]
    return (*canvases, Row(PRESENT, "float32", ("V",), _PRESENT.format(views=", ".join(views))))


def views_of(inputs: Tensors) -> tuple[str, ...]:
    """Return the views of one patient's input tensors, in order."""
    return tuple(name for name in inputs if name != PRESENT)


def output_rows() -> tuple[Row, ...]:
    """Return the rows of the graph's outputs, in order."""
    return _OUTPUTS


def output_dtype(name: str) -> DTypeLike:
    """Return the numpy type of an output."""
    import numpy as np

    return np.dtype(next(row.dtype for row in _OUTPUTS if row.name == name))


def describe_tensors(views: Sequence[str], sizes: dict[str, int], exact: bool) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the manifest's ``tensors``: ``inputs`` and ``outputs`` by name, in order, as every runner reads them.

    Parameters
    ----------
    sizes
        What the letters S, K, M, h and w stand for.
    exact
        Whether every stage is float32; see `Row`.
    """
    known = {**sizes, "V": len(views)}

    def describe(row: Row) -> dict[str, Any]:
        shape = [known[side] if isinstance(side, str) else side for side in row.shape]
        return {"dtype": row.dtype, "shape": shape, "description": row.description}

    return {
        "inputs": {row.name: describe(row) for row in input_rows(views)},
        "outputs": {
            row.name: {**describe(row), "tolerance": row.tolerance if exact else row.loose_tolerance, "of_found": row.of_found}
            for row in _OUTPUTS
        },
    }


def measure_errors(expected: Tensors, found: Tensors, outputs: Mapping[str, Any]) -> dict[str, float]:
    """Return by how much each output differs at most, those that are compared; infinite where it is not a number.

    Parameters
    ----------
    outputs
        ``outputs`` of `describe_tensors`.
    """
    import numpy as np  # not above: tasks, which `edgekit --help` reads, take the names from here

    errors = {}
    for name, row in outputs.items():
        if row["tolerance"] is None:
            continue
        difference = np.abs(found[name].astype(np.float64) - expected[name].astype(np.float64))
        if row["of_found"]:
            difference = difference[expected["found"] == 1]
        errors[name] = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
    return errors
