"""Evaluation of a run that can be known by heart (see grey_run.py)."""

from __future__ import annotations

import csv
import hashlib
import html
import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grey_run import FOUND_BOX, HALF_BOX, SIDE, UNFOUND, make_study, replace_run, write_studies
from pedicle_screws import VIEWS
from PIL import Image

from edgekit.cli import run as edgekit_command
from edgekit.errors import InputError
from edgekit.evaluation import answers, charts, cohort
from edgekit.evaluation.predictions import read_predictions
from edgekit.evaluation.study import evaluate_run, score_file
from edgekit.journal import Journal
from edgekit.models import runfolder
from edgekit.task import INTENDED_USE, PEDICLE_SCREWS
from edgekit.types import Study


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts out: they take most of the time, and `out` has them."""
    for name in charts.__all__:
        monkeypatch.setattr(charts, name, lambda *_: {})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:  # noqa: ARG001
    replace_run(monkeypatch)
    return tmp_path / "run"


def make_cohort(folder: Path) -> Path:
    a, b, c = 20, 40, 60
    whole, half = FOUND_BOX, HALF_BOX
    rows: list[tuple[str, str | None, tuple[int | None, int | None], dict[str, Any]]] = [
        ("p1", "a", (a, a), {"crosslink": True, "boxes": (whole, half)}),  # both members right; IoU 1 and 0.5
        ("p2", "b", (a, b), {"crosslink": False, "boxes": (None, whole)}),  # ap is wrong, lateral weighs more
        ("p3", "a", (UNFOUND, UNFOUND), {"crosslink": False, "boxes": (whole, whole)}),  # nothing found
        ("p4", "c", (c, None), {"crosslink": True}),  # no lateral film
        ("p5", "x", (a, a), {"crosslink": True}),  # unseen brand
        ("p6", "none", (a, UNFOUND), {}),  # no construct: one false find of two
        ("p7", None, (b, b), {}),  # unknown brand
        ("p8", "a", (a, a), {"exclude": "two brands in one film"}),
        ("p9", "a", (a, a), {"split": "train"}),
    ]
    made = [make_study(folder, patient, brand, levels, **{"split": "test", **more}) for patient, brand, levels, more in rows]
    return write_studies(folder, made)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What evaluating the cohort wrote."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        replace_run(patch)
        evaluate_run(folder / "run", make_cohort(folder), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def metrics(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())


def test_patients_that_the_run_learnt_from_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """p4's film is the run's own, in another file; the run of today keeps the hashes, an older one doesn't."""
    table, command = make_cohort(tmp_path), ["evaluate", str(run), str(tmp_path / "studies.csv"), "--out", str(tmp_path / "out")]
    assert edgekit_command(command) == 0
    said = capsys.readouterr().err
    assert f"warning: {run} does not keep which films it learnt from" in said
    assert "can't be checked" in said
    pixels = np.array(Image.open(tmp_path / "p4-ap.png"))  # as large as the canvas
    Image.fromarray(pixels).save(tmp_path / "p4-ap.png", compress_level=0)
    run.mkdir(exist_ok=True)
    (run / "films.json").write_text(json.dumps({"sha256": [hashlib.sha256(pixels.tobytes()).hexdigest()]}))
    assert edgekit_command(command) == 0
    said = capsys.readouterr().err
    assert f"warning: {run} learnt from films of 1 test patient (equal pixels): p4;" in said
    assert "'exclude'" in said
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert found["provenance"]["learnt_from"] == {"checked": True, "patients": ["p4"]}
    table.write_text(table.read_text().replace("p4,c,1,test", "p4,c,1,validation"))
    assert edgekit_command(command) == 0
    assert "learnt from" not in capsys.readouterr().err


def test_models_are_scored_on_the_patients_that_they_could_answer_for(metrics: Any) -> None:
    models = metrics["models"]
    assert list(models) == ["ap", "lateral", "lateral-calibrated", "ap+lateral"]
    assert {name: (model["n"], model["unanswered"], model["accuracy"]) for name, model in models.items()} == {
        "ap": (4, 1, pytest.approx(2 / 4)),
        "lateral": (3, 1, pytest.approx(2 / 3)),
        "lateral-calibrated": (3, 1, pytest.approx(2 / 3)),
        "ap+lateral": (4, 1, pytest.approx(3 / 4)),
    }
    assert models["ap"]["confusion"]["matrix"] == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert {group: figures["n"] for group, figures in models["ap+lateral"]["crosslink"].items()} == {"with": 2, "without": 2}


def test_detector_is_scored_on_annotated_films_and_negatives(metrics: Any) -> None:
    detector = metrics["detector"]
    # annotated: p1 ap 1, p1 lateral 0.5, p2 lateral 1, p3 both perfect but below the threshold
    assert detector["n"] == 5
    assert detector["mean_iou"] == pytest.approx((1 + 0.5 + 1 + 0 + 0) / 5)
    assert detector["false_finds"] == pytest.approx(1 / 2)
    # at score 0.9: 3 hits of 4 boxes; at 0.1: 5 hits of 7
    assert detector["ap50"] == pytest.approx(3 / 5 * 3 / 4 + 2 / 5 * 5 / 7)


def test_a_detector_is_scored_where_no_brand_is_known(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Films of unseen brands, and of none with and without other metal, tell how well constructs are found, and no more."""
    whole, half = (FOUND_BOX, FOUND_BOX), (HALF_BOX, HALF_BOX)
    rows = [
        make_study(tmp_path, "p1", "x", (20, 20), whole, levels_operated=2),
        make_study(tmp_path, "p2", "x", (20, UNFOUND), half, levels_operated=9),
        make_study(tmp_path, "p3", "none", (20, UNFOUND), other_metal=True),
        make_study(tmp_path, "p4", "none", (UNFOUND, UNFOUND), other_metal=False),
    ]
    command = ["evaluate", str(run), str(write_studies(tmp_path, rows)), "--out", str(tmp_path / "out")]
    assert edgekit_command(command) == 0
    said = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["models"] == {}
    assert metrics["box_errors"] is None
    detector = metrics["detector"]
    assert detector["mean_iou"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert {name: (kind["n"], kind["false_finds"]) for name, kind in detector["negatives"].items()} == {
        "plain": (2, 0),
        "other_metal": (2, 0.5),
    }
    cells = {tuple(cell["cell"].items()): (cell["n"], cell["found"]) for cell in detector["cells"]}
    assert cells[("levels", "2"),] == (2, 1)
    assert cells[("levels", "8 or more"),] == (2, 0.5)
    assert cells[("view", "lateral"),] == (2, 0.5)
    assert cells[("position", "middle third"),] == (2, 1)  # HALF_BOX ends at the film's middle
    assert cells[("position", "upper third"),] == (2, 0.5)
    assert "Where it finds least" in said
    page = html.unescape((tmp_path / "out/report.html").read_text())
    assert "these figures are about finding the construct alone" in page
    assert "levels 8 or more" in page
    assert "Cohen's kappa" not in page


def test_another_site_without_a_known_brand_is_scored_by_its_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is scored at both sites: with real charts, the page has the other site's boxes and no table of drops."""
    replace_run(monkeypatch)
    (tmp_path / "there").mkdir()
    table = make_cohort(tmp_path)
    whole = (FOUND_BOX, FOUND_BOX)
    there = write_studies(tmp_path / "there", [make_study(tmp_path / "there", f"q{n}", "x", (20, 40), whole) for n in range(2)])
    metrics = evaluate_run(tmp_path / "run", table, tmp_path / "out", external=there).metrics
    assert metrics["external"]["drop"] == {}
    assert metrics["external"]["detector"]["n"] == 4
    page = (tmp_path / "out/report.html").read_text()
    assert "the other site&#39;s" in page or "the other site's" in page
    assert "A drop is the figure here" not in page


def test_photos_need_brands_to_lose(run: Path, tmp_path: Path) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, "p1", "x", (20, 20), (FOUND_BOX, FOUND_BOX))])
    with pytest.raises(InputError, match="none of the 1 rows to evaluate has a brand that the run knows"):
        evaluate_run(run, table, tmp_path / "out", photos=tmp_path / "photos.csv")


def test_without_brands_and_boxes_there_is_nothing_to_score(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, "p1", "x", (20, 20))])
    assert edgekit_command(["evaluate", str(run), str(table), "--out", str(tmp_path / "out")]) == 4
    assert "has a brand that the run knows" in capsys.readouterr().err


def test_every_two_models_are_compared_on_the_patients_of_both(metrics: Any) -> None:
    pairs = {(pair["a"], pair["b"]): (pair["n"], pair["only_a"], pair["only_b"], pair["p"]) for pair in metrics["comparisons"]}
    assert len(pairs) == 6
    assert pairs["ap", "lateral"] == (3, 0, 1, 1.0)  # p4 has no lateral film; p2 is only the lateral's; p3, not found, is nobody's
    assert pairs["ap", "ap+lateral"] == (4, 0, 1, 1.0)
    assert pairs["lateral", "ap+lateral"] == (3, 0, 0, 1.0)


def test_box_errors_are_carried_into_the_answers(metrics: Any) -> None:
    """The fake answers "c" on the half box. It finds the whole one on p1 and p2, and nothing on p3."""
    errors = metrics["box_errors"]
    assert list(errors) == ["ap", "lateral", "ap+lateral"]
    bands = {
        name: {(band["low"], band["high"]): (band["n"], band["accuracy"]) for band in model["bands"] if band["n"]}
        for name, model in errors.items()
    }
    assert [band["low"] for band in errors["ap"]["bands"]] == [0, 0.5, 0.7, 0.8, 0.9]
    assert bands["ap"] == {(0, 0.5): (1, 0), (0.9, 1): (1, 1)}  # p3 not found, p1
    assert bands["lateral"] == {
        (0, 0.5): (1, 0),
        (0.5, 0.7): (1, 1),
        (0.9, 1): (1, 1),
    }  # p3; p1's box is half of what was found, p2's all of it
    assert bands["ap+lateral"] == {(0, 0.5): (1, 0), (0.5, 0.7): (1, 1)}  # p1 by its worse film; p2 and p4 are not annotated on both
    counts = ("n", "detector_box", "true_box", "only_detector_right", "only_true_right", "p")
    assert {name: tuple(model[count] for count in counts) for name, model in errors.items()} == {
        "ap": (2, 0.5, 1.0, 0, 1, 1.0),  # the true box lets p3 be answered
        "lateral": (3, pytest.approx(2 / 3), pytest.approx(2 / 3), 1, 1, 1.0),  # and the half box makes p1 a "c"
        "ap+lateral": (2, 0.5, 0.5, 1, 1, 1.0),
    }


def test_every_row_is_accounted_for(metrics: Any, out: Path) -> None:
    provenance = metrics["provenance"]
    assert provenance["rows"] == {
        "file": 9,
        "excluded": {"two brands in one film": 1},
        "other_splits": {"train": 1},
        "unreadable": {},
        "without_construct": 1,
        "unseen": {"x": 1},
        "unknown_brand": 1,
        "scored": 4,
    }
    assert provenance["patients"] == 4
    assert provenance["films"] == {"n": 13, "simulated": 0, "unknown": 13}
    assert provenance["simulated"] is None
    assert (provenance["task"], provenance["ensemble"]) == ("pedicle-screws", "ap+lateral")
    assert provenance["studies"]["name"] == "studies.csv"
    page = (out / "report.html").read_text()
    assert page.count('class="chart"') == 6 + 3 * 2  # of the headline and of all; and of each other model its confusion and ROC
    for words in ("1 excluded (two brands in one film: 1)", "1 of brands the model does not know (x: 1)", "4 scored"):
        assert words in page


@pytest.mark.usefixtures("undrawn")
def test_a_predictions_file_scores_like_the_run_that_wrote_it(metrics: Any, out: Path, tmp_path: Path) -> None:
    for name, model in metrics["models"].items():
        file = out / f"predictions_{name}.csv"
        assert score_file(file, tmp_path / "scored").metrics == model
        assert json.loads((tmp_path / "scored/metrics.json").read_text()) == model
    rows = read_predictions(out / "predictions_ap+lateral.csv")
    assert rows.patients == ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
    assert rows.probabilities[2].tolist() == [1 / 3] * 3


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_only_the_ensemble_that_answers_says_what_it_decided(out: Path) -> None:
    rows = read_rows(out / "predictions_ap+lateral.csv")
    assert [row["row"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert {"decision", "answer", "prediction_set", "unfamiliarity"} < set(rows[0])
    nothing = rows[2]
    assert (nothing["decision"], nothing["answer"], nothing["prediction_set"]) == ("no construct found", "", "")
    assert (nothing["ap"], nothing["ap_box"]) == ("p3-ap.png", "")
    for row in rows:
        named = max("abc", key=lambda brand: float(row[f"p_{brand}"]))
        assert row["answer"] == (named if row["decision"] == "identified" else "")
    assert [row["truth"] for row in rows] == ["a", "b", "a", "c", "x", "none", ""]
    assert (rows[3]["lateral"], rows[3]["lateral_box"], rows[3]["lateral_score"]) == ("", "", "")
    assert [float(edge) for edge in rows[0]["ap_box"].split()] == pytest.approx(FOUND_BOX, abs=1e-3)
    other = read_rows(out / "predictions_lateral.csv")
    assert not {"decision", "answer", "prediction_set", "unfamiliarity"} & set(other[0])
    assert [row["row"] for row in other] == ["1", "2", "3", "5", "6", "7"]  # p4 has no lateral film


def test_beside_a_refusal_the_report_shows_no_ranking_and_no_set(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = cohort.collect_answers

    def refuse(*made: Any) -> Any:
        collected = collect(*made)
        return replace(collected, decisions=np.full(len(collected.studies), 2), prediction_sets=np.ones_like(collected.prediction_sets))

    monkeypatch.setattr(cohort, "collect_answers", refuse)
    evaluation = evaluate_run(run, make_cohort(tmp_path), tmp_path / "out")
    page = html.unescape((tmp_path / "out/report.html").read_text())
    assert [example.answer for example in evaluation.report.examples] == [None] * 3
    assert page.count("No answer: unfamiliar.") == 3
    assert "Can't exclude" not in page
    assert "Next:" not in page
    rows = read_rows(tmp_path / "out/predictions_ap+lateral.csv")
    assert {(row["decision"], row["answer"], row["prediction_set"]) for row in rows} == {("unfamiliar", "", "")}


def test_places_that_can_not_be_written_are_told_before_the_first_film(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, out = make_cohort(tmp_path), tmp_path / "out"
    asked: list[Any] = []
    ask_row = answers._ask_row
    monkeypatch.setattr(answers, "_ask_row", lambda *made: asked.append(made) or ask_row(*made))
    out.mkdir()
    for place in ("metrics.json", "report.html", "predictions_ap.csv"):
        (out / place).mkdir()
        with pytest.raises(InputError, match=place):
            evaluate_run(run, table, out)
        (out / place).rmdir()
    (out / "external").write_text("a file where a folder must be")
    with pytest.raises(FileExistsError, match="external"):
        evaluate_run(run, table, out, external=make_site(tmp_path / "site"))
    assert asked == []


def test_report_opens_with_the_chosen_ensemble_and_loads_nothing(run: Path, tmp_path: Path) -> None:
    evaluation = evaluate_run(run, make_cohort(tmp_path), tmp_path / "out")
    assert evaluation.metrics == json.loads((tmp_path / "out/metrics.json").read_text())
    page = (tmp_path / "out/report.html").read_text()
    assert "<strong>75.0\u00a0%</strong>" in page
    assert page.count(INTENDED_USE) == 2
    assert not re.search(r"""(src|href|url)\W{1,2}(https?:)?//""", page)
    assert set(re.findall(r'src="(\w+):', page)) == {"data"}
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page.lower()))
    assert {example.patient_id: (example.answer, example.right) for example in evaluation.report.examples} == {
        "p1": ("a", True),
        "p2": ("b", True),
        "p4": ("c", True),
        "p3": (None, False),
    }
    assert set(evaluation.report.examples[2].films) == {"ap"}
    assert len(page) < 3_000_000


def test_all_rows_count_when_there_is_no_split(run: Path, tmp_path: Path) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, f"p{i}", "a", (20, 20)) for i in range(3)])
    metrics = evaluate_run(run, table, tmp_path / "out").metrics
    assert metrics["models"]["ap+lateral"]["n"] == 3
    assert metrics["models"]["ap+lateral"]["macro"]["auc"] is None  # one brand has no rest
    figures = dict.fromkeys(("mean_iou", "iou_p05", "ap50", "auc", "false_finds"))
    assert metrics["detector"] == {"n": 0, "negative": 0, **figures, "negatives": {}, "cells": []}
    assert metrics["box_errors"] is None


def test_models_without_a_patient_are_named(run: Path, tmp_path: Path) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, f"p{i}", "b", (40, None)) for i in range(3)])
    metrics = evaluate_run(run, table, tmp_path / "out").metrics
    assert list(metrics["models"]) == ["ap", "ap+lateral"]
    assert metrics["provenance"]["not_scored"] == ["lateral", "lateral-calibrated"]
    assert "lateral, lateral-calibrated" in (tmp_path / "out/report.html").read_text()


def test_one_unreadable_film_of_many_is_left_out_and_listed(run: Path, tmp_path: Path) -> None:
    table = make_cohort(tmp_path)
    whole = evaluate_run(run, table, tmp_path / "whole").metrics
    (tmp_path / "p2-lateral.png").write_bytes(b"\x89PNG and no more")
    metrics = evaluate_run(run, table, tmp_path / "out").metrics
    rows = metrics["provenance"]["rows"]
    assert rows["unreadable"] == {"p2-lateral.png": "not a DICOM, PNG or JPEG file."}
    assert str(tmp_path) not in (tmp_path / "out/metrics.json").read_text()
    assert (rows["scored"], whole["provenance"]["rows"]["scored"]) == (3, 4)
    assert metrics["models"]["ap+lateral"]["accuracy"] == pytest.approx(2 / 3)  # p1 and p4, not p3
    assert "1 that can't be read" in html.unescape((tmp_path / "out/report.html").read_text())
    for table in (tmp_path / "out").glob("predictions_*.csv"):
        assert "p2" not in read_predictions(table).patients


def test_more_unreadable_films_are_an_error(run: Path, tmp_path: Path) -> None:
    table = make_cohort(tmp_path)
    for film in ("p2-lateral.png", "p5-ap.png"):
        (tmp_path / film).write_bytes(b"\x89PNG and no more")
    with pytest.raises(InputError, match=r"p2-lateral(.|\n)*p5-ap"):
        evaluate_run(run, table, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["answers.partial"]


def make_site(folder: Path) -> Path:
    """Four patients elsewhere; the lateral member errs on one, the ap member on two."""
    folder.mkdir()
    levels = {"e1": ("a", (20, 20)), "e2": ("b", (40, 40)), "e3": ("c", (20, 60)), "e4": ("c", (20, 40))}
    return write_studies(folder, [make_study(folder, patient, brand, films) for patient, (brand, films) in levels.items()])


def test_external_validation_goes_the_same_way_and_gives_the_drop(run: Path, tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    metrics = evaluate_run(run, make_cohort(tmp_path), tmp_path / "out", external=site).metrics
    external = metrics["external"]
    alone = evaluate_run(run, site, tmp_path / "alone").metrics
    for part in ("models", "detector", "comparisons", "box_errors"):
        assert external[part] == alone[part]
    for part in ("studies", "rows", "films", "simulated"):
        assert external[part] == alone["provenance"][part]
    assert list(external["drop"]) == list(metrics["models"])
    assert external["drop"]["ap"]["accuracy"]["value"] == pytest.approx(2 / 4 - 2 / 4)
    assert external["drop"]["lateral"]["accuracy"]["value"] == pytest.approx(2 / 3 - 3 / 4)
    low, high = external["drop"]["lateral"]["accuracy"]["ci95"]
    assert low < -0.4
    assert high > 0.2
    for name in metrics["models"]:
        file = f"predictions_{name}.csv"
        assert (tmp_path / "out/external" / file).read_text() == (tmp_path / "alone" / file).read_text()
        assert read_predictions(tmp_path / "out" / file).patients != read_predictions(tmp_path / "out/external" / file).patients


def test_cohorts_are_independent(run: Path, tmp_path: Path) -> None:
    sites = [make_site(tmp_path / name) for name in ("one", "other")]
    drop = evaluate_run(run, sites[0], tmp_path / "out", external=sites[1]).metrics["external"]["drop"]["ap"]["accuracy"]
    assert drop["value"] == 0
    # Wilson's limits of 2 of 4 are 1/2 +- z / (2 sqrt(4 + z^2)), and Newcombe's distance is theirs by the root of two
    reach = 1.959964 / (2 * np.sqrt(4 + 1.959964**2)) * np.sqrt(2)
    assert drop["ci95"] == pytest.approx([-reach, reach], abs=1e-6)


def test_external_rows_of_the_same_table(run: Path, tmp_path: Path) -> None:
    rows = [make_study(tmp_path, f"p{i}", "a", (20, 20), split=split) for i, split in enumerate(("test", "external", "external", "train"))]
    table = write_studies(tmp_path, rows)
    metrics = evaluate_run(run, table, tmp_path / "out", external=table).metrics
    assert (metrics["provenance"]["patients"], metrics["external"]["models"]["ap"]["n"]) == (1, 2)
    assert metrics["external"]["rows"]["other_splits"] == {"test": 1, "train": 1}
    assert metrics["external"]["drop"]["ap"]["macro_auc"] == {"value": None, "ci95": None}


def test_the_same_films_validate_nothing(run: Path, tmp_path: Path) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, f"p{i}", "a", (20, 20)) for i in range(3)])
    with pytest.raises(InputError, match="6 films are both"):
        evaluate_run(run, table, tmp_path / "out", external=table)


def make_readers(folder: Path, *rows: str) -> Path:
    (folder / "readers.csv").write_text("\n".join(["reader,experience,patient_id,brand,seconds", *rows]))
    return folder / "readers.csv"


def test_readers_meet_every_model_on_their_patients(run: Path, tmp_path: Path) -> None:
    rows = [make_study(tmp_path, "t1", "a", (20, 20), split="test")]
    levels = {"r1": ("a", (20, 20)), "r2": ("b", (20, 40)), "r3": ("c", (60, None)), "r4": ("none", (20, 20)), "r5": ("x", (20, 20))}
    rows += [make_study(tmp_path, patient, brand, films, split="readers") for patient, (brand, films) in levels.items()]
    file = make_readers(
        tmp_path, "anna,surgeon,r1,a,10", "anna,surgeon,r2,b,20", "anna,surgeon,r3,,30", "anna,surgeon,r5,x,20", "ben,student,r1,b,"
    )
    metrics = evaluate_run(run, write_studies(tmp_path, rows), tmp_path / "out", readers=file).metrics
    assert metrics["provenance"]["patients"] == 1
    readers = metrics["readers"]
    assert readers["n"] == 4  # not r4: there is nothing to name
    assert {reader["reader"]: (reader["n"], reader["correct"]) for reader in readers["readers"]} == {"anna": (4, 3), "ben": (1, 0)}
    # ap takes r2 for "a"; lateral was not asked about r3; nobody was asked for the brand that the run does not know
    assert {model["model"]: (model["n"], model["correct"]) for model in readers["models"]} == {
        "ap": (3, 2), "lateral": (2, 2), "lateral-calibrated": (2, 2), "ap+lateral": (3, 3)
    }  # fmt: skip
    duels = {(duel["reader"], duel["model"]): (duel["n"], duel["only_reader"], duel["only_model"]) for duel in readers["comparisons"]}
    assert duels["anna", "ap"] == (3, 1, 1)
    assert duels["anna", "ap+lateral"] == (3, 0, 1)
    assert read_predictions(tmp_path / "out/readers/predictions_ap.csv").patients == ("r1", "r2", "r3", "r4", "r5")


def test_readers_need_one_row_a_patient(run: Path, tmp_path: Path) -> None:
    file = make_readers(tmp_path, "anna,surgeon,r1,a,10")
    rows = [make_study(tmp_path, "t1", "a", (20, 20), split="test")]
    with pytest.raises(InputError, match="no rows of split 'readers'"):
        evaluate_run(run, write_studies(tmp_path, rows), tmp_path / "out", readers=file)
    rows += [make_study(tmp_path, "r1", "a", films, split="readers") for films in ((20, None), (None, 20))]
    with pytest.raises(InputError, match="several rows of split 'readers': r1"):
        evaluate_run(run, write_studies(tmp_path, rows), tmp_path / "out", readers=file)


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ({"split": "train", "brand": "a"}, "no test rows"),
        ({"split": "test", "brand": "x"}, "none of the 1 rows to evaluate has a brand that the run knows"),
    ],
)
def test_nothing_to_score(run: Path, tmp_path: Path, study: dict[str, Any], expected: str) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, "p1", levels=(20, None), **study)])
    with pytest.raises(InputError, match=expected):
        evaluate_run(run, table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_simulated_films_are_called_simulated(run: Path, tmp_path: Path) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    def write_film(name: str, manufacturer: str) -> Path:
        film = Dataset()
        film.file_meta = FileMetaDataset()
        film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
        film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = "1.2.3"
        film.Manufacturer = manufacturer
        film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
        film.Rows = film.Columns = SIDE
        film.BitsAllocated = film.BitsStored = 8
        film.HighBit, film.PixelRepresentation = 7, 0
        film.WindowCenter, film.WindowWidth = 128, 256
        film.PixelData = np.repeat(np.array([10, 30], np.uint8), SIDE * SIDE // 2).tobytes()
        film.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    phantom, device = write_film("phantom.dcm", "edgekit phantom"), write_film("device.dcm", "A maker")
    for films, expected in (((phantom, phantom), True), ((device, device), False), ((phantom, device), True)):
        table = write_studies(tmp_path, [Study("p1", "a", films={"ap": films[0], "lateral": films[1]})])
        evaluate_run(run, table, tmp_path / "out")
        assert json.loads((tmp_path / "out/metrics.json").read_text())["provenance"]["simulated"] is expected
        assert ("simulated test patients" in " ".join((tmp_path / "out/report.html").read_text().split())) is expected


@pytest.mark.usefixtures("undrawn")
def test_a_real_pipeline_and_its_ensembles_give_one_answer(tiny_run: Path, tmp_path: Path) -> None:
    """Networks with random weights: what is scored for an ensemble is what its own graph answers."""
    from edgekit.canvases import stream_inputs
    from edgekit.studies import read_studies

    random = np.random.default_rng(0)
    films = []
    for number in range(4):
        films.append(tmp_path / f"noise{number}.png")
        Image.fromarray(random.integers(0, 256, (90, 128), np.uint8)).save(films[-1])
    table = write_studies(
        tmp_path,
        [
            Study("p1", "design-a", films={"ap": films[0], "lateral": films[1]}, boxes={"ap": (10, 10, 60, 80), "lateral": None}),
            Study("p2", "design-b", films={"ap": films[2], "lateral": None}),
            Study("p3", "design-c", films={"ap": None, "lateral": films[3]}),
        ],
    )
    metrics = evaluate_run(tiny_run, table, tmp_path / "out").metrics
    models = metrics["models"]
    assert {pair[side] for pair in metrics["comparisons"] for side in "ab"} == set(models) - {"merge_dual"}
    merges = ["merge_ap", "merge_lateral", "merge_dual", "merge_mean"]
    assert list(models) == ["ap", "lateral", "concat", *merges, "ap-calibrated", "lateral-calibrated", "ap+lateral", "all"]
    assert {name: models[name]["n"] for name in ("concat", *merges)} == {
        "concat": 1, "merge_ap": 2, "merge_lateral": 2, "merge_dual": 4, "merge_mean": 3
    }  # fmt: skip
    pipeline = runfolder.load_pipeline(tiny_run, "all")
    written = read_predictions(tmp_path / "out/predictions_all.csv")
    for row, (_, inputs, _) in enumerate(stream_inputs(read_studies(table), VIEWS, pipeline.spec.canvas_side, "asking")):
        with torch.inference_mode():
            answer = pipeline(*(torch.from_numpy(inputs[tensor]) for tensor in ("ap", "lateral", "present")))[0]
        assert written.probabilities[row] == pytest.approx(answer.numpy(), abs=1e-5)

    # what merge says about one film is its row of the graph when only that film is given
    dual = read_predictions(tmp_path / "out/predictions_merge_dual.csv")
    assert dual.patients == ("p1", "p1", "p2", "p3")
    films_alone = [(0, (1.0, 0.0)), (0, (0.0, 1.0)), (1, (1.0, 0.0)), (2, (0.0, 1.0))]
    rows = list(stream_inputs(read_studies(table), VIEWS, pipeline.spec.canvas_side, "asking"))
    for given, (row, present) in zip(dual.probabilities, films_alone, strict=True):
        inputs = rows[row][1]
        with torch.inference_mode():
            members = pipeline(torch.from_numpy(inputs["ap"]), torch.from_numpy(inputs["lateral"]), torch.tensor(present))[1]
        assert given == pytest.approx(members[pipeline.spec.members.index("merge")].numpy(), abs=1e-5)
    mean = read_predictions(tmp_path / "out/predictions_merge_mean.csv")
    assert mean.probabilities[0] == pytest.approx(dual.probabilities[:2].mean(axis=0), abs=1e-5)
    for row, name in ((0, "merge_ap"), (1, "merge_lateral")):
        assert read_predictions(tmp_path / f"out/predictions_{name}.csv").probabilities[0] == pytest.approx(
            dual.probabilities[row], abs=1e-9
        )


@pytest.mark.usefixtures("undrawn")
def test_intervals_of_merge_dual_resample_patients(tiny_run: Path, tmp_path: Path) -> None:
    """Where both films are the same picture, the second adds no evidence, and the interval must not shrink."""
    random = np.random.default_rng(1)
    rows = []
    for number in range(9):
        film = tmp_path / f"noise{number}.png"
        Image.fromarray(random.integers(0, 256, (90, 128), np.uint8)).save(film)
        rows.append(Study(f"p{number}", f"design-{'abc'[number % 3]}", films={"ap": film, "lateral": film}))
    models = evaluate_run(tiny_run, write_studies(tmp_path, rows), tmp_path / "out").metrics["models"]
    assert (models["merge_ap"]["n"], models["merge_dual"]["n"]) == (9, 18)
    assert 0 < models["merge_ap"]["accuracy"] < 1
    assert models["merge_dual"]["ci95"]["accuracy"] == models["merge_ap"]["ci95"]["accuracy"]


@pytest.mark.usefixtures("undrawn")
def test_the_box_decides_what_the_members_see(tiny_run: Path, tmp_path: Path) -> None:
    """Networks with random weights: the detector's own boxes, given as the true ones, give the members' own rows; no box, no answer."""
    from edgekit.canvases import stream_inputs
    from edgekit.evaluation.answers import Answers, RowAnswer, ask_models, ask_rows, collect_answers

    def ask(study: Study) -> Answers:
        answered: dict[int, RowAnswer] = {}
        films = ((0, *row) for row in stream_inputs([study], VIEWS, pipeline.spec.canvas_side, "asking"))
        ask_rows(pipeline, films, Journal(tmp_path / "answers", {}), answered)
        return collect_answers(pipeline, [study], [answered[0]])

    random = np.random.default_rng(0)
    film = tmp_path / "noise.png"
    Image.fromarray(random.integers(0, 256, (128, 128), np.uint8)).save(film)  # as large as the canvas: film pixels are canvas pixels
    pipeline = runfolder.load_members_pipeline(tiny_run)
    found = ask(Study("p1", "design-a", films={"ap": film, "lateral": film}))
    ap_box, lateral_box = (tuple(box) for box in found.boxes[0].tolist())
    boxed = ask(Study("p1", "design-a", films={"ap": film, "lateral": film}, boxes={"ap": ap_box, "lateral": lateral_box}))
    assert boxed.members_on_true_boxes[0] == pytest.approx(found.members[0], abs=1e-5)
    pipeline.spec = replace(pipeline.spec, box_threshold=2.0)
    nothing_found = ask_models(ask(Study("p1", "design-a", films={"ap": film, "lateral": film})), PEDICLE_SCREWS, pipeline.spec.members, [])
    for name in ("ap", "merge_ap", "merge_dual", "merge_mean"):
        assert nothing_found[name].probabilities == pytest.approx(1 / 3, abs=0)
    moved = ask(Study("p1", "design-a", films={"ap": film, "lateral": film}, boxes={"ap": (5, 5, 40, 40), "lateral": None}))
    assert (moved.members_on_true_boxes[0, 1:3] == 0).all()  # lateral and concat: as if the detector had not found the lateral
    assert moved.members_on_true_boxes[0, 0] != pytest.approx(found.members[0, 0], abs=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_evaluation_ends_with_the_same_figures(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks with random weights: what was answered before the interruption is kept to the last bit."""
    random = np.random.default_rng(2)
    rows = []
    for number in range(6):
        films = [tmp_path / f"{number}-{view}.png" for view in ("ap", "lateral")]
        for film in films:
            Image.fromarray(random.integers(0, 256, (90, 128), np.uint8)).save(film)
        box = (5.0, 6.5, 80.25, 70.0) if number % 2 else None
        rows.append(
            Study(
                f"p{number}", f"design-{'abc'[number % 3]}", films={"ap": films[0], "lateral": films[1]}, boxes={"ap": box, "lateral": box}
            )
        )
    table = write_studies(tmp_path, rows)
    whole = evaluate_run(tiny_run, table, tmp_path / "whole")
    append = Journal.append

    def append_some(journal: Journal, entry: dict[str, Any]) -> None:
        if entry["place"] == 4:
            raise KeyboardInterrupt
        append(journal, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append_some)
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(tiny_run, table, tmp_path / "out")
    journal = tmp_path / "out/answers.partial"
    journal.write_bytes(journal.read_bytes()[:-100])
    asked: list[str] = []
    ask_row = answers._ask_row

    def ask_noted(pipeline: Any, study: Study, *made: Any) -> Any:
        asked.append(study.patient_id)
        return ask_row(pipeline, study, *made)

    monkeypatch.setattr(answers, "_ask_row", ask_noted)
    resumed = evaluate_run(tiny_run, table, tmp_path / "out")
    assert sorted(asked) == ["p3", "p4", "p5"], "of the four that were kept, the last was cut off"
    for evaluation in (whole, resumed):
        del evaluation.metrics["provenance"]["date"]
    assert resumed.metrics == whole.metrics
    assert [asdict(each) for each in resumed.report.examples] == [asdict(each) for each in whole.report.examples]  # with boxes and heatmaps
    for file in (tmp_path / "whole").glob("predictions_*.csv"):
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert not journal.exists()


def test_answers_of_another_run_or_table_are_not_gone_on_with(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_cohort(tmp_path)
    for film in ("p2-lateral.png", "p5-ap.png"):
        shutil.copyfile(tmp_path / film, tmp_path / f"kept-{film}")
        (tmp_path / film).write_bytes(b"no film")
    with pytest.raises(InputError, match="2 of 7 rows"):
        evaluate_run(run, table, tmp_path / "out")
    for film in ("p2-lateral.png", "p5-ap.png"):
        (tmp_path / f"kept-{film}").replace(tmp_path / film)
    with monkeypatch.context() as patch:
        patch.setattr(runfolder, "run_hash", lambda _: "1" * 64)
        with pytest.raises(InputError, match="run 000000000000, now 111111111111") as error:
            evaluate_run(run, table, tmp_path / "out")
    assert f"delete {tmp_path / 'out/answers.partial'}" in error.value.remedy
    content = table.read_text()
    table.write_text(content.replace("p1,a", "p1,b"))
    with pytest.raises(InputError, match="table"):
        evaluate_run(run, table, tmp_path / "out")
    table.write_text(content)
    assert evaluate_run(run, table, tmp_path / "out").metrics["models"]["ap+lateral"]["n"] == 4


def test_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit_command(["evaluate", str(run), str(make_cohort(tmp_path)), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out/metrics.json").read_text())
    site = make_site(tmp_path / "site")
    table = str(tmp_path / "studies.csv")
    assert edgekit_command(["evaluate", str(run), table, "--out", str(tmp_path / "both"), "--external", str(site)]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.split("External validation")[1].splitlines() if "lateral-calibrated" in line)
    assert [cell.strip() for cell in line.split("│")[2:6]] == ["3", "4", "0.750", "-0.083"]

    file = tmp_path / "out/predictions_ap.csv"
    assert edgekit_command(["score", str(file), "--out", str(tmp_path / "scored")]) == 0
    printed = capsys.readouterr().out
    assert "0.500" in printed
    assert str(tmp_path / "scored/report.html") in printed

    with file.open(newline="") as lines:
        table = list(csv.reader(lines))
    table[2][table[0].index("p_a")] = "7"
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows(table)
    assert edgekit_command(["score", str(file), "--out", str(tmp_path / "faulty")]) == 4
    assert "line 3, p_a: '7'" in capsys.readouterr().err
    assert not (tmp_path / "faulty").exists()
