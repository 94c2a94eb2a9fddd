from dataclasses import replace

import numpy as np
import pytest

from edgekit.errors import EdgekitError
from edgekit.phantom import scene
from edgekit.phantom.body.anatomy import REGIONS, STYLES, make_anatomy
from edgekit.phantom.fields import FIELDS, Field
from edgekit.phantom.imaging.families import FAMILIES
from edgekit.phantom.metal.hardware import SPINAL
from edgekit.phantom.scene import simulate_patient, simulate_rows
from edgekit.phantom.sites import SITES


@pytest.fixture(scope="module")
def patients():
    return [simulate_patient(f"design-{'abcdefg'[seed]}", seed, size=384, has_crosslink=seed % 2 == 0 and seed != 5) for seed in range(7)]


def test_films_are_what_they_say(patients):
    for films in patients:
        assert list(films) == ["ap", "lateral"]
        for film in films.values():
            assert film.pixels.dtype == np.uint16
            assert film.display.dtype == np.uint8
            assert film.pixels.shape == film.display.shape == (film.camera.height, film.camera.width)
            assert max(film.pixels.shape) == 384
            assert film.pixels.max() < 1 << film.bits
            assert film.photometric in ("MONOCHROME1", "MONOCHROME2")
            assert film.display.std() > 20


def test_metal_is_bright_in_the_display_and_inside_the_box(patients):
    for films in patients:
        for film in films.values():
            x0, y0, x1, y1 = (round(edge) for edge in film.box)
            inside = film.display[y0:y1, x0:x1]
            assert np.quantile(inside, 0.95) > 160
            assert np.quantile(inside, 0.95) > np.median(film.display) + 50


def test_photometric_interpretation_inverts_only_what_is_stored(patients):
    kinds = {film.photometric for films in patients for film in films.values()}
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}
    for films in patients:
        for film in films.values():
            sign = np.corrcoef(film.pixels.ravel().astype(float), film.display.ravel().astype(float))[0, 1]
            assert sign > 0.9 if film.photometric == "MONOCHROME2" else sign < -0.9


def test_both_boxes_are_as_tall_in_the_patient(patients):
    """Head to foot is the axis that both views share; magnified by what lies at the spine, the boxes agree to a few per cent."""
    ratios = []
    for films in patients:
        tall = [
            (film.box[3] - film.box[1]) * film.camera.spacing_mm * film.camera.source_object_mm / film.camera.source_image_mm
            for film in films.values()
        ]
        ratios.append(tall[0] / tall[1])
    assert np.abs(np.log(ratios)).max() < 0.12
    assert abs(np.mean(ratios) - 1) < 0.05


def test_boxes_are_the_extent_of_the_construct(monkeypatch):
    """Against the projection of every vertex of the construct, written out here; other metal doesn't count."""
    seen, add = [], scene.add_metal

    def listen(shadow, parts, camera):
        seen.append((parts, camera))
        return add(shadow, parts, camera)

    monkeypatch.setattr(scene, "add_metal", listen)
    compared = 0
    for seed, brand in enumerate(("design-b", "design-f", "design-g")):
        seen.clear()
        films = simulate_patient(brand, 40 + seed, size=512, has_crosslink=False, metal="some")
        for film, (parts, camera) in zip(films.values(), seen[1::2], strict=True):
            points = np.concatenate([part.mesh.vertices for part in parts]) - camera.centre
            right, down, along = points @ camera.axes[0], points @ camera.axes[1], points @ camera.axes[2]
            scale = camera.source_image_mm / (camera.source_object_mm + along) / camera.spacing_mm
            x, y = camera.principal[0] + right * scale, camera.principal[1] + down * scale
            # The box lies inside, short of it by no more than the faintest edges: bullet tips and rims.
            short = np.subtract((x.min(), y.min(), x.max(), y.max()), film.box)
            assert np.abs(short).max() < 4.0
            assert np.abs(short).mean() < 1.0
            compared += 1
    assert compared == 6


def test_a_pair_of_films_differs_in_the_construct_alone():
    for site in ("a", "many"):
        for seed in range(3):
            with_it, without = simulate_rows(("design-random", "none"), seed, size=300, has_crosslink=None, site=site, metal="chance")
            for view in ("ap", "lateral"):
                one, other = with_it[view], without[view]
                assert other.box is None
                assert one.pixels.shape == other.pixels.shape
                assert (one.bits, one.photometric, one.window, one.exposure) == (
                    other.bits,
                    other.photometric,
                    other.window,
                    other.exposure,
                )
                x0, y0, x1, y1 = (round(edge) for edge in one.box)
                difference = np.abs(one.display.astype(int) - other.display)
                outside = np.ones(difference.shape, bool)
                outside[max(y0 - 12, 0) : y1 + 12, max(x0 - 12, 0) : x1 + 12] = False
                if outside.mean() > 0.2:
                    assert difference[y0:y1, x0:x1].mean() > difference[outside].mean()


def test_what_a_detector_is_judged_on_and_its_threshold_is_chosen_on_was_held_out_of_training():
    many, others, elsewhere = (SITES[name] for name in ("many", "others", "elsewhere"))
    for what, known in (("families", FAMILIES), ("styles", STYLES), ("fields", FIELDS)):
        parts = [set(getattr(site, what)) for site in (many, others, elsewhere)]
        assert all(parts)
        assert set.union(*parts) == set(known)
        assert sum(map(len, parts)) == len(known), "each is in one of the three"
    for site in (others, elsewhere):
        new, lost = set(site.metal) - set(many.metal), set(many.metal) - set(site.metal)
        assert len(new) >= 3
        assert {"anterior-plate", "disc-prosthesis", "kyphoplasty"} <= lost, "the held-out kinds stand in the place of those"
    assert not (set(others.metal) - set(many.metal)) & set(elsewhere.metal)
    spinal = [set(site.spinal) for site in (many, others, elsewhere)]
    assert set.union(*spinal) == set(SPINAL)
    assert sum(map(len, spinal)) == len(SPINAL), "what stands in a film's middle there, training does not know"


def test_fields_that_are_held_out_are_beyond_those_that_came_before():
    """In their centres, their height or their width: a name alone holds nothing out."""
    order = [SITES[name].fields for name in ("many", "others", "elsewhere")]
    for place in (1, 2):
        earlier = [FIELDS[name] for fields in order[:place] for name in fields]
        for name in order[place]:
            field = FIELDS[name]
            for other in earlier:
                if (other.region, other.view) != (field.region, field.view):
                    continue
                apart = [one[1] < two[0] or two[1] < one[0] for one, two in ((field.height, other.height), (field.width, other.width))]
                assert any(apart) or not set(field.centres) & set(other.centres), (name, other)


@pytest.mark.parametrize("name", FIELDS)
def test_fields_stay_within_what_their_region_is_made_of(name):
    """No spine ends in mid-film: above a thoracic or lumbar field, and below a cervical or thoracic one, there are vertebrae."""
    field = FIELDS[name]
    beyond = []
    for seed in range(4):
        vertebrae = make_anatomy(np.random.default_rng(seed), field.region).vertebrae
        first, last = (vertebrae[end].centre[2] for end in REGIONS[field.region])
        for centre in field.centres:
            middle, half = vertebrae[centre].centre[2], np.mean(field.height) / 2
            beyond.append(
                [middle + half - first if field.region != "cervical" else 0, last - middle + half if field.region != "lumbar" else 0]
            )
    assert np.mean(beyond, axis=0).max() < 10


def test_the_films_of_the_studys_hospitals_stay_what_they_were():
    """What detectors meet may grow; films of the hospitals a and b, on which figures are kept, do not change with it."""
    means = [
        film.display.mean()
        for seed in range(2)
        for metal, brand in (("some", "none"), ("chance", "design-a"))
        for film in simulate_rows((brand,), seed, size=96, has_crosslink=None, site="ab"[seed], metal=metal)[0].values()
    ]
    assert means == pytest.approx([80.6, 115.1, 61.9, 119.0, 101.0, 64.6, 99.2, 65.5], abs=0.2)


def test_a_film_of_a_usual_field_does_not_centre_the_construct():
    """Of films aimed at the levels hardly a construct has its middle in an outer third; of those of a usual field many have."""
    site = replace(SITES["many"], levels={2: 1.0}, regions={"lumbar": 1.0}, sides=(200.0, 200.0))
    shares = {}
    for share in (0.0, 1.0):
        heights = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SITES, "many", replace(site, field_share=share))
            for seed in range(25):
                for film in simulate_patient("design-random", seed, size=None, has_crosslink=None, site="many", metal="none").values():
                    assert (film.facts.field is None) == (share == 0)
                    if film.box is not None:
                        heights.append((film.box[1] + film.box[3]) / 2 / film.display.shape[0])
        shares[share] = np.mean(np.abs(np.array(heights) - 0.5) > 1 / 6)
    assert shares[1.0] > 0.3
    assert shares[1.0] > 1.5 * shares[0.0]


def test_spinal_hardware_is_framed_as_a_construct_would_be(monkeypatch):
    """The plate, cage or cement that a film is about lies around its middle; what is framed as it comes lies anywhere."""
    seen, shares, place = [], [], scene.place_camera

    def listen(view, anatomy, vertebrae, *others):
        placed = place(view, anatomy, vertebrae, *others)
        seen.append((placed.camera, vertebrae))
        return placed

    monkeypatch.setattr(scene, "place_camera", listen)
    monkeypatch.setattr(scene, "_SPINAL_SHARE", 1.0)
    monkeypatch.setitem(SITES, "elsewhere", replace(SITES["elsewhere"], metal={"clips": 0.0}, field_share=0.0, framed=False))
    hardware = []
    make = scene.make_hardware
    monkeypatch.setattr(scene, "make_hardware", lambda *given, **more: hardware.append(make(*given, **more)) or hardware[-1])
    for seed in range(8):
        hardware.clear()
        films = simulate_patient("none", seed, size=96, has_crosslink=None, site="elsewhere", metal="some")
        assert all(film.facts.has_other_metal for film in films.values())
        assert all(film.facts.levels == 0 for film in films.values())
        points = np.concatenate([part.mesh.vertices for part in hardware[0]])
        for camera, _ in seen[-2:]:
            x, y, _ = camera.project(points)
            shares.append(np.mean((x > 0) & (x < camera.width) & (y > 0) & (y < camera.height)))
    assert np.mean(shares) > 0.85
    assert np.min(shares) > 0.4


def test_metal_beside_the_film_is_no_metal_of_the_film(monkeypatch):
    """A hip prosthesis is 100 mm below the sacrum: a film of the upper lumbar spine does not show it, one of the pelvis does."""
    upper, low = (Field("lumbar", view, (centre,), (120.0, 120.0), (300.0, 300.0)) for view, centre in (("ap", "L1"), ("ap", "S1")))
    seen = {}
    for name, field in (("upper", upper), ("low", replace(low, height=(330.0, 330.0)))):
        monkeypatch.setitem(FIELDS, "here", field)
        site = replace(SITES["many"], regions={"lumbar": 1.0}, metal={"hip-prosthesis": 1.0}, spinal=(), fields=("here",), field_share=1.0)
        monkeypatch.setitem(SITES, "many", replace(site, levels={1: 1.0}, oblique_share=0.0, framed=False))
        monkeypatch.setattr(scene, "_LOWEST", (0.0, 0.0, 0.0, 0.0, 1.0) if name == "upper" else (1.0,))
        films = simulate_patient("none", 3, size=128, has_crosslink=None, site="many", metal="some")
        seen[name] = films["ap"].facts.has_other_metal
    assert seen == {"upper": False, "low": True}


@pytest.mark.parametrize("site", ["a", "b", "many", "others", "elsewhere"])
def test_shares_are_shares(site):
    assert sum(SITES[site].levels.values()) == pytest.approx(1)
    assert sum(SITES[site].regions.values()) == pytest.approx(1)


def test_many_hospitals_take_many_kinds_of_films():
    films = [film for seed in range(12) for film in simulate_patient("none", seed, size=None, has_crosslink=None, site="many").values()]
    sides = [max(film.pixels.shape) for film in films]
    assert min(sides) < 400 < 700 < max(sides)
    means = [film.display.mean() for film in films]
    assert np.ptp(means) > 60


def test_the_same_seed_gives_the_same_films_and_another_does_not():
    first, again, other = (simulate_patient("design-c", seed, size=128, has_crosslink=True) for seed in (7, 7, 8))
    for view in first:
        np.testing.assert_array_equal(first[view].pixels, again[view].pixels)
        assert first[view].box == again[view].box
        assert first[view].pixels.shape != other[view].pixels.shape or (first[view].pixels != other[view].pixels).any()


def test_a_patient_without_construct_has_no_box():
    films = simulate_patient("none", 3, size=128, has_crosslink=False)
    assert [film.box for film in films.values()] == [None, None]


def test_constructs_stay_on_the_film():
    """A box that touches the border would be a construct cut off."""
    for seed in range(12):
        for film in simulate_patient("design-f", 900 + seed, size=96, has_crosslink=False).values():
            x0, y0, x1, y1 = film.box
            assert x0 > 0
            assert y0 > 0
            assert x1 < film.camera.width
            assert y1 < film.camera.height


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 63}, "size is 63"),
        ({"size": 4001}, "size is 4001"),
        ({"site": "z"}, "unknown site 'z'"),
        ({"brand": "design-q"}, "unknown brand 'design-q'"),
        ({"brand": "design-f", "has_crosslink": True}, "design-f has no crosslink"),
    ],
)
def test_impossible_parameters_are_refused_by_name(change, named):
    arguments = {"brand": "design-a", "seed": 0, "size": 128, "has_crosslink": False, **change}
    with pytest.raises(EdgekitError, match=named) as failure:
        simulate_patient(**arguments)
    assert failure.value.remedy


def test_sites_differ_in_geometry_and_look():
    spreads = {}
    for site in ("a", "b"):
        films = [film for seed in range(3) for film in simulate_patient("none", seed, size=96, has_crosslink=False, site=site).values()]
        spreads[site] = [np.mean([film.camera.source_image_mm for film in films]), np.mean([film.exposure.scatter for film in films])]
    assert spreads["a"][0] > spreads["b"][0] + 50
    assert spreads["a"][1] < spreads["b"][1]
