"""A procedural trunk: spine from T8 to the sacrum, ribs, pelvis, soft tissue, lungs and bowel gas.

Coordinates: DICOM patient axes (x left, y back, z head), mm; the centre of L3 is the origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.materials import Part
from edgekit.phantom.mesh import Mesh, loft, make_ellipsoid, make_outline, make_tube, stack_rings, turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Name, body width, depth and height, disc below, half distance of the pedicles, pedicle width, length of the transverse process (mm), lean
# (degrees: forward tilt of the body, standing). Rounded from Panjabi et al., Spine 1991;16:888 (thoracic) and 1992;17:299 (lumbar).
_TABLE: tuple[tuple[str, float, float, float, float, float, float, float, float], ...] = (
    ("T8", 29, 28, 20, 5, 12.0, 5.5, 30, 8),
    ("T9", 30, 29, 21, 5, 12.0, 6.0, 29, 4),
    ("T10", 31, 30, 22, 6, 12.5, 6.5, 28, 0),
    ("T11", 34, 31, 23, 7, 13.0, 8.0, 26, -5),
    ("T12", 38, 32, 25, 8, 13.0, 8.0, 25, -9),
    ("L1", 41, 33, 26, 9, 12.5, 8.0, 36, -12),
    ("L2", 43, 34, 27, 10, 13.0, 8.5, 40, -9),
    ("L3", 45, 35, 27, 11, 14.0, 10.0, 44, -2),
    ("L4", 47, 35, 27, 12, 15.5, 12.0, 42, 8),
    ("L5", 49, 35, 26, 11, 18.0, 15.0, 43, 22),
    ("S1", 50, 33, 26, 0, 20.0, 16.0, 30, 40),
)
LEVELS = tuple(row[0] for row in _TABLE)
_ORIGIN = LEVELS.index("L3")


@dataclass(frozen=True, slots=True, eq=False)
class Vertebra:
    """Where a vertebra lies and how large it is; lengths in mm.

    Attributes
    ----------
    centre
        float64 (3,): middle of the body.
    axes
        float64 (3, 3): columns are the vertebra's own left, back and up.
    pedicle
        Distance of a pedicle's axis from the midline.
    """

    name: str
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    width: float
    depth: float
    height: float
    pedicle: float
    pedicle_width: float
    process: float

    def place(self, x: float, y: float, z: float) -> NDArray[np.float64]:
        """Return float64 (3,): the point (x, y, z) mm of the vertebra's own axes in patient coordinates."""
        point: NDArray[np.float64] = self.centre + self.axes @ np.array([x, y, z])
        return point


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """A patient without metal."""

    vertebrae: dict[str, Vertebra]
    parts: list[Part]


def make_anatomy(rng: np.random.Generator) -> Anatomy:
    """Return a random trunk."""
    vertebrae = _place_vertebrae(rng)
    density = rng.uniform(0.7, 1.15)
    parts: list[Part] = []
    for vertebra in vertebrae.values():
        parts += _make_vertebra(vertebra, density, rng)
        if vertebra.name.startswith("T"):
            parts += _make_ribs(vertebra, density, rng)
    parts += _make_pelvis(vertebrae["S1"], density, rng)
    parts += _make_soft_tissue(vertebrae, rng)
    return Anatomy(vertebrae, parts)


def _place_vertebrae(rng: np.random.Generator) -> dict[str, Vertebra]:
    size = rng.normal(1.0, 0.06)
    lordosis, shift = rng.uniform(0.5, 1.3), rng.normal(0, 3)
    scoliosis, wave = rng.normal(0, 3.0), rng.uniform(0, 2 * np.pi)
    narrowing = rng.uniform(0.55, 1.05, len(_TABLE))
    axes: list[NDArray[np.float64]] = []
    heights, discs = [], []
    for row in _TABLE:
        lean = lordosis * row[8] + shift + rng.normal(0, 1.5)
        level = len(axes) / (len(_TABLE) - 1)
        side = scoliosis * np.sin(2 * np.pi * level + wave) + rng.normal(0, 0.8)
        axes.append(turn(1, side) @ turn(0, lean) @ turn(2, -0.8 * side))
        heights.append(size * row[3])
        discs.append(size * row[4] * narrowing[len(axes) - 1])
    centres = [np.zeros(3)]
    for upper in range(len(_TABLE) - 1):
        centres.append(
            centres[-1]
            - axes[upper][:, 2] * (heights[upper] + discs[upper]) / 2
            - axes[upper + 1][:, 2] * (heights[upper + 1] + discs[upper]) / 2
        )
    result = {}
    for row, centre, frame in zip(_TABLE, centres, axes, strict=True):
        name, width, depth, height, _, pedicle, pedicle_width, process, _ = row
        lengths = (size * length for length in (width, depth, height, pedicle, pedicle_width, process))
        result[name] = Vertebra(name, centre - centres[_ORIGIN], frame, *lengths)
    return result


def _make_vertebra(vertebra: Vertebra, density: float, rng: np.random.Generator) -> list[Part]:
    """Return one vertebra; the sacrum is made with the pelvis."""
    if vertebra.name == "S1":
        return []
    half, back, z = vertebra.height / 2, vertebra.depth / 2, 0.25 * vertebra.height
    parts = [
        Part(_make_body(vertebra, 0.0), "bone", density),
        Part(_make_body(vertebra, 0.55 * rng.uniform(0.8, 1.5)), "bone", -0.83 * density),
    ]
    # Behind the body the walls are too thin to draw one by one: solid, with a mean density.
    posterior = []
    for side in (-1.0, 1.0):
        x, radius, process = side * vertebra.pedicle, vertebra.pedicle_width / 2, side * vertebra.process
        pedicle = np.array([[0.85 * x, back - 3, z], [x, back + 2, z], [x, back + 9, z - 1], [1.02 * x, back + 14, z - 3]])
        parts.append(Part(make_tube(pedicle, radius, 14, 1.35), "bone", 0.75 * density))
        parts.append(Part(make_tube(pedicle, radius - 1.0, 14, 1.4), "bone", -0.6 * density))
        transverse = np.array([[x, back + 12, z - 3], [0.55 * process + 0.4 * x, back + 15, z - 2], [process, back + 18, z]])
        posterior.append(make_tube(transverse, np.array([5.0, 4.0, 3.2]), 10, 0.9))
        joint = make_ellipsoid((5.5, 5.0, 8.5), 14)
        posterior.append(joint.moved(turn(0, 8), np.array([1.05 * x, back + 17, half + 1.0])))
        posterior.append(joint.moved(turn(0, 8), np.array([x, back + 20, -half - 3.0])))
        lamina = np.array([[0.95 * x, back + 15, z - 4], [0.5 * x, back + 21, -2.0], [0.06 * x, back + 27, -5.0]])
        posterior.append(make_tube(lamina, np.array([3.5, 3.2, 3.0]), 10, 2.4))
    spinous = np.array([[0, back + 24, -3.0], [0, back + 36, -8.0], [0, back + 46, -11.0]])
    posterior.append(make_tube(spinous, np.array([2.8, 2.4, 3.6]), 12, 2.9))
    parts += [Part(mesh, "bone", 0.42 * density * rng.uniform(0.8, 1.2)) for mesh in posterior]
    return [Part(part.mesh.moved(vertebra.axes, vertebra.centre), part.material, part.weight) for part in parts]


def _make_body(vertebra: Vertebra, inset: float) -> Mesh:
    """Return the body (or, with `inset` mm, its cancellous inside): waist, concave end plates, a notch at the canal."""
    outline = make_outline(vertebra.width / 2 - inset, vertebra.depth / 2 - inset, 2.35, 28)
    posterior = np.clip(outline[:, 1] / (vertebra.depth / 2), 0, 1)
    outline[:, 1] -= 4.0 * posterior * np.clip(1 - np.abs(outline[:, 0]) / (vertebra.width / 3), 0, 1)
    half = vertebra.height / 2 - inset
    scale = np.array([0.25, 0.6, 0.86, 0.97, 1.0, 0.95, 0.91, 0.9, 0.91, 0.95, 1.0, 0.97, 0.86, 0.6, 0.25])
    level = np.array([-0.82, -0.86, -0.93, -0.985, -0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9, 0.985, 0.93, 0.86, 0.82]) * half
    return loft(stack_rings(scale[:, None, None] * outline, level))


def _make_ribs(vertebra: Vertebra, density: float, rng: np.random.Generator) -> list[Part]:
    parts = []
    angle = np.linspace(-0.1, 2.3 * {"T12": 0.42, "T11": 0.65}.get(vertebra.name, 1.0), 18)
    drop = rng.uniform(51, 81)
    for side in (-1.0, 1.0):
        path = np.column_stack(
            [
                side * (22 + 108 * np.sin(0.72 * angle)),
                25 - 12 * np.sin(2.4 * angle) - 120 * (1 - np.cos(0.75 * angle)),
                4 - drop * angle / 2.3,
            ]
        )
        path += vertebra.centre
        thick = np.linspace(3.0, 2.6, 18)
        parts.append(Part(make_tube(path, thick, 10, 2.1), "bone", 0.6 * density))
        parts.append(Part(make_tube(path, thick - 0.8, 10, 2.4), "bone", -0.45 * density))
    return parts


def _make_pelvis(sacrum: Vertebra, density: float, rng: np.random.Generator) -> list[Part]:
    outline = make_outline(1.0, 1.0, 2.3, 28)
    level = np.linspace(0, 1, 14)
    # Half-width and half-depth of the sacrum from its base to the tip, and how far it curves back; own axes of S1.
    width = np.interp(level, [0, 0.06, 0.2, 0.45, 0.75, 0.95, 1.0], [24, 46, 54, 44, 30, 17, 8])
    depth = np.interp(level, [0, 0.15, 0.5, 1.0], [16, 18, 13, 6])
    bend = 10 + 44 * level * (1.1 - level)
    shell = 0.8
    parts = []
    for inset, weight in ((0.0, 0.8), (shell, -0.64)):
        rings = [
            np.column_stack([outline * [w - inset, d - inset] + [0, b], np.full(len(outline), z)])
            for w, d, b, z in zip(width, depth, bend, 13 - 2 * inset * (level < 0.01) - 98 * level, strict=True)
        ]
        parts.append(Part(loft(np.array(rings)), "bone", weight * density))
    for row in range(4):
        for side in (-1.0, 1.0):
            hole = make_ellipsoid((5.5 - 0.6 * row, 14.0, 4.5 - 0.4 * row), 14)
            place = np.array([side * (24 - 3 * row), 18 + 3 * row, -12 - 19 * row])
            parts.append(Part(hole.moved(np.eye(3), place), "bone", -0.13 * density))
    parts.append(Part(_make_body(sacrum, 0.0), "bone", 0.08 * density))
    crest = np.array([[0, 32, 4], [0, 47, -22], [0, 44, -60]], dtype=np.float64)
    parts.append(Part(make_tube(crest, np.array([4.0, 5.0, 3.0]), 10), "bone", 0.4 * density))
    parts = [Part(part.mesh.moved(sacrum.axes, sacrum.centre), part.material, part.weight) for part in parts]
    return parts + _make_ilia(sacrum, density, rng)


def _make_ilia(sacrum: Vertebra, density: float, rng: np.random.Generator) -> list[Part]:
    """Return the two wings: curved plates from the sacroiliac joint forward and outward, with a thick crest."""
    top, flare = rng.uniform(18, 42), rng.uniform(0.9, 1.15)
    level = np.linspace(0, 1, 16)
    outline = make_outline(1.0, 1.0, 2.6, 24)
    along = np.interp(level, [0, 0.3, 0.45, 0.7, 0.88, 1.0], [24, 30, 44, 64, 50, 12])
    thick = np.interp(level, [0, 0.3, 0.45, 0.8, 0.94, 1.0], [16, 18, 8, 3.5, 6.5, 3])
    parts = []
    for side in (-1.0, 1.0):
        for inset, weight in ((0.0, 0.75), (0.9, -0.6)):
            rings = np.array(
                [
                    np.column_stack([outline * [t - inset, a - inset], np.full(24, 190.0 * (h - 1) + top)])
                    for h, a, t in zip(level, along, thick, strict=True)
                ]
            )
            rings[..., 0] += 26 * flare * level[:, None] ** 1.6 - 0.004 * rings[..., 1] ** 2
            rings[..., 1] -= 40
            mesh = loft(rings * [side, 1, 1]).moved(turn(2, 38 * side), np.zeros(3))
            place = sacrum.centre + np.array([side * 46 * flare, 22.0, 0.0])
            parts.append(Part(mesh.moved(np.eye(3), place), "bone", weight * density))
    return parts


def _make_soft_tissue(vertebrae: dict[str, Vertebra], rng: np.random.Generator) -> list[Part]:
    girth = rng.uniform(0.85, 1.15)
    width, depth = 165 * girth, 112 * girth * rng.uniform(0.92, 1.08)
    centres = np.array([vertebra.centre for vertebra in vertebrae.values()])
    spine = np.polynomial.Polynomial.fit(centres[:, 2], centres[:, 1], 3)
    fat = rng.uniform(76, 96)
    rings = []
    for level in np.linspace(-330, 330, 23):
        waist = 1 - 0.09 * np.cos(np.clip(level / 200, -1, 1) * np.pi / 2) + 0.03 * np.sin(level / 70)
        outline = make_outline(width * waist, depth * (0.96 + 0.04 * waist), 2.35, 40)
        # The back is flatter than the belly, and the skin follows the spine.
        outline[:, 1] = np.where(outline[:, 1] > 0, depth * (np.abs(outline[:, 1]) / depth) ** 0.8, outline[:, 1])
        back = fat + 0.9 * spine(np.clip(level, centres[-1, 2], centres[0, 2]))
        rings.append(np.column_stack([outline[:, 0], outline[:, 1] - outline[:, 1].max() + back, np.full(40, level)]))
    parts = [Part(loft(np.array(rings)), "soft", 1.0)]
    top = vertebrae["T11"].centre
    for side in (-1.0, 1.0):
        parts += [
            _make_organ((56 * girth, 72 * girth, 130), top + np.array([side * 80 * girth, -30, 100 + 8 * side]), 0.0, 0.05, -0.55, rng),
            _make_organ((19, 19, 95), np.array([side * 42, 2, -15]), -7 * side, 0.05, 0.06, rng),
            _make_organ((26, 22, 200), vertebrae["L2"].centre + np.array([side * 33, 48, 0]), 0.0, 0.05, 0.05, rng),
            _make_organ((26, 19, 52), np.array([side * 72, -8, 40 - 8 * side]), -12 * side, 0.06, 0.05, rng),
        ]
    parts.append(_make_organ((80, 80, 75), np.array([-75, -75, 90]), 0.0, 0.08, 0.05, rng))
    return parts + _make_bowel(width, girth, rng) + _make_clutter(width, girth, rng)


def _make_bowel(width: float, girth: float, rng: np.random.Generator) -> list[Part]:
    """Return gas: a few loops along the colon's frame, each a string of pockets."""
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        start = np.array([rng.uniform(-0.7, 0.7) * width, rng.uniform(-115, -50) * girth, rng.uniform(-170, 60)])
        heading = rng.normal(0, 1, 3) * [1.0, 0.4, 1.0]
        step = heading / np.linalg.norm(heading)
        radius, density = rng.uniform(6, 15), rng.uniform(0.25, 0.8)
        for pocket in range(int(rng.integers(1, 6))):
            radii = radius * rng.uniform(0.7, 1.3, 3)
            place = start + step * pocket * 1.4 * radius + rng.normal(0, 4, 3)
            parts.append(_make_organ(radii, place, rng.uniform(0, 180), 0.12, -density, rng))
    return parts


def _make_clutter(width: float, girth: float, rng: np.random.Generator) -> list[Part]:
    """Return lumps of fat and of denser tissue: a film of a trunk is nowhere smooth."""
    parts = []
    for _ in range(70):
        place = np.array([rng.uniform(-0.85, 0.85) * width, rng.uniform(-120, 45) * girth, rng.uniform(-210, 150)])
        radii = np.exp(rng.uniform(np.log(5), np.log(32))) * rng.uniform(0.5, 1.5, 3)
        parts.append(_make_organ(radii, place, rng.uniform(0, 180), 0.15, rng.choice([-0.1, 0.07]), rng, 12))
    return parts


def _make_organ(
    radii: Sequence[float] | NDArray[np.float64],
    place: NDArray[np.float64],
    tilt: float,
    roughness: float,
    weight: float,
    rng: np.random.Generator,
    segments: int = 20,
) -> Part:
    """Return an ellipsoid of soft tissue, tilted in the coronal plane; harmonics on its radius keep it from being a billiard ball."""
    ball = make_ellipsoid((1.0, 1.0, 1.0), segments)
    factor = np.ones(len(ball.vertices))
    for order in range(1, 4):
        factor += roughness / order * np.sin(2 * order * ball.vertices @ rng.normal(0, 1, 3) + rng.uniform(0, 2 * np.pi))
    mesh = Mesh(ball.vertices * factor[:, None] * radii, ball.triangles)
    return Part(mesh.moved(turn(1, tilt), place), "soft", weight)
