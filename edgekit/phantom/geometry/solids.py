"""Many solids of one kind at once: what a body has by the dozen (ribs, vessels, lumps) is one array operation and one mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_ellipsoid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def repeat(vertices: NDArray[np.float64], triangles: NDArray[np.int32]) -> Mesh:
    """Return one mesh of n solids, float64 (n, v, 3), that share the same `triangles` (m, 3)."""
    count, each, _ = vertices.shape
    starts = np.arange(count, dtype=np.int32)[:, None, None] * np.int32(each)
    return Mesh(vertices.reshape(-1, 3), (triangles + starts).reshape(-1, 3).astype(np.int32))


def loft_all(rings: NDArray[np.float64]) -> Mesh:
    """Return one mesh of n solids from stacks of rings, float64 (n, k, s, 3), mm, all running the same way round as the first."""
    count, rows, points, _ = rings.shape
    ends = rings[:, [0, -1]].mean(axis=2)
    return repeat(np.concatenate([rings.reshape(count, rows * points, 3), ends], axis=1), loft(rings[0]).triangles)


def sweep_all(paths: NDArray[np.float64], radii: ArrayLike, segments: int = 8, flatten: float = 1.0) -> Mesh:
    """Sweep a circle or an ellipse along each of n paths, no wider than a bend allows: nothing is turned inside out.

    Parameters
    ----------
    paths
        float64 (n, k, 3), mm.
    radii
        Half-axis across the path: what broadcasts to (n, k), mm.
    segments
        Points on each ring.
    flatten
        The other half-axis as a multiple; it lies as near to z as the path allows (to x or y for a path that comes near z).
    """
    width = np.broadcast_to(np.asarray(radii, dtype=np.float64), paths.shape[:2])
    legs = np.diff(paths, axis=1)
    length = np.sqrt((legs**2).sum(axis=2))
    unit = legs / length[..., None]
    bend = np.arccos(np.clip((unit[:, 1:] * unit[:, :-1]).sum(axis=2), -1, 1))
    widest = 0.8 * np.minimum(length[:, 1:], length[:, :-1]) / np.maximum(bend, 1e-3) / max(1.0, flatten)
    # A ring leans with its neighbours: they are held as narrow.
    limit = np.concatenate([widest[:, :1], widest, widest[:, -1:]], axis=1)
    limit = np.minimum(limit, np.minimum(np.roll(limit, 1, axis=1), np.roll(limit, -1, axis=1)))
    width = np.minimum(width, limit)
    tangent = np.concatenate([paths[:, 1:2] - paths[:, :1], paths[:, 2:] - paths[:, :-2], paths[:, -1:] - paths[:, -2:-1]], axis=1)
    tangent /= np.sqrt((tangent**2).sum(axis=2, keepdims=True))
    # The reference is z; for a path that comes near z, the one of x and y that it keeps away from.
    steepest = np.abs(tangent).max(axis=1)
    axis = np.where(steepest[:, 2] < 0.9, 2, np.argmin(steepest[:, :2], axis=1))
    side = np.cross(np.eye(3)[axis][:, None], tangent)
    side /= np.sqrt((side**2).sum(axis=2, keepdims=True))
    other = np.cross(tangent, side)
    angle = np.arange(segments) * (2 * np.pi / segments)
    around = np.cos(angle)[:, None] * side[:, :, None] + flatten * np.sin(angle)[:, None] * other[:, :, None]
    return loft_all(paths[:, :, None] + width[..., None, None] * around)


def make_lumps(
    radii: ArrayLike,
    places: ArrayLike,
    rng: np.random.Generator,
    *,
    roughness: float = 0.12,
    segments: int = 10,
    tumbled: bool = True,
) -> Mesh:
    """Return ellipsoids with uneven surfaces as one mesh: harmonics on the radius keep them from being billiard balls.

    Parameters
    ----------
    radii, places
        Half-axes and middles, (n, 3), mm.
    roughness
        Amplitude of the first harmonic relative to the radius.
    tumbled
        Turn each at random; else its axes are the patient's.
    """
    sizes, middles = np.atleast_2d(np.asarray(radii, dtype=np.float64)), np.atleast_2d(np.asarray(places, dtype=np.float64))
    ball = make_ellipsoid((1.0, 1.0, 1.0), segments)
    count = len(middles)
    if not count:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32))
    factor = np.ones((count, len(ball.vertices)))
    for order in (1, 2, 3):
        waves = rng.normal(0, 1, (count, 3)) @ ball.vertices.T * (2 * order)
        factor += roughness / order * np.sin(waves + rng.uniform(0, 2 * np.pi, (count, 1)))
    vertices = ball.vertices * np.maximum(factor, 0.3)[..., None] * sizes[:, None]
    if tumbled:
        vertices = vertices @ np.swapaxes(tumble(count, rng), 1, 2)
    return repeat(vertices + middles[:, None], ball.triangles)


def tumble(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return float64 (count, 3, 3): random rotations, from unit quaternions."""
    w, x, y, z = (rng.normal(0, 1, (count, 4)) / 1.0).T
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def make_plate(outline: NDArray[np.float64], thickness: float, rim: float = 0.6, rows: int = 5) -> Mesh:
    """Return a flat plate: `outline` (s, 2) in x and y, mm, star-shaped about its mean, half `thickness` to either side in z.

    The edge is rounded and `rim` times as thick as the middle. There are `rows` rings on each face, so that the plate can be bent.
    """
    middle = outline.mean(axis=0)
    share = np.linspace(0.12, 1.0, rows)
    scale = np.concatenate([share[:-1], [0.985, 1.0, 0.985], share[:-1][::-1]])
    height = 1 + (rim - 1) * share[:-1] ** 2
    level = np.concatenate([-height, [-0.8 * rim, 0.0, 0.8 * rim], height[::-1]]) * thickness / 2
    flat = middle + scale[:, None, None] * (outline - middle)
    return loft(np.concatenate([flat, np.broadcast_to(level[:, None, None], (*flat.shape[:2], 1))], axis=2))


def mirror(mesh: Mesh) -> Mesh:
    """Return the mesh of the other side of the body."""
    return Mesh(mesh.vertices * [-1.0, 1.0, 1.0], mesh.triangles[:, ::-1])
