"""The day a GPU is at hand: all that is written for CUDA and has never run, in one command of `MINUTES` and without a network.

    make gpu
    .venv/bin/python benchmarks/gpu --device cuda --out benchmarks/results/gpu.json
    .venv/bin/python benchmarks/gpu --device cuda --only films --minutes 60      # beforehand: a GPU is not needed for it

Every part runs in a process of its own with a budget of time, and stands in the record as soon as it ends: what it found, or why it is not
proven. The same call goes on: parts that are done stay, the others are tried again. A record of another commit, machine or size is begun
anew, and so are its runs; films stay.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from machine import describe_gpus
from part import PARTS
from plan import BUDGETS_S, BUNDLES, MINUTES, SIZES, Plan, describe_plan

from edgekit.errors import EdgekitError
from edgekit.files import write_json
from edgekit.latency import describe_device
from edgekit.provenance import describe_software
from edgekit.training.devices import choose_device

REPOSITORY = Path(__file__).parents[2]
IDENTITY = ("commit", "device", "gpus", "packages", "settings")
"""What a record that is gone on with must have in common with this call."""
GRACE_S = 3.0
"""Seconds between the two ways to end a part."""


def main() -> None:
    """Run the parts and write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--patients", type=int, help="to judge on (1500, or 7 at the smallest size)")
    parser.add_argument("--run", type=Path, help="a finished run to judge instead of the one that is trained here")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together; each has its share")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "gpu", help="films, runs and bundles")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "gpu" / "gpu.json", help="the record")
    arguments = parser.parse_args()
    run = arguments.run and arguments.run.resolve()
    plan = Plan(arguments.device, arguments.size, arguments.patients or SIZES[arguments.size].patients, arguments.work.resolve(), run)
    try:
        if arguments.only != ["films"]:
            choose_device(plan.device)
        record = begin_record(plan, arguments.out)
    except EdgekitError as error:
        raise SystemExit(f"{error.message}\n{error.remedy}") from None
    for name in PARTS:
        earlier = record["parts"].get(name, {"status": "", "found": {}})
        if name in arguments.only and earlier["status"] != "done":
            part = run_in_budget(name, plan, BUDGETS_S[name] * arguments.minutes / MINUTES)
            record["parts"][name] = {**part, "found": {**earlier["found"], **part["found"]}}
            record["unproven"] = list_unproven(record)
            write_json(arguments.out, record)
            print(describe_part(name, record["parts"][name]), flush=True)
    print("\n".join(["", "Not proven:", *record["unproven"]]))


def begin_record(plan: Plan, out: Path) -> dict[str, Any]:
    """Return the record to go on with, or a new one; with a new one the runs and bundles of the last begin anew too."""
    from edgekit.models.runfolder import run_hash

    facts = {"device": describe_device(), **describe_gpus(BUNDLES)}
    run = plan.run and {"name": plan.run.name, "sha256": run_hash(plan.run)}
    settings = {"device": plan.device, "size": plan.size, "patients": plan.patients, "run": run}
    fresh: dict[str, Any] = {**describe_software(), **facts, "settings": settings, "parts": {}, "unproven": []}
    if out.is_file():
        kept: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if all(kept.get(name) == fresh[name] for name in IDENTITY):
            return kept
    for name in ("runs", "bundles", "runner"):
        shutil.rmtree(plan.work / name, ignore_errors=True)
    (plan.work / "runs").mkdir(parents=True)
    return fresh


def run_in_budget(name: str, plan: Plan, budget_s: float) -> dict[str, Any]:
    """Run a part in a process of its own, ended with all that it started when its time is over; return its entry in the record."""
    folder = plan.work / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    given, result, log = (folder / f"{name}.{kind}" for kind in ("plan", "json", "log"))
    result.unlink(missing_ok=True)
    write_json(given, describe_plan(plan))
    start = time.monotonic()
    command = [sys.executable, str(Path(__file__).with_name("part.py")), name, str(given), str(result)]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process:
        try:
            process.wait(budget_s)
            over = False
        except subprocess.TimeoutExpired:
            over = True
        finally:  # an interruption of this process ends the part too
            if process.poll() is None:
                end_group(process.pid)
    document = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {"status": "begun", "found": {}}
    if document["status"] == "begun":
        reason = f"not finished within {budget_s:.0f} s" if over else f"its process ended with code {process.returncode}: {read_end(log)}"
        document |= {"status": "not proven" if over else "failed", "reason": reason}
    document |= {"seconds": round(time.monotonic() - start, 1), "budget_s": round(budget_s, 1)}
    told = json.dumps(document)
    for path, short in ((plan.work, "WORK"), (REPOSITORY, "."), (Path.home(), "~")):  # a record tells of no folder of its machine
        told = told.replace(json.dumps(str(path))[1:-1], short)
    cleaned: dict[str, Any] = json.loads(told)
    return cleaned


def end_group(leader: int) -> None:
    """End a part and all that it started, politely first: torch's launcher has its processes outside the group and ends them itself."""
    for kind, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 0.0)):
        with suppress(ProcessLookupError):
            os.killpg(leader, kind)
            time.sleep(seconds)


def read_end(log: Path) -> str:
    """Return the last line of a part's output."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def list_unproven(record: dict[str, Any]) -> list[str]:
    """Return in sentences what stayed unproven: missing packages, parts that did not end, and what they left out."""
    sentences = [f"session {name}: missing here: {', '.join(missing)}" for name, missing in record["missing"].items()]
    for name, part in record["parts"].items():
        if part["status"] != "done":
            sentences.append(f"{name}: {part['status']}: {part['reason']}")
        sentences += [f"{name}: {key}: {value}" for key, value in find_gaps(part["found"])]
    return sentences


def find_gaps(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a part left unproven, with its place: every ``not proven`` in what it found."""
    gaps = []
    for key, value in found.items():
        if isinstance(value, dict):
            gaps += [(key, value["not proven"])] if "not proven" in value else [(f"{key}, {at}", why) for at, why in find_gaps(value)]
    return gaps


def describe_part(name: str, part: dict[str, Any]) -> str:
    """Return one line for the terminal."""
    return f"{name:24} {part['status']:10} {part['seconds']:6.1f} of {part['budget_s']:.0f} s  {part.get('reason', '')}".rstrip()


if __name__ == "__main__":
    main()
