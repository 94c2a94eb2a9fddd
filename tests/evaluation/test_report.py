from __future__ import annotations

import base64
import io
import re
from dataclasses import asdict, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pedicle_screws import MEMBERS
from PIL import Image

from edgekit.evaluation import figures
from edgekit.evaluation.asked import choose_headings, list_models
from edgekit.evaluation.metrics import score_predictions
from edgekit.evaluation.report import Example, PhotoExample, ReportContent, describe_rows, write_report
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import Latency, Parity

STUDY = choose_headings(PEDICLE_SCREWS, list_models(PEDICLE_SCREWS, MEMBERS, []))


def draw() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (30, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def content() -> ReportContent:
    model = score_predictions(
        ["a", "b"], ["a", "b", "a"], np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), ["1", "2", "3"], {"crosslink": [None] * 3}
    )
    provenance = {
        "edgekit": "0",
        "date": "2000-01-01",
        "simulated": True,
        "rows": {"file": 3, "scored": 3},
        "patients": 3,
        "not_scored": [],
    }
    example = Example("<p1>", "a", "a", "identified", 0.999, ("b", 0.001), ("a",), {"ap": draw()})
    metrics = {"models": {"ap": model}, "detector": None, "provenance": provenance}
    return ReportContent("ap", metrics, {}, PEDICLE_SCREWS, STUDY, (example,))


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    VOID = ("meta", "img", "br", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name == "href" and value]
        if tag == "img":
            assert given["alt"]
            self.sources.append(given["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def contents(text: str) -> list[str]:
    """Names of the sections, after checking that the page is whole, loads nothing, and that the contents lead to each section."""
    page = Page(text)
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?://|<link|<script|@import|url\(", text)
    assert page.links == [f"#{name}" for name in page.ids]
    return page.ids


def write(path: Path, content: ReportContent) -> str:
    write_report(path / "report.html", content)
    assert [file.name for file in path.iterdir()] == ["report.html"]
    return re.sub(r"[ \n]+", " ", (path / "report.html").read_text())


def test_sections_appear_only_with_content(tmp_path: Path, content: ReportContent) -> None:
    page = write(tmp_path, content)
    assert contents(page) == ["films", "models", "brands", "provenance"]
    for absent in ("Table 2", "Table 5", "Grad-CAM", "McNemar", "can't be read"):
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


def test_charts_are_kept_as_they_are_drawn(tmp_path: Path, content: ReportContent) -> None:
    chart = figures.draw_confusion(("脊柱", "b"), np.eye(2, dtype=int), np.zeros(2, int), "brand")
    page = write(tmp_path, replace(content, figures={"confusion": chart}))
    contents(page)
    (source,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    assert base64.b64decode(source) == chart


def table(page: str, caption: str) -> list[list[str]]:
    """Rows of the table so captioned, cells as text."""
    found = re.search(rf"<caption>{re.escape(caption)}</caption>(.*?)</table>", page)
    assert found
    rows = re.findall(r"<tr.*?>(.*?)</tr>", found[1])
    return [[unescape(re.sub(r"<.*?>", "|", cell)).strip("| ") for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def score(probabilities: list[list[float]]) -> dict[str, Any]:
    return score_predictions(
        ["a", "b"], ["a", "b", "a"], np.array(probabilities), ["1", "2", "3"], {"crosslink": [True, False, False]}, resamples=3
    )


@pytest.fixture
def full(content: ReportContent) -> ReportContent:
    right, worse = score([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), score([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    models = {"ap": worse, "lateral": right, "ap+lateral": right, "all": right, "ap+concat": worse}
    films = {"n": 6, "mean_iou": 0.8125, "iou_p05": 0.5, "ap50": 1.0, "auc": 0.987, "negative": 9, "false_finds": 2 / 9}
    cell = {
        "cell": {"aspect": "under 0.5", "region": "lumbar"},
        "n": 4,
        "mean_iou": 0.61,
        "found": 0.75,
        "ci95": [0.19, 0.99],
        "below": 0.02,
    }
    negatives = {
        "plain": {"n": 5, "false_finds": 0.0, "ci95": [0.0, 0.52]},
        "other_metal": {"n": 4, "false_finds": 0.5, "ci95": [0.07, 0.93]},
    }
    films |= {"negatives": negatives, "cells": [cell, {**cell, "cell": {"view": "ap"}, "found": 1.0, "below": 1.0}]}
    drop = {
        "accuracy": {"value": 1 / 30, "ci95": [-0.08, 0.1504]},
        "macro_auc": {"value": -0.004, "ci95": [-0.031, -0.0002]},
    }
    loss = {"n": 31, "film": 30 / 31, "photo": 27 / 31, "value": 3 / 31, "ci95": [0.0021, 0.2493], "only_film": 3, "only_photo": 0}
    metrics = {
        "models": models,
        "detector": films,
        "comparisons": [
            {"a": "ap", "b": "lateral", "n": 106, "only_a": 1, "only_b": 9, "p": 0.0215},
            {"a": "lateral", "b": "ap+lateral", "n": 106, "only_a": 2, "only_b": 2, "p": 1.0},
            {"a": "ap", "b": "ap+lateral", "n": 106, "only_a": 0, "only_b": 16, "p": 2**-15},
        ],
        "box_errors": {
            "ap": {
                "n": 100,
                "bands": [],
                "detector_box": 0.92,
                "true_box": 0.94,
                "only_detector_right": 1,
                "only_true_right": 3,
                "p": 0.625,
            },
        },
        "external": {
            "rows": {"file": 40, "other_splits": {"test": 9}, "scored": 31},
            "models": {"ap": right, "ap+lateral": worse},
            "detector": {**films, "n": 62},
            "drop": {"ap+lateral": drop},
        },
        "photos": {
            "taken": {"n": 62, "severities": {"moderate": 60, "not simulated": 2}},
            "detector": {**films, "n": 62, "mean_iou": 0.79},
            "drop": {
                "ap+lateral": {**loss, "p": 0.25, "conditions": {"glare": [{"low": 0.021, "high": 0.15, **loss}]}},
            },
            "decisions": {
                "n": 31,
                "changed": {"n": 4, "of": 31, "share": 4 / 31, "ci95": [0.0363, 0.2983]},
                "lost": {"n": 0, "of": 0, "share": None, "ci95": None},
                "other_brand": 1,
                "wrong": {"film": 1, "photo": 2},
            },
        },
        "readers": {
            "n": 27,
            "readers": [
                {
                    "reader": "R1",
                    "experience": "spine surgeon",
                    "n": 27,
                    "correct": 22,
                    "accuracy": 22 / 27,
                    "ci95": [0.6192, 0.937],
                    "seconds": 27.9,
                },
                {"reader": "R6", "experience": "", "n": 27, "correct": 10, "accuracy": 10 / 27, "ci95": [0.194, 0.5763], "seconds": None},
            ],
            "models": [{"model": "ap+lateral", "n": 27, "correct": 27, "accuracy": 1.0, "ci95": [0.8723, 1.0]}],
            "experience": [{"experience": "spine surgeon", "readers": 4, "mean": 0.823, "sd": 0.047}],
            "comparisons": [
                {"reader": "R1", "model": "ap+lateral", "n": 27, "only_reader": 0, "only_model": 5, "p": 0.0625},
                {"reader": "R6", "model": "ap+lateral", "n": 27, "only_reader": 0, "only_model": 17, "p": 2**-16},
            ],
        },
        "provenance": {**content.metrics["provenance"], "rows": {"file": 4, "unreadable": {"p<4>.dcm": "ends early"}, "scored": 3}},
    }
    names = ("models", "confusion", "roc", "reliability", "gradcam", "overlaps", "box_errors", "external", "photos")
    figures = {name: draw() for name in names}
    shots = {name: draw() for name in ("film", "photo", "straightened")}
    conditions = {"angle": 12.34, "moire": float("nan"), "glare": 0.1}
    pair = {"confusion": draw(), "roc": draw()}
    return replace(
        content,
        headline="ap+lateral",
        metrics=metrics,
        figures=figures,
        model_figures={"ap": pair, "lateral": pair},
        external_figures=pair,
        photo_examples=(PhotoExample("<p2>", "ap", "a", None, "no construct found", conditions, shots),),
    )


def test_a_full_report_is_one_whole_page(tmp_path: Path, full: ReportContent) -> None:
    page = write(tmp_path, full)
    assert contents(page) == [
        *(
            "films",
            "models",
            "paper",
            "brands",
            "others",
            "comparisons",
            "gradcam",
            "detector",
            "external",
            "photos",
            "readers",
            "provenance",
        ),
    ]
    assert len(Page(page).sources) == 1 + 9 + 2 * 2 + 2 + 3, "an example, figures, pairs of the others and the other site, a photo"
    assert "1 that can&#39;t be read (listed below)" in page
    assert "<dt>p&lt;4&gt;.dcm</dt><dd>ends early</dd>" in page
    assert (
        "<b>ap</b> is right on 94.0\u00a0% of 100 instead of 92.0\u00a0% "
        "(3 only with the true box, 1 only with the found one, McNemar p 0.625)." in page
    )


def test_cells_of_the_detector_are_laid_out_and_set_off(tmp_path: Path, full: ReportContent) -> None:
    page = unescape(write(tmp_path, full))
    assert "aspect under 0.5, region lumbar</td><td>4</td><td>0.610</td>" in page
    assert "<b>0.020</b>" in page, "significantly fewer than 95 % are found"
    assert "0.0\u00a0% of 5 plain films" in page
    assert "50.0\u00a0% of 4 films of patients with other metal" in page


def test_photos_of_a_screen_are_told_honestly(tmp_path: Path, full: ReportContent) -> None:
    page = unescape(write(tmp_path, full))
    assert "96.8\u00a0% of 31 patients correctly on the films and 87.1\u00a0% on the photos" in page
    assert "a drop of <b>+9.7 points</b> (95 % interval +0.2 to +24.9); 3 are right on the film only, 0 on the photo only." in page
    assert "The interval includes zero" not in page
    assert "4 of 31 decisions change (12.9\u00a0%, 3.6–29.8 %)." in page
    assert "identified on the film, " not in page  # none was
    assert "<td>these, photographed</td><td>62</td><td>0.790</td>" in page
    assert '<td class="left">glare</td><td class="left">0.021–0.15</td><td>31</td>' in page
    assert "on the photos refused: no construct found" in page
    assert "film, photo, straightened. angle 12, glare 0.1." in page
    assert "real phones and screens may be worse" not in page  # some of them are real


def test_the_papers_tables_are_laid_out_as_printed(tmp_path: Path, full: ReportContent) -> None:
    page = write(tmp_path, full)
    single = table(page, "Table 2. Single models, brand by brand")
    assert single[0] == ["", "AP|n 3", "Lateral|n 3", "Average"]
    assert single[1] == ["Accuracy", "0.6667", "1.0000", "0.8333"]
    assert [row[0] for row in single if len(row) == 1] == ["Precision", "Sensitivity", "F1 score", "AUC"]
    assert single[4:8] == [
        ["a", "1.0000", "1.0000", "1.0000"],
        ["b", "0.5000", "1.0000", "0.7500"],
        ["Macro-average", "0.7500", "1.0000", "0.8750"],
        ["Micro-average", "0.6667", "1.0000", "0.8333"],
    ]
    assert table(page, "Table 3. Ensembles, brand by brand")[0] == ["", "All|n 3", "AP + Lateral|n 3", "Average"]
    assert table(page, "Table 4. Single models and ensembles, on average")[1] == ["Accuracy", "0.8333", "1.0000", "+0.1667"]
    assert table(page, "Table S1. Single models, brand by brand, with a crosslink")[5] == ["b", "–", "–", "–"]
    readers = table(page, "Table 5. Readers and models on the same 27 patients")
    assert readers[1:] == [
        ["Readers"],
        ["R1", "spine surgeon", "27", "22", "81.5\u00a0%|61.9–93.7", "28", "0.062"],
        ["R6", "", "27", "10", "37.0\u00a0%|19.4–57.6", "–", "<\u00a00.001"],
        ["Ensembles"],
        ["ap+lateral", "", "27", "27", "100.0\u00a0%|87.2–100.0", "–", "–"],
    ]
    assert "spine surgeon 82.3\u00a0% ± 4.7\u00a0% (4)." in page


def test_comparisons_and_drops_are_signed_and_set_off(tmp_path: Path, full: ReportContent) -> None:
    page = write(tmp_path, full)
    triangle = page[page.index('id="comparisons"') : page.index('id="gradcam"')]
    assert 'title="106 patients: 9 right only with lateral, 1 only with ap"><b>0.021</b><small>9 : 1</small>' in triangle
    assert "<b>&lt;\u00a00.001</b><small>16 : 0</small>" in triangle
    assert '<td title="106 patients: 2 right only with ap+lateral, 2 only with lateral">1.000<small>2 : 2</small>' in triangle
    external = page[page.index('id="external"') : page.index('id="readers"')]
    assert "<td>+3.3<small>\u22128.0 to +15.0</small></td>" in external
    assert "<td>\u22120.004<small>\u22120.031 to +0.000</small></td>" in external
    assert "40 rows in the file" in external
    assert "100.0\u00a0%" in external
    assert "22.2\u00a0%<small>of 9</small>" in page


def test_names_from_files_are_escaped(tmp_path: Path, content: ReportContent) -> None:
    page = write(tmp_path, content)
    assert "<p1>" not in page
    assert "&lt;p1&gt;" in page


def test_nothing_is_called_certain(tmp_path: Path, content: ReportContent) -> None:
    page = write(tmp_path, content)
    assert "<b>a</b>, &gt;\u00a099\u00a0%." in page
    assert "3 of 3; 95 % interval 29.2–100.0 %" in page  # 0.025 ** (1 / 3)
    assert "up to 70.8\u00a0% errors are still compatible with 3 patients" in page


def test_a_patient_with_several_rows_counts_once(tmp_path: Path, content: ReportContent) -> None:
    """Of two patients with four rows one is right with both: Clopper and Pearson's 1 of 2 is 1.3 to 98.7 %."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    model = score_predictions("ab", "aabb", probabilities, ["1", "1", "2", "2"], {"crosslink": [None] * 4}, resamples=3)
    page = write(tmp_path, replace(content, metrics={**content.metrics, "models": {content.headline: model}}))
    assert "<strong>50.0\u00a0%</strong> <p>of 2 simulated test patients had" in page
    assert "1 of 2; 95 % interval 1.3–98.7 %" in page
    assert "They have 4 rows; a patient with several is right when every row is." in page
    assert "<td>2<small>4 rows</small></td>" in page


def test_rows_in_words() -> None:
    rows = {"file": 9, "excluded": {"too dark": 2}, "other_splits": {"train": 3}, "unseen": {}, "without_construct": 1, "scored": 3}
    assert describe_rows(rows, PEDICLE_SCREWS) == [
        "9 rows in the file",
        "2 excluded (too dark: 2)",
        "3 of other splits (train: 3)",
        "1 without a construct, for the detector only",
        "3 scored",
    ]
