from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgekit.training.augmentation import cut_film, vary_crops, vary_film
from edgekit.training.config import MembersConfig, load_config


def set_members(**settings: float) -> MembersConfig:
    return dataclasses.replace(load_config("paper").members, **{"gamma": 0.0, "blur": 0.0, "noise": 0.0, **settings})


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


def test_half_of_the_crops_get_noise_of_every_strength_up_to_the_limit() -> None:
    crops = torch.full((400, 1, 32, 32), 0.5)
    varied = vary_crops(crops, 400, set_members(noise=0.04), torch.Generator().manual_seed(0))
    deviations = varied.std(dim=(1, 2, 3))
    noisy = deviations[deviations > 0]
    assert 160 <= len(noisy) <= 240
    assert noisy.mean() == pytest.approx(0.02, abs=0.003)  # drawn evenly from 0 to 0.04
    assert noisy.max() < 0.043
    assert varied.mean() == pytest.approx(0.5, abs=0.001)


def test_blur_takes_the_finest_pattern_away_and_leaves_the_coarse_one() -> None:
    fine = (torch.arange(32) % 2).float().expand(400, 1, 32, 32)
    coarse = (torch.arange(32) < 16).float().expand(400, 1, 32, 32)
    config = set_members(blur=1.0)
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    fine_contrast, coarse_contrast = (
        vary_crops(crops, 400, config, generator)[:, 0, 16, 4:28].std(dim=1) / crops[:, 0, 16, 4:28].std(dim=1)
        for crops, generator in zip((fine, coarse), generators, strict=True)
    )
    assert fine_contrast.mean() == pytest.approx(0.5, abs=0.05)  # from all of it to none
    assert coarse_contrast.min() > 0.9


def test_gamma_bends_the_greys_and_holds_black_and_white() -> None:
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 8, 64)
    varied = vary_crops(ramp, 200, set_members(gamma=0.4), torch.Generator().manual_seed(0))
    assert varied[..., 0].max() < 0.003
    assert (varied[..., -1] == 1).all()
    exponents = varied[:, 0, 0, 32].log() / ramp[0, 0, 0, 32].log()
    assert exponents.min() == pytest.approx(np.exp(-0.4), rel=0.03)
    assert exponents.max() == pytest.approx(np.exp(0.4), rel=0.03)


def test_processes_that_share_a_batch_draw_the_same() -> None:
    crops = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    config = load_config("paper").members
    whole = vary_crops(crops, 6, config, torch.Generator().manual_seed(2))
    part = vary_crops(crops[2:4], 6, config, torch.Generator().manual_seed(2), slice(2, 4))
    torch.testing.assert_close(part, whole[2:4])


def test_a_part_of_a_film_is_a_film_of_its_own_with_the_construct_where_it_is_drawn() -> None:
    shapes = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        film = np.zeros((256, 256), np.uint8)
        film[:, 40:216] = rng.integers(60, 90, (256, 176))
        x0, y0 = rng.integers(50, 130), rng.integers(10, 130)
        film[y0 : y0 + 90, x0 : x0 + 60] = 255
        part, boxes = cut_film(film, np.array([[x0, y0, x0 + 60, y0 + 90]], np.float32), rng)
        rows, columns = np.flatnonzero((part > 170).any(axis=1)), np.flatnonzero((part > 170).any(axis=0))
        np.testing.assert_allclose(boxes, [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], atol=1.6)
        covered = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
        width, height = (place[-1] - place[0] + 1 for place in covered)
        assert max(width, height) == 256  # letterboxed as every film is
        assert all(abs(place[0] + place[-1] - 255) <= 1 for place in covered)
        scale = np.diff(boxes.reshape(2, 2), axis=0)[0]
        assert scale.prod() >= 0.69 * 60 * 90  # nothing is made smaller, and most of the construct stays
        shapes.append(width / height)
    assert min(shapes) < 0.4 < 1.4 < max(shapes)


def test_a_part_of_a_film_without_construct_has_none() -> None:
    film = make_letterboxed().repeat(4, axis=0).repeat(4, axis=1)
    part, boxes = cut_film(film, np.zeros((0, 4), np.float32), np.random.default_rng(0))
    assert boxes.shape == (0, 4)
    assert not np.array_equal(part, film)
