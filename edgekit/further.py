"""Further patients to judge on, for a run that was trained on simulated films: as many as a verdict needs, none that the run has seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, UsageError
from edgekit.models.runfolder import find_studies
from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.plan import CohortParameters
from edgekit.remembered import find_cache_folder

if TYPE_CHECKING:
    from pathlib import Path

COHORT = "cohort.json"
FILM_SIZE = 768
"""Long side of the films in pixels, that of the canvas that all presets work on."""

FIRST_SEED = 900
"""Where the search for a seed begins: far from those that people type."""


def simulate_further(run: Path, patients: int) -> tuple[Path, int]:
    """Simulate patients of the designs that a run was trained on, and keep them in the user's cache folder.

    Patients follow from the cohort's seed, so a seed that no cohort of the run had gives patients that it has not seen. What was begun is
    gone on with, and what was made is used again by every run that may.

    Parameters
    ----------
    run
        A finished run folder.
    patients
        How many, evenly over the designs.

    Returns
    -------
    studies, seed
        Path of ``studies.csv``, all of it in the split ``test``; and the cohort's seed.

    Raises
    ------
    UsageError
        `patients` is impossible.
    InputError
        The run was not trained on simulated films, its studies are gone, or the cache folder can't be written to.
    """
    if patients < 1:
        raise UsageError(f"--simulate is {patients}, expected a number of patients from 1", "the default recipes need 1500")
    table = find_studies(run)
    cohort = _read_cohort(table)
    if table is None or cohort is None:
        raise InputError(
            f"{run} was not trained on simulated films: no {COHORT} beside {table or 'its studies'}, so none can stand for its patients",
            "give further films of your own with --studies",
        )
    seen = {int(cohort["seed"])}
    recorded = json.loads((run / "provenance.json").read_text(encoding="utf-8")).get("sources") or {}
    if (detector := recorded.get("detector_studies")) and (other := _read_cohort((run / detector["path"]).resolve())):
        seen.add(int(other["seed"]))
    seed = next(seed for seed in range(FIRST_SEED, FIRST_SEED + len(seen) + 1) if seed not in seen)
    folder = find_cache_folder() / "edgekit" / "further" / f"seed-{seed}-patients-{patients}"
    parameters = CohortParameters(patients=patients, site=cohort["site"], size=FILM_SIZE, split="test", seed=seed)
    return make_cohort(folder, parameters), seed


def _read_cohort(table: Path | None) -> dict[str, Any] | None:
    """Return what a table's films were simulated from; None where they were not."""
    path = None if table is None else table.parent / COHORT
    if path is None or not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
