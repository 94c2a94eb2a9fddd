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

_LEAST_PART = 0.4
"""Least width and height of a part of a film, relative to the film's."""
_LEAST_SIDE = 48
"""The same in pixels."""
_MOST_NARROW = 3.0
"""Most that a part is longer than it is wide, or wider than it is long."""
_LEAST_KEPT = 0.7
"""Share of the construct's box that is on the part at least."""
_TRIES = 8
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
    if rng.random() < 0.3:
        grey = _stress_details(grey, rng)
    steep = rng.random() < 0.25  # black and white are cut off
    gain, reach = (np.exp(rng.uniform(np.log(1.4), np.log(5.0))), 0.4) if steep else (rng.uniform(0.5, 1.4), 0.2)
    grey = (grey - np.float32(0.5)) * np.float32(gain) + np.float32(0.5 + rng.uniform(-reach, reach))
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


def cut_film(
    film: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Show a part of a film as a film of its own: shutters leave any part of a body, in any shape.

    Parameters
    ----------
    film
        uint8 (S, S), a letterboxed film.
    boxes
        float32 (B, 4), the constructs in pixels, none or one. Most of each stays on the part; where no such part is drawn in a few tries,
        the film stays whole.

    Returns
    -------
    The part, letterboxed to (S, S), and the boxes on it.
    """
    from PIL import Image

    side = film.shape[0]
    rows, columns = np.flatnonzero(film.any(axis=1)), np.flatnonzero(film.any(axis=0))
    if not rows.size:
        return film, boxes
    low = np.array([columns[0], rows[0]])
    covered = np.array([columns[-1], rows[-1]]) + 1 - low
    for _ in range(_TRIES):
        size = np.rint(covered * rng.uniform(_LEAST_PART, 1, 2))
        start = low + np.rint(rng.uniform(0, 1, 2) * (covered - size))
        corners = boxes.reshape(-1, 2, 2)
        parts = np.clip(corners - start, 0, size)
        kept = np.diff(parts, axis=1).prod(axis=2) >= _LEAST_KEPT * np.diff(corners, axis=1).prod(axis=2)
        if size.min() >= _LEAST_SIDE and size.max() <= _MOST_NARROW * size.min() and kept.all():
            break
    else:
        return film, boxes
    (x, y), (width, height) = start.astype(int), size.astype(int)
    shown = np.maximum(np.rint(size * (side / size.max())).astype(int), 1)
    left, top = margin = (side - shown) // 2
    part = Image.fromarray(film[y : y + height, x : x + width]).resize((int(shown[0]), int(shown[1])), Image.Resampling.BILINEAR)
    result = np.zeros_like(film)
    result[top : top + shown[1], left : left + shown[0]] = np.asarray(part)
    return result, (parts * (shown / size) + margin).astype(np.float32).reshape(-1, 4)


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


def _stress_details(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Flatten what is larger than a random number of pixels and stress what is smaller, as workstations do."""
    from scipy.ndimage import uniform_filter

    large = uniform_filter(grey, round(np.exp(rng.uniform(np.log(5), np.log(60)))), mode="nearest")
    flat = np.float32(0.5) + (large - np.float32(0.5)) * np.float32(rng.uniform(0.3, 1.0))
    result: NDArray[np.float32] = flat + (grey - large) * np.float32(rng.uniform(1.0, 3.0))
    return result


def _coarsen(grey: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Lower the resolution by `factor` and come back to the same pixels."""
    from PIL import Image

    height, width = grey.shape
    picture = Image.fromarray(grey)
    small = picture.resize((max(8, round(width / factor)), max(8, round(height / factor))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
