from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

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


SVG = "{http://www.w3.org/2000/svg}"
BRANDS = ("脊柱钉系统公司", "شركة العمود", "חברת עמוד", "स्पाइन सिस्टम", "Система", "A$1$ & <b>")
"""Scripts that the fonts here lack (Han, Devanagari), that run from the right, and what SVG or matplotlib would take for markup."""


def read_svg(image: bytes) -> ElementTree.Element:
    root = ElementTree.fromstring(image)
    assert root.tag == f"{SVG}svg"
    return root


def list_texts(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {str(text.text).replace("\u200e", ""): text for text in root.iter(f"{SVG}text")}


def test_every_chart_is_svg_with_text() -> None:
    truth = np.array([0, 1, 2, 0, 1])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    thirds = [("1–4", 30, -0.01, [-0.1, 0.08]), ("4–9", 30, 0.1, [0.0, 0.2])]
    drawn = [
        figures.draw_confusion(("a", "b", "c"), np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]]), np.array([0, 0, 1]), "brand"),
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
        root = read_svg(image)
        assert len(image) < 60_000
        texts = list_texts(root)
        assert texts
        assert all("sans-serif" in text.attrib["style"] for text in texts.values())
        assert not list(root.iter(f"{SVG}image")), "sharp at any size"


def test_brands_in_any_script_are_text_in_the_readers_font() -> None:
    """Fonts here have no glyphs for some of them; warnings are errors in these tests."""
    random = np.random.default_rng(0)
    truth = np.arange(6).repeat(2)
    confusion = figures.draw_confusion(BRANDS, np.eye(6, dtype=int), np.zeros(6, int), "brand")
    roc = figures.draw_roc(BRANDS, truth, random.dirichlet(np.ones(6), 12))
    crop, heat = np.full((60, 120), 90, np.uint8), np.zeros((8, 8), np.float32)
    explained = figures.draw_explanations({brand: {"ap": Explanation(crop, heat)} for brand in BRANDS})
    assert set(BRANDS) <= set(list_texts(read_svg(confusion)))
    assert {text.rpartition("  ")[0] for text in list_texts(read_svg(roc))} >= set(BRANDS)
    assert set(list_texts(read_svg(explained))) == {*BRANDS, "ap"}
    assert confusion == figures.draw_confusion(BRANDS, np.eye(6, dtype=int), np.zeros(6, int), "brand"), "nothing of the day is in it"


def test_a_wide_script_has_room() -> None:
    """Han characters are one em wide; the labels of the rows end at x and must begin inside the picture."""
    names = ("脊柱钉系统股份有限公司", "b")
    root = read_svg(figures.draw_confusion(names, np.eye(2, dtype=int), np.zeros(2, int), "brand"))
    left, top, _, height = map(float, root.attrib["viewBox"].split())
    labels = [text for text in root.iter(f"{SVG}text") if text.text == names[0]]
    assert len(labels) == 2
    label = next(text for text in labels if "rotate(-0" in text.attrib["transform"])
    size = float(re.search(r"font-size: ([\d.]+)px", label.attrib["style"])[1])
    assert "text-anchor: end" in label.attrib["style"]
    assert float(label.attrib["x"]) - size * len(names[0]) >= left
    assert top < float(label.attrib["y"]) < top + height


def test_the_confusion_matrix_has_its_truth_in_rows_from_the_top() -> None:
    """Counts stand where rows and columns cross; cells are the darker, the larger their share."""
    root = read_svg(figures.draw_confusion(("a", "b"), np.array([[7, 3], [0, 9]]), np.zeros(2, int), "brand"))
    place = {text: (float(found.attrib["x"]), float(found.attrib["y"])) for text, found in list_texts(root).items()}
    assert place["7"][1] == pytest.approx(place["3"][1], abs=0.5)
    assert place["7"][1] < place["9"][1]
    assert place["7"][0] < place["3"][0] == pytest.approx(place["9"][0], abs=0.5)
    quads = [path for path in root.iter(f"{SVG}path") if "fill: #123a5c" in path.attrib.get("style", "")]
    assert len(quads) == 1, "one brand is always right"
    x, y = np.array(re.findall(r"([\d.]+) ([\d.]+)", quads[0].attrib["d"]), float).T
    assert x.min() < place["9"][0] < x.max()
    assert y.min() < place["9"][1] < y.max()


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
    root = read_svg(image)
    (picture,) = root.iter(f"{SVG}image")
    kind, _, content = picture.attrib["href"].partition(",")
    assert kind == "data:image/jpeg;base64"
    grid = np.asarray(open_image(base64.b64decode(content)), int)
    assert (picture.attrib["height"], picture.attrib["width"]) == tuple(map(str, grid.shape[:2]))
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
