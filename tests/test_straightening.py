"""docs/straightening.md: what a phone makes of a photo, held to the vectors that hold the app's JavaScript in sample_app/test_pixels.py."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.phantom.photo.viewpoint import take_position
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.straightening import estimate_size, straighten

FOLDER = Path(__file__).parent / "vectors" / "straightening"
INDEX = json.loads((FOLDER / "index.json").read_text())
VECTORS = {vector["photo"]: vector for vector in INDEX["vectors"]}


def open_pixels(name, folder=FOLDER):
    return np.asarray(Image.open(folder / name))


def assert_same(pixels, expected):
    assert pixels.shape == expected.shape
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= INDEX["tolerance"]["max"]
    assert difference.mean() <= INDEX["tolerance"]["mean"]


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_hold(name):
    vector = VECTORS[name]
    grey, corners = read_radiograph(FOLDER / name).pixels, np.array(vector["corners"])
    size = estimate_size(corners, grey.shape[1], grey.shape[0])
    film = straighten(grey, corners, size)
    assert list(size) == vector["size"]
    assert_same(film, open_pixels(vector["film"]))
    assert_same(make_canvas(film, vector["side"])[0], open_pixels(vector["canvas"]))


def test_the_folder_is_what_the_script_makes(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_straightening", FOLDER.parent / "make_straightening.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    script.main()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}
    assert (tmp_path / "index.json").read_text() == (FOLDER / "index.json").read_text()
    for path in tmp_path.glob("*.png"):
        difference = open_pixels(path.name, tmp_path).astype(int) - open_pixels(path.name)
        assert np.abs(difference).max() <= 1  # another processor's cosine
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000


@pytest.mark.parametrize("shift", [(0.5, 0.5), (-0.5, -0.5)])
def test_pixel_centres_off_by_half_would_be_caught(shift):
    vector = VECTORS["tilted.png"]
    film = straighten(open_pixels("tilted.png"), np.array(vector["corners"]) + shift, tuple(vector["size"]))
    with pytest.raises(AssertionError):
        assert_same(film, open_pixels(vector["film"]))


@pytest.mark.parametrize("azimuth", [0, 35, 90, 200, 300])
@pytest.mark.parametrize("tilt", [0, 8, 16])
@pytest.mark.parametrize("film", [(700, 900), (1000, 620), (800, 800)])
def test_the_aspect_is_seen_through_the_tilt(film, tilt, azimuth):
    view = take_position(
        (0, 0, *film), 1512, 2016, tilt_degrees=tilt, azimuth_degrees=azimuth, roll_degrees=3, fill=0.8, centre=(0.45, 0.52)
    )
    corners = view.find_corners((0, 0, *film))
    width, height = estimate_size(corners, 1512, 2016)
    assert width / height == pytest.approx(film[0] / film[1], rel=0.006)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    assert width >= max(sides[0], sides[2]) - 0.5
    assert height >= max(sides[1], sides[3]) - 0.5
    if tilt == 16 and azimuth in (0, 90):  # where the sides' lengths alone would be misled
        assert abs((sides[0] + sides[2]) / (sides[1] + sides[3]) * film[1] / film[0] - 1) > 0.02
