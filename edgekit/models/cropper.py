"""Crop and resize as two matrix products, so that they lower on every toolchain without a custom operator.

``crop = Wy(box) · canvas · Wx(box)ᵀ`` where each row of ``W`` holds the weights of a triangle filter. The filter widens with
the scale when it shrinks (thread pitch is the signal: aliasing would destroy it), and is plain bilinear when it enlarges:
Turkowski, *Filters for common resampling tasks*, Graphics Gems I, 1990; the same filter as Pillow's BILINEAR ``resize``.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_SIDE = 2.0
"""A degenerate box is widened to this many canvas pixels, so that the filter always has support."""


def expand_boxes(boxes: Tensor, side: int, margin: float) -> Tensor:
    """Add a margin to boxes and clip them to the canvas.

    Parameters
    ----------
    boxes
        float (N, 4), x0 y0 x1 y1 in canvas pixels.
    side
        Canvas side in pixels.
    margin
        Share of each side added at both ends.

    Returns
    -------
    float (N, 4), at least `SMALLEST_SIDE` wide and high, inside the canvas.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    pad = (high - low) * margin
    low = (low - pad).clamp(0.0, side - SMALLEST_SIDE)
    high = torch.maximum((high + pad).clamp(0.0, float(side)), low + SMALLEST_SIDE)
    return torch.cat([low, high], dim=1)


def triangle_weights(start: Tensor, stop: Tensor, length: int, size: int) -> Tensor:
    """Resampling weights of a triangle filter from the interval [start, stop] of an axis to `size` samples.

    Parameters
    ----------
    start, stop
        float (N,), the interval in source pixels (edges, not centres), ``stop > start``.
    length
        Number of source pixels.
    size
        Number of samples wanted.

    Returns
    -------
    float (N, size, length); each row sums to one.
    """
    step = ((stop - start) / size).reshape(-1, 1, 1)
    samples = torch.arange(size, dtype=start.dtype, device=start.device).reshape(1, -1, 1) + 0.5
    pixels = torch.arange(length, dtype=start.dtype, device=start.device).reshape(1, 1, -1) + 0.5
    distance = (pixels - start.reshape(-1, 1, 1) - samples * step).abs() / step.clamp(min=1.0)
    weights = (1.0 - distance).clamp(min=0.0)
    return weights / weights.sum(dim=2, keepdim=True)


def crop_and_resize(canvases: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Stretch the content of one box per canvas to ``height`` x ``width``, antialiased.

    Parameters
    ----------
    canvases
        float (N, 1, S, S).
    boxes
        float (N, 4), x0 y0 x1 y1 in canvas pixels, not degenerate (see `expand_boxes`).
    height, width
        Size of the result in pixels.

    Returns
    -------
    float (N, 1, height, width) in the value range of `canvases`.
    """
    rows = triangle_weights(boxes[:, 1], boxes[:, 3], canvases.shape[2], height)
    columns = triangle_weights(boxes[:, 0], boxes[:, 2], canvases.shape[3], width)
    return (rows @ canvases[:, 0] @ columns.transpose(1, 2)).unsqueeze(1)
