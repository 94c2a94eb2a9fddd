"""Films become the graph's input tensors, one patient or a stream of them."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgekit.contract import PRESENT
from edgekit.cores import count_threads
from edgekit.errors import InputError
from edgekit.progress import track
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.studies import find_box_fault, is_clipped, warn_of_clipped

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edgekit.radiograph import Letterbox
    from edgekit.task import View
    from edgekit.types import Study, Tensors

Result = TypeVar("Result")
"""What is made of the films of a row."""

THREADS = min(4, count_threads())
"""Decoders at work ahead of the consumer; twice as many patients are held at most."""


def graph_inputs(canvases: Mapping[View, NDArray[np.uint8]], views: Sequence[View], side: int) -> Tensors:
    """Return the tensors of one patient; a film that is not there is zeros and not present.

    Parameters
    ----------
    canvases
        uint8 (S, S) canvas of each film given.
    views
        The task's V views, in order.
    side
        Side S of the canvas in pixels.

    Returns
    -------
    dict
        A uint8 (1, 1, S, S) canvas by view, and ``present`` float32 (V,).

    Raises
    ------
    ValueError
        A canvas is not uint8 (S, S).
    """
    inputs: Tensors = {}
    for view in views:
        canvas = canvases.get(view)
        if canvas is None:
            canvas = np.zeros((side, side), np.uint8)
        elif canvas.shape != (side, side) or canvas.dtype != np.uint8:
            raise ValueError(f"expected a uint8 canvas ({side}, {side}), got {canvas.dtype} {canvas.shape}")
        inputs[view] = canvas[None, None]
    inputs[PRESENT] = np.array([view in canvases for view in views], np.float32)
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
        films = " or ".join(str(film) for film in study.given.values())
        raise InputError(
            f"{films}: can't be read ({type(error).__name__}: {error})",
            "replace the film; where other programs open it, please report this with what the same command prints with --debug",
        ) from error


def read_ahead(
    studies: Sequence[Study], read: Callable[[Study], Result], description: str, done: Container[int] = ()
) -> Iterator[tuple[int, Result | InputError]]:
    """Read row by row, in order, with a progress bar, a few rows ahead of the consumer in a few threads.

    Memory does not grow with the number of rows.

    Parameters
    ----------
    studies
        The rows.
    read
        Decodes the films of one row; whatever it raises is turned into an error that names them (`refusing`).
    description
        What the films are read for, shown beside the bar.
    done
        Places in `studies` of the rows that need not be read.

    Yields
    ------
    place, result
        Place in `studies`, and what `read` made of that row; the error in its place where its films can't be read.
    """

    def attempt(study: Study) -> Result | InputError:
        try:
            with refusing(study):
                return read(study)
        except InputError as error:
            return error

    pool = ThreadPoolExecutor(THREADS)
    try:
        waiting = (study for place, study in enumerate(studies) if place not in done)
        ahead = deque(pool.submit(attempt, study) for study in islice(waiting, 2 * THREADS))
        for place, _ in enumerate(track(studies, description)):
            if place in done:
                continue
            result = ahead.popleft().result()
            ahead.extend(pool.submit(attempt, study) for study in islice(waiting, 1))
            yield place, result
    finally:
        pool.shutdown(cancel_futures=True)


UNREADABLE_SHARE = 0.01
"""Share of the rows that may be left out because a film can't be read; one row always may."""


def stream_inputs(
    studies: Sequence[Study],
    views: Sequence[View],
    side: int,
    description: str,
    unreadable: dict[Study, str] | None = None,
    done: Container[int] = (),
) -> Iterator[tuple[Study, Tensors, dict[View, Letterbox]]]:
    """Yield the input tensors of each row, in order, with a progress bar; films are decoded ahead in a few threads.

    Memory does not grow with the number of rows. At the end one warning on stderr counts the boxes that reach a little beyond their
    films (see `edgekit.studies.clip_box`).

    Parameters
    ----------
    studies
        The rows.
    views
        The task's views, in order. Films of other views are not read.
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
        for view in views:
            if (film := study.film(view)) is not None:
                made[view] = make_canvas(read_radiograph(film).pixels, side)
                if fault := find_box_fault(film, study.box(view), made[view][1].width, made[view][1].height):
                    raise InputError(fault, "draw the box on this very file, or leave it empty")
        inputs = graph_inputs({view: canvas for view, (canvas, _) in made.items()}, views, side)
        return study, inputs, {view: letterbox for view, (_, letterbox) in made.items()}

    clipped = 0
    for place, answer in read_ahead(studies, read, description, done):
        study = studies[place]
        if isinstance(answer, InputError):
            if unreadable is None:
                raise answer
            unreadable[study] = answer.message
            _refuse_many(unreadable, len(studies))
            continue
        clipped += sum(is_clipped(study.box(view), at.width, at.height) for view, at in answer[2].items())
        yield answer
    for warning in warn_of_clipped(clipped):
        print(f"warning: {description}: {warning}", file=sys.stderr)


def _refuse_many(unreadable: dict[Study, str], rows: int) -> None:
    """Raise when more rows can't be read than may be left out."""
    if len(unreadable) > max(1, UNREADABLE_SHARE * rows):
        raise InputError(
            f"{len(unreadable)} of {rows} rows can't be read, and not all were tried:\n  " + "\n  ".join(unreadable.values()),
            "replace these films, or say why in the column 'exclude' of their rows; edgekit studies check finds all of them",
        )
