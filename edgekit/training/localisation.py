"""What a trained detector says of films: boxes, the threshold that parts constructs from empty films, and the boxes that members crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from edgekit.boxes import box_iou
from edgekit.models.pipeline import find_film
from edgekit.progress import track
from edgekit.studies import NO_CONSTRUCT
from edgekit.training.detector import shrink_films

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.models.detector import Detector
    from edgekit.training.films import FilmSet

BATCH = 16
"""Films at a time."""
LEAST_OVERLAP = 0.5
"""A detector box that overlaps the annotated one less than this (IoU) does not teach a member; the annotated one does."""


def find_boxes(detector: Detector, films: FilmSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run the detector over films; boxes float32 (N, 4) in canvas pixels and scores float32 (N,)."""
    ratio = films.canvases.shape[1] / detector.side
    boxes, scores = [], []
    with torch.inference_mode():
        for rows in track(np.array_split(np.arange(len(films)), -(-len(films) // BATCH)), "finding constructs"):
            small = torch.from_numpy(shrink_films(films.canvases, rows, detector.side)).float()[:, None] / 255
            box, score, _ = detector(small)
            boxes.append(box.numpy() * ratio)
            scores.append(score.numpy())
    return np.concatenate(boxes), np.concatenate(scores)


def find_whole_films(films: FilmSet, black: int) -> NDArray[np.float32]:
    """Return where each film lies on its canvas, as the graph of a task without a detector finds it; float32 (N, 4)."""
    boxes = []
    for rows in np.array_split(np.arange(len(films)), -(-len(films) // BATCH)):
        boxes.append(find_film(torch.from_numpy(films.canvases[rows]).float()[:, None] / 255, black).numpy())
    return np.concatenate(boxes)


def choose_threshold(scores: NDArray[np.float32], films: FilmSet, default: float) -> float:
    """Choose the detector's threshold on validation films: the middle of the range that maximises Youden's J.

    J = sensitivity + specificity - 1 (Youden 1950). Without films that hold no construct there is nothing to choose by: it
    is the `default` then.
    """
    has_construct = np.isfinite(films.boxes).all(axis=1)
    empty = films.brands == NO_CONSTRUCT
    if not empty.any():
        return default
    cuts = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    middles = (cuts[:-1] + cuts[1:]) / 2
    youden = [(scores[has_construct] >= cut).mean() + (scores[empty] < cut).mean() for cut in middles]
    best = np.flatnonzero(np.isclose(youden, np.max(youden)))
    return float(middles[best[len(best) // 2]])


def cropping_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], truth: NDArray[np.float32], threshold: float
) -> NDArray[np.float32]:
    """Choose the boxes to crop: the detector's where it found the construct, else the annotated one, else NaN."""
    annotated = np.isfinite(truth).all(axis=1)
    right = ~annotated | (box_iou(boxes, truth) >= LEAST_OVERLAP)
    return np.where(((scores >= threshold) & right)[:, None], boxes, truth)
