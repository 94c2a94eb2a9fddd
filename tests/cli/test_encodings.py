"""Terminals that can't show everything: whatever is printed there is readable, and no command fails of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLUMNS = "patient_id,brand,has_crosslink,split,ap,lateral,ap_box,lateral_box,exclude"
ENCODINGS = ["ascii", "cp1252"]


def edgekit(encoding: str, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-m", "edgekit", *map(str, words)], capture_output=True, check=False, env=environment)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two patients with one film, of a Chinese brand, in a folder whose name no code page has as a whole."""
    folder = tmp_path / "Größe – 脊柱"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)).save(folder / "a.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)).save(folder / "b…×.png")
    path = folder / "studies.csv"
    path.write_text(f"{COLUMNS}\np1,脊柱钉,,train,a.png,,,,\np2,脊柱钉,,train,b…×.png,,,,\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_of_a_chinese_brand(table: Path, encoding: str) -> None:
    done = edgekit(encoding, "studies", "check", table)
    assert done.returncode == 0
    out = done.stdout.decode(encoding)
    assert r"\u810a\u67f1\u9489" in out
    assert "hint:" in out
    lines = [line for line in out.splitlines() if line.startswith(("|", "+"))]
    assert len(lines) >= 4
    assert len({len(line) for line in lines}) == 1, "laid out by what is seen"
    assert b"100%" in done.stderr or b"2/2" in done.stderr
    done.stderr.decode("ascii")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_stays_json_and_says_the_same(table: Path, encoding: str) -> None:
    done = edgekit(encoding, "studies", "check", table, "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout.decode("ascii"))
    assert document["studies"] == str(table)
    assert list(document["patients"]) == ["脊柱钉"]
    assert "b…×.png" in document["hints"][0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_error_names_what_the_terminal_lacks(table: Path, encoding: str) -> None:
    table.with_name("a.png").write_bytes(b"")
    done = edgekit(encoding, "studies", "check", table)
    assert done.returncode == 4
    error = done.stderr.decode(encoding)
    assert "error: 1 film can't be used" in error
    assert r"\u810a\u67f1" in error
    assert "Traceback" not in error
    assert "Unexpected" not in error


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["doctor"], []])
def test_commands_without_a_film(encoding: str, words: list[str]) -> None:
    done = edgekit(encoding, *words)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode("ascii")) > 200
    assert done.stderr == b""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_bars_of_a_prediction(tiny_bundle: Path, encoding: str) -> None:
    film = tiny_bundle / "golden" / "both-ap.png"
    done = edgekit(encoding, "predict", tiny_bundle, "--ap", film)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.decode("ascii").splitlines() if "design-" in line and "|" in line]
    shown = {row[1].strip(): (float(row[2].strip().removesuffix(" %")), row[3].strip()) for row in rows}
    assert len(shown) == 3
    probabilities = json.loads(edgekit(encoding, "predict", tiny_bundle, "--ap", film, "--json").stdout)["probabilities"]
    for brand, (percent, bar) in shown.items():
        assert percent == pytest.approx(100 * probabilities[brand], abs=0.06)
        assert bar == "#" * round(30 * probabilities[brand])


def test_a_terminal_with_a_bar_and_no_unicode(table: Path) -> None:
    """On a terminal rich draws, moves and colours; its half blocks are in no code page."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "xterm-256color", "COLUMNS": "100"}
    command = [sys.executable, "-m", "edgekit", "studies", "check", str(table)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        try:
            while part := os.read(ours, 65536):
                printed += part
        except OSError:  # Linux: the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, printed
    text = printed.decode("ascii")
    assert "Reading films" in text
    assert "2/2" in text
    assert "---" in text


def test_a_file_name_that_is_no_unicode(tmp_path: Path) -> None:
    """Linux takes any bytes for a name; Python keeps them as lone surrogates, which UTF-8 has no place for."""
    folder = str(tmp_path / os.fsdecode(b"\xff"))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    words = [sys.executable, "-m", "edgekit", "studies", "check", f"{folder}/none.csv"]
    done = subprocess.run([*words, "--json"], capture_output=True, check=False, env=environment)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["message"].startswith(folder)
    assert rb"\udcff/none.csv can't be read" in done.stderr
