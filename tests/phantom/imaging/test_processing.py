import numpy as np
import pytest

from edgekit.phantom.imaging.families import FAMILIES, Processing, draw_processing
from edgekit.phantom.imaging.filtering import equalise
from edgekit.phantom.imaging.processing import _filter_bands, apply_window, develop, store

LOCAL = ("multifrequency", "clahe")


@pytest.fixture(scope="module")
def film():
    """Log exposure of soft tissue, a spine and two rods, 0.8 mm a pixel."""
    log = np.random.default_rng(0).normal(0, 0.01, (320, 240)).astype(np.float32)
    log[:, 90:150] -= 0.5
    log[100:220, 100:106] -= 1.6
    log[100:220, 134:140] -= 1.6
    log[:, :25] += 2.5
    return log


@pytest.mark.parametrize("family", FAMILIES)
def test_metal_is_brighter_than_tissue_unless_inverted(film, family):
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(15):
        processing = draw_processing(rng, [family])
        grey = develop(film, 0.8, processing)
        assert processing.family == family
        assert grey.dtype == np.float32
        assert grey.shape == film.shape
        assert np.isfinite(grey).all()
        assert grey.min() >= 0
        assert grey.max() <= 1
        # The middle of the film: a vignette darkens its corners.
        difference = np.median(grey[120:200, 101:105]) - np.median(grey[120:200, 60:85])
        assert (-difference if processing.inverted else difference) > 0.02
        seen.add(processing.inverted)
    assert seen == ({True, False} if family == "fluoro" else {False})


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in LOCAL])
def test_grey_falls_with_dose(family):
    """A wedge without noise, wider than any band: steps never turn round, but for the medium's grain."""
    wedge = np.tile(np.linspace(-1, 1, 300, dtype=np.float32), (200, 1))
    rng = np.random.default_rng(2)
    for _ in range(5):
        drawn = draw_processing(rng, [family])
        processing = Processing(
            family,
            low=drawn.low,
            high=drawn.high,
            dark=drawn.dark,
            bright=drawn.bright,
            gamma=drawn.gamma,
            knee=drawn.knee,
            film=drawn.film,
        )
        assert (np.diff(develop(wedge, 1.0, processing)[100]) <= 1e-6).all()


def test_the_window_is_where_its_percentiles_are():
    """A flat shoulder, a straight line: the low percentile is black, the high one white."""
    ramp = np.tile(np.linspace(0, 1, 500, dtype=np.float32), (50, 1))
    grey = develop(-ramp, 1.0, Processing("plain", low=10, high=90, whole=True, dark=0.0, bright=1.0, knee=1.0))
    np.testing.assert_allclose(grey[25], np.clip((np.linspace(0, 1, 500) - 0.1) / 0.8, 0, 1), atol=0.006)


@pytest.mark.parametrize(("period_mm", "name"), [(1.0, "finest_gain"), (9.0, "fine_gain"), (35.0, "middle_gain"), (300.0, "coarse_gain")])
def test_a_gain_acts_on_its_band(period_mm, name):
    """Doubling a band's gain makes a wave of its period larger than doubling any other's."""
    x = np.arange(1200) * 0.5
    wave = np.tile(np.sin(2 * np.pi * x / period_mm + 0.7), (40, 1)).astype(np.float32)
    amplitudes = {}
    for gain in ("coarse_gain", "middle_gain", "fine_gain", "finest_gain"):
        plain, changed = (_filter_bands(wave, 0.5, Processing("cr", **extra)) for extra in ({"coarse_gain": 1.0 + 1e-9}, {gain: 2.0}))
        amplitudes[gain] = np.std(changed[20, 300:900]) / np.std(plain[20, 300:900])
    assert max(amplitudes, key=amplitudes.get) == name
    assert 1.4 < amplitudes[name] <= 2.02


def test_equalising_leaves_a_flat_picture_flat_and_spreads_a_narrow_one():
    flat = equalise(np.full((130, 170), 0.4, dtype=np.float32), 8, 3.0)
    assert np.ptp(flat) < 0.02
    assert abs(flat.mean() - 0.4) < 0.02
    narrow = np.random.default_rng(0).uniform(0.45, 0.55, (256, 256)).astype(np.float32)
    # A tenth of the bins, cut to 4, holds 0.4 of the pixels; the rest, spread evenly, makes 0.6 more.
    assert equalise(narrow, 4, 4.0).std() == pytest.approx(4.6 * narrow.std(), rel=0.04)
    np.testing.assert_allclose(equalise(narrow, 4, 0.0), narrow, atol=0.005)


def test_developing_is_deterministic_and_twins_share_their_medium():
    log = np.random.default_rng(0).normal(0, 0.3, (300, 280)).astype(np.float32)
    rng, again = np.random.default_rng(8), np.random.default_rng(8)
    for _ in range(20):
        processing = draw_processing(rng)
        assert processing == draw_processing(again)
        np.testing.assert_array_equal(develop(log, 0.5, processing), develop(log, 0.5, processing))
    dusty = Processing("film", seed=3, dust=20, grain=0.02)
    bare = Processing("film", seed=3)
    marks = [
        develop(field, 0.5, dusty) - develop(field, 0.5, bare) for field in (0 * log + 0.1 * np.sign(log), 0 * log + 0.2 * np.sign(log))
    ]
    assert np.corrcoef(marks[0].ravel(), marks[1].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("size", [64, 140, 3000])
def test_small_and_large_films_work(size):
    rng = np.random.default_rng(4)
    log = rng.normal(0, 0.3, (size, size // 2)).astype(np.float32)
    for family in ("film", "phone", "clahe") if size == 3000 else FAMILIES:
        assert np.isfinite(develop(log, 350 / size, draw_processing(rng, [family]))).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_storing_keeps_the_depth_and_the_sense(bits):
    grey = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    top = 2**bits - 1
    assert store(grey, bits).tolist() == [[0, (top + 1) // 2, top]]
    dark = store(grey, bits, "MONOCHROME1")
    assert dark[0, 0] == top
    assert dark[0, 2] == 0
    np.testing.assert_allclose(apply_window(dark, "MONOCHROME1", (top + 1) / 2, top + 1), [[0, 127.5, 255]], atol=0.6)
