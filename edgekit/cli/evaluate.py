"""``edgekit evaluate`` and ``edgekit score``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import console

WORST_CELLS = 10
"""Cells of the detector that are printed; the report has all."""


def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    studies: Annotated[Path, typer.Argument(help="studies.csv; its test rows are used.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json, predictions_*.csv and report.html.")],
    readers: Annotated[
        Path | None,
        typer.Option(
            "--readers", help="What people answered for the rows of split 'readers': reader, experience, patient_id, brand, seconds."
        ),
    ] = None,
    external: Annotated[
        Path | None,
        typer.Option("--external", help="Another site's studies.csv: its external rows, else its test rows. STUDIES may hold them too."),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--photos", help="photos.csv: photos of a screen that shows these films, as edgekit phantom photo makes them."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the content of metrics.json.")] = False,
) -> None:
    """Score every member and ensemble of a run on the test rows of a studies table.

    Example: edgekit evaluate runs/first cohort/studies.csv --out runs/first-evaluation --external elsewhere/studies.csv
    """
    from edgekit.evaluation.study import evaluate_run

    console.when_interrupted("The answers so far are kept: the same command goes on with the other rows.")
    evaluation = evaluate_run(run, studies, out, external=external, readers=readers, photos=photos)
    _warn_of_known_patients(run, evaluation.metrics["provenance"]["learnt_from"], "test")
    if external:
        _warn_of_known_patients(run, evaluation.metrics["external"]["learnt_from"], "external")
    if json:
        console.print_json(evaluation.metrics)
    else:
        if models := evaluation.metrics["models"]:
            _print_models(models)
        if detector := evaluation.metrics["detector"]:
            _print_detector(detector)
        if external:
            _print_drop(evaluation.metrics["models"], evaluation.metrics["external"])
        if photos:
            _print_photos(evaluation.metrics["photos"])
        console.say(f"report: {out / 'report.html'}")


def _warn_of_known_patients(run: Path, learnt_from: dict[str, Any], cohort: str) -> None:
    """Warn on stderr of patients that the run learnt from: their answers say nothing about new patients."""
    if not learnt_from["checked"]:
        said = f"{run} does not keep which films it learnt from, so it can't be checked whether {cohort} patients were among them"
        print(f"warning: {said}; a run trained now keeps that", file=sys.stderr)
    elif patients := learnt_from["patients"]:
        count = f"1 {cohort} patient" if len(patients) == 1 else f"{len(patients)} {cohort} patients"
        said = f"{run} learnt from films of {count} (equal pixels): {', '.join(patients)}"
        print(f"warning: {said}; these figures are too good: say in the column 'exclude' why these rows are left out", file=sys.stderr)


def score(
    predictions: Annotated[
        Path, typer.Argument(help="CSV: patient_id, truth, has_<property>, p_<brand>, ...; brand where there is no truth.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json and report.html.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the content of metrics.json.")] = False,
) -> None:
    """Score a predictions file, without the model that made it.

    Example: edgekit score predictions_ap+lateral.csv --out scored
    """
    from edgekit.evaluation.study import score_file

    evaluation = score_file(predictions, out)
    if json:
        console.print_json(evaluation.metrics)
    else:
        _print_models(evaluation.report.metrics["models"])
        console.say(f"report: {out / 'report.html'}")


def _print_models(models: dict[str, Any]) -> None:
    rows = []
    for name, model in models.items():
        figures = (model["kappa"], model["macro"]["f1"], model["macro"]["auc"], model["calibration_error"])
        rows.append((name, model["patients"], _show(model["accuracy"]), _show_span(model["ci95"]["accuracy"]), *map(_show, figures)))
    console.print_table(
        "Models", ("model", "patients", "accuracy", "95 % interval", "kappa", "macro F1", "macro AUC", "calibration error"), rows
    )


def _print_detector(detector: dict[str, Any]) -> None:
    figures = [_show(detector[name]) for name in ("mean_iou", "iou_p05", "ap50", "auc", "false_finds")]
    columns = ("annotated", "without", "mean IoU", "5th percentile", "AP50", "AUC", "false finds")
    console.print_table("Boxes", columns, [(detector["n"], detector["negative"], *figures)])
    if negatives := detector["negatives"]:
        rows = [(name.replace("_", " "), of["n"], _show(of["false_finds"]), _show_span(of["ci95"])) for name, of in negatives.items()]
        console.print_table("False finds", ("films", "n", "share", "95 % interval"), rows)
    if cells := detector["cells"][:WORST_CELLS]:
        rows = [
            (
                " and ".join(f"{name} {value}" for name, value in cell["cell"].items()),
                cell["n"],
                _show(cell["mean_iou"]),
                _show(cell["found"]),
            )
            for cell in cells
        ]
        console.print_table("Where it finds least", ("films", "n", "mean IoU", "found"), rows)


def _print_drop(models: dict[str, Any], external: dict[str, Any]) -> None:
    rows = []
    for name, drop in external["drop"].items():
        there, accuracy, auc = external["models"][name], drop["accuracy"], drop["macro_auc"]
        figures = (_show(there["accuracy"]), _show(accuracy["value"]), _show_span(accuracy["ci95"]))
        rows.append(
            (
                name,
                models[name]["patients"],
                there["patients"],
                *figures,
                _show(there["macro"]["auc"]),
                _show(auc["value"]),
                _show_span(auc["ci95"]),
            )
        )
    columns = ("model", "patients here", "there", "accuracy", "drop", "95 % interval", "macro AUC", "drop", "95 % interval")
    console.print_table("External validation", columns, rows)


def _print_photos(photos: dict[str, Any]) -> None:
    rows = [
        (name, drop["n"], *(_show(drop[figure]) for figure in ("film", "photo", "value")), _show_span(drop["ci95"]))
        for name, drop in photos["drop"].items()
    ]
    console.print_table("Photographed off a screen", ("model", "patients", "films", "photos", "drop", "95 % interval"), rows)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"  # never -0.000


def _show_span(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
