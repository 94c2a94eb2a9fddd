"""The films of a table, their boxes, and what a person has decided about them."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.canvases import refusing
from edgekit.checked_boxes import make_key, read_checked, write_checked
from edgekit.errors import InputError
from edgekit.files import require_writable
from edgekit.proposals import find_proposals
from edgekit.radiograph import read_radiograph
from edgekit.studies import NO_CONSTRUCT, clip_box, find_box_fault, read_studies, write_studies

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.checked_boxes import FilmKey
    from edgekit.task import View
    from edgekit.types import Box, Radiograph

LEAST_SIDE = 2
"""Film pixels that a box has at least in each direction: one of a single pixel in the corner would read as parts of the film."""


@dataclass(slots=True)
class Film:
    """One film to look at.

    Attributes
    ----------
    patient_id
        Whose it is.
    rows
        Its rows in the table, from 0: a film of one patient may stand in several.
    box
        Film pixels; None where there is none.
    checked
        Whether a person has decided: that `box` is right, or, where it is None, that the film has no box. Else `box` is a proposal.
    """

    patient_id: str
    rows: list[int]
    view: View
    path: Path
    box: Box | None
    checked: bool


class BoxTable:
    """Boxes of the films of a table, saved beside it at every decision.

    Excluded rows and rows of brand ``none`` have no films here: they get no boxes.

    Parameters
    ----------
    studies
        ``studies.csv``; it is never written to. Its boxes count as checked.
    run
        A run whose detector proposes boxes for the films that have none and are not checked; None proposes nothing.

    Attributes
    ----------
    out
        ``<STUDIES>-boxes.csv``. Boxes that are in it and not checked, as ``edgekit studies propose-boxes`` leaves them, are proposals, and
        stay in it until a person decides. Proposals of `run` come into it when they are accepted or changed.
    films
        In the order of the table.

    Raises
    ------
    InputError
        A table can't be read, `out` can't be written, or there is no film to draw on.
    """

    def __init__(self, studies: Path, run: Path | None = None) -> None:
        self.out = studies.with_name(f"{studies.stem}-boxes.csv")
        require_writable(self.out)
        self._rows = read_studies(studies)
        self._lock = threading.Lock()
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._content = self._read_out()
        self._checked = {} if self._content is None else read_checked(self.out)
        saved = {} if self._content is None else self._collect_saved()
        films: dict[FilmKey, Film] = {}
        for number, row in enumerate(self._rows):
            if row.exclude is not None or row.brand == NO_CONSTRUCT:
                continue
            for view, path in row.given.items():
                key = make_key(view, path, studies)
                given = row.box(view)
                box = saved.get(key) if key in self._checked else saved.get(key) or given
                # A box that was changed since, by hand or by a detector, is to be looked at again.
                checked = self._checked[key] == box if key in self._checked else box is not None and box == given
                film = films.setdefault(key, Film(row.patient_id, [], view, path, box, checked))
                film.rows.append(number)
                self._rows[number] = self._rows[number].with_box(view, film.box)
        if not films:
            raise InputError(
                f"{studies}: no row has a film to draw on", f"rows that are excluded or of brand {NO_CONSTRUCT!r} get no boxes"
            )
        self.films = list(films.values())
        if run is not None:
            self._propose(run)

    def count_checked(self) -> int:
        """Return the number of films on which a person has decided."""
        return sum(film.checked for film in self.films)

    def read_film(self, film: Film) -> Radiograph:
        """Decode a film.

        Raises
        ------
        InputError
            It can't be read.
        """
        with refusing(self._rows[film.rows[0]]):
            radiograph = read_radiograph(film.path)
        height, width = radiograph.pixels.shape
        self._sizes[film.path] = width, height
        return radiograph

    def decide(self, film: Film, box: Box | None) -> None:
        """Set the box of a film, None for no box, and save the table.

        Raises
        ------
        InputError
            The box is no box, or reaches beyond the film; somebody else has changed the table; it can't be written. Nothing is changed.
        """
        if box is not None:
            box = self._fit(film, box)
        with self._lock:
            if self._read_out() != self._content:
                raise InputError(
                    f"{self.out} was changed by another program, or by a second box editor", "end this one with Ctrl-C and start it again"
                )
            rows = list(self._rows)
            for number in film.rows:
                rows[number] = rows[number].with_box(film.view, box)
            checked = {**self._checked, make_key(film.view, film.path, self.out): box}
            try:
                write_studies(self.out, rows)
            except InputError as error:
                raise InputError(
                    error.message, "free some space, or close the program that holds the table, then set the box again"
                ) from error
            self._rows, self._content = rows, self._read_out()
            write_checked(self.out, checked)  # after the table: a crash between the two leaves a box that is to be checked again
            self._checked, film.box, film.checked = checked, box, True

    def _read_out(self) -> bytes | None:
        return self.out.read_bytes() if self.out.exists() else None

    def _collect_saved(self) -> dict[FilmKey, Box | None]:
        """Return the boxes in `out`."""
        return {make_key(view, film, self.out): row.box(view) for row in read_studies(self.out) for view, film in row.given.items()}

    def _fit(self, film: Film, box: Box) -> Box:
        """Return the box within its film."""
        if film.path not in self._sizes:
            self.read_film(film)
        width, height = self._sizes[film.path]
        fault = None if all(map(math.isfinite, box)) else f"{film.path}: the box {box} is not made of numbers"
        if fault := fault or find_box_fault(film.path, box, width, height):
            raise InputError(fault, "draw the box within the film")
        x0, y0, x1, y1 = clip_box(box, width, height)
        if min(x1 - x0, y1 - y0) < LEAST_SIDE:
            raise InputError(f"{film.path}: the box is narrower than {LEAST_SIDE} film pixels", "draw a larger box")
        return x0, y0, x1, y1

    def _propose(self, run: Path) -> None:
        """Give the films that have no box and are not checked what the run's detector finds."""
        awaiting = {(film.view, film.path): film for film in self.films if film.box is None and not film.checked}
        rows = [self._rows[number] for number in sorted({film.rows[0] for film in awaiting.values()})]
        # A film that can't be read is told on its page.
        for proposal in find_proposals(run, rows, {}) if rows else ():
            path = proposal.study.film(proposal.view)
            if path is not None and (film := awaiting.get((proposal.view, path))) is not None:
                film.box = proposal.box
