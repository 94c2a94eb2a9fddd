"""What the detector finds: boxes, false finds, and both by kind of film."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.boxes import box_iou
from edgekit.evaluation.cells import tabulate_cells
from edgekit.proportions import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def score_detector(
    truth: NDArray[np.floating[Any]],
    found: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    described: Sequence[dict[str, str]],
    negative_scores: NDArray[np.floating[Any]],
    other_metal: Sequence[bool | None],
    threshold: float,
) -> dict[str, Any]:
    """Score one box per film, over all films and by kind.

    Parameters
    ----------
    truth, found, scores, negative_scores, threshold
        See `detector_metrics`.
    described
        What each of the A films is (`edgekit.evaluation.cells.describe_film`).
    other_metal
        Whether each of the B films without a construct shows metal; None where it is not known.

    Returns
    -------
    dict
        Those of `detector_metrics`, ``cells`` (`edgekit.evaluation.cells.tabulate_cells`) and ``negatives``: of films without any metal
        (``plain``) and with other metal (``other_metal``), where there are any, ``n``, ``false_finds`` and its exact interval.
    """
    kinds = np.array(other_metal, object)
    apart = {name: negative_scores[kinds == has] for name, has in (("plain", False), ("other_metal", True))}
    return {
        **detector_metrics(truth, found, scores, negative_scores, threshold),
        "negatives": {name: _count_false_finds(of_kind, threshold) for name, of_kind in apart.items() if len(of_kind)},
        "cells": tabulate_cells(described, box_iou(truth, found), scores >= threshold),
    }


def _count_false_finds(scores: NDArray[np.floating[Any]], threshold: float) -> dict[str, Any]:
    count = int(np.sum(scores >= threshold))
    return {"n": len(scores), "false_finds": count / len(scores), "ci95": list(clopper_pearson(count, len(scores)))}


def detector_metrics(
    truth: NDArray[np.floating[Any]],
    found: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    negative_scores: NDArray[np.floating[Any]],
    threshold: float,
) -> dict[str, Any]:
    """Score one box per film.

    Parameters
    ----------
    truth, found
        float (A, 4): annotated and found box of the annotated films, pixels of the same image.
    scores
        float (A,): the detector's confidence in `found`.
    negative_scores
        float (B,): its confidence in the box of films without a construct.
    threshold
        The pipeline uses a box only when its score is at least this.

    Returns
    -------
    dict
        ``n`` annotated films, ``negative`` films without a construct; ``mean_iou`` and ``iou_p05`` (5th percentile) over the annotated
        ones, a film whose score misses the threshold counting as 0; ``ap50``, the average precision at IoU 0.5 over annotated and
        negative films whatever their score (precision made monotone, area under all points: Everingham et al., *The PASCAL Visual
        Object Classes Challenge: A Retrospective*, 2015); ``auc``, the area under the ROC curve of the score, annotated against negative
        films (as Mann and Whitney's U); ``false_finds``, the share of negative films whose score passes the threshold. None where there
        are no such films.
    """
    overlaps = box_iou(truth, found)
    used = np.where(scores >= threshold, overlaps, 0.0)
    hits = np.concatenate([overlaps >= 0.5, np.zeros(len(negative_scores), bool)])
    return {
        "n": len(overlaps),
        "negative": len(negative_scores),
        "mean_iou": float(used.mean()) if len(used) else None,
        "iou_p05": float(np.quantile(used, 0.05)) if len(used) else None,
        "ap50": _average_precision(hits, np.concatenate([scores, negative_scores]), len(overlaps)) if len(overlaps) else None,
        "auc": _area_under_roc(scores, negative_scores) if len(overlaps) and len(negative_scores) else None,
        "false_finds": float(np.mean(negative_scores >= threshold)) if len(negative_scores) else None,
    }


def _area_under_roc(positive: NDArray[np.floating[Any]], negative: NDArray[np.floating[Any]]) -> float:
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def _average_precision(hits: NDArray[np.bool_], scores: NDArray[np.floating[Any]], positives: int) -> float:
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.diff(scores[order]) != 0, True)  # boxes of equal score enter together
    found = np.cumsum(hits[order])[last_of_score]
    precision = found / (np.flatnonzero(last_of_score) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(found / positives, prepend=0.0) * envelope))
