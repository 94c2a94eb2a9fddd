"""What a trained detector says of films: boxes, the threshold that parts constructs from empty films, and the boxes that members crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from edgekit.boxes import box_iou
from edgekit.models.pipeline import find_film
from edgekit.progress import track
from edgekit.proportions import clopper_pearson
from edgekit.studies import NO_CONSTRUCT, OTHER_METAL
from edgekit.training.detector import shrink_films
from edgekit.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.models.detector import Detector
    from edgekit.training.config import DetectorConfig
    from edgekit.training.films import FilmSet

BATCH = 16
"""Films at a time."""
CONFIDENCE = 0.95
"""How sure it is that no more films pass a threshold than may, from those that it was chosen on."""
LEAST_OVERLAP = 0.5
"""A detector box that overlaps the annotated one less than this (IoU) does not teach a member; the annotated one does."""


def find_boxes(detector: Detector, films: FilmSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run the detector over films; boxes float32 (N, 4) in canvas pixels and scores float32 (N,)."""
    ratio = films.canvases.shape[1] / detector.side
    boxes, scores = [], []
    with keep_freed_memory(), torch.inference_mode():
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


class Threshold(NamedTuple):
    """The score from which a film counts as found, and how it was chosen, in words."""

    score: float
    basis: str


def choose_threshold(scores: NDArray[np.float32], films: FilmSet, config: DetectorConfig) -> Threshold:
    """Choose the detector's threshold on validation films.

    No more than the share ``most_false_plain`` of the films without any metal pass it, and no more than ``most_false_other`` of those with
    other metal (the patients' property `edgekit.studies.OTHER_METAL`): of all such films, with `CONFIDENCE`, so that fewer of the
    validation's own do (Clopper and Pearson's one-sided bound). Films of which it is not known count with the former. The threshold is
    half-way between the last score that may pass and the next. Where there are too few films of a kind to show its share even if none
    passes (fewer than 99 for 3 %), the threshold is the middle of the range that maximises Youden's J = sensitivity + specificity - 1
    (Youden 1950) over all. Without films that hold no construct there is nothing to choose by: it is ``default_threshold`` then.
    """
    has_construct = np.isfinite(films.boxes).all(axis=1)
    empty = films.brands == NO_CONSTRUCT
    if not empty.any():
        return Threshold(config.default_threshold, "setting default_threshold: no validation film is without a construct")
    has_other = np.array([films.studies[row].has.get(OTHER_METAL) is True for row in films.study])
    kinds = {"plain": (empty & ~has_other, config.most_false_plain), "other metal": (empty & has_other, config.most_false_other)}
    kinds = {name: (chosen, most) for name, (chosen, most) in kinds.items() if chosen.any()}
    passing = {name: _count_passing(int(chosen.sum()), most) for name, (chosen, most) in kinds.items()}
    if few := [f"{name}: {kinds[name][0].sum()}" for name, count in passing.items() if count is None]:
        cuts = np.unique(np.concatenate([[0.0], scores, [1.0]]))
        middles = (cuts[:-1] + cuts[1:]) / 2
        youden = [(scores[has_construct] >= cut).mean() + (scores[empty] < cut).mean() for cut in middles]
        best = np.flatnonzero(np.isclose(youden, np.max(youden)))
        basis = f"Youden's J on validation: too few films without a construct to show a share ({', '.join(few)})"
        return Threshold(float(middles[best[len(best) // 2]]), basis)
    basis = ", ".join(f"at most {most:.0%} of such films as the {chosen.sum()} ({name})" for name, (chosen, most) in kinds.items())
    score = max(_cut_above(scores[chosen], passing[name] or 0) for name, (chosen, _) in kinds.items())
    return Threshold(score, f"false finds on validation, {CONFIDENCE:.0%} sure: {basis}")


def _count_passing(count: int, most: float) -> int | None:
    """Return how many of `count` films may pass for it to be sure that no more than the share `most` of all do; None if not even none."""
    enough = [k for k in range(count + 1) if clopper_pearson(k, count, 2 * CONFIDENCE - 1)[1] <= most]
    return enough[-1] if enough else None


def _cut_above(scores: NDArray[np.float32], passing: int) -> float:
    """Return a threshold that no more than `passing` of the `scores` reach."""
    falling = np.concatenate([[1.0 if scores.max() < 1 else 2.0], np.sort(scores)[::-1], [0.0]]).astype(np.float64)
    while passing and falling[passing] == falling[passing + 1]:  # films of one score pass together
        passing -= 1
    return float((falling[passing] + falling[passing + 1]) / 2)


def cropping_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], truth: NDArray[np.float32], threshold: float
) -> NDArray[np.float32]:
    """Choose the boxes to crop: the detector's where it found the construct, else the annotated one, else NaN."""
    annotated = np.isfinite(truth).all(axis=1)
    right = ~annotated | (box_iou(boxes, truth) >= LEAST_OVERLAP)
    return np.where(((scores >= threshold) & right)[:, None], boxes, truth)
