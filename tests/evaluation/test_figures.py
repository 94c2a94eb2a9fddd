from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import auc, roc_auc_score, roc_curve

from edgekit.evaluation import figures
from edgekit.evaluation.gradcam import Explanation


def open_image(image: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(image))
    picture.load()
    return picture


def test_area_under_the_average_curve_is_the_average_area() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 60)
    scores = (random.normal(size=(60, 3)) + 1.5 * np.eye(3)[truth]).round(1)  # with ties: sloped segments beside vertical steps
    curves = [roc_curve(truth == k, scores[:, k])[:2] for k in range(3)]
    false, true = figures.average_curves(curves)
    assert auc(false, true) == pytest.approx(np.mean([roc_auc_score(truth == k, scores[:, k]) for k in range(3)]), abs=1e-12)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(true) >= -1e-12).all()


def test_every_chart_is_a_png() -> None:
    truth = np.array([0, 1, 2, 0, 1])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    thirds = [("1–4", 30, -0.01, [-0.1, 0.08]), ("4–9", 30, 0.1, [0.0, 0.2])]
    drawn = [
        figures.draw_confusion(("a", "b", "c"), np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]]), np.array([0, 0, 1])),
        figures.draw_roc(("a", "b", "c"), truth, probabilities),
        figures.draw_reliability(probabilities.max(axis=1), np.array([True, False, True, True, False])),
        figures.draw_intervals(["ap", "lateral"], [0.5, 1.0], [[0.3, 0.7], [1.0, 1.0]], "lateral"),
        figures.draw_overlaps({"ap": np.array([0.5, 1.0]), "lateral": np.array([])}),
        figures.draw_sites(
            ["ap", "lateral"], {"here": ([0.9, 1.0], [[0.8, 1.0], [1.0, 1.0]]), "there": ([0.5, 0.6], [[0.2, 0.8], [0.3, 0.7]])}
        ),
        figures.draw_drops({"angle": [*thirds, ("9–9", 0, 0.1, [0, 0.2])], "blur": thirds[:1]}, 0.05),
        figures.draw_bands(["< 0.5", "≥ 0.5"], {"ap": (np.array([0, 9]), np.array([np.nan, 8 / 9]))}),
    ]
    for image in drawn:
        assert open_image(image).format == "PNG"
        assert len(image) < 60_000


def test_a_photo_shows_the_outline_of_the_film(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    Image.new("RGB", (880, 660), (40, 60, 80)).save(file)
    drawn = np.asarray(open_image(figures.draw_photo(file, np.array([[100, 100], [700, 100], [700, 500], [100, 500]]))), int)
    assert drawn.shape == (330, 440, 3)
    warm = np.argwhere(drawn[..., 0] > drawn[..., 2] + 60)  # amber, at half the size
    assert (warm.min(axis=0), warm.max(axis=0)) == (pytest.approx([50, 50], abs=2), pytest.approx([250, 350], abs=2))
    assert np.abs(drawn[150, 200] - (40, 60, 80)).max() < 8


def test_a_film_shows_both_boxes_and_the_heat() -> None:
    film = np.full((200, 100), 60, np.uint8)
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[0, 0] = 1.0
    plain = np.asarray(open_image(figures.draw_film(film, None, None, None, None)), int)
    assert plain.shape == (440, 220, 3)
    assert np.ptp(plain, axis=2).max() < 8
    boxes = np.asarray(open_image(figures.draw_film(film, (20, 20, 80, 180), (30, 30, 70, 170), None, None)), int)
    assert boxes[200, 44, 0] > boxes[200, 44, 2] + 60  # amber: the box found, left edge at 20 x 2.2
    edge = boxes[66:374, 66]  # light blue dashes: the true one, left edge at 30 x 2.2
    assert 0.3 < np.mean(edge[:, 2] > 150) < 0.8
    assert edge[edge[:, 2] > 150, 0].mean() < 170
    heat = np.asarray(open_image(figures.draw_film(film, None, None, heatmap, (20, 20, 80, 180))), int)
    warm = np.argwhere(np.ptp(heat, axis=2) > 40)
    assert len(warm)
    assert warm[:, 0].max() < 150  # only the corner of the crop that is hot
    assert warm[:, 1].max() < 100


def test_explanations_are_laid_out_by_brand_and_view() -> None:
    """Wide crops of gray 90, one hot in its left half: their places, their proportions and their colours."""
    crop = np.full((60, 120), 90, np.uint8)
    cold, hot = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    hot[:, :24] = 1.0
    image = figures.draw_explanations(
        {"a": {"ap": Explanation(crop, cold), "lateral": Explanation(crop, cold)}, "b": {"lateral": Explanation(crop, hot)}}
    )
    assert len(image) < 300_000
    grid = np.asarray(open_image(image), int)
    assert open_image(image).format == "JPEG"
    tiles, gap, side, head = (figures.TILE_WIDTH, figures.TILE_HEIGHT), 6, 62, 22
    assert grid.shape == (head + 2 * (tiles[1] + gap), side + 2 * (tiles[0] + gap), 3)

    def tile(row: int, column: int) -> np.ndarray:
        top, left = head + row * (tiles[1] + gap), side + column * (tiles[0] + gap)
        return grid[top : top + tiles[1], left : left + tiles[0]]

    gray = np.abs(tile(0, 0) - 90).max(axis=2) < 12
    assert np.count_nonzero(gray) == pytest.approx(150 * 75, rel=0.03), "150 wide, so 75 high"
    assert tile(0, 1).max() < 12, "there is no AP of the second brand"
    colourful = np.ptp(tile(1, 1), axis=2) > 40
    assert colourful[120, :40].all()
    assert not colourful[120, 75:].any()
