"""Boxes for films that have none, proposed by a run's detector for a person to correct."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.checked_boxes import locate_checked
from edgekit.errors import InputError
from edgekit.files import replacing, require_writable
from edgekit.studies import NO_CONSTRUCT, read_studies, require_views, write_studies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from edgekit.radiograph import Letterbox
    from edgekit.task import View
    from edgekit.types import Box, Study, Tensors

COLUMNS, ROWS = 6, 10
"""Films on a page of the contact sheet."""
LABEL, GAP = 26, 8
"""Height of the line under a film and distance of films, pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What the detector says of one film that had no box.

    Attributes
    ----------
    study
        The film's row.
    box
        Film pixels, whole and within the film; None where the score is below the run's threshold.
    score
        The detector's confidence.
    picture
        The film with its box, JPEG bytes.
    """

    study: Study
    view: View
    box: Box | None
    score: float
    picture: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What `propose_boxes` wrote.

    Attributes
    ----------
    kept
        Boxes that were there before and are untouched.
    found, missed
        Films with and without a proposed box, the least sure first.
    unreadable
        Why rows could not be read, by patient.
    pages
        The contact sheet.
    """

    kept: int
    found: tuple[Proposal, ...]
    missed: tuple[Proposal, ...]
    unreadable: dict[str, str]
    pages: tuple[Path, ...]


def propose_boxes(table: Path, run: Path, out: Path) -> Proposals:
    """Fill the empty boxes of a table with a run's detector, and draw a contact sheet to check them by.

    Rows of brand ``none`` and excluded rows are left as they are, and so is every box that is there.

    Parameters
    ----------
    table
        ``studies.csv``.
    run
        A run with a detector.
    out
        The table to write; the contact sheet appears beside it, ``<stem>.jpg`` or ``<stem>-1.jpg``, ``<stem>-2.jpg``, ...

    Raises
    ------
    InputError
        `out` is `table` itself or has boxes that a person checked, no box is missing, the run has no detector, or more than a few films
        can't be read.
    """
    if out.resolve() == table.resolve():
        raise InputError(f"{out} is the table itself", "give another --out: proposals are to be checked before they replace anything")
    if out.exists() and (checked := locate_checked(out)).exists():
        raise InputError(
            f"{out} has boxes that a person checked ({checked.name})",
            "give --run to edgekit studies boxes, which proposes only what is missing, or give another --out",
        )
    rows = read_studies(table)
    require_writable(out)
    open_rows = [row for row in rows if _list_open(row)]
    if not open_rows:
        raise InputError(f"{table}: no film lacks a box", "delete the boxes that are to be proposed anew")
    unreadable: dict[Study, str] = {}
    proposals = sorted(find_proposals(run, open_rows, unreadable), key=lambda proposal: proposal.score)
    filled = {row: row for row in rows}
    for proposal in proposals:
        row = filled[proposal.study]
        filled[proposal.study] = row.with_box(proposal.view, proposal.box)
    missed, found = (tuple(p for p in proposals if (p.box is not None) == has) for has in (False, True))
    write_studies(out, [filled[row] for row in rows])
    return Proposals(
        kept=sum(box is not None for row in rows for box in row.boxes.values()),
        found=found,
        missed=missed,
        unreadable={row.patient_id: reason for row, reason in unreadable.items()},
        pages=tuple(_draw_pages((*missed, *found), out)),
    )


def find_proposals(run: Path, rows: Sequence[Study], unreadable: dict[Study, str]) -> Iterator[Proposal]:
    """Run the detector on the films without a box, as the pipeline does: on its canvas, area-averaged to the detector's input.

    Parameters
    ----------
    run
        A run with a detector.
    rows
        Rows with films that lack a box; films with one are not looked at.
    unreadable
        Rows that can't be read are noted there, with the reason.

    Raises
    ------
    InputError
        The run has no detector, or more than a few films can't be read.
    """
    import torch
    from torch.nn.functional import avg_pool2d

    from edgekit.canvases import stream_inputs
    from edgekit.models.runfolder import load_detector, load_detector_settings
    from edgekit.models.side_by_side import answer_side_by_side

    detector, settings = load_detector(run), load_detector_settings(run)
    views, threshold = settings.views, settings.box_threshold
    require_views(rows, views, f"{run}")
    side = _read_canvas_side(run)
    ratio = side // detector.side

    def find(row: tuple[Study, Tensors, dict[View, Letterbox]]) -> tuple[Tensor, Tensor]:
        canvases = torch.cat([torch.from_numpy(row[1][view]) for view in views]).float() / 255
        boxes, scores, _ = detector(avg_pool2d(canvases, ratio))
        return boxes * ratio, scores

    streamed = stream_inputs(rows, views, side, "proposing boxes", unreadable)
    for (row, inputs, letterboxes), (boxes, scores) in answer_side_by_side(find, streamed):
        for view in _list_open(row):
            if view not in views:
                continue
            x0, y0, x1, y1 = boxes[views.index(view)].tolist()
            score = float(scores[views.index(view)])
            box = _fit_box(letterboxes[view].to_film((x0, y0, x1, y1)), letterboxes[view]) if score >= threshold else None
            yield Proposal(row, view, box, score, _draw_film(inputs[view][0, 0], letterboxes[view], box))


def _list_open(row: Study) -> list[View]:
    """Return the views of a row that have a film and lack a box."""
    if row.exclude is not None or row.brand == NO_CONSTRUCT:
        return []
    return [view for view in row.given if row.box(view) is None]


def _read_canvas_side(run: Path) -> int:
    """Return the side of the run's canvas in pixels; ``config.toml`` has it before the run has members."""
    try:
        return int(tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["canvas_side"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{run / 'config.toml'} does not tell the canvas side: {error}", "give a folder that edgekit train made"
        ) from error


def _fit_box(box: Box, letterbox: Letterbox) -> Box | None:
    """Round a box outwards to whole film pixels, within the film; None when it lies outside."""
    x0, y0 = (max(0, math.floor(edge)) for edge in box[:2])
    x1, y1 = (min(size, math.ceil(edge)) for edge, size in zip(box[2:], (letterbox.width, letterbox.height), strict=True))
    return (float(x0), float(y0), float(x1), float(y1)) if x0 < x1 and y0 < y1 else None


def _draw_film(canvas: NDArray[np.uint8], letterbox: Letterbox, box: Box | None) -> bytes:
    """Return the film as it lies on its canvas, with the box; JPEG."""
    from edgekit.evaluation.figures import draw_film

    width, height = letterbox.covered
    left, top = letterbox.left, letterbox.top
    found: Box | None = None
    if box is not None:
        x0, y0, x1, y1 = letterbox.to_canvas(box)
        found = x0 - left, y0 - top, x1 - left, y1 - top
    return draw_film(canvas[top : top + height, left : left + width], found, None, None, None)


def _draw_pages(proposals: Sequence[Proposal], out: Path) -> Iterator[Path]:
    """Draw the contact sheet, `COLUMNS` x `ROWS` films a page; return the pages."""
    size = COLUMNS * ROWS
    pages = [proposals[first : first + size] for first in range(0, len(proposals), size)]
    for number, page in enumerate(pages, 1):
        path = out.with_name(f"{out.stem}.jpg" if len(pages) == 1 else f"{out.stem}-{number}.jpg")
        _draw_page(page, path)
        yield path


def _draw_page(proposals: Sequence[Proposal], path: Path) -> None:
    import io

    from PIL import Image, ImageDraw, ImageFont

    from edgekit.evaluation.figures import FILM_SIDE

    font = ImageFont.load_default(size=16)
    columns, rows = min(COLUMNS, len(proposals)), -(-len(proposals) // COLUMNS)
    width, height = FILM_SIDE + GAP, FILM_SIDE + LABEL + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, proposal in enumerate(proposals):
        x, y = GAP + place % columns * width, GAP + place // columns * height
        draw.rectangle((x, y, x + FILM_SIDE - 1, y + FILM_SIDE - 1), fill="black")
        with Image.open(io.BytesIO(proposal.picture)) as film:
            sheet.paste(film, (x + (FILM_SIDE - film.width) // 2, y + (FILM_SIDE - film.height) // 2))
        says = f"{proposal.score:.2f}" if proposal.box is not None else f"NOTHING FOUND ({proposal.score:.2f})"
        draw.text((x, y + FILM_SIDE + 3), f"{proposal.study.patient_id}  {proposal.view}  {says}", fill="black", font=font)
    with replacing(path) as partial:
        sheet.save(partial, "JPEG", quality=85)
