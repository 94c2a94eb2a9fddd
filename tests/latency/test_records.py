from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from edgekit.errors import InputError
from edgekit.latency.records import read_latency
from edgekit.types import Latency

if TYPE_CHECKING:
    from pathlib import Path

DEVICE_ROW = {  # as the runners of a bundle write it
    "name": "two-view",
    "session": "tensorrt",
    "precision": "w8a8",
    "n": 100,
    "warmup": 20,
    "p50_ms": 3.5,
    "p95_ms": 3.75,
    "p99_ms": 4.0,
    "load_ms": 900.0,
    "peak_rss_mb": None,
    "size_mb": 12.0,
    "stages": {"engine": 3.0, "copies": 0.5},
    "ratio": {},
}


def write(path: Path, **changed: Any) -> Path:
    path.write_text(json.dumps({"device": {"cpu": "board"}, "provenance": {}, "rows": [{**DEVICE_ROW, **changed}]}))
    return path


def test_a_devices_record_is_read_and_filled(tmp_path: Path) -> None:
    document = read_latency(write(tmp_path / "latency.json"))
    (row,) = document["rows"]
    assert {key: row[key] for key in DEVICE_ROW} == DEVICE_ROW
    assert row == asdict(Latency(**row))
    assert (document["not_measured"], document["warnings"]) == ([], [])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"p50_ms": "fast"}, "row 1: 'p50_ms' is 'fast'"),
        ({"p50_ms": 0}, "row 1: 'p50_ms' is 0"),
        ({"p50_ms": float("nan")}, "row 1: 'p50_ms' is nan"),
        ({"n": -1}, "row 1: 'n' is -1"),
        ({"p95_ms": None}, "row 1: 'p95_ms' is None"),
        ({"stages": {"engine": "x"}}, "row 1: 'stages' is"),
        ({"session": ""}, "row 1: 'session' is ''"),
        ({"p95_ms": 1.0}, "percentiles of its times are not in order"),
        ({"speed": 1}, "row 1 has the unknown key 'speed'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_latency(write(tmp_path / "latency.json", **changed))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "can't be read as JSON"),
        ("[]", "expected an object"),
        ('{"device": {}, "rows": []}', "'provenance' is missing"),
        ('{"device": {}, "provenance": {}, "rows": []}', "has no rows"),
        ('{"device": {}, "provenance": {}, "rows": [1]}', "row 1 is not an object"),
        ('{"device": {}, "provenance": {}, "rows": [{}]}', "row 1 lacks 'name'"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(content)
    with pytest.raises(InputError, match=told):
        read_latency(path)
    with pytest.raises(InputError, match="can't be read"):
        read_latency(tmp_path / "nowhere.json")
