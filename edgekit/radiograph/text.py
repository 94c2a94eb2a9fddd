"""Lines of characters that are burned into a film: found by their shapes, not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_HEIGHT = 7
"""Pixels of a character's height: nobody reads smaller ones."""
LARGEST_SHARE = 0.06
"""A character's height relative to the film's shorter side: what is larger is anatomy, metal or a side marker."""
LEAST_CHARACTERS = 4
"""In one line: fewer are a side marker, or bits of metal that happen to be level."""
CONTRAST = 60
"""Gray levels between characters and what is around them."""


def has_text(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether a horizontal line of `LEAST_CHARACTERS` or more white or black characters is on a film.

    Shapes of one gray level that have the size of characters stand in a line when their feet are level, their heights similar and
    the gaps between them narrow. Turned or handwritten text, and text that is hardly lighter than what is behind it, is not found.

    Parameters
    ----------
    pixels
        uint8 (H, W), as `read_radiograph` gives them.
    """
    levels = ((pixels, 250), (pixels, 190), (255 - pixels, 250))
    return any(_has_line(_find_characters(light, level)) for light, level in levels)


def _find_characters(light: NDArray[np.uint8], level: int) -> NDArray[np.int64]:
    """Return left, top, right and bottom (exclusive), int (N, 4), of 8-connected shapes from `level` upwards that may be characters."""
    mask = light >= level
    height, width = mask.shape
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), ends = np.nonzero(steps == 1), np.nonzero(steps == -1)[1]
    stride = width + 2
    low = np.searchsorted(rows * stride + ends, (rows + 1) * stride + starts)
    count = np.searchsorted(rows * stride + starts, (rows + 1) * stride + ends, side="right") - low
    upper = np.repeat(np.arange(len(rows)), count)  # runs of pixels, and those of the next row that touch them
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    labels = np.arange(len(rows))
    while (labels[upper] != labels[lower]).any():
        least = np.minimum(labels[upper], labels[lower])
        np.minimum.at(labels, labels[upper], least)
        np.minimum.at(labels, labels[lower], least)
        labels = labels[labels]
    roots, shape = np.unique(labels, return_inverse=True)
    boxes = np.full((len(roots), 4), (width, height, 0, 0))
    np.minimum.at(boxes[:, 0], shape, starts)
    np.minimum.at(boxes[:, 1], shape, rows)
    np.maximum.at(boxes[:, 2], shape, ends)
    np.maximum.at(boxes[:, 3], shape, rows + 1)
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    boxes = boxes[(high >= LEAST_HEIGHT) & (high <= max(2 * LEAST_HEIGHT, LARGEST_SHARE * min(mask.shape))) & (wide <= 1.5 * high)]
    around = _sum_boxes(~mask, boxes)
    characters: NDArray[np.int64] = boxes[(around > 0) & (_sum_boxes(np.where(mask, 0, light), boxes) <= (level - CONTRAST) * around)]
    return characters


def _sum_boxes(values: NDArray[Any], boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum (H, W) over boxes (N, 4) and two pixels around them."""
    sums = np.pad(values.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    left, top = np.maximum(boxes[:, :2] - 2, 0).T
    right, bottom = np.minimum(boxes[:, 2:] + 2, values.shape[::-1]).T
    summed: NDArray[np.int64] = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return summed


def _has_line(boxes: NDArray[np.int64]) -> bool:
    """Tell whether enough boxes follow each other from left to right; two at least must be wide, unlike the ticks of a ruler."""
    boxes = boxes[np.argsort(boxes[:, 0])]
    left, _, right, bottom = boxes.T
    high = boxes[:, 3] - boxes[:, 1]
    length, broad = np.ones(len(boxes), int), ((right - left) >= 0.35 * high).astype(int)
    for one in reversed(range(len(boxes))):
        gap = left - right[one]
        follows = (gap >= -0.2 * high[one]) & (gap <= 1.2 * high[one]) & (np.abs(bottom - bottom[one]) <= 0.25 * high[one])
        follows &= (high >= 0.7 * high[one]) & (high <= 1.4 * high[one]) & (left > left[one])
        if follows.any():
            length[one] += length[follows].max()
            broad[one] += broad[follows].max()
    return bool(((length >= LEAST_CHARACTERS) & (broad >= 2)).any())
