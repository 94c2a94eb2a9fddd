"""What a computed-radiography reader makes of the exposure: range compression, sharpening, window, characteristic curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.filtering import blur, take_middle

if TYPE_CHECKING:
    from numpy.typing import NDArray


MAXIMUM = 4095
"""Films have 12 bits."""


@dataclass(frozen=True, slots=True)
class Processing:
    """How the reader maps log exposure to grey values.

    Attributes
    ----------
    coarse_gain, fine_gain
        Contrast of structures larger than about 40 mm and smaller than that; coarse below 1 is dynamic range compression.
    sharpening
        Weight of the unsharp mask.
    window
        Percentiles of the film's middle that the window shows.
    gamma
        Exponent of the display curve.
    """

    coarse_gain: float
    fine_gain: float
    sharpening: float
    window: tuple[float, float]
    gamma: float


def develop(log_exposure: NDArray[np.float32], spacing_mm: float, processing: Processing) -> NDArray[np.uint16]:
    """Map log exposure to 12-bit grey values, MONOCHROME2 sense: dense material is bright.

    Returns
    -------
    uint16 (H, W), 0-4095; a window over the whole range shows all of it.
    """
    density = np.maximum(-log_exposure, np.float32(-2.0))
    coarse = blur(density, 18.0 / spacing_mm)
    image = processing.coarse_gain * coarse + processing.fine_gain * (density - coarse)
    image += processing.sharpening * (image - blur(image, 2.0 / spacing_mm))
    low, high = np.percentile(take_middle(image)[::3, ::3], processing.window)
    share = np.clip((image - np.float32(low)) * np.float32((_STEPS - 1) / 4 / (high - low)) + np.float32(_STEPS / 16), 0, _STEPS - 1)
    curve = _make_curve(processing.gamma)
    return curve[share.astype(np.uint16)]


_STEPS = 1 << 14


def _make_curve(gamma: float) -> NDArray[np.uint16]:
    """Return the characteristic curve, uint16 (16384,): grey values from a quarter of the window below its start to 3.75 above it.

    Straight in the middle, with a long shoulder where it is dense, so that metal keeps some detail.
    """
    share = np.linspace(-0.25, 3.75, _STEPS)
    grey = np.clip(0.1 + 0.65 * share, 0, None) ** gamma
    knee, room = 0.7, 0.3
    return np.round(MAXIMUM * np.where(grey > knee, knee + room * (1 - np.exp((knee - grey) / room)), grey)).astype(np.uint16)


def apply_window(pixels: NDArray[np.uint16], photometric: str, centre: float, width: float) -> NDArray[np.uint8]:
    """Return uint8 (H, W), MONOCHROME2 sense: `pixels` through a linear window (DICOM PS3.3 C.11.2.1.2.1)."""
    share = np.clip((np.arange(MAXIMUM + 1) - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.round(255 * (1 - share if photometric == "MONOCHROME1" else share)).astype(np.uint8)[pixels]
