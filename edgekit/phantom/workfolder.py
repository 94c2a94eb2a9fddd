"""A folder that is filled piece by piece, by one process a core, and continued after an interruption."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.errors import InputError
from edgekit.files import write_json, write_text
from edgekit.phantom.parallel import run_parallel
from edgekit.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Task = TypeVar("Task")
_JOURNAL = ".finished.jsonl"


def claim_folder(out: Path, record: str, wanted: dict[str, object], folders: Sequence[str]) -> None:
    """Make the folder, or make sure that it was begun with the same parameters.

    Parameters
    ----------
    record
        Name of the JSON file in `out` that keeps the parameters.
    wanted
        The parameters; what the folder holds follows from them.
    folders
        Names of the folders to make in it.

    Raises
    ------
    InputError
        `out` was begun with other parameters, holds something else, or can't be written to.
    """
    path = out / record
    try:
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("not a table of parameters")
            differing = [f"{name} {found.get(name)!r}, asked for {wanted[name]!r}" for name in wanted if found.get(name) != wanted[name]]
            if differing:
                raise InputError(
                    f"{out} was begun with other parameters: {'; '.join(differing)}.", "Choose another folder, or remove this one."
                )
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is not empty and holds no {record}.", "Choose a new folder.")
        for folder in folders:
            (out / folder).mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.", "Choose another folder, or remove this one.") from error
    except OSError as error:
        raise InputError(f"{out} can't be written to ({error.strerror}).", "Choose another folder.") from error


def fill_folder(
    out: Path,
    tasks: dict[str, Task],
    work: Callable[[Task], Any],
    is_whole: Callable[[Task, Any], bool],
    *,
    description: str,
    remedy: str,
) -> dict[str, Any]:
    """Do what is missing of `tasks` and return the results of all.

    Parameters
    ----------
    out
        A claimed folder; a journal in it remembers what is done.
    tasks
        By name.
    work
        Makes the files of a task and returns what JSON can hold. A function of a module: workers are new processes that import it.
    is_whole
        Tells whether the files of a task with this result are still there.
    description, remedy
        See `edgekit.progress.track` and `edgekit.phantom.parallel.run_parallel`.
    """
    journal = out / _JOURNAL
    finished = {name: result for name, result in _read_journal(journal) if name in tasks and is_whole(tasks[name], result)}
    write_text(journal, "".join(_format(name, result) for name, result in finished.items()))
    missing = [(name, task, work) for name, task in tasks.items() if name not in finished]
    with journal.open("a", encoding="utf-8") as file:
        for name, result in track(run_parallel(_do, missing, remedy), description, total=len(missing)):
            finished[name] = result
            file.write(_format(name, result))
            file.flush()
    return finished


def _do(item: tuple[str, Any, Callable[[Any], Any]]) -> tuple[str, Any]:
    name, task, work = item
    # Through JSON, so that a result is the same whether it was just made or read from the journal.
    return name, json.loads(json.dumps(work(task)))


def _format(name: str, result: Any) -> str:
    return json.dumps({"name": name, "result": result}) + "\n"


def _read_journal(journal: Path) -> list[tuple[str, Any]]:
    """Return names and results; a line that a kill cut short is not counted."""
    rows = []
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        try:
            row = json.loads(line)
            rows.append((row["name"], row["result"]))
        except (json.JSONDecodeError, KeyError):
            continue
    return rows
