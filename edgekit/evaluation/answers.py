"""What a run says about studies: the films pass through the pipeline once, then every model answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.evaluation.metrics import unanswered_rows
from edgekit.types import INPUTS, OUTPUTS, VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from edgekit.models.ensemble import Ensemble
    from edgekit.models.pipeline import Pipeline
    from edgekit.radiograph import Letterbox
    from edgekit.types import Box, Study, View

__all__ = ["Answers", "ask_models", "collect_answers", "name_model"]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the pipeline said about N rows, M members, K brands; boxes in canvas pixels, films in the order of `VIEWS`.

    Attributes
    ----------
    given, found
        bool (N, 2): the film was given; its box score reaches the threshold.
    members
        float32 (N, M, K), zeros where a member could not be evaluated.
    boxes, true_boxes
        float64 (N, 2, 4); true boxes are NaN where not annotated.
    box_scores
        float64 (N, 2).
    heatmaps
        float32 (N, 2, h, w).
    prediction_sets
        bool (N, K), of the run's own ensemble.
    """

    given: NDArray[np.bool_]
    found: NDArray[np.bool_]
    members: NDArray[np.float32]
    boxes: NDArray[np.float64]
    true_boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]
    heatmaps: NDArray[np.float32]
    prediction_sets: NDArray[np.bool_]


def collect_answers(pipeline: Pipeline, studies: Sequence[Study]) -> Answers:
    """Stream the films of `studies` through `pipeline`, one patient at a time."""
    import torch

    from edgekit.canvases import stream_inputs

    given, true_boxes = [], []
    outputs: dict[str, list[NDArray[Any]]] = {name: [] for name in ("members", "boxes", "box_scores", "heatmaps", "prediction_set")}
    with torch.inference_mode():
        for study, inputs, letterboxes in stream_inputs(studies, pipeline.spec.canvas_side, "evaluating films"):
            tensors = pipeline(*(torch.from_numpy(inputs[name]) for name in INPUTS))
            answer = dict(zip(OUTPUTS, tensors, strict=True))
            for name, collected in outputs.items():
                collected.append(answer[name].numpy().copy())
            given.append(np.asarray(inputs["present"], np.float32) > 0)
            true_boxes.append([_true_box(study, view, letterboxes) for view in VIEWS])
    stacked = {name: np.stack(collected) for name, collected in outputs.items()}
    films = np.stack(given)
    return Answers(
        given=films,
        found=films & (stacked["box_scores"] >= pipeline.spec.box_threshold),
        members=stacked["members"],
        boxes=stacked["boxes"].astype(np.float64),
        true_boxes=np.array(true_boxes, np.float64),
        box_scores=stacked["box_scores"].astype(np.float64),
        heatmaps=stacked["heatmaps"],
        prediction_sets=stacked["prediction_set"] > 0,
    )


def ask_models(
    answers: Answers, member_rows: Sequence[str], ensembles: Iterable[Ensemble]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Let every member and ensemble answer.

    Returns
    -------
    dict
        By model: float64 (N, K) probabilities, equal where there is no answer; and bool (N,), whether the model could have answered
        for the films given. The members first.
    """
    ap, lateral = answers.given.T
    cases = {"ap": ap & ~lateral, "lateral": lateral & ~ap, "both": ap & lateral}
    needed = {"ap": ap, "lateral": lateral, "concat": ap & lateral, "merge": ap | lateral}
    members = {name: answers.members[:, row] for row, name in enumerate(member_rows)}
    models = {"merge_mean" if name == "merge" else name: (rows, needed[name]) for name, rows in members.items()}
    for ensemble in ensembles:
        asked = np.any([cases[case] for case in ensemble.cases], axis=0)
        models[name_model(ensemble)] = ensemble.predict(members, *answers.found.T), asked
    return {name: (_fill_unanswered(rows), asked) for name, (rows, asked) in models.items()}


def name_model(ensemble: Ensemble) -> str:
    """Name an ensemble among the models: an ensemble of one member, which is that member calibrated, is not the member."""
    return f"{ensemble.name}-calibrated" if len(ensemble.members) == 1 else ensemble.name


def _fill_unanswered(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    filled = rows.astype(np.float64)
    filled[unanswered_rows(filled)] = 1 / filled.shape[1]
    return filled


def _true_box(study: Study, view: View, letterboxes: dict[View, Letterbox]) -> Box:
    box = study.box(view)
    return (np.nan,) * 4 if box is None or view not in letterboxes else letterboxes[view].to_canvas(box)
