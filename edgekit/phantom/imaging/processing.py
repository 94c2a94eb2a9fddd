"""What a reader, a scanner or an image intensifier makes of the exposure: bands, window, characteristic curve, marks of the medium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.imaging.filtering import blur, convolve, equalise, take_middle
from edgekit.phantom.imaging.medium import add_medium

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.imaging.families import Processing

MAXIMUM = 4095
"""Films have 12 bits unless they say otherwise."""


def develop(log_exposure: NDArray[np.float32], spacing_mm: float, processing: Processing) -> NDArray[np.float32]:
    """Map log exposure to grey, in the sense of the display: dense material is bright unless `processing` inverts.

    Returns
    -------
    float32 (H, W), 0 to 1; `store` makes integers of it.
    """
    image = _filter_bands(np.maximum(-log_exposure, np.float32(-2.0)), spacing_mm, processing)
    if processing.softness_mm > 0.25 * spacing_mm:
        image = convolve(image, processing.softness_mm / spacing_mm)
    shown = (image if processing.whole else take_middle(image))[::3, ::3]
    low, high = np.percentile(shown, (processing.low, processing.high))
    image -= np.float32(low)
    # A window narrower than 0.05 would show nothing but noise.
    image *= np.float32((_STEPS - 1) / 4 / max(high - low, 0.05))
    image += np.float32(_STEPS / 16)
    np.clip(image, 0, _STEPS - 1, out=image)
    grey = _make_curve(processing)[image.astype(np.uint16)]
    if processing.clahe:
        grey = equalise(grey, processing.tiles, processing.clahe)
    if processing.inverted:
        grey = 1 - grey
    if processing.black > 0 or processing.white < 1:
        grey *= np.float32(processing.white - processing.black)
        grey += np.float32(processing.black)
    return np.clip(add_medium(grey, processing), 0, 1)


def store(grey: NDArray[np.float32], bits: int = 12, photometric: str = "MONOCHROME2") -> NDArray[np.uint16]:
    """Return uint16 (H, W): `grey` of 0 to 1 as `bits` bits, 0 to 2^bits - 1; MONOCHROME1 stores larger where it is darker."""
    top = np.float32((1 << bits) - 1)
    scaled = (1 - grey if photometric == "MONOCHROME1" else grey) * top
    return (scaled + np.float32(0.5)).astype(np.uint16)


def apply_window(pixels: NDArray[np.uint16], photometric: str, centre: float, width: float) -> NDArray[np.uint8]:
    """Return uint8 (H, W), MONOCHROME2 sense: `pixels` through a linear window (DICOM PS3.3 C.11.2.1.2.1)."""
    share = np.clip((np.arange(int(pixels.max(initial=MAXIMUM)) + 1) - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.round(255 * (1 - share if photometric == "MONOCHROME1" else share)).astype(np.uint8)[pixels]


def _filter_bands(density: NDArray[np.float32], spacing_mm: float, processing: Processing) -> NDArray[np.float32]:
    """Weigh the bands of `density`; a change of gain that would cost a filter and do nothing is left out."""
    if processing.coarse_gain == processing.middle_gain == processing.fine_gain == processing.finest_gain == 1 == processing.local:
        return density
    coarse = blur(density, 18.0 / spacing_mm)
    fine = blur(density, 1.5 / spacing_mm)
    alike = processing.local == 1 and processing.middle_gain == processing.fine_gain
    middle = coarse if alike else blur(density, 5.0 / spacing_mm)
    result = density - fine
    result *= np.float32(processing.finest_gain)
    for upper, lower, gain in ((fine, middle, processing.fine_gain), (middle, coarse, processing.middle_gain)):
        if upper is lower:
            continue
        band = upper - lower
        if processing.local != 1:
            # Sign kept, unit gain at 0.5: half a natural-log unit, what a vertebra stands out by.
            band *= ((np.abs(band) + np.float32(0.02)) / np.float32(0.5)) ** np.float32(processing.local - 1)
        band *= np.float32(gain)
        result += band
    coarse *= np.float32(processing.coarse_gain)
    result += coarse
    return result


_STEPS = 1 << 14


def _make_curve(processing: Processing) -> NDArray[np.float32]:
    """Return the characteristic curve, float32 (16384,), 0 to 1: from a quarter of the window below its start to 3.75 above it."""
    share = np.linspace(-0.25, 3.75, _STEPS)
    straight = np.clip(processing.dark + (processing.bright - processing.dark) * share, 0, None)
    if processing.film:
        ends = 1 / (1 + np.exp(processing.film * 0.5 * np.array([1.5, -3.0])))
        grey = (1 / (1 + np.exp(-processing.film * (share - 0.5))) - ends[0]) / (ends[1] - ends[0])
        return np.asarray(np.clip(grey, 0, 1) ** processing.gamma, dtype=np.float32)
    grey = straight**processing.gamma
    room = 1 - processing.knee
    # A long shoulder where it is dense, so that metal keeps some detail.
    bent = processing.knee + room * (1 - np.exp(np.minimum(processing.knee - grey, 0) / room)) if room > 0 else np.ones_like(grey)
    result: NDArray[np.float32] = np.where(grey > processing.knee, bent, grey).astype(np.float32)
    return result
