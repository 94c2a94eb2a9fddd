"""Films that are nearly the same, found by their pixels: one film in another crop, contrast or tilt, or mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Features = tuple[NDArray[np.float32], NDArray[np.float32]]

COMMON = 16
"""Places that two films must have in common. On 475 shoulder films 26 pairs have as many, and a person called every one of them right."""
THUMBNAIL, BLUR = 48, 6.0
"""Side in pixels of what candidates are looked for on, and the standard deviation of the blur that takes exposure away."""
NEIGHBOURS = 40
"""Candidates of each film: with 40, 24 of the 26 pairs are found that comparing all 20,000 likely pairs finds."""
DARK, LIT = 24, 0.02
"""Gray level of a black bar, and the share of a row or column that is lighter where the film begins."""
ENLARGED, FEATURES, RATIO, REACH = 1.6, 400, 0.82, 4.0
"""By how much a film is enlarged before features are looked for, how many, Lowe's ratio, and the pixels by which a place may be missed."""
LEAST_SCALE, MOST_SCALE = 0.4, 2.5


def find_near_duplicates(films: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Return the pairs of films that show `COMMON` places in one arrangement, the lower number first.

    SIFT features (Lowe, *Distinctive image features from scale-invariant keypoints*, 2004) of one film, as it is and mirrored, are matched
    with those of its likest films; a similarity that RANSAC finds tells which matches agree.

    Parameters
    ----------
    films
        uint8 (H, W) each, gray.
    """
    shown = [_cut_bars(film) for film in films]
    straight = [_find_features(film) for film in shown]
    mirrored = [_find_features(np.ascontiguousarray(film[:, ::-1])) for film in shown]
    return [
        (first, second)
        for first, second in track(_list_candidates(shown), description="Comparing films")
        if max(_count_common(straight[first], side[second]) for side in (straight, mirrored)) >= COMMON
    ]


def _cut_bars(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a film without the black bars around it."""
    lit = film > DARK
    rows, columns = np.flatnonzero(lit.mean(axis=1) > LIT), np.flatnonzero(lit.mean(axis=0) > LIT)
    return film[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) and len(columns) else film


def _list_candidates(films: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Return each film with its `NEIGHBOURS` likest ones, as they are or mirrored."""
    straight = np.stack([_shrink(film) for film in films])
    likeness = np.maximum(straight @ straight.T, straight @ np.stack([_shrink(film[:, ::-1]) for film in films]).T)
    np.fill_diagonal(likeness, -1)
    nearest = np.argsort(-likeness, axis=1)[:, : min(NEIGHBOURS, len(films) - 1)]
    return sorted({(min(first, int(second)), max(first, int(second))) for first, row in enumerate(nearest) for second in row})


def _shrink(film: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a small film without its broad shades, as a vector of length 1."""
    small = cv2.resize(film.astype(np.float32), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    small = small - cv2.GaussianBlur(small, (0, 0), BLUR)
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32).ravel()


def _find_features(film: NDArray[np.uint8]) -> Features:
    """Return places float32 (N, 2) and descriptors (N, 128), contrast made even; descriptors are those of RootSIFT (Arandjelovic 2012)."""
    larger = cv2.resize(film, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    even = cv2.createCLAHE(2.0, (4, 4)).apply(larger)
    keypoints, descriptors = cv2.SIFT_create(nfeatures=FEATURES, contrastThreshold=0.02).detectAndCompute(even, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    places = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    return places, np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-9))


def _count_common(first: Features, second: Features) -> int:
    """Return how many places of two films one similarity maps onto each other; places within `REACH` of each other count once."""
    if min(len(first[0]), len(second[0])) < 2:
        return 0
    matches = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first[1], second[1], k=2)
    kept = [near for near, next_near in matches if near.distance < RATIO * next_near.distance]
    if len(kept) < COMMON:
        return 0
    here = first[0][[match.queryIdx for match in kept]]
    there = second[0][[match.trainIdx for match in kept]]
    similarity, agree = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=REACH, maxIters=300)
    if similarity is None or not LEAST_SCALE < np.hypot(similarity[0, 0], similarity[1, 0]) < MOST_SCALE:
        return 0
    return len(np.unique(there[agree[:, 0] > 0] // REACH, axis=0))
