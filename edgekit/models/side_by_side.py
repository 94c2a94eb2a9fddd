"""Several patients at a time, each in one thread: on two cores one and a half times as fast as every core on one patient after another.

A thread that another program delays then delays one patient, not every operator of all of them (``docs/performance.md``).
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from edgekit.cores import count_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Row = TypeVar("Row")
Answer = TypeVar("Answer")


def answer_side_by_side(answer: Callable[[Row], Answer], rows: Iterable[Row]) -> Iterator[tuple[Row, Answer]]:
    """Yield each row with ``answer(row)``, in order; at most two rows a thread are held.

    The answers are those of torch with one thread, however many cores there are.

    Parameters
    ----------
    answer
        Asks a torch module in eval mode, without gradients.
    rows
        Read in the calling thread. Where that fails, the answers to the rows before come first.
    """
    import torch

    def ask(row: Row) -> Answer:
        with torch.inference_mode():  # of a thread, not of the process
            return answer(row)

    before, threads = torch.get_num_threads(), count_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Row, Future[Answer]]] = deque()
    failure: Exception | None = None
    try:
        reading = iter(rows)
        while True:
            try:
                row = next(reading)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append((row, pool.submit(ask, row)))
            if len(waiting) == 2 * threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
    if failure is not None:
        raise failure
