"""``edgekit predict --studies`` over many rows: no film and no interruption costs the answers to others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit import inference
from edgekit.cli import run as edgekit
from edgekit.evaluation.predictions import read_predictions
from edgekit.inference import Predictor
from edgekit.manifest import seal_bundle, write_manifest
from edgekit.radiograph import read_radiograph
from edgekit.studies import write_studies
from edgekit.types import Radiograph, Study

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
        studies.append(Study(f"p{row}", "design-a", ap=films[0], lateral=films[1] if row % 3 == 0 else None))
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
    assert Path(command[-1]).read_bytes().splitlines() == [line for line in whole.splitlines() if not line.startswith((b"p1,", b"p4,"))]
    assert edgekit(command) == 0
    assert f"{command[-1]}: {ROWS - 2} rows" in capsys.readouterr().out


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
    assert "the same command goes on" in shown
    assert "Interrupted." in shown


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
    manifest = json.loads((other / "manifest.json").read_text())
    write_manifest(other, {**manifest, "verified": True})
    assert interrupt(["predict", str(other), *command[2:]], 0) == 130  # judged since, but the same model
    seal_bundle(other, {**manifest, "model_sha256": "f" * 64})
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
    (table.with_name("folder")).mkdir()
    (table.with_name("locked")).mkdir(mode=0o500)
    places = ["folder", "studies.csv/predictions.csv"] + (["locked/predictions.csv"] if os.geteuid() else [])
    for place in places:
        assert edgekit([*command[:-1], str(table.parent / place)]) == 4
        assert place.split("/")[0] in capsys.readouterr().err
    assert read == []
