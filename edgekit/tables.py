"""Tables that people and programs keep as text: one reader for all of them, for CSV as spreadsheets save it."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from edgekit.errors import InputError

if TYPE_CHECKING:
    from _csv import Reader
    from collections.abc import Callable, Collection, Sequence

__all__ = ["Row", "Table", "find_file", "parse_number", "read_rows", "read_table", "refuse_rows"]

ERRORS_SHOWN = 20
SEPARATORS = (",", ";", "\t")
SAVE_AS = "Save it as 'CSV UTF-8' and run the command again."

_DECLARED = re.compile(r'"?sep=([^\r\n"])?"?[,;\t ]*(?:\r\n?|\n|$)', re.IGNORECASE)
"""The first line by which Excel is told the separator."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    line
        Where it begins, counted from 1.
    cells
        By column, without spaces around them; a row that is too short ends in empty cells.
    surplus
        How many cells it has more than the header; negative: fewer. Empty cells at its end are no surplus.
    misfit
        What is wrong with their number; empty when nothing is.
    """

    line: int
    cells: dict[str, str]
    surplus: int
    misfit: str


@dataclass(frozen=True, slots=True)
class Table:
    """A header and the rows below it that have any value.

    Attributes
    ----------
    line
        Where the header is.
    columns
        As named there, without spaces around them.
    rows
        In the order of the file.
    """

    line: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, known: Collection[str], files: Callable[[Sequence[str]], Collection[str]]) -> Table:
    """Read a table as spreadsheets save it.

    UTF-8 with or without a byte order mark, or UTF-16 with one (Excel's "Unicode text"); lines that end in LF, CRLF or CR; separated
    by commas, semicolons or tabs, or by what a first line ``sep=;`` names. Header and cells are brought to Unicode's form NFC, because
    macOS writes names in another form (NFD) than most keyboards do.

    Parameters
    ----------
    path
        The table.
    known
        Names that the header may have. The separator is the one that finds most of them: counting would mistake decimal commas for
        separators.
    files
        Tells which of the header's columns hold file names. These stay as they are spelled, because a file system may tell the forms
        apart (`find_file`).

    Returns
    -------
    Table
        Which columns it must have is for the caller to check; of two columns with one name, cells has the last.

    Raises
    ------
    InputError
        The file can't be opened, is not text, or a quotation mark stays open.
    """
    text = _read_text(path)
    separators = list(SEPARATORS)
    if declared := _DECLARED.match(text):
        separators = list(dict.fromkeys([declared[1] or ",", *SEPARATORS]))
        text = "\n" + text[declared.end() :]  # an empty line, so that the others keep their numbers
    separator = max(separators, key=lambda separator: _count_known(text, separator, known))
    table = _open(text, separator)
    lines: list[tuple[int, list[str]]] = []
    begin = 1
    try:
        for cells in table:
            lines.append((begin, [cell.strip() for cell in cells]))
            begin = table.line_num + 1
    except csv.Error as error:
        fault = "a quotation mark is opened and not closed" if "end of data" in str(error) else str(error)
        raise InputError(
            f"{path}, line {begin}: not a CSV row: {fault}", 'correct the quotation marks: "a cell that holds ""one"" doubles it"'
        ) from error
    line, header = next(((line, cells) for line, cells in lines if any(cells)), (1, []))
    columns = tuple(normalize("NFC", name) for name in _without_end(header, 0))
    paths = files(columns)
    return Table(
        line, columns, tuple(_make_row(number, cells, columns, paths, separator) for number, cells in lines if number > line and any(cells))
    )


def read_rows(path: Path, columns: Sequence[str], files: Collection[str] = ()) -> list[Row]:
    """Read the rows of a table that has each of `columns` once; others are ignored.

    Raises
    ------
    InputError
        See `read_table`; or a column is missing or repeated.
    """
    table = read_table(path, columns, lambda _: files)
    missing = [column for column in columns if table.columns.count(column) != 1]
    if missing:
        raise InputError(
            f"{path}, line {table.line}: expected once: {', '.join(missing)}; found: {', '.join(table.columns) or 'nothing'}",
            f"the header is {', '.join(columns)}",
        )
    return list(table.rows)


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


def parse_number(text: str) -> float:
    """Return a decimal number that is written with a point or a comma.

    Raises
    ------
    ValueError
        It is not one: also with both marks, ``nan`` and ``inf``.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not a decimal number: {text!r}")
    return float(text.replace(",", "."))


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file that a cell names, relative to `folder`; None where there is none.

    A backslash counts as a slash. A name that isn't there as it is spelled is looked for in Unicode's forms NFC and NFD: archives and
    copies between systems change the one into the other.
    """
    spelled = folder / name.replace("\\", "/")
    found = Path()
    try:
        if spelled.is_file():
            return spelled
        for part in spelled.parts:
            forms = (part, normalize("NFC", part), normalize("NFD", part))
            found /= next((form for form in forms if (found / form).exists()), part)
        return found if found.is_file() else None
    except OSError:  # a name too long for a file, a folder that may not be searched
        return None


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.", "Check the path.") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line} can't be read: byte 0x{content[error.start]:02x} is not {'UTF-16' if wide else 'UTF-8'} text.", SAVE_AS
        ) from error
    if "\0" in text:
        raise InputError(f"{path} can't be read: it holds zero bytes, so it is not UTF-8 text.", SAVE_AS)
    return text


def _open(text: str, separator: str) -> Reader:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != " ", strict=True)


def _count_known(text: str, separator: str, known: Collection[str]) -> tuple[int, int]:
    """Count the columns of the header that are known, and all of them."""
    try:
        header: list[str] = next((cells for cells in _open(text, separator) if any(map(str.strip, cells))), [])
    except csv.Error:
        return 0, 0
    return sum(normalize("NFC", name.strip()) in known for name in header), len(header)


def _make_row(line: int, cells: list[str], columns: tuple[str, ...], files: Collection[str], separator: str) -> Row:
    cells = _without_end(cells, len(columns))
    surplus = len(cells) - len(columns)
    misfit = f"has {len(cells)} cells, expected {len(columns)}" if surplus else ""
    if surplus > 0 and separator == ",":
        misfit += " (a decimal comma needs quotation marks around its cell, or another separator)"
    values = [*cells, *[""] * -surplus]
    named = {column: value if column in files else normalize("NFC", value) for column, value in zip(columns, values, strict=False)}
    return Row(line, named, surplus, misfit)


def _without_end(cells: list[str], least: int) -> list[str]:
    """Drop the empty cells at the end that are more than `least`: spreadsheets pad short rows."""
    end = len(cells)
    while end > least and not cells[end - 1]:
        end -= 1
    return cells[:end]
