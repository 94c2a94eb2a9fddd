from __future__ import annotations

import numpy as np

from edgekit.training.augmentation import vary_film


def make_letterboxed() -> np.ndarray:
    film = np.zeros((64, 64), np.uint8)
    film[:, 12:50] = np.tile(np.linspace(20, 235, 38).astype(np.uint8), (64, 1))
    return film


def test_the_bars_of_the_letterbox_stay_black() -> None:
    film = make_letterboxed()
    for seed in range(40):
        varied = vary_film(film, np.random.default_rng(seed))
        assert varied.dtype == np.uint8
        assert varied.shape == film.shape
        assert not varied[:, :12].any()
        assert not varied[:, 50:].any()


def test_films_vary_in_brightness_contrast_and_polarity_but_nothing_moves() -> None:
    film = make_letterboxed()
    slopes, means = [], []
    for seed in range(60):
        profile = vary_film(film, np.random.default_rng(seed))[:, 12:50].astype(float).mean(axis=0)
        slopes.append(np.corrcoef(profile, np.arange(38))[0, 1])
        means.append(profile.mean())
    assert min(np.abs(slopes)) > 0.6  # still the same ramp
    assert 5 <= sum(slope < 0 for slope in slopes) <= 20  # one in five is inverted
    assert np.ptp(means) > 50


def test_a_black_film_is_left_alone() -> None:
    black = np.zeros((32, 32), np.uint8)
    np.testing.assert_array_equal(vary_film(black, np.random.default_rng(0)), black)
