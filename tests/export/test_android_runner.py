"""The Kotlin runner, compiled and run on a JVM.

Android and ONNX Runtime Mobile are stood in for by `android_doubles`; who answers for the latter is onnxruntime in this process, in every
way that the test wants: rightly, wrongly, or not at all.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.canvases import graph_inputs
from edgekit.manifest import open_bundle, seal_bundle
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.types import VIEWS

pytestmark = pytest.mark.slow  # the Kotlin compiler takes its time

RUNNER = Path(__file__).parents[2] / "export" / "android" / "runner"
DOUBLES = Path(__file__).parent / "android_doubles"
JSON = Path("/usr/share/java/com.android.json.jar")
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # what runs for a second is not worth a better compiler
COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
SIDE = 128
COMPILER_JARS = ("kotlin-jupyter-kernel", "kotlin-stdlib", "kotlin-reflect", "kotlin-script-runtime")


@pytest.fixture(scope="module")
def classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile the runner, the doubles and the program that opens a bundle; a warning is an error."""
    if shutil.which("javac") is None or not JSON.is_file():
        pytest.skip("no Java compiler, or no org.json: apt-get install openjdk-17-jdk-headless libandroid-json-java")
    package = importlib.util.find_spec("run_kotlin_kernel")
    if package is None or package.origin is None:
        pytest.skip("no Kotlin compiler: pip install --no-deps kotlin-jupyter-kernel")
    jars = Path(package.origin).parent / "jars"
    compiler = [str(next(jars.glob(f"{name}-[0-9]*.jar"))) for name in COMPILER_JARS]
    library = compiler[1]
    out = tmp_path_factory.mktemp("classes")
    java = [str(path) for path in DOUBLES.rglob("*.java")]
    subprocess.run(["javac", "-d", str(out), "-cp", str(JSON), *java], check=True, timeout=120)
    on_path = ":".join([library, str(JSON), str(out)])
    options = ["-no-stdlib", "-no-reflect", "-Werror", "-cp", on_path, "-d", str(out)]
    sources = [str(RUNNER), str(DOUBLES / "Main.kt")]
    subprocess.run([*JAVA, "-cp", ":".join(compiler), COMPILER, *options, *sources], check=True, timeout=300)
    return on_path


@dataclass
class Device:
    """A phone with a bundle among its app's assets.

    Attributes
    ----------
    offsets
        By way, what is added to the first probability of each answer; a text is the error with which the way doesn't open.
    asked
        The ways that were opened, in order.
    """

    bundle: Path
    cache: Path
    classpath: str
    session: OnnxRuntimeSession
    offsets: dict[str, float | str]
    asked: list[str]
    answers: int = 0
    open: int = 0

    def start(self, *words: str, runtime: str = "1.24.2", fingerprint: str = "maker/phone:15/build") -> dict[str, Any]:
        """Run the program once; returns what it says."""
        self.asked.clear()
        self.answers = 0
        command = [*JAVA, f"-Druntime={runtime}", f"-Dfingerprint={fingerprint}", "-cp", self.classpath, "MainKt"]
        folders = [str(self.bundle.parent), str(self.cache)]
        with subprocess.Popen([*command, *folders, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdin
            assert program.stdout
            for line in program.stdout:
                if line.startswith("SAY "):
                    return dict(json.loads(line[4:]))
                program.stdin.write(self._answer(*line.split()) + "\n")
                program.stdin.flush()
        raise AssertionError("the program ended without a word")

    def _answer(self, kind: str, way: str, *words: str) -> str:
        offset = self.offsets.get(way, 0.0)
        if kind == "CLOSE":
            self.open -= 1
            return "closed"
        if kind == "OPEN":
            self.asked.append(way)
            assert base64.b64decode(words[1]) == open_bundle(self.bundle).model.read_bytes()
            if isinstance(offset, str):
                return f"error {offset}"
            self.open += 1
            return "opened"
        self.answers += 1
        films = [np.frombuffer(base64.b64decode(word), np.uint8).reshape(SIDE, SIDE) for word in words[2:]]
        given = {view: film for view, film, present in zip(VIEWS, films, words[:2], strict=True) if float(present)}
        outputs = {name: value.copy() for name, value in self.session.infer(graph_inputs(given, SIDE)).items()}
        outputs["probabilities"][0] += offset
        return json.dumps({name: {"dtype": str(value.dtype), "values": value.ravel().tolist()} for name, value in outputs.items()})


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Iterator[OnnxRuntimeSession]:
    opened = open_bundle(tiny_bundle)
    assert opened.canvas_side == SIDE
    with OnnxRuntimeSession(opened.model, SIDE, 1) as session:
        yield session


@pytest.fixture
def device(classpath: str, session: OnnxRuntimeSession, tiny_bundle: Path, tmp_path: Path) -> Device:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "assets" / "bundle")
    return Device(bundle, tmp_path / "cache", classpath, session, {}, [])


def alter_golden(bundle: Path) -> None:
    """Expect another answer, and seal that, as someone who means it would."""
    path = bundle / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    golden["cases"][-1]["outputs"]["unfamiliarity"] = (np.array(golden["cases"][-1]["outputs"]["unfamiliarity"]) + 0.25).tolist()
    path.write_text(json.dumps(golden))
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    del manifest["manifest_sha256"]
    seal_bundle(bundle, manifest)


def test_the_fastest_way_is_checked_once_and_answers(device: Device) -> None:
    cases = json.loads((device.bundle / "golden" / "golden.json").read_text())["cases"]
    said = device.start()
    assert (said["way"], said["rejected"], device.asked) == ("NNAPI", [], ["NNAPI"])
    assert device.answers == len(cases) + 1
    expected = device.session.infer(graph_inputs({"ap": np.zeros((SIDE, SIDE), np.uint8)}, SIDE))
    np.testing.assert_allclose(said["probabilities"], expected["probabilities"], atol=1e-6)

    again = device.start()
    assert (again["way"], device.answers) == ("NNAPI", 1)
    for changed in ({"runtime": "1.25.0"}, {"fingerprint": "maker/phone:16/build"}):
        device.start(**changed)
        assert device.answers == len(cases) + 1, changed
    assert device.open == 0


def test_a_way_that_disagrees_gives_way_to_the_next(device: Device) -> None:
    device.offsets |= {"NNAPI": 0.2, "XNNPACK": "This binary was not compiled with XNNPACK support."}
    said = device.start()
    assert (said["way"], device.asked) == ("CPU", ["NNAPI", "XNNPACK", "CPU"])
    assert said["rejected"] == [
        {"way": "NNAPI", "reason": "probabilities is off by 0.20, accepted 1.0E-4"},
        {"way": "XNNPACK", "reason": "This binary was not compiled with XNNPACK support."},
    ]
    again = device.start()
    assert (again["way"], again["rejected"]) == ("CPU", said["rejected"])
    assert (device.asked, device.answers) == (["CPU"], 1)
    assert device.open == 0


def test_altered_golden_answers_are_refused_each_time(device: Device, tiny_bundle: Path) -> None:
    assert device.start()["way"] == "NNAPI"
    alter_golden(device.bundle)
    for _ in range(2):
        said = device.start()
        assert said["error"] == "DisagreementException"
        assert [each["way"] for each in said["rejected"]] == device.asked == ["NNAPI", "XNNPACK", "CPU"]
        assert "CPU: unfamiliarity is off by 0.25, accepted 1.0E-4" in said["message"]
        assert "use another device" in said["message"]
    assert device.open == 0
    shutil.rmtree(device.bundle)
    shutil.copytree(tiny_bundle, device.bundle)
    assert device.start()["way"] == "NNAPI"


def test_a_device_where_no_way_opens_says_why(device: Device) -> None:
    device.offsets |= {"NNAPI": "no accelerator", "XNNPACK": "no kernels", "CPU": "no memory"}
    said = device.start()
    assert (said["error"], said["message"]) == ("OrtException", "no accelerator")


def test_a_way_that_disagrees_later_is_not_taken_for_right(device: Device) -> None:
    assert device.start("test")["failed"] == []
    device.offsets["NNAPI"] = 0.2  # a driver that changed under the same build
    said = device.start("test")
    assert (said["way"], said["failed"]) == ("NNAPI", ["probabilities"])
    assert device.start()["way"] == "XNNPACK"
    device.offsets["XNNPACK"] = "gone"
    assert device.start()["message"] == "gone"
    assert device.start()["way"] == "CPU"  # what was remembered of a way that no longer opens is forgotten


def test_a_damaged_memory_or_none_costs_a_check(device: Device) -> None:
    checked = len(json.loads((device.bundle / "golden" / "golden.json").read_text())["cases"]) + 1
    device.start()
    (file,) = (device.cache / "edgekit").iterdir()
    known = file.read_bytes()
    for content in (b"", b"{}", known.replace(b"NNAPI", b"MAGIC")):
        file.write_bytes(content)
        device.start()
        assert (device.answers, file.read_bytes()) == (checked, known)
    shutil.rmtree(device.cache)
    device.cache.write_text("no folder")
    for _ in range(2):
        assert device.start()["way"] == "NNAPI"
        assert device.answers == checked


@pytest.mark.parametrize("name", ["model.onnx", "golden/golden.json"])
def test_a_changed_byte_is_refused(device: Device, name: str, tmp_path: Path) -> None:
    good = shutil.copytree(device.bundle, tmp_path / "good")
    content = bytearray((device.bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (device.bundle / name).write_bytes(content)
    damaged, device.bundle = device.bundle, good  # this side opens the good one; the program the damaged one beside it
    command = [str(damaged.parent), str(device.cache)]
    java = [*JAVA, "-Druntime=1", "-Dfingerprint=1", "-cp", device.classpath, "MainKt", *command]
    said = subprocess.run(java, input="", capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(said.removeprefix("SAY "))["message"] == f"{name} was changed: its sha256 is not the one in the manifest"
