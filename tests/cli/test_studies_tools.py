"""The tools around studies.csv, as a user types them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import cli
from edgekit.evaluation.readers import read_readers
from edgekit.studies import read_studies, write_studies
from edgekit.types import Study


@pytest.fixture
def table(tmp_path) -> Path:
    """Three patients of the readers' set, and one row of it without a construct."""
    rows = []
    for number, brand in enumerate(["design-a", "design-b", "other", "none"]):
        film = tmp_path / f"film{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (50, 40), np.uint8)).save(film)
        rows.append(Study(f"patient-{number}", brand, split="readers", films={"ap": film, "lateral": None}))
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    (folder / "config.toml").write_text("canvas_side = 128\n")
    return folder


def ask(capsys, *words: object) -> str:
    assert cli.run(["studies", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_reading_sheet_says_what_to_do_with_it(table, tmp_path, capsys):
    said = ask(capsys, "reading-sheet", table, tmp_path / "out")
    assert "3 patients, 3 brands" in said
    assert f"keep {tmp_path / 'out' / 'key.csv'}" in said
    assert "Left out: 1 rows" in said
    assert "Without a picture: other." in said
    assert "look at every film" in said


def test_reading_sheet_then_collect(table, tmp_path, capsys):
    made = json.loads(ask(capsys, "reading-sheet", table, tmp_path / "out", "--seed", 1, "--json"))
    assert (made["cases"], made["brands"], made["plain"]) == (3, ["design-a", "design-b", "other"], ["other"])
    with Path(made["key"]).open(newline="") as file:
        key = list(csv.DictReader(file))
    files = []
    for reader in ("A", "B"):
        files.append(tmp_path / f"answers-{reader}.csv")
        answers = [f"{reader},fellow,{row['case']},{row['brand']},10" for row in key]
        files[-1].write_text("\n".join(["reader,experience,patient_id,brand,seconds", *answers]))
    collected = json.loads(ask(capsys, "collect", tmp_path / "out", *files, "--out", tmp_path / "readers.csv", "--json"))
    assert collected == {"readers": str(tmp_path / "readers.csv"), "answers": {"A": 3, "B": 3}}
    truth = {row.patient_id: row.brand for row in read_studies(table)}
    answers = read_readers(tmp_path / "readers.csv")
    assert len(answers) == 6
    assert all(answer.brand == truth[answer.patient_id] for answer in answers)
    said = ask(capsys, "collect", tmp_path / "out", *files, "--out", tmp_path / "readers.csv")
    assert "6 answers of 2 readers" in said


def test_propose_boxes_writes_beside_the_table(table, run, tmp_path, capsys):
    said = ask(capsys, "propose-boxes", table, run)
    assert f"{tmp_path / 'studies-boxes.csv'}: 3 boxes proposed, 0 films without, 0 boxes kept." in said
    assert str(tmp_path / "studies-boxes.jpg") in said
    assert sum(row.box("ap") is not None for row in read_studies(tmp_path / "studies-boxes.csv")) == 3


def test_propose_boxes_lists_films_where_nothing_was_found(table, run, tmp_path, capsys):
    settings = json.loads((run / "detector.json").read_text())
    (run / "detector.json").write_text(json.dumps({**settings, "box_threshold": 1.1}))
    said = ask(capsys, "propose-boxes", table, run)
    assert "Nothing found" in said
    assert all(f"film{number}.png" in said for number in range(3))
    made = json.loads(ask(capsys, "propose-boxes", table, run, "--out", tmp_path / "o.csv", "--json"))
    assert (made["studies"], made["contact_sheet"]) == (str(tmp_path / "o.csv"), [str(tmp_path / "o.jpg")])
    assert (made["kept"], made["proposed"], made["unreadable"]) == (0, 0, {})
    assert sorted(film["patient_id"] for film in made["not_found"]) == ["patient-0", "patient-1", "patient-2"]


def test_deidentify_says_where_the_key_is_and_what_stays(table, tmp_path, capsys):
    said = ask(capsys, "deidentify", table, tmp_path / "clean")
    assert "4 patients, 4 films" in said
    assert f"{tmp_path / 'clean-key.csv'} tells who is who" in said
    assert "Text burned into the pixels is still there" in said
    made = json.loads(ask(capsys, "deidentify", table, tmp_path / "again", "--json"))
    assert (made["patients"], made["films"], made["key"]) == (4, 4, str(tmp_path / "again-key.csv"))


@pytest.mark.parametrize("words", [("reading-sheet", "{table}", "{folder}"), ("deidentify", "{table}", "{folder}")])
def test_a_second_time_is_refused(table, tmp_path, capsys, words):
    words = [word.format(table=table, folder=tmp_path / "out") for word in words]
    ask(capsys, *words)
    assert cli.run(["studies", *words]) == 4
    assert "choose another folder" in capsys.readouterr().err


def test_template_writes_examples_that_check_explains_and_that_can_be_replaced(tmp_path, capsys):
    table = tmp_path / "hospital" / "studies.csv"
    assert "4 examples. Replace them by your patients" in ask(capsys, "template", "--out", table)
    assert cli.run(["studies", "check", str(table)]) == 4
    said = capsys.readouterr().err.splitlines()
    for line in (2, 3, 4, 5):
        assert any(f":{line} column 'patient_id'" in error and "this line is an example to replace or delete" in error for error in said)
    filled = table.read_text()
    for number, cell in enumerate(cell for row in csv.reader(filled.splitlines()) for cell in row if cell.startswith("films/")):
        film = table.parent / cell.replace("EXAMPLE", "patient")
        film.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (1200, 800), np.uint8)).save(film, "png")
    table.write_text(filled.replace("EXAMPLE", "patient"))
    assert "4 rows, 1 excluded; films: 2 ap, 2 lateral" in ask(capsys, "check", table)


def test_template_leaves_a_table_that_exists_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("studies.csv").write_text("precious")
    assert cli.run(["studies", "template"]) == 4
    assert "studies.csv exists and is left as it is" in capsys.readouterr().err
    assert Path("studies.csv").read_text() == "precious"
