"""Meshes of the vertebrae.

Bodies are one deformed unit body each, all of them one array; what lies behind them is built once for each level at the table's size and
scaled to the patient.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgekit.phantom.body.arches import build_arch
from edgekit.phantom.body.spine import LEVELS, TABLE
from edgekit.phantom.geometry.mesh import Mesh, loft, make_outline, merge, stack_rings
from edgekit.phantom.geometry.solids import make_lumps, repeat, sweep_all
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra, Wear

SHELL, SHELL_MM = 0.4, 1.1
"""Density of a body's cortex relative to solid bone, and its thickness: true cortex is denser and thinner, and seen through a detector's
blur."""
INSIDE = {"C": 0.44, "T": 0.33, "L": 0.29}
"""Density of trabecular bone relative to solid bone: densest in the neck (256, 194 and 172 mg/cm³ in neck, T1 and L2-L4 of young men,
Yoganandan et al., Bone 2006, doi:10.1016/j.bone.2006.01.160)."""
_WEIGHTS = {"pedicle": 0.46, "hollow": -0.26, "arch": 0.36, "process": 0.27}
"""Mean densities behind the body; the pedicles alone have a wall."""


class Bone(NamedTuple):
    """How dense a patient's bone is.

    Attributes
    ----------
    density
        Of all of it, relative to a young adult's.
    cortex, posterior
        Of the bodies' walls and end plates, and of what lies behind the bodies, relative to the tables'.
    """

    density: float
    cortex: float = 1.0
    posterior: float = 1.0


def make_vertebrae(vertebrae: Sequence[Vertebra], wear: Wear, bone: Bone, rng: np.random.Generator) -> list[Part]:
    """Return all but the sacrum, which is made with the pelvis."""
    density, shell = bone.density, SHELL * bone.cortex
    wall = SHELL_MM / np.sqrt(bone.cortex)  # a dense wall is a thin one
    whole = [vertebra for vertebra in vertebrae if vertebra.name != "S1"]
    bodies = [vertebra for vertebra in whole if vertebra.name != "C1"]
    # Osteoporosis takes the trabeculae first: the plates then stand out (WHO technical report 921, 2003).
    hollow = min(1.0, density) ** 1.0
    waves = rng.normal(0, 1, (len(bodies), 2, 4))
    parts = [Part(_make_bodies(bodies, wear, 0.0, waves), "bone", shell * density)]
    for letter, inside in INSIDE.items():
        some = [row for row, vertebra in enumerate(bodies) if vertebra.name[0] == letter]
        if some:
            core = _make_bodies([bodies[row] for row in some], wear, wall, waves[some])
            parts.append(Part(core, "bone", (inside * hollow - shell) * density))
    parts += _make_arches(whole, density * bone.posterior, rng)
    parts += _make_grain(bodies, density, rng)
    return parts + _make_wear(bodies, wear, density, rng)


# --- Bodies ---------------------------------------------------------------------------------------------------------------------------


@cache
def _unit_body() -> Mesh:
    """Return a body in a cube of side 2: waist, concave end plates."""
    outline = make_outline(1.0, 1.0, 2.35, 18)
    scale = np.array([0.4, 0.75, 0.94, 0.99, 0.985, 0.945, 0.925, 0.945, 0.985, 0.99, 0.94, 0.75, 0.4])
    level = np.array([-0.87, -0.9, -0.965, -0.93, -0.8, -0.45, 0.0, 0.45, 0.8, 0.93, 0.965, 0.9, 0.87])
    return loft(stack_rings(scale[:, None, None] * outline, level))


def _make_bodies(vertebrae: Sequence[Vertebra], wear: Wear, inset: float, waves: NDArray[np.float64]) -> Mesh:
    """Return the bodies, `inset` mm inside their surface; `waves` (n, 2, 4) makes each uneven in its own way."""
    if not vertebrae:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32))
    unit = _unit_body()
    row = [LEVELS.index(vertebra.name) for vertebra in vertebrae]
    half = np.array([[vertebra.width, vertebra.depth, vertebra.height] for vertebra in vertebrae])[:, None] / 2
    cervical = np.array([vertebra.name[0] == "C" for vertebra in vertebrae])[:, None]
    upper = np.array([vertebra.name not in ("C2",) for vertebra in vertebrae])[:, None]
    u, v, w = unit.vertices.T
    angle = np.arctan2(v, u)
    turns = np.stack([np.sin(2 * angle), np.cos(3 * angle), np.sin(4 * angle + 1), np.cos(5 * angle)])
    radial = 1 + 0.012 * waves[:, 0] @ turns
    lip = (wear.lips[row] / half[:, 0, 0])[:, None] * np.exp(-(((np.abs(w) - 0.95) / 0.13) ** 2)) * np.clip(0.55 - v, 0, 1)
    lip = lip * np.clip(0.5 + 0.6 * waves[:, 1] @ turns, 0, 1.6)
    # Lumbar plates are a little narrower in front of the canal; the canal notches the back.
    x = u * (half[:, :, 0] - inset) * (radial + lip)
    y = v * (half[:, :, 1] - inset) * (radial + lip)
    y -= 0.11 * half[:, :, 1] * np.clip(v, 0, 1) * np.clip(1 - 1.5 * np.abs(u), 0, 1)
    inner = np.clip(1 - u**2 - v**2, 0, 1)
    plate = 1 - wear.cupping[row][:, None] * inner
    z = w * (half[:, :, 2] - inset) * plate
    front = (1 - v) / 2
    z -= (z + half[:, :, 2]) * wear.wedge[row][:, None] * front
    # Uncinate processes above, a lip in front below (Panjabi 1991).
    hook = np.clip((np.abs(u) - 0.55) / 0.45, 0, 1) * np.clip(v + 0.5, 0, 1) * np.clip(w, 0, 1)
    z += np.where(cervical & upper, 0.34 * half[:, :, 2] * hook, 0)
    z -= np.where(cervical, 0.2 * half[:, :, 2] * np.clip(-v, 0, 1) * np.clip(-w, 0, 1), 0)
    # The axis is narrow above, where it carries the dens.
    x *= np.where(upper, 1, 1 - 0.22 * np.clip(w, 0, 1))
    local = np.stack([x, y, z], axis=2)
    axes = np.array([vertebra.axes for vertebra in vertebrae])
    centres = np.array([vertebra.centre for vertebra in vertebrae])
    return repeat(local @ np.swapaxes(axes, 1, 2) + centres[:, None], unit.triangles)


def _make_grain(vertebrae: Sequence[Vertebra], density: float, rng: np.random.Generator) -> list[Part]:
    """Return bundles of trabeculae, most of them along the load: fewer and coarser where bone is lost, with gaps between them."""
    places, radii = [], []
    count = round(6 + 4 * min(1.0, density))
    for vertebra in vertebrae:
        spots = rng.uniform(-1, 1, (count, 3)) * [0.4 * vertebra.width, 0.38 * vertebra.depth, 0.33 * vertebra.height]
        places.append(spots @ vertebra.axes.T + vertebra.centre)
        radii.append(rng.uniform(0.08, 0.17, (count, 3)) * vertebra.height * [0.7, 0.7, 1.0])
    if not places:
        return []
    place, size = np.concatenate(places), np.concatenate(radii)
    upright = rng.random(len(place)) < 0.6
    size[upright] *= [0.55, 0.55, 2.0]
    dense = rng.random(len(place)) < 0.5
    signs = ((dense, 0.24), (~dense, -0.17))
    return [
        Part(make_lumps(size[which], place[which], rng, roughness=0.1, segments=6, tumbled=False), "bone", weight * density)
        for which, weight in signs
    ]


def _make_arches(vertebrae: Sequence[Vertebra], density: float, rng: np.random.Generator) -> list[Part]:
    parts = []
    wave, phase = rng.normal(0, 1, (3, 3)), rng.uniform(0, 2 * np.pi, 3)
    wave *= 0.25 / np.sqrt((wave**2).sum(axis=0))
    for letter, more in (("C", 1.35), ("T", 1.0), ("L", 1.0)):
        meshes: dict[str, list[Mesh]] = {kind: [] for kind in _WEIGHTS}
        for vertebra in vertebrae:
            if vertebra.name[0] == letter:
                for kind, mesh in _fit_arch(vertebra, rng).items():
                    meshes[kind].append(mesh)
        for kind, weight in _WEIGHTS.items():
            if not meshes[kind]:
                continue
            mesh = merge(meshes[kind])
            solid = kind in ("arch", "process")
            if solid:
                mesh = Mesh(mesh.vertices + 0.9 * np.sin(mesh.vertices @ wave + phase), mesh.triangles)
            parts.append(Part(mesh, "bone", weight * density * (more * rng.uniform(0.85, 1.2) if solid else 1.0)))
    return parts


def _fit_arch(vertebra: Vertebra, rng: np.random.Generator) -> dict[str, Mesh]:
    """Return the arch of a level fitted to one vertebra, in patient axes."""
    nominal = TABLE[vertebra.name]
    scale = np.full(3, vertebra.pedicle / nominal[4])
    stretch = scale * [1, rng.normal(1, 0.03), rng.normal(1, 0.04)]
    shear, meshes = rng.normal(0, 0.03), {}
    for kind, mesh in build_arch(vertebra.name).items():
        local = mesh.vertices * (scale if kind in ("pedicle", "hollow") else stretch)
        # The body's depth varies on its own; what lies behind it goes with its back wall.
        local[:, 1] += (vertebra.depth - nominal[1] * scale[1]) / 2
        if kind == "process":
            local[:, 0] += shear * np.clip(local[:, 1] - 25, 0, None)
        meshes[kind] = Mesh(local @ vertebra.axes.T + vertebra.centre, mesh.triangles)
    return meshes


# --- Wear -----------------------------------------------------------------------------------------------------------------------------


def _make_wear(vertebrae: Sequence[Vertebra], wear: Wear, density: float, rng: np.random.Generator) -> list[Part]:
    """Return dense end plates, dense joints, and claws and bridges in front of and beside the discs: bright edges without metal."""
    places, radii, joints, bridges, gas = [], [], [], [], []
    for upper, lower in pairwise(vertebrae):
        row = LEVELS.index(upper.name)
        if wear.sclerosis[row] > 0.12:
            x = rng.uniform(-0.25, 0.25) * upper.width
            for vertebra, sign in ((upper, -1.0), (lower, 1.0)):
                # Blotches that overlap: dense at the plate, fading into the body, on one side more than on the other.
                for near, thick in ((0.43, 1.5), (0.4, 3.0), (0.36, 5.0)):
                    y = rng.uniform(-0.25, 0.1) * vertebra.depth
                    places.append(vertebra.place(x + rng.normal(0, 0.1) * vertebra.width, y, sign * near * vertebra.height))
                    wide = np.array([0.34 * vertebra.width, 0.34 * vertebra.depth, thick * (0.5 + wear.sclerosis[row])])
                    radii.append(wide * rng.uniform(0.6, 1.25, 3))
            if wear.narrowing[row] > 0.35 and rng.random() < 0.4:
                gas.append(((upper.place(0, 0, -0.5 * upper.height) + lower.place(0, 0, 0.5 * lower.height)) / 2, 0.3 * upper.width))
        if wear.facets[row] > 0.1 and upper.name[0] != "T":
            cervical = upper.name[0] == "C"
            for side in (-1.0, 1.0):
                x = side * (upper.pedicle + (5.5 if cervical else 1.0))
                joints.append(
                    [
                        upper.place(x, upper.depth / 2 + (6 if cervical else 19), -0.5 * upper.height - 5),
                        np.array([4.5, 4.0, 7.0]) * rng.uniform(0.7, 1.5),
                    ]
                )
        if wear.lips[row] > 3.0 and rng.random() < 0.5:
            angle = rng.choice([-np.pi / 2, -np.pi / 2 + 0.9, -np.pi / 2 - 0.9, 0.1, np.pi - 0.1])
            out = np.array([np.cos(angle) * 0.5, np.sin(angle) * 0.5])
            gap = float(np.linalg.norm(upper.centre - lower.centre)) / 2
            bulge = rng.uniform(1.08, 1.25)
            points = [(upper, -0.25, 1.0), (upper, -0.55, 1.1), (upper, -gap / upper.height, bulge), (lower, 0.55, 1.1), (lower, 0.25, 1.0)]
            bridges.append([v.place(out[0] * v.width * far, out[1] * v.depth * far, up * v.height) for v, up, far in points])
    parts = []
    if places:
        parts.append(Part(make_lumps(radii, places, rng, roughness=0.2, segments=10, tumbled=False), "bone", 0.15 * density))
    if joints:
        parts.append(
            Part(
                make_lumps([size for _, size in joints], [place for place, _ in joints], rng, roughness=0.18, segments=12),
                "bone",
                0.4 * density,
            )
        )
    if bridges:
        paths = np.array(bridges)
        parts.append(Part(sweep_all(paths, np.array([0.8, 2.2, 2.0, 2.2, 0.8]), 8, 1.0), "bone", 0.4 * density))
    if gas:
        parts.append(
            Part(
                make_lumps([[wide, 0.7 * wide, 1.1] for _, wide in gas], [place for place, _ in gas], rng, segments=12, tumbled=False),
                "soft",
                -0.9,
            )
        )
    return parts
