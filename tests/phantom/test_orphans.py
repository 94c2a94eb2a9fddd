from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

SCRIPT = """
import os, pathlib, sys, time
from edgekit.phantom import parallel

def work(task):
    (pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    parallel.count_threads = lambda: 2
    list(parallel.run_parallel(work, [1, 2], "Use fewer films"))
"""


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def is_running(process: int) -> bool:
    """A worker whose parent is gone may stay a zombie where nobody collects it, as in some containers."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_workers_end_with_the_process_that_started_them(tmp_path: Path, how: str) -> None:
    script, begun = tmp_path / "script.py", tmp_path / "begun"
    script.write_text(SCRIPT)
    begun.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(begun)])
    try:
        assert wait_until(lambda: len(list(begun.iterdir())) == 2, 60)
        workers = [int(path.name) for path in begun.iterdir()]
        assert all(map(is_running, workers))
        parent.send_signal(getattr(signal, how))
        parent.wait(10)
        assert wait_until(lambda: not any(map(is_running, workers)), 10)
    finally:
        parent.kill()
