"""Two processes train as one does; the largest batch is found; ultralytics can start its trainer again in another process."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgekit.errors import InputError
from edgekit.models.classifier import start_classifier
from edgekit.task import PEDICLE_SCREWS
from edgekit.training import checkpoints, members
from edgekit.training.checkpoints import load_checkpoint, save_checkpoint
from edgekit.training.config import TrainingConfig, load_config
from edgekit.training.crops import Samples
from edgekit.training.detector import lay_out_films, override_settings
from edgekit.training.devices import start_accelerator
from edgekit.training.films import cache_films
from edgekit.training.members import Lesson, fit_batch, freeze_batch_norm, share_loss

LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
LAUNCH += ("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1")


def launch(*arguments: object) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE", "OMP"))}
    done = subprocess.run([*map(str, (*LAUNCH, *arguments))], capture_output=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def write_gradients(out: Path) -> None:
    """One backward pass over a batch of seven, of brands with unequal frequencies; run by one process or by each of two."""
    from safetensors.torch import save_file

    random = np.random.default_rng(0)
    brands = np.array([0, 0, 0, 0, 1, 1, 2, 0, 1, 2])
    context = torch.from_numpy(random.integers(0, 255, (10, 1, 87, 87), dtype=np.uint8))
    lesson = Lesson(
        PEDICLE_SCREWS.member("ap"), ("x", "y", "z"), Samples(np.arange(10)[:, None], brands), context, context[:2].float(), torch.zeros(2)
    )
    config = dataclasses.replace(load_config("demo").members, side=64)
    accelerator = start_accelerator(torch.device("cpu"))
    torch.manual_seed(0)
    network = start_classifier("efficientnet_lite0", 3, "random")
    shared = accelerator.prepare(network)
    network.train()
    freeze_batch_norm(network)
    loss = share_loss(shared, lesson, np.array([9, 1, 4, 0, 6, 5, 2]), config, accelerator, torch.Generator().manual_seed(3))
    accelerator.backward(loss)
    if accelerator.is_main_process:
        save_file({name: value.grad.contiguous() for name, value in network.named_parameters()}, out)


def test_the_averaged_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    write_gradients(tmp_path / "one.safetensors")
    launch(Path(__file__), tmp_path / "two.safetensors")
    one, two = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "two.safetensors")
    largest = max(float(value.abs().max()) for value in one.values())
    assert largest > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5 * largest, msg=name)


def test_two_processes_reach_the_loss_of_one(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    """`run` was trained by one process with the same settings and the same detector."""
    settings = tmp_path / "settings.toml"
    settings.write_text(dataclasses.replace(small, members=dataclasses.replace(small.members, names=("ap",))).to_toml())
    launch("-m", "edgekit", "train", cohort, "--config", settings, "--detector", run, "--out", tmp_path / "two")
    losses = {}
    for folder in (run, tmp_path / "two"):
        with (folder / "history.csv").open() as file:
            losses[folder] = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["stage"] == "member_ap"]
    assert len(losses[run]) == small.members.epochs
    np.testing.assert_allclose(losses[tmp_path / "two"], losses[run], rtol=0.1)


def test_the_largest_batch_that_fits_is_found() -> None:
    tried = []

    def train(batch: int) -> object:
        tried.append(batch)
        if batch > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return "trained"

    assert fit_batch(train, 64, "ap") == "trained"  # type: ignore[arg-type, comparison-overlap]
    assert 15 <= tried[-1] <= 20
    assert tried == sorted(tried, reverse=True)

    def never(batch: int) -> object:
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {batch} GiB")

    with pytest.raises(InputError, match="a batch of two does not fit"):
        fit_batch(never, 8, "ap")  # type: ignore[arg-type]


def test_a_member_taken_up_again_keeps_the_batch_that_fitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The search would begin too large again, and the epochs done would not fit the new batches."""
    tried: list[int] = []
    monkeypatch.setattr(members, "_train_with", lambda batch, *_: tried.append(batch))
    gpu, lesson = SimpleNamespace(device=SimpleNamespace(type="cuda"), num_processes=1), SimpleNamespace(member=PEDICLE_SCREWS.member("ap"))
    config = load_config("paper").members
    for folder in (tmp_path / "new", tmp_path / "begun"):
        if folder.name == "begun":
            save_checkpoint(folder, 3, {"batch": 18})
        members.train_member(lesson, config, gpu, 0, None, folder, lambda _: None)  # type: ignore[arg-type]
    assert tried == [config.cuda_batch, 18]


def test_ultralytics_can_start_the_trainer_again_elsewhere(cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    """What its own processes, one a GPU, do first: rebuild the trainer from a file and train from the folder alone."""
    from edgekit.studies import read_studies
    from edgekit.training.film_trainer import FilmTrainer

    rows = read_studies(cohort)
    films = {
        split: cache_films([row for row in rows if row.split == split], PEDICLE_SCREWS.views, 192, tmp_path / f"{split}.npy")
        for split in ("train", "validation")
    }
    lay_out_films(tmp_path / "detector", films, None, small.detector, 0, None)
    trainer = FilmTrainer(overrides=override_settings(tmp_path / "detector", small.detector, 1, "cpu", 0))
    from ultralytics.utils.dist import generate_ddp_file

    script = Path(generate_ddp_file(trainer))
    subprocess.run([sys.executable, script], check=True, capture_output=True)
    state = load_checkpoint(tmp_path / "detector/checkpoints")
    assert state is not None
    assert state["epoch"] == 0
    start = load_file(tmp_path / "detector/start.safetensors")
    assert any(not torch.equal(state["network"][name], value) for name, value in start.items())


if __name__ == "__main__":
    torch.set_num_threads(1)  # two processes share the cores
    write_gradients(Path(sys.argv[1]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a system with /dev/full")
def test_a_checkpoint_on_a_full_disk_says_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux's /dev/full is a disk without room. torch's own writer would only say that its position is unexpected."""
    full = tmp_path / "full"
    full.symlink_to("/dev/full")

    @contextmanager
    def replace_nothing(_: Path) -> Iterator[Path]:
        yield full

    monkeypatch.setattr(checkpoints, "replacing", replace_nothing)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(tmp_path, 0, {"weights": torch.zeros(100_000)})
