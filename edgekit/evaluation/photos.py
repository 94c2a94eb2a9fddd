"""photos.csv: which photo is of which film, how bad it is, and what a phone makes of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import graph_inputs
from edgekit.errors import InputError
from edgekit.evaluation.answers import ask_rows, collect_answers, read_answered
from edgekit.evaluation.cohort import JOURNAL, Cohort
from edgekit.files import hash_file
from edgekit.journal import Journal
from edgekit.phantom.photo.album import CORNERS
from edgekit.progress import track
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.straightening import estimate_size, go_round, straighten
from edgekit.tables import find_file, parse_number, read_rows, refuse_rows

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.evaluation.answers import Answers
    from edgekit.evaluation.cohort import Models
    from edgekit.radiograph import Letterbox
    from edgekit.tables import Row
    from edgekit.task import View
    from edgekit.types import Study, Tensors

__all__ = ["COLUMNS", "CONDITIONS", "Album", "Photo", "ask_photos", "describe_photos", "match_photos", "read_photos"]

CONDITIONS = {"angle": "tilt_degrees", "moire": "moire", "glare": "glare", "blur": "blur_px"}
"""What makes a photo bad, and the column that measures it (see `edgekit.phantom.photo.snapshot.Conditions`)."""

COLUMNS = ("patient_id", "view", "file", "photo_width", "photo_height", *CORNERS, "severity", *CONDITIONS.values())
"""Columns of ``photos.csv`` that are read; ``edgekit phantom photo`` writes more."""

NAMED = 5
"""Patients named in an error."""


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One photo of one film.

    Attributes
    ----------
    size
        Width and height of the file.
    corners
        float64 (4, 2): the film's top-left, top-right, bottom-right, bottom-left as x, y in pixels of the photo.
    severity
        What it was simulated as; empty where it was not.
    conditions
        Values by name in `CONDITIONS`, NaN where not measured.
    """

    patient_id: str
    view: View
    file: Path
    size: tuple[int, int]
    corners: NDArray[np.float64]
    severity: str
    conditions: dict[str, float]

    def straighten(self) -> NDArray[np.uint8]:
        """Return the film as a phone sees it, uint8 (height, width) (``docs/straightening.md``).

        Raises
        ------
        InputError
            The file can't be read, or is not of the size that the table says.
        """
        pixels = read_radiograph(self.file).pixels
        height, width = pixels.shape
        if (width, height) != self.size:
            raise InputError(
                f"{self.file} is {width} x {height} pixels, but its corners are for {self.size[0]} x {self.size[1]}",
                "restore the photo as it was when the corners were written down",
            )
        return straighten(pixels, self.corners, estimate_size(self.corners, width, height))


Album = dict["Study", dict["View", Photo]]
"""The photos of each row, one for each of its films."""


def read_photos(path: Path, views: Sequence[View]) -> list[Photo]:
    """Read and check a table of photos; they are looked for, not decoded.

    Parameters
    ----------
    path
        UTF-8 CSV with `COLUMNS` (others are ignored), as ``edgekit phantom photo`` writes it; files are relative to its folder.
        ``severity`` and the columns of `CONDITIONS` may be empty.
    views
        Those of the table of films.

    Raises
    ------
    InputError
        The file is missing or not such a table; all faulty rows are reported at once, with their lines.
    """
    problems: list[str] = []
    photos = [_read_photo(path.parent, row, views, problems) for row in read_rows(path, COLUMNS, files=("file",))]
    refuse_rows(path, problems)
    if not photos:
        raise InputError(f"{path} has no rows", "photograph films with: edgekit phantom photo STUDIES OUT")
    return photos


def match_photos(
    path: Path, photos: Sequence[Photo], views: Sequence[View], all_studies: Sequence[Study], selected: Sequence[Study]
) -> Album:
    """Find the photos of the `selected` rows of a table. Photos of its other rows, and of other views, are left out.

    Where a patient has several rows, the photos are in the order of the rows.

    Parameters
    ----------
    path
        Of the table of photos, for messages.
    photos
        Its rows.
    views
        The task's.
    all_studies
        The table of films.
    selected
        Those of its rows that are evaluated.

    Raises
    ------
    InputError
        A photo is of a patient that the table of films does not have, or a film of a selected row has no photo of its own.
    """
    patients = {study.patient_id for study in all_studies}
    if strangers := sorted({photo.patient_id for photo in photos} - patients):
        raise InputError(
            f"{path} has photos of {len(strangers)} patients that are not in the studies: {_name_some(strangers)}",
            "give the photos of these studies' films; photograph them with: edgekit phantom photo STUDIES OUT",
        )
    taken: dict[tuple[str, View], list[Photo]] = defaultdict(list)
    for photo in photos:
        taken[photo.patient_id, photo.view].append(photo)
    kept = [study for study in all_studies if study.exclude is None]
    films = Counter((study.patient_id, view) for study in kept for view in views if study.film(view) is not None)
    wanted = {(study.patient_id, view) for study in selected for view in views if study.film(view) is not None}
    if wrong := [f"{patient} {view}" for patient, view in sorted(wanted) if len(taken[patient, view]) != films[patient, view]]:
        raise InputError(
            f"{path}: {len(wrong)} of the {len(wanted)} films to evaluate have no photo, or not one each: {_name_some(wrong)}",
            "photograph all of them with: edgekit phantom photo STUDIES OUT; or evaluate on a table of the patients that were photographed",
        )
    album: Album = {}
    place: Counter[tuple[str, View]] = Counter()
    for study in kept:
        album[study] = {}
        for view in views:
            if study.film(view) is not None:
                shots = taken[study.patient_id, view]
                if (number := place[study.patient_id, view]) < len(shots):  # else the row is none of the selected
                    album[study][view] = shots[number]
                place[study.patient_id, view] += 1
    return {study: album[study] for study in selected}


def ask_photos(models: Models, path: Path, cohort: Cohort, album: Album, folder: Path) -> Cohort:
    """Let every model answer for the photos of a cohort's films, row by row.

    A photo is straightened by its corners as a phone does it, and its true box is the film's, scaled. The answers are kept in `folder`
    as those for films are (see `edgekit.evaluation.cohort.ask_cohort`).

    Raises
    ------
    InputError
        A photo can't be read, or the journal is of another run, table or version of edgekit.
    """
    hashes = {"run": models.sha256, "table": hash_file(cohort.file), "photos": hash_file(path)}
    journal = Journal(folder / JOURNAL, hashes)
    answered = read_answered(journal)
    places = {study: place for place, study in enumerate(album)}  # not in the cohort: it lacks films that can't be read today
    ask_rows(models.pipeline, _stream_photos(models, cohort.answers, album, places, answered), journal, answered)
    rows = [answered[places[study]] for study in cohort.studies]
    photographed = [
        _replace_films(study, album[study], films, row.letterboxes)
        for study, films, row in zip(cohort.studies, cohort.answers.letterboxes, rows, strict=True)
    ]
    answers = collect_answers(models.pipeline, photographed, rows)
    return Cohort(path, cohort.numbers, answers, models.ask(answers), cohort.rows, cohort.learnt_from, cohort.headers)


def describe_photos(photos: Sequence[Photo]) -> dict[str, Any]:
    """Count photos, and say how bad they are.

    Returns
    -------
    dict
        ``n``; ``severities``, counts by name; ``conditions`` with smallest, median and largest value of each, where measured.
    """
    values = {name: np.array([photo.conditions[name] for photo in photos]) for name in CONDITIONS}
    measured = {name: found[~np.isnan(found)] for name, found in values.items()}
    return {
        "n": len(photos),
        "severities": dict(Counter(photo.severity or "not simulated" for photo in photos)),
        "conditions": {name: np.quantile(found, (0, 0.5, 1)).tolist() for name, found in measured.items() if len(found)},
    }


def _stream_photos(
    models: Models, answers: Answers, album: Album, places: dict[Study, int], done: Container[int]
) -> Iterator[tuple[int, Study, Tensors, dict[View, Letterbox]]]:
    side, views = models.pipeline.spec.canvas_side, models.task.views
    rows = zip(answers.studies, answers.letterboxes, strict=True)
    with closing(track(rows, "evaluating photos", len(answers.studies))) as tracked:  # a photo that can't be read ends the bar too
        for study, films in tracked:
            if (place := places[study]) in done:
                continue
            made = {view: make_canvas(shot.straighten(), side) for view, shot in album[study].items()}
            letterboxes = {view: letterbox for view, (_, letterbox) in made.items()}
            inputs = graph_inputs({view: canvas for view, (canvas, _) in made.items()}, views, side)
            yield place, _replace_films(study, album[study], films, letterboxes), inputs, letterboxes


def _replace_films(study: Study, shots: dict[View, Photo], films: dict[View, Letterbox], photos: dict[View, Letterbox]) -> Study:
    """Return a row with photos in place of its films, the boxes scaled."""
    for view, shot in shots.items():
        film, photo, box = films[view], photos[view], study.box(view)
        if box is not None:
            x, y = photo.width / film.width, photo.height / film.height
            box = box[0] * x, box[1] * y, box[2] * x, box[3] * y
        study = study.with_film(view, shot.file, box)
    return study


def _read_photo(folder: Path, row: Row, views: Sequence[View], problems: list[str]) -> Photo:
    """Parse one row; what is wrong with it is added to `problems`."""
    cells = row.cells
    found = [row.misfit] if row.surplus > 0 else []

    def read_number(column: str, *, optional: bool = False) -> float:
        if optional and not cells[column]:
            return math.nan
        try:
            value = parse_number(cells[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            found.append(f"{column} {cells[column]!r}, expected a number")
        return value

    file = find_file(folder, cells["file"])
    width, height = read_number("photo_width"), read_number("photo_height")
    corners = np.array([read_number(column) for column in CORNERS]).reshape(4, 2)
    conditions = {name: read_number(column, optional=True) for name, column in CONDITIONS.items()}
    if not cells["patient_id"]:
        found.append("patient_id is empty")
    if cells["view"] not in views:
        found.append(f"view {cells['view']!r}, expected {' or '.join(views)}")
    if file is None:
        found.append(f"file {folder / cells['file']} is not there")
    if not found and not ((corners >= 0) & (corners <= (width, height))).all():
        found.append(f"a corner lies outside of the photo of {width:g} x {height:g} pixels")
    elif not found and not go_round(corners):
        found.append("the corners don't go round the film: top-left, top-right, bottom-right, bottom-left")
    problems += [f"  line {row.line}: {problem}" for problem in found]
    size = (0, 0) if found else (int(width), int(height))
    return Photo(cells["patient_id"], cells["view"], file or folder, size, corners, cells["severity"], conditions)


def _name_some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
