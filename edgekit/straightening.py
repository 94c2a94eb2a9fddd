"""A plane seen in perspective: the homography of four points, and the way back to a rectangle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


FOCAL = 0.75
"""Focal length that `estimate_size` takes for granted, relative to the photo's long side: a main camera of 26 mm equivalent, 4 : 3."""


def fit_homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64 (3, 3): the perspective map of four points onto four others (Hartley and Zisserman 2004, 4.1; h33 = 1).

    Parameters
    ----------
    source, target
        float64 (4, 2) as x, y; no three of them on a line.
    """
    equations, values = np.zeros((8, 8)), np.zeros(8)
    for row, ((x, y), (u, v)) in enumerate(zip(np.asarray(source), np.asarray(target), strict=True)):
        equations[2 * row] = [x, y, 1, 0, 0, 0, -u * x, -u * y]
        equations[2 * row + 1] = [0, 0, 0, x, y, 1, -v * x, -v * y]
        values[2 * row : 2 * row + 2] = u, v
    return np.append(np.linalg.solve(equations, values), 1.0).reshape(3, 3)


def project(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map points (..., 2) as x, y with a homography (3, 3)."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[..., :2] / mapped[..., 2:])


def make_rectangle(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    """Return float64 (4, 2): top-left, top-right, bottom-right, bottom-left."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def go_round(corners: NDArray[np.float64]) -> bool:
    """Tell whether points are the four corners of a convex quadrilateral, clockwise as seen."""
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    return corners.shape == (4, 2) and bool((edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all())


def choose_size(corners: NDArray[np.float64], width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which a film of `width` x `height` is as large as it appears between `corners`, its aspect kept.

    As large as its largest side appears, and never larger than the film itself.
    """
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    scale = min(1.0, float(max(sides[0] / width, sides[2] / width, sides[1] / height, sides[3] / height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def estimate_size(corners: NDArray[np.float64], width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which a film of unknown aspect is as large as it appears between `corners`.

    Perspective tells the aspect (Zhang and He 2007, Digital Signal Processing 17:414-432, equation 11) of a photo that is not cropped,
    by a camera of `FOCAL`: the map of the unit square to the corners, seen from the lens, has columns as long as the film's sides.

    Parameters
    ----------
    corners
        float64 (4, 2): top-left, top-right, bottom-right, bottom-left as x, y in pixels of the photo.
    width, height
        Of the photo.
    """
    seen = (corners - np.array([width, height]) / 2) / (FOCAL * max(width, height))
    columns = np.linalg.norm(fit_homography(make_rectangle(0, 0, 1, 1), seen), axis=0)
    aspect = float(columns[0] / columns[1])
    top, right, bottom, left = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).tolist()
    across = max(top, bottom, aspect * max(left, right))
    return max(1, math.floor(across + 0.5)), max(1, math.floor(across / aspect + 0.5))


def straighten(pixels: NDArray[np.uint8], corners: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Warp what lies between four corners to a rectangle.

    Linear interpolation between pixel centres; where the photo is finer than the result, the mean of as many samples a side as it takes
    to leave none out.

    Parameters
    ----------
    pixels
        uint8 (H, W) or (H, W, channels).
    corners
        float64 (4, 2): top-left, top-right, bottom-right, bottom-left as x, y in pixels of the photo, whose origin is the outer corner
        of the top-left pixel. What lies outside the photo gets the value of its border.
    size
        Width and height of the result.

    Returns
    -------
    uint8 (height, width) or (height, width, channels).

    Raises
    ------
    ValueError
        The corners don't go round a convex quadrilateral clockwise (as seen), or the photo is no uint8 image.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.size == 0:
        raise ValueError(f"expected a uint8 image (height, width[, channels]), got {pixels.dtype} {pixels.shape}")
    corners = np.asarray(corners, dtype=np.float64)
    if not go_round(corners):
        raise ValueError(f"corners must go round the film: top-left, top-right, bottom-right, bottom-left; got {corners.tolist()}")
    width, height = size
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    steps = [max(1, math.ceil(max(sides[n], sides[n + 2]) / side - 0.01)) for n, side in enumerate(size)]
    matrix = fit_homography(make_rectangle(0, 0, width, height), corners)
    planes = np.ascontiguousarray(pixels[..., None] if pixels.ndim == 2 else pixels)
    result: NDArray[np.uint8] = _warp(planes, matrix, width, height, steps[0], steps[1])
    return result[..., 0] if pixels.ndim == 2 else result


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int, across: int, down: int) -> NDArray[np.uint8]:
    rows, columns, channels = pixels.shape
    result = np.empty((height, width, channels), np.uint8)
    total = np.empty(channels)
    for i in range(height):
        for j in range(width):
            total[:] = 0.5 * across * down  # halves are rounded up
            for a in range(down):
                y = i + (a + 0.5) / down
                for b in range(across):
                    x = j + (b + 0.5) / across
                    w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
                    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w - 0.5
                    v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w - 0.5
                    u, v = min(max(u, 0.0), columns - 1.0), min(max(v, 0.0), rows - 1.0)
                    m, n = int(v), int(u)
                    below, right = min(m + 1, rows - 1), min(n + 1, columns - 1)
                    q, p = v - m, u - n
                    for k in range(channels):
                        top = pixels[m, n, k] + p * (float(pixels[m, right, k]) - pixels[m, n, k])
                        bottom = pixels[below, n, k] + p * (float(pixels[below, right, k]) - pixels[below, n, k])
                        total[k] += top + q * (bottom - top)
            for k in range(channels):
                result[i, j, k] = int(total[k] / (across * down))
    return result
