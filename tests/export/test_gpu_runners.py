"""The runners of jetson and desktop-gpu, as far as a machine without a GPU can tell.

They are run whole against doubles of TensorRT and CUDA (tests/gpu_doubles): a card made of main memory, on which onnxruntime is the
engine.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from pedicle_screws import VIEWS
from resealing import change_golden, reseal

from edgekit.bundle import copy_runner
from edgekit.files import write_json
from edgekit.formats.engine_layers import find_fallbacks, read_inspector
from edgekit.golden import read_golden
from edgekit.graphs.places import find_places
from edgekit.graphs.tensorrt import list_precisions
from edgekit.models.runfolder import load_pipeline
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.targets import load_target
from edgekit.types import Bundle

EXPORT = Path(__file__).parents[2] / "export"
RECORDED = Path(__file__).parents[1] / "golden" / "engine_layers"
DOUBLES = Path(__file__).parents[1] / "gpu_doubles"
TARGETS = {"jetson": "tensorrt", "desktop-gpu": "tensorrt-rtx"}
"""Folder and session."""


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load_script(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


COMMON = load_script("common_to_runners", EXPORT / "bundle_runner.py")


@pytest.fixture
def bundle(target: str, tiny_run: Path, tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """The tiny pipeline's bundle with this runner, precisions that it keeps, and its graph where an engine would be."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    shutil.rmtree(folder / "runner", ignore_errors=True)
    copy_runner(load_target(target), folder)
    script = folder / "runner" / "run.py"
    script.write_text(script.read_text().replace("WARMUP, REPEATS = 20, 200", "WARMUP, REPEATS = 1, 3"))
    write_json(
        folder / "precisions.json", list_precisions(onnx.load(folder / "model.onnx"), find_places(load_pipeline(tiny_run, "ap+lateral")))
    )
    if target == "desktop-gpu":
        shutil.copy(folder / "model.onnx", folder / "engine-sm86.trt")
    return reseal(folder)


def write_layers(path: Path, bundle: Bundle, kind: str) -> None:
    """What the inspector would say of an engine whose convolutions all compute in `kind`."""
    tensors = {"Inputs": [{"Format/Datatype": kind}], "Constants": [{"Format/Datatype": kind}]}
    nodes = json.loads((bundle.folder / "precisions.json").read_text())
    layers = [{"Name": node, "LayerType": "CaskConvolution", "Metadata": f"[ONNX Layer: {node}]", **tensors} for node in nodes]
    write_json(path, {"Layers": layers})


def run(bundle: Bundle, workplace: Path, *arguments: str, doubles: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the bundle's runner as its own program; `edgekit` can't be imported there."""
    modules = workplace / "modules"
    (modules / "edgekit").mkdir(parents=True, exist_ok=True)
    (modules / "edgekit" / "__init__.py").write_text("raise ImportError('a runner does without edgekit')\n")
    if doubles:
        (modules / "cuda" / "bindings").mkdir(parents=True, exist_ok=True)
        (modules / "cuda" / "__init__.py").touch()
        (modules / "cuda" / "bindings" / "__init__.py").touch()
        (modules / "cuda" / "bindings" / "runtime.py").write_text((DOUBLES / "cuda_runtime.py").read_text())
        for name in ("tensorrt", "tensorrt_rtx_bindings"):
            (modules / f"{name}.py").write_text((DOUBLES / "library.py").read_text())
    else:
        for name in ("tensorrt", "tensorrt_rtx_bindings"):
            (modules / f"{name}.py").write_text(f"raise ImportError('no module named {name}')\n")
    if not (workplace / "layers.json").exists():
        write_layers(workplace / "layers.json", bundle, "Float")
    environment = {
        **os.environ,
        "PYTHONPATH": str(modules),
        "LAYERS": str(workplace / "layers.json"),
        "BUILDS": str(workplace / "builds.txt"),
        "XDG_CACHE_HOME": str(workplace / "cache"),
    }
    command = [sys.executable, str(bundle.folder / "runner" / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def test_the_script_states_what_it_needs_and_asks_for_nothing_else(target: str) -> None:
    text = (EXPORT / target / "runner" / "run.py").read_text()
    header = text.split("# ///")[1]
    script = tomllib.loads("\n".join(line.removeprefix("# ") for line in header.splitlines()[1:]))
    assert script["requires-python"] == ">=3.10"  # JetPack 6's
    imported = set()
    for source in (text, (EXPORT / "bundle_runner.py").read_text()):
        tree = ast.parse(source, feature_version=(3, 10))
        imported |= {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = imported - sys.stdlib_module_names - {"bundle_runner"}
    assert foreign == {"numpy", "PIL", "cuda", "tensorrt" if target == "jetson" else "tensorrt_rtx_bindings"}
    assert {"numpy", "pillow"} < {name.split(">")[0] for name in script["dependencies"]}


@pytest.mark.parametrize("promise", ["int8", "fp16"])
def test_both_inspections_agree_on_a_recorded_engine(promise: str) -> None:
    document = json.loads((RECORDED / "tensorrt-10-int8.json").read_text())
    promised = dict.fromkeys(("Conv_125", "Conv_142", "QuantizeLinear_147", "Conv_999"), promise)
    faults = COMMON.find_fallbacks(document["Layers"], promised)
    assert faults == find_fallbacks(read_inspector(document), promised)
    missing = "no layer of the engine says that it computes 'Conv_999'"
    wide = "'QuantizeLinear_147' is computed in fp16, not int8 (layer 'QuantizeLinear_147', Reformat)"
    assert faults == ([wide, missing] if promise == "int8" else [missing])


def test_an_inspector_that_tells_only_names_is_not_taken_for_a_good_engine() -> None:
    (fault,) = COMMON.find_fallbacks(["conv"], {"conv": "fp16"})
    assert "DETAILED" in fault


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pack", "p.npz"],
        ["--out", "o"],
        ["--pack", "p.npz", "--out", "o", "--ap", "a.png"],
        ["--films"],
        ["--film", "front=a.png"],
        ["--film", "ap"],
    ],
)
def test_a_wrong_command_line_is_refused(target: str, bundle: Bundle, tmp_path: Path, arguments: list[str]) -> None:  # noqa: ARG001
    answer = run(bundle, tmp_path, *arguments)
    assert answer.returncode == 2
    assert "usage: " in answer.stderr


def test_it_checks_hashes_precisions_and_golden_vectors_and_measures(target: str, bundle: Bundle, tmp_path: Path) -> None:
    first = run(bundle, tmp_path)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    count = len(json.loads((bundle.folder / "precisions.json").read_text()))
    assert f"{TARGETS[target]} 10.3.0 on Test Card" in lines[0]
    assert lines[1] == f"{len(bundle.manifest.files)} files have the hashes of the manifest"
    assert lines[2] == f"{count} convolutions and products of detector and members computed as promised: {count} in fp32"
    assert "engine 0.25 ms" in lines[-1]
    if target == "jetson":
        assert run(bundle, tmp_path).returncode == 0
        assert (tmp_path / "builds.txt").read_text() == "built\n"  # the second run finds the engine in the cache


def test_an_engine_that_falls_back_is_not_run(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    promised = json.loads((bundle.folder / "precisions.json").read_text())
    write_json(bundle.folder / "precisions.json", dict.fromkeys(promised, "fp16"))
    reseal(bundle.folder)
    answer = run(bundle, tmp_path)
    assert answer.returncode == 1
    assert f"error: the engine falls back in {len(promised)} of {len(promised)} layers" in answer.stderr
    assert "is computed in fp32, not fp16 (layer 'detector.network." in answer.stderr
    write_layers(tmp_path / "layers.json", bundle, "Half")
    assert run(bundle, tmp_path).returncode == 0


def make_pack(path: Path, bundle: Bundle, films: int | None = None) -> list[Any]:
    """Pack the golden patients; with `films`, those with as many of them."""
    cases = [case for case in read_golden(bundle) if films in (None, case.inputs["present"].sum())]
    entries: dict[str, Any] = {"schema": 1, "bundle": bundle.manifest.model_sha256, "pack": "f" * 64}
    entries["present"] = np.stack([case.inputs["present"] for case in cases])
    for row, case in enumerate(cases):
        for view, given in zip(VIEWS, case.inputs["present"], strict=True):
            if given:
                entries[f"{view}_{row:06}"] = case.inputs[view][0, 0]
    np.savez_compressed(path, **entries)
    return cases


def test_it_answers_a_pack_as_the_graph_does(target: str, bundle: Bundle, tmp_path: Path) -> None:
    cases = make_pack(tmp_path / "canvases.npz", bundle)
    answer = run(bundle, tmp_path, "--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out"))
    assert answer.returncode == 0, answer.stderr
    with (
        np.load(tmp_path / "out" / "outputs.npz") as outputs,
        OnnxRuntimeSession(bundle.model, bundle.manifest.tensors["inputs"]) as session,
    ):
        assert str(outputs["session"]) == TARGETS[target]
        assert str(outputs["bundle"]) == bundle.manifest.model_sha256
        assert str(outputs["pack"]) == "f" * 64
        assert "heatmaps" not in outputs
        for row, case in enumerate(cases):
            for name, expected in session.infer(case.inputs).items():
                if name != "heatmaps":
                    np.testing.assert_allclose(outputs[name][row], expected, atol=1e-5, err_msg=name)
    latency = json.loads((tmp_path / "out" / "latency.json").read_text())
    (row,) = latency["rows"]
    assert (row["name"], row["session"], row["precision"]) == ("two-view", TARGETS[target], bundle.manifest.precision)
    assert row["n"] == sum(case.inputs["present"].all() for case in cases) + 1  # and the one that warmed up
    assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert row["stages"] == pytest.approx({"engine": 0.25, "copies": row["p50_ms"] - 0.25})
    assert latency["device"]["gpu"] == "Test Card"
    assert latency["provenance"]["pack"] == "f" * 64


def test_a_pack_without_a_patient_with_two_films_is_answered_too(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    cases = make_pack(tmp_path / "canvases.npz", bundle, films=1)
    answer = run(bundle, tmp_path, "--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out"))
    assert answer.returncode == 0, answer.stderr
    with np.load(tmp_path / "out" / "outputs.npz") as outputs:
        assert len(cases) == len(outputs["decision"]) > 0
    (row,) = json.loads((tmp_path / "out" / "latency.json").read_text())["rows"]
    assert (row["name"], row["n"]) == ("two-view", 3)  # the golden patient with both films, as without a pack


def test_it_answers_for_one_patient(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    answer = run(bundle, tmp_path, "--ap", str(bundle.folder / "golden" / "both-ap.png"))
    assert answer.returncode == 0, answer.stderr
    assert all(brand in answer.stdout for brand in bundle.brands)
    assert "lateral: box" not in answer.stdout


def test_an_engine_that_misses_the_golden_vectors_answers_nothing(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    make_pack(tmp_path / "canvases.npz", bundle)
    change_golden(bundle.folder, 1, "boxes", 0, 2, by=377)
    film = ["--ap", str(bundle.folder / "golden" / "both-ap.png")]
    for arguments in ([], film, film, ["--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out")]):
        answer = run(bundle, tmp_path, *arguments)
        assert answer.returncode == 1
        assert "error: too far from the golden vectors: boxes; " in answer.stderr
        assert not any(brand in answer.stdout for brand in bundle.brands)
    assert not (tmp_path / "out").exists()


def test_a_pack_of_another_bundle_and_a_changed_file_are_refused(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    make_pack(tmp_path / "canvases.npz", Bundle(bundle.folder, replace(bundle.manifest, model_sha256="0" * 64)))
    answer = run(bundle, tmp_path, "--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out"))
    assert answer.returncode == 1
    assert "was packed for another bundle" in answer.stderr
    assert not (tmp_path / "out").exists()
    (bundle.folder / "precisions.json").write_text("{}")
    answer = run(bundle, tmp_path)
    assert answer.returncode == 1
    assert "precisions.json is missing or was changed" in answer.stderr


def test_a_machine_without_the_library_is_told_what_to_install(target: str, bundle: Bundle, tmp_path: Path) -> None:
    answer = run(bundle, tmp_path, doubles=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: no module named tensorrt")
    assert ("JetPack" if target == "jetson" else "pip install tensorrt-rtx") in answer.stderr


@pytest.mark.parametrize("target", ["desktop-gpu"], indirect=True)
def test_a_gpu_without_an_engine_is_told_which_there_are(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    for name in ("engine-sm89.trt", "engine-sm120.trt"):
        shutil.copy(bundle.folder / "engine-sm86.trt", bundle.folder / name)
    (bundle.folder / "engine-sm86.trt").unlink()
    reseal(bundle.folder)
    answer = run(bundle, tmp_path)
    assert answer.returncode == 1
    assert "no engine for Test Card, compute capability 8.6: it has engine-sm120.trt, engine-sm89.trt" in answer.stderr
