"""Whether training waits for data: images per second of the training loops against the bare forward and backward pass.

.venv/bin/python benchmarks/training.py --out benchmarks/results/training.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.models.classifier import start_classifier
from edgekit.provenance import describe_software
from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import load_config
from edgekit.training.crops import Samples
from edgekit.training.detector import lay_out_films, override_settings
from edgekit.training.devices import choose_device, start_accelerator
from edgekit.training.films import FilmSet
from edgekit.training.members import Lesson, freeze_batch_norm, share_loss
from edgekit.training.memory import keep_freed_memory
from edgekit.types import Study

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit.training.config import TrainingConfig

GOAL = 0.85
"""Images per second of the loop relative to the bare pass, at least."""


def compare(loop: Callable[[], None], bare: Callable[[], None], images: int, rounds: int) -> dict[str, float]:
    """Time both in turn, after one round to warm up; medians."""
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    for number in range(rounds + 1):
        for name, step in (("loop", loop), ("bare", bare)):
            start = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - start)
    loop_s, bare_s = (statistics.median(seconds[name]) for name in ("loop", "bare"))
    return {
        "loop_images_per_s": round(images / loop_s, 2),
        "bare_images_per_s": round(images / bare_s, 2),
        "ratio": round(bare_s / loop_s, 3),
    }


def measure_member(config: TrainingConfig, rounds: int) -> dict[str, float]:
    """One step of a Lite0 member on crops that are drawn, and on crops that lie there."""
    settings, random = config.members, np.random.default_rng(0)
    accelerator = start_accelerator(choose_device(config.device))
    context = torch.from_numpy(random.integers(0, 255, (2 * 64, 1, 349, 349), dtype=np.uint8))  # the photos are the second half
    brands = np.arange(64) % 7
    lesson = Lesson(
        PEDICLE_SCREWS.member("ap"), tuple("abcdefg"), Samples(np.arange(64)[:, None], brands), context, context[:2].float(), torch.zeros(2)
    )
    network = start_classifier(settings.architecture, 7, settings.init).to(accelerator.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    shared, stepper = accelerator.prepare(network, optimizer)
    network.train()
    freeze_batch_norm(network)
    generator = torch.Generator().manual_seed(0)
    fixed = torch.rand(settings.batch, 1, settings.side, settings.side, device=accelerator.device)
    targets = torch.from_numpy(brands[: settings.batch]).to(accelerator.device)

    def step(loss: torch.Tensor) -> None:
        stepper.zero_grad()
        accelerator.backward(loss)
        stepper.step()

    def loop() -> None:
        step(share_loss(shared, lesson, random.permutation(64)[: settings.batch], settings, accelerator, generator))

    def bare() -> None:
        with accelerator.autocast():
            loss = torch.nn.functional.cross_entropy(shared(fixed), targets, label_smoothing=settings.label_smoothing)
        step(loss)

    return compare(loop, bare, settings.batch, rounds)


def measure_detector(config: TrainingConfig, rounds: int) -> dict[str, float]:
    """One epoch of a few films by ultralytics' loop, and as many steps on one batch."""
    from edgekit.training.film_trainer import FilmTrainer

    settings = replace(config.detector, early_share=0.0)  # both see films of one side
    count, side = 4 * settings.batch, settings.side
    smooth = torch.nn.functional.interpolate(torch.rand(count, 1, 20, 20), size=(side, side), mode="bilinear")[:, 0]
    boxes = np.tile(np.array([0.3, 0.3, 0.6, 0.7], np.float32) * side, (count, 1))
    studies = [Study(str(number), brand="a") for number in range(count)]
    films = FilmSet((smooth * 255).to(torch.uint8).numpy(), np.arange(count) % 2, np.arange(count), boxes, studies, PEDICLE_SCREWS.views)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "detector"
        lay_out_films(folder, {"train": films, "validation": films}, None, settings, 0, None)
        trainer: Any = FilmTrainer(overrides=override_settings(folder, settings, rounds + 2, config.device, 0) | {"save": False})
        fixed: dict[str, Any] = {}
        loops: list[float] = []
        bares: list[float] = []

        def begin(running: Any) -> None:
            if not fixed:
                fixed.update(running.preprocess_batch(next(iter(running.train_loader))))
            running.clock = time.perf_counter()

        def end(running: Any) -> None:
            loops.append(time.perf_counter() - running.clock)
            start = time.perf_counter()
            for _ in range(count // settings.batch):
                loss, _ = running.model(fixed)
                loss.sum().backward()
                running.optimizer_step()
            bares.append(time.perf_counter() - start)

        trainer.add_callback("on_train_epoch_start", begin)
        trainer.add_callback("on_train_epoch_end", end)
        trainer.train()
    loop_s, bare_s = statistics.median(loops[1:]), statistics.median(bares[1:])
    return {
        "loop_images_per_s": round(count / loop_s, 2),
        "bare_images_per_s": round(count / bare_s, 2),
        "ratio": round(bare_s / loop_s, 3),
    }


def main() -> None:
    """Measure, print and keep a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.json"))
    arguments = parser.parse_args()
    config = load_config(arguments.preset)
    config = replace(config, device=str(choose_device(config.device)))
    with keep_freed_memory():
        rows = {"member": measure_member(config, arguments.rounds), "detector": measure_detector(config, arguments.rounds)}
    for name, row in rows.items():
        print(f"{name}: {row['loop_images_per_s']} of {row['bare_images_per_s']} images/s, {row['ratio']:.0%} (goal {GOAL:.0%})")
    record = {
        **describe_software(),
        "device": config.device,
        "threads": torch.get_num_threads(),
        "n": arguments.rounds,
        "goal": GOAL,
        **rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
