"""From a screen's device pixels to the light on a sensor: the sub-pixel grid, the lens, the shaking hand.

A photosite sees the emission of the screen through its own area, the lens and the movement of the hand. The emission is the picture
times a periodic grid, so what a photosite sees of the grid is a sum of harmonics, each weakened by the transfer function of area, lens
and movement at its frequency: an analytic box, Gauss and motion filter over sub-pixels. It is evaluated at the photosites' centres
and nowhere else, so frequencies beyond half the sampling rate of a colour fold down by themselves: moire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from edgekit.phantom.imaging.filtering import convolve
from edgekit.phantom.photo.glare import STEP, place_nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.photo.glare import Light
    from edgekit.phantom.photo.viewer import Screen
    from edgekit.phantom.photo.viewpoint import Viewpoint


@dataclass(frozen=True, slots=True)
class Panel:
    """A liquid crystal panel.

    Attributes
    ----------
    stripe
        Lit width of each of the three stripes red, green, blue, device pixels; the rest of the third is black matrix. 1 has no grid.
    lit
        Lit height of a row, device pixels. 1 has no grid.
    gamma
        Exponent from value to light.
    leak
        Light of black relative to white: a contrast of about 700 to 1.
    """

    stripe: float = 0.27
    lit: float = 0.84
    gamma: float = 2.2
    leak: float = 0.0015


@dataclass(frozen=True, slots=True)
class Lens:
    """What softens the picture before the sensor.

    Attributes
    ----------
    sigma
        Standard deviation of lens blur and defocus, photosites.
    shake
        Movement of the picture during the exposure, photosites as x, y.
    """

    sigma: float
    shake: tuple[float, float] = (0.0, 0.0)

    @property
    def width(self) -> float:
        """Standard deviation of the whole point spread along its wider axis, photosites, without the photosite's own area."""
        return math.sqrt(self.sigma**2 + math.hypot(*self.shake) ** 2 / 12)


_BEZEL = 70
"""Width of the frame around the display, device pixels."""


def project_picture(screen: Screen, panel: Panel, view: Viewpoint, lens: Lens, surround: tuple[float, float]) -> NDArray[np.float32]:
    """Return float32 (3, H, W): the screen's picture on the sensor without its grid, relative to white.

    Parameters
    ----------
    screen, panel, view, lens
        What is seen, on what, from where, through what.
    surround
        Light of the display's frame and of the wall behind.
    """
    curve = (panel.leak + (1 - panel.leak) * (np.arange(256) / 255) ** panel.gamma).astype(np.float32)
    rows, columns, _ = screen.pixels.shape
    canvas = np.full((rows + 2 * _BEZEL + 2, columns + 2 * _BEZEL + 2, 3), surround[1], np.float32)
    canvas[1:-1, 1:-1] = surround[0]
    canvas[_BEZEL + 1 : -_BEZEL - 1, _BEZEL + 1 : -_BEZEL - 1] = curve[screen.pixels]
    planes = np.empty((3, view.height, view.width), np.float32)
    _sample(canvas, np.linalg.inv(view.matrix), _BEZEL + 1.0, planes)
    path = _trace_shake(lens.shake)
    for n in range(3):
        soft = convolve(planes[n], lens.sigma) if lens.sigma > 0 else planes[n]
        planes[n] = soft if path is None else _move(soft, *path)
    return planes


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _sample(canvas: NDArray[np.float32], inverse: NDArray[np.float64], margin: float, planes: NDArray[np.float32]) -> None:
    rows, columns, _ = canvas.shape
    _, height, width = planes.shape
    for i in range(height):
        for j in range(width):
            x, y = j + 0.5, i + 0.5
            w = 1.0 / (inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2])
            u = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]) * w + margin - 0.5
            v = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]) * w + margin - 0.5
            u, v = min(max(u, 0.0), columns - 1.001), min(max(v, 0.0), rows - 1.001)
            m, n = int(v), int(u)
            q, p = np.float32(v - m), np.float32(u - n)
            for k in range(3):
                top = canvas[m, n, k] + p * (canvas[m, n + 1, k] - canvas[m, n, k])
                bottom = canvas[m + 1, n, k] + p * (canvas[m + 1, n + 1, k] - canvas[m + 1, n, k])
                planes[k, i, j] = top + q * (bottom - top)


def _trace_shake(shake: tuple[float, float]) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Return offsets (n, 2) as row, column and their weights: a straight movement, centred, spread over whole photosites."""
    length = math.hypot(*shake)
    if length < 0.05:
        return None
    count = max(8, math.ceil(4 * length))
    along = (np.arange(count) + 0.5) / count - 0.5
    reach = math.ceil(length / 2) + 1
    weights = np.zeros((2 * reach + 1, 2 * reach + 1))
    for t in along:
        x, y = t * shake[0] + reach, t * shake[1] + reach
        a, b = int(x), int(y)
        p, q = x - a, y - b
        weights[b : b + 2, a : a + 2] += np.outer([1 - q, q], [1 - p, p]) / count
    places = np.argwhere(weights > 1e-4)
    chosen = weights[places[:, 0], places[:, 1]]
    return places - reach, (chosen / chosen.sum()).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _move(plane: NDArray[np.float32], offsets: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weighted mean of shifted copies; the border goes on outside."""
    height, width = plane.shape
    result = np.zeros_like(plane)
    for i in range(height):
        for t in range(len(weights)):
            row, shift, weight = min(max(i + offsets[t, 0], 0), height - 1), offsets[t, 1], weights[t]
            first, last = max(0, -shift), min(width, width - shift)
            for j in range(first):
                result[i, j] += weight * plane[row, 0]
            for j in range(first, last):
                result[i, j] += weight * plane[row, j + shift]
            for j in range(last, width):
                result[i, j] += weight * plane[row, width - 1]
    return result


def weaken_grid(panel: Panel, view: Viewpoint, lens: Lens) -> NDArray[np.float32]:
    """Return float32 (3, n, m): amplitude of the grid's harmonics at the nodes of the photo, relative to the mean.

    The first and second across the stripes, and the first across the rows. The grid's own Fourier coefficients are those of a stripe
    and of a row; the transfer function is that of a square photosite, a Gaussian and a straight movement.
    """
    _, slopes = view.find_pixels(place_nodes(view))
    harmonics = ((0, 1, panel.stripe), (0, 2, panel.stripe), (1, 1, panel.lit))
    result = []
    for axis, order, share in harmonics:
        x, y = order * slopes[..., axis, 0], order * slopes[..., axis, 1]  # cycles per photosite
        transfer = np.sinc(x) * np.sinc(y) * np.exp(-2 * (math.pi * lens.sigma) ** 2 * (x**2 + y**2))
        transfer *= np.sinc(x * lens.shake[0] + y * lens.shake[1])
        result.append(2 * np.sinc(order * share) * transfer)
    return np.array(result, dtype=np.float32)


def mosaic(
    planes: NDArray[np.float32],
    grid: NDArray[np.float32],
    light: Light,
    view: Viewpoint,
    response: NDArray[np.float64],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """Return float32 (H, W): the light on each photosite behind its colour filter (red at even rows and columns, blue at odd ones).

    Parameters
    ----------
    planes
        float32 (3, H, W): the picture (`project_picture`).
    grid
        float32 (3, n, m): the harmonics (`weaken_grid`).
    light
        What is lost and added on the way.
    view
        The phone.
    response
        float64 (3, 3): signal of the sensor's red, green and blue for the screen's red, green and blue; rows sum to 1.
    size
        Width and height of the screen, device pixels: there is no grid beyond.
    """
    fields = np.concatenate([light.gain[None], light.added, grid])
    table = np.cos(2 * np.pi * (np.arange(_PHASES) + 0.5) / _PHASES).astype(np.float32)
    result: NDArray[np.float32] = _mosaic(
        planes, fields, np.linalg.inv(view.matrix), response.astype(np.float32), table, float(size[0]), float(size[1])
    )
    return result


_PHASES = 3072  # a multiple of 6: stripes are centred at 1/6, 1/2 and 5/6


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _mosaic(
    planes: NDArray[np.float32],
    fields: NDArray[np.float32],
    inverse: NDArray[np.float64],
    response: NDArray[np.float32],
    table: NDArray[np.float32],
    across: float,
    down: float,
) -> NDArray[np.float32]:
    _, height, width = planes.shape
    count, _, nodes = fields.shape
    line = np.empty((nodes, count), np.float32)
    here = np.empty(count, np.float32)
    result = np.empty((height, width), np.float32)
    one, phases = np.float32(1), len(table)
    for i in range(height):
        y = i + 0.5
        a, q = int(y / STEP), np.float32(y / STEP - int(y / STEP))
        for f in range(count):
            for n in range(nodes):
                line[n, f] = fields[f, a, n] + q * (fields[f, a + 1, n] - fields[f, a, n])
        for j in range(width):
            x = j + 0.5
            b, p = int(x / STEP), np.float32(x / STEP - int(x / STEP))
            for f in range(count):
                here[f] = line[b, f] + p * (line[b + 1, f] - line[b, f])
            w = 1.0 / (inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2])
            u = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]) * w
            v = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]) * w
            colour = (i & 1) + (j & 1)
            total = np.float32(0)
            if 0 <= u < across and 0 <= v < down:
                column = int((u - int(u)) * phases)
                row = int((v - int(v)) * phases)
                for k in range(3):
                    phase = column - (phases * (2 * k + 1)) // 6
                    phase = phase + phases if phase < 0 else phase
                    wave = here[4] * table[phase] + here[5] * table[(2 * phase) % phases]
                    total += response[colour, k] * planes[k, i, j] * (one + wave)
                row = row - phases // 2
                total *= one + here[6] * table[row + phases if row < 0 else row]
            else:
                for k in range(3):
                    total += response[colour, k] * planes[k, i, j]
            result[i, j] = here[0] * total + here[1 + colour]
    return result
