"""Photos of a screen, evaluated by a run that can be known by heart (see grey_run.py)."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grey_run import FOUND_BOX, SIDE, UNFOUND, Pipeline, make_study, replace_run, write_studies
from pedicle_screws import VIEWS
from PIL import Image, ImageDraw

from edgekit.cli import run as edgekit_command
from edgekit.errors import InputError
from edgekit.evaluation import charts
from edgekit.evaluation.photos import COLUMNS, match_photos, read_photos
from edgekit.evaluation.predictions import read_predictions
from edgekit.evaluation.study import evaluate_run
from edgekit.types import Study

FRONTAL = (20, 30, 148, 30, 148, 158, 20, 158)
"""Corners of a film that appears twice as large as it is."""
Row = dict[str, Any]


def shoot(folder: Path, patient: str, view: str, level: int, tilt: float = 0.0, **more: Any) -> Row:
    """Paint a photo of a film of this grey level before a white wall, and return its row."""
    photo = Image.new("L", (170, 190), 255)
    ImageDraw.Draw(photo).rectangle((19, 29, 149, 159), fill=level)
    file = folder / f"{patient}-{view}-photo{len(list(folder.glob('*-photo*')))}.png"
    photo.save(file)
    corners = dict(zip(("x0", "y0", "x1", "y1", "x2", "y2", "x3", "y3"), FRONTAL, strict=True))
    known = {"tilt_degrees": tilt, "moire": "", "glare": 0.1, "blur_px": 1.0, "severity": "mild"}
    return {"patient_id": patient, "view": view, "file": file.name, "photo_width": 170, "photo_height": 190, **corners, **known, **more}


def write_photos(folder: Path, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> Path:
    with (folder / "photos.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return folder / "photos.csv"


A, B, C = 20, 40, 60
COHORT: dict[str, tuple[str, tuple[int | None, int | None], tuple[int | None, int | None], tuple[float, float]]] = {
    # brand, levels of the films, of the photos, tilt of both
    "p1": ("a", (A, A), (A, A), (1, 2)),
    "p2": ("b", (B, B), (B, A), (9, 8)),  # the lateral, which weighs more, becomes an "a"
    "p3": ("c", (C, C), (UNFOUND, UNFOUND), (12, 1)),  # nothing is found on the photos
    "p4": ("a", (A, B), (A, A), (2, 6)),  # wrong on the film, right on the photo
    "p5": ("c", (C, None), (C, None), (3, 0)),  # no lateral film
    "p6": ("b", (B, B), (B, B), (4, 7)),
    "p7": ("x", (A, A), (B, B), (5, 5)),  # a brand that the run does not know
}


def make_tables(folder: Path) -> tuple[Path, Path]:
    boxes = (FOUND_BOX, None)
    studies = [make_study(folder, patient, brand, films, boxes, split="test") for patient, (brand, films, _, _) in COHORT.items()]
    studies += [make_study(folder, "t1", "a", (A, A), split="train")]
    rows = [
        shoot(folder, patient, view, level, tilt)
        for patient, (_, _, photos, tilts) in COHORT.items()
        for view, level, tilt in zip(("ap", "lateral"), photos, tilts, strict=True)
        if level is not None
    ]
    rows += [shoot(folder, "t1", view, C) for view in ("ap", "lateral")]
    return write_studies(folder, studies), write_photos(folder, rows)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What evaluating the cohort and its photos wrote."""
    folder = tmp_path_factory.mktemp("photographed")
    with pytest.MonkeyPatch.context() as patch:
        replace_run(patch)
        studies, photos = make_tables(folder)
        evaluate_run(folder / "run", studies, folder / "out", photos=photos)
    return folder / "out"


@pytest.fixture(scope="module")
def photos(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())["photos"]


def test_each_model_is_paired_with_itself_on_the_same_patients(photos: Any, out: Path) -> None:
    films = json.loads((out / "metrics.json").read_text())["models"]
    drop = photos["drop"]
    assert list(drop) == ["ap", "lateral", "lateral-calibrated", "ap+lateral"]
    counts = {name: (model["n"], model["only_film"], model["only_photo"]) for name, model in drop.items()}
    assert counts == {"ap": (6, 1, 0), "lateral": (5, 2, 1), "lateral-calibrated": (5, 2, 1), "ap+lateral": (6, 2, 1)}
    for name, model in drop.items():
        assert model["film"] == pytest.approx(films[name]["accuracy"])
        assert model["photo"] == pytest.approx(photos["models"][name]["accuracy"])
        assert model["value"] == pytest.approx(model["film"] - model["photo"])
        assert model["ci95"][0] < model["value"] < model["ci95"][1]
    chosen = drop["ap+lateral"]
    assert (chosen["film"], chosen["photo"], chosen["p"]) == (pytest.approx(5 / 6), pytest.approx(4 / 6), 1.0)
    # Tango's interval solves a score equation; at n 6, b 2, c 1 its ends are where the statistic is 1.96
    for end, sign in zip(chosen["ci95"], (1, -1), strict=True):
        assert tango_statistic(2, 1, 6, end) == pytest.approx(sign * 1.959964, abs=1e-4)


def tango_statistic(b: int, c: int, n: int, difference: float) -> float:
    """Equation 8 of Tango 1998, its constrained estimate found by a search over the likelihood instead of in closed form."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 2_000_001)[1:-1]  # of the pairs right the second time only
    likelihood = b * np.log(q + difference) + c * np.log(q) + (n - b - c) * np.log(1 - 2 * q - difference)
    best = q[likelihood.argmax()]
    return float((b - c - n * difference) / np.sqrt(n * (2 * best + difference - difference**2)))


def test_thirds_go_by_the_worst_photo_that_a_model_sees(photos: Any) -> None:
    def list_bands(name: str, condition: str) -> list[tuple[float, float, int, int, int]]:
        bands = photos["drop"][name]["conditions"][condition]
        return [(band["low"], band["high"], band["n"], band["only_film"], band["only_photo"]) for band in bands]

    # p1 2, p5 3 | p4 6, p6 7 | p2 9, p3 12
    assert list_bands("ap+lateral", "angle") == [(2, 3, 2, 0, 0), (6, 7, 2, 0, 1), (9, 12, 2, 2, 0)]
    # ap alone: p1 1, p4 2 | p5 3, p6 4 | p2 9, p3 12
    assert list_bands("ap", "angle") == [(1, 2, 2, 0, 0), (3, 4, 2, 0, 0), (9, 12, 2, 1, 0)]
    assert list_bands("ap+lateral", "glare") == [(0.1, 0.1, 6, 2, 1)]  # all alike: nothing to part
    assert "moire" not in photos["drop"]["ap+lateral"]["conditions"]  # not measured


def test_decisions_that_change_are_counted(photos: Any) -> None:
    decisions = photos["decisions"]
    assert decisions["n"] == 6
    found, nothing = (decisions["labels"].index(label) for label in ("identified", "no construct found"))
    matrix = np.array(decisions["matrix"])
    assert (matrix[found, found], matrix[found, nothing], matrix.sum()) == (5, 1, 6)
    # 1 of 6, Clopper and Pearson: 0.42 % to 64.12 %
    for count in ("changed", "lost"):
        assert decisions[count] == {"n": 1, "of": 6, "share": pytest.approx(1 / 6), "ci95": pytest.approx([0.0042, 0.6412], abs=5e-5)}
    assert decisions["other_brand"] == 2  # p2 and p4
    assert decisions["wrong"] == {"film": 1, "photo": 1}


def test_the_photo_is_straightened_by_its_corners_and_the_box_with_it(photos: Any, out: Path) -> None:
    """The wall is white: a crop by other corners would change the grey level, and with it the answer."""
    assert photos["detector"]["n"] == 7
    assert photos["detector"]["mean_iou"] == pytest.approx(6 / 7)  # all boxes as on the film; on p3 nothing is found
    predictions = read_predictions(out / "photos/predictions_ap+lateral.csv")
    assert dict(zip(predictions.patients, predictions.answers, strict=True)) == {
        "p1": "a", "p2": "a", "p3": None, "p4": "a", "p5": "c", "p6": "b", "p7": "b",
    }  # fmt: skip


def test_photos_are_described(photos: Any, out: Path) -> None:
    assert photos["taken"]["n"] == 13  # not those of the training patient
    assert photos["taken"]["severities"] == {"mild": 13}
    assert photos["taken"]["conditions"]["angle"] == [1, 5, 12]
    assert photos["table"]["name"] == "photos.csv"
    page = html.unescape(re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", "", (out / "report.html").read_text())))
    assert "83.3\u00a0% of 6 patients correctly on the films and 66.7\u00a0% on the photos: a drop of +16.7 points" in page
    assert "The interval includes zero." in page
    assert "1 of 6 decisions change" in page
    assert "The photos are simulated; real phones and screens may be worse." in page
    assert page.count("✗ lost") == 2
    assert page.count("✓ still right") == 2
    assert "on the photos refused: no construct found" in page


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, list[Row]]:
    """Two patients and their photos, to be spoilt."""
    replace_run(monkeypatch)
    studies = write_studies(tmp_path, [make_study(tmp_path, patient, "a", (A, A)) for patient in ("p1", "p2")])
    rows = [shoot(tmp_path, patient, view, A) for patient in ("p1", "p2") for view in ("ap", "lateral")]
    return studies, write_photos(tmp_path, rows), rows


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"patient_id": "q7"}, r"photos of 1 patients that are not in the studies: q7"),
        ({"x1": 171}, r"line 2: a corner lies outside of the photo of 170 x 190 pixels"),
        ({"y3": -0.5}, r"line 2: a corner lies outside"),
        ({"x1": "left"}, r"line 2: x1 'left', expected a number"),
        ({"x1": ""}, r"line 2: x1 '', expected a number"),
        ({"glare": "nan"}, r"line 2: glare 'nan', expected a number"),
        ({"x1": 20, "x0": 148}, r"line 2: the corners don't go round the film"),
        ({"view": "oblique"}, r"line 2: view 'oblique', expected ap or lateral"),
        ({"file": "gone.jpg"}, r"line 2: file .*gone\.jpg is not there"),
        ({"file": "broken.jpg"}, r"broken\.jpg: not a DICOM, PNG or JPEG file"),
        ({"photo_width": 340, "photo_height": 380}, r"is 170 x 190 pixels, but its corners are for 340 x 380"),
    ],
)
def test_a_faulty_row_is_one_clear_error(
    tables: tuple[Path, Path, list[Row]], change: Row, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    studies, photos, rows = tables
    (photos.parent / "broken.jpg").write_bytes(b"no photo")
    write_photos(photos.parent, [rows[0] | change, *rows[1:]])
    out = photos.parent / "out"
    assert edgekit_command(["evaluate", "run", str(studies), "--out", str(out), "--photos", str(photos)]) == 4
    error = re.sub(r"\s+", " ", capsys.readouterr().err.split("100%")[-1])
    assert re.search(expected, error)
    assert "Traceback" not in error
    assert {path.name for path in out.rglob("*.*")} <= {"answers.partial"}


def test_the_command_prints_the_drop(
    tables: tuple[Path, Path, list[Row]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in charts.__all__:
        monkeypatch.setattr(charts, name, lambda *_: {})  # they take most of the time
    studies, photos, rows = tables
    write_photos(photos.parent, [*rows[:3], shoot(photos.parent, "p2", "lateral", B)])
    assert edgekit_command(["evaluate", "run", str(studies), "--out", str(photos.parent / "out"), "--photos", str(photos)]) == 0
    printed = capsys.readouterr().out.split("Photographed off a screen")[1]
    line = next(line for line in printed.splitlines() if "ap+lateral" in line)
    assert [cell.strip() for cell in line.split("│")[2:6]] == ["2", "1.000", "0.500", "0.500"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (slice(1, None), "1 of the 4 films to evaluate have no photo, or not one each: p1 ap"),
        (slice(0, 0), "has no rows"),
    ],
)
def test_a_film_without_a_photo_is_an_error(tables: tuple[Path, Path, list[Row]], keep: slice, expected: str) -> None:
    studies, photos, rows = tables
    write_photos(photos.parent, rows[keep])
    with pytest.raises(InputError, match=expected):
        evaluate_run(Path("run"), studies, photos.parent / "out", photos=photos)
    write_photos(photos.parent, [*rows, rows[0]])
    with pytest.raises(InputError, match="not one each: p1 ap"):
        evaluate_run(Path("run"), studies, photos.parent / "out", photos=photos)


def test_a_table_of_another_kind_is_refused(tables: tuple[Path, Path, list[Row]]) -> None:
    studies, photos, rows = tables
    write_photos(photos.parent, rows, tuple(column for column in COLUMNS if column not in ("x2", "blur_px")))
    with pytest.raises(InputError, match=r"expected once: x2, blur_px"):
        read_photos(photos, VIEWS)
    with pytest.raises(InputError, match=r"expected once: view, file"):
        read_photos(studies, VIEWS)
    with pytest.raises(InputError, match=r"can't be read"):
        read_photos(photos.parent / "none.csv", VIEWS)


def test_several_rows_of_a_patient_keep_their_order(tmp_path: Path) -> None:
    studies = [
        Study("p1", "a", split="train", exclude="blurred", films={"ap": Path("first"), "lateral": None}),
        Study("p1", "a", split="test", films={"ap": Path("second"), "lateral": None}),
        Study("p2", "a", split="test", films={"ap": None, "lateral": Path("other")}),
        Study("p1", "a", split="test", films={"ap": Path("third"), "lateral": Path("fourth")}),
    ]
    rows = [
        shoot(tmp_path, "p1", "ap", A),
        shoot(tmp_path, "p2", "lateral", A),
        shoot(tmp_path, "p1", "ap", B),
        shoot(tmp_path, "p1", "lateral", C),
    ]
    shots = read_photos(write_photos(tmp_path, rows), VIEWS)
    album = match_photos(tmp_path / "photos.csv", shots, VIEWS, studies, studies[1:])
    assert [{view: shots.index(shot) for view, shot in album[study].items()} for study in studies[1:]] == [
        {"ap": 0}, {"lateral": 1}, {"ap": 2, "lateral": 3}
    ]  # fmt: skip
    assert (album[studies[1]]["ap"].straighten() == A).all()
    assert album[studies[3]]["ap"].straighten().shape == (2 * SIDE, 2 * SIDE)


def interrupt(command: list[str], after: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Run a command that the user interrupts after some answers; return its exit code and how often the pipeline answered."""
    answered = []

    def answer_some(self: Pipeline, *tensors: Any) -> Any:
        if len(answered) == after:
            raise KeyboardInterrupt
        answered.append(tensors)
        return answer(self, *tensors)

    answer = Pipeline.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "__call__", answer_some)
        return edgekit_command(command), len(answered)


def test_an_interrupted_evaluation_goes_on_with_films_and_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_run(monkeypatch)
    studies, photos = make_tables(tmp_path)
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = ["evaluate", "run", str(studies), "--photos", str(photos), "--out"]
    assert interrupt([*command, str(whole)], 100, monkeypatch) == (0, 14)  # seven patients: their films, their photos
    assert interrupt([*command, str(out)], 3, monkeypatch) == (130, 3)
    assert "the same command goes on" in capsys.readouterr().err
    film = studies.with_name("p4-ap.png")  # a film that is gone for a while: the others' photos are not taken for each other's
    film.rename(film.with_suffix(".kept"))
    film.write_bytes(b"no film")
    assert interrupt([*command, str(out)], 3 + 4, monkeypatch) == (130, 7)
    film.with_suffix(".kept").replace(film)
    assert interrupt([*command, str(out)], 100, monkeypatch) == (0, 14 - 3 - 7)
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.csv"))
    assert len(names) == 8
    for name in names:
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    found, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (out, whole))
    assert found["provenance"].pop("date") >= expected["provenance"].pop("date")
    assert found == expected
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == sorted(path.relative_to(whole) for path in whole.rglob("*"))
