"""predictions.csv: what one model answered, row by row; scored without the model by ``edgekit score``."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.evaluation.metrics import unanswered_rows
from edgekit.files import write_text
from edgekit.tables import parse_number, read_table, refuse_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.tables import Row, Table

__all__ = ["Predictions", "read_predictions", "write_predictions"]

FLOAT_TOLERANCE = 1e-6
"""How far a row's probabilities may sum from one, besides rounded decimals: a softmax in float32 is computed no better."""

CROSSLINK = {"": None, "0": False, "1": True}


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
    has_crosslink
        N times; None where unknown.
    probabilities
        float64 (N, K), each in [0, 1]. A row sums to one as nearly as it was computed or written: one read from a table may miss it by
        K/2 units of its last decimal, and is kept as written, because every figure depends on order and size of single values only.
        All equal: the model found nothing to answer for.
    """

    brands: tuple[str, ...]
    patients: tuple[str, ...]
    truth: tuple[str | None, ...]
    has_crosslink: tuple[bool | None, ...]
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
            has_crosslink=tuple(self.has_crosslink[row] for row in kept),
            probabilities=self.probabilities[kept],
        )

    def scorable(self) -> Predictions:
        """Keep the rows whose true brand is one that the model knows."""
        return self.take(np.array([brand in self.brands for brand in self.truth], bool))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` as ``patient_id, brand, has_crosslink, p_<brand>, ...``, whole or not at all.

    Probabilities are written so that they read back exactly.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["patient_id", "brand", "has_crosslink", *(f"p_{brand}" for brand in predictions.brands)])
    for patient, brand, crosslink, row in zip(
        predictions.patients, predictions.truth, predictions.has_crosslink, predictions.probabilities.tolist(), strict=True
    ):
        writer.writerow([patient, brand or "", "" if crosslink is None else int(crosslink), *map(repr, row)])
    write_text(path, text.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Read and check a predictions file.

    A row's probabilities sum to one but for what rounding can do: each of K values written to d decimals is off by up to half a unit of
    the last one, so their sum by up to K/2 units (7 brands to 2 decimals: 0.035). Where values of a row have different numbers of
    decimals, the fewest count; a plain 0 or 1 has none to count.

    Parameters
    ----------
    path
        CSV with a header, as `edgekit.tables.read_table` reads it. Columns ``patient_id``, ``brand`` (empty: unknown), ``has_crosslink``
        (0, 1 or empty; optional) and at least two ``p_<brand>``; their order is the order of the brands. Other columns are ignored.

    Returns
    -------
    Predictions

    Raises
    ------
    InputError
        The file is missing or not such a file; all faulty rows are reported at once, with their lines.
    """
    table = read_table(path, ("patient_id", "brand", "has_crosslink"))
    brands = _check_header(path, table)
    problems: list[str] = []
    rows = [_read_row(row, brands, problems) for row in table.rows]
    refuse_rows(path, problems)
    if not rows:
        raise InputError(f"{path} has no rows", "give one row per patient below the header")
    patients, truth, crosslinks, probabilities = zip(*rows, strict=True)
    return Predictions(brands, patients, truth, crosslinks, np.array(probabilities, np.float64))


def _check_header(path: Path, table: Table) -> tuple[str, ...]:
    """Return the brands that the header names."""
    header, place = table.columns, f"{path}, line {table.line}"
    brands = tuple(name.removeprefix("p_") for name in header if name.startswith("p_"))
    missing = [name for name in ("patient_id", "brand") if name not in header] + (["p_<brand>, two or more"] if len(brands) < 2 else [])
    if missing:
        raise InputError(
            f"{place}: missing columns: {', '.join(missing)}; found: {', '.join(header) or 'nothing'}",
            "the header is patient_id, brand, has_crosslink, p_<brand>, ...",
        )
    read = {"patient_id", "brand", "has_crosslink", *(f"p_{brand}" for brand in brands)}
    if repeated := sorted(name for name in read if header.count(name) > 1):
        raise InputError(f"{place}: repeated columns: {', '.join(repeated)}", "name every column once")
    return brands


def _read_row(row: Row, brands: tuple[str, ...], problems: list[str]) -> tuple[str, str | None, bool | None, list[float]]:
    """Parse one row; what is wrong with it is added to `problems`."""
    cells, place = row.cells, f"  line {row.line}"
    if row.surplus:
        problems.append(f"{place} {row.misfit}")
        return "", None, None, []
    before = len(problems)
    if not cells["patient_id"]:
        problems.append(f"{place}, patient_id: empty, expected an identifier")
    crosslink = cells.get("has_crosslink", "")
    if crosslink not in CROSSLINK:
        problems.append(f"{place}, has_crosslink: {crosslink!r}, expected 0, 1 or nothing")
    written = {f"p_{brand}": cells[f"p_{brand}"] for brand in brands}
    probabilities = [_read_probability(text) for text in written.values()]
    problems += [
        f"{place}, {column}: {text!r}, expected a number from 0 to 1"
        for (column, text), value in zip(written.items(), probabilities, strict=True)
        if value is None
    ]
    known = [value for value in probabilities if value is not None]
    if len(problems) == before:
        total, room = sum(known), _measure_rounding([*written.values()], known)
        if abs(total - 1.0) > room + FLOAT_TOLERANCE:
            problems.append(f"{place}: the probabilities sum to {total:.6g}, expected 1 within {room or FLOAT_TOLERANCE:.3g}")
    return cells["patient_id"], cells["brand"] or None, CROSSLINK.get(crosslink), known


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
