"""predictions.csv: what one model answered, row by row; scored without the model by ``edgekit score``."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.evaluation.csv_rows import refuse_rows
from edgekit.evaluation.metrics import unanswered_rows
from edgekit.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Predictions", "read_predictions", "write_predictions"]

SUM_TOLERANCE = 1e-3
"""How far a row's probabilities may sum from one: room for rounded decimals."""

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
        float64 (N, K), rows sum to one. All equal: the model found nothing to answer for.
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

    Parameters
    ----------
    path
        UTF-8 CSV with a header. Columns ``patient_id``, ``brand`` (empty: unknown), ``has_crosslink`` (0, 1 or empty; optional) and at
        least two ``p_<brand>``; their order is the order of the brands. Other columns are ignored.

    Returns
    -------
    Predictions

    Raises
    ------
    InputError
        The file is missing or not such a file; all faulty rows are reported at once, with their lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}", "give a CSV file such as those that edgekit evaluate writes") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        brands = _check_header(path, header)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not a CSV row: {error}", "save the file as comma-separated UTF-8 text"
        ) from error
    problems: list[str] = []
    rows = [
        _read_row(number, dict(zip(header, cells, strict=False)), len(cells) - len(header), brands, problems) for number, cells in lines
    ]
    refuse_rows(path, problems)
    if not rows:
        raise InputError(f"{path} has no rows", "give one row per patient below the header")
    patients, truth, crosslinks, probabilities = zip(*rows, strict=True)
    return Predictions(brands, patients, truth, crosslinks, np.array(probabilities, np.float64))


def _check_header(path: Path, header: list[str]) -> tuple[str, ...]:
    """Return the brands that `header` names."""
    brands = tuple(name.removeprefix("p_") for name in header if name.startswith("p_"))
    missing = [name for name in ("patient_id", "brand") if name not in header] + (["p_<brand>, two or more"] if len(brands) < 2 else [])
    if missing:
        raise InputError(
            f"{path}, line 1: missing columns: {', '.join(missing)}; found: {', '.join(header) or 'nothing'}",
            "the header is patient_id, brand, has_crosslink, p_<brand>, ...",
        )
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{path}, line 1: repeated columns: {', '.join(repeated)}", "name every column once")
    return brands


def _read_row(
    number: int, cells: dict[str, str], surplus: int, brands: tuple[str, ...], problems: list[str]
) -> tuple[str, str | None, bool | None, list[float]]:
    """Parse one row; what is wrong with it is added to `problems`."""
    if surplus:
        problems.append(f"  line {number}: {abs(surplus)} {'more' if surplus > 0 else 'fewer'} cells than the header has columns")
        return "", None, None, []
    before = len(problems)
    patient = cells["patient_id"].strip()
    if not patient:
        problems.append(f"  line {number}, patient_id: empty, expected an identifier")
    crosslink = cells.get("has_crosslink", "").strip()
    if crosslink not in CROSSLINK:
        problems.append(f"  line {number}, has_crosslink: {crosslink!r}, expected 0, 1 or nothing")
    probabilities = []
    for brand in brands:
        value = _read_probability(cells[f"p_{brand}"])
        if value is None:
            problems.append(f"  line {number}, p_{brand}: {cells[f'p_{brand}']!r}, expected a number from 0 to 1")
        else:
            probabilities.append(value)
    total = sum(probabilities)
    if len(problems) == before and abs(total - 1.0) > SUM_TOLERANCE:
        problems.append(f"  line {number}: the probabilities sum to {total:.6g}, expected 1 within {SUM_TOLERANCE}")
    return patient, cells["brand"].strip() or None, CROSSLINK.get(crosslink), probabilities


def _read_probability(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None  # NaN fails both comparisons
