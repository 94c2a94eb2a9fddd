"""Training films as a phone sees them: photographed off a screen and straightened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.parallel import run_parallel
from edgekit.phantom.photo.snapshot import photograph
from edgekit.progress import track
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.training.films import average_blocks, create_canvases

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.training.films import FilmSet

SEVERITY = "moderate"
"""A name in `edgekit.phantom.photo.snapshot.SEVERITIES`."""


def photograph_films(films: FilmSet, chosen: NDArray[np.int64], side: int, ratio: int, seed: int, path: Path) -> NDArray[np.uint8]:
    """Photograph films off a screen, one process a core, or open what an earlier call left in `path`.

    A photo has the film's aspect once it is straightened, so the film's boxes hold for it.

    Parameters
    ----------
    chosen
        int (P,), the films to photograph.
    side, ratio
        As `films` were cached with.
    path
        The ``.npy`` file to write. It appears whole or not at all.

    Returns
    -------
    uint8 (P, side / ratio, side / ratio), memory-mapped.
    """
    if not path.is_file():
        partial = path.with_suffix(".partial")
        photos = create_canvases(partial, len(chosen), side // ratio)
        tasks = []
        for place, film in enumerate(chosen.tolist()):
            source = films.studies[films.study[film]].film(films.views[films.view[film]])
            assert source is not None  # it was cached from there
            tasks.append(_Task(place, film, source, side, ratio, seed))
        shots = run_parallel(_photograph, tasks, "Lower photo_share")
        for place, canvas in track(shots, "photographing films", len(tasks)):
            photos[place] = canvas
        del photos
        partial.replace(path)
    opened: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return opened


@dataclass(frozen=True, slots=True)
class _Task:
    """One film to photograph."""

    place: int
    film: int
    source: Path
    side: int
    ratio: int
    seed: int


def _photograph(task: _Task) -> tuple[int, NDArray[np.uint8]]:
    pixels = read_radiograph(task.source).pixels
    height, width = pixels.shape
    photo = photograph(pixels, np.random.default_rng([task.seed, task.film]), SEVERITY)
    return task.place, average_blocks(make_canvas(photo.straighten(width, height), task.side)[0], task.ratio)
