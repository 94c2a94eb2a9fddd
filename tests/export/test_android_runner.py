"""The Kotlin runner, compiled and run on a JVM, once for each runtime.

Android, LiteRT and ONNX Runtime Mobile are stood in for by `android_doubles`; who answers for the two runtimes is the same runtime in this
process, in every way that the test wants: rightly, wrongly, or not at all.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pedicle_screws import VIEWS
from PIL import Image
from resealing import change_golden, tolerate

from edgekit.bundle import copy_runner
from edgekit.canvases import graph_inputs
from edgekit.contract import OUTPUTS
from edgekit.manifest import open_bundle
from edgekit.radiograph import read_radiograph
from edgekit.radiograph.canvas import make_canvas
from edgekit.sessions import open_session
from edgekit.targets import load_target

DOUBLES = Path(__file__).parent / "android_doubles"
FILMS = Path(__file__).parents[1] / "golden" / "canvas"
COMPILER_JARS = ("kotlin-jupyter-kernel", "kotlin-stdlib", "kotlin-reflect", "kotlin-script-runtime")
SIDE = 128
RUNTIMES = {"litert": ("org", "com"), "onnx": ("ai",)}
"""By backend, the packages of its runtime. An app has one of them, and so has a compilation."""
TARGETS = {"litert": "android", "onnx": "android:onnx-w8a8"}
SESSIONS = {"litert": "litert", "onnx": "onnxruntime"}
WAYS = {"litert": ["GPU", "XNNPACK", "CPU"], "onnx": ["NNAPI", "XNNPACK", "CPU"]}
USUAL = {"litert": ["XNNPACK", "CPU"], "onnx": ["NNAPI", "XNNPACK", "CPU"]}
REFUSED = {"litert": "LiteRtException", "onnx": "OrtException"}


@pytest.fixture(scope="module")
def classpaths(kotlin_jars: Path, android_json: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compile for each backend the runner as its bundles have it, the doubles and the program that uses both; a warning is an error."""
    compiler = [str(next(kotlin_jars.glob(f"{name}-[0-9]*.jar"))) for name in COMPILER_JARS]
    library = compiler[1]
    out = tmp_path_factory.mktemp("classes")
    sources = [str(path) for path in DOUBLES.rglob("*.java") if path.name != "Compile.java"]
    subprocess.run(["javac", "-d", str(out / "all"), "-cp", str(android_json), *sources], check=True, timeout=120)
    paths: dict[str, str] = {}
    commands: list[str] = []
    for backend, packages in RUNTIMES.items():
        (out / backend).mkdir()
        for package in packages:
            if (out / "all" / package).is_dir():
                (out / "all" / package).rename(out / backend / package)
        paths[backend] = ":".join([library, str(android_json), str(out / "all"), str(out / backend)])
        options = ["-no-stdlib", "-no-reflect", "-Werror", "-cp", paths[backend], "-d", str(out / backend)]
        copy_runner(load_target(TARGETS[backend]), out / f"bundle-{backend}")
        own = [out / f"bundle-{backend}" / "runner", DOUBLES / "Main.kt", *(DOUBLES / backend).rglob("*.kt")]
        commands += ["--", *options, *map(str, own)]
    lazily = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # what runs once is not worth a better compiler of its own
    compile_all = ["java", *lazily, "-cp", ":".join(compiler), str(DOUBLES / "Compile.java")]
    subprocess.run([*compile_all, *commands[1:]], check=True, timeout=300)
    return paths


class Program:
    """`Main.kt` in a process that serves the tests of one backend; a test that fails halfway through an answer ends it."""

    def __init__(self, classpath: str, temporary: Path) -> None:
        command = ["java", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={temporary}", "-cp", classpath, "MainKt"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, wanted: dict[str, Any], answer: Callable[..., str] | None = None) -> dict[str, Any]:
        """Let it do something; returns what it says. What it asks on the way goes to `answer`."""
        try:
            self._write(json.dumps(wanted))
            assert self._process.stdout
            for line in self._process.stdout:
                if line.startswith("SAY "):
                    return dict(json.loads(line[4:]))
                assert answer, line
                self._write(answer(*line.split()))
        except BaseException:
            self.close()
            raise
        raise AssertionError("the program ended without a word")

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


@pytest.fixture(scope="module")
def programs(classpaths: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Program]]:
    """The program of a backend: it is started when it is first wanted."""
    running: dict[str, Program] = {}

    def find(backend: str) -> Program:
        if backend not in running or running[backend].ended:
            running[backend] = Program(classpaths[backend], tmp_path_factory.mktemp("temporary"))
        return running[backend]

    yield find
    for program in running.values():
        program.close()


@dataclass
class Device:
    """A phone with a bundle among its app's assets.

    Attributes
    ----------
    offsets
        By way, what is added to the first probability of each answer; a text is the error with which the way doesn't open.
    exhausted
        What the runtime has no memory for: ``OPEN`` or ``RUN``.
    asked
        The ways that were opened, in order.
    open
        How many graphs, and whatever else of a runtime is to be closed, are open.
    """

    backend: str
    bundle: Path
    cache: Path
    program: Program
    session: Any
    offsets: dict[str, float | str] = field(default_factory=dict)
    exhausted: str = ""
    asked: list[str] = field(default_factory=list)
    answers: int = 0
    open: int = 0

    def __post_init__(self) -> None:
        opened = open_bundle(self.bundle)
        self.model, self.views, self.inputs = opened.model, opened.views, opened.manifest.tensors["inputs"]
        content = self.model.read_bytes()
        self.size, self.sum = len(content), zlib.crc32(content)
        self.cases = len(json.loads((self.bundle / "golden" / "golden.json").read_text())["cases"])
        self.ways = WAYS[self.backend]

    def start(
        self,
        *words: str,
        runtime: str = "1.24.2",
        fingerprint: str = "maker/phone:15/build",
        ways: list[str] | None = None,
        gpu: str = "there",
    ) -> dict[str, Any]:
        """Open the bundle as an app does that has just been started, in every way that there is, or in `ways`; returns what it says.

        An app that names no ways gives [].
        """
        self.asked.clear()
        self.answers = 0
        folders = {"assets": str(self.bundle.parent), "cache": str(self.cache)}
        told = {"runtime": runtime, "fingerprint": fingerprint, "gpu": gpu, "words": words}
        return self.program.ask({**folders, **told, "ways": self.ways if ways is None else ways}, self._answer)

    def _answer(self, kind: str, word: str, *words: str) -> str:
        if kind == "HOLD":
            self.open += int(word)
            return "held"
        if kind == "CLOSE":
            self.open -= 1
            return "closed"
        offset = self.offsets.get(word, 0.0)
        if kind == "OPEN":
            self.asked.append(word)
            assert tuple(map(int, words)) == (2, self.size, self.sum), "threads, size and sum of the model"
            if isinstance(offset, str):
                return f"error {offset}"
        if kind == self.exhausted:
            return "no memory"
        if kind == "OPEN":
            self.open += 1
            return "opened"
        self.answers += 1
        assert not isinstance(offset, str)
        return json.dumps({name: describe(value) for name, value in self._infer(words, offset).items()})

    def _infer(self, words: tuple[str, ...], offset: float) -> dict[str, NDArray[Any]]:
        given = {name: base64.b64decode(values) for name, values in (word.split("=", 1) for word in words)}
        assert list(given) == list(self.inputs)
        inputs = {name: np.frombuffer(given[name], row["dtype"]).reshape(row["shape"]) for name, row in self.inputs.items()}
        outputs = {name: value.copy() for name, value in self.session.infer(inputs).items()}
        outputs["probabilities"][0] += offset
        return outputs


def describe(value: NDArray[Any]) -> dict[str, str]:
    return {"dtype": str(value.dtype), "values": base64.b64encode(value.astype(value.dtype.newbyteorder("<")).tobytes()).decode()}


@pytest.fixture(scope="module", params=list(RUNTIMES))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shipped(backend: str, request: pytest.FixtureRequest) -> Path:
    """The backend's bundle. Whoever changes it takes a copy."""
    return Path(request.getfixturevalue({"litert": "litert_bundle", "onnx": "tiny_bundle"}[backend]))


@pytest.fixture(scope="module")
def session(backend: str, shipped: Path) -> Iterator[Any]:
    opened = open_bundle(shipped)
    assert (opened.canvas_side, opened.manifest.backend) == (SIDE, backend)
    with open_session(SESSIONS[backend], opened, 1) as session:
        yield session


@pytest.fixture
def device(backend: str, programs: Callable[[str], Program], session: Any, shipped: Path, tmp_path: Path) -> Device:
    bundle = shutil.copytree(shipped, tmp_path / "assets" / "bundle")
    return Device(backend, bundle, tmp_path / "cache", programs(backend), session)


def test_the_fastest_way_is_checked_once_and_answers(device: Device) -> None:
    fastest = device.ways[0]
    said = device.start()
    assert (said["way"], said["rejected"], device.asked) == (fastest, [], [fastest])
    assert device.answers == device.cases + 1
    expected = device.session.infer(graph_inputs({"ap": np.zeros((SIDE, SIDE), np.uint8)}, VIEWS, SIDE))
    np.testing.assert_allclose(said["probabilities"], expected["probabilities"], atol=1e-6)

    again = device.start()
    assert (again["way"], device.answers) == (fastest, 1)
    for changed in ({"runtime": "1.25.0"}, {"fingerprint": "maker/phone:16/build"}):
        device.start(**changed)
        assert device.answers == device.cases + 1, changed
    assert device.open == 0


def test_only_the_usual_ways_are_tried_unless_the_app_names_others(device: Device) -> None:
    device.offsets |= dict.fromkeys(device.ways, "not today")
    device.start(ways=[])
    assert device.asked == USUAL[device.backend]
    device.offsets.clear()
    assert device.start(ways=[])["way"] == USUAL[device.backend][0]
    assert device.start()["way"] == device.ways[0]  # what was found for other ways doesn't count for these


def test_a_way_that_disagrees_gives_way_to_the_next(device: Device) -> None:
    first, second, last = device.ways
    device.offsets |= {first: 0.2, second: "This binary was not compiled with XNNPACK support."}
    said = device.start()
    assert (said["way"], device.asked) == (last, device.ways)
    assert said["rejected"] == [
        {"way": first, "reason": "probabilities is off by 0.20, accepted 1.0E-4"},
        {"way": second, "reason": "This binary was not compiled with XNNPACK support."},
    ]
    again = device.start()
    assert (again["way"], again["rejected"]) == (last, said["rejected"])
    assert (device.asked, device.answers) == ([last], 1)
    assert device.open == 0


def test_altered_golden_answers_are_refused_each_time(device: Device, shipped: Path) -> None:
    assert device.start()["way"] == device.ways[0]
    change_golden(device.bundle, -1, "unfamiliarity", 0, by=0.25)
    for _ in range(2):
        said = device.start()
        assert said["error"] == "DisagreementException"
        assert [each["way"] for each in said["rejected"]] == device.asked == device.ways
        assert "CPU: unfamiliarity is off by 0.25, accepted 1.0E-4" in said["message"]
        name = {"litert": "LiteRT", "onnx": "ONNX Runtime"}[device.backend]
        assert said["message"].endswith(f". Update {name} and the system, or use another device.")
    assert device.open == 0
    shutil.rmtree(device.bundle)
    shutil.copytree(shipped, device.bundle)
    assert device.start()["way"] == device.ways[0]


def test_a_device_where_no_way_opens_says_why(device: Device) -> None:
    device.offsets |= dict(zip(device.ways, ("no accelerator", "no kernels", "nothing at all"), strict=True))
    said = device.start()
    assert (said["error"], said["message"]) == (REFUSED[device.backend], "no accelerator")
    assert device.open == 0


def test_a_way_that_disagrees_later_is_not_taken_for_right(device: Device) -> None:
    first, second, last = device.ways
    assert device.start("test")["failed"] == []
    device.offsets[first] = 0.2  # a driver that changed under the same build
    said = device.start("test")
    assert (said["way"], said["failed"]) == (first, ["probabilities"])
    assert device.start()["way"] == second
    device.offsets[second] = "gone"
    assert device.start()["message"] == "gone"
    assert device.start()["way"] == last  # what was remembered of a way that no longer opens is forgotten


def test_a_damaged_memory_or_none_costs_a_check(device: Device) -> None:
    first, checked = device.ways[0], device.cases + 1
    device.start()
    (file,) = (device.cache / "edgekit").iterdir()
    known = file.read_bytes()
    for content in (b"", b"{}", known.replace(b'"way":"' + first.encode(), b'"way":"MAGIC')):
        assert content != known
        file.write_bytes(content)
        device.start()
        assert (device.answers, file.read_bytes()) == (checked, known)
    shutil.rmtree(device.cache)
    device.cache.write_text("no folder")
    for _ in range(2):
        assert device.start()["way"] == first
        assert device.answers == checked


@pytest.mark.parametrize("exhausted", ["OPEN", "RUN"])
def test_a_device_without_memory_says_so_and_finds_out_nothing(device: Device, exhausted: str) -> None:
    device.exhausted = exhausted
    said = device.start()
    megabytes = device.size / 1e6
    assert said["error"] == "TooLittleMemoryException"
    assert said["message"] == (
        f"this device gave no memory to open the bundle, whose model has {megabytes:.1f} MB. Close other apps and try again; "
        'if it never opens, give the app android:largeHeap="true" in its manifest, or export a smaller variant.'
    )
    assert (device.asked, device.open) == (device.ways[:1], 0), "a slower way would be remembered"
    assert not (device.cache / "edgekit").exists()
    device.exhausted = ""
    assert device.start()["way"] == device.ways[0]
    device.exhausted = "OPEN"
    assert device.start()["error"] == "TooLittleMemoryException"
    device.exhausted = ""
    assert (device.start()["way"], device.answers) == (device.ways[0], 1), "it is still known"


def open_damaged(device: Device) -> str:
    """Return why the program does not open the bundle; it asks nobody for an answer."""
    said = device.start()
    assert (said["error"], device.asked) == ("DamagedBundleException", [])
    return str(said["message"])


@pytest.mark.parametrize("name", ["model", "golden/golden.json"])
def test_a_changed_byte_is_refused(device: Device, name: str) -> None:
    path = device.model if name == "model" else device.bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert open_damaged(device) == f"{path.relative_to(device.bundle)} was changed: its sha256 is not the one in the manifest"


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


def test_a_box_counts_only_where_something_was_to_be_found(device: Device) -> None:
    """In the case `ap` there is no lateral film: its box is arbitrary."""
    change_golden(device.bundle, 1, "boxes", 1, 0, by=50)
    assert device.start()["way"] == device.ways[0]
    change_golden(device.bundle, 1, "boxes", 0, 0, by=50)
    assert "boxes is off by 50, accepted 0.5" in device.start()["message"]
    tolerate(device.bundle, "boxes", None)  # it is not compared
    assert device.start()["way"] == device.ways[0]


# -- one of them ---------------------------------------------------------------------------------------------------------------


def test_another_task_answers_with_its_own_views_and_words(
    programs: Callable[[str], Program], tiny_front_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_front_bundle, tmp_path / "assets" / "bundle")
    with open_session("onnxruntime", open_bundle(bundle), 1) as session:
        device = Device("onnx", bundle, tmp_path / "cache", programs("onnx"), session)
        said = device.start("test")
        expected = session.infer(graph_inputs({"front": np.zeros((SIDE, SIDE), np.uint8)}, ("front",), SIDE))
        refused = device.start("unknown")
    assert (said["way"], said["failed"], said["views"]) == ("NNAPI", [], ["front"])
    assert (said["question"], said["found"], said["told"]) == ("Which hip stem is this?", "hip stem", "stem")
    assert said["use"] == "Research software for hips. Not for choosing implants."
    assert said["outputs"] == list(OUTPUTS)
    np.testing.assert_allclose(said["probabilities"], expected["probabilities"], atol=1e-6)
    assert refused["message"] == "[oblique]: no view of this bundle, which has [front]"


def test_a_bundle_of_the_other_runtime_is_refused(programs: Callable[[str], Program], tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "assets" / "bundle")
    device = Device("onnx", bundle, tmp_path / "cache", programs("litert"), session=None)
    assert device.start(ways=["CPU"])["message"] == (
        "this bundle is one for onnx, and the app was built to run litert: replace its runner by the one in the bundle"
    )


@pytest.fixture
def phone(programs: Callable[[str], Program], litert_bundle: Path, tmp_path: Path) -> Iterator[Device]:
    """A device of LiteRT."""
    bundle = shutil.copytree(litert_bundle, tmp_path / "assets" / "bundle")
    with open_session("litert", open_bundle(bundle), 1) as session:
        yield Device("litert", bundle, tmp_path / "cache", programs("litert"), session)


def test_a_gpu_that_is_not_there_is_not_said_to_answer(phone: Device) -> None:
    said = phone.start(gpu="none")
    assert (said["way"], phone.asked, phone.open) == ("XNNPACK", ["XNNPACK"], 0)
    (rejected,) = said["rejected"]
    assert rejected["way"] == "GPU"
    assert rejected["reason"].startswith("LiteRT finds no GPU: ")


def test_the_file_that_the_gpu_is_opened_with_is_deleted(classpaths: dict[str, str], phone: Device, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    phone.program = Program(classpaths["litert"], temporary)
    try:
        assert phone.start()["way"] == "GPU"
        phone.offsets["GPU"] = "no"
        assert phone.start(runtime="2")["way"] == "XNNPACK"
    finally:
        phone.program.close()
    assert not list(temporary.glob("edgekit*"))


# -- canvases ------------------------------------------------------------------------------------------------------------------

INDEX = json.loads((FILMS / "index.json").read_text())


def place(program: Program, pixels: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    height, width = pixels.shape
    film = base64.b64encode(pixels.tobytes()).decode()
    said = program.ask({"film": film, "width": width, "height": height, "side": side})
    return np.frombuffer(base64.b64decode(said["canvas"]), np.uint8).reshape(side, side), said


@pytest.mark.parametrize("vector", INDEX["vectors"], ids=lambda vector: vector["film"])
def test_a_canvas_is_the_one_that_is_expected(vector: dict[str, Any], programs: Callable[[str], Program]) -> None:
    """The films are decoded by edgekit: a decoder is the app's own."""
    canvas, said = place(programs("litert"), read_radiograph(FILMS / vector["film"]).pixels, vector["side"])
    assert {name: said[name] for name in ("left", "top", "covered")} == {name: vector[name] for name in ("left", "top", "covered")}
    off = np.abs(canvas.astype(int) - np.asarray(Image.open(FILMS / vector["canvas"]), int))
    assert off.max() <= 2
    assert off.mean() <= 0.3


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 2), (64, 64), (63, 65), (65, 129), (400, 33)])
def test_a_canvas_of_any_shape_is_edgekits(size: tuple[int, int], programs: Callable[[str], Program]) -> None:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, size, np.uint8)
    canvas, said = place(programs("litert"), pixels, 64)
    expected, letterbox = make_canvas(pixels, 64)
    assert (said["left"], said["top"], tuple(said["covered"])) == (letterbox.left, letterbox.top, letterbox.covered)
    assert np.abs(canvas.astype(int) - expected.astype(int)).max() <= 1


def test_a_film_of_other_bytes_than_its_size_is_refused(programs: Callable[[str], Program]) -> None:
    film = base64.b64encode(bytes(11)).decode()
    said = programs("litert").ask({"film": film, "width": 3, "height": 4, "side": 64})
    assert said["message"] == "a film of 3 x 4 pixels has that many bytes, this one has 11"
