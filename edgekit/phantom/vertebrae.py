"""Meshes of the vertebrae.

Bodies are one deformed unit body each, all of them one array; what lies behind them is built once for each level at the table's size and
scaled to the patient. Behind the body the walls are too thin to draw one by one: solid, with a mean density.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.materials import Part
from edgekit.phantom.mesh import Mesh, loft, make_ellipsoid, make_outline, make_tube, merge, stack_rings, turn
from edgekit.phantom.solids import make_lumps, mirror, repeat, sweep_all
from edgekit.phantom.spine import LEVELS, TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.phantom.spine import Vertebra, Wear

_STILL = np.eye(3)
SHELL, SHELL_MM = 0.44, 1.0
"""Density of a body's cortex relative to solid bone, and its thickness: true cortex is denser and thinner, and seen through a detector's
blur."""
INSIDE = {"C": 0.34, "T": 0.25, "L": 0.21}
"""Density of trabecular bone relative to solid bone: densest in the neck (Yoganandan et al., Bone 2006;39:413)."""
_ARCH, _PROCESS = 0.36, 0.27


def make_vertebrae(vertebrae: Sequence[Vertebra], wear: Wear, density: float, rng: np.random.Generator) -> list[Part]:
    """Return all but the sacrum, which is made with the pelvis; `density` is relative to a young adult's."""
    whole = [vertebra for vertebra in vertebrae if vertebra.name != "S1"]
    bodies = [vertebra for vertebra in whole if vertebra.name != "C1"]
    # Osteoporosis takes the trabeculae first: the plates then stand out (WHO technical report 921, 2003).
    hollow = min(1.0, density) ** 1.0
    waves = rng.normal(0, 1, (len(bodies), 2, 4))
    parts = [Part(_make_bodies(bodies, wear, 0.0, waves), "bone", SHELL * density)]
    for letter, inside in INSIDE.items():
        some = [row for row, vertebra in enumerate(bodies) if vertebra.name[0] == letter]
        if some:
            core = _make_bodies([bodies[row] for row in some], wear, SHELL_MM, waves[some])
            parts.append(Part(core, "bone", (inside * hollow - SHELL) * density))
    parts += _make_arches(whole, wear, density, rng)
    parts += _make_grain(bodies, density, rng)
    return parts + _make_wear(bodies, wear, density, rng)


# --- Bodies ---------------------------------------------------------------------------------------------------------------------------


@cache
def _unit_body() -> Mesh:
    """Return a body in a cube of side 2: waist, concave end plates."""
    outline = make_outline(1.0, 1.0, 2.35, 20)
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
    plate = (1 - wear.cupping[row][:, None] * inner) * (1 - 0.25 * lip)
    z = w * (half[:, :, 2] - inset) * plate
    front = (1 - v) / 2
    z -= 2 * half[:, :, 2] * wear.wedge[row][:, None] * front * np.clip(w, 0, 1)
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
    signs = ((dense, 0.16), (~dense, -0.11))
    return [
        Part(make_lumps(size[which], place[which], rng, roughness=0.1, segments=6, tumbled=False), "bone", weight * density)
        for which, weight in signs
    ]


# --- Behind the body ------------------------------------------------------------------------------------------------------------------


def _both(mesh: Mesh) -> list[Mesh]:
    return [mesh, mirror(mesh)]


def _tube(points: list[list[float]], radii: list[float], flatten: float = 1.0, segments: int = 8) -> Mesh:
    from scipy.interpolate import PchipInterpolator

    path, width = np.array(points, dtype=np.float64), np.array(radii)
    length = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(path, axis=0) ** 2).sum(axis=1)))])
    fine = np.linspace(0, length[-1], 2 * len(path) + 1)
    path, width = PchipInterpolator(length, path)(fine), PchipInterpolator(length, width)(fine)
    # Rounded ends: no process is sawn off.
    ends = np.concatenate([[0.5, 0.85], np.ones(len(fine) - 4), [0.85, 0.5]])
    return make_tube(path, width * ends, segments, flatten)


def _blob(radii: tuple[float, float, float], place: tuple[float, float, float], tilt: float = 0.0) -> Mesh:
    return make_ellipsoid(radii, 8).moved(turn(0, tilt), np.array(place))


@cache
def _build_arch(name: str) -> dict[str, Mesh]:
    """Return what lies behind the body of `name` at the table's size, in its own axes: a mesh for each kind of bone."""
    build = {"C1": _build_atlas, "C2": _build_axis}.get(name, {"C": _build_cervical, "T": _build_thoracic, "L": _build_lumbar}[name[0]])
    return {kind: merge(meshes) for kind, meshes in build(name).items()}


def _build_lumbar(name: str) -> dict[str, list[Mesh]]:
    _, depth, height, _, pedicle, wide, process, spinous, _ = TABLE[name]
    b, h, z, p = depth / 2, height / 2, 0.25 * height, pedicle
    r, tall = wide / 2, min(2.0, 14.5 / wide)
    path = [[0.8 * p, b - 4, z - 0.5], [0.97 * p, b + 2, z], [1.02 * p, b + 9, z - 0.5], [1.1 * p, b + 14, z - 2.5]]
    long = name in ("L3", "L4", "L2")
    up = 4.0 if name in ("L4", "L5") else 1.0
    tip = 5.0 if name == "L5" else 3.0
    e = spinous + b - 8
    return {
        "pedicle": _both(make_tube(np.array(path), r, 12, tall)),
        "hollow": _both(make_tube(np.array(path), r - 1.3, 12, (r * tall - 1.3) / (r - 1.3))),
        "arch": [
            *_both(
                _tube(
                    [[p + 1, b + 13, z + 2], [0.85 * p, b + 18, -2], [0.55 * p, b + 23, -0.6 * h], [0.2 * p, b + 27, -0.75 * h]],
                    [3.6, 3.6, 3.4, 3.0],
                    2.3,
                )
            ),
            *_both(_tube([[p + 1, b + 14, z], [1.15 * p + 1, b + 16, h - 3], [1.15 * p + 2, b + 17, h + 6]], [4.6, 4.6, 3.6], 1.2)),
            *_both(_tube([[0.9 * p, b + 19, -2], [0.95 * p, b + 20, -h], [0.98 * p, b + 20, -h - 9]], [4.2, 4.6, 3.4], 1.15)),
        ],
        "process": [
            *_both(
                _tube(
                    [
                        [p, b + 12, z],
                        [p + 0.35 * (process - p), b + 15, z - 1],
                        [p + 0.75 * (process - p), b + 19, z - 1 + up],
                        [process, b + 21, z + up],
                    ],
                    [4.6, 2.6, 3.0 if long else tip, 2.2],
                    1.5,
                )
            ),
            _tube([[0, b + 22, -2], [0, b + 30, -0.35 * h], [0, e - 8, -0.6 * h], [0, e + 2, -0.75 * h]], [3.0, 2.6, 3.0, 3.2], 3.1, 12),
        ],
    }


def _build_thoracic(name: str) -> dict[str, list[Mesh]]:
    _, depth, height, _, pedicle, wide, process, spinous, _ = TABLE[name]
    number = int(name[1:])
    b, h, z, p = depth / 2, height / 2, 0.28 * height, pedicle
    r = wide / 2
    slant = float(np.interp(number, [1, 4, 6, 8, 11, 12], [12, 24, 34, 34, 14, 6]))
    path = [[0.85 * p, b - 3, z], [p, b + 1, z], [p, b + 6, z], [1.02 * p, b + 11, z - 1]]
    e = b + spinous * (0.88 if slant < 30 else 0.72)
    sweep = 10.0 if number < 11 else 6.0
    return {
        "pedicle": _both(make_tube(np.array(path), r, 12, min(2.2, 11.5 / wide))),
        "hollow": _both(make_tube(np.array(path), r - 0.9, 12, (r * min(2.2, 11.5 / wide) - 0.9) / (r - 0.9))),
        "arch": [
            *_both(
                _tube(
                    [[p + 1, b + 9, z], [0.8 * p, b + 14, -1], [0.4 * p, b + 19, -0.6 * h], [0.1, b + 21, -0.8 * h]],
                    [2.6, 2.8, 2.6, 2.2],
                    3.0,
                )
            ),
            *_both(_blob((4.6, 2.8, 6.5), (0.95 * p, b + 12, h), 12)),
            *_both(_blob((4.6, 2.8, 6.5), (0.9 * p, b + 14, -h - 1), 12)),
        ],
        "process": [
            *_both(
                _tube([[p, b + 10, z], [0.6 * process, b + 10 + 0.6 * sweep, z], [process, b + 11 + sweep, z + 2]], [3.6, 3.0, 3.8], 1.25)
            ),
            _tube([[0, b + 17, -2], [0, b + 26, -4 - 0.4 * slant], [0, e, -6 - slant]], [2.6, 2.2, 2.6], 2.6, 12),
        ],
    }


def _build_cervical(name: str) -> dict[str, list[Mesh]]:
    _, depth, height, _, pedicle, wide, process, spinous, _ = TABLE[name]
    b, h, p = depth / 2, height / 2, pedicle
    pillar = make_outline(5.4, 5.8, 2.5, 12)
    rings = stack_rings(np.array([0.55, 0.92, 0.97, 0.95, 1.0, 0.6])[:, None, None] * pillar, np.array([-9.5, -7.5, -2, 2, 7, 9.2]))
    # Joint surfaces slope down to the back by about 45 degrees.
    rings[..., 2] -= 0.75 * rings[..., 1]
    mass = loft(rings).moved(_STILL, np.array([p + 4.8, b + 5.5, -1]))
    e = b + spinous * 0.95
    forked = name in ("C3", "C4", "C5", "C6")
    tip = [*_both(_blob((2.6, 4.0, 2.8), (2.8, e - 1, -10)))] if forked else [_blob((4.0, 5.0, 5.0), (0, e - 2, -9))]
    return {
        "pedicle": _both(_tube([[0.55 * p, b - 4, 1], [0.8 * p, b - 1, 1], [p + 3, b + 3, 1]], [wide / 2, wide / 2, wide / 2], 1.3)),
        "hollow": _both(_tube([[0.55 * p, b - 4, 1], [0.8 * p, b - 1, 1], [p + 3, b + 3, 1]], [wide / 2 - 0.9] * 3, 1.35)),
        "arch": [
            *_both(mass),
            *_both(
                _tube([[p + 3, b + 9, -1], [0.8 * p, b + 14, -2], [0.4 * p, b + 19, -4], [0.05, b + 22, -6]], [2.0, 1.9, 1.9, 2.0], 2.8)
            ),
        ],
        "process": [
            *_both(_tube([[0.85 * p, -1, 0], [0.5 * (p + process), 1, -1], [process, b - 2, -3]], [2.4, 1.8, 2.4], 1.3)),
            _tube([[0, b + 19, -5], [0, 0.5 * (b + 19 + e), -8], [0, e, -9.5]], [2.4, 2.0, 2.6], 1.9 if forked else 2.3, 10),
            *tip,
        ],
    }


def _build_axis(_: str) -> dict[str, list[Mesh]]:
    dens = make_tube(
        np.array([[0, -1.5, 4], [0, -2, 10], [0, -2, 15], [0, -1.5, 21], [0, -1, 25.5], [0, -0.6, 27.5]]),
        np.array([6.5, 5.0, 4.6, 5.2, 4.2, 1.6]),
        14,
    )
    mass = make_ellipsoid((7.5, 8.5, 6.0), 14).moved(turn(1, 22), np.array([14.5, 1, 5]))
    return {
        "pedicle": [dens],
        "hollow": [dens.moved(0.78 * _STILL, np.array([0, -0.4, 3.2]))],
        "arch": [
            *_both(mass),
            *_both(_tube([[12, 4, 2], [16, 10, -2], [18, 15, -6]], [5.0, 4.0, 4.6], 1.3)),
            *_both(_blob((5.2, 5.2, 6.0), (18, 15, -9), 40)),
            *_both(_tube([[16, 14, -3], [12, 22, -2], [6, 28, -3], [0.5, 31, -4]], [2.6, 2.8, 3.2, 3.4], 2.1)),
        ],
        "process": [
            *_both(_tube([[16, 4, 0], [21, 6, -2], [26, 9, -4]], [3.4, 2.4, 2.2])),
            _tube([[0, 28, -4], [0, 36, -7], [0, 44, -10]], [4.0, 3.6, 4.6], 1.7, 10),
            *_both(_blob((3.0, 5.0, 3.4), (3.8, 44, -11))),
        ],
    }


def _build_atlas(_: str) -> dict[str, list[Mesh]]:
    mass = make_ellipsoid((7.0, 9.5, 8.0), 14).moved(turn(1, -14), np.array([18.0, 1, 0]))
    return {
        "pedicle": [_tube([[-16, -4, 0], [-9, -9.5, 0.5], [0, -11.5, 1], [9, -9.5, 0.5], [16, -4, 0]], [3.6, 3.2, 3.6, 3.2, 3.6], 1.6)],
        "hollow": [_tube([[-15, -4, 0], [-9, -9.5, 0.5], [0, -11.5, 1], [9, -9.5, 0.5], [15, -4, 0]], [2.6, 2.2, 2.6, 2.2, 2.6], 1.7)],
        "arch": [
            *_both(mass),
            _tube(
                [[-18, 7, 0], [-18, 18, 1], [-11, 29, 1], [0, 34, 0], [11, 29, 1], [18, 18, 1], [18, 7, 0]],
                [3.6, 2.8, 3.2, 4.2, 3.2, 2.8, 3.6],
                1.4,
            ),
        ],
        "process": [*_both(_tube([[20, 2, 0], [29, 3, -1], [38, 5, -2]], [4.4, 3.2, 3.4], 1.2))],
    }


def _make_arches(vertebrae: Sequence[Vertebra], wear: Wear, density: float, rng: np.random.Generator) -> list[Part]:
    weights = {"pedicle": 0.46, "hollow": -0.26, "arch": _ARCH, "process": _PROCESS}
    meshes: dict[str, list[Mesh]] = {kind: [] for kind in weights}
    for vertebra in vertebrae:
        nominal = TABLE[vertebra.name]
        scale = np.array([vertebra.pedicle / nominal[4], 1.0, 1.0])
        scale[1:] *= vertebra.pedicle / nominal[4]
        stretch = scale * [1, rng.normal(1, 0.03), rng.normal(1, 0.04)]
        shear = rng.normal(0, 0.03)
        for kind, mesh in _build_arch(vertebra.name).items():
            local = mesh.vertices * (scale if kind in ("pedicle", "hollow") else stretch)
            # The body's depth varies on its own; what lies behind it goes with its back wall.
            local[:, 1] += (vertebra.depth - nominal[1] * scale[1]) / 2
            if kind == "process":
                local[:, 0] += shear * np.clip(local[:, 1] - 25, 0, None)
            meshes[kind].append(Mesh(local @ vertebra.axes.T + vertebra.centre, mesh.triangles))
    parts = []
    wave, phase = rng.normal(0, 0.22, (3, 3)), rng.uniform(0, 2 * np.pi, 3)
    for kind, weight in weights.items():
        mesh = merge(meshes[kind])
        if kind in ("arch", "process"):
            mesh = Mesh(mesh.vertices + 0.9 * np.sin(mesh.vertices @ wave + phase), mesh.triangles)
            weight *= rng.uniform(0.85, 1.2)
        parts.append(Part(mesh, "bone", weight * density))
    return parts


# --- Wear -----------------------------------------------------------------------------------------------------------------------------


def _make_wear(vertebrae: Sequence[Vertebra], wear: Wear, density: float, rng: np.random.Generator) -> list[Part]:
    """Return dense end plates, dense joints, and claws and bridges in front of and beside the discs: bright edges without metal."""
    places, radii, joints, bridges, gas = [], [], [], [], []
    for upper, lower in zip(vertebrae[:-1], vertebrae[1:], strict=True):
        row = LEVELS.index(upper.name)
        if wear.sclerosis[row] > 0.12:
            x = rng.uniform(-0.25, 0.25) * upper.width
            for vertebra, sign in ((upper, -1.0), (lower, 1.0)):
                reach = rng.uniform(0.25, 0.45) * vertebra.width
                places.append(vertebra.place(x, rng.uniform(-0.2, 0.1) * vertebra.depth, sign * 0.4 * vertebra.height))
                radii.append([reach, 0.4 * vertebra.depth, rng.uniform(1.5, 4.0) * (0.5 + wear.sclerosis[row])])
            if wear.narrowing[row] > 0.35 and rng.random() < 0.4:
                gas.append((upper.place(0, 0, -0.5 * upper.height) + lower.place(0, 0, 0.5 * lower.height)) / 2)
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
        parts.append(Part(make_lumps(radii, places, rng, roughness=0.12, segments=12, tumbled=False), "bone", 0.3 * density))
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
        parts.append(Part(make_lumps(np.tile([13.0, 9.0, 1.1], (len(gas), 1)), gas, rng, segments=12, tumbled=False), "soft", -0.9))
    return parts
