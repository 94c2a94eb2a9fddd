"""Soft tissue: the skin's outline, fat and muscle, lungs with vessels, airways, heart, organs, gas and stool, folds and lumps.

All of it is "soft" of some density relative to muscle: fat 0.85, lung 0.27, gas 0 (ICRU report 44).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.materials import Part
from edgekit.phantom.mesh import Mesh, loft, make_outline, turn
from edgekit.phantom.solids import make_lumps, mirror, sweep_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgekit.phantom.spine import Vertebra

# The outline of a body of girth 1. Levels are "a vertebra and mm above it"; then half-width, front and back of the skin relative to
# that vertebra, and how much of the girth reaches there.
_OUTLINE: tuple[tuple[str, float, float, float, float, float], ...] = (
    ("C1", 152, 10, 14, 14, 0.0),
    ("C1", 146, 42, 55, 48, 0.0),
    ("C1", 115, 70, 90, 82, 0.0),
    ("C1", 70, 79, 106, 98, 0.0),
    ("C1", 25, 78, 110, 92, 0.0),
    ("C1", -8, 72, 106, 76, 0.2),
    ("C1", -32, 65, 106, 66, 0.4),
    ("C1", -54, 59, 96, 62, 0.5),
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
    girth
        Width and depth relative to the table.
    pose
        float64 (3, 3): how the head is turned about C1.
    """

    def __init__(self, vertebrae: dict[str, Vertebra], girth: float, pose: NDArray[np.float64], rng: np.random.Generator) -> None:
        from scipy.interpolate import PchipInterpolator

        centres = np.array([vertebra.centre for vertebra in vertebrae.values()])[::-1]
        fits = [np.polynomial.Polynomial.fit(centres[:, 2], centres[:, axis], 7) for axis in (0, 1)]
        low, high = centres[0, 2], centres[-1, 2]
        rows = np.array([(vertebrae[name].centre[2] + above, *sizes, vertebrae[name].centre[1]) for name, above, *sizes in _OUTLINE])[::-1]
        # A bent neck brings the chin down to the throat; heights keep their order.
        rows[:, 0] = np.maximum.accumulate(rows[:, 0] + 1e-3 * np.arange(len(rows)))
        rows[1:, 0] += np.cumsum(np.clip(4 - np.diff(rows[:, 0]), 0, None))
        grown = 1 + (girth - 1) * rows[:, 4]
        # A stout body's fat lies in front and at the sides more than over the spine.
        table = rows[:, 1:4] * np.stack([grown, 1 + 1.25 * (grown - 1), 1 + 0.7 * (grown - 1)], axis=1)
        table *= rng.normal(1, 0.02, (1, 3))
        table[:, 1:] = rows[:, 5:] + table[:, 1:] * [-1, 1]
        # In a bent neck or back two rows can come to the same height: they are kept a millimetre apart.
        heights = rows[0, 0] + np.concatenate([[0.0], np.cumsum(np.maximum(np.diff(rows[:, 0]), 1.0))])
        self._sizes = PchipInterpolator(heights, table)
        self._fits, self._ends = fits, (low, high)
        self._range = heights[0] + 1, heights[-1] - 1
        self.girth = girth
        self._pose, self._neck = pose, (vertebrae["C5"].centre[2], vertebrae["C1"].centre)

    def find_spine(self, level: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of the spine's middle at heights `level`."""
        inside = np.clip(level, *self._ends)
        return self._fits[0](inside), self._fits[1](inside)

    def find_sizes(self, level: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return half-width, and y of the front and of the back skin."""
        wide, front, back = self._sizes(np.clip(level, *self._range)).T
        return wide, front, back

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
        share = np.clip((points[..., 2:] - low) / (pivot[2] - 20 - low), 0, 1) ** 1.5
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


def make_arms(t2: Vertebra, arms: str, girth: float) -> Part:
    """Return the flesh of both upper arms; with it goes the skeleton's ``down`` or ``raised``."""
    if arms == "down":
        ends = [[-4, 0, 24], [2, 0, 12], [6, 0, -12], [10, 1, -50], [18, 2, -160], [24, 4, -330]]
    else:
        ends = [[-10, 16, -24], [-4, 8, -12], [6, -10, 6], [14, -40, 36], [32, -95, 100], [48, -150, 170]]
    path = np.array([158.0, 4, -20]) + np.array(ends)
    both = np.stack([path, path * [-1, 1, 1]]) + t2.centre * [0.8, 1, 1]
    return Part(sweep_all(both, np.array([6.0, 24, 37, 43, 42, 36]) * (0.7 + 0.3 * girth), 16), "soft", 0.9)


# --- Thorax ---------------------------------------------------------------------------------------------------------------------------


def make_thorax(vertebrae: dict[str, Vertebra], trunk: Trunk, breadth: float, rng: np.random.Generator) -> list[Part]:
    """Return lungs, vessels, airways, heart and aorta."""
    top, base = vertebrae["T1"].centre[2] + rng.uniform(4, 14), vertebrae["L1"].centre[2] - 22
    dome = vertebrae["T10"].centre[2] + rng.uniform(-8, 22)
    middle = vertebrae["T7"].centre
    heart = middle + np.array([20.0, -78, -22])
    size = np.array([54.0, 42, 52]) * rng.uniform(0.85, 1.25)
    lungs = [_make_lung(side, top, base, dome + 6 * side * -1, trunk, breadth, heart, size) for side in (-1.0, 1.0)]
    density = rng.uniform(0.62, 0.78)
    parts = [Part(mesh, "soft", -density) for mesh in lungs]
    paths, radii = [], []
    for side in (-1.0, 1.0):
        hilum = middle + np.array([side * 26, -34, 22 + 6 * side])
        count = 26
        ends = hilum + np.stack(
            [side * rng.uniform(5, 82, count) * breadth, rng.uniform(-72, 52, count), rng.uniform(-92, 78, count)], axis=1
        )
        step = np.linspace(0, 1, 7)[:, None]
        bend = rng.normal(0, 9, (count, 1, 3)) * np.sin(np.pi * step)
        paths.append(hilum + rng.normal(0, 5, (count, 1, 3)) + (ends - hilum)[:, None] * step + bend)
        radii.append(rng.uniform(1.4, 4.2, (count, 1)) * (1 - 0.8 * step.T))
        # Branches leave half way.
        forks = rng.integers(0, count, 44)
        begin = paths[-1][forks, 3]
        branch = begin[:, None] + rng.normal(0, 17, (44, 1, 3)) * step + 0.35 * (ends[forks] - hilum)[:, None] * step
        paths.append(branch)
        radii.append(radii[-1][forks, 3:4] * rng.uniform(0.4, 0.8, (44, 1)) * (1 - 0.7 * step.T))
    vessel = sweep_all(np.concatenate(paths), np.concatenate(radii), 4)
    parts.append(Part(vessel, "soft", 0.65 * density))
    # Where the hili's vessels crowd.
    hili = np.array([middle + np.array([side * rng.uniform(24, 34), -34 + rng.normal(0, 4), 22 + 6 * side]) for side in (-1, 1)])
    parts.append(Part(make_lumps(rng.uniform(9, 15, (2, 3)), hili, rng, roughness=0.25, segments=14), "soft", 0.4 * density))
    parts.append(Part(make_lumps([size * 0.95], [heart], rng, roughness=0.04, segments=18, tumbled=False), "soft", 0.05))
    z = np.array([vertebrae[name].centre[2] for name in ("T4", "T5", "T7", "T9", "T11", "L1", "L3", "L4")])
    x, y = trunk.find_spine(z)
    aorta = np.stack([x + [6, 16, 20, 18, 12, 8, 6, 4], y - [42, 20, 22, 26, 28, 30, 31, 32], z], axis=1)
    parts.append(Part(sweep_all(aorta[None], 12.0, 12), "soft", 0.06))
    return parts


def _make_lung(
    side: float,
    top: float,
    base: float,
    dome: float,
    trunk: Trunk,
    breadth: float,
    heart: NDArray[np.float64],
    size: NDArray[np.float64],
) -> Mesh:
    """Return one lung: heart and diaphragm press into it, each along one axis, so that nothing is turned inside out."""
    step = np.linspace(0, 1, 22)
    level = top + (base - top) * step
    outer = np.interp(step, [0, 0.05, 0.12, 0.3, 0.6, 1.0], [26, 44, 64, 97, 119, 120]) * breadth
    inner = np.interp(step, [0, 0.1, 0.3, 0.5, 1.0], [16, 15, 19, 21, 22])
    x, y = trunk.find_spine(level)
    back = y + np.interp(step, [0, 0.1, 0.4, 0.8, 1], [6, 24, 44, 46, 36])
    front = y - np.interp(step, [0, 0.1, 0.3, 0.6, 1], [16, 34, 66, 98, 96]) * breadth
    ring = make_outline(1.0, 1.0, 2.5, 28)
    # Rings of the wall, and smaller ones that close the apex and the base: the diaphragm needs points inside.
    row = np.concatenate([np.zeros(3, dtype=int), np.arange(22), np.full(7, 21)])
    shrink = np.concatenate([[0.15, 0.55, 0.85], np.ones(22), np.linspace(0.92, 0.1, 7)])
    flat = ring * np.stack([(outer - inner) / 2, (back - front) / 2], axis=1)[row, None] * shrink[:, None, None]
    height = level[row] + np.concatenate([[7.0, 5.5, 3.0], np.zeros(29)])
    rings = np.concatenate([flat, np.broadcast_to(height[:, None, None], (32, 28, 1))], axis=2)
    rings[..., 0] += ((outer + inner) / 2)[row, None]
    rings[..., 1] += ((back + front) / 2)[row, None]
    rings[..., 0] = side * rings[..., 0] + 0.7 * x[row, None]
    u, v = (rings[..., 1] - heart[1]) / size[1], (rings[..., 2] - heart[2]) / size[2]
    bulge = heart[0] + side * size[0] * np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    pressed = u**2 + v**2 < 1
    rings[..., 0] = np.where(pressed, side * np.maximum(side * rings[..., 0], side * bulge), rings[..., 0])
    # The dome is highest in front of the middle and falls to a deep gutter behind.
    away = ((np.abs(rings[..., 0]) - 58) / 80) ** 2 + ((rings[..., 1] - heart[1] - 12) / 100) ** 2
    floor = dome - 58 * away - 22 * away**2
    rings[..., 2] = np.maximum(rings[..., 2], floor)
    mesh = loft(rings)
    return mesh if mesh.volume() > 0 else Mesh(mesh.vertices, mesh.triangles[:, ::-1])


def make_airway(vertebrae: dict[str, Vertebra], trunk: Trunk, rng: np.random.Generator) -> list[Part]:
    """Return pharynx, larynx, trachea and main bronchi, and what calcifies around them."""
    names = ("C1", "C2", "C3", "C4", "C5", "C6", "T1", "T3", "T5")
    z = np.array([vertebrae[name].centre[2] for name in names])
    x, y = trunk.find_spine(z)
    # Prevertebral tissue is up to 7 mm at C2-C4 and up to 20 mm below, where the gullet lies behind the air.
    front = np.array([17, 16, 15, 16, 25, 30, 32, 36, 40]) + np.array([8, 7, 7, 7, 7, 8, 8, 8, 8]) + rng.normal(0, 1.2)
    path = np.stack([0.9 * x, y - front, z], axis=1)
    path = np.concatenate([path[:1] + [[0, -12, 22], [0, -6, 13]], path])
    radii = np.array([3, 8, 9, 8, 8.5, 7.5, 6.0, 8.0, 8.2, 8.2, 8.0]) * rng.uniform(0.85, 1.15)
    carina = path[-1]
    step = np.linspace(0, 1, 6)[:, None]
    bronchi = np.stack([carina + np.array([side * 42, 8, -30 if side < 0 else -24]) * step for side in (-1.0, 1.0)])
    larynx = path[6] + np.array([0, -8, 0])
    wings = [larynx + np.array([side * 11, -2, 4]) for side in (-1, 1)]
    shell = make_lumps(np.tile([2.2, 13.0, 14.0], (2, 1)), wings, rng, segments=12, roughness=0.05, tumbled=False)
    specks = larynx + rng.normal(0, 1, (10, 3)) * [10, 7, 10]
    return [
        Part(sweep_all(path[None], radii, 12), "soft", -0.95),
        Part(sweep_all(bronchi, np.linspace(7, 4, 6), 10), "soft", -0.45),
        Part(shell, "bone", rng.uniform(0.02, 0.16)),
        Part(make_lumps(rng.uniform(0.8, 2.4, (10, 3)), specks, rng, segments=8), "bone", rng.uniform(0, 0.3)),
    ]


# --- Abdomen --------------------------------------------------------------------------------------------------------------------------


def make_abdomen(vertebrae: dict[str, Vertebra], trunk: Trunk, gas: float, calcified: float, rng: np.random.Generator) -> list[Part]:
    """Return liver, spleen, kidneys, psoas, bowel with gas and stool, and calcifications of the aorta and elsewhere."""
    g = trunk.girth
    l1, l2, l3, l4 = (vertebrae[name].centre for name in ("L1", "L2", "L3", "L4"))
    hip = vertebrae["S1"].centre
    organs, fat = [], []
    for side in (-1.0, 1.0):
        step = np.linspace(0, 1, 9)[:, None]
        # Psoas: from beside L1, wider down to L4, to the groin.
        start, end = l1 + np.array([side * 22, 8, 0]), hip + np.array([side * 74, -62, -70])
        path = start + (end - start) * step + np.array([side * 12, 14, 0]) * np.sin(np.pi * step)
        wide = np.interp(step[:, 0], [0, 0.2, 0.6, 1], [6, 15, 24, 15]) * rng.uniform(0.8, 1.15)
        organs.append(Part(sweep_all(path[None], wide, 14), "soft", 0.1))
        fat.append(Part(sweep_all(path[None] + np.array([side * 1.5, 0, 0]), wide + rng.uniform(1.0, 3.5), 14), "soft", -0.07))
        kidney = l2 + np.array([side * rng.uniform(58, 72), 22, rng.normal(8, 10) - 8 * (side < 0)])
        for grown, weight in ((1.0, 0.13), (1.18, -0.07)):
            lump = make_lumps([np.array([27, 22, 54]) * grown], [[0, 0, 0]], rng, roughness=0.04, segments=16, tumbled=False)
            organs.append(Part(lump.moved(turn(1, side * -14), kidney), "soft", weight))
        # Erector muscles beside the spinous processes, and the fat in front of them.
        muscle = np.stack([vertebrae[name].centre + np.array([side * 32, 56, 0]) for name in ("T9", "T11", "L1", "L3", "L5", "S1")])
        organs.append(Part(sweep_all(muscle[None], np.array([14, 18, 22, 25, 22, 12.0]), 12), "soft", 0.06))
        # The flank stripe: fat between muscle and peritoneum.
        z = np.linspace(l1[2] + 10, hip[2] + 10, 8)
        flank, front, back = trunk.find_sizes(z)
        stripe = np.stack([side * (flank - 22 * g) + 4 * np.sin(z / 40), 0.45 * front + 0.55 * back, z], axis=1)
        fat.append(Part(sweep_all(stripe[None], np.array([1, 2, 2.4, 2.4, 2.4, 2.4, 2, 1.0]), 8, 14.0), "soft", -0.12))
    liver = make_lumps([np.array([88, 70, 62]) * g], [l1 + np.array([-62 * g, -62, 42])], rng, roughness=0.07, segments=20, tumbled=False)
    spleen = make_lumps([np.array([30, 40, 52])], [l1 + np.array([96 * g, 6, 42])], rng, roughness=0.07, segments=16, tumbled=False)
    bladder = make_lumps([rng.uniform(28, 52, 3)], [hip + np.array([0, -55, -82])], rng, roughness=0.05, segments=16, tumbled=False)
    organs += [Part(liver, "soft", 0.06), Part(spleen, "soft", 0.06), Part(bladder, "soft", 0.05)]
    return fat + organs + _make_bowel(l3, hip, g, gas, rng) + _make_calcifications(vertebrae, calcified, rng)


def _make_bowel(l3: NDArray[np.float64], hip: NDArray[np.float64], g: float, gas: float, rng: np.random.Generator) -> list[Part]:
    """Return gas along the colon, in the stomach and in loops of the small bowel, and stool: lumps with bubbles in them."""
    frame = np.array(
        [
            [-98, -35, -88], [-104, -30, -40], [-100, -25, 10], [-96, -40, 52], [-50, -88, 42], [0, -98, 24], [50, -90, 48], [96, -40, 74],
            [106, -15, 30], [108, -15, -30], [100, -30, -78], [60, -52, -112], [20, -30, -120], [0, 5, -150],
        ]
    ) * [g, g, 1.0] + l3  # fmt: skip
    from scipy.interpolate import PchipInterpolator

    colon: Callable[[NDArray[np.float64]], NDArray[np.float64]] = PchipInterpolator(np.linspace(0, 1, len(frame)), frame)
    sag = np.array([0, 0, -1]) * rng.uniform(0, 70) * np.clip(1 - np.abs(np.linspace(0, 1, 60) - 0.4) / 0.16, 0, 1)[:, None]
    line = colon(np.linspace(0, 1, 60)) + sag
    parts = []
    # Haustra: overlapping pockets along some stretches.
    pockets, radii = [], []
    for _ in range(rng.poisson(1 + 4 * gas)):
        start, length = int(rng.integers(0, 56)), int(rng.integers(2, 9))
        stretch = line[start : start + length]
        pockets.append(stretch + rng.normal(0, 4, stretch.shape))
        radii.append(np.full(stretch.shape, rng.uniform(9, 20)) * rng.uniform(0.65, 1.15, stretch.shape))
    for _ in range(rng.poisson(1 + 4 * gas)):
        count = int(rng.integers(2, 8))
        bend = np.cumsum(rng.normal(0, 9, (count, 3)) + rng.normal(0, 11, (1, 3)), axis=0)
        pockets.append(l3 + rng.uniform(-1, 1, 3) * [80 * g, 30, 100] + [0, -70 * g, -10] + bend)
        radii.append(np.full((count, 3), rng.uniform(5, 11)) * rng.uniform(0.7, 1.4, (count, 3)))
    stomach = l3 + np.array([58, -45, 108])
    if rng.random() < 0.6:
        pockets.append(stomach[None] + rng.normal(0, 8, (2, 3)))
        radii.append(rng.uniform(0.6, 1.1, (2, 3)) * np.array([38, 26, 24]))
    if pockets:
        place, size = np.concatenate(pockets), np.concatenate(radii)
        strong = np.arange(len(place)) % 2 == 0
        for which, weight in ((strong, -rng.uniform(0.5, 0.9)), (~strong, -rng.uniform(0.25, 0.7))):
            parts.append(Part(make_lumps(size[which], place[which], rng, roughness=0.13, segments=14), "soft", weight))
    # Stool fills the right colon most often, and the rectum.
    lumps, bubbles = [], []
    for start, stop in ((0, 18), (34, 50), (54, 60)):
        if rng.random() < 0.55:
            spots = line[rng.integers(start, stop, 22)] + rng.normal(0, 9, (22, 3))
            lumps.append(spots)
            bubbles.append(line[rng.integers(start, stop, 50)] + rng.normal(0, 10, (50, 3)))
    if lumps:
        place, small = np.concatenate(lumps), np.concatenate(bubbles)
        parts.append(Part(make_lumps(rng.uniform(5, 14, (len(place), 3)), place, rng, roughness=0.25, segments=8), "soft", 0.12))
        parts.append(Part(make_lumps(rng.uniform(1.2, 4.5, (len(small), 3)), small, rng, roughness=0.2, segments=6), "soft", -0.7))
    return parts


def _make_calcifications(vertebrae: dict[str, Vertebra], calcified: float, rng: np.random.Generator) -> list[Part]:
    """Return plaques of aorta and iliac arteries, stones, nodes, phleboliths: bright, small, and no metal."""
    parts = []
    if calcified > 0.25:
        plaques = []
        radius = rng.uniform(8, 14)
        reach = rng.choice(["L1", "L2", "L3"])
        top, bottom = vertebrae[str(reach)], vertebrae["L4"]
        count = round(46 * calcified)
        share, angle = rng.random(count), rng.choice([-1.0, 1.0], count) * rng.normal(1.45, 0.35, count)
        start = top.centre + np.array([8, -top.depth / 2 - radius - 2, 10])
        end = bottom.centre + np.array([4, -bottom.depth / 2 - radius - 2, -8])
        axis = start + (end - start) * share[:, None]
        wall = axis + radius * np.stack([np.sin(angle) + 0 * share, -np.cos(angle) * rng.choice([-1, 1], count), 0 * share], axis=1)
        for side in (-1.0, 1.0):
            leg = end + (np.array([side * 42, 12, -75])) * rng.random((count // 3, 1))
            plaques.append(leg + rng.choice([-1, 1], (count // 3, 1)) * [4.5, 1, 0])
        places = np.concatenate([wall, *plaques])
        radii = rng.uniform(0.5, 1.3, (len(places), 3)) * [1, 1, 4.5]
        parts.append(Part(make_lumps(radii, places, rng, roughness=0.25, segments=8, tumbled=False), "bone", rng.uniform(0.3, 0.9)))
    spots, radii = [], []
    s1, l2 = vertebrae["S1"].centre, vertebrae["L2"].centre
    for _ in range(rng.poisson(2.5 * calcified)):  # phleboliths
        spots.append(s1 + np.array([rng.choice([-1, 1]) * rng.uniform(25, 70), rng.uniform(-40, 10), rng.uniform(-125, -75)]))
        radii.append(np.full(3, rng.uniform(1.5, 3.0)))
    if rng.random() < 0.25 * (0.3 + calcified):  # stones of a kidney or the gall bladder
        place = l2 + (np.array([rng.choice([-1, 1]) * 58, 20, 0]) if rng.random() < 0.5 else np.array([-62, -60, 8]))
        count = int(rng.integers(1, 6))
        spots += list(place + rng.normal(0, 6, (count, 3)))
        radii += list(rng.uniform(2, 6, (count, 3)))
    for _ in range(rng.poisson(0.5 * calcified)):  # mesenteric nodes
        spots.append(l2 + np.array([rng.normal(0, 40), -70, rng.normal(-60, 40)]))
        radii.append(rng.uniform(3, 8, 3))
    if spots:
        parts.append(Part(make_lumps(np.array(radii), np.array(spots), rng, roughness=0.2, segments=10), "bone", rng.uniform(0.4, 0.8)))
    return parts


# --- Everywhere -----------------------------------------------------------------------------------------------------------------------


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
        Part(make_lumps(radii[which], places[which], rng, roughness=0.2, segments=8), "soft", weight)
        for which, weight in ((fatty, -0.1), (~fatty, 0.075))
    ]


def make_strands(trunk: Trunk, bottom: float, top: float, count: int, rng: np.random.Generator) -> Part:
    """Return strands and sheets between muscles: faint stripes along the body, mostly downward."""
    level = rng.uniform(bottom, top, count)
    wide, front, back = trunk.find_sizes(level)
    start = np.stack([rng.uniform(-0.9, 0.9, count) * wide, front + (back - front) * rng.uniform(0.1, 0.95, count), level], axis=1)
    run = rng.normal(0, 1, (count, 3)) * [16, 10, 10] + [0, 0, -1] * rng.uniform(20, 90, (count, 1))
    step = np.linspace(0, 1, 6)[:, None]
    paths = start[:, None] + run[:, None] * step + rng.normal(0, 5, (count, 1, 3)) * np.sin(np.pi * step)
    radii = rng.uniform(0.8, 3.0, (count, 1)) * np.array([0.4, 1, 1, 1, 1, 0.4])
    return Part(sweep_all(paths, radii, 6, 2.5), "soft", -0.13)


def make_folds(trunk: Trunk, bottom: float, top: float, rng: np.random.Generator) -> list[Part]:
    """Return folds of skin on the back and the flanks: a roll of flesh with a dark line of air below it."""
    rolls = []
    for _ in range(rng.poisson(3.0 * max(0.0, trunk.girth - 0.75))):
        level, side, slope = rng.uniform(bottom, top), rng.choice([-1.0, 1.0]), rng.uniform(-10, 45)
        angle = np.linspace(rng.uniform(-0.9, 0.1), rng.uniform(0.9, 1.7), 14)
        z = level - slope * np.linspace(0, 1, 14) ** 1.5
        wide, front, back = trunk.find_sizes(z)
        rolls.append(
            np.stack([side * 0.97 * wide * np.cos(angle), (front + back) / 2 + 0.97 * (back - front) / 2 * np.sin(angle), z], axis=1)
        )
    if not rolls:
        return []
    paths, taper = np.array(rolls), np.sin(np.pi * np.linspace(0.02, 0.98, 14))
    size = rng.uniform(5, 12, (len(paths), 1)) * taper
    below = paths - np.array([0, 0, 1.0]) * (0.95 * size[..., None] + 0.5)
    return [Part(sweep_all(paths, size, 8, 1.3), "soft", 0.45), Part(sweep_all(below, 0.18 * size + 0.2, 6), "soft", -0.5)]


def make_breasts(t7: Vertebra, trunk: Trunk, rng: np.random.Generator) -> Part:
    """Return breasts: a soft edge across the lower lungs."""
    _, front, _ = trunk.find_sizes(t7.centre[2:])
    size = np.array([52, 26, 50]) * rng.uniform(0.7, 1.3)
    lump = make_lumps([size], [[66, front[0] + 4, t7.centre[2] - 20]], rng, roughness=0.03, segments=18, tumbled=False)
    both = np.stack([lump.vertices, mirror(lump).vertices])
    return Part(
        Mesh(both.reshape(-1, 3), np.concatenate([lump.triangles, lump.triangles[:, ::-1] + np.int32(len(lump.vertices))])), "soft", 0.5
    )
