"""Crosslinks: what bridges the two rods of a construct, one shape for each style.

Own axes: x from rod to rod, y to the back, z along the rods; the origin lies midway between the rods' centres.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, make_box, make_tube, merge, revolve
from edgekit.phantom.materials import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgekit.phantom.metal.implants import ImplantDesign

_STILL = np.eye(3)
_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Turns what stands along z to the back."""


def make_crosslink(design: ImplantDesign, start: NDArray[np.float64], end: NDArray[np.float64], along: NDArray[np.float64]) -> Part:
    """Return the bridge between two rods in the style of the design.

    Parameters
    ----------
    start, end
        float64 (3,), mm: points on the right and on the left rod.
    along
        float64 (3,): the rods' direction, towards the head.
    """
    span = float(np.linalg.norm(end - start))
    across = (end - start) / span
    up = along - across * (along @ across)
    up /= np.linalg.norm(up)
    # A size scales everything but the distance of the rods.
    size = design.crosslink_size
    mesh = _STYLES[str(design.crosslink)](span / size, design.rod_diameter / 2 / size)
    return Part(mesh.moved(size * np.column_stack([across, np.cross(up, across), up]), (start + end) / 2), design.screw_material)


def _line(points: list[list[float]]) -> NDArray[np.float64]:
    return np.array(points, dtype=np.float64)


def _shift(mesh: Mesh, x: float, y: float, z: float = 0.0) -> Mesh:
    return mesh.moved(_STILL, np.array([x, y, z]))


def _clamps(span: float, rod: float, width: float, length: float) -> list[Mesh]:
    """Return two jaws that hold the rods from behind: a roof with a set screw, an inner and an outer lip, the rod's own room left free."""
    roof, lip = make_box((width, 3.5, length)), make_box(((width - 2 * rod) / 2 + 0.3, 2 * rod, length))
    plug = revolve(np.array([2.6, 2.6, 1.2, 1.2]), np.array([0.0, 2.4, 2.4, 0.8]), 12).moved(_UPRIGHT, np.zeros(3))
    pieces = []
    for side in (-1.0, 1.0):
        x = side * span / 2
        pieces += [_shift(roof, x, rod + 2.0), _shift(plug, x, rod + 3.75)]
        pieces += [_shift(lip, x + lean * (rod + (width - 2 * rod) / 4 + 0.3), 0.3 * rod) for lean in (-1.0, 1.0)]
    return pieces


def _nuts(span: float, rod: float, radius: float, height: float) -> list[Mesh]:
    """Return two nuts that sit on the rods, with a socket each."""
    profile = revolve(np.array([radius, radius, 0.4 * radius, 0.4 * radius]), np.array([0.0, height, height, 0.5 * height]), 6)
    nut = profile.moved(_UPRIGHT, np.zeros(3))
    return [_shift(nut, side * span / 2, rod + 0.3) for side in (-1.0, 1.0)]


def _make_bar(span: float, rod: float) -> Mesh:
    return merge([_shift(make_box((span - 9, 3.0, 6.0)), 0, rod + 2.5), *_clamps(span, rod, 9.5, 10.0)])


def _make_round_rod(span: float, rod: float) -> Mesh:
    y = rod + 5.0
    return merge([make_tube(_line([[-span / 2 - 6, y, 0], [0, y, 0], [span / 2 + 6, y, 0]]), 1.75, 12), *_nuts(span, rod, 4.5, 9.0)])


def _make_arch(span: float, rod: float) -> Mesh:
    x = np.linspace(-1, 1, 15) * (span / 2 - 3.2) / (span / 2)
    path = np.column_stack([x * span / 2, rod + 2.5 + 8 * (1 - x**2), 9 * (1 - x**2)])
    return merge([make_tube(path, 2.4, 12), *_clamps(span, rod, 8.5, 8.0)])


def _make_plate(span: float, rod: float) -> Mesh:
    rails = [_shift(make_box((span - 9, 2.2, 4.0)), 0, rod + 2.5, z) for z in (-5.0, 5.0)]
    return merge([*rails, *_clamps(span, rod, 9.0, 14.0)])


def _make_hinge(span: float, rod: float) -> Mesh:
    y, end = rod + 2.5, span / 2 - 4.0
    boss = revolve(np.array([6.0, 6.0, 2.2, 2.2]), np.array([-3.5, 3.5, 3.5, 0.5]), 20).moved(_UPRIGHT, np.array([0.0, y + 1.0, 0.0]))
    arms = [make_tube(_line([[side * end, y, 3], [side * (end + 6) / 2, y, 1.5], [side * 6.0, y, 0]]), 2.2, 12) for side in (-1.0, 1.0)]
    return merge([boss, *arms, *_clamps(span, rod, 8.5, 8.0)])


def _make_cross(span: float, rod: float) -> Mesh:
    meshes = []
    for tilt in (-1.0, 1.0):
        y = rod + 3.0 + 1.2 * tilt
        meshes.append(make_tube(_line([[-span / 2, y, -8 * tilt], [0, y + 1.0, 0], [span / 2, y, 8 * tilt]]), 1.9, 12))
        meshes += [_shift(mesh, 0, 0, 8 * tilt) for mesh in _nuts(span, rod, 3.6, 6.5)]
    return merge(meshes)


_STYLES: dict[str, Callable[[float, float], Mesh]] = {
    "bar": _make_bar,
    "rod": _make_round_rod,
    "arch": _make_arch,
    "plate": _make_plate,
    "hinge": _make_hinge,
    "cross": _make_cross,
}
"""Shapes from the distance of the rods' centres and the rods' radius, mm."""
