"""Overlap of boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
