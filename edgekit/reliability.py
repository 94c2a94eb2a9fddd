"""How far the probabilities that a model tells are from the shares that are right: the bins of the expected calibration error."""

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
