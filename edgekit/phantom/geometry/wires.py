"""Wires, strips, rings and discs: what is thin, along any path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, revolve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def smooth(points: ArrayLike, count: int = 24) -> NDArray[np.float64]:
    """Return float64 (count, 3): a cubic through `points` (n, 3) by chord length, its slopes from the neighbours."""
    from scipy.interpolate import CubicHermiteSpline

    nodes = np.asarray(points, dtype=np.float64)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes, axis=0), axis=1))])
    path: NDArray[np.float64] = CubicHermiteSpline(length, nodes, np.gradient(nodes, length, axis=0))(np.linspace(0, length[-1], count))
    return path


def make_wire(path: ArrayLike, radius: NDArray[np.float64] | float, segments: int = 8) -> Mesh:
    """Sweep a circle along any path, loops included (`mesh.make_tube` needs a path that keeps off one axis).

    The reference across the path is the direction that its tangents have least of: the normal of the plane for a flat path.
    """
    points = np.asarray(path, dtype=np.float64)
    tangent = np.concatenate([points[1:2] - points[:1], points[2:] - points[:-2], points[-1:] - points[-2:-1]])
    tangent /= np.maximum(np.sqrt((tangent**2).sum(axis=1, keepdims=True)), 1e-9)
    reference = np.linalg.eigh(tangent.T @ tangent)[1][:, 0]
    side = np.cross(tangent, reference)
    side /= np.maximum(np.sqrt((side**2).sum(axis=1, keepdims=True)), 1e-9)
    other = np.cross(tangent, side)
    angle = np.arange(segments) * (2 * np.pi / segments)
    around = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    return loft(points[:, None] + np.broadcast_to(radius, (len(points),))[:, None, None] * around)


def make_strip(path: NDArray[np.float64], across: NDArray[np.float64], width: NDArray[np.float64] | float, thickness: float) -> Mesh:
    """Return a flat bar along `path` (n, 3); `across` (3,) is the direction of its `width` (one, or one a point), mm."""
    tangent = np.gradient(path, axis=0)
    normal = np.cross(tangent, across)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    half = np.broadcast_to(width, (len(path),))[:, None] / 2 * across
    lift = normal * thickness / 2
    return loft(np.stack([path - half - lift, path + half - lift, path + half + lift, path - half + lift], axis=1))


def make_ring(radius: float, wire: float, segments: int = 20) -> Mesh:
    """Return a torus about z."""
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    return make_wire(np.column_stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle]), wire, 6)


def make_disc(radius: float, thickness: float, segments: int = 16) -> Mesh:
    """Return a flat cylinder about z, centred at the origin."""
    return revolve(np.array([radius, radius]), np.array([-thickness / 2, thickness / 2]), segments)
