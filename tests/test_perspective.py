import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from edgekit.straightening import choose_size, fit_homography, make_rectangle, project, straighten

CORNERS = np.array([[31.3, 22.8], [182.1, 40.2], [170.4, 140.9], [20.7, 118.5]])


@pytest.fixture
def photo():
    noise = np.random.default_rng(0).random((160, 200, 3))
    return (255 * ndimage.gaussian_filter(noise, (2, 2, 0)) / noise.max()).astype(np.uint8)


def _cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def test_four_points_are_mapped_exactly_and_lines_stay_straight():
    matrix = fit_homography(make_rectangle(0, 0, 300, 200), CORNERS)
    np.testing.assert_allclose(project(matrix, make_rectangle(0, 0, 300, 200)), CORNERS, atol=1e-9)
    a, b, c = project(matrix, np.array([[10.0, 20], [110, 90], [210, 160]]))
    assert abs(_cross(b - a, c - a)) < 1e-8
    # The diagonals of a rectangle cross in its centre, and those of its image in the centre's image.
    p, r, q, s = CORNERS[0], CORNERS[2] - CORNERS[0], CORNERS[1], CORNERS[3] - CORNERS[1]
    crossing = p + r * _cross(q - p, s) / _cross(r, s)
    np.testing.assert_allclose(project(matrix, np.array([150.0, 100])), crossing, atol=1e-9)


def test_straightening_agrees_with_scipy(photo):
    width, height = 160, 120  # finer than the photo: one sample a pixel
    flat = straighten(photo, CORNERS, (width, height))
    matrix = fit_homography(make_rectangle(0, 0, width, height), CORNERS)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u, v = np.moveaxis(project(matrix, np.stack([x, y], axis=-1)), -1, 0)
    for channel in range(3):
        expected = ndimage.map_coordinates(photo[..., channel].astype(float), [v - 0.5, u - 0.5], order=1, mode="nearest")
        assert np.abs(flat[..., channel] - expected).max() <= 0.51


def test_straightening_agrees_with_pillow(photo):
    size = (160, 120)
    # PIL's coefficients map output to input and count from the corners of pixels, as ours.
    a = fit_homography(make_rectangle(0, 0, *size), CORNERS)
    grey = photo[..., 0]
    expected = Image.fromarray(grey).transform(size, Image.Transform.PERSPECTIVE, a.ravel()[:8], Image.Resampling.BILINEAR)
    assert np.abs(straighten(grey, CORNERS, size).astype(int) - np.asarray(expected)).max() <= 1


def test_a_reduced_film_is_averaged_and_not_sampled():
    stripes = np.zeros((200, 400), np.uint8)
    stripes[:, ::2] = 255
    flat = straighten(stripes, make_rectangle(0, 0, 400, 200), (50, 25))
    assert np.abs(flat.astype(int) - 128).max() <= 1
    whole = straighten(stripes, make_rectangle(0, 0, 400, 200), (400, 200))
    np.testing.assert_array_equal(whole, stripes)


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 3, 2, 1], [0, 2, 1, 3]])
def test_corners_in_another_order_are_refused(photo, order):
    with pytest.raises(ValueError, match="top-left"):
        straighten(photo, CORNERS[order], (10, 10))


def test_a_film_is_straightened_as_large_as_it_appears():
    corners = make_rectangle(10, 10, 610, 410)
    assert choose_size(corners, 1200, 800) == (600, 400)
    assert choose_size(corners, 300, 200) == (300, 200)
    assert choose_size(corners + np.array([[0, 0], [30, 0], [0, 0], [0, 0]]), 1200, 800) == (630, 420)
