from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support, recall_score, roc_auc_score

from edgekit.evaluation.metrics import detector_metrics, score_predictions

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
    given = {"has_crosslink": [None] * n, "patients": [f"p{i}" for i in range(n)], "resamples": 20, **more}
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


PAPER_SUPPORT = {"EVO": 18, "Armstrong": 17, "CDH": 16, "Expedium": 9, "Gezen": 17, "NOVA": 12, "Xia 3": 17}
# Yao et al. 2024, Table 3, column by column: accuracy, kappa; precision, sensitivity and F1 per brand, then their macro average.
PAPER_TABLE_3 = {
    "all": (
        (0.9245, 0.9115),
        (0.9474, 0.8889, 1.0000, 0.7273, 1.0000, 1.0000, 0.8947, 0.9226),
        (1.0000, 0.9412, 0.9375, 0.8889, 0.7059, 1.0000, 1.0000, 0.9248),
        (0.9730, 0.9143, 0.9677, 0.8000, 0.8276, 1.0000, 0.9444, 0.9181),
    ),
    "ap+lateral": (
        (0.9434, 0.9335),
        (0.9474, 0.9412, 1.0000, 0.8000, 1.0000, 1.0000, 0.8947, 0.9405),
        (1.0000, 0.9412, 0.9375, 0.8889, 0.8235, 1.0000, 1.0000, 0.9416),
        (0.9730, 0.9412, 0.9677, 0.8421, 0.9032, 1.0000, 0.9444, 0.9388),
    ),
    "ap+lateral+concat": (
        (0.9340, 0.9225),
        (0.9474, 0.9375, 1.0000, 0.8000, 0.9333, 1.0000, 0.8947, 0.9304),
        (1.0000, 0.8824, 0.9375, 0.8889, 0.8235, 1.0000, 1.0000, 0.9332),
        (0.9730, 0.9091, 0.9677, 0.8421, 0.8750, 1.0000, 0.9444, 0.9302),
    ),
    "ap+lateral+merge": (
        (0.9340, 0.9224),
        (0.9000, 0.9412, 1.0000, 0.8000, 1.0000, 1.0000, 0.8947, 0.9337),
        (1.0000, 0.9412, 0.9375, 0.8889, 0.8235, 0.9167, 1.0000, 0.9297),
        (0.9474, 0.9412, 0.9677, 0.8421, 0.9032, 0.9565, 0.9444, 0.9289),
    ),
    "lateral+concat": (
        (0.9340, 0.9225),
        (0.9474, 1.0000, 0.9375, 0.8000, 0.9333, 1.0000, 0.8947, 0.9304),
        (1.0000, 0.8824, 0.9375, 0.8889, 0.8235, 1.0000, 1.0000, 0.9332),
        (0.9730, 0.9375, 0.9375, 0.8421, 0.8750, 1.0000, 0.9444, 0.9299),
    ),
}


@pytest.mark.parametrize("model", PAPER_TABLE_3)
def test_gives_the_papers_table_3_back(model: str) -> None:
    """Precision and sensitivity fix each brand's counts; every other figure of the column must follow from them."""
    (accuracy, kappa), precision, sensitivity, f1 = PAPER_TABLE_3[model]
    support = np.array(list(PAPER_SUPPORT.values()))
    hits = np.rint(np.array(sensitivity[:7]) * support).astype(int)
    answers = np.rint(hits / np.array(precision[:7])).astype(int)
    missed = np.repeat(np.arange(7), support - hits)
    wrong = np.repeat(np.arange(7), answers - hits)
    rows, columns = linear_sum_assignment(missed[:, None] == wrong[None, :])  # any pairing without a brand taken for itself
    truth = np.concatenate([np.repeat(np.arange(7), hits), missed[rows]])
    answer = np.concatenate([np.repeat(np.arange(7), hits), wrong[columns]])
    assert len(truth) == 106
    probabilities = np.full((106, 7), 0.05)
    probabilities[np.arange(106), answer] = 0.7

    figures = score_predictions(
        list(PAPER_SUPPORT),
        [list(PAPER_SUPPORT)[k] for k in truth],
        probabilities,
        [None] * 106,
        [f"p{i}" for i in range(106)],
        resamples=10,
    )

    def printed(value: float) -> Any:
        return pytest.approx(value, abs=0.5e-4 + 1e-9)  # the paper gives four decimals

    assert figures["accuracy"] == printed(accuracy)
    assert figures["kappa"] == printed(kappa)
    for name, column in (("precision", precision), ("sensitivity", sensitivity), ("f1", f1)):
        for brand, value in zip(PAPER_SUPPORT, column, strict=False):
            assert figures["brands"][brand][name] == printed(value), (brand, name)
        assert figures["macro"][name] == printed(column[7])
        assert figures["micro"][name] == printed(accuracy)


def test_interval_of_accuracy_is_the_binomials() -> None:
    truth, probabilities = simulate(400, seed=4)
    figures = score(truth, probabilities, resamples=4000)
    exact = binom(400, figures["accuracy"]).ppf([0.025, 0.975]) / 400  # what resampling independent rows converges to
    assert figures["ci95"]["accuracy"] == pytest.approx(exact.tolist(), abs=0.004)


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
    once = score(truth, probabilities, resamples=500)["ci95"]["accuracy"]
    twice = score(np.tile(truth, 2), np.tile(probabilities, (2, 1)), patients=patients * 2, resamples=500)["ci95"]["accuracy"]
    as_if_others = score(np.tile(truth, 2), np.tile(probabilities, (2, 1)), resamples=500)["ci95"]["accuracy"]
    assert twice == pytest.approx(once)
    assert np.diff(as_if_others) < 0.85 * np.diff(twice)


def test_repeatable_by_seed() -> None:
    truth, probabilities = simulate(60, seed=7)
    assert score(truth, probabilities, seed=1) == score(truth, probabilities, seed=1)
    assert score(truth, probabilities, seed=1)["ci95"] != score(truth, probabilities, seed=2)["ci95"]


def test_crosslink_groups_are_scored_alone() -> None:
    truth, probabilities = simulate(90, seed=8)
    has_crosslink = [True] * 30 + [False] * 40 + [None] * 20
    groups = score(truth, probabilities, has_crosslink=has_crosslink)["crosslink"]
    alone = score(truth[:30], probabilities[:30])
    assert {name: value for name, value in alone.items() if name not in ("crosslink", "ci95")} == {
        name: value for name, value in groups["with"].items() if name != "ci95"
    }
    assert groups["without"]["n"] == 40
    assert score(truth, probabilities)["crosslink"] == {"with": None, "without": None}


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
    score(truth, probabilities, has_crosslink=[True, False] * 750, resamples=1000)
    assert time.process_time() - started < 6  # about two, with the two crosslink groups


def test_refuses_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="can't be scored"):
        score_predictions(["a", "b"], ["x"], np.array([[0.5, 0.5]]), [None], ["p"])
    with pytest.raises(ValueError, match="finite"):
        score_predictions(["a", "b"], ["a"], np.array([[np.nan, 0.5]]), [None], ["p"])
    with pytest.raises(ValueError, match="no row"):
        score_predictions(["a", "b"], [], np.zeros((0, 2)), [], [])


def test_detector_metrics_by_hand() -> None:
    truth = np.tile([0.0, 0.0, 10.0, 10.0], (4, 1))
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [0, 0, 10, 10]], float)  # IoU 1, 0.8, 0.4, 1
    figures = detector_metrics(truth, found, np.array([0.9, 0.8, 0.7, 0.2]), np.array([0.6, 0.1]), 0.25)
    assert figures["n"] == 4
    assert figures["mean_iou"] == pytest.approx((1 + 0.8 + 0.4 + 0) / 4)  # the last is below the threshold
    assert figures["iou_p05"] == pytest.approx(0.4 * 0.15)  # linear between the two smallest: 0 and 0.4
    # by score: hit, hit, miss, empty film, hit, empty film: precision 1, 1, ., ., 3/5; recall rises by 1/4 each
    assert figures["ap50"] == pytest.approx(1 / 4 + 1 / 4 + 1 / 4 * 3 / 5)
    assert figures["false_finds"] == pytest.approx(1 / 2)


def test_detector_metrics_take_the_best_precision_at_or_beyond_a_recall() -> None:
    truth = np.tile([0.0, 0.0, 10.0, 10.0], (3, 1))
    # by score: empty film, hit, hit, hit: precision 1/2, 2/3, 3/4 rises, so 3/4 holds throughout
    figures = detector_metrics(truth, truth, np.array([0.8, 0.7, 0.6]), np.array([0.9]), 0.5)
    assert figures["ap50"] == pytest.approx(3 / 4)
    # four films of one score enter together
    assert detector_metrics(truth, truth, np.full(3, 0.8), np.array([0.8]), 0.5)["ap50"] == pytest.approx(3 / 4)


def test_detector_metrics_without_films_are_null() -> None:
    none = np.zeros((0, 4))
    empty = np.zeros(0)
    assert detector_metrics(none, none, empty, empty, 0.5) == {
        "n": 0, "mean_iou": None, "iou_p05": None, "ap50": None, "false_finds": None
    }  # fmt: skip
