from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import latency
from edgekit.cli import run as edgekit
from edgekit.errors import EdgekitError, MissingError, UsageError
from edgekit.latency import Worker, measure_latency, peak_rss_mb
from edgekit.manifest import open_bundle


class ScriptedWorker:
    """A session whose turns last what the script says."""

    script: dict[str, list[float]]
    turns: list[str]

    def __init__(self, name: str, *_: Any) -> None:
        if name not in self.script:
            raise MissingError(f"no {name} here")
        self.name, self.load_ms = name, 12.0
        self.left = list(self.script[name])

    def measure(self, count: int) -> list[float]:
        self.turns.append(self.name)
        return [self.left.pop(0)] * count

    def close(self) -> float:
        return 100.0

    def kill(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedWorker]:
    monkeypatch.setattr(latency, "Worker", ScriptedWorker)
    monkeypatch.setattr(latency, "_time_host", lambda _: {"decode": 7.0, "canvas": 3.0})
    ScriptedWorker.turns = []
    return ScriptedWorker


def test_rounds_alternate_and_the_ratio_is_taken_within_a_round(tiny_bundle: Path, scripted: type[ScriptedWorker]) -> None:
    # In the second round the machine is ten times slower, for everybody: the ratio stays 3.
    scripted.script = {"onnxruntime": [10, 100, 10, 11], "torch": [30, 300, 30, 99]}
    record = measure_latency(open_bundle(tiny_bundle), ["onnxruntime", "torch"], rounds=4, per_round=5)
    assert scripted.turns == ["onnxruntime", "torch", "torch", "onnxruntime", "onnxruntime", "torch", "torch", "onnxruntime"]
    fast, slow = record["rows"]
    assert (fast["name"], fast["session"], fast["precision"], fast["n"]) == ("two-view", "onnxruntime", "fp32", 20)
    assert fast["ratio"] == {"torch": pytest.approx(3.0)}
    assert slow["ratio"] == {"onnxruntime": pytest.approx(1 / 3)}
    assert (fast["p50_ms"], fast["p95_ms"]) == pytest.approx((10.5, 100))
    assert fast["stages"] == {"decode": 7.0, "canvas": 3.0, "infer": fast["p50_ms"]}
    assert fast["size_mb"] == pytest.approx((tiny_bundle / "model.onnx").stat().st_size / 1e6)
    assert (fast["load_ms"], fast["peak_rss_mb"]) == (12.0, 100.0)
    assert record["not_measured"] == []
    assert {"cpu", "cores", "os"} <= set(record["device"])
    assert {"edgekit", "commit", "date", "rounds"} <= set(record["provenance"])


def test_what_the_machine_lacks_is_told_not_replaced(tiny_bundle: Path, scripted: type[ScriptedWorker]) -> None:
    scripted.script = {"onnxruntime": [10.0]}
    record = measure_latency(open_bundle(tiny_bundle), rounds=1)
    assert [row["session"] for row in record["rows"]] == ["onnxruntime"]
    assert record["rows"][0]["ratio"] == {}
    assert record["not_measured"] == [{"session": name, "reason": f"no {name} here"} for name in ("openvino", "browser", "torch")]
    with pytest.raises(MissingError, match="no session could be measured: torch"):
        measure_latency(open_bundle(tiny_bundle), ["torch"])
    with pytest.raises(UsageError, match="no session 'abacus'"):
        measure_latency(open_bundle(tiny_bundle), ["abacus"])


def test_a_bundle_without_its_run_is_measured_without_the_reference(
    tiny_bundle: Path, tmp_path: Path, scripted: type[ScriptedWorker]
) -> None:
    scripted.script = {"onnxruntime": [10.0], "torch": [10.0]}
    alone = shutil.copytree(tiny_bundle, tmp_path / "a" / "b" / "alone")
    (missing,) = measure_latency(open_bundle(alone), ["onnxruntime", "torch"], rounds=1)["not_measured"]
    assert missing["session"] == "torch"
    assert "is not there" in missing["reason"]


def test_a_slow_machine_gets_fewer_rounds_and_says_so(
    tiny_bundle: Path, scripted: type[ScriptedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "BUDGET_S", -1.0)
    scripted.script = {"onnxruntime": [10.0] * 20}
    record = measure_latency(open_bundle(tiny_bundle), ["onnxruntime"], rounds=20, per_round=2)
    assert (record["provenance"]["rounds"], record["rows"][0]["n"]) == (5, 10)


def test_a_worker_answers_from_a_process_of_its_own(tiny_bundle: Path) -> None:
    ballast = np.ones(100_000_000)  # 800 MB here must not count there
    assert peak_rss_mb() > 760
    worker = Worker("onnxruntime", tiny_bundle, None, 1)
    assert ballast[-1] == 1
    times = worker.measure(3)
    assert len(times) == 3
    assert 0 < min(times) < max(times) < 10_000
    assert worker.load_ms > 0
    assert 30 < worker.close() < 700
    assert multiprocessing.active_children() == []


def test_what_goes_wrong_in_a_worker_is_raised_here(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="no such bundle"):
        Worker("onnxruntime", tmp_path / "nowhere", None, None)
    worker = Worker("onnxruntime", tiny_bundle, None, 1)
    worker.kill()
    with pytest.raises(EdgekitError, match="the process of session onnxruntime ended with code -9"):
        worker.measure(1)


def test_the_reference_has_a_worker_too(tiny_bundle: Path, tiny_run: Path) -> None:
    worker = Worker("torch", tiny_bundle, tiny_run, 1)
    assert len(worker.measure(2)) == 2
    worker.close()


def test_bench_on_the_command_line(
    tiny_bundle: Path, tmp_path: Path, scripted: type[ScriptedWorker], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.script = {"onnxruntime": [10.0] * 20}
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert edgekit(["bench", str(folder), "--out", str(tmp_path / "latency.json")]) == 0
    shown = capsys.readouterr().out
    assert "not measured: torch: no torch here" in shown
    assert "decode: 7.0 ms" in shown
    record = json.loads((tmp_path / "latency.json").read_text())
    assert open_bundle(folder).manifest["latency"] == [record]
    assert edgekit(["bench", str(folder), "--session", "abacus"]) == 2


def test_the_host_stages_are_timed_on_a_dicom_film() -> None:
    stages = latency._time_host(128, repeats=1)
    assert set(stages) == {"decode", "canvas"}
    assert all(0 < value < 10_000 for value in stages.values())
