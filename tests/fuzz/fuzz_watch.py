"""A case under watch: what goes wrong is named, and the file that did it is there even when the process is not any more."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fuzz_targets import Target

from edgekit.errors import EdgekitError

LIMIT_S = 5
"""Seconds of processor time that reading a small file may take."""
LIMIT_MB = 1000
"""MB by which the most resident memory may grow."""
_GUARD = 8 << 30
"""Bytes of address space that a process may take on top of what it begins with."""


class Hang(BaseException):
    """A case took longer than `LIMIT_S`; no reader may catch it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a case did wrong.

    Attributes
    ----------
    what
        In one line, the same for every case that ends in the same place.
    details
        Traceback, or more figures.
    """

    what: str
    details: str


class Watch:
    """Runs cases of one target in this process, one after the other.

    Parameters
    ----------
    target
        What reads them.
    work
        A folder: ``case/`` holds the file that is being read, ``count`` how many were begun, ``findings/`` one file for each fault and
        what is known of it in JSON.
    """

    def __init__(self, target: Target, work: Path) -> None:
        self.target, self.work, self.count = target, work, 0
        self.path = work / "case" / target.file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        target.prepare(self.path.parent)
        self._warm_up()
        self._known: set[str] = set()
        signal.signal(signal.SIGPROF, _raise_hang)

    def _warm_up(self) -> None:
        """Read the sound files, so that no case pays for what is imported."""
        for content in self.target.seeds().values():
            self.path.write_bytes(content)
            with suppress(EdgekitError):
                self.target.answer(self.path)

    def try_case(self, content: bytes) -> Finding | None:
        """Let the target read `content`; keep it where that goes wrong."""
        self.path.write_bytes(content)
        self.count += 1
        (self.work / "count").write_text(f"{self.count}\n")
        finding = self._run()
        if finding and finding.what not in self._known:
            self._known.add(finding.what)
            keep_finding(self.work, finding, content)
        return finding

    def _run(self) -> Finding | None:
        what, details = "", ""
        begin, least = time.process_time(), start_measuring_memory()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
            try:
                self.target.answer(self.path)
            except EdgekitError:
                pass
            except (Hang, Exception) as error:
                what, details = _describe(error), traceback.format_exc()
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        elapsed = time.process_time() - begin
        faults = [
            f"{type(each.message).__name__}: {each.message} ({Path(each.filename).name}:{each.lineno})"
            for each in said
            if issubclass(each.category, RuntimeWarning)
        ]
        grown = measure_memory() - least
        if not what and faults:
            what = faults[0]
        if elapsed > LIMIT_S and not what.startswith("Hang"):
            what = f"{elapsed:.0f} s of processor time"
        if grown > LIMIT_MB:
            what = f"more than {LIMIT_MB} MB of memory"
        return Finding(what, details) if what else None


def keep_finding(work: Path, finding: Finding, content: bytes) -> Path:
    """Write a case and what it did wrong into ``work/findings``."""
    folder = work / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", finding.what)[:100].strip("-")
    (folder / f"{name}.case").write_bytes(content)
    (folder / f"{name}.json").write_text(json.dumps({"what": finding.what, "details": finding.details}, indent=1))
    return folder / f"{name}.case"


def start_measuring_memory() -> float:
    """Return the resident memory of this process in MB, from which the most is counted; where the system can't, the most so far."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return measure_memory()


def measure_memory() -> float:
    """Return the most resident memory of this process so far, in MB.

    Linux's own count: `resource` begins with what the process was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def limit_memory() -> None:
    """Let allocations fail from `_GUARD` on, so that a fault does not take the machine with it."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _GUARD if sys.platform == "linux" else hard
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _describe(error: BaseException) -> str:
    """Return the error's kind, its words without numbers and names of files, and the last place in edgekit that it passed."""
    places = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/edgekit/" in frame.filename or "/fuzz_targets" in frame.filename
    ]
    place = f" ({Path(places[-1].filename).name}, {places[-1].name})" if places else ""
    words = str(error).partition("\n")[0][:80] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__}{': ' * bool(words)}{words}{place}"


def _raise_hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f"more than {LIMIT_S} s of processor time")
