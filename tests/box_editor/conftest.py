from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pedicle_screws import VIEWS
from sample_films import GIVEN, SIZES, make_film

from edgekit.studies import write_studies
from edgekit.types import Study


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four patients with two films: one has a box, one is excluded and one has no construct; then one with a single film."""
    rows = []
    for number in range(5):
        films = {view: tmp_path / "films" / f"p{number}-{view}.png" for view in VIEWS}
        for view, film in films.items():
            film.parent.mkdir(exist_ok=True)
            make_film(*SIZES[view], number).save(film)
        rows.append(Study(f"p{number}", "design-a", split="train", films=films))
    rows[1] = replace(rows[1], brand=None).with_box("lateral", GIVEN)
    rows[2] = replace(rows[2], brand="none", levels=None)
    rows[3] = replace(rows[3], exclude="blurred")
    rows[4] = rows[4].with_film("lateral", None, rows[4].box("lateral"))
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"
