import dataclasses

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.phantom.geometry.projector import measure_thickness
from edgekit.phantom.metal.implants import DESIGNS, DRAWN, DRAWN_SMALL, RANDOM, UNSEEN, draw_design
from edgekit.phantom.metal.screws import CORTICAL_SHARE, make_hook, make_screw, make_tulip

DESIGN_NAMES = [f"design-{letter}" for letter in "abcdefg"]
ALL = {**DESIGNS, **UNSEEN}


def is_closed(mesh):
    """Every edge is run through once each way, as often as it is used."""
    edges = np.concatenate([mesh.triangles[:, [0, 1]], mesh.triangles[:, [1, 2]], mesh.triangles[:, [2, 0]]])
    there = np.sort(edges[:, 0].astype(np.int64) * len(mesh.vertices) + edges[:, 1])
    back = np.sort(edges[:, 1].astype(np.int64) * len(mesh.vertices) + edges[:, 0])
    return np.array_equal(there, back)


def test_there_are_seven_designs_that_differ():
    assert list(DESIGNS) == DESIGN_NAMES
    rows = [dataclasses.astuple(design)[1:] for design in ALL.values()]
    for number, row in enumerate(rows):
        for other in rows[:number]:
            assert sum(mine != theirs for mine, theirs in zip(row, other, strict=True)) >= 5


@pytest.mark.parametrize("name", [*DESIGN_NAMES, "design-x"])
def test_ranges_are_those_of_real_systems(name):
    design = ALL[name]
    assert all(1.5 <= pitch <= 4.0 for pitch in design.pitches)
    assert design.rod_diameter in ((4.75,) if name == "design-x" else (5.5, 6.0))
    assert design.rod_material in ("titanium", "cobalt-chrome")
    assert design.diameters == (4.5, 8.5)


def test_the_minimally_invasive_design_has_tabs_and_no_crosslink():
    assert [name for name, design in DESIGNS.items() if design.crosslink is None] == ["design-f"]
    assert [name for name, design in DESIGNS.items() if design.tulip.tab] == ["design-f"]
    heights = {name: float(np.ptp(make_tulip(design).vertices[:, 2])) for name, design in DESIGNS.items()}
    assert max(heights, key=lambda name: heights[name]) == "design-f"


@pytest.mark.parametrize("name", ALL)
def test_thread_pitch_on_the_film_is_the_design_s_times_magnification(name, aim_camera):
    """Both pitches of a design that has two, each in its own part of the screw."""
    design, length = ALL[name], 60.0
    camera = aim_camera(width=200, height=1400, spacing_mm=0.06, source_object_mm=1000.0, source_image_mm=1150.0)
    screw = make_screw(design, 6.5, length)
    top = screw.vertices[:, 2].max()
    image = measure_thickness([screw.moved(np.eye(3), np.array([0.0, 0.0, length / 2 - top]))], [1.0], camera)
    middle = CORTICAL_SHARE * length if design.cortical_leads else 0.0
    parts = [(middle + 1, length - design.tip - 1)] + ([(design.neck + 2.5, middle - 1)] if design.cortical_leads else [])
    if not design.cortical_leads:
        parts[0] = (design.neck + 3, parts[0][1])
    for pitch, (first, last) in zip(design.pitches, parts, strict=True):
        rows = [round(camera.principal[1] + (down - length / 2) * 1.15 / camera.spacing_mm) for down in (first, last)]
        # The right edge of the shadow, as a signal along the screw.
        edge = (image[slice(*rows), round(camera.principal[0]) :] > 0.4).sum(axis=1).astype(float)
        edge -= np.polyval(np.polyfit(np.arange(len(edge)), edge, 2), np.arange(len(edge)))
        spectrum = np.abs(np.fft.rfft(edge * np.hanning(len(edge)), 1 << 15))
        period = (1 << 15) / np.argmax(spectrum[: 1 << 12])
        assert period * camera.spacing_mm / (1150 / 1000) == pytest.approx(pitch, rel=0.03)


def test_two_pitches_are_those_of_two_and_four_leads():
    assert DESIGNS["design-e"].pitches == pytest.approx((3.1, 3.1 * 2 / 4))
    assert [name for name, design in ALL.items() if len(design.pitches) == 2] == ["design-e", "design-x"]


def test_a_double_lead_screw_advances_two_crests_a_turn():
    for name, leads in (("design-a", 1), ("design-b", 2)):
        assert DESIGNS[name].leads == leads
        ring = make_screw(DESIGNS[name], 6.5, 45.0).vertices[16 * 60 : 16 * 61]
        radii = np.hypot(ring[:, 0], ring[:, 1])
        assert np.argmax(np.abs(np.fft.rfft(radii))[1:]) + 1 == leads


def test_cores_follow_their_profile():
    """The smallest radius over one advance of the thread, a quarter and three quarters down the screw."""
    cores = {}
    for profile in ("cylindrical", "conical", "stepped"):
        tip = 1.0 if profile == "cylindrical" else 0.6
        design = dataclasses.replace(DESIGNS["design-a"], core=profile, core_tip=tip, tip=2.0, neck=1.0)
        mesh = make_screw(design, 6.5, 60.0)
        down, radii = mesh.vertices[:, 2].max() - mesh.vertices[:, 2], np.hypot(*mesh.vertices[:, :2].T)
        cores[profile] = [radii[(down > low) & (down < low + 3)].min() for low in (7.0, 22.0, 37.0, 52.0)]
    # Core radius at the neck: 6.5 / 2 - 0.9.
    assert cores["cylindrical"] == pytest.approx([2.35] * 4)
    assert cores["stepped"] == pytest.approx([2.35, 2.35, 0.6 * 2.35, 0.6 * 2.35])
    assert cores["conical"] == pytest.approx([2.35 * (1 - 0.4 * down / 60) for down in (10, 25, 40, 55)], rel=0.02)


def test_a_thread_keeps_the_screw_s_diameter():
    for design in ALL.values():
        radii = np.hypot(*make_screw(design, 6.5, 45.0).vertices[:, :2].T)
        assert 2 * radii.max() == pytest.approx(6.5, abs=0.15)


def test_the_slot_lets_the_rod_through():
    """No metal of the tulip where the rod lies; walls on both sides of it, metal below it and a set screw above."""
    for design in (*ALL.values(), *(draw_design(np.random.default_rng(seed), small=seed % 2 == 0) for seed in range(20))):
        vertices, rod = make_tulip(design).vertices, design.rod_diameter / 2
        inside = np.hypot(vertices[:, 0], vertices[:, 2]) < rod - 1e-3
        assert not inside.any(), design
        assert vertices[:, 0].min() == pytest.approx(-vertices[:, 0].max())
        assert vertices[:, 2].min() == pytest.approx(-rod - design.tulip.base)
        above = vertices[np.hypot(vertices[:, 0], vertices[:, 1]) < rod - 0.2]
        assert (above[:, 2] > rod).any()


def test_meshes_are_closed_and_face_outwards():
    for design in (*ALL.values(), *(draw_design(np.random.default_rng(seed), small=seed % 2 == 0) for seed in range(20))):
        for mesh in (make_screw(design, 4.5, 30.0), make_tulip(design), make_hook(design)):
            assert is_closed(mesh)
            assert mesh.volume() > 20.0


def test_known_and_unseen_designs_look_different(aim_camera):
    """Side by side, screw and tulip of any two differ in a good part of what either covers."""
    camera = aim_camera(width=160, height=320, spacing_mm=0.3)
    shadows = {}
    for name, design in ALL.items():
        meshes = [make_tulip(design), make_screw(design, 6.5, 45.0).moved(np.eye(3), np.array([0, 0, -design.rod_diameter / 2]))]
        shadows[name] = measure_thickness(meshes, [1.0, 1.0], camera)
    for name, one in shadows.items():
        for other in list(shadows)[: list(shadows).index(name)]:
            two = shadows[other]
            assert np.abs(one - two).sum() > 0.12 * np.maximum(one, two).sum(), (name, other)
            assert ((one > 0.35) != (two > 0.35)).sum() > 0.05 * ((one > 0.35) | (two > 0.35)).sum(), (name, other)


@pytest.mark.parametrize(("diameter", "length"), [(0.5, 45.0), (6.5, 4.0), (12.0, 45.0)])
def test_impossible_screws_are_refused(diameter, length):
    with pytest.raises(InputError, match="screw"):
        make_screw(DESIGNS["design-a"], diameter, length)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rod_diameter", 0.9),
        ("pitch", 0.0),
        ("leads", 7),
        ("core_tip", 0.0),
        ("core_tip", 0.9),  # a cylinder doesn't taper
        ("cortical_leads", 1),
        ("thread_depth", 1.9),  # deeper than the thinnest screw's core allows
        ("rod_material", "wood"),
        ("diameters", (0.0, 8.5)),
        ("crosslink_size", 3.0),
        ("pitch", float("nan")),
    ],
)
def test_impossible_designs_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"design-a: {field}"):
        dataclasses.replace(DESIGNS["design-a"], **{field: value})


@pytest.mark.parametrize(("field", "value"), [("width", 7.0), ("height", 9.0), ("tab", -1.0), ("exponent", 0.5)])
def test_impossible_tulips_are_refused_by_name(field, value):
    tulip = dataclasses.replace(DESIGNS["design-a"].tulip, **{field: value})
    with pytest.raises(InputError, match=f"design-a: tulip.{field} is {value:g}"):
        dataclasses.replace(DESIGNS["design-a"], tulip=tulip)


@pytest.mark.parametrize("small", [False, True])
def test_drawn_designs_stay_within_the_documented_ranges(small):
    rng = np.random.default_rng(4)
    drawn = [draw_design(rng, small=small) for _ in range(200)]
    assert {design.name for design in drawn} == {RANDOM}
    free = ("tulip.height", "tulip.width", "core_tip")  # may be larger where the rod needs it; a cylinder's ratio is 1
    for field, (low, high) in (DRAWN_SMALL if small else DRAWN).items():
        values = [getattr(d.tulip, field[6:]) if field.startswith("tulip.") else getattr(d, field) for d in drawn]
        assert min(values) >= low, field
        assert field in free or max(values) <= high, field
        assert max(values) - min(values) > 0.5 * (high - low), field
    # The span that issue and docstrings promise.
    rods = {design.rod_diameter for design in drawn}
    assert rods == {3.2, 3.3, 3.5, 4.0} if small else rods == {4.75, 5.0, 5.5, 6.0, 6.35}
    assert {design.rod_material for design in drawn} == {"titanium", "cobalt-chrome", "steel"}
    assert {design.crosslink for design in drawn} == {None, "bar", "rod", "arch", "plate", "hinge", "cross"}
    assert {design.thread for design in drawn} == {"v", "buttress", "square"}
    assert {design.core for design in drawn} == {"cylindrical", "conical", "stepped"}
    assert {design.diameters for design in drawn} == {(3.5, 4.5) if small else (4.5, 8.5)}
    assert 0 < sum(design.monoaxial for design in drawn) < 60
    assert 0 < sum(design.tulip.tab > 0 for design in drawn) < 60


def test_the_same_seed_draws_the_same_design():
    assert draw_design(np.random.default_rng(8)) == draw_design(np.random.default_rng(8)) != draw_design(np.random.default_rng(9))
