"""Films become the graph's input tensors, one patient or a stream of them."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from edgekit.cores import count_threads
from edgekit.errors import InputError
from edgekit.progress import track
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.studies import find_box_fault, is_clipped, warn_of_clipped
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from numpy.typing import NDArray

    from edgekit.radiograph import Letterbox
    from edgekit.types import Study, Tensors, View

THREADS = min(4, count_threads())
"""Decoders at work ahead of the consumer; twice as many patients are held at most."""


def graph_inputs(canvases: dict[View, NDArray[np.uint8]], side: int) -> Tensors:
    """Return the tensors of one patient; a film that is not there is zeros and not present.

    Parameters
    ----------
    canvases
        uint8 (S, S) canvas of each film given.
    side
        Side S of the canvas in pixels.

    Returns
    -------
    dict
        ``ap`` and ``lateral`` uint8 (1, 1, S, S), ``present`` float32 (2,).

    Raises
    ------
    ValueError
        A canvas is not uint8 (S, S).
    """
    inputs: Tensors = {}
    for view in VIEWS:
        canvas = canvases.get(view)
        if canvas is None:
            canvas = np.zeros((side, side), np.uint8)
        elif canvas.shape != (side, side) or canvas.dtype != np.uint8:
            raise ValueError(f"expected a uint8 canvas ({side}, {side}), got {canvas.dtype} {canvas.shape}")
        inputs[view] = canvas[None, None]
    inputs["present"] = np.array([view in canvases for view in VIEWS], np.float32)
    return inputs


def hash_canvas(canvas: NDArray[np.uint8]) -> str:
    """Return the sha256 of a canvas uint8 (S, S), in hexadecimal: equal for equal decoded films, however they are stored."""
    return hashlib.sha256(canvas.tobytes()).hexdigest()


@contextmanager
def refusing(study: Study) -> Iterator[None]:
    """Turn whatever reading a row raises into an error that names its films: no film, however broken, may cost the other rows.

    Raises
    ------
    InputError
        In place of any error but MemoryError, which is the machine's fault and not the film's.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        films = " or ".join(str(film) for view in VIEWS if (film := study.film(view)) is not None)
        raise InputError(
            f"{films}: can't be read ({type(error).__name__}: {error})",
            "replace the film; where other programs open it, please report this with what the same command prints with --debug",
        ) from error


UNREADABLE_SHARE = 0.01
"""Share of the rows that may be left out because a film can't be read; one row always may."""


def stream_inputs(
    studies: Sequence[Study], side: int, description: str, unreadable: dict[Study, str] | None = None, done: Container[int] = ()
) -> Iterator[tuple[Study, Tensors, dict[View, Letterbox]]]:
    """Yield the input tensors of each row, in order, with a progress bar; films are decoded ahead in a few threads.

    Memory does not grow with the number of rows. At the end one warning on stderr counts the boxes that reach a little beyond their
    films (see `edgekit.studies.clip_box`).

    Parameters
    ----------
    studies
        The rows.
    side
        Side S of the canvas in pixels.
    description
        What the films are read for, shown beside the bar.
    unreadable
        Where rows that can't be read are noted, with the reason, and left out, so that the last film of thousands does not lose the
        others. None: such a row is an error. Rows that an earlier call noted there count.
    done
        Places in `studies` of the rows that need not be read, because an earlier call did.

    Yields
    ------
    study, inputs, letterboxes
        The row, its tensors (see `graph_inputs`) and where each of its films lies on its canvas.

    Raises
    ------
    InputError
        A film can't be read, or its box reaches beyond it; with `unreadable`, more than `UNREADABLE_SHARE` of the rows can't be read.
    """

    def read(study: Study) -> tuple[Study, Tensors, dict[View, Letterbox]]:
        made = {}
        with refusing(study):
            for view in VIEWS:
                if (film := study.film(view)) is not None:
                    made[view] = make_canvas(read_radiograph(film).pixels, side)
                    if fault := find_box_fault(film, study.box(view), made[view][1].width, made[view][1].height):
                        raise InputError(fault, "draw the box on this very file, or leave it empty")
        inputs = graph_inputs({view: canvas for view, (canvas, _) in made.items()}, side)
        return study, inputs, {view: letterbox for view, (_, letterbox) in made.items()}

    clipped = 0
    pool = ThreadPoolExecutor(THREADS)
    try:
        waiting = (study for place, study in enumerate(studies) if place not in done)
        ahead = deque(pool.submit(read, study) for study in islice(waiting, 2 * THREADS))
        for place, study in enumerate(track(studies, description)):
            if place in done:
                continue
            try:
                answer = ahead.popleft().result()
            except InputError as error:
                if unreadable is None:
                    raise
                unreadable[study] = error.message
                _refuse_many(unreadable, len(studies))
                continue
            finally:
                ahead.extend(pool.submit(read, study) for study in islice(waiting, 1))
            clipped += sum(is_clipped(study.box(view), at.width, at.height) for view, at in answer[2].items())
            yield answer
        for warning in warn_of_clipped(clipped):
            print(f"warning: {description}: {warning}", file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_many(unreadable: dict[Study, str], rows: int) -> None:
    """Raise when more rows can't be read than may be left out."""
    if len(unreadable) > max(1, UNREADABLE_SHARE * rows):
        raise InputError(
            f"{len(unreadable)} of {rows} rows can't be read, and not all were tried:\n  " + "\n  ".join(unreadable.values()),
            "replace these films, or say why in the column 'exclude' of their rows; edgekit studies check finds all of them",
        )
