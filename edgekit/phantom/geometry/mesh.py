"""Closed triangle meshes. Everything in a simulated scene is one, because a closed mesh has a thickness along every ray.

All solids come from one construction, `loft`: a stack of rings joined by a skin and closed by a fan at each end. The fans need not be
convex or planar: the projector sums signed depths, and a closed chain of triangles is all that this needs.

Coordinates are the DICOM patient's (PS3.3 C.7.6.2.1.1), in mm: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A closed surface; triangles are counter-clockwise seen from outside.

    Attributes
    ----------
    vertices
        float64 (n, 3), mm.
    triangles
        int32 (m, 3), rows of `vertices`.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int32]

    def moved(self, rotation: NDArray[np.float64], offset: NDArray[np.float64]) -> Mesh:
        """Return the mesh turned by `rotation` (3, 3; columns are the new axes) and then shifted by `offset` (3,), mm.

        A `rotation` that mirrors is repaired: the triangles are turned, so that the mesh stays positive.
        """
        (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
        mirrors = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) < 0
        return Mesh(self.vertices @ rotation.T + offset, self.triangles[:, ::-1] if mirrors else self.triangles)

    def volume(self) -> float:
        """Return the enclosed volume in mm³; positive when the triangles face outwards."""
        a, b, c = (self.vertices.T[:, self.triangles[:, corner]] for corner in range(3))
        return float(
            np.sum(a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])) / 6.0
        )


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh holding all `meshes`; overlapping volumes count twice."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=False)]).astype(np.int32),
    )


def loft(rings: NDArray[np.float64]) -> Mesh:
    """Join a stack of rings to a closed solid.

    Parameters
    ----------
    rings
        float64 (k, s, 3), mm: k rings of s points each, all running the same way round. Each end is closed by a fan about its mean.

    Returns
    -------
    Mesh
        2·k·s triangles, oriented outwards.
    """
    count, points, _ = rings.shape
    centres = rings.mean(axis=1)
    vertices = np.concatenate([rings.reshape(-1, 3), centres[:1], centres[-1:]])
    triangles = _join(count, points)
    # The volume's sign: each ring's area vector along the stack.
    x, y, z = np.moveaxis(rings - centres[:, None], 2, 0)
    nx, ny, nz = (np.concatenate([part[:, 1:], part[:, :1]], axis=1) for part in (x, y, z))
    area = np.stack([(y * nz - z * ny).sum(axis=1), (z * nx - x * nz).sum(axis=1), (x * ny - y * nx).sum(axis=1)], axis=1)
    return Mesh(vertices, triangles if ((area[1:] + area[:-1]) * (centres[1:] - centres[:-1])).sum() >= 0 else triangles[:, ::-1])


@cache
def _join(count: int, points: int) -> NDArray[np.int32]:
    """Return the triangles of `loft`: skin, first fan, last fan; the fans' middles are the last two vertices."""
    index = np.arange(count * points, dtype=np.int32).reshape(count, points)
    here, there = index[:-1], index[1:]
    here_next, there_next = np.roll(here, -1, axis=1), np.roll(there, -1, axis=1)
    first, last = index[0], index[-1]
    middle = np.full(points, count * points, dtype=np.int32)
    return np.concatenate(
        [
            np.stack([here, here_next, there_next], axis=-1).reshape(-1, 3),
            np.stack([here, there_next, there], axis=-1).reshape(-1, 3),
            np.stack([np.roll(first, -1), first, middle], axis=-1),
            np.stack([last, np.roll(last, -1), middle + 1], axis=-1),
        ]
    )


def make_ellipsoid(radii: ArrayLike, segments: int = 24) -> Mesh:
    """Return an ellipsoid about the origin with half-axes `radii` (3,), mm."""
    ball = _make_ball(segments)
    return Mesh(ball.vertices * np.asarray(radii, dtype=np.float64), ball.triangles)


@cache
def _make_ball(segments: int) -> Mesh:
    latitude = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    return revolve(np.cos(latitude), np.sin(latitude), segments)


def make_box(size: ArrayLike) -> Mesh:
    """Return a box about the origin with edges `size` (3,), mm."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2.0
    rings = np.stack([np.column_stack([corners, np.full(4, level)]) for level in (-0.5, 0.5)])
    return loft(rings * np.asarray(size, dtype=np.float64))


def revolve(radii: NDArray[np.float64], heights: NDArray[np.float64], segments: int = 16) -> Mesh:
    """Turn a profile about the z axis.

    Parameters
    ----------
    radii
        float64 (k,) or (k, segments), mm: the radius at each height, and at each angle where it is not the same all round.
    heights
        float64 (k,), mm. They may turn back: a socket is a profile that goes in again.
    segments
        Points on each ring.
    """
    angle = _angles(segments)
    radius = radii[:, None] if radii.ndim == 1 else radii
    return loft(np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), heights[:, None]), axis=-1))


def make_tube(path: NDArray[np.float64], radii: NDArray[np.float64] | float, segments: int = 12, flatten: float = 1.0) -> Mesh:
    """Sweep a circle or an ellipse along a path.

    Parameters
    ----------
    path
        float64 (k, 3), mm, no two neighbours equal.
    radii
        Radius at each point of the path (k,), or one for all, mm.
    segments
        Points on each ring.
    flatten
        Second half-axis as a multiple of the first; the second lies as near to z as the path allows.
    """
    frames = make_frames(path)
    angle = _angles(segments)
    radius = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(path),))[:, None, None]
    around = np.cos(angle)[:, None] * frames[:, None, 0] + flatten * np.sin(angle)[:, None] * frames[:, None, 1]
    return loft(path[:, None] + radius * around)


def make_frames(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64 (k, 3, 3) along a path: rows are a side axis, the axis nearest to z across the path, and the tangent."""
    tangent = np.concatenate([path[1:2] - path[:1], path[2:] - path[:-2], path[-1:] - path[-2:-1]])
    tangent /= np.sqrt((tangent**2).sum(axis=1, keepdims=True))
    x, y, z = tangent.T
    steep = abs(z.mean()) > 0.9
    # Reference x tangent, written out: the reference is z, or y along a path that is itself near z.
    side = np.stack([z, np.zeros_like(z), -x] if steep else [-y, x, np.zeros_like(z)], axis=1)
    side /= np.sqrt((side**2).sum(axis=1, keepdims=True))
    sx, sy, sz = side.T
    return np.stack([side, np.stack([y * sz - z * sy, z * sx - x * sz, x * sy - y * sx], axis=1), tangent], axis=1)


def make_outline(half_width: float, half_depth: float, exponent: float = 2.0, points: int = 24) -> NDArray[np.float64]:
    """Return float64 (points, 2), mm: a superellipse |x/a|^n + |y/b|^n = 1; n = 2 is an ellipse, a large n nearly a rectangle."""
    angle = _angles(points)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.column_stack(
        [
            half_width * np.sign(cosine) * np.abs(cosine) ** (2 / exponent),
            half_depth * np.sign(sine) * np.abs(sine) ** (2 / exponent),
        ]
    )


def stack_rings(outlines: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64 (k, s, 3): the flat `outlines` (k, s, 2) at the heights `levels` (k,), mm."""
    return np.concatenate([outlines, np.broadcast_to(levels[:, None, None], (*outlines.shape[:2], 1))], axis=2)


def turn(axis: int, degrees: float) -> NDArray[np.float64]:
    """Return the (3, 3) rotation by `degrees` about x, y or z (`axis` 0, 1, 2), right-handed."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix


def _angles(count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64) * (2 * np.pi / count)
