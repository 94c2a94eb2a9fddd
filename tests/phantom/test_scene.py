import numpy as np
import pytest

from edgekit.errors import EdgekitError
from edgekit.phantom import scene
from edgekit.phantom.body.anatomy import STYLES
from edgekit.phantom.imaging.families import FAMILIES
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


def test_what_chooses_the_threshold_was_held_out_of_training():
    many, others = SITES["many"], SITES["others"]
    assert set(others.families) == {"film", "clahe"}
    assert set(many.families) == set(FAMILIES) - set(others.families)
    assert set(others.styles) == {"degenerate"}
    assert set(many.styles) == set(STYLES) - set(others.styles)
    assert "degenerate" in STYLES


@pytest.mark.parametrize("site", ["a", "b", "many", "others"])
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
