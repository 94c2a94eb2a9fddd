"""readers.csv: what people answered on the readers' films, and how they compare with the models (the paper's Table 5)."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.files import write_text
from edgekit.proportions import clopper_pearson, count_discordant, mcnemar_exact
from edgekit.tables import parse_number, read_rows, refuse_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from edgekit.tables import Row

__all__ = ["COLUMNS", "ReaderAnswer", "compare_readers", "read_readers", "write_readers"]

COLUMNS = ("reader", "experience", "patient_id", "brand", "seconds")


@dataclass(frozen=True, slots=True)
class ReaderAnswer:
    """One answer of one reader.

    Attributes
    ----------
    reader, experience
        Who answered, and the group that the reader belongs to ("attending spine surgeon"); empty where it isn't told.
    brand
        The answer; None is "I don't know", which counts as wrong.
    seconds
        Time taken for this patient; None where it wasn't measured.
    """

    reader: str
    experience: str
    patient_id: str
    brand: str | None
    seconds: float | None


def read_readers(path: Path) -> tuple[ReaderAnswer, ...]:
    """Read and check a table of readers' answers.

    Parameters
    ----------
    path
        CSV with the columns `COLUMNS` (others are ignored), as `edgekit.tables.read_table` reads it. ``brand`` and ``seconds`` may be
        empty.

    Returns
    -------
    tuple of ReaderAnswer
        In the order of the file.

    Raises
    ------
    InputError
        The file is missing or not such a table; all faulty rows are reported at once, with their lines: no reader or patient, seconds
        that are not a number, more cells than columns, a reader with two experiences, a patient that a reader answered twice.
    """
    rows = read_rows(path, COLUMNS)
    problems: list[str] = []
    answers = [_read_answer(row, problems) for row in rows]
    experiences: dict[str, tuple[str, int]] = {}
    answered: dict[tuple[str, str], int] = {}
    for row, answer in zip(rows, answers, strict=True):
        experience, line = experiences.setdefault(answer.reader, (answer.experience, row.line))
        if experience != answer.experience:
            problems.append(f"  line {row.line}, experience: {answer.experience!r}, but line {line} says {experience!r} of the same reader")
        line = answered.setdefault((answer.reader, answer.patient_id), row.line)
        if line != row.line and answer.patient_id:
            problems.append(f"  line {row.line}: {answer.reader} answered patient {answer.patient_id} already in line {line}")
    refuse_rows(path, problems)
    if not answers:
        raise InputError(f"{path} has no rows", "give one row for each reader and patient below the header")
    return tuple(answers)


def write_readers(path: Path, answers: Iterable[ReaderAnswer]) -> None:
    """Write readers' answers as `read_readers` reads them, whole or not at all."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for answer in answers:
        seconds = "" if answer.seconds is None else f"{answer.seconds:g}"
        table.writerow([answer.reader, answer.experience, answer.patient_id, answer.brand or "", seconds])
    write_text(path, text.getvalue())


def compare_readers(
    answers: Sequence[ReaderAnswer],
    truth: Mapping[str, str],
    models: Mapping[str, Mapping[str, str | None]],
    brands: Iterable[str] = (),
) -> dict[str, Any]:
    """Score the readers, and each reader against each model on the patients that both saw.

    Parameters
    ----------
    answers
        Of all readers.
    truth
        True brand by patient: the readers' patients.
    models
        By model and patient the brand answered; None is no answer, which counts as wrong. A patient that a model was not asked about
        (a film that it needs is missing) is absent.
    brands
        Brands that a reader may name although none of these patients has them.

    Returns
    -------
    dict
        ``readers`` of ``metrics.json``: ``n`` patients; for every reader and model ``n`` answered, ``correct``, ``accuracy`` and its
        exact ``ci95`` (Clopper & Pearson 1934); for readers also ``seconds`` a patient and ``total_seconds`` (null where not
        measured); ``experience``: mean and standard deviation (of a sample; null for a single reader) of the accuracies of each group;
        ``comparisons``: two-sided ``p`` of McNemar's exact test on the patients that only one of the two got right.

    Raises
    ------
    InputError
        A reader answered for a patient that isn't among them, or named a brand that nobody has.
    """
    _refuse_strangers(answers, truth, {*truth.values(), *brands})
    by_reader: dict[str, list[ReaderAnswer]] = defaultdict(list)
    for answer in answers:
        by_reader[answer.reader].append(answer)
    readers = [_score_reader(given, truth) for given in by_reader.values()]
    asked = {model: {patient: brand for patient, brand in given.items() if patient in truth} for model, given in models.items()}
    return {
        "n": len(truth),
        "readers": readers,
        "experience": _group_readers(readers),
        "models": [{"model": model, **_score(given, truth)} for model, given in asked.items() if given],
        "comparisons": [
            {"reader": reader, "model": model, **_compare({answer.patient_id: answer.brand for answer in given}, brand_by_patient, truth)}
            for reader, given in by_reader.items()
            for model, brand_by_patient in asked.items()
        ],
    }


def _refuse_strangers(answers: Sequence[ReaderAnswer], truth: Mapping[str, str], known: set[str]) -> None:
    """Raise for patients that are not the readers', and for brands that are not `known`."""
    patients = sorted({answer.patient_id for answer in answers} - truth.keys())
    if patients:
        raise InputError(
            f"readers answered for patients that are not in the readers' set: {', '.join(patients)}",
            "give these patients the split 'readers' in studies.csv; answers with case numbers go through: edgekit studies collect",
        )
    brands = sorted({answer.brand for answer in answers if answer.brand is not None} - known)
    if brands:
        raise InputError(
            f"readers named unknown brands: {', '.join(brands)}; known are {', '.join(sorted(known))}",
            "correct the spelling, or leave the brand empty for 'I don't know'",
        )


def _score(given: Mapping[str, str | None], truth: Mapping[str, str]) -> dict[str, Any]:
    correct = sum(brand == truth[patient] for patient, brand in given.items())
    return {"n": len(given), "correct": correct, "accuracy": correct / len(given), "ci95": list(clopper_pearson(correct, len(given)))}


def _score_reader(given: Sequence[ReaderAnswer], truth: Mapping[str, str]) -> dict[str, Any]:
    seconds = [answer.seconds for answer in given if answer.seconds is not None]
    return {
        "reader": given[0].reader,
        "experience": given[0].experience,
        **_score({answer.patient_id: answer.brand for answer in given}, truth),
        "seconds": math.fsum(seconds) / len(seconds) if seconds else None,
        "total_seconds": math.fsum(seconds) if seconds else None,
    }


def _group_readers(readers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation of the accuracies of each group, in the order in which they appear."""
    from statistics import fmean, stdev

    groups: dict[str, list[float]] = defaultdict(list)
    for reader in readers:
        groups[reader["experience"]].append(reader["accuracy"])
    return [
        {"experience": experience, "readers": len(found), "mean": fmean(found), "sd": stdev(found) if len(found) > 1 else None}
        for experience, found in groups.items()
    ]


def _compare(reader: Mapping[str, str | None], model: Mapping[str, str | None], truth: Mapping[str, str]) -> dict[str, Any]:
    both = [patient for patient in reader if patient in model]
    by_reader, by_model = (np.array([answers[patient] == truth[patient] for patient in both], bool) for answers in (reader, model))
    only_reader, only_model = count_discordant(by_reader, by_model)
    return {"n": len(both), "only_reader": only_reader, "only_model": only_model, "p": mcnemar_exact(only_reader, only_model)}


def _read_answer(row: Row, problems: list[str]) -> ReaderAnswer:
    """Parse one row; what is wrong with it is added to `problems`."""
    cells = row.cells
    if row.surplus > 0:
        problems.append(f"  line {row.line} {row.misfit}")
    problems += [f"  line {row.line}, {column}: empty, expected a name" for column in ("reader", "patient_id") if not cells[column]]
    seconds: float | None = None
    if cells["seconds"]:
        try:
            seconds = parse_number(cells["seconds"])
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            problems.append(f"  line {row.line}, seconds: {cells['seconds']!r}, expected a number of seconds or nothing")
    return ReaderAnswer(cells["reader"], cells["experience"], cells["patient_id"], cells["brand"] or None, seconds)
