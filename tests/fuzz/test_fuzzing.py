"""3,000 broken files, always the same: no reader may crash, hang, fill the memory, or raise what is not edgekit's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from film_elements import parse_film
from film_seeds import seed_dicom
from fuzz_targets import TARGETS, Target, make_case
from fuzz_watch import Watch

unix = pytest.mark.skipif(sys.platform == "win32", reason="watched by signals: run it on Linux or macOS")
CHILD = Path(__file__).with_name("fuzz_child.py")


def test_the_targets_share_three_thousand_cases() -> None:
    assert sum(target.tested for target in TARGETS.values()) == 3000
    assert sum(target.share for target in TARGETS.values()) == pytest.approx(1)


@unix
@pytest.mark.parametrize("name", TARGETS)
def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    cases = TARGETS[name].tested
    command = [sys.executable, str(CHILD), name, str(tmp_path), "--cases", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    count = int((tmp_path / "count").read_text()) if (tmp_path / "count").exists() else 0
    assert done.returncode == 0, (
        f"case {count} ({tmp_path / 'case' / TARGETS[name].file}), code {done.returncode}:\n{done.stdout}{done.stderr[-3000:]}"
    )
    assert count >= cases


def test_sound_films_read_back_as_they_were_written() -> None:
    for name, content in seed_dicom().items():
        assert parse_film(content).to_bytes() == content, name


@pytest.mark.parametrize("name", ["dicom", "png", "jpeg"])
def test_many_broken_films_are_still_films(name: str, tmp_path: Path) -> None:
    """Files that are refused at the first byte would try nothing."""
    from edgekit.errors import FilmError
    from edgekit.radiograph import read_radiograph

    seeds, random, reasons = TARGETS[name].seeds(), Random(1), []
    for _ in range(150):
        content = make_case(seeds, TARGETS[name].mutation, random.choice(sorted(seeds)), [random.getrandbits(64)])
        (tmp_path / "film").write_bytes(content)
        try:
            read_radiograph(tmp_path / "film")
            reasons.append("read")
        except FilmError as error:
            reasons.append(error.reason)
    assert reasons.count("read") > 30, reasons
    assert reasons.count("unknown") < 15, reasons
    assert len(set(reasons)) >= 3, reasons


FAULTS = {
    "raises": ("raise KeyError('x')", "KeyError"),
    "hangs": ("while True: pass", "Hang"),
    "hangs, and catches everything": ("while True:\n  try:\n    while True: pass\n  except Exception: pass", "Hang"),
    "fills the memory": ("filled = b'x' * 200_000_000", "MB of memory"),
    "overflows": ("import numpy; numpy.full(1, 1e308) * 10", "RuntimeWarning"),
    "dies": ("import os; os.abort()", "code -6"),
}


@unix
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, tmp_path: Path) -> None:
    code, expected = FAULTS[fault]
    script = f"""
import sys
sys.path.insert(0, {str(CHILD.parent)!r})
import fuzz_targets, fuzz_child

def answer(path):
    if path.read_bytes() != b"sound":
        exec({code!r}, {{}})

target = fuzz_targets.Target("file", lambda: {{"sound": b"sound"}}, lambda content, random: content + b"!", answer, 0, 0)
fuzz_targets.TARGETS["faulty"] = target
fuzz_watch = __import__("fuzz_watch")
fuzz_watch.LIMIT_S, fuzz_watch.LIMIT_MB = 1, 100
sys.exit(fuzz_child.check("faulty", __import__("pathlib").Path({str(tmp_path)!r}), 3))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert expected in f"{done.stdout}\ncode {done.returncode}", done.stderr
    assert (tmp_path / "case" / "file").read_bytes().startswith(b"sound!")  # what did it is there, even when the process isn't


@unix
def test_a_fault_is_kept_once(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        if path.read_bytes() != b"sound":
            raise ValueError(path.read_bytes())

    watch = Watch(Target("file", lambda: {"sound": b"sound"}, lambda content, _: content, fail, 0, 0), tmp_path)
    assert watch.try_case(b"sound") is None
    assert watch.try_case(b"first").what == watch.try_case(b"second").what  # type: ignore[union-attr]
    assert [path.read_bytes() for path in (tmp_path / "findings").glob("*.case")] == [b"first"]
