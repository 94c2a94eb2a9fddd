"""What of an evaluation is drawn: its figures become the plain arrays that `edgekit.evaluation.figures` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.boxes import box_iou
from edgekit.evaluation import figures
from edgekit.evaluation.gradcam import explain_brands
from edgekit.evaluation.predictions import unanswered_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.evaluation.answers import Answers
    from edgekit.evaluation.predictions import Predictions
    from edgekit.models.pipeline import Pipeline

__all__ = ["chart_explanations", "chart_metrics", "chart_model", "chart_overlaps", "chart_sureness"]

CONDITION_LABELS = {"angle": "angle, degrees", "moire": "moire, contrast", "glare": "glare, of white", "blur": "blur, pixels"}
"""What `edgekit.evaluation.photos.CONDITIONS` are called on an axis."""


def chart_metrics(metrics: dict[str, Any], headline: str) -> dict[str, bytes]:
    """Draw what ``metrics.json`` alone decides.

    Parameters
    ----------
    metrics
        Its content.
    headline
        The model that is set off.

    Returns
    -------
    dict
        SVG bytes: ``models`` when there are several, ``box_errors``, ``external`` and ``photos`` when there are such figures.
    """
    models, drawn = metrics["models"], {}
    if len(models) > 1:
        labels = {name: f"{name}  n {model['patients']}" for name, model in models.items()}
        drawn["models"] = figures.draw_intervals(list(labels.values()), *_accuracies(models), labels[headline])
    if box_errors := metrics.get("box_errors"):
        first = next(iter(box_errors.values()))["bands"]
        bands = [_name_band(band["low"], band["high"]) for band in first]
        drawn["box_errors"] = figures.draw_bands(bands, {name: _band_arrays(errors["bands"]) for name, errors in box_errors.items()})
    if external := metrics.get("external"):
        both = [name for name in models if name in external["models"]]
    if external and both:
        sites = {
            "here": _accuracies({name: models[name] for name in both}),
            "at the other site": _accuracies({name: external["models"][name] for name in both}),
        }
        labelled = [f"{name}  n {models[name]['patients']}, {external['models'][name]['patients']}" for name in both]
        drawn["external"] = figures.draw_sites(labelled, sites)
    if (photos := metrics.get("photos")) and (drop := photos["drop"].get(headline)) and drop["conditions"]:
        thirds = {
            CONDITION_LABELS[name]: [(f"to {band['high']:.2g}", band["n"], band["value"], band["ci95"]) for band in found]
            for name, found in drop["conditions"].items()
        }
        drawn["photos"] = figures.draw_drops(thirds, drop["value"])
    return drawn


def chart_model(model: dict[str, Any], scored: Predictions, told: str) -> dict[str, bytes]:
    """Draw one model's confusion matrix, and its ROC curves where two brands occur.

    Parameters
    ----------
    model
        Its object of ``metrics.json``.
    scored
        Its answers, all of brands that it knows.
    told
        The task's word for a brand.

    Returns
    -------
    dict
        SVG bytes: ``confusion``, ``roc``.
    """
    matrix = np.array(model["confusion"]["matrix"])
    support = np.array([brand["support"] for brand in model["brands"].values()])
    drawn = {"confusion": figures.draw_confusion(model["confusion"]["labels"], matrix, support - matrix.sum(axis=1), told)}
    truth = _index_truth(scored)
    if len(np.unique(truth)) > 1:
        drawn["roc"] = figures.draw_roc(scored.brands, truth, scored.probabilities)
    return drawn


def chart_sureness(scored: Predictions) -> dict[str, bytes]:
    """Draw ``reliability`` of one model's answers, all of brands that it knows."""
    right = (scored.probabilities.argmax(axis=1) == _index_truth(scored)) & ~unanswered_rows(scored.probabilities)
    return {"reliability": figures.draw_reliability(scored.probabilities.max(axis=1), right)}


def chart_overlaps(answers: Answers) -> dict[str, bytes]:
    """Draw ``overlaps``, the IoU of the boxes found with the true ones; nothing where no film is annotated."""
    if not answers.annotated.any():
        return {}
    overlaps = {}
    for column, view in enumerate(answers.views):
        rows = answers.annotated[:, column]
        overlaps[view] = box_iou(answers.true_boxes[rows, column], answers.boxes[rows, column]) * answers.found[rows, column]
    return {"overlaps": figures.draw_overlaps(overlaps)}


def chart_explanations(pipeline: Pipeline, answers: Answers, probabilities: NDArray[np.float64]) -> dict[str, bytes]:
    """Draw ``gradcam``: one right answer of each brand; nothing where there is none to explain.

    See `edgekit.evaluation.gradcam.explain_brands`.
    """
    explained = explain_brands(pipeline, answers, probabilities)
    return {"gradcam": figures.draw_explanations(explained)} if explained else {}


def _index_truth(scored: Predictions) -> NDArray[np.intp]:
    number = {brand: index for index, brand in enumerate(scored.brands)}
    return np.array([number[brand] for brand in scored.truth if brand is not None], np.intp)


def _accuracies(models: dict[str, Any]) -> tuple[list[float], list[list[float]]]:
    return [model["accuracy"] for model in models.values()], [model["ci95"]["accuracy"] for model in models.values()]


def _name_band(low: float, high: float) -> str:
    if low == 0:
        return f"< {high}"
    return f"≥ {low}" if high == 1 else f"{low}–{high}"


def _band_arrays(bands: list[dict[str, Any]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    n = np.array([band["n"] for band in bands], np.int64)
    return n, np.array([np.nan if band["accuracy"] is None else band["accuracy"] for band in bands], np.float64)
