"""What an unfinished training keeps in ``RUN/.checkpoints``, to go on from after an interruption.

A checkpoint is torch's own file of tensors and plain values, one an epoch, with its sha256 beside it. It is read only when that matches,
and unpickled no further than ``weights_only`` allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgekit.errors import InputError
from edgekit.files import hash_file, replacing, write_text

if TYPE_CHECKING:
    from pathlib import Path


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the state after `epoch` (from 0) and delete that of earlier epochs.

    The hash is written last: a checkpoint without one was being written when the training was interrupted.
    """
    path = folder / f"{epoch:05d}.pt"
    with replacing(path) as partial, partial.open("wb") as file:  # torch's own writer does not say that the disk is full
        torch.save({**state, "epoch": epoch}, file)
    write_text(path.with_suffix(".sha256"), hash_file(path))
    for old in folder.glob("*.*"):
        if old.stem != path.stem:
            old.unlink()


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the latest whole state, with ``epoch`` in it; None when there is none.

    Raises
    ------
    InputError
        The file is not what was written.
    """
    finished = sorted(folder.glob("*.sha256"))
    if not finished:
        return None
    path = finished[-1].with_suffix(".pt")
    if not path.is_file() or hash_file(path) != finished[-1].read_text(encoding="utf-8"):
        raise InputError(f"{path} is damaged: its sha256 is not the one beside it", f"delete {folder} to train this part again")
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state
