"""The films of a training run: decoded once into one memory-mapped array, not once an epoch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import stream_inputs
from edgekit.errors import InputError
from edgekit.files import write_json
from edgekit.studies import clip_box

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.task import View
    from edgekit.types import Study

KEPT_ROWS = 32
"""Rows that an interruption may cost; more only where that is less than a hundredth of all."""


@dataclass(frozen=True, slots=True, eq=False)
class FilmSet:
    """The films of some studies.

    Attributes
    ----------
    canvases
        uint8 (N, S, S), memory-mapped: canvases, or what the detector sees of them.
    view
        int (N,), index into `views`.
    study
        int (N,), index into `studies`.
    boxes
        float32 (N, 4), the annotated construct in pixels of `canvases`; NaN where there is none.
    studies
        The rows that the films come from.
    views
        The task's, in order.
    """

    canvases: NDArray[np.uint8]
    view: NDArray[np.int64]
    study: NDArray[np.int64]
    boxes: NDArray[np.float32]
    studies: list[Study]
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.view)

    @property
    def brands(self) -> NDArray[np.object_]:
        """Brand (or None) of each film's patient, object (N,)."""
        return np.array([self.studies[i].brand for i in self.study], dtype=object)

    def film_of(self, view: int) -> NDArray[np.int64]:
        """Film index of each study's `view`, int (len(studies),); -1 where it has none."""
        index = np.full(len(self.studies), -1)
        rows = np.flatnonzero(self.view == view)
        index[self.study[rows]] = rows
        return index


def cache_films(studies: list[Study], views: tuple[View, ...], side: int, path: Path, ratio: int = 1) -> FilmSet:
    """Decode every film of `studies` into the array file `path`, or open what an earlier call left there.

    A call that was interrupted is gone on with, and ends with the same bytes.

    Parameters
    ----------
    studies
        Rows to read. A few that can't be read are left out; see `read_unreadable`.
    views
        The task's, in order: only their films are read.
    side
        Canvas side in pixels.
    path
        The ``.npy`` file to write; what is in it stands in a ``.json`` beside it, which is kept as the file fills.
    ratio
        Canvas pixels per cached pixel: area-averaged as the graph does before its detector.

    Raises
    ------
    InputError
        Too many rows can't be read. Those before the first of them are kept.
    """
    index = path.with_suffix(".json")
    key = hashlib.sha256(repr((studies, views, side, ratio)).encode()).hexdigest()
    document = json.loads(index.read_text(encoding="utf-8")) if index.is_file() and path.is_file() else {}
    if document.get("studies") != key:
        document = {"studies": key, "done": None, "films": [], "boxes": [], "unreadable": []}
    if document["done"] != len(studies):
        _decode_films(studies, views, side, path, ratio, document)
        document = json.loads(index.read_text(encoding="utf-8"))
    canvases: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    table = np.array(document["films"], dtype=np.int64).reshape(-1, 2)
    boxes = np.array([box or [np.nan] * 4 for box in document["boxes"]], dtype=np.float32).reshape(-1, 4)
    return FilmSet(canvases[: len(table)], table[:, 1], table[:, 0], boxes, studies, views)


def read_unreadable(path: Path) -> dict[str, str]:
    """Return the patients that `cache_films` left out of `path` because a film can't be read, with the reason."""
    rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["unreadable"]
    return {patient: reason for _, patient, reason in rows}


def _decode_films(studies: list[Study], views: tuple[View, ...], side: int, path: Path, ratio: int, document: dict[str, Any]) -> None:
    """Fill the array file and its index, from where `document`, the index so far, ends."""
    films, boxes = document["films"], document["boxes"]
    unreadable = {studies[row]: reason for row, _, reason in document["unreadable"]}
    numbers = {id(study): number for number, study in enumerate(studies)}
    step = max(KEPT_ROWS, len(studies) // 100)  # the index is written whole: a hundred times at most

    def keep(done: int) -> None:
        """Write that the first `done` rows are in the array file, once they are."""
        canvases.flush()  # type: ignore[attr-defined]
        count = sum(number < done for number, _ in films)
        left_out = [[numbers[id(study)], study.patient_id, reason] for study, reason in unreadable.items()]
        left_out = [row for row in left_out if row[0] < done]
        write_json(
            path.with_suffix(".json"),
            {"studies": document["studies"], "done": done, "films": films[:count], "boxes": boxes[:count], "unreadable": left_out},
        )

    done = document["done"]
    if done is None:
        path.with_suffix(".json").unlink(missing_ok=True)  # it may tell of other rows
        canvases = create_canvases(path, sum(study.film(view) is not None for study in studies for view in views), side // ratio)
    else:
        canvases = np.load(path, mmap_mode="r+")
    try:
        description = f"reading {path.stem} films"
        for study, inputs, letterboxes in stream_inputs(studies, views, side, description, unreadable, range(done or 0)):
            number = numbers[id(study)]
            for index, view in enumerate(views):
                if study.film(view) is None:
                    continue
                canvases[len(films)] = average_blocks(inputs[view][0, 0], ratio)
                box, letterbox = study.box(view), letterboxes[view]
                cut = None if box is None else clip_box(box, letterbox.width, letterbox.height)
                boxes.append(None if cut is None else [edge / ratio for edge in letterbox.to_canvas(cut)])
                films.append((number, index))
            if (number + 1) % step == 0:
                keep(number + 1)
    except InputError:  # too many can't be read: the first of them may be readable the next time, and the films after it move up then
        keep(min(numbers[id(study)] for study in unreadable))
        raise
    keep(len(studies))


def create_canvases(path: Path, count: int, side: int) -> NDArray[np.uint8]:
    """Make an array file of uint8 (count, side, side), memory-mapped, with its room on the disk taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvases: NDArray[np.uint8] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, mode="w+", dtype=np.uint8, shape=(count, side, side)
    )
    if hasattr(os, "posix_fallocate"):  # a sparse file on a full disk would end the process without a word
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return canvases


def average_blocks(canvas: NDArray[np.uint8], ratio: int) -> NDArray[np.uint8]:
    """Area-average a canvas uint8 (S, S) to uint8 (S / ratio, S / ratio): what the graph does before its detector."""
    if ratio == 1:
        return canvas
    side = canvas.shape[0] // ratio
    averaged: NDArray[np.uint8] = np.rint(canvas.reshape(side, ratio, side, ratio).mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
    return averaged
