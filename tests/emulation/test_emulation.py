"""Bundles as other processors answer, under qemu-user."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from resealing import read_manifest

from edgekit.backends import BACKENDS
from edgekit.cli import run as edgekit
from edgekit.emulation import arm64, machines
from edgekit.emulation.machines import describe_cores, open_emulated, open_here
from edgekit.emulation.runtimes import COMMON, find_runtime, list_runtimes
from edgekit.errors import InputError, MissingError
from edgekit.files import write_json
from edgekit.formats.litert import count_operators
from edgekit.manifest import open_bundle, seal_bundle
from edgekit.processors import CPUS, Cpu, read_features
from edgekit.studies import write_studies
from edgekit.types import Study

CONVOLUTION = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {"x": numpy.load(sys.argv[2])})[0])
"""


LITERT_CONVOLUTION = """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter
opened = Interpreter(sys.argv[1], num_threads=1)
opened.allocate_tensors()
numpy.save(sys.argv[3], opened.get_signature_runner()(x=numpy.load(sys.argv[2]))["y"])
"""

EXPORT = Path(__file__).parents[2] / "export"
MODULES = {name: package for runtime in list_runtimes() for name, package in runtime.modules.items()}
EMULATED = [name for name, backend in BACKENDS.items() if backend.EMULATED]


@pytest.fixture(scope="session")
def haswell(qemu: str) -> Iterator[machines.Machine]:
    assert qemu
    with open_emulated(CPUS["haswell"], MODULES) as machine:
        yield machine


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


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


def write_convolution(folder: Path, largest: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """A 3 x 3 QLinearConv of bytes with weights of +-`largest`, an input, and the output by arithmetic in whole numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = random.choice([-largest, largest], (8, 16, 3, 3)).astype(np.int8)
    films = random.integers(0, 256, (1, 16, 10, 10)).astype(np.uint8)
    constants = {
        "xs": np.float32(1),
        "xz": np.uint8(0),
        "w": weights,
        "ws": np.ones(8, np.float32),
        "wz": np.zeros(8, np.int8),
        "ys": np.float32(2048),
        "yz": np.uint8(128),
    }
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], kernel_shape=[3, 3])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 16, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 8, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = folder / f"{largest}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    windows = np.lib.stride_tricks.sliding_window_view(films[0].astype(np.int64), (3, 3), axis=(1, 2))
    sums = np.einsum("chwij,ocij->ohw", windows, weights.astype(np.int64))
    return path, films, np.clip(np.rint(sums / 2048) + 128, 0, 255)


# -- which processor it is -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="run it on Linux: the system tells of the same instructions there")
def test_the_processor_and_the_system_say_the_same() -> None:
    ended = open_here(COMMON).run(machines.probe.__file__)
    assert tuple(json.loads(ended.stdout)["features"]) == read_features()


def test_an_emulated_processor_says_of_itself_what_it_is(haswell: machines.Machine) -> None:
    assert haswell.cpu["features"] == ["sse4_1", "avx2"]
    assert (haswell.cpu["architecture"], haswell.cpu["threads"], haswell.cpu["emulated"]) == ("x86_64", 1, "haswell")
    numpy = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(f['AVX2'], f['AVX512F'], f['AVX512VNNI'])"
    assert haswell.run("-c", numpy).stdout.split() == ["True", "False", "False"]


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize(("model", "features"), [("Skylake-Server", ("sse4_1", "avx2", "avx512bw")), ("Haswell", ("sse4_1",))])
def test_what_qemu_makes_less_or_more_of_is_refused(model: str, features: tuple[str, ...]) -> None:
    with ExitStack() as stack, pytest.raises(MissingError, match=r"x86_64 with sse4_1 avx2, wanted sse4_1") as error:
        stack.enter_context(open_emulated(Cpu("other", "x86_64", model, features, ""), COMMON))
    assert "something less" in error.value.remedy


def test_cores_are_described_as_linux_does() -> None:
    text = describe_cores(CPUS["neon-dotprod"], ["fp", "asimd", "asimddp"], 2)
    assert text.count("processor\t: ") == 2
    for line in ("processor\t: 1", "Features\t: fp asimd asimddp", "CPU implementer\t: 0x41", "CPU part\t: 0xd0c", "CPU variant\t: 0x4"):
        assert line in text.splitlines()


# -- what it computes ----------------------------------------------------------------------------------------------------------


def test_full_range_weights_are_wrong_on_haswell_and_half_of_it_right(haswell: machines.Machine, tmp_path: Path) -> None:
    for largest, wrong in ((127, True), (63, False)):
        model, films, expected = write_convolution(tmp_path, largest)
        np.save(tmp_path / "films.npy", films)
        for machine, may_differ in ((open_here(MODULES), False), (haswell, wrong)):
            ended = machine.run("-c", CONVOLUTION, model, tmp_path / "films.npy", tmp_path / "out.npy")
            assert ended.returncode == 0, ended.stderr
            differs = bool((np.load(tmp_path / "out.npy")[0] != expected).mean() > 0.05)
            if machine is haswell or "avx512_vnni" in read_features() or "avx_vnni" in read_features():
                assert differs == may_differ, (largest, machine.label)


def write_litert_convolution(folder: Path, largest: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """The same for LiteRT, with signed bytes throughout; in and out go the numbers that the codes stand for."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from edgekit.litert.operators import lower_graph

    random = np.random.default_rng(0)
    weights = random.choice([-largest, largest], (8, 16, 3, 3)).astype(np.int8)
    films = random.integers(-128, 128, (1, 16, 10, 10)).astype(np.float32)
    constants = {
        "xs": np.float32(1),
        "xz": np.int8(0),
        "w": weights,
        "ws": np.ones(8, np.float32),
        "wz": np.zeros(8, np.int8),
        "b": np.zeros(8, np.float32),
        "ys": np.float32(2048),
        "yz": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], name="x/q"),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], name="x/d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="w/d", axis=0),
        helper.make_node("Conv", ["xd", "wd", "b"], ["c"], name="conv", kernel_shape=[3, 3], pads=[0] * 4, strides=[1, 1]),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"], name="c/q"),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"], name="c/d"),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / f"{largest}.tflite"
    path.write_bytes(lower_graph(onnx.shape_inference.infer_shapes(model, strict_mode=True), {}))
    windows = np.lib.stride_tricks.sliding_window_view(films[0].astype(np.int64), (3, 3), axis=(1, 2))
    sums = np.einsum("chwij,ocij->ohw", windows, weights.astype(np.int64))
    return path, films, 2048 * np.clip(np.rint(sums / 2048), -128, 127)


def check_litert_convolution(machine: machines.Machine, folder: Path) -> None:
    model, films, expected = write_litert_convolution(folder, 127)
    counted = count_operators(model)
    assert (counted["QUANTIZE"], counted["CONV_2D"], counted["DEQUANTIZE"]) == (1, 1, 1)  # in float it would be exact too
    np.save(folder / "films.npy", films)
    ended = machine.run("-c", LITERT_CONVOLUTION, model, folder / "films.npy", folder / "out.npy")
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_array_equal(np.load(folder / "out.npy")[0], expected)


@pytest.mark.parametrize("name", ["this machine", "haswell", "epyc", "nehalem"])
def test_litert_adds_full_range_weights_right_everywhere(name: str, qemu: str, tmp_path: Path) -> None:
    """XNNPACK adds in 32 bits, where onnxruntime's kernels saturate in 16."""
    pytest.importorskip("ai_edge_litert.interpreter", reason="pip install 'edgekit-imaging[litert]' runs this")
    assert qemu
    with ExitStack() as stack:
        here = name == "this machine"
        check_litert_convolution(open_here(MODULES) if here else stack.enter_context(open_emulated(CPUS[name], MODULES)), tmp_path)


# -- what answers there --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", EMULATED)
def test_a_runner_imports_what_its_session_says(backend: str) -> None:
    session, module = next(iter(BACKENDS[backend].SESSIONS.items()))
    sources = [(EXPORT / name).read_text() for name in (f"{backend}-run.py", "bundle_runner.py")]
    found = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        found |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        found |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
    declared = {**COMMON, **module.ABOUT.runner_imports}
    assert {name for name in found if name.split(".")[0] not in sys.stdlib_module_names} - {"bundle_runner"} == declared.keys()
    script = sources[0].split("# ///")[1].removeprefix(" script\n").replace("# ", "")
    assert {line.split(">")[0] for line in tomllib.loads(script)["dependencies"]} == set(declared.values())
    assert f'session, remedy = "{session}"' in sources[0]


def test_a_bundle_whose_runner_answers_on_no_cpu_is_refused(bundle: Path) -> None:
    opened = open_bundle(bundle)
    for backend in (*sorted(BACKENDS.keys() - EMULATED), "abacus"):
        with pytest.raises(InputError, match="its runner answers on no CPU"):
            find_runtime(replace(opened, manifest=replace(opened.manifest, backend=backend)))


def test_what_is_not_installed_here_is_not_laid_out_and_told(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = metadata.version

    def hide(name: str) -> str:
        if name == "ai-edge-litert":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr("edgekit.emulation.runtimes.metadata.version", hide)
    assert list(arm64._list_wheels()) == ["numpy", "pillow", "onnxruntime"]
    opened = open_bundle(bundle)
    assert find_runtime(opened).session == "onnxruntime"
    with pytest.raises(MissingError, match="ai-edge-litert: not installed") as error:
        find_runtime(replace(opened, manifest=replace(opened.manifest, backend="litert")))
    assert error.value.remedy == "pip install 'edgekit-imaging[litert]'"


def test_arm64_without_a_runtime_serves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.emulation.runtimes.metadata.version", lambda _: "1.0")
    write_json(tmp_path / arm64.VERSIONS, {"numpy": "1.0", "onnxruntime": "1.0", "pillow": "1.0"})
    assert arm64.find_arm64(tmp_path, ["numpy", "pillow", "onnxruntime"]) == tmp_path
    for packages in (["numpy", "pillow", "ai-edge-litert"], None):
        with pytest.raises(MissingError, match=r"of other versions than this environment: ai-edge-litert none, here 1\.0$") as error:
            arm64.find_arm64(tmp_path, packages)
        assert "edgekit emulator arm64" in error.value.remedy


def test_a_wheel_is_found_by_its_packages_name(tmp_path: Path) -> None:
    for name in ("ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl", "numpy-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl"):
        (tmp_path / name).touch()
    assert [path.name[:9] for path in arm64._find_wheel(tmp_path, "ai-edge-litert", "2.3.0")] == ["ai_edge_l"]


# -- the command ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("qemu")
def test_a_bundle_is_judged_as_another_processor_answers(
    tiny_run: Path, bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns(".references"))
    manifest = (bundle / "manifest.json").read_bytes()
    calls: list[tuple[Any, ...]] = []
    original = machines.Machine.run

    def count(self: machines.Machine, *words: Any) -> Any:
        calls.append((self.label, *words))
        return original(self, *words)

    monkeypatch.setattr(machines.Machine, "run", count)
    monkeypatch.setattr("edgekit.emulation.judging.CHUNK", 2)
    command = ["verify", str(bundle), str(studies), "--cpu", "haswell", "--run", str(run), "--json"]
    with monkeypatch.context() as patch:  # the verdict can't be reached: what was answered is kept
        patch.setattr("edgekit.emulation.judging.judge_recording", None)
        assert edgekit(command) == 1
    assert [label for label, *_ in calls].count("haswell") == 2
    calls.clear()
    capsys.readouterr()

    assert edgekit(command) == 0
    assert calls == []  # both chunks, here and there, were kept
    document = json.loads(capsys.readouterr().out)
    (row,) = document["parity"]["sessions"]
    assert (row["verdict"], row["n"], row["changed_from_native"], row["session"]) == ("PASS", 3, 0, "onnxruntime")
    assert 0 <= row["max_box_difference_px"] < 0.5
    assert (row["cpu"]["emulated"], row["cpu"]["features"], row["cpu"]["threads"]) == ("haswell", ["sse4_1", "avx2"], 1)
    assert document["unproven"] == ["session openvino was not emulated on haswell", "session browser was not emulated on haswell"]
    assert list((tmp_path / "cache" / "edgekit" / "emulation").iterdir()) == []  # the verdict stands

    opened = open_bundle(bundle)
    (proof,) = [each for each in opened.processors if each["features"] == ["sse4_1", "avx2"]]
    assert (proof["basis"], proof["n"], proof["verdict"], proof["session"]) == ("emulated", 3, "PASS", "onnxruntime")
    assert (bundle / "manifest.json").read_bytes() == manifest
    assert "| x86_64 | sse4_1 avx2 | Haswell, qemu" in (bundle / "MODEL_CARD.md").read_text()


@pytest.mark.usefixtures("qemu")
def test_a_litert_bundle_is_judged_in_litert(
    tiny_run: Path, litert_bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = shutil.copytree(litert_bundle, tmp_path / "bundle")
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns(".references"))
    assert edgekit(["verify", str(bundle), str(studies), "--cpu", "nehalem", "--run", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["parity"]["sessions"]
    assert (row["verdict"], row["n"], row["changed_from_native"], row["session"]) == ("PASS", 3, 0, "litert")
    assert document["unproven"] == [f"session {name} was not emulated on nehalem" for name in ("browser", "browser-compat")]
    version = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
    assert row["runtime"] == f"{version} XNNPACK, threads 1"
    (proof,) = open_bundle(bundle).processors
    assert (proof["session"], proof["runtime"], proof["features"], proof["basis"]) == ("litert", row["runtime"], ["sse4_1"], "emulated")
    assert f"| litert | {version} XNNPACK, threads 1 | emulated | 3 | PASS |" in (bundle / "MODEL_CARD.md").read_text()


@pytest.mark.usefixtures("qemu")
def test_a_litert_recipes_processors_run_the_golden_vectors(litert_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.bundle import emulate_golden

    monkeypatch.setenv("EDGEKIT_ARM64", str(tmp_path / "nothing"))
    (row,), unproven, missed = emulate_golden(open_bundle(litert_bundle), ("haswell", "neon"))
    assert (row["session"], row["runtime"]) == ("litert", f"ai-edge-litert {metadata.version('ai-edge-litert')}")
    assert [sentence.partition(" here")[0] for sentence in unproven] == ["litert was not emulated on neon"]
    assert missed == []


@pytest.mark.usefixtures("qemu")
def test_missed_golden_vectors_name_the_processor_and_take_its_proof_away(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit(["verify", str(bundle), "--cpu", "nehalem"]) == 0
    assert [row["n"] for row in open_bundle(bundle).processors if row["features"] == ["sse4_1"]] == [0]
    golden = json.loads((bundle / "golden" / "golden.json").read_bytes())
    golden["cases"][0]["outputs"]["members"][0][0] += 0.5
    (bundle / "golden" / "golden.json").write_text(json.dumps(golden))
    opened = read_manifest(bundle)
    seal_bundle(bundle, opened, json.loads((bundle / "processors.json").read_bytes())["processors"])
    capsys.readouterr()
    assert edgekit(["verify", str(bundle), "--cpu", "nehalem"]) == 3
    assert "nehalem: too far from the golden vectors: members" in capsys.readouterr().err
    assert [row for row in open_bundle(bundle).processors if row["features"] == ["sse4_1"]] == []


def test_an_unknown_cpu_names_those_there_are(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit(["verify", str(bundle), "--cpu", "haswell,cascadelake"]) == 2
    error = capsys.readouterr().err
    assert "'cascadelake'" in error
    assert all(name in error for name in CPUS)
    assert edgekit(["verify", str(bundle), "--cpu", ""]) == 2


@pytest.mark.parametrize("option", ["--session", "--pack", "--outputs"])
def test_a_cpu_excludes_other_ways(bundle: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit(["verify", str(bundle), "--cpu", "neon", option, "x"]) == 2
    assert "--cpu excludes" in capsys.readouterr().err


def test_what_is_missing_is_said_with_what_brings_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgekit.emulation.machines.platform.system", lambda: "Linux")
    monkeypatch.setattr("edgekit.emulation.machines.shutil.which", lambda _: None)
    assert edgekit(["verify", str(bundle), "--cpu", "haswell"]) == 5
    assert "apt-get install qemu-user" in capsys.readouterr().err
    monkeypatch.setattr("edgekit.emulation.machines.shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("EDGEKIT_ARM64", str(tmp_path / "nothing"))
    assert edgekit(["verify", str(bundle), "--cpu", "neon"]) == 5
    assert "edgekit emulator arm64" in capsys.readouterr().err
    write_json(tmp_path / "nothing" / arm64.VERSIONS, {"numpy": "1.0", "onnxruntime": "1.0", "pillow": "1.0"})
    assert edgekit(["verify", str(bundle), "--cpu", "neon"]) == 5
    assert "of other versions" in capsys.readouterr().err


def test_a_folder_of_other_things_is_not_laid_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("two years")
    assert edgekit(["emulator", "arm64", "--out", str(tmp_path)]) == 4
    assert "holds other things: thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "two years"


@pytest.mark.slow
@pytest.mark.usefixtures("qemu")
def test_arm64_is_laid_out_and_judges(
    bundle: Path, litert_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It downloads 70 MB; a call that finds everything downloads nothing."""
    monkeypatch.setenv("EDGEKIT_ARM64", str(tmp_path / "arm64"))
    assert edgekit(["emulator", "arm64"]) == 0
    monkeypatch.setattr(arm64, "_call", None)
    assert edgekit(["emulator", "arm64", "--json"]) == 0
    capsys.readouterr()
    for package, judged in (("onnxruntime", bundle), ("ai-edge-litert", shutil.copytree(litert_bundle, tmp_path / "litert"))):
        assert edgekit(["verify", str(judged), "--cpu", "neon,neon-dotprod", "--json"]) == 0
        checks = json.loads(capsys.readouterr().out)["golden"]
        assert [(check["cpu"]["features"], check["failure"]) for check in checks] == [(["asimd"], None), (["asimd", "asimddp"], None)]
        assert {check["runtime"] for check in checks} == {f"{package} {metadata.version(package)}"}
    for name in ("neon", "neon-dotprod"):
        with open_emulated(CPUS[name], MODULES) as machine:
            check_litert_convolution(machine, tmp_path)
