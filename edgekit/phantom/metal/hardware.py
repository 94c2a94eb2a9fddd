"""Metal that is no screw construct: what a detector of constructs must not take for one.

`KINDS` names every kind; a kind that makes no sense in a region returns nothing. The construct's box covers screws, rods, crosslinks and
small posterior plates, so nothing made here belongs to it, whether a construct is on the film or not. Sizes are those of common
implants, in mm (ASTM F2077 for cages, F2346 for disc prostheses, F2033 and F2068 for hips, F1264 for nails).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.geometry.mesh import loft, make_box, make_ellipsoid, make_outline, merge, stack_rings, turn
from edgekit.phantom.geometry.wires import make_disc, make_ring, make_strip, make_wire, smooth
from edgekit.phantom.materials import Part
from edgekit.phantom.metal import devices, limbs, plates, worn
from edgekit.phantom.metal.cages import CAGES
from edgekit.phantom.metal.placing import find_disc, find_level, find_skin, list_levels, pick_run, scatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgekit.phantom.body.anatomy import Anatomy

_STILL = np.eye(3)
_FLAT = turn(0, 90)
_LIMITED = ("cage", "kyphoplasty", "vertebroplasty", "wires")


def make_hardware(rng: np.random.Generator, anatomy: Anatomy, kinds: Sequence[str], *, levels: Sequence[str] | None = None) -> list[Part]:
    """Return the metal of these kinds, one after the other.

    Parameters
    ----------
    kinds
        Names in `KINDS`.
    levels
        Neighbouring vertebrae that cages, cement and wires keep to, as beside a construct; None is all of the region.

    Returns
    -------
    list of Part
        Empty where no kind makes sense in the anatomy's region.

    Raises
    ------
    InputError
        When a kind is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"unknown hardware {kind!r}", f"Use some of: {', '.join(KINDS)}.")
    limited = anatomy if levels is None else replace(anatomy, vertebrae={name: anatomy.vertebrae[name] for name in levels})
    return [part for kind in kinds for part in KINDS[kind](rng, limited if kind in _LIMITED else anatomy)]


def make_cages(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return interbody cages in one to three discs: frames or bananas of titanium, cylinders, or PEEK with markers."""
    run = pick_run(rng, anatomy, 2, 4, ("C2",) if anatomy.region == "cervical" else ())
    cervical = anatomy.region == "cervical"
    style = str(rng.choice(["frame", "peek"] if cervical else ["frame", "peek", "peek", "banana", "bullets", "cylinders"]))
    parts = []
    for upper, lower in pairwise(run):
        centre, axes, gap = find_disc(upper, lower)
        width = 0.62 * lower.width if cervical or style == "frame" else rng.uniform(24, 34)
        depth, height = 0.65 * lower.depth * rng.uniform(0.8, 1.1), float(np.clip(gap * rng.uniform(0.9, 1.05), 4.5, 14))
        shift = np.array([rng.normal(0, 1.5), rng.normal(-1, 2), 0.0])
        made = CAGES[style](width, depth, height, rng)
        parts += [Part(part.mesh.moved(axes, centre + axes @ shift), part.material, part.weight) for part in made]
    return parts


def make_disc_prosthesis(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return one or two disc prostheses: end plates with keels or spikes, a core of polymer or a metal dome."""
    if anatomy.region == "thoracic":
        return []
    run = pick_run(rng, anatomy, 2, 3, ("C2", "T1", "T12", "L1", "L2"))
    metal, keel, domed = str(rng.choice(["cobalt-chrome", "titanium"])), rng.random() < 0.6, rng.random() < 0.4
    parts = []
    for upper, lower in pairwise(run):
        centre, axes, gap = find_disc(upper, lower)
        size = lower.width * 0.68
        height, thick = max(gap, 0.3 * size), 0.06 * size + 0.6
        outline = make_outline(size / 2, 0.4 * size, 2.8, 24)
        meshes = []
        for side in (-1.0, 1.0):
            frame = axes @ turn(0, rng.normal(0, 3))
            place = centre + axes @ [0, 0, side * (height - thick) / 2]
            meshes.append(
                loft(stack_rings(np.array([0.92 * outline, outline]), np.array([1.0, -1.0]) * side * thick / 2)).moved(frame, place)
            )
            fin = make_box((0.05 * size + 0.4, 0.5 * size, 0.2 * size)) if keel else make_ellipsoid((1.0, 1.0, 0.1 * size), 8)
            spots = [[0, 0]] if keel else [[-0.3 * size, 0.2 * size], [0.3 * size, 0.2 * size], [0, -0.3 * size]]
            meshes += [fin.moved(frame, place + frame @ [*spot, side * (thick / 2 + 0.1 * size)]) for spot in spots]
        core = make_ellipsoid((0.3 * size, 0.3 * size, (height - 2 * thick) / 2 + 0.3), 16).moved(axes, centre)
        parts += [Part(merge(meshes), metal), Part(core, metal if domed else "peek", 0.8)]
    return parts


def make_wires(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return wires: round the sternum on a thoracic film, else under laminae or round spinous processes."""
    gauge = rng.uniform(0.35, 0.6)
    angle = np.linspace(0, 2 * np.pi, 21)
    twist = np.column_stack([0.7 * np.cos(6 * angle), 0.5 * np.sin(6 * angle), np.linspace(0, -7, 21)])
    meshes = []
    if anatomy.region == "thoracic" and rng.random() < 0.75:
        for number in range(int(rng.integers(4, 8))):
            place = find_skin(anatomy, [find_level(anatomy, "T4").centre + np.array([rng.normal(0, 2), -90, -24.0 * number])], back=False)[
                0
            ] + np.array(
                [
                    0,
                    20,
                    0,
                ]
            )
            wide = rng.uniform(9, 15) * (1 if number else 1.4)
            loop = np.column_stack([wide * np.cos(angle), 9 * np.sin(angle), rng.normal(0, 2) * np.cos(angle)])
            meshes += [
                make_wire(place + loop, gauge, 6),
                make_wire(place + np.array([rng.normal(0, 3), -9, 0]) + twist @ turn(1, rng.uniform(0, 180)).T, gauge, 6),
            ]
        return [Part(merge(meshes), "steel")]
    both = rng.random() < 0.5
    run = pick_run(rng, anatomy, 2, 5, ("S1",))
    if not run:
        return []
    for level in run:
        behind, tall = level.depth / 2 + (13 if level.name[0] == "C" else 19), 0.45 * level.height + 3
        for x in (-0.6, 0.6) if both else (0.0,):
            loop = np.column_stack([0 * angle + x * level.pedicle, 7 * np.sin(angle), tall * np.cos(angle)])
            spot = level.place(0, behind + (0 if both else 12), -3)
            meshes.append(make_wire(spot + loop @ (level.axes @ turn(2, rng.normal(0, 15))).T, gauge, 6))
            meshes.append(
                make_wire(spot + (twist @ turn(0, rng.uniform(0, 90)).T + np.array([x * level.pedicle, 7, 0])) @ level.axes.T, gauge, 6)
            )
    return [Part(merge(meshes), str(rng.choice(["steel", "titanium"])))]


def make_cement(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return cement in one to three bodies: two lumps that may meet, finger-like edges, at times a leak into the disc or a vein."""
    levels, parts = [level for level in list_levels(anatomy) if level.name not in ("C2", "S1")], []
    for number in rng.permutation(len(levels))[: int(rng.integers(1, 4))]:
        level = levels[number]
        meshes = []
        for side in rng.choice([-1.0, 1.0], int(rng.integers(1, 3)), replace=False):
            centre = np.array(
                [side * level.width * rng.uniform(0.08, 0.24), rng.normal(-0.05, 0.06) * level.depth, rng.normal(0, 0.08) * level.height]
            )
            for _ in range(int(rng.integers(3, 7))):
                radii = rng.uniform(0.09, 0.23, 3) * [level.width, level.depth, 1.1 * level.height]
                meshes.append(
                    make_ellipsoid(radii, 12).moved(
                        level.axes @ turn(2, rng.uniform(0, 180)), level.place(*(centre + rng.normal(0, 0.1, 3) * level.height))
                    )
                )
        if rng.random() < 0.3:
            start = level.place(0, -level.depth / 2, 0)
            meshes.append(
                make_wire(
                    smooth([level.centre, start, start + np.array([rng.normal(0, 6), -5, rng.uniform(-14, 14)])], 10),
                    rng.uniform(0.6, 1.6),
                    6,
                )
            )
        parts.append(Part(merge(meshes), "contrast", rng.uniform(0.7, 1.1)))
    return parts


def make_diffuse_cement(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return cement injected without a balloon, in one to five bodies: a cloud of grains, at times a thread in the needle's way."""
    levels, parts = [level for level in list_levels(anatomy) if level.name not in ("C2", "S1")], []
    if not levels:
        return []
    first = int(rng.integers(len(levels)))
    for level in levels[first : first + int(rng.integers(1, 6))]:
        half = np.array([level.width, level.depth, level.height]) / 2
        middle = [float(rng.choice([-0.4, 0.0, 0.4])), -0.1, 0.0]
        spots = np.clip(rng.normal(middle, [0.35, 0.33, 0.4], (int(rng.integers(30, 70)), 3)), -0.78, 0.78) * half
        grain = make_ellipsoid(rng.uniform(1.0, 2.2, 3), 6)
        meshes = [scatter(grain, level.axes, level.centre + spots @ level.axes.T)]
        if rng.random() < 0.3:
            way = level.pedicle * float(rng.choice([-1.0, 1.0]))
            path = [
                level.place(way * 0.4, 0, 0),
                level.place(way, half[1] + 4, 0.2 * level.height),
                level.place(1.2 * way, half[1] + 28, 0.3 * level.height),
            ]
            meshes.append(make_wire(np.array(path), rng.uniform(0.8, 1.5), 6))
        parts.append(Part(merge(meshes), "contrast", rng.uniform(0.7, 1.3)))
    return parts


def make_mobile_prosthesis(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return one or two disc prostheses of another build: domed end plates with teeth along their rims, and a ring of wire in the core."""
    if anatomy.region == "thoracic":
        return []
    parts, count = [], int(rng.integers(8, 14))
    for upper, lower in pairwise(pick_run(rng, anatomy, 2, 3, ("C2", "T1", "T12", "L1", "L2"))):
        centre, axes, gap = find_disc(upper, lower)
        size = 0.72 * lower.width
        height, thick = max(gap, 0.26 * size), 0.05 * size + 0.4
        outline, angle = make_outline(size / 2, 0.42 * size, 2.2, 24), np.arange(count) * 2 * np.pi / count
        meshes = []
        for side in (-1.0, 1.0):
            frame, place = axes @ turn(0, rng.normal(0, 3)), centre + axes @ [0, 0, side * (height - thick) / 2]
            dome = np.array([0.6 * outline, 0.95 * outline, outline, outline])
            meshes.append(loft(stack_rings(dome, np.array([0.11 * size, 0.07 * size, 0.0, -thick]) * side)).moved(frame, place))
            teeth = np.column_stack([0.44 * size * np.cos(angle), 0.37 * size * np.sin(angle), np.full(count, side * 0.09 * size)])
            meshes.append(scatter(make_disc(0.05 * size, 0.1 * size, 6), frame, place + teeth @ frame.T))
        parts.append(Part(merge(meshes), "cobalt-chrome"))
        parts.append(Part(make_ring(0.36 * size, 0.6, 20).moved(axes, centre), "titanium"))
    return parts


def make_interspinous(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a spacer between spinous processes: H-shaped of metal, of PEEK with markers, or a U-shaped spring."""
    if anatomy.region != "lumbar":
        return []
    parts = []
    run = pick_run(rng, anatomy, 2, 3, ("T12", "L1", "S1"))
    style = str(rng.choice(["wings", "peek", "spring"]))
    for upper, lower in pairwise(run):
        middle, axes, gap = find_disc(upper, lower)
        place = middle + axes @ [0, lower.depth / 2 + 34, -0.35 * lower.height]
        if style == "spring":
            leaf = np.array([[0, 12, 6.0], [0, 0, 6.5], [0, -8, 4], [0, -10, 0], [0, -8, -4], [0, 0, -6.5], [0, 12, -6]])
            meshes = [make_strip(smooth(leaf, 20), np.array([1.0, 0, 0]), 9.0, 1.6)]
            meshes += [make_box((1.4, 12.0, 11.0)).moved(_STILL, np.array([x, 5.0, z])) for x in (-4.5, 4.5) for z in (-11.0, 11.0)]
            parts.append(Part(merge(meshes).moved(axes, place), "titanium"))
            continue
        height = gap + 3
        wing = make_box((2.0, 13.0, 2.2 * height)) if style == "wings" else make_box((0.8, 0.8, 1.6 * height))
        core = make_disc(height / 2, 8.0, 16).moved(turn(1, 90), np.zeros(3))
        both = merge([wing.moved(turn(0, rng.normal(0, 6)), np.array([x, 0, 0])) for x in (-5.2, 5.2)])
        parts.append(Part(both.moved(axes, place), "titanium"))
        parts.append(Part(core.moved(axes, place), "titanium" if style == "wings" else "peek", 0.9))
    return parts


KINDS: dict[str, Callable[[np.random.Generator, Anatomy], list[Part]]] = {
    "cage": make_cages,
    "anterior-plate": plates.make_anterior_plate,
    "disc-prosthesis": make_disc_prosthesis,
    "hip-prosthesis": limbs.make_hip_prosthesis,
    "femoral-nail": limbs.make_femoral_nail,
    "iliosacral-screws": limbs.make_iliosacral_screws,
    "bone-plate": limbs.make_bone_plate,
    "wires": make_wires,
    "kyphoplasty": make_cement,
    "interspinous": make_interspinous,
    "clips": devices.make_clips,
    "staples": devices.make_staples,
    "ecg": devices.make_ecg,
    "contrast": devices.make_contrast,
    "drain": devices.make_drain,
    "tube": devices.make_tubes,
    "spinal-stimulator": devices.make_stimulator,
    "pacemaker": devices.make_pacemaker,
    "port": devices.make_port,
    "ivc-filter": devices.make_filter,
    "aorta-stent": devices.make_stent,
    "dental": devices.make_dental,
    "jewellery": worn.make_jewellery,
    "gown-snaps": worn.make_snaps,
    "coins": worn.make_coins,
    "brace": worn.make_brace,
    "needle": worn.make_instrument,
    "ball": worn.make_ball,
    "windowed-plate": plates.make_windowed_plate,
    "sliding-plate": plates.make_sliding_plate,
    "zero-profile": plates.make_zero_profile,
    "laminoplasty": plates.make_laminoplasty,
    "laminar-spacers": plates.make_laminar_spacers,
    "mesh-cage": plates.make_mesh_cage,
    "expandable-cage": plates.make_expandable_cage,
    "mobile-prosthesis": make_mobile_prosthesis,
    "vertebroplasty": make_diffuse_cement,
    "buckles": worn.make_buckles,
    "ratchets": worn.make_ratchets,
}
"""Every kind of metal and contrast; a maker returns nothing where its kind makes no sense in the region."""


SPINAL = (
    "cage",
    "anterior-plate",
    "disc-prosthesis",
    "kyphoplasty",
    "interspinous",
    "windowed-plate",
    "sliding-plate",
    "zero-profile",
    "laminoplasty",
    "laminar-spacers",
    "mesh-cage",
    "expandable-cage",
    "mobile-prosthesis",
    "vertebroplasty",
)
"""Kinds that are fixed to vertebrae: what a construct is most easily taken for."""


def list_kinds(region: str) -> tuple[str, ...]:
    """Return the kinds that make sense in a region."""
    absent = {
        "cervical": {
            "hip-prosthesis",
            "femoral-nail",
            "iliosacral-screws",
            "interspinous",
            "spinal-stimulator",
            "ivc-filter",
            "aorta-stent",
            "coins",
            "ratchets",
        },
        "thoracic": {
            "disc-prosthesis",
            "hip-prosthesis",
            "femoral-nail",
            "iliosacral-screws",
            "interspinous",
            "ivc-filter",
            "dental",
            "laminoplasty",
            "laminar-spacers",
            "mobile-prosthesis",
        },
        "lumbar": {"bone-plate", "pacemaker", "port", "dental", "laminoplasty", "laminar-spacers"},
    }[region]
    return tuple(kind for kind in KINDS if kind not in absent)
