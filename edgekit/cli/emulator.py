"""``edgekit emulator``: what emulating other processors needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import console

app = typer.Typer(help="Lay out what other processors are emulated with.", no_args_is_help=True)


@app.callback()
def emulator() -> None:
    """Lay out what other processors are emulated with."""


@app.command()
def arm64(
    out: Annotated[Path | None, typer.Option("--out", help="The folder. Default: one in your cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the folder, and the versions in it.")] = False,
) -> None:
    """Download an interpreter and the packages that run bundles as 64-bit ARM processors: 70 MB, no root needed; Debian and Ubuntu.

    A call that was interrupted goes on; one that finds everything changes nothing.

    Example: edgekit emulator arm64
    """
    from edgekit.emulation.arm64 import VARIABLE, default_folder, lay_out_arm64
    from edgekit.emulation.machines import open_emulated
    from edgekit.emulation.runtimes import list_runtimes
    from edgekit.processors import CPUS

    console.when_interrupted("What is done is kept: the same command goes on.")
    folder = (out or default_folder()).absolute()
    versions = lay_out_arm64(folder)
    runtimes = list_runtimes()
    modules = {name: package for runtime in runtimes for name, package in runtime.modules.items()}
    with open_emulated(CPUS["neon"], modules, folder) as machine:
        found = machine.versions
    if json:
        console.print_json({"folder": str(folder), "versions": versions, "emulator": found["emulator"]})
        return
    for runtime in runtimes:
        console.say(f"{folder}: {runtime.package} {found[runtime.package]} runs on an emulated {CPUS['neon'].model} ({found['emulator']})")
    if folder != default_folder().absolute():
        console.say(f"so that it is found: export {VARIABLE}={folder}")
