"""Where a thing goes relative to a patient, and the screws that hold it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, revolve, turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from edgekit.phantom.body.anatomy import Anatomy, Vertebra
    from edgekit.phantom.materials import Part

ORDER = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", *(f"T{n}" for n in range(1, 13)), "L1", "L2", "L3", "L4", "L5", "S1")
"""Vertebrae from head to foot."""
_SHOWN = {"cervical": ORDER[1:9], "thoracic": ORDER[9:19], "lumbar": ORDER[18:25]}


def list_levels(anatomy: Anatomy) -> list[Vertebra]:
    """Return the vertebrae that a film of the anatomy's region is about, from head to foot."""
    return [anatomy.vertebrae[name] for name in _SHOWN[anatomy.region] if name in anatomy.vertebrae]


def find_level(anatomy: Anatomy, name: str) -> Vertebra:
    """Return the vertebra `name`, or the one nearest to it that there is."""
    known = [level for level in ORDER if level in anatomy.vertebrae]
    return anatomy.vertebrae[min(known, key=lambda level: abs(ORDER.index(level) - ORDER.index(name)))]


def pick_run(rng: np.random.Generator, anatomy: Anatomy, shortest: int, longest: int, avoid: tuple[str, ...] = ()) -> list[Vertebra]:
    """Return neighbouring vertebrae from head to foot, as many as there are if too few."""
    levels = [level for level in list_levels(anatomy) if level.name not in avoid]
    count = min(len(levels), int(rng.integers(shortest, longest + 1)))
    # Low levels are operated on most.
    start = round((len(levels) - count) * rng.beta(1.8, 1.1))
    return levels[start : start + count]


def find_disc(upper: Vertebra, lower: Vertebra) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the middle of the disc between two neighbours, its axes (left, back, up) and its height, at least 3 mm."""
    top, bottom = upper.place(0, 0, -upper.height / 2), lower.place(0, 0, lower.height / 2)
    up = upper.axes[:, 2] + lower.axes[:, 2]
    return (top + bottom) / 2, align(up, upper.axes[:, 0] + lower.axes[:, 0]), max(3.0, float(np.linalg.norm(top - bottom)))


def find_spanned(anatomy: Anatomy, parts: Sequence[Part]) -> list[Vertebra]:
    """Return the neighbouring vertebrae, from head to foot, that some metal reaches; at least the nearest."""
    z = np.concatenate([part.mesh.vertices[:, 2] for part in parts])
    levels = [anatomy.vertebrae[name] for name in ORDER if name in anatomy.vertebrae]
    beyond = [max(z.min() - level.centre[2] - level.height / 2, level.centre[2] - level.height / 2 - z.max()) for level in levels]
    return [level for level, gap in zip(levels, beyond, strict=True) if gap <= max(0.0, min(beyond))]


def find_skin(anatomy: Anatomy, points: ArrayLike, *, back: bool) -> NDArray[np.float64]:
    """Move points along y to the skin of the back or of the front.

    Parameters
    ----------
    points
        (n, 3), mm; the y of a point that no soft tissue is above or below is kept.

    Returns
    -------
    ndarray
        float64 (n, 3).
    """
    result = np.array(points, dtype=np.float64)
    best = np.full(len(result), -np.inf if back else np.inf)
    for part in anatomy.parts:
        if part.material != "soft" or part.weight < 0.9:
            continue
        a, b, c = (part.mesh.vertices[part.mesh.triangles[:, corner]] for corner in range(3))
        x, z = result[:, :1], result[:, 2:]
        area = (b[:, 0] - a[:, 0]) * (c[:, 2] - a[:, 2]) - (c[:, 0] - a[:, 0]) * (b[:, 2] - a[:, 2])
        area = np.where(area == 0, np.inf, area)
        v = ((x - a[:, 0]) * (c[:, 2] - a[:, 2]) - (c[:, 0] - a[:, 0]) * (z - a[:, 2])) / area
        w = ((b[:, 0] - a[:, 0]) * (z - a[:, 2]) - (x - a[:, 0]) * (b[:, 2] - a[:, 2])) / area
        y = a[:, 1] + v * (b[:, 1] - a[:, 1]) + w * (c[:, 1] - a[:, 1])
        inside = (v >= 0) & (w >= 0) & (v + w <= 1) & np.isfinite(area)
        best = (
            np.maximum(best, np.where(inside, y, -np.inf).max(axis=1))
            if back
            else np.minimum(best, np.where(inside, y, np.inf).min(axis=1))
        )
    result[:, 1] = np.where(np.isfinite(best), best, result[:, 1])
    return result


def align(direction: ArrayLike, hint: ArrayLike = (1.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Return a (3, 3) rotation whose third column is `direction` and whose first is as near to `hint` as that allows."""
    z = np.asarray(direction, dtype=np.float64)
    z = z / np.linalg.norm(z)
    x = np.asarray(hint, dtype=np.float64)
    x = x - z * (x @ z)
    if np.linalg.norm(x) < 1e-6:
        x = np.eye(3)[int(np.argmin(np.abs(z)))]
        x = x - z * (x @ z)
    x = x / np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])


def scatter(mesh: Mesh, axes: NDArray[np.float64], places: NDArray[np.float64]) -> Mesh:
    """Return copies of `mesh`, one for each rotation (n, 3, 3) or the one for all (3, 3), and place (n, 3), as one mesh."""
    turned = mesh.vertices @ np.swapaxes(np.broadcast_to(axes, (len(places), 3, 3)), 1, 2) + places[:, None]
    starts = np.arange(len(places), dtype=np.int32)[:, None, None] * np.int32(len(mesh.vertices))
    return Mesh(turned.reshape(-1, 3), (mesh.triangles + starts).reshape(-1, 3).astype(np.int32))


def draw_turns(rng: np.random.Generator, count: int, base: NDArray[np.float64] | None = None, spread: float = 180.0) -> NDArray[np.float64]:
    """Return (count, 3, 3) rotations: about every axis without `base`, else `base` turned a little about its own z."""
    if base is None:
        q = rng.normal(0, 1, (count, 4))
        w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
        rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), 2 * (x * y + z * w), 1 - 2 * (x * x + z * z)]
        rows += [2 * (y * z - x * w), 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
        return np.stack(rows, axis=1).reshape(count, 3, 3)
    return np.array([base @ turn(2, float(degrees)) for degrees in rng.uniform(-spread, spread, count)])


TO_BACK = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Turns a thing about z into one that faces the back (and, being round, the front)."""


def trace_midline(anatomy: Anatomy, axis: int, y: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return heights, rising, and the spine's x, y or z there; `y` mm behind the bodies' centres, in their own axes."""
    points = np.array([anatomy.vertebrae[name].place(0, y, 0) for name in reversed(ORDER) if name in anatomy.vertebrae])
    return points[:, 2], points[:, axis]


def trace_canal(anatomy: Anatomy, top: str, bottom: str, behind: float) -> NDArray[np.float64]:
    """Return points down the canal, `behind` mm behind the bodies."""
    names = [name for name in ORDER[ORDER.index(top) : ORDER.index(bottom) + 1] if name in anatomy.vertebrae]
    return np.array([anatomy.vertebrae[name].place(0, anatomy.vertebrae[name].depth / 2 + behind, 0) for name in names])


@cache
def make_bone_screw(diameter: float, length: float, threaded: float = 1.0, head: float = 1.35) -> Mesh:
    """Return a screw without tulip: its head at the origin, its tip at z = `length`, threaded over the last share `threaded`."""
    pitch = 1.4 if diameter < 5 else 2.6
    start = length * (1 - threaded)
    z = np.arange(max(start, 1.5), length - 1.5, pitch / 2)
    thread = np.where(np.arange(len(z)) % 2 == 0, 1.0, 0.72) * diameter / 2
    radii = np.concatenate([[0.8 * head, head, 0.72, 0.72], thread / (diameter / 2), [0.15]]) * diameter / 2
    return revolve(radii, np.concatenate([[-1.2, 0.0, 0.8, 1.4], z, [length]]), 12)
