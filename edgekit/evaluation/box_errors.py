"""What the detector's errors cost: accuracy by how well the box fits, and with the true boxes in its place."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.boxes import box_iou
from edgekit.evaluation.pairs import compare_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.evaluation.answers import Answers
    from edgekit.task import View

__all__ = ["measure_box_errors"]

BANDS = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
"""Edges of the bands of intersection over union; each band has its lower edge, the last also 1. A box not found counts as 0."""


def measure_box_errors(
    answers: Answers, right: NDArray[np.float64], right_on_true_boxes: NDArray[np.float64], views: Sequence[View]
) -> dict[str, Any] | None:
    """Measure what the detector's boxes cost one model, on the rows where every film that it sees is annotated.

    Parameters
    ----------
    answers
        N rows.
    right, right_on_true_boxes
        float (N,): 1 where the model's answer is right, 0 where it is wrong or there is none, NaN where it was not asked; on the boxes
        found, and on the true ones.
    views
        The films that the model sees.

    Returns
    -------
    dict or None
        ``n`` rows; ``bands`` with ``low``, ``high``, ``n`` and ``accuracy`` by the IoU of the found box with the true one, the worse one
        where the model sees several films; accuracy on the ``detector_box`` and on the ``true_box``; how many patients are right with
        only one of these, ``only_detector_right`` and ``only_true_right``, and McNemar's exact ``p``. None where nothing is annotated.
    """
    seen = answers.given & np.isin(answers.views, views)
    rows = ~np.isnan(right) & seen.any(axis=1) & (answers.annotated | ~seen).all(axis=1)
    if not rows.any():
        return None
    overlaps = np.where(seen, _overlap_films(answers), 1.0).min(axis=1)[rows]
    found, true = right[rows], right_on_true_boxes[rows]
    band = np.searchsorted(BANDS[1:-1], overlaps, side="right")
    pair = compare_pair(found, true, [study.patient_id for study, used in zip(answers.studies, rows, strict=True) if used])
    return {
        "n": len(found),
        "bands": [
            {"low": low, "high": high, "n": int(np.sum(band == k)), "accuracy": _mean(found[band == k])}
            for k, (low, high) in enumerate(pairwise(BANDS))
        ],
        "detector_box": _mean(found),
        "true_box": _mean(true),
        "only_detector_right": pair["only_a"],
        "only_true_right": pair["only_b"],
        "p": pair["p"],
    }


def _overlap_films(answers: Answers) -> NDArray[np.float64]:
    """IoU of each film's box with the true one, 0 where none was found; (N, V)."""
    overlaps = np.stack([box_iou(answers.true_boxes[:, place], answers.boxes[:, place]) for place in range(len(answers.views))], axis=1)
    return np.asarray(overlaps * answers.found)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None
