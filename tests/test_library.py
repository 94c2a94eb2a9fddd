"""docs/library.md: the public names, and the program on that page, run as it stands there."""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgekit

PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")


def test_every_public_name_is_there_documented_and_explained() -> None:
    listed = set(re.findall(r"^\| (.+?) \|", PAGE, re.MULTILINE)) - {"name", "---"}
    names = {name for cell in listed for name in re.findall(r"`(\w+)", cell)}
    assert names == set(edgekit.__all__) - {"__version__"}
    for name in names:
        assert getattr(edgekit, name).__doc__, name
    assert set(edgekit.__all__) <= set(dir(edgekit))
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = edgekit.predict


def test_the_package_itself_imports_nothing() -> None:
    """Not even numpy: what is counted are modules that are no part of Python."""
    program = "import sys; before = set(sys.modules); import edgekit; print(*sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in found if name.split(".")[0] not in sys.stdlib_module_names] == ["edgekit", "edgekit.version"]


def test_type_checkers_are_told_the_same_names_and_places() -> None:
    stub = ast.parse(Path(edgekit.__file__).with_suffix(".pyi").read_text())
    told = {
        alias.asname: getattr(importlib.import_module(str(node.module)), alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == {name: getattr(edgekit, name) for name in edgekit.__all__ if name != "__version__"}


def test_the_program_of_the_page_answers_and_draws(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    assert len(program.splitlines()) <= 15
    golden = tiny_bundle / "golden"
    for view in ("ap", "lateral"):
        program = program.replace(f"{view}.dcm", str(golden / f"both-{view}.png"))
    program = program.replace("build/desktop-cpu", str(tiny_bundle))
    monkeypatch.chdir(tmp_path)
    for package in ("matplotlib", "sklearn", "timm", "torchvision"):
        monkeypatch.setitem(sys.modules, package, None)  # the extras that a bundle is used without
    exec(program, names := dict[str, Any]())
    shown, answer = capsys.readouterr().out, names["answer"]
    assert shown.splitlines()[0] == f"{answer.decision} {answer.brand}"
    assert [line.split()[0] for line in shown.splitlines()[1:]] == answer.prediction_set
    for view in ("ap", "lateral"):
        drawn = np.asarray(Image.open(tmp_path / f"{view}.jpg").convert("RGB")).astype(int)
        film = Image.open(golden / f"both-{view}.png").resize(drawn.shape[1::-1]).convert("RGB")
        assert np.abs(drawn - np.asarray(film)).max() > 60, "a box or heat is drawn over the film"


def test_a_film_without_anything_found_is_drawn_as_it_is(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = tiny_bundle / "golden" / "both-ap.png"
    with edgekit.Predictor(tiny_bundle) as predictor:
        infer = predictor._infer
        monkeypatch.setattr(predictor, "_infer", lambda inputs: {**infer(inputs), "found": np.zeros(2, np.int32)})
        drawn = np.asarray(Image.open(io.BytesIO(predictor.explain({"ap": film})["ap"])).convert("L")).astype(int)
    plain = np.asarray(Image.open(film).resize(drawn.shape[::-1], Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(drawn - plain).mean() < 3


def test_heat_lies_where_the_crop_was_also_beyond_the_film(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A film twice as wide as high fills the middle half of its canvas; the crop is all of that canvas."""
    Image.fromarray(np.tile(np.linspace(60, 120, 128).astype(np.uint8), (64, 1))).save(tmp_path / "wide.png")
    heat = np.zeros((2, 4, 4), np.float32)
    heat[0, 1] = 1
    boxes = np.array([[0, 0, 128, 128]] * 2, np.float32)
    with edgekit.Predictor(tiny_bundle) as predictor:
        infer = predictor._infer
        answer = {"found": np.ones(2, np.int32), "boxes": boxes, "heatmaps": heat}
        monkeypatch.setattr(predictor, "_infer", lambda inputs: {**infer(inputs), **answer})
        drawn = np.asarray(Image.open(io.BytesIO(predictor.explain({"ap": tmp_path / "wide.png"})["ap"])).convert("RGB")).astype(float)
    colour = (drawn.max(axis=2) - drawn.min(axis=2))[:, 8:-8].mean(axis=1)[8:-8]  # without the box, which is drawn at the edges
    hottest = np.flatnonzero(colour > 0.98 * colour.max()).mean() + 8.5
    assert hottest / len(drawn) == pytest.approx(0.25, abs=0.04), "a quarter down the film, not three eighths"


def test_films_scores_and_runs_are_at_hand(tiny_run: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    film = edgekit.read_film(tiny_bundle / "golden" / "both-ap.png")
    assert film.pixels.shape == (128, 128)
    (tmp_path / "predictions.csv").write_text("patient_id,truth,p_a,p_b\n1,a,0.9,0.1\n2,b,0.8,0.2\n")
    assert edgekit.score(tmp_path / "predictions.csv")["accuracy"] == 0.5
    with edgekit.open_run(tiny_run) as session:
        assert session.runtime.startswith("torch")
