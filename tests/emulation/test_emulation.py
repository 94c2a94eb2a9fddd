"""Bundles as other processors answer, under qemu-user."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from resealing import read_manifest

from edgekit.cli import run as edgekit
from edgekit.emulation import arm64, machines
from edgekit.emulation.machines import describe_cores, open_emulated, open_here
from edgekit.errors import MissingError
from edgekit.files import write_json
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


@pytest.fixture(scope="session")
def haswell(qemu: str) -> Iterator[machines.Machine]:
    assert qemu
    with open_emulated(CPUS["haswell"]) as machine:
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
    ended = open_here().run(machines.probe.__file__)
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
        stack.enter_context(open_emulated(Cpu("other", "x86_64", model, features, "")))
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
        for machine, may_differ in ((open_here(), False), (haswell, wrong)):
            ended = machine.run("-c", CONVOLUTION, model, tmp_path / "films.npy", tmp_path / "out.npy")
            assert ended.returncode == 0, ended.stderr
            differs = bool((np.load(tmp_path / "out.npy")[0] != expected).mean() > 0.05)
            if machine is haswell or "avx512_vnni" in read_features() or "avx_vnni" in read_features():
                assert differs == may_differ, (largest, machine.label)


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
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It downloads 50 MB; a call that finds everything downloads nothing."""
    monkeypatch.setenv("EDGEKIT_ARM64", str(tmp_path / "arm64"))
    assert edgekit(["emulator", "arm64"]) == 0
    monkeypatch.setattr(arm64, "_call", None)
    assert edgekit(["emulator", "arm64", "--json"]) == 0
    capsys.readouterr()
    assert edgekit(["verify", str(bundle), "--cpu", "neon,neon-dotprod", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["golden"]
    assert [(check["cpu"]["features"], check["failure"]) for check in checks] == [(["asimd"], None), (["asimd", "asimddp"], None)]
