"""What a film can look like on its way to a screen: exposure, processing and quality varied while the detector trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vary_film(film: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Redraw a film's grey values; nothing moves.

    Polarity, gamma, contrast, brightness, uneven shading, resolution and noise. The letterbox's black bars stay black.

    Parameters
    ----------
    film
        uint8 (S, S), a letterboxed film.
    """
    from scipy.ndimage import zoom

    side = film.shape[0]
    covered = np.ix_(film.any(axis=1), film.any(axis=0))
    grey: NDArray[np.float32] = film[covered].astype(np.float32) / np.float32(255)
    if not grey.size:
        return film
    if rng.random() < 0.2:  # C-arm films show metal dark
        grey = 1 - grey
    grey **= np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    gain, middle = np.float32(rng.uniform(0.5, 1.4)), np.float32(0.5 + rng.uniform(-0.2, 0.2))
    grey = (grey - np.float32(0.5)) * gain + middle
    if rng.random() < 0.3:
        shading = zoom(rng.normal(0, 0.12, (3, 3)).astype(np.float32), np.array(grey.shape) / 3, order=1)
        grey = grey + shading[: grey.shape[0], : grey.shape[1]]
    if rng.random() < 0.3:
        grey = _coarsen(grey, rng.uniform(1.3, 2.8))
    if rng.random() < 0.3:
        grey = grey + rng.normal(0, rng.uniform(0.01, 0.07), grey.shape).astype(np.float32)
    result = np.zeros((side, side), np.uint8)
    result[covered] = np.rint(np.clip(grey, 0, 1) * 255)
    return result


def _coarsen(grey: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Lower the resolution by `factor` and come back to the same pixels."""
    from PIL import Image

    height, width = grey.shape
    picture = Image.fromarray(grey)
    small = picture.resize((max(8, round(width / factor)), max(8, round(height / factor))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
