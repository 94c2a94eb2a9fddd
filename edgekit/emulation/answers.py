"""What machines answer for a table of films: in chunks, each kept until the verdict stands, so that a broken command goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.cores import count_threads
from edgekit.emulation.machines import THREADS, say_last
from edgekit.errors import GateError, InputError
from edgekit.packs import read_outputs
from edgekit.parity.recording import join_recordings
from edgekit.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgekit.emulation.machines import Machine
    from edgekit.packs import Chunk
    from edgekit.parity.recording import Recording
    from edgekit.types import Bundle

RUNNER = "runner/run.py"

CHUNK = 16
"""Rows of a process: emulated, one or two minutes' work. Each runs the golden vectors first."""


@dataclass(frozen=True, slots=True)
class Table:
    """The canvases of a table, packed.

    Attributes
    ----------
    chunks
        Packs of consecutive rows.
    pack
        Identity of all of them.
    kept
        Folder where answers are kept from one command to the next.
    """

    bundle: Bundle
    chunks: Sequence[Chunk]
    pack: str
    kept: Path

    def answer(self, machine: Machine) -> Recording:
        """Let the bundle's runner answer every chunk on `machine`, as many at a time as there are cores.

        Raises
        ------
        GateError
            The runner refused, or broke off.
        InputError
            What it wrote is no answer to the pack.
        """
        pool = ThreadPoolExecutor(count_threads())
        try:
            waiting = [pool.submit(self._answer_chunk, machine, chunk) for chunk in self.chunks]
            with progress_bar(f"Answering as {machine.label}", sum(chunk.rows for chunk in self.chunks)) as advance:
                parts = []
                for chunk, answer in zip(self.chunks, waiting, strict=True):
                    parts.append(answer.result())
                    for _ in range(chunk.rows):
                        advance()
        finally:
            pool.shutdown(cancel_futures=True)
        return replace(join_recordings(parts, self.pack), cpu=machine.cpu)

    def forget(self, machine: Machine) -> None:
        """Delete what was kept of `machine`: the verdict stands."""
        for chunk in self.chunks:
            shutil.rmtree(self._place(machine, chunk), ignore_errors=True)

    def _answer_chunk(self, machine: Machine, chunk: Chunk) -> Recording:
        place = self._place(machine, chunk)
        try:
            return self._read(place, chunk)
        except InputError:  # nothing is kept, or it is damaged
            call_runner(self.bundle, machine, "--pack", chunk.path, "--out", place)
        return self._read(place, chunk)

    def _read(self, place: Path, chunk: Chunk) -> Recording:
        answers = read_outputs(place / "outputs.npz", self.bundle, chunk.rows)
        if answers.pack != chunk.pack:
            raise InputError(f"{place} answers another pack than {chunk.pack[:12]}", "delete the folder, and give the command again")
        return answers

    def _place(self, machine: Machine, chunk: Chunk) -> Path:
        """Return the folder of a chunk's answers, named by all that decides them."""
        manifest = self.bundle.manifest
        document = [manifest.model_sha256, manifest.files, dict(machine.cpu), dict(machine.versions), chunk.pack]
        return self.kept / hashlib.sha256(json.dumps(document).encode()).hexdigest()


def call_runner(bundle: Bundle, machine: Machine, *words: str | Path) -> None:
    """Run the bundle's own runner, which checks the golden vectors first.

    Raises
    ------
    InputError
        The bundle has none.
    GateError
        It refused, or broke off.
    """
    if RUNNER not in bundle.manifest.files:
        raise InputError(f"{bundle.folder} has no {RUNNER}, which answers on another processor", "export the bundle again")
    ended = machine.run(bundle.folder / RUNNER, "--no-timing", "--threads", str(THREADS), *words)
    if ended.returncode:
        raise GateError(f"{machine.label}: {say_last(ended).removeprefix('error: ')}")
