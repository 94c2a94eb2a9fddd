"""The figures of Yao et al. 2024, Table 3, from the counts behind them.

A column's sensitivities and precisions, with the supports, leave one possible count of right answers and of all answers for each
brand. Accuracy, kappa, precision, sensitivity and F1 depend on nothing else, so every pairing of the remaining errors gives them.

AUC can't be recovered from counts. The paper's macro AUC is not the mean of the brands' (AP+Lateral: printed 0.9834, mean 0.9793), as its
section 2.5 says it is and as ours is; every other figure of the table comes out as printed.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from edgekit.evaluation.metrics import score_predictions

SUPPORT = {"EVO": 18, "Armstrong": 17, "CDH": 16, "Expedium": 9, "Gezen": 17, "NOVA": 12, "Xia 3": 17}
# Yao et al. 2024, Table 3, column by column: accuracy, kappa; precision, sensitivity and F1 per brand, then their macro average.
TABLE_3 = {
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


def is_printed_as(value: float, printed: float) -> bool:
    """Whether `value` has these four decimals."""
    return abs(value - printed) <= 0.5e-4 + 1e-9


def find_counts(support: int, precision: float, sensitivity: float) -> list[tuple[int, int]]:
    """Every number of right answers and of all answers that a brand's printed figures allow."""
    return [
        (hits, answers)
        for hits, answers in product(range(support + 1), range(1, 107))
        if hits <= answers and is_printed_as(hits / support, sensitivity) and is_printed_as(hits / answers, precision)
    ]


@pytest.mark.parametrize("model", TABLE_3)
def test_counts_give_the_whole_column_back(model: str) -> None:
    (accuracy, kappa), precision, sensitivity, f1 = TABLE_3[model]
    possible = [find_counts(*brand) for brand in zip(SUPPORT.values(), precision, sensitivity, strict=False)]
    assert [len(counts) for counts in possible] == [1] * 7
    hits, answers = np.array([counts[0] for counts in possible]).T
    support = np.array(list(SUPPORT.values()))
    assert support.sum() == answers.sum() == 106

    missed, wrong = np.repeat(np.arange(7), support - hits), np.repeat(np.arange(7), answers - hits)
    rows, columns = linear_sum_assignment(missed[:, None] == wrong[None, :])  # any pairing without a brand taken for itself
    assert (missed[rows] != wrong[columns]).all()
    truth = np.concatenate([np.repeat(np.arange(7), hits), missed[rows]])
    answer = np.concatenate([np.repeat(np.arange(7), hits), wrong[columns]])
    probabilities = np.full((106, 7), 0.05)
    probabilities[np.arange(106), answer] = 0.7
    brands = list(SUPPORT)
    figures = score_predictions(brands, [brands[k] for k in truth], probabilities, [f"p{i}" for i in range(106)], {}, resamples=10)

    def printed(value: float) -> Any:
        return pytest.approx(value, abs=0.5e-4 + 1e-9)

    assert figures["accuracy"] == printed(accuracy)
    assert figures["kappa"] == printed(kappa)
    for name, column in (("precision", precision), ("sensitivity", sensitivity), ("f1", f1)):
        assert {brand: figures["brands"][brand][name] for brand in brands} == {
            brand: printed(value) for brand, value in zip(brands, column, strict=False)
        }, name
        assert figures["macro"][name] == printed(column[7])
        assert figures["micro"][name] == printed(accuracy)  # in the paper's table too, all three are the accuracy
