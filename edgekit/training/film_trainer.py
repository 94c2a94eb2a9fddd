"""ultralytics' own trainer over films in array files: no pictures, plots or network calls, and checkpoints without pickled code.

The module imports ultralytics when it is imported: import it inside functions. The trainer finds everything it needs in one folder, so
that ultralytics can start it again in processes of its own, one a GPU:

=================== ==============================================================
`setup.json`         ``views``, and of the settings ``activation``, ``backbone``,
                     ``early_scale``, ``early_share`` and ``part_share``
`start.safetensors`  the network's first weights
`<split>.npy`        uint8 (N, side, side), for ``train`` and ``val``
`<split>.labels.npz` ``views`` int (N,), -1 without a construct; ``boxes`` (N, 4)
`checkpoints/`       the state after the latest epoch
=================== ==============================================================
"""

from __future__ import annotations

import json
import math
import random
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from edgekit.models.detector import build_network, import_ultralytics
from edgekit.models.runfolder import load_state
from edgekit.training.augmentation import cut_film, vary_film
from edgekit.training.checkpoints import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

import_ultralytics()
from ultralytics.data.dataset import YOLODataset  # noqa: E402 (after its network calls are switched off)
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402

STRIDE = 32
"""A film's side is a multiple of this."""
FINAL_RATE = 0.01
"""Learning rate at the end, relative to its peak."""


class FilmDataset(YOLODataset):  # type: ignore[misc]
    """ultralytics' data set over arrays instead of files.

    ``img_path`` is the split's array file; of the share `part_share` of the films training sees a part.
    """

    part_share = 0.0

    def get_img_files(self, img_path: str) -> list[str]:
        """Name each film; nothing of that name is opened."""
        self.films: NDArray[np.uint8] = np.load(img_path, mmap_mode="r")
        return [f"{row}.png" for row in range(len(self.films))]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return ultralytics' label records: class = view, box relative to the side."""
        side = self.films.shape[1]
        labels: list[dict[str, Any]] = []
        with np.load(Path(self.img_path).with_suffix(".labels.npz")) as table:
            views, boxes = table["views"], table["boxes"]
        for row, (view, box) in enumerate(zip(views, boxes, strict=True)):
            labels.append(
                {
                    "im_file": f"{row}.png",
                    "shape": (side, side),
                    "cls": np.full((int(view >= 0), 1), view, dtype=np.float32),
                    "bboxes": (box[None] / side).astype(np.float32) if view >= 0 else np.zeros((0, 4), dtype=np.float32),
                    "segments": [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xyxy",
                }
            )
        return labels

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return a film and its label; while training, often a part of the film, and its grey values redrawn."""
        label = deepcopy(self.labels[index])
        shape = label.pop("shape")
        image = np.array(self.films[index])
        if self.augment:
            rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 (seeded each epoch)
            if rng.random() < self.part_share:
                image, boxes = cut_film(image, label["bboxes"] * shape[0], rng)
                label["bboxes"] = boxes / np.float32(shape[0])
            image = vary_film(image, rng)
        label |= {"img": image[..., None], "ori_shape": shape, "resized_shape": shape, "ratio_pad": (1.0, 1.0)}
        updated: dict[str, Any] = self.update_labels_info(label)
        return updated


class FilmTrainer(DetectionTrainer):  # type: ignore[misc]
    """ultralytics' trainer whose ``data`` is the folder described above.

    The learning rate follows its cosine batch by batch: ultralytics steps once an epoch, and a large set of films makes few of them.
    Every epoch draws from its own seed, so that one taken up again sees what it would have seen.
    """

    batches = 0
    """Batches trained, of all epochs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        threads = torch.get_num_threads()
        super().__init__(*args, **kwargs)
        torch.set_num_threads(threads)  # choosing the CPU as its device, ultralytics leaves one thread less than there are cores
        for event, callback in (("on_train_epoch_start", _seed_epoch), ("on_train_batch_start", _follow_cosine)):
            if callback not in self.callbacks[event]:  # a process that ultralytics started has it already
                self.add_callback(event, callback)

    @property
    def folder(self) -> Path:
        """The folder described above."""
        return Path(self.args.data)

    def get_dataset(self) -> dict[str, Any]:
        """Return where the films are."""
        paths = {split: str(self.folder / f"{split}.npy") for split in ("train", "val")}
        views = self.setup["views"]
        return {**paths, "nc": len(views), "names": dict(enumerate(views)), "channels": 1}

    @cached_property
    def setup(self) -> dict[str, Any]:
        """What ``setup.json`` says."""
        return dict(json.loads((self.folder / "setup.json").read_text(encoding="utf-8")))

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build the data set of a split."""
        dataset = FilmDataset(
            img_path=img_path,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=mode == "train",
            hyp=self.args,
            rect=False,
            cache=None,
            prefix=f"{mode}: ",
            task="detect",
            data=self.data,
        )
        dataset.part_share = self.setup["part_share"]
        return dataset

    def check_resume(self, overrides: Any) -> None:  # noqa: ARG002
        """Go on from a checkpoint where there is one."""
        self.resume = load_checkpoint(self.folder / "checkpoints") is not None

    def setup_model(self) -> dict[str, Any] | None:
        """Build the network; return the checkpoint to go on from, as ultralytics reads it."""
        setup = self.setup
        checkpoint = load_checkpoint(self.folder / "checkpoints")
        network = build_network(setup["activation"], setup["backbone"], len(setup["views"]))
        if checkpoint is None:
            network.load_state_dict(load_state(self.folder / "start.safetensors"))
        else:
            network.load_state_dict(checkpoint["network"])
            average = build_network(setup["activation"], setup["backbone"], len(setup["views"]))
            average.load_state_dict(checkpoint["ema"])
            checkpoint["ema"] = average
        self.model = network.to(memory_format=torch.channels_last)  # twice as fast on a CPU, and what Tensor Cores want
        return checkpoint

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore optimizer, average and epoch by ultralytics' own means."""
        super().resume_training(ckpt)
        self.batches = self.start_epoch * len(self.train_loader)

    def save_model(self) -> bool:
        """Write the state after this epoch, without pickled code."""
        state = {
            "network": _state(self.model.module if hasattr(self.model, "module") else self.model),
            "ema": _state(self.ema.ema),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(self.folder / "checkpoints", self.epoch, state)
        return True

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device; in the first part of the training its films are made smaller."""
        batch = super().preprocess_batch(batch)
        if self.batches <= self.setup["early_share"] * self.epochs * len(self.train_loader):
            side = max(1, round(self.setup["early_scale"] * self.args.imgsz / STRIDE)) * STRIDE
            batch["img"] = functional.interpolate(batch["img"], (side, side), mode="area")
        return batch

    def validate(self) -> tuple[dict[str, float], None]:
        """Choose nothing: the average of the last epoch is the result."""
        return {}, None

    def final_eval(self) -> None:
        """Leave the networks as they are."""


def _seed_epoch(trainer: FilmTrainer) -> None:
    trainer.train_loader.reset()  # its iterator draws once when it is made: in every epoch, not only in the first of a process
    seed = trainer.args.seed + 1000 * trainer.epoch
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (ultralytics draws from it)
    torch.manual_seed(seed)
    trainer.train_loader.generator.manual_seed(seed)  # of the order of the films


def _follow_cosine(trainer: FilmTrainer) -> None:
    share = trainer.batches / (trainer.epochs * len(trainer.train_loader))
    trainer.batches += 1
    factor = FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _state(network: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
