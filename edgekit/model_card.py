"""``MODEL_CARD.md`` of a bundle: what it is, for whom, what is proven and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.sessions import SESSIONS, list_by_processor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Manifest

UNVERIFIED = "it was written with --force, and its answers may not be those of the validated pipeline."
EXECUTED, EMULATED, PROVED = "executed", "emulated", "proved, not executed"
"""How it is known that a bundle is right on a processor."""

BASES = {
    EXECUTED: "*Executed*: on such a processor.",
    EMULATED: "*Emulated*: the file answered in an emulator of it.",
    PROVED: "*Proved, not executed*: no sum of the file's 8-bit convolutions can overflow, whatever the kernel; nothing ran there.",
}
"""What a card says of each."""

INTERPRETED_NOTE = (
    "*Interpreted*: edgekit evaluated the file's operators itself. That proves the file and its arithmetic, not the device's own."
)


def write_card(manifest: Manifest, processors: Sequence[dict[str, Any]] = ()) -> str:
    """Return the text of ``MODEL_CARD.md``.

    Parameters
    ----------
    manifest
        The bundle's manifest, its parity included.
    processors
        The processors that it is proven on (see `edgekit.proven`).
    """
    side, provenance = manifest.canvas["side"], manifest.provenance
    below = [stage for stage, precision in manifest.stages.items() if precision != "fp32"]
    return "\n".join(
        [
            f"# {manifest.name}, {manifest.precision}: {'verified' if manifest.verified else 'NOT VERIFIED'}",
            "",
            f"**{manifest.intended_use}**",
            "",
            *([] if manifest.verified else [f"**NOT VERIFIED: {UNVERIFIED}**", ""]),
            _describe_task(manifest),
            "",
            f"- Answers: {', '.join(manifest.brands)}. Any other {manifest.task.told} is outside what it knows.",
            f"- Input: 8-bit canvases of {side} x {side} pixels ({manifest.canvas['specification']} says how a film becomes one).",
            f"- Ensemble {manifest.ensemble} of the members {', '.join(manifest.members)}.",
            f"- Precision: {', '.join(f'{stage} {precision}' for stage, precision in manifest.stages.items())}. "
            + (f"Below fp32: {', '.join(below)}." if below else "No stage is below fp32."),
            *_describe_size(manifest),
            *_describe_corners(manifest),
            f"- Made by edgekit {provenance['edgekit']} on {provenance['date']} from run {provenance['run']['sha256'][:12]}.",
            "",
            "## Does it still answer as the validated reference does?",
            "",
            *_describe_parity(manifest.parity),
            "",
            "## Processors it is proven on",
            "",
            *_describe_processors(manifest, processors),
            "",
            *(["## What was not proven", "", *(f"- {sentence}" for sentence in manifest.unproven), ""] if manifest.unproven else []),
            "## Limits",
            "",
            "- `prediction_set` has its nominal coverage only for films like those of the validation patients.",
            "- `unfamiliarity` sees what confuses the members; it can miss what they are confidently wrong about.",
            "- `golden/` shows that a runtime computes what this file says, not that the answers are right.",
            "",
            "## Licence",
            "",
            f"{manifest.licence}. {' '.join(manifest.notices)}",
            "",
        ]
    )


def _describe_task(manifest: Manifest) -> str:
    """Return what it does, and which films it needs."""
    task = manifest.task
    films = [" and ".join(task.views[place] for place in task.cases[case]) for case in manifest.cases]
    found = f"detects the {task.found}, crops it, classifies the crop" if task.locate else "classifies the whole film"
    silent = [case for case in task.cases if case not in manifest.cases]
    rest = f" With {', '.join(silent)} alone the answer is 'no {task.found} found'." if silent else ""
    return (
        f"{task.question} It answers from films of {'; '.join(films)}: {found}, combines the members, and abstains where it should.{rest}"
    )


def _describe_size(manifest: Manifest) -> list[str]:
    """Return the size of the model and the recipe's budget, as far as they are known."""
    model = manifest.model
    sizes = [entry["size"] for name, entry in manifest.files.items() if name == model or name.startswith(f"{model}/")]
    budget = manifest.recipe["variants"][manifest.precision].get("budget")
    known = [f"{sum(sizes) / 1e6:.2f} MB"] if sizes else []
    known += [f"at most {budget['size_mb']:g} MB accepted"] if budget and "size_mb" in budget else []
    return [f"- Model: {', '.join(known)} (MB = 10^6 bytes)."] if known else []


def _describe_corners(manifest: Manifest) -> list[str]:
    """Return whether films are found in photos, for a target that may do so."""
    if "corners" not in manifest.recipe:
        return []
    corners = manifest.corners
    if corners is None:
        return ["- Photos of a screen: a person puts the film's corners; the run has no corner finder."]
    return [f"- Photos of a screen: {corners['model']} suggests the film's corners, and a person checks them. It was not judged here."]


def _describe_parity(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the verdicts, without naming a patient: the card goes wherever the bundle goes."""
    if not records:
        return ["It was never compared with its reference."]
    rows, interpreted = [], {name for name, module in SESSIONS.items() if module.ABOUT.interprets}
    for row in records:
        session = f"{row['session']} (interpreted)" if row["session"] in interpreted else row["session"]
        foreseen = "-" if row.get("foreseen") is None else f"{row['foreseen'] * row['n']:.1f}"
        difference = row["difference"]
        largest = difference["at_most"]
        drop = "unknown" if largest is None else f"{100 * largest:.2f} points"
        rows.append(
            f"| {session} | {row['runtime']} | {row['basis']} | {row['n']} | {row['flips']} | {foreseen} | {row['decision_flips']} "
            f"| {row['max_probability_error']:.1e} | {100 * row['agreement_ci95'][0]:.2f} % "
            f"| {drop} | **{row['verdict']}** | {row['negative_control'] or 'not possible'} |"
        )
    return [
        "| session | runtime | basis | patients | changed answers | foreseen | changed decisions | largest probability difference "
        "| agreement at least | accuracy drop at most | verdict | control |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *([INTERPRETED_NOTE, ""] if any(row["session"] in interpreted for row in records) else []),
        "This compares the exported file with the trained pipeline on the same patients; the bounds are those of two-sided 95 % intervals. "
        "How often that pipeline is right is in the evaluation of the run, not here. The control is the same judgement with another "
        "patient's films: it must be FAIL. Foreseen is how many answers were expected to change, from calibration patients alone.",
    ]


def _describe_processors(manifest: Manifest, processors: Sequence[dict[str, Any]]) -> list[str]:
    """Return the processors by the instructions that 8-bit kernels are chosen by."""
    if not processors:
        return ["None yet."]
    rows = []
    for row in processors:
        patients = row["n"] or ("-" if row["basis"] == PROVED else "golden vectors only")
        name = row["cpu"] or ""
        rows.append(
            f"| {row['architecture']} | {' '.join(row['features'])} | {name} | {row['session']} | {row['runtime']} | {row['basis']} "
            f"| {patients} | {row['verdict']} | {row['date']} |"
        )
    emulated = {row["session"] for row in processors if row["basis"] == EMULATED}
    missing = [name for name in list_by_processor() if emulated and name in manifest.sessions and name not in emulated]
    return [
        "| architecture | instructions | processor | session | runtime | basis | patients | verdict | date |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        " ".join(sentence for basis, sentence in BASES.items() if basis in {row["basis"] for row in processors}),
        *([f"{', '.join(missing)} was emulated on none of them."] if missing else []),
    ]
