from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support, recall_score, roc_auc_score

from edgekit.evaluation.metrics import measure_drop, score_predictions
from edgekit.evaluation.predictions import FIGURES, Predictions

BRANDS = ("a", "b", "c", "d")


def simulate(n: int, brands: int = 4, seed: int = 0, signal: float = 1.5) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, brands, n)
    logits = random.normal(size=(n, brands))
    logits[np.arange(n), truth] += signal
    odds = np.exp(logits)
    return truth, odds / odds.sum(axis=1, keepdims=True)


def score(truth: NDArray[np.intp], probabilities: NDArray[np.float64], **more: Any) -> dict[str, Any]:
    brands = [chr(ord("a") + k) for k in range(probabilities.shape[1])]
    n = len(truth)
    given = {"has": {}, "patients": [f"p{i}" for i in range(n)], "resamples": 20, **more}
    return score_predictions(brands, [brands[k] for k in truth], probabilities, **given)


@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn(ties: bool) -> None:
    truth, probabilities = simulate(300, seed=1)
    if ties:
        probabilities = probabilities.round(1)  # rows no longer sum to one exactly, and many scores are equal
    figures = score(truth, probabilities)
    answer = probabilities.argmax(axis=1)
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, answer), abs=1e-12)
    assert figures["kappa"] == pytest.approx(cohen_kappa_score(truth, answer), abs=1e-12)
    per_brand = precision_recall_fscore_support(truth, answer)
    for row, name in enumerate(("precision", "sensitivity", "f1", "support")):
        assert [figures["brands"][brand][name] for brand in BRANDS] == pytest.approx(per_brand[row].tolist(), abs=1e-12)
    for average in ("macro", "micro"):
        expected = precision_recall_fscore_support(truth, answer, average=average)[:3]
        assert [figures[average][name] for name in ("precision", "sensitivity", "f1")] == pytest.approx(list(expected), abs=1e-12)
    for k, brand in enumerate(BRANDS):
        specificity = recall_score(truth == k, answer == k, pos_label=False)
        assert figures["brands"][brand]["specificity"] == pytest.approx(specificity, abs=1e-12)
        assert figures["brands"][brand]["auc"] == pytest.approx(roc_auc_score(truth == k, probabilities[:, k]), abs=1e-12)
    one_hot = np.eye(4)[truth]
    assert figures["macro"]["auc"] == pytest.approx(roc_auc_score(one_hot, probabilities, average="macro"), abs=1e-12)
    assert figures["micro"]["auc"] == pytest.approx(roc_auc_score(one_hot, probabilities, average="micro"), abs=1e-12)


def test_agrees_with_scikit_learn_when_a_brand_is_absent_and_another_never_answered() -> None:
    truth, probabilities = simulate(120, seed=2)
    truth[truth == 3] = 0
    probabilities[:, 2] = 0.0
    figures = score(truth, probabilities)
    expected = precision_recall_fscore_support(truth, probabilities.argmax(axis=1), labels=range(4), average="macro", zero_division=np.nan)
    assert [figures["macro"][name] for name in ("precision", "sensitivity", "f1")] == pytest.approx(list(expected[:3]), abs=1e-12)
    assert figures["brands"]["d"]["auc"] is None
    assert figures["brands"]["d"]["sensitivity"] is None
    assert figures["brands"]["c"]["precision"] is None
    assert figures["brands"]["c"]["f1"] == 0
    assert figures["ci95"]["brands"]["d"]["auc"] is None


def test_unanswered_rows_are_wrong_and_belong_to_no_brand() -> None:
    truth, probabilities = simulate(100, seed=3, signal=4)
    probabilities[:10] = 0.25
    figures = score(truth, probabilities)
    answer = np.where(np.arange(100) < 10, 4, probabilities.argmax(axis=1))
    assert figures["unanswered"] == 10
    assert figures["accuracy"] == pytest.approx(np.mean(answer == truth), abs=1e-12)
    assert figures["kappa"] == pytest.approx(cohen_kappa_score(truth, answer), abs=1e-12)
    expected = precision_recall_fscore_support(truth, answer, labels=range(4))
    assert [figures["brands"][brand]["sensitivity"] for brand in BRANDS] == pytest.approx(expected[1].tolist(), abs=1e-12)
    assert [figures["brands"][brand]["precision"] for brand in BRANDS] == pytest.approx(expected[0].tolist(), abs=1e-12)
    assert sum(map(sum, figures["confusion"]["matrix"])) == 90


def test_small_case_by_hand() -> None:
    # truth a a b b c, answers a b b b a
    probabilities = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.9, 0.0], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    figures = score(np.array([0, 0, 1, 1, 2]), probabilities)
    assert figures["n"] == 5
    assert figures["confusion"] == {"labels": ["a", "b", "c"], "matrix": [[1, 1, 0], [0, 2, 0], [1, 0, 0]]}
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["kappa"] == pytest.approx((3 / 5 - 10 / 25) / (1 - 10 / 25))  # chance: (2*2 + 2*3 + 1*0) / 25
    assert figures["brands"]["a"] == {
        "support": 2,
        "precision": pytest.approx(1 / 2),
        "sensitivity": pytest.approx(1 / 2),
        "specificity": pytest.approx(2 / 3),
        "f1": pytest.approx(1 / 2),
        "auc": pytest.approx(5 / 6),  # of 2 x 3 pairs only (a2, c) is in the wrong order
    }
    assert figures["micro"]["specificity"] == pytest.approx(8 / 10)
    # bins of 1/15: 0.8, 0.6, 0.9, 0.7 and 0.5 are alone in theirs: (0.2 + 0.6 + 0.1 + 0.3 + 0.5) / 5
    assert figures["calibration_error"] == pytest.approx(1.7 / 5)


def test_calibration_error_pools_a_bin() -> None:
    # 0.81 and 0.85 share (12/15, 13/15]: |mean(0.81, 0.85) - 1/2| x 2/2
    figures = score(np.array([0, 1]), np.array([[0.81, 0.19], [0.85, 0.15]]))
    assert figures["calibration_error"] == pytest.approx(0.33)


def exact(k: int, n: int) -> list[float]:
    return pytest.approx(list(binomtest(k, n).proportion_ci(0.95, method="exact")), abs=1e-12)  # type: ignore[return-value]


def test_intervals_of_proportions_are_exact() -> None:
    truth, probabilities = simulate(106, seed=4)
    probabilities[:7] = 0.25
    figures = score(truth, probabilities)
    answer = np.where(np.arange(106) < 7, 4, probabilities.argmax(axis=1))
    right = int(np.sum(answer == truth))
    assert (figures["patients"], figures["correct"]) == (106, right)
    assert figures["ci95"]["accuracy"] == exact(right, 106)
    assert figures["ci95"]["micro"]["sensitivity"] == exact(right, 106)
    assert figures["ci95"]["micro"]["precision"] == exact(right, 99)
    for k, brand in enumerate(BRANDS):
        hits, intervals = int(np.sum((answer == k) & (truth == k))), figures["ci95"]["brands"][brand]
        assert intervals["sensitivity"] == exact(hits, int(np.sum(truth == k)))
        assert intervals["precision"] == exact(hits, int(np.sum(answer == k)))
        assert intervals["specificity"] == exact(int(np.sum((answer != k) & (truth != k))), int(np.sum(truth != k)))


def test_all_right_is_not_certain() -> None:
    """14 of 14: (0.05 / 2) ** (1 / 14) is 76.8 %; a bootstrap says 100 %."""
    truth = np.arange(14) % 2
    figures = score(truth, np.eye(2)[truth] * 0.8 + 0.1)
    assert figures["ci95"]["accuracy"] == pytest.approx([0.025 ** (1 / 14), 1.0])
    assert figures["ci95"]["brands"]["a"]["sensitivity"] == pytest.approx([0.025 ** (1 / 7), 1.0])


def test_a_patient_with_several_rows_is_right_when_every_row_is() -> None:
    """Five patients: a a, b b and a are right, a b with one row and b not at all; six rows of eight are."""
    truth = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    answer = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    figures = score(truth, np.eye(2)[answer] * 0.8 + 0.1, patients=["1", "1", "2", "2", "3", "4", "4", "5"])
    assert (figures["n"], figures["patients"], figures["correct"], figures["accuracy"]) == (8, 5, 3, 0.6)
    assert figures["ci95"]["accuracy"] == exact(3, 5)
    assert figures["micro"]["sensitivity"] == 6 / 8  # of the rows, as in the confusion matrix
    low, high = figures["ci95"]["brands"]["b"]["sensitivity"]  # 2 of 4 rows, of three patients: between 1 of 3 and 2 of 3
    assert binomtest(1, 3).proportion_ci(method="exact").low < low < 0.5 < high < binomtest(2, 3).proportion_ci(method="exact").high


def test_intervals_equal_those_of_a_plain_bootstrap() -> None:
    truth, probabilities = simulate(80, seed=5)
    figures = score(truth, probabilities, resamples=2000)
    random = np.random.default_rng(99)
    drawn = []
    for _ in range(250):
        rows = random.integers(0, 80, 80)
        drawn.append(
            (
                cohen_kappa_score(truth[rows], probabilities[rows].argmax(axis=1)),
                roc_auc_score(truth[rows] == 1, probabilities[rows, 1]),
                roc_auc_score(np.eye(4)[truth[rows]], probabilities[rows], average="micro"),
            )
        )
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    intervals = figures["ci95"]["kappa"], figures["ci95"]["brands"]["b"]["auc"], figures["ci95"]["micro"]["auc"]
    for interval, bounds in zip(intervals, zip(low, high, strict=True), strict=True):
        assert interval == pytest.approx(bounds, abs=0.03)


def test_rows_of_a_patient_are_resampled_together() -> None:
    truth, probabilities = simulate(100, seed=6)
    patients = [f"p{i}" for i in range(100)]
    once = score(truth, probabilities, resamples=500)["ci95"]
    twice = score(np.tile(truth, 2), np.tile(probabilities, (2, 1)), patients=patients * 2, resamples=500)["ci95"]
    as_if_others = score(np.tile(truth, 2), np.tile(probabilities, (2, 1)), resamples=500)["ci95"]
    for figure in ("accuracy", "kappa", "calibration_error"):
        assert twice[figure] == pytest.approx(once[figure])
    for name in ("precision", "sensitivity", "specificity", "f1", "auc"):
        assert twice["brands"]["a"][name] == pytest.approx(once["brands"]["a"][name])
    for figure in ("accuracy", "kappa"):
        assert np.diff(as_if_others[figure]) < 0.85 * np.diff(twice[figure])


def make_cohort(truth: NDArray[np.intp], probabilities: NDArray[np.float64]) -> Predictions:
    n, brands = probabilities.shape
    names = tuple("abcd"[:brands])
    return Predictions(names, tuple(f"p{i}" for i in range(n)), tuple(names[k] for k in truth), {}, probabilities)


def answer_cohort(right: int, n: int) -> Predictions:
    return make_cohort(np.zeros(n, int), np.where(np.arange(n)[:, None] < right, [0.9, 0.1], [0.2, 0.8]))


def test_drop_between_two_cohorts_of_other_patients() -> None:
    """Newcombe 1998, table II, method 10, column (a)."""
    drop = measure_drop(answer_cohort(56, 70), answer_cohort(48, 80), seeds=(0, 1), resamples=2)["accuracy"]
    assert drop == {"value": pytest.approx(0.2), "ci95": pytest.approx([0.0524, 0.3339], abs=5.1e-5)}


def test_a_drop_from_no_error_to_few_may_be_none() -> None:
    """14 of 14 here and 25 of 29 there: a bootstrap's interval of the 13.8 points, 3.4 to 27.6, left zero out."""
    drop = measure_drop(answer_cohort(14, 14), answer_cohort(25, 29), seeds=(0, 1), resamples=2)["accuracy"]
    assert drop["value"] == pytest.approx(4 / 29)
    # Wilson's own limits: 14 / (14 + z^2) for 14 of 14; 25 of 29 are 0.6944 to 0.9450
    below = np.hypot(1 - 14 / (14 + 1.959964**2), 0.9450 - 25 / 29)
    assert drop["ci95"] == pytest.approx([4 / 29 - below, 4 / 29 + 25 / 29 - 0.6944], abs=1e-4)
    assert drop["ci95"][0] < 0


def test_a_drop_counts_patients() -> None:
    cohort = answer_cohort(56, 70)
    twice = Predictions(cohort.brands, cohort.patients * 2, cohort.truth * 2, {}, np.tile(cohort.probabilities, (2, 1)))
    other = answer_cohort(48, 80)
    once, again = (measure_drop(first, other, seeds=(0, 1), resamples=2)["accuracy"] for first in (cohort, twice))
    assert again == once


def test_drop_of_auc_is_scikit_learns() -> None:
    cohorts = [simulate(150, seed=10, signal=2.5), simulate(90, seed=11, signal=0.8)]
    drop = measure_drop(*(make_cohort(*cohort) for cohort in cohorts), seeds=(0, 1), resamples=400)["macro_auc"]
    areas = [roc_auc_score(np.eye(4)[truth], probabilities, average="macro") for truth, probabilities in cohorts]
    assert drop["value"] == pytest.approx(areas[0] - areas[1], abs=1e-12)
    assert 0 < drop["ci95"][0] < drop["value"] < drop["ci95"][1]


def test_cohorts_are_resampled_by_themselves() -> None:
    cohort = make_cohort(*simulate(60, seed=12))
    low, high = measure_drop(cohort, cohort, seeds=(3, 4), resamples=100)["macro_auc"]["ci95"]
    assert low < -0.03
    assert high > 0.03


def test_undefined_drop_is_null() -> None:
    one_brand = make_cohort(np.zeros(5, int), simulate(5, seed=13)[1])
    assert measure_drop(make_cohort(*simulate(60, seed=12)), one_brand, seeds=(0, 1), resamples=20)["macro_auc"] == {
        "value": None,
        "ci95": None,
    }


def test_repeatable_by_seed() -> None:
    truth, probabilities = simulate(60, seed=7)
    assert score(truth, probabilities, seed=1) == score(truth, probabilities, seed=1)
    assert score(truth, probabilities, seed=1)["ci95"] != score(truth, probabilities, seed=2)["ci95"]


def test_patients_with_and_without_a_property_are_scored_alone() -> None:
    truth, probabilities = simulate(90, seed=8)
    cement = [True] * 30 + [False] * 40 + [None] * 20
    groups = score(truth, probabilities, has={"cement": cement})["cement"]
    alone = score(truth[:30], probabilities[:30])
    assert {name: value for name, value in alone.items() if name != "ci95"} == {
        name: value for name, value in groups["with"].items() if name != "ci95"
    }
    assert groups["without"]["n"] == 40
    assert score(truth, probabilities, has={"cement": [None] * 90})["cement"] == {"with": None, "without": None}
    assert "cement" not in score(truth, probabilities)
    with pytest.raises(ValueError, match="89 values of cement for 90 rows"):
        score(truth, probabilities, has={"cement": [None] * 89})
    with pytest.raises(ValueError, match="kappa is the name of a figure"):
        score(truth, probabilities, has={"kappa": [None] * 90})
    assert set(FIGURES) == set(score(truth, probabilities))


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [
        ([0], [[0.5, 0.5]]),
        ([0], [[1.0, 0.0]]),
        ([1, 1, 1], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
        ([0, 1], [[0.5, 0.5], [0.5, 0.5]]),
    ],
)
def test_what_is_undefined_is_null_never_nan(truth: list[int], probabilities: list[list[float]]) -> None:
    figures = score(np.array(truth), np.array(probabilities))
    json.dumps(figures, allow_nan=False)
    if len(set(truth)) == 1:
        assert figures["macro"]["auc"] is None


def test_1500_patients_take_seconds() -> None:
    truth, probabilities = simulate(1500, brands=7, seed=9)
    started = time.process_time()
    score(truth, probabilities, has={"cement": [True, False] * 750}, resamples=1000)
    assert time.process_time() - started < 6  # about two, with both groups


def test_refuses_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="can't be scored"):
        score_predictions(["a", "b"], ["x"], np.array([[0.5, 0.5]]), ["p"], {})
    with pytest.raises(ValueError, match="finite"):
        score_predictions(["a", "b"], ["a"], np.array([[np.nan, 0.5]]), ["p"], {})
    with pytest.raises(ValueError, match="no row"):
        score_predictions(["a", "b"], [], np.zeros((0, 2)), [], {})
