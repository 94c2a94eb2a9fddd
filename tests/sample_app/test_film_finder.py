"""The film in a photo: the app's last steps against the Python reference, and its whole way with a bundle's own network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_flows import encode, make_photo

from edgekit.models.corners import CELL, EDGES, SIDE, EdgeMaps, draw_edges, find_corners
from edgekit.radiograph import make_canvas, read_radiograph

pytestmark = pytest.mark.browser

CELLS = SIDE // CELL
FIND = """async ({ edges, side }) => {
    const { findCorners } = await import("/runner/corners.js");
    const bytes = Uint8Array.from(atob(edges), (letter) => letter.charCodeAt(0));
    const started = performance.now();
    const found = findCorners(new Float32Array(bytes.buffer), side);
    return { ...found, ms: performance.now() - started };
}"""


def find(page: Any, edges: np.ndarray) -> tuple[np.ndarray, float]:
    """What the runner's JavaScript makes of four maps."""
    answer = page.evaluate(FIND, {"edges": base64.b64encode(edges.astype("<f4").tobytes()).decode(), "side": SIDE})
    return np.array(answer["corners"], float), answer["confidence"]


def check(page: Any, edges: np.ndarray) -> np.ndarray:
    """Hold JavaScript to the reference; returns the corners."""
    corners, confidence = find(page, edges)
    expected, sure = find_corners(edges)
    np.testing.assert_allclose(corners, expected, rtol=0, atol=1e-6)
    assert confidence == pytest.approx(sure, abs=1e-6)
    return corners


def draw_quads(count: int, seed: int) -> np.ndarray:
    """Films about upright, not touching the canvas's border, which would cut off half of an edge's width."""
    random = np.random.default_rng(seed)
    square = np.array([[70, 70], [250, 70], [250, 250], [70, 250]], float)
    return square + random.uniform(-30, 30, (count, 1, 2)) + random.uniform(-25, 25, (count, 4, 2))


def test_ideal_maps_give_back_their_corners(page: Any) -> None:
    quads = draw_quads(20, 0)
    for corners, edges in zip(quads, draw_edges(torch.from_numpy(quads).float()).numpy(), strict=True):
        np.testing.assert_allclose(check(page, edges), corners, atol=0.3)


@pytest.mark.parametrize("sharpness", [1, 4, 12])
def test_noisy_maps_are_read_as_the_reference_reads_them(page: Any, sharpness: int) -> None:
    for seed in range(6):
        logits = sharpness * torch.randn(len(EDGES), CELLS**2, generator=torch.Generator().manual_seed(seed))
        check(page, logits.softmax(dim=1).view(len(EDGES), CELLS, CELLS).numpy())


def test_maps_of_several_films_are_read_as_the_reference_reads_them(page: Any) -> None:
    for seed in range(6):
        one, other, third = draw_edges(torch.from_numpy(draw_quads(3, seed)).float()).numpy()
        check(page, 0.45 * one + 0.35 * other + 0.2 * third)


@pytest.mark.parametrize("place", [(0, 0), (17, 60), (40, 39), (79, 79)])
def test_a_map_of_one_cell_is_read_as_the_reference_reads_it(page: Any, place: tuple[int, int]) -> None:
    edges = np.zeros((len(EDGES), CELLS, CELLS), np.float32)
    edges[:, place[0], place[1]] = 1
    check(page, edges)


def test_no_maps_are_refused(page: Any) -> None:
    from playwright.sync_api import Error

    with pytest.raises(Error, match="must be four square maps"):
        find(page, np.zeros(4 * 81 + 1))


ASK = """async (file) => {
    const { Helper } = await import("/js/workers.js");
    const [darkroom, reader] = ["darkroom", "reader"].map((name) => new Helper(new URL(`/js/${name}.js`, location.href)));
    const source = new Blob([Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))]);
    const { id, width, height } = await darkroom.call("open", { source });
    const { cornerSide } = await reader.call("open", { threads: 1 });
    const { canvas } = await darkroom.call("survey", { id, side: cornerSide, part: { left: 0, top: 0, width, height } });
    const { found } = await reader.call("findFilm", { canvas });
    const small = await reader.call("findFilm", { canvas: new Uint8Array(5) }).catch((problem) => problem.details.message);
    [darkroom, reader].forEach((helper) => helper.stop());
    return { ...found, cornerSide, small };
}"""


def find_steady_photo(finder: Any, path: Path) -> tuple[np.ndarray, float]:
    """Write a photo and return its corners and how sure they are: one whose corners stay where they are when its canvas changes by a level.

    Two hosts' canvases may differ so (docs/canvas.md). Random weights draw maps without films: on most photos two lines fit them about as
    well, and such a change decides between the two.
    """

    def find(canvas: np.ndarray) -> tuple[np.ndarray, float]:
        with torch.inference_mode():
            return find_corners(EdgeMaps(finder)(torch.from_numpy(canvas)[None, None])[0].numpy())

    random = np.random.default_rng(0)
    for shift in range(0, 480, 20):
        Image.fromarray(np.roll(make_photo(), shift, axis=1)).save(path)
        canvas, _ = make_canvas(read_radiograph(path).pixels, SIDE)
        corners, confidence = find(canvas)
        changed = [np.clip(canvas + random.integers(-1, 2, canvas.shape), 0, 255).astype(np.uint8) for _ in range(6)]
        if max(np.abs(find(each)[0] - corners).max() for each in changed) < 0.3:
            return corners, confidence
    raise AssertionError("no photo is steady")


def test_a_photo_goes_through_the_bundles_own_network(page: Any, random_finder: Any, tmp_path: Path) -> None:
    """From a file to corners on the canvas: what torch and the reference make of it."""
    corners, confidence = find_steady_photo(random_finder, tmp_path / "photo.png")
    found = page.evaluate(ASK, base64.b64encode((tmp_path / "photo.png").read_bytes()).decode())
    assert found["cornerSide"] == SIDE
    assert found["small"] == "the canvas 'photo' must be a Uint8Array of 320 x 320"
    np.testing.assert_allclose(found["corners"], corners, atol=0.5)
    assert found["confidence"] == pytest.approx(confidence, abs=1e-3)


SUGGEST = """async ({ file, side, answers }) => {
    const { Helper } = await import("/js/workers.js");
    const { suggestCorners } = await import("/js/corners.js");
    const darkroom = new Helper(new URL("/js/darkroom.js", location.href));
    const photo = await darkroom.call("open", { source: new Blob([Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))]) });
    const seen = [];
    const reader = { call: async (_, { canvas }) => ({ found: answers[seen.push(btoa(String.fromCharCode(...canvas))) - 1] }) };
    const corners = await suggestCorners(photo, side, darkroom, reader);
    darkroom.stop();
    return { corners, seen };
}"""
QUAD = [[90.0, 90.0], [200.0, 80.0], [210.0, 240.0], [80.0, 230.0]]


def suggest(page: Any, photo: bytes, answers: list[Any]) -> tuple[Any, list[np.ndarray]]:
    """What the app suggests when its network answers this, and the canvases that the network was shown."""
    answer = page.evaluate(SUGGEST, {"file": base64.b64encode(photo).decode(), "side": SIDE, "answers": answers})
    canvases = [np.frombuffer(base64.b64decode(each), np.uint8).reshape(SIDE, SIDE) for each in answer["seen"]]
    return answer["corners"], canvases


def answer(corners: Any, confidence: float = 0.9) -> dict[str, Any]:
    return {"corners": np.asarray(corners).tolist(), "confidence": confidence}


def test_the_second_look_is_at_the_film_that_the_first_one_found(page: Any, tmp_path: Path) -> None:
    """By hand: the box around the corners and 8 % of its longer side, and where the corners found there are in the photo."""
    photo = encode(make_photo())
    (tmp_path / "photo.png").write_bytes(photo)
    pixels = read_radiograph(tmp_path / "photo.png").pixels
    height, width = pixels.shape
    whole, letterbox = make_canvas(pixels, SIDE)
    first = np.array([letterbox.to_film((x, y, x, y))[:2] for x, y in QUAD])
    (x0, y0), (x1, y1) = first.min(axis=0), first.max(axis=0)
    room = 0.08 * max(x1 - x0, y1 - y0)
    left, top, right, bottom = int(x0 - room), int(y0 - room), int(np.ceil(x1 + room)), int(np.ceil(y1 + room))
    assert 0 < left < right < width
    assert 0 < top < bottom < height
    part, closer = make_canvas(np.ascontiguousarray(pixels[top:bottom, left:right]), SIDE)

    second = np.array([[25.0, 25.0], [290.0, 30.0], [285.0, 300.0], [30.0, 295.0]])
    corners, seen = suggest(page, photo, [answer(QUAD), answer(second)])
    for canvas, expected in zip(seen, (whole, part), strict=True):
        assert np.abs(canvas.astype(int) - expected).max() <= 2
    np.testing.assert_allclose(corners, [np.add(closer.to_film((x, y, x, y))[:2], (left, top)) for x, y in second], atol=0.5)


@pytest.mark.parametrize("second", [answer(QUAD, 0.2), answer(QUAD[::-1]), answer(np.array(QUAD) + 400)])
def test_a_second_look_that_sees_nothing_leaves_the_first(page: Any, second: dict[str, Any], tmp_path: Path) -> None:
    """Too unsure, not a film's corners, or far outside of the photo."""
    photo = encode(make_photo())
    (tmp_path / "photo.png").write_bytes(photo)
    _, letterbox = make_canvas(read_radiograph(tmp_path / "photo.png").pixels, SIDE)
    corners, seen = suggest(page, photo, [answer(QUAD), second])
    assert len(seen) == 2
    np.testing.assert_allclose(corners, [letterbox.to_film((x, y, x, y))[:2] for x, y in QUAD], atol=0.5)


def test_nothing_is_suggested_where_the_first_look_sees_nothing(page: Any) -> None:
    corners, seen = suggest(page, encode(make_photo()), [answer(QUAD, 0.2)])
    assert corners is None
    assert len(seen) == 1
