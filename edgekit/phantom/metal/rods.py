"""Rods: the curve they are bent to, their ends, and what joins two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_box, merge, revolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP_MM = 4.0
_DEGREES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4, 9: 4}
_HIGHEST_DEGREE = 5
_SEGMENTS = 16


class RodCurve:
    """A smooth curve over z that passes near the heads, as a rod is bent; straight beyond the first and the last of them.

    Parameters
    ----------
    heads
        float64 (n, 3), mm: where the rod should cross the screws, from the top down.
    direction
        float64 (3,): which way the rod runs where there is a single head.
    """

    def __init__(self, heads: NDArray[np.float64], direction: NDArray[np.float64]) -> None:
        z = heads[:, 2]
        self._low, self._high = float(z.min()), float(z.max())
        if len(heads) == 1:
            slopes = np.stack([heads[0, :2], direction[:2] / direction[2]], axis=1)
            self._lines = [np.polynomial.Polynomial(line, domain=[-1, 1], window=[-1, 1]) for line in slopes]
            self._lines = [line(np.polynomial.Polynomial([-z[0], 1.0])) for line in self._lines]
        else:
            degree = _DEGREES.get(len(heads), _HIGHEST_DEGREE)
            self._lines = [np.polynomial.Polynomial.fit(z, heads[:, axis], degree) for axis in (0, 1)]
        self._slopes = [line.deriv() for line in self._lines]

    def __call__(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 (n, 3): the points of the curve at heights `z` (n,)."""
        inside = np.clip(z, self._low, self._high)
        across = [line(inside) + slope(inside) * (z - inside) for line, slope in zip(self._lines, self._slopes, strict=True)]
        return np.column_stack([*across, z])

    def find_direction(self, z: float) -> NDArray[np.float64]:
        """Return the unit tangent, towards the head, at height `z`."""
        inside = min(max(z, self._low), self._high)
        tangent = np.array([float(slope(inside)) for slope in self._slopes] + [1.0])
        unit: NDArray[np.float64] = tangent / np.linalg.norm(tangent)
        return unit


def trace_rod(curve: RodCurve, high: float, low: float) -> NDArray[np.float64]:
    """Return float64 (k, 3), mm: points of the curve from height `high` down to `low`."""
    return curve(np.linspace(high, low, max(6, round((high - low) / _STEP_MM))))


def make_rod(path: NDArray[np.float64], diameter: float, *, has_nose: bool = False) -> Mesh:
    """Return a round rod along a path that runs downwards, with a short bevel at both ends or a nose at its upper one."""
    radius = diameter / 2
    first, last = path[0] - path[1], path[-1] - path[-2]
    first, last = first / np.linalg.norm(first), last / np.linalg.norm(last)
    nose = np.array([1.1, 0.87, 0.5]) if has_nose else np.array([0.25, 0.2, 0.0])
    shape = np.array([0.09, 0.5, 0.85]) if has_nose else np.array([0.7, 0.8, 1.0])
    keep = slice(None) if has_nose else slice(1, None)
    start = path[0] + diameter * nose[:, None] * first
    points = np.concatenate([start, path[keep], path[-1:] + 0.2 * diameter * last, path[-1:] + 0.25 * diameter * last])
    radii = np.concatenate([shape, np.ones(len(path[keep])), [0.8, 0.7]]) * radius
    return _sweep(points, radii)


def _sweep(path: NDArray[np.float64], radii: NDArray[np.float64]) -> Mesh:
    """Sweep a circle along a path that never runs along x."""
    tangent = np.concatenate([path[1:2] - path[:1], path[2:] - path[:-2], path[-1:] - path[-2:-1]])
    tangent /= np.sqrt((tangent**2).sum(axis=1, keepdims=True))
    side = np.array([1.0, 0, 0]) - tangent * tangent[:, :1]
    side /= np.sqrt((side**2).sum(axis=1, keepdims=True))
    other = np.cross(tangent, side)
    angle = np.arange(_SEGMENTS) * (2 * np.pi / _SEGMENTS)
    around = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    return loft(path[:, None] + radii[:, None, None] * around)


def make_sleeve(diameter: float, length: float) -> Mesh:
    """Return the tube that joins two rods end to end, about the origin and along z, with the rods' room left free and two set screws."""
    inner, outer = diameter / 2 + 0.05, diameter / 2 + 2.2
    tube = revolve(np.array([inner, outer, outer, inner, inner]), np.array([-0.5, -0.5, 0.5, 0.5, -0.5]) * length, 16)
    plug = make_box((0.7 * diameter, 2.5, 0.7 * diameter))
    return merge([tube, *(plug.moved(np.eye(3), np.array([0.0, outer + 1.0, share * length])) for share in (-0.28, 0.28))])


def make_domino(diameter: float, distance: float) -> Mesh:
    """Return the block that joins two rods side by side; the rods run along z through the origin and (distance, 0, 0)."""
    radius = diameter / 2
    # Two plates before and behind the rods and a web between them: the rods' own metal fills the rest.
    plate = make_box((distance + diameter + 3.0, 2.0, 9.0))
    web = make_box((max(distance - diameter, 0.4), diameter, 9.0))
    wall = make_box((1.5, diameter, 9.0))
    still, middle = np.eye(3), distance / 2
    pieces = [plate.moved(still, np.array([middle, side * (radius + 1.0), 0.0])) for side in (-1.0, 1.0)]
    pieces += [wall.moved(still, np.array([middle + side * (middle + radius + 0.75), 0.0, 0.0])) for side in (-1.0, 1.0)]
    plug = revolve(np.array([0.75, 0.75]) * radius, np.array([-1.2, 1.2]), 12).moved(_UPRIGHT, np.zeros(3))
    pieces += [plug.moved(still, np.array([x, radius + 3.0, 0.0])) for x in (0.0, distance)]
    return merge([*pieces, web.moved(still, np.array([middle, 0.0, 0.0]))])


_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
