"""``history.csv``: one row an epoch, written as it happens; the same figures for TensorBoard where that is asked for."""

from __future__ import annotations

import csv
import io
import time
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError
from edgekit.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Record = Callable[[dict[str, float]], None]
    """Called after each epoch with its figures."""

COLUMNS = ("stage", "epoch", "loss", "box_loss", "cls_loss", "dfl_loss", "validation_loss", "validation_accuracy", "seconds")
"""``seconds`` counts from the start of the stage, or from where it was taken up again."""


class History:
    """The figures of each epoch.

    Parameters
    ----------
    run
        The run folder. An earlier ``history.csv`` in it is continued.
    tensorboard
        Whether to write ``RUN/tensorboard`` as well.

    Raises
    ------
    MissingError
        TensorBoard is asked for and not installed.
    """

    def __init__(self, run: Path, tensorboard: bool) -> None:
        self.path = run / "history.csv"
        self.writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError as error:
                raise MissingError(
                    "tensorboard = true needs the package tensorboard", "pip install tensorboard, or set tensorboard = false"
                ) from error
            self.writer = SummaryWriter(str(run / "tensorboard"))

    def recorder(self, stage: str, done: int, *then: Callable[[], None]) -> Record:
        """Return what a training loop calls after each epoch of `stage`: append a row, then do `then`.

        Parameters
        ----------
        done
            Epochs of the stage that stand; rows of later ones, which an interruption lost, are dropped.
        """
        rows = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row["stage"] != stage or int(row["epoch"]) <= done]
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(self.path, text.getvalue())
        started = time.perf_counter()
        epoch = done

        def record(figures: dict[str, float]) -> None:
            nonlocal epoch
            epoch += 1
            row = {name: f"{value:.6g}" for name, value in figures.items()}
            with self.path.open("a", newline="", encoding="utf-8") as file:
                seconds = f"{time.perf_counter() - started:.1f}"
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow({"stage": stage, "epoch": epoch, "seconds": seconds, **row})
            if self.writer is not None:
                for name, value in figures.items():
                    self.writer.add_scalar(f"{stage}/{name}", value, epoch)
                self.writer.flush()
            for step in then:
                step()

        return record
