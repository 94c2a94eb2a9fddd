"""What the corner finder learns from: the corners still lie on the film after a photo was cropped."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from edgekit.training.screens import MOST_CUT, WHOLE, crop

CORNERS = np.array([[130.0, 70.0], [500.0, 90.0], [520.0, 400.0], [110.0, 380.0]])


def draw_film() -> np.ndarray:
    """A light film, its corners marked by single white pixels."""
    picture = Image.new("L", (640, 480), 20)
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in CORNERS.tolist()], fill=120)
    pixels = np.array(picture)
    for x, y in CORNERS.astype(int):
        pixels[y, x] = 255
    return pixels


def test_a_cropped_photo_shows_the_whole_film_where_its_corners_say() -> None:
    pixels, rng = draw_film(), np.random.default_rng(0)
    shapes = []
    for _ in range(300):
        part, corners = crop(pixels, CORNERS, rng)
        shapes.append(part.shape)
        assert part.dtype == np.uint8
        assert (part >= 120).sum() == (pixels >= 120).sum()
        assert [part[y, x] for x, y in corners.astype(int)] == [255] * 4
        np.testing.assert_allclose(corners - corners[0], CORNERS - CORNERS[0], atol=1e-9)
    whole = sum(shape == pixels.shape for shape in shapes) / len(shapes)
    assert abs(whole - (WHOLE + (1 - WHOLE) * 0.4**4)) < 0.1
    heights, widths = np.array(shapes).T
    assert heights.min() < 480 - 0.5 * MOST_CUT * (70 + 80)
    assert widths.min() < 640 - 0.5 * MOST_CUT * (110 + 120)
    assert (widths < heights).any()  # upright, though the sensor was not


def test_a_film_at_the_border_is_not_cut() -> None:
    corners = np.array([[0.0, 0.0], [639.9, 0.3], [640.0, 480.0], [0.2, 479.8]])
    for seed in range(20):
        part, found = crop(draw_film(), corners, np.random.default_rng(seed))
        assert part.shape == (480, 640)
        np.testing.assert_array_equal(found, corners)
