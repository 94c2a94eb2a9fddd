"""A folder of simulated films with its ``studies.csv``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import edgekit
from edgekit.errors import InputError
from edgekit.files import write_json, write_text
from edgekit.phantom.plan import plan_cohort
from edgekit.phantom.scene import simulate_rows
from edgekit.phantom.workers import run_parallel
from edgekit.progress import track
from edgekit.studies import write_studies
from edgekit.types import VIEWS, View

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.phantom.plan import CohortParameters, Patient
    from edgekit.types import Box, Study


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
    record = {**asdict(parameters), "version": edgekit.__version__}
    source = json.dumps(record, sort_keys=True)
    patients = plan_cohort(out, parameters)
    _claim_folder(out, record)
    finished = _read_journal(out, patients)
    missing = [(patient, source) for patient in patients if _name(patient) not in finished]
    with (out / _JOURNAL).open("a", encoding="utf-8") as journal:
        made = run_parallel(_make_patient, missing, "Take a smaller --size")
        for patient_id, boxes in track(made, "simulating patients", total=len(missing)):
            finished[patient_id] = boxes
            journal.write(json.dumps({"patient_id": patient_id, "boxes": boxes}) + "\n")
            journal.flush()
    table = out / "studies.csv"
    write_studies(table, [row for patient in patients for row in _with_boxes(patient, finished[_name(patient)])])
    return table


_JOURNAL = ".finished.jsonl"
_Boxes = list[dict[View, "Box | None"]]
"""By row of the patient, then by view."""


def _name(patient: Patient) -> str:
    return patient.rows[0].patient_id


def _claim_folder(out: Path, wanted: dict[str, object]) -> None:
    """Make the folder, or make sure that it was begun with the same parameters."""
    record = out / "cohort.json"
    if record.exists():
        found = _read_record(record)
        differing = [f"{name} {found.get(name)!r}, asked for {wanted[name]!r}" for name in wanted if found.get(name) != wanted[name]]
        if differing:
            raise InputError(
                f"{out} holds a cohort made with other parameters: {'; '.join(differing)}.", "Choose another folder, or remove this one."
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no cohort", "Choose a new folder.")
    (out / "films").mkdir(parents=True, exist_ok=True)
    write_json(record, wanted)


def _read_record(record: Path) -> dict[str, object]:
    try:
        return dict(json.loads(record.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{record} is damaged: {error}.", "Choose another folder, or remove this one.") from error


def _read_journal(out: Path, patients: list[Patient]) -> dict[str, _Boxes]:
    """Return the boxes of everybody whose films are whole; a line that a kill cut short is not counted."""
    films = {_name(patient): [row.film(view) for row in patient.rows for view in VIEWS] for patient in patients}
    finished: dict[str, _Boxes] = {}
    journal = out / _JOURNAL
    if not journal.exists():
        return finished
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if all(film is not None and film.exists() for film in films[row["patient_id"]]):
            boxes = [{view: tuple(box) if box else None for view, box in both.items()} for both in row["boxes"]]
            finished[row["patient_id"]] = boxes
    lines = [json.dumps({"patient_id": patient_id, "boxes": boxes}) + "\n" for patient_id, boxes in finished.items()]
    write_text(journal, "".join(lines))
    return finished


def _make_patient(task: tuple[Patient, str]) -> tuple[str, _Boxes]:
    from edgekit.phantom.dicom import write_film

    patient, source = task
    first = patient.rows[0]
    taken = simulate_rows(
        [str(row.brand) for row in patient.rows],
        patient.seed,
        size=patient.size,
        has_crosslink=first.has_crosslink,
        site=patient.site,
        metal=patient.metal,
    )
    for row, films in zip(patient.rows, taken, strict=True):
        for view, film in films.items():
            path = row.film(view)
            assert path is not None
            write_film(film, path, patient_id=row.patient_id, view=view, source=source)
    return _name(patient), [{view: film.box for view, film in films.items()} for films in taken]


def _with_boxes(patient: Patient, boxes: _Boxes) -> list[Study]:
    return [replace(row, ap_box=both["ap"], lateral_box=both["lateral"]) for row, both in zip(patient.rows, boxes, strict=True)]
