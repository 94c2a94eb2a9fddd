"""What lies behind the body of a vertebra: pedicles, joints, laminae and processes, level by level, at the table's size.

Behind the body the walls are too thin to draw one by one: solid, with a mean density. Only the pedicles have a wall.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edgekit.phantom.body.spine import TABLE
from edgekit.phantom.geometry.mesh import Mesh, loft, make_ellipsoid, make_outline, make_tube, merge, stack_rings, turn
from edgekit.phantom.geometry.solids import mirror

_STILL = np.eye(3)


def _both(mesh: Mesh) -> list[Mesh]:
    return [mesh, mirror(mesh)]


def _tube(points: list[list[float]], radii: list[float], flatten: float = 1.0, segments: int = 7) -> Mesh:
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
def build_arch(name: str) -> dict[str, Mesh]:
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
        "pedicle": _both(make_tube(np.array(path), r, 10, tall)),
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
    _, depth, _, _, pedicle, wide, process, spinous, _ = TABLE[name]
    b, p = depth / 2, pedicle
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
