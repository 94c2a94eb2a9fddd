from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pedicle_screws import VIEWS

from edgekit.errors import InputError
from edgekit.evaluation.metrics import score_predictions
from edgekit.parity.comparison import Gate, compare, summarize
from edgekit.parity.recording import Recording
from edgekit.proportions import tango_interval
from edgekit.types import Judge, Study

BRANDS = ("a", "b", "c")
NUMERICAL = Gate(Judge("numerical"), "fp32", BRANDS, VIEWS)
STATISTICAL = Gate(Judge("statistical", margin=0.01, agreement=0.985), "w8a8", BRANDS, VIEWS)


def make_studies(n: int, **changes: Any) -> list[Study]:
    film = Path("film.dcm")
    return [replace(Study(f"p{i}", BRANDS[i % 3], films={"ap": film, "lateral": film}), **changes) for i in range(n)]


def make_recording(studies: list[Study], wrong: int = 0) -> Recording:
    """A recording that answers every patient's brand with 0.8, but the first `wrong` patients with the next brand."""
    probabilities = np.full((len(studies), 3), 0.1, np.float32)
    for row, study in enumerate(studies):
        brand = BRANDS.index(study.brand) if study.brand in BRANDS else 0
        probabilities[row, (brand + (row < wrong)) % 3] = 0.8
    boxes = np.tile(np.array([10, 20, 50, 90], np.float32), (len(studies), 2, 1))
    outputs = {
        "probabilities": probabilities,
        "members": probabilities[:, None].repeat(2, axis=1),
        "boxes": boxes,
        "box_scores": np.full((len(studies), 2), 0.9, np.float32),
        "found": np.array([[view in study.given for view in VIEWS] for study in studies], np.int32),
        "view_scores": np.tile(np.eye(2, dtype=np.float32), (len(studies), 1, 1)),
        "prediction_set": (probabilities > 0.5).astype(np.int32),
        "unfamiliarity": np.zeros((len(studies), 1), np.float32),
        "decision": np.zeros((len(studies), 1), np.int32),
    }
    return Recording("candidate", "test 1.0", "pack", outputs)


def changed(recording: Recording, name: str, row: int, value: Any) -> Recording:
    tensor = recording.outputs[name].copy()
    tensor[row] = value
    return replace(recording, outputs={**recording.outputs, name: tensor})


def test_equal_answers_pass_both_judges_and_the_control_fails() -> None:
    studies = make_studies(600)
    recording = make_recording(studies)
    for gate in (NUMERICAL, STATISTICAL):
        parity = compare(recording, recording, studies, gate)
        assert (parity.verdict, parity.negative_control, parity.flips, parity.agreement) == ("PASS", "FAIL", 0, 1.0)
        assert (parity.n, parity.accuracy_reference, parity.box_iou_p05, parity.mcnemar_p) == (600, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("probabilities", (0.80009, 0.09991, 0.1), "PASS"),
        ("probabilities", (0.80011, 0.09989, 0.1), "FAIL"),
        ("probabilities", (np.nan, np.nan, np.nan), "FAIL"),
        ("boxes", [[10, 20, 50, 90], [10.4, 20, 50, 90]], "PASS"),
        ("boxes", [[10, 20, 50, 90], [10.6, 20, 50, 90]], "FAIL"),
        ("boxes", [[np.nan] * 4] * 2, "FAIL"),
        ("decision", 1, "FAIL"),
    ],
)
def test_the_numerical_judge_looks_at_every_film(name: str, value: Any, verdict: str) -> None:
    studies = make_studies(6)
    reference = make_recording(studies)
    assert compare(reference, changed(reference, name, 3, value), studies, NUMERICAL).verdict == verdict


def test_the_box_of_a_film_without_construct_is_not_judged() -> None:
    studies = make_studies(6)
    reference = changed(make_recording(studies), "found", 3, (1, 0))
    moved = [[10, 20, 50, 90], [200, 200, 210, 210]]
    candidate = changed(reference, "boxes", 3, moved)
    assert compare(reference, candidate, studies, NUMERICAL).verdict == "PASS"
    seen = changed(candidate, "found", 3, (1, 1))  # the candidate answers for that film: now its box counts
    parity = compare(reference, seen, studies, NUMERICAL)
    assert parity.verdict == "FAIL"


def test_an_unanswered_patient_is_a_flip_when_the_other_side_answers() -> None:
    studies = make_studies(6)
    reference = make_recording(studies)
    silent = changed(reference, "probabilities", 0, (0, 0, 0))
    assert compare(reference, silent, studies, STATISTICAL).flips == 1
    parity = compare(silent, silent, studies, STATISTICAL)
    assert (parity.flips, parity.accuracy_reference) == (0, pytest.approx(5 / 6))


def test_accuracy_and_mcnemar_count_discordant_patients() -> None:
    studies = make_studies(60)
    parity = compare(make_recording(studies), make_recording(studies, wrong=6), studies, STATISTICAL)
    assert (parity.flips, parity.agreement, parity.accuracy_candidate) == (6, 0.9, 0.9)
    assert parity.difference["value"] == pytest.approx(0.1)
    assert parity.difference["ci95"] == pytest.approx(tango_interval(6, 0, 60))
    assert parity.mcnemar_p == pytest.approx(2 / 2**6)
    assert parity.verdict == "FAIL"


def test_inconclusive_names_the_number_that_would_decide() -> None:
    studies = make_studies(90)
    parity = compare(make_recording(studies), make_recording(studies), studies, STATISTICAL)
    assert parity.verdict == "INCONCLUSIVE"
    assert "381 patients would decide, for a PASS" in parity.power
    assert "at least 245 patients" in parity.power  # 0.985 ^ n <= 0.025


def test_inconclusive_tells_when_more_patients_can_only_bring_a_fail() -> None:
    """Three changed of 154 are an agreement of 98.05 %, below the floor of 98.5 %."""
    studies = make_studies(154)
    parity = compare(make_recording(studies), make_recording(studies, wrong=3), studies, STATISTICAL)
    assert parity.verdict == "INCONCLUSIVE"
    assert "would decide, for a FAIL" in parity.power


def test_rows_of_one_patient_count_once() -> None:
    studies = [replace(study, patient_id=f"p{row // 2}", brand="a") for row, study in enumerate(make_studies(20))]
    parity = compare(make_recording(studies), make_recording(studies, wrong=3), studies, STATISTICAL)
    assert (parity.n, parity.flips, parity.accuracy_candidate) == (10, 2, 0.8)


def hide_brands(studies: list[Study], first: int) -> list[Study]:
    """The same patients, their brands unknown from the row `first` on."""
    return [study if row < first else replace(study, brand=None) for row, study in enumerate(studies)]


def test_without_brands_agreement_decides_and_the_control_is_another_patient() -> None:
    """An accuracy drop of 1 % is excluded by 1 - 0.025 ** (1 / n) <= 0.01, so from 368 patients without a change."""
    for n, verdict in ((368, "PASS"), (367, "INCONCLUSIVE")):
        studies = make_studies(n)
        unlabelled = hide_brands(studies, 0)
        recording = make_recording(studies)
        parity = compare(recording, recording, unlabelled, STATISTICAL)
        assert (parity.verdict, parity.negative_control, parity.n, parity.n_labelled) == (verdict, "FAIL", n, 0)
        assert (parity.accuracy_reference, parity.accuracy_candidate, parity.mcnemar_p) == (None, None, None)
        largest = 1 - 0.025 ** (1 / n)
        assert parity.difference == {"value": None, "ci95": None, "at_most": pytest.approx(largest), "margin": 0.01}
        assert f"accuracy drop at most {100 * largest:.2f} points (margin 1)" in summarize(parity)
    assert "agreement of 99 % (accuracy can't fall by more than the answers that change) needs at least 367" not in parity.power
    assert "needs at least 368 patients without a flip, these are 367" in parity.power
    assert "at the observed flip rate 368 patients would decide, for a PASS" in parity.power


def test_without_brands_too_many_changed_answers_fail() -> None:
    studies = make_studies(600)
    parity = compare(make_recording(studies), make_recording(studies, wrong=30), hide_brands(studies, 0), STATISTICAL)
    assert (parity.verdict, parity.flips) == ("FAIL", 30)  # 30 of 600: agreement at most 96.6 %


def test_without_brands_a_gate_that_lets_other_patients_films_pass_is_inconclusive() -> None:
    studies = make_studies(600, brand=None)
    same = make_recording(studies)  # every patient's answer is the same
    parity = compare(same, same, studies, STATISTICAL)
    assert (parity.verdict, parity.negative_control) == ("INCONCLUSIVE", "PASS")


def test_the_control_never_shows_a_patient_their_own_films() -> None:
    """Two unlabelled patients with 300 rows each: only across them do the answers differ."""
    studies = [Study(f"p{row // 300}", None, films={"ap": Path("film.dcm"), "lateral": Path("film.dcm")}) for row in range(600)]
    recording = make_recording([replace(study, brand="ab"[row // 300]) for row, study in enumerate(studies)])
    assert compare(recording, recording, studies, NUMERICAL).negative_control == "FAIL"
    one = studies[:300]
    alone = make_recording(one)
    parity = compare(alone, alone, one, NUMERICAL)
    assert (parity.verdict, parity.negative_control) == ("PASS", None)
    assert "no negative control" in parity.power


def test_few_brands_known_among_many_do_not_stand_in_the_way() -> None:
    """Ten labelled patients alone prove nothing; with 590 others whose answers stay, accuracy falls by less than 1 %."""
    studies = make_studies(600)
    recording = make_recording(studies)
    parity = compare(recording, recording, hide_brands(studies, 10), STATISTICAL)
    assert (parity.verdict, parity.negative_control, parity.n_labelled) == ("PASS", "FAIL", 10)
    assert parity.difference["ci95"] == pytest.approx(tango_interval(0, 0, 10))
    assert parity.difference["at_most"] == pytest.approx(1.959964**2 / (600 + 1.959964**2), abs=1e-6)  # no discordant pair of 600
    assert "the brand of 590 patients is unknown" in parity.power


def test_a_changed_answer_without_a_brand_counts_as_a_right_one_lost() -> None:
    studies = make_studies(1500)
    reference, candidate = make_recording(studies), make_recording(studies, wrong=8)
    known = compare(reference, candidate, studies, STATISTICAL)
    hidden = compare(
        reference, candidate, [replace(study, brand=None) if row < 8 else study for row, study in enumerate(studies)], STATISTICAL
    )
    assert known.difference["at_most"] == hidden.difference["at_most"] == pytest.approx(tango_interval(8, 0, 1500)[1])
    assert (hidden.accuracy_reference, hidden.accuracy_candidate, hidden.n_labelled) == (1.0, 1.0, 1492)
    better = compare(candidate, reference, hide_brands(studies, 100), STATISTICAL)  # with a brand, eight that became right are no loss
    assert better.difference["at_most"] == pytest.approx(tango_interval(0, 8, 1500)[1])
    assert better.difference["ci95"][0] < better.difference["value"] < 0


def test_a_drop_of_the_labelled_patients_is_not_diluted() -> None:
    """Twelve of 100 labelled patients lost: a FAIL, though only 12 answers of 2,000 changed."""
    studies = make_studies(2000)
    parity = compare(make_recording(studies), make_recording(studies, wrong=12), hide_brands(studies, 100), STATISTICAL)
    assert parity.verdict == "FAIL"
    assert parity.agreement_ci95[0] > 0.985
    assert parity.difference["at_most"] < 0.0105
    assert parity.difference["ci95"][0] > 0.01


def test_a_patient_with_a_row_of_unknown_brand_is_unlabelled() -> None:
    studies = [replace(study, patient_id=f"p{row // 2}") for row, study in enumerate(make_studies(8))]
    studies[0] = replace(studies[0], brand=None)
    parity = compare(make_recording(studies), make_recording(studies), studies, STATISTICAL)
    assert (parity.n, parity.n_labelled) == (4, 3)


def test_patients_of_other_brands_only_give_no_statistical_verdict() -> None:
    studies = make_studies(6, brand="unseen")
    recording = make_recording(studies)
    parity = compare(recording, recording, studies, NUMERICAL)
    assert (parity.verdict, parity.negative_control, parity.mcnemar_p) == ("PASS", None, None)
    assert (parity.accuracy_reference, parity.accuracy_candidate) == (None, None)
    assert parity.difference == {"value": None, "ci95": None, "at_most": None, "margin": None}
    with pytest.raises(InputError, match="patients of the run's brands, or of unknown brand"):
        compare(recording, recording, studies, STATISTICAL)


def test_none_and_unseen_brands_are_judged_but_not_in_the_accuracy() -> None:
    studies = make_studies(6)
    studies[0] = replace(studies[0], brand="none")
    studies[1] = replace(studies[1], brand="unseen")
    reference = make_recording(studies)
    parity = compare(reference, changed(reference, "decision", 0, 3), studies, NUMERICAL)
    assert (parity.n, parity.accuracy_reference, parity.decision_flips, parity.verdict) == (6, 1.0, 1, "FAIL")


def test_a_gate_that_lets_other_patients_films_pass_is_inconclusive() -> None:
    studies = make_studies(6)
    same = make_recording([replace(study, brand="a") for study in studies])
    parity = compare(same, same, studies, NUMERICAL)
    assert (parity.verdict, parity.negative_control) == ("INCONCLUSIVE", "PASS")
    assert "negative control" in parity.power


def test_recordings_of_other_rows_are_refused() -> None:
    studies = make_studies(6)
    with pytest.raises(InputError, match="answered 6 rows of 5"):
        compare(make_recording(studies), make_recording(studies), studies[:5], NUMERICAL)


def test_recordings_of_other_canvases_are_refused() -> None:
    studies = make_studies(6)
    reference = make_recording(studies)
    with pytest.raises(InputError, match="other canvases"):
        compare(reference, replace(reference, pack="another"), studies, NUMERICAL)


def test_every_changed_patient_is_listed_with_both_answers() -> None:
    studies = make_studies(6, films={"ap": Path("film.dcm"), "lateral": None})  # brands a b c a b c
    reference = changed(make_recording(studies), "found", 4, (0, 0))
    candidate = changed(reference, "probabilities", 1, (0.62, 0.3, 0.08))
    candidate = changed(candidate, "probabilities", 3, (0.1, 0.15, 0.75))
    candidate = changed(candidate, "boxes", 3, [[11.26, 20, 50, 90], [0, 0, 9, 9]])
    candidate = changed(candidate, "decision", 4, 2)
    parity = compare(reference, candidate, studies, STATISTICAL)
    assert (parity.flips, parity.decision_flips, parity.flipped_unlisted) == (2, 1, 0)
    third, first, decided = parity.flipped  # changed answers by size of the change (0.65, 0.5), then changed decisions
    assert [each["patient_id"] for each in parity.flipped] == ["p3", "p1", "p4"]
    assert third == {
        "row": 4,
        "patient_id": "p3",
        "brand": "a",
        "right": "reference",
        "reference": {
            "answer": "a",
            "decision": "identified",
            "probabilities": {"a": 0.8, "b": 0.1, "c": 0.1},
            "boxes": {"ap": [10, 20, 50, 90], "lateral": None},
        },
        "candidate": {
            "answer": "c",
            "decision": "identified",
            "probabilities": {"a": 0.1, "b": 0.15, "c": 0.75},
            "boxes": {"ap": [11.3, 20, 50, 90], "lateral": None},
        },
    }
    assert (first["right"], first["candidate"]["answer"]) == ("reference", "a")
    assert (decided["right"], decided["reference"]["decision"], decided["candidate"]["decision"]) == ("both", "identified", "unfamiliar")
    assert decided["reference"]["boxes"] == {"ap": None, "lateral": None}  # no construct found


@pytest.mark.parametrize(
    ("brand", "probabilities", "right"),
    [("b", (0.1, 0.8, 0.1), "candidate"), ("c", (0.1, 0.8, 0.1), "neither"), ("unseen", (0.1, 0.8, 0.1), None), (None, (0, 0, 0), None)],
)
def test_a_changed_patient_says_who_is_right(brand: str | None, probabilities: Any, right: str | None) -> None:
    studies = make_studies(6)
    reference = make_recording(studies)
    studies[0] = replace(studies[0], brand=brand)  # whom the reference takes for an a
    parity = compare(reference, changed(reference, "probabilities", 0, probabilities), studies, NUMERICAL)
    (change,) = parity.flipped
    assert (change["brand"], change["right"]) == (brand, right)
    assert change["candidate"]["answer"] == ("b" if sum(probabilities) else None)


def test_a_failure_lists_its_fifty_largest_changes_and_counts_the_others() -> None:
    studies = make_studies(300)
    candidate = make_recording(studies, wrong=120)
    candidate = changed(candidate, "probabilities", 77, (0, 0, 1))  # p77 is a c: the answer stays
    candidate = changed(candidate, "probabilities", 78, (0, 1, 0))  # the largest change of an answer
    parity = compare(make_recording(studies), candidate, studies, STATISTICAL)
    assert (parity.verdict, parity.flips, len(parity.flipped), parity.flipped_unlisted) == ("FAIL", 119, 50, 69)
    assert parity.flipped[0]["patient_id"] == "p78"
    inconclusive = compare(make_recording(studies[:3] * 30), make_recording(studies[:3] * 30), make_studies(90), STATISTICAL)
    assert (inconclusive.verdict, inconclusive.flipped) == ("INCONCLUSIVE", [])


def test_a_verdict_that_does_not_fail_lists_every_change() -> None:
    studies = make_studies(400)
    reference = make_recording(studies)
    candidate = replace(reference, outputs={**reference.outputs, "decision": np.ones((400, 1), np.int32)})
    parity = compare(reference, candidate, studies, STATISTICAL)
    assert (parity.verdict, parity.flips, parity.decision_flips, len(parity.flipped)) == ("PASS", 0, 400, 400)


def test_what_is_not_a_number_stays_out_of_the_record() -> None:
    studies = make_studies(400)
    reference = make_recording(studies)
    candidate = changed(reference, "probabilities", 0, np.nan)
    candidate = changed(changed(candidate, "boxes", 1, np.nan), "decision", 2, 9)
    for gate in (NUMERICAL, STATISTICAL):
        parity = compare(reference, candidate, studies, gate)
        json.dumps(asdict(parity), allow_nan=False)
        assert (parity.flips, parity.decision_flips, parity.max_probability_error, parity.box_iou_p01) == (1, 1, 1.0, 1.0)
        assert (parity.calibration_error_candidate, parity.max_box_error_px) == (None, None)
        broken, decided = parity.flipped
        assert broken["candidate"]["answer"] is None
        assert broken["candidate"]["probabilities"] == {"a": None, "b": None, "c": None}
        assert decided["candidate"]["decision"] == "invalid: 9"


def test_box_figures_are_those_of_the_films_with_a_construct() -> None:
    studies = make_studies(100)
    reference = make_recording(studies)  # 200 films with a box of 40 x 70
    candidate = changed(reference, "boxes", 0, [[10, 20, 30, 90], [10, 20, 50, 55]])  # halves: IoU 0.5
    candidate = changed(candidate, "boxes", 1, [[10, 20, 40, 90], [10, 20, 50, 90]])  # three quarters
    candidate = changed(candidate, "found", 2, (0, 1))  # not found by one of the two: IoU 0
    parity = compare(reference, candidate, studies, STATISTICAL)
    # sorted: 0, 0.5, 0.5, 0.75, 1, ...; the 1st percentile of 200 lies at 1.99, the 5th at 9.95
    assert (parity.box_iou_p01, parity.box_iou_p05, parity.box_iou_p50) == (pytest.approx(0.5), 1.0, 1.0)
    assert parity.max_box_error_px == 35


def test_calibration_drift_is_what_the_evaluation_would_find() -> None:
    random = np.random.default_rng(3)
    studies = make_studies(90)
    studies[5], studies[6] = replace(studies[5], brand="unseen"), replace(studies[6], brand=None)
    reference, candidate = (
        replace(recording, outputs={**recording.outputs, "probabilities": random.dirichlet((2, 1, 1), 90).astype(np.float32)})
        for recording in (make_recording(studies), make_recording(studies))
    )
    candidate = changed(candidate, "probabilities", 7, (0, 0, 0))  # no answer
    parity = compare(reference, candidate, studies, STATISTICAL)
    known = [row for row, study in enumerate(studies) if study.brand in BRANDS]
    for recording, found in ((reference, parity.calibration_error_reference), (candidate, parity.calibration_error_candidate)):
        rows = recording.outputs["probabilities"].astype(float)
        rows[rows.sum(axis=1) == 0] = 1 / 3
        rows = rows[known]
        scored = score_predictions(BRANDS, [str(studies[row].brand) for row in known], rows, [str(row) for row in known], {})
        assert found == pytest.approx(scored["calibration_error"])
    outputs = reference.outputs["probabilities"].astype(float), candidate.outputs["probabilities"].astype(float)
    assert parity.mean_probability_error == pytest.approx(sum(abs(a - b) for a, b in zip(*map(np.ravel, outputs), strict=True)) / 270)
    assert (parity.reference, parity.pack) == ("test 1.0", "pack")


def test_one_line_says_what_decided() -> None:
    studies = make_studies(600)
    line = summarize(compare(make_recording(studies), make_recording(studies, wrong=1), studies, STATISTICAL))
    # Clopper-Pearson of 599 of 600 from the beta distribution: 0.9907492, 0.9999578
    assert line.startswith("PASS in candidate on 600 patients (statistical); 1 changed answers; agreement 99.83 % (99.07-100.00)")
    assert "at most 3 flips of 600" in line
