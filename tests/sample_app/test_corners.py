"""How well the film is found in simulated photos of a screen."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.app.server import serve_site
from edgekit.app.site import build_site
from edgekit.manifest import open_bundle

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def trained_bundle() -> Path:
    """A bundle for the web whose corner finder is trained."""
    pytest.skip("PLACEHOLDER: no bundle with a trained corner finder yet")


@pytest.fixture(scope="module")
def trained_address(web_runtime: Path, trained_bundle: Path) -> Iterator[str]:  # noqa: ARG001  (skips)
    with serve_site(build_site(open_bundle(trained_bundle)), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/"


def test_the_outline_is_often_right_in_moderate_photos(
    chromium: Any, trained_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of the photos, for some films end in black on black: nobody can see where."""
    from edgekit.evaluation.photos import read_photos
    from edgekit.phantom.cohort import make_cohort
    from edgekit.phantom.photo.album import make_album
    from edgekit.phantom.plan import CohortParameters

    monkeypatch.syspath_prepend(BENCHMARKS)
    table = make_cohort(tmp_path / "cohort", CohortParameters(21, None, "a", 768, None, False, 3))
    album = make_album(table, tmp_path / "photos", seed=3).parent
    errors = importlib.import_module("app").find_corners(chromium, trained_address, read_photos(album / "photos.csv"))
    shares = {limit: sum(error <= limit for error in errors) / len(errors) for limit in (0.02, 0.05, 0.1)}
    print(f"{len(errors)} photos, largest error of a corner as a share of the film's width: {shares}")
    assert shares[0.02] >= 0.25
    assert shares[0.1] >= 0.5
