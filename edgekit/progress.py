"""Progress on long work: one bar with the time left, on stderr, so that stdout stays a result."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sized

Item = TypeVar("Item")


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar; call what it yields once for each step done.

    Off a terminal (CI, pipes) one line is printed at the end instead. Where stderr isn't UTF-8, the bar is ASCII.

    Parameters
    ----------
    description
        What is being done, as the user would say it.
    total
        Number of steps.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yield `items` while a bar shows how many are done.

    Parameters
    ----------
    items
        What is worked on.
    description
        What is being done, as the user would say it.
    total
        Number of items where ``len(items)`` does not tell.
    """
    sized: Sized = items  # type: ignore[assignment]
    with progress_bar(description, len(sized) if total is None else total) as advance:
        for item in items:
            yield item
            advance()
