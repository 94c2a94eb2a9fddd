import dataclasses
import time

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.phantom.geometry.mesh import turn
from edgekit.phantom.geometry.projector import EXTENT_THRESHOLD_MM, find_extent, measure_thickness
from edgekit.phantom.metal.construct import MOST_LEVELS, make_construct
from edgekit.phantom.metal.implants import DESIGNS, UNSEEN, draw_design
from edgekit.phantom.metal.rods import make_domino, make_rod, make_sleeve
from edgekit.phantom.metal.screws import make_tulip

# Width, depth, height, disc below, half distance of the pedicles, pedicle width, process; mm.
_SIZES = {
    "C": (17, 16, 13, 5, 15, 5.6, 26),
    "T": (29, 28, 20, 5, 12, 5.5, 30),
    "L": (45, 35, 27, 10, 14.5, 11, 44),
    "S": (50, 33, 26, 0, 20, 16, 30),
}
NAMES = [*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)), "S1"]


@dataclasses.dataclass(frozen=True)
class Bone:
    """What a construct needs to know of a vertebra."""

    name: str
    centre: np.ndarray
    axes: np.ndarray
    width: float
    depth: float
    height: float
    pedicle: float
    pedicle_width: float
    process: float

    def place(self, x, y, z):
        return self.centre + self.axes @ np.array([x, y, z])


def stack(first, last, bend=0.0):
    """Vertebrae on a straight line, or on a coronal arc of `bend` degrees."""
    names = NAMES[NAMES.index(first) : NAMES.index(last) + 1]
    bones, place = [], np.array([0.0, 0.0, 10.0 * len(names)])
    for row, name in enumerate(names):
        width, depth, height, disc, *rest = _SIZES[name[0]]
        axes = turn(1, bend * (row / max(len(names) - 1, 1) - 0.5)) @ turn(0, 39.0 if name == "S1" else 0.0)
        place = place - axes[:, 2] * (height / 2)
        bones.append(Bone(name, place, axes, width, depth, height, *rest))
        place = place - axes[:, 2] * (height / 2 + disc)
    return bones


def is_closed(mesh):
    """Every edge is run through as often one way as the other."""
    edges = np.concatenate([mesh.triangles[:, [0, 1]], mesh.triangles[:, [1, 2]], mesh.triangles[:, [2, 0]]]).astype(np.int64)
    there, back = (np.sort(edges[:, one] * len(mesh.vertices) + edges[:, 1 - one]) for one in (0, 1))
    return np.array_equal(there, back)


def find_tulips(parts, design):
    """Return which parts are tulips: they share the triangles of the design's one mesh. Each follows its screw or hook."""
    return [row for row, part in enumerate(parts) if part.mesh.triangles is make_tulip(design).triangles]


def count_kinds(parts, design):
    """Return how many tulips (each with its screw) and how many other parts there are."""
    tulips = len(find_tulips(parts, design))
    return tulips, len(parts) - 2 * tulips


def tulip_places(parts, design):
    return np.array([parts[row].mesh.vertices.mean(axis=0) for row in find_tulips(parts, design)])


def find_screws(parts, design):
    """Return the screws' vertices, and head and tip of each, (n, 3): the middles of the first and the last ring."""
    vertices = [parts[row - 1].mesh.vertices for row in find_tulips(parts, design)]
    return vertices, *(np.array([points[row] for points in vertices]) for row in (-2, -1))


DESIGN_A = DESIGNS["design-a"]


def test_a_construct_is_bilateral_and_bridged_only_when_asked():
    bones = stack("L2", "L5")
    for name, design in {**DESIGNS, **UNSEEN}.items():
        for seed in range(3):
            plain = make_construct(design, bones, np.random.default_rng(seed), crosslinks=0)
            assert count_kinds(plain, design) == (8, 2)
            x = np.concatenate([part.mesh.vertices[:, 0] for part in plain])
            assert x.min() < -10 < 10 < x.max()
            for crosslinks in (1, 2, 3) if design.crosslink else ():
                bridged = make_construct(design, bones, np.random.default_rng(seed), crosslinks=crosslinks)
                assert len(bridged) == len(plain) + crosslinks, name
                # What stands between the rods now, and did not before, is the bridge.
                for one, two in zip(plain, bridged, strict=False):
                    np.testing.assert_array_equal(one.mesh.vertices, two.mesh.vertices)
                for bridge in bridged[len(plain) :]:
                    assert bridge.mesh.vertices[:, 0].min() < -8
                    assert bridge.mesh.vertices[:, 0].max() > 8


def test_every_mesh_is_closed_metal():
    for seed in range(24):
        rng = np.random.default_rng(seed)
        small = seed % 3 == 0
        bones = stack(*(("C1", "T2"), ("T2", "T12"), ("T10", "S1"))[seed % 3], bend=rng.uniform(-50, 50))
        design = draw_design(rng, small=small)
        parts = make_construct(design, bones, rng, crosslinks=2 if design.crosslink else 0, screws="skipped" if seed % 2 else "bilateral")
        for part in parts:
            assert part.weight == 1.0
            assert part.material in ("titanium", "cobalt-chrome", "steel")
            assert is_closed(part.mesh)
            assert part.mesh.volume() > 5.0
            assert np.isfinite(part.mesh.vertices).all()


def test_no_ray_meets_negative_metal(aim_camera):
    camera = aim_camera(width=300, height=500, spacing_mm=0.6)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        parts = make_construct(draw_design(rng), stack("T8", "L4", bend=30), rng, crosslinks=0)
        thickness = measure_thickness([part.mesh for part in parts], [1.0] * len(parts), camera)
        assert thickness.min() > -1e-3
        assert thickness.max() > 10


def test_one_level_has_two_screws_and_short_rods():
    parts = make_construct(DESIGN_A, stack("L4", "L4"), np.random.default_rng(0), crosslinks=0)
    assert count_kinds(parts, DESIGN_A) == (2, 2)
    rods = [part.mesh for part in parts if len(part.mesh.vertices) < 200]
    assert all(12 < np.ptp(rod.vertices[:, 2]) < 60 for rod in rods)


def test_one_side_has_one_rod():
    bones = stack("L2", "L5")
    for screws, sign in (("left", 1), ("right", -1)):
        parts = make_construct(DESIGN_A, bones, np.random.default_rng(1), crosslinks=0, screws=screws)
        assert count_kinds(parts, DESIGN_A) == (4, 1)
        assert (sign * tulip_places(parts, DESIGN_A)[:, 0] > 8).all()


def test_skipped_screws_never_leave_an_end_bare():
    bones = stack("T10", "L4")
    numbers = set()
    for seed in range(60):
        parts = make_construct(DESIGN_A, bones, np.random.default_rng(seed), crosslinks=0, screws="skipped")
        heights = tulip_places(parts, DESIGN_A)[:, 2]
        numbers.add(len(heights))
        assert len(heights) < 2 * len(bones)
        assert abs(heights.max() - bones[0].centre[2]) < 14
        assert abs(heights.min() - bones[-1].centre[2]) < 14
    assert len(numbers) >= 4


def test_sides_mirror_each_other_on_average():
    """On a symmetric spine, the left heads lie where the right ones do, but for a surgeon's scatter."""
    bones = stack("L1", "L5")
    means = []
    for seed in range(20):
        places = tulip_places(make_construct(DESIGN_A, bones, np.random.default_rng(seed), crosslinks=0), DESIGN_A)
        right, left = places[:5], places[5:]
        assert (right[:, 0] < 0).all()
        assert (left[:, 0] > 0).all()
        assert np.abs(left + right * [1, -1, -1])[:, 0].max() < 12
        means.append((left + right * [1, -1, -1]).mean(axis=0))
    assert np.abs(np.mean(means, axis=0)).max() < 1.0
    assert 0.05 < np.std(means, axis=0)[0] < 3.0


def test_pedicle_screws_end_in_their_vertebra():
    for first, last in (("T4", "T12"), ("L1", "L5")):
        bones = stack(first, last)
        for seed in range(6):
            _, heads, tips = find_screws(make_construct(DESIGN_A, bones, np.random.default_rng(seed), crosslinks=0), DESIGN_A)
            assert len(tips) == 2 * len(bones)
            assert (heads[:, 1] > tips[:, 1] + 15).all()
            for bone, tip in zip([*bones, *bones], tips, strict=True):
                local = bone.axes.T @ (tip - bone.centre)
                assert np.abs(local / [bone.width, bone.depth, bone.height]).max() < 0.75, (bone.name, local)


def test_screws_converge_in_the_pedicles_and_diverge_in_lateral_masses():
    small = draw_design(np.random.default_rng(0), small=True)
    angles = {}
    for first, last, design in (("C3", "C6", small), ("T5", "T8", DESIGN_A), ("L5", "L5", DESIGN_A)):
        found = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            _, heads, tips = find_screws(make_construct(design, stack(first, last), rng, crosslinks=0), design)
            found += list(np.rad2deg(np.arctan2(np.abs(heads[:, 0]) - np.abs(tips[:, 0]), heads[:, 1] - tips[:, 1])))
        angles[first] = np.median(found)
    assert -35 < angles["C3"] < -12
    assert 3 < angles["T5"] < 14
    assert 14 < angles["L5"] < 30


def test_screws_are_as_large_as_their_vertebra_allows():
    small = draw_design(np.random.default_rng(0), small=True)
    sizes = {}
    for first, last, design in (("C4", "C5", small), ("T5", "T7", DESIGN_A), ("L3", "L4", DESIGN_A)):
        lengths, widths = [], []
        for seed in range(10):
            parts = make_construct(design, stack(first, last), np.random.default_rng(seed), crosslinks=0)
            screws, heads, tips = find_screws(parts, design)
            lengths += list(np.linalg.norm(heads - tips, axis=1))
            for vertices, head, tip in zip(screws, heads, tips, strict=True):
                axis = (tip - head) / np.linalg.norm(tip - head)
                widths.append(2 * np.linalg.norm(np.cross(vertices - head, axis), axis=1).max())
        sizes[first] = (min(lengths), max(lengths), min(widths), max(widths))
    for name, (shortest, longest, thinnest, thickest) in {
        "C4": (10, 22, 3.5, 4.5),
        "T5": (25, 50, 4.5, 6.5),
        "L3": (35, 65, 5.0, 8.5),
    }.items():
        low, high, thin, thick = sizes[name]
        assert low >= shortest - 0.01
        assert high <= longest + 0.01
        assert thin >= thinnest - 0.35
        assert thick <= thickest + 0.01


def test_some_sacral_constructs_reach_into_the_ilium():
    bones = stack("T12", "S1")
    reached = [len(tulip_places(make_construct(DESIGN_A, bones, np.random.default_rng(s), crosslinks=0), DESIGN_A)) for s in range(30)]
    assert set(reached) == {14, 16}
    longest = []
    for seed in np.flatnonzero(np.array(reached) == 16):
        _, heads, tips = find_screws(make_construct(DESIGN_A, bones, np.random.default_rng(seed), crosslinks=0), DESIGN_A)
        row = int(np.argmax(np.linalg.norm(heads - tips, axis=1)))
        longest.append(np.linalg.norm(heads[row] - tips[row]))
        assert abs(tips[row, 0]) > abs(heads[row, 0]) + 20  # outwards
        assert tips[row, 2] < heads[row, 2] - 20  # downwards
    assert 60 <= min(longest) <= max(longest) <= 101


def test_long_constructs_sometimes_join_two_rods():
    bones = stack("T9", "L4")
    counts = [count_kinds(make_construct(DESIGN_A, bones, np.random.default_rng(s), crosslinks=0), DESIGN_A)[1] for s in range(60)]
    assert min(counts) == 2
    assert max(counts) >= 4
    assert 0.02 < np.mean(np.array(counts) > 2) < 0.4
    short = [
        count_kinds(make_construct(DESIGN_A, stack("L3", "L5"), np.random.default_rng(s), crosslinks=0), DESIGN_A)[1] for s in range(40)
    ]
    assert set(short) == {2}


def test_rods_run_through_the_tulips_of_a_bent_spine():
    """Every tulip's slot lies on a rod's axis, also in a scoliosis of 50 degrees."""
    for seed in range(8):
        parts = make_construct(DESIGN_A, stack("T4", "L1", bend=50), np.random.default_rng(seed), crosslinks=0)
        nominal = make_tulip(DESIGN_A).vertices
        tulips = find_tulips(parts, DESIGN_A)
        others = set(range(len(parts))) - set(tulips) - {row - 1 for row in tulips}
        rods = [parts[row].mesh.vertices[:-2] for row in others]
        axes = [rod.reshape(-1, 16, 3).mean(axis=1) for rod in rods if len(rod) % 16 == 0]
        for vertices in (parts[row].mesh.vertices for row in tulips):
            # Where the tulip's origin went: a rigid fit to its vertices.
            middle, target = nominal.mean(axis=0), vertices.mean(axis=0)
            u, _, vt = np.linalg.svd((vertices - target).T @ (nominal - middle))
            slot = target - u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt @ middle
            distances = []
            for axis in axes:
                start, step = axis[:-1], np.diff(axis, axis=0)
                along = np.clip(((slot - start) * step).sum(axis=1) / (step**2).sum(axis=1), 0, 1)
                distances.append(np.linalg.norm(start + along[:, None] * step - slot, axis=1).min())
            assert min(distances) < 0.1


def test_rods_end_near_the_last_screws_of_a_neck_bent_far_forward():
    """Bent so, the heads of two vertebrae may be level; a rod through them would run across the spine."""
    axes = [turn(0, tilt) for tilt in (24.0, 36.0, 48.0)]
    bones = [dataclasses.replace(bone, axes=tilted) for bone, tilted in zip(stack("C5", "C7"), axes, strict=True)]
    bones = [
        dataclasses.replace(bone, centre=np.array([0.0, *middle]))
        for bone, middle in zip(bones, [(-79, 324), (-72, 312), (-61, 300)], strict=True)
    ]
    for seed in range(60):
        random = np.random.default_rng(seed)
        for part in make_construct(draw_design(random, small=True), bones, random, crosslinks=0):
            assert np.abs(part.mesh.vertices - bones[1].centre).max() < 90


@pytest.mark.parametrize("diameter", [3.5, 5.5, 6.0])
def test_a_rod_is_as_thick_as_it_says(diameter, aim_camera):
    """A straight rod on the film, and its volume against pi r^2 l; with a nose it is no thicker, only longer."""
    path = np.column_stack([np.zeros(11), np.zeros(11), np.linspace(50, -50, 11)])
    camera = aim_camera(width=100, height=400, spacing_mm=0.1)
    for has_nose in (False, True):
        rod = make_rod(path, diameter, has_nose=has_nose)
        assert is_closed(rod)
        thickness = measure_thickness([rod], [1.0], camera, 2.0)
        assert thickness.max() == pytest.approx(diameter, rel=0.02)
        assert np.hypot(rod.vertices[:, 0], rod.vertices[:, 1]).max() == pytest.approx(diameter / 2)
        # A ring of 16 points covers sin(22.5 deg) / 22.5 deg = 0.974 of its circle; the ends add less than a diameter.
        cylinder = np.pi * (diameter / 2) ** 2 * 100 * 0.974
        assert cylinder * 0.998 < rod.volume() < cylinder * (1 + 1.2 * diameter / 100)


def test_connectors_leave_the_rods_room(aim_camera):
    """Along the ray through a rod's axis: a sleeve's two walls of 2.15 mm, a block's two plates of 2 mm and its set screw of 2.4 mm."""
    camera = aim_camera(width=200, height=200, spacing_mm=0.2)
    column, row = (int(edge) for edge in camera.principal)
    for diameter in (3.5, 5.5):
        for mesh, walls in ((make_sleeve(diameter, 24.0), 2 * 2.15), (make_domino(diameter, diameter + 1.5), 2 * 2.0 + 2.4)):
            assert is_closed(mesh)
            thickness = measure_thickness([mesh], [1.0], camera)
            assert thickness.min() > -1e-3
            assert thickness[row, column] == pytest.approx(walls, rel=0.03)


def test_boxes_agree_in_the_axis_that_both_views_share(aim_camera):
    """Head to foot: AP and lateral boxes are equally tall, but for what perspective does to things nearer and farther."""
    lateral = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for seed in range(4):
        parts = make_construct(DESIGN_A, stack("L1", "L4"), np.random.default_rng(seed), crosslinks=1)
        meshes = [part.mesh for part in parts]
        points = np.concatenate([mesh.vertices for mesh in meshes])
        middle = (points.max(axis=0) + points.min(axis=0)) / 2
        tall = []
        for rotation in (None, lateral):
            camera = dataclasses.replace(
                aim_camera(width=400, height=700, spacing_mm=0.3, source_object_mm=5000.0, source_image_mm=5000.0, rotation=rotation),
                centre=middle,
            )
            box = find_extent(measure_thickness(meshes, [1.0] * len(meshes), camera), 1.0)
            tall.append((box[3] - box[1]) * 0.3)
            assert tall[-1] == pytest.approx(np.ptp(points[:, 2]), abs=2 * (0.3 + EXTENT_THRESHOLD_MM) + 0.015 * np.ptp(points[:, 2]))
        assert tall[0] == pytest.approx(tall[1], rel=0.02)


def test_the_same_seed_builds_the_same():
    bones = stack("L2", "L5")
    first, again, other = (make_construct(DESIGN_A, bones, np.random.default_rng(seed), crosslinks=1) for seed in (3, 3, 4))
    assert all(np.array_equal(one.mesh.vertices, two.mesh.vertices) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0].mesh.vertices, other[0].mesh.vertices)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vertebrae": []}, "0 vertebrae"),
        ({"vertebrae": stack("T4", "L5")}, f"{len(NAMES[NAMES.index('T4') : NAMES.index('L5') + 1])} vertebrae"),
        ({"design": DESIGNS["design-f"], "crosslinks": 1}, "design-f has no crosslink"),
        ({"crosslinks": 1, "screws": "left"}, "crosslinks is 1 on a construct of one side"),
        ({"crosslinks": 4}, "crosslinks is 4 on 4 vertebrae"),
        ({"crosslinks": -1}, "crosslinks is -1"),
        ({"screws": "some"}, "screws is 'some'"),
        ({"vertebrae": stack("L2", "L5")[::-1]}, "from the top down"),
    ],
)
def test_impossible_constructs_are_refused_by_name(change, named):
    arguments = {"design": DESIGN_A, "vertebrae": stack("L2", "L5"), "crosslinks": 0, **change}
    with pytest.raises(InputError, match=named) as failure:
        make_construct(rng=np.random.default_rng(0), **arguments)
    assert failure.value.remedy


def test_the_longest_construct_is_built_quickly():
    bones = stack("T5", "L4")
    assert len(bones) == MOST_LEVELS
    start = time.perf_counter()
    for seed in range(3):
        make_construct(DESIGN_A, bones, np.random.default_rng(seed), crosslinks=2)
    assert time.perf_counter() - start < 0.6
