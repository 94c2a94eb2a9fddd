"""The day a GPU is at hand, rehearsed on the CPU: every part that a CPU can run, doubles for the libraries that it has not."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pedicle_screws import VIEWS
from resealing import read_manifest

from edgekit.bundle import copy_runner
from edgekit.contract import OUTPUTS
from edgekit.errors import EdgekitError, MissingError
from edgekit.files import write_json
from edgekit.golden import read_golden
from edgekit.graphs.places import find_places
from edgekit.graphs.tensorrt import list_precisions
from edgekit.manifest import open_bundle, seal_bundle
from edgekit.models.runfolder import load_pipeline
from edgekit.targets import load_target
from edgekit.task import PEDICLE_SCREWS

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "benchmarks" / "gpu"
DOUBLES = REPOSITORY / "tests" / "gpu_doubles"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT))
        yield


@pytest.fixture(scope="module")
def day(_importable: None) -> ModuleType:
    """The script itself."""
    specification = importlib.util.spec_from_file_location("gpu_day", SCRIPT / "__main__.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plan(_importable: None, tiny_run: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A plan whose run, patients and TensorRT bundle are there: `tiny_bundle` with the runner of jetson, its graph judged as float32."""
    from PIL import Image

    work = tmp_path_factory.mktemp("gpu")
    made = importlib.import_module("plan").Plan("cpu", "smallest", 3, work, tiny_run)
    folder = work / "films" / "further"
    folder.mkdir(parents=True)
    lines = ["patient_id,brand,has_crosslink,split,ap,lateral,ap_box,lateral_box,exclude"]
    random = np.random.default_rng(0)
    for number in range(3):
        for view in ("ap", "lateral"):
            coarse = Image.fromarray(random.integers(0, 256, (9, 8), np.uint8))
            coarse.resize((120, 150)).save(folder / f"{number}_{view}.png")
        lines.append(f"p{number},design-{'abc'[number]},,test,{number}_ap.png,{number}_lateral.png,,,")
    (folder / "studies.csv").write_text("\n".join(lines) + "\n")
    bundle = made.bundle("jetson:fp16")
    shutil.copytree(tiny_bundle, bundle, ignore=shutil.ignore_patterns("runner"))
    copy_runner(load_target("jetson"), bundle)
    script = bundle / "runner" / "run.py"
    script.write_text(script.read_text().replace("WARMUP, REPEATS = 20, 200", "WARMUP, REPEATS = 1, 3"))
    write_json(
        bundle / "precisions.json", list_precisions(onnx.load(bundle / "model.onnx"), find_places(load_pipeline(tiny_run, "ap+lateral")))
    )
    manifest = read_manifest(bundle)
    (bundle / "manifest.json").unlink()
    seal_bundle(bundle, replace(manifest, sessions=("onnxruntime", "tensorrt")))
    return made


@pytest.fixture
def doubles(plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for TensorRT and CUDA, here and in every process started from here."""
    modules = tmp_path / "modules"
    (modules / "cuda" / "bindings").mkdir(parents=True)
    (modules / "cuda" / "__init__.py").touch()
    (modules / "cuda" / "bindings" / "__init__.py").touch()
    shutil.copy(DOUBLES / "cuda_runtime.py", modules / "cuda" / "bindings" / "runtime.py")
    shutil.copy(DOUBLES / "library.py", modules / "tensorrt.py")
    tensors = {"Inputs": [{"Format/Datatype": "Float"}], "Constants": [{"Format/Datatype": "Float"}]}
    nodes = json.loads((plan.bundle("jetson:fp16") / "precisions.json").read_text())
    layers = [{"Name": node, "LayerType": "CaskConvolution", "Metadata": f"[ONNX Layer: {node}]", **tensors} for node in nodes]
    write_json(tmp_path / "layers.json", {"Layers": layers})
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.setenv("LAYERS", str(tmp_path / "layers.json"))
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds.txt"))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cuda", "tensorrt")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(modules))


# -- answers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("session", ["torch", "onnxruntime"])
def test_a_session_is_judged_on_the_further_patients(plan: Any, session: str) -> None:
    found = dict(importlib.import_module("answer_parts").judge(plan, session))
    parity = found["parity"]
    assert (parity["n"], parity["flips"], parity["verdict"], parity["negative_control"]) == (3, 0, "PASS", "FAIL")
    assert found["patients_per_s"] > 0


def test_a_device_that_answers_otherwise_fails(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_parts, torch_device = importlib.import_module("answer_parts"), importlib.import_module("torch_device")

    def open_damaged(run: Path, ensemble: str, device: str) -> Any:
        session = torch_device.open_pipeline(run, ensemble, device)
        with torch.no_grad():
            session._pipeline.member("ap").network.get_classifier().weight.mul_(-1)
        return session

    monkeypatch.setattr(answer_parts, "open_pipeline", open_damaged)
    assert dict(answer_parts.judge(plan, "torch"))["parity"]["verdict"] == "FAIL"


def test_what_this_machine_lacks_is_named(plan: Any) -> None:
    judge = importlib.import_module("answer_parts").judge
    with pytest.raises(MissingError, match="tensorrt does not load"):
        dict(judge(plan, "tensorrt"))
    with pytest.raises(EdgekitError, match="desktop-gpu:fp16 was not made"):
        dict(judge(plan, "onnxruntime-cuda"))


@pytest.mark.usefixtures("doubles")
def test_tensorrt_is_judged_by_our_session_and_by_its_bundles_own_runner(plan: Any) -> None:
    answer_parts = importlib.import_module("answer_parts")
    parity = dict(answer_parts.judge(plan, "tensorrt"))["parity"]
    assert (parity["runtime"], parity["verdict"]) == ("tensorrt 10.3.0 on Test Card", "PASS")
    found = dict(answer_parts.ask_runner(plan))
    assert set(found["latency"][0]["stages"]) == {"engine", "copies"}
    assert (found["parity"]["n"], found["parity"]["verdict"]) == (plan.sizes.packed, "PASS")


def test_a_runner_without_its_library_is_not_proven(plan: Any) -> None:
    with pytest.raises(MissingError, match=r"the runner ended with code 1: error: .*tensorrt"):
        dict(importlib.import_module("answer_parts").ask_runner(plan))


def test_every_session_that_opens_is_measured_with_its_stages(plan: Any) -> None:
    found = dict(importlib.import_module("answer_parts").measure_latency(plan, ("torch", "onnxruntime", "onnxruntime-cuda", "tensorrt")))
    assert "was not made" in found["onnxruntime-cuda"]["not proven"]
    assert "does not load" in found["tensorrt"]["not proven"]
    for session in ("torch", "onnxruntime"):
        row = found[session]
        assert row["n"] == plan.sizes.rounds * plan.sizes.per_round
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert set(row["device_stages_ms"]) == {"copy_in", "detect", "crop", "members", "ensemble", "copy_out"}
        assert "NVIDIA GPU" in row["energy"]["not proven"]


def test_the_torch_session_times_stages_and_answers_as_the_reference(plan: Any, tiny_run: Path) -> None:
    from edgekit.sessions.torch import open_run

    inputs = read_golden(open_bundle(plan.bundle("jetson:fp16")))[0].inputs
    with (
        importlib.import_module("torch_device").open_pipeline(tiny_run, "ap+lateral", "cpu") as session,
        open_run(tiny_run, "ap+lateral") as reference,
    ):
        expected = reference.infer(inputs)
        start = time.perf_counter()
        stages = session.time_stages(inputs)
        each_ms = 1000 * (time.perf_counter() - start) / 21
        answers = session.infer(inputs)
    for name in OUTPUTS:
        np.testing.assert_array_equal(answers[name], expected[name], err_msg=name)
    assert 0.3 * each_ms < sum(stages.values()) < 2 * each_ms  # medians of the parts against the mean of the whole
    assert stages["detect"] > stages["copy_in"]
    assert stages["members"] > stages["copy_out"]


def test_a_graph_cut_behind_a_stage_computes_what_the_whole_does(plan: Any, tmp_path: Path) -> None:
    bundle = open_bundle(plan.bundle("jetson:fp16"))
    inputs = next(case.inputs for case in read_golden(bundle) if case.inputs["present"].all())
    whole = onnx.shape_inference.infer_shapes(onnx.load(bundle.model))
    onnx.save(whole, tmp_path / "whole.onnx")
    borders = importlib.import_module("graph_stages").list_borders(whole.graph)
    assert {"boxes", "box_scores", "view_scores"} & set(borders["ensemble"])
    assert set(borders["ensemble"]) == set(OUTPUTS)
    assert "members" in borders["members"]
    assert "members" not in borders["crop"]

    def run(model: Path, names: list[str], given: dict[str, Any]) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        wanted = {each.name for each in session.get_inputs()}
        return dict(zip(names, session.run(names, {name: given[name] for name in wanted}), strict=True))

    expected = run(tmp_path / "whole.onnx", list(OUTPUTS), inputs)
    onnx.utils.extract_model(str(tmp_path / "whole.onnx"), str(tmp_path / "cut.onnx"), [*inputs], borders["members"])
    handed_on = run(tmp_path / "cut.onnx", borders["members"], inputs)
    np.testing.assert_allclose(handed_on["members"], expected["members"], atol=1e-6)
    onnx.utils.extract_model(str(tmp_path / "whole.onnx"), str(tmp_path / "rest.onnx"), borders["members"], ["probabilities", "decision"])
    rest = run(tmp_path / "rest.onnx", ["probabilities", "decision"], handed_on)  # it needs nothing else
    np.testing.assert_allclose(rest["probabilities"], expected["probabilities"], atol=1e-6)
    assert rest["decision"] == expected["decision"]


def test_the_pipeline_makes_no_tensor_beside_its_device(tiny_run: Path) -> None:
    """torch's fake tensors have a device and no values: a graph over CUDA and the CPU at once is refused without a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    pipeline = load_pipeline(tiny_run, "ap+lateral")
    tensors = dict([*pipeline.named_parameters(), *pipeline.named_buffers()])
    with FakeTensorMode(), torch.no_grad():
        state = {name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda") for name, tensor in tensors.items()}
        canvas = torch.zeros(1, 1, 128, 128, dtype=torch.uint8, device="cuda")
        outputs = torch.func.functional_call(pipeline, state, (canvas, canvas, torch.ones(2, device="cuda")))
        assert [output.device.type for output in outputs] == ["cuda"] * len(OUTPUTS)
        state["detector.bins"] = torch.empty(tensors["detector.bins"].shape)
        with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu"):
            torch.func.functional_call(pipeline, state, (canvas, canvas, torch.ones(2, device="cuda")))


# -- the machine ---------------------------------------------------------------------------------------------------------------


class NVMLError(Exception):
    """The driver's."""


def test_energy_is_the_drivers_counter_over_the_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = importlib.import_module("machine").measure_energy
    counter = iter((1_000, 13_000))  # mJ
    driver = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: next(counter),
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert measure(lambda: 6, "cuda")["joules_per_patient"] == 2

    def refuse(_: int) -> int:
        raise NVMLError("Not Supported")

    driver.nvmlDeviceGetTotalEnergyConsumption = refuse
    with pytest.raises(MissingError, match="the driver tells no energy: Not Supported"):
        measure(lambda: 6, "cuda")


def test_a_worker_is_kept_busy_long_enough_for_the_counter_to_move() -> None:
    asked: list[int] = []
    worker = SimpleNamespace(measure=asked.append)
    assert importlib.import_module("answer_parts").keep_busy(worker, p50_ms=10) == 301
    assert asked == [300]  # `Worker.measure` answers once more, before them


# -- training --------------------------------------------------------------------------------------------------------------------


def train_lesson(config: Any, folder: Path) -> None:
    from edgekit.training.crops import Samples
    from edgekit.training.devices import start_accelerator
    from edgekit.training.members import Lesson, train_member

    random = np.random.default_rng(0)
    context = torch.from_numpy(random.integers(0, 255, (9, 1, 87, 87), dtype=np.uint8))
    brands = np.arange(9) % 3
    lesson = Lesson(
        PEDICLE_SCREWS.member("ap"),
        ("x", "y", "z"),
        Samples(np.arange(9)[:, None], brands),
        context,
        torch.rand(3, 1, 64, 64),
        torch.arange(3),
    )
    train_member(lesson, config, start_accelerator(torch.device("cpu")), 0, None, folder, lambda _: None)


def test_a_member_that_waits_for_its_data_is_seen_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.training import members
    from edgekit.training.config import load_config

    config = dataclasses.replace(load_config("demo").members, side=64, batch=3, epochs=2, init="random")
    feeding, augment = importlib.import_module("feeding"), members.augment
    quick, slow = feeding.Feeding(), feeding.Feeding()
    with quick.watching():
        train_lesson(config, tmp_path / "quick")
    assert members.augment is augment

    def draw_slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.5)
        return augment(*arguments, **named)

    monkeypatch.setattr(members, "augment", draw_slowly)
    with slow.watching():
        train_lesson(config, tmp_path / "slow")
    fed, waiting = (each.summarize()["member_ap"] for each in (quick, slow))
    assert (fed["steps"], fed["batch"]) == (2 * 3 - 1, 3)
    assert fed["waiting_share"] * 3 / fed["images_per_s"] < 0.4  # seconds waited a step
    assert waiting["waiting_share"] * 3 / waiting["images_per_s"] > 0.499
    assert waiting["step_s"] > 0.5


def test_the_detectors_steps_are_counted_with_their_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.training import film_trainer
    from edgekit.training.config import load_config
    from edgekit.training.detector import lay_out_films, train_detector
    from edgekit.training.films import FilmSet
    from edgekit.types import Study

    config = dataclasses.replace(load_config("demo").detector, side=64, batch=4, backbone="yolov5n")
    random = np.random.default_rng(0)
    boxes = np.tile(np.array([20, 20, 40, 45], np.float32), (8, 1))
    studies = [Study(str(number), brand="a") for number in range(8)]
    films = FilmSet(random.integers(0, 255, (8, 64, 64), dtype=np.uint8), np.arange(8) % 2, np.arange(8), boxes, studies, VIEWS)
    lay_out_films(tmp_path, {"train": films, "validation": films}, None, config, 0, None)
    load = film_trainer.FilmDataset.get_image_and_label

    def load_slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.2)
        return load(*arguments, **named)

    monkeypatch.setattr(film_trainer.FilmDataset, "get_image_and_label", load_slowly)
    feeding = importlib.import_module("feeding").Feeding()
    with feeding.watching():
        train_detector(tmp_path, config, 2, "cpu", 0, lambda _: None)
    found = feeding.summarize()["detector"]
    assert (found["steps"], found["batch"]) == (2 * 2 - 1, 4)
    assert found["step_s"] > 4 * 0.2
    assert found["waiting_share"] * found["step_s"] > 0.7 * 4 * 0.2


def test_a_training_is_killed_once_its_stage_has_an_epoch(tmp_path: Path) -> None:
    kill_in = importlib.import_module("training_parts").kill_in
    run = tmp_path / "run"
    text = f"import pathlib, time; run = pathlib.Path({str(run)!r}); run.mkdir(exist_ok=True); "
    text += "(run / 'history.csv').write_text('stage,epoch\\ndetector,1\\nmember_ap,1\\n'); "
    found = kill_in([sys.executable, "-c", text + "time.sleep(60)"], run, "member_ap")
    assert found == {"epochs_done": 1, "begun_by": "the first start"}
    with pytest.raises(EdgekitError, match="ended with code 0 before it could be killed in member_lateral"):
        kill_in([sys.executable, "-c", text], run, "member_lateral")


# -- parts, budgets and the record ---------------------------------------------------------------------------------------------


def test_all_budgets_together_are_twelve_minutes_at_most(day: ModuleType) -> None:
    assert list(day.BUDGETS_S) == list(day.PARTS)
    assert sum(day.BUDGETS_S.values()) <= 12 * 60
    assert day.MINUTES == 12


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MissingError("no such card"), "not proven", "no such card"),
        (ImportError("No module named 'timm'", name="timm"), "not proven", "timm does not load: No module named 'timm'"),
        (EdgekitError("it broke"), "failed", "it broke"),
        (RuntimeError("CUDA error"), "failed", "RuntimeError: CUDA error"),
    ],
)
def test_a_part_keeps_what_it_found_before_it_broke(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str, reason: str
) -> None:
    part = importlib.import_module("part")

    def break_down(_: Any) -> Iterator[tuple[str, Any]]:
        yield "seconds", 3
        raise error

    monkeypatch.setitem(part.PARTS, "training", break_down)
    part.run_part("training", plan, tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": status, "found": {"seconds": 3}, "reason": reason}


PART = """
import json, pathlib, subprocess, sys, time
result = pathlib.Path(sys.argv[3])
if {started}:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    result.write_text(json.dumps({{"status": "begun", "found": {{"child": child.pid, "where": {where!r}}}}}))
    time.sleep(60)
raise SystemExit("the GPU has fallen off the bus")
"""


@pytest.mark.parametrize("started", [True, False])
def test_a_part_beyond_its_budget_is_ended_with_its_processes_and_keeps_what_it_found(
    day: ModuleType, plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    (tmp_path / "part.py").write_text(PART.format(started=started, where=f"{plan.work}/runs"))
    monkeypatch.setattr(day, "__file__", str(tmp_path / "__main__.py"))
    monkeypatch.setattr(day, "GRACE_S", 0.5)
    entry = day.run_in_budget("films", plan, 4)
    if not started:
        assert (entry["status"], entry["reason"]) == ("failed", "its process ended with code 1: the GPU has fallen off the bus")
        return
    assert (entry["status"], entry["reason"]) == ("not proven", "not finished within 4 s")
    assert entry["found"]["where"] == "WORK/runs"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and is_running(entry["found"]["child"]):
        time.sleep(0.1)
    assert not is_running(entry["found"]["child"])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" if Path(f"/proc/{pid}").exists() else False


def test_a_record_of_another_size_is_begun_anew_and_films_stay(day: ModuleType, plan: Any, tmp_path: Path) -> None:
    mine = dataclasses.replace(plan, work=tmp_path / "work")
    record = day.begin_record(mine, tmp_path / "gpu.json")
    record["parts"]["films"] = {"status": "done"}
    write_json(tmp_path / "gpu.json", record)
    for name in ("films", "runs"):
        (mine.work / name / "kept").mkdir(parents=True)
    assert day.begin_record(mine, tmp_path / "gpu.json")["parts"] == {"films": {"status": "done"}}
    assert (mine.work / "runs" / "kept").is_dir()
    assert day.begin_record(dataclasses.replace(mine, patients=4), tmp_path / "gpu.json")["parts"] == {}
    assert (mine.work / "films" / "kept").is_dir()
    assert not (mine.work / "runs" / "kept").exists()


def test_what_is_not_proven_is_listed_with_its_place(day: ModuleType) -> None:
    parts = {
        "training": {"status": "done", "found": {"seconds": 3}},
        "tests": {"status": "failed", "reason": "pytest ended with code 1", "found": {}},
        "latency": {"status": "done", "found": {"tensorrt": {"not proven": "no TensorRT"}, "torch": {"energy": {"not proven": "no NVML"}}}},
    }
    assert day.list_unproven({"missing": {"tensorrt": ["tensorrt"]}, "parts": parts}) == [
        "session tensorrt: missing here: tensorrt",
        "tests: failed: pytest ended with code 1",
        "latency: tensorrt: no TensorRT",
        "latency: torch, energy: no NVML",
    ]


def test_without_a_gpu_nothing_is_recorded(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: run on one without")
    words = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "device 'cuda' can't be used" in done.stderr
    assert list(tmp_path.iterdir()) == []


# -- the whole day ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_day_on_the_cpu(tmp_path: Path) -> None:
    words = [
        "--device",
        "cpu",
        "--size",
        "smallest",
        "--minutes",
        "60",
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path / "gpu.json"),
    ]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    parts = record["parts"]
    needs_a_gpu = {"judge onnxruntime-cuda", "judge tensorrt", "judge tensorrt-rtx", "runner", "tests", "cpu"}
    assert {name: part.get("reason") for name, part in parts.items() if part["status"] != "done" and name not in needs_a_gpu} == {}
    assert all(parts[name]["status"] == "not proven" for name in needs_a_gpu)
    weights = parts["resumption"]["found"]["files of weights"]
    assert weights == {"compared": 3, "the same to the bit": 3}
    one, two = (parts["processes"]["found"][name] for name in ("history of one process", "history"))
    for member in ("member_ap", "member_lateral"):
        assert two[member]["validation_loss"] == pytest.approx(one[member]["validation_loss"], rel=0.1)
    assert set(parts["members"]["found"]["feeding"]) == {"member_ap", "member_lateral", "member_concat", "member_merge"}
    assert set(parts["training"]["found"]["feeding"]) == {"detector", "member_ap", "member_lateral"}
    assert parts["judge onnxruntime"]["found"]["parity"]["n"] == 7
    assert str(tmp_path) not in json.dumps(record)
    again = subprocess.run(
        [sys.executable, str(SCRIPT), *words, "--only", "films", "training"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    kept = json.loads((tmp_path / "gpu.json").read_text())
    if kept["commit"] == record["commit"]:  # else somebody committed meanwhile, and all begins anew
        assert kept == record
