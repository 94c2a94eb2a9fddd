"""What reaches the terminal. stdout is the result: text for people, or with ``--json`` one JSON document and nothing else.

Terminals differ in what they can show (Windows' cp1252, a bare ASCII log). `_replace` is the one place that says what is printed instead.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PLAIN = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": ".", "≤": "<=", "≥": ">=", "±": "+/-", "→": "->", "█": "#", "\u00a0": " "}
)
"""Marks of ours in ASCII."""

_json_wanted = False
_json_printed = False
_how_to_go_on = ""


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Give what is printed for characters that an encoding lacks: `PLAIN`'s, else their number (U+4E2D as Python writes it)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("edgekit", _replace)


def open_streams() -> None:
    """Let stdout and stderr print any text: what their encoding lacks is replaced, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in a notebook, and not where there is no terminal at all (pythonw)
            stream.reconfigure(errors="edgekit")


def can_show(text: str) -> bool:
    """Tell whether the encoding of stdout has every character of `text`."""
    return _fit(text) == text


def _fit(text: str) -> str:
    """Return `text` as stdout shows it, so that a table is laid out by what is seen."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "edgekit").decode(encoding)


def expect_json(wanted: bool) -> None:
    """Tell whether the command that starts now was asked for ``--json``: `say` and `print_table` are silent then."""
    global _json_wanted, _json_printed, _how_to_go_on
    _json_wanted, _json_printed = wanted, False
    _how_to_go_on = "Nothing was left half done: the same command begins again."


def when_interrupted(advice: str) -> None:
    """Set how the user can go on if this command is interrupted from now on."""
    global _how_to_go_on
    _how_to_go_on = advice


def say_interrupted() -> None:
    """Say on stderr that the command was interrupted, and how to go on."""
    print(f"Interrupted. {_how_to_go_on}", file=sys.stderr)


def awaits_json() -> bool:
    """Tell whether ``--json`` was asked for and the document is not printed yet."""
    return _json_wanted and not _json_printed


def say(text: str) -> None:
    """Print `text` for a person, as it is (no markup); nothing under ``--json``."""
    if not _json_wanted:
        print(text, flush=True)


def print_json(document: dict[str, Any]) -> None:
    """Print `document` as the one JSON document on stdout: in UTF-8, where stdout is that, else in ASCII with JSON's own escapes.

    Raises
    ------
    ValueError
        If it holds NaN or infinity: an undefined figure is None.
    """
    global _json_printed
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        is_json = text.encode() == text.encode(sys.stdout.encoding or "utf-8")  # JSON is UTF-8 by definition (RFC 8259, 8.1)
    except UnicodeEncodeError:  # also by file names that are no Unicode (lone surrogates)
        is_json = False
    print(text if is_json else json.dumps(document, indent=2, allow_nan=False), flush=True)
    _json_printed = True


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for a person; nothing under ``--json``.

    Off a terminal (pipes, CI) no cell is wrapped or shortened, and there is no colour; ``NO_COLOR`` is respected. Where stdout isn't UTF-8,
    the lines of the table are ASCII.

    Parameters
    ----------
    title
        Heading of the table.
    columns
        Heading of each column.
    rows
        Cells in the order of `columns`, shown as text (None: an empty cell). A column of numbers alone is right-aligned.
    """
    if _json_wanted:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    body = [tuple(row) for row in rows]
    table = Table(title=Text(_fit(title), style="bold"), title_justify="left")
    for i, heading in enumerate(columns):
        numeric = bool(body) and all(isinstance(row[i], int | float) for row in body)
        table.add_column(Text(_fit(heading)), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(Text("" if cell is None else _fit(str(cell))) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 10_000).print(table)  # rich learns the encoding from the file
