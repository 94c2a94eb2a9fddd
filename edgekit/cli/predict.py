"""``edgekit predict``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import console
from edgekit.errors import InputError, UsageError
from edgekit.types import INTENDED_USE

if TYPE_CHECKING:
    from edgekit.inference import Predictor
    from edgekit.types import Prediction

BAR = 30
"""Width of the bar of a probability of one."""


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    ap: Annotated[Path | None, typer.Option("--ap", help="The AP film: DICOM, PNG or JPEG.")] = None,
    lateral: Annotated[Path | None, typer.Option("--lateral", help="The lateral film.")] = None,
    films: Annotated[tuple[Path, Path] | None, typer.Option("--films", help="Both films in any order: the views are found.")] = None,
    studies: Annotated[Path | None, typer.Option("--studies", help="Many patients: studies.csv.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The predictions.csv to write; with --studies.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Identify the brand on one patient's films, or on those of many.

    Example: edgekit predict build/desktop-cpu --ap ap.dcm --lateral lateral.dcm
    """
    given = [name for name, value in (("--ap/--lateral", ap or lateral), ("--films", films), ("--studies", studies)) if value]
    if len(given) != 1 or (studies is None) != (out is None):
        raise UsageError("what to answer for is not clear", "give --ap and/or --lateral, or --films A B, or --studies FILE --out FILE")
    from edgekit.inference import SCREENING_THREADS, Predictor, to_document
    from edgekit.proven import unproven_here

    with Predictor(bundle, threads=SCREENING_THREADS if studies else None) as predictor:
        if warning := unproven_here(predictor.bundle, predictor.model["session"]):
            print(f"warning: {warning}", file=sys.stderr)
        if studies is not None and out is not None:
            _predict_many(predictor, studies, out, json)
            return
        if films is not None:
            ap, lateral = predictor.find_views(*films)
            console.say(f"AP: {ap}\nlateral: {lateral}")
        prediction = predictor.predict(ap, lateral)
    if json:
        console.print_json(to_document(prediction))
        return
    _print_prediction(prediction)


def _predict_many(predictor: Predictor, studies: Path, out: Path, json: bool) -> None:
    from edgekit.inference import EXCLUDED, predict_table

    try:
        made = predict_table(predictor, studies, out)
    except KeyboardInterrupt:
        print("The answers so far are kept: the same command goes on with the other rows.", file=sys.stderr)
        raise
    answered = sum(count for decision, count in made.decisions.items() if decision != EXCLUDED)
    if json:
        unreadable = [asdict(row) for row in made.unreadable]
        document = {"predictions": str(out), "decisions": made.decisions, "unreadable": unreadable, "model": predictor.model}
        console.print_json({"schema": 1, **document})
    console.print_table("Decisions", ("decision", "rows"), sorted(made.decisions.items()))
    console.say(f"{out}: {answered} rows")
    _print_origin(predictor.model)
    if made.unreadable:
        listed = "".join(f"\n  {row.patient_id} (row {row.row}): {row.message}" for row in made.unreadable)
        raise InputError(
            f"{len(made.unreadable)} of {answered + len(made.unreadable)} rows have films that can't be read:{listed}",
            f"replace these films and give the same command again: it asks only for these rows; the {answered} other answers are in {out}",
        )


def _print_prediction(prediction: Prediction) -> None:
    console.say(_say_decision(prediction))
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    rows = [
        (brand, f"{100 * p:5.1f} %", "█" * round(BAR * p), "possible" if brand in prediction.prediction_set else "") for brand, p in ranked
    ]
    console.print_table("Brands", ("brand", "probability", "", "prediction set"), rows)
    for view, seen in prediction.views.items():
        box = "no construct" if seen["box"] is None else "box " + " ".join(f"{edge:.0f}" for edge in seen["box"])
        console.say(f"{view}: {box} (score {seen['score']:.2f})")
    console.say("time: " + ", ".join(f"{stage} {value:.0f} ms" for stage, value in prediction.elapsed_ms.items()))
    _print_origin(prediction.model)


def _say_decision(prediction: Prediction) -> str:
    possible = ", ".join(prediction.prediction_set)
    match prediction.decision:
        case "identified":
            return f"Identified: {prediction.brand}"
        case "ambiguous":
            return f"Ambiguous: {f'one of {possible}' if possible else 'no brand is probable enough'}"
        case "unfamiliar":
            return "Unfamiliar: the films do not look like any of the brands that this model knows"
        case "no construct found":
            return "No construct found on the films given"
        case "films swapped":
            return "Films swapped: a film shows the other view; check which is the AP and which the lateral one"
    return prediction.decision


def _print_origin(model: dict[str, str]) -> None:
    console.say(f"model: {model['name']}, version {model['version']}, {model['precision']}; {model['verification']}")
    console.say(INTENDED_USE)
