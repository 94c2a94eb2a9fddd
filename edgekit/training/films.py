"""The films of a training run: decoded once into one memory-mapped array, not once an epoch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.canvases import stream_inputs
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.types import Study


@dataclass(frozen=True, slots=True, eq=False)
class FilmSet:
    """The films of some studies.

    Attributes
    ----------
    canvases
        uint8 (N, S, S), memory-mapped: canvases, or what the detector sees of them.
    view
        int (N,), index into ``VIEWS``.
    study
        int (N,), index into `studies`.
    boxes
        float32 (N, 4), the annotated construct in pixels of `canvases`; NaN where there is none.
    studies
        The rows that the films come from.
    """

    canvases: NDArray[np.uint8]
    view: NDArray[np.int64]
    study: NDArray[np.int64]
    boxes: NDArray[np.float32]
    studies: list[Study]

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


def cache_films(studies: list[Study], side: int, path: Path, ratio: int = 1) -> FilmSet:
    """Decode every film of `studies` into the array file `path`.

    Parameters
    ----------
    studies
        Rows to read.
    side
        Canvas side in pixels.
    path
        The ``.npy`` file to write.
    ratio
        Canvas pixels per cached pixel: area-averaged as the graph does before its detector.
    """
    total = sum(study.film(view) is not None for study in studies for view in VIEWS)
    canvases: NDArray[np.uint8] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, mode="w+", dtype=np.uint8, shape=(total, side // ratio, side // ratio)
    )
    if hasattr(os, "posix_fallocate"):  # a sparse file on a full disk would end the process without a word
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    films: list[tuple[int, int]] = []
    boxes = np.full((total, 4), np.nan, dtype=np.float32)
    for row, (study, inputs, letterboxes) in enumerate(stream_inputs(studies, side, f"reading {path.stem} films")):
        for index, view in enumerate(VIEWS):
            if study.film(view) is None:
                continue
            canvases[len(films)] = average_blocks(inputs[view][0, 0], ratio)
            if (box := study.box(view)) is not None:
                boxes[len(films)] = np.array(letterboxes[view].to_canvas(box)) / ratio
            films.append((row, index))
    table = np.array(films, dtype=np.int64).reshape(-1, 2)
    return FilmSet(canvases, table[:, 1], table[:, 0], boxes, studies)


def average_blocks(canvas: NDArray[np.uint8], ratio: int) -> NDArray[np.uint8]:
    """Area-average a canvas uint8 (S, S) to uint8 (S / ratio, S / ratio): what the graph does before its detector."""
    if ratio == 1:
        return canvas
    side = canvas.shape[0] // ratio
    averaged: NDArray[np.uint8] = np.rint(canvas.reshape(side, ratio, side, ratio).mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
    return averaged
