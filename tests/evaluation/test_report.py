from __future__ import annotations

import io
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.evaluation.metrics import score_predictions
from edgekit.evaluation.report import Example, ReportContent, describe_rows, write_report
from edgekit.types import Latency, Parity


def draw() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (30, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def content() -> ReportContent:
    model = score_predictions(["a", "b"], ["a", "b", "a"], np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), [None] * 3, ["1", "2", "3"])
    provenance = {
        "edgekit": "0",
        "date": "2000-01-01",
        "simulated": True,
        "rows": {"file": 3, "scored": 3},
        "patients": 3,
        "not_scored": [],
    }
    example = Example("<p1>", "a", "a", 0.999, ("b", 0.001), ("a",), {"ap": draw()})
    return ReportContent("ap", {"models": {"ap": model}, "detector": None, "provenance": provenance}, {}, (example,))


def write(path: Path, content: ReportContent) -> str:
    write_report(path / "report.html", content)
    assert [file.name for file in path.iterdir()] == ["report.html"]
    return re.sub(r"[ \n]+", " ", (path / "report.html").read_text())


def test_sections_appear_only_with_content(tmp_path: Path, content: ReportContent) -> None:
    page = write(tmp_path, content)
    for absent in ("Does the exported pipeline", "How fast it is", "What was simulated", "Finding the construct"):
        assert absent not in page
    parity = Parity(
        "onnxruntime", "1.2", "fp32", "numerical", 3, 1.0, 1.0, 0, 1.0, (0.29, 1.0), 3e-7, None, 0, {}, None, "", "PASS", "FAIL"
    )
    latency = Latency("web", "onnxruntime", "fp32", 9, 1, 88.1, 95.2, 99.9, 410, 520, 24.1)
    page = write(tmp_path, replace(content, parity=(asdict(parity),), latency=(asdict(latency),), simulation="First.\n\nSecond & last."))
    assert 'PASS">PASS<small>numerical' in page
    assert "3.0e-07" in page
    assert "88.1" in page
    assert "<p>First.</p><p>Second &amp; last.</p>" in page


def test_names_from_files_are_escaped(tmp_path: Path, content: ReportContent) -> None:
    page = write(tmp_path, content)
    assert "<p1>" not in page
    assert "&lt;p1&gt;" in page


def test_nothing_is_called_certain(tmp_path: Path, content: ReportContent) -> None:
    page = write(tmp_path, content)
    assert "<b>a</b>, &gt;\u00a099\u00a0%." in page
    assert "rule of three" in page  # accuracy 1 with three patients
    assert "100.0\u00a0% is still compatible" in page


def test_rows_in_words() -> None:
    rows = {"file": 9, "excluded": {"too dark": 2}, "other_splits": {"train": 3}, "unseen": {}, "without_construct": 1, "scored": 3}
    assert describe_rows(rows) == [
        "9 rows in the file",
        "2 excluded (too dark: 2)",
        "3 of other splits (train: 3)",
        "1 without a construct, for the detector only",
        "3 scored",
    ]
