import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from edgekit.errors import UsageError
from edgekit.phantom.photo import optics, phone
from edgekit.phantom.photo import snapshot as photo
from edgekit.phantom.photo.glare import Light, make_light, place_nodes
from edgekit.phantom.photo.optics import Lens, Panel, mosaic, project_picture, weaken_grid
from edgekit.phantom.photo.phone import RESPONSE, Handling, expose, process
from edgekit.phantom.photo.snapshot import SEVERITIES, photograph
from edgekit.phantom.photo.viewer import Screen, show_film
from edgekit.phantom.photo.viewpoint import FOCAL, take_position
from edgekit.straightening import choose_size, fit_homography, make_rectangle, project, straighten

PLAIN = Panel(stripe=1.0, lit=1.0)


def _make_film(width=420, height=560, seed=0):
    """Soft structure with bright rods, as on a film."""
    film = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), 12)
    film = 40 + 120 * (film - film.min()) / np.ptp(film)
    film[height // 4 : -height // 4, width // 3 : width // 3 + 14] = 235
    film[height // 4 : -height // 4, -width // 3 : -width // 3 + 14] = 235
    return film.astype(np.uint8)


def _grey_screen(value=200, size=(1920, 1200)):
    return Screen(np.full((size[1], size[0], 3), value, np.uint8), (400.0, 100.0, 1300.0, 1100.0))


def _dark_room(view):
    shape = place_nodes(view).shape[:2]
    return Light(np.ones(shape, np.float32), np.zeros((3, *shape), np.float32))


def _see(screen, panel, view, lens):
    """Return the light on the photosites without anything of a room."""
    planes = project_picture(screen, panel, view, lens, (0, 0))
    return mosaic(planes, weaken_grid(panel, view, lens), _dark_room(view), view, RESPONSE, (1920, 1200))


def _score(film, flat):
    """Peak signal-to-noise ratio in decibels after the best brightness and contrast."""
    x, y = flat.astype(float).ravel(), film.astype(float).ravel()
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    return 10 * np.log10(255**2 / np.mean(residual**2))


# corners


@pytest.mark.parametrize(("severity", "seed"), [("mild", 3), ("moderate", 7), ("severe", 8)])
def test_the_corners_are_where_the_film_is_seen(severity, seed):
    """Four bright squares near the film's corners: their centres in the photo, against the perspective of the four corners."""
    height, width, side, inset = 700, 500, 36, 60
    film = np.zeros((height, width), np.uint8)
    centres = make_rectangle(inset, inset, width - inset, height - inset)
    for x, y in centres.astype(int):
        film[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = 255
    taken = photograph(film, np.random.default_rng(seed), severity)
    expected = project(fit_homography(make_rectangle(0, 0, width, height), taken.corners), centres)
    grey = np.asarray(Image.fromarray(taken.pixels).convert("L")).astype(float)
    for x, y in expected:
        left, top, reach = round(x) - 75, round(y) - 75, 150
        window = grey[max(top, 0) : top + reach, max(left, 0) : left + reach]
        bright = np.clip(window - np.percentile(window, (10, 98)).mean(), 0, None)
        labels, _ = ndimage.label(bright)
        largest = np.argmax(ndimage.sum_labels(bright, labels, np.arange(labels.max() + 1)))
        row, column = ndimage.center_of_mass(bright, labels, largest)
        assert np.hypot(column + 0.5 + max(left, 0) - x, row + 0.5 + max(top, 0) - y) < 1.2


def test_the_straightened_photo_is_the_film():
    film = _make_film()
    for severity, least in (("mild", 0.95), ("severe", 0.75)):
        taken = photograph(film, np.random.default_rng(5), severity)
        flat = straighten(taken.pixels, taken.corners, (420, 560)).mean(axis=-1)
        assert np.corrcoef(flat.ravel(), film.ravel())[0, 1] > least
        # A tenth of the film further on, it is not.
        shifted = np.roll(flat, 42, axis=1)
        assert np.corrcoef(shifted.ravel(), film.ravel())[0, 1] < least - 0.2


def test_a_photo_is_straightened_in_the_grey_of_the_specification():
    film = _make_film()
    taken = photograph(film, np.random.default_rng(5), "moderate")
    grey = taken.pixels.astype(int) @ (19595, 38470, 7471) + 32768 >> 16  # docs/canvas.md, 1
    flat = taken.straighten(film.shape[1], film.shape[0])
    size = choose_size(taken.corners, film.shape[1], film.shape[0])
    np.testing.assert_array_equal(flat, straighten(grey.astype(np.uint8), taken.corners, size))


def test_all_corners_are_in_the_photo_and_go_round_it():
    film = np.full((300, 260), 128, np.uint8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ranges = SEVERITIES["severe"]
        screen = show_film(film, rng)
        view = photo._hold_phone(screen, ranges, photo.SENSOR, rng)
        corners = view.find_corners(screen.film)
        assert (corners > 0).all()
        assert (corners < (view.width, view.height)).all()
        edges = np.roll(corners, -1, axis=0) - corners
        following = np.roll(edges, -1, axis=0)
        assert (edges[:, 0] * following[:, 1] > edges[:, 1] * following[:, 0]).all()


def _position(**change):
    ways = {"tilt_degrees": 0.0, "azimuth_degrees": 0.0, "roll_degrees": 0.0, "fill": 0.8}
    return take_position((400, 100, 1300, 1100), 2016, 1512, **{**ways, **change})


def test_from_the_front_the_film_stays_a_rectangle_of_the_size_asked_for():
    corners = _position().find_corners((400, 100, 1300, 1100))
    np.testing.assert_allclose(corners, make_rectangle(1008 - 544.32, 756 - 604.8, 1008 + 544.32, 756 + 604.8), atol=1e-6)
    turned = _position(roll_degrees=10.0).find_corners((400, 100, 1300, 1100))
    assert np.degrees(np.arctan2(*(turned[1] - turned[0])[::-1])) == pytest.approx(10)


def test_more_tilt_more_keystone():
    ratios = []
    for tilt in (0, 10, 20, 30):
        corners = _position(tilt_degrees=float(tilt)).find_corners((400, 100, 1300, 1100))
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        ratios.append(max(sides[1], sides[3]) / min(sides[1], sides[3]))
    assert ratios[0] == pytest.approx(1)
    assert (np.diff(ratios) > 0.05).all()


@pytest.mark.parametrize(("tilt", "azimuth", "roll"), [(0, 0, 3), (12, 40, -5), (30, 200, 8)])
def test_the_tilt_can_be_recovered_from_the_homography(tilt, azimuth, roll):
    view = _position(tilt_degrees=float(tilt), azimuth_degrees=float(azimuth), roll_degrees=float(roll))
    focal = FOCAL * 2016
    axes = np.linalg.inv([[focal, 0, 1008], [0, focal, 756], [0, 0, 1]]) @ view.matrix
    axes /= np.linalg.norm(axes[:, 0])
    assert np.linalg.norm(axes[:, 1]) == pytest.approx(1)
    normal = np.cross(axes[:, 0], axes[:, 1])
    assert np.degrees(np.arccos(min(normal[2], 1))) == pytest.approx(tilt, abs=1e-4)
    # Position of the lens from the same matrix.
    rotation = np.column_stack([axes[:, :2], normal])
    np.testing.assert_allclose(view.eye * (1, 1, -1), -rotation.T @ axes[:, 2], rtol=1e-6)


# moire


def test_harmonics_are_the_grid_seen_through_area_lens_and_shake():
    """Against 20,000 rays a photosite through stripes and rows as they are."""
    panel = Panel()
    view, lens = _position(tilt_degrees=9.0, azimuth_degrees=30.0, roll_degrees=4.0, fill=1.4), Lens(0.3, (0.5, 0.3))
    seen = _see(_grey_screen(255), panel, view, lens)
    rng = np.random.default_rng(1)
    rays = 20_000
    inverse = np.linalg.inv(view.matrix)
    errors, values = [], []
    for row, column in rng.integers((500, 700), (900, 1300), (150, 2)):
        points = np.array([column + 0.5, row + 0.5]) + rng.uniform(-0.5, 0.5, (rays, 2)) + rng.normal(0, lens.sigma, (rays, 2))
        points += rng.uniform(-0.5, 0.5, (rays, 1)) * lens.shake
        u, v = np.moveaxis(project(inverse, points) % 1, -1, 0)
        lit = np.abs(v - 0.5) < panel.lit / 2
        colours = [np.mean(lit & (np.abs(u - (2 * c + 1) / 6) < panel.stripe / 2)) / panel.lit / panel.stripe for c in range(3)]
        expected = RESPONSE[(row & 1) + (column & 1)] @ colours
        errors.append(seen[row, column] - expected)
        values.append(expected)
    assert np.std(values) > 0.2  # there is a grid to see
    assert np.abs(errors).max() < 0.05
    assert np.std(errors) < 0.015


def _find_wave(raw):
    """Return frequency (cycles per photosite) and contrast of the strongest wave along the rows of the red photosites."""
    red = raw[600:900:2, 700:1300:2]
    window = np.hanning(red.shape[1])
    spectrum = np.abs(np.fft.rfft((red - red.mean()) * window, axis=1)).mean(axis=0) * 2 / window.sum() / red.mean()
    peak = int(np.argmax(spectrum[2:])) + 2
    return peak / red.shape[1] / 2, float(spectrum[peak])


def test_moire_has_the_folded_frequency_of_the_pixel_grid():
    """Red photosites lie 2 apart: a grid of f cycles a photosite is seen at its distance to the nearest multiple of 1/2."""
    for fill in (1.25, 1.4, 1.6):
        view = _position(fill=fill)
        grid = 1000 / (fill * 1512)  # the film is 1000 device pixels high
        frequency, contrast = _find_wave(_see(_grey_screen(), Panel(), view, Lens(0.3)))
        assert frequency == pytest.approx(abs(grid - 0.5 * round(grid / 0.5)), abs=0.002)
        assert contrast > 0.1


def test_no_moire_without_a_grid_or_when_it_is_blurred():
    view = _position(fill=1.4)
    assert _find_wave(_see(_grey_screen(), PLAIN, view, Lens(0.3)))[1] < 1e-3
    assert _find_wave(_see(_grey_screen(), Panel(), view, Lens(1.6)))[1] < 1e-3
    # A shake across the stripes takes them away, one along them leaves them.
    across, along = (_find_wave(_see(_grey_screen(), Panel(), view, Lens(0.3, shake)))[1] for shake in ((2.1, 0), (0, 2.1)))
    assert across < 0.1 * along


def test_the_grid_off_takes_the_waves_out_of_the_photo():
    film = np.full((500, 400), 150, np.uint8)
    with_grid, without = (photograph(film, np.random.default_rng(3), "moderate", panel=panel) for panel in (Panel(), PLAIN))
    assert with_grid.conditions.moire > 0.1
    assert without.conditions.moire < 1e-6
    np.testing.assert_array_equal(with_grid.corners, without.corners)
    peaks = []
    for taken in (with_grid, without):
        flat = straighten(taken.pixels, taken.corners, (800, 1000)).mean(axis=-1)[200:800, 200:600]
        waves = flat - ndimage.gaussian_filter(flat, 12)
        spectrum = np.abs(np.fft.rfft2(waves * np.outer(np.hanning(600), np.hanning(400))))
        peaks.append(spectrum.max() / np.median(spectrum))
    assert peaks[0] > 4 * peaks[1]


# phone


def test_demosaicing_is_malvar_he_cutler():
    """Their 5 x 5 filters (ICASSP 2004, figure 2) as masks for scipy."""
    raw = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    cross = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8
    beside = np.array([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]) / 8
    corner = np.array([[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]) / 8
    green, level, upright, other = (ndimage.convolve(raw, kernel, mode="mirror") for kernel in (cross, beside, beside.T, corner))
    rows, columns = np.indices(raw.shape) % 2
    red_site, blue_site = (rows == 0) & (columns == 0), (rows == 1) & (columns == 1)
    g = np.where(red_site | blue_site, green, raw)
    r = np.where(red_site, raw, np.where(blue_site, other, np.where(rows == 0, level, upright)))
    b = np.where(blue_site, raw, np.where(red_site, other, np.where(rows == 0, upright, level)))
    expected = 0.299 * np.clip(r, 0, 1) + 0.587 * np.clip(g, 0, 1) + 0.114 * np.clip(b, 0, 1)
    straight = np.linspace(0, 1, 4097, dtype=np.float32)
    luma, chroma = phone._demosaic(np.pad(raw, 2, mode="reflect"), np.eye(3, dtype=np.float32), straight)
    np.testing.assert_allclose(luma, expected, atol=4e-4)
    difference = (0.713 * (np.clip(r, 0, 1) - expected)).reshape(20, 2, 30, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(chroma[1], difference, atol=1e-3)


def test_noise_is_that_of_counted_electrons():
    light = np.full((400, 400), 0.3, np.float32)
    raw = expose(light, Handling(exposure_ev=-1, electrons=2000, read_electrons=4), np.random.default_rng(0))
    assert raw.mean() == pytest.approx(0.425, rel=2e-3)
    assert raw.std() == pytest.approx(np.sqrt(850 + 16) / 2000, rel=0.01)


def test_a_grey_scene_stays_grey_and_exposure_brightens_it():
    light = np.full((64, 64), 0.5, np.float32)
    rng = np.random.default_rng(0)
    dark, bright = (
        np.asarray(process(expose(light, Handling(exposure_ev=ev, electrons=1e6), rng), Handling()).convert("RGB")).mean(axis=(0, 1))
        for ev in (-2, -1)
    )
    assert np.ptp(dark) < 2
    assert (bright > dark + 20).all()
    # sRGB of 0.85 / 4 without the S-curve
    plain = np.asarray(process(np.full((64, 64), 0.2125, np.float32), Handling(contrast=0)).convert("L"))
    assert plain[32, 32] == pytest.approx(255 * (1.055 * 0.2125 ** (1 / 2.4) - 0.055), abs=1)


def test_a_window_is_reflected_no_brighter_than_asked_for():
    view = _position()
    for seed in range(5):
        clear, window = (
            make_light(view, (1920, 1200), np.random.default_rng(seed), glare=glare, ambient=0.01, smear=0) for glare in (0, 0.4)
        )
        assert float((window.added - clear.added)[1].max()) == pytest.approx(0.4, rel=1e-3)
        assert (window.added >= clear.added - 1e-6).all()
        assert clear.gain.max() <= 1.2
        assert clear.gain.min() > 0.2


def test_shake_moves_nothing_on_average():
    plane = np.zeros((41, 41), np.float32)
    plane[20, 20] = 1
    path = optics._trace_shake((6.0, 2.0))
    moved = optics._move(plane, *path)
    assert moved.sum() == pytest.approx(1, abs=1e-5)
    y, x = np.indices(moved.shape) - 20
    assert abs((moved * x).sum()) < 1e-4
    assert abs((moved * y).sum()) < 1e-4
    assert (moved * x**2).sum() == pytest.approx(36 / 12, abs=0.3)  # a line of 6, and linear interpolation
    assert (moved * x * y).sum() == pytest.approx(6 * 2 / 12, abs=0.1)


# photo


def test_worse_severities_are_worse(monkeypatch):
    monkeypatch.setattr(photo, "SENSOR", (1008, 756))
    film = _make_film()
    scores = {
        severity: np.mean(
            [
                _score(film, straighten(p.pixels, p.corners, (420, 560)).mean(axis=-1))
                for p in (photograph(film, np.random.default_rng(seed), severity) for seed in range(4))
            ]
        )
        for severity in SEVERITIES
    }
    assert scores["mild"] > scores["moderate"] + 1 > scores["severe"] + 2


def test_the_same_seed_is_the_same_photo_and_the_file_is_the_photo():
    film = _make_film(200, 260)
    one, two, other = (photograph(film, np.random.default_rng(seed), "moderate") for seed in (1, 1, 2))
    assert one.file == two.file
    assert one.conditions == two.conditions
    np.testing.assert_array_equal(one.corners, two.corners)
    assert other.file != one.file
    with Image.open(io.BytesIO(one.file)) as file:
        assert file.format == "JPEG"
        assert not file.getexif()
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), one.pixels)


def test_conditions_stay_in_the_ranges_of_their_severity(monkeypatch):
    monkeypatch.setattr(photo, "SENSOR", (504, 378))  # a small sensor: quick
    film = _make_film(200, 260)
    for severity, ranges in SEVERITIES.items():
        for seed in range(3):
            found = photograph(film, np.random.default_rng(seed), severity).conditions
            assert found.severity == severity
            assert ranges.tilt_degrees[0] <= found.tilt_degrees <= ranges.tilt_degrees[1]
            assert ranges.quality[0] <= found.jpeg_quality <= ranges.quality[1]
            assert ranges.sigma[0] <= found.blur_px <= np.hypot(ranges.sigma[1], ranges.shake[1] / 12**0.5)
            assert 0 <= found.glare <= found.glare_peak < ranges.glare[1] + 2 * ranges.ambient[1] + 0.15


def test_a_film_of_any_shape_is_photographed(monkeypatch):
    monkeypatch.setattr(photo, "SENSOR", (504, 378))
    for shape in ((64, 64), (40, 900), (900, 40), (1, 1)):
        taken = photograph(np.full(shape, 200, np.uint8), np.random.default_rng(0), "severe")
        assert np.isfinite(taken.corners).all()
        assert (taken.corners >= 0).all()
        assert (taken.corners <= taken.pixels.shape[1::-1]).all()


def test_what_is_no_film_or_no_severity_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="unknown severity 'awful'"):
        photograph(np.zeros((9, 9), np.uint8), rng, "awful")
    with pytest.raises(ValueError, match="uint8 film"):
        photograph(np.zeros((9, 9)), rng)
    with pytest.raises(ValueError, match="tilt is 75"):
        _position(tilt_degrees=75.0)


def test_severities_get_worse_in_everything():
    mild, moderate, severe = SEVERITIES.values()
    for better, worse in ((mild, moderate), (moderate, severe)):
        for name in ("tilt_degrees", "shake", "glare", "ambient", "smear", "sigma"):
            assert getattr(better, name)[1] < getattr(worse, name)[1]
        assert better.electrons[0] > worse.electrons[0]
        assert better.quality[1] > worse.quality[1]
        assert replace(better) == better


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_glimpse_knows_where_its_film_is(severity):
    """A white film on a black screen: the bright pixels fill the quadrilateral between the corners that are told."""
    pixels = np.zeros((640, 1024, 3), np.uint8)
    pixels[100:560, 300:680] = 255
    for seed in range(4):
        grey, corners = photo.glimpse(Screen(pixels, (300.0, 100.0, 680.0, 560.0)), np.random.default_rng(seed), severity)
        assert grey.dtype == np.uint8
        assert sorted(grey.shape) == [480, 640]
        drawn = Image.new("1", (4 * grey.shape[1], 4 * grey.shape[0]))
        ImageDraw.Draw(drawn).polygon([(4 * x, 4 * y) for x, y in corners.tolist()], fill=1)
        inside = np.asarray(drawn.convert("L").resize(grey.shape[::-1], Image.Resampling.BOX)) > 127
        border = ndimage.binary_dilation(inside, iterations=4) & ~ndimage.binary_erosion(inside, iterations=4)
        rest = ~border
        threshold = (np.median(grey[inside & rest]) + np.median(grey[~inside & rest])) / 2
        assert ((grey > threshold) == inside)[rest].mean() > (0.93 if severity == "severe" else 0.995)
