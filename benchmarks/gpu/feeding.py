"""Whether a training loop waits for its data: how long each step takes, and how much of that passes before the device has something to do.

edgekit's loops draw their batches themselves, between two steps: nothing is prepared while the device works. That time is the waiting.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator


class Feeding:
    """The steps of one training, by stage."""

    def __init__(self) -> None:
        self._steps: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
        self._open: list[Any] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, time every step of the detector's and the members' loops in this process."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook

        from edgekit.training import film_trainer, members

        share_loss, augment, build = members.share_loss, members.augment, film_trainer.FilmTrainer.__init__

        def synchronize() -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        def begin_step(network: Any, lesson: Any, chosen: Any, *rest: Any) -> Any:
            self._open = [f"member_{lesson.member.name}", time.perf_counter(), 0.0, len(chosen)]
            return share_loss(network, lesson, chosen, *rest)

        def draw(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            crops = augment(*arguments, **named)
            if self._open is not None:
                self._open[2] += time.perf_counter() - start
            return crops

        def end_step(*_: Any) -> None:
            if self._open is not None:
                synchronize()
                stage, start, waited, count = self._open
                self._steps[stage].append((waited, time.perf_counter() - start, count))
                self._open = None

        def build_watched(trainer: Any, *arguments: Any, **named: Any) -> None:
            build(trainer, *arguments, **named)
            trainer.add_callback("on_train_epoch_start", lambda _: open_batch())
            trainer.add_callback("on_train_batch_start", lambda _: mark_batch())
            trainer.add_callback("on_train_batch_end", lambda running: end_batch(running.batch_size))

        moments = {"end": 0.0, "start": 0.0}

        def open_batch() -> None:
            moments["end"] = time.perf_counter()

        def mark_batch() -> None:
            moments["start"] = time.perf_counter()

        def end_batch(count: int) -> None:
            synchronize()
            now = time.perf_counter()
            self._steps["detector"].append((moments["start"] - moments["end"], now - moments["end"], count))
            moments["end"] = now

        with ExitStack() as stack:
            for owner, name, watched in (
                (members, "share_loss", begin_step),
                (members, "augment", draw),
                (film_trainer.FilmTrainer, "__init__", build_watched),
            ):
                stack.enter_context(mock.patch.object(owner, name, watched))
            stack.callback(register_optimizer_step_post_hook(end_step).remove)
            yield

    def summarize(self) -> dict[str, dict[str, float]]:
        """Return by stage, without its first step: ``steps``, ``batch``, ``step_s`` (median), ``images_per_s`` and ``waiting_share``."""
        found = {}
        for stage, steps in self._steps.items():
            counted = steps[1:] or steps
            whole = sum(taken for _, taken, _ in counted)
            found[stage] = {
                "steps": len(counted),
                "batch": max(count for _, _, count in counted),
                "step_s": round(statistics.median(taken for _, taken, _ in counted), 5),
                "images_per_s": round(sum(count for _, _, count in counted) / whole, 2),
                "waiting_share": round(sum(waited for waited, _, _ in counted) / whole, 4),
            }
        return found
