"""``MODEL_CARD.md`` of a bundle: what it is, for whom, what is proven and what is not."""

from __future__ import annotations

from typing import Any

from edgekit.types import INTENDED_USE


def write_card(manifest: dict[str, Any]) -> str:
    """Return the text of ``MODEL_CARD.md``.

    Parameters
    ----------
    manifest
        The bundle's manifest, its parity included.
    """
    side, provenance = manifest["canvas"]["side"], manifest["provenance"]
    state = "verified" if manifest["verified"] else "NOT VERIFIED"
    rows = [
        f"| {row['session']} | {row['runtime']} | {row['basis']} | {row['n']} | {row['flips']} | {row['max_probability_error']:.1e} "
        f"| **{row['verdict']}** | {row['negative_control'] or 'not possible'} |"
        for row in manifest["parity"]
    ]
    return "\n".join(
        [
            f"# {manifest['name']}, {manifest['precision']}: {state}",
            "",
            f"**{INTENDED_USE}**",
            "",
            "Identifies the brand of pedicle screws from an AP film, a lateral film, or both: detects the construct, crops it, classifies "
            "the crop, combines the members, and abstains where it should.",
            "",
            f"- Brands: {', '.join(manifest['brands'])}. Any other brand is outside what it knows.",
            f"- Input: 8-bit canvases of {side} x {side} pixels ({manifest['canvas']['specification']} says how a film becomes one).",
            f"- Ensemble {manifest['ensemble']} of the members {', '.join(manifest['members'])}.",
            f"- Precision: {', '.join(f'{stage} {precision}' for stage, precision in manifest['stages'].items())}.",
            f"- Made by edgekit {provenance['edgekit']} on {provenance['date']} from run {provenance['run']['sha256'][:12]}.",
            "",
            "## Does it still answer as the validated reference does?",
            "",
            *(
                [
                    "| session | runtime | basis | patients | changed answers | largest probability difference | verdict | control |",
                    "|---|---|---|---|---|---|---|---|",
                    *rows,
                ]
                if rows
                else ["It was never compared with its reference."]
            ),
            "",
            "This compares the exported file with the trained pipeline on the same patients. How often that pipeline is right is in the "
            "evaluation of the run, not here. The control is the same judgement with another patient's films: it must be FAIL.",
            "",
            "## Limits",
            "",
            "- `prediction_set` has its nominal coverage only for films like those of the validation patients.",
            "- `unfamiliarity` sees what confuses the members; it can miss what they are confidently wrong about.",
            "- `golden/` shows that a runtime computes what this file says, not that the answers are right.",
            "",
            "## Licence",
            "",
            f"{manifest['licence']}. {' '.join(manifest['notices'])}",
            "",
        ]
    )
