"""What a film can look like on its way to a screen: exposure, processing and quality varied in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.training.config import MembersConfig

NOISY = 0.5
"""Share of a member's crops that noise is added to."""


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


def vary_crops(crops: Tensor, count: int, config: MembersConfig, generator: torch.Generator, own: slice = slice(None)) -> Tensor:
    """Redraw tone, sharpness and noise of a member's crops.

    A crop is enlarged two- or threefold and so is smooth. A network that has seen nothing else takes the rounding of its own 8-bit
    arithmetic for structure: two grey levels of noise changed its probabilities by 0.05 on average (docs/performance.md).

    Parameters
    ----------
    crops
        float32 (B, 1, h, w) in [0, 1]: of a batch of `count`, the samples in `own`.
    generator
        Everything is drawn for the whole batch, so that processes which share it agree.

    Returns
    -------
    float32 (B, 1, h, w) in [0, 1].
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=generator)

    gamma = uniform(-config.gamma, config.gamma).exp()[own]
    blur = ((uniform(0, 1) < config.blur) * uniform(0, 1))[own]
    noise = ((uniform(0, 1) < NOISY) * uniform(0, config.noise))[own]
    if config.gamma:
        crops = crops.clamp(min=1e-4) ** gamma
    if config.blur:
        coarse = functional.interpolate(functional.avg_pool2d(crops, 2), size=crops.shape[2:], mode="bilinear")
        crops = crops + blur * (coarse - crops)
    if config.noise:
        crops = crops + noise * torch.randn(count, *crops.shape[1:], generator=generator)[own]
    return crops.clamp(0, 1)


def _coarsen(grey: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Lower the resolution by `factor` and come back to the same pixels."""
    from PIL import Image

    height, width = grey.shape
    picture = Image.fromarray(grey)
    small = picture.resize((max(8, round(width / factor)), max(8, round(height / factor))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
