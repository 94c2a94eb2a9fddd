"""What the demo says to type next works as it is typed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from edgekit.cli import run as edgekit
from edgekit.demo import GATE_PATIENTS, TARGETS, choose_variant, suggest_following
from edgekit.files import hash_file
from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.plan import CohortParameters


@pytest.fixture(scope="module")
def demo(tiny_run: Path, tiny_bundle: Path, web_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's folder around a network that was never trained."""
    folder = tmp_path_factory.mktemp("a demo")  # a name that a shell would take for two
    table = make_cohort(folder / "cohort", CohortParameters(patients=21, size=200))
    shutil.copytree(tiny_run, folder / "run")
    path = Path(os.path.relpath(table, folder / "run")).as_posix()
    (folder / "run" / "provenance.json").write_text(json.dumps({"studies": {"path": path, "sha256": hash_file(table)}}))
    shutil.copytree(tiny_bundle, folder / "build" / "desktop-cpu")
    shutil.copytree(web_bundle, folder / "build" / "web")
    return folder


def test_the_commands_name_files_of_the_demo(demo: Path) -> None:
    commands = [shlex.split(command) for command, _ in suggest_following(demo, demo / "cohort" / "studies.csv")]
    assert [command[:2] for command in commands] == [["edgekit", "predict"], ["edgekit", "app"], ["edgekit", "export"]]
    named = [Path(word) for command in commands for word in command if word.startswith("/")]
    assert len(named) == 5
    assert all(path.exists() for path in named)


def test_predict_answers(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, _ = suggest_following(demo, demo / "cohort" / "studies.csv")[0]
    assert edgekit([*shlex.split(command)[1:], "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["views"]) == {"ap", "lateral"}


def test_the_app_is_served(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgekit.cli.phone_app._wait", stop)
    monkeypatch.setattr("typer.get_app_dir", lambda _: str(tmp_path))
    command, _ = suggest_following(demo, demo / "cohort" / "studies.csv")[1]
    assert edgekit([*shlex.split(command)[1:], "--port", "0"]) == 0  # any free port: another test may serve on the usual one
    assert "for every device on this network" in capsys.readouterr().out


def test_the_web_bundle_is_in_onnx_where_litert_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert [choose_variant(name, said.append) for name in TARGETS] == ["fp32", "fp32"]
    assert not said
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    assert [choose_variant(name, said.append) for name in TARGETS] == ["onnx-fp32", "fp32"]
    (line,) = said
    assert "web as onnx-fp32: ai-edge-litert is not installed" in line
    assert "pip install 'edgekit-imaging[litert]' makes it faster" in line


@pytest.mark.slow
def test_export_simulates_its_patients(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three patients prove no statistical verdict, so that what is exported is the next variant, in float."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    command, _ = suggest_following(demo, demo / "cohort" / "studies.csv")[2]
    few = command.replace(f"--simulate {GATE_PATIENTS}", "--simulate 3")
    assert few != command
    assert edgekit(shlex.split(few)[1:]) == 0
    assert json.loads((tmp_path / "build" / "web" / "manifest.json").read_text())["precision"] == "fp32"
    assert "web:w8a8 was left after" in capsys.readouterr().out
