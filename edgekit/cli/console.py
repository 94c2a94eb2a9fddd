"""What reaches the terminal. stdout is the result: text for people, or with ``--json`` one JSON document and nothing else."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_json_wanted = False
_json_printed = False


def expect_json(wanted: bool) -> None:
    """Tell whether the command that starts now was asked for ``--json``: `say` and `print_table` are silent then."""
    global _json_wanted, _json_printed
    _json_wanted, _json_printed = wanted, False


def awaits_json() -> bool:
    """Tell whether ``--json`` was asked for and the document is not printed yet."""
    return _json_wanted and not _json_printed


def say(text: str) -> None:
    """Print `text` for a person, as it is (no markup); nothing under ``--json``."""
    if not _json_wanted:
        print(text, flush=True)


def print_json(document: dict[str, Any]) -> None:
    """Print `document` as the one JSON document on stdout.

    Raises
    ------
    ValueError
        If it holds NaN or infinity: an undefined figure is None.
    """
    global _json_printed
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False), flush=True)
    _json_printed = True


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for a person; nothing under ``--json``.

    Off a terminal (pipes, CI) no cell is wrapped or shortened, and there is no colour; ``NO_COLOR`` is respected.

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
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for i, heading in enumerate(columns):
        numeric = bool(body) and all(isinstance(row[i], int | float) for row in body)
        table.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
