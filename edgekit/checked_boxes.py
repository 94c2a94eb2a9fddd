"""``<STUDIES>-boxes-checked.json``: the films on which a person has decided, beside the table of boxes.

The table can't tell it: an empty cell may be a film that nobody has looked at, or one without a box; a box may be the detector's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgekit.errors import InputError
from edgekit.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.task import View
    from edgekit.types import Box

SCHEMA = 1

FilmKey = tuple["View", str]
"""A film: its view, and its path relative to the table's folder."""


def make_key(view: View, film: Path, table: Path) -> FilmKey:
    """Return the key of a film of `table`."""
    return view, Path(os.path.relpath(film, table.parent)).as_posix()


def locate_checked(table: Path) -> Path:
    """Return the file of the decisions that belong to the boxes in `table`."""
    return table.with_name(f"{table.stem}-checked.json")


def read_checked(table: Path) -> dict[FilmKey, Box | None]:
    """Return the decisions about the films of `table`: a box in film pixels, or None for no box; empty where there are none yet.

    Raises
    ------
    InputError
        The file is damaged, or a newer edgekit wrote it.
    """
    path = locate_checked(table)
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, expected {SCHEMA}")
        return {
            (view, film): None if box is None else cast("Box", tuple(float(edge) for edge in box))
            for view, films in document["checked"].items()
            for film, box in films.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not tell which films are checked: {error}", "delete it; every box is then to be checked again"
        ) from error


def write_checked(table: Path, checked: Mapping[FilmKey, Box | None]) -> None:
    """Write the decisions; the file appears whole or not at all."""
    films = {view: {film: box for (of, film), box in checked.items() if of == view} for view in dict.fromkeys(view for view, _ in checked)}
    write_json(locate_checked(table), {"schema": SCHEMA, "checked": films})
