"""The detector's training, on films so small that seconds are enough."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pedicle_screws import VIEWS

from edgekit.training import film_trainer
from edgekit.training.checkpoints import load_checkpoint, save_checkpoint
from edgekit.training.config import load_config
from edgekit.training.detector import lay_out_films, train_detector
from edgekit.training.films import FilmSet
from edgekit.types import Study


def test_an_interruption_after_the_first_checkpoint_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(load_config("demo").detector, side=64, batch=2, backbone="yolov5n")
    random = np.random.default_rng(0)
    boxes = np.tile(np.array([16, 8, 48, 56], np.float32), (6, 1))
    studies = [Study(f"{number}", "x") for number in range(6)]
    films = FilmSet(random.integers(0, 256, (6, 64, 64), np.uint8), np.arange(6) % 2, np.arange(6), boxes, studies, VIEWS)
    for name in ("whole", "cut"):
        lay_out_films(tmp_path / name, {"train": films, "validation": films}, None, config, 0, None)
    whole = train_detector(tmp_path / "whole", config, 2, "cpu", 0, lambda _: None)

    def save_and_stop(folder: Path, epoch: int, state: dict[str, object]) -> None:
        save_checkpoint(folder, epoch, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(film_trainer, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_detector(tmp_path / "cut", config, 2, "cpu", 0, lambda _: None)
    assert load_checkpoint(tmp_path / "cut/checkpoints")["epoch"] == 0
    monkeypatch.undo()
    resumed = train_detector(tmp_path / "cut", config, 2, "cpu", 0, lambda _: None)
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_the_first_part_of_the_training_sees_smaller_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(load_config("demo").detector, side=64, batch=2, backbone="yolov5n", early_scale=0.5, early_share=0.5)
    random, box = np.random.default_rng(0), np.array([16, 8, 48, 56], np.float32)
    studies = [Study(f"{number}", "x") for number in range(8)]
    films = FilmSet(random.integers(0, 256, (8, 64, 64), np.uint8), np.arange(8) % 2, np.arange(8), np.tile(box, (8, 1)), studies, VIEWS)
    lay_out_films(tmp_path / "films", {"train": films, "validation": films}, None, config, 0, None)
    sides: list[int] = []
    whole = film_trainer.FilmTrainer.preprocess_batch

    def watch(trainer: film_trainer.FilmTrainer, batch: dict[str, object]) -> dict[str, object]:
        prepared = whole(trainer, batch)
        sides.append(prepared["img"].shape[-1])
        return prepared

    monkeypatch.setattr(film_trainer.FilmTrainer, "preprocess_batch", watch)
    train_detector(tmp_path / "films", config, 3, "cpu", 0, lambda _: None)
    assert sides == [32] * 6 + [64] * 6
