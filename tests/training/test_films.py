"""Films are decoded once; one that can't be read is a listed exclusion, many are an error; photos lie where the films lay."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pedicle_screws import VIEWS
from PIL import Image

from edgekit import canvases
from edgekit.errors import InputError
from edgekit.radiograph import read_radiograph
from edgekit.studies import read_studies, write_studies
from edgekit.training import films as room
from edgekit.training.films import cache_films, read_unreadable
from edgekit.training.photos import photograph_films
from edgekit.types import Study


def break_film(study: Study, folder: Path) -> Study:
    broken = folder / f"{study.patient_id}.dcm"
    assert study.film("ap") is not None
    broken.write_bytes(study.film("ap").read_bytes()[:700])
    return study.with_film("ap", broken, study.box("ap"))


def test_one_film_that_can_not_be_read_is_left_out_and_named(cohort: Path, tmp_path: Path) -> None:
    rows = read_studies(cohort)[:6]
    whole = cache_films(rows, VIEWS, 96, tmp_path / "whole.npy")
    rows[2] = break_film(rows[2], tmp_path)
    films = cache_films(rows, VIEWS, 96, tmp_path / "films.npy")
    assert list(read_unreadable(tmp_path / "films.npy")) == [rows[2].patient_id]
    assert rows[2].patient_id in read_unreadable(tmp_path / "films.npy")[rows[2].patient_id]
    assert set(films.study) == {0, 1, 3, 4, 5}
    kept = whole.study != 2
    np.testing.assert_array_equal(films.canvases, whole.canvases[kept])
    np.testing.assert_array_equal(films.boxes, whole.boxes[kept])
    with pytest.raises(InputError, match="2 of 6 rows can't be read"):
        cache_films([*rows[:4], break_film(rows[4], tmp_path), rows[5]], VIEWS, 96, tmp_path / "many.npy")


def test_a_box_that_overshoots_ends_at_the_edge_of_the_film(cohort: Path, tmp_path: Path) -> None:
    """A film is 192 pixels high, and so is its canvas: what the detector learns from must not reach into the padding."""
    row = next(row for row in read_studies(cohort) if row.film("ap"))
    height, width = read_radiograph(row.film("ap")).pixels.shape
    inside, outside = (0.0, 0.0, float(width), float(height)), (-0.5, -1.0, width + 0.5, height + 1.0)
    boxes = [cache_films([row.with_box("ap", box)], VIEWS, 192, tmp_path / f"{box[0]}.npy").boxes[0] for box in (inside, outside)]
    np.testing.assert_array_equal(*boxes)


def test_films_decoded_once_are_opened(cohort: Path, tmp_path: Path) -> None:
    rows = read_studies(cohort)[:3]
    first = cache_films(rows, VIEWS, 96, tmp_path / "films.npy")
    written = (tmp_path / "films.npy").stat().st_mtime_ns
    again = cache_films(rows, VIEWS, 96, tmp_path / "films.npy")
    assert (tmp_path / "films.npy").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.boxes, first.boxes)
    cache_films(rows[:2], VIEWS, 96, tmp_path / "films.npy")
    assert (tmp_path / "films.npy").stat().st_mtime_ns != written


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Twenty patients with films of noise, every third with one film only; the film of patient 6 can't be read."""
    random = np.random.default_rng(0)
    rows = []
    for row in range(20):
        made = []
        for view in ("ap", "lateral"):
            made.append(tmp_path / f"p{row}-{view}.png")
            Image.fromarray(random.integers(0, 256, (40, 48), np.uint8)).save(made[-1])
        box = (3.0, 4.5, 30.0, 33.3) if row % 2 else None
        lateral, lateral_box = (made[1], box) if row % 3 else (None, None)
        rows.append(Study(f"p{row}", "a", films={"ap": made[0], "lateral": lateral}, boxes={"ap": box, "lateral": lateral_box}))
    (tmp_path / "p6-ap.png").write_bytes(b"no film")
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The films that are read."""
    names: set[str] = set()
    monkeypatch.setattr(canvases, "read_radiograph", lambda path: names.add(path.name) or read_radiograph(path))
    monkeypatch.setattr(room, "KEPT_ROWS", 4)
    return names


KILLED = """
import os, signal, sys
from pathlib import Path
from edgekit.studies import read_studies
from edgekit.training import films

average, filled = films.average_blocks, []

def average_some(canvas, ratio):
    filled.append(ratio)
    if len(filled) > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return average(canvas, ratio)

films.average_blocks, films.KEPT_ROWS = average_some, 4
films.cache_films(read_studies(Path(sys.argv[1])), ("ap", "lateral"), 32, Path(sys.argv[2]), 2)
"""


def list_films(rows: range) -> set[str]:
    return {f"p{row}-{view}.png" for row in rows for view in ("ap", "lateral") if view == "ap" or row % 3}


@pytest.mark.parametrize(("killed_at", "kept"), [(3, 0), (17, 8), (23, 12)])  # in rows 2, 11 and 14; the index is written every 4 rows
def test_a_killed_cache_goes_on_and_ends_with_the_same_bytes(
    noise: Path, tmp_path: Path, decoded: set[str], killed_at: int, kept: int
) -> None:
    rows = read_studies(noise)
    whole = cache_films(rows, VIEWS, 32, tmp_path / "whole/films.npy", 2)
    assert len(whole) == len(list_films(range(20))) - 1
    decoded.clear()
    path = tmp_path / "killed/films.npy"
    done = subprocess.run([sys.executable, "-c", KILLED, noise, path, str(killed_at)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    films = cache_films(rows, VIEWS, 32, path, 2)
    assert decoded == list_films(range(kept, 20))
    for name in ("films.npy", "films.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    np.testing.assert_array_equal(films.canvases, whole.canvases)
    assert list(read_unreadable(path)) == ["p6"]


def test_a_refused_cache_goes_on_once_the_films_are_replaced(noise: Path, tmp_path: Path, decoded: set[str]) -> None:
    rows = read_studies(noise)
    films = {name: (tmp_path / name).read_bytes() for name in ("p7-ap.png", "p9-ap.png")}
    good = [*rows[:6], *rows[7:]]
    cache_films(good, VIEWS, 32, tmp_path / "whole/films.npy")
    for name in films:
        (tmp_path / name).write_bytes(b"no film")
    with pytest.raises(InputError, match="2 of 19 rows"):
        cache_films(good, VIEWS, 32, tmp_path / "films.npy")
    for name, content in films.items():
        (tmp_path / name).write_bytes(content)
    decoded.clear()
    cache_films(good, VIEWS, 32, tmp_path / "films.npy")
    assert decoded == list_films(range(7, 20))
    for name in ("films.npy", "films.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_photo_lies_where_the_film_lay(cohort: Path, tmp_path: Path) -> None:
    """The film is found again in its straightened photo, best without any shift."""
    films = cache_films(read_studies(cohort)[:2], VIEWS, 192, tmp_path / "films.npy")
    photos = photograph_films(films, np.array([1, 2]), 192, 1, 0, tmp_path / "photos.npy")
    assert photos.shape == (2, 192, 192)
    for photo, film in zip(photos, films.canvases[[1, 2]], strict=True):
        assert not np.array_equal(photo, film)
        scores = {}
        for shift in range(-6, 7, 3):
            scores[shift] = np.corrcoef(np.roll(photo, shift, axis=1).ravel(), film.ravel())[0, 1]
        assert max(scores, key=scores.__getitem__) == 0
        assert scores[0] > 0.8
