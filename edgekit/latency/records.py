"""``latency.json`` as it comes back: from here, or from the runner of a bundle on another device."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.types import Latency

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"device": dict, "provenance": dict, "rows": list}
WORDS = ("name", "session", "precision")
REMEDY = "take the latency.json that edgekit bench or a bundle's runner wrote, unchanged"


def read_latency(path: Path) -> dict[str, Any]:
    """Read a ``latency.json``; what older records and runners don't tell is filled with `Latency`'s defaults.

    Returns
    -------
    dict
        As `edgekit.latency.measure_latency` returns it.

    Raises
    ------
    InputError
        It is no such file; the message names what is wrong with it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}", REMEDY) from error
    if not isinstance(document, dict):
        raise InputError(f"{path} is no latency record: expected an object with {', '.join(KEYS)}", REMEDY)
    for key, kind in KEYS.items():
        if not isinstance(document.get(key), kind):
            raise InputError(f"{path} is no latency record: '{key}' is missing or of another kind", REMEDY)
    if not document["rows"]:
        raise InputError(f"{path} has no rows", REMEDY)
    rows = [_read_row(path, number, row) for number, row in enumerate(document["rows"], 1)]
    return {"not_measured": [], "warnings": [], "cost": None, **document, "rows": rows}


def _read_row(path: Path, number: int, row: Any) -> dict[str, Any]:
    """Return a row with every field of `Latency`."""
    known = {field.name: field for field in fields(Latency)}
    if not isinstance(row, dict):
        raise InputError(f"{path}: row {number} is not an object", REMEDY)
    if unknown := sorted(set(row) - set(known)):
        raise InputError(f"{path}: row {number} has the unknown key '{unknown[0]}'", REMEDY)
    read = {}
    for name, field in known.items():
        if name not in row:
            if field.default_factory is not MISSING:
                read[name] = field.default_factory()
            elif field.default is not MISSING:
                read[name] = field.default
            else:
                raise InputError(f"{path}: row {number} lacks '{name}'", REMEDY)
            continue
        value = row[name]
        if not _fits(name, str(field.type), value):
            raise InputError(f"{path}: row {number}: '{name}' is {value!r}, expected {field.type}", REMEDY)
        read[name] = value
    if not read["p50_ms"] <= read["p95_ms"] <= read["p99_ms"]:
        raise InputError(f"{path}: row {number}: the percentiles of its times are not in order", REMEDY)
    return read


def _fits(name: str, kind: str, value: Any) -> bool:
    """Tell whether a value is of a field's type; a time, size or count is a finite number of at least 0, and a time counted in n not 0."""
    if value is None:
        return kind.endswith("None")
    if kind.startswith("str"):
        return isinstance(value, str) and (bool(value) or name not in WORDS)
    if kind.startswith("dict"):
        return isinstance(value, dict) and all(_is_number(each) for each in value.values())
    if kind.startswith("list"):
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return _is_number(value) and value >= 0 and not (name in ("n", "p50_ms") and value == 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
