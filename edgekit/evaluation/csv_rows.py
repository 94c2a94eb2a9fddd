"""Rows of a table that people or programs wrote by hand: CSV as spreadsheets save it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["read_rows", "refuse_rows"]

ERRORS_SHOWN = 20


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read the rows that have any value; a row that is too short ends in empty cells.

    Parameters
    ----------
    path
        UTF-8 CSV with a header, separated by commas, semicolons or tabs.
    columns
        Columns that the header must have once each; others are ignored.

    Returns
    -------
    list of (line, cells by column)

    Raises
    ------
    InputError
        The file is missing or not such a table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}", "save the table as 'CSV UTF-8'") from error
    first_line = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first_line.count), strict=True)
    try:
        rows = [(table.line_num, [cell.strip() for cell in cells]) for cells in table]
    except csv.Error as error:
        raise InputError(f"{path}, line {table.line_num}: not a CSV row: {error}", "save the table as 'CSV UTF-8'") from error
    header = rows[0][1] if rows else []
    missing = [column for column in columns if header.count(column) != 1]
    if missing:
        raise InputError(
            f"{path}, line 1: expected once: {', '.join(missing)}; found: {', '.join(header) or 'nothing'}",
            f"the header is {', '.join(columns)}",
        )
    return [
        (number, {column: cells[place] if (place := header.index(column)) < len(cells) else "" for column in columns})
        for number, cells in rows[1:]
        if any(cells)
    ]


def refuse_rows(path: Path, problems: Sequence[str], remedy: str = "correct these rows and try again") -> None:
    """Raise when there are `problems`, a line each; the first `ERRORS_SHOWN` are named.

    Raises
    ------
    InputError
        There are some.
    """
    if problems:
        more = [f"... and {len(problems) - ERRORS_SHOWN} more"] if len(problems) > ERRORS_SHOWN else []
        raise InputError("\n".join([f"{path}: {len(problems)} errors", *problems[:ERRORS_SHOWN], *more]), remedy)
