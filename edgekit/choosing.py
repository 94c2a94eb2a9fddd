"""Which variant of a target to export: the first of its recipe that passes."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundle import RefusedError, export_bundle
from edgekit.errors import CalibrationError, GateError
from edgekit.targets import list_variants, load_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Bundle, Target


@dataclass(frozen=True, slots=True)
class Attempt:
    """A variant that was tried and left.

    Attributes
    ----------
    variant
        As it is typed, such as ``web:w8a8``.
    reason
        Why it was left.
    seconds
        What making and judging it took.
    size_mb, p50_ms, foreseen
        See `edgekit.bundle.RefusedError`; None where no model was made.
    """

    variant: str
    reason: str
    seconds: float
    size_mb: float | None = None
    p50_ms: float | None = None
    foreseen: float | None = None

    def describe(self) -> str:
        """Return one line for people."""
        return f"{self.variant} was left after {self.seconds / 60:.1f} min: {self.reason}"


def export_first(run: Path, name: str, out: Path, recipe: Path | None, studies: Path | None) -> tuple[Bundle, tuple[Attempt, ...]]:
    """Export the first variant of a target that passes within its budgets, and that the run's calibration patients do for.

    Parameters
    ----------
    run, out, studies
        See `edgekit.bundle.export_bundle`.
    name
        The target.
    recipe
        A recipe to use instead of the target's own.

    Returns
    -------
    The bundle, and the variants before it.

    Raises
    ------
    GateError
        None passes: the message tells of each, the fewest foreseen changes first.
    """
    left: list[Attempt] = []
    for precision in list_variants(name, recipe):
        start = time.monotonic()
        try:
            return export_bundle(run, load_target(f"{name}:{precision}", recipe), out, studies), tuple(left)
        except (GateError, CalibrationError) as error:
            known = (error.size_mb, error.p50_ms, error.foreseen) if isinstance(error, RefusedError) else ()
            left.append(Attempt(f"{name}:{precision}", error.message, time.monotonic() - start, *known))
    left.sort(key=lambda attempt: math.inf if attempt.foreseen is None else attempt.foreseen)
    lines = "\n".join(attempt.describe() for attempt in left)
    raise GateError(
        f"no variant of {name} passes, best first:\n{tabulate(left)}\n{lines}",
        "see what differs, give more patients (their brands need not be known), or raise the budgets",
    )


def tabulate(attempts: Sequence[Attempt]) -> str:
    """Return size, time and foreseen changes of what was tried as lines of text."""
    rows: list[tuple[str, ...]] = [("variant", "MB", "ms", "foreseen to change", "minutes")]
    for attempt in attempts:
        figures = [None if attempt.foreseen is None else 100 * attempt.foreseen, attempt.seconds / 60]
        shown = [("-" if value is None else f"{value:.2f}") for value in (attempt.size_mb, attempt.p50_ms, *figures)]
        rows.append((attempt.variant, *shown[:2], shown[2] if shown[2] == "-" else f"{shown[2]} %", shown[3]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def export_only(run: Path, target: Target, out: Path, studies: Path | None) -> Bundle:
    """Export one variant, and where it is refused find out which other one would have passed.

    Raises
    ------
    GateError
        It does not pass: the message names the first other variant of its recipe that does.
    """
    try:
        return export_bundle(run, target, out, studies)
    except GateError as error:
        others = [precision for precision in list_variants(target.name, target.recipe) if precision != target.precision]
        for precision in others:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    export_bundle(run, load_target(f"{target.name}:{precision}", target.recipe), Path(folder) / "bundle", studies)
                except GateError:
                    continue
            passing = f"{target.name}:{precision}"
            raise GateError(f"{error.message}; {passing} passes", f"edgekit export RUN {passing}, or see what differs") from error
        raise
