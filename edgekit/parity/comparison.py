"""A recording of the candidate against one of the reference: what changed, the verdict, and its negative control."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.boxes import box_iou
from edgekit.contract import exact_tolerance
from edgekit.errors import InputError
from edgekit.parity.recording import RECORDED
from edgekit.parity.statistics import Counts, bound_drop, describe_power, statistical_verdict
from edgekit.proportions import clopper_pearson, count_discordant, mcnemar_exact, tango_interval
from edgekit.reliability import calibration_error
from edgekit.types import DECISIONS, Judge, Parity, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.parity.recording import Recording
    from edgekit.task import View
    from edgekit.types import Bundle, Study

PROBABILITY_TOLERANCE, BOX_TOLERANCE_PX = exact_tolerance("probabilities"), exact_tolerance("boxes")

NO_ANSWER, NOT_A_NUMBER = -1, -2

LISTED_FAILURES = 50
"""Changed rows listed of a FAIL, which may have hundreds; of any other verdict all are listed."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a candidate has to get through.

    Attributes
    ----------
    precision
        Name of the variant, for the record.
    brands
        K brands in the order of ``probabilities``.
    views
        The task's, in order.
    foreseen
        As in `Parity`.
    """

    judge: Judge
    precision: str
    brands: tuple[str, ...]
    views: tuple[View, ...]
    foreseen: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """Two recordings of the same N rows side by side.

    Attributes
    ----------
    counts
        Patients, for the statistical judge.
    answers
        Of reference and candidate, each int (N,): the most probable brand, `NO_ANSWER` or `NOT_A_NUMBER`.
    truth
        int (N,), `NO_ANSWER` where the brand is unknown or not one of the run's.
    found
        Of reference and candidate, each bool (N, V): the film was given and something found on it.
    answer_changed, decision_changed
        bool (N,).
    decision_flips
        Patients with a changed decision.
    accuracies
        Of reference and candidate, over the labelled patients; None when there are none.
    probability_errors
        float64 (N, K), absolute; what is not a number counts as 1.
    box_error_px
        Largest difference of a coordinate on films with a construct in either; infinite when one is not a number.
    overlaps
        float64 (B,), the IoU of these films' boxes; 0 where only one of the two found a construct.
    """

    counts: Counts
    answers: tuple[NDArray[np.int64], NDArray[np.int64]]
    truth: NDArray[np.int64]
    found: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    answer_changed: NDArray[np.bool_]
    decision_changed: NDArray[np.bool_]
    decision_flips: int
    accuracies: tuple[float, float] | None
    probability_errors: NDArray[np.float64]
    box_error_px: float
    overlaps: NDArray[np.float64]


def read_gate(bundle: Bundle) -> Gate:
    """Return what the sessions of a bundle have to get through."""
    from edgekit.graphs.lowering import read_foreseen

    return Gate(
        judge=Judge(**bundle.manifest.judge),
        precision=bundle.manifest.precision,
        brands=bundle.brands,
        views=bundle.views,
        foreseen=read_foreseen(bundle.folder),
    )


def compare(reference: Recording, candidate: Recording, studies: Sequence[Study], gate: Gate) -> Parity:
    """Judge recorded outputs.

    Parameters
    ----------
    reference, candidate
        Answers for the same canvases.
    studies
        Their rows.

    Raises
    ------
    InputError
        There are no rows, the recordings have other rows than `studies` or other canvases than each other, or a statistical judge has
        no patient of one of the run's brands or of unknown brand.
    """
    for recording in (reference, candidate):
        if not studies or any(len(recording.outputs[name]) != len(studies) for name in RECORDED):
            answered = len(recording.outputs["decision"])
            raise InputError(f"{recording.session} answered {answered} rows of {len(studies)}; a verdict needs every row, and at least one")
    if candidate.pack != reference.pack:
        raise InputError(
            f"{candidate.session} answered for other canvases (pack {candidate.pack[:12]}) than the reference (pack {reference.pack[:12]})",
            "write the pack again from these studies, and run it on the device",
        )
    contrast = contrast_rows(reference, candidate, studies, gate)
    counts = contrast.counts
    verdict = decide(contrast, gate.judge)
    control = judge_control(reference, candidate, studies, gate)
    changes = list_changes(reference, candidate, studies, gate, contrast)
    listed = changes[:LISTED_FAILURES] if verdict == "FAIL" else changes
    notes = [_describe_strength(contrast, gate.judge, verdict)]
    if verdict == "PASS" and control not in ("FAIL", None):
        notes.append(f"the negative control is {control}: this gate does not tell patients apart")
        verdict = "INCONCLUSIVE"
    if control is None:
        notes.append("no negative control: it needs patients of two brands, or two of unknown brand")
    accuracies = contrast.accuracies or (None, None)
    iou = [float(value) for value in np.percentile(contrast.overlaps, (1, 5, 50))] if len(contrast.overlaps) else [None] * 3
    return Parity(
        session=candidate.session,
        runtime=candidate.runtime,
        precision=gate.precision,
        basis=gate.judge.basis,
        n=counts.n,
        accuracy_reference=accuracies[0],
        accuracy_candidate=accuracies[1],
        flips=counts.flips,
        agreement=1 - counts.flips / counts.n,
        agreement_ci95=clopper_pearson(counts.n - counts.flips, counts.n),
        max_probability_error=float(contrast.probability_errors.max()),
        box_iou_p05=iou[1],
        decision_flips=contrast.decision_flips,
        difference=_measure_drop(counts, gate.judge),
        mcnemar_p=mcnemar_exact(counts.only_reference, counts.only_candidate) if counts.n_known else None,
        power="; ".join(notes),
        verdict=verdict,
        negative_control=control,
        reference=reference.runtime,
        pack=candidate.pack,
        mean_probability_error=float(contrast.probability_errors.mean()),
        calibration_error_reference=measure_calibration(reference.outputs["probabilities"], contrast.truth),
        calibration_error_candidate=measure_calibration(candidate.outputs["probabilities"], contrast.truth),
        max_box_error_px=contrast.box_error_px if len(contrast.overlaps) and np.isfinite(contrast.box_error_px) else None,
        box_iou_p01=iou[0],
        box_iou_p50=iou[2],
        flipped=listed,
        flipped_unlisted=len(changes) - len(listed),
        cpu=candidate.cpu,
        foreseen=gate.foreseen,
        n_labelled=counts.n_known,
    )


def contrast_rows(reference: Recording, candidate: Recording, studies: Sequence[Study], gate: Gate) -> Contrast:
    """Put two recordings side by side."""
    answers = _find_answers(reference), _find_answers(candidate)
    n_patients, patient = _number_patients(studies)
    answer_changed = answers[0] != answers[1]
    decision_changed = (reference.outputs["decision"] != candidate.outputs["decision"]).reshape(len(studies))

    truth = np.array([gate.brands.index(study.brand) if study.brand in gate.brands else NO_ANSWER for study in studies])
    unlabelled = _any_row(np.array([study.brand is None for study in studies]), patient, n_patients)
    known = _any_row(truth != NO_ANSWER, patient, n_patients) & ~unlabelled
    flipped = _any_row(answer_changed, patient, n_patients)
    right = [~_any_row((answer != truth) & (truth != NO_ANSWER), patient, n_patients)[known] for answer in answers]
    only_reference, only_candidate = count_discordant(*right)
    counts = Counts(
        n=n_patients,
        flips=int(flipped.sum()),
        n_known=int(known.sum()),
        only_reference=only_reference,
        only_candidate=only_candidate,
        n_unlabelled=int(unlabelled.sum()),
        flips_unlabelled=int((flipped & unlabelled).sum()),
    )

    differences = np.abs(reference.outputs["probabilities"].astype(np.float64) - candidate.outputs["probabilities"].astype(np.float64))
    found = reference.outputs["found"] == 1, candidate.outputs["found"] == 1
    judged = found[0] | found[1]
    boxes = [recording.outputs["boxes"][judged].astype(np.float64) for recording in (reference, candidate)]
    return Contrast(
        counts=counts,
        answers=answers,
        truth=truth,
        found=found,
        answer_changed=answer_changed,
        decision_changed=decision_changed,
        decision_flips=int(_any_row(decision_changed, patient, n_patients).sum()),
        accuracies=(float(right[0].mean()), float(right[1].mean())) if counts.n_known else None,
        probability_errors=np.nan_to_num(differences, nan=1.0, posinf=1.0),
        box_error_px=float(np.nan_to_num(np.abs(boxes[0] - boxes[1]), nan=np.inf).max(initial=0.0)),
        overlaps=np.where((found[0] & found[1])[judged], box_iou(*boxes), 0.0),
    )


def compare_machines(native: Recording, other: Recording, studies: Sequence[Study], gate: Gate) -> tuple[int, float | None]:
    """Compare what the same file answered for the same canvases on two processors.

    Returns
    -------
    changed, box_px
        Patients whose most probable brand differs; and the largest difference of a coordinate in canvas pixels over the films where both
        found a construct, None when there are none, or it is not a number.
    """
    contrast = contrast_rows(native, other, studies, gate)
    both = contrast.found[0] & contrast.found[1]
    boxes = [recording.outputs["boxes"][both].astype(np.float64) for recording in (native, other)]
    box_px = float(np.abs(boxes[0] - boxes[1]).max()) if both.any() else np.nan
    return contrast.counts.flips, box_px if np.isfinite(box_px) else None


def decide(contrast: Contrast, judge: Judge) -> Verdict:
    """Apply the recipe's judge, numerical or statistical.

    Raises
    ------
    InputError
        The judge is statistical and every patient's brand is known, and is none of the run's.
    """
    if judge.basis == "statistical":
        return statistical_verdict(contrast.counts, judge)
    exact = contrast.probability_errors.max() <= PROBABILITY_TOLERANCE and contrast.box_error_px <= BOX_TOLERANCE_PX
    return "PASS" if exact and not contrast.counts.flips and not contrast.decision_flips else "FAIL"


def judge_control(reference: Recording, candidate: Recording, studies: Sequence[Study], gate: Gate) -> Verdict | None:
    """Judge the candidate on another patient's films, of another brand or, where one of both is unknown, of any; None where nobody has one.

    No film is run again: a session's answer to a film does not depend on the others, so another patient's row is its answer.
    """
    judged, swapped = [], []
    for row, study in enumerate(studies):
        for other in (*range(row + 1, len(studies)), *range(row)):
            if studies[other].patient_id != study.patient_id and (study.brand is None or studies[other].brand != study.brand):
                judged.append(row)
                swapped.append(other)
                break
    if not judged:
        return None
    rows = [studies[row] for row in judged]
    return decide(contrast_rows(_take(reference, judged), _take(candidate, swapped), rows, gate), gate.judge)


def list_changes(
    reference: Recording, candidate: Recording, studies: Sequence[Study], gate: Gate, contrast: Contrast
) -> list[dict[str, Any]]:
    """Return the rows whose answer or decision changed: changed answers first, the largest change of a probability first.

    Returns
    -------
    list of dict
        ``row``, counted from 1 among those judged; ``patient_id``;
        ``brand``, the truth; ``right``: ``reference``, ``candidate``, ``both``, ``neither``, or None where the truth is
        unknown or not one of the run's brands; and ``reference`` and ``candidate``, each with ``answer`` (a brand, or None when no
        construct was found or the probabilities are not numbers), ``decision``, ``probabilities`` by brand, rounded to 4 decimals, and
        ``boxes`` by view in canvas pixels, rounded to 0.1, None where the film was not given or shows no construct.
    """
    rows = np.flatnonzero(contrast.answer_changed | contrast.decision_changed)
    order = np.lexsort((-contrast.probability_errors[rows].max(axis=1), ~contrast.answer_changed[rows]))
    changes = []
    for row in map(int, rows[order]):
        truth = contrast.truth[row]
        right = bool(contrast.answers[0][row] == truth), bool(contrast.answers[1][row] == truth)
        sides = {
            name: _describe_answer(recording, row, int(answers[row]), found[row], gate)
            for name, recording, answers, found in zip(
                ("reference", "candidate"), (reference, candidate), contrast.answers, contrast.found, strict=True
            )
        }
        changes.append(
            {
                "row": row + 1,
                "patient_id": studies[row].patient_id,
                "brand": studies[row].brand,
                "right": _RIGHT[right] if truth != NO_ANSWER else None,
                **sides,
            }
        )
    return changes


_RIGHT = {(True, True): "both", (True, False): "reference", (False, True): "candidate", (False, False): "neither"}


def measure_calibration(probabilities: NDArray[np.generic], truth: NDArray[np.int64]) -> float | None:
    """Return the expected calibration error over the rows of known brand, as ``edgekit evaluate`` defines it.

    A row without an answer stands for equal probabilities and is wrong, as in ``predictions.csv``.

    Parameters
    ----------
    probabilities
        float (N, K).
    truth
        int (N,), `NO_ANSWER` where the brand is unknown.

    Returns
    -------
    None when no brand is known, or a probability is not a number.
    """
    values = probabilities[truth != NO_ANSWER].astype(np.float64)
    if not len(values) or not np.isfinite(values).all():
        return None
    answered = values.max(axis=1) > 0
    confidence = np.where(answered, values.max(axis=1), 1 / values.shape[1])
    hits = answered & (values.argmax(axis=1) == truth[truth != NO_ANSWER])
    return float(calibration_error(confidence, hits)[0])


def summarize(parity: Parity) -> str:
    """Return one line for people: the verdict and the figures that decided it."""
    numbers = [
        f"{parity.verdict} in {parity.session} on {parity.n} patients ({parity.basis})",
        _describe_flips(parity),
    ]
    if parity.basis == "numerical":
        numbers.append(f"largest probability difference {parity.max_probability_error:.1e} (at most {PROBABILITY_TOLERANCE:.0e})")
    else:
        low, high = (100 * limit for limit in parity.agreement_ci95)
        drop, margin = (100 * parity.difference["at_most"], 100 * parity.difference["margin"])
        numbers.append(f"agreement {100 * parity.agreement:.2f} % ({low:.2f}-{high:.2f})")
        numbers.append(f"accuracy drop at most {drop:.2f} points (margin {margin:g})")
    numbers.append(f"{parity.decision_flips} changed decisions")
    return "; ".join([*numbers, parity.power])


def _describe_flips(parity: Parity) -> str:
    return f"{parity.flips} changed answers" + ("" if parity.foreseen is None else f" ({parity.foreseen * parity.n:.1f} foreseen)")


def _find_answers(recording: Recording) -> NDArray[np.int64]:
    """Index of the most probable brand, `NO_ANSWER` where no construct was found, `NOT_A_NUMBER` where the graph broke; (N,)."""
    probabilities = recording.outputs["probabilities"]
    answers = np.where(probabilities.max(axis=1) > 0, probabilities.argmax(axis=1), NO_ANSWER)
    return np.where(np.isfinite(probabilities).all(axis=1), answers, NOT_A_NUMBER)


def _take(recording: Recording, rows: list[int]) -> Recording:
    return replace(recording, outputs={name: recording.outputs[name][rows] for name in RECORDED})


def _number_patients(studies: Sequence[Study]) -> tuple[int, NDArray[np.int64]]:
    """Return the number of patients and the patient of each row, (N,)."""
    numbers: dict[str, int] = {}
    patient = np.array([numbers.setdefault(study.patient_id, len(numbers)) for study in studies])
    return len(numbers), patient


def _any_row(flags: NDArray[np.bool_], patient: NDArray[np.int64], n_patients: int) -> NDArray[np.bool_]:
    """Whether the flag is set in any row of each patient; (P,)."""
    return np.bincount(patient, weights=flags, minlength=n_patients) > 0


def _describe_answer(recording: Recording, row: int, answer: int, found: NDArray[np.bool_], gate: Gate) -> dict[str, Any]:
    decision = int(recording.outputs["decision"][row].item())
    return {
        "answer": gate.brands[answer] if answer >= 0 else None,
        "decision": DECISIONS[decision] if 0 <= decision < len(DECISIONS) else f"invalid: {decision}",
        "probabilities": dict(zip(gate.brands, _round(recording.outputs["probabilities"][row], 4), strict=True)),
        "boxes": {
            view: _round(recording.outputs["boxes"][row, index], 1) if found[index] else None for index, view in enumerate(gate.views)
        },
    }


def _round(values: NDArray[np.generic], digits: int) -> list[float | None]:
    """Return numbers fit for JSON; what is not a number is None."""
    return [round(float(value), digits) if np.isfinite(value) else None for value in values.astype(np.float64)]


def _measure_drop(counts: Counts, judge: Judge) -> dict[str, Any]:
    """Accuracy of the reference minus that of the candidate: ``difference`` of `Parity`."""
    value, ci95 = None, None
    if counts.n_known:
        value = (counts.only_reference - counts.only_candidate) / counts.n_known
        ci95 = tango_interval(counts.only_reference, counts.only_candidate, counts.n_known)
    return {"value": value, "ci95": ci95, "at_most": bound_drop(counts), "margin": judge.margin}


def _describe_strength(contrast: Contrast, judge: Judge, verdict: Verdict) -> str:
    """Say what these patients can prove."""
    if judge.basis == "numerical":
        return f"numerical: every film is compared, largest box difference {contrast.box_error_px:.2g} pixels"
    return describe_power(contrast.counts, judge, verdict)
