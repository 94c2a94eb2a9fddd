"""A folder of photos: every film of a ``studies.csv`` photographed off a screen, with the truth about each photo."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from edgekit.errors import InputError, UsageError
from edgekit.files import hash_file, replacing, write_bytes, write_text
from edgekit.phantom.photo.snapshot import Conditions, find_severity, photograph
from edgekit.phantom.workfolder import claim_folder, fill_folder
from edgekit.radiograph import read_radiograph
from edgekit.studies import clip_box, find_box_fault, read_studies, write_studies
from edgekit.task import View
from edgekit.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.types import Box, Study

CORNERS = ("x0", "y0", "x1", "y1", "x2", "y2", "x3", "y3")
"""Columns of ``photos.csv``: the film's top-left, top-right, bottom-right, bottom-left, pixels of the photo."""

COLUMNS = (
    "patient_id",
    "view",
    "file",
    "straightened",
    "photo_width",
    "photo_height",
    "film_width",
    "film_height",
    *CORNERS,
    *(field.name for field in fields(Conditions)),
)
"""Columns of ``photos.csv``; from ``severity`` on they are those of `edgekit.phantom.photo.snapshot.Conditions`."""

_Shots = dict[View, dict[str, Any]]
"""The cells of a row's photos in ``photos.csv``."""


def make_album(table: Path, out: Path, *, seed: int = 0, severity: str = "moderate") -> Path:
    """Photograph every film of a table off a screen.

    `out` gets ``photos/<patient>_<view>.jpg``, ``straightened/<patient>_<view>.png`` (the photo, warped back to the film's aspect by the
    true corners), ``photos.csv`` (`COLUMNS`) and ``studies.csv``: the rows of `table` with the straightened photos as films and the boxes
    scaled to them, so that every command that takes films takes them. Excluded rows keep their films and are not photographed.

    Photos are written as they are made, by one process a core (a script that calls this needs the usual ``if __name__ == "__main__"``).
    A run that was interrupted continues where it stopped; the tables come last.

    Parameters
    ----------
    table
        The films, ``studies.csv``.
    out
        Folder to make: new, empty, or begun with the same table and options.
    seed
        Everything random follows from it and the number of the row.
    severity
        A name in `edgekit.phantom.photo.snapshot.SEVERITIES`.

    Returns
    -------
    Path
        ``out/studies.csv``.

    Raises
    ------
    UsageError
        The seed or the severity is impossible.
    InputError
        The table or a film can't be read, or `out` holds something else.
    """
    find_severity(severity)
    if seed < 0:
        raise UsageError(f"seed is {seed}, expected 0 or more.", "Choose another --seed.")
    studies = read_studies(table)
    parameters: dict[str, object] = {"studies": hash_file(table), "severity": severity, "seed": seed, "version": VERSION}
    claim_folder(out, "photos.json", parameters, ["photos", "straightened"])
    tasks = {
        name: _Task(row, study, name, out, seed, severity)
        for row, (study, name) in enumerate(zip(studies, _name_rows(studies), strict=True))
        if study.exclude is None
    }
    finished: dict[str, _Shots] = fill_folder(
        out, tasks, _photograph_row, _is_whole, description="photographing films", remedy="Close other programs"
    )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(finished[name][view] for name in tasks for view in finished[name])
    write_text(out / "photos.csv", text.getvalue())
    rows = {task.row: _move_row(task.study, finished[name], out) for name, task in tasks.items()}
    write_studies(out / "studies.csv", [rows.get(number, study) for number, study in enumerate(studies)])
    return out / "studies.csv"


def read_conditions(out: Path) -> dict[str, int | dict[str, float]]:
    """Return how many photos an album has, and the mean of what makes them bad: tilt, moire, glare, blur (see `COLUMNS`)."""
    with (out / "photos.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("tilt_degrees", "moire", "glare", "blur_px")
    return {"photos": len(rows), "mean": {name: float(np.mean([float(row[name]) for row in rows])) for name in names if rows}}


@dataclass(frozen=True, slots=True)
class _Task:
    """One row to photograph."""

    row: int
    study: Study
    name: str
    out: Path
    seed: int
    severity: str

    def place(self, folder: str, view: View, suffix: str) -> Path:
        return self.out / folder / f"{self.name}_{view}{suffix}"


def _name_rows(studies: list[Study]) -> list[str]:
    """Return what the files of each row are called: the patient, and a number where that is taken or no file can be called so."""
    names: list[str] = []
    taken: set[str] = set()
    for row, study in enumerate(studies):
        name = re.sub(r"[^\w.+-]", "-", study.patient_id, flags=re.ASCII).lstrip(".") or "patient"
        name = name if name == study.patient_id else f"{name}-{row + 1}"
        number = 1
        while f"{name}{f'-{number}' if number > 1 else ''}".casefold() in taken:  # some file systems know no difference of case
            number += 1
        name += f"-{number}" if number > 1 else ""
        taken.add(name.casefold())
        names.append(name)
    return names


def _is_whole(task: _Task, shots: _Shots) -> bool:
    return all((task.out / str(shot[kind])).is_file() for shot in shots.values() for kind in ("file", "straightened"))


def _photograph_row(task: _Task) -> _Shots:
    """Photograph the films of one row; the other film may be on the screen beside."""
    films = {view: read_radiograph(film).pixels for view, film in task.study.given.items()}
    shots: _Shots = {}
    for number, view in enumerate(task.study.films):
        if view not in films:
            continue
        film, box = task.study.film(view), task.study.box(view)
        height, width = films[view].shape
        fault = find_box_fault(film, box, width, height) if film is not None else None
        if fault:
            raise InputError(fault, "Correct the box, or say why the film is left out in the column 'exclude' of its row.")
        rng = np.random.default_rng(np.random.SeedSequence(task.seed, spawn_key=(task.row, number)))
        beside = next((pixels for other, pixels in films.items() if other != view), None)
        photo = photograph(films[view], rng, task.severity, beside=beside)
        file, straightened = task.place("photos", view, ".jpg"), task.place("straightened", view, ".png")
        try:
            write_bytes(file, photo.file)
            with replacing(straightened) as partial:
                Image.fromarray(photo.straighten(width, height)).save(partial, "PNG", compress_level=1)
        except OSError as error:
            raise InputError(f"{file} can't be written ({error.strerror}).", "Make room, or choose another folder.") from error
        shots[view] = {
            "patient_id": task.study.patient_id,
            "view": view,
            "file": file.relative_to(task.out).as_posix(),
            "straightened": straightened.relative_to(task.out).as_posix(),
            "photo_width": photo.pixels.shape[1],
            "photo_height": photo.pixels.shape[0],
            "film_width": width,
            "film_height": height,
            **dict(zip(CORNERS, (round(float(value), 4) for value in photo.corners.ravel()), strict=True)),
            **{name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(photo.conditions).items()},
        }
    return shots


def _move_row(study: Study, shots: _Shots, out: Path) -> Study:
    """Return a row with the straightened photos as films, its boxes scaled to them."""
    films: dict[View, Path] = {}
    boxes: dict[View, Box] = {}
    for view, shot in shots.items():
        films[view] = out / str(shot["straightened"])
        box = study.box(view)
        if box is not None:
            with Image.open(films[view]) as picture:
                x, y = picture.width / int(shot["film_width"]), picture.height / int(shot["film_height"])
                width, height = float(picture.width), float(picture.height)
            boxes[view] = clip_box((box[0] * x, box[1] * y, box[2] * x, box[3] * y), width, height)
    return replace(study, films={view: films.get(view) for view in study.films}, boxes={view: boxes.get(view) for view in study.films})
