"""A task that is not the study's, from end to end: one view, whole films, two members, and words of its own."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit.canvases import stream_inputs
from edgekit.cli import run as edgekit_command
from edgekit.errors import InputError
from edgekit.evaluation.predictions import read_predictions
from edgekit.evaluation.study import evaluate_run, score_file
from edgekit.files import write_json
from edgekit.models import runfolder
from edgekit.models.ensemble import Case, Ensemble
from edgekit.studies import read_studies, write_studies
from edgekit.task import parse_task
from edgekit.types import Study

MAKERS = ("one", "two", "three")
SIDE = 64
HIPS = parse_task(
    {
        "name": "hips",
        "question": "Which maker made this stem?",
        "found": "stem",
        "told": "maker",
        "views": ["front"],
        "locate": False,
        "covariate": "bone_cement",
        "members": {name: {"views": ["front"], "layout": "single"} for name in ("narrow", "wide")},
        "intended_use": "Only to be tested.",
    },
    "hips",
)


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without a detector; its two members have the random weights of two of `tiny_run`."""
    random = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("hips") / "run"
    folder.mkdir()
    names = tuple(member.name for member in HIPS.members)
    for name, member in zip(names, ("ap", "lateral"), strict=True):
        shutil.copyfile(tiny_run / f"member_{member}.safetensors", folder / f"member_{name}.safetensors")

    def combine(*members: str) -> Ensemble:
        coefficients = random.normal(size=(3, 3 * len(members))).astype(np.float32) * 3
        return Ensemble("+".join(members), members, {"front": Case(members, coefficients, np.zeros(3, np.float32), 1.0, 0.2, 0.9)}, 1.0)

    runfolder.save_ensembles(folder, [combine("narrow"), combine(*names)])
    settings = runfolder.RunSettings(
        brands=MAKERS,
        canvas_side=SIDE,
        crop_side=SIDE,
        architectures=dict.fromkeys(names, "efficientnet_lite0"),
        ensemble="narrow+wide",
        view_margin=0.3,
        coverage=0.95,
        crop_margin=0.0,
        task=HIPS,
    )
    runfolder.save_settings(folder, settings)
    write_json(folder / "provenance.json", {"studies": {"path": "", "sha256": ""}})
    return folder


@pytest.fixture(scope="module")
def table(run: Path) -> Path:
    """Test patients, another site's and the readers'; the table has a view that the task does not look at."""
    folder, random = run.parent, np.random.default_rng(2)
    splits = [*["test"] * 8, *["external"] * 4, *["readers"] * 3, "test"]
    rows, photos = [], []
    for number, split in enumerate(splits):
        films: dict[str, Path | None] = {"front": folder / f"p{number}-front.png", "side": folder / f"p{number}-side.png"}
        for film in films.values():
            Image.fromarray(random.integers(10, 256, (64, 50), np.uint8)).save(film)
        maker = "none" if number == 6 else MAKERS[number % 3]
        last = number == len(splits) - 1
        has = {"bone_cement": (True, False, None)[number % 2 if number < 8 else 2]}
        boxes = {"front": (5.0, 5.0, 40.0, 40.0), "side": None} if maker != "none" else {"front": None, "side": None}
        rows.append(
            Study(f"p{number}", maker, has, split, films | ({"front": None} if last else {}), boxes | ({"front": None} if last else {}))
        )
        if split == "test" and not last:
            photo = Image.new("L", (170, 190), 255)
            photo.paste(Image.open(films["front"]).resize((100, 128)), (20, 30))
            photo.save(folder / f"p{number}-photo.png")
            corners = (20, 30, 120, 30, 120, 158, 20, 158)
            photos.append((f"p{number}", "front", f"p{number}-photo.png", 170, 190, *corners, "mild", number, "", 0.1, 1.0))
    write_studies(folder / "studies.csv", rows)
    with (folder / "photos.csv").open("w", newline="") as file:
        header = "patient_id view file photo_width photo_height x0 y0 x1 y1 x2 y2 x3 y3 severity tilt_degrees moire glare blur_px"
        csv.writer(file).writerows([header.split(), *photos])
    answers = ["reader,experience,patient_id,brand,seconds", "anna,surgeon,p12,one,10", "anna,surgeon,p13,two,12", "ben,,p14,one,"]
    (folder / "readers.csv").write_text("\n".join(answers))
    return folder / "studies.csv"


@pytest.fixture(scope="module")
def out(run: Path, table: Path) -> Path:
    folder = run.parent
    evaluate_run(run, table, folder / "out", external=table, readers=folder / "readers.csv", photos=folder / "photos.csv")
    return folder / "out"


@pytest.fixture(scope="module")
def metrics(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())


def test_every_model_is_scored_and_nothing_is_found(metrics: Any) -> None:
    for scores in (metrics, metrics["external"], metrics["photos"]):
        assert list(scores["models"]) == ["narrow", "wide", "narrow-calibrated", "narrow+wide"]
        assert scores["detector"] is None
        assert scores["box_errors"] is None
    assert len(metrics["comparisons"]) == 6
    assert metrics["provenance"]["task"] == "hips"
    assert list(metrics["photos"]["drop"]) == list(metrics["models"])
    assert metrics["readers"]["n"] == 3
    assert {model["model"] for model in metrics["readers"]["models"]} == set(metrics["models"])


def test_figures_are_told_apart_by_the_tasks_covariate(metrics: Any) -> None:
    model = metrics["models"]["narrow+wide"]
    assert {group: scored["n"] for group, scored in model["bone_cement"].items()} == {"with": 3, "without": 4}
    assert metrics["external"]["models"]["wide"]["bone_cement"] == {"with": None, "without": None}
    assert "crosslink" not in json.dumps(metrics)


def test_rows_without_a_film_of_the_tasks_view_are_left_out(metrics: Any, out: Path) -> None:
    rows = metrics["provenance"]["rows"]
    assert (rows["without_film"], rows["scored"], rows["without_construct"]) == (1, 7, 1)
    assert rows["other_splits"] == {"external": 4, "readers": 3}
    assert metrics["provenance"]["films"]["n"] == 8, "the films of the other view are not counted"
    assert read_predictions(out / "predictions_wide.csv").patients == tuple(f"p{number}" for number in range(8))


def test_predictions_are_what_the_graph_answers(run: Path, table: Path, out: Path) -> None:
    with (out / "predictions_narrow+wide.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [name for name in rows[0] if name.startswith(("has", "front"))] == ["has_bone_cement", "front", "front_box", "front_score"]
    assert not [name for name in rows[0] if name.startswith(("side", "ap", "lateral"))]
    assert (rows[0]["front"], rows[0]["front_score"]) == ("p0-front.png", "1.0")
    assert [float(edge) for edge in rows[0]["front_box"].split()] == pytest.approx([0, 0, 50, 64], abs=1)
    pipeline = runfolder.load_pipeline(run, "narrow+wide")
    written = read_predictions(out / "predictions_narrow+wide.csv")
    for row, (_, inputs, _) in enumerate(stream_inputs(read_studies(table)[:8], HIPS.views, SIDE, "asking")):
        with torch.inference_mode():
            answer = pipeline(*(torch.from_numpy(inputs[name]) for name in ("front", "present")))[0]
        assert written.probabilities[row] == pytest.approx(answer.numpy(), abs=1e-5)


def test_a_predictions_file_scores_like_the_run(metrics: Any, out: Path, tmp_path: Path) -> None:
    for name, model in metrics["models"].items():
        assert score_file(out / f"predictions_{name}.csv", tmp_path / "scored").metrics == model
    page = html.unescape((tmp_path / "scored/report.html").read_text())
    assert "<h1>Which brand is this?</h1>" in page, "the file does not say what was asked"
    assert "With and without a bone cement." in page
    assert "crosslink" not in page


def test_the_report_speaks_the_tasks_words(out: Path) -> None:
    page = (out / "report.html").read_text()
    charts = page.count('class="chart"')
    shown = html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|base64,[^\"]*|<[^>]*>", " ", page, flags=re.DOTALL)))
    assert charts == 3 + 3 + 3 * 2 + 2, "of the headline; models, site and photos; of the other models; of the other site. None of boxes"
    for words in (
        "Which maker made this stem?",
        "Only to be tested.",
        "had their maker named correctly by",
        "With and without a bone cement.",
        "narrow+wide, maker by maker",
        "1 without a stem, not scored",
        "1 without a film of front",
        "Grad-CAM",
    ):
        assert words in shown, words
    assert not re.search(r"brand|crosslink|construct|screw|paper|Yao|Table \d|detector|IoU|lateral|\bAP\b", shown)
    ids = re.findall(r'id="(\w+)"', page)
    assert "detector" not in ids
    assert {"films", "models", "paper", "external", "photos", "readers", "gradcam"} <= set(ids)


def test_a_table_must_have_the_tasks_views(run: Path, table: Path, tmp_path: Path) -> None:
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(tmp_path / "film.png")
    film, boxes = tmp_path / "film.png", {"side": None}
    write_studies(tmp_path / "studies.csv", [Study("p1", "one", films={"side": film}, boxes=boxes)])
    assert edgekit_command(["evaluate", str(run), str(tmp_path / "studies.csv"), "--out", str(tmp_path / "out")]) == 4
    with pytest.raises(InputError, match="the task has the views front, and the table lacks front, front_box"):
        evaluate_run(run, tmp_path / "studies.csv", tmp_path / "out")
    write_studies(tmp_path / "studies.csv", [Study("p1", "one", films={"front": None, "side": film}, boxes={"front": None, **boxes})])
    with pytest.raises(InputError, match="none of the 1 rows asked about has a film of front"):
        evaluate_run(run, tmp_path / "studies.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert table.is_file()
