"""``edgekit evaluate`` and ``edgekit score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import console


def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    studies: Annotated[Path, typer.Argument(help="studies.csv; its test rows are used.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json, predictions_*.csv and report.html.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the content of metrics.json.")] = False,
) -> None:
    """Score every member and ensemble of a run on the test rows of a studies table.

    Example: edgekit evaluate runs/first cohort/studies.csv --out runs/first-evaluation
    """
    from edgekit.evaluation.study import evaluate_run

    evaluation = evaluate_run(run, studies, out)
    if json:
        console.print_json(evaluation.metrics)
    else:
        _print_models(evaluation.report.metrics["models"], out)


def score(
    predictions: Annotated[Path, typer.Argument(help="CSV: patient_id, brand, has_crosslink, p_<brand>, ...")],
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
        _print_models(evaluation.report.metrics["models"], out)


def _print_models(models: dict[str, Any], out: Path) -> None:
    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = []
    for name, model in models.items():
        low, high = model["ci95"]["accuracy"]
        figures = (model["kappa"], model["macro"]["f1"], model["macro"]["auc"], model["calibration_error"])
        rows.append((name, model["n"], show(model["accuracy"]), f"{low:.3f}-{high:.3f}", *map(show, figures)))
    console.print_table("Models", ("model", "n", "accuracy", "95 % interval", "kappa", "macro F1", "macro AUC", "calibration error"), rows)
    console.say(f"report: {out / 'report.html'}")
