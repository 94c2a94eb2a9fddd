"""The films of ``studies.csv``, all of them: can each be read, is it what its row says, and is a film there under two names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from edgekit.cores import count_threads
from edgekit.errors import EdgekitError, InputError
from edgekit.journal import Journal
from edgekit.studies import Findings, find_box_fault, is_clipped, warn_of_clipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edgekit.types import Study


def check_films(studies: Sequence[Study], table: Path | None = None) -> Findings:
    """Decode the films of all rows that are not excluded, with a progress bar, and compare them with the table and with each other.

    Where both films of a row say whose they are (DICOM Patient ID), that must be one patient. Two films are the same when their decoded
    pixels are equal. In two splits they are a leak: a patient of the test taught the models.

    Parameters
    ----------
    studies
        The rows.
    table
        The table they are from. While the check runs, what it finds is kept beside it in ``.<table>.checking``, so that a check that was
        stopped goes on where it was; where the folder can't be written to, and with None, nothing is kept.

    Returns
    -------
    Findings
        Warnings: films in the column of the view that they say they don't show (DICOM View Position), rows with the same pixels in both
        columns, and how many boxes are cut at the edge of the film. Hints: films that two patients of one split share, or of none.

    Raises
    ------
    InputError
        Films can't be read, boxes reach beyond their film, a row has films of two patients, or a film is in two splits: all of them are
        listed.
    """
    from concurrent.futures import ThreadPoolExecutor

    from edgekit.progress import track

    kept = [study for study in studies if study.exclude is None]
    uses = [(study, film, study.box(view)) for study in kept for view, film in study.given.items()]
    films = list(dict.fromkeys(film for _, film, _ in uses))
    with _keep_looks(table) as (known, keep):
        pool = ThreadPoolExecutor(min(4, count_threads()))
        try:
            found = pool.map(lambda film: _look_at(film, known, keep), films)
            looks = dict(zip(films, track(found, "Reading films", total=len(films)), strict=True))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C: not after all the films that wait
    problems = list(dict.fromkeys(look.problem for look in looks.values() if look.problem))
    decoded = [(study, film, box, looks[film]) for study, film, box in uses if not looks[film].problem]
    problems += [fault for _, film, box, look in decoded if (fault := find_box_fault(film, box, look.width, look.height))]
    leaks, hints = _compare_films((study, film, look.sha256) for study, film, _, look in decoded)
    strangers, warnings = _compare_rows(kept, looks)
    _refuse_films(problems, strangers, leaks)
    warnings += warn_of_clipped(sum(is_clipped(box, look.width, look.height) for _, _, box, look in decoded))
    return Findings(warnings, hints)


_State = tuple[str, int, int]
"""Path, size in bytes and time of the last change (ns): a film with the same state needn't be decoded again."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One film, decoded: its size, the sha256 of its shape and pixels, and what is wrong with it (then the others say nothing).

    `view` and `patient_id` are what the file says; empty where it says nothing.
    """

    width: int
    height: int
    sha256: str
    problem: str
    view: str = ""
    patient_id: str = ""


@contextmanager
def _keep_looks(table: Path | None) -> Iterator[tuple[dict[_State, _Look], Callable[[_State, _Look], None]]]:
    """Yield what a check that was stopped has found, and a function that keeps more of it until the check ends."""
    if table is None:
        yield {}, lambda *_: None
        return
    path = table.with_name(f".{table.name}.checking")
    try:
        try:
            journal = Journal(path, {})
            known = {(str(name), int(size), int(time)): _Look(*look) for (name, size, time), look in journal.read()}
        except (InputError, TypeError, ValueError):  # another version of edgekit decoded these films, or it was damaged
            path.unlink()
            journal, known = Journal(path, {}), {}
    except OSError:
        yield {}, lambda *_: None
        return

    def keep(state: _State, look: _Look) -> None:
        with suppress(OSError):  # the disk is full: what is not kept is decoded again
            journal.append([state, astuple(look)])

    yield known, keep
    with suppress(OSError):
        journal.remove()


def _look_at(film: Path, known: Mapping[_State, _Look], keep: Callable[[_State, _Look], None]) -> _Look:
    """Decode a film that is not known in its present state, and keep what was found."""
    from edgekit.radiograph import read_radiograph

    try:
        status = film.stat()
        state = (str(film.absolute()), status.st_size, status.st_mtime_ns)
        if state in known:
            return known[state]
        try:
            radiograph = read_radiograph(film)
            pixels = radiograph.pixels
            height, width = pixels.shape
            sha256 = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
            look = _Look(width, height, sha256, "", radiograph.view or "", radiograph.patient_id)
        except EdgekitError as error:
            look = _Look(0, 0, "", error.message)
    except Exception as error:  # one film must not cost the others; kept nowhere, for memory may suffice next time
        return _Look(0, 0, "", f"{film}: can't be decoded ({type(error).__name__}: {error})")
    keep(state, look)
    return look


def _compare_films(uses: Iterable[tuple[Study, Path, str]]) -> tuple[list[str], list[str]]:
    """Return which equal films are in two splits, and which belong to two patients otherwise; `uses` have the sha256 of the pixels."""
    equal: dict[str, dict[Path, Study]] = defaultdict(dict)
    for study, film, sha256 in uses:
        equal[sha256].setdefault(film, study)
    leaks, hints = [], []
    for owners in equal.values():
        named = [
            f"{film} (patient {study.patient_id}, {f'split {study.split}' if study.split else 'no split'})"
            for film, study in owners.items()
        ]
        if len({study.split for study in owners.values() if study.split}) > 1:
            leaks.append(" and ".join(named))
        elif len({study.patient_id for study in owners.values()}) > 1:
            hints.append(f"{' and '.join(named)} have the same pixels: is this one patient?")
    return leaks, hints


def _compare_rows(studies: Sequence[Study], looks: Mapping[Path, _Look]) -> tuple[list[str], list[str]]:
    """Return which rows have films of two patients, and what else films say against their row."""
    strangers, warnings = [], []
    for study in studies:
        seen = [(view, film, looks[film]) for view, film in study.given.items() if not looks[film].problem]
        for view, film, look in seen:
            if look.view not in ("", view) and look.view in study.films:
                warnings.append(f"{film} (patient {study.patient_id}) is in column {view!r}, but its View Position says {look.view}")
        for (view, film, first), (other_view, other, second) in combinations(seen, 2):
            if first.patient_id and second.patient_id and first.patient_id != second.patient_id:
                strangers.append(
                    f"row of patient {study.patient_id}: {film} has Patient ID {first.patient_id}, {other} has {second.patient_id}"
                )
            if first.sha256 == second.sha256:
                warnings.append(
                    f"{film} and {other} (patient {study.patient_id}) have the same pixels, in the columns '{view}' and '{other_view}'"
                )
    return strangers, warnings


def _refuse_films(problems: list[str], strangers: list[str], leaks: list[str]) -> None:
    """Raise when there are problems, rows with films of two patients, or leaks."""
    parts, remedies = [], []
    if problems:
        count = "1 film" if len(problems) == 1 else f"{len(problems)} films"
        parts.append(f"{count} can't be used:\n  " + "\n  ".join(problems))
        remedies.append("Replace the films, or say why in the column 'exclude' of their rows.")
    if strangers:
        count = "1 row has" if len(strangers) == 1 else f"{len(strangers)} rows have"
        parts.append(f"{count} films of two patients:\n  " + "\n  ".join(strangers))
        remedies.append(
            "Put each film into the row of its patient, or say in the column 'exclude' why the row is left out; where both numbers are one "
            "person's, edgekit studies deidentify writes copies with one number."
        )
    if leaks:
        count = "1 film is" if len(leaks) == 1 else f"{len(leaks)} films are"
        parts.append(f"{count} in two splits under two names, with the same pixels:\n  " + "\n  ".join(leaks))
        remedies.append(
            "Give these patients one patient_id if they are one, or one split, or say in the column 'exclude' which row is left out."
        )
    if parts:
        raise InputError("\n".join(parts), " ".join(remedies))
