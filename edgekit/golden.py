"""Golden vectors: simulated canvases and the outputs expected of them, in every bundle.

How closely each output is compared, and which are not, stands in the manifest (``tensors``, `edgekit.contract`).

They let any runtime on any device check itself without a film of a patient and without this package::

    golden/golden.json     {"schema": 2, "cases": [{"name", "films": {view: png}, "outputs": {...}, "exposes": {...}}]}
    golden/<case>-<view>.png    uint8 canvases
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import graph_inputs
from edgekit.contract import measure_errors, output_dtype
from edgekit.errors import GateError
from edgekit.processors import read_features
from edgekit.remembered import is_remembered, remember
from edgekit.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edgekit.stress import Canvases
    from edgekit.task import Task, View
    from edgekit.types import Bundle, Session, Tensors

SCHEMA = 2
FOLDER = "golden"
FILE = "golden.json"

EMPTY = "none"
"""The case whose films show nothing to identify. The others are named as the task's: of each film alone, and of all of them."""

STEP = 4
"""Seeds between one draw of a case and its next."""
DRAWS = 6
"""Simulated patients that a case is chosen from below float32, at most."""

STRESS = "stress"
"""The case chosen to expose broken kernels (`edgekit.stress`); it alone has ``exposes``."""


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
        Whether every stage is float32: then there is no `STRESS`, for nothing saturates.
    """
    from PIL import Image

    from edgekit.stress import choose_stress, nudge, open_faults

    side, views, folder = bundle.canvas_side, bundle.views, bundle.folder / FOLDER
    outputs = bundle.manifest.tensors["outputs"]
    moves = None if exact else lambda films: nudge(films, views, side, session, outputs)[1]
    patients = {
        name: _choose_patient(case, place, views, side, moves)
        for place, (name, case) in enumerate(list_cases(bundle.manifest.task).items())
    }
    films = {name: {view: patients[name][view] for view in given} for name, (_, given) in list_cases(bundle.manifest.task).items()}
    exposes: dict[str, dict[str, float]] = {}
    if not exact:
        with open_faults(bundle) as faults:
            constructs = [canvases for name, canvases in patients.items() if name != EMPTY]
            stress = choose_stress(constructs, side, session, faults, outputs)
        films[STRESS], exposes[STRESS] = stress.canvases, stress.exposes
    folder.mkdir()
    cases = []
    for name, canvases in films.items():
        files = {view: f"{name}-{view}.png" for view in canvases}
        for view, file in files.items():
            Image.fromarray(canvases[view]).save(folder / file)
        answer = session.infer(graph_inputs(canvases, views, side))
        case = {"name": name, "films": files, "outputs": {key: _shorten(value) for key, value in answer.items()}}
        cases.append({**case, "exposes": exposes[name]} if name in exposes else case)
    document = {"schema": SCHEMA, "cases": cases}
    (folder / FILE).write_text(json.dumps(document, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def list_cases(task: Task) -> dict[str, tuple[str, tuple[View, ...]]]:
    """Return the cases by name: the simulated design that is shown, and the films given."""
    single = {view: (design, (view,)) for view, design in zip(task.views, ("design-b", "design-c", "design-d"), strict=False)}
    everything = {list(task.cases)[-1]: ("design-a", task.views)} if len(task.views) > 1 else {}
    return {**everything, **single, EMPTY: ("none", task.views)}


def _choose_patient(
    case: tuple[str, tuple[View, ...]], place: int, views: Sequence[View], side: int, moves: Callable[[Canvases], float] | None
) -> Canvases:
    """Return the canvases of the first patient simulated for a case whose answer bears a grey level; of `DRAWS` that don't, the steadiest.

    Parameters
    ----------
    case, place
        One of `list_cases`, and which one: the seed of the first patient.
    moves
        How far the answer to the films of a case moves (`edgekit.stress.nudge`); None takes the first patient.
    """
    from edgekit.stress import BORNE

    design, given = case
    best: tuple[float, Canvases] | None = None
    for draw in range(DRAWS):
        canvases = simulate_canvases(design, place + draw * STEP, views, side)
        moved = 0.0 if moves is None else moves({view: canvases[view] for view in given})
        if best is None or moved < best[0]:
            best = moved, canvases
        if best[0] <= BORNE:
            break
    assert best is not None
    return best[1]


def simulate_canvases(design: str, seed: int, views: Sequence[View], side: int) -> dict[View, NDArray[np.uint8]]:
    """Return the canvases, uint8 (S, S), of one simulated patient of the study, whatever the task: they need not be of its implants.

    A view that the simulator draws is shown as such; of other tasks' views the first shows the AP film, the second the lateral one, and
    so on in turn.
    """
    from edgekit.phantom.scene import simulate_patient
    from edgekit.radiograph import make_canvas

    films = list(simulate_patient(design, seed, size=side, has_crosslink=False).items())
    named = dict(films)
    shown = {view: named.get(view, films[place % len(films)][1]) for place, view in enumerate(views)}
    return {view: make_canvas(film.display, side)[0] for view, film in shown.items()}


def read_golden(bundle: Bundle) -> list[Case]:
    """Return the golden vectors of a bundle."""
    from PIL import Image

    folder = bundle.folder / FOLDER
    cases = []
    for case in json.loads((folder / FILE).read_text(encoding="utf-8"))["cases"]:
        canvases = {view: np.array(Image.open(folder / film)) for view, film in case["films"].items()}
        outputs: Tensors = {name: np.array(value, dtype=output_dtype(name)) for name, value in case["outputs"].items()}
        cases.append(Case(case["name"], graph_inputs(canvases, bundle.views, bundle.canvas_side), outputs))
    return cases


def check_golden(bundle: Bundle, session: Session) -> GoldenCheck:
    """Run the golden vectors in `session` and measure how far its outputs are from the expected ones."""
    outputs = bundle.manifest.tensors["outputs"]
    errors: dict[str, float] = {}
    for case in read_golden(bundle):
        measured = measure_errors(case.outputs, session.infer(case.inputs), outputs)
        errors = {name: max(error, errors.get(name, 0.0)) for name, error in measured.items()}
    return GoldenCheck(session.name, errors, {name: outputs[name]["tolerance"] for name in errors})


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
        "edgekit": VERSION,
        "model_sha256": manifest.model_sha256,
        "files": {name: entry["sha256"] for name, entry in manifest.files.items()},
        "canvas": manifest.canvas,
        "tensors": manifest.tensors,
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
