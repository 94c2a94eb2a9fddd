"""One part in a process of its own: a GPU that fails, or a part that takes too long, costs no other.

.venv/bin/python benchmarks/gpu/part.py NAME PLAN.json RESULT.json
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from answer_parts import ask_runner, export_bundles, judge, measure_latency, run_marked_tests
from plan import BUNDLES, read_plan
from training_parts import kill_and_resume, make_films, train_demo, train_in_two_processes, train_kept_members, train_on_cpu

from edgekit.errors import EdgekitError, InputError, MissingError
from edgekit.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plan import Plan

SESSIONS = ("torch", *BUNDLES)

PARTS: dict[str, Callable[[Plan], Iterator[tuple[str, Any]]]] = {
    "films": make_films,
    "training": train_demo,
    "resumption": kill_and_resume,
    "members": train_kept_members,
    "processes": train_in_two_processes,
    "bundles": export_bundles,
    **{f"judge {session}": partial(judge, session=session) for session in SESSIONS},
    "runner": ask_runner,
    "latency": partial(measure_latency, sessions=SESSIONS),
    "tests": run_marked_tests,
    "cpu": train_on_cpu,
}


def run_part(name: str, plan: Plan, result: Path) -> None:
    """Run a part and keep what it found, after each thing that it found.

    ``status`` is ``begun`` until the end, then ``done``, ``not proven`` (something is missing here) or ``failed``, the last two with
    ``reason``.
    """
    found: dict[str, Any] = {}
    document: dict[str, Any] = {"status": "begun", "found": found}
    try:
        for key, value in PARTS[name](plan):
            found[key] = value
            write_json(result, document)
        document["status"] = "done"
    except (MissingError, InputError) as error:
        document |= {"status": "not proven", "reason": error.message}
    except ImportError as error:
        document |= {"status": "not proven", "reason": f"{error.name or error} does not load: {error}"}
    except EdgekitError as error:
        document |= {"status": "failed", "reason": error.message}
    except Exception as error:  # whatever a runtime raises stands in the record
        traceback.print_exc()
        document |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    write_json(result, document)


if __name__ == "__main__":
    run_part(sys.argv[1], read_plan(Path(sys.argv[2])), Path(sys.argv[3]))
