"""Keep the C library from giving memory back to the kernel after every layer."""

from __future__ import annotations

import ctypes
import gc
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def keep_freed_memory() -> Iterator[Callable[[], None]]:
    """Within the block, have glibc reuse freed memory instead of returning it to the kernel after every layer.

    On a CPU a third of a training step goes to mapping the same pages again; see ``docs/performance.md``. Yields what returns all that
    is free at once: called after each epoch, it keeps fragments from piling up. Other C libraries have no such switch and need none.
    Values: ``mallopt(3)``.
    """
    if platform.libc_ver()[0] != "glibc":
        yield lambda: None
        return
    libc = ctypes.CDLL(None)

    def release() -> None:
        gc.collect()  # a trainer holds its networks in reference cycles
        libc.malloc_trim(0)

    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    for parameter, value in ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**28)):
        libc.mallopt(parameter, value)
    try:
        yield release
    finally:
        for parameter, value in ((m_mmap_max, 65536), (m_trim_threshold, 2**17), (m_top_pad, 0)):  # glibc's defaults
            libc.mallopt(parameter, value)
        release()
