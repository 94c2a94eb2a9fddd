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
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.files import write_json
from edgekit.formats.engine_layers import find_fallbacks, read_inspector
from edgekit.golden import read_golden
from edgekit.graphs.tensorrt import list_precisions
from edgekit.manifest import open_bundle, seal_bundle
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.types import Bundle

EXPORT = Path(__file__).parents[2] / "export"
RECORDED = Path(__file__).parents[1] / "golden" / "engine_layers"
DOUBLES = Path(__file__).parents[1] / "gpu_doubles"
TARGETS = {"jetson": "tensorrt", "desktop-gpu": "tensorrt-rtx"}
"""Folder and session."""


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load_runner(target: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"runner_{target}", EXPORT / target / "runner" / "run.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def bundle(target: str, tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """The tiny pipeline's bundle with this runner, precisions that it keeps, and its graph where an engine would be."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    shutil.rmtree(folder / "runner", ignore_errors=True)
    shutil.copytree(EXPORT / target / "runner", folder / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    script = folder / "runner" / "run.py"
    script.write_text(script.read_text().replace("WARMUP, REPEATS = 20, 200", "WARMUP, REPEATS = 1, 3"))
    write_json(folder / "precisions.json", list_precisions(onnx.load(folder / "model.onnx")))
    if target == "desktop-gpu":
        shutil.copy(folder / "model.onnx", folder / "engine-sm86.trt")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    seal_bundle(folder, manifest)
    return open_bundle(folder)


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
    ast.parse(text, feature_version=(3, 10))
    imported = {alias.name.split(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    foreign = imported - sys.stdlib_module_names
    assert foreign == {"numpy", "PIL", "cuda", "tensorrt" if target == "jetson" else "tensorrt_rtx_bindings"}
    assert {"numpy", "pillow"} < {name.split(">")[0] for name in script["dependencies"]}


@pytest.mark.parametrize("promise", ["int8", "fp16"])
def test_both_inspections_agree_on_a_recorded_engine(target: str, promise: str) -> None:
    document = json.loads((RECORDED / "tensorrt-10-int8.json").read_text())
    promised = dict.fromkeys(("Conv_125", "Conv_142", "QuantizeLinear_147", "Conv_999"), promise)
    faults = load_runner(target).find_fallbacks(document["Layers"], promised)
    assert faults == find_fallbacks(read_inspector(document), promised)
    missing = "no layer of the engine says that it computes 'Conv_999'"
    wide = "'QuantizeLinear_147' is computed in fp16, not int8 (layer 'QuantizeLinear_147', Reformat)"
    assert faults == ([wide, missing] if promise == "int8" else [missing])


def test_an_inspector_that_tells_only_names_is_not_taken_for_a_good_engine(target: str) -> None:
    (fault,) = load_runner(target).find_fallbacks(["conv"], {"conv": "fp16"})
    assert "DETAILED" in fault


@pytest.mark.parametrize(
    "arguments", [["--pack", "p.npz"], ["--out", "o"], ["--pack", "p.npz", "--out", "o", "--ap", "a.png"], ["--films"]]
)
def test_a_wrong_command_line_is_refused(target: str, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        load_runner(target).parse_arguments(arguments)
    assert raised.value.code == 2


def test_it_checks_hashes_precisions_and_golden_vectors_and_measures(target: str, bundle: Bundle, tmp_path: Path) -> None:
    first = run(bundle, tmp_path)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    count = len(json.loads((bundle.folder / "precisions.json").read_text()))
    assert f"{TARGETS[target]} 10.3.0 on Test Card" in lines[0]
    assert lines[1] == f"{len(bundle.manifest['files'])} files have the hashes of the manifest"
    assert lines[2] == f"{count} convolutions and products of detector and members computed as promised: {count} in fp32"
    assert "engine 0.25 ms" in lines[-1]
    if target == "jetson":
        assert run(bundle, tmp_path).returncode == 0
        assert (tmp_path / "builds.txt").read_text() == "built\n"  # the second run finds the engine in the cache


def test_an_engine_that_falls_back_is_not_run(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    promised = json.loads((bundle.folder / "precisions.json").read_text())
    write_json(bundle.folder / "precisions.json", dict.fromkeys(promised, "fp16"))
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    (bundle.folder / "manifest.json").unlink()
    seal_bundle(bundle.folder, manifest)
    answer = run(bundle, tmp_path)
    assert answer.returncode == 1
    assert f"error: the engine falls back in {len(promised)} of {len(promised)} layers" in answer.stderr
    assert "is computed in fp32, not fp16 (layer 'detector.network." in answer.stderr
    write_layers(tmp_path / "layers.json", bundle, "Half")
    assert run(bundle, tmp_path).returncode == 0


def make_pack(path: Path, bundle: Bundle) -> list[Any]:
    cases = read_golden(bundle)
    entries: dict[str, Any] = {"schema": 1, "bundle": bundle.manifest["model_sha256"], "pack": "f" * 64}
    entries["present"] = np.stack([case.inputs["present"] for case in cases])
    for row, case in enumerate(cases):
        for view, given in zip(("ap", "lateral"), case.inputs["present"], strict=True):
            if given:
                entries[f"{view}_{row:06}"] = case.inputs[view][0, 0]
    np.savez_compressed(path, **entries)
    return cases


def test_it_answers_a_pack_as_the_graph_does(target: str, bundle: Bundle, tmp_path: Path) -> None:
    cases = make_pack(tmp_path / "canvases.npz", bundle)
    answer = run(bundle, tmp_path, "--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out"))
    assert answer.returncode == 0, answer.stderr
    with np.load(tmp_path / "out" / "outputs.npz") as outputs, OnnxRuntimeSession(bundle.model, bundle.canvas_side) as session:
        assert str(outputs["session"]) == TARGETS[target]
        assert str(outputs["bundle"]) == bundle.manifest["model_sha256"]
        assert str(outputs["pack"]) == "f" * 64
        assert "heatmaps" not in outputs
        for row, case in enumerate(cases):
            for name, expected in session.infer(case.inputs).items():
                if name != "heatmaps":
                    np.testing.assert_allclose(outputs[name][row], expected, atol=1e-5, err_msg=name)
    latency = json.loads((tmp_path / "out" / "latency.json").read_text())
    (row,) = latency["rows"]
    assert (row["name"], row["session"], row["precision"]) == ("two-view", TARGETS[target], bundle.manifest["precision"])
    assert row["n"] == sum(case.inputs["present"].all() for case in cases) + 1  # and the one that warmed up
    assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert row["stages"] == pytest.approx({"engine": 0.25, "copies": row["p50_ms"] - 0.25})
    assert latency["device"]["gpu"] == "Test Card"
    assert latency["provenance"]["pack"] == "f" * 64


def test_it_answers_for_one_patient(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    answer = run(bundle, tmp_path, "--ap", str(bundle.folder / "golden" / "both-ap.png"))
    assert answer.returncode == 0, answer.stderr
    assert all(brand in answer.stdout for brand in bundle.brands)
    assert "lateral: score" not in answer.stdout


def test_an_engine_that_misses_the_golden_vectors_answers_nothing(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    make_pack(tmp_path / "canvases.npz", bundle)
    path = bundle.folder / "golden" / "golden.json"
    document = json.loads(path.read_text())
    document["cases"][1]["outputs"]["boxes"][0][2] += 377
    write_json(path, document)
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    (bundle.folder / "manifest.json").unlink()
    seal_bundle(bundle.folder, manifest)
    film = ["--ap", str(bundle.folder / "golden" / "both-ap.png")]
    for arguments in ([], film, film, ["--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out")]):
        answer = run(bundle, tmp_path, *arguments)
        assert answer.returncode == 1
        assert "error: boxes differ from the golden vectors: try another" in answer.stderr
        assert not any(brand in answer.stdout for brand in bundle.brands)
    assert not (tmp_path / "out").exists()


def test_a_pack_of_another_bundle_and_a_changed_file_are_refused(target: str, bundle: Bundle, tmp_path: Path) -> None:  # noqa: ARG001
    make_pack(tmp_path / "canvases.npz", Bundle(bundle.folder, {**bundle.manifest, "model_sha256": "0" * 64}))
    answer = run(bundle, tmp_path, "--pack", str(tmp_path / "canvases.npz"), "--out", str(tmp_path / "out"))
    assert answer.returncode == 1
    assert "was not packed for this bundle" in answer.stderr
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


def test_a_gpu_without_an_engine_is_told_which_there_are() -> None:
    runner = load_runner("desktop-gpu")
    files = {"model.onnx": {}, "engine-sm86.trt": {}, "engine-sm120.trt": {}}
    assert runner.choose_engine(files, "RTX 3090", "8.6").name == "engine-sm86.trt"
    with pytest.raises(SystemExit, match=r"no engine for RTX 4090, compute capability 8.9: it has engine-sm120.trt, engine-sm86.trt"):
        runner.choose_engine(files, "RTX 4090", "8.9")
