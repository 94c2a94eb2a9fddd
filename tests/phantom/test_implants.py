import dataclasses

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.phantom.anatomy import make_anatomy
from edgekit.phantom.construct import make_construct
from edgekit.phantom.implants import DESIGNS, make_screw, make_tulip
from edgekit.phantom.projector import measure_thickness

DESIGN_NAMES = [f"design-{letter}" for letter in "abcdefg"]


def test_there_are_seven_designs_that_differ():
    assert list(DESIGNS) == DESIGN_NAMES
    rows = [dataclasses.astuple(design)[1:] for design in DESIGNS.values()]
    for number, row in enumerate(rows):
        for other in rows[:number]:
            assert sum(mine != theirs for mine, theirs in zip(row, other, strict=True)) >= 5


@pytest.mark.parametrize("name", DESIGN_NAMES)
def test_ranges_are_those_of_real_systems(name):
    design = DESIGNS[name]
    assert 1.5 <= design.pitch <= 4.0
    assert design.rod_diameter in (5.5, 6.0)
    assert design.rod_material in ("titanium", "cobalt-chrome")


def test_the_minimally_invasive_design_has_tabs_and_no_crosslink():
    assert [name for name, design in DESIGNS.items() if design.crosslink is None] == ["design-f"]
    assert [name for name, design in DESIGNS.items() if design.tulip.tab] == ["design-f"]
    heights = {name: float(np.ptp(make_tulip(design).vertices[:, 2])) for name, design in DESIGNS.items()}
    assert max(heights, key=lambda name: heights[name]) == "design-f"


@pytest.mark.parametrize("name", DESIGN_NAMES)
def test_thread_pitch_on_the_film_is_the_design_s_times_magnification(name, aim_camera):
    design = DESIGNS[name]
    camera = aim_camera(width=200, height=900, spacing_mm=0.06, source_object_mm=1000.0, source_image_mm=1150.0)
    screw = make_screw(design, 6.5, 45.0).moved(np.eye(3), np.array([0.0, 0.0, 24.0]))
    image = measure_thickness([screw], [1.0], camera)
    # The right edge of the shadow in the threaded part, away from neck and tip, as a signal along the screw.
    rows = slice(330, 330 + 400)
    edge = (image[rows, camera.width // 2 :] > 0.4).sum(axis=1).astype(float)
    edge -= np.polyval(np.polyfit(np.arange(400), edge, 1), np.arange(400))
    spectrum = np.abs(np.fft.rfft(edge * np.hanning(400), 1 << 15))
    period = (1 << 15) / np.argmax(spectrum[: 1 << 12])
    assert period * camera.spacing_mm / (1150 / 1000) == pytest.approx(design.pitch, rel=0.03)


def test_a_double_lead_screw_advances_two_crests_a_turn():
    for name, leads in (("design-a", 1), ("design-b", 2)):
        assert DESIGNS[name].leads == leads
        ring = make_screw(DESIGNS[name], 6.5, 45.0).vertices[16 * 60 : 16 * 61]
        radii = np.hypot(ring[:, 0], ring[:, 1])
        assert np.argmax(np.abs(np.fft.rfft(radii))[1:]) + 1 == leads


def test_a_thread_keeps_the_screw_s_diameter():
    for design in DESIGNS.values():
        radii = np.hypot(*make_screw(design, 6.5, 45.0).vertices[:, :2].T)
        assert 2 * radii.max() == pytest.approx(6.5, abs=0.15)


@pytest.mark.parametrize(("diameter", "length"), [(0.5, 45.0), (6.5, 4.0), (12.0, 45.0)])
def test_impossible_screws_are_refused(diameter, length):
    with pytest.raises(InputError, match="screw"):
        make_screw(DESIGNS["design-a"], diameter, length)


@pytest.mark.parametrize(("field", "value"), [("rod_diameter", 0.9), ("pitch", 0.0), ("leads", 7), ("core_tip", 0.0)])
def test_impossible_designs_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"design-a: {field}"):
        dataclasses.replace(DESIGNS["design-a"], **{field: value})


@pytest.fixture(scope="module")
def spine():
    return list(make_anatomy(np.random.default_rng(1)).vertebrae.values())


def test_a_construct_is_bilateral_and_bridged_only_when_asked(spine):
    for name, design in DESIGNS.items():
        plain = make_construct(design, spine[-4:], False, np.random.default_rng(2))
        assert len(plain) == 2 * (1 + 2 * 4)  # two rods; four screws and tulips on each
        x = np.concatenate([part.mesh.vertices[:, 0] for part in plain])
        assert x.min() < -10
        assert x.max() > 10
        if design.crosslink is not None:
            assert len(make_construct(design, spine[-4:], True, np.random.default_rng(2))) > len(plain), name


def test_screws_end_inside_their_vertebra(spine):
    """Every screw's tip lies nearer to its body's centre than half the body's diagonal."""
    for seed in range(5):
        parts = make_construct(DESIGNS["design-a"], spine[5:10], False, np.random.default_rng(seed))
        tips = [part.mesh.vertices[-1] for part in parts if len(part.mesh.vertices) > 1000]
        assert len(tips) == 10
        for tip in tips:
            assert min(np.linalg.norm(tip - vertebra.centre) for vertebra in spine[5:10]) < 26


def test_refusals_of_a_construct(spine):
    with pytest.raises(InputError, match="1 vertebrae"):
        make_construct(DESIGNS["design-a"], spine[:1], False, np.random.default_rng(0))
    with pytest.raises(InputError, match="design-f has no crosslink"):
        make_construct(DESIGNS["design-f"], spine[:3], True, np.random.default_rng(0))
