from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from resealing import read_manifest

from edgekit import latency
from edgekit.cli import run as edgekit
from edgekit.errors import MissingError, UsageError
from edgekit.files import hash_tree
from edgekit.latency import measure_latency
from edgekit.latency.device import find_disturbances
from edgekit.latency.host import time_host
from edgekit.manifest import open_bundle, seal_bundle


class ScriptedWorker:
    """A session whose turns last what the script says."""

    script: dict[str, list[float]]
    turns: list[str]

    def __init__(self, name: str, *_: Any, check: Any = None) -> None:  # noqa: ARG002
        if name not in self.script:
            raise MissingError(f"no {name} here")
        self.name, self.load_ms, self.first_ms, self.opening, self.runtime = name, 12.0, 34.0, {}, "scripted 1.0"
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
    monkeypatch.setattr(latency, "time_host", lambda *_: {"decode": 7.0, "canvas": 3.0})
    ScriptedWorker.turns = []
    return ScriptedWorker


def test_rounds_alternate_and_the_ratio_is_taken_within_a_round(tiny_bundle: Path, scripted: type[ScriptedWorker]) -> None:
    # In the second round the machine is ten times slower, for everybody: the ratio stays 3.
    scripted.script = {"onnxruntime": [10, 100, 10, 11], "torch": [30, 300, 30, 99]}
    record = measure_latency(open_bundle(tiny_bundle), ["onnxruntime", "torch"], rounds=4, per_round=5)
    assert scripted.turns == ["onnxruntime", "torch", "torch", "onnxruntime", "onnxruntime", "torch", "torch", "onnxruntime"]
    fast, slow = record["rows"]
    assert (fast["name"], fast["session"], fast["precision"], fast["n"], fast["threads"]) == ("two-view", "onnxruntime", "fp32", 20, None)
    assert fast["ratio"] == {"torch": pytest.approx(3.0)}
    assert slow["ratio"] == {"onnxruntime": pytest.approx(1 / 3)}
    assert (fast["p50_ms"], fast["p95_ms"]) == pytest.approx((10.5, 100))
    assert fast["throughput_per_s"] == pytest.approx(4000 / (10 + 100 + 10 + 11))
    # Quartiles of 10, 10, 11, 100 are 10 and 33.25, their median is 10.5.
    assert fast["spread"] == pytest.approx(23.25 / 10.5)
    assert any("onnxruntime 221 %" in warning for warning in record["warnings"])
    assert fast["stages"] == {"decode": 7.0, "canvas": 3.0, "infer": fast["p50_ms"]}
    assert fast["size_mb"] == pytest.approx((tiny_bundle / "model.onnx").stat().st_size / 1e6)
    assert (fast["load_ms"], fast["first_ms"], fast["peak_rss_mb"], fast["runtime"]) == (12.0, 34.0, 100.0, "scripted 1.0")
    assert record["not_measured"] == []
    assert {"cpu", "cores", "os"} <= set(record["device"])
    assert {"edgekit", "commit", "date", "rounds", "load_average"} <= set(record["provenance"])


def test_each_number_of_threads_is_a_row_of_its_own(tiny_bundle: Path, scripted: type[ScriptedWorker]) -> None:
    scripted.script = {"onnxruntime, 1 thread": [20.0], "onnxruntime, 2 threads": [10.0]}
    record = measure_latency(open_bundle(tiny_bundle), ["onnxruntime", "torch"], threads=(1, 2), rounds=1)
    assert [(row["threads"], row["throughput_per_s"]) for row in record["rows"]] == [(1, pytest.approx(50)), (2, pytest.approx(100))]
    assert record["rows"][1]["ratio"] == {"onnxruntime, 1 thread": pytest.approx(2.0)}
    assert [each["session"] for each in record["not_measured"]] == ["torch", "torch"]


@pytest.mark.parametrize(("in_float", "said"), [(10.1, True), (10.3, False), (9.0, True)])
def test_8_bits_that_gain_nothing_are_named(tiny_bundle: Path, scripted: type[ScriptedWorker], in_float: float, said: bool) -> None:
    bundle = open_bundle(tiny_bundle)
    bundle = replace(bundle, manifest=replace(bundle.manifest, sessions=(*bundle.sessions, "onnxruntime-float")))
    scripted.script = {"onnxruntime, 2 threads": [10.0], "onnxruntime-float, 2 threads": [in_float]}
    row, wide = measure_latency(bundle, ["onnxruntime", "onnxruntime-float"], threads=(2,), rounds=1)["rows"]
    assert any(f"8 bits gain nothing on this machine: {in_float / 10:.2f} times" in note for note in row["notes"]) == said
    assert wide["notes"] == []


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


def test_the_browsers_memory_is_not_the_drivers(tiny_bundle: Path, scripted: type[ScriptedWorker]) -> None:
    scripted.script = {"browser": [10.0]}
    (row,) = measure_latency(open_bundle(tiny_bundle), ["browser"], rounds=1)["rows"]
    assert row["peak_rss_mb"] is None
    assert any(note.startswith("no memory: ") for note in row["notes"])


def test_a_bundle_without_its_run_is_measured_without_the_reference(
    tiny_bundle: Path, tmp_path: Path, scripted: type[ScriptedWorker]
) -> None:
    scripted.script = {"onnxruntime": [10.0], "torch": [10.0]}
    alone = shutil.copytree(tiny_bundle, tmp_path / "a" / "b" / "alone")
    (missing,) = measure_latency(open_bundle(alone), ["onnxruntime", "torch"], rounds=1)["not_measured"]
    assert missing["session"] == "torch"
    assert "is not there" in missing["reason"]


def test_a_bundle_whose_model_is_a_folder_is_measured(tiny_bundle: Path, tmp_path: Path, scripted: type[ScriptedWorker]) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (folder / "model.onnx").unlink()
    for name, size in (("Manifest.json", 20_000), ("Data/weights/weight.bin", 3_000_000)):  # as Core ML keeps a program
        (folder / "model.mlpackage" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model.mlpackage" / name).write_bytes(bytes(size))
    manifest = read_manifest(folder)
    model = hash_tree(folder / "model.mlpackage")
    seal_bundle(folder, replace(manifest, model="model.mlpackage", model_sha256=model, sessions=("coreml",)))
    scripted.script = {"coreml": [10.0]}
    record = measure_latency(open_bundle(folder), ["coreml"], rounds=1)
    assert record["provenance"]["bundle"] == model
    assert record["rows"][0]["size_mb"] == pytest.approx(3.02)


def test_a_slow_machine_gets_fewer_rounds_and_says_so(
    tiny_bundle: Path, scripted: type[ScriptedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "BUDGET_S", -1.0)
    scripted.script = {"onnxruntime": [10.0] * 20}
    record = measure_latency(open_bundle(tiny_bundle), ["onnxruntime"], rounds=20, per_round=2)
    assert (record["provenance"]["rounds"], record["rows"][0]["n"]) == (5, 10)


def test_a_busy_machine_is_called_busy() -> None:
    assert find_disturbances(0.0, {"onnxruntime": 0.02}) == []
    assert find_disturbances(None, {}) == []
    (before,) = find_disturbances(1000.0, {"onnxruntime": 0.02})
    assert "load average 1000.0" in before


def test_bench_on_the_command_line(
    tiny_bundle: Path, tmp_path: Path, scripted: type[ScriptedWorker], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.script = {"onnxruntime, 1 thread": [10.0] * 20}
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert edgekit(["bench", str(folder), "--out", str(tmp_path / "latency.json")]) == 0
    shown = capsys.readouterr().out
    assert "not measured: torch: no torch, 1 thread here" in shown
    assert "% of what this machine's measured peaks allow" in shown
    record = json.loads((tmp_path / "latency.json").read_text())
    assert open_bundle(folder).manifest.latency == (record,)
    (row,) = record["rows"]
    # The stages are the whole of the row, and the floor that of its own number of threads.
    assert sum(row["stages"].values()) == pytest.approx(7.0 + 3.0 + row["p50_ms"])
    assert {"detect", "crop", "members", "ensemble", "overhead"} <= set(row["stages"])
    (floor,) = record["cost"]["floors"]
    assert (floor["threads"], floor["floor_ms"]) == (1, row["floor_ms"])
    assert row["floor_fraction"] == pytest.approx(row["floor_ms"] / 10.0)
    assert edgekit(["bench", str(folder), "--session", "abacus"]) == 2


def test_the_host_stages_are_timed_on_a_dicom_film() -> None:
    stages = time_host(2, 128, repeats=1)
    assert set(stages) == {"decode", "canvas"}
    assert all(0 < value < 10_000 for value in stages.values())
