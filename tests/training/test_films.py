"""Films are decoded once; one that can't be read is a listed exclusion, many are an error; photos lie where the films lay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.studies import read_studies
from edgekit.training.films import cache_films, read_unreadable
from edgekit.training.photos import photograph_films
from edgekit.types import Study


def break_film(study: Study, folder: Path) -> Study:
    broken = folder / f"{study.patient_id}.dcm"
    assert study.ap is not None
    broken.write_bytes(study.ap.read_bytes()[:700])
    return dataclasses.replace(study, ap=broken)


def test_one_film_that_can_not_be_read_is_left_out_and_named(cohort: Path, tmp_path: Path) -> None:
    rows = read_studies(cohort)[:6]
    whole = cache_films(rows, 96, tmp_path / "whole.npy")
    rows[2] = break_film(rows[2], tmp_path)
    films = cache_films(rows, 96, tmp_path / "films.npy")
    assert list(read_unreadable(tmp_path / "films.npy")) == [rows[2].patient_id]
    assert rows[2].patient_id in read_unreadable(tmp_path / "films.npy")[rows[2].patient_id]
    assert set(films.study) == {0, 1, 3, 4, 5}
    kept = whole.study != 2
    np.testing.assert_array_equal(films.canvases, whole.canvases[kept])
    np.testing.assert_array_equal(films.boxes, whole.boxes[kept])
    with pytest.raises(InputError, match="2 of 6 rows can't be read"):
        cache_films([*rows[:4], break_film(rows[4], tmp_path), rows[5]], 96, tmp_path / "many.npy")


def test_films_decoded_once_are_opened(cohort: Path, tmp_path: Path) -> None:
    rows = read_studies(cohort)[:3]
    first = cache_films(rows, 96, tmp_path / "films.npy")
    written = (tmp_path / "films.npy").stat().st_mtime_ns
    again = cache_films(rows, 96, tmp_path / "films.npy")
    assert (tmp_path / "films.npy").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.boxes, first.boxes)
    cache_films(rows[:2], 96, tmp_path / "films.npy")
    assert (tmp_path / "films.npy").stat().st_mtime_ns != written


def test_a_photo_lies_where_the_film_lay(cohort: Path, tmp_path: Path) -> None:
    """The film is found again in its straightened photo, best without any shift."""
    films = cache_films(read_studies(cohort)[:2], 192, tmp_path / "films.npy")
    photos = photograph_films(films, np.array([1, 2]), 192, 1, 0, tmp_path / "photos.npy")
    assert photos.shape == (2, 192, 192)
    for photo, film in zip(photos, films.canvases[[1, 2]], strict=True):
        assert not np.array_equal(photo, film)
        scores = {}
        for shift in range(-6, 7, 3):
            scores[shift] = np.corrcoef(np.roll(photo, shift, axis=1).ravel(), film.ravel())[0, 1]
        assert max(scores, key=scores.__getitem__) == 0
        assert scores[0] > 0.8
