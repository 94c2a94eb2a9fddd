"""Plates, spacers and cages on the front of the spine and on its laminae: with screws in vertebrae, and no construct.

Sizes are those of common implants, in mm (ASTM F1717 for plates, F2077 for cages in place of bodies).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_outline, merge, stack_rings, turn
from edgekit.phantom.geometry.wires import make_disc, make_ring, make_strip, make_wire, smooth
from edgekit.phantom.materials import Part
from edgekit.phantom.metal.cages import CAGES
from edgekit.phantom.metal.placing import align, find_disc, make_bone_screw, pick_run, scatter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgekit.phantom.body.anatomy import Anatomy, Vertebra

    _Shape = Callable[[NDArray[np.float64], NDArray[np.float64], float, float, int, np.random.Generator], list[Mesh]]
    """Takes the path, the direction across it, width, thickness and the number of levels."""

_STILL = np.eye(3)


def make_anterior_plate(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a plate in front of the bodies with two screws a level, at times with cages; below the neck on the left side as well."""
    return _make_plate(rng, anatomy, _make_waisted)


def make_windowed_plate(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a plate as `make_anterior_plate` has it, with a window over each disc: two rails and bars across."""
    return _make_plate(rng, anatomy, _make_windowed)


def make_sliding_plate(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a plate as `make_anterior_plate` has it, of a broad upper and a narrow lower piece that slides in it."""
    return _make_plate(rng, anatomy, _make_sliding)


def _make_plate(rng: np.random.Generator, anatomy: Anatomy, shape: _Shape) -> list[Part]:
    cervical = anatomy.region == "cervical"
    run = pick_run(rng, anatomy, 2, 4 if cervical else 3, ("T1", "T2", "S1") if rng.random() < 0.7 else ())
    if len(run) < 2:
        return []
    lateral = not cervical and rng.random() < 0.5
    width, thick = (rng.uniform(13, 18), rng.uniform(1.8, 2.6)) if cervical else (rng.uniform(18, 26), rng.uniform(3.0, 5.0))
    points, screws, places, axes = [], [], [], []
    diameter = 4.0 if cervical else float(rng.choice([5.5, 6.5, 7.0]))
    for number, level in enumerate(run):
        half, gap = level.depth / 2, thick / 2 + 0.8
        edge = 0.4 * level.height * (number == 0) - 0.4 * level.height * (number == len(run) - 1)
        spans = [edge, 0.0] if number == 0 else [0.0, edge] if number == len(run) - 1 else [0.0]
        out = np.array([level.width / 2 + gap, 0, 0]) if lateral else np.array([0, -half - gap, 0])
        points += [level.place(*(out + np.array([0, 0, z]))) for z in spans]
        length = float(round(0.75 * level.width if lateral else 0.72 * level.depth)) + float(rng.choice([-1.0, 0.0, 1.0]))
        tilt = 0.25 * (number == 0) - 0.25 * (number == len(run) - 1)
        for side in (-1.0, 1.0):
            spot = [0, side * 0.27 * width, 0] if lateral else [side * 0.27 * width, 0, 0]
            inward = np.array([-1.0, 0, tilt * 0.4]) if lateral else np.array([-0.12 * side, 1.0, tilt + rng.normal(0, 0.04)])
            places.append(level.place(*(out + spot + np.array([0, 0, 0.12 * level.height * np.sign(edge)]))))
            axes.append(align(level.axes @ inward))
            screws.append(make_bone_screw(diameter, length, 1.0, 1.2))
    path = smooth(points, 16)
    plate = shape(path, run[0].axes[:, 1 if lateral else 0], width, thick, len(run), rng)
    metal = [screw.moved(frame, place) for screw, frame, place in zip(screws, axes, places, strict=True)]
    parts = [Part(merge([*plate, *metal]), "titanium", 1.0)]
    if rng.random() < 0.5:
        for upper, lower in pairwise(run):
            centre, frame, gap = find_disc(upper, lower)
            made = CAGES[str(rng.choice(["frame", "peek"]))](0.6 * lower.width, 0.6 * lower.depth, float(np.clip(gap, 4.5, 12)), rng)
            parts += [Part(part.mesh.moved(frame, centre), part.material, part.weight) for part in made]
    return parts


def _make_waisted(
    path: NDArray[np.float64], across: NDArray[np.float64], width: float, thick: float, levels: int, rng: np.random.Generator
) -> list[Mesh]:
    waist = 1 - rng.uniform(0, 0.3) * np.abs(np.sin(np.linspace(0, (levels - 1) * np.pi, len(path))))
    return [make_strip(path, across, width * waist, thick)]


def _make_windowed(
    path: NDArray[np.float64], across: NDArray[np.float64], width: float, thick: float, levels: int, rng: np.random.Generator
) -> list[Mesh]:
    rail = width * rng.uniform(0.2, 0.3)
    rails = [make_strip(path + side * (width - rail) / 2 * across, across, rail, thick) for side in (-1.0, 1.0)]
    bar, last = rng.uniform(0.12, 0.2) * len(path) / levels, len(path) - 1
    bars = []
    for middle in np.linspace(bar / 2, last - bar / 2, levels):
        ends = [np.interp([middle - bar / 2, middle + bar / 2], np.arange(len(path)), path[:, axis]) for axis in range(3)]
        bars.append(make_strip(np.array(ends).T, across, width - 2 * rail, thick))
    return rails + bars


def _make_sliding(
    path: NDArray[np.float64], across: NDArray[np.float64], width: float, thick: float, levels: int, rng: np.random.Generator
) -> list[Mesh]:
    cut = int(rng.integers(6, 10))
    fork = [make_strip(path[2 : cut + 3] + side * 0.39 * width * across, across, 0.22 * width, thick) for side in (-1.0, 1.0)]
    return [*fork, make_strip(path[:3], across, width, thick), make_strip(path[cut:], across, (0.52 + 0.01 * levels) * width, thick)]


def make_zero_profile(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return cages in one to three discs, each with two to four screws of its own through its front, up and down."""
    run = pick_run(rng, anatomy, 2, 4, ("C2",) if anatomy.region == "cervical" else ("T12",))
    style, count = str(rng.choice(["frame", "peek"])), int(rng.integers(2, 5))
    parts = []
    for upper, lower in pairwise(run):
        centre, axes, gap = find_disc(upper, lower)
        wide, depth, height = 0.6 * lower.width, 0.7 * lower.depth, float(np.clip(gap, 5.0, 14.0))
        parts += [Part(part.mesh.moved(axes, centre), part.material, part.weight) for part in CAGES[style](wide, depth, height, rng)]
        screw = make_bone_screw(3.5 if anatomy.region == "cervical" else 5.5, round(0.75 * lower.depth), 1.0, 1.3)
        edge = np.array([[-0.46 * wide, -depth / 2, 0], [0.46 * wide, -depth / 2, 0]])
        metal = [make_strip(edge, np.array([0.0, 0, 1]), height, 1.6)]
        for number in range(count):
            side, rise = (-1.0) ** number, 1.0 if number % 2 == number // 2 else -1.0
            spot = np.array([side * 0.28 * wide, -depth / 2 - 0.8, rise * 0.2 * height])
            metal.append(screw.moved(align([-0.15 * side, 1.0, rise * rng.uniform(0.6, 0.9)]), spot))
        parts.append(Part(merge(metal).moved(axes, centre), "titanium"))
    return parts


def make_laminoplasty(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return the small bent plates that keep a cervical canal open: one a level on one side, each with two to four short screws."""
    if anatomy.region != "cervical":
        return []
    side, count = float(rng.choice([-1.0, 1.0])), int(rng.integers(1, 3))
    wide, thick, screw = rng.uniform(5.0, 7.0), rng.uniform(0.8, 1.2), make_bone_screw(2.4, float(rng.integers(5, 10)), 1.0, 1.3)
    metal = []
    for level in _list_opened(rng, anatomy):
        b, p = level.depth / 2, level.pedicle
        bend = np.array([[p + 9, b + 9, 0], [p + 4, b + 13, 0], [p + 1, b + 17, 0], [0.5 * p, b + 23, -2], [0.15 * p, b + 26, -4]])
        path = level.centre + (smooth(bend, 12) * [side, 1, 1]) @ level.axes.T
        metal.append(make_strip(path, level.axes[:, 2], wide, thick))
        into = align(level.axes @ np.array([-0.5 * side, -0.8, 0]))
        metal += [screw.moved(into, spot) for spot in [*path[[1, 3]][:count], *path[[-2, -4]][:count]]]
    return [Part(merge(metal), "titanium")]


def make_laminar_spacers(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return blocks of hydroxyapatite, or of metal, in laminae that were split in the midline."""
    if anatomy.region != "cervical":
        return []
    ceramic, wide, tall = rng.random() < 0.6, rng.uniform(12, 18), rng.uniform(5, 8)
    outline = make_outline(wide / 2, 4.0, 4.0, 20)
    shape = loft(stack_rings(np.array([outline, outline]), np.array([-0.5, 0.5]) * tall))
    blocks = [shape.moved(level.axes, level.place(0, level.depth / 2 + 24, -3)) for level in _list_opened(rng, anatomy)]
    return [Part(merge(blocks), "enamel" if ceramic else "titanium", 0.9 if ceramic else 0.5)]


def _list_opened(rng: np.random.Generator, anatomy: Anatomy) -> list[Vertebra]:
    """Return two or more of C3 to C7, whose laminae were opened."""
    names = [name for name in ("C3", "C4", "C5", "C6", "C7") if name in anatomy.vertebrae]
    count = int(rng.integers(2, len(names) + 1))
    start = int(rng.integers(len(names) - count + 1))
    return [anatomy.vertebrae[name] for name in names[start : start + count]]


def make_mesh_cage(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a tube of titanium mesh in the place of one or two bodies."""
    bottom, axes, length, radius = _find_gap(rng, anatomy)
    rings = [make_ring(radius, 0.6, 20).moved(_STILL, np.array([0, 0, z])) for z in np.arange(0.0, length, rng.uniform(3.5, 5.0))]
    steps = np.linspace(0, length, 12)
    bars = []
    for turned in (-1.0, 1.0):
        for angle in np.arange(12) * np.pi / 6:
            phase = angle + turned * steps / radius / 2
            bars.append(make_wire(np.column_stack([radius * np.cos(phase), radius * np.sin(phase), steps]), 0.45, 5))
    return [Part(merge([*rings, *bars]).moved(axes, bottom), "titanium")]


def make_expandable_cage(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a cage that was spread in the place of one or two bodies: two sleeves, a ring between them, end plates with spikes."""
    bottom, axes, length, radius = _find_gap(rng, anatomy)
    share, around = rng.uniform(0.4, 0.6), np.arange(6) * np.pi / 3
    spots = np.array([[radius * np.cos(angle), radius * np.sin(angle), 0] for angle in around])
    metal = [
        make_disc(0.9 * radius, share * length, 24).moved(_STILL, np.array([0, 0, share * length / 2])),
        make_disc(0.72 * radius, (1 - share) * length, 24).moved(_STILL, np.array([0, 0, (1 + share) * length / 2])),
        make_disc(1.1 * radius, 4.0, 24).moved(_STILL, np.array([0, 0, share * length])),
    ]
    for z, outwards in ((0.0, -1.5), (length, 1.5)):
        metal.append(make_disc(1.25 * radius, 2.0, 24).moved(turn(0, rng.normal(0, 4)), np.array([0, 0, z])))
        metal.append(scatter(make_disc(0.7, 4.0, 8), _STILL, spots + np.array([0, 0, z + outwards])))
    hollow = make_disc(0.55 * radius, length, 20).moved(axes, bottom + axes @ [0, 0, length / 2])
    return [Part(merge(metal).moved(axes, bottom), "titanium", 0.8), Part(hollow, "titanium", -0.75)]


def _find_gap(rng: np.random.Generator, anatomy: Anatomy) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Return the bottom of a cage in the place of one or two bodies, its axes, its length and its radius."""
    run = pick_run(rng, anatomy, 3, 4, ("C2", "S1"))
    above, below = run[0], run[-1]
    top, bottom = above.place(0, 0, -above.height / 2), below.place(0, 0, below.height / 2)
    return bottom, align(top - bottom, below.axes[:, 0]), float(np.linalg.norm(top - bottom)), 0.3 * run[1].width * rng.uniform(0.85, 1.1)
