"""The device-side code that ships in bundles."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tree_sitter
import tree_sitter_javascript
import tree_sitter_kotlin
import tree_sitter_swift
from pedicle_screws import INPUTS, VIEWS
from PIL import Image
from resealing import change_golden, read_manifest, tolerate

from edgekit.backends import onnx as backend
from edgekit.bundle import export_bundle
from edgekit.contract import OUTPUTS
from edgekit.golden import read_golden
from edgekit.manifest import open_bundle, write_manifest
from edgekit.processors import describe_processor
from edgekit.remembered import FOLDER
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.targets import load_target
from edgekit.types import DECISIONS, Artifact, Latency, Target

EXPORT = Path(__file__).parents[2] / "export"
GRAMMARS = {".js": tree_sitter_javascript, ".kt": tree_sitter_kotlin, ".swift": tree_sitter_swift}
RUNNERS = [path for path in sorted(EXPORT.glob("*/runner/**/*")) if path.suffix in GRAMMARS]
SENT = [name for name in OUTPUTS if name != "heatmaps"]

ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("edgekit", "torch", "onnx"), None))  # importing one of them is now an error
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(bundle: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the bundle's runner in a folder of its own, without edgekit."""
    command = [sys.executable, "-I", "-c", ALONE, str(bundle / "runner" / "run.py"), *map(str, words)]
    return subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, check=False, timeout=120)


# -- ONNX ----------------------------------------------------------------------------------------------------------------------


def test_a_bundle_checks_itself_without_edgekit(bundle: Path) -> None:
    answer = run(bundle, "--threads", 1)
    assert answer.returncode == 0, answer.stderr
    title, _, *rows, speed = answer.stdout.splitlines()
    assert title.startswith("ap+lateral for desktop-cpu, fp32, onnxruntime 1.")
    assert [row.split()[0] for row in rows] == list(OUTPUTS)
    assert all(float(row.split()[1]) <= float(row.split()[2]) for row in rows)
    assert speed.startswith("one patient, two films: median ")
    open_bundle(bundle)  # it leaves nothing behind


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "golden/both-ap.png", "golden/golden.json", "manifest.json", "recipe.toml", "runner/run.py", "runner/bundle_runner.py"],
)
def test_a_changed_byte_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    said = {"runner/run.py": b"Run this bundle", "runner/bundle_runner.py": b"What the Python runners"}
    place = content.index(said[name]) if name in said else len(content) // 2
    content[place] ^= 1
    (bundle / name).write_bytes(content)
    answer = run(bundle)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {name} was changed" if name == "manifest.json" else f"error: {name} is missing or was changed")
    assert not answer.stdout


def test_a_path_that_leaves_the_bundle_is_refused(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    (bundle.parent / "outside").write_bytes(b"x")
    write_manifest(bundle, replace(manifest, files={**manifest.files, "../outside": {"sha256": "0", "size": 1}}))
    answer = run(bundle)
    assert (answer.returncode, answer.stderr) == (1, "error: ../outside leaves the bundle\n")


@pytest.mark.parametrize(("name", "tolerated"), [("probabilities", 1e-4), ("decision", 0.0)])
def test_another_answer_than_the_golden_one_fails_by_the_bundles_own_tolerance(bundle: Path, name: str, tolerated: float) -> None:
    assert read_manifest(bundle).tensors["outputs"][name]["tolerance"] == tolerated
    change_golden(bundle, 2, name, 0, by=2)
    answer = run(bundle)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: too far from the golden vectors: {name}; ")
    assert "try another version of onnxruntime" in answer.stderr
    tolerate(bundle, name, 2.1)
    assert run(bundle).returncode == 0
    tolerate(bundle, name, None)
    answer = run(bundle)
    assert answer.returncode == 0
    assert f"\n{name} " not in answer.stdout  # what is not compared is not shown as if it were


def test_it_answers_for_canvases(bundle: Path) -> None:
    both, ap, *_ = json.loads((bundle / "golden" / "golden.json").read_text())["cases"]
    brands = open_bundle(bundle).brands
    for case in (both, ap):
        answer = run(bundle, *(word for view, name in case["films"].items() for word in (f"--{view}", bundle / "golden" / name)))
        assert answer.returncode == 0, answer.stderr
        lines = answer.stdout.splitlines()
        assert lines[0].split(":")[0] == DECISIONS[case["outputs"]["decision"][0]]
        shown = {line.split()[-1]: line.split() for line in lines[1 : len(brands) + 1]}
        for brand, probability, chosen in zip(brands, case["outputs"]["probabilities"], case["outputs"]["prediction_set"], strict=True):
            assert float(shown[brand][0]) == pytest.approx(probability, abs=1.5e-4)
            assert ("*" in shown[brand]) == bool(chosen)
        assert [line.split(":")[0] for line in lines if ": box " in line] == list(case["films"])
    film = bundle.parent / "film.png"
    Image.new("L", (640, 480)).save(film)
    answer = run(bundle, "--ap", film)
    assert (answer.returncode, answer.stderr) == (1, "error: ap is uint8 (480, 640), expected a canvas: 8-bit gray, 128 x 128 pixels\n")


def test_a_film_is_given_by_its_view_and_no_other(bundle: Path) -> None:
    film = bundle / "golden" / "ap-ap.png"
    short, long = run(bundle, "--ap", film), run(bundle, "--film", f"ap={film}")
    assert (short.returncode, long.returncode) == (0, 0)
    assert short.stdout == long.stdout
    for wrong in (f"front={film}", "ap", "ap="):
        answer = run(bundle, "--film", wrong)
        assert answer.returncode == 2
        assert "expected VIEW=PNG, VIEW one of ap, lateral" in answer.stderr


def test_a_box_counts_only_where_something_was_to_be_found(bundle: Path) -> None:
    """In the case `ap` there is no lateral film: its box is arbitrary."""
    change_golden(bundle, 1, "boxes", 1, 0, by=50)
    assert run(bundle, "--no-timing").returncode == 0
    change_golden(bundle, 1, "boxes", 0, 0, by=50)
    assert "error: too far from the golden vectors: boxes; " in run(bundle, "--no-timing").stderr


def test_a_bundle_of_another_task_answers_in_its_words(tiny_front_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_front_bundle, tmp_path / "front")
    checked = run(bundle)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines()[-1].startswith("one patient, one film: median ")
    answer = run(bundle, "--film", f"front={bundle / 'golden' / 'front-front.png'}")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].split(":")[0] in ("identified", "ambiguous", "unfamiliar")
    assert not [line for line in lines if ": box " in line], "a whole film has no box to tell"
    assert lines[-1] == "Research software for hips. Not for choosing implants."
    assert run(bundle, "--ap", "film.png").returncode == 2


def give_films(bundle: Path) -> list[object]:
    return ["--ap", bundle / "golden" / "both-ap.png", "--lateral", bundle / "golden" / "both-lateral.png"]


def test_no_answer_leaves_before_the_golden_vectors_passed(bundle: Path, cache: Path) -> None:
    first, second = run(bundle, *give_films(bundle)), run(bundle, *give_films(bundle))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "golden output" in first.stderr
    assert second.stderr == ""  # remembered
    assert first.stdout == second.stdout
    (file,) = (cache / FOLDER).iterdir()
    assert "golden output" in run(bundle, *give_films(bundle), "--threads", 1).stderr
    assert "golden output" in run(bundle, "--no-timing").stdout  # who asks for nothing else gets them always

    known = file.read_bytes()
    for content in (known.replace(b"onnxruntime", b"onnxruntume"), b""):
        file.write_bytes(content)  # the content counts and not the name
        assert "golden output" in run(bundle, *give_films(bundle)).stderr
    assert file.read_bytes() == known

    change_golden(bundle, 2, "boxes", 1, 0, by=-377)
    kept = set((cache / FOLDER).iterdir())
    for _ in range(2):
        answer = run(bundle, *give_films(bundle))
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "error: too far from the golden vectors: boxes; " in answer.stderr
    assert set((cache / FOLDER).iterdir()) == kept  # a failure is never remembered


def test_a_cache_that_can_not_be_written_only_costs_time(bundle: Path, cache: Path) -> None:
    cache.write_text("no folder")
    for _ in range(2):
        answer = run(bundle, *give_films(bundle))
        assert answer.returncode == 0, answer.stderr
        assert "golden output" in answer.stderr


def write_pack(bundle: Path, path: Path, model: str) -> list[dict[str, np.ndarray]]:
    """Pack the golden canvases as docs say, with numpy alone; returns the graph's inputs."""
    patients = [case.inputs for case in read_golden(open_bundle(bundle))]
    entries = {
        f"{view}_{row:06d}": inputs[view][0, 0]
        for row, inputs in enumerate(patients)
        for view, given in zip(VIEWS, inputs["present"], strict=True)
        if given
    }
    present = np.stack([inputs["present"] for inputs in patients])
    np.savez_compressed(path, schema=1, bundle=model, pack="films of today", present=present, **entries)
    return patients


def test_a_pack_is_answered_as_the_session_answers(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    patients = write_pack(bundle, tmp_path / "pack.npz", opened.manifest.model_sha256)
    answer = run(bundle, "--pack", tmp_path / "pack.npz", "--out", tmp_path / "sent", "--threads", 1)
    assert answer.returncode == 0, answer.stderr
    sent = np.load(tmp_path / "sent" / "outputs.npz")
    assert set(sent) == {"schema", "bundle", "pack", "session", "runtime", "cpu", *SENT}
    assert json.loads(str(sent["cpu"])) == describe_processor(1)
    assert (int(sent["schema"]), str(sent["pack"]), str(sent["session"])) == (1, "films of today", "onnxruntime")
    assert str(sent["bundle"]) == opened.manifest.model_sha256
    with OnnxRuntimeSession(opened.model, opened.manifest.tensors["inputs"], 1) as session:
        assert str(sent["runtime"]) == f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider, threads 1"
        expected = [session.infer(inputs) for inputs in patients]
    for name in SENT:
        stacked = np.stack([outputs[name] for outputs in expected])
        assert sent[name].dtype == stacked.dtype
        np.testing.assert_array_equal(sent[name], stacked, err_msg=name)

    latency = json.loads((tmp_path / "sent" / "latency.json").read_text())
    (row,) = (Latency(**row) for row in latency["rows"])
    assert (row.name, row.session, row.precision) == ("two-view", "onnxruntime", "fp32")
    assert row.n >= 50
    assert 0 < row.p50_ms <= row.p95_ms <= row.p99_ms
    assert row.size_mb == pytest.approx(opened.model.stat().st_size / 1e6)
    assert row.peak_rss_mb > row.size_mb
    assert latency["device"].keys() == {"cpu", "cores", "os", "python"}
    assert (latency["provenance"]["bundle"], latency["provenance"]["threads"]) == (opened.manifest.model_sha256, 1)

    answer = run(bundle, "--pack", tmp_path / "pack.npz", "--out", tmp_path / "untimed", "--no-timing")
    assert answer.returncode == 0, answer.stderr
    assert "golden output" in answer.stdout
    assert f"{len(patients)} patients" in answer.stderr.splitlines()
    assert [path.name for path in (tmp_path / "untimed").iterdir()] == ["outputs.npz"]
    untimed = np.load(tmp_path / "untimed" / "outputs.npz")
    assert str(untimed["runtime"]).endswith(", threads one a core")
    np.testing.assert_array_equal(untimed["decision"], sent["decision"])
    assert json.loads(str(untimed["cpu"]))["threads"] is None


def test_another_bundles_pack_is_refused(bundle: Path, tmp_path: Path) -> None:
    write_pack(bundle, tmp_path / "pack.npz", "0" * 64)
    answer = run(bundle, "--pack", tmp_path / "pack.npz", "--out", tmp_path / "sent")
    assert answer.returncode == 1
    assert "was packed for another bundle" in answer.stderr
    assert not (tmp_path / "sent").exists()
    assert run(bundle, "--pack", tmp_path / "pack.npz").returncode == 2


# -- LiteRT --------------------------------------------------------------------------------------------------------------------


def test_a_litert_bundle_answers_without_edgekit_as_the_session_does(litert_bundle: Path, tmp_path: Path) -> None:
    from edgekit.sessions.litert import open_session

    bundle, opened = litert_bundle, open_bundle(litert_bundle)
    assert (bundle / "runner" / "run.py").read_bytes() == (EXPORT / "litert-run.py").read_bytes()
    assert (bundle / "runner" / "litert").is_dir()
    assert not (bundle / "runner" / "onnx").exists(), "what opens ONNX files stays away"
    patients = write_pack(bundle, tmp_path / "pack.npz", opened.manifest.model_sha256)
    answer = run(bundle, "--pack", tmp_path / "pack.npz", "--out", tmp_path / "sent", "--threads", 1)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("ap+lateral for web, fp32, ai-edge-litert 2.")
    sent = np.load(tmp_path / "sent" / "outputs.npz")
    with open_session(opened, 1) as session:
        assert (str(sent["session"]), str(sent["runtime"])) == (session.name, session.runtime)
        expected = [session.infer(inputs) for inputs in patients]
    for name in SENT:
        np.testing.assert_array_equal(sent[name], np.stack([outputs[name] for outputs in expected]), err_msg=name)
    assert json.loads((tmp_path / "sent" / "latency.json").read_text())["rows"][0]["session"] == "litert"
    assert run(bundle, *give_films(bundle)).returncode == 0


# -- all ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXPORT.rglob("*.py")), ids=lambda path: path.relative_to(EXPORT).as_posix())
def test_no_runner_imports_edgekit(path: Path) -> None:
    source = path.read_text()
    assert source.startswith("# /// script\n") == (path.name != "bundle_runner.py"), "a PEP 723 header tells what a script needs"
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "edgekit"]


def find_errors(source: bytes, grammar: Any) -> list[str]:
    """List what a grammar does not understand, with line numbers."""
    waiting = [tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(source).root_node]
    errors = []
    while waiting:
        node = waiting.pop()
        if node.type == "ERROR" or node.is_missing:
            errors.append(f"line {node.start_point[0] + 1}: {source[node.start_byte : node.end_byte][:60]!r}")
        waiting += node.children
    return errors


@pytest.mark.parametrize("path", RUNNERS, ids=lambda path: path.relative_to(EXPORT).as_posix())
def test_a_runner_parses_and_has_no_list_of_its_own(path: Path) -> None:
    """Swift is compiled nowhere, Kotlin in `test_android_runner`; this is what their README says is checked."""
    source, grammar = path.read_bytes(), GRAMMARS[path.suffix]
    assert find_errors(source, grammar) == []
    last = source.rindex(b"(")
    assert find_errors(source[:last] + source[last + 1 :], grammar), "the grammar sees a lost bracket"
    if path.stem not in ("edgekit", "EdgekitPipeline"):  # the others have no part in the graph
        return
    text = source.decode()
    used = {"present", "probabilities", "prediction_set", "decision", "found"}  # the last one is a word of the task, too
    for name in {*INPUTS, *OUTPUTS} - used:
        assert f'"{name}"' not in text, f"{name}: what the graph has stands in the manifest"
    for key in ("task", "tensors", "views", "inputs", "outputs"):
        assert re.search(rf"\b{key}\b", text), key
    places = [text.index(f'"{word}"') for word in DECISIONS]
    assert places == sorted(places)


def test_every_target_for_which_one_is_promised_has_a_runner() -> None:
    assert {path.relative_to(EXPORT).parts[0] for path in RUNNERS} == {"android", "ios", "web"}


@pytest.mark.parametrize("name", ["android:onnx-w8a8", "desktop-cpu", "web:onnx-w8a8"])
def test_onnx_bundles_share_one_script(
    name: str, tiny_run: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(_: Any, __: Target, folder: Path, ___: Any) -> Artifact:
        shutil.copy(tiny_bundle / "model.onnx", folder)
        return Artifact("model.onnx", ("model.onnx",))

    random = np.random.default_rng(0)
    monkeypatch.setattr(backend, "convert", convert)
    monkeypatch.setattr(
        "edgekit.golden.simulate_canvases",
        lambda *_: {view: random.integers(0, 256, (128, 128), np.uint8) for view in VIEWS},
    )
    target = replace(load_target(name), calibration=None, corners=None, sessions=("onnxruntime",), size_mb=None)
    folder = export_bundle(tiny_run, target, tmp_path / "bundle", force=True).folder
    assert (folder / "runner" / "run.py").read_bytes() == (EXPORT / "onnx-run.py").read_bytes()
    assert (folder / "runner" / "bundle_runner.py").read_bytes() == (EXPORT / "bundle_runner.py").read_bytes()
    own = EXPORT / target.name / "runner"
    kept = [path.name for path in own.glob("*") if path.name != "litert"]
    assert sorted(path.name for path in (folder / "runner").iterdir()) == sorted(["bundle_runner.py", "run.py", *kept])
    answer = run(folder, "--no-timing")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"ap+lateral for {target.name}, ")
