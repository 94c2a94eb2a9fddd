from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from resealing import read_manifest

from edgekit import bundle as bundles
from edgekit.backends import onnx as backend
from edgekit.bundle import add_latency, export_bundle, verification_rows
from edgekit.cli import run as edgekit
from edgekit.contract import OUTPUTS
from edgekit.errors import DamagedBundleError, GateError, InputError
from edgekit.files import hash_file
from edgekit.golden import check_golden, read_golden
from edgekit.manifest import open_bundle, write_manifest
from edgekit.models.runfolder import find_run, save_weights
from edgekit.processors import read_features
from edgekit.sessions import open_session
from edgekit.studies import read_studies, write_studies
from edgekit.targets import load_target
from edgekit.task import INTENDED_USE, PEDICLE_SCREWS
from edgekit.types import Artifact, Study, Target

WEB = replace(load_target("web:onnx-fp32"), sessions=("onnxruntime",))  # the browser has tests of its own


PLAIN = """
backend = "onnx"
ensemble = "ap+lateral"
sessions = ["onnxruntime"]
opset = 20
[variants.fp32]
stages = { detector = "fp32", geometry = "fp32", members = "fp32", ensemble = "fp32" }
judge = { basis = "numerical" }
"""


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def studies(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Four patients of three brands and one without a construct, on the bundle's own canvases."""
    films = tmp_path / "films"
    shutil.copytree(tiny_bundle / "golden", films)
    for other in ("trained", "excluded"):
        shutil.copy(films / "both-ap.png", films / f"{other}.png")
    rows = [
        Study("p1", "design-a", split="test", films={"ap": films / "both-ap.png", "lateral": films / "both-lateral.png"}),
        Study("p2", "design-b", split="test", films={"ap": films / "ap-ap.png", "lateral": None}),
        Study("p3", "design-c", split="test", films={"ap": None, "lateral": films / "lateral-lateral.png"}),
        Study("p4", "none", split="test", films={"ap": films / "none-ap.png", "lateral": films / "none-lateral.png"}),
        Study("p5", "design-a", split="train", films={"ap": films / "trained.png", "lateral": None}),
        Study("p6", "design-a", split="test", exclude="two brands", films={"ap": films / "excluded.png", "lateral": None}),
    ]
    write_studies(tmp_path / "studies.csv", rows)
    return tmp_path / "studies.csv"


@pytest.fixture
def quick(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export takes the tiny bundle's model instead of converting, and noise instead of simulated films."""

    def convert(_: Any, __: Target, folder: Path, ___: Any) -> Artifact:
        shutil.copy(tiny_bundle / "model.onnx", folder)
        return Artifact("model.onnx", ("model.onnx",))

    def simulate(_: str, seed: int, views: tuple[str, ...], side: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        return {view: random.integers(0, 256, (side, side), np.uint8) for view in views}

    monkeypatch.setattr(backend, "convert", convert)
    monkeypatch.setattr("edgekit.golden.simulate_canvases", simulate)


def damage_export(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    """Make export swap the weights of the two members."""

    def convert(_: Any, __: Target, folder: Path, ___: Any) -> Artifact:
        model = onnx.load(tiny_bundle / "model.onnx")
        swapped = {"members.ap.": "members.lateral.", "members.lateral.": "members.ap."}
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        contents = {name: tensor.raw_data for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            for prefix, other in swapped.items():
                if name.startswith(prefix):
                    tensor.raw_data = contents[name.replace(prefix, other)]
        onnx.save(model, folder / "model.onnx")
        return Artifact("model.onnx", ("model.onnx",))

    monkeypatch.setattr(backend, "convert", convert)


def forge(folder: Path, **changes: Any) -> None:
    """Change the manifest and hash it anew, as someone who means it would."""
    write_manifest(folder, replace(read_manifest(folder), **changes))


def test_a_bundle_tells_what_it_is(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)
    manifest = opened.manifest
    assert (manifest.target, manifest.precision) == ("desktop-cpu", "fp32")
    assert (opened.brands, opened.canvas_side) == (("design-a", "design-b", "design-c"), 128)
    assert manifest.stages == dict.fromkeys(("detector", "geometry", "members", "ensemble"), "fp32")
    ap, boxes, decision = manifest.tensors["inputs"]["ap"], manifest.tensors["outputs"]["boxes"], manifest.tensors["outputs"]["decision"]
    assert (ap["dtype"], ap["shape"]) == ("uint8", [1, 1, 128, 128])
    assert (boxes["dtype"], boxes["shape"], boxes["tolerance"], boxes["of_found"]) == ("float32", [2, 4], 0.5, True)
    assert (decision["dtype"], decision["shape"], decision["tolerance"], decision["of_found"]) == ("int32", [1], 0.0, False)
    assert all(row["description"] for row in (ap, boxes, decision))
    assert (manifest.crop, manifest.cases) == ({"side": 64, "margin": 0.05, "black": 8}, ("ap", "lateral", "both"))
    assert manifest.task == PEDICLE_SCREWS
    assert list(manifest.tensors["outputs"]) == list(OUTPUTS)
    assert manifest.recipe["ensemble"] == manifest.ensemble == "ap+lateral"
    assert (manifest.intended_use, manifest.licence) == (INTENDED_USE, "AGPL-3.0-or-later")
    assert manifest.graph["opset"] == 20
    model = (tiny_bundle / "model.onnx").read_bytes()
    assert manifest.files["model.onnx"] == {"sha256": hashlib.sha256(model).hexdigest(), "size": len(model)}
    assert {"recipe.toml", "golden/golden.json"} < set(manifest.files)
    assert INTENDED_USE in (tiny_bundle / "MODEL_CARD.md").read_text()


def test_nothing_in_it_names_a_folder_of_this_machine(tiny_bundle: Path) -> None:
    for path in tiny_bundle.rglob("*.*"):
        assert str(tiny_bundle.parents[1]).encode() not in path.read_bytes(), path.name


def test_one_flipped_byte_anywhere_is_noticed(bundle_copy: Path) -> None:
    for path in sorted(path for path in bundle_copy.rglob("*") if path.is_file()):
        content = path.read_bytes()
        places = range(0, len(content), max(1, len(content) // 60)) if path.name == "manifest.json" else [len(content) // 2]
        for place in places:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(DamagedBundleError):
                open_bundle(bundle_copy)
        path.write_bytes(content)
    open_bundle(bundle_copy)


def test_a_manifest_that_reads_the_same_but_is_not_is_noticed(bundle_copy: Path) -> None:
    manifest = bundle_copy / "manifest.json"
    content = manifest.read_bytes()
    for other in (content.replace(b"  ", b"\t ", 1), content + b"\n", content.replace(b'"schema"', b'"\\u0073chema"', 1)):
        assert json.loads(other) == json.loads(content)
        manifest.write_bytes(other)
        with pytest.raises(DamagedBundleError, match="manifest"):
            open_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("name", "system"),
    [
        (".DS_Store", "macOS"),
        ("golden/.DS_Store", "macOS"),
        ("golden/._model.onnx", "macOS"),
        ("Thumbs.db", "Windows"),
        ("Desktop.ini", "Windows"),
    ],
)
def test_a_file_that_the_system_left_is_told_for_what_it_is(
    bundle_copy: Path, name: str, system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_copy.rename(bundle_copy.with_name("my bundle"))
    (bundle / name).write_bytes(b"\0\0\0\1Bud1")
    assert edgekit(["predict", str(bundle), "--ap", "film.png"]) == 6
    error = capsys.readouterr().err
    assert f"'{name}' (of {system}" in error
    assert "no part of the bundle" in error
    assert "damaged" not in error
    command = error.partition("remedy: delete them: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert open_bundle(bundle).brands


def test_a_strange_file_beside_the_systems_is_damage(bundle_copy: Path) -> None:
    for name in (".DS_Store", "extra.txt", "Thumbs.db"):
        (bundle_copy / name).touch()
    with pytest.raises(DamagedBundleError, match=r"is damaged: 'extra.txt' is not listed"):
        open_bundle(bundle_copy)


def test_missing_unlisted_and_linked_files_are_damage(bundle_copy: Path, tmp_path: Path) -> None:
    extra = bundle_copy / "golden" / "extra.txt"
    extra.write_text("x")
    with pytest.raises(DamagedBundleError, match=r"'golden/extra.txt' is not listed"):
        open_bundle(bundle_copy)
    extra.unlink()
    recipe = bundle_copy / "recipe.toml"
    recipe.rename(tmp_path / "recipe.toml")
    with pytest.raises(DamagedBundleError, match=r"'recipe.toml' is missing"):
        open_bundle(bundle_copy)
    recipe.symlink_to(tmp_path / "recipe.toml")
    with pytest.raises(DamagedBundleError, match="is a link"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "golden/../../outside", "C:/outside", "golden\\outside", "./model.onnx", ""])
def test_a_path_that_leaves_the_bundle_is_refused_before_it_is_read(bundle_copy: Path, name: str) -> None:
    (bundle_copy.parent / "outside").write_bytes(b"x")
    files = json.loads((bundle_copy / "manifest.json").read_bytes())["files"]
    forge(bundle_copy, files={**files, name: {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}})
    with pytest.raises(DamagedBundleError, match="leaves the bundle"):
        open_bundle(bundle_copy)


def test_what_is_no_bundle_is_bad_input(bundle_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such bundle"):
        open_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a bundle"):
        open_bundle(tmp_path / "empty")
    manifest = json.loads((bundle_copy / "manifest.json").read_bytes())
    for schema, remedy in ((99, "pip install --upgrade"), (2, "edgekit export .*tiny desktop-cpu:fp32 --out NEW")):
        content = {key: value for key, value in {**manifest, "schema": schema}.items() if key != "manifest_sha256"}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        sealed = {**content, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}
        (bundle_copy / "manifest.json").write_text(json.dumps(sealed, indent=2, ensure_ascii=False) + "\n")
        with pytest.raises(InputError, match=f"schema {schema}") as refused:
            open_bundle(bundle_copy)
        assert re.search(remedy, refused.value.remedy)


@pytest.mark.usefixtures("quick")
def test_a_passing_export_is_put_in_place_verified(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "build" / "web"
    opened = export_bundle(tiny_run, WEB, out, studies)
    assert opened.manifest.verified is True
    (parity,) = opened.manifest.parity
    assert (parity["verdict"], parity["negative_control"], parity["n"], parity["flips"]) == ("PASS", "FAIL", 4, 0)
    assert parity["max_probability_error"] <= 1e-4
    provenance = opened.manifest.provenance
    assert provenance["studies"]["sha256"] == hashlib.sha256(studies.read_bytes()).hexdigest()
    assert find_run(opened).samefile(tiny_run)
    assert "verified" in (out / "MODEL_CARD.md").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["web"]


@pytest.mark.usefixtures("quick")
def test_a_bundle_for_the_web_has_the_runs_corner_finder(tiny_run: Path, random_finder: Any, studies: Path, tmp_path: Path) -> None:
    """Without one the manifest and the card say so; with one the run's answers to films, and so its hash, are the same."""
    without = export_bundle(tiny_run, WEB, tmp_path / "without", studies)
    assert without.manifest.corners is None
    assert "the run has no corner finder" in (without.folder / "MODEL_CARD.md").read_text()
    run = shutil.copytree(tiny_run, tmp_path / "run")
    save_weights(run / "corners.safetensors", random_finder)
    opened = export_bundle(run, WEB, tmp_path / "with", studies)
    assert opened.manifest.corners == {"model": "corners.onnx", "side": 320, "weights": "int8"}
    assert opened.manifest.files["corners.onnx"]["size"] == (opened.folder / "corners.onnx").stat().st_size < 200_000
    assert opened.manifest.provenance["run"]["sha256"] == without.manifest.provenance["run"]["sha256"]
    assert "corners.onnx suggests the film's corners" in (opened.folder / "MODEL_CARD.md").read_text()
    assert export_bundle(run, replace(WEB, corners=None), tmp_path / "none", studies).manifest.corners is None


@pytest.mark.usefixtures("quick")
def test_swapped_members_fail_and_leave_the_old_bundle_alone(
    tiny_run: Path, tiny_bundle: Path, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "build" / "web"
    export_bundle(tiny_run, WEB, out, studies)
    before = (out / "manifest.json").read_bytes()
    damage_export(monkeypatch, tiny_bundle)
    with pytest.raises(GateError, match="FAIL in onnxruntime on 4 patients"):
        export_bundle(tiny_run, WEB, out, studies)
    with pytest.raises(GateError, match="holds a verified bundle"):
        export_bundle(tiny_run, WEB, out, studies, force=True)
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["web"]

    forced = export_bundle(tiny_run, WEB, tmp_path / "build" / "forced", studies, force=True)
    assert forced.manifest.verified is False
    assert forced.manifest.parity[0]["verdict"] == "FAIL"
    assert "NOT VERIFIED" in (forced.folder / "MODEL_CARD.md").read_text()
    assert bundles.describe_verification(forced).startswith("not verified: FAIL")


def test_a_failure_on_the_way_leaves_no_trace(tiny_run: Path, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(_: Any, __: Target, folder: Path, ___: Any) -> Artifact:
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device", str(folder / "model.onnx"))

    monkeypatch.setattr(backend, "convert", convert)
    with pytest.raises(OSError, match="No space"):
        export_bundle(tiny_run, WEB, tmp_path / "build" / "web", studies)
    assert list((tmp_path / "build").iterdir()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("two years")
    with pytest.raises(InputError, match="is not a bundle"):
        export_bundle(tiny_run, WEB, tmp_path / "thesis", studies)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "two years"


@pytest.mark.usefixtures("quick")
def test_the_runs_own_studies_are_the_default_and_must_be_the_same(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    record = {"path": str(studies), "sha256": hashlib.sha256(studies.read_bytes()).hexdigest()}
    (run / "provenance.json").write_text(json.dumps({"studies": record}))
    assert export_bundle(run, WEB, tmp_path / "web").manifest.parity[0]["n"] == 4
    studies.write_text(studies.read_text().replace("p2", "p02"))
    with pytest.raises(InputError, match="has changed"):
        export_bundle(run, WEB, tmp_path / "web")
    studies.rename(tmp_path / "moved.csv")
    with pytest.raises(InputError, match="not there"):
        export_bundle(run, WEB, tmp_path / "web")
    (run / "provenance.json").write_text("{}")
    with pytest.raises(InputError, match="names no studies"):
        export_bundle(run, WEB, tmp_path / "web")


@pytest.mark.usefixtures("quick")
def test_a_run_that_learned_from_all_its_patients_is_exported_unjudged_when_forced(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    write_studies(studies, [replace(study, split="train") for study in read_studies(studies)])
    (run / "provenance.json").write_text(json.dumps({"studies": {"path": str(studies), "sha256": hash_file(studies)}}))
    with pytest.raises(InputError, match="no rows to verify on"):
        export_bundle(run, WEB, tmp_path / "web")
    with pytest.raises(InputError, match="no rows to verify on"):  # a table that is named is not passed over
        export_bundle(run, WEB, tmp_path / "web", studies, force=True)
    manifest = export_bundle(run, WEB, tmp_path / "web", force=True).manifest
    assert (manifest.verified, manifest.parity) == (False, ())


@pytest.mark.usefixtures("quick")
def test_the_given_recipe_travels_with_the_bundle(tiny_run: Path, studies: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "my.toml"
    recipe.write_text(PLAIN.replace('"ap+lateral"', '"best"') + "# mine\n")
    opened = export_bundle(tiny_run, load_target("web", recipe), tmp_path / "web", studies)
    assert (tmp_path / "web" / "recipe.toml").read_text() == recipe.read_text()
    assert (opened.manifest.recipe["ensemble"], opened.manifest.ensemble) == ("best", "ap+lateral")


def test_the_run_is_found_where_it_was_or_where_it_is_said_to_be(tiny_run: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "runs" / tiny_run.name)
    relative = os.path.relpath(tiny_bundle, tiny_run.parents[1])
    moved = open_bundle(shutil.copytree(tiny_bundle, tmp_path / relative))
    with pytest.raises(InputError, match="is not there"):
        find_run(moved)
    run = find_run(moved, tmp_path / "runs" / tiny_run.name)
    ensembles = run / "ensembles.json"
    ensembles.write_text(ensembles.read_text() + " ")
    with pytest.raises(InputError, match="is not the run"):
        find_run(moved, run)


def test_latency_is_added_and_replaced_by_device(bundle_copy: Path) -> None:
    def record(cpu: str, p50_ms: float) -> dict[str, Any]:
        return {"device": {"cpu": cpu}, "provenance": {}, "rows": [{"p50_ms": p50_ms}]}

    opened = open_bundle(bundle_copy)
    for cpu, p50_ms in (("x", 3.0), ("y", 4.0), ("x", 2.0)):
        opened = add_latency(opened, record(cpu, p50_ms))
    assert [(each["device"]["cpu"], each["rows"][0]["p50_ms"]) for each in opened.manifest.latency] == [("y", 4.0), ("x", 2.0)]
    assert [path.name for path in bundle_copy.parent.iterdir()] == ["bundle"]


def test_the_rows_to_verify_on(studies: Path, tmp_path: Path) -> None:
    assert [study.patient_id for study in verification_rows(studies, PEDICLE_SCREWS.views)] == ["p1", "p2", "p3", "p4"]
    films = studies.parent / "films"
    write_studies(
        tmp_path / "unsplit.csv",
        [
            Study("p1", films={"ap": films / "ap-ap.png", "lateral": None}),
            Study("p2", exclude="blurred", films={"ap": films / "excluded.png", "lateral": None}),
        ],
    )
    assert [study.patient_id for study in verification_rows(tmp_path / "unsplit.csv", PEDICLE_SCREWS.views)] == ["p1"]
    assert [study.patient_id for study in verification_rows(studies, ("lateral",))] == ["p1", "p3", "p4"], "an empty answer agrees with any"
    with pytest.raises(InputError, match="the table lacks oblique, oblique_box"):
        verification_rows(studies, ("oblique",))
    write_studies(tmp_path / "trained.csv", [Study("p1", "a", split="train", films={"ap": films / "ap-ap.png", "lateral": None})])
    with pytest.raises(InputError, match="no rows to verify on"):
        verification_rows(tmp_path / "trained.csv", PEDICLE_SCREWS.views)


def test_golden_vectors_cover_every_way_to_give_films(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)
    cases = {case.name: case for case in read_golden(opened)}
    assert {name: case.inputs["present"].tolist() for name, case in cases.items()} == {
        "both": [1, 1],
        "ap": [1, 0],
        "lateral": [0, 1],
        "none": [1, 1],
    }
    canvas = np.asarray(Image.open(tiny_bundle / "golden" / "both-ap.png"))
    assert canvas.std() > 20  # a film, not an empty canvas
    np.testing.assert_array_equal(cases["both"].inputs["ap"][0, 0], canvas)
    assert (cases["lateral"].inputs["ap"] == 0).all()
    with open_session("onnxruntime", opened) as session:
        assert check_golden(opened, session).exceeded == []


@pytest.mark.parametrize(("name", "shift"), [("probabilities", 2e-4), ("boxes", 0.6), ("decision", 1), ("heatmaps", np.nan)])
def test_golden_vectors_notice_another_answer(tiny_bundle: Path, name: str, shift: float) -> None:
    opened = open_bundle(tiny_bundle)

    class Shifted:
        name = "shifted"

        def __init__(self) -> None:
            self.session = open_session("onnxruntime", opened)

        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = self.session.infer(inputs)
            return {**outputs, name: outputs[name] + shift}

    assert check_golden(opened, Shifted()).exceeded == [name]


@pytest.mark.usefixtures("quick")
def test_verify_on_the_command_line(tiny_run: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(export_bundle(tiny_run, WEB, tmp_path / "web", studies).folder)
    assert edgekit(["verify", folder]) == 0
    assert "verified: PASS in onnxruntime on 4 patients" in capsys.readouterr().out
    assert edgekit(["verify", folder, str(studies), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["parity"]["sessions"][0]["verdict"] == "PASS"
    assert document["golden"][0]["exceeded"] == []
    assert edgekit(["verify", folder, str(studies), "--run", str(tmp_path)]) == 4
    assert edgekit(["verify", folder, "--session", "abacus"]) == 2
    with (tmp_path / "web" / "model.onnx").open("r+b") as file:
        file.write(b"X")
    assert edgekit(["verify", folder]) == 6
    assert edgekit(["verify", str(tmp_path / "nowhere")]) == 4
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_export_on_the_command_line(
    tiny_run: Path, tiny_bundle: Path, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "plain.toml").write_text(PLAIN)
    out, rows = str(tmp_path / "web"), ["--studies", str(studies), "--recipe", str(tmp_path / "plain.toml")]
    assert edgekit(["export", str(tiny_run), "web", "--out", out, *rows, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["bundle"], document["verified"]) == (out, True)
    assert edgekit(["export", str(tiny_run), "toaster", "--out", out]) == 2
    assert edgekit(["export", str(tiny_run), "web", "--out", out, "--recipe", str(tmp_path / "none.toml")]) == 4
    damage_export(monkeypatch, tiny_bundle)
    assert edgekit(["export", str(tiny_run), "web", "--out", str(tmp_path / "bad"), *rows]) == 3
    assert "not exported: FAIL" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_a_folder_with_another_programs_manifest_is_never_replaced(tiny_run: Path, tmp_path: Path) -> None:
    """A web app has a manifest.json too."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "manifest.json").write_text('{"name": "mine"}')
    (app / "index.html").write_text("mine")
    with pytest.raises(InputError, match="not a sound bundle"):
        export_bundle(tiny_run, WEB, app, force=True)
    assert (app / "index.html").read_text() == "mine"


@pytest.mark.usefixtures("quick")
def test_a_recipes_processors_run_the_golden_vectors_or_are_named_unproven(
    tiny_run: Path, studies: Path, tmp_path: Path, qemu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qemu
    monkeypatch.setenv("EDGEKIT_ARM64", str(tmp_path / "nothing"))
    opened = export_bundle(tiny_run, replace(WEB, processors=("nehalem", "neon")), tmp_path / "web", studies)
    assert opened.manifest.verified
    proven = {(row["basis"], tuple(row["features"]), row["n"]) for row in opened.processors}
    assert proven == {("emulated", ("sse4_1",), 0), ("executed", read_features(), 4)}
    (sentence,) = opened.manifest.unproven
    assert sentence.startswith("onnxruntime was not emulated on neon here")
    assert "edgekit emulator arm64" in sentence
    assert str(tmp_path) not in sentence
    assert f"- {sentence}" in (opened.folder / "MODEL_CARD.md").read_text()
