"""The rows that a long job has done, kept as it goes, so that the same command goes on after an interruption.

A journal is a text file of JSON documents, one a line. The first says what the job was begun with, each other one is a row. A process
that is killed (-9) loses at most the rows in flight, and leaves at most one half-written line, which is dropped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SCHEMA = "2"
"""Of the rows of every job: another one when what a row holds changes, so that rows of an older checkout are never taken for today's."""


class Journal:
    """A journal, begun or taken up again.

    Parameters
    ----------
    path
        The file. It is made at once, with its folder: a place that can't be written to is noticed before the work.
    begun_with
        What the rows depend on, by name: versions or hashes. The version of edgekit and `SCHEMA` are added.

    Raises
    ------
    InputError
        The file is no journal, or holds rows of one that was begun with something else.
    """

    def __init__(self, path: Path, begun_with: dict[str, str]) -> None:
        self.path = path
        begun_with = {**begun_with, "edgekit": VERSION, "schema": SCHEMA}
        header = json.dumps(begun_with).encode() + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0)
            found = file.readline()
            rows = sum(len(line) for line in file if line.endswith(b"\n"))
            if not header.startswith(found):  # it is neither new, nor ours, nor ours and killed while it was begun
                self._refuse_other(found, begun_with, rows > 0)
            if found != header:
                file.truncate(0)
                file.write(header)
            else:
                file.truncate(len(header) + rows)

    def read(self) -> Iterator[Any]:
        """Yield the rows in the order in which they were written.

        Raises
        ------
        InputError
            A line is not what was written.
        """
        with self.path.open("rb") as file:
            next(file)
            for number, line in enumerate(file, 2):
                try:
                    entry = json.loads(line)
                except ValueError as error:
                    raise InputError(f"{self.path}, line {number}: damaged", f"delete {self.path} to start over") from error
                yield entry

    def append(self, entry: Any) -> None:
        """Write one row. It is in the file, even if the process is killed, when this returns."""
        with self.path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")

    def remove(self) -> None:
        """Delete the file: the job is done."""
        self.path.unlink()

    def _refuse_other(self, found: bytes, begun_with: dict[str, str], has_rows: bool) -> None:
        """Raise when `found` is no first line of a journal, or rows follow it that another job left."""
        try:
            other = dict(json.loads(found))
        except (ValueError, TypeError):
            other = {}
        if "edgekit" not in other:
            raise InputError(
                f"{self.path} is in the way: rows are kept there until all are done, and this file is none of edgekit's journals",
                f"delete {self.path}, or choose another --out",
            )
        if has_rows:
            changed = [name for name in {**begun_with, **other} if begun_with.get(name) != other.get(name)]
            said = "; ".join(f"{name} {other.get(name, 'none')[:12]}, now {begun_with.get(name, 'none')[:12]}" for name in changed)
            raise InputError(
                f"{self.path} holds rows of an unfinished job that was begun with something else: {said}",
                f"give what it was begun with to go on, delete {self.path} to start over, or choose another --out",
            )
