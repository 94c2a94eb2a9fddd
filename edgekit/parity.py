"""Is it still right? The verdict on an exported pipeline, from the same patients' films as the reference.

Two judgements, chosen by the recipe:

- *numerical* (every stage fp32): PASS when on every film the largest probability difference is at most `PROBABILITY_TOLERANCE`,
  the boxes differ by at most `BOX_TOLERANCE_PX`, and no brand and no decision changes; otherwise FAIL.
- *statistical*: with d = accuracy(reference) - accuracy(candidate), PASS when upper(d) <= margin and lower(agreement) >= floor;
  FAIL when lower(d) > margin or upper(agreement) < floor; otherwise INCONCLUSIVE. d has a two-sided 95 % Tango score interval,
  agreement a two-sided 95 % Clopper-Pearson interval.

*Negative control*: the same gate with every patient's films replaced by those of a patient of another brand must FAIL; a gate that
lets them pass judges nothing, and its PASS is reported as INCONCLUSIVE.

A patient's answer is the most probable brand; where no construct was found there is none. A patient with several rows agrees when
every row does, and is right when every row is, so that the intervals count independent patients.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.boxes import box_iou
from edgekit.errors import InputError
from edgekit.types import VIEWS, Judge, Parity, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.sessions import Session, Tensors
    from edgekit.types import Bundle, Study

PROBABILITY_TOLERANCE = 1e-4
BOX_TOLERANCE_PX = 0.5
CONFIDENCE = 0.95

JUDGED = ("probabilities", "boxes", "box_scores", "decision")
"""The outputs that the verdict reads."""

NO_ANSWER, NOT_A_NUMBER = -1, -2


@dataclass(frozen=True, slots=True)
class Gate:
    """What a candidate has to get through.

    Attributes
    ----------
    precision
        Name of the variant, for the record.
    brands
        K brands in the order of ``probabilities``.
    box_threshold
        A film whose box score is below it has no construct; its box is not judged.
    """

    judge: Judge
    precision: str
    brands: tuple[str, ...]
    box_threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What one session answered for a table of studies, row by row.

    Attributes
    ----------
    outputs
        The `JUDGED` outputs, stacked: (N, ...) in the order of the studies.
    """

    session: str
    runtime: str
    outputs: Tensors


@dataclass(frozen=True, slots=True)
class Counts:
    """Patients, as the statistical judge counts them.

    Attributes
    ----------
    n, flips
        Patients, and those whose answer changed.
    n_known
        Patients whose brand is known and is one of the run's.
    only_reference, only_candidate
        Of these, those whom only the reference, or only the candidate, answered rightly.
    """

    n: int
    flips: int
    n_known: int
    only_reference: int
    only_candidate: int

    def scaled_to(self, n: int) -> Counts:
        """Return the counts expected among `n` patients at the same rates."""
        return Counts(n, *(round(count * n / self.n) for count in (self.flips, self.n_known, self.only_reference, self.only_candidate)))


def measure_parity(bundle: Bundle, run: Path, studies: Sequence[Study], sessions: Iterable[str]) -> list[Parity]:
    """Judge a bundle in each session against the run that it was made from, in one pass over the films.

    Parameters
    ----------
    run
        The run folder named by the bundle's provenance (see ``edgekit.bundle.find_run``).
    studies
        The patients to judge on.
    sessions
        Names.

    Returns
    -------
    One `Parity` a session, in order.

    Raises
    ------
    InputError
        A film can't be read, or a statistical verdict is asked of patients without a known brand.
    """
    from edgekit.sessions import open_session
    from edgekit.sessions.torch import open_run

    gate = Gate(
        judge=Judge(**bundle.manifest["judge"]),
        precision=bundle.manifest["precision"],
        brands=tuple(bundle.brands),
        box_threshold=bundle.manifest["thresholds"]["box"],
    )
    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(run, bundle.manifest["ensemble"]))]
        opened += [stack.enter_context(open_session(name, bundle)) for name in sessions]
        reference, *candidates = record(opened, studies, bundle.canvas_side)
    return [compare(reference, candidate, studies, gate) for candidate in candidates]


def record(sessions: Sequence[Session], studies: Sequence[Study], side: int) -> list[Recording]:
    """Run every session over the same canvases, each film decoded once, and keep the small outputs only."""
    from edgekit.canvases import stream_inputs

    kept: list[dict[str, list[NDArray[np.generic]]]] = [{name: [] for name in JUDGED} for _ in sessions]
    for _, inputs, _ in stream_inputs(studies, side, "Comparing with the reference"):
        for session, lists in zip(sessions, kept, strict=True):
            outputs = session.infer(inputs)
            for name in JUDGED:
                lists[name].append(outputs[name])
    return [
        Recording(session.name, session.runtime, {name: np.stack(values) for name, values in lists.items()})
        for session, lists in zip(sessions, kept, strict=True)
    ]


def compare(reference: Recording, candidate: Recording, studies: Sequence[Study], gate: Gate) -> Parity:
    """Judge recorded outputs.

    Parameters
    ----------
    reference, candidate
        Answers for the same rows.
    studies
        These rows.

    Raises
    ------
    InputError
        There are no rows, the recordings have other rows than `studies`, or a statistical judge has no patient of a known brand.
    """
    for recording in (reference, candidate):
        if not studies or any(len(recording.outputs[name]) != len(studies) for name in JUDGED):
            answered = len(recording.outputs["decision"])
            raise InputError(f"{recording.session} answered {answered} rows of {len(studies)}; a verdict needs every row, and at least one")
    result = _judge(reference, candidate, studies, studies, gate)
    control = _negative_control(reference, candidate, studies, gate)
    if result.verdict == "PASS" and control not in ("FAIL", None):
        reason = f"the negative control is {control}: this gate does not tell patients apart"
        result = replace(result, verdict="INCONCLUSIVE", power=f"{result.power}; {reason}")
    if control is None:
        result = replace(result, power=f"{result.power}; no negative control: it needs patients of two brands")
    return replace(result, negative_control=control)


def summarize(parity: Parity) -> str:
    """Return one line for people: the verdict and the figures that decided it."""
    numbers = [f"{parity.verdict} in {parity.session} on {parity.n} patients ({parity.basis})", f"{parity.flips} changed answers"]
    if parity.basis == "numerical":
        numbers.append(f"largest probability difference {parity.max_probability_error:.1e} (at most {PROBABILITY_TOLERANCE:.0e})")
    else:
        low, high = (100 * limit for limit in parity.agreement_ci95)
        drop, margin = (100 * parity.difference["ci95"][1], 100 * parity.difference["margin"])
        numbers.append(f"agreement {100 * parity.agreement:.2f} % ({low:.2f}-{high:.2f})")
        numbers.append(f"accuracy drop at most {drop:.2f} points (margin {margin:g})")
    numbers.append(f"{parity.decision_flips} changed decisions")
    return "; ".join([*numbers, parity.power])


def _judge(reference: Recording, candidate: Recording, studies: Sequence[Study], shown: Sequence[Study], gate: Gate) -> Parity:
    """Judge without the control. `shown` are the rows whose films the candidate saw, where they differ from `studies`."""
    answers = _answers(reference), _answers(candidate)
    n_patients, patient = _patients(studies)
    flipped = _any_row(answers[0] != answers[1], patient, n_patients)
    decided = _any_row((reference.outputs["decision"] != candidate.outputs["decision"]).reshape(len(studies)), patient, n_patients)

    truth = np.array([gate.brands.index(study.brand) if study.brand in gate.brands else NO_ANSWER for study in studies])
    known = _any_row(truth != NO_ANSWER, patient, n_patients)
    right = [~_any_row((answer != truth) & (truth != NO_ANSWER), patient, n_patients)[known] for answer in answers]
    counts = Counts(
        n=n_patients,
        flips=int(flipped.sum()),
        n_known=int(known.sum()),
        only_reference=int((right[0] & ~right[1]).sum()),
        only_candidate=int((right[1] & ~right[0]).sum()),
    )

    difference = np.abs(reference.outputs["probabilities"].astype(np.float64) - candidate.outputs["probabilities"].astype(np.float64))
    probability_error = float(np.nan_to_num(difference, nan=1.0).max())
    found = _found(reference, studies, gate), _found(candidate, shown, gate)
    judged = found[0] | found[1]
    boxes = [recording.outputs["boxes"][judged].astype(np.float64) for recording in (reference, candidate)]
    box_error = float(np.nan_to_num(np.abs(boxes[0] - boxes[1]), nan=np.inf).max(initial=0.0))
    overlaps = np.where((found[0] & found[1])[judged], box_iou(*boxes), 0.0)

    agreement_ci95 = clopper_pearson(counts.n - counts.flips, counts.n)
    if gate.judge.basis == "numerical":
        exact = probability_error <= PROBABILITY_TOLERANCE and box_error <= BOX_TOLERANCE_PX
        verdict: Verdict = "PASS" if exact and not counts.flips and not decided.any() else "FAIL"
        power = f"numerical: every film is compared, largest box difference {box_error:.2g} pixels"
    else:
        verdict = statistical_verdict(counts, gate.judge)
        power = _power(counts, gate.judge, verdict)
    return Parity(
        session=candidate.session,
        runtime=candidate.runtime,
        precision=gate.precision,
        basis=gate.judge.basis,
        n=counts.n,
        accuracy_reference=float(right[0].mean()) if counts.n_known else None,
        accuracy_candidate=float(right[1].mean()) if counts.n_known else None,
        flips=counts.flips,
        agreement=1 - counts.flips / counts.n,
        agreement_ci95=agreement_ci95,
        max_probability_error=probability_error,
        box_iou_p05=float(np.percentile(overlaps, 5)) if judged.any() else None,
        decision_flips=int(decided.sum()),
        difference=_difference(counts, gate.judge),
        mcnemar_p=mcnemar_exact(counts.only_reference, counts.only_candidate) if counts.n_known else None,
        power=power,
        verdict=verdict,
        negative_control=None,
    )


def _negative_control(reference: Recording, candidate: Recording, studies: Sequence[Study], gate: Gate) -> Verdict | None:
    """Judge the candidate on films of patients of another brand; None when the table has fewer than two brands.

    No film is run again: a session's answer to a film does not depend on the others, so another patient's row is its answer.
    """
    labelled = [row for row, study in enumerate(studies) if study.brand is not None]
    if len({studies[row].brand for row in labelled}) < 2:
        return None
    swapped = []
    for place, row in enumerate(labelled):
        others = labelled[place + 1 :] + labelled[:place]
        swapped.append(next(other for other in others if studies[other].brand != studies[row].brand))
    return _judge(
        _rows(reference, labelled), _rows(candidate, swapped), [studies[row] for row in labelled], [studies[row] for row in swapped], gate
    ).verdict


def statistical_verdict(counts: Counts, judge: Judge) -> Verdict:
    """Apply the statistical judge to counts.

    Raises
    ------
    InputError
        No patient has a known brand.
    """
    if not counts.n_known:
        raise InputError("a statistical verdict needs patients of known brand; the verification rows have none", "fill the column 'brand'")
    assert judge.margin is not None
    assert judge.agreement is not None
    lower_d, upper_d = tango_interval(counts.only_reference, counts.only_candidate, counts.n_known)
    lower_a, upper_a = clopper_pearson(counts.n - counts.flips, counts.n)
    if upper_d <= judge.margin and lower_a >= judge.agreement:
        return "PASS"
    return "FAIL" if lower_d > judge.margin or upper_a < judge.agreement else "INCONCLUSIVE"


def patients_to_decide(counts: Counts, judge: Judge, limit: int = 10_000_000) -> int | None:
    """Return how many patients would decide an inconclusive verdict at the observed rates; None when `limit` would not."""
    low, high = counts.n, 2 * counts.n
    while statistical_verdict(counts.scaled_to(high), judge) == "INCONCLUSIVE":
        if high > limit:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if statistical_verdict(counts.scaled_to(middle), judge) == "INCONCLUSIVE":
            low = middle
        else:
            high = middle
    return high


def flips_allowed(n: int, floor: float) -> int | None:
    """Return the largest number of flips among `n` patients whose agreement still clears `floor`; None when not even zero do."""
    flips = -1
    while flips + 1 < n and clopper_pearson(n - flips - 1, n)[0] >= floor:
        flips += 1
    return flips if flips >= 0 else None


def tango_interval(b: int, c: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval for the paired difference of proportions (b - c) / n.

    Tango (1998), Statistics in Medicine 17:891-908: the differences D that the score test of equation 8 does not reject, with the
    constrained maximum-likelihood estimate of the discordant proportion. It keeps its width without discordant pairs, where
    Wald's and the bootstrap's collapse to zero.

    Parameters
    ----------
    b, c
        Discordant pairs: right in the first only, right in the second only.
    n
        All pairs.

    Examples
    --------
    >>> [round(limit, 4) for limit in tango_interval(0, 0, 100)]
    [-0.037, 0.037]
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))

    def excess(difference: float, side: float) -> float:
        # z-statistic minus its critical value, multiplied by the standard error so that it stays finite at the ends.
        linear = (2 * n - b + c) * difference - b - c
        constant = -c * difference * (1 - difference)
        discordant = (math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * discordant + difference * (1 - difference))
        return b - c - n * difference - side * z * math.sqrt(max(variance, 0.0))

    # Statistic and standard error may vanish together at the estimate itself, which is no limit: start just beside it.
    estimate, beside = (b - c) / n, 1e-12
    lower = -1.0 if estimate == -1 else brentq(excess, -1.0, estimate - beside, args=(1.0,), xtol=1e-12)
    upper = 1.0 if estimate == 1 else brentq(excess, estimate + beside, 1.0, args=(-1.0,), xtol=1e-12)
    return float(lower), float(upper)


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval for the proportion k / n (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of McNemar's exact test: b and c discordant pairs; 1 when there are none."""
    from scipy.stats import binomtest

    return float(binomtest(b, b + c).pvalue) if b + c else 1.0


def _answers(recording: Recording) -> NDArray[np.int64]:
    """Index of the most probable brand, `NO_ANSWER` where no construct was found, `NOT_A_NUMBER` where the graph broke; (N,)."""
    probabilities = recording.outputs["probabilities"]
    answers = np.where(probabilities.max(axis=1) > 0, probabilities.argmax(axis=1), NO_ANSWER)
    return np.where(np.isfinite(probabilities).all(axis=1), answers, NOT_A_NUMBER)


def _found(recording: Recording, shown: Sequence[Study], gate: Gate) -> NDArray[np.bool_]:
    """Whether each film was given and its construct found; (N, 2)."""
    given = np.array([[study.film(view) is not None for view in VIEWS] for study in shown])
    found: NDArray[np.bool_] = given & (recording.outputs["box_scores"].astype(np.float32) >= np.float32(gate.box_threshold))
    return found


def _rows(recording: Recording, rows: list[int]) -> Recording:
    return replace(recording, outputs={name: recording.outputs[name][rows] for name in JUDGED})


def _patients(studies: Sequence[Study]) -> tuple[int, NDArray[np.int64]]:
    """Return the number of patients and the patient of each row, (N,)."""
    numbers: dict[str, int] = {}
    patient = np.array([numbers.setdefault(study.patient_id, len(numbers)) for study in studies])
    return len(numbers), patient


def _any_row(flags: NDArray[np.bool_], patient: NDArray[np.int64], n_patients: int) -> NDArray[np.bool_]:
    """Whether the flag is set in any row of each patient; (P,)."""
    return np.bincount(patient, weights=flags, minlength=n_patients) > 0


def _difference(counts: Counts, judge: Judge) -> dict[str, Any]:
    """Accuracy of the reference minus that of the candidate, as a fraction."""
    if not counts.n_known:
        return {"value": None, "ci95": None, "margin": judge.margin}
    value = (counts.only_reference - counts.only_candidate) / counts.n_known
    return {"value": value, "ci95": tango_interval(counts.only_reference, counts.only_candidate, counts.n_known), "margin": judge.margin}


def _power(counts: Counts, judge: Judge, verdict: Verdict) -> str:
    """Say what these patients can prove."""
    assert judge.agreement is not None
    allowed = flips_allowed(counts.n, judge.agreement)
    floor = f"{100 * judge.agreement:g} %"
    if allowed is None:
        needed = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(judge.agreement))
        text = f"agreement of {floor} needs at least {needed} patients without a flip, these are {counts.n}"
    else:
        text = f"agreement of {floor} is proven with at most {allowed} flips of {counts.n} patients"
    if verdict != "INCONCLUSIVE":
        return text
    enough = patients_to_decide(counts, judge)
    return f"{text}; at the observed flip rate " + (f"{enough} patients would decide" if enough else "no number of patients would decide")
