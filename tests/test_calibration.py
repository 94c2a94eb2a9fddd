from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pedicle_screws import make_spec
from PIL import Image

from edgekit.backends import onnx as backend
from edgekit.bundle import export_bundle
from edgekit.calibration import read_calibration
from edgekit.errors import GateError, InputError
from edgekit.files import hash_file, write_json
from edgekit.golden import check_golden
from edgekit.radiograph import read_radiograph
from edgekit.stress import open_faults
from edgekit.studies import write_studies
from edgekit.targets import load_target
from edgekit.types import Artifact, Calibration, Radiograph, Study

SIDE = 128
WANTED = Calibration("minmax", 100, 0.99)

RECIPE = """
backend = "onnx"
ensemble = "ap+lateral"
sessions = ["onnxruntime"]
opset = 20
[variants.w8a8]
stages = { detector = "w8a8", geometry = "fp32", members = "w8a8", ensemble = "fp32" }
judge = { basis = "statistical", margin = 0.01, agreement = 0.985 }
calibration = { method = "minmax", patients = 100, changed = 0.99 }
"""


def film(folder: Path, name: str, seed: int) -> Path:
    path = folder / f"{name}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8)).save(path)
    return path


def row(folder: Path, number: int, split: str, brand: str | None = "design-a") -> Study:
    films = {view: film(folder, f"{number}-{view}", 2 * number + place) for place, view in enumerate(("ap", "lateral"))}
    return Study(f"p{number}", brand, split=split, films=films)


def make_run(tiny_run: Path, folder: Path, rows: list[Study]) -> Path:
    """A copy of the tiny run that was trained on `rows`."""
    write_studies(folder / "studies.csv", rows)
    run = shutil.copytree(tiny_run, folder / "run")
    write_json(run / "provenance.json", {"studies": {"path": "../studies.csv", "sha256": hash_file(folder / "studies.csv")}})
    return run


@pytest.fixture
def rows(tmp_path: Path) -> list[Study]:
    splits = [*["validation"] * 4, "test", "train"]
    brands = "design-a", "design-b"
    return [row(tmp_path, number, split, brands[number % 2]) for number, split in enumerate(splits)] + [
        row(tmp_path, 9, "validation", "none")
    ]


def test_it_reads_the_validation_patients_that_have_a_construct(tiny_run: Path, rows: list[Study], tmp_path: Path) -> None:
    run = make_run(tiny_run, tmp_path, rows)
    found = read_calibration(run, WANTED, rows[4:5], make_spec(SIDE))
    assert len(found.patients.inputs) == 4
    assert found.patients.brands == ("design-a", "design-b", "design-a", "design-b")
    for study, inputs in zip(rows, found.patients.inputs, strict=False):
        np.testing.assert_array_equal(inputs["lateral"][0, 0], np.asarray(Image.open(study.film("lateral"))))
    assert found.provenance(tmp_path / "build") == {
        "path": "../studies.csv",
        "sha256": hash_file(tmp_path / "studies.csv"),
        "split": "validation",
        "patients": 4,
    }
    few = read_calibration(run, Calibration("minmax", 2, 0.99), rows[4:5], make_spec(SIDE))
    np.testing.assert_array_equal(
        [inputs["ap"] for inputs in few.patients.inputs], [found.patients.inputs[place]["ap"] for place in (0, 2)]
    )


def test_nothing_is_read_where_nothing_is_calibrated(tiny_run: Path) -> None:
    found = read_calibration(tiny_run, None, (), make_spec(SIDE))
    assert (list(found.patients.inputs), found.provenance(tiny_run)) == ([], None)


def test_a_film_that_is_also_judged_on_is_refused_under_any_name(tiny_run: Path, rows: list[Study], tmp_path: Path) -> None:
    run = make_run(tiny_run, tmp_path, rows)
    copy = Path(shutil.copy(rows[1].film("ap"), tmp_path / "copy.png"))
    with pytest.raises(InputError, match=r"1 films are both calibrated and judged on, such as .*1-ap\.png and .*copy\.png"):
        read_calibration(run, WANTED, [Study("other", "design-b", films={"ap": copy, "lateral": None})], make_spec(SIDE))
    write_studies(tmp_path / "others.csv", [Study("other", "design-b", split="test", films={"ap": copy, "lateral": None})])
    (tmp_path / "mine.toml").write_text(RECIPE)
    with pytest.raises(InputError, match="calibrated and judged"):
        export_bundle(run, load_target("desktop-cpu", tmp_path / "mine.toml"), tmp_path / "out", tmp_path / "others.csv")
    assert not (tmp_path / "out").exists()


def test_an_empty_calibration_set_is_refused(tiny_run: Path, rows: list[Study], tmp_path: Path) -> None:
    run = make_run(tiny_run, tmp_path, rows[4:])
    with pytest.raises(InputError, match="no validation patient with a construct"):
        read_calibration(run, WANTED, (), make_spec(SIDE))
    with pytest.raises(InputError, match="names no studies to calibrate on"):
        read_calibration(tiny_run, WANTED, (), make_spec(SIDE))
    write_studies(tmp_path / "studies.csv", rows)
    with pytest.raises(InputError, match="has changed"):
        read_calibration(run, WANTED, (), make_spec(SIDE))


def test_a_film_that_can_not_be_read_costs_its_patient_and_is_told(tiny_run: Path, rows: list[Study], tmp_path: Path) -> None:
    run = make_run(tiny_run, tmp_path, rows)
    assert rows[1].film("ap") is not None
    rows[1].film("ap").write_bytes(b"no picture")
    found = read_calibration(run, WANTED, (), make_spec(SIDE))
    assert found.patients.brands == ("design-a", "design-a", "design-b")
    (reason,) = found.unreadable
    assert "1-ap.png" in reason


def test_too_few_patients_of_a_brand_are_an_error_that_says_how_many_it_takes(tiny_run: Path, rows: list[Study], tmp_path: Path) -> None:
    run = make_run(tiny_run, tmp_path, [*rows[:3], *rows[4:]])
    (tmp_path / "mine.toml").write_text(RECIPE)
    with pytest.raises(InputError, match="3 calibration patients are too few for 8 bits, which need 2 of each brand with the same films"):
        export_bundle(run, load_target("desktop-cpu", tmp_path / "mine.toml"), tmp_path / "out", force=True)


def test_an_8_bit_bundle_says_what_it_is(tiny_run: Path, tiny_bundle: Path, rows: list[Study], tmp_path: Path) -> None:
    """Too few patients for a statistical PASS, so it is written by force and says so."""
    run = make_run(tiny_run, tmp_path, rows)
    (tmp_path / "mine.toml").write_text(RECIPE)
    target = load_target("desktop-cpu", tmp_path / "mine.toml")
    bundle = export_bundle(run, target, tmp_path / "out", force=True)
    manifest = bundle.manifest
    assert (manifest.precision, manifest.verified) == ("w8a8", False)
    assert manifest.provenance["calibration"]["patients"] == 4
    assert manifest.graph["operators"]["QuantizeLinear"] > 100
    assert {"quantization.json", "runner/run.py"} <= set(manifest.files)
    (judged,) = manifest.parity
    assert (judged["basis"], judged["verdict"], judged["n"]) == ("statistical", "INCONCLUSIVE", 1)
    assert bundle.model.stat().st_size < 0.3 * (tiny_bundle / "model.onnx").stat().st_size
    saturation = manifest.graph["saturation"]
    assert saturation["layers"] > 50
    assert (saturation["can_overflow"], saturation["largest_pair_sum"] <= saturation["limit"]) == ([], True)
    *_, stress = json.loads((bundle.folder / "golden" / "golden.json").read_bytes())["cases"]
    assert stress["name"] == "stress"
    with open_faults(bundle) as faults:  # on this case alone the same change is found again
        for fault, session in faults.items():
            off = check_golden(bundle, session)
            assert max(off.errors[name] / limit for name, limit in off.tolerance.items() if limit) >= stress["exposes"][fault] > 0
            assert off.exceeded
    again = export_bundle(run, target, tmp_path / "again", force=True)
    assert again.manifest.model_sha256 == manifest.model_sha256


def test_no_film_that_judges_is_seen_before_the_model_is_made(
    tiny_run: Path, rows: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by calibration nor by repair, which is made to give blocks back."""
    run = make_run(tiny_run, tmp_path, rows)
    (tmp_path / "mine.toml").write_text(RECIPE.replace("changed = 0.99", "changed = 0.00004"))
    target = load_target("desktop-cpu", tmp_path / "mine.toml")
    seen: list[str] = []
    when_made: list[set[str]] = []

    def read(path: Path) -> Radiograph:
        seen.append(path.name)
        return read_radiograph(path)

    def convert(*given: Any) -> Artifact:
        artifact = made(*given)
        when_made.append(set(seen))
        return artifact

    made = backend.convert
    monkeypatch.setattr("edgekit.canvases.read_radiograph", read)
    monkeypatch.setattr(backend, "convert", convert)
    judged = [row(tmp_path, 20, "test"), row(tmp_path, 21, "test", "design-b")]
    write_studies(tmp_path / "others.csv", judged)
    bundle = export_bundle(run, target, tmp_path / "out", tmp_path / "others.csv", force=True)
    repair = json.loads((bundle.folder / "quantization.json").read_bytes())
    assert repair["kept_float"], "nothing was repaired, so this proves nothing"
    assert when_made == [{f"{number}-{view}.png" for number in range(4) for view in ("ap", "lateral")}]
    assert {"20-ap.png", "21-lateral.png"} <= set(seen), "the spy sees the films that judge"
    (parity,) = bundle.manifest.parity
    assert parity["foreseen"] == repair["after"]


def test_a_float16_bundle_says_how_near_its_layers_come_to_the_largest(tiny_run: Path, rows: list[Study], tmp_path: Path) -> None:
    run = make_run(tiny_run, tmp_path, rows)
    recipe = RECIPE.replace("w8a8", "fp16")
    asked = re.sub("calibration = .*", "float16 = { patients = 3, limit = 1.0 }", recipe)
    for name, text in {
        "asked": asked,
        "strict": asked.replace("limit = 1.0", "limit = 0.00001"),
        "silent": re.sub("calibration = .*", "", recipe),
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    bundle = export_bundle(run, load_target("desktop-cpu", tmp_path / "asked.toml"), tmp_path / "out", force=True)
    found = json.loads((bundle.folder / "float16.json").read_bytes())
    assert (found["limit"], found["patients"], found["largest_float16"]) == (1.0, 3, float(np.finfo(np.float16).max))
    assert {layer["layer"].partition(".")[0] for layer in found["layers"]} == {"detector", "members"}
    with pytest.raises(
        GateError, match=r"layers come too near to float16's largest value: \S+ reaches \d+ of 65504, the recipe accepts 1e-05"
    ):
        export_bundle(run, load_target("desktop-cpu", tmp_path / "strict.toml"), tmp_path / "strict")
    silent = export_bundle(run, load_target("desktop-cpu", tmp_path / "silent.toml"), tmp_path / "silent", force=True)
    assert any("float16 was not looked at: the recipe does not ask" in sentence for sentence in silent.manifest.unproven)


def test_a_model_beyond_its_budget_is_not_exported(
    tiny_run: Path, rows: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tiny_run, tmp_path, rows)
    numerical = RECIPE.replace("w8a8", "fp32").replace('"statistical", margin = 0.01, agreement = 0.985', '"numerical"')
    numerical = numerical.replace('calibration = { method = "minmax", patients = 100, changed = 0.99 }', "budget = { size_mb = 1.0 }")
    (tmp_path / "tight.toml").write_text(numerical)
    (tmp_path / "slow.toml").write_text(numerical.replace("size_mb = 1.0", "p50_ms = 0.01"))
    (tmp_path / "vain.toml").write_text(RECIPE + "budget = { gain = 1000.0 }\n")
    with pytest.raises(GateError, match=r"8 bits are \d\.\d\d times as fast as the same graph in float, the recipe's budget is 1000"):
        export_bundle(run, load_target("desktop-cpu", tmp_path / "vain.toml"), tmp_path / "out")
    with pytest.raises(GateError, match=r"onnxruntime takes \d+\.\d ms, the recipe's budget is 0.01 ms"):
        export_bundle(run, load_target("desktop-cpu", tmp_path / "slow.toml"), tmp_path / "out")
    monkeypatch.setattr("edgekit.parity.measure_parity", None)  # a model that is too large is refused before it is judged
    with pytest.raises(GateError, match=r"larger than the recipe's budget of 1 MB; the model has \d+\.\d\d MB"):
        export_bundle(run, load_target("desktop-cpu", tmp_path / "tight.toml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
