"""The few frozen types that flow through every room. A room's own types live in the room."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from edgekit.task import Task, View

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; origin at the outer corner of the top-left pixel, x1 and y1 exclusive."""
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]

Tensors = dict[str, "NDArray[np.generic]"]
"""The graph's inputs or outputs, by name."""

DECISIONS = ("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")
"""Words for the values 0-4 of the graph's ``decision``."""

REFUSED = frozenset(DECISIONS[2:])
"""Decisions that are no answer. Neither a ranking nor a prediction set is shown beside them: both would read as one."""

EXCLUDED = "excluded"
"""Stands for the decision of a row that is excluded in ``studies.csv``: it is not asked about."""


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One decoded film.

    Attributes
    ----------
    pixels
        uint8 (height, width), MONOCHROME2 sense: larger is brighter, dense material is bright.
    view
        What the file says it shows; None when it says nothing.
    spacing_mm
        Row and column distance of pixel centres on the detector in mm; None when unknown.
    source
        The file it was read from.
    patient_id
        Whose film it says it is (DICOM Patient ID, in capitals); empty when it says nothing.
    """

    pixels: NDArray[np.uint8]
    view: View | None
    spacing_mm: tuple[float, float] | None
    source: Path
    patient_id: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """One row of ``studies.csv``.

    Attributes
    ----------
    brand
        A brand, ``"none"`` (nothing to identify is on the films) or None (unknown: predict only).
    has
        Yes/no properties of the patient by name: the table's columns ``has_<name>``. None: not known.
    split
        ``train``, ``validation``, ``test``, ``readers``, ``external`` or None.
    films
        Film by view, for each view of the table; None where the patient has none. At least one is given.
    boxes
        What is to be found, in film pixels, by view; None means not annotated (or, for brand ``"none"``, that there is nothing).
    exclude
        The reason why the row is left out; None keeps it.
    levels
        Vertebrae from the first to the last that the construct is fixed to; 0 without one, None where it is not known.
    """

    patient_id: str
    brand: str | None = None
    has: Mapping[str, bool | None] = field(default_factory=dict)
    split: str | None = None
    films: Mapping[View, Path | None] = field(default_factory=dict)
    boxes: Mapping[View, Box | None] = field(default_factory=dict)
    exclude: str | None = None
    levels: int | None = None

    def __hash__(self) -> int:
        return hash((self.patient_id, self.brand, self.split, tuple(self.films.items())))

    @property
    def given(self) -> dict[View, Path]:
        """The films that the patient has, by view."""
        return {view: film for view, film in self.films.items() if film is not None}

    def film(self, view: View) -> Path | None:
        """Return the film of `view`, or None when the patient has none."""
        return self.films.get(view)

    def box(self, view: View) -> Box | None:
        """Return the annotated box of `view` in film pixels, or None."""
        return self.boxes.get(view)

    def with_film(self, view: View, film: Path | None, box: Box | None) -> Study:
        """Return the row with another film of `view`, and its box."""
        return replace(self, films={**self.films, view: film}, boxes={**self.boxes, view: box})

    def with_box(self, view: View, box: Box | None) -> Study:
        """Return the row with another box of `view`."""
        return replace(self, boxes={**self.boxes, view: box})


@dataclass(frozen=True, slots=True)
class Prediction:
    """The pipeline's answer for one patient.

    Attributes
    ----------
    decision
        One of `DECISIONS`.
    brand
        The answer; only when `decision` is ``"identified"``.
    probabilities
        Calibrated probability of each brand, in manifest order.
    prediction_set
        The brands that can't be excluded at the manifest's coverage; empty when `decision` is one of `REFUSED`.
    views
        For each film given: ``film`` (its file), ``box`` (film pixels; None when below the detector threshold), ``score`` and
        ``view_scores``.
    model
        Name, version, precision and verification state of the bundle that answered.
    elapsed_ms
        Milliseconds by stage.
    """

    patient_id: str
    decision: str
    brand: str | None
    probabilities: dict[str, float]
    prediction_set: list[str]
    unfamiliarity: float
    views: dict[str, dict[str, Any]]
    model: dict[str, Any]
    elapsed_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Judge:
    """How parity is judged for a target (see ``edgekit.parity``).

    Attributes
    ----------
    basis
        ``numerical`` (every stage fp32) or ``statistical``.
    margin
        Largest accuracy drop accepted, as a fraction; statistical only.
    agreement
        Smallest lower bound accepted for the agreement of the answers, as a fraction; statistical only.
    """

    basis: Literal["numerical", "statistical"]
    margin: float | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the ranges of 8-bit activations are found, on the run's validation patients.

    Attributes
    ----------
    method
        ``minmax``: the extremes of everything seen; ``average``: the mean over the patients of each one's extremes.
    patients
        How many patients at most.
    changed
        Float is given back to the worst blocks until at most this share of fresh patients is foreseen to get another brand
        (`edgekit.quantization.foresight`).
    """

    method: Literal["minmax", "average"]
    patients: int
    changed: float


@dataclass(frozen=True, slots=True)
class Float16:
    """How near float16 activations may come to the largest float16, on the run's validation patients.

    Attributes
    ----------
    patients
        How many patients at most.
    limit
        Share of 65,504 that no layer may exceed (`edgekit.quantization.headroom`).
    """

    patients: int
    limit: float


@dataclass(frozen=True, slots=True)
class Target:
    """One variant of ``export/<name>/recipe.toml``.

    Attributes
    ----------
    precision
        Name of the variant: ``fp32``, ``fp16``, ``w8a16`` or ``w8a8`` (weights / activations), behind its backend's where it names one:
        ``litert-w8a8``.
    folder
        The target's folder in ``export/``.
    recipe
        The recipe it was read from: the folder's own, or the user's.
    sessions
        The sessions that judge it when it is exported, where this machine has them.
    settings
        The recipe's keys that belong to the backend.
    stages
        Precision of ``detector``, ``geometry``, ``members`` and ``ensemble``.
    calibration
        None where no activation is 8-bit.
    float16
        None where the recipe does not ask for it.
    gain
        How many times faster than the same graph in float it has to be in onnxruntime on this machine; None accepts any.
    size_mb
        Largest model accepted, in MB (10^6 bytes); None accepts any.
    p50_ms
        Longest median time accepted for a patient's decoded films to the answer, in the first session on this machine; None accepts any.
    options
        The variant's options, the backend's defaults included.
    corners
        How the weights of the corner finder are stored: ``int8`` or ``float32``; None makes none.
    processors
        Names of ``edgekit.processors.CPUS`` that it is checked on when it is exported, where this machine can emulate them.
    """

    name: str
    precision: str
    folder: Path
    recipe: Path
    backend: str
    ensemble: str
    sessions: tuple[str, ...]
    settings: dict[str, Any]
    stages: dict[str, str]
    judge: Judge
    calibration: Calibration | None
    size_mb: float | None
    p50_ms: float | None
    options: dict[str, str]
    corners: str | None = None
    processors: tuple[str, ...] = ()
    float16: Float16 | None = None
    gain: float | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a backend made: files inside the folder that it was given.

    Attributes
    ----------
    model
        Name of the file (or package folder) that a session opens.
    files
        Names of all the files made, relative to that folder.
    unproven
        What making them did not prove, one sentence each.
    """

    model: str
    files: tuple[str, ...]
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """``manifest.json``: what a bundle is, and what proves it. Attributes are its keys.

    Attributes
    ----------
    name, target, precision
        What was exported, as people call it; the target's folder in ``export/``; the variant.
    verified
        Whether every verdict was PASS.
    task
        What it is asked.
    brands, members
        K and M names, in the order of ``probabilities`` and of ``members``.
    ensemble, cases
        The ensemble that answers, and the cases of the task that it can answer.
    thresholds
        ``box``, ``view_margin`` and ``coverage``: see `edgekit.models.pipeline.PipelineSpec`.
    canvas, crop
        ``side``, ``dtype``, ``padding`` and ``specification`` of the canvas; ``side`` and ``margin`` of a member's crop, and what is
        ``black`` around a whole film (`edgekit.models.pipeline.PipelineSpec`).
    tensors
        See `edgekit.contract.describe_tensors`.
    backend, stages, judge, recipe
        What made it, the precision by stage, how it is judged, and the recipe that says so.
    sessions
        Names of the sessions that can open it; the first is the default.
    model, model_sha256, graph
        The model file or package folder, its hash, and what its backend tells about it.
    corners
        ``model``, ``side`` and ``weights`` of the corner finder; None where there is none.
    unproven
        What was not shown, one sentence each.
    parity, latency
        Rows of ``parity.json``; documents of ``latency.json``.
    provenance
        Where it comes from: software, run, studies, calibration.
    licence, notices
        What whoever distributes it owes.
    files
        Every file with its ``sha256`` and ``size``.
    """

    name: str
    target: str
    precision: str
    verified: bool
    intended_use: str
    task: Task
    brands: tuple[str, ...]
    members: tuple[str, ...]
    ensemble: str
    cases: tuple[str, ...]
    thresholds: dict[str, float]
    canvas: dict[str, Any]
    crop: dict[str, Any]
    tensors: dict[str, Any]
    backend: str
    stages: dict[str, str]
    judge: dict[str, Any]
    recipe: dict[str, Any]
    sessions: tuple[str, ...]
    model: str
    model_sha256: str
    graph: dict[str, Any]
    corners: dict[str, Any] | None
    unproven: tuple[str, ...]
    parity: tuple[dict[str, Any], ...]
    latency: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    licence: str
    notices: tuple[str, ...]
    files: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """An opened bundle: its hashes were verified.

    Attributes
    ----------
    processors
        The rows of ``processors.json`` (see `edgekit.proven`).
    """

    folder: Path
    manifest: Manifest
    processors: tuple[dict[str, Any], ...] = ()

    @property
    def brands(self) -> tuple[str, ...]:
        """Brands in the order of ``probabilities``."""
        return self.manifest.brands

    @property
    def views(self) -> tuple[View, ...]:
        """The views in the order of ``present``."""
        return self.manifest.task.views

    @property
    def canvas_side(self) -> int:
        """Side of the square input canvas in pixels."""
        return int(self.manifest.canvas["side"])

    @property
    def sessions(self) -> tuple[str, ...]:
        """Names of the sessions that can open it; the first is the default."""
        return self.manifest.sessions

    @property
    def model(self) -> Path:
        """The model file (or package folder)."""
        return self.folder / self.manifest.model


class Session(Protocol):
    """A loaded artefact that answers. A context manager: leaving it frees the runtime."""

    name: str
    runtime: str

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def infer(self, inputs: Tensors) -> Tensors:
        """Map the graph's inputs to its outputs (`edgekit.contract`)."""
        ...


@dataclass(frozen=True, slots=True)
class Parity:
    """Verdict on one session against the reference; the fields of ``parity.json``.

    Attributes
    ----------
    n
        Patients.
    flips, decision_flips
        Patients whose most probable brand, or whose decision, changed.
    agreement
        Share of the patients whose most probable brand did not change.
    difference
        Accuracy of the reference minus that of the candidate: ``value`` and ``ci95`` over the labelled patients, None when there are none;
        ``at_most``, the bound that is judged, over all patients (see `edgekit.parity`), None when nobody can be right; and the ``margin``
        accepted; fractions.
    box_iou_p01, box_iou_p05, box_iou_p50
        Percentiles over the films with a construct in either; None when there are none.
    power
        What these patients can prove.
    reference
        Runtime of the reference.
    pack
        Which canvases were judged (see ``edgekit.parity.recording.PackHash``).
    mean_probability_error
        Mean absolute change of a probability, over rows and brands.
    calibration_error_reference, calibration_error_candidate
        Expected calibration error over the rows of known brand; None when there are none, or a probability is not a number.
    max_box_error_px
        Largest change of a box's edge in canvas pixels; None when no film shows a construct, or a coordinate is not a number.
    flipped
        The rows behind `flips` and `decision_flips` (see ``edgekit.parity.comparison.list_changes``).
    flipped_unlisted
        How many such rows of a FAIL are not in `flipped`.
    cpu
        What the candidate ran on: ``name``, ``architecture``, ``features`` (see ``edgekit.processors.FEATURES``), ``threads`` (None: the
        runtime's own choice) and ``emulated``: None, or a name of ``edgekit.processors.CPUS``. None when a device did not tell.
    foreseen
        Share of the patients foreseen to get another brand, from calibration patients alone (`edgekit.quantization.foresight`); None where
        no activation is in 8 bits.
    changed_from_native
        Patients whose most probable brand differs from that of the same file on this very machine; emulated rows only.
    max_box_difference_px
        Largest difference from its boxes, in canvas pixels, over the films where both found a construct; None when there are none, or a
        coordinate is not a number; emulated rows only.
    n_labelled
        Patients that the accuracies are of: the brand is known in all their rows, and is one of the run's.
    """

    session: str
    runtime: str
    precision: str
    basis: str
    n: int
    accuracy_reference: float | None
    accuracy_candidate: float | None
    flips: int
    agreement: float
    agreement_ci95: tuple[float, float]
    max_probability_error: float
    box_iou_p05: float | None
    decision_flips: int
    difference: dict[str, Any]
    mcnemar_p: float | None
    power: str
    verdict: Verdict
    negative_control: Verdict | None
    reference: str = ""
    pack: str = ""
    mean_probability_error: float | None = None
    calibration_error_reference: float | None = None
    calibration_error_candidate: float | None = None
    max_box_error_px: float | None = None
    box_iou_p01: float | None = None
    box_iou_p50: float | None = None
    flipped: list[dict[str, Any]] = field(default_factory=list)
    flipped_unlisted: int = 0
    cpu: dict[str, Any] | None = None
    foreseen: float | None = None
    changed_from_native: int | None = None
    max_box_difference_px: float | None = None
    n_labelled: int | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """One measured row; the fields of ``latency.json``. Times in milliseconds, memory and size in MB (10^6 bytes).

    Attributes
    ----------
    n, warmup
        Inferences counted, and run before without being counted.
    load_ms
        Opening in a fresh process, with the import of the runtime; None where it was not measured.
    peak_rss_mb
        Most resident memory of the process; None where it can't be measured: `notes` says why.
    size_mb
        What the session loads: the model, or the weights; None where it was not measured.
    stages
        ``decode`` and ``canvas`` are the host's, for a film of each view. The others add up to `p50_ms`: ``detect``, ``crop``, ``members``,
        ``ensemble`` and ``overhead`` (between the kernels), or ``infer`` alone where a runtime does not tell: `notes` says why.
    ratio
        By other row of the same rounds: the median over the rounds of its median time divided by this row's.
    threads
        Threads of the runtime; None was its own choice.
    first_ms
        The first answer after loading.
    spread
        Distance of the quartiles of the rounds' medians, divided by their median.
    throughput_per_s
        Patients a second, one after the other.
    opening
        Parts of `load_ms`, where the session tells them.
    floor_ms
        Time that the graph's arithmetic takes at this machine's measured peaks (``edgekit.latency.cost``); None without a cost model.
    floor_fraction
        `floor_ms` divided by `p50_ms`.
    runtime
        Name and version of what ran.
    notes
        What a reader must know about this row, a sentence each.
    """

    name: str
    session: str
    precision: str
    n: int
    warmup: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    load_ms: float | None
    peak_rss_mb: float | None
    size_mb: float | None
    stages: dict[str, float] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    threads: int | None = None
    first_ms: float | None = None
    spread: float | None = None
    throughput_per_s: float | None = None
    opening: dict[str, float] = field(default_factory=dict)
    floor_ms: float | None = None
    floor_fraction: float | None = None
    runtime: str = ""
    notes: list[str] = field(default_factory=list)
