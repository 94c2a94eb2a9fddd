"""A training that is killed and taken up again ends as if nothing had happened; one begun otherwise is not gone on with."""

from __future__ import annotations

import csv
import dataclasses
import filecmp
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.errors import InputError, UsageError
from edgekit.files import write_json
from edgekit.models.runfolder import load_ensembles, load_settings, read_json
from edgekit.training import unfinished
from edgekit.training.config import TrainingConfig
from edgekit.training.run import DetectorSource, _Run, train_run

KILLED = """
import os, signal, sys
from pathlib import Path
from edgekit.training import corners, film_trainer, members
from edgekit.training.checkpoints import save_checkpoint
from edgekit.training.config import load_config
from edgekit.training.run import train_run

if __name__ == "__main__":
    studies, out, config, place = sys.argv[1:]

    def save_and_die(folder, epoch, state):
        save_checkpoint(folder, epoch, state)
        if folder == Path(out, ".checkpoints", place):
            os.kill(os.getpid(), signal.SIGKILL)

    corners.save_checkpoint = film_trainer.save_checkpoint = members.save_checkpoint = save_and_die
    train_run(Path(studies), Path(out), load_config("demo", Path(config)))
"""


def train_until(place: str, cohort: Path, out: Path, config: TrainingConfig) -> None:
    """Train in a process that is killed (-9) after the first checkpoint in `place`."""
    settings = out.with_suffix(".toml")
    settings.write_text(config.to_toml())
    script = out.with_suffix(".py")
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script, cohort, out, settings, place], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]


def read_stage(run: Path, stage: str) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["stage"] == stage]


def test_a_killed_member_ends_with_the_same_weights(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    started = time.perf_counter()
    train_until("members/lateral", cohort, out, small)
    killed = time.perf_counter()
    assert len(read_stage(out, "member_lateral")) == 1
    with pytest.raises(InputError, match="unfinished run"):
        train_run(cohort, out, small)
    again = time.perf_counter()
    train_run(cohort, out, small, resume=True)
    ended = time.perf_counter()
    assert ended - again < read_json(out / "provenance.json")["seconds"] < killed - started + ended - again
    for name in small.members.names:
        assert filecmp.cmp(out / f"member_{name}.safetensors", run / f"member_{name}.safetensors", shallow=False)
    assert (out / "ensembles.json").read_bytes() == (run / "ensembles.json").read_bytes()
    strip = [{key: value for key, value in row.items() if key != "seconds"} for row in read_stage(out, "member_lateral")]
    assert strip == [{key: value for key, value in row.items() if key != "seconds"} for row in read_stage(run, "member_lateral")]
    assert not (out / ".checkpoints").exists()


def test_every_invocation_counts_also_one_that_was_stopped(
    cohort: Path, small: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [5.0]
    monkeypatch.setattr(unfinished, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    out = tmp_path / "stopped"

    def work_and_stop(_: object) -> None:
        clock[0] += 100
        raise KeyboardInterrupt

    monkeypatch.setattr(_Run, "train_detector", work_and_stop)
    for resume in (False, True):
        clock[0] += 1000  # nobody trains meanwhile
        with pytest.raises(KeyboardInterrupt):
            train_run(cohort, out, small, resume=resume)
    assert unfinished.Stopwatch(out).seconds == 200


def test_seconds_are_those_of_whoever_wrote_last(tmp_path: Path) -> None:
    """Killed after its provenance was written, before its time was kept; and the other way round."""
    for kept, stated in ((30.0, 40.0), (50.0, 40.0)):
        write_json(tmp_path / ".checkpoints/seconds.json", {"seconds": kept})
        write_json(tmp_path / "provenance.json", {"seconds": stated})
        assert unfinished.Stopwatch(tmp_path).before == max(kept, stated)


def test_a_killed_detector_goes_on_from_its_last_epoch(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    """More than asked: ultralytics' resumed detector is the same to the bit, because order and augmentation are seeded each epoch."""
    out = tmp_path / "killed"
    train_until("detector/checkpoints", cohort, out, small)
    assert not (out / "detector.json").exists()
    assert len(read_stage(out, "detector")) == 1
    train_run(cohort, out, small, only="detector", resume=True)
    assert [row["epoch"] for row in read_stage(out, "detector")] == [row["epoch"] for row in read_stage(run, "detector")]
    assert filecmp.cmp(out / "detector.safetensors", run / "detector.safetensors", shallow=False)


def test_a_run_killed_when_it_is_whole_is_ended(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    shutil.copytree(run, out)
    write_json(out / ".checkpoints/begun.json", read_json(run / "provenance.json")["sources"])
    train_run(cohort, out, small, resume=True)
    assert (out / "ensembles.json").read_bytes() == (run / "ensembles.json").read_bytes()
    assert not (out / ".checkpoints").exists()


def test_a_damaged_checkpoint_is_refused(cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    train_until("members/ap", cohort, out, small)
    checkpoint = next((out / ".checkpoints/members/ap").glob("*.pt"))
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        train_run(cohort, out, small, resume=True)


def test_stages_one_by_one_are_the_whole(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    out = tmp_path / "stages"
    small = dataclasses.replace(small, members=dataclasses.replace(small.members, names=("ap", "lateral")))
    with pytest.raises(InputError, match="is empty, and --only members goes on"):
        train_run(cohort, out, small, only="members")
    train_run(cohort, out, small, only="detector")
    assert filecmp.cmp(out / "detector.safetensors", run / "detector.safetensors", shallow=False)
    with pytest.raises(InputError, match=r"begun with other \[members\] epochs"):
        train_run(cohort, out, dataclasses.replace(small, members=dataclasses.replace(small.members, epochs=3)), resume=True)
    train_run(cohort, out, small, only="members")
    assert filecmp.cmp(out / "member_ap.safetensors", run / "member_ap.safetensors", shallow=False)
    assert not (out / "pipeline.json").exists()
    train_run(cohort, out, small, only="ensemble")
    assert set(load_ensembles(out)) == {"ap", "lateral", "ap+lateral"}
    wider = dataclasses.replace(small, ensembles=dataclasses.replace(small.ensembles, coverage=0.6))
    train_run(cohort, out, wider, only="ensemble")
    assert load_settings(out).coverage == 0.6
    with pytest.raises(InputError, match="already holds a finished run"):
        train_run(cohort, out, wider, resume=True)


def test_nothing_else_is_gone_on_with(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--only heads"):
        train_run(cohort, tmp_path / "a", small, only="heads")
    with pytest.raises(InputError, match="holds no unfinished run"):
        train_run(cohort, tmp_path / "a", small, resume=True)
    out = tmp_path / "begun"
    train_run(cohort, out, small, only="detector", source=DetectorSource(run=run))
    with pytest.raises(InputError, match="begun with other detector"):
        train_run(cohort, out, small, resume=True)
    with pytest.raises(InputError, match="begun with other seed"):
        train_run(cohort, out, dataclasses.replace(small, seed=1), resume=True, source=DetectorSource(run=run))
    assert read_json(out / "detector.json") == read_json(run / "detector.json")


def test_the_tasks_words_may_change_without_training_again(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    """What no network learns from: a run whose ensembles can't answer every case says so, and that needs no hours."""
    out = shutil.copytree(run, tmp_path / "run")
    task = dataclasses.replace(small.task, every_case=False, question="Whose screws are these?")
    train_run(cohort, out, dataclasses.replace(small, task=task), only="ensemble")
    assert load_settings(out).task == task
    other = dataclasses.replace(small.task, covariate="cement")
    with pytest.raises(InputError, match=r"begun with other \[task\] covariate"):
        train_run(cohort, out, dataclasses.replace(small, task=other), only="ensemble")
