"""The processors that a bundle is proven on: the rows of ``processors.json``.

A row says on which instructions a session of the bundle was found right, and how that is known::

    architecture, features   a key of `edgekit.processors.FEATURES`, and which of its instructions the processor has
    cpu                      its name; null where nothing ran
    basis                    "executed", "emulated", or "proved, not executed": no 8-bit sum of the file can overflow, whatever the kernel
    session, runtime         what answered
    n                        patients of the verdict; 0: the golden vectors only, or nothing ran
    verdict, date            "PASS", and the day (UTC)
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgekit.manifest import replace_processors
from edgekit.model_card import EMULATED, EXECUTED, PROVED, write_card
from edgekit.processors import NOT_EMULATED, describe_processor
from edgekit.remembered import is_remembered, remember
from edgekit.sessions import SESSIONS, list_by_processor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgekit.sessions import SessionModule
    from edgekit.types import Bundle, Manifest, Parity

    Row = dict[str, Any]


def prove_by_verdict(parity: Parity, modules: Mapping[str, SessionModule] = SESSIONS) -> list[Row]:
    """Return the row that a PASS makes; none for another verdict, or where it ran on something else than a known processor."""
    if parity.verdict != "PASS" or parity.session not in list_by_processor(modules) or parity.cpu is None or not parity.cpu["features"]:
        return []
    return [_make_row(parity.cpu, EMULATED if parity.cpu["emulated"] else EXECUTED, parity.session, parity.runtime, parity.n)]


def prove_by_golden(cpu: dict[str, Any], session: str, runtime: str) -> Row:
    """Return the row of an emulated processor on which the golden vectors came out as expected; `cpu` is as `Parity` describes it."""
    return _make_row(cpu, EMULATED, session, runtime, 0)


def prove_by_saturation(manifest: Manifest) -> list[Row]:
    """Return the rows of the processors that can't be emulated.

    None where an 8-bit sum of the file can overflow, nobody looked, or there is no such sum; and none in other sessions than onnxruntime:
    the bound (`edgekit.quantization.saturation`) is that of its kernels, and nobody has shown one of XNNPACK's for a LiteRT file.
    """
    saturation = manifest.graph.get("saturation")
    if not saturation or not saturation["layers"] or saturation["can_overflow"] or "onnxruntime" not in manifest.sessions:
        return []
    return [
        _make_row({"architecture": architecture, "features": list(features), "name": None}, PROVED, "onnxruntime", "", 0)
        for architecture, features in NOT_EMULATED
    ]


def merge_rows(standing: Sequence[Row], added: Iterable[Row]) -> list[Row]:
    """Add rows to those that stand.

    A row takes the place of one of the same session and instructions, unless that one comes from patients and the new one does not.
    """
    rows = {_key(row): row for row in standing}
    for row in added:
        other = rows.get(_key(row))
        if other is None or row["n"] or not other["n"]:
            rows[_key(row)] = row
    return list(rows.values())


def record_proof(bundle: Bundle, added: Sequence[Row], failed: Sequence[tuple[str, dict[str, Any]]]) -> Bundle:
    """Write what a check of the bundle found into ``processors.json`` and the model card, where it changes them.

    Parameters
    ----------
    added
        Rows of processors on which it was right.
    failed
        Session and processor (``cpu`` of `edgekit.types.Parity`) where it was not: a row that says otherwise goes.

    Raises
    ------
    OSError
        The bundle can't be written to.
    """
    gone = {_key({**cpu, "session": session}) for session, cpu in failed}
    rows = [row for row in merge_rows(bundle.processors, added) if _key(row) not in gone]
    if rows == list(bundle.processors):
        return bundle
    return replace_processors(bundle, rows, write_card(bundle.manifest, rows))


def unproven_here(bundle: Bundle, session: str) -> str | None:
    """Return what to say of a bundle with 8-bit stages that is not proven on this processor; None where it is, or where it was said before.

    It is said once for each bundle, session, processor and list of proven ones (`edgekit.remembered`).
    """
    cpu = describe_processor(None)
    proven = {_key(row) for row in bundle.processors}
    if "w8a8" not in bundle.manifest.stages.values() or session not in list_by_processor() or _key({**cpu, "session": session}) in proven:
        return None
    fact = {
        "told": "not proven on this processor",
        "model_sha256": bundle.manifest.model_sha256,
        "session": session,
        "features": cpu["features"],
        "proven": sorted(map(str, proven)),
    }
    if is_remembered(fact):
        return None
    remember(fact)
    instructions = " ".join(cpu["features"]) or "none that are known"
    return (
        f"in {session} this bundle is proven on no processor like this one ({cpu['name']}, {cpu['architecture']}: {instructions}): only "
        f"its golden vectors are checked here. What proves it, with films and the run: edgekit verify {bundle.folder} STUDIES"
    )


def _make_row(cpu: dict[str, Any], basis: str, session: str, runtime: str, n: int) -> Row:
    return {
        "architecture": cpu["architecture"],
        "features": list(cpu["features"]),
        "cpu": cpu["name"],
        "basis": basis,
        "session": session,
        "runtime": runtime,
        "n": n,
        "verdict": "PASS",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _key(row: Row) -> tuple[str, tuple[str, ...], str]:
    return row["architecture"], tuple(row["features"]), row["session"]
