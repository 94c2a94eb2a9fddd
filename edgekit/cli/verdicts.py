"""Parity records on the screen, for the commands that judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.cli import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Manifest


def print_unproven(manifest: Manifest) -> None:
    """Print what a bundle did not prove when it was exported."""
    for sentence in manifest.unproven:
        console.say(f"not proven: {sentence}")


def print_parity(rows: Sequence[dict[str, Any]]) -> None:
    """Print parity records: verdicts, drift, and the patients that changed."""
    if not rows:
        return
    headings = (
        "session",
        "on",
        "basis",
        "patients",
        "changed",
        "foreseen",
        "agreement",
        "max probability error",
        "decisions",
        "verdict",
        "control",
    )
    body = [
        (
            row["session"],
            _name_processor(row),
            row["basis"],
            row["n"],
            row["flips"],
            _show(_foresee(row), ".1f"),
            f"{100 * row['agreement']:.2f} %",
            f"{row['max_probability_error']:.1e}",
            row["decision_flips"],
            row["verdict"],
            row["negative_control"] or "-",
        )
        for row in rows
    ]
    console.print_table("Parity with the reference", headings, body)
    for row in rows:
        if row.get("changed_from_native") is not None:
            console.say(
                f"{_name_processor(row)}: another answer than on this machine for {row['changed_from_native']} of {row['n']} patients, "
                f"boxes moved by at most {_show(row['max_box_difference_px'], '.2g')} px"
            )
    _print_drift(rows)
    for row in rows:
        console.say(f"{row['session']}: {row['power']}")
        _print_changes(row)


def _foresee(row: dict[str, Any]) -> float | None:
    """Return how many patients were foreseen to get another brand; a bundle made before this was recorded does not tell."""
    share = row.get("foreseen")
    return None if share is None else share * row["n"]


def _name_processor(row: dict[str, Any]) -> str:
    """Return what a parity record ran on; a device, or a bundle made before this was recorded, does not tell."""
    cpu = row.get("cpu")
    return cpu["emulated"] or " ".join(cpu["features"]) if cpu else "-"


def _print_drift(rows: Sequence[dict[str, Any]]) -> None:
    """Print how far the figures moved that no gate judges."""
    headings = (
        "session",
        "labelled patients",
        "accuracy",
        "calibration error",
        "mean probability error",
        "box IoU, percentiles 1, 5, 50",
        "box error px",
    )
    body = [
        (
            row["session"],
            _show(row.get("n_labelled"), "d"),
            *(
                f"{_show(row[f'{figure}_reference'])} -> {_show(row[f'{figure}_candidate'])}"
                for figure in ("accuracy", "calibration_error")
            ),
            _show(row["mean_probability_error"], ".1e"),
            ", ".join(_show(row[f"box_iou_p{percentile}"]) for percentile in ("01", "05", "50")),
            _show(row["max_box_error_px"], ".2g"),
        )
        for row in rows
    ]
    console.print_table("From the reference to the candidate", headings, body)


def _show(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _print_changes(row: dict[str, Any]) -> None:
    """Print the patients whose answer or decision changed."""
    if not row["flipped"]:
        return

    def describe(side: dict[str, Any]) -> str:
        share = side["probabilities"].get(side["answer"])
        return f"{side['answer']} {share:.3f}, {side['decision']}" if side["answer"] else side["decision"]

    body = []
    for each in row["flipped"]:
        patient = each.get("patient_id", f"row {each['row']}")  # a bundle names no patients
        brand, right = each["brand"] or "unknown", each["right"] or "-"
        body.append((patient, brand, describe(each["reference"]), describe(each["candidate"]), right))
    console.print_table(f"Changed in {row['session']}", ("patient", "truth", "reference", "candidate", "who is right"), body)
    if row["flipped_unlisted"]:
        console.say(f"and {row['flipped_unlisted']} more")
