"""Other metal: closed, of known materials, and where a surgeon or a dresser would put it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.phantom.body.anatomy import Vertebra
from edgekit.phantom.geometry.mesh import make_box
from edgekit.phantom.geometry.projector import measure_thickness
from edgekit.phantom.geometry.wires import make_disc
from edgekit.phantom.materials import MATERIALS, METALS, Part
from edgekit.phantom.metal.hardware import KINDS, SPINAL, list_kinds, make_hardware
from edgekit.phantom.metal.placing import ORDER, find_skin, find_spanned, make_bone_screw, scatter

REGIONS = ("cervical", "thoracic", "lumbar")
SEEDS = range(6)
# Width, depth and height of a body and the disc below, mm.
SIZES = {"C": (17, 16, 14, 5), "T": (30, 27, 21, 5), "L": (45, 34, 27, 11), "S": (50, 33, 26, 0)}
HALF_DEPTH = 80.0


@dataclass(frozen=True)
class Patient:
    vertebrae: dict
    parts: list
    region: str


def make_patient(region):
    """A straight spine in a box of soft tissue: x 170, y 80 and everything in z."""
    vertebrae, z = {}, 0.0
    for name in reversed(ORDER):
        width, depth, height, disc = SIZES[name[0]]
        z += disc + height / 2
        vertebrae[name] = Vertebra(name, np.array([0.0, 0.0, z]), np.eye(3), width, depth, height, 0.29 * width, 8.0, 35.0)
        z += height / 2
    skin = make_box((340.0, 2 * HALF_DEPTH, 2000.0)).moved(np.eye(3), np.array([0, 0, 300.0]))
    return Patient(vertebrae, [Part(skin, "soft", 1.0)], region)


def gather(parts, materials=METALS):
    return np.concatenate([part.mesh.vertices for part in parts if part.material in materials])


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_closed_positive_and_of_known_materials(kind, region):
    patient = make_patient(region)
    for seed in SEEDS:
        parts = make_hardware(np.random.default_rng(seed), patient, [kind])
        assert bool(parts) == (kind in list_kinds(region))
        for part in parts:
            assert part.material in MATERIALS
            assert np.isfinite(part.mesh.vertices).all()
            assert part.mesh.volume() > 0
            # Closed: every edge is used once in each direction.
            a, b = part.mesh.triangles, np.roll(part.mesh.triangles, -1, axis=1)
            edges = a.astype(np.int64) * len(part.mesh.vertices) + b
            back = b.astype(np.int64) * len(part.mesh.vertices) + a
            assert np.array_equal(np.sort(edges.ravel()), np.sort(back.ravel()))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_ray_meets_negative_metal(kind, region, aim_camera):
    patient = make_patient(region)
    parts = make_hardware(np.random.default_rng(3), patient, [kind])
    if not parts:
        assert kind not in list_kinds(region)
        return
    points = np.concatenate([part.mesh.vertices for part in parts])
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    camera = aim_camera(width=120, height=120, spacing_mm=max(1.0, 1.3 * float(np.ptp(points, axis=0).max()) / 120))
    for material in {part.material for part in parts}:
        chosen = [part for part in parts if part.material == material]
        moved = [part.mesh.moved(np.eye(3), -centre) for part in chosen]
        assert measure_thickness(moved, [part.weight for part in chosen], camera).min() > -1e-3


@pytest.mark.parametrize("region", REGIONS)
def test_same_generator_same_metal(region):
    first, second, other = (make_hardware(np.random.default_rng(seed), make_patient(region), list_kinds(region)) for seed in (5, 5, 6))
    assert [(part.material, part.weight) for part in first] == [(part.material, part.weight) for part in second]
    assert all(np.array_equal(a.mesh.vertices, b.mesh.vertices) for a, b in zip(first, second, strict=True))
    assert len(first) != len(other) or any(a.mesh.vertices.shape != b.mesh.vertices.shape for a, b in zip(first, other, strict=True))


def test_unknown_kind_is_refused_by_name():
    with pytest.raises(InputError, match="unknown hardware 'spoon'"):
        make_hardware(np.random.default_rng(0), make_patient("lumbar"), ["cage", "spoon"])


def test_no_kinds_no_metal():
    assert make_hardware(np.random.default_rng(0), make_patient("lumbar"), []) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_cervical_plate_is_in_front_and_its_screws_stay_in_the_body(seed):
    patient = make_patient("cervical")
    for name in ("T1", "T2"):  # the neck alone: bodies 16 mm deep
        del patient.vertebrae[name]
    metal = gather(make_hardware(np.random.default_rng(seed), patient, ["anterior-plate"]), ("titanium",))
    assert -8 - 5 < metal[:, 1].min() < -8
    assert metal[:, 1].max() < 8  # short of the canal
    assert np.abs(metal[:, 0]).max() < 12


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cages_are_between_bodies(region, seed):
    patient = make_patient(region)
    metal = gather(make_hardware(np.random.default_rng(seed), patient, ["cage"]))
    discs = []
    for upper, lower in pairwise(ORDER):
        low, high = (
            patient.vertebrae[lower].place(0, 0, SIZES[lower[0]][2] / 2)[2],
            patient.vertebrae[upper].place(0, 0, -SIZES[upper[0]][2] / 2)[2],
        )
        discs.append((low + high) / 2)
    assert np.abs(metal[:, 2, None] - np.array(discs)).min(axis=1).max() < 9
    assert np.abs(metal[:, 1]).max() < 25


@pytest.mark.parametrize("seed", SEEDS)
def test_cage_keeps_to_the_levels_given(seed):
    patient = make_patient("lumbar")
    metal = gather(make_hardware(np.random.default_rng(seed), patient, ["cage"], levels=["L2", "L3"]))
    assert patient.vertebrae["L3"].centre[2] < metal[:, 2].min() < metal[:, 2].max() < patient.vertebrae["L2"].centre[2]


@pytest.mark.parametrize("levels", [["L2"], ["S1"], ["T11"]])
def test_too_few_levels_leave_no_cage(levels):
    assert make_hardware(np.random.default_rng(0), make_patient("lumbar"), ["cage"], levels=levels) == []
    for seed in SEEDS:
        make_hardware(np.random.default_rng(seed), make_patient("lumbar"), ["wires", "kyphoplasty"], levels=levels)


@pytest.mark.parametrize("seed", SEEDS)
def test_staples_are_on_the_skin_and_behind_the_spine_most_often(seed):
    metal = gather(make_hardware(np.random.default_rng(seed), make_patient("lumbar"), ["staples"]))
    assert np.abs(np.abs(metal[:, 1]) - HALF_DEPTH).max() < 6
    assert np.abs(metal[:, 0].mean()) < 25


def test_staples_are_at_the_back_in_most_patients():
    sides = [
        gather(make_hardware(np.random.default_rng(seed), make_patient("thoracic"), ["staples"]))[:, 1].mean() > 0 for seed in range(60)
    ]
    assert 0.7 < np.mean(sides) < 0.97


def test_sternal_wires_are_behind_the_skin_of_the_front():
    found = 0
    for seed in range(12):
        metal = gather(make_hardware(np.random.default_rng(seed), make_patient("thoracic"), ["wires"]))
        if metal[:, 1].max() < 0:
            found += 1
            assert metal[:, 1].min() > -HALF_DEPTH
            assert metal[:, 1].max() < -HALF_DEPTH + 35
    assert found >= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_hips_are_beside_and_below_the_sacrum(seed):
    patient = make_patient("lumbar")
    for kind in ("hip-prosthesis", "femoral-nail"):
        metal = gather(make_hardware(np.random.default_rng(seed), patient, [kind]))
        assert np.abs(metal[:, 0]).min() > 25
        assert metal[:, 2].max() < patient.vertebrae["S1"].centre[2] - 40


def test_skin_of_a_box_is_its_face():
    patient = make_patient("lumbar")
    points = np.array([[0.0, 0, 0], [100.3, 5, 40.7], [500.0, 7, 0]])  # the last is beside the body
    assert find_skin(patient, points, back=True)[:, 1] == pytest.approx([HALF_DEPTH, HALF_DEPTH, 7])
    assert find_skin(patient, points, back=False)[:, 1] == pytest.approx([-HALF_DEPTH, -HALF_DEPTH, 7])


def test_copies_have_the_sum_of_the_volumes():
    places = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0]])
    assert scatter(make_disc(3.0, 1.0), np.eye(3), places).volume() == pytest.approx(3 * make_disc(3.0, 1.0).volume())


def test_bone_screw_has_its_length_and_diameter():
    screw = make_bone_screw(4.0, 14.0)
    assert screw.vertices[:, 2].max() == pytest.approx(14.0)
    body = screw.vertices[screw.vertices[:, 2] > 2]
    assert 2 * np.hypot(body[:, 0], body[:, 1]).max() == pytest.approx(4.0)


@pytest.mark.parametrize("kind", ["windowed-plate", "sliding-plate"])
@pytest.mark.parametrize("seed", SEEDS)
def test_other_plates_are_in_front_as_well(kind, seed):
    metal = gather(make_hardware(np.random.default_rng(seed), make_patient("cervical"), [kind]), ("titanium",))
    assert metal[:, 1].min() < -8 - 0.8
    assert np.abs(metal[:, 0]).max() < 12


@pytest.mark.parametrize("seed", SEEDS)
def test_a_windowed_plate_has_windows(seed, aim_camera):
    """Seen from the front, fewer rays down the midline meet it than meet a solid plate."""
    patient = make_patient("cervical")
    thickness = {}
    for kind in ("anterior-plate", "windowed-plate"):
        metal = next(part for part in make_hardware(np.random.default_rng(seed), patient, [kind]) if part.material == "titanium").mesh
        front = metal.vertices[:, 1].min()
        z = (metal.vertices[:, 2].min() + metal.vertices[:, 2].max()) / 2
        camera = aim_camera(width=200, height=200, spacing_mm=0.5)
        view = measure_thickness([metal.moved(np.eye(3), np.array([0, -front, -z]))], [1.0], camera)
        column = view[:, 98:102].mean(axis=1)
        rows = np.flatnonzero(view.max(axis=1) > 0.1)
        thickness[kind] = np.mean(column[rows] > 0.5)
    assert thickness["windowed-plate"] < thickness["anterior-plate"] - 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_laminoplasty_plates_are_behind_the_canal_on_one_side(seed):
    metal = gather(make_hardware(np.random.default_rng(seed), make_patient("cervical"), ["laminoplasty"]), ("titanium",))
    assert metal[:, 1].min() > 8, "behind the bodies, which are 16 mm deep"
    side = np.sign(np.median(metal[:, 0]))
    assert (side * metal[:, 0]).min() > -7, "no more than a screw's head beyond the midline"
    assert (side * metal[:, 0]).max() > 10


@pytest.mark.parametrize("kind", ["mesh-cage", "expandable-cage"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cage_in_the_place_of_a_body_reaches_from_one_neighbour_to_the_other(kind, seed):
    patient = make_patient("lumbar")
    metal = gather(make_hardware(np.random.default_rng(seed), patient, [kind]))
    ends = {name: (v.centre[2] - v.height / 2, v.centre[2] + v.height / 2) for name, v in patient.vertebrae.items()}
    tops, bottoms = [high for _, high in ends.values()], [low for low, _ in ends.values()]
    assert min(abs(metal[:, 2].min() - top) for top in tops) < 5
    assert min(abs(metal[:, 2].max() - bottom) for bottom in bottoms) < 5
    assert np.ptp(metal[:, 2]) > 27, "a lumbar body is that tall"
    assert np.abs(metal[:, :2]).max() < 25


@pytest.mark.parametrize("seed", SEEDS)
def test_cement_without_a_balloon_stays_in_the_body_but_for_the_needles_way(seed):
    patient = make_patient("lumbar")
    for part in make_hardware(np.random.default_rng(seed), patient, ["vertebroplasty"]):
        inside = (np.abs(part.mesh.vertices[:, 0]) < 22.5) & (np.abs(part.mesh.vertices[:, 1]) < 17)
        assert inside.mean() > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_bears_the_one_level_that_was_operated_on(kind):
    """A construct on C1 and C2, or on S1 alone, leaves cages and cement nothing: no kind fails there."""
    for region, levels in (("cervical", ["C1", "C2"]), ("lumbar", ["S1"]), ("thoracic", ["T5"])):
        for seed in SEEDS:
            make_hardware(np.random.default_rng(seed), make_patient(region), [kind], levels=levels)


@pytest.mark.parametrize(("kind", "region"), [("buckles", "cervical"), ("buckles", "lumbar"), ("ratchets", "lumbar")])
@pytest.mark.parametrize("seed", SEEDS)
def test_clasps_of_a_brace_are_on_the_skin(kind, region, seed):
    metal = gather(make_hardware(np.random.default_rng(seed), make_patient(region), [kind]))
    assert np.abs(np.abs(metal[:, 1]) - HALF_DEPTH).max() < 12


def test_kinds_that_are_fixed_to_vertebrae_are_kinds():
    assert set(SPINAL) < set(KINDS)


def test_metal_spans_the_vertebrae_that_it_reaches():
    patient = make_patient("lumbar")
    top, bottom = patient.vertebrae["L2"], patient.vertebrae["L4"]
    height = top.centre[2] - bottom.centre[2]
    bar = Part(make_box((4.0, 4.0, height)).moved(np.eye(3), (top.centre + bottom.centre) / 2), "steel")
    assert [level.name for level in find_spanned(patient, [bar])] == ["L2", "L3", "L4"]
    disc = Part(make_box((4.0, 4.0, 2.0)).moved(np.eye(3), bottom.centre + np.array([0, 0, 27 / 2 + 5.5])), "steel")
    assert {level.name for level in find_spanned(patient, [disc])} <= {"L3", "L4"}
    assert find_spanned(patient, [disc])
