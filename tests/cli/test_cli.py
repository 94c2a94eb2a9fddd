from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

import edgekit
from edgekit import cli, doctor, errors
from edgekit.cli import console
from edgekit.sessions.cuda_engine import list_gpus

COMMANDS = {
    "app", "bench", "demo", "doctor", "emulator arm64", "evaluate", "export", "phantom cohort", "phantom photo", "predict", "score",
    "studies boxes", "studies check", "studies collect", "studies deidentify", "studies propose-boxes", "studies reading-sheet",
    "studies split", "studies template", "train", "verify",
}  # fmt: skip


def list_commands(group: object, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= list_commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


def fail_with(monkeypatch: pytest.MonkeyPatch, failure: BaseException, document: dict[str, object] | None = None) -> None:
    """Replace the app by one whose only command fails."""
    app = typer.Typer()

    @app.callback()
    def begin() -> None: ...

    @app.command()
    def work(json: Annotated[bool, typer.Option("--json")] = False) -> None:
        if json and document:
            console.print_json(document)
        raise failure

    monkeypatch.setattr(cli, "app", app)


def test_all_commands_are_wired():
    assert set(list_commands(typer.main.get_command(cli.app))) == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_has_an_example_and_json(command, capsys):
    assert cli.run([*command.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"edgekit {command}" in text.partition("Example")[2]
    assert "--json" in text


def test_the_command_line_imports_nothing_heavy():
    modules = subprocess.run(
        [sys.executable, "-c", "import edgekit.cli, sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"numpy", "rich", "PIL", "pydicom", "onnxruntime", "torch", "packaging"}.isdisjoint(modules)


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"edgekit {edgekit.__version__}\n"


def test_no_command_shows_help(capsys):
    assert cli.run([]) == 0
    assert "predict" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["predict"],
        ["doctor", "--nonsense"],
        ["studies"],
        ["studies", "check"],
        ["train"],
        ["train", "studies.csv"],
        ["phantom", "cohort", "--size", "wide"],
    ],
)
def test_wrong_usage_is_2_and_names_the_help(words, capsys):
    assert cli.run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--help" in err
    assert "Traceback" not in err


def test_wrong_usage_under_json_is_one_document(capsys):
    assert cli.run(["predict", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.GateError, 3),
        (errors.InputError, 4),
        (errors.MissingError, 5),
        (errors.DamagedBundleError, 6),
    ],
)
def test_an_error_is_told_without_traceback(kind, code, monkeypatch, capsys):
    fail_with(monkeypatch, kind("The film is gone.", "Bring it back."))
    assert cli.run(["work"]) == code
    assert capsys.readouterr() == ("", "error: The film is gone.\nremedy: Bring it back.\n")


@pytest.mark.parametrize("words", [["--debug", "work"], ["work", "--debug"]])
def test_debug_shows_the_traceback(words, monkeypatch, capsys):
    fail_with(monkeypatch, errors.InputError("The film is gone."))
    assert cli.run(words) == 4
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in work" in err


def test_an_error_under_json_is_one_document(monkeypatch, capsys):
    fail_with(monkeypatch, errors.InputError("The film is gone.", "Bring it back."))
    assert cli.run(["work", "--json"]) == 4
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"message": "The film is gone.", "remedy": "Bring it back.", "exit_code": 4}}
    assert "Bring it back." in err


def test_a_failed_gate_under_json_keeps_its_own_document(monkeypatch, capsys):
    fail_with(monkeypatch, errors.GateError("Verdict: FAIL."), document={"verdict": "FAIL"})
    assert cli.run(["work", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"verdict": "FAIL"}
    assert "Verdict: FAIL." in err


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 5, "pip install 'edgekit-imaging[train]'"),
        (ModuleNotFoundError("No module named 'sklearn.metrics'", name="sklearn.metrics"), 5, "pip install 'edgekit-imaging[train]'"),
        (ImportError("libGL.so.1: cannot open shared object file: No such file or directory"), 5, "libgl1"),
        (OSError(errno.ENOSPC, "No space left on device", "out.csv"), 4, "The disk is full while writing out.csv."),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 4, "Permission denied: /root/x"),
        (MemoryError(), 4, "out of memory"),
        (KeyboardInterrupt(), 130, "Interrupted. Nothing was left half done: the same command begins again."),
        (ModuleNotFoundError("No module named 'edgekit.nothing'", name="edgekit.nothing"), 1, "fault in edgekit"),
        (ZeroDivisionError("division by zero"), 1, "Unexpected ZeroDivisionError: division by zero"),
    ],
)
def test_what_nobody_raised_on_purpose(failure, code, words, monkeypatch, capsys):
    fail_with(monkeypatch, failure)
    assert cli.run(["work"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    ["[Errno 28] No space left on device", "4000 requested and 96 written", "I/O error: No space left on device (os error 28)"],
)
def test_a_full_disk_is_found_behind_what_others_made_of_it(words, monkeypatch, capsys):
    """An error of ours has the cause, or, out of another process, its words alone; NumPy and safetensors raise only words."""
    for cause in (RuntimeError(words), None):
        failure = errors.InputError("The film can't be written." if cause else f"The film can't be written ({words}).")
        failure.__cause__ = cause
        fail_with(monkeypatch, failure)
        assert cli.run(["work"]) == 4
        shown = capsys.readouterr().err
        assert "The disk is full" in shown
        assert "film" not in shown


def test_a_checkout_that_is_not_installed_says_so(without, monkeypatch, capsys):
    def find_nothing(name: str) -> object:
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "metadata", find_nothing)
    without()
    fail_with(monkeypatch, ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert cli.run(["work"]) == 5
    assert "pip install -e ." in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_news():
    """As in ``edgekit doctor --json | head -1``."""
    with subprocess.Popen([sys.executable, "-m", "edgekit", "doctor", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 1


def test_a_table_in_a_pipe_is_neither_cut_nor_coloured(capsys):
    path = "/somewhere/" + "x" * 300 + "[red].dcm"
    console.expect_json(False)
    console.print_table("Films", ("film", "score"), [(path, 0.5), ("b", None)])
    out = capsys.readouterr().out
    assert path in out
    assert "\x1b" not in out
    assert "None" not in out


def test_under_json_only_the_document_is_printed(capsys):
    console.expect_json(True)
    console.say("for people")
    console.print_table("for people", ("a",), [(1,)])
    console.print_json({"name": "Wörth"})
    assert capsys.readouterr().out == '{\n  "name": "Wörth"\n}\n'


def test_nan_is_refused_in_a_document():
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.print_json({"auc": float("nan")})


def test_doctor_here(capsys):
    assert cli.run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["cores"] >= 1
    assert {"web", "desktop-cpu"} <= {target["name"] for target in found["targets"]}
    assert all(target["convert"] and target["run"] for target in found["targets"])
    assert cli.run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "convert for web" in out
    assert "onnxruntime" in out


@pytest.fixture
def without(monkeypatch):
    """Make distributions invisible to the probing."""
    real = doctor.metadata.version

    def hide(*names: str) -> None:
        def version(name: str) -> str:
            if name in names:
                raise doctor.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(doctor.metadata, "version", version)

    doctor.list_packages.cache_clear()
    yield hide
    doctor.list_packages.cache_clear()


def test_doctor_without_torch_says_what_to_install(without):
    without("torch", "onnxscript")
    found = doctor.examine()
    assert found["train"] == {"run": False, "missing": ["torch"]}
    runs = {session["name"]: session["run"] for session in found["sessions"]}
    assert (runs["torch"], runs["coreml-reference"], runs["onnxruntime"]) == (False, False, True)
    assert all(set(target["missing"]) == {"torch", "onnxscript"} for target in found["targets"])
    assert found["advice"] == ["pip install 'edgekit-imaging[train,export]'"]


def test_doctor_with_a_broken_base_is_5(without, capsys):
    without("pydicom")
    assert cli.run(["doctor", "--json"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert not any(session["run"] for session in found["sessions"])


def test_doctor_refuses_a_version_out_of_range():
    assert not doctor.Package("numpy", "", "<2.4,>=1.26", "2.4.0").is_usable
    assert doctor.Package("numpy", "", "<2.4,>=1.26", "2.3.9").is_usable
    assert doctor.Package("torch", "train", ">=2.6", "2.14.1+cu130").is_usable


def test_doctor_reads_the_gpus_of_the_driver(tmp_path: Path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 580.10, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert list_gpus() == [{"name": "NVIDIA H100 80GB HBM3", "memory.total": "81559 MiB", "driver_version": "580.10", "compute_cap": "9.0"}]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert list_gpus() == []


def test_every_session_and_backend_asks_for_extras_that_there_are():
    from edgekit.backends import BACKENDS
    from edgekit.sessions import RUNTIMES, SESSIONS

    known = {"", *(package.extra for package in doctor.list_packages())}
    assert {extra for module in RUNTIMES.values() for extra in module.ABOUT.extras} <= known
    assert {extra for backend in BACKENDS.values() for extra in backend.EXTRAS} <= known
    assert {name: module for backend in BACKENDS.values() for name, module in backend.SESSIONS.items()} == SESSIONS
