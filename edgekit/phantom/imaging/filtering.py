"""Image-sized filters that are cheap where they may be coarse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

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
    step = max(1, int(sigma / 2))
    if step == 1:
        return convolve(image, sigma)
    rows, columns = (-(-side // step) for side in image.shape)
    padded = np.pad(image, ((0, rows * step - image.shape[0]), (0, columns * step - image.shape[1])), mode="edge")
    coarse = padded.reshape(rows, step, columns, step).mean(axis=(1, 3))
    # Averaging and interpolating widen the kernel by (step² - 1)/12 and step²/6.
    rest = max(sigma**2 - (step**2 - 1) / 12 - step**2 / 6, 0.25) ** 0.5
    return enlarge(convolve(coarse, rest / step), image.shape, step)


def convolve(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return float32 (H, W): a Gaussian blur of `sigma` pixels, cut off at three of them; the border pixels go on outside."""
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    result: NDArray[np.float32] = _convolve(np.ascontiguousarray(image, dtype=np.float32), (kernel / kernel.sum()).astype(np.float32))
    return result


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _convolve(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve rows and columns with `kernel`."""
    height, width = image.shape
    reach = len(kernel) // 2
    result = np.empty_like(image)
    line = np.empty(width + 2 * reach, dtype=np.float32)
    for row in range(height):
        line[:] = 0.0
        for tap in range(2 * reach + 1):
            source = min(max(row + tap - reach, 0), height - 1)
            weight = kernel[tap]
            for column in range(width):
                line[reach + column] += weight * image[source, column]
        line[:reach] = line[reach]
        line[reach + width :] = line[reach + width - 1]
        for column in range(width):
            result[row, column] = 0.0
        for tap in range(2 * reach + 1):
            weight = kernel[tap]
            for column in range(width):
                result[row, column] += weight * line[column + tap]
    return result


def take_middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle of a film, where the patient is: what exposure control and windowing look at."""
    height, width = image.shape
    return image[height // 5 : height - height // 5, width // 4 : width - width // 4]


def equalise(image: NDArray[np.float32], tiles: int, limit: float) -> NDArray[np.float32]:
    """Equalise the histogram locally, with limited contrast.

    Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV (1994).

    Parameters
    ----------
    image
        float32 (H, W), 0 to 1.
    tiles
        Tiles a side.
    limit
        The steepest that the curve of a tile may be, before what was cut off is spread evenly (up to 1 more); 0 changes nothing.

    Returns
    -------
    float32 (H, W), 0 to 1.
    """
    result: NDArray[np.float32] = _equalise(np.ascontiguousarray(image, dtype=np.float32), min(tiles, *image.shape), limit)
    return result


_BINS = 256


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _equalise(image: NDArray[np.float32], tiles: int, limit: float) -> NDArray[np.float32]:
    """Make a curve for each tile and interpolate between the four nearest ones."""
    height, width = image.shape
    curves = np.zeros((tiles, tiles, _BINS + 1), dtype=np.float32)
    for i in range(tiles):
        for j in range(tiles):
            counts = np.zeros(_BINS, dtype=np.float64)
            total = 0
            for row in range(i * height // tiles, (i + 1) * height // tiles):
                for column in range(j * width // tiles, (j + 1) * width // tiles):
                    counts[min(max(int(image[row, column] * _BINS), 0), _BINS - 1)] += 1
                    total += 1
            excess = 0.0
            ceiling = limit * total / _BINS
            for k in range(_BINS):
                if counts[k] > ceiling:
                    excess += counts[k] - ceiling
                    counts[k] = ceiling
            for k in range(_BINS):
                curves[i, j, k + 1] = curves[i, j, k] + (counts[k] + excess / _BINS) / total
    result = np.empty_like(image)
    for row in range(height):
        y = min(max((row + 0.5) * tiles / height - 0.5, 0.0), tiles - 1.0)
        i = min(int(y), max(tiles - 2, 0))
        v = np.float32(y - i)
        below = min(i + 1, tiles - 1)
        for column in range(width):
            x = min(max((column + 0.5) * tiles / width - 0.5, 0.0), tiles - 1.0)
            j = min(int(x), max(tiles - 2, 0))
            u = np.float32(x - j)
            right = min(j + 1, tiles - 1)
            level = min(max(image[row, column], np.float32(0)), np.float32(1)) * np.float32(_BINS)
            k = min(int(level), _BINS - 1)
            w = level - np.float32(k)
            mixed = np.float32(0)
            for corner in range(4):
                a, b = (below if corner & 2 else i), (right if corner & 1 else j)
                share = (v if corner & 2 else np.float32(1) - v) * (u if corner & 1 else np.float32(1) - u)
                mixed += share * (curves[a, b, k] + w * (curves[a, b, k + 1] - curves[a, b, k]))
            result[row, column] = mixed
    return result
