"""``studies.csv``: which films belong to which patient, what is on them, and which patients teach, choose and test."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import InputError
from edgekit.files import write_text
from edgekit.tables import find_file, parse_number, read_table
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.tables import Table
    from edgekit.task import View
    from edgekit.types import Box

COLUMNS = ("patient_id", "brand", "has_crosslink", "split", "ap", "lateral", "ap_box", "lateral_box", "exclude")
"""The columns of the study's table. Another task has its own views, ``<view>`` and ``<view>_box``, and its own ``has_<property>``."""
FIXED = ("patient_id", "brand", "split", "exclude")
"""The columns of every table."""
LEVELS = "levels"
"""The column that a table may have: how many vertebrae the construct spans."""
HAS, BOX = "has_", "_box"
"""How the columns of yes/no properties begin, and those of boxes end."""
SPLITS = ("train", "validation", "test", "readers", "external")
OTHER_METAL = "other_metal"
"""The property of a patient whose films show metal that is no construct: films without a construct are judged apart by it."""
NO_CONSTRUCT = "none"
"""The brand of a film without a screw construct."""
UNKNOWN = "unknown"
"""What a brand cell may say, in any case, where the brand is not known; an empty cell says the same."""
NOT_BRANDS = ("na", "n/a", "#n/a", "nan", "null", "-", "?")
"""What spreadsheets and programs write, in any case, where a value is missing: it could mean unknown or no construct."""
LEAST_PATIENTS = {"train": 1, "validation": 2, "test": 1}
"""Patients that each brand needs in a split: two in validation, because the ensembles are cross-validated there."""
MOST_LEVELS = 26
"""Vertebrae from the occiput to the ilium that a construct may be fixed to."""
OVERSHOOT = 0.01
"""Share of a film's side by which a box may reach beyond the film: drawing tools round, or count to the outer edge."""

EXAMPLES = (
    (
        "EXAMPLE-1",
        "maker-model",
        "1",
        "",
        "films/EXAMPLE-1-ap.dcm",
        "films/EXAMPLE-1-lateral.dcm",
        "412 230 668 1104",
        "388 251 702 1130",
        "",
    ),
    ("EXAMPLE-2", NO_CONSTRUCT, "", "", "", "films/EXAMPLE-2-lateral.png", "", "", ""),
    ("EXAMPLE-3", UNKNOWN, "", "", "films/EXAMPLE-3-ap.dcm", "", "", "", ""),
    ("EXAMPLE-4", "maker-model", "0", "", "films/EXAMPLE-4-ap.dcm", "", "", "", "motion blur"),
)
"""The rows of a new table, in the order of `COLUMNS`: a construct, a film without one, an unknown brand, an excluded row."""

_GROUPED = re.compile(r"[1-9][0-9]{0,2},[0-9]{3}")
"""A number whose comma may be a decimal mark, or group the thousands."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check of a table found that is no error.

    Attributes
    ----------
    warnings
        What is probably wrong.
    hints
        What a person may want to look at.
    """

    warnings: list[str]
    hints: list[str]


@dataclass(slots=True)
class _Row:
    """One line of the table while it is read, and what is wrong with it."""

    line: int
    cells: dict[str, str]
    errors: list[str]

    def refuse(self, column: str, expected: str) -> None:
        self.errors.append(f"column {column!r}: got {self.cells[column]!r}, expected {expected}")


def read_studies(path: Path) -> list[Study]:
    """Read ``studies.csv``; every error of every row is reported at once.

    The table is read as spreadsheets save it (`edgekit.tables.read_table`); a box may have decimal commas. Films are looked for
    (`edgekit.tables.find_file`), not decoded (`check_films` does that).

    Parameters
    ----------
    path
        The table. Films are relative to its folder.

    Returns
    -------
    list of Study
        The rows in the order of the file; the films' paths start with the table's folder.

    Raises
    ------
    InputError
        The table can't be read, its columns are not those of a table of studies, it has no rows, or rows are wrong.
    """
    table = read_table(path, COLUMNS, files=_find_views)
    layout = _read_layout(path, table)
    rows = [_Row(row.line, row.cells, [row.misfit] if row.misfit else []) for row in table.rows]
    studies = [_parse_study(row, layout, path.parent) for row in rows]
    _refuse_conflicts(rows, studies)
    errors = [f"{path}:{row.line} {error}" for row in rows for error in row.errors]
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise InputError(f"{path} has {count}:\n  " + "\n  ".join(errors), "Correct the lines named and run the command again.")
    if not studies:
        raise InputError(f"{path} has no rows.", "Add one line for each patient.")
    return studies


def write_studies(path: Path, studies: Sequence[Study]) -> None:
    """Write ``studies.csv``, films relative to its folder; the file appears whole or not at all.

    Parameters
    ----------
    path
        The table; replaced when it exists.
    studies
        At least one row; the table has the views and the properties of all of them.

    Raises
    ------
    InputError
        The folder can't be written to.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    views = dict.fromkeys(view for study in studies for view in study.films)
    properties = dict.fromkeys(name for study in studies for name in study.has)
    layout = _Layout(tuple(views), tuple(properties), any(study.levels is not None for study in studies))
    table.writerow(layout.columns)
    table.writerows(_format_study(study, layout, path.parent) for study in studies)
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror}).", "Choose another place with --out.") from error


def write_template(path: Path) -> None:
    """Write a table to fill in: the header and `EXAMPLES`, which `read_studies` refuses as examples.

    Parameters
    ----------
    path
        A file that does not exist yet; its folder is made.

    Raises
    ------
    InputError
        The file exists.
    OSError
        It can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *EXAMPLES])
    except FileExistsError as error:
        raise InputError(f"{path} exists and is left as it is.", "Choose another place with --out.") from error


def select(studies: Sequence[Study], *splits: str) -> list[Study]:
    """Return the rows of `splits` that are not excluded."""
    return [study for study in studies if study.split in splits and study.exclude is None]


def split_studies(
    studies: Sequence[Study], seed: int, fractions: tuple[float, float, float] = (0.64, 0.16, 0.20), *, keep: bool = False
) -> list[Study]:
    """Split by patient into train, validation and test, stratified by brand and crosslink.

    Rows of ``readers`` and ``external`` stay as they are, and so do the patients in them: their other rows get no split. Rows of an
    unknown brand get no split, and neither do patients of whom every row is excluded. Brand ``none`` is a stratum like any other,
    except that it may have fewer than three patients.

    The counts of every brand, and of every brand with either kind of crosslink, are those of `fractions` rounded up or down, and
    every brand has a patient in each split, and two in validation when it has four or more (`LEAST_PATIENTS`), even where `fractions`
    give it fewer. Rounding is balanced between the brands, so that the sums over all of them are within two patients of `fractions`,
    except where many brands are so small (twelve patients or fewer) that these least numbers weigh more. The result depends on `seed`
    and on the patients, not on the order of the rows.

    Parameters
    ----------
    studies
        All rows; an earlier train, validation and test split is discarded, unless `keep`.
    seed
        Which of the equally good splits.
    fractions
        Shares of train, validation and test; their sum is 1.
    keep
        Change no split that is there, and give the other patients the splits that their brands lack most.

    Returns
    -------
    list of Study
        The rows in the same order, with ``split`` set.

    Raises
    ------
    InputError
        A brand has fewer than three patients, so that it can't be in all three splits.
    """
    import dataclasses

    import numpy as np

    strata = _find_strata(studies)
    split_of = {study.patient_id: str(study.split) for study in studies if keep and study.split in SPLITS[:3]}
    brands: dict[str, list[list[str]]] = defaultdict(list)
    for (brand, _), patients in sorted(strata.items()):
        brands[brand].append(sorted(patients))
    brands = {brand: groups for brand, groups in brands.items() if not all(patient in split_of for patient in itertools.chain(*groups))}
    rare = [f"{brand} ({sum(map(len, groups))})" for brand, groups in brands.items() if brand != NO_CONSTRUCT and sum(map(len, groups)) < 3]
    if rare:
        raise InputError(
            f"Brands with fewer than 3 patients can't be in train, validation and test: {', '.join(rare)}.",
            "Add patients, or exclude these rows, or give them the split 'external'.",
        )
    rng = np.random.default_rng(seed)
    owed = (0.0, 0.0, 0.0)
    for brand, groups in brands.items():
        least = tuple(min(number, 1) if brand == NO_CONSTRUCT else number for number in LEAST_PATIENTS.values())
        if any(patient in split_of for patient in itertools.chain(*groups)):
            _place_others([[group[place] for place in rng.permutation(len(group))] for group in groups], split_of, fractions, least)
            continue
        counts, owed = _apportion([len(group) for group in groups], fractions, owed, least)
        for group, (train, validation, _) in zip(groups, counts, strict=True):
            for place, patient in enumerate(rng.permutation(len(group))):
                split_of[group[patient]] = SPLITS[(place >= train) + (place >= train + validation)]
    return [
        study
        if study.split in SPLITS[3:] or (keep and study.split is not None)
        else dataclasses.replace(study, split=None if study.brand is None else split_of.get(study.patient_id))
        for study in studies
    ]


def count_patients(studies: Sequence[Study]) -> dict[str, dict[str, int]]:
    """Count the patients of each brand in each split, without the excluded rows.

    Returns
    -------
    dict
        Brand (``"unknown"`` where none is given) to split (``"unassigned"`` where it is empty) to number of patients.
    """
    patients: dict[str, dict[str, set[str]]] = defaultdict(lambda: {split: set() for split in (*SPLITS, "unassigned")})
    for study in studies:
        if study.exclude is None:
            patients[study.brand or "unknown"][study.split or "unassigned"].add(study.patient_id)
    return {brand: {split: len(members) for split, members in splits.items()} for brand, splits in sorted(patients.items())}


def count_films(studies: Sequence[Study]) -> dict[View, int]:
    """Count the films of each view, without the excluded rows."""
    return {view: sum(study.film(view) is not None for study in studies if study.exclude is None) for view in studies[0].films}


def find_gaps(studies: Sequence[Study]) -> list[str]:
    """Say which brands, ``none`` among them, have patients in some of train, validation and test, but not in all three."""
    gaps = []
    for brand, counts in count_patients([study for study in studies if study.brand is not None]).items():
        missing = [split for split in SPLITS[:3] if not counts[split]]
        if 0 < len(missing) < 3:
            gaps.append(f"no patient of {brand} is in {' or '.join(missing)}")
    return gaps


def find_box_fault(film: Path, box: Box | None, width: float, height: float) -> str | None:
    """Return what is wrong with a box on a film of `width` x `height` pixels, or None.

    A box that reaches beyond the film by at most `OVERSHOOT` is not wrong: `clip_box` cuts it.
    """
    if box is None:
        return None
    x0, y0, x1, y1 = clip_box(box, width, height)
    far = max(-box[0] / width, -box[1] / height, box[2] / width - 1, box[3] / height - 1) > OVERSHOOT + 1e-9
    if far or x0 >= x1 or y0 >= y1:
        return f"{film}: the box {format_box(box)} reaches beyond the film, which is {width} x {height} pixels."
    return None


def clip_box(box: Box, width: float, height: float) -> Box:
    """Cut a box at the edges of its film of `width` x `height` pixels."""
    return max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)


def is_clipped(box: Box | None, width: float, height: float) -> bool:
    """Tell whether `clip_box` cuts a box."""
    return box is not None and clip_box(box, width, height) != box


def warn_of_clipped(count: int) -> list[str]:
    """Return the warning that `count` boxes were cut; none when none were."""
    boxes = "1 box reaches" if count == 1 else f"{count} boxes reach"
    return [f"{boxes} beyond the film by at most {OVERSHOOT:.0%} of its side and count up to its edge"] if count else []


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a table's columns are about.

    Attributes
    ----------
    views, properties
        In the order of the columns.
    has_levels
        Whether there is a column `LEVELS`.
    """

    views: tuple[View, ...]
    properties: tuple[str, ...]
    has_levels: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The first line of the table, in the order in which it is written."""
        properties, boxes = [f"{HAS}{name}" for name in self.properties], [f"{view}{BOX}" for view in self.views]
        return ("patient_id", "brand", *properties, "split", *self.views, *boxes, "exclude", *([LEVELS] if self.has_levels else []))


def _find_views(columns: Sequence[str]) -> tuple[View, ...]:
    """Return the views of a table: the columns that have another one for their boxes, and the study's own."""
    boxed = [column.removesuffix(BOX) for column in columns if column.endswith(BOX) and not column.startswith(HAS)]
    known = {*boxed, *PEDICLE_SCREWS.views}
    return tuple(dict.fromkeys([column for column in columns if column in known and column not in FIXED] + boxed))


def _read_layout(path: Path, table: Table) -> _Layout:
    """Tell the views and properties of a table from its first line.

    Raises
    ------
    InputError
        A column is unknown, there twice or missing: those of every table, a view's ``<view>`` or ``<view>_box``, or all views.
    """
    properties = [column.removeprefix(HAS) for column in table.columns if column.startswith(HAS) and column != HAS]
    views = _find_views(table.columns) or PEDICLE_SCREWS.views
    layout = _Layout(views, tuple(dict.fromkeys(properties)), LEVELS in table.columns)
    problems = [f"column {column!r} is missing" for column in layout.columns if column not in table.columns]
    problems += [f"column {column!r} is unknown" for column in table.columns if column not in layout.columns]
    problems += [
        f"column {column!r} appears {table.columns.count(column)} times" for column in layout.columns if table.columns.count(column) > 1
    ]
    if problems:
        remedy = f"The first line must be: {','.join(COLUMNS)}; another view has two columns, <view> and <view>{BOX}"
        raise InputError(f"{path}:{table.line}: {'; '.join(problems)}.", remedy)
    return layout


def _parse_study(row: _Row, layout: _Layout, folder: Path) -> Study:
    """Turn a row into a study; what is wrong is noted in the row."""
    cells = row.cells
    films = {view: _parse_film(row, view, folder) for view in layout.views}
    boxes = {view: _parse_box(row, view) for view in layout.views}
    if not cells["patient_id"]:
        row.refuse("patient_id", "the patient's identifier")
    if cells["patient_id"] in {example[0] for example in EXAMPLES}:
        row.refuse("patient_id", "a patient of yours: this line is an example to replace or delete")
    if cells["brand"] != NO_CONSTRUCT and cells["brand"].lower() == NO_CONSTRUCT:
        row.refuse("brand", f"{NO_CONSTRUCT!r} in lower case")
    if cells["brand"].lower() in NOT_BRANDS:
        row.refuse("brand", f"a brand; leave the cell empty or write {UNKNOWN!r} where it is not known, {NO_CONSTRUCT!r} for no construct")
    for name in layout.properties:
        if cells[f"{HAS}{name}"] not in ("", "0", "1"):
            row.refuse(f"{HAS}{name}", "0, 1 or empty")
    levels = cells.get(LEVELS, "")
    if levels and not (levels.isascii() and levels.isdecimal() and int(levels) <= MOST_LEVELS):
        row.refuse(LEVELS, f"a whole number from 0 to {MOST_LEVELS}, or empty")
    elif levels and int(levels) == 0 and cells["brand"] not in ("", NO_CONSTRUCT):
        row.refuse(LEVELS, "1 or more, because there is a construct")
    elif levels and int(levels) > 0 and cells["brand"] == NO_CONSTRUCT:
        row.refuse(LEVELS, f"0 or empty, because the brand is {NO_CONSTRUCT!r}")
    if cells["split"] not in ("", *SPLITS):
        row.refuse("split", f"{', '.join(SPLITS)} or empty")
    if not any(cells[view] for view in layout.views):
        others = "".join(f" or in {view!r}" for view in layout.views[1:])
        row.refuse(layout.views[0], f"a film here{others}")
    return Study(
        patient_id=cells["patient_id"],
        brand=None if cells["brand"].lower() in ("", UNKNOWN) else cells["brand"],
        has={name: {"0": False, "1": True}.get(cells[f"{HAS}{name}"]) for name in layout.properties},
        split=cells["split"] or None,
        films=films,
        boxes=boxes,
        exclude=cells["exclude"] or None,
        levels=int(levels) if levels.isascii() and levels.isdecimal() else None,
    )


def _parse_film(row: _Row, view: View, folder: Path) -> Path | None:
    """Return the film's path, or None when the cell is empty."""
    if not row.cells[view]:
        return None
    film = find_file(folder, row.cells[view])
    if film is None:
        row.refuse(view, f"an existing file ({folder / row.cells[view]} is not there)")
    return film


def _parse_box(row: _Row, view: View) -> Box | None:
    """Return the box, or None when the cell is empty."""
    column = f"{view}{BOX}"
    if not row.cells[column]:
        return None
    numbers = row.cells[column].split()
    try:
        x0, y0, x1, y1 = map(parse_number, numbers)
    except ValueError:
        row.refuse(column, "four numbers 'x0 y0 x1 y1' in film pixels, or empty")
        return None
    if (commas := [number for number in numbers if "," in number]) and all(map(_GROUPED.fullmatch, commas)):
        row.refuse(
            column, f"numbers with a decimal point: {commas[0]!r} may mean {commas[0].replace(',', '.')} or {commas[0].replace(',', '')}"
        )
    if not (-math.inf < x0 < x1 < math.inf and -math.inf < y0 < y1 < math.inf):
        row.refuse(column, "x0 < x1 and y0 < y1")
    elif min(x0, y0) >= 0 and max(x1, y1) <= 1:
        row.refuse(column, "film pixels; these are parts of the film: multiply x0 and x1 by its width, y0 and y1 by its height")
    if not row.cells[view]:
        row.refuse(column, f"an empty box, because {view!r} has no film")
    if row.cells["brand"] == NO_CONSTRUCT:
        row.refuse(column, f"an empty box, because the brand is {NO_CONSTRUCT!r}")
    return x0, y0, x1, y1


def _refuse_conflicts(rows: list[_Row], studies: list[Study]) -> None:
    """Note what is wrong between rows: a patient in two splits, a film of two patients."""
    first_split: dict[str, tuple[str, int]] = {}
    first_owner: dict[Path, tuple[str, int]] = {}
    for row, study in zip(rows, studies, strict=True):
        if study.split in SPLITS:
            split, line = first_split.setdefault(study.patient_id, (study.split, row.line))
            if split != study.split:
                row.refuse("split", f"{split!r}, the split of patient {study.patient_id} in line {line}")
        for view, film in study.given.items():
            owner, line = first_owner.setdefault(film, (study.patient_id, row.line))
            if owner != study.patient_id:
                row.refuse(view, f"a film of this patient; line {line} has it for patient {owner}")


def _format_study(study: Study, layout: _Layout, folder: Path) -> list[str]:
    """Return the cells of a row in the order of the layout's columns."""
    films = ["" if (film := study.film(view)) is None else Path(os.path.relpath(film, folder)).as_posix() for view in layout.views]
    boxes = ["" if (box := study.box(view)) is None else format_box(box) for view in layout.views]
    properties = ["" if (has := study.has.get(name)) is None else str(int(has)) for name in layout.properties]
    levels = ["" if study.levels is None else str(study.levels)] if layout.has_levels else []
    return [study.patient_id, study.brand or "", *properties, study.split or "", *films, *boxes, study.exclude or "", *levels]


def require_views(studies: Sequence[Study], views: Sequence[View], where: str) -> None:
    """Refuse a table without a column for one of the `views` that are asked about.

    Raises
    ------
    InputError
        It names `where`, and the columns that are missing.
    """
    if missing := [view for view in views if view not in studies[0].films]:
        columns = ", ".join(column for view in missing for column in (view, f"{view}{BOX}"))
        raise InputError(f"{where}: the task has the views {', '.join(views)}, and the table lacks {columns}", "add these columns")


def keep_filmed(views: Sequence[View], file: Path, selected: Sequence[Study]) -> list[Study]:
    """Return the rows that have a film of one of the task's `views`; a table may have other views too.

    Raises
    ------
    InputError
        The table lacks a view, or no row is left.
    """
    require_views(selected, views, str(file))
    kept = [study for study in selected if has_film(study, views)]
    if not kept:
        raise InputError(
            f"{file}: none of the {len(selected)} rows asked about has a film of {' or '.join(views)}",
            "give a table of patients with such films",
        )
    return kept


def has_film(study: Study, views: Sequence[View]) -> bool:
    """Tell whether a row has a film of one of the `views`."""
    return any(view in study.given for view in views)


def format_box(box: Box) -> str:
    """Return ``x0 y0 x1 y1`` with no digit lost."""
    return " ".join(str(int(number)) if number == int(number) else repr(float(number)) for number in box)


def _find_strata(studies: Sequence[Study]) -> dict[tuple[str, str], set[str]]:
    """Group the patients that are to be split by brand and by the table's first property: whether any of their films has a crosslink.

    `OTHER_METAL` is no such property: it is about what a detector must not find.

    A patient with films before and after surgery counts under the brand, not under ``none``.
    """
    placed = {study.patient_id for study in studies if study.split in SPLITS[3:]}
    rows: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        if study.brand is not None and study.exclude is None and study.patient_id not in placed:
            rows[study.patient_id].append(study)
    strata: dict[tuple[str, str], set[str]] = defaultdict(set)
    for patient, known in rows.items():
        brands = sorted({str(study.brand) for study in known}, key=lambda brand: (brand == NO_CONSTRUCT, brand))
        answers = {next((has for name, has in study.has.items() if name != OTHER_METAL), None) for study in known}
        property_of = "with" if True in answers else "without" if False in answers else "unknown"
        strata[brands[0], property_of].add(patient)
    return strata


def _place_others(groups: list[list[str]], split_of: dict[str, str], fractions: tuple[float, float, float], least: tuple[int, ...]) -> None:
    """Give the patients of one brand that have no split the one that is shortest of patients: first of `least`, then of `fractions`.

    Parameters
    ----------
    groups
        The patients of each stratum of the brand, in the order in which they are placed.
    split_of
        The splits of patients; the new ones are put in.
    """
    total = sum(map(len, groups))
    of_brand = [sum(split_of.get(patient) == split for patient in itertools.chain(*groups)) for split in SPLITS[:3]]
    for group in groups:
        of_group = [sum(split_of.get(patient) == split for patient in group) for split in SPLITS[:3]]
        for patient in group:
            if patient in split_of:
                continue
            short = [
                (of_brand[place] < least[place], len(group) * share - of_group[place], total * share - of_brand[place])
                for place, share in enumerate(fractions)
            ]
            place = short.index(max(short))
            split_of[patient] = SPLITS[place]
            of_brand[place] += 1
            of_group[place] += 1


def _apportion(
    sizes: list[int], fractions: tuple[float, float, float], owed: tuple[float, ...], least: tuple[int, ...]
) -> tuple[list[tuple[int, ...]], tuple[float, float, float]]:
    """Round `fractions` of the strata of one brand to whole patients (controlled rounding, by trying every way to round).

    Parameters
    ----------
    sizes
        Patients of each stratum of the brand: at most three strata, so at most 27 ways.
    fractions
        Shares of the three splits.
    owed
        Patients that the brands before were short of in each split.
    least
        Patients that the brand needs in each split.

    Returns
    -------
    counts
        For each stratum the patients of each split; every count is its share rounded up or down, unless validation has too few then.
    owed
        What is owed after this brand.
    """
    total = sum(sizes)

    def round_size(size: int) -> list[tuple[int, ...]]:
        floors = [math.floor(size * share + 1e-9) for share in fractions]
        broken = [place for place, share in enumerate(fractions) if size * share - floors[place] > 1e-9]
        raised = itertools.combinations(broken, size - sum(floors))
        return [tuple(floor + (place in places) for place, floor in enumerate(floors)) for places in raised]

    def judge(counts: tuple[tuple[int, ...], ...]) -> tuple[int, int, int, float]:
        sums = [sum(column) for column in zip(*counts, strict=True)]
        empty = sum(number == 0 for number in sums)
        short = max(0, least[1] - sums[1])
        outside = sum(abs(number - total * share) >= 1 - 1e-9 for number, share in zip(sums, fractions, strict=True))
        drift = sum((number - total * share - debt) ** 2 for number, share, debt in zip(sums, fractions, owed, strict=True))
        within = sum(
            (number - size * share) ** 2
            for row, size in zip(counts, sizes, strict=True)
            for number, share in zip(row, fractions, strict=True)
        )
        return empty, short, outside, drift + within / 100

    best = [list(counts) for counts in min(itertools.product(*map(round_size, sizes)), key=judge)]
    sums = [sum(column) for column in zip(*best, strict=True)]
    while sums[1] < least[1] and sums[0] > least[0]:  # a brand so small that rounding up does not give validation enough
        richest = max(best, key=lambda counts: counts[0])
        richest[0], richest[1] = richest[0] - 1, richest[1] + 1
        sums[0], sums[1] = sums[0] - 1, sums[1] + 1
    train, validation, test = (debt + total * share - number for debt, share, number in zip(owed, fractions, sums, strict=True))
    return [tuple(counts) for counts in best], (train, validation, test)
