"""``edgekit doctor``: what this machine can do."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit import cores
from edgekit.cli import console
from edgekit.errors import MissingError


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Tell which targets this machine can convert and run, what is missing, and how to get it.

    Example: edgekit doctor
    """
    from edgekit import doctor as probe

    found = probe.examine()
    if json:
        console.print_json(found)
    machine = found["machine"]
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no NVIDIA GPU"
    memory = f"{machine['memory_gb']} GB" if machine["memory_gb"] else "unknown memory"
    console.say(f"edgekit {found['edgekit']}, Python {found['python']}, {found['platform']}")
    console.say(f"{machine['cores']} cores, {memory}, {gpus}")
    waiting = "sleep" if cores.is_sharing() else "spin"
    console.say(f"edgekit computes with {machine['threads']} threads ({cores.NUMBER}), which {waiting} while they wait ({cores.POLICY})\n")

    packages = [
        (
            package["name"],
            package["extra"] or "base",
            package["required"],
            package["installed"] or "-",
            "ok" if package["usable"] else "missing",
        )
        for package in found["packages"]
    ]
    console.print_table("Packages", ("package", "extra", "accepted", "installed", "state"), packages)
    console.say("")

    verbs = [("train", found["train"]["missing"])]
    verbs += [(f"convert for {target['name']}", target["missing"]) for target in found["targets"]]
    verbs += [(f"run in {session['name']}", session["missing"]) for session in found["sessions"]]
    verbs += [(f"judge as {cpu['name']} answers", cpu["missing"]) for cpu in found["emulation"]]
    answers = [(verb, f"no, missing: {', '.join(missing)}" if missing else "yes") for verb, missing in verbs]
    console.print_table("What this machine can do", ("task", "possible"), answers)
    for line in found["advice"]:
        console.say(f"To get what is missing: {line}")

    if any(not package["usable"] for package in found["packages"] if not package["extra"]):
        raise MissingError("The base installation of edgekit is incomplete.", found["advice"][0])
