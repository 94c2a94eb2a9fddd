"""How well the film is found in simulated photos of a screen."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pedicle_screws import VIEWS
from resealing import read_manifest, reseal

from edgekit.app.server import serve_site
from edgekit.app.site import build_site
from edgekit.evaluation.photos import read_photos
from edgekit.graphs.corners import write_corner_finder
from edgekit.manifest import open_bundle
from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.photo.album import make_album
from edgekit.phantom.plan import CohortParameters
from edgekit.studies import read_studies
from edgekit.training.config import load_config
from edgekit.training.corners import train_corner_finder
from edgekit.training.films import cache_films
from edgekit.training.screens import photograph_screens

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def trained_bundle(web_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the web whose corner finder has learnt for a few minutes."""
    folder = tmp_path_factory.mktemp("trained")
    table = make_cohort(folder / "cohort", CohortParameters(42, None, "a", 768, None, False, 4))
    films = cache_films(read_studies(table), VIEWS, 128, folder / "films.npy")
    config = dataclasses.replace(load_config("paper").corners, photos=2400, epochs=4)
    photos = photograph_screens(films, config.photos, 0, folder / "photos.npy")
    finder = train_corner_finder(photos, config, torch.device("cpu"), 0, folder / "checkpoints", print)
    bundle = shutil.copytree(web_bundle, folder / "bundle")
    corners = read_manifest(bundle).corners
    assert corners is not None
    write_corner_finder(finder, bundle / corners["model"], "int8")
    reseal(bundle)
    return bundle


@pytest.fixture(scope="module")
def trained_address(web_runtime: object, trained_bundle: Path) -> Iterator[str]:  # noqa: ARG001  (skips)
    with serve_site(build_site(open_bundle(trained_bundle)), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/"


def test_the_outline_is_often_right_in_moderate_photos(
    chromium: Any, trained_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of the photos, for some films end in black on black: nobody can see where. Cropped photos, of another shape, are no worse."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    app = importlib.import_module("app")
    table = make_cohort(tmp_path / "cohort", CohortParameters(21, None, "a", 768, None, False, 3))
    photos = read_photos(make_album(table, tmp_path / "photos", seed=3).parent / "photos.csv", VIEWS)
    for kind in (photos, app.crop_photos(photos, tmp_path)):
        shares = app.count_right(app.find_corners(chromium, trained_address, kind))
        print(f"{len(kind)} photos, largest error of a corner as a share of the film's width: {shares}")
        assert shares["0.02"] >= 0.25
        assert shares["0.1"] >= 0.65
