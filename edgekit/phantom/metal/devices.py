"""Metal and contrast in and on the patient that isn't fixed to bone: clips, leads, tubes, stents.

Each `make_*` function takes the generator and the anatomy, and returns nothing where the thing makes no sense. Sizes are those of common
devices in mm; alloys that `MATERIALS` lacks are written as a multiple of a near one (copper and nitinol as steel, platinum, tantalum
and amalgam as lead, by their attenuation at 60 keV).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import Mesh, loft, make_box, make_ellipsoid, make_outline, merge, revolve, stack_rings, turn
from edgekit.phantom.geometry.wires import make_disc, make_wire, smooth
from edgekit.phantom.materials import Part
from edgekit.phantom.metal.placing import (
    TO_BACK,
    align,
    draw_turns,
    find_level,
    find_skin,
    list_levels,
    scatter,
    trace_canal,
    trace_midline,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.anatomy import Anatomy


def make_clips(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return surgical clips: clusters of bent wire 4-9 mm long where operations leave them."""
    spots = {
        "cervical": [("C6", -22, -45), ("C6", 22, -45), ("C4", 40, -35), ("T1", 0, -50)],
        "thoracic": [("T6", 20, -60), ("T4", -80, -90), ("T8", 5, -45), ("T4", 110, -40)],
        "lumbar": [("L1", -65, -70), ("L4", 10, -40), ("S1", 45, -60), ("S1", -45, -60), ("L3", -15, -35), ("T12", 30, -50)],
    }[anatomy.region]
    clips = []
    for number in rng.permutation(len(spots))[: int(rng.integers(1, 4))]:
        name, x, y = spots[number]
        length, gap = rng.uniform(3.5, 9.0), rng.uniform(0.5, 1.6)
        clip = make_wire(np.array([[-gap, 0, length], [-gap, 0, 1], [0, 0, 0], [gap, 0, 1], [gap, 0, length]]), rng.uniform(0.3, 0.6), 6)
        count = int(rng.integers(2, 13))
        centre = find_level(anatomy, name).centre + np.array([x, y, 0])
        clips.append(scatter(clip, draw_turns(rng, count), centre + rng.normal(0, 1, (count, 3)) * rng.uniform(4, 18, 3)))
    return [Part(merge(clips), str(rng.choice(["titanium", "titanium", "steel"])))]


def make_staples(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return skin staples of 0.5-0.6 mm wire, in a row along the back's midline (in front at times)."""
    levels = list_levels(anatomy)
    back = rng.random() < 0.85
    pitch, span = rng.uniform(5.5, 11), rng.uniform(35, 220)
    middle = levels[int(rng.integers(len(levels)))].centre
    z = np.arange(-span / 2, span / 2, pitch)
    path = np.column_stack(
        [np.interp(z + middle[2], *trace_midline(anatomy, 0)) + rng.normal(0, 4) + 0.03 * rng.normal() * z, 0 * z, z + middle[2]]
    )
    path[:, 1] = middle[1] + (70 if back else -90)
    path = find_skin(anatomy, path + rng.normal(0, 0.6, path.shape), back=back)
    wide, deep = rng.uniform(2.6, 3.6), 3.4
    bend = np.array(
        [[-wide + 1.2, 0, -deep], [-wide, 0, -deep + 0.6], [-wide, 0, 0], [wide, 0, 0], [wide, 0, -deep + 0.6], [wide - 1.2, 0, -deep]]
    )
    out = align([0.0, 1.0 if back else -1.0, 0.0])
    return [Part(scatter(make_wire(bend, 0.28, 6), draw_turns(rng, len(path), out, 14), path), "steel")]


def make_ecg(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return three to five electrodes on the chest or belly, each with a snap, a gel pad and a lead that runs off the film."""
    centre = list_levels(anatomy)[2].centre
    reach = np.array([75.0, 0, 80] if anatomy.region == "cervical" else [120.0, 0, 150])
    spots = centre + rng.uniform(-1, 1, (int(rng.integers(3, 6)), 3)) * reach
    spots = find_skin(anatomy, spots - [0, 90, 0], back=False)
    away: NDArray[np.float64] = centre + np.array([rng.choice([-1, 1]) * rng.uniform(150, 300), -110, rng.uniform(-250, 100)])
    away[1] = spots[:, 1].min() - 6
    snap = revolve(np.array([2.0, 2.0, 5.0, 5.0]), np.array([-3.0, -0.5, -0.5, 0.6]), 14)
    wires, sleeves = [], []
    gauge, sleeve = rng.uniform(0.3, 0.7), rng.uniform(1.0, 1.8)
    for spot in spots:
        between = spot + (away - spot) * np.array([[0.35], [0.7]]) + rng.normal(0, 25, (2, 3)) * [1, 0.1, 1]
        path = smooth([spot - [0, 3, 0], *between, away + rng.normal(0, 10, 3)], 30)
        wires.append(make_wire(path, gauge, 6))
        sleeves.append(make_wire(path, sleeve, 8))
    pad = scatter(make_disc(rng.uniform(14, 22), 1.2, 20), TO_BACK, spots - [0, 0.8, 0])
    metal = [Part(scatter(snap, TO_BACK.T, spots - [0, 2, 0]), "steel", rng.choice([0.25, 0.8]))]
    return [*metal, Part(merge(wires), "steel", 0.9), Part(merge(sleeves), "silicone", 0.6), Part(pad, "silicone", 0.5)]


def make_contrast(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return contrast in the bowel, the thecal sac or the urinary tract."""
    kinds = ["thecal", "bowel", "urinary"] if anatomy.region == "lumbar" else ["thecal"]
    density = rng.uniform(0.15, 0.9)
    chosen = str(rng.choice(kinds))
    if chosen == "thecal":
        path = trace_canal(anatomy, *{"cervical": ("C2", "T3"), "thoracic": ("T2", "L1"), "lumbar": ("T11", "S1")}[anatomy.region], 8.5)
        return [Part(make_wire(smooth(path, 30), np.interp(np.arange(30), [0, 26, 29], [6.5, 6.0, 1.5]), 12), "contrast", 0.4 * density)]
    if chosen == "bowel":
        start = find_level(anatomy, "L3").centre + np.array([rng.uniform(-110, 110), rng.uniform(-90, -50), rng.uniform(-90, 90)])
        steps = np.cumsum(rng.normal(0, 1, (10, 3)) * [9, 4, 9] + rng.normal(0, 9, 3) * [1, 0.2, 1], axis=0)
        radii = np.exp(rng.normal(0, 0.35, (10, 3))) * rng.uniform(5, 11)
        return [
            Part(merge([make_ellipsoid(r, 14).moved(np.eye(3), start + s) for r, s in zip(radii, steps, strict=True)]), "contrast", density)
        ]
    meshes = []
    for side in rng.choice([-1, 1], int(rng.integers(1, 3)), replace=False):
        hilum = find_level(anatomy, "L2").centre + np.array([side * 50, -8, rng.normal(0, 8)])
        meshes.append(make_ellipsoid((9, 6, 13), 14).moved(turn(1, 20 * side), hilum))
        for height in (-20.0, 0.0, 20.0):
            cup = hilum + np.array([side * 18, 0, height])
            meshes.append(make_wire(np.array([hilum + np.array([side * 5, 0, 0.4 * height]), cup]), np.array([2.0, 5.0]), 8))
        end = find_level(anatomy, "S1").centre + np.array([side * 35, -35, -60])
        path = smooth([hilum - [side * 6, 0, 12], hilum + np.array([-side * 12, -8, -70]), end], 20)
        meshes.append(make_wire(path, rng.uniform(1.2, 2.4), 8))
    return [Part(merge(meshes), "contrast", 0.8 * density)]


def make_drain(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a drain of 4-7 mm with a radio-opaque stripe, out of the back beside the midline or over the belly."""
    levels = list_levels(anatomy)
    start = levels[int(rng.integers(len(levels)))]
    back, side = rng.random() < 0.6, rng.choice([-1.0, 1.0])
    first = start.place(side * rng.uniform(2, 20), start.depth / 2 + 30 if back else -start.depth / 2 - 45, 0)
    end = find_skin(anatomy, [first + np.array([side * rng.uniform(40, 130), 60 if back else -60, rng.uniform(-120, -40)])], back=back)[0]
    middle = (first + end) / 2 + rng.normal(0, 12, 3)
    path = smooth([first, first + np.array([0, 3, -25]), middle, end, end + np.array([side * 60, 10 if back else -10, -40])], 36)
    return make_striped_tube(path, rng.uniform(2.0, 3.5), rng)


def make_striped_tube(path: NDArray[np.float64], radius: float, rng: np.random.Generator) -> list[Part]:
    """Return a hollow tube of silicone with a line of contrast along it."""
    stripe = make_wire(path + np.array([0.85 * radius, 0, 0]), 0.22 * radius, 6)
    density = rng.uniform(0.8, 1.6)
    shell = [Part(make_wire(path, radius, 10), "silicone", density), Part(make_wire(path, 0.65 * radius, 10), "silicone", -density)]
    return [*shell, Part(stripe, "contrast", rng.uniform(1.5, 4.0))]


def make_tubes(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a tracheal tube or a gastric tube."""

    def ahead(name: str, distance: float, x: float = 0.0) -> NDArray[np.float64]:
        vertebra = find_level(anatomy, name)
        return vertebra.place(x, -vertebra.depth / 2 - distance, 0)

    if anatomy.region == "lumbar":
        path = [ahead("T10", 18, 8), ahead("T12", 45, 20), ahead("L1", 75, 55), ahead("L2", 80, 20), ahead("L2", 70, -20)]
        return make_striped_tube(smooth(path, 40), rng.uniform(1.5, 3.0), rng)
    if rng.random() < 0.5:
        path = [ahead("C2", 65), ahead("C2", 25), ahead("C4", 14), ahead("C7", 20), ahead("T2", 32), ahead("T4", 38)]
        return make_striped_tube(smooth(path, 40), rng.uniform(4.0, 5.5), rng)
    path = [ahead("C1", 75), ahead("C1", 18), ahead("C3", 6), ahead("C6", 8), ahead("T3", 14), ahead("T8", 18, 6), ahead("T11", 35, 25)]
    return make_striped_tube(smooth(path, 60), rng.uniform(1.5, 3.0), rng)


def _make_generator(width: float, height: float, thickness: float) -> Mesh:
    """Return a flat can with rounded edges, facing y."""
    outline = make_outline(width / 2, height / 2, 2.8, 28)
    scale = np.array([0.86, 0.97, 1.0, 0.97, 0.86])
    mesh = loft(stack_rings(scale[:, None, None] * outline, np.array([-0.5, -0.35, 0.0, 0.35, 0.5]) * thickness))
    return mesh.moved(TO_BACK, np.zeros(3))


def _make_can(place: NDArray[np.float64], tilt: float, size: float, outward: float) -> list[Part]:
    """Return a pulse generator: titanium shell, battery, circuit, header of epoxy; `outward` is the sign of the skin's side in y."""
    axes = turn(1, tilt)
    battery = make_box((0.55 * size, 5.0, 0.38 * size)).moved(axes, place + axes @ [0, 0, -0.2 * size])
    circuit = merge(
        [make_box((0.09 * size, 2.0, 0.12 * size)).moved(axes, place + axes @ [x * size, -outward, 0.2 * size]) for x in (-0.2, 0, 0.17)]
    )
    header = make_box((0.7 * size, 6.0, 0.22 * size)).moved(axes, place + axes @ [0, 0, 0.58 * size])
    can = _make_generator(size, 0.92 * size, 8.0).moved(axes, place)
    return [Part(can, "titanium", 0.16), Part(battery, "titanium", 0.6), Part(circuit, "steel", 0.5), Part(header, "peek")]


def make_stimulator(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a spinal cord stimulator: generator in the buttock or flank, one or two leads of eight contacts in the canal."""
    if anatomy.region == "cervical":
        return []
    side, level = rng.choice([-1.0, 1.0]), find_level(anatomy, str(rng.choice(["L3", "L5", "S1"])))
    pocket = find_skin(anatomy, [level.centre + np.array([side * rng.uniform(55, 95), 60, 0])], back=True)[0] - [0, 14, 0]
    parts = _make_can(pocket, rng.uniform(-25, 25), rng.uniform(42, 55), 1.0)
    top = str(rng.choice(["T8", "T9", "T10"]))
    wires, contacts = [], []
    for shift in rng.choice([-3.0, 3.0], int(rng.integers(1, 3)), replace=False):
        canal = trace_canal(anatomy, top, "L2", 13.0) + np.array([shift, 0, 0])
        entry = find_level(anatomy, "L3").place(shift, 38, 10)
        path = smooth([*canal, entry, (entry + pocket) / 2 + np.array([0, 8, -15]), pocket + np.array([0, 0, 0.6 * 50])], 60)
        wires.append(make_wire(path, 0.45, 6))
        dense = smooth(path[:30], 300)
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
        pitch = rng.choice([4.0, 6.0, 7.0])
        marks = np.array(
            [[np.interp(2 + pitch * n + e, length, dense[:, axis]) for axis in range(3)] for n in range(8) for e in (0.0, 3.0)]
        )
        contacts += [make_wire(marks[2 * n : 2 * n + 2], 0.68, 8) for n in range(8)]
    return [*parts, Part(merge(wires), "steel", 0.6), Part(merge(contacts), "lead", 1.2)]


def make_pacemaker(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a pacemaker or defibrillator under a clavicle with one to three leads to the heart."""
    if anatomy.region == "lumbar":
        return []
    side = 1.0 if rng.random() < 0.85 else -1.0
    high, heart = find_level(anatomy, "T3").centre, find_level(anatomy, "T9").centre
    pocket = find_skin(anatomy, [high + np.array([side * rng.uniform(75, 105), -80, rng.uniform(-35, 0)])], back=False)[0] + np.array(
        [0, 14, 0]
    )
    parts = _make_can(pocket, rng.uniform(-40, 40), rng.uniform(40, 62), -1.0)
    vein, cava = high + np.array([side * 40, -45, 25]), high + np.array([-16, -40, -35])
    ends = [heart + np.array([38, -75, 10]), heart + np.array([-18, -70, 45]), heart + np.array([55, -30, 45])]
    wires, coils = [], []
    for number in range(int(rng.integers(1, 4))):
        path = smooth([pocket + np.array([0, 0, 30]), vein, cava + rng.normal(0, 2, 3), heart + np.array([-22, -55, 55]), ends[number]], 60)
        wires.append(make_wire(path, 0.7, 6))
        coils.append(make_wire(path[48:57] if number == 0 and rng.random() < 0.5 else path[-3:], 1.3, 8))
    return [*parts, Part(merge(wires), "steel", 0.8), Part(merge(coils), "steel", 1.1)]


def make_port(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a port for infusions on the chest, with its catheter."""
    if anatomy.region == "lumbar":
        return []
    side, high = rng.choice([-1.0, 1.0]), find_level(anatomy, "T3").centre
    place = find_skin(anatomy, [high + np.array([side * rng.uniform(60, 95), -80, -20])], back=False)[0] + np.array([0, 9, 0])
    chamber = revolve(np.array([13.0, 12.0, 8.0, 6.5, 6.5]), np.array([-4.0, 0.0, 4.5, 4.5, -2.5]), 20)
    path = smooth(
        [
            place,
            high + np.array([side * 45, -50, 30]),
            high + np.array([side * 12, -42, 5]),
            find_level(anatomy, "T6").centre + np.array([-16, -45, 0]),
        ],
        40,
    )
    metal = "titanium" if rng.random() < 0.7 else "peek"
    return [Part(chamber.moved(TO_BACK.T, place), metal, 0.8), Part(make_wire(path, 1.3, 8), "contrast", 1.5)]


def make_filter(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a caval filter: six or more thin legs from one apex, right in front of L2-L3."""
    if anatomy.region != "lumbar":
        return []
    level = find_level(anatomy, str(rng.choice(["L2", "L3"])))
    apex = level.place(-14, -level.depth / 2 - 14, 18)
    count, radius, length = int(rng.integers(5, 9)), rng.uniform(10, 14), rng.uniform(35, 50)
    angle = np.arange(count) * 2 * np.pi / count
    legs = [
        np.array(
            [
                [0, 0, 0],
                [0.6 * radius * np.cos(a), 0.6 * radius * np.sin(a), -0.5 * length],
                [radius * np.cos(a), radius * np.sin(a), -length],
            ]
        )
        for a in angle
    ]
    meshes = [make_wire(apex + leg, 0.3, 6) for leg in legs]
    return [Part(merge([*meshes, make_disc(1.2, 6.0, 8).moved(np.eye(3), apex)]), "steel", 0.9)]


def make_stent(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a stent graft: zigzag rings along the aorta, in the abdomen with two limbs."""
    if anatomy.region == "cervical":
        return []

    def before(name: str, x: float, gap: float) -> NDArray[np.float64]:
        vertebra = find_level(anatomy, name)
        return vertebra.place(x, -vertebra.depth / 2 - gap, 0)

    if anatomy.region == "thoracic":
        courses = [(smooth([before("T4", 22, -10), before("T7", 20, 5), before("T11", 8, 16)], 40), rng.uniform(13, 18))]
    else:
        fork = before("L4", 4, 18)
        courses = [(smooth([before("L1", 8, 16), before("L2", 8, 18), fork], 40), rng.uniform(10, 15))]
        courses += [
            (smooth([fork, fork + np.array([15 * s, -4, -25]), before("S1", 32 * s, 22) - [0, 0, 15]], 40), rng.uniform(5.5, 7.5))
            for s in (-1, 1)
        ]
    wire, peaks = rng.uniform(0.18, 0.35), int(rng.integers(5, 9))
    angle = np.linspace(0, 2 * np.pi, 2 * peaks + 1)
    meshes = []
    for path, radius in courses:
        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        pitch = radius * rng.uniform(0.7, 1.0)
        zigzag = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), 0.42 * pitch * (-1.0) ** np.arange(len(angle))])
        ring = make_wire(zigzag, wire, 5)
        at = np.linspace(1, 38, max(2, int(length / pitch))).astype(int)
        axes = np.array([align(path[n + 1] - path[n - 1]) for n in at])
        meshes.append(scatter(ring, axes, path[at]))
    return [Part(merge(meshes), "steel", 0.85)]


def make_dental(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return fillings, crowns and implants, on the teeth of the anatomy where it has them, else on an arch in front of C2."""
    if anatomy.region != "cervical":
        return []
    enamel = [part.mesh.vertices for part in anatomy.parts if part.material == "enamel"]
    count = int(rng.integers(2, 13))
    if enamel:
        points = np.concatenate(enamel)
        spots = points[rng.integers(len(points), size=count)]
    else:
        angle = rng.uniform(-1.9, 1.9, count)
        level = find_level(anatomy, "C2")
        spots = level.centre + np.column_stack([26 * np.sin(angle), -48 - 26 * np.cos(angle), rng.choice([-12.0, 0.0], count)])
    parts = []
    for spot in spots:
        kind = rng.random()
        if kind < 0.5:
            parts.append(Part(make_ellipsoid(rng.uniform(1.2, 3.2, 3), 8).moved(np.eye(3), spot), "lead", 0.8))
        elif kind < 0.85:
            parts.append(
                Part(
                    revolve(np.array([3.5, 4.6, 4.4, 2.5]) * rng.uniform(0.8, 1.1), np.array([-4.0, 0, 3, 4]), 10).moved(
                        turn(0, rng.normal(0, 8)), spot
                    ),
                    "cobalt-chrome",
                    0.8,
                )
            )
        else:
            z = np.arange(-6.0, 6.0, 0.6, dtype=np.float64)
            post = revolve(np.where(np.arange(len(z)) % 2 == 0, 2.1, 1.6), z, 10)
            parts.append(Part(post.moved(turn(0, rng.normal(0, 10)), spot + np.array([0, 0, rng.choice([-8.0, 8.0])])), "titanium"))
    return parts
