"""Lines through maps of edges, against the quadrilaterals that they were drawn from; the file that ships, against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgekit.graphs.corners import write_corner_finder
from edgekit.models.corners import CELL, SIDE, CornerFinder, EdgeMaps, draw_edges, find_corners

CELLS = SIDE // CELL


def draw_quadrilateral(random: np.random.Generator) -> np.ndarray:
    """Corners of a film as a phone that is held at a slant sees it, pixels of the canvas."""
    middle, half = np.array([160, 160]) + random.uniform(-15, 15, 2), random.uniform(70, 115, 2)
    return middle + np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half + random.uniform(-14, 14, (4, 2))


@pytest.mark.parametrize("seed", range(12))
def test_corners_are_where_the_edges_meet(seed: int) -> None:
    corners = draw_quadrilateral(np.random.default_rng(seed))
    maps = draw_edges(torch.tensor(corners[None], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, rtol=1e-5)
    found, confidence = find_corners(maps)
    np.testing.assert_allclose(found, corners, atol=0.3)
    assert confidence > 0.95


def test_an_edge_is_drawn_over_the_cells_that_it_runs_through() -> None:
    """By hand: the top edge of an upright film at y = 62 lies in the middle of row 15, from column 10 to 59."""
    corners = torch.tensor([[[40.0, 62.0], [240.0, 62.0], [240.0, 280.0], [40.0, 280.0]]])
    top, right, *_ = draw_edges(corners)[0].numpy()
    assert set(top.argmax(axis=0)[10:60]) == {15}
    assert top[:, :7].max() < 0.01 * top.max()
    assert top[14, 30] / top[15, 30] == pytest.approx(np.exp(-0.5 / 0.7**2), rel=1e-4)
    assert set(right.argmax(axis=1)[16:70]) <= {59, 60}


def test_of_two_candidates_the_likelier_is_taken_and_not_their_mean() -> None:
    one, other = (torch.tensor([[[60.0, y], [260.0, y], [260.0, 270.0], [60.0, 270.0]]]) for y in (70.0, 94.0))
    maps = 0.6 * draw_edges(one) + 0.4 * draw_edges(other)
    found, confidence = find_corners(maps[0].numpy())
    np.testing.assert_allclose(found, one[0], atol=0.6)
    assert confidence == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("column", [0, CELLS - 1])
def test_a_line_that_leaves_the_map_collects_nothing_there(column: int) -> None:
    """All weight at the border: the line along it collects all of it, and is found."""
    maps = np.zeros((4, CELLS, CELLS), np.float32)
    maps[:, :, column] = 1 / CELLS
    found, confidence = find_corners(maps)
    np.testing.assert_allclose(found[[0, 3], 0], (column + 0.5) * CELL, atol=1e-6)
    assert 0 < confidence <= 1


def test_no_evidence_is_no_confidence() -> None:
    assert find_corners(np.full((4, CELLS, CELLS), 1 / CELLS**2, np.float32))[1] < 0.1
    point = np.zeros((4, CELLS, CELLS), np.float32)
    point[:, 40, 40] = 1
    assert np.isfinite(find_corners(point)[0]).all()


def test_a_mirror_image_has_the_mirrored_edges() -> None:
    """Left is right there, top is top."""
    torch.manual_seed(4)
    maps = EdgeMaps(CornerFinder().eval())
    photo = torch.randint(0, 256, (2, 1, SIDE, SIDE), dtype=torch.uint8)
    with torch.no_grad():
        (top, right, bottom, left), mirrored = maps(photo)[0], maps(photo.flip(3))[0].flip(2)
    assert torch.allclose(mirrored, torch.stack([top, left, bottom, right]), atol=1e-7)
    assert not torch.allclose(left, right, atol=1e-6)


@pytest.mark.parametrize(("weights", "largest"), [("float32", 600_000), ("int8", 200_000)])
def test_the_file_that_ships_answers_as_torch(weights: str, largest: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    finder = CornerFinder()
    photo = torch.randint(0, 256, (4, 1, SIDE, SIDE), dtype=torch.uint8)
    finder(photo)  # BatchNorm learns what is usual
    with torch.no_grad():
        finder.head.weight.mul_(150)  # decided maps: at random they are even, and anything would agree
    finder.eval()
    write_corner_finder(finder, tmp_path / "corners.onnx", weights)
    assert (tmp_path / "corners.onnx").stat().st_size < largest
    onnx.checker.check_model(str(tmp_path / "corners.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "corners.onnx"), providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape, value.type) for value in (*session.get_inputs(), *session.get_outputs())] == [
        ("photo", [1, 1, 320, 320], "tensor(uint8)"),
        ("edges", [1, 4, 80, 80], "tensor(float)"),
    ]
    maps = session.run(None, {"photo": photo[:1].numpy()})[0]
    with torch.no_grad():
        expected = EdgeMaps(finder)(photo[:1]).numpy()
    assert expected.max() > 0.002  # not even
    error = np.abs(maps - expected).sum(axis=(2, 3)).max()
    assert error < {"float32": 1e-4, "int8": 0.2}[weights]
    if weights == "int8":
        assert error > 1e-4  # really rounded
