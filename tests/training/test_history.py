from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from edgekit.errors import MissingError
from edgekit.training.history import History


def test_rows_that_an_interruption_lost_are_dropped(tmp_path: Path) -> None:
    record = History(tmp_path, tensorboard=False).recorder("member_ap", 0)
    for loss in (3.0, 2.0, 1.0):
        record({"loss": loss})
    again = History(tmp_path, tensorboard=False).recorder("member_ap", 1)
    again({"loss": 2.5})
    with (tmp_path / "history.csv").open() as file:
        assert [(row["epoch"], row["loss"]) for row in csv.DictReader(file)] == [("1", "3"), ("2", "2.5")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    History(tmp_path, tensorboard=True).recorder("member_ap", 0)({"loss": 0.25})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("member_ap/loss")] == [(1, 0.25)]


def test_tensorboard_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingError, match="needs the package tensorboard"):
        History(tmp_path, tensorboard=True)
