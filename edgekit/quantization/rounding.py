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
    groups, neighbours = len(moments), find_neighbours(weights.shape)
    rows = flat.reshape(groups, -1, flat.shape[1])
    best = np.full(rows.shape[:2], np.inf)
    kept_codes, kept_scales = np.zeros_like(rows), np.zeros(rows.shape[:2])
    for stretch in STRETCHES:
        tried = stretch * scales.reshape(groups, -1)
        codes = _round_rows(rows, moments, tried, neighbours, pair_sum)
        error = codes * tried[:, :, None] - rows
        loss = np.einsum("grk,grk->gr", error @ moments, error)
        better = loss < best
        best = np.where(better, loss, best)
        kept_codes = np.where(better[:, :, None], codes, kept_codes)
        kept_scales = np.where(better, tried, kept_scales)
    return kept_codes.reshape(weights.shape).astype(np.int8), kept_scales.ravel().astype(np.float32)


def _round_rows(
    rows: NDArray[np.float64],
    moments: NDArray[np.float64],
    scales: NDArray[np.float64],
    neighbours: list[NDArray[np.intp]],
    pair_sum: int | None,
) -> NDArray[np.float64]:
    """Return the steps of rows (G, R, K), the heaviest columns first."""
    groups, _, size = rows.shape
    diagonal = np.einsum("gkk->gk", moments)
    damped = moments + (DAMPING * diagonal.mean(axis=1) + 1e-8)[:, None, None] * np.eye(size)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    each = np.arange(groups)[:, None]
    sorted_moments = damped[each[:, :, None], order[:, :, None], order[:, None, :]]
    # The upper Cholesky factor of the inverse: row k says how the later columns take up an error in column k.
    upper = np.linalg.cholesky(np.linalg.inv(sorted_moments)).transpose(0, 2, 1)
    left = np.take_along_axis(rows, order[:, None, :], axis=2) / scales[:, :, None]
    codes = np.zeros_like(rows)
    for place in range(size):
        lowest, highest = np.full(left.shape[:2], -float(LEVELS)), np.full(left.shape[:2], float(LEVELS))
        if pair_sum is not None:  # there is one group
            beside = codes[0][:, neighbours[order[0, place]]]
            highest[0] = np.minimum(highest[0], pair_sum - beside.max(axis=1, initial=0))
            lowest[0] = np.maximum(lowest[0], -pair_sum - beside.min(axis=1, initial=0))
        rounded = np.clip(np.round(left[:, :, place]), lowest, highest)
        error = (left[:, :, place] - rounded) / upper[:, place, place][:, None]
        left[:, :, place + 1 :] -= error[:, :, None] * upper[:, place, place + 1 :][:, None, :]
        np.put_along_axis(codes, np.broadcast_to(order[:, place][:, None, None], (*codes.shape[:2], 1)), rounded[:, :, None], axis=2)
    return codes
