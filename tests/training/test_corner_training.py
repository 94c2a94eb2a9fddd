"""The corner finder learns, on pictures so simple that seconds are enough, and goes on after an interruption as if there had been none."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from edgekit.errors import InputError
from edgekit.models.corners import SIDE
from edgekit.models.runfolder import load_corner_finder, read_json, run_hash
from edgekit.training import corners as training
from edgekit.training import screens
from edgekit.training.config import CornersConfig, TrainingConfig, load_config
from edgekit.training.corners import augment, measure_errors, train_corner_finder
from edgekit.training.run import train_run
from edgekit.training.screens import ScreenPhotos

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures() -> ScreenPhotos:
    """Light quadrilaterals on a dark ground."""
    random = np.random.default_rng(1)
    canvases, corners = np.empty((144, SIDE, SIDE), np.uint8), np.empty((144, 4, 2), np.float32)
    for n in range(len(canvases)):
        low, high = random.uniform(30, 110, 2), random.uniform(210, 290, 2)
        corners[n] = np.array([low, (high[0], low[1]), high, (low[0], high[1])]) + random.uniform(-10, 10, (4, 2))
        picture = Image.new("L", (SIDE, SIDE), 20)
        ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in corners[n].tolist()], fill=200)
        canvases[n] = picture
    return ScreenPhotos(canvases, corners)


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "HELD_OUT", 4)
    monkeypatch.setattr(training, "WARM_UP", 4)


def test_it_learns_and_goes_on_after_an_interruption(pictures: ScreenPhotos, tmp_path: Path) -> None:
    config, figures = CornersConfig(144, 3, 8, 0.004), []
    whole = train_corner_finder(pictures, config, CPU, 0, tmp_path / "whole", figures.append)
    assert figures[-1]["loss"] < 5.3  # an even map has the logarithm of its cells, 8.8
    errors = measure_errors(whole, pictures.canvases[-16:], pictures.corners[-16:])
    assert np.median(errors) < 0.1  # of the width; the mean of all corners is off by 0.3
    assert figures[-1]["validation_accuracy"] == (errors <= 0.02).mean()

    epochs = iter((None, KeyboardInterrupt))

    def interrupt_second(_: dict[str, float]) -> None:
        if error := next(epochs):
            raise error

    with pytest.raises(KeyboardInterrupt):
        train_corner_finder(pictures, config, CPU, 0, tmp_path / "cut", interrupt_second)
    assert [path.name for path in (tmp_path / "cut").glob("*.pt")] == ["00000.pt"]
    resumed = train_corner_finder(pictures, config, CPU, 0, tmp_path / "cut", lambda _: None)
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_loss_that_is_no_number_ends_the_training(pictures: ScreenPhotos, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="corner finder: the loss became NaN in epoch 1"):
        train_corner_finder(pictures, CornersConfig(144, 1, 8, 1e20), CPU, 0, tmp_path, lambda _: None)


def test_augmentation_moves_the_corners_with_the_picture(pictures: ScreenPhotos) -> None:
    """The bright pixels of each picture still fill the quadrilateral between its corners, which still go round from the top-left one."""
    generator = torch.Generator().manual_seed(0)
    canvases, corners = augment(torch.from_numpy(pictures.canvases[:32]), torch.from_numpy(pictures.corners[:32]), generator)
    mirrored = 0
    for canvas, found, before in zip(canvases.numpy(), corners.numpy(), pictures.corners, strict=False):
        drawn = Image.new("1", (SIDE, SIDE))
        ImageDraw.Draw(drawn).polygon([(x - 0.5, y - 0.5) for x, y in found.tolist()], fill=1)
        assert ((canvas > 100) == np.asarray(drawn)).mean() > 0.99
        assert found[0, 0] < found[1, 0]
        assert found[0, 1] < found[3, 1]
        mirrored += not np.allclose(found, before)
    assert 8 <= mirrored <= 24


def test_what_lies_beside_a_photo_stays_black() -> None:
    canvases = torch.zeros(8, SIDE, SIDE, dtype=torch.uint8)
    canvases[:, 40:280] = 90
    changed, _ = augment(canvases, torch.zeros(8, 4, 2), torch.Generator().manual_seed(2))
    assert changed[:, :40].max() == changed[:, 280:].max() == 0
    assert (changed[:, 40:280].float().std(dim=(1, 2)) > 0).all()


def test_a_finished_run_gets_a_corner_finder(
    run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers to films, and so its hash, stay what they are; other settings than the finder's own are refused."""
    monkeypatch.setattr(screens, "run_parallel", lambda work, tasks, _: map(work, tasks))
    monkeypatch.setattr(screens, "LEAST_PHOTOS", 24)
    folder = shutil.copytree(run, tmp_path / "run")
    assert load_corner_finder(folder) is None
    config = dataclasses.replace(small, corners=CornersConfig(photos=24, epochs=1, batch=4, learning_rate=1e-3))
    with pytest.raises(InputError, match="begun with other seed"):
        train_run(cohort, folder, dataclasses.replace(config, seed=5), only="corners")
    with pytest.raises(InputError, match="photos is 0"):
        train_run(cohort, folder, small, only="corners")
    began, before = time.perf_counter(), read_json(run / "provenance.json")["seconds"]
    train_run(cohort, folder, config, only="corners")
    assert 0.1 < read_json(folder / "provenance.json")["seconds"] - before <= time.perf_counter() - began + 0.1
    other = dataclasses.replace(config, corners=dataclasses.replace(config.corners, epochs=2))
    with pytest.raises(InputError, match=r"begun with other \[corners\] epochs"):  # what the finder has learnt with stays on record
        train_run(cohort, folder, other, only="corners")
    assert load_corner_finder(folder) is not None
    assert run_hash(folder) == run_hash(run)
    assert not (folder / ".checkpoints").exists()
    assert load_config("demo", folder / "config.toml") == config
    with (folder / "history.csv").open() as file:
        assert [row["stage"] for row in csv.DictReader(file)].count("corners") == 1
