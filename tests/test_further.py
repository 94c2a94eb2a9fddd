"""Further simulated patients: as many as asked for, none of the run's own, made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pedicle_screws import VIEWS

from edgekit.cli import run as edgekit
from edgekit.errors import InputError, UsageError
from edgekit.files import hash_file
from edgekit.further import FIRST_SEED, simulate_further
from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.plan import CohortParameters
from edgekit.studies import read_studies


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_run(folder: Path, seed: int, detector_seed: int | None = None) -> Path:
    """What a run folder says about the simulated films that it was trained on."""
    table = make_cohort(folder / "cohort", CohortParameters(patients=2, size=200, split="train", seed=seed))
    sources: dict[str, object] = {"detector_studies": None}
    if detector_seed is not None:
        other = make_cohort(folder / "detector", CohortParameters(patients=1, size=200, split="train", seed=detector_seed))
        sources = {"detector_studies": {"path": str(other), "sha256": hash_file(other)}}
    run = folder / "run"
    run.mkdir()
    record = {"studies": {"path": str(table), "sha256": hash_file(table)}, "sources": sources}
    (run / "provenance.json").write_text(json.dumps(record))
    return run


@pytest.mark.usefixtures("cache")
def test_further_patients_are_new_and_made_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, FIRST_SEED, FIRST_SEED + 1)
    table, seed = simulate_further(run, 3)
    assert seed == FIRST_SEED + 2  # both of the run's cohorts had the seeds before it
    rows = read_studies(table)
    assert [row.split for row in rows] == ["test"] * 3
    assert {row.brand for row in rows} <= {f"design-{letter}" for letter in "abcdefg"}
    films = {hash_file(film) for row in rows for view in VIEWS if (film := row.film(view))}
    own = {hash_file(film) for film in (tmp_path / "cohort" / "films").rglob("*") if film.is_file()}
    assert len(films) == 6
    assert not films & own

    made = {path: path.stat().st_mtime_ns for path in table.parent.rglob("*.dcm")}
    assert simulate_further(run, 3) == (table, seed)
    assert {path: path.stat().st_mtime_ns for path in table.parent.rglob("*.dcm")} == made


@pytest.mark.usefixtures("cache")
def test_a_run_on_other_films_has_no_further_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, 0)
    with pytest.raises(UsageError, match="--simulate is 0"):
        simulate_further(run, 0)
    (tmp_path / "cohort" / "cohort.json").unlink()
    with pytest.raises(InputError, match="was not trained on simulated films"):
        simulate_further(run, 3)
    assert edgekit(["export", str(run), "web:fp32", "--simulate", "3"]) == 4
    assert "give further films of your own with --studies" in capsys.readouterr().err
    assert edgekit(["export", str(run), "web:fp32", "--simulate", "3", "--studies", "studies.csv"]) == 2
    shutil.rmtree(tmp_path / "cohort")
    with pytest.raises(InputError, match="studies are not there"):
        simulate_further(run, 3)
