"""The reading sheet: a folder with one page that shows each patient's films, blinded and shuffled, and takes the reader's answers.

::

    OUT/  key.csv                          which case is which patient: stays with whoever runs the study
          sheet/  index.html               what the readers get
                  answers-template.csv     for those who can't use the page
                  films/case-01-ap.png ...
                  illustrations/...
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import normalize

import numpy as np

from edgekit.errors import InputError
from edgekit.evaluation.asked import spell
from edgekit.evaluation.readers import COLUMNS, read_readers
from edgekit.files import replacing, write_text
from edgekit.progress import track
from edgekit.radiograph import read_radiograph
from edgekit.studies import NO_CONSTRUCT, read_studies, require_views, select
from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from edgekit.evaluation.readers import ReaderAnswer
    from edgekit.task import Task, View
    from edgekit.types import Study

KEY_COLUMNS = ("case", "patient_id", "brand")
PICTURES = (".png", ".jpg", ".jpeg")
ILLUSTRATION_SIDE = 1200
"""Illustrations larger than this are made smaller, pixels."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A reading sheet that was made.

    Attributes
    ----------
    cases
        Number of patients on it.
    brands
        What readers choose from.
    plain
        Brands without an illustration.
    left_out
        Rows of the split ``readers`` whose brand is ``none`` or unknown, or that have no film of the task's views: there is nothing to
        name on them.
    """

    cases: int
    brands: tuple[str, ...]
    plain: tuple[str, ...]
    left_out: int


def make_sheet(table: Path, out: Path, seed: int, illustrations: Path | None, task: Task = PEDICLE_SCREWS) -> Sheet:
    """Make the sheet of the rows of split ``readers``.

    Readers choose among the brands of the table, without those that only its rows of split ``external`` have: what training knows.

    Parameters
    ----------
    table
        ``studies.csv``.
    out
        Folder for ``sheet/`` and ``key.csv``. A folder with a key is refused: answers already given would be those of other patients.
    seed
        Which of the orders of the patients.
    illustrations
        Folder with one picture a brand, ``<brand>.png`` or ``.jpg``; simulated designs without one are drawn.
    task
        What readers are asked, and the views whose films they see.

    Raises
    ------
    InputError
        The table lacks a view, no row can be read, a patient has two, a film or a picture can't be read, or `out` has a key.
    """
    key = out / "key.csv"
    if key.exists():
        raise InputError(f"{key} exists: a new sheet would make the answers to the old one worthless", "choose another folder")
    studies = read_studies(table)
    require_views(studies, task.views, str(table))
    rows = [row for row in studies if row.exclude is None]
    brands = tuple(sorted({row.brand for row in rows if row.brand and row.brand != NO_CONSTRUCT and row.split != "external"}))
    readers = select(rows, "readers")
    shown = [row for row in readers if row.brand in brands and any(view in row.given for view in task.views)]
    _refuse_unusable(table, shown, illustrations)
    order = [shown[place] for place in np.random.default_rng(seed).permutation(len(shown))]
    # Part of every case's name, so that answers to another sheet are refused instead of being taken for these.
    mark = hashlib.sha256(repr([row.patient_id for row in order]).encode()).hexdigest()[:4]
    digits = max(2, len(str(len(order))))
    names = [f"case-{number:0{digits}}" for number in range(1, len(order) + 1)]
    films = [_copy_films(row, task.views, name, out / "sheet") for name, row in zip(names, track(order, "copying films"), strict=True)]
    pictures = {brand: _place_picture(number, brand, illustrations, out / "sheet") for number, brand in enumerate(brands, 1)}
    cases = [f"{name}-{mark}" for name in names]
    _write_table(out / "sheet" / "answers-template.csv", COLUMNS, [["", "", case, "", ""] for case in cases])
    _write_page(
        out / "sheet" / "index.html",
        task,
        {
            "sheet": mark,
            "cases": [{"case": case, "films": found} for case, found in zip(cases, films, strict=True)],
            "brands": [{"brand": brand, "picture": pictures[brand]} for brand in brands],
            "columns": COLUMNS,
            "views": [(view, spell(view)) for view in task.views],
        },
    )
    _write_table(key, KEY_COLUMNS, [[case, row.patient_id, str(row.brand)] for case, row in zip(cases, order, strict=True)])
    plain = tuple(brand for brand in brands if pictures[brand] is None)
    return Sheet(len(cases), brands, plain, len(readers) - len(shown))


def collect_answers(out: Path, files: Sequence[Path]) -> list[ReaderAnswer]:
    """Put the readers' files together, case numbers turned back into patients.

    Parameters
    ----------
    out
        The folder that `make_sheet` filled; its ``key.csv`` is read.
    files
        ``answers-<reader>.csv`` of each reader.

    Returns
    -------
    list of ReaderAnswer
        As ``edgekit evaluate --readers`` reads them.

    Raises
    ------
    InputError
        A file can't be read, answers are to another sheet, or a reader is in two files.
    """
    from dataclasses import replace

    patients = _read_key(out / "key.csv")
    owners: dict[str, Path] = {}
    collected: list[ReaderAnswer] = []
    for file in files:
        answers = read_readers(file)
        strangers = sorted({answer.patient_id for answer in answers} - patients.keys())
        if strangers:
            more = " ..." if len(strangers) > 5 else ""
            raise InputError(
                f"{file} answers cases that are not on the sheet of {out}: {', '.join(strangers[:5])}{more}",
                "give the folder of the sheet that this reader had",
            )
        for reader in dict.fromkeys(answer.reader for answer in answers):
            if reader in owners:
                raise InputError(f"{file}: reader {reader!r} is also in {owners[reader]}", "give each reader's file once, and each a name")
            owners[reader] = file
        collected += [replace(answer, patient_id=patients[answer.patient_id]) for answer in answers]
    return collected


def _refuse_unusable(table: Path, shown: Sequence[Study], illustrations: Path | None) -> None:
    if not shown:
        raise InputError(
            f"{table} has no row of split 'readers' with a brand", "write 'readers' into the column 'split' of the patients to be read"
        )
    twice = sorted(patient for patient, number in Counter(row.patient_id for row in shown).items() if number > 1)
    if twice:
        raise InputError(
            f"{table}: patients with more than one row of split 'readers': {', '.join(twice)}",
            "say in the column 'exclude' why a reader should not see the others: the second time, a patient is no longer blinded",
        )
    if illustrations is not None and not illustrations.is_dir():
        raise InputError(f"{illustrations} is not a folder", "give the folder with one picture a brand, <brand>.png or <brand>.jpg")


def _copy_films(row: Study, views: Sequence[View], name: str, sheet: Path) -> dict[str, str]:
    """Write the films of a row as bare pixels; return their addresses on the page by view."""
    from PIL import Image

    copied: dict[str, str] = {}
    for view in views:
        if (film := row.film(view)) is not None:
            copied[view] = f"films/{name}-{view}.png"
            _save_picture(Image.fromarray(read_radiograph(film).pixels), sheet / copied[view])
    return copied


def _place_picture(number: int, brand: str, illustrations: Path | None, sheet: Path) -> str | None:
    """Put a brand's picture into the sheet; return its address on the page, None when there is no picture."""
    picture = _find_picture(brand, illustrations)
    if picture is None:
        return None
    picture.thumbnail((ILLUSTRATION_SIDE, ILLUSTRATION_SIDE))
    address = f"illustrations/brand-{number:02}.png"  # a brand's name may be no file's
    _save_picture(picture, sheet / address)
    return address


def _find_picture(brand: str, illustrations: Path | None) -> Image.Image | None:
    """Return the picture in the folder, else a drawing of the simulated design, without anything but pixels."""
    from PIL import Image, ImageOps
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    files = sorted(illustrations.iterdir()) if illustrations is not None else []
    for file in files:
        if normalize("NFC", file.stem) == brand and file.suffix.lower() in PICTURES:
            kind = PngImageFile if file.suffix.lower() == ".png" else JpegImageFile
            try:
                with kind(file) as picture:
                    return Image.fromarray(np.asarray(ImageOps.exif_transpose(picture).convert("RGB")))
            except (OSError, SyntaxError) as error:  # Pillow's file classes raise SyntaxError for another format
                raise InputError(f"{file}: not a picture that can be read ({error})", "save it again as PNG or JPEG") from error
    from edgekit.phantom.metal.implants import DESIGNS, UNSEEN

    design = (DESIGNS | UNSEEN).get(brand)
    if design is None:
        return None
    from edgekit.reading.illustrations import draw_design

    return draw_design(design)


def _save_picture(picture: Image.Image, path: Path) -> None:
    with replacing(path) as partial:
        picture.save(partial, "PNG")


def _write_page(path: Path, task: Task, content: dict[str, object]) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("edgekit.reading", "."), autoescape=True, undefined=StrictUndefined)
    write_text(path, environment.get_template("sheet.html.j2").render(content=content, task=task))


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerows([columns, *rows])
    write_text(path, text.getvalue())


def _read_key(path: Path) -> dict[str, str]:
    """Return the patient of each case."""
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        return {row["case"]: row["patient_id"] for row in rows}
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise InputError(f"{path} is not the key of a reading sheet: {error}", "give the folder that studies reading-sheet made") from error
