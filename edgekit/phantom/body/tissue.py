"""Soft tissue: the skin's outline, fat and muscle, arms, folds of the skin, and the lumps and strands that no film is without.

All of it is "soft" of some density relative to muscle: fat 0.85, lung 0.27, gas 0 (ICRU report 44).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_outline
from edgekit.phantom.geometry.solids import make_lumps, mirror, sweep_all
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra

# The outline of a body of girth 1. Levels are "a vertebra and mm above it"; then half-width, front and back of the skin relative to
# that vertebra, and how much of the girth reaches there.
_OUTLINE: tuple[tuple[str, float, float, float, float, float], ...] = (
    ("C1", 152, 10, 14, 14, 0.0),
    ("C1", 146, 42, 55, 48, 0.0),
    ("C1", 115, 70, 90, 82, 0.0),
    ("C1", 70, 79, 106, 98, 0.0),
    ("C1", 25, 78, 110, 92, 0.0),
    ("C1", -8, 72, 108, 76, 0.0),
    ("C1", -34, 65, 108, 66, 0.0),
    ("C1", -54, 59, 98, 62, 0.2),
    ("C5", 0, 57, 54, 58, 0.6),
    ("C6", 0, 58, 51, 60, 0.6),
    ("C7", 4, 66, 54, 66, 0.6),
    ("T1", 4, 100, 62, 70, 0.5),
    ("T2", 2, 160, 76, 70, 0.4),
    ("T3", 0, 180, 98, 68, 0.5),
    ("T5", 0, 166, 128, 68, 0.8),
    ("T7", 0, 157, 140, 66, 0.9),
    ("T10", 0, 155, 144, 70, 1.0),
    ("L1", 0, 154, 128, 80, 1.0),
    ("L3", 0, 155, 112, 90, 1.0),
    ("L5", 0, 164, 112, 92, 1.0),
    ("S1", -20, 172, 120, 96, 0.9),
    ("S1", -80, 180, 112, 112, 0.8),
    ("S1", -150, 174, 100, 112, 0.7),
    ("S1", -330, 158, 90, 75, 0.6),
)


class Trunk:
    """The body's outline as functions of height.

    Parameters
    ----------
    vertebrae
        The whole spine.
    girth, size
        Width and depth relative to the table: with fat and muscle, and with the skeleton.
    pose
        float64 (3, 3): how the head is turned about C1.
    """

    def __init__(
        self, vertebrae: dict[str, Vertebra], girth: float, size: float, pose: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        from scipy.interpolate import PchipInterpolator

        centres = np.array([vertebra.centre for vertebra in vertebrae.values()])[::-1]
        fits = [np.polynomial.Polynomial.fit(centres[:, 2], centres[:, axis], 7) for axis in (0, 1)]
        low, high = centres[0, 2], centres[-1, 2]
        rows = np.array([(vertebrae[name].centre[2] + above, *sizes, vertebrae[name].centre[1]) for name, above, *sizes in _OUTLINE])[::-1]
        # A bent neck brings the chin down to the throat; heights keep their order.
        head, throat = vertebrae["C1"].centre[2], vertebrae["C5"].centre[2]
        below = np.array([name == "C1" and above < 0 for name, above, *_ in _OUTLINE])[::-1]
        rows[:, 0] = np.where(below, head + (rows[:, 0] - head) * min(1.0, (head - throat - 14) / 54), rows[:, 0])
        rows[:, 0] = np.maximum.accumulate(rows[:, 0] + 1e-3 * np.arange(len(rows)))
        rows[1:, 0] += np.cumsum(np.clip(4 - np.diff(rows[:, 0]), 0, None))
        # A thin chest is as wide as its ribs.
        thorax = np.array([name[0] == "T" for name, *_ in _OUTLINE])[::-1]
        grown = np.where(rows[:, 4] > 0, size, 1) * (1 + (girth - 1) * rows[:, 4] * np.where(thorax & (girth < 1), 0.25, 1))
        # A stout body's fat lies in front and at the sides more than over the spine.
        table = rows[:, 1:4] * np.stack([grown, 1 + 1.25 * (grown - 1), 1 + 0.7 * (grown - 1)], axis=1)
        table *= rng.normal(1, 0.02, (1, 3))
        table[:, 1:] = rows[:, 5:] + table[:, 1:] * [-1, 1]
        # In a bent neck or back two rows can come to the same height: they are kept a millimetre apart.
        heights = rows[0, 0] + np.concatenate([[0.0], np.cumsum(np.maximum(np.diff(rows[:, 0]), 1.0))])
        self._sizes = PchipInterpolator(heights, table)
        self._fits, self._ends = fits, (low, high)
        self._range = heights[0] + 1, heights[-1] - 1
        self.girth = girth * size
        self._pose, self._neck = pose, (vertebrae["C7"].centre[2], vertebrae["C1"].centre)

    def find_spine(self, level: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of the spine's middle at heights `level`."""
        inside = np.clip(level, *self._ends)
        x, y = (np.asarray(fit(inside), dtype=np.float64) for fit in self._fits)
        return x, y

    def find_sizes(self, level: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return half-width, and y of the front and of the back skin."""
        wide, front, back = self._sizes(np.clip(level, *self._range)).T
        return wide, front, back

    def keep_inside(self, points: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
        """Return `points` (n, 3) moved to at least `margin` mm below the skin of front and sides."""
        wide, front, _ = self.find_sizes(points[:, 2])
        room = wide - margin
        y = np.maximum(points[:, 1], front + margin)
        # The corners are round.
        depth = np.clip((y - front) / (0.45 * wide), 0, 1)
        room = room * (1 - (1 - depth) ** 2.5) ** 0.5
        return np.stack([np.clip(points[:, 0], -room, room), y, points[:, 2]], axis=1)

    def loft(self, bottom: float, top: float, inset: float, step: float = 18.0, points: int = 32) -> Mesh:
        """Return the body between two heights, `inset` mm (a share of it at the neck and head) below the skin."""
        level = np.linspace(
            max(bottom, self._range[0]), min(top, self._range[1]), int((min(top, self._range[1]) - max(bottom, self._range[0])) / step)
        )
        wide, front, back = self.find_sizes(level)
        x, _ = self.find_spine(level)
        depth = (back - front) / 2
        ring = make_outline(1.0, 1.0, 2.35, points)
        # The back is flatter than the belly.
        ring[:, 1] = np.where(ring[:, 1] > 0, np.abs(ring[:, 1]) ** 0.8, ring[:, 1])
        share = np.minimum(inset, np.stack([0.3 * wide, 0.3 * depth]))
        flat = (
            ring * np.stack([wide - share[0], depth - share[1]], axis=1)[:, None] + np.stack([0.6 * x, (front + back) / 2], axis=1)[:, None]
        )
        return loft(self._nod(np.concatenate([flat, np.broadcast_to(level[:, None, None], (*flat.shape[:2], 1))], axis=2)))

    def _nod(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn the head with its bones; the neck follows by degrees."""
        low, pivot = self._neck
        share = np.clip((points[..., 2:] - low) / (pivot[2] - 42 - low), 0, 1) ** 1.5
        own = points - pivot
        moved: NDArray[np.float64] = points + share * (own @ self._pose.T - own)
        return moved


def make_body(trunk: Trunk, bottom: float, top: float, crotch: float, fat_mm: float) -> list[Part]:
    """Return skin, fat and what is below it, and the gap between the legs."""
    skin = trunk.loft(bottom, top, 0.0)
    parts = [Part(skin, "soft", 0.9), Part(trunk.loft(bottom, top, fat_mm), "soft", 0.1)]
    if bottom < crotch - 20:
        level = np.linspace(crotch, bottom, 8)
        wide = np.linspace(0.5, 16, 8)
        y = trunk.find_sizes(level)[1:]
        middle, half = (y[0] + y[1]) / 2, (y[1] - y[0]) / 2
        ring = make_outline(1.0, 1.0, 2.0, 14)
        flat = ring * np.stack([wide, half], axis=1)[:, None] + np.stack([0 * middle, middle], axis=1)[:, None]
        parts.append(Part(loft(np.concatenate([flat, np.broadcast_to(level[:, None, None], (8, 14, 1))], axis=2)), "soft", -0.9))
    return parts


_ARMS = {
    "down": [[-4, 0, 24], [2, 0, 12], [6, 0, -12], [10, 1, -50], [18, 2, -160], [24, 4, -330]],
    "raised": [[-12, 12, -24], [-6, 6, -12], [8, -6, 6], [26, -22, 36], [70, -54, 96], [122, -92, 170]],
}


def make_arms(t2: Vertebra, arms: tuple[str, str], girth: float) -> Part:
    """Return the flesh of the left and the right upper arm; with it goes the skeleton's ``down`` or ``raised``."""
    left, right = (np.array([158.0, 4, -20]) + np.array(_ARMS[arm]) for arm in arms)
    both = np.stack([left, right * [-1, 1, 1]]) + t2.centre * [0.8, 1, 1]
    return Part(sweep_all(both, np.array([6.0, 24, 37, 43, 42, 36]) * (0.7 + 0.3 * girth), 16), "soft", 0.9)


def make_clutter(trunk: Trunk, bottom: float, top: float, count: int, rng: np.random.Generator) -> list[Part]:
    """Return lumps of fat and of denser tissue: a film is nowhere smooth."""
    level = rng.uniform(bottom, top, count)
    wide, front, back = trunk.find_sizes(level)
    x = rng.uniform(-0.85, 0.85, count) * wide
    y = front + (back - front) * rng.uniform(0.1, 0.9, count)
    room = np.minimum(1.0, wide / 150)[:, None]
    radii = np.exp(rng.uniform(np.log(4), np.log(34), (count, 1))) * rng.uniform(0.5, 1.5, (count, 3)) * room
    places = np.stack([x, y, level], axis=1)
    fatty = rng.random(count) < 0.55
    return [
        Part(make_lumps(radii[which], places[which], rng, roughness=0.2, segments=7), "soft", weight)
        for which, weight in ((fatty, -0.1), (~fatty, 0.075))
    ]


def make_strands(trunk: Trunk, bottom: float, top: float, count: int, rng: np.random.Generator) -> Part:
    """Return strands and sheets between muscles: faint stripes along the body, mostly downward."""
    level = rng.uniform(bottom, top, count)
    wide, front, back = trunk.find_sizes(level)
    start = np.stack([rng.uniform(-0.9, 0.9, count) * wide, front + (back - front) * rng.uniform(0.1, 0.95, count), level], axis=1)
    run = rng.normal(0, 1, (count, 3)) * [16, 10, 10] + [0, 0, -1] * rng.uniform(30, 90, (count, 1))
    step = np.linspace(0, 1, 5)[:, None]
    paths = start[:, None] + run[:, None] * step + rng.normal(0, 4, (count, 1, 3)) * np.sin(np.pi * step)
    radii = rng.uniform(0.8, 3.0, (count, 1)) * np.array([0.4, 1, 1, 1, 0.4])
    return Part(sweep_all(paths, radii, 6, 2.5), "soft", -0.13)


def make_folds(trunk: Trunk, bottom: float, top: float, rng: np.random.Generator) -> list[Part]:
    """Return folds of skin on the back and the flanks: a roll of flesh with a dark line of air below it."""
    rolls: list[NDArray[np.float64]] = []
    for _ in range(rng.poisson(2.0 * max(0.0, trunk.girth - 0.8))):
        level, side, slope = rng.uniform(bottom, top), rng.choice([-1.0, 1.0]), rng.uniform(-10, 70)
        angle = np.linspace(rng.uniform(-0.9, 0.1), rng.uniform(0.9, 1.7), 14)
        z = level - slope * np.linspace(0, 1, 14) ** 1.5
        wide, front, back = trunk.find_sizes(z)
        rolls.append(
            np.stack([side * 0.97 * wide * np.cos(angle), (front + back) / 2 + 0.97 * (back - front) / 2 * np.sin(angle), z], axis=1)
        )
    if not rolls:
        return []
    paths, taper = np.array(rolls), np.sin(np.pi * np.linspace(0.02, 0.98, 14))
    narrow = np.clip(np.abs(paths[..., 1] - paths[..., 1].mean(axis=1, keepdims=True)).max(axis=1, keepdims=True) / 90, 0.4, 1)
    size = rng.uniform(4, 11, (len(paths), 1)) * taper * narrow
    below = paths - np.array([0, 0, 1.0]) * (0.95 * size[..., None] + 0.5)
    return [Part(sweep_all(paths, size, 8, 1.3), "soft", 0.3), Part(sweep_all(below, 0.18 * size + 0.2, 6), "soft", -0.35)]


def make_breasts(t7: Vertebra, trunk: Trunk, rng: np.random.Generator) -> Part:
    """Return breasts: a soft edge across the lower lungs."""
    _, front, _ = trunk.find_sizes(t7.centre[2:])
    size = np.array([52, 30, 50]) * rng.uniform(0.7, 1.3)
    lump = make_lumps([size], [[66, front[0] + 12, t7.centre[2] - 20]], rng, roughness=0.03, segments=18, tumbled=False)
    both = np.stack([lump.vertices, mirror(lump).vertices])
    return Part(
        Mesh(both.reshape(-1, 3), np.concatenate([lump.triangles, lump.triangles[:, ::-1] + np.int32(len(lump.vertices))])), "soft", 0.35
    )
