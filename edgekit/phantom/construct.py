"""Screws, rods and crosslink of one design, placed on a spine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.implants import BALL_BELOW_ROD_MM, ImplantDesign, make_screw, make_tulip
from edgekit.phantom.materials import Part
from edgekit.phantom.mesh import Mesh, make_box, make_tube, revolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.anatomy import Vertebra

LENGTHS_MM = (30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0)


def make_construct(design: ImplantDesign, vertebrae: list[Vertebra], has_crosslink: bool, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a bilateral construct.

    Parameters
    ----------
    design
        The screw system.
    vertebrae
        The 2 to 9 neighbouring vertebrae that are instrumented, from the top down.
    has_crosslink
        Join the rods in the middle.

    Raises
    ------
    InputError
        When there are too few or too many vertebrae, or a crosslink is asked of a design that has none.
    """
    if not 2 <= len(vertebrae) <= 9:
        raise InputError(f"a construct on {len(vertebrae)} vertebrae was asked for", "Give 2 to 9 neighbouring vertebrae.")
    if has_crosslink and design.crosslink is None:
        raise InputError(f"{design.name} has no crosslink", "Ask for has_crosslink=False.")
    parts: list[Part] = []
    bridged = []
    tulip = make_tulip(design)
    share = rng.uniform(0.42, 0.58)
    diameter = rng.choice([5.5, 6.0, 6.5, 7.0])
    lateral, convergence = rng.uniform(3, 8), rng.uniform(0.35, 0.75)
    for side in (-1.0, 1.0):
        heads = np.array([_place_head(vertebra, side, lateral, rng) for vertebra in vertebrae])
        curve = _RodCurve(heads)
        seats = curve(heads[:, 2])
        parts.append(Part(_make_rod(_make_rod_path(curve, seats, design, rng), design), design.rod_material))
        # A crosslink sits between two neighbouring screws, in the middle of the construct.
        above, below = seats[(len(seats) - 1) // 2], seats[(len(seats) - 1) // 2 + 1]
        bridged.append(curve(np.array([below[2] + share * (above[2] - below[2])]))[0])
        for vertebra, seat in zip(vertebrae, seats, strict=True):
            tangent = curve(np.array([seat[2] + 1])) - curve(np.array([seat[2] - 1]))
            target = vertebra.place(
                side * vertebra.pedicle * (convergence + rng.normal(0, 0.08)),
                -0.05 * vertebra.depth + rng.normal(0, 1),
                0.18 * vertebra.height + rng.normal(0, 2.0),
            )
            size = diameter + rng.choice([0.0, 0.0, 0.5]) + (0.5 if vertebra.name in ("L5", "S1") else 0.0)
            parts += _make_anchor(design, tulip, seat, tangent[0], target, size, vertebra.depth, rng)
    if has_crosslink:
        parts += _make_crosslink(design, *bridged)
    return parts


def _place_head(vertebra: Vertebra, side: float, lateral: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return where the rod should cross the screw: behind the joint, a little outside the pedicle."""
    return vertebra.place(
        side * (vertebra.pedicle + lateral + rng.normal(0, 1.0)),
        vertebra.depth / 2 + 27 + rng.normal(0, 1.5),
        0.22 * vertebra.height + rng.normal(0, 1.5),
    )


class _RodCurve:
    """A smooth curve over z: what a bent rod can follow."""

    def __init__(self, heads: NDArray[np.float64]) -> None:
        degree = min(len(heads) - 1, 2)
        self._middle = heads[:, 2].mean()
        self._x, self._y = (np.polynomial.Polynomial.fit(heads[:, 2] - self._middle, heads[:, axis], degree) for axis in (0, 1))

    def __call__(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 (n, 3): the points of the curve at heights `z` (n,)."""
        return np.column_stack([self._x(z - self._middle), self._y(z - self._middle), z])


def _make_rod_path(curve: _RodCurve, seats: NDArray[np.float64], design: ImplantDesign, rng: np.random.Generator) -> NDArray[np.float64]:
    above, below = rng.uniform(5, 13, 2) + design.tulip.length / 2
    count = max(8, round(np.ptp(seats[:, 2]) / 5))
    return curve(np.linspace(seats[:, 2].max() + above, seats[:, 2].min() - below, count))


def _make_rod(path: NDArray[np.float64], design: ImplantDesign) -> Mesh:
    radius = design.rod_diameter / 2
    if not design.rod_bullet:
        return make_tube(path, radius, 16)
    step = (path[0] - path[1]) / np.linalg.norm(path[0] - path[1])
    nose = np.array([6.0, 4.8, 2.8])[:, None] * step + path[0]
    return make_tube(np.concatenate([nose, path]), np.concatenate([[0.5, 0.5 * radius, 0.85 * radius], np.full(len(path), radius)]), 16)


def _make_anchor(
    design: ImplantDesign,
    tulip: Mesh,
    seat: NDArray[np.float64],
    tangent: NDArray[np.float64],
    target: NDArray[np.float64],
    diameter: float,
    body_depth: float,
    rng: np.random.Generator,
) -> list[Part]:
    """Return one screw and its tulip: the tulip is turned to the rod, the screw to its target in the body."""
    along = tangent / np.linalg.norm(tangent)
    up = seat - target
    up -= along * (up @ along)
    up /= np.linalg.norm(up)
    across = np.cross(along, up)
    ball = seat - up * (design.rod_diameter / 2 + BALL_BELOW_ROD_MM)
    axis = ball - target
    reach = float(np.linalg.norm(axis)) + body_depth * rng.uniform(0.05, 0.3)
    length = min(LENGTHS_MM, key=lambda candidate: abs(candidate - reach))
    axis /= np.linalg.norm(axis)
    # The screw's turn about its own axis is random: nobody stops a screw at a chosen thread phase.
    phase = rng.uniform(0, 2 * np.pi)
    side = across - axis * (across @ axis)
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    turned = np.column_stack([np.cos(phase) * side + np.sin(phase) * other, np.cos(phase) * other - np.sin(phase) * side, axis])
    return [
        Part(tulip.moved(np.column_stack([across, along, up]), seat), "titanium"),
        Part(make_screw(design, diameter, length).moved(turned, ball), "titanium"),
    ]


def _make_crosslink(design: ImplantDesign, start: NDArray[np.float64], end: NDArray[np.float64]) -> list[Part]:
    """Return the bridge from the rods' points `start` (right) to `end` (left), in the style of the design."""
    back = np.array([0.0, 1.0, 0.0])
    lift = design.rod_diameter / 2 + 3.0
    across = (end - start) / np.linalg.norm(end - start)
    up = back - across * (back @ across)
    up /= np.linalg.norm(up)
    axes = np.column_stack([across, up, np.cross(across, up)])
    middle = (start + end) / 2 + up * lift
    span = float(np.linalg.norm(end - start))
    meshes = _CROSSLINKS[str(design.crosslink)](span)
    return [Part(mesh.moved(axes, middle), "titanium") for mesh in meshes]


def _clamps(span: float, size: tuple[float, float, float]) -> list[Mesh]:
    return [make_box(size).moved(np.eye(3), np.array([side * span / 2, 0.0, 0.0])) for side in (-1.0, 1.0)]


def _nuts(span: float, radius: float, height: float) -> list[Mesh]:
    nut = revolve(np.array([radius, radius]), np.array([-height / 2, height / 2]), 14)
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return [nut.moved(upright, np.array([side * span / 2, 1.0, 0.0])) for side in (-1.0, 1.0)]


def _line(points: list[list[float]]) -> NDArray[np.float64]:
    return np.array(points, dtype=np.float64)


# Own axes: x from rod to rod, y to the back, z along the rods; the origin midway, above the rods.
def _make_bar(span: float) -> list[Mesh]:
    return [make_box((span - 6, 3.0, 6.0)), *_clamps(span, (9.0, 8.0, 10.0))]


def _make_round_rod(span: float) -> list[Mesh]:
    return [make_tube(_line([[-span / 2 - 5, 0, 0], [0, 0, 0], [span / 2 + 5, 0, 0]]), 1.75, 12), *_nuts(span, 4.5, 8.0)]


def _make_arch(span: float) -> list[Mesh]:
    x = np.linspace(-1, 1, 13)
    path = np.column_stack([x * span / 2, 9 * (1 - x**2), 8 * (1 - x**2)])
    return [make_tube(path, 2.4, 12), *_clamps(span, (7.0, 8.0, 7.0))]


def _make_plate(span: float) -> list[Mesh]:
    return [
        make_box((span - 8, 2.2, 4.0)).moved(np.eye(3), np.array([0.0, 0.0, 5.0])),
        make_box((span - 8, 2.2, 4.0)).moved(np.eye(3), np.array([0.0, 0.0, -5.0])),
        *_clamps(span, (8.0, 7.0, 14.0)),
    ]


def _make_hinge(span: float) -> list[Mesh]:
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    boss = revolve(np.array([6.0, 6.0]), np.array([-3.5, 3.5]), 20).moved(upright, np.zeros(3))
    left = make_tube(_line([[-span / 2, 0, 3], [-span / 4, 0, 1.5], [-5.5, 0, 0]]), 2.2, 12)
    right = make_tube(_line([[span / 2, 0, 3], [span / 4, 0, 1.5], [5.5, 0, 0]]), 2.2, 12)
    return [boss, left, right, *_clamps(span, (8.0, 8.0, 7.0))]


def _make_cross(span: float) -> list[Mesh]:
    meshes = []
    for tilt in (-1.0, 1.0):
        meshes.append(make_tube(_line([[-span / 2, 0, -8 * tilt], [0, 1.5, 0], [span / 2, 0, 8 * tilt]]), 1.9, 12))
        meshes += [mesh.moved(np.eye(3), np.array([0.0, 0.0, 8 * tilt])) for mesh in _nuts(span, 3.6, 7.0)]
    return meshes


_CROSSLINKS = {
    "bar": _make_bar,
    "rod": _make_round_rod,
    "arch": _make_arch,
    "plate": _make_plate,
    "hinge": _make_hinge,
    "cross": _make_cross,
}
