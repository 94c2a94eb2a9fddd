"""Which step each weight is rounded to: second-order rounding, so that one weight's error is taken up by the others.

Frantar et al. 2023, *GPTQ: Accurate post-training quantization for generative pre-trained transformers*, algorithm 1: weights are rounded
one after the other, and what that changes in a layer's output, on the calibration films, is taken up by the weights still to come. It
costs nothing where the file runs. Here no rounded weight may bring a sum of two neighbouring products beyond 16 bits
(`edgekit.quantization.saturation`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.quantization.saturation import find_neighbours, sum_neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 127
"""Weights are symmetric, -127 to 127, with one scale an output channel."""

STRETCHES = (0.9, 1.0, 1.1, 1.2)
"""Steps tried, times the smallest that neither a weight nor two neighbours exceed: finer ones cut the largest weights, coarser ones leave
room for errors to be taken up. Each output channel takes the best."""

BLOCK = 64
"""Columns of a block (algorithm 1's B)."""

DAMPING = 0.1
"""Of the mean second moment, added to each: what few films showed is not certain. At 0.01 the films that weights were rounded on moved
a third less than fresh ones, at 0.1 as far."""


def round_weights(
    weights: NDArray[Any], moments: NDArray[np.float64], pair_sum: int | None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round the weights of a convolution.

    Parameters
    ----------
    weights
        (O, C, h, w), C the channels of a group.
    moments
        float64 (G, K, K) with K = C h w: the second moments of what each group's kernels see (`edgekit.quantization.observing`).
    pair_sum
        Largest sum of two neighbouring steps; None accepts any.

    Returns
    -------
    codes, scales
        Steps, int8 of the weights' shape, and the size of a step, (O,).
    """
    flat = weights.astype(np.float64).reshape(len(weights), -1)
    scales = np.abs(flat).max(axis=1) / LEVELS
    if pair_sum is not None:
        scales = np.maximum(scales, sum_neighbours(weights.astype(np.float64)) / pair_sum)
    scales[scales == 0] = 1.0
    groups = len(moments)
    rows = flat.reshape(groups, 1, -1, flat.shape[1])
    tried = scales.reshape(groups, 1, -1) * np.array(STRETCHES)[:, None]  # (G, S, R)
    left = np.broadcast_to(rows, (*tried.shape, flat.shape[1])) / tried[..., None]
    shape = groups, -1, flat.shape[1]
    codes = _round_rows(left.reshape(shape), moments, find_neighbours(weights.shape), pair_sum).reshape(left.shape)
    error = (codes * tried[..., None] - rows).reshape(shape)
    best = ((error @ moments) * error).sum(axis=2).reshape(tried.shape).argmin(axis=1)[:, None]
    chosen = np.take_along_axis(codes, best[..., None], axis=1)
    return chosen.reshape(weights.shape).astype(np.int8), np.take_along_axis(tried, best, axis=1).ravel().astype(np.float32)


def _round_rows(
    left: NDArray[np.float64], moments: NDArray[np.float64], neighbours: list[NDArray[np.intp]], pair_sum: int | None
) -> NDArray[np.float64]:
    """Round rows (G, R, K), given in steps, the heaviest columns first.

    What a column's errors change is taken up at once by the columns of its block, and by all others when the block is done: the same sums,
    as products of matrices.
    """
    groups, _, size = left.shape
    diagonal = np.einsum("gkk->gk", moments)
    damped = moments + (DAMPING * diagonal.mean(axis=1) + 1e-8)[:, None, None] * np.eye(size)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    each = np.arange(groups)[:, None]
    # The upper Cholesky factor of the inverse: row k says how the later columns take up an error in column k.
    upper = np.linalg.cholesky(np.linalg.inv(damped[each[:, :, None], order[:, :, None], order[:, None, :]])).transpose(0, 2, 1)
    left = np.take_along_axis(left, order[:, None, :], axis=2)
    codes = np.zeros_like(left)  # in the order of rounding; `place_of` finds the neighbours there
    place_of = np.argsort(order[0])
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.zeros((*left.shape[:2], stop - start))
        for place in range(start, stop):
            lowest, highest = -float(LEVELS), float(LEVELS)
            if pair_sum is not None:  # there is one group
                beside = codes[:, :, place_of[neighbours[order[0, place]]]]
                highest = np.minimum(highest, pair_sum - beside.max(axis=2, initial=0))
                lowest = np.maximum(lowest, -pair_sum - beside.min(axis=2, initial=0))
            codes[:, :, place] = np.clip(np.round(left[:, :, place]), lowest, highest)
            error = (left[:, :, place] - codes[:, :, place]) / upper[:, place, place][:, None]
            left[:, :, place + 1 : stop] -= error[:, :, None] * upper[:, place, place + 1 : stop][:, None, :]
            errors[:, :, place - start] = error
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    return np.take_along_axis(codes, np.argsort(order, axis=1)[:, None, :], axis=2)
