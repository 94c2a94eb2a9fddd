"""Boxes: their overlap, and what a crop shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Box


def box_iou(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Intersection over union of boxes, row by row.

    Parameters
    ----------
    first, second
        float (N, 4): x0, y0, x1, y1 in pixels.

    Returns
    -------
    float64 (N,); 0 where both boxes are empty or a coordinate is not a number.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    shared = np.clip(np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2]), 0, None).prod(axis=1)
    union = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(axis=1) - shared
    overlaps: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlaps


def grow_box(box: Box, margin: float, side: int) -> Box:
    """Add `margin`, a share of each side, at both ends, and cut the box at the edges of a canvas of `side` pixels: what a crop shows."""
    x0, y0, x1, y1 = box
    x, y = margin * (x1 - x0), margin * (y1 - y0)
    return max(x0 - x, 0.0), max(y0 - y, 0.0), min(x1 + x, float(side)), min(y1 + y, float(side))
