"""Bones of the trunk beside the spine: ribs, sternum, shoulder girdle, sacrum, pelvis and upper femora.

Lengths in mm. Each is given relative to a vertebra: the thorax to its own, the shoulders to T2, the pelvis to S1.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_ellipsoid, make_outline, make_tube, merge, turn
from edgekit.phantom.geometry.solids import make_lumps, make_plate, mirror, sweep_all
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra

_STILL = np.eye(3)
# For ribs 1 to 12: half-width of the chest, half-depth, drop from the spine to the rib's front end, angle covered (radians; pi is the
# front). Chest of 260 to 270 by 190 mm (Bellemare et al., Am J Respir Crit Care Med 2003;168:305).
_RIBS = np.array(
    [
        (52, 40, 32, 2.65), (82, 56, 50, 2.6), (102, 70, 66, 2.55), (114, 80, 80, 2.5), (122, 86, 92, 2.45), (128, 90, 102, 2.4),
        (131, 92, 110, 2.32), (132, 92, 112, 2.2), (130, 90, 108, 2.1), (125, 86, 98, 2.0), (118, 82, 70, 1.5), (104, 78, 44, 1.0),
    ]
)  # fmt: skip
_POINTS = 15


def make_chest(vertebrae: Sequence[Vertebra], density: float, breadth: float, calcified: float, rng: np.random.Generator) -> list[Part]:
    """Return the ribs of the thoracic `vertebrae`.

    Parameters
    ----------
    breadth
        Width of the chest relative to the table.
    calcified
        0 to 1: how much of the costal cartilage is calcified.
    """
    thoracic = [vertebra for vertebra in vertebrae if vertebra.name[0] == "T"]
    if not thoracic:
        return []
    number = np.array([int(vertebra.name[1:]) - 1 for vertebra in thoracic])
    wide, deep, drop, span = (_RIBS[number].T * np.array([[breadth], [breadth], [rng.uniform(0.8, 1.15)], [1.0]]))[..., None]
    step = np.linspace(0, 1, _POINTS)
    start = np.arcsin(15 / wide)
    paths, tips = [], []
    wave = rng.normal(0, 1, (2, len(thoracic), 3))
    for number_side, side in enumerate((-1.0, 1.0)):
        angle = start + step * (span * (1 + 0.03 * wave[number_side, :, :1]) - start)
        x = wide * np.sin(angle)
        y = -30 * breadth + deep * np.cos(angle) - (deep - 30 * breadth - 9) * np.clip(1 - step / 0.3, 0, 1) ** 1.5
        z = 3 - drop * (0.35 * step + 0.65 * step**1.8) + 2.0 * wave[number_side, :, 1:2] * np.sin(np.pi * step)
        local = np.stack([side * x, y, z], axis=2)
        # The chest turns with its vertebra, but does not lean with it.
        spin = np.array([turn(2, float(np.rad2deg(np.arctan2(v.axes[1, 0], v.axes[0, 0])))) for v in thoracic])
        placed = local @ np.swapaxes(spin, 1, 2) + np.array([v.centre for v in thoracic])[:, None]
        paths.append(placed)
        tips.append(placed[:, -1] - placed[:, -3])
    path = np.concatenate(paths)
    thick = np.interp(step, [0, 0.06, 0.2, 0.6, 0.95, 1], [2.6, 3.4, 3.3, 2.9, 3.3, 2.2]) * rng.uniform(0.9, 1.12)
    parts = [
        Part(sweep_all(path, thick, 7, 1.95), "bone", 0.6 * density),
        Part(sweep_all(path, thick - 0.95, 6, 2.3), "bone", -0.36 * density),
    ]
    if calcified > 0.15:
        true_ribs = np.flatnonzero(np.tile(number, 2) < 10)
        which = rng.choice(true_ribs, min(len(true_ribs) * 3, round(36 * calcified))) if len(true_ribs) else true_ribs
        along = np.concatenate(tips)[which]
        inward = -np.sign(path[which, -1, :1]) * [[1.0, 0.0, 0.0]]
        share = rng.uniform(0.2, 3.5, (len(which), 1))
        spots = path[which, -1] + along * share + inward * 7 * share + rng.normal(0, 2.5, (len(which), 3))
        radii = rng.uniform(1.0, 3.2, (len(which), 3)) * [2.0, 1.0, 1.2]
        parts.append(Part(make_lumps(radii, spots, rng, roughness=0.2, segments=8), "bone", 0.4))
    return parts


def make_sternum(t3: Vertebra, t9: Vertebra, density: float, breadth: float) -> list[Part]:
    """Return manubrium and body, in front of T3 to T9."""
    outline = np.array([[26, 8], [30, -6], [20, -38], [14, -46], [18, -90], [19, -130], [10, -150], [4, -168]], dtype=np.float64)
    outline = np.concatenate([outline, outline[::-1] * [-1, 1]]) * [breadth, 1]
    front = -30 * breadth - 78 * breadth
    length = (t3.centre[2] - t9.centre[2]) / 160
    place = np.array([(t3.centre[0] + t9.centre[0]) / 2, t9.centre[1] + front, t3.centre[2] - 4])
    axes = turn(0, 90) @ np.diag([1.0, length, 1.0])
    tilt = turn(0, -12)
    # The plate lies in x and y: stand it up, then lean its lower end forward.
    meshes = [make_plate(outline * scale, thick).moved(tilt @ axes, place) for scale, thick in ((1.0, 11.0), (0.93, 9.0))]
    return [Part(meshes[0], "bone", 0.34 * density), Part(meshes[1], "bone", -0.2 * density)]


def make_shoulders(t2: Vertebra, density: float, breadth: float, arms: tuple[str, str], rng: np.random.Generator) -> list[Part]:
    """Return clavicles, scapulae and humeri; the left and the right of the `arms` hang ``down`` or are ``raised``."""
    lift, spread = rng.normal(0, 8), breadth * rng.uniform(0.95, 1.06)
    grow = np.diag([spread, 1.0, 1.0])
    # The spine's kyphosis carries T2 forward; the shoulders stand beside it.
    place = t2.centre * [0.8, 1, 1] + np.array([0, 0, lift])
    left, right = (_make_shoulder(arm) for arm in arms)
    return [
        Part(merge([one, mirror(other)]).moved(grow, place), "bone", weight * density)
        for one, other, weight in zip(left, right, (0.5, -0.34, 0.55), strict=True)
    ]


@cache
def _make_shoulder(arm: str) -> tuple[Mesh, Mesh, Mesh]:
    """Return the left shoulder: walls, what they hold, and plates."""
    shell, core, plates = [], [], []
    clavicle = np.array([[13, -72, -10], [40, -80, -2], [80, -62, 8], [112, -34, 17], [146, -10, 22]], dtype=np.float64)
    spine_of_scapula = np.array([[72, 62, -28], [96, 66, -14], [126, 60, 4], [150, 32, 22], [158, 12, 24]], dtype=np.float64)
    coracoid = np.array([[134, 12, 4], [130, -4, 12], [122, -22, 8]], dtype=np.float64)
    head = np.array([164.0, 4.0, -12.0])
    neck = np.array([6, 0, -8] if arm == "down" else [2, -8, 6])
    reach = np.array([[8, 2, -40], [10, 2, -120], [12, 4, -290]] if arm == "down" else [[18, -14, 24], [60, -46, 76], [112, -84, 150]])
    humerus = np.concatenate([head + neck[None], head + reach])
    scapula = make_plate(_scapula_outline(), 3.6, 1.9, 5)
    vertices = scapula.vertices
    thick = 1 + 2.6 * np.exp(-(((vertices[:, 0] - 138) / 14) ** 2) - ((vertices[:, 1]) / 22) ** 2)
    bent = np.stack([vertices[:, 0], 60 - 0.72 * (vertices[:, 0] - 75) + vertices[:, 2] * thick, vertices[:, 1]], axis=1)
    plates.append(_face_outwards(Mesh(bent, scapula.triangles)))
    for points, radii in ((clavicle, [6.5, 5.0, 4.6, 5.0, 6.0]), (spine_of_scapula, [2.2, 3.2, 4.0, 5.0, 5.0]), (coracoid, [6, 5, 4.5])):
        path, width = _smooth(points, radii)
        shell.append(make_tube(path, width, 10, 1.2))
        core.append(make_tube(path, width - 1.3, 10, 1.25))
    path, width = _smooth(humerus, [20, 13.5, 11, 11] if arm == "down" else [20, 14, 11, 11])
    shell += [make_tube(path, width, 12), make_ellipsoid((23, 23, 23), 16).moved(_STILL, head)]
    core += [
        make_tube(path, width - np.interp(width, [11, 20], [5.0, 1.6]), 12),
        make_ellipsoid((21.6, 21.6, 21.6), 16).moved(_STILL, head),
    ]
    return merge(shell), merge(core), merge(plates)


@cache
def _scapula_outline() -> NDArray[np.float64]:
    return _close(
        [
            (76, 10),
            (100, 14),
            (126, 10),
            (142, 12),
            (146, -6),
            (138, -22),
            (118, -70),
            (98, -122),
            (88, -130),
            (76, -110),
            (68, -60),
            (69, -22),
        ],
        30,
    )


def _close(points: Sequence[tuple[float, float]], count: int) -> NDArray[np.float64]:
    """Return float64 (count, 2): a smooth closed line through `points`."""
    from scipy.interpolate import CubicSpline

    nodes = np.array([*points, points[0]], dtype=np.float64)
    length = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(nodes, axis=0) ** 2).sum(axis=1)))])
    line: NDArray[np.float64] = CubicSpline(length, nodes, bc_type="periodic")(np.linspace(0, length[-1], count, endpoint=False))
    return line


def _smooth(points: NDArray[np.float64], radii: Sequence[float], fine: int = 4) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a path through `points` with `fine` steps between two of them, and its radii, rounded at the ends."""
    from scipy.interpolate import PchipInterpolator

    length = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1)))])
    at = np.linspace(0, length[-1], fine * (len(points) - 1) + 1)
    width = PchipInterpolator(length, np.array(radii, dtype=np.float64))(at)
    width[[0, -1]] *= 0.55
    return PchipInterpolator(length, points)(at), width


# --- Pelvis ---------------------------------------------------------------------------------------------------------------------------


def make_pelvis(s1: Vertebra, density: float, size: float, rng: np.random.Generator) -> list[Part]:
    """Return sacrum, hip bones and upper femora; the hips are 90 mm beside, 35 mm before and 100 mm below S1 at size 1."""
    parts = [Part(mesh.moved(s1.axes, s1.centre), "bone", weight * density) for mesh, weight in _make_sacrum(s1, rng)]
    grow = np.diag([size * rng.uniform(0.96, 1.06), size, size * rng.uniform(0.95, 1.08)])
    level = s1.centre + np.array([0, 0, rng.normal(0, 6)])
    tilt = turn(1, rng.normal(0, 1.2)) @ turn(0, rng.normal(0, 5))
    for half, weight in ((_build_wing(), 0.46), (_build_ring_shell(), 0.46), (_build_ring_core(), -0.26), (_build_dense(), 0.3)):
        both = merge([half, mirror(half)])
        parts.append(Part(both.moved(tilt @ grow, level), "bone", weight * density))
    spots = rng.uniform(-1, 1, (30, 3)) * [62, 18, 38]
    places = level + np.stack(
        [spots[:, 0] + np.sign(spots[:, 0]) * 34, -5 - 0.6 * np.abs(spots[:, 0]) + spots[:, 1], 8 + spots[:, 2]], axis=1
    )
    parts.append(Part(make_lumps(rng.uniform(2.5, 8, (30, 3)), places, rng, roughness=0.2, segments=6), "bone", 0.06 * density))
    return parts


def _make_sacrum(s1: Vertebra, rng: np.random.Generator) -> list[tuple[Mesh, float]]:
    """Return the sacrum's meshes with their weights in the axes of S1."""
    outline = make_outline(1.0, 1.0, 2.4, 24)
    step = np.linspace(0, 1, 18)
    half = s1.width / 2
    wide = np.interp(step, [0, 0.03, 0.1, 0.2, 0.45, 0.62, 0.8, 0.93, 1.0], [0.8, 1.0, 1.4, 1.85, 1.8, 1.35, 1.05, 0.75, 0.3]) * half
    deep = np.interp(step, [0, 0.03, 0.2, 0.5, 0.8, 1.0], [12, 16.5, 17, 13, 8, 4]) * s1.depth / 33
    curve = rng.uniform(34, 56)
    bend = 2 + 30 * step + curve * step * (1 - step) ** 0.8
    z = s1.height / 2 - 104 * step * s1.height / 26
    meshes = []
    phase = rng.uniform(0, 2 * np.pi, 3)
    for inset, weight in ((0.0, 0.3), (0.9, -0.07), (3.5, -0.06)):
        rings = np.concatenate(
            [
                outline * np.stack([np.maximum(wide - inset, 0.5), np.maximum(deep - inset, 0.5)], axis=1)[:, None]
                + np.stack([0 * bend, bend], axis=1)[:, None],
                np.broadcast_to((z - inset * np.interp(step, [0, 0.04, 0.96, 1], [1, 0, 0, -1]))[:, None, None], (18, 24, 1)),
            ],
            axis=2,
        )
        # The wings hang: lateral masses are lower than the promontory, and lie behind it.
        rings[..., 2] -= 13 * np.clip(np.abs(rings[..., 0]) / half - 0.6, 0, 1.3) ** 1.7
        beside = np.clip(np.abs(rings[..., 0]) / half - 0.35, 0, 1.6)
        rings[..., 1] += 9 * beside - 0.3 * beside * (rings[..., 1] - bend[:, None])
        rings += 0.7 * np.sin(rings @ np.array([[0.21, 0.13, 0.17], [0.11, 0.19, 0.23], [0.17, 0.29, 0.12]]) + phase)
        meshes.append((loft(rings), weight))
    holes, rims = [], []
    for row in range(4):
        for side in (-1.0, 1.0):
            place = np.array([side * (21 - 2.2 * row), 16 + 8 * row - 1.2 * row**2, -13 - 20 * row]) * [half / 25, 1, s1.height / 26]
            holes.append(make_ellipsoid((5.6 - 0.7 * row, 9.0, 5.2 - 0.6 * row), 10).moved(turn(2, -side * 18), place))
            arc = np.linspace(0.2, np.pi - 0.2, 7)
            rims.append(np.stack([place[0] + 6.8 * np.cos(arc), place[1] - 6 + 0 * arc, place[2] + 6.4 * np.sin(arc)], axis=1))
    discs = [
        make_ellipsoid((half * (0.75 - 0.1 * row), 10 - 1.5 * row, 2.2 - 0.35 * row), 14).moved(
            turn(0, -14 - 10 * row), np.array([0, 2 + 11 * (row + 1) - 1.6 * (row + 1) ** 2, s1.height / 2 - 27 - 21 * row])
        )
        for row in range(3)
    ]
    meshes += [(merge(holes), -0.17), (sweep_all(np.array(rims), 1.1, 6), 0.3), (merge(discs), -rng.uniform(0.02, 0.13))]
    crest = np.array([[0, 24, -2], [0, 40, -14], [0, 54, -38], [0, 58, -62], [0, 50, -80]], dtype=np.float64)
    bumps = np.array([[0, 40, -12], [0, 54, -34], [0, 60, -56]], dtype=np.float64)
    path, width = _smooth(crest, [3.0, 3.5, 4.0, 3.4, 2.5])
    meshes.append((sweep_all(path[None], width, 8), 0.08))
    meshes.append((make_lumps(np.tile([3.5, 5.0, 6.5], (3, 1)), bumps, rng, segments=8, tumbled=False), 0.09))
    joints = make_lumps(np.array([[5.5, 5, 8], [5.5, 5, 8]]), np.array([[-17.0, 30, 12], [17, 30, 12]]), rng, segments=12, tumbled=False)
    tail = np.array([[0, 40, -92], [0, 32, -101], [0, 22, -108]], dtype=np.float64) * [1, 1, s1.height / 26]
    coccyx = make_lumps(np.array([[8, 4, 5], [6, 3.5, 5], [4, 3, 4]]), tail, rng, segments=10, tumbled=False)
    return [*meshes, (joints, 0.3), (coccyx, 0.3)]


@cache
def _build_wing() -> Mesh:
    """Return the left iliac wing relative to S1: thin in the middle, thick at its crest, its sacral joint and above the hip."""
    front = [(0, 48), (-28, 46), (-56, 30), (-78, 2), (-84, -14), (-76, -34), (-72, -56), (-64, -84)]
    back = [(-36, -96), (-10, -82), (6, -58), (28, -44), (42, -26), (46, -6), (42, 18), (24, 38)]
    outline = _close([*front, *back], 36)
    plate = make_plate(outline, 4.4, 2.0, 6)
    y, z, t = plate.vertices.T
    thick = 1 + 3.4 * np.exp(-(((y + 38) / 26) ** 2) - ((z + 84) / 30) ** 2) + 2.4 * np.exp(-(((y - 30) / 20) ** 2) - ((z + 16) / 26) ** 2)
    bulge = 30 * np.clip(1 - ((y + 18) / 66) ** 2, 0, 1) * np.clip((z + 100) / 145, 0, 1.1) ** 1.4
    x = 41 - 0.66 * (y - 45) + bulge - 8 * np.clip((z + 100) / 145, 0, 1) * np.clip((y - 10) / 30, 0, 1)
    mesh = Mesh(np.stack([x + 0.83 * t * thick, y + 0.55 * t * thick, z], axis=1), plate.triangles)
    return _face_outwards(mesh)


def _face_outwards(mesh: Mesh) -> Mesh:
    return mesh if mesh.volume() > 0 else Mesh(mesh.vertices, mesh.triangles[:, ::-1])


_HIP = np.array([90.0, -35.0, -100.0])
_RING: tuple[tuple[list[list[float]], list[float]], ...] = (
    # Superior ramus, inferior ramus, ischium; femoral neck, shaft, greater and lesser trochanter.
    ([[80, -48, -98], [56, -68, -104], [30, -80, -112], [10, -84, -122]], [13, 8, 8, 10]),
    ([[10, -82, -122], [14, -76, -146], [32, -58, -158], [54, -32, -164]], [9, 7, 6.5, 9]),
    ([[84, -22, -96], [78, -10, -118], [70, -6, -140], [58, -20, -160]], [17, 13, 14, 12]),
    ([[92, -35, -101], [112, -34, -115], [128, -31, -124], [140, -28, -134]], [18, 15, 17, 17]),
    ([[141, -28, -118], [143, -28, -160], [141, -30, -240], [136, -32, -380]], [17, 15.5, 14, 14]),
    ([[146, -22, -138], [150, -20, -116], [147, -20, -98]], [14, 12, 8]),
    ([[130, -16, -172], [122, -12, -166]], [9, 6]),
)


@cache
def _build_ring_shell() -> Mesh:
    tubes = [make_tube(*_smooth(np.array(points, dtype=np.float64), radii, 3), 10) for points, radii in _RING]
    return merge([*tubes, make_ellipsoid((24, 24, 24), 14).moved(_STILL, _HIP)])


@cache
def _build_ring_core() -> Mesh:
    tubes = []
    for number, (points, radii) in enumerate(_RING):
        path, width = _smooth(np.array(points, dtype=np.float64), radii, 3)
        # The shaft's cortex is thick: 6 mm below the trochanters.
        wall = np.interp(path[:, 2], [-230, -150], [6.0, 1.6]) if number == 4 else np.full(len(path), 1.3)
        tubes.append(make_tube(path, np.maximum(width - wall, 1.0), 10))
    return merge([*tubes, make_ellipsoid((22.8, 22.8, 22.8), 14).moved(_STILL, _HIP)])


@cache
def _build_dense() -> Mesh:
    """Return where trabeculae crowd: the roof of the hip, the sacroiliac joint's edge, the pelvic brim."""
    roof = make_ellipsoid((17, 12, 5), 14).moved(turn(1, 22), np.array([86.0, -36, -71]))
    brim, width = _smooth(np.array([[47, 22, -34], [62, 0, -66], [66, -32, -86], [54, -62, -98]], dtype=np.float64), [3, 4, 4, 3])
    return merge([roof, make_tube(brim, width, 10)])
