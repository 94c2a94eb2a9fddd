"""One process a core, results as they come, and a clear word when one dies."""

from __future__ import annotations

import os
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from edgekit.cores import count_threads
from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_parallel(work: Callable[[Task], Result], tasks: Sequence[Task], remedy: str) -> Iterator[Result]:
    """Yield ``work(task)`` for every task, in the order in which they finish.

    Parameters
    ----------
    work
        A function of a module: workers are new processes that import it.
    tasks
        Small enough to send to a worker.
    remedy
        What helps when a worker runs out of memory, as the beginning of a sentence.

    Raises
    ------
    InputError
        A worker died.
    """
    workers = min(count_threads(), len(tasks))
    if workers <= 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)
    waiting = iter(tasks)
    try:
        running = {pool.submit(work, task) for task in islice(waiting, 2 * workers)}  # memory does not grow with the number of tasks
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, task) for task in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "A worker process died; the machine may have run out of memory.",
            f"{remedy}, or close other programs, and run the same command again: it continues where it stopped.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """In a worker: leave Ctrl+C to the parent, and end when it ends, however that comes about."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
