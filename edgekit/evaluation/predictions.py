"""predictions.csv: what one model answered, row by row; scored without the model by ``edgekit score``.

``edgekit predict`` and ``edgekit evaluate`` write it, with the same columns for the same things.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.files import write_text
from edgekit.studies import BOX, HAS, format_box
from edgekit.tables import parse_number, read_table, refuse_rows
from edgekit.types import EXCLUDED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgekit.tables import Row, Table
    from edgekit.task import Task
    from edgekit.types import Study

__all__ = ["PredictionRow", "Predictions", "read_predictions", "unanswered_rows", "write_predictions"]

FLOAT_TOLERANCE = 1e-6
"""How far a row's probabilities may sum from one, besides rounded decimals: a softmax in float32 is computed no better."""

YES_NO = {"": None, "0": False, "1": True}

FIGURES = (
    "n", "unanswered", "patients", "correct", "accuracy", "kappa", "macro", "micro", "brands", "calibration_error", "confusion", "ci95",
)  # fmt: skip
"""What one model's object of ``metrics.json`` has: no property can be called so, for it stands beside them."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """One model's answers, N rows.

    Attributes
    ----------
    brands
        K names, the columns of `probabilities`.
    patients
        N identifiers.
    truth
        N times the true brand: one of `brands`, another (unseen), ``"none"`` (no construct) or None (unknown).
    has
        The yes/no property that figures are told apart by, by its name: N times, None where unknown. Empty where there is none.
    probabilities
        float64 (N, K), each in [0, 1]. A row sums to one as nearly as it was computed or written: one read from a table may miss it by
        K/2 units of its last decimal, and is kept as written, because every figure depends on order and size of single values only.
        All equal: the model found nothing to answer for.
    """

    brands: tuple[str, ...]
    patients: tuple[str, ...]
    truth: tuple[str | None, ...]
    has: Mapping[str, tuple[bool | None, ...]]
    probabilities: NDArray[np.float64]

    @property
    def answers(self) -> tuple[str | None, ...]:
        """N times the brand named, the first of `brands` among equals; None where all are equal."""
        top = zip(self.probabilities.argmax(axis=1), unanswered_rows(self.probabilities), strict=True)
        return tuple(None if empty else self.brands[brand] for brand, empty in top)

    def take(self, rows: NDArray[np.bool_]) -> Predictions:
        """Keep some rows; `rows` is bool (N,)."""
        kept = np.flatnonzero(rows)
        return Predictions(
            brands=self.brands,
            patients=tuple(self.patients[row] for row in kept),
            truth=tuple(self.truth[row] for row in kept),
            has={name: tuple(values[row] for row in kept) for name, values in self.has.items()},
            probabilities=self.probabilities[kept],
        )

    def scorable(self) -> Predictions:
        """Keep the rows whose true brand is one that the model knows."""
        return self.take(np.array([brand in self.brands for brand in self.truth], bool))


@dataclass(frozen=True, slots=True, eq=False)
class PredictionRow:
    """What a predictions file says about one row of ``studies.csv``.

    Attributes
    ----------
    number
        Of the row in its table, from 1: it tells two studies of a patient apart.
    study
        The row.
    views
        ``box`` (film pixels, None where nothing was found) and ``score`` by view, as in `edgekit.types.Prediction`.
    probabilities
        Of the K brands, equal where no construct was found; None when the row was not asked about.
    decision
        One of `edgekit.types.DECISIONS`, or `edgekit.types.EXCLUDED`; None when the model is none that decides.
    prediction_set
        The brands that can't be excluded; empty when the decision is no answer.
    unfamiliarity
        None when the row was not asked about, or the model is none that decides.
    """

    number: int
    study: Study
    views: dict[str, dict[str, Any]]
    probabilities: Sequence[float] | None
    decision: str | None = None
    prediction_set: Sequence[str] = ()
    unfamiliarity: float | None = None


def unanswered_rows(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell which rows of `probabilities` (N, K) name no brand because all K are equal; returns bool (N,)."""
    uniform: NDArray[np.bool_] = probabilities.max(axis=1) == probabilities.min(axis=1)
    return uniform


def write_predictions(path: Path, folder: Path, task: Task, brands: Sequence[str], rows: Sequence[PredictionRow]) -> None:
    """Write `rows`, whole or not at all: JSON lines where the name of `path` ends in ``.jsonl``, CSV otherwise.

    The columns are ``patient_id, row, truth, has_<covariate>, decision, answer, prediction_set, unfamiliarity, p_<brand>, ...``, then
    ``<view>, <view>_box, <view>_score`` for each view of the task. ``has_<covariate>`` is left out where the task has none, ``decision``
    to ``unfamiliarity`` for a model that decides nothing.
    ``answer`` is empty unless the row is identified. In CSV the brands of a set are parted by semicolons, and a box is written as in
    ``studies.csv``. Numbers are written so that they read back exactly.

    Parameters
    ----------
    path
        The file.
    folder
        Folder of the table that the rows are from: films are named relative to it, as the table names them.
    task
        What was asked.
    brands
        K names.
    rows
        In the order of the file.
    """
    decides = all(row.decision is not None for row in rows)
    records = [_describe_row(row, folder, task, brands, decides) for row in rows]
    if path.suffix == ".jsonl":
        write_text(path, "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records))
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(records[0] if records else ["patient_id", "row", "truth", *_list_properties(task), *(f"p_{brand}" for brand in brands)])
    writer.writerows([_format_cell(column, value) for column, value in record.items()] for record in records)
    write_text(path, text.getvalue())


def _describe_row(row: PredictionRow, folder: Path, task: Task, brands: Sequence[str], decides: bool) -> dict[str, Any]:
    """Return the columns of a row and their values; None where there is none."""
    study, probabilities = row.study, row.probabilities
    decided = {
        "decision": row.decision,
        "answer": brands[int(np.argmax(probabilities))] if probabilities is not None and row.decision == "identified" else None,
        "prediction_set": list(row.prediction_set),
        "unfamiliarity": row.unfamiliarity,
    }
    films: dict[str, Any] = {}
    for view in task.views:
        film, seen = study.film(view), row.views.get(view, {})
        films[view] = None if film is None else Path(os.path.relpath(film, folder)).as_posix()
        films[f"{view}{BOX}"], films[f"{view}_score"] = seen.get("box"), seen.get("score")
    return {
        "patient_id": study.patient_id,
        "row": row.number,
        "truth": study.brand,
        **{column: study.has.get(task.covariate) for column in _list_properties(task)},
        **(decided if decides else {}),
        **{f"p_{brand}": None if probabilities is None else probabilities[place] for place, brand in enumerate(brands)},
        **films,
    }


def _list_properties(task: Task) -> list[str]:
    return [f"{HAS}{task.covariate}"] if task.covariate else []


def _format_cell(column: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case list() | tuple():
            return ";".join(value) if column == "prediction_set" else format_box(tuple(value))
    return str(value)


def read_predictions(path: Path) -> Predictions:
    """Read and check a predictions file.

    A row's probabilities sum to one but for what rounding can do: each of K values written to d decimals is off by up to half a unit of
    the last one, so their sum by up to K/2 units (7 brands to 2 decimals: 0.035). Where values of a row have different numbers of
    decimals, the fewest count; a plain 0 or 1 has none to count.

    Parameters
    ----------
    path
        CSV with a header, as `edgekit.tables.read_table` reads it. Columns ``patient_id``, ``truth``, or without it ``brand`` (empty:
        unknown), at most one ``has_<property>`` (0, 1 or empty) and at least two ``p_<brand>``; their order is the order of the brands.
        Rows whose ``decision`` is ``excluded`` are left out. Other columns are ignored.

    Returns
    -------
    Predictions

    Raises
    ------
    InputError
        The file is missing or not such a file; all faulty rows are reported at once, with their lines.
    """
    table = read_table(path, ("patient_id", "truth", "brand"), lambda _: ())
    brands, truth_column, property_column = _check_header(path, table)
    problems: list[str] = []
    asked = [row for row in table.rows if row.cells.get("decision") != EXCLUDED]
    rows = [_read_row(row, brands, truth_column, property_column, problems) for row in asked]
    refuse_rows(path, problems)
    if not rows:
        raise InputError(f"{path} has no rows with an answer", "give one row per patient below the header")
    patients, truth, values, probabilities = zip(*rows, strict=True)
    has = {property_column.removeprefix(HAS): values} if property_column else {}
    return Predictions(brands, patients, truth, has, np.array(probabilities, np.float64))


def _check_header(path: Path, table: Table) -> tuple[tuple[str, ...], str, str]:
    """Return the brands that the header names, the column of the true brand, and that of the property; empty where there is none."""
    header, place = table.columns, f"{path}, line {table.line}"
    brands = tuple(name.removeprefix("p_") for name in header if name.startswith("p_"))
    truth = "brand" if "brand" in header and "truth" not in header else "truth"
    missing = [name for name in ("patient_id", truth) if name not in header] + (["p_<brand>, two or more"] if len(brands) < 2 else [])
    if missing:
        raise InputError(
            f"{place}: missing columns: {', '.join(missing)}; found: {', '.join(header) or 'nothing'}",
            "the header is patient_id, truth, has_<property>, p_<brand>, ...",
        )
    properties = [name for name in dict.fromkeys(header) if name.startswith(HAS) and name != HAS]
    if len(properties) > 1:
        raise InputError(
            f"{place}: several properties: {', '.join(properties)}", "keep the one column that figures are to be told apart by"
        )
    if taken := [name for name in properties if name.removeprefix(HAS) in FIGURES]:
        raise InputError(f"{place}: {taken[0]} is called as a figure is", "give the property another name")
    read = {"patient_id", truth, *properties, *(f"p_{brand}" for brand in brands)}
    if repeated := sorted(name for name in read if header.count(name) > 1):
        raise InputError(f"{place}: repeated columns: {', '.join(repeated)}", "name every column once")
    return brands, truth, next(iter(properties), "")


def _read_row(
    row: Row, brands: tuple[str, ...], truth: str, property_column: str, problems: list[str]
) -> tuple[str, str | None, bool | None, list[float]]:
    """Parse one row; what is wrong with it is added to `problems`."""
    cells, place = row.cells, f"  line {row.line}"
    if row.surplus:
        problems.append(f"{place} {row.misfit}")
        return "", None, None, []
    before = len(problems)
    if not cells["patient_id"]:
        problems.append(f"{place}, patient_id: empty, expected an identifier")
    value = cells.get(property_column, "")
    if value not in YES_NO:
        problems.append(f"{place}, {property_column}: {value!r}, expected 0, 1 or nothing")
    written = {f"p_{brand}": cells[f"p_{brand}"] for brand in brands}
    probabilities = [_read_probability(text) for text in written.values()]
    problems += [
        f"{place}, {column}: {text!r}, expected a number from 0 to 1"
        for (column, text), probability in zip(written.items(), probabilities, strict=True)
        if probability is None
    ]
    known = [probability for probability in probabilities if probability is not None]
    if len(problems) == before:
        total, room = sum(known), _measure_rounding([*written.values()], known)
        if abs(total - 1.0) > room + FLOAT_TOLERANCE:
            problems.append(f"{place}: the probabilities sum to {total:.6g}, expected 1 within {room or FLOAT_TOLERANCE:.3g}")
    return cells["patient_id"], cells[truth] or None, YES_NO.get(value), known


def _measure_rounding(written: list[str], values: list[float]) -> float:
    """Return how far rounded values can sum from one: half a unit of the last decimal each."""
    digits = (
        Decimal(text.replace(",", ".")).as_tuple().exponent for text, value in zip(written, values, strict=True) if value not in (0, 1)
    )
    return len(values) / 2 * 10.0 ** max((int(exponent) for exponent in digits), default=-math.inf)


def _read_probability(text: str) -> float | None:
    try:
        value = parse_number(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None
