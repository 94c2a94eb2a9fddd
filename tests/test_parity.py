from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.parity import (
    Counts,
    Gate,
    Recording,
    clopper_pearson,
    compare,
    flips_allowed,
    mcnemar_exact,
    patients_to_decide,
    statistical_verdict,
    tango_interval,
)
from edgekit.types import Judge, Study

BRANDS = ("a", "b", "c")
NUMERICAL = Gate(Judge("numerical"), "fp32", BRANDS, box_threshold=0.5)
STATISTICAL = Gate(Judge("statistical", margin=0.01, agreement=0.985), "w8a8", BRANDS, box_threshold=0.5)


def make_studies(n: int, **changes: Any) -> list[Study]:
    film = Path("film.dcm")
    return [replace(Study(f"p{i}", BRANDS[i % 3], ap=film, lateral=film), **changes) for i in range(n)]


def make_recording(studies: list[Study], wrong: int = 0) -> Recording:
    """A recording that answers every patient's brand with 0.8, but the first `wrong` patients with the next brand."""
    probabilities = np.full((len(studies), 3), 0.1, np.float32)
    for row, study in enumerate(studies):
        brand = BRANDS.index(study.brand) if study.brand in BRANDS else 0
        probabilities[row, (brand + (row < wrong)) % 3] = 0.8
    boxes = np.tile(np.array([10, 20, 50, 90], np.float32), (len(studies), 2, 1))
    outputs = {
        "probabilities": probabilities,
        "boxes": boxes,
        "box_scores": np.full((len(studies), 2), 0.9, np.float32),
        "decision": np.zeros((len(studies), 1), np.int32),
    }
    return Recording("candidate", "test 1.0", outputs)


def changed(recording: Recording, name: str, row: int, value: Any) -> Recording:
    tensor = recording.outputs[name].copy()
    tensor[row] = value
    return replace(recording, outputs={**recording.outputs, name: tensor})


# Published: Fagerland, Lydersen & Laake (2017), Statistical Analysis of Contingency Tables, chapter 8 (airway reactivity, Bentur 2009:
# 1, 1, 7, 12; complete response, Cavo 2012: 59, 6, 16, 80); PropCIs 0.3 scoreci.mp(25, 28, 618) at 90 %, whose sign is the opposite.
@pytest.mark.parametrize(
    ("b", "c", "n", "confidence", "expected"),
    [
        (1, 7, 21, 0.95, (-0.517, -0.026)),
        (6, 16, 161, 0.95, (-0.1240, -0.0054)),
        (28, 25, 618, 0.90, (-0.0148, 0.0247)),
    ],
)
def test_tango_reproduces_published_intervals(b: int, c: int, n: int, confidence: float, expected: tuple[float, float]) -> None:
    assert tango_interval(b, c, n, confidence) == pytest.approx(expected, abs=5.1e-4 if n == 21 else 5.1e-5)


def test_tango_without_discordant_pairs_is_the_solved_root() -> None:
    z2 = 1.959963984540054**2  # n D / (1 - D) = z^2, solved for D
    assert tango_interval(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-9)


def test_tango_at_the_ends_and_mirrored() -> None:
    assert tango_interval(5, 0, 5)[1] == 1.0
    assert tango_interval(0, 5, 5)[0] == -1.0
    z2 = 1.959963984540054**2
    assert tango_interval(5, 0, 5)[0] == pytest.approx((5 - z2) / (5 + z2), abs=1e-6)  # n (1 - D) / (1 + D) = z^2
    lower, upper = tango_interval(9, 4, 200)
    assert tango_interval(4, 9, 200) == pytest.approx((-upper, -lower), abs=1e-9)


@pytest.mark.parametrize(("b", "c", "n"), [(3, 11, 60), (0, 4, 30), (20, 20, 45)])
def test_tango_limits_are_where_the_constrained_likelihood_is_rejected(b: int, c: int, n: int) -> None:
    """The score statistic at each limit, with the nuisance parameter maximised numerically, is 1.96."""
    from scipy.optimize import minimize_scalar

    for limit in tango_interval(b, c, n):
        low, high = max(0.0, -limit), min(1.0, 1 - limit)  # q = P(second only), q + limit = P(first only)

        def loss(q: float, limit: float = limit) -> float:
            first, both = q + limit, 1 - 2 * q - limit
            terms = ((b, first), (c, q), (n - b - c, both))
            return -sum(k * np.log(max(p, 1e-300)) for k, p in terms if k)

        q = minimize_scalar(loss, bounds=(low, (high + low) / 2 if high < 1 else high), method="bounded", options={"xatol": 1e-12}).x
        z = (b - c - n * limit) / np.sqrt(n * (2 * q + limit * (1 - limit)))
        assert abs(z) == pytest.approx(1.95996, abs=2e-3)


def test_clopper_pearson_of_all_successes_is_the_solved_root() -> None:
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))


def test_mcnemar_is_the_binomial_sum() -> None:
    assert mcnemar_exact(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=1e-6)  # Fagerland et al. 2017, table 8
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize(
    ("n", "floor", "expected"), [(600, 0.985, 3), (1500, 0.985, 13), (600, 0.99, 1), (1500, 0.99, 7), (100, 0.985, None)]
)
def test_flips_allowed_as_the_specification_says(n: int, floor: float, expected: int | None) -> None:
    assert flips_allowed(n, floor) == expected


def test_statistical_verdicts() -> None:
    judge = STATISTICAL.judge
    assert statistical_verdict(Counts(1500, 0, 1500, 0, 0), judge) == "PASS"
    assert statistical_verdict(Counts(1500, 13, 1500, 5, 5), judge) == "PASS"
    assert statistical_verdict(Counts(1500, 14, 1500, 5, 5), judge) == "INCONCLUSIVE"
    assert statistical_verdict(Counts(1500, 60, 1500, 5, 5), judge) == "FAIL"  # agreement
    assert statistical_verdict(Counts(1500, 13, 1500, 13, 0), judge) == "INCONCLUSIVE"  # accuracy might have dropped by 1.4 points
    assert statistical_verdict(Counts(600, 3, 600, 40, 0), judge) == "FAIL"  # accuracy
    with pytest.raises(InputError, match="known brand"):
        statistical_verdict(Counts(10, 0, 0, 0, 0), judge)


def test_the_number_of_patients_that_would_decide_decides_and_one_less_does_not() -> None:
    judge = STATISTICAL.judge
    for counts in (Counts(100, 0, 100, 0, 0), Counts(400, 2, 400, 1, 1), Counts(200, 5, 200, 2, 2)):
        enough = patients_to_decide(counts, judge)
        assert enough is not None
        assert statistical_verdict(counts.scaled_to(enough), judge) != "INCONCLUSIVE"
        assert statistical_verdict(counts.scaled_to(enough - 1), judge) == "INCONCLUSIVE"
    # Without a flip the accuracy margin decides: z^2 / (n + z^2) <= 0.01, so n >= 99 z^2 = 380.3 (agreement needs 244.1).
    assert patients_to_decide(Counts(100, 0, 100, 0, 0), judge) == 381
    assert patients_to_decide(Counts(1000, 15, 1000, 0, 0), judge, limit=100_000) is None  # exactly on the floor


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
    reference = changed(make_recording(studies), "box_scores", 3, (0.9, 0.1))
    moved = [[10, 20, 50, 90], [200, 200, 210, 210]]
    candidate = changed(reference, "boxes", 3, moved)
    assert compare(reference, candidate, studies, NUMERICAL).verdict == "PASS"
    seen = changed(candidate, "box_scores", 3, (0.9, 0.9))  # the candidate answers for that film: now its box counts
    parity = compare(reference, seen, studies, NUMERICAL)
    assert parity.verdict == "FAIL"
    absent = [replace(study, lateral=None) for study in studies]
    assert compare(reference, seen, absent, NUMERICAL).verdict == "PASS"  # that film was never given


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
    assert "381 patients would decide" in parity.power
    assert "at least 245 patients" in parity.power  # 0.985 ^ n <= 0.025


def test_rows_of_one_patient_count_once() -> None:
    studies = [replace(study, patient_id=f"p{row // 2}", brand="a") for row, study in enumerate(make_studies(20))]
    parity = compare(make_recording(studies), make_recording(studies, wrong=3), studies, STATISTICAL)
    assert (parity.n, parity.flips, parity.accuracy_candidate) == (10, 2, 0.8)


def test_unknown_brands_give_null_accuracy_and_no_statistical_verdict() -> None:
    studies = make_studies(6, brand=None)
    recording = make_recording(studies)
    parity = compare(recording, recording, studies, NUMERICAL)
    assert (parity.verdict, parity.negative_control, parity.mcnemar_p) == ("PASS", None, None)
    assert (parity.accuracy_reference, parity.accuracy_candidate) == (None, None)
    assert parity.difference == {"value": None, "ci95": None, "margin": None}
    with pytest.raises(InputError, match="known brand"):
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
