"""Evaluate a run on studies, or a predictions file: metrics.json, predictions_<model>.csv and report.html."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.boxes import box_iou
from edgekit.errors import InputError
from edgekit.evaluation import figures
from edgekit.evaluation.answers import Answers, ask_models, collect_answers, name_model
from edgekit.evaluation.metrics import detector_metrics, score_predictions, unanswered_rows
from edgekit.evaluation.predictions import Predictions, read_predictions, write_predictions
from edgekit.evaluation.report import Example, ReportContent, write_report
from edgekit.files import hash_file, write_json
from edgekit.progress import track
from edgekit.provenance import describe_software
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.models.pipeline import Pipeline
    from edgekit.radiograph import Letterbox
    from edgekit.types import Box, Study, View

__all__ = ["Evaluation", "evaluate_run", "score_file"]

PHANTOM = "edgekit phantom"
"""DICOM Manufacturer of simulated films."""
RESAMPLES, SEED = 1000, 0
"""Of the bootstrap over patients."""
EXAMPLES, WRONG_EXAMPLES = 6, 3


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    metrics
        The content of ``metrics.json``.
    report
        The content of ``report.html``, to be written again with more in it (``dataclasses.replace``).
    """

    metrics: dict[str, Any]
    report: ReportContent


def evaluate_run(run: Path, studies_file: Path, out: Path) -> Evaluation:
    """Evaluate every member and every ensemble of `run` on the test rows of `studies_file`.

    The films pass through the pipeline once; every ensemble is applied to the same member probabilities. A patient is scored by a
    model that could have answered for the films given. Where no construct was found on them, the answer counts as wrong, with
    equal probabilities. Brands that the run does not know are left out; rows of brand ``none`` test the detector only.

    Parameters
    ----------
    run
        A finished run folder.
    studies_file
        ``studies.csv``. Its test rows are used; all rows where the split column is empty throughout.
    out
        Folder for ``metrics.json``, ``predictions_<model>.csv`` and ``report.html``.

    Returns
    -------
    Evaluation
        ``metrics["models"]`` has ``ap``, ``lateral``, ``concat`` and ``merge_mean`` for the members that the run has, and its ensembles
        by name; an ensemble of one member, which is that member calibrated, is named ``<member>-calibrated``.

    Raises
    ------
    InputError
        The run is unfinished, a film can't be read, or there is nothing to score.
    """
    from edgekit.models.runfolder import load_ensembles, load_members_pipeline, run_hash
    from edgekit.studies import read_studies

    all_studies = read_studies(studies_file)
    studies = _select_test(studies_file, all_studies)
    pipeline = load_members_pipeline(run)
    brands, ensembles = pipeline.spec.brands, load_ensembles(run)
    chosen = name_model(ensembles[pipeline.spec.ensemble])
    if not any(study.brand in brands for study in studies):
        raise InputError(f"{studies_file}: no test row has a brand that the run knows ({', '.join(brands)})", "check the brand column")

    answers = collect_answers(pipeline, studies)
    models: dict[str, Any] = {}
    scored: dict[str, Predictions] = {}
    answered: dict[str, Predictions] = {}
    everything = ask_models(answers, pipeline.spec.members, ensembles.values())
    for name, (probabilities, asked) in track(everything.items(), "scoring models", len(everything)):
        predictions = _make_predictions(brands, studies, probabilities).take(asked)
        answered[name] = predictions
        if predictions.scorable().patients:
            scored[name] = predictions.scorable()
            models[name] = _score(scored[name])
    if chosen not in scored:
        raise InputError(
            f"{studies_file}: no test patient has the films that {pipeline.spec.ensemble} needs",
            "evaluate on patients with both films, or train a run whose ensemble answers for one film",
        )
    films = _count_films(studies)
    provenance = {
        "run": run.resolve().name,
        "run_sha256": run_hash(run),
        "ensemble": chosen,
        "studies": _describe_file(studies_file),
        "films": films,
        "simulated": True if films["simulated"] else None if films["unknown"] else False,
        "rows": _count_rows(all_studies, studies, brands),
        **_describe_scoring(scored[chosen], sorted(set(everything) - set(scored))),
    }
    metrics = {"models": models, "detector": _score_detector(answers, studies, pipeline.spec.box_threshold), "provenance": provenance}
    drawn = _draw_figures(models, chosen, scored[chosen]) | _draw_overlaps(answers)
    examples = _make_examples(pipeline, studies, answers, *everything[chosen])
    evaluation = Evaluation(metrics, ReportContent(chosen, metrics, drawn, examples))
    for name, predictions in answered.items():
        write_predictions(out / f"predictions_{name}.csv", predictions)
    write_json(out / "metrics.json", metrics)
    write_report(out / "report.html", evaluation.report)
    return evaluation


def score_file(predictions_file: Path, out: Path) -> Evaluation:
    """Score a predictions file without the model.

    Parameters
    ----------
    predictions_file
        See `edgekit.evaluation.predictions.read_predictions`.
    out
        Folder for ``metrics.json`` (one model's object) and ``report.html``.

    Raises
    ------
    InputError
        The file is faulty, or no row has a brand that the file has a column for.
    """
    predictions = read_predictions(predictions_file)
    scorable = predictions.scorable()
    if not scorable.patients:
        raise InputError(f"{predictions_file}: no row has a brand out of {', '.join(predictions.brands)}", "check the brand column")
    name = predictions_file.stem.removeprefix("predictions_")
    models = {name: _score(scorable)}
    provenance = {
        "predictions": _describe_file(predictions_file),
        "simulated": None,
        "rows": {"file": len(predictions.truth), **_count_brands(predictions.truth, predictions.brands)},
        **_describe_scoring(scorable, []),
    }
    metrics = {"models": models, "detector": None, "provenance": provenance}
    evaluation = Evaluation(models[name], ReportContent(name, metrics, _draw_figures(models, name, scorable)))
    write_json(out / "metrics.json", evaluation.metrics)
    write_report(out / "report.html", evaluation.report)
    return evaluation


def _select_test(path: Path, studies: Sequence[Study]) -> list[Study]:
    kept = [study for study in studies if study.exclude is None]
    unsplit = all(study.split is None for study in studies)
    test = [study for study in kept if unsplit or study.split == "test"]
    if not test:
        raise InputError(
            f"{path} has no test rows", "split it with: edgekit studies split; or leave the split column empty to use all rows"
        )
    return test


def _make_predictions(brands: tuple[str, ...], studies: Sequence[Study], probabilities: NDArray[np.float64]) -> Predictions:
    return Predictions(
        brands=brands,
        patients=tuple(study.patient_id for study in studies),
        truth=tuple(study.brand for study in studies),
        has_crosslink=tuple(study.has_crosslink for study in studies),
        probabilities=probabilities,
    )


def _score(scorable: Predictions) -> dict[str, Any]:
    truth = [brand for brand in scorable.truth if brand is not None]
    return score_predictions(
        scorable.brands, truth, scorable.probabilities, scorable.has_crosslink, scorable.patients, seed=SEED, resamples=RESAMPLES
    )


def _score_detector(answers: Answers, studies: Sequence[Study], threshold: float) -> dict[str, Any]:
    annotated = ~np.isnan(answers.true_boxes[..., 0])
    negative = np.array([study.brand == "none" for study in studies])[:, None] & answers.given
    return detector_metrics(
        answers.true_boxes[annotated], answers.boxes[annotated], answers.box_scores[annotated], answers.box_scores[negative], threshold
    )


def _count_rows(all_studies: Sequence[Study], evaluated: Sequence[Study], brands: Sequence[str]) -> dict[str, Any]:
    kept = [study for study in all_studies if study.exclude is None]
    used = {id(study) for study in evaluated}
    return {
        "file": len(all_studies),
        "excluded": dict(Counter(study.exclude for study in all_studies if study.exclude is not None)),
        "other_splits": dict(Counter(study.split or "none" for study in kept if id(study) not in used)),
        **_count_brands([study.brand for study in evaluated], brands),
    }


def _count_brands(truth: Sequence[str | None], known: Sequence[str]) -> dict[str, Any]:
    return {
        "without_construct": sum(brand == "none" for brand in truth),
        "unseen": dict(Counter(brand for brand in truth if brand not in (None, "none", *known))),
        "unknown_brand": sum(brand is None for brand in truth),
        "scored": sum(brand in known for brand in truth),
    }


def _count_films(studies: Sequence[Study]) -> dict[str, int]:
    makers = [_read_manufacturer(film) for study in studies for view in VIEWS if (film := study.film(view))]
    return {"n": len(makers), "simulated": makers.count(PHANTOM), "unknown": makers.count("")}


def _read_manufacturer(film: Path) -> str:
    """Return the DICOM Manufacturer (0008,0070); empty when the file does not say."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return str(dcmread(film, stop_before_pixels=True, specific_tags=["Manufacturer"]).get("Manufacturer", ""))
    except InvalidDicomError:
        return ""


def _describe_file(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hash_file(path)}


def _describe_scoring(scored: Predictions, not_scored: list[str]) -> dict[str, Any]:
    return {
        "patients": len(set(scored.patients)),
        "not_scored": not_scored,
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED},
        **describe_software(),
    }


def _draw_figures(models: dict[str, Any], chosen: str, scored: Predictions) -> dict[str, bytes]:
    model = models[chosen]
    number = {brand: index for index, brand in enumerate(scored.brands)}
    truth = np.array([number[brand] for brand in scored.truth if brand is not None], np.intp)
    matrix = np.array(model["confusion"]["matrix"])
    right = (scored.probabilities.argmax(axis=1) == truth) & ~unanswered_rows(scored.probabilities)
    drawn = {
        "confusion": figures.draw_confusion(scored.brands, matrix, np.bincount(truth, minlength=len(number)) - matrix.sum(axis=1)),
        "reliability": figures.draw_reliability(scored.probabilities.max(axis=1), right),
    }
    if len(np.unique(truth)) > 1:
        drawn["roc"] = figures.draw_roc(scored.brands, truth, scored.probabilities)
    if len(models) > 1:
        accuracies = [figure["accuracy"] for figure in models.values()]
        drawn["models"] = figures.draw_intervals(
            list(models), accuracies, [figure["ci95"]["accuracy"] for figure in models.values()], chosen
        )
    return drawn


def _draw_overlaps(answers: Answers) -> dict[str, bytes]:
    annotated = ~np.isnan(answers.true_boxes[..., 0])
    if not annotated.any():
        return {}
    overlaps = {}
    for column, view in enumerate(VIEWS):
        rows = annotated[:, column]
        overlaps[view] = box_iou(answers.true_boxes[rows, column], answers.boxes[rows, column]) * answers.found[rows, column]
    return {"overlaps": figures.draw_overlaps({str(view): values for view, values in overlaps.items()})}


def _make_examples(
    pipeline: Pipeline, studies: Sequence[Study], answers: Answers, probabilities: NDArray[np.float64], asked: NDArray[np.bool_]
) -> tuple[Example, ...]:
    """Draw some wrong answers, the most confident ones, and right answers, the first of each brand."""
    from edgekit.canvases import stream_inputs

    brands = pipeline.spec.brands
    answer = [
        None if empty else brands[top] for empty, top in zip(unanswered_rows(probabilities), probabilities.argmax(axis=1), strict=True)
    ]
    rows = [row for row in np.flatnonzero(asked) if studies[row].brand in brands]
    wrong = sorted((row for row in rows if answer[row] != studies[row].brand), key=lambda row: -probabilities[row].max())[:WRONG_EXAMPLES]
    first = {studies[row].brand: row for row in reversed(rows) if answer[row] == studies[row].brand}
    right = sorted(first.values())[: EXAMPLES - len(wrong)]
    shown = [*right, *wrong]
    films = stream_inputs([studies[row] for row in shown], pipeline.spec.canvas_side, "drawing examples")
    examples = []
    for row, (study, inputs, letterboxes) in zip(shown, films, strict=True):
        ranked = np.argsort(-probabilities[row], kind="stable")
        examples.append(
            Example(
                patient_id=study.patient_id,
                brand=str(study.brand),
                answer=answer[row],
                probability=float(probabilities[row, ranked[0]]),
                runner_up=(brands[ranked[1]], float(probabilities[row, ranked[1]])),
                prediction_set=tuple(brand for brand, inside in zip(brands, answers.prediction_sets[row], strict=True) if inside),
                films={view: _draw_example(inputs[view][0, 0], letterboxes[view], answers, row, view) for view in letterboxes},
            )
        )
    return tuple(examples)


def _draw_example(canvas: NDArray[Any], letterbox: Letterbox, answers: Answers, row: int, view: View) -> bytes:
    import torch

    from edgekit.models.cropper import expand_boxes

    column = VIEWS.index(view)
    width, height = letterbox.covered
    corner = np.array([letterbox.left, letterbox.top] * 2)
    film = canvas[letterbox.top : letterbox.top + height, letterbox.left : letterbox.left + width]
    true = answers.true_boxes[row, column]
    found = bool(answers.found[row, column])
    crop = expand_boxes(torch.from_numpy(answers.boxes[row, column][None]), letterbox.side)[0].numpy()
    return figures.draw_film(
        film,
        _as_box(answers.boxes[row, column] - corner) if found else None,
        None if np.isnan(true).any() else _as_box(true - corner),
        answers.heatmaps[row, column] if found else None,
        _as_box(crop - corner) if found else None,
    )


def _as_box(edges: NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = (float(edge) for edge in edges)
    return x0, y0, x1, y1
