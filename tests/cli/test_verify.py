from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from resealing import read_manifest

from edgekit import bundle as bundles
from edgekit.cli import run as edgekit
from edgekit.contract import OUTPUTS
from edgekit.errors import MissingError
from edgekit.manifest import open_bundle, write_manifest
from edgekit.studies import read_studies, write_studies
from edgekit.types import Study


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns(".references"))


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy whose recipe asks for one session, the quickest."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    restate(folder, recipe={**open_bundle(folder).manifest.recipe, "sessions": ["onnxruntime"]})
    return folder


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    random, films = np.random.default_rng(1), tmp_path / "films"
    films.mkdir()
    rows = []
    for number, brand in enumerate(("design-a", "design-b", "design-c")):
        paths = {view: films / f"{number}-{view}.png" for view in ("ap", "lateral")}
        for path in paths.values():
            Image.fromarray(random.integers(0, 256, (128, 128), np.uint8)).save(path)
        rows.append(Study(f"patient-{number}", brand, split="test", films=paths))
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"


def restate(bundle: Path, **changes: Any) -> None:
    """Change the manifest as `edgekit export` would have written it."""
    write_manifest(bundle, replace(read_manifest(bundle), **changes))


def answer(bundle: Path, pack: Path, out: Path, order: tuple[int, ...] = (0, 1, 2)) -> Path:
    """What a device's runner does; `order` mixes the patients up."""
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [name for name in OUTPUTS if name != "heatmaps"]
    with np.load(pack) as arrays:
        films = [{view: arrays[f"{view}_{row:06d}"][None, None] for view in ("ap", "lateral")} for row in order]
        rows = [session.run(names, {**film, "present": arrays["present"][0]}) for film in films]
        labels = {"schema": 1, "bundle": arrays["bundle"], "pack": arrays["pack"], "session": "tensorrt", "runtime": "TensorRT 10.3, Orin"}
    np.savez(out, **labels, **{name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    return out


def test_a_device_takes_a_pack_and_its_answers_are_judged(
    run: Path, bundle: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, pack = ["--run", str(run)], tmp_path / "canvases.npz"
    assert edgekit(["verify", str(bundle), str(studies), "--pack", str(pack)]) == 0
    assert f"edgekit verify {bundle} {studies} --outputs" in capsys.readouterr().out

    good = str(answer(bundle, pack, tmp_path / "good.npz"))
    assert edgekit(["verify", str(bundle), str(studies), "--outputs", good, *where, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (session,) = document["parity"]["sessions"]
    assert (session["session"], session["runtime"], session["verdict"]) == ("tensorrt", "TensorRT 10.3, Orin", "PASS")
    with np.load(pack) as arrays:
        assert session["pack"] == str(arrays["pack"])
    provenance = document["provenance"]
    assert provenance["studies_sha256"] == hashlib.sha256(studies.read_bytes()).hexdigest()
    assert provenance["model_sha256"] == hashlib.sha256((bundle / "model.onnx").read_bytes()).hexdigest()
    assert provenance["run_sha256"] == open_bundle(bundle).manifest.provenance["run"]["sha256"]
    assert {"edgekit", "commit", "date", "target", "precision"} < set(provenance)

    mixed = str(answer(bundle, pack, tmp_path / "mixed.npz", order=(2, 0, 1)))
    assert edgekit(["verify", str(bundle), str(studies), "--outputs", mixed, *where]) == 3
    printed = capsys.readouterr()
    assert "the verdict in tensorrt is FAIL" in printed.err
    assert "Changed in tensorrt" in printed.out
    assert "patient-" in printed.out


def test_films_of_unknown_brand_are_judged(run: Path, bundle: Path, studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_studies(studies, [replace(study, brand=None) for study in read_studies(studies)])
    words = ["verify", str(bundle), str(studies), "--run", str(run)]
    assert edgekit(words) == 0
    restate(bundle, judge={"basis": "statistical", "margin": 0.01, "agreement": 0.985})
    assert edgekit(words) == 3
    printed = capsys.readouterr().err
    assert "is INCONCLUSIVE" in printed
    assert "needs at least 368 patients" in printed
    assert "verify on more patients, whose brands need not be known" in " ".join(printed.split())


def test_a_pack_of_other_films_and_a_file_that_is_none_are_bad_input(
    run: Path, bundle: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "canvases.npz"
    assert edgekit(["verify", str(bundle), str(studies), "--pack", str(pack), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["pack"]["file"], document["pack"]["rows"], document["parity"]) == (str(pack), 3, None)
    outputs = answer(bundle, pack, tmp_path / "outputs.npz")
    Image.fromarray(np.tile(np.arange(128, dtype=np.uint8), (128, 1))).save(studies.parent / "films" / "1-ap.png")
    for file, message in (
        (outputs, "other canvases"),
        (studies, "not an .npz file"),
        (pack, "lacks box_scores"),
        (tmp_path, "no such file"),
    ):
        assert edgekit(["verify", str(bundle), str(studies), "--outputs", str(file), "--run", str(run)]) == 4
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("option", ["--pack", "--outputs"])
def test_a_pack_needs_films(bundle: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit(["verify", str(bundle), option, str(tmp_path / "x.npz")]) == 2
    assert f"{option} needs the films" in capsys.readouterr().err


def test_pack_and_outputs_exclude_each_other(bundle: Path, studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit(["verify", str(bundle), str(studies), "--pack", "a.npz", "--outputs", "b.npz"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_what_was_not_proven_and_not_verified_is_said(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    restate(bundle, unproven=["the engine was not built on a Jetson"])
    assert edgekit(["verify", str(bundle)]) == 0
    printed = capsys.readouterr().out
    assert "not proven: the engine was not built on a Jetson" in printed
    assert "not verified: never compared with its reference" in printed


def test_a_machine_without_the_sessions_packs_and_judges_but_does_not_verify(
    run: Path, bundle: Path, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_session(*_: Any, **__: Any) -> Any:
        raise MissingError("no onnxruntime here", "buy one")

    pack = tmp_path / "canvases.npz"
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "open_session", open_session)
        assert edgekit(["verify", str(bundle), str(studies), "--pack", str(pack)]) == 0
        assert "golden vectors not checked: this machine has no session" in capsys.readouterr().out
        outputs = answer(bundle, pack, tmp_path / "outputs.npz")
        assert edgekit(["verify", str(bundle), str(studies), "--outputs", str(outputs), "--run", str(run)]) == 0
        assert edgekit(["verify", str(bundle), str(studies), "--run", str(run)]) == 5


def test_changed_patients_are_listed_for_people(
    run: Path, bundle: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "canvases.npz"
    assert edgekit(["verify", str(bundle), str(studies), "--pack", str(pack)]) == 0
    outputs = answer(bundle, pack, tmp_path / "outputs.npz")
    with np.load(outputs) as arrays:
        other = {**arrays}
    likely = other["probabilities"][1].max()
    other["probabilities"][1] = np.roll(other["probabilities"][1], 1)  # as sure of another brand
    np.savez(outputs, **other)
    capsys.readouterr()
    assert edgekit(["verify", str(bundle), str(studies), "--outputs", str(outputs), "--run", str(run)]) == 3
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "patient-1" in line]
    assert "design-b" in line
    assert line.count(f" {likely:.3f}, ") == 2
