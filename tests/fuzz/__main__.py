"""A long run: every reader, guided by what code a case reaches, each in a process of its own that is started again when a case kills it.

    nice .venv/bin/python tests/fuzz --cases 200000 --out benchmarks/results/fuzz.json

Cases and seconds are added to those of the record, and so are new faults: `mended` says what was done about one, and is written by hand.
A case that goes wrong is kept in ``build/fuzz/<target>/findings``, what reaches new code in ``corpus`` beside it, for the next run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fuzz_targets import TARGETS
from fuzz_watch import Finding, keep_finding

from edgekit.files import write_json
from edgekit.latency import describe_device
from edgekit.provenance import describe_software

CHILD = Path(__file__).with_name("fuzz_child.py")
WORK = Path(__file__).parents[2] / "build" / "fuzz"
SILENCE_S = 120
"""Seconds without a new case after which a process is stuck in code that no signal of Python interrupts."""


def main() -> None:
    """Fuzz, and write the record after each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, required=True, help="of all targets together")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many, however many cases there were")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--out", type=Path, default=WORK / "fuzz.json", help="the record that is added to")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    shares = {name: TARGETS[name].share for name in arguments.target}
    for name in arguments.target:
        wanted = round(arguments.cases * shares[name] / sum(shares.values()))
        begin = time.monotonic()
        cases = run_target(name, wanted, end)
        add_to_record(arguments.out, name, cases, time.monotonic() - begin)
        print(f"{name}: {cases} cases in {time.monotonic() - begin:.0f} s", flush=True)


def run_target(name: str, wanted: int, end: float) -> int:
    """Run `wanted` cases of one target, or fewer when time is up; return how many were run."""
    work, done = WORK / name, 0
    work.mkdir(parents=True, exist_ok=True)
    while done < wanted and time.monotonic() < end:
        seed = int(time.time())
        command = [sys.executable, str(CHILD), name, str(work), "--cases", str(wanted - done), "--explore", str(seed)]
        (work / "count").write_text("0")
        with (work / "log").open("w") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log)
            is_stuck = _wait(child, work / "count", end)
        count = _read_count(work / "count")
        done += count
        if is_stuck or child.returncode < 0 or (child.returncode and count):
            fault = "Hang: no answer" if is_stuck else f"the process ended with code {child.returncode}"
            case = work / "case" / TARGETS[name].file
            if time.monotonic() < end:
                print(
                    f"{name}: {fault}: {keep_finding(work, Finding(fault, (work / 'log').read_text()[-4000:]), case.read_bytes())}",
                    flush=True,
                )
        elif child.returncode:
            raise RuntimeError(f"{work / 'log'} says why nothing could be fuzzed")
    return done


def _wait(child: subprocess.Popen[bytes], counter: Path, end: float) -> bool:
    """Wait for the process to end; end it when it is stuck, or when time is up. Return whether it was stuck."""
    count, since = -1, time.monotonic()
    while True:
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            now = _read_count(counter)
            if now != count:
                count, since = now, time.monotonic()
            is_stuck = time.monotonic() - since > SILENCE_S
            if is_stuck or time.monotonic() > end:
                child.kill()
                child.wait()
                return is_stuck
        else:
            return False


def _read_count(counter: Path) -> int:
    return int(counter.read_text().split("\n")[0] or 0)


def add_to_record(path: Path, name: str, cases: int, seconds: float) -> None:
    """Add the cases of one target to the record, and the faults that it does not hold yet."""
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cases": {}, "seconds": {}, "findings": []}
    record["cases"][name] = record["cases"].get(name, 0) + cases
    record["seconds"][name] = round(record["seconds"].get(name, 0) + seconds, 1)
    known = {(each["target"], each["what"]) for each in record["findings"]}
    for finding in sorted((WORK / name / "findings").glob("*.json")):
        what = json.loads(finding.read_text())["what"]
        if (name, what) not in known:
            record["findings"].append({"target": name, "what": what, "mended": ""})
    counted = {"total": sum(record["cases"].values()), **{key: record[key] for key in ("cases", "seconds", "findings")}}
    write_json(path, {**describe_software(), "device": describe_device(), **counted})


if __name__ == "__main__":
    main()
