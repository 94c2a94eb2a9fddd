"""What the detector makes of the beam: scatter, quantum noise, blur, logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.filtering import blur, take_middle

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Exposure:
    """How one film was taken.

    Attributes
    ----------
    quanta_per_mm2
        Detected quanta per mm² of detector behind the middle of the patient: the automatic exposure control aims at it. inf is noise-free.
    scatter
        Scattered signal relative to the primary behind the middle of the patient, after the grid.
    blur_mm
        Standard deviation of focal spot and screen blur, at the detector.
    """

    quanta_per_mm2: float
    scatter: float
    blur_mm: float


def detect(transmission: NDArray[np.float32], spacing_mm: float, exposure: Exposure, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add scatter, quantum noise and blur, and take the logarithm.

    Returns
    -------
    float32 (H, W): log of the exposure relative to the middle of the film; more is darker on a film.
    """
    from scipy.ndimage import gaussian_filter

    middle = float(np.median(take_middle(transmission)))
    # The open beam beside the patient doesn't scatter.
    scattered = blur(np.minimum(transmission, np.float32(4 * middle)), 35.0 / spacing_mm)
    signal = (transmission + np.float32(exposure.scatter) * scattered) / np.float32(middle * (1 + exposure.scatter))
    if np.isfinite(exposure.quanta_per_mm2):
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal += noise * np.sqrt(signal / np.float32(exposure.quanta_per_mm2 * spacing_mm**2))
    if exposure.blur_mm:
        signal = gaussian_filter(signal, exposure.blur_mm / spacing_mm, truncate=3.0)
    result: NDArray[np.float32] = np.log(np.maximum(signal, 1e-3))
    return result
