"""The benchmark as its user runs it: one command, a record, a page. Times are never asserted."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"


def run_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("films")
    lines = ["patient_id,brand,has_crosslink,split,ap,lateral,ap_box,lateral_box,exclude"]
    random = np.random.default_rng(0)
    for number in range(3):
        for view in ("ap", "lateral"):
            coarse = Image.fromarray(random.integers(0, 256, (9, 8), np.uint8))
            coarse.resize((120, 150)).save(folder / f"{number}_{view}.png")
        lines.append(f"p{number},design-{'abc'[number]},,test,{number}_ap.png,{number}_lateral.png,,,")
    (folder / "studies.csv").write_text("\n".join(lines) + "\n")
    return folder / "studies.csv"


@pytest.fixture(scope="module")
def records(tiny_run: Path, tiny_bundle: Path, patients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the record of the smoke suite."""
    folder = tmp_path_factory.mktemp("records")
    given = ["--run", tiny_run, "--bundle", tiny_bundle, "--studies", patients, "--work", folder / "work", "--set", "per_round=2"]
    done = run_script(BENCHMARKS / "run.py", "smoke", *given, "--out", folder / "smoke.json")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def record(records: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((records / "smoke.json").read_text())
    return document


def test_every_candidate_has_a_time_and_an_accuracy(record: dict[str, Any]) -> None:
    sessions = [row["session"] for row in record["rows"]]
    assert sessions == ["desktop-cpu:fp32/onnxruntime", "eager-equal"]
    assert {name: found["n"] for name, found in record["accuracy"].items()} == dict.fromkeys(sessions, 3)
    assert all(row["n"] == 2 * 2 and set(row["ratio"]) == set(sessions) - {row["session"]} for row in record["rows"])
    assert record["provenance"]["packages"]["torch"]


def test_what_can_not_be_measured_is_named_with_the_reason(record: dict[str, Any]) -> None:
    reasons = {each["session"]: each["reason"] for each in record["not_measured"]}
    assert "--bundle" in reasons["web:w8a8/browser"]
    assert "--b0-run" in reasons["eager-usual"]
    assert "names no studies to calibrate on" in reasons["openvino-graph"]
    assert [goal["verdict"] for goal in record["goals"]] == ["reached", "reached", "not measured"]


def test_a_goal_may_be_a_sum(record: dict[str, Any]) -> None:
    ours = record["rows"][0]
    assert record["goals"][1]["measured"] == ours["load_ms"] + ours["first_ms"]
    assert record["goals"][0]["measured"] == ours["ratio"]["eager-equal"]


def test_only_numbers_of_a_suite_can_be_replaced(tmp_path: Path) -> None:
    given = ["--run", tmp_path, "--bundle", tmp_path, "--studies", tmp_path, "--out", tmp_path / "out.json"]
    for wrong in ("kind=3", "round=3", "rounds=many"):
        done = run_script(BENCHMARKS / "run.py", "smoke", *given, "--set", wrong)
        assert done.returncode != 0
        assert f"--set {wrong}" in done.stderr


def test_whole_processes_answer(patients: Path, tiny_run: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.manifest import open_bundle
    from edgekit.studies import read_studies

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    processes = importlib.import_module("processes")
    bundle, studies = open_bundle(tiny_bundle), read_studies(patients)
    rows = processes.measure_cold({"warmup": 1, "runs": 2}, bundle, "tiny", studies, Namespace(before=REPOSITORY))
    assert [row.session for row in rows] == ["tiny", "tiny, first time", "tiny, before"]
    for cold in rows:
        assert (cold.n, cold.load_ms) == (2, None)
        assert cold.peak_rss_mb > 50  # an interpreter with numpy and onnxruntime takes more
        assert set(cold.ratio) == {row.session for row in rows} - {cold.session}
    (screening,) = processes.measure_screening({"rows": 7, "films_of": 3}, bundle, "tiny", studies, Namespace())
    assert "7 rows on the films of 3 patients" in screening.notes[1]
    suite = {"rows": 4, "films_of": 2, "evaluated": 3, "runs": 1}
    shared = processes.measure_shared(suite, bundle, "tiny", studies, Namespace(run=tiny_run))
    beside = ", beside a busy core"
    assert [row.session for row in shared] == [
        f"{name}{kind}" for name in ("predict --studies", "evaluate") for kind in ("", beside, f"{beside}, spinning")
    ]
    assert all(row.n == 1 and row.peak_rss_mb > 50 for row in shared)
    assert set(shared[3].ratio) == {f"evaluate{beside}", f"evaluate{beside}, spinning"}


def test_a_suite_names_only_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    known = importlib.import_module("peers").PEERS
    for path in BENCHMARKS.glob("*.toml"):
        suite = tomllib.loads(path.read_text())
        assert set(suite.get("peers", [])) <= set(known), path.name
        rivals = {goal["against"] for goal in suite.get("goals", []) if "against" in goal}
        assert suite.get("kind") != "two-view" or rivals <= {*suite["sessions"], *suite["peers"]}, path.name


LITERT = """
export class Tensor {
  constructor(values, shape) { Object.assign(this, { values, shape }); }
  async data() { return this.values; }
  delete() {}
}
export const loadLiteRt = async (folder, { threads }) => { globalThis.threaded = threads; };
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
export const loadAndCompile = async (content, { cpuOptions: { numThreads } }) => {
  if (threaded !== numThreads > 1) throw new Error("one build for one thread, another for more");
  const { side, answer, sign } = JSON.parse(new TextDecoder().decode(content));
  const run = async ({ values }) => {
    if (answer) return [new Tensor(values.some((value) => value > 0) ? answer.flat() : answer.flat().fill(0))];
    const left = values.filter((_, index) => index % side < side / 2);
    const top = values.subarray(0, values.length / 2);
    return [new Tensor(Float32Array.of(mean(left), mean(top), mean(values)).map((value) => 50 * sign * value))];
  };
  const [inputs, outputs] = [[1, 1, side, side], answer ? [1, answer.length, answer[0].length] : [1, 3]].map((shape) => [{ shape }]);
  return { run, getInputDetails: () => inputs, getOutputDetails: () => outputs };
};
"""
"""LiteRT.js for networks that are JSON: a detector of one `answer` on all films not black, and members that take means of a crop."""


@pytest.fixture
def page_peer(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium_path: str) -> Any:  # noqa: ARG001
    """The candidate of the peer in a page, one thread where other peers have two, on a double of LiteRT.js; its files are there."""
    from edgekit.models.runfolder import run_hash
    from edgekit.sessions import vendored

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    (tmp_path / "litert.js").write_text(LITERT)
    monkeypatch.setattr(vendored, "find_runtime", lambda backend: {f"{backend}.js": tmp_path / "litert.js"})
    folder = tmp_path / run_hash(tiny_run)[:16]
    (folder / "detector-64").mkdir(parents=True)
    boxes = [[0.5, 0.9, 0.3], [0.5, 0.4, 0.3], [0.2, 0.4, 0.1], [0.2, 0.5, 0.1]]
    (folder / "detector-64" / "detector.tflite").write_text(json.dumps({"side": 64, "answer": [*boxes, [0.7, 0.1, 0], [0, 0.8, 0]]}))
    for view, sign in (("ap", 1), ("lateral", -1)):
        (folder / f"member_{view}.tflite").write_text(json.dumps({"side": 64, "sign": sign}))
    suite = {"threads": 2, "browser_threads": 1, "throttle": 2, "sessions": [], "peers": ["litertjs-equal"]}
    listed, left_out = importlib.import_module("run").list_candidates(suite, Namespace(run=tiny_run, work=tmp_path), [], [])
    assert left_out == []
    return listed[0]


@pytest.mark.browser
def test_a_page_with_glue_of_its_own_answers_as_the_script_in_python(page_peer: Any, tiny_run: Path) -> None:
    from edgekit.canvases import graph_inputs

    setup = importlib.import_module("peers.setup")
    box = np.float32([89.6, 19.2, 128, 83.2])  # 0.9 and 0.4 of 128 px, half of 0.4 and 0.5 on each side, to the film's edge

    def take_means(crop: Any, sign: int) -> Any:
        return np.float32([crop[..., :32].mean(), crop[..., :32, :].mean(), crop.mean()]) * 50 * sign

    members = {"ap": partial(take_means, sign=1), "lateral": partial(take_means, sign=-1)}
    script = setup.Script("", lambda films: [box if film.any() else None for film in films], members, tiny_run)
    rows, columns = np.indices((128, 128))
    films = {"ap": (rows + columns // 2).astype(np.uint8), "lateral": (255 - rows - columns).clip(0, 255).astype(np.uint8)}
    black = np.zeros((128, 128), np.uint8)
    page_peer.prepare()
    with page_peer.opener() as page:
        assert ", 1 thread, Chromium" in page.runtime
        assert page.runtime.endswith("slowed down 2 times")
        for given in (films, {"lateral": films["lateral"]}, {"ap": films["ap"], "lateral": black}, {"ap": black}):
            inputs = graph_inputs(given, ("ap", "lateral"), 128)
            answer, expected = page.infer(inputs), script.infer(inputs)["probabilities"]
            assert np.abs(answer["probabilities"] - expected).max() < 2e-3, "half a pixel beside the crop is 4e-3"
            found = [view in given and given[view].any() for view in ("ap", "lateral")]
            assert np.abs(answer["boxes"] - np.outer(found, box)).max() < 1e-3
            assert page.elapsed_ms > 0
        assert not expected.any()


def test_what_the_page_needs_is_named(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.errors import MissingError

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    setup = importlib.import_module("peers.setup").Setup(tiny_run, tmp_path, 64, None, ())
    with pytest.raises(MissingError) as caught:
        importlib.import_module("peers").PEERS["litertjs-equal"].prepare(setup)
    assert caught.value.remedy == "pip install litert-torch"


def test_the_page_asks_nobody_for_anything(records: Path) -> None:
    page = records / "page.html"
    done = run_script(BENCHMARKS / "page.py", page, "--records", records)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert not re.search(r"(src|href)=\"(?!#|data:)|@import|url\(|<script", text)
    for shown in ("desktop-cpu:fp32/onnxruntime", "eager-equal", "not measured", "<svg"):
        assert shown in text


def test_the_readme_table_is_that_of_the_kept_records(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    kept = (BENCHMARKS / "README.md").read_text()
    copy.write_text(kept)
    done = run_script(BENCHMARKS / "page.py", tmp_path / "page.html", "--readme", copy)
    assert done.returncode == 0, done.stderr
    assert copy.read_text() == kept, "run: .venv/bin/python benchmarks/page.py build/benchmarks.html --readme benchmarks/README.md"
