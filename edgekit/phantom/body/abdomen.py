"""What an abdomen holds: organs and the fat around them, bowel with gas and stool, and what calcifies.

Densities are relative to muscle: fat 0.85, gas 0 (ICRU report 44).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import turn
from edgekit.phantom.geometry.solids import make_lumps, sweep_all
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra
    from edgekit.phantom.body.tissue import Trunk


def make_abdomen(vertebrae: dict[str, Vertebra], trunk: Trunk, gas: float, calcified: float, rng: np.random.Generator) -> list[Part]:
    """Return liver, spleen, kidneys, psoas, bowel with gas and stool, and calcifications of the aorta and elsewhere."""
    g = trunk.girth
    l1, l2, l3 = (vertebrae[name].centre for name in ("L1", "L2", "L3"))
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
        muscle = np.stack([vertebrae[name].centre + np.array([side * 32, 56, 0]) for name in ("T9", "T11", "L1", "L3", "L5", "L5")])
        muscle[-1] += [0, 4, -34]
        organs.append(Part(sweep_all(muscle[None], np.array([14, 18, 22, 25, 22, 12.0]), 12), "soft", 0.06))
        # The flank stripe: fat between muscle and peritoneum.
        z = np.linspace(l1[2] + 10, hip[2] + 10, 8)
        flank, front, back = trunk.find_sizes(z)
        stripe = np.stack([side * (flank - 22 * g) + 4 * np.sin(z / 40), 0.45 * front + 0.55 * back, z], axis=1)
        fat.append(Part(sweep_all(stripe[None], np.array([1, 2, 2.4, 2.4, 2.4, 2.4, 2, 1.0]), 8, 14.0), "soft", -0.12))
    liver = make_lumps(
        [np.array([88, 66, 58]) * g], [l1 + np.array([-62 * g, -56 * g, 18])], rng, roughness=0.07, segments=20, tumbled=False
    )
    spleen = make_lumps([np.array([30, 40, 52])], [l1 + np.array([96 * g, 6, 42])], rng, roughness=0.07, segments=16, tumbled=False)
    bladder = make_lumps([rng.uniform(28, 52, 3)], [hip + np.array([0, -55, -82])], rng, roughness=0.05, segments=16, tumbled=False)
    organs += [Part(liver, "soft", 0.06), Part(spleen, "soft", 0.06), Part(bladder, "soft", 0.05)]
    return fat + organs + _make_bowel(l3, trunk, gas, rng) + _make_calcifications(vertebrae, calcified, rng)


def _make_bowel(l3: NDArray[np.float64], trunk: Trunk, gas: float, rng: np.random.Generator) -> list[Part]:
    """Return gas along the colon, in the stomach and in loops of the small bowel, and stool: lumps with bubbles in them."""
    g = trunk.girth
    frame = np.array(
        [
            [-98, -35, -88], [-104, -30, -40], [-100, -25, 10], [-96, -40, 52], [-50, -88, 42], [0, -98, 24], [50, -90, 48], [96, -40, 74],
            [106, -15, 30], [108, -15, -30], [100, -30, -78], [60, -52, -112], [20, -30, -120], [0, 5, -150],
        ]
    ) * [g, g, 1.0] + l3  # fmt: skip
    from scipy.interpolate import PchipInterpolator

    colon = PchipInterpolator(np.linspace(0, 1, len(frame)), frame)
    sag = np.array([0, 0, -1]) * rng.uniform(0, 70) * np.clip(1 - np.abs(np.linspace(0, 1, 60) - 0.4) / 0.16, 0, 1)[:, None]
    line = trunk.keep_inside(colon(np.linspace(0, 1, 60)) + sag, 38)
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
    if rng.random() < 0.45:
        pockets.append(stomach[None] + rng.normal(0, 8, (2, 3)))
        radii.append(rng.uniform(0.6, 1.1, (2, 3)) * np.array([38, 26, 24]))
    if pockets:
        place, size = trunk.keep_inside(np.concatenate(pockets), 30), np.concatenate(radii)
        strong = np.arange(len(place)) % 2 == 0
        for which, weight in ((strong, -rng.uniform(0.5, 0.9)), (~strong, -rng.uniform(0.25, 0.7))):
            parts.append(Part(make_lumps(size[which], place[which], rng, roughness=0.13, segments=10), "soft", weight))
    # Stool fills the right colon most often, and the rectum.
    lumps, bubbles = [], []
    for start, stop in ((0, 18), (34, 50), (54, 60)):
        if rng.random() < 0.55:
            spots = line[rng.integers(start, stop, 22)] + rng.normal(0, 9, (22, 3))
            lumps.append(spots)
            bubbles.append(line[rng.integers(start, stop, 50)] + rng.normal(0, 10, (50, 3)))
    if lumps:
        place, small = np.concatenate(lumps), np.concatenate(bubbles)
        parts.append(Part(make_lumps(rng.uniform(5, 14, (len(place), 3)), place, rng, roughness=0.25, segments=6), "soft", 0.12))
        parts.append(Part(make_lumps(rng.uniform(1.2, 4.5, (len(small), 3)), small, rng, roughness=0.2, segments=5), "soft", -0.7))
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
    spots: list[NDArray[np.float64]] = []
    sizes: list[NDArray[np.float64]] = []
    s1, l2 = vertebrae["S1"].centre, vertebrae["L2"].centre
    for _ in range(rng.poisson(2.5 * calcified)):  # phleboliths
        spots.append(s1 + np.array([rng.choice([-1, 1]) * rng.uniform(25, 70), rng.uniform(-40, 10), rng.uniform(-125, -75)]))
        sizes.append(np.full(3, rng.uniform(1.5, 3.0)))
    if rng.random() < 0.25 * (0.3 + calcified):  # stones of a kidney or the gall bladder
        place = l2 + (np.array([rng.choice([-1, 1]) * 58, 20, 0]) if rng.random() < 0.5 else np.array([-62, -60, 8]))
        count = int(rng.integers(1, 6))
        spots += list(place + rng.normal(0, 6, (count, 3)))
        sizes += list(rng.uniform(2, 6, (count, 3)))
    for _ in range(rng.poisson(0.5 * calcified)):  # mesenteric nodes
        spots.append(l2 + np.array([rng.normal(0, 40), -70, rng.normal(-60, 40)]))
        sizes.append(rng.uniform(3, 8, 3))
    if spots:
        parts.append(Part(make_lumps(np.array(sizes), np.array(spots), rng, roughness=0.2, segments=10), "bone", rng.uniform(0.4, 0.8)))
    return parts
