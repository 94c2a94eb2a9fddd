"""What a session says of itself, once and in its own module: nobody else keeps a list of sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """A session's declarations.

    Attributes
    ----------
    extras
        Install extras that it needs beyond the base.
    takes_threads
        Whether its number of threads can be chosen when it is opened.
    stands_in_for
        The device that it computes like when answers are judged: its own speed is nobody's, so it is measured only if it is asked for.
        None: it is a way to answer.
    interprets
        Whether it evaluates the file's operators itself, in place of the device's runtime: reports say *interpreted*.
    by_processor
        Whether it chooses its 8-bit kernels by the processor's instructions: only then its PASS says something of a processor
        (`edgekit.proven`).
    in_process
        Whether it answers in the process that opens it: only then that process's memory is its own.
    only_for
        Precisions of which a stage must have one: there is nothing to open otherwise. Empty: any file.
    baseline_of
        The session whose 8 bits it computes in float: what they are to be faster than.
    notes
        Sentences beside each of its measured times.
    runner_imports
        Modules that a bundle's own runner imports to answer in it, beside numpy and Pillow, and the package that brings each, the runtime's
        first. Emulated processors are given these (`edgekit.emulation`). Empty: no runner answers in it on a CPU.
    list_missing
        Returns what this machine lacks beside packages, in words; it imports nothing heavy and opens nothing.
    """

    extras: tuple[str, ...]
    takes_threads: bool
    stands_in_for: str | None = None
    interprets: bool = False
    by_processor: bool = False
    in_process: bool = True
    only_for: tuple[str, ...] = ()
    baseline_of: str | None = None
    notes: tuple[str, ...] = ()
    runner_imports: Mapping[str, str] = field(default_factory=dict)
    list_missing: Callable[[], list[str]] = list

    def opens(self, stages: dict[str, str]) -> bool:
        """Tell whether a file with these precisions, by stage, is one for it."""
        return not self.only_for or bool(set(self.only_for) & set(stages.values()))
