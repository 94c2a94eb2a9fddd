"""How well the film is found in simulated photos of a screen."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CODE = """async (url) => {
    const { decode } = await import("/js/decode.js");
    const { suggestCorners } = await import("/js/corners.js");
    return suggestCorners(await decode(new Blob([Uint8Array.from(atob(url), (letter) => letter.charCodeAt(0))])));
}"""


def test_the_outline_is_often_right_in_moderate_photos(chromium: Any, address: str, tmp_path: Path) -> None:
    """A share of the photos, for some films end in black on black: nobody can see where."""
    import base64

    from edgekit.phantom.cohort import make_cohort
    from edgekit.phantom.photo.album import make_album
    from edgekit.phantom.plan import CohortParameters

    table = make_cohort(tmp_path / "cohort", CohortParameters(21, None, "a", 768, None, False, 3))
    album = make_album(table, tmp_path / "photos", seed=3).parent
    page = chromium.new_page()
    page.goto(address)
    errors = []
    with (album / "photos.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            true = [(float(row[f"x{n}"]), float(row[f"y{n}"])) for n in range(4)]
            width = (math.dist(true[0], true[1]) + math.dist(true[3], true[2])) / 2
            found = page.evaluate(CODE, base64.b64encode((album / row["file"]).read_bytes()).decode())
            errors.append(max(map(math.dist, found, true)) / width if found else math.inf)
    shares = {limit: sum(error <= limit for error in errors) / len(errors) for limit in (0.02, 0.05, 0.1)}
    print(f"{len(errors)} photos, largest error of a corner as a share of the film's width: {shares}")
    assert shares[0.02] >= 0.25
    assert shares[0.1] >= 0.5
