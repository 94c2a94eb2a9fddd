"""What the libraries make of it is asked of the libraries: of the OpenMP that torch brings, and of torch and onnxruntime themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pedicle_screws import describe_inputs

from edgekit import cores
from edgekit.cli import run
from edgekit.errors import UsageError
from edgekit.latency.workers import Worker
from edgekit.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADED = """
import sys
from edgekit.cli import run
run(["--version"])
import torch
print(torch.get_num_threads(), file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def nobody_has_set_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (cores.NUMBER, cores.POLICY):
        monkeypatch.setenv(name, "")  # put back at the end, whatever `share_machine` does
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "_shared", {})


def allow(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)


def limit(monkeypatch: pytest.MonkeyPatch, folder: Path, **limits: str) -> None:
    """A process in the group ``/outer/inner`` with ``cpu.max`` of some of its groups, as the kernel's documents have them."""
    (folder / "cgroup").write_text("1:name=systemd:/elsewhere\n0::/outer/inner\n")
    for name, group in (("root", ""), ("outer", "outer"), ("inner", "outer/inner")):
        (folder / "fs" / group).mkdir(parents=True, exist_ok=True)
        if name in limits:
            (folder / "fs" / group / "cpu.max").write_text(limits[name] + "\n")
    monkeypatch.setattr(cores, "_CGROUP", folder / "cgroup")
    monkeypatch.setattr(cores, "_CGROUPS", folder / "fs")


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({}, 16),
        ({"inner": "max 100000"}, 16),
        ({"inner": "400000 100000"}, 4),
        ({"inner": "150000 100000"}, 2),
        ({"outer": "300000 100000", "inner": "max 100000"}, 3),
        ({"outer": "300000 100000", "inner": "50000 100000"}, 1),
        ({"inner": "6400000 100000"}, 16),
        ({"root": "200000 100000"}, 2),
    ],
)
def test_a_containers_limit_counts(limits: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    allow(monkeypatch, 16)
    limit(monkeypatch, tmp_path, **limits)
    assert cores.count_cores() == cores.count_threads() == count


def test_no_limit_is_read_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    allow(monkeypatch, 3)
    monkeypatch.setattr(cores, "_CGROUP", tmp_path / "absent")
    assert cores.count_cores() == 3


@pytest.mark.parametrize(("wanted", "threads"), [("1", 1), ("5", 5), ("4,2", 4)])
def test_the_users_number_holds(wanted: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 2)
    monkeypatch.setenv(cores.NUMBER, wanted)
    cores.share_machine()
    assert (cores.count_threads(), os.environ[cores.NUMBER]) == (threads, wanted)
    assert cores.count_cores() <= 2


@pytest.mark.parametrize(("name", "value"), [(cores.NUMBER, "0"), (cores.NUMBER, "two"), (cores.NUMBER, "-1"), (cores.POLICY, "never")])
def test_settings_without_meaning_are_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run(["doctor"]) == UsageError.exit_code
    assert f"error: {name} is '{value}'\nremedy: unset it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "policy", "number"), [({}, "PASSIVE", 2), ({"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "1"}, "ACTIVE", 1)]
)
def test_libraries_find_it_when_they_load(given: dict[str, str], policy: str, number: int) -> None:
    variables = {**os.environ, "OMP_DISPLAY_ENV": "true", **given}
    affinity = {"preexec_fn": lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])} if sys.platform == "linux" else {}
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, env=variables, **affinity)
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert done.stderr.splitlines()[-1] == str(min(number, cores.count_cores()))


def test_onnxruntimes_threads_sleep_when_the_machine_is_shared(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given: list[Any] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _, options, **__: given.append(options))

    def open_with(threads: int | None) -> tuple[int, bool]:
        OnnxRuntimeSession(tiny_bundle / "model.onnx", describe_inputs(8), threads)
        try:
            spins = given[-1].get_session_config_entry("session.intra_op.allow_spinning") != "0"
        except RuntimeError:  # not set: onnxruntime's own choice, which is to spin
            spins = True
        return given[-1].intra_op_num_threads, spins

    assert (open_with(None), open_with(3)) == ((0, True), (3, True))
    monkeypatch.setenv(cores.NUMBER, "5")
    cores.share_machine()
    assert (open_with(None), open_with(3)) == ((5, False), (3, False))


class Told:
    """Says what it was started with."""

    def __init__(self) -> None:
        self.runtime = f"{os.environ.get(cores.NUMBER)} {os.environ.get(cores.POLICY)}"

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, inputs: Any) -> Any:
        return inputs


@pytest.fixture
def start_worker() -> Iterator[Any]:
    started: list[Worker] = []

    def start() -> str:
        started.append(Worker("told", Told, {}))
        return started[-1].runtime

    yield start
    for worker in started:
        worker.close()


def test_latency_is_measured_on_an_unshared_machine(start_worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cores.share_machine()
    assert cores.is_sharing()
    assert start_worker() == "None None"
    assert cores.is_sharing()
    monkeypatch.setattr(cores, "_shared", {})
    monkeypatch.setenv(cores.NUMBER, "1")
    monkeypatch.setenv(cores.POLICY, "passive")
    cores.share_machine()
    assert start_worker() == "1 passive", "what the user has set stays"
