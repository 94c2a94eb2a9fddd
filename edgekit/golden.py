"""Golden vectors: simulated canvases and the outputs expected of them, in every bundle.

They let any runtime on any device check itself without a film of a patient and without this package::

    golden/golden.json     {"schema": 1, "cases": [{"name", "films": {view: png}, "outputs": {...}, "exposes": {...}}], "tolerance": {...}}
    golden/<case>-<view>.png    uint8 canvases
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import edgekit
from edgekit.canvases import graph_inputs
from edgekit.errors import GateError
from edgekit.processors import read_features
from edgekit.remembered import is_remembered, remember
from edgekit.types import OUTPUTS, VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgekit.stress import Canvases
    from edgekit.types import Bundle, Session, Tensors, View

FOLDER = "golden"
FILE = "golden.json"

CASES: dict[str, tuple[str, tuple[View, ...]]] = {
    "both": ("design-a", VIEWS),
    "ap": ("design-b", ("ap",)),
    "lateral": ("design-c", ("lateral",)),
    "none": ("none", VIEWS),
}
"""Simulated design and the films given, by case."""

DRAWS = 6
"""Simulated patients that a case is chosen from below float32, at most."""

STRESS = "stress"
"""The case chosen to expose broken kernels (`edgekit.stress`); it alone has ``exposes``."""

TOLERANCE = {
    "probabilities": 1e-4,
    "members": 1e-4,
    "boxes": 0.5,
    "box_scores": 1e-4,
    "view_scores": 1e-4,
    "heatmaps": 1e-2,
    "prediction_set": 0.0,
    "unfamiliarity": 1e-4,
    "decision": 0.0,
}
"""Largest difference accepted between fp32 runtimes, by output; boxes in canvas pixels, where a construct was found."""

LOOSE_TOLERANCE = {
    "probabilities": 0.05,
    "members": 0.1,
    "boxes": 4.0,
    "box_scores": 0.05,
    "view_scores": 0.05,
    "heatmaps": 0.25,
    "prediction_set": 1.0,
    "unfamiliarity": 0.1,
    "decision": 4.0,
}
"""The same below fp32, where every runtime rounds in its own way: a probability beside a threshold may fall on either side of it, so
the last word on decisions is a verdict on many patients, not this check."""

INTEGERS = ("prediction_set", "decision")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One golden vector: the graph's inputs and the outputs expected."""

    name: str
    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """How far a session is from the golden vectors.

    Attributes
    ----------
    errors, tolerance
        Largest difference found and accepted, by output.
    """

    session: str
    errors: dict[str, float]
    tolerance: dict[str, float]

    @property
    def exceeded(self) -> list[str]:
        """The outputs that are too far off."""
        return [name for name, error in self.errors.items() if not error <= self.tolerance[name]]

    def describe(self) -> str:
        """Return by how much each of `exceeded` is off, for a message."""
        return ", ".join(f"{name} by {self.errors[name]:.2g} (accepted: {self.tolerance[name]:g})" for name in self.exceeded)


def write_golden(bundle: Bundle, session: Session, exact: bool) -> None:
    """Simulate the canvases, ask `session` for the outputs and write both into the bundle's folder.

    Parameters
    ----------
    bundle
        A draft without golden vectors; its manifest must be written again.
    session
        Whose outputs are expected: the reference, or for a file below fp32 a runtime that opened it.
    exact
        Whether other runtimes must agree within `TOLERANCE`, or only within `LOOSE_TOLERANCE`. Only then there is no `STRESS`: nothing
        in float32 saturates.
    """
    from PIL import Image

    from edgekit.stress import choose_stress, nudge, open_faults

    side, folder, threshold = bundle.canvas_side, bundle.folder / FOLDER, bundle.manifest["thresholds"]["box"]
    tolerance = TOLERANCE if exact else LOOSE_TOLERANCE
    moves = None if exact else lambda films: nudge(films, side, session, tolerance, threshold)[1]
    patients = {name: _choose_patient(name, place, side, moves) for place, name in enumerate(CASES)}
    films = {name: {view: patients[name][view] for view in views} for name, (_, views) in CASES.items()}
    exposes: dict[str, dict[str, float]] = {}
    if not exact:
        with open_faults(bundle) as faults:
            constructs = [patients[name] for name, (design, _) in CASES.items() if design != "none"]
            stress = choose_stress(constructs, side, session, faults, tolerance, threshold)
        films[STRESS], exposes[STRESS] = stress.canvases, stress.exposes
    folder.mkdir()
    cases = []
    for name, canvases in films.items():
        files = {view: f"{name}-{view}.png" for view in canvases}
        for view, file in files.items():
            Image.fromarray(canvases[view]).save(folder / file)
        outputs = session.infer(graph_inputs(canvases, side))
        case = {"name": name, "films": files, "outputs": {key: _shorten(value) for key, value in outputs.items()}}
        cases.append({**case, "exposes": exposes[name]} if name in exposes else case)
    document = {"schema": 1, "cases": cases, "tolerance": tolerance}
    (folder / FILE).write_text(json.dumps(document, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def _choose_patient(name: str, place: int, side: int, moves: Callable[[Canvases], float] | None) -> Canvases:
    """Return the canvases of the first patient simulated for a case whose answer bears a grey level; of `DRAWS` that don't, the steadiest.

    Parameters
    ----------
    name, place
        The case, and which one of `CASES` it is: the seed of the first patient.
    moves
        How far the answer to the films of a case moves (`edgekit.stress.nudge`); None takes the first patient.
    """
    from edgekit.stress import BORNE

    design, views = CASES[name]
    best: tuple[float, Canvases] | None = None
    for draw in range(DRAWS):
        canvases = simulate_canvases(design, place + draw * len(CASES), side)
        moved = 0.0 if moves is None else moves({view: canvases[view] for view in views})
        if best is None or moved < best[0]:
            best = moved, canvases
        if best[0] <= BORNE:
            break
    assert best is not None
    return best[1]


def simulate_canvases(design: str, seed: int, side: int) -> dict[View, NDArray[np.uint8]]:
    """Return the canvases, uint8 (S, S), of one simulated patient."""
    from edgekit.phantom.scene import simulate_patient
    from edgekit.radiograph import make_canvas

    films = simulate_patient(design, seed, size=side, has_crosslink=False)
    return {view: make_canvas(film.display, side)[0] for view, film in films.items()}


def read_golden(bundle: Bundle) -> list[Case]:
    """Return the golden vectors of a bundle."""
    from PIL import Image

    folder = bundle.folder / FOLDER
    cases = []
    for case in json.loads((folder / FILE).read_text(encoding="utf-8"))["cases"]:
        canvases = {view: np.array(Image.open(folder / case["films"][view])) for view in VIEWS if view in case["films"]}
        outputs: Tensors = {name: np.array(case["outputs"][name], dtype=np.int32 if name in INTEGERS else np.float32) for name in OUTPUTS}
        cases.append(Case(case["name"], graph_inputs(canvases, bundle.canvas_side), outputs))
    return cases


def check_golden(bundle: Bundle, session: Session) -> GoldenCheck:
    """Run the golden vectors in `session` and measure how far its outputs are from the expected ones."""
    tolerance = json.loads((bundle.folder / FOLDER / FILE).read_text(encoding="utf-8"))["tolerance"]
    errors = dict.fromkeys(OUTPUTS, 0.0)
    for case in read_golden(bundle):
        found = session.infer(case.inputs)
        has_construct = case.outputs["box_scores"] >= bundle.manifest["thresholds"]["box"]
        for name in OUTPUTS:
            difference = np.abs(found[name].astype(np.float64) - case.outputs[name].astype(np.float64))
            if name == "boxes":  # without a construct the best cell is arbitrary
                difference = difference[has_construct]
            errors[name] = max(errors[name], float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
    return GoldenCheck(session.name, errors, tolerance)


def require_golden(bundle: Bundle, session: Session, threads: int | None = None) -> None:
    """Refuse a session that misses the golden vectors: whoever is about to answer with it calls this first.

    What passed is remembered (`edgekit.remembered`) for this bundle, runtime, processor and number of threads; what failed never is.

    Parameters
    ----------
    session
        `bundle`, opened.
    threads
        The number of threads that `session` was opened with; None is the runtime's own choice.

    Raises
    ------
    GateError
        An output is too far off.
    """
    fact = _describe_circumstances(bundle, session, threads)
    if is_remembered(fact):
        return
    check = check_golden(bundle, session)
    if check.exceeded:
        raise GateError(
            f"{session.name} ({session.runtime}) is not to be trusted with this bundle on this machine: "
            f"it misses the golden vectors, {check.describe()}",
            f"try another version of the runtime, or export the bundle again; all differences: edgekit verify {bundle.folder}",
        )
    remember(fact)


def _describe_circumstances(bundle: Bundle, session: Session, threads: int | None) -> dict[str, Any]:
    """Return all that decides whether `session` passes, as a fact to be remembered."""
    manifest = bundle.manifest
    multiarray = (getattr(np, "_core", None) or np.core)._multiarray_umath  # np.core: before numpy 2
    return {
        "passed": "golden vectors",
        "edgekit": edgekit.__version__,
        "model_sha256": manifest["model_sha256"],
        "files": {name: entry["sha256"] for name, entry in manifest["files"].items()},
        "canvas": manifest["canvas"],
        "thresholds": manifest["thresholds"],
        "session": session.name,
        "runtime": session.runtime,
        "threads": threads,
        "system": platform.system(),
        "machine": platform.machine(),
        "features": read_features(),
        # numpy asks the processor and not the system: under qemu-user the system tells of the machine that emulates.
        "features_of_numpy": sorted(name for name, has in multiarray.__cpu_features__.items() if has),
    }


def _shorten(values: NDArray[np.generic]) -> object:
    """Return nested lists whose numbers are the shortest that read back as the same float32."""
    if values.dtype == np.float32:
        return np.array([float(str(value)) for value in values.ravel()]).reshape(values.shape).tolist()
    return values.tolist()
