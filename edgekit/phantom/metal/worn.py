"""Metal that is on the film without being in the patient: jewellery, clothing, pockets, a brace, instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, make_box, make_ellipsoid, merge, revolve, turn
from edgekit.phantom.geometry.wires import make_disc, make_ring, make_strip, make_wire, smooth
from edgekit.phantom.materials import Part
from edgekit.phantom.metal.placing import TO_BACK, align, find_level, find_skin, list_levels, scatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.anatomy import Anatomy

_STILL = np.eye(3)


def make_jewellery(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return one or two pieces of jewellery or clothing that belong to the region."""
    pieces = {
        "cervical": (_make_necklace, _make_necklace, _make_earrings),
        "thoracic": (_make_necklace, _make_bra, _make_bra, _make_zip),
        "lumbar": (_make_navel_ring, _make_buckle, _make_button, _make_zip, _make_bra),
    }[anatomy.region]
    return [part for number in rng.permutation(len(pieces))[: int(rng.integers(1, 3))] for part in pieces[number](rng, anatomy)]


def _on_front(anatomy: Anatomy, name: str, x: float, z: float = 0.0) -> NDArray[np.float64]:
    """Return float64 (3,): the front's skin `x` mm left of and `z` mm above a vertebra's centre."""
    point: NDArray[np.float64] = find_skin(anatomy, [find_level(anatomy, name).centre + np.array([x, -95, z])], back=False)[0]
    return point


def _on_back(anatomy: Anatomy, name: str, x: float, z: float = 0.0) -> NDArray[np.float64]:
    point: NDArray[np.float64] = find_skin(anatomy, [find_level(anatomy, name).centre + np.array([x, 65, z])], back=True)[0]
    return point


def _make_necklace(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    nape, front = _on_back(anatomy, "C6", 0), _on_front(anatomy, "T3", rng.normal(0, 8), rng.uniform(-30, 25))
    half = rng.uniform(55, 75)
    side = find_level(anatomy, "C7").centre + np.array([[half, 10.0, 0], [-half, 10.0, 0]])
    path = smooth([nape, side[0], front, side[1], nape], 140)
    if rng.random() < 0.5:
        links = make_ellipsoid(np.array([0.8, 0.8, 1.6]) * rng.uniform(0.6, 2.2), 6)
        chain = scatter(links, np.array([align(step) for step in np.gradient(path, axis=0)]), path)
    else:
        chain = make_wire(path, rng.uniform(0.35, 0.9), 6)
    pendant = make_disc(rng.uniform(4, 11), 1.5, 12).moved(TO_BACK, front - [0, 1, 8])
    return [Part(merge([chain, pendant]) if rng.random() < 0.7 else chain, "steel", rng.uniform(0.8, 1.5))]


def _make_earrings(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    centre = find_level(anatomy, "C1").centre
    spots = centre + np.array([[76.0, -8, 18], [-76.0, -8, 18]]) + rng.normal(0, 3, (2, 3))
    if rng.random() < 0.5:
        return [Part(scatter(make_ring(rng.uniform(5, 20), 0.8), turn(1, 90), spots), "steel")]
    return [Part(scatter(make_ellipsoid((2.0, 2.0, 2.0), 8), _STILL, spots), "steel", 1.4)]


def _make_bra(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    level, rows, columns = str(rng.choice(["T7", "T8", "T9"])), int(rng.integers(2, 4)), int(rng.integers(1, 4))
    spots = _on_back(anatomy, level, rng.normal(0, 6)) + np.array(
        [[9.0 * column, 0, 9.0 * row] for row in range(rows) for column in range(columns)]
    )
    hook = make_wire(np.array([[-2.2, 0, 0], [2.2, 0, 0], [3.4, 0, 1.2], [2.2, 0, 2.4], [-2.2, 0, 2.4]]), 0.45, 6)
    metal = [scatter(hook, _STILL, spots)]
    if rng.random() < 0.6:
        for side in (-1, 1):
            angle = np.linspace(np.pi, 2 * np.pi, 20)
            arc = _on_front(anatomy, level, side * 85) + np.column_stack([62 * np.cos(angle), 0 * angle, 58 * np.sin(angle) + 25])
            metal.append(make_wire(find_skin(anatomy, arc, back=False), rng.uniform(0.5, 0.9), 6))
    for side in (-1, 1):
        ring = make_ring(rng.uniform(5, 7), 0.8, 16)
        metal.append(ring.moved(TO_BACK, _on_back(anatomy, "T4", side * rng.uniform(70, 90))))
    return [Part(merge(metal), "steel")]


def _make_navel_ring(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    place = _on_front(anatomy, "L4", rng.normal(0, 5)) + np.array([0, 2, 0])
    radius = rng.uniform(4, 7)
    axes = turn(1, 90 + rng.normal(0, 20)) @ turn(2, rng.uniform(0, 360))
    balls = [
        make_ellipsoid((s, s, s), 10).moved(_STILL, place + axes @ [radius * c, radius * d, 0]) for s, c, d in ((2.5, 1, 0), (3.5, 0, 1))
    ]
    return [Part(merge([make_ring(radius, 0.8).moved(axes, place), *balls]), "steel")]


def _make_buckle(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    place = _on_front(anatomy, "L5", rng.normal(0, 8), rng.uniform(-50, -5))
    wide, high, bar = rng.uniform(20, 32), rng.uniform(15, 22), rng.uniform(1.2, 2.5)
    frame = np.array([[-wide, 0, -high], [-wide, 0, high], [wide, 0, high], [wide, 0, -high], [-wide, 0, -high], [-wide, 0, high]])
    tongue = np.array([[-wide, -1, 0], [wide, -1, 0]])
    return [
        Part(scatter(merge([make_wire(frame, bar, 8), make_wire(tongue, bar, 8)]), _STILL, place[None]), "steel", rng.uniform(0.5, 1.0))
    ]


def _make_button(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    count = int(rng.integers(1, 6))
    spots = np.array([_on_front(anatomy, "L5", rng.normal(0, 4), -22.0 * number) for number in range(count)])
    return [Part(scatter(make_disc(rng.uniform(5, 9), rng.uniform(1, 3)), TO_BACK, spots), "steel", 0.7)]


def _make_zip(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a zip of metal teeth, in front (or on the back of a dress)."""
    back = anatomy.region == "thoracic" and rng.random() < 0.5
    pitch = rng.uniform(1.8, 3.2)
    z = np.arange(0, -rng.uniform(90, 180), -pitch)
    start = find_level(anatomy, "L5" if anatomy.region == "lumbar" else "T3").centre
    points = start + np.column_stack(
        [1.2 * (-1.0) ** np.arange(len(z)) + 0.06 * rng.normal() * z, np.full(len(z), 70.0 if back else -95.0), z]
    )
    teeth = scatter(make_box((3.0, 1.6, 0.55 * pitch)), _STILL, find_skin(anatomy, points, back=back))
    return [Part(teeth, "steel", rng.uniform(0.6, 1.1))]


def make_snaps(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return the snap fasteners of a hospital gown: small rings, on the shoulders or down the back."""
    count, levels = int(rng.integers(1, 7)), list_levels(anatomy)
    spots = []
    for _ in range(count):
        level = levels[int(rng.integers(len(levels)))].name
        place = _on_back if rng.random() < 0.6 else _on_front
        spots.append(place(anatomy, level, rng.uniform(-90, 90), rng.uniform(-15, 15)))
    snap = merge([make_ring(rng.uniform(3.5, 5.5), 0.9, 16), make_disc(1.6, 1.5, 10)])
    return [Part(scatter(snap, TO_BACK, np.array(spots)), "steel", 0.9)]


def make_coins(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return coins or keys of a pocket: trousers on a lumbar film, a breast pocket on a thoracic one."""
    if anatomy.region == "cervical":
        return []
    side = rng.choice([-1.0, 1.0])
    name, x, z = ("S1", side * rng.uniform(85, 130), rng.uniform(-80, 0)) if anatomy.region == "lumbar" else ("T6", side * 75, 0.0)
    place = _on_front(anatomy, name, x, z)
    if rng.random() < 0.6:
        places = place + rng.normal(0, 9, (int(rng.integers(1, 6)), 3)) * [1, 0.15, 1]
        return [
            Part(merge([make_disc(rng.uniform(8, 13), 2.0, 24).moved(TO_BACK @ turn(0, rng.normal(0, 25)), p) for p in places]), "steel")
        ]
    meshes = [make_ring(12, 0.9).moved(TO_BACK, place)]
    for _ in range(int(rng.integers(1, 4))):
        axes = turn(1, rng.uniform(0, 360))
        bow, blade = make_disc(11, 2.0, 16).moved(axes @ TO_BACK, place + axes @ [0, 0, -18]), make_box((7.0, 2.0, 30.0))
        teeth = [make_box((2.5, 2.0, 3.0)).moved(axes, place + axes @ [4.5, 0, -34.0 - 6 * number]) for number in range(4)]
        meshes += [bow, blade.moved(axes, place + axes @ [0, 0, -43]), *teeth]
    return [Part(merge(meshes), "steel", 0.9)]


def make_brace(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return the stays of a brace: two or more thin bars with rivets along the back (or front), as long as a rod and as straight."""
    levels = list_levels(anatomy)
    back, half = rng.random() < 0.8, rng.uniform(22, 70)
    wide, thick, metal = rng.uniform(6, 16), rng.uniform(0.8, 1.8), str(rng.choice(["titanium", "steel"]))
    z = np.linspace(levels[0].centre[2], levels[-1].centre[2], 12) + rng.normal(0, 15)
    bars: list[Mesh] = []
    for side in (-1, 1):
        points = np.column_stack([np.full(12, side * half), np.full(12, 70.0 if back else -95.0), z])
        path = find_skin(anatomy, points, back=back) + np.array([0, 6 if back else -6, 0])
        path[:, 1] = np.polynomial.Polynomial.fit(z, path[:, 1], 3)(z)
        bars.append(make_strip(path, np.array([1.0, 0, 0]), wide, thick))
        bars.append(scatter(make_disc(rng.uniform(2.5, 4.5), 3.0, 12), TO_BACK, path[[0, 1, -2, -1]]))
    return [Part(merge(bars), metal, rng.uniform(0.35, 0.9))]


def make_buckles(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return the buckles of a brace's or corset's straps: frames with a bar and rivets, two to five below each other."""
    levels = list_levels(anatomy)
    back, x, count = rng.random() < 0.4, float(rng.choice([-1.0, 1.0])) * rng.uniform(0, 60), int(rng.integers(2, 6))
    wide, high, gauge = rng.uniform(9, 20), rng.uniform(6, 14), rng.uniform(1.0, 1.8)
    corners = np.array([[-wide, 0, -high], [-wide, 0, high], [wide, 0, high], [wide, 0, -high], [-wide, 0, -high], [-wide, 0, high]])
    frame = merge([make_wire(corners, gauge, 8), make_wire(np.array([[0.2 * wide, 0, -high], [0.2 * wide, 0, high]]), gauge, 8)])
    rivets = make_disc(rng.uniform(2.0, 3.5), 2.5, 12).moved(TO_BACK, np.array([-wide - 9.0, 0, 0]))
    top, bottom = levels[0].centre[2], levels[-1].centre[2]
    points = np.array([[x + rng.normal(0, 3), 70.0 if back else -95.0, z] for z in np.linspace(top, bottom, count) + rng.normal(0, 12)])
    return [
        Part(
            scatter(merge([frame, rivets]), turn(1, rng.normal(0, 6)), find_skin(anatomy, points, back=back)),
            "steel",
            rng.uniform(0.5, 1.0),
        )
    ]


def make_ratchets(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return the clasps of a rigid brace: slotted straps of sheet metal across the front or the flank, each with a lever."""
    if anatomy.region == "cervical":
        return []
    levels = list_levels(anatomy)
    side, count = float(rng.choice([-1.0, 1.0])), int(rng.integers(2, 5))
    heights = np.linspace(levels[1].centre[2], levels[-1].centre[2], count) + rng.normal(0, 10)
    metal = []
    for z in heights:
        x = side * np.linspace(10, rng.uniform(50, 80), 10)
        path = find_skin(anatomy, np.column_stack([x, np.full(10, -95.0), np.full(10, z)]), back=False) - [0, 5, 0]
        path[:, 1] = np.polynomial.Polynomial.fit(x, path[:, 1], 2)(x)
        up = np.array([0.0, 0, 1])
        metal += [make_strip(path + lift * up, up, 4.0, 1.2) for lift in (-4.5, 4.5)]
        metal += [make_strip(np.array([spot - 6.5 * up, spot + 6.5 * up]), np.array([1.0, 0, 0]), 2.5, 1.2) for spot in path[::2]]
        metal.append(make_box((14.0, 4.0, 18.0)).moved(turn(1, rng.normal(0, 8)), path[-1] - [0, 2, 0]))
    return [Part(merge(metal), "steel", rng.uniform(0.5, 0.9))]


def make_instrument(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return what a theatre film shows: a wire, a needle with its handle, a probe, a clamp, or the blades of a retractor."""
    levels = list_levels(anatomy)
    target = levels[int(rng.integers(len(levels)))]
    side = rng.choice([-1.0, 1.0])
    tip = target.place(side * target.pedicle * rng.uniform(0.4, 1.3), target.depth * rng.uniform(-0.2, 0.6), rng.normal(0, 4))
    if rng.random() < 0.25:
        tip = target.centre + rng.normal(0, 25, 3) * [1, 0, 1] - [0, 60, 0]  # something laid on the patient to mark a level
        axis = rng.normal(0, 1, 3) * [1, 0.15, 1]
    else:
        axis = np.array([side * rng.uniform(0, 0.5), 1.0, rng.normal(0, 0.35)])
    axes = align(axis)
    length, kind = rng.uniform(90, 230), str(rng.choice(["wire", "needle", "probe", "clamp", "retractor"]))
    line = np.array([[0, 0, 0], [0, 0, 6], [0, 0, length]])
    if kind == "wire":
        meshes = [make_wire(line, np.array([0.1, 1.0, 1.0]) * rng.uniform(0.5, 1.3), 10)]
    elif kind == "needle":
        meshes = [make_wire(line, np.array([0.2, 1.0, 1.0]) * rng.uniform(0.8, 2.2), 10)]
        meshes.append(make_box((55.0, 12.0, 14.0)).moved(_STILL, np.array([0, 0, length + 8.0])))
    elif kind == "probe":
        path = np.array([[0, 0, 0], [0, 0, 40], [0, 0, 0.6 * length], [0, 0, 0.62 * length], [0, 0, length]])
        meshes = [make_wire(path, np.array([0.8, 1.6, 2.5, 5.0, 5.0]), 12)]
    elif kind == "clamp":
        meshes = []
        for leg in (-1.0, 1.0):
            path = np.array([[0.8 * leg, 0, 0], [1.5 * leg, 0, 35], [2.5 * leg, 0, 45], [9 * leg, 0, length - 25]])
            meshes.append(make_wire(path, np.array([1.0, 2.0, 2.8, 2.0]), 8))
            meshes.append(make_ring(11, 1.8).moved(turn(0, 90), np.array([14 * leg, 0, length - 14])))
    else:
        blade = make_box((rng.uniform(12, 25), 2.0, rng.uniform(45, 75)))
        gap = rng.uniform(16, 30)
        meshes = [blade.moved(_STILL, np.array([0, leg * gap, 40.0])) for leg in (-1, 1)]
        meshes += [make_box((10.0, 70.0, 6.0)).moved(_STILL, np.array([14.0, leg * (gap + 35), 75.0])) for leg in (-1, 1)]
    mesh = merge(meshes).moved(axes, tip)
    return [Part(mesh, "steel", 0.35 if kind == "retractor" else 1.0)]


def make_ball(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a steel ball of 25 mm beside the patient: the calibration of preoperative planning."""
    levels = list_levels(anatomy)
    place = _on_front(anatomy, levels[-1].name, rng.uniform(-90, 90), rng.uniform(-40, 40)) - [0, 14, 0]
    post = revolve(np.array([2.0, 2.0]), np.array([0.0, 30.0]), 8).moved(_STILL, place + np.array([0, 0, 12.0]))
    return [Part(make_ellipsoid((12.5, 12.5, 12.5), 24).moved(_STILL, place), "steel"), Part(post, "peek")]
