"""The verdict on a bundle as other processors reach it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.emulation.answers import CHUNK, Table, call_runner
from edgekit.emulation.machines import open_emulated, open_here
from edgekit.emulation.runtimes import find_runtime
from edgekit.errors import GateError
from edgekit.packs import write_chunks
from edgekit.parity import judge_recording
from edgekit.parity.comparison import compare_machines, read_gate
from edgekit.remembered import find_cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgekit.processors import Cpu
    from edgekit.types import Bundle, Parity, Study


@dataclass(frozen=True, slots=True)
class EmulatedCheck:
    """What became of a bundle on an emulated processor.

    Attributes
    ----------
    cpu
        As ``cpu`` of `edgekit.types.Parity`.
    session
        What the bundle's runner answered in.
    runtime
        Name and version of what ran.
    failure
        What the bundle's runner said when it refused: the golden vectors are missed there; empty when it did not.
    parity
        The verdict; None without films, or after a failure.
    """

    cpu: dict[str, Any]
    session: str
    runtime: str
    failure: str
    parity: Parity | None = None


def check_golden_on(bundle: Bundle, cpus: Sequence[Cpu]) -> Iterator[EmulatedCheck]:
    """Run the golden vectors on each of `cpus`.

    Raises
    ------
    MissingError
        This machine can't emulate one of them, or lacks the bundle's runtime.
    InputError
        The bundle has no runner, or none that answers on a CPU.
    """
    runtime = find_runtime(bundle)
    for cpu in cpus:
        with open_emulated(cpu, runtime.modules) as machine:
            failure = ""
            try:
                call_runner(bundle, machine)
            except GateError as error:
                failure = error.message
            yield EmulatedCheck(machine.cpu, runtime.session, f"{runtime.package} {machine.versions[runtime.package]}", failure)


def judge_on(bundle: Bundle, run: Path, studies: Sequence[Study], cpus: Sequence[Cpu]) -> Iterator[EmulatedCheck]:
    """Judge a bundle on each of `cpus` as `judge_recording` does, and against what the same file answers on this machine.

    Answers are kept in the user's cache until their processor's verdict stands; the same call goes on where it was stopped.

    Parameters
    ----------
    run
        The run folder named by the bundle's provenance.
    studies
        The patients to judge on.

    Raises
    ------
    MissingError
        This machine can't emulate one of them, or lacks the bundle's runtime; it says so before the first is judged.
    InputError
        A film can't be read, the bundle has no runner that answers on a CPU, or a statistical verdict is asked of patients of other brands
        only.
    GateError
        The bundle's runner refuses on this very machine.
    """
    gate, runtime = read_gate(bundle), find_runtime(bundle)
    with ExitStack() as stack:
        machines = [stack.enter_context(open_emulated(cpu, runtime.modules)) for cpu in cpus]
        here = open_here(runtime.modules)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        table = Table(bundle, *write_chunks(bundle, studies, folder, CHUNK), find_cache_folder() / "edgekit" / "emulation")
        native = table.answer(here)
        for machine in machines:
            try:
                answers = table.answer(machine)
            except GateError as error:
                ran = f"{runtime.package} {machine.versions[runtime.package]}"
                yield EmulatedCheck(machine.cpu, runtime.session, ran, error.message)
                continue
            changed, box_px = compare_machines(native, answers, studies, gate)
            parity = judge_recording(bundle, run, studies, answers)
            judged = replace(parity, changed_from_native=changed, max_box_difference_px=box_px)
            yield EmulatedCheck(machine.cpu, runtime.session, answers.runtime, "", judged)
            table.forget(machine)
        table.forget(here)
