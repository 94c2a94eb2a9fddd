"""Screws, hooks, rods, connectors and crosslinks of one design, placed on a spine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.geometry.mesh import Mesh, turn
from edgekit.phantom.materials import Part
from edgekit.phantom.metal.crosslinks import make_crosslink
from edgekit.phantom.metal.rods import RodCurve, make_domino, make_rod, make_sleeve, trace_rod
from edgekit.phantom.metal.screws import make_hook, make_screw, make_tulip
from edgekit.phantom.metal.trajectories import Anchor, Manner, draw_manner, plan_hook, plan_iliac, plan_screw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra
    from edgekit.phantom.metal.implants import ImplantDesign

Pattern = Literal["bilateral", "skipped", "left", "right"]
"""Which screws there are: all, some levels without, or one side alone."""

MOST_LEVELS = 12
_SIDES: dict[str, tuple[float, ...]] = {"left": (1.0,), "right": (-1.0,)}
_SHORTEST_JOINED_MM = 130.0
"""Constructs shorter than this have one rod a side."""
_BEND_MM = 10.0
"""Over which a rod swings beside another."""
_LEAST_DROP_MM = 6.0
"""From a head down to the next: where two would be level the rod would have to run across the spine."""


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One side of a construct: what stands in the bone, and the rod."""

    side: float
    anchors: list[Anchor]
    curve: RodCurve
    high: float
    low: float


def make_construct(
    design: ImplantDesign,
    vertebrae: Sequence[Vertebra],
    rng: np.random.Generator,
    *,
    crosslinks: int,
    screws: str = "bilateral",
    midline: float = 0.04,
) -> list[Part]:
    """Return the parts of a construct.

    Parameters
    ----------
    design
        The screw system.
    vertebrae
        The 1 to 12 neighbouring vertebrae that it spans, from the top down. Their names say what is done: pedicle screws, lateral-mass
        screws from C3 to C6, and at S1, sometimes, long screws into the ilium.
    crosslinks
        Bridges between the rods, at most one for each pair of neighbouring vertebrae.
    screws
        A `Pattern`: ``bilateral``, ``skipped`` (some levels between the ends lack one or both), ``left`` or ``right`` of the patient.
    midline
        Share of the surgeons who place lumbar screws from the midline.

    Returns
    -------
    list of Part
        First each side's rod and its connectors, screws and tulips, then the crosslinks; all closed, of metal.

    Raises
    ------
    InputError
        When this cannot be built; the message names what.
    """
    _check(design, vertebrae, crosslinks, screws)
    manner = draw_manner(rng, midline)
    has_iliac = vertebrae[-1].name == "S1" and rng.random() < (0.5 if len(vertebrae) >= 6 else 0.06) and len(vertebrae) > 1
    used = _choose_screws(len(vertebrae), screws, rng)
    is_long = float(np.linalg.norm(vertebrae[0].centre - vertebrae[-1].centre)) > _SHORTEST_JOINED_MM
    join = str(rng.choice(["none", "sleeve", "domino"], p=[0.86, 0.06, 0.08])) if is_long else "none"
    parts: list[Part] = []
    sides = []
    for row, side in enumerate(_SIDES.get(screws, (-1.0, 1.0))):
        planned = _plan_side(design, [v for v, use in zip(vertebrae, used[row], strict=True) if use], side, manner, has_iliac, rng)
        sides.append(planned)
        parts += _make_rods(design, planned, join, rng)
        parts += _make_anchors(design, planned, rng)
    if crosslinks:
        parts += _make_crosslinks(design, vertebrae, sides, crosslinks, rng)
    return parts


def _check(design: ImplantDesign, vertebrae: Sequence[Vertebra], crosslinks: int, screws: str) -> None:
    if not 1 <= len(vertebrae) <= MOST_LEVELS:
        raise InputError(f"a construct on {len(vertebrae)} vertebrae was asked for", f"Give 1 to {MOST_LEVELS} neighbouring vertebrae.")
    if screws not in get_args(Pattern):
        raise InputError(f"screws is {screws!r}", f"Use one of {', '.join(get_args(Pattern))}.")
    if crosslinks and design.crosslink is None:
        raise InputError(f"{design.name} has no crosslink", "Ask for crosslinks=0.")
    if crosslinks and screws in _SIDES:
        raise InputError(f"crosslinks is {crosslinks} on a construct of one side", "Ask for crosslinks=0, or for screws='bilateral'.")
    if not 0 <= crosslinks <= max(0, len(vertebrae) - 1):
        expected = f"0 to {len(vertebrae) - 1}"
        raise InputError(f"crosslinks is {crosslinks} on {len(vertebrae)} vertebrae, expected {expected}", "Ask for fewer crosslinks.")
    if any(upper.centre[2] <= lower.centre[2] for upper, lower in pairwise(vertebrae)):
        raise InputError("the vertebrae do not run from the top down", "Give neighbouring vertebrae from the head to the feet.")


def _choose_screws(count: int, screws: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return bool (2, count): which vertebrae get a screw on the right and on the left."""
    used = np.ones((2, count), dtype=bool)
    if screws != "skipped" or count < 3:
        return used
    inner = used[:, 1:-1]
    inner[:] = rng.random(inner.shape) > 0.3
    inner[:, rng.random(count - 2) < 0.15] = False
    if inner.all():
        inner[int(rng.integers(2)), int(rng.integers(count - 2))] = False
    if count > 3 and rng.random() < 0.15:  # one rod ends a level earlier
        used[int(rng.integers(2)), -1 if rng.random() < 0.5 else 0] = False
    return used


def _plan_side(
    design: ImplantDesign, vertebrae: Sequence[Vertebra], side: float, manner: Manner, has_iliac: bool, rng: np.random.Generator
) -> _Side:
    anchors = []
    for place, vertebra in enumerate(vertebrae):
        is_hook = design.hooks and vertebra.name[0] == "T" and len(vertebrae) > 3 and rng.random() < (0.6 if place == 0 else 0.2)
        anchors.append((plan_hook if is_hook else plan_screw)(vertebra, side, design, manner, rng))
    if has_iliac:
        anchors.append(plan_iliac(vertebrae[-1], side, design, rng))
    for place in range(1, len(anchors)):
        level = max(0.0, _LEAST_DROP_MM - (anchors[place - 1].head[2] - anchors[place].head[2]))
        if level:
            anchors[place] = replace(anchors[place], head=anchors[place].head - np.array([0.0, 0.0, level]))
    heads = np.array([anchor.head for anchor in anchors])
    curve = RodCurve(heads, vertebrae[0].axes[:, 2])
    size = min(1.0, design.rod_diameter / 5.5)
    above, below = rng.uniform(2.0, 9.0, 2)
    # Some rods are left long: at the upper end up to a level further.
    above += rng.uniform(8, 25) if rng.random() < 0.1 else 0.0
    below += rng.uniform(8, 20) if rng.random() < 0.05 and not has_iliac else 0.0
    above, below = (size * overhang + design.tulip.length / 2 for overhang in (above, below))
    return _Side(side, anchors, curve, float(heads[:, 2].max() + above), float(heads[:, 2].min() - below))


def _frame(planned: _Side, z: float) -> NDArray[np.float64]:
    """Return the rod's axes at height `z`; columns: outwards to the left, to the back, along the rod to the head."""
    along = planned.curve.find_direction(z)
    back = np.array([0.0, 1.0, 0.0]) - along * along[1]
    back /= np.linalg.norm(back)
    return np.column_stack([np.cross(back, along), back, along])


def _make_rods(design: ImplantDesign, planned: _Side, join: str, rng: np.random.Generator) -> list[Part]:
    """Return the rod, or two rods and what joins them between two screws."""
    curve, diameter = planned.curve, design.rod_diameter
    heads = np.array([anchor.head[2] for anchor in planned.anchors])
    # What is free between two tulips must hold a sleeve, or a block and the bend of the rod that comes from beside.
    bare = heads[:-1] - heads[1:] - design.tulip.length
    roomy = np.flatnonzero(bare > {"sleeve": 14.0, "domino": 23.0}.get(join, np.inf))
    if not len(roomy):
        return [Part(make_rod(trace_rod(curve, planned.high, planned.low), diameter, has_nose=design.rod_bullet), design.rod_material)]
    place = int(rng.choice(roomy))
    middle, half = float(heads[place] + heads[place + 1]) / 2, float(bare[place]) / 2
    if join == "sleeve":
        paths = [trace_rod(curve, planned.high, middle + 0.5), trace_rod(curve, middle - 0.5, planned.low)]
        frame, centre = _frame(planned, middle), curve(np.array([middle]))[0]
        joint = make_sleeve(diameter, min(24.0, 2 * half - 2)).moved(frame, centre)
    else:
        # The lower rod ends under the bend of the upper one, which runs on beside it as far as the next tulip lets it.
        top, end = middle + half - _BEND_MM - 1.0, middle - half + 2.0
        frame = _frame(planned, (top + end) / 2)
        apart = float(planned.side * (diameter + 1.5) * rng.choice([-1.0, 1.0]))
        paths = [trace_rod(curve, planned.high, end), trace_rod(curve, top, planned.low)]
        bend = np.clip((top + _BEND_MM - paths[0][:, 2]) / _BEND_MM, 0, 1)
        paths[0] = paths[0] + (bend * bend * (3 - 2 * bend))[:, None] * (apart * frame[:, 0])
        joint = make_domino(diameter, abs(apart)).moved(frame * [np.sign(apart), 1, 1], curve(np.array([(top + end) / 2]))[0])
    rods = [make_rod(path, diameter, has_nose=design.rod_bullet and not row) for row, path in enumerate(paths)]
    return [*(Part(rod, design.rod_material) for rod in rods), Part(joint, design.screw_material)]


def _make_anchors(design: ImplantDesign, planned: _Side, rng: np.random.Generator) -> list[Part]:
    """Return screws (or hooks) and their tulips, each pulled to the rod where it passes."""
    parts = []
    follow = 1.0 if design.monoaxial else rng.uniform(0.35, 1.0)
    for anchor in planned.anchors:
        seat = planned.curve(anchor.head[2:])[0]
        along = planned.curve.find_direction(float(seat[2]))
        axis = (seat - anchor.tip) / np.linalg.norm(seat - anchor.tip)
        if anchor.bend:
            axis = anchor.back
        up = follow * axis + (1 - follow) * anchor.back
        up = up - along * (up @ along)
        up /= np.linalg.norm(up)
        across = np.cross(along, up)
        # A head is never quite square on its rod.
        lean = 0.0 if design.monoaxial else np.deg2rad(rng.normal(0, 5))
        up, across = np.cos(lean) * up + np.sin(lean) * across, np.cos(lean) * across - np.sin(lean) * up
        axes = np.column_stack([across, along, up])
        if anchor.bend:
            parts.append(Part(make_hook(design).moved(axes * [anchor.bend, anchor.bend, 1], seat), design.screw_material))
        else:
            parts.append(Part(_place_screw(design, anchor, seat, up, rng), design.screw_material))
        parts.append(Part(make_tulip(design).moved(axes, seat), design.screw_material))
    return parts


def _place_screw(
    design: ImplantDesign, anchor: Anchor, seat: NDArray[np.float64], up: NDArray[np.float64], rng: np.random.Generator
) -> Mesh:
    ball = seat - up * (design.rod_diameter / 2 + design.ball_below_rod)
    axis = ball - anchor.tip
    axis /= np.linalg.norm(axis)
    side = np.cross(np.array([0.0, 0.0, 1.0]), axis)
    side /= np.linalg.norm(side)
    # The screw's turn about its own axis is random: nobody stops a screw at a chosen thread phase.
    frame = np.column_stack([side, np.cross(axis, side), axis]) @ turn(2, rng.uniform(0, 360))
    return make_screw(design, anchor.diameter, anchor.length).moved(frame, ball)


def _make_crosslinks(
    design: ImplantDesign, vertebrae: Sequence[Vertebra], sides: Sequence[_Side], count: int, rng: np.random.Generator
) -> list[Part]:
    """Return `count` bridges, each between two neighbouring levels, spread over the construct."""
    levels = _level_heights(vertebrae, sides)
    gaps = len(levels) - 1
    wanted = (np.arange(count) + 0.5) / count * gaps
    first = np.clip(np.round(wanted - 0.5 + rng.uniform(-0.3, 0.3, count)).astype(int), 0, gaps - 1)
    for place in range(1, count):
        first[place] = max(first[place], first[place - 1] + 1)
    first -= np.maximum(0, first - (gaps - count + np.arange(count)))
    parts = []
    for gap in first:
        share = rng.uniform(0.42, 0.58) + rng.normal(0, 0.02, 2)
        heights = levels[gap] + share * (levels[gap + 1] - levels[gap])
        start, end = (planned.curve(heights[row : row + 1])[0] for row, planned in enumerate(sides))
        along = sides[0].curve.find_direction(float(heights[0])) + sides[1].curve.find_direction(float(heights[1]))
        parts.append(make_crosslink(design, start, end, along))
    return parts


def _level_heights(vertebrae: Sequence[Vertebra], sides: Sequence[_Side]) -> NDArray[np.float64]:
    """Return float64 (n, 2): the heights at which each level's heads are, or would be, on the right and on the left rod."""
    back = np.array([vertebra.place(0, vertebra.depth / 2 + 24, 0.15 * vertebra.height)[2] for vertebra in vertebrae])
    heights = np.column_stack([back, back])
    for row, planned in enumerate(sides):
        for anchor in planned.anchors:
            nearest = int(np.argmin(np.abs(back - anchor.head[2])))
            if abs(back[nearest] - anchor.head[2]) < 12:
                heights[nearest, row] = anchor.head[2]
        heights[:, row] = np.clip(heights[:, row], planned.low + 4, planned.high - 4)
    return heights
