from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pedicle_screws import INPUTS, VIEWS
from PIL import Image

from edgekit import proposals
from edgekit.canvases import stream_inputs
from edgekit.errors import InputError
from edgekit.evaluation.figures import FOUND_BOX
from edgekit.models.runfolder import load_pipeline
from edgekit.proposals import propose_boxes
from edgekit.studies import read_studies, write_studies
from edgekit.types import Study

BOX = (5.0, 6.5, 30.0, 40.25)


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A run of which only the detector is done, and which finds everything."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("detector.safetensors", "detector.json"):
        shutil.copy(tiny_run / name, folder / name)
    (folder / "config.toml").write_text("canvas_side = 128\n")
    return folder


def set_threshold(run: Path, threshold: float) -> None:
    settings = json.loads((run / "detector.json").read_text())
    (run / "detector.json").write_text(json.dumps({**settings, "box_threshold": threshold}))


@pytest.fixture
def table(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(4):
        films = {view: tmp_path / f"p{number}-{view}.png" for view in VIEWS}
        for view, film in films.items():
            size = (90, 61) if view == "ap" else (60, 77)
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).resize((size[1] * 4, size[0] * 4)).save(film)
        rows.append(Study(f"p{number}", "design-a", split="train", films=films, has={"crosslink": True}))
    rows[1] = replace(rows[1], brand=None).with_box("lateral", BOX)
    rows[2] = replace(rows[2], brand="none", levels=None)
    rows[3] = replace(rows[3], exclude="blurred")
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"


def test_only_empty_boxes_of_constructs_are_filled(table, run, tmp_path):
    made = propose_boxes(table, run, tmp_path / "out.csv")
    before, after = read_studies(table), read_studies(tmp_path / "out.csv")
    filled = {(row.patient_id, view) for row, old in zip(after, before, strict=True) for view in VIEWS if row.box(view) != old.box(view)}
    assert filled == {("p0", "ap"), ("p0", "lateral"), ("p1", "ap")} == {(p.study.patient_id, p.view) for p in made.found}
    assert after[1].box("lateral") == BOX
    assert made.kept == 1
    assert [row.with_box("ap", None).with_box("lateral", None) for row in after] == [
        row.with_box("ap", None).with_box("lateral", None) for row in before
    ]


def test_the_boxes_are_those_of_the_pipeline(table, run, tiny_run, tmp_path):
    """The whole pipeline's answer, mapped to the film by hand: 244 x 360 and 308 x 240 pixels on a canvas of 128."""
    made = propose_boxes(table, run, tmp_path / "out.csv")
    pipeline = load_pipeline(tiny_run)
    for row, inputs, _ in stream_inputs(read_studies(table)[:2], VIEWS, 128, "asking"):
        with torch.inference_mode():
            answer = pipeline(*(torch.from_numpy(inputs[name]) for name in INPUTS))
        for place, (view, width, height) in enumerate((("ap", 244, 360), ("lateral", 308, 240))):
            found = [p for p in made.found if (p.study, p.view) == (row, view)]
            if not found:
                continue
            shown = np.round(np.array([width, height]) * 128 / max(width, height))
            margin = (128 - shown) // 2
            expected = (answer[2][place].numpy().reshape(2, 2) - margin) * [width, height] / shown
            expected = np.clip(expected, 0, [width, height]).ravel()
            assert np.all(np.abs(np.array(found[0].box) - expected) <= 1), "whole pixels"
            assert np.all(np.array(found[0].box)[:2] <= expected[:2] + 1e-3)
            assert np.all(np.array(found[0].box)[2:] >= expected[2:] - 1e-3)
            assert found[0].score == pytest.approx(float(answer[3][place]), abs=1e-6)


def test_a_box_is_proposed_only_where_the_detector_is_sure(table, run, tmp_path):
    scores = sorted(proposal.score for proposal in propose_boxes(table, run, tmp_path / "all.csv").found)
    set_threshold(run, (scores[1] + scores[2]) / 2)
    made = propose_boxes(table, run, tmp_path / "out.csv")
    assert [proposal.score for proposal in made.missed] == scores[:2]
    assert [proposal.score for proposal in made.found] == scores[2:]
    assert sum(row.box(view) is not None for row in read_studies(tmp_path / "out.csv") for view in VIEWS) == made.kept + 1


def test_the_least_sure_come_first_on_the_contact_sheet(table, run, tmp_path, monkeypatch):
    scores = sorted(proposal.score for proposal in propose_boxes(table, run, tmp_path / "all.csv").found)
    assert (tmp_path / "all.jpg").is_file()
    set_threshold(run, (scores[0] + scores[1]) / 2)
    monkeypatch.setattr(proposals, "COLUMNS", 2)
    monkeypatch.setattr(proposals, "ROWS", 1)
    made = propose_boxes(table, run, tmp_path / "out.csv")
    assert [page.name for page in made.pages] == ["out-1.jpg", "out-2.jpg"]
    with Image.open(made.pages[0]) as page:
        pixels = np.asarray(page, int)
    boxed = (np.abs(pixels - FOUND_BOX).max(axis=2) < 60).sum(axis=0)
    half = pixels.shape[1] // 2
    assert boxed[:half].sum() == 0, "nothing was found on the first film"
    assert boxed[half:].sum() > 50


def test_a_film_that_cannot_be_read_is_named_and_left(table, run, tmp_path):
    (tmp_path / "p0-ap.png").write_bytes(b"")
    made = propose_boxes(table, run, tmp_path / "out.csv")
    assert list(made.unreadable) == ["p0"]
    assert "p0-ap.png: the file is empty" in made.unreadable["p0"]
    after = read_studies(tmp_path / "out.csv")
    assert after[0] == read_studies(table)[0]
    assert after[1].box("ap") is not None


def test_a_table_is_never_overwritten(table, run, tmp_path):
    before = table.read_bytes()
    with pytest.raises(InputError, match="is the table itself"):
        propose_boxes(table, run, tmp_path / "." / "studies.csv")
    assert table.read_bytes() == before


def test_nothing_to_propose_is_an_error(table, run, tmp_path):
    write_studies(
        table, [replace(row, brand="none", levels=None).with_box("ap", None).with_box("lateral", None) for row in read_studies(table)]
    )
    with pytest.raises(InputError, match="no film lacks a box"):
        propose_boxes(table, run, tmp_path / "out.csv")


@pytest.mark.parametrize("missing", ["detector.json", "detector.safetensors", "config.toml"])
def test_a_folder_that_is_no_run_is_refused(table, run, tmp_path, missing):
    (run / missing).unlink()
    with pytest.raises(InputError, match=missing):
        propose_boxes(table, run, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
