"""``edgekit predict --studies`` over many rows: no film and no interruption costs the answers to others."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from resealing import read_manifest

from edgekit import inference
from edgekit.cli import run as edgekit
from edgekit.evaluation.predictions import read_predictions
from edgekit.inference import Predictor
from edgekit.journal import Journal
from edgekit.manifest import seal_bundle, write_manifest
from edgekit.radiograph import read_radiograph
from edgekit.studies import read_studies, write_studies
from edgekit.types import DECISIONS, Radiograph, Study

ROWS = 9


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Nine patients with a film of noise each; every third has two."""
    random = np.random.default_rng(0)
    studies = []
    for row in range(ROWS):
        films = []
        for view in ("ap", "lateral"):
            films.append(tmp_path / f"p{row}-{view}.png")
            Image.fromarray(random.integers(0, 256, (100, 128), np.uint8)).save(films[-1])
        studies.append(
            Study(f"p{row}", "design-a", {"crosslink": None}, films={"ap": films[0], "lateral": films[1] if row % 3 == 0 else None})
        )
    write_studies(tmp_path / "studies.csv", studies)
    return tmp_path / "studies.csv"


@pytest.fixture
def command(tiny_bundle: Path, table: Path) -> list[str]:
    return ["predict", str(tiny_bundle), "--studies", str(table), "--out", str(table.with_name("predictions.csv"))]


@pytest.fixture
def whole(tiny_bundle: Path, table: Path) -> bytes:
    """What an uninterrupted command writes."""
    out = table.with_name("whole") / "predictions.csv"
    assert edgekit(["predict", str(tiny_bundle), "--studies", str(table), "--out", str(out)]) == 0
    return out.read_bytes()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The patients that the bundle is asked about."""
    patients: list[str] = []
    answer = Predictor._answer

    def count(self: Predictor, films: Any, patient_id: str) -> Any:
        patients.append(patient_id)
        return answer(self, films, patient_id)

    monkeypatch.setattr(Predictor, "_answer", count)
    return patients


def interrupt(command: list[str], after: int) -> int:
    """Run a command that the user interrupts after some answers."""
    answer, answered = Predictor._answer, []

    def answer_some(self: Predictor, films: Any, patient_id: str) -> Any:
        if len(answered) == after:
            raise KeyboardInterrupt
        answered.append(patient_id)
        return answer(self, films, patient_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "_answer", answer_some)
        return edgekit(command)


KILLED = """
import os, signal, sys
from edgekit.cli import run
from edgekit.inference import Predictor

answer, answered = Predictor._answer, []

def answer_some(self, films, patient_id):
    answered.append(patient_id)
    if len(answered) > 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(self, films, patient_id)

Predictor._answer = answer_some
run(sys.argv[1:])
"""


def test_a_killed_command_goes_on_and_writes_the_same_bytes(
    command: list[str], whole: bytes, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(command[-1])
    done = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert not out.exists()
    assert edgekit(command) == 0
    assert asked == [f"p{row}" for row in range(4, ROWS)]
    assert out.read_bytes() == whole
    assert f"{ROWS}/{ROWS}" in capsys.readouterr().err  # the bar counts the rows done before
    assert sorted(path.name for path in out.parent.glob("predictions.csv*")) == ["predictions.csv"]


def test_excluded_rows_are_not_asked_about(
    command: list[str], table: Path, whole: bytes, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor are their films read: a film may be excluded because it can't be."""
    rows = [line + "blurred" if line.startswith(("p1,", "p4,")) else line for line in table.read_text().splitlines()]
    table.write_text("\n".join(rows) + "\n")
    table.with_name("p4-ap.png").write_bytes(b"no film")
    del asked[:]
    assert edgekit([*command, "--json"]) == 0
    assert asked == [f"p{row}" for row in range(ROWS) if row not in (1, 4)]
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    assert decisions["excluded"] == 2
    assert sum(decisions.values()) == ROWS
    written, others = Path(command[-1]).read_text().splitlines(), whole.decode().splitlines()
    assert [line for line in written if not line.startswith(("p1,", "p4,"))] == [
        line for line in others if not line.startswith(("p1,", "p4,"))
    ]
    for line in written[2], written[5]:
        patient, row, _, _, decision, *rest = line.split(",")
        assert (patient, decision) == (f"p{int(row) - 1}", "excluded")
        assert not any(cell for cell in rest if not cell.endswith(".png")), "an excluded row has its films and no answer"
    assert edgekit(command) == 0
    assert f"{command[-1]}: {ROWS} rows" in capsys.readouterr().out


def test_a_half_written_answer_is_asked_again(command: list[str], whole: bytes, asked: list[str]) -> None:
    assert interrupt(command, 6) == 130
    journal = Path(command[-1] + ".partial")
    journal.write_bytes(journal.read_bytes()[:-9])
    del asked[:]
    assert edgekit(command) == 0
    assert asked == [f"p{row}" for row in range(5, ROWS)]
    assert Path(command[-1]).read_bytes() == whole


def test_ctrl_c_says_how_to_go_on(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert interrupt(command, 3) == 130
    shown = capsys.readouterr().err
    assert "Interrupted. The answers so far are kept: the same command goes on" in shown


def test_bad_films_are_listed_and_only_they_are_asked_for_again(
    command: list[str], table: Path, whole: bytes, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {2: table.with_name("p2-ap.png"), 6: table.with_name("p6-lateral.png")}
    for film in bad.values():
        shutil.copyfile(film, film.with_suffix(".kept"))
        film.write_bytes(film.read_bytes()[:300])
    out = Path(command[-1])
    for _ in range(2):  # nothing mended: the same again, without asking for what is answered
        assert edgekit([*command, "--json"]) == 4
        shown = capsys.readouterr()
        document = json.loads(shown.out)
        assert [(row["patient_id"], row["row"]) for row in document["unreadable"]] == [("p2", 3), ("p6", 7)]
        assert sum(document["decisions"].values()) == ROWS - 2
        for row in document["unreadable"]:
            assert str(bad[row["row"] - 1]) in row["message"]
            assert f"{row['patient_id']} (row {row['row']}): {row['message']}" in shown.err
        assert "2 of 9 rows" in shown.err
        assert out.read_bytes().splitlines() == [line for line in whole.splitlines() if not line.startswith((b"p2,", b"p6,"))]
        assert asked == [f"p{row}" for row in range(ROWS) if row not in bad]

    bad[6].with_suffix(".kept").replace(bad[6])
    assert edgekit(command) == 4
    assert "1 of 9 rows" in capsys.readouterr().err
    assert read_predictions(out).patients == tuple(f"p{row}" for row in range(ROWS) if row != 2)
    bad[2].with_suffix(".kept").replace(bad[2])
    assert edgekit(command) == 0
    assert asked[ROWS - 2 :] == ["p6", "p2"]
    assert out.read_bytes() == whole
    assert not Path(command[-1] + ".partial").exists()


def test_whatever_a_codec_raises_costs_one_row(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path) -> Radiograph:
        if path.name == "p4-ap.png":
            raise failure
        return read_radiograph(path)

    monkeypatch.setattr(inference, "read_radiograph", read)
    for failure in (ZeroDivisionError("a codec"), RecursionError("a codec"), ValueError("a codec")):
        Path(command[-1] + ".partial").unlink(missing_ok=True)
        assert edgekit([*command, "--json"]) == 4
        (row,) = json.loads(capsys.readouterr().out)["unreadable"]
        assert (row["patient_id"], row["row"]) == ("p4", 5)
        assert "p4-ap.png" in row["message"]
        assert type(failure).__name__ in row["message"]
        assert len(read_predictions(Path(command[-1])).patients) == ROWS - 1
    failure = MemoryError()  # no fault of the film's: the command stops, and the answers before it are kept
    Path(command[-1] + ".partial").unlink()
    assert edgekit(command) == 4
    assert "ran out of memory" in capsys.readouterr().err
    assert len(Path(command[-1] + ".partial").read_bytes().splitlines()) == 1 + 4


def test_answers_of_another_bundle_or_table_are_not_gone_on_with(
    command: list[str], tiny_bundle: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert interrupt(command, 3) == 130
    journal = Path(command[-1] + ".partial")
    kept = journal.read_bytes()
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    manifest = read_manifest(other)
    write_manifest(other, replace(manifest, verified=True))
    assert interrupt(["predict", str(other), *command[2:]], 0) == 130  # judged since, but the same model
    seal_bundle(other, replace(manifest, model_sha256="f" * 64))
    capsys.readouterr()
    assert edgekit(["predict", str(other), *command[2:]]) == 4
    shown = capsys.readouterr().err
    assert "bundle" in shown
    assert f"delete {journal}" in shown
    table.write_text(table.read_text().replace("design-a", "design-b"))
    assert edgekit(command) == 4
    shown = capsys.readouterr().err
    assert "table" in shown
    assert "bundle " not in shown
    assert journal.read_bytes() == kept
    journal.unlink()
    assert edgekit(command) == 0
    assert set(read_predictions(Path(command[-1])).truth) == {"design-b"}


def test_a_place_that_can_not_be_written_is_told_before_the_first_film(
    command: list[str], table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = []
    monkeypatch.setattr(inference, "read_radiograph", lambda path: read.append(path) or read_radiograph(path))
    (table.with_name("folder.csv")).mkdir()
    (table.with_name("locked")).mkdir(mode=0o500)
    places = ["folder.csv", "studies.csv/predictions.csv"] + (["locked/predictions.csv"] if os.geteuid() else [])
    for place in places:
        assert edgekit([*command[:-1], str(table.parent / place)]) == 4
        assert place.split("/")[0] in capsys.readouterr().err
    protected = table.with_name("protected.csv")
    protected.write_text("another's table")
    protected.chmod(0o400)
    for place in ("studies.csv", "answers.xlsx", *(["protected.csv"] if os.geteuid() else [])):
        assert edgekit([*command[:-1], str(table.parent / place)]) == 4
        assert place in capsys.readouterr().err
    assert read == []
    assert table.read_text().startswith("patient_id")


def decide(monkeypatch: pytest.MonkeyPatch, decisions: list[int]) -> None:
    """Let the bundle decide these, in the order of the rows; two brands are in every set."""
    infer, left = Predictor._infer, iter(decisions)

    def infer_decided(self: Predictor, inputs: Any) -> Any:
        outputs = {"decision": np.array([next(left)]), "prediction_set": np.array([0, 1, 1]), "unfamiliarity": np.array([0.25])}
        probabilities = np.array([0.125, 0.625, 0.25], np.float32)
        return {**infer(self, inputs), **outputs, "probabilities": probabilities}

    monkeypatch.setattr(Predictor, "_infer", infer_decided)


def test_a_batch_says_what_it_decided(command: list[str], table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = read_studies(table)
    studies[1] = Study(
        "p0", None, has={"crosslink": True}, films={"ap": studies[1].film("ap"), "lateral": None}
    )  # a second study of the first patient
    studies[6] = Study("p6", "design-a", exclude="blurred", films={"ap": studies[6].film("ap"), "lateral": None})
    write_studies(table, studies)
    assert studies[6].film("ap") is not None
    studies[6].film("ap").write_bytes(b"nobody reads this film")
    decide(monkeypatch, [0, 1, 2, 3, 4, 0, 0, 0])
    assert edgekit(command) == 0
    with Path(command[-1]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = "patient_id row truth has_crosslink decision answer prediction_set unfamiliarity p_design-a p_design-b p_design-c"
    assert list(rows[0]) == [*columns.split(), "ap", "ap_box", "ap_score", "lateral", "lateral_box", "lateral_score"]
    assert [row["decision"] for row in rows] == [*DECISIONS, "identified", "excluded", "identified", "identified"]
    assert [row["row"] for row in rows] == [str(number) for number in range(1, ROWS + 1)]
    assert [row["answer"] for row in rows] == ["design-b", "", "", "", "", "design-b", "", "design-b", "design-b"]
    both = "design-b;design-c"
    assert [row["prediction_set"] for row in rows] == [both, both, "", "", "", both, "", both, both]
    assert [(row["patient_id"], row["truth"], row["has_crosslink"], row["ap"]) for row in rows[:2]] == [
        ("p0", "design-a", "", "p0-ap.png"),
        ("p0", "", "1", "p1-ap.png"),
    ]
    assert [rows[0][f"p_design-{letter}"] for letter in "abc"] == ["0.125", "0.625", "0.25"]
    assert float(rows[0]["unfamiliarity"]) == 0.25
    assert rows[0]["lateral"] == "p0-lateral.png"
    x0, y0, x1, y1 = map(float, rows[0]["lateral_box"].split())
    assert 0 <= x0 < x1 <= 128
    assert 0 <= y0 < y1 <= 100
    assert 0 <= float(rows[0]["lateral_score"]) <= 1
    assert rows[1]["lateral"] == rows[1]["lateral_box"] == rows[1]["lateral_score"] == ""
    assert {name for name, value in rows[6].items() if value} == {"patient_id", "row", "truth", "decision", "ap"}
    assert read_predictions(Path(command[-1])).patients == ("p0", "p0", "p2", "p3", "p4", "p5", "p7", "p8")


def test_json_lines_hold_the_same(command: list[str], table: Path) -> None:
    studies = read_studies(table)
    studies[2] = Study("p2", "design-a", exclude="blurred", has={"crosslink": False}, films={"ap": studies[2].film("ap"), "lateral": None})
    write_studies(table, studies)
    lines = table.with_name("predictions.jsonl")
    for place in (command[-1], str(lines)):
        with pytest.MonkeyPatch.context() as patch:
            decide(patch, [2, *[0] * 7])
            assert edgekit([*command[:-1], place]) == 0
    records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    with Path(command[-1]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [list(record) for record in records] == [list(row) for row in rows]
    assert [record["row"] for record in records] == list(range(1, ROWS + 1))
    assert (records[0]["decision"], records[0]["answer"], records[0]["prediction_set"]) == ("unfamiliar", None, [])
    assert records[1]["prediction_set"] == ["design-b", "design-c"]
    assert records[1]["ap_box"] == [float(edge) for edge in rows[1]["ap_box"].split()]
    assert (records[2]["decision"], records[2]["has_crosslink"], records[2]["p_design-a"]) == ("excluded", False, None)
    assert (records[1]["has_crosslink"], records[1]["lateral"]) == (None, None)


def test_a_full_disk_is_said_to_be_one(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fill(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "append", fill)
    assert edgekit(command) == 4
    assert "The disk is full" in capsys.readouterr().err
