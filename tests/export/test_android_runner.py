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
from pedicle_screws import VIEWS
from resealing import change_golden, tolerate

from edgekit.canvases import graph_inputs
from edgekit.contract import OUTPUTS
from edgekit.manifest import open_bundle
from edgekit.sessions.onnxruntime import OnnxRuntimeSession

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
        present, *films = words
        views = open_bundle(self.bundle).views
        canvases = {view: np.frombuffer(base64.b64decode(film), np.uint8) for view, film in (each.split("=", 1) for each in films)}
        assert list(canvases) == list(views)
        given = {view: canvases[view].reshape(SIDE, SIDE) for view, there in zip(views, present.split(","), strict=True) if float(there)}
        outputs = {name: value.copy() for name, value in self.session.infer(graph_inputs(given, views, SIDE)).items()}
        outputs["probabilities"][0] += offset
        return json.dumps({name: {"dtype": str(value.dtype), "values": value.ravel().tolist()} for name, value in outputs.items()})


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Iterator[OnnxRuntimeSession]:
    opened = open_bundle(tiny_bundle)
    assert opened.canvas_side == SIDE
    with OnnxRuntimeSession(opened.model, opened.manifest.tensors["inputs"], 1) as session:
        yield session


@pytest.fixture
def device(classpath: str, session: OnnxRuntimeSession, tiny_bundle: Path, tmp_path: Path) -> Device:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "assets" / "bundle")
    return Device(bundle, tmp_path / "cache", classpath, session, {}, [])


def test_the_fastest_way_is_checked_once_and_answers(device: Device) -> None:
    cases = json.loads((device.bundle / "golden" / "golden.json").read_text())["cases"]
    said = device.start()
    assert (said["way"], said["rejected"], device.asked) == ("NNAPI", [], ["NNAPI"])
    assert device.answers == len(cases) + 1
    expected = device.session.infer(graph_inputs({"ap": np.zeros((SIDE, SIDE), np.uint8)}, VIEWS, SIDE))
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
    change_golden(device.bundle, -1, "unfamiliarity", 0, by=0.25)
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


def open_damaged(device: Device) -> str:
    """Return why the program does not open the bundle; it asks nobody for an answer."""
    java = [*JAVA, "-Druntime=1", "-Dfingerprint=1", "-cp", device.classpath, "MainKt", str(device.bundle.parent), str(device.cache)]
    said = subprocess.run(java, input="", capture_output=True, text=True, check=True, timeout=60).stdout
    answer = json.loads(said.removeprefix("SAY "))
    assert answer["error"] == "DamagedBundleException"
    return str(answer["message"])


@pytest.mark.parametrize("name", ["model.onnx", "golden/golden.json"])
def test_a_changed_byte_is_refused(device: Device, name: str) -> None:
    content = bytearray((device.bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (device.bundle / name).write_bytes(content)
    assert open_damaged(device) == f"{name} was changed: its sha256 is not the one in the manifest"


def test_a_changed_manifest_is_refused(device: Device) -> None:
    path = device.bundle / "manifest.json"
    genuine = path.read_bytes()
    brand = json.loads(genuine)["brands"][0].encode()
    changed = {
        "a brand": genuine.replace(b'"' + brand + b'"', b'"' + brand + b's"'),
        "a space that JSON does not mind": genuine.replace(b'": ', b'":  ', 1),
        "its own hash": genuine[:-5] + bytes([genuine[-5] ^ 1]) + genuine[-4:],
        "more at its end": genuine + b" ",
        "no hash": genuine.partition(b',\n  "manifest_sha256"')[0] + b"\n}\n",
        "nothing": b"",
    }
    for what, content in changed.items():
        assert content != genuine
        path.write_bytes(content)
        assert open_damaged(device) == "manifest.json was changed: its sha256 is not the one it states", what


def test_another_task_answers_with_its_own_views_and_words(classpath: str, tiny_front_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_front_bundle, tmp_path / "assets" / "bundle")
    opened = open_bundle(bundle)
    with OnnxRuntimeSession(opened.model, opened.manifest.tensors["inputs"], 1) as session:
        device = Device(bundle, tmp_path / "cache", classpath, session, {}, [])
        said = device.start("test")
        expected = session.infer(graph_inputs({"front": np.zeros((SIDE, SIDE), np.uint8)}, ("front",), SIDE))
        refused = device.start("unknown")
    assert (said["way"], said["failed"], said["views"]) == ("NNAPI", [], ["front"])
    assert (said["question"], said["found"], said["told"]) == ("Which hip stem is this?", "hip stem", "stem")
    assert said["use"] == "Research software for hips. Not for choosing implants."
    assert said["outputs"] == list(OUTPUTS)
    np.testing.assert_allclose(said["probabilities"], expected["probabilities"], atol=1e-6)
    assert refused["message"] == "[oblique]: no view of this bundle, which has [front]"


def test_a_box_counts_only_where_something_was_to_be_found(device: Device) -> None:
    """In the case `ap` there is no lateral film: its box is arbitrary."""
    change_golden(device.bundle, 1, "boxes", 1, 0, by=50)
    assert device.start()["way"] == "NNAPI"
    change_golden(device.bundle, 1, "boxes", 0, 0, by=50)
    assert "boxes is off by 50, accepted 0.5" in device.start()["message"]
    tolerate(device.bundle, "boxes", None)  # it is not compared
    assert device.start()["way"] == "NNAPI"
