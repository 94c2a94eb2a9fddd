"""Skull, jaws and teeth, hyoid: what a film of the neck has at its upper edge. Lengths in mm, relative to C1."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, make_ellipsoid, make_tube, merge, turn
from edgekit.phantom.geometry.solids import make_lumps, mirror, sweep_all
from edgekit.phantom.geometry.wires import make_wire
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra

_STILL = np.eye(3)
_BASE_Y = (-95.0, -45.0, -22.0, -4.0, 25.0, 60.0, 88.0)
_BASE_Z = (46.0, 40.0, 27.0, 13.0, 10.0, 16.0, 34.0)
"""Floor of the skull from the brow over sella, clivus and foramen magnum to the occiput."""


def make_head(c1: Vertebra, c3: Vertebra, pose: NDArray[np.float64], density: float, rng: np.random.Generator) -> list[Part]:
    """Return the bones of the head and of the throat, the teeth as enamel, and the air spaces.

    Parameters
    ----------
    pose
        float64 (3, 3): turns and scales the head about C1.
    """
    place = c1.centre + np.array([0, -3, 3])
    opening = max(0.0, rng.normal(1.0, 4.0))
    parts = [Part(_build_vault(0.0), "bone", 0.5), Part(_build_vault(5.5), "bone", -0.5)]
    parts += [Part(mesh, "bone", weight) for mesh, weight in _build_face()]
    parts += [Part(mesh, "soft", weight) for mesh, weight in _build_air()]
    jaw = turn(0, opening)
    hinge = np.array([0, -14, 14.0])
    parts += [Part(mesh.moved(jaw, hinge - jaw @ hinge), "bone", weight) for mesh, weight in _build_mandible()]
    teeth = _make_teeth(rng, jaw, hinge - jaw @ hinge)
    parts += [Part(part.mesh, part.material, part.weight) for part in teeth]
    cells = rng.uniform(-1, 1, (2, 9, 3)) * [7, 9, 12] + np.array([[[-50, 14, 8]], [[50, 14, 8]]])
    parts.append(Part(make_lumps(rng.uniform(1.5, 4, (18, 3)), cells.reshape(-1, 3), rng, segments=6), "soft", -0.8))
    moved = [Part(p.mesh.moved(pose, place), p.material, p.weight * (density if p.material == "bone" else 1)) for p in parts]
    arc = np.linspace(-1.9, 1.9, 11)
    hyoid = np.stack([20 * np.sin(arc), -50 - 16 * np.cos(arc), -4 + 3 * np.abs(arc)], axis=1) + c3.centre + np.array([0, 0, -8])
    return [*moved, Part(make_tube(hyoid, 2.2, 8, 1.6), "bone", 0.4 * density)]


@cache
def _build_vault(inset: float) -> Mesh:
    """Return the brain case or, `inset` mm inside, its cavity: an egg with a floor."""
    ball = make_ellipsoid((1.0, 1.0, 1.0), 30)
    x, y, z = ball.vertices.T
    wide = 1 + 0.08 * y
    vertices = np.stack([(72 - inset) * x * wide, (93 - inset) * y - 8, (72 - inset) * z + 74], axis=1)
    floor = np.interp(vertices[:, 1], _BASE_Y, _BASE_Z) + 0.7 * inset + 0.002 * vertices[:, 0] ** 2
    vertices[:, 2] = np.maximum(vertices[:, 2], floor)
    return Mesh(vertices, ball.triangles)


def _both(mesh: Mesh) -> list[Mesh]:
    return [mesh, mirror(mesh)]


def _blob(radii: tuple[float, float, float], place: tuple[float, float, float], tilt: float = 0.0) -> Mesh:
    return make_ellipsoid(radii, 10).moved(turn(0, tilt), np.array(place))


@cache
def _build_face() -> list[tuple[Mesh, float]]:
    angle = np.linspace(-1.45, 1.45, 17)
    arch = np.stack([27 * np.sin(angle), -62 - 33 * np.cos(angle) ** 0.8, np.full(17, -3.0)], axis=1)
    cheek = np.array([[40, -78, 22], [54, -66, 20], [63, -44, 20], [64, -22, 22], [62, -8, 24]], dtype=np.float64)
    petrous = np.array([[52, 4, 24], [44, -2, 27], [30, -12, 28], [16, -20, 27]], dtype=np.float64)
    turn_round = np.linspace(0, 2 * np.pi, 17)[:-1]
    orbit = np.stack([33 + 19 * np.cos(turn_round), -84 + 4 * np.cos(turn_round), 46 + 17 * np.sin(turn_round)], axis=1)
    orbit = np.concatenate([orbit, orbit[:1] + np.array([0, 0, 0.5])])
    return [
        (make_tube(arch, 5.5, 10, 1.9), 0.34),
        (_blob((22, 25, 3.0), (0, -66, 3), -3), 0.26),
        (merge(_both(make_tube(cheek, np.array([4.0, 6, 3, 3, 2]), 10, 1.4))), 0.26),
        (merge(_both(make_tube(petrous, np.array([4.0, 8.5, 8, 3]), 12))), 0.5),
        (merge(_both(make_wire(orbit, 2.2, 6))), 0.35),
        (merge(_both(_blob((9, 14, 16), (50, 14, 8)))), 0.22),
        (merge(_both(_blob((6, 10, 5), (15, -1, 9)))), 0.4),
        (_blob((9, 12, 3.5), (0, -40, 37), 12), 0.3),
        (_blob((14, 4, 10), (0, 76, 46), -20), 0.3),
        (merge(_both(make_tube(np.array([[42.0, -2, 6], [38, -12, -8], [34, -20, -18]]), np.array([2.0, 1.6, 0.8]), 8))), 0.5),
        (merge(_both(make_tube(np.array([[20.0, -48, 22], [20, -50, 8], [21, -54, -2]]), np.array([2.0, 2.0, 2.0]), 8, 2.2))), 0.35),
        (_blob((1.4, 24, 16), (0, -74, 20)), 0.3),
    ]


@cache
def _build_air() -> list[tuple[Mesh, float]]:
    return [
        (merge(_both(_blob((14, 15, 14), (26, -76, 18)))), -0.75),
        (_blob((13, 11, 8), (0, -44, 33)), -0.8),
        (_blob((12, 6, 9), (0, -90, 62)), -0.45),
        (merge(_both(_blob((5, 28, 14), (7, -70, 20)))), -0.6),
        (_blob((15, 9, 14), (0, -34, 12)), -0.7),
    ]


@cache
def _build_mandible() -> list[tuple[Mesh, float]]:
    body = np.array([[46.5, -22, -26], [44, -42, -33], [37, -62, -38], [24, -82, -41], [10, -92, -42.5], [0, -94, -43]], dtype=np.float64)
    path = np.concatenate([body, (body * [-1, 1, 1])[-2::-1]])
    ramus = np.array([[52, -15, 15], [51, -17, 6], [50, -22, -6], [48, -26, -20], [47, -28, -36]], dtype=np.float64)
    process = np.array([[49, -36, 12], [49, -33, 2], [48, -30, -10]], dtype=np.float64)
    height = np.array([2.6, 5.0, 5.4, 5.4, 6.0, 6.6, 6.0, 5.4, 5.4, 5.0, 2.6])
    wide = np.array([1.8, 3.2, 4.4, 4.6, 2.4])
    return [
        (make_tube(path, height, 12, 2.4), 0.8),
        (make_tube(path, height - 1.6, 12, 2.9), -0.42),
        (merge(_both(make_tube(ramus, wide, 12, 3.4))), 0.42),
        (merge(_both(make_tube(process, np.array([1.2, 2.4, 2.6]), 10, 3.0))), 0.35),
    ]


def _make_teeth(rng: np.random.Generator, jaw: NDArray[np.float64], shift: NDArray[np.float64]) -> list[Part]:
    """Return up to 16 teeth in each jaw: enamel crowns, roots of dentine, which attenuates like dense bone."""
    angle = np.linspace(-1.4, 1.4, 16)
    left = rng.random((2, 16)) < rng.choice([1.0, 0.95, 0.7, 0.15], p=[0.5, 0.25, 0.15, 0.1])
    molar = np.abs(angle) > 0.75
    crowns: list[Mesh] = []
    roots: list[Mesh] = []
    for row, (level, sign) in enumerate(((-13.0, 1.0), (-24.0, -1.0))):
        x, y = 25 * np.sin(angle), -62 - 31 * np.cos(angle) ** 0.8
        place = np.stack([x, y, np.full(16, level)], axis=1)[left[row]] + rng.normal(0, 0.4, (int(left[row].sum()), 3))
        size = np.where(molar[left[row], None], [4.6, 4.6, 3.8], [3.2, 3.4, 5.0])
        crown = make_lumps(size, place, rng, roughness=0.08, segments=6, tumbled=False)
        ends = place + np.array([0, 3.0, sign * 14.0])
        root = np.stack([place + np.array([0, 0, sign * 2.0]), (place + ends) / 2, ends], axis=1)
        for mesh, meshes in ((crown, crowns), (sweep_all(root, np.array([3.2, 2.6, 1.0]), 5) if len(root) else crown, roots)):
            meshes.append(mesh if row == 0 else mesh.moved(jaw, shift))
    return [Part(merge(crowns), "enamel", 0.7), Part(merge(roots), "bone", 0.7)] if left.any() else []
