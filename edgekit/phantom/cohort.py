"""A folder of simulated films with its ``studies.csv``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit.phantom.plan import CROSSLINK, Patient, plan_cohort
from edgekit.phantom.scene import simulate_rows
from edgekit.phantom.workfolder import claim_folder, fill_folder
from edgekit.studies import OTHER_METAL, write_studies
from edgekit.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.phantom.film import SimulatedFilm
    from edgekit.phantom.plan import CohortParameters
    from edgekit.task import View
    from edgekit.types import Box, Study


DETECTOR_FILMS = 3
"""Which films the preset ``detector`` makes: raised with what changes them, so that a folder begun before isn't filled with a mixture."""


def make_cohort(out: Path, parameters: CohortParameters) -> Path:
    """Make simulated patients: DICOM films and ``studies.csv``.

    Films are written as they are made, by one process a core (a script that calls this needs the usual ``if __name__ == "__main__"``).
    A run that was interrupted continues where it stopped; ``studies.csv`` comes last.

    Parameters
    ----------
    out
        Folder of the cohort: new, empty, or begun with the same parameters.
    parameters
        What the cohort follows from: the same parameters give the same bytes, whatever the number of workers.

    Returns
    -------
    Path
        ``out/studies.csv``.

    Raises
    ------
    UsageError
        When a parameter is impossible.
    InputError
        When `out` holds something else.
    """
    parameters.check()
    record = {**asdict(parameters), "version": VERSION}
    if parameters.preset == "detector":
        record["films"] = DETECTOR_FILMS
    tasks = {patient.rows[0].patient_id: _Task(patient, json.dumps(record, sort_keys=True)) for patient in plan_cohort(out, parameters)}
    claim_folder(out, "cohort.json", record, ["films"])
    made = fill_folder(out, tasks, _make_patient, _is_whole, description="simulating patients", remedy="Take a smaller --size")
    table = out / "studies.csv"
    write_studies(table, [row for name, task in tasks.items() for row in _complete(task.patient, made[name])])
    return table


@dataclass(frozen=True, slots=True)
class _Task:
    """One patient to make, and what its UIDs follow from."""

    patient: Patient
    source: str


_Made = list[dict[str, Any]]
"""For each row of the patient what only its films tell: ``boxes`` by view, ``levels`` and ``has_other_metal``."""


def _make_patient(task: _Task) -> _Made:
    from edgekit.phantom.dicom import write_film

    patient = task.patient
    taken = simulate_rows(
        [str(row.brand) for row in patient.rows],
        patient.seed,
        size=patient.size,
        has_crosslink=patient.rows[0].has.get(CROSSLINK),
        site=patient.site,
        metal=patient.metal,
    )
    for row, films in zip(patient.rows, taken, strict=True):
        for view, film in films.items():
            path = row.film(view)
            assert path is not None
            write_film(film, path, patient_id=row.patient_id, view=view, source=task.source)
    return [_describe(films) for films in taken]


def _describe(films: dict[View, SimulatedFilm]) -> dict[str, Any]:
    boxes = {view: None if film.box is None else list(film.box) for view, film in films.items()}
    facts = [film.facts for film in films.values()]
    return {"boxes": boxes, "levels": facts[0].levels, "has_other_metal": any(each.has_other_metal for each in facts)}


def _is_whole(task: _Task, made: _Made) -> bool:
    # A row without levels was made by an edgekit that did not keep them.
    return all("levels" in row for row in made) and all(film.exists() for row in task.patient.rows for film in row.given.values())


def _complete(patient: Patient, made: _Made) -> list[Study]:
    """Return a patient's rows with what their films tell."""
    return [
        replace(
            row,
            boxes={view: _read_box(edges) for view, edges in found["boxes"].items()},
            has={**row.has, OTHER_METAL: found["has_other_metal"]},
            levels=found["levels"],
        )
        for row, found in zip(patient.rows, made, strict=True)
    ]


def _read_box(edges: list[float] | None) -> Box | None:
    return None if edges is None else (edges[0], edges[1], edges[2], edges[3])
