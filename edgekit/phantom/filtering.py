"""Image-sized filters that are cheap where they may be coarse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def enlarge(image: NDArray[np.float32], shape: tuple[int, int], factor: float) -> NDArray[np.float32]:
    """Return float32 `shape`: `image` with `factor` times as many pixels a side, by linear interpolation between pixel centres."""
    result = image
    for axis in (0, 1):
        last = image.shape[axis] - 1
        position = np.clip((np.arange(shape[axis]) + 0.5) / factor - 0.5, 0, last)
        low = np.minimum(position.astype(np.intp), max(last - 1, 0))
        share = np.expand_dims((position - low).astype(np.float32), 1 - axis)
        below = result.take(low, axis=axis)
        result = below + share * (result.take(np.minimum(low + 1, last), axis=axis) - below)
    return result


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian blur of `sigma` pixels; a wide one is computed on a coarse copy."""
    from scipy.ndimage import gaussian_filter

    step = max(1, int(sigma / 2))
    if step == 1:
        return np.asarray(gaussian_filter(image, sigma, mode="nearest", truncate=3.0))
    rows, columns = (-(-side // step) for side in image.shape)
    padded = np.pad(image, ((0, rows * step - image.shape[0]), (0, columns * step - image.shape[1])), mode="edge")
    coarse = padded.reshape(rows, step, columns, step).mean(axis=(1, 3))
    return enlarge(gaussian_filter(coarse, sigma / step, mode="nearest", truncate=3.0), image.shape, step)


def take_middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle of a film, where the patient is: what exposure control and windowing look at."""
    height, width = image.shape
    return image[height // 5 : height - height // 5, width // 4 : width - width // 4]
