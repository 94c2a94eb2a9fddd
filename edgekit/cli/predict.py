"""``edgekit predict``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import console
from edgekit.errors import InputError, UsageError
from edgekit.types import REFUSED

if TYPE_CHECKING:
    from edgekit.inference import Predictor
    from edgekit.types import Manifest, Prediction

BAR = 30
"""Width of the bar of a probability of one."""


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    film: Annotated[
        list[str] | None,
        typer.Option("--film", metavar="VIEW=FILE", help="A film and the view it shows; once for each film: DICOM, PNG or JPEG."),
    ] = None,
    ap: Annotated[Path | None, typer.Option("--ap", help="Short for --film ap=FILE.")] = None,
    lateral: Annotated[Path | None, typer.Option("--lateral", help="Short for --film lateral=FILE.")] = None,
    films: Annotated[tuple[Path, Path] | None, typer.Option("--films", help="Two films in any order: the views are found.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="A folder with one patient's films: the views are found.")] = None,
    studies: Annotated[Path | None, typer.Option("--studies", help="Many patients: studies.csv.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The predictions.csv to write, or predictions.jsonl for JSON lines; with --studies.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Identify the brand on one patient's films, or on those of many.

    Example: edgekit predict build/desktop-cpu --ap ap.dcm --lateral lateral.dcm

    Another task's views: edgekit predict build/shoulder --film front=film.png
    """
    named = _read_films(film or [], {"ap": ap, "lateral": lateral})
    if sum(map(bool, (named, films, folder, studies))) != 1 or (studies is None) != (out is None):
        raise UsageError(
            "what to answer for is not clear",
            "give --film VIEW=FILE (or --ap, --lateral), or --films A B, or --folder DIR, or --studies FILE --out FILE",
        )
    from edgekit.inference import SCREENING_THREADS, Predictor, find_films, to_document
    from edgekit.proven import unproven_here

    with Predictor(bundle, threads=SCREENING_THREADS if studies else None) as predictor:
        if warning := unproven_here(predictor.bundle, predictor.model["session"]):
            print(f"warning: {warning}", file=sys.stderr)
        if studies is not None and out is not None:
            _predict_many(predictor, studies, out, json)
            return
        found = list(films or ())
        if folder is not None:
            found, others = find_films(folder, predictor.bundle.views)
            for reason in others.values():
                print(f"left out: {reason}", file=sys.stderr)
        if found:
            named = predictor.find_views(found)
            console.say("\n".join(f"{view}: {named[view]}" for view in predictor.bundle.views if view in named))
        prediction = predictor.predict(named)
        manifest = predictor.bundle.manifest
    if json:
        console.print_json(to_document(prediction))
        return
    _print_prediction(prediction, manifest)


def _read_films(pairs: list[str], short: dict[str, Path | None]) -> dict[str, Path]:
    """Return the films named on the command line by view.

    Raises
    ------
    UsageError
        A pair is not ``VIEW=FILE``, or a view is named twice.
    """
    films = {view: path for view, path in short.items() if path is not None}
    for pair in pairs:
        view, _, file = pair.partition("=")
        if not view or not file:
            raise UsageError(f"--film {pair}", "give the view and its film: --film ap=FILE")
        if view in films:
            raise UsageError(f"two films of the view {view}", "give one film of each view")
        films[view] = Path(file)
    return films


def _predict_many(predictor: Predictor, studies: Path, out: Path, json: bool) -> None:
    from edgekit.inference import predict_table

    console.when_interrupted("The answers so far are kept: the same command goes on with the other rows.")
    made = predict_table(predictor, studies, out)
    written = sum(made.decisions.values())
    if json:
        unreadable = [asdict(row) for row in made.unreadable]
        document = {"predictions": str(out), "decisions": made.decisions, "unreadable": unreadable, "model": predictor.model}
        console.print_json({"schema": 1, **document})
    console.print_table("Decisions", ("decision", "rows"), sorted(made.decisions.items()))
    console.say(f"{out}: {written} rows")
    _print_origin(predictor.model, predictor.bundle.manifest)
    if made.unreadable:
        listed = "".join(f"\n  {row.patient_id} (row {row.row}): {row.message}" for row in made.unreadable)
        raise InputError(
            f"{len(made.unreadable)} of {written + len(made.unreadable)} rows have films that can't be read:{listed}",
            f"replace these films and give the same command again: it asks only for these rows; the {written} other rows are in {out}",
        )


def _print_prediction(prediction: Prediction, manifest: Manifest) -> None:
    task = manifest.task
    console.say(_say_decision(prediction, manifest))
    if prediction.decision not in REFUSED:
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        rows = [
            (brand, f"{100 * p:5.1f} %", "█" * round(BAR * p), "possible" if brand in prediction.prediction_set else "")
            for brand, p in ranked
        ]
        console.print_table(f"{task.told.capitalize()}s", (task.told, "probability", "", "prediction set"), rows)
    for view, seen in prediction.views.items() if task.locate else ():
        box = f"no {task.found}" if seen["box"] is None else "box " + " ".join(f"{edge:.0f}" for edge in seen["box"])
        console.say(f"{view}: {box} (score {seen['score']:.2f})")
    console.say("time: " + ", ".join(f"{stage} {value:.0f} ms" for stage, value in prediction.elapsed_ms.items()))
    _print_origin(prediction.model, manifest)


def _say_decision(prediction: Prediction, manifest: Manifest) -> str:
    task = manifest.task
    possible = ", ".join(prediction.prediction_set)
    match prediction.decision:
        case "identified":
            return f"Identified: {prediction.brand}"
        case "ambiguous":
            return f"Ambiguous: {f'one of {possible}' if possible else f'no {task.told} is probable enough'}"
        case "unfamiliar":
            return f"Unfamiliar: the films do not look like any {task.told} that this model knows"
        case "no construct found":
            return f"No {task.found} found on the films given{_say_missing(prediction, manifest)}"
        case "films swapped":
            return f"Films swapped: a film shows another view; check which is which: {', '.join(task.views)}"
    return prediction.decision


def _say_missing(prediction: Prediction, manifest: Manifest) -> str:
    """Say which films an answer needs, where those in which something was found are a case that the bundle can't answer."""
    task = manifest.task
    found = tuple(task.place(view) for view in task.views if view in prediction.views and prediction.views[view]["box"] is not None)
    case = next((case for case, views in task.cases.items() if views == found), None)
    if case is None or case in manifest.cases:
        return ""
    return f": with {case} alone this model gives no answer, it also needs {' or '.join(task.missing_views(case))}"


def _print_origin(model: dict[str, str], manifest: Manifest) -> None:
    console.say(f"model: {model['name']}, version {model['version']}, {model['precision']}; {model['verification']}")
    console.say(manifest.intended_use)
