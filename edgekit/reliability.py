"""How far the probabilities that a model tells are from the shares that are right: the expected calibration error and its bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS = 15
"""Equal-width bins of the top probability, as in Guo et al. 2017."""


def calibration_bins(confidence: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Sort top probabilities (N,) into `CALIBRATION_BINS` equal bins ((m-1)/M, m/M]; returns int (N,)."""
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(np.intp) - 1
    return np.asarray(np.clip(bins, 0, CALIBRATION_BINS - 1))


def calibration_error(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the expected calibration error: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, eq. 3.

    Parameters
    ----------
    confidence
        float (N,), the top probability of each answer.
    right
        bool (N,).
    weights
        float (R, N), how often each answer counts, once for each error that is wanted; None counts each once.

    Returns
    -------
    float64 (R,); NaN where nothing counts.
    """
    if weights is None:
        weights = np.ones((1, confidence.size))
    gaps = np.zeros((confidence.size, CALIBRATION_BINS))
    gaps[np.arange(confidence.size), calibration_bins(confidence)] = right - confidence
    apart, n = np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1)
    return np.asarray(np.divide(apart, n, out=np.full(apart.shape, np.nan), where=n != 0))
