"""The detector's figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.evaluation.detector import detector_metrics, score_detector


def test_false_finds_are_counted_apart_where_the_kind_is_known() -> None:
    truth = np.tile([0.0, 0.0, 10.0, 10.0], (2, 1))
    scores = np.array([0.9, 0.1, 0.6, 0.7, 0.2])
    figures = score_detector(truth, truth, np.array([0.9, 0.4]), [{}, {}], scores, [False, False, True, None, False], 0.5)
    assert figures["false_finds"] == pytest.approx(3 / 5)
    assert {kind: (each["n"], each["false_finds"]) for kind, each in figures["negatives"].items()} == {
        "plain": (3, pytest.approx(1 / 3)),
        "other_metal": (1, 1.0),
    }


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
    # of the 4 x 2 pairs of an annotated and an empty film, 0.2 loses to 0.6 alone
    assert figures["auc"] == pytest.approx(7 / 8)


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
        "n": 0, "negative": 0, "mean_iou": None, "iou_p05": None, "ap50": None, "auc": None, "false_finds": None
    }  # fmt: skip
