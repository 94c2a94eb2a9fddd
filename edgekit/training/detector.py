"""Train the detector with ultralytics' own trainer, fed from memory, without its files, plots, pickles or network calls."""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.errors import InputError
from edgekit.models.detector import FROZEN_LAYERS, Detector, build_network, import_ultralytics, start_backbone
from edgekit.models.runfolder import load_weights
from edgekit.training.augmentation import vary_film
from edgekit.training.films import average_blocks
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.training.config import DetectorConfig
    from edgekit.training.films import FilmSet


FINAL_RATE = 0.01
"""Learning rate at the end, relative to its peak."""


def train_detector(
    train: FilmSet,
    validation: FilmSet,
    config: DetectorConfig,
    device: str,
    seed: int,
    scratch: Path,
    weights: Path | None,
    report: Callable[[dict[str, float]], None],
) -> Detector:
    """Train YOLOv5n on the annotated films (and, as negatives, the films without a construct).

    The exponential moving average of the weights after the last epoch is the result: the learning rate is annealed to its end,
    and nothing is selected on validation films.

    Parameters
    ----------
    train, validation
        Films with boxes in canvas pixels; films with a brand but no box are left out.
    device
        As torch names it.
    scratch
        Folder for ultralytics' own files.
    weights
        A ``detector.safetensors`` to start from; None starts at random.
    report
        Called after each epoch with the epoch's losses.

    Raises
    ------
    InputError
        There is no annotated training film, or the loss became NaN.
    """
    import_ultralytics()
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.models.yolo.detect import DetectionTrainer

    torch.manual_seed(seed)
    start = Detector(config.activation, config.side, config.backbone)
    if weights is not None:
        load_weights(weights, start)
    elif config.backbone != "yolov5n":
        start_backbone(start)
    films = {"train": train, "val": validation}
    rows = {"train": select_annotated(train, "training"), "val": select_annotated(validation, "validation")}
    epochs = count_epochs(config, train)
    images = {name: shrink_films(films[name], rows[name], config.side) for name in films}
    labels = {name: make_labels(films[name], rows[name], name, config.side) for name in films}

    class MemoryDataset(YOLODataset):  # type: ignore[misc]
        """ultralytics' data set over arrays instead of files."""

        def get_img_files(self, img_path: str) -> list[str]:
            return [label["im_file"] for label in labels[img_path]]

        def get_labels(self) -> list[dict[str, Any]]:
            return labels[self.img_path]

        def load_image(self, i: int, *_: Any, **__: Any) -> tuple[NDArray[np.uint8], tuple[int, int], tuple[int, int]]:
            image = images[self.img_path][i]
            if self.augment:
                image = vary_film(image, np.random.default_rng(np.random.randint(2**31)))  # noqa: NPY002 (ultralytics seeds it)
            image = image[..., None]
            return image, image.shape[:2], image.shape[:2]

    class MemoryTrainer(DetectionTrainer):  # type: ignore[misc]
        """ultralytics' trainer without files: random start, no checkpoints, no final re-validation."""

        def get_dataset(self) -> dict[str, Any]:
            return {"train": "train", "val": "val", "nc": len(VIEWS), "names": dict(enumerate(VIEWS)), "channels": 1}

        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
            # The sequence that mosaic and the warm-up expect comes from the base class; only the pixels come from memory.
            return MemoryDataset(
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

        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:  # noqa: ARG002
            network = build_network(config.activation, config.backbone)
            network.load_state_dict(start.network.state_dict())
            return network.to(memory_format=torch.channels_last)  # twice as fast on a CPU, and what Tensor Cores want

        def save_model(self) -> bool:
            return False

        def final_eval(self) -> None:
            return None

    threads = torch.get_num_threads()
    trainer = MemoryTrainer(
        overrides={
            "model": "yolov5n.yaml",
            "data": "memory",
            "task": "detect",
            "epochs": epochs,
            "batch": config.batch,
            "nbs": config.batch,
            "imgsz": config.side,
            "device": device,
            "seed": seed,
            "optimizer": "AdamW",
            "lr0": config.learning_rate,
            "lrf": FINAL_RATE,
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
            "save": False,
            "verbose": False,
            "amp": "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else False,  # fp16's check downloads a model
            "workers": 0,
            "project": str(scratch.resolve()),  # a relative one lands in ultralytics' own runs folder
            "name": "detector",
            "exist_ok": True,
        }
    )

    torch.set_num_threads(threads)  # choosing the CPU as its device, ultralytics leaves the process with one thread less than it has cores

    def end_epoch(done: Any) -> None:
        losses = {name: float(value) for name, value in done.tloss.items()}
        if not all(np.isfinite(value) for value in losses.values()):
            raise InputError("the detector's loss became NaN", "lower [detector] learning_rate")
        report(losses)

    batches = count()

    def anneal(running: Any) -> None:
        """Follow the cosine batch by batch: ultralytics steps once an epoch, and a large set of films makes few of them."""
        share = next(batches) / (epochs * len(running.train_loader))
        factor = FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2
        for group in running.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    trainer.add_callback("on_train_batch_start", anneal)
    trainer.add_callback("on_train_epoch_end", end_epoch)
    trainer.train()
    detector = Detector(config.activation, config.side, config.backbone)
    detector.network.load_state_dict(trainer.ema.ema.state_dict())
    return detector.eval()


def select_annotated(films: FilmSet, what: str) -> NDArray[np.int64]:
    """Return the rows of the films that can teach: those with a box, and those known to hold no construct."""
    annotated = np.isfinite(films.boxes).all(axis=1)
    if not annotated.any():
        raise InputError(f"no {what} film has a box", "fill ap_box and lateral_box in studies.csv")
    return np.flatnonzero(annotated | (films.brands == "none"))


def shrink_films(films: FilmSet, rows: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Return what the detector sees of the films, uint8 (len(rows), side, side)."""
    ratio = films.canvases.shape[1] // side
    return np.stack([average_blocks(films.canvases[row], ratio) for row in rows])


def count_epochs(config: DetectorConfig, train: FilmSet) -> int:
    """Return how many epochs make about `film_passes`."""
    return max(1, round(config.film_passes / len(select_annotated(train, "training"))))


def make_labels(films: FilmSet, rows: NDArray[np.int64], prefix: str, side: int) -> list[dict[str, Any]]:
    """Build ultralytics' label records: class = view, box as normalised centre and size."""
    labels: list[dict[str, Any]] = []
    for row in rows:
        box = films.boxes[row]
        known = bool(np.isfinite(box).all())
        centre_size = np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])[None] / films.canvases.shape[1]
        labels.append(
            {
                "im_file": f"{prefix}{row}.png",
                "shape": (side, side),
                "cls": np.full((int(known), 1), films.view[row], dtype=np.float32),
                "bboxes": centre_size.astype(np.float32) if known else np.zeros((0, 4), dtype=np.float32),
                "segments": [],
                "keypoints": None,
                "normalized": True,
                "bbox_format": "xywh",
            }
        )
    return labels
