"""Small files that announce or unpack to too much: refused by the right reason, and before the memory is spent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOMBS = Path(__file__).with_name("bombs.py")
LIMIT_MB = {"png-largest": 600}
"""By name; 300 for what is refused."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured through /proc: run it on Linux")
def test_bombs_are_refused_before_they_burst(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(BOMBS), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {found[-1:]}: {done.stderr[-2000:]}"  # -14: longer than five seconds
    assert len(found) > 20
    assert {name: reason for name, _, reason, _, _ in found} == {name: expected for name, expected, *_ in found}
    assert [(name, megabytes) for name, _, _, megabytes, _ in found if megabytes > LIMIT_MB.get(name, 300)] == []
