"""Which variant of a target is exported: no four patients can prove a statistical judge's floor, and a numerical one needs only one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.backends import onnx as backend
from edgekit.bundle import export_bundle
from edgekit.choosing import Attempt, export_first, export_only, tabulate
from edgekit.cli import run as edgekit
from edgekit.errors import CalibrationError, GateError
from edgekit.studies import read_studies, write_studies
from edgekit.targets import load_target
from edgekit.types import Artifact, Study, Target

STATISTICAL = """
[variants.fp16]
stages = { detector = "fp16", geometry = "fp32", members = "fp16", ensemble = "fp32" }
judge = { basis = "statistical", margin = 0.01, agreement = 0.985 }
"""
NUMERICAL = """
[variants.fp32]
stages = { detector = "fp32", geometry = "fp32", members = "fp32", ensemble = "fp32" }
judge = { basis = "numerical" }
"""
HEAD = """
backend = "onnx"
ensemble = "ap+lateral"
sessions = ["onnxruntime"]
opset = 20
"""


@pytest.fixture
def studies(tiny_bundle: Path, tmp_path: Path) -> Path:
    films = shutil.copytree(tiny_bundle / "golden", tmp_path / "films")
    rows = [
        Study("p1", "design-a", split="test", films={"ap": films / "both-ap.png", "lateral": films / "both-lateral.png"}),
        Study("p2", "design-b", split="test", films={"ap": films / "ap-ap.png", "lateral": None}),
        Study("p3", "design-c", split="test", films={"ap": None, "lateral": films / "lateral-lateral.png"}),
    ]
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"


@pytest.fixture(autouse=True)
def quick(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export takes the tiny bundle's model, whatever the precision, and noise instead of simulated films."""

    def convert(_: Any, __: Target, folder: Path, ___: Any) -> Artifact:
        shutil.copy(tiny_bundle / "model.onnx", folder)
        return Artifact("model.onnx", ("model.onnx",))

    def simulate(_: str, seed: int, views: tuple[str, ...], side: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        return {view: random.integers(0, 256, (side, side), np.uint8) for view in views}

    monkeypatch.setattr(backend, "convert", convert)
    monkeypatch.setattr("edgekit.golden.simulate_canvases", simulate)


def recipe(folder: Path, *variants: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(HEAD + "".join(variants))
    return path


def test_the_first_variant_that_passes_is_exported(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, STATISTICAL, NUMERICAL)
    bundle, left = export_first(tiny_run, "web", tmp_path / "web", path, studies)
    assert (bundle.manifest.precision, bundle.manifest.verified) == ("fp32", True)
    assert [attempt.variant for attempt in left] == ["web:fp16"]
    assert "INCONCLUSIVE in onnxruntime on 3 patients" in left[0].reason
    size = (tmp_path / "web" / "model.onnx").stat().st_size / 1e6
    assert f"the model has {size:.2f} MB" in left[0].describe()

    bundle, left = export_first(tiny_run, "web", tmp_path / "other", recipe(tmp_path, NUMERICAL, STATISTICAL), studies)
    assert (bundle.manifest.precision, left) == ("fp32", ())


def test_too_few_patients_for_8_bits_leave_the_variant_that_needs_none(
    tiny_run: Path, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = backend.convert

    def calibrate(run: Any, target: Target, folder: Path, calibration: Any) -> Artifact:
        if target.precision == "fp16":
            raise CalibrationError("7 calibration patients are too few", "give more")
        return convert(run, target, folder, calibration)

    monkeypatch.setattr(backend, "convert", calibrate)
    bundle, left = export_first(tiny_run, "web", tmp_path / "web", recipe(tmp_path, STATISTICAL, NUMERICAL), studies)
    assert bundle.manifest.precision == "fp32"
    assert [(attempt.variant, attempt.reason) for attempt in left] == [("web:fp16", "7 calibration patients are too few")]


def test_where_none_passes_each_is_told(tiny_run: Path, tiny_bundle: Path, studies: Path, tmp_path: Path) -> None:
    impossible = NUMERICAL + "budget = { size_mb = 0.1 }\n"
    with pytest.raises(GateError) as caught:
        export_first(tiny_run, "web", tmp_path / "web", recipe(tmp_path, STATISTICAL, impossible), studies)
    assert "web:fp16 was left after" in caught.value.message
    head, *table = caught.value.message.splitlines()[1:4]
    assert head.split() == ["variant", "MB", "ms", "foreseen", "to", "change", "minutes"]
    size = f"{(tiny_bundle / 'model.onnx').stat().st_size / 1e6:.2f}"
    assert [line.split()[:4] for line in table] == [["web:fp16", size, "-", "-"], ["web:fp32", size, "-", "-"]]
    assert "INCONCLUSIVE" in caught.value.message
    assert "web:fp32 was left after" in caught.value.message
    assert "larger than the recipe's budget of 0.1 MB" in caught.value.message
    assert not (tmp_path / "web").exists()


def test_films_of_unknown_brand_are_judged_as_well(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "unlabelled.csv"
    write_studies(unlabelled, [replace(study, brand=None) for study in read_studies(studies)])
    with pytest.raises(
        GateError, match=r"INCONCLUSIVE in onnxruntime on 3 patients.*needs at least 368 patients without a flip, these are 3"
    ):
        export_bundle(tiny_run, load_target("web", recipe(tmp_path, STATISTICAL)), tmp_path / "web", unlabelled)
    assert export_bundle(tiny_run, load_target("web", recipe(tmp_path, NUMERICAL)), tmp_path / "web", unlabelled).manifest.verified


def test_a_variant_that_is_refused_names_the_one_that_passes(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, STATISTICAL, NUMERICAL)
    with pytest.raises(GateError, match=r"INCONCLUSIVE.*; web:fp32 passes"):
        export_only(tiny_run, load_target("web:fp16", path), tmp_path / "web", studies)
    with pytest.raises(GateError, match="not exported: INCONCLUSIVE") as caught:
        export_only(tiny_run, load_target("web", recipe(tmp_path, STATISTICAL)), tmp_path / "web", studies)
    assert "passes" not in caught.value.message
    assert "--simulate 1500" in caught.value.remedy  # three patients are too few for any verdict
    assert "more patients, whose brands need not be known" in caught.value.remedy
    assert not (tmp_path / "web").exists()


def test_on_the_command_line(tiny_run: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, STATISTICAL, NUMERICAL)
    common = ["--out", str(tmp_path / "web"), "--recipe", str(path), "--studies", str(studies)]
    assert edgekit(["export", str(tiny_run), "web:fp16", *common]) == 3
    assert "web:fp32 passes" in capsys.readouterr().err
    assert edgekit(["export", str(tiny_run), "web", *common, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [attempt["variant"] for attempt in document["left"]] == ["web:fp16"]
    assert edgekit(["export", str(tiny_run), "web", *common, "--force"]) == 3  # no bundle that failed replaces one that passed
    assert "holds a verified bundle" in capsys.readouterr().err
    forced = ["--out", str(tmp_path / "forced"), *common[2:], "--force"]
    assert edgekit(["export", str(tiny_run), "web", *forced]) == 0
    assert json.loads((tmp_path / "forced" / "manifest.json").read_text())["precision"] == "fp16"


def test_what_was_tried_is_told_with_the_fewest_foreseen_changes_first() -> None:
    attempts = [Attempt("web:w8a8", "", 90.0, 10.4, None, 0.0123), Attempt("web:fp16", "", 30.0, 19.2, 81.5)]
    head, *lines = tabulate(attempts).splitlines()
    assert lines == ["web:w8a8  10.40  -      1.23 %              1.50", "web:fp16  19.20  81.50  -                   0.50"]
    assert head.startswith("variant   MB     ms     foreseen to change")
