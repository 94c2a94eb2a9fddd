from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from edgekit.phantom.imaging.exposure import Exposure, detect, draw_exposure
from edgekit.phantom.imaging.filtering import blur, convolve

IDEAL = Exposure(quanta_per_mm2=np.inf, scatter=0.0, blur_mm=0.0)


def take(transmission, exposure, seed=0, spacing_mm=0.5):
    return detect(np.asarray(transmission, dtype=np.float32), spacing_mm, exposure, np.random.default_rng(seed))


def test_an_ideal_detector_gives_the_logarithm():
    """exp(-mu x) of a wedge of 0 to 100 mm: differences of the logarithm are mu x."""
    thickness = np.linspace(0, 100, 200)
    log = take(np.tile(np.exp(-0.05 * thickness), (160, 1)), IDEAL)
    np.testing.assert_allclose(log[80, 0] - log[80], 0.05 * thickness, atol=0.005)
    assert log[80, 100] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("quanta", [1e3, 1e5])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_quantum_noise_is_that_of_poisson(quanta, share):
    """The variance is the mean: of quanta, in a pixel of 0.25 mm²."""
    picture = np.ones((400, 500), dtype=np.float32)
    picture[:, :100] = share
    counts = np.exp(take(picture, replace(IDEAL, quanta_per_mm2=quanta)))[:, :100] * quanta * 0.25
    assert counts.mean() == pytest.approx(quanta * share * 0.25, rel=0.01)
    assert counts.var() == pytest.approx(quanta * share * 0.25, rel=0.03)


def test_electronic_noise_does_not_know_the_signal():
    picture = np.ones((300, 600), dtype=np.float32)
    picture[:, :100] = 0.2
    signal = np.exp(take(picture, replace(IDEAL, electronic=0.004)))
    assert signal[:, :100].std() == pytest.approx(0.008, rel=0.03)
    assert signal[:, 200:].std() == pytest.approx(0.008, rel=0.03)


@pytest.mark.parametrize("kind", ["blur_mm", "focal_mm"])
def test_an_edge_is_an_error_function(kind):
    picture = np.full((100, 200), 0.5, dtype=np.float32)
    picture[:, 100:] = 1.0
    signal = np.exp(take(picture, replace(IDEAL, **{kind: 1.2})))[50]
    place = (np.arange(200) + 0.5 - 100) * 0.5
    shape = (signal - signal[0]) / (signal[-1] - signal[0])
    np.testing.assert_allclose(shape, 0.5 * (1 + erf(place / (1.2 * np.sqrt(2)))), atol=0.005)


def test_the_screen_blurs_the_noise_and_the_focal_spot_does_not():
    quiet, white = (
        np.std(take(np.ones((200, 200)), replace(IDEAL, quanta_per_mm2=1e4, **{kind: 1.0}))) for kind in ("blur_mm", "focal_mm")
    )
    # A Gaussian of s pixels leaves 1 / (2 s sqrt(pi)) of white noise.
    assert white == pytest.approx(1 / np.sqrt(1e4 * 0.25), rel=0.03)
    assert quiet / white == pytest.approx(1 / (2 * 2 * np.sqrt(np.pi)), rel=0.05)


def test_scatter_adds_as_much_as_it_says():
    """Behind a plate of even thickness the contrast of a small thing falls by 1 + scatter."""
    picture = np.ones((300, 300), dtype=np.float32)
    picture[148:152, 148:152] = 0.5
    signal = np.exp(take(picture, replace(IDEAL, scatter=0.6)))
    assert signal[20, 20] == pytest.approx(1, abs=0.001)
    assert signal[150, 150] == pytest.approx(1.1 / 1.6, abs=0.002)


def test_heel_and_cutoff_and_grid_have_their_amplitudes():
    signal = np.exp(take(np.ones((201, 301)), replace(IDEAL, heel=0.3)))
    np.testing.assert_allclose(signal[:, 7], np.linspace(0.85, 1.15, 201), rtol=1e-5)
    signal = np.exp(take(np.ones((201, 301)), replace(IDEAL, cutoff=-0.2)))
    np.testing.assert_allclose(signal[9], np.linspace(0.8, 1.0, 301), rtol=1e-5)
    signal = np.exp(take(np.ones((100, 400)), replace(IDEAL, grid=0.04, grid_mm=5.0)))[50]
    spectrum = np.abs(np.fft.rfft(signal - 1)) / 200
    assert np.argmax(spectrum) == 40
    assert spectrum[40] == pytest.approx(0.04, rel=0.01)


def test_twins_have_the_same_noise():
    """A scene with and without metal: away from it nothing differs, but for the exposure control's few per cent."""
    plain = np.random.default_rng(3).uniform(0.4, 0.6, (120, 100)).astype(np.float32)
    metal = plain.copy()
    metal[60:70, 40:45] = 0.01
    exposure = Exposure(1e4, 0.0, 0.2, focal_mm=0.1, electronic=0.003, heel=0.1, grid=0.02, cutoff=0.1, dead_lines=3)
    first, twin = take(plain, exposure, 5), take(metal, exposure, 5)
    np.testing.assert_allclose(first[:40], twin[:40], atol=0.02)
    assert (first != take(plain, exposure, 6)).any()
    np.testing.assert_array_equal(first, take(plain, exposure, 5))


def test_drawn_exposures_stay_in_their_ranges_and_work():
    rng = np.random.default_rng(0)
    for _ in range(50):
        exposure = draw_exposure(rng, (5e3, 1e5), (0.2, 0.8), (0.1, 0.3))
        assert 5e3 <= exposure.quanta_per_mm2 <= 1e5
        assert 0.2 <= exposure.scatter <= 0.8
        assert abs(exposure.heel) <= 0.3
        assert abs(exposure.cutoff) <= 0.35
        assert 0 <= exposure.grid <= 0.02
        log = take(rng.uniform(0, 1, (70, 50)), exposure)
        assert log.dtype == np.float32
        assert np.isfinite(log).all()


@pytest.mark.parametrize("sigma", [0.7, 3.0, 11.0, 40.0])
def test_blur_is_the_gaussian_of_scipy(sigma):
    image = np.random.default_rng(1).uniform(0, 1, (230, 190)).astype(np.float32)
    image[80:150, 60:100] += 3
    np.testing.assert_allclose(blur(image, sigma), gaussian_filter(image, sigma, mode="nearest"), atol=0.08)
    np.testing.assert_allclose(convolve(image, 1.5), gaussian_filter(image, 1.5, mode="nearest", radius=4), atol=1e-5)
