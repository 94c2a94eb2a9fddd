"""What a chest holds: lungs with their vessels, heart, aorta, and the airway from the pharynx to the bronchi.

Lung is soft tissue of a quarter of the density (ICRU report 44), taken away from the body; air is all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_outline
from edgekit.phantom.geometry.solids import make_lumps, sweep_all
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra
    from edgekit.phantom.body.tissue import Trunk


def make_thorax(vertebrae: dict[str, Vertebra], trunk: Trunk, breadth: float, rng: np.random.Generator) -> list[Part]:
    """Return lungs, vessels, airways, heart and aorta."""
    top = vertebrae["T1"].centre[2] + rng.uniform(4, 14)
    dome = vertebrae["T10"].centre[2] + rng.uniform(-8, 22)
    base = dome - 112
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
        step = np.linspace(0, 1, 6)[:, None]
        length = np.sqrt(((ends - hilum) ** 2).sum(axis=1))[:, None, None]
        bend = length * rng.normal(0, 0.09, (count, 1, 3)) * np.sin(np.pi * step)
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
    aorta = np.stack([x + np.array([6, 16, 20, 18, 12, 8, 6, 4]), y - [42, 20, 22, 26, 28, 30, 31, 32], z], axis=1)
    parts.append(Part(sweep_all(aorta[None], 12.0, 12), "soft", 0.06))
    return parts


def _make_lung(
    side: float,
    top: float,
    low: float,
    dome: float,
    trunk: Trunk,
    breadth: float,
    heart: NDArray[np.float64],
    size: NDArray[np.float64],
) -> Mesh:
    """Return one lung.

    Its wall is a stack of rings that end on the diaphragm; smaller rings on the diaphragm close it. The heart narrows it from the middle.
    Every point is where a function of two coordinates puts it, so nothing is turned inside out.
    """
    ring = make_outline(1.0, 1.0, 2.5, 28)
    base = np.full(28, low)
    for _ in range(2):
        edge = _bound_lung(ring, base, top, low, trunk, breadth)
        base = _find_diaphragm(*edge, dome, heart)
    step = np.concatenate([[0.0, 0.005, 0.02, 0.045], np.linspace(0.08, 1.0, 19)])
    shrink = np.concatenate([[0.2, 0.55, 0.82, 0.94], np.ones(19)])
    level = top + (base - top) * step[:, None]
    x, y = _bound_lung(ring, level, top, low, trunk, breadth, shrink[:, None])
    inner = np.linspace(0.9, 0.1, 8)[:, None]
    middle = x[-1].mean(), y[-1].mean()
    floor_x, floor_y = middle[0] + inner * (x[-1] - middle[0]), middle[1] + inner * (y[-1] - middle[1])
    floor_z = _find_diaphragm(floor_x, floor_y, dome, heart) + inner * (base - _find_diaphragm(x[-1], y[-1], dome, heart))
    rings = np.stack([np.concatenate([x, floor_x]), np.concatenate([y, floor_y]), np.concatenate([level, floor_z])], axis=2)
    # The heart takes its share of the width.
    u, v = (rings[..., 1] - heart[1]) / size[1], (rings[..., 2] - heart[2]) / size[2]
    reach = (side * heart[0] + size[0]) * np.clip(1 - u**2 - v**2, 0, 1) ** 0.5
    near, far = 18.0, 124.0 * breadth
    pressed = np.clip((reach - near) / (far - near), 0, 0.8)
    rings[..., 0] += pressed * np.clip(far - rings[..., 0], 0, None)
    spine = trunk.find_spine(rings[..., 2])[0]
    rings[..., 0] = side * rings[..., 0] + 0.7 * spine
    mesh = loft(rings)
    return mesh if mesh.volume() > 0 else Mesh(mesh.vertices, mesh.triangles[:, ::-1])


def _bound_lung(
    ring: NDArray[np.float64],
    level: NDArray[np.float64],
    top: float,
    low: float,
    trunk: Trunk,
    breadth: float,
    shrink: NDArray[np.float64] | float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return distance from the midline and y of the lung's wall at heights `level` (..., 28), `shrink` times as wide about its middle."""
    step = (level - top) / (low - top)
    outer = np.interp(step, [0, 0.05, 0.12, 0.3, 0.6, 1.0], [30, 46, 64, 97, 119, 121]) * breadth
    inner = np.interp(step, [0, 0.1, 0.3, 0.5, 1.0], [16, 15, 18, 20, 21])
    y = trunk.find_spine(level)[1]
    back = y + np.interp(step, [0, 0.1, 0.4, 0.8, 1], [8, 24, 44, 46, 36])
    front = y - np.interp(step, [0, 0.1, 0.3, 0.6, 1], [18, 34, 66, 98, 96]) * breadth
    x = (outer + inner) / 2 + shrink * (outer - inner) / 2 * ring[:, 0]
    return x, (back + front) / 2 + shrink * (back - front) / 2 * ring[:, 1]


def _find_diaphragm(x: NDArray[np.float64], y: NDArray[np.float64], dome: float, heart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height of the diaphragm: highest in front of the middle, falling to a deep gutter behind."""
    away = ((x - 58) / 80) ** 2 + ((y - heart[1] - 12) / 100) ** 2
    height: NDArray[np.float64] = dome - 58 * away - 12 * np.minimum(away, 2) ** 2
    return height


def make_airway(vertebrae: dict[str, Vertebra], trunk: Trunk, rng: np.random.Generator) -> list[Part]:
    """Return pharynx, larynx, trachea and main bronchi, and what calcifies around them."""
    names = ("C1", "C2", "C3", "C4", "C5", "C6", "T1", "T3", "T5")
    z = np.array([vertebrae[name].centre[2] for name in names])
    x, y = trunk.find_spine(z)
    # Prevertebral tissue is up to 7 mm at C2-C4 and up to 20 mm below, where the gullet lies behind the air.
    front = np.array([17, 16, 15, 16, 25, 30, 32, 36, 40]) + np.array([8, 7, 7, 7, 7, 8, 8, 8, 8]) + rng.normal(0, 1.2)
    path = np.stack([0.9 * x, y - front, z], axis=1)
    path = np.concatenate([path[:1] + np.array([[0, -9, 24], [0, -4, 13]]), path])
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
