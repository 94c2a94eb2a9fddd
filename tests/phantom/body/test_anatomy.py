"""Anatomy against published sizes, geometry worked out here, and what makes a closed mesh."""

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.phantom.body.anatomy import LEVELS, REGIONS, STYLES, Vertebra, make_anatomy
from edgekit.phantom.body.spine import Posture, Wear, draw_wear, place_vertebrae
from edgekit.phantom.body.vertebrae import Bone, make_vertebrae
from edgekit.phantom.geometry.projector import measure_thickness

# Means of Panjabi et al., Spine 1991;16:861 (C3-C7), 1991;16:888 (T1-T12), 1992;17:299 (L1-L5): width and depth of the upper end plate,
# posterior height of the body, mm.
PUBLISHED = {
    "C3": (15.8, 15.0, 11.6),
    "C4": (17.2, 15.3, 11.4),
    "C5": (17.5, 15.2, 11.4),
    "C6": (18.5, 16.4, 10.9),
    "C7": (21.8, 18.1, 12.8),
    "T1": (24.5, 18.5, 14.1),
    "T4": (24.5, 23.3, 16.2),
    "T8": (29.5, 27.9, 18.7),
    "T12": (39.0, 32.8, 22.7),
    "L1": (41.2, 34.1, 23.8),
    "L3": (44.1, 35.2, 23.8),
    "L5": (47.3, 34.7, 22.9),
}
ANGLES = [np.eye(3), np.array([[0, -1.0, 0], [0, 0, -1], [1, 0, 0]]) @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])]


@pytest.fixture(scope="module")
def patients():
    return [make_anatomy(np.random.default_rng(number), region, style) for number, region in enumerate(REGIONS) for style in STYLES]


def _aim(aim_camera, anatomy, degrees, spacing_mm=4.0):
    """A coarse camera that sees all of a region."""
    from dataclasses import replace

    from edgekit.phantom.geometry.mesh import turn

    camera = aim_camera(
        width=180, height=260, spacing_mm=spacing_mm, source_object_mm=1500.0, source_image_mm=1700.0, rotation=turn(2, degrees)
    )
    middle = {"cervical": "T1", "thoracic": "T8", "lumbar": "L4"}[anatomy.region]
    return replace(camera, centre=anatomy.vertebrae[middle].centre)


def test_levels_run_from_atlas_to_sacrum():
    assert (*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)), "S1") == LEVELS


def test_every_region_has_all_vertebrae_and_l3_at_the_origin(patients):
    for anatomy in patients:
        assert tuple(anatomy.vertebrae) == LEVELS
        assert all(isinstance(vertebra, Vertebra) for vertebra in anatomy.vertebrae.values())
        np.testing.assert_allclose(anatomy.vertebrae["L3"].centre, 0, atol=1e-9)
        heights = [vertebra.centre[2] for vertebra in anatomy.vertebrae.values()]
        assert (np.diff(heights) < 0).all()
        for vertebra in anatomy.vertebrae.values():
            np.testing.assert_allclose(vertebra.axes.T @ vertebra.axes, np.eye(3), atol=1e-9)
            assert np.linalg.det(vertebra.axes) == pytest.approx(1)


def test_bodies_have_published_sizes():
    vertebrae = place_vertebrae(Posture())
    for name, (width, depth, height) in PUBLISHED.items():
        vertebra = vertebrae[name]
        assert vertebra.width == pytest.approx(width, rel=0.05), name
        assert vertebra.depth == pytest.approx(depth, rel=0.08), name
        # The middle of a lumbar body is higher than its back by up to 15 %.
        assert height <= vertebra.height <= 1.16 * height, name


def test_body_meshes_are_as_large_as_their_vertebra():
    """The outermost mesh of L3 alone, in its own axes; the waist and the rims are part of it."""
    vertebra = place_vertebrae(Posture())["L3"]
    body = make_vertebrae([vertebra], Wear(), Bone(1.0), np.random.default_rng(0))[0].mesh
    size = np.ptp((body.vertices - vertebra.centre) @ vertebra.axes, axis=0)
    np.testing.assert_allclose(size, [vertebra.width, vertebra.depth, vertebra.height], rtol=0.06)
    # A little less than the box's superellipse, 0.86 of the box.
    assert 0.65 < body.volume() / np.prod([vertebra.width, vertebra.depth, vertebra.height]) < 0.86


def test_regions_are_as_long_as_an_adult_s():
    """Cervical, thoracic and lumbar spine with their discs: 12, 28 and 18 cm (Gray, Anatomy of the human body, the vertebral column)."""
    vertebrae = place_vertebrae(Posture())
    for first, last, length in (("C1", "C7", 120), ("T1", "T12", 280), ("L1", "L5", 180)):
        names = LEVELS[LEVELS.index(first) : LEVELS.index(last) + 2]
        steps = np.diff([vertebrae[name].centre for name in names], axis=0)
        # From the middle of the first body to that of the next region's first: as long as from edge to edge, give or take half a body.
        assert np.linalg.norm(steps, axis=1).sum() == pytest.approx(length, rel=0.09), first


def _lean(vertebra):
    return np.rad2deg(np.arctan2(-vertebra.axes[1, 2], vertebra.axes[2, 2]))


def test_standing_curves_are_those_of_adults():
    """Lordosis L1-S1 40 to 70, kyphosis T4-T12 20 to 45, C7 plumb line within 50 mm of the sacrum (Boulay 2006; Schwab 2012)."""
    vertebrae = place_vertebrae(Posture())
    assert 40 < _lean(vertebrae["S1"]) - _lean(vertebrae["L1"]) < 70
    assert 20 < _lean(vertebrae["T4"]) - _lean(vertebrae["T12"]) < 45
    assert 0 < vertebrae["S1"].centre[1] - vertebrae["C7"].centre[1] < 50
    flat = place_vertebrae(Posture(lordosis=0.5))
    assert _lean(flat["S1"]) - _lean(flat["L1"]) == pytest.approx(0.5 * (_lean(vertebrae["S1"]) - _lean(vertebrae["L1"])), abs=0.1)


@pytest.mark.parametrize("cobb", [0.0, 15.0, 40.0, 60.0])
@pytest.mark.parametrize(("apex", "reach", "convex"), [(15, 3, 1.0), (17, 4, -1.0)])
def test_cobb_angle_is_the_one_asked_for(cobb, apex, reach, convex):
    """Measured as on an AP film: lines along the end plates of the most tilted vertebrae, both projected to the coronal plane."""
    vertebrae = list(place_vertebrae(Posture(cobb=cobb, apex=apex, reach=reach, convex=convex)).values())
    up = np.array([vertebra.axes[:, 2] for vertebra in vertebrae])
    tilt = np.rad2deg(np.arctan2(up[:, 0], up[:, 2]))
    assert np.ptp(tilt) == pytest.approx(cobb, abs=0.2)
    if cobb:
        assert {int(np.argmax(tilt)), int(np.argmin(tilt))} == {apex - reach, apex + reach}
        x = np.array([vertebra.centre[0] for vertebra in vertebrae])
        ends = (x[apex - reach] + x[apex + reach]) / 2
        assert np.sign(x[apex] - ends) == convex
        # The front of the apical body turns to the convex side.
        assert np.sign(-vertebrae[apex].axes[0, 1]) == convex


def test_wedged_bodies_bend_the_spine_forward_and_are_lower_in_front():
    wedge = np.zeros(len(LEVELS))
    row = LEVELS.index("T12")
    wedge[row] = 0.4
    worn = Wear(wedge=wedge)
    straight, bent = place_vertebrae(Posture()), place_vertebrae(Posture(), worn)
    expected = np.rad2deg(np.arctan(0.4 * bent["T12"].height / bent["T12"].depth))
    kyphosis = [_lean(spine["T10"]) - _lean(spine["L1"]) for spine in (straight, bent)]
    assert kyphosis[1] - kyphosis[0] == pytest.approx(expected, abs=0.5)
    body = make_vertebrae([bent["T12"]], worn, Bone(1.0), np.random.default_rng(0))[0].mesh
    own = (body.vertices - bent["T12"].centre) @ bent["T12"].axes
    front, back = (np.ptp(own[side, 2]) for side in (own[:, 1] < -0.35 * bent["T12"].depth, own[:, 1] > 0.35 * bent["T12"].depth))
    assert front < 0.75 * back


def test_narrow_discs_bring_vertebrae_together():
    narrowing = np.zeros(len(LEVELS))
    narrowing[LEVELS.index("L4")] = 0.5
    gaps = [
        np.linalg.norm(spine["L4"].centre - spine["L5"].centre)
        for spine in (place_vertebrae(Posture()), place_vertebrae(Posture(), Wear(narrowing=narrowing)))
    ]
    assert gaps[0] - gaps[1] == pytest.approx(6.0, abs=0.2)  # half of a disc of 12 mm


def test_meshes_are_closed_and_face_outwards(patients):
    for anatomy in patients:
        for part in anatomy.parts:
            assert part.mesh.volume() > 0
            assert np.isfinite(part.mesh.vertices).all()
            edges = part.mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
            # Every edge is walked once in each direction: a closed chain.
            forward, backward = (np.sort(pair[:, 0] * (1 << 32) + pair[:, 1]) for pair in (edges, edges[:, ::-1]))
            np.testing.assert_array_equal(forward, backward)


@pytest.mark.parametrize("degrees", [0, 37, 90])
def test_no_part_has_negative_thickness(patients, aim_camera, degrees):
    for anatomy in patients[::4]:
        camera = _aim(aim_camera, anatomy, degrees)
        for part in anatomy.parts:
            assert measure_thickness([part.mesh], [1.0], camera).min() >= -2e-3  # float32 adds up depths of 1500 mm: a step is 1e-4


def test_nothing_is_taken_away_that_is_not_there(patients, aim_camera):
    """Shells: bone that is hollowed out stays bone, nearly everywhere; gas stays in the body."""
    for anatomy in patients[::5]:
        for degrees in (0, 90):
            camera = _aim(aim_camera, anatomy, degrees)
            for material in ("bone", "soft"):
                parts = [part for part in anatomy.parts if part.material == material]
                image = measure_thickness([part.mesh for part in parts], [part.weight for part in parts], camera)
                assert (image < -1.0).mean() < 0.004, (anatomy.region, material)


def _shadow_of_bodies(style, aim_camera):
    total = []
    for seed in range(4):
        anatomy = make_anatomy(np.random.default_rng(seed), "lumbar", style)
        parts = [part for part in anatomy.parts if part.material == "bone"]
        camera = _aim(aim_camera, anatomy, 0, 2.0)
        image = measure_thickness([part.mesh for part in parts], [part.weight for part in parts], camera)
        x, y, _ = camera.project(np.array([anatomy.vertebrae[name].centre for name in ("L2", "L3", "L4")]))
        total += [image[int(row) - 4 : int(row) + 4, int(column) - 6 : int(column) + 6].mean() for row, column in zip(y, x, strict=True)]
    return float(np.mean(total))


def test_styles_do_what_they_say(aim_camera):
    dense, thin = _shadow_of_bodies("young", aim_camera), _shadow_of_bodies("osteoporotic", aim_camera)
    assert thin < 0.7 * dense

    def girth(style):
        return np.mean(
            [np.ptp(make_anatomy(np.random.default_rng(seed), "lumbar", style).parts[-1].mesh.vertices[:, 0]) for seed in range(1)]
        )

    def skin(style):
        anatomies = [make_anatomy(np.random.default_rng(seed), "lumbar", style) for seed in range(3)]
        return np.mean([max(np.ptp(part.mesh.vertices[:, 1]) for part in a.parts if part.material == "soft") for a in anatomies])

    assert skin("stout") > 1.15 * skin("adult") > 1.2 * skin("young")

    def tilt(style):
        spreads = []
        for seed in range(6):
            vertebrae = make_anatomy(np.random.default_rng(seed), "lumbar", style).vertebrae.values()
            spreads.append(np.ptp([np.rad2deg(np.arctan2(v.axes[0, 2], v.axes[2, 2])) for v in vertebrae]))
        return np.mean(spreads)

    assert tilt("deformed") > 20 > 14 > tilt("young")


def test_degeneration_adds_wear_and_the_training_styles_have_some():
    rng = np.random.default_rng(0)
    worn, fresh = draw_wear(rng, 0.9, 0.9, 0.0), draw_wear(rng, 0.0, 0.0, 0.0)
    assert worn.narrowing.mean() > fresh.narrowing.mean() + 0.2
    assert worn.lips.max() > 2 > fresh.lips.max() == 0
    assert worn.sclerosis.max() > 0.3 > fresh.sclerosis.max() == 0
    assert fresh.wedge.max() < 0.1
    others = [style for name, style in STYLES.items() if name != "degenerate"]
    assert max(style.degeneration[1] for style in others) >= 0.4
    assert STYLES["degenerate"].degeneration[0] > max(style.degeneration[1] for style in others)


def test_what_a_region_shows(patients):
    for anatomy in patients:
        bone = np.concatenate([part.mesh.vertices for part in anatomy.parts if part.material == "bone"])
        c1, s1 = anatomy.vertebrae["C1"].centre, anatomy.vertebrae["S1"].centre
        skull = bone[:, 2] > c1[2] + 100
        crest = (
            (np.abs(bone[:, 0]) > 60)
            & (bone[:, 2] > s1[2] + 15)
            & (bone[:, 2] < anatomy.vertebrae["L3"].centre[2])
            & (bone[:, 1] < s1[1] + 40)
        )
        hips = (np.abs(bone[:, 0]) > 70) & (bone[:, 2] < s1[2] - 80)
        assert skull.any() == (anatomy.region != "lumbar")
        assert hips.any() == (anatomy.region == "lumbar")
        if anatomy.region == "lumbar":
            assert crest.any()
        jaw = (bone[:, 1] < c1[1] - 70) & (bone[:, 2] < c1[2] - 15) & (bone[:, 2] > c1[2] - 75)
        assert jaw.any() or anatomy.region != "cervical"


def test_teeth_are_enamel():
    materials = {part.material for seed in range(3) for part in make_anatomy(np.random.default_rng(seed), "cervical", "adult").parts}
    assert materials == {"bone", "soft", "enamel"}


def test_skin_covers_the_spine(patients):
    for anatomy in patients:
        skin = anatomy.parts[[part.material == "soft" and part.weight == 0.9 for part in anatomy.parts].index(True)].mesh.vertices
        first, last = REGIONS[anatomy.region]
        for name in LEVELS[LEVELS.index(first) + 1 : LEVELS.index(last)]:
            vertebra = anatomy.vertebrae[name]
            near = skin[np.abs(skin[:, 2] - vertebra.centre[2]) < 15]
            tip = vertebra.centre[1] + vertebra.depth / 2 + 15
            assert near[:, 1].min() < vertebra.centre[1] - vertebra.depth / 2
            assert near[:, 1].max() > tip, (anatomy.region, name)


def test_the_same_generator_gives_the_same_patient():
    first, again, other = (make_anatomy(np.random.default_rng(seed), "thoracic", "stout") for seed in (5, 5, 6))
    assert len(first.parts) == len(again.parts)
    for one, two in zip(first.parts, again.parts, strict=True):
        np.testing.assert_array_equal(one.mesh.vertices, two.mesh.vertices)
        assert one.weight == two.weight
    assert not np.allclose(first.vertebrae["C1"].centre, other.vertebrae["C1"].centre)


def test_a_film_has_no_more_triangles_than_it_can_afford(patients):
    counts = [sum(len(part.mesh.triangles) for part in anatomy.parts) for anatomy in patients]
    assert np.mean(counts) < 115_000  # a thoracic film has the most: 24 ribs, 22 vertebrae and the head
    assert max(counts) < 160_000


@pytest.mark.parametrize(("region", "style", "named"), [("sacral", "adult", "sacral"), ("lumbar", "tiny", "tiny")])
def test_unknown_names_are_refused(region, style, named):
    with pytest.raises(UsageError, match=named) as failure:
        make_anatomy(np.random.default_rng(0), region, style)
    assert failure.value.remedy
