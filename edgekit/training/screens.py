"""What the corner finder learns from: films on screens, as a photo of them looks once it is small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgekit.files import replacing
from edgekit.models.corners import SIDE
from edgekit.phantom.parallel import run_parallel
from edgekit.phantom.photo.snapshot import glimpse
from edgekit.phantom.photo.viewer import Screen, show_film
from edgekit.progress import track
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.training.films import create_canvases

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.training.films import FilmSet

GLIMPSES = 4
"""Photos of each screen: drawing one takes twice as long as a glimpse of it."""
HELD_OUT = 40
"""Screens, the last ones, that are not learnt from."""
LEAST_PHOTOS = 2 * HELD_OUT * GLIMPSES
SEVERITIES = ("moderate", "moderate", "mild", "severe")
"""What they are drawn from, one each."""
WHOLE = 1 / 3
"""Share of the photos that are not cropped."""
MOST_CUT = 0.97
"""Of the room beside the film, at most."""
_WIDTH = 1024
"""Device pixels that a screen is reduced to."""


@dataclass(frozen=True, slots=True, eq=False)
class ScreenPhotos:
    """Photos of screens.

    Attributes
    ----------
    canvases
        uint8 (N, 320, 320), memory-mapped. `GLIMPSES` of one screen stand together.
    corners
        float32 (N, 4, 2): the film's, pixels of the canvas.
    """

    canvases: NDArray[np.uint8]
    corners: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.corners)


def photograph_screens(films: FilmSet, count: int, seed: int, path: Path) -> ScreenPhotos:
    """Show films on screens and photograph these, one process a core, or open what an earlier call left in `path`.

    Parameters
    ----------
    films
        Films to show, again and again on other screens where there are fewer of them.
    count
        Photos wanted; rounded up to whole screens.
    path
        The ``.npy`` file to write; the corners stand beside it and are written last.
    """
    index = path.with_suffix(".corners.npy")
    if not index.is_file():
        tasks = []
        for number in range(-(-count // GLIMPSES)):
            study, view = films.studies[films.study[number % len(films)]], films.views[films.view[number % len(films)]]
            source = study.film(view)
            assert source is not None  # it was cached from there
            tasks.append(
                _Task(number, source, next((film for other in films.views if other != view and (film := study.film(other))), None), seed)
            )
        canvases, corners = create_canvases(path, GLIMPSES * len(tasks), SIDE), np.empty((GLIMPSES * len(tasks), 4, 2), np.float32)
        shots = run_parallel(_photograph, tasks, "Lower [corners] photos")
        for number, some, found in track(shots, "photographing screens", len(tasks)):
            rows = slice(GLIMPSES * number, GLIMPSES * (number + 1))
            canvases[rows], corners[rows] = some, found
        with replacing(index) as partial, partial.open("wb") as file:
            np.save(file, corners)
    return ScreenPhotos(np.load(path, mmap_mode="r"), np.load(index))


@dataclass(frozen=True, slots=True)
class _Task:
    """One screen to photograph."""

    number: int
    film: Path
    beside: Path | None
    seed: int


def _photograph(task: _Task) -> tuple[int, NDArray[np.uint8], NDArray[np.float32]]:
    rng = np.random.default_rng([task.seed, task.number])
    film, beside = (None if path is None else _shrink(read_radiograph(path).pixels) for path in (task.film, task.beside))
    assert film is not None
    screen = show_film(film, rng, beside)
    picture = Image.fromarray(screen.pixels)
    scale = _WIDTH / picture.width
    small = np.asarray(picture.resize((_WIDTH, round(picture.height * scale)), Image.Resampling.BOX))
    x0, y0, x1, y1 = screen.film
    small_screen = Screen(small, (x0 * scale, y0 * scale, x1 * scale, y1 * scale))
    canvases, corners = np.empty((GLIMPSES, SIDE, SIDE), np.uint8), np.empty((GLIMPSES, 4, 2), np.float32)
    for n, severity in enumerate(SEVERITIES):
        pixels, found = crop(*glimpse(small_screen, rng, severity), rng)
        canvases[n], letterbox = make_canvas(pixels, SIDE)
        corners[n] = np.array([letterbox.to_canvas((x, y, x, y))[:2] for x, y in found])
    return task.number, canvases, corners


def crop(
    pixels: NDArray[np.uint8], corners: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut away some of what surrounds the film, in two photos of three: not every phone takes 4 : 3, and people crop.

    A finder that has seen one shape of photo alone finds few films in others (docs/performance.md).

    Parameters
    ----------
    pixels
        uint8 (h, w).
    corners
        float64 (4, 2): the film's, none outside.

    Returns
    -------
    The same kinds: part of the photo, and the film's corners in it.
    """
    if rng.random() < WHOLE:
        return pixels, corners
    height, width = pixels.shape
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    room = np.array([left, top, width - right, height - bottom])
    left, top, right, bottom = (room * rng.uniform(0, MOST_CUT, 4) * (rng.random(4) < 0.6)).astype(int)
    return pixels[top : height - bottom, left : width - right], corners - (left, top)


def _shrink(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a film at no more pixels than a screen shows of it."""
    picture = Image.fromarray(film)
    picture.thumbnail((1200, 1200), Image.Resampling.BILINEAR)
    return np.asarray(picture)
