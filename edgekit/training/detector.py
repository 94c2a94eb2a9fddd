"""Train the detector with ultralytics' own trainer."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.errors import InputError
from edgekit.files import write_json
from edgekit.models.detector import FROZEN_LAYERS, Detector, start_backbone
from edgekit.models.runfolder import load_weights, save_weights
from edgekit.training.checkpoints import load_checkpoint
from edgekit.training.films import average_blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.training.config import DetectorConfig
    from edgekit.training.films import FilmSet


def train_detector(
    folder: Path, config: DetectorConfig, epochs: int, device: str, seed: int, report: Callable[[dict[str, float]], None]
) -> Detector:
    """Train YOLOv5n on the films in `folder`, going on from the checkpoint in it if there is one.

    The exponential moving average of the weights after the last epoch is the result: the learning rate is annealed to its end,
    and nothing is selected on validation films.

    Parameters
    ----------
    folder
        See `edgekit.training.film_trainer`; `lay_out_films` makes it.
    device
        As torch names it; several GPUs as ultralytics does: ``0,1``.
    report
        Called after each epoch with the epoch's losses; with several GPUs, after the last for all.

    Raises
    ------
    InputError
        The loss became NaN, or a process on one of several GPUs failed.
    """
    from edgekit.training.film_trainer import FilmTrainer

    state = load_checkpoint(folder / "checkpoints")
    if state is None or state["epoch"] + 1 < epochs:
        trainer = FilmTrainer(overrides=override_settings(folder, config, epochs, device, seed))
        if trainer.ddp:
            _train_on_many(trainer, report)
        else:
            trainer.add_callback("on_train_epoch_end", lambda done: report(_read_losses(done)))
            trainer.train()
        state = load_checkpoint(folder / "checkpoints")
    assert state is not None
    views = json.loads((folder / "setup.json").read_text(encoding="utf-8"))["views"]
    detector = Detector(config.activation, config.side, config.backbone, len(views))
    detector.network.load_state_dict(state["ema"])
    return detector.eval()


def lay_out_films(
    folder: Path,
    films: dict[str, FilmSet],
    photos: tuple[NDArray[np.int64], NDArray[np.uint8]] | None,
    config: DetectorConfig,
    seed: int,
    weights: Path | None,
) -> None:
    """Write what the trainer needs into `folder`; a folder that is laid out stays as it is.

    Parameters
    ----------
    films
        By split, ``train`` and ``validation``, with boxes in pixels of their canvases; films with a brand but no box are left out.
    photos
        Training films that are shown as photos: int (P,) and uint8 (P, S, S).
    weights
        A ``detector.safetensors`` to start from; None starts from ImageNet's or, with YOLOv5n's own backbone, at random.

    Raises
    ------
    InputError
        There is no annotated film in a split.
    """
    if (folder / "setup.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "train"), ("validation", "val")):
        some = films[split]
        rows = select_annotated(some, {"train": "training"}.get(split, split))
        shown = shrink_films(some.canvases, rows, config.side)
        if split == "train" and photos is not None:
            place = {int(row): number for number, row in enumerate(rows)}
            for film, photo in zip(*photos, strict=True):
                if int(film) in place:
                    shown[place[int(film)]] = shrink_films(photo[None], np.zeros(1, np.int64), config.side)[0]
        np.save(folder / f"{name}.npy", shown)
        known = np.isfinite(some.boxes[rows]).all(axis=1)
        boxes = some.boxes[rows] * (config.side / some.canvases.shape[1])
        np.savez(folder / f"{name}.labels.npz", views=np.where(known, some.view[rows], -1), boxes=np.nan_to_num(boxes))
    torch.manual_seed(seed)
    start = Detector(config.activation, config.side, config.backbone, len(films["train"].views))
    if weights is not None:
        load_weights(weights, start)
    elif config.backbone != "yolov5n":
        start_backbone(start)
    save_weights(folder / "start.safetensors", start.network)
    kept = ("activation", "backbone", "early_scale", "early_share", "part_share")
    write_json(folder / "setup.json", {"views": list(films["train"].views), **{name: getattr(config, name) for name in kept}})


def override_settings(folder: Path, config: DetectorConfig, epochs: int, device: str, seed: int) -> dict[str, Any]:
    """Return ultralytics' settings for `train_detector`."""
    return {
        "model": "yolov5n.yaml",
        "data": str(folder.resolve()),  # a relative one lands in ultralytics' own runs folder
        "task": "detect",
        "epochs": epochs,
        "batch": config.batch,
        "nbs": config.batch,
        "imgsz": config.side,
        "device": device.removeprefix("cuda:"),
        "seed": seed,
        "optimizer": "AdamW",
        "lr0": config.learning_rate,
        "cos_lr": True,
        "freeze": list(FROZEN_LAYERS[config.backbone]),
        "momentum": 0.9,
        "warmup_epochs": min(2.0, epochs / 5),
        "warmup_bias_lr": 0.0,
        "degrees": config.rotation_degrees,
        "translate": config.translate,
        "scale": config.scale,
        "mosaic": 0.0,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.0,
        "erasing": 0.0,
        "auto_augment": None,
        "val": False,
        "plots": False,
        "verbose": False,
        "amp": "bf16" if not device.startswith(("cpu", "mps")) and torch.cuda.is_bf16_supported() else False,  # fp16's check downloads
        "workers": 0,
        "project": str(folder.resolve()),
        "name": "ultralytics",
        "exist_ok": True,
    }


def _read_losses(trainer: Any) -> dict[str, float]:
    losses = {name: float(value) for name, value in trainer.tloss.items()}
    if not all(np.isfinite(value) for value in losses.values()):
        raise InputError(f"the detector's loss became NaN in epoch {trainer.epoch + 1}", "lower [detector] learning_rate")
    return losses


def _train_on_many(trainer: Any, report: Callable[[dict[str, float]], None]) -> None:
    """Let ultralytics start one process a GPU; what each epoch lost stands in its ``results.csv``."""
    from subprocess import CalledProcessError

    try:
        trainer.train()
    except CalledProcessError as error:
        raise InputError(
            f"the detector's training on {trainer.world_size} GPUs failed with exit code {error.returncode}",
            "its own message is above; --resume goes on from the last epoch",
        ) from error
    with trainer.csv.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            report({name.strip().removeprefix("train/"): float(value) for name, value in row.items() if name.strip().startswith("train/")})


def select_annotated(films: FilmSet, what: str) -> NDArray[np.int64]:
    """Return the rows of the films that can teach: those with a box, and those known to hold no construct."""
    annotated = np.isfinite(films.boxes).all(axis=1)
    if not annotated.any():
        raise InputError(f"no {what} film has a box", "fill the columns <view>_box in studies.csv")
    return np.flatnonzero(annotated | (films.brands == "none"))


def shrink_films(canvases: NDArray[np.uint8], rows: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Return what the detector sees of some canvases uint8 (N, S, S): uint8 (len(rows), side, side)."""
    ratio = canvases.shape[1] // side
    return np.stack([average_blocks(canvases[row], ratio) for row in rows])


def count_epochs(config: DetectorConfig, train: FilmSet) -> int:
    """Return how many epochs make about `film_passes`."""
    return max(1, round(config.film_passes / len(select_annotated(train, "training"))))
