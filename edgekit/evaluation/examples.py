"""Patients shown in the report: their films, the boxes, where the model looks, and what it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.evaluation import figures
from edgekit.evaluation.predictions import unanswered_rows
from edgekit.evaluation.report import Example
from edgekit.types import DECISIONS, REFUSED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.evaluation.answers import Answers, ModelAnswers
    from edgekit.models.pipeline import Pipeline
    from edgekit.radiograph import Letterbox
    from edgekit.task import View
    from edgekit.types import Box

__all__ = ["make_examples"]

EXAMPLES, WRONG_EXAMPLES = 6, 3


def make_examples(pipeline: Pipeline, answers: Answers, model: ModelAnswers) -> tuple[Example, ...]:
    """Draw some rows that the run's own ensemble did not answer rightly, and right answers, the first of each brand.

    The former are wrong answers, the most confident ones, before rows that got none.
    """
    from edgekit.canvases import stream_inputs

    brands, studies = pipeline.spec.brands, answers.studies
    probabilities = model.spread(len(studies))
    decisions = [DECISIONS[decision] for decision in answers.decisions]
    answer = [
        None if empty or decision in REFUSED else brands[top]
        for empty, decision, top in zip(unanswered_rows(probabilities), decisions, probabilities.argmax(axis=1), strict=True)
    ]
    rows = [row for row in model.rows if studies[row].brand in brands]
    not_right = [row for row in rows if answer[row] != studies[row].brand]
    wrong = sorted(not_right, key=lambda row: (answer[row] is None, -probabilities[row].max()))[:WRONG_EXAMPLES]
    first = {studies[row].brand: row for row in reversed(rows) if answer[row] == studies[row].brand}
    right = sorted(first.values())[: EXAMPLES - len(wrong)]
    shown = [*right, *wrong]
    films = stream_inputs([studies[row] for row in shown], answers.views, pipeline.spec.canvas_side, "drawing examples")
    examples = []
    for row, (study, inputs, letterboxes) in zip(shown, films, strict=True):
        ranked = np.argsort(-probabilities[row], kind="stable")
        examples.append(
            Example(
                patient_id=study.patient_id,
                brand=str(study.brand),
                answer=answer[row],
                decision=decisions[row],
                probability=float(probabilities[row, ranked[0]]),
                runner_up=(brands[ranked[1]], float(probabilities[row, ranked[1]])),
                prediction_set=tuple(brand for brand, inside in zip(brands, answers.prediction_sets[row], strict=True) if inside),
                films={view: _draw_example(pipeline, inputs[view][0, 0], letterboxes[view], answers, row, view) for view in letterboxes},
            )
        )
    return tuple(examples)


def _draw_example(pipeline: Pipeline, canvas: NDArray[Any], letterbox: Letterbox, answers: Answers, row: int, view: View) -> bytes:
    """Draw one film; no box where the whole film is taken."""
    import torch

    from edgekit.models.cropper import expand_boxes

    spec, column = pipeline.spec, answers.views.index(view)
    width, height = letterbox.covered
    corner = np.array([letterbox.left, letterbox.top] * 2)
    film = canvas[letterbox.top : letterbox.top + height, letterbox.left : letterbox.left + width]
    true = answers.true_boxes[row, column]
    found = bool(answers.found[row, column])
    crop = expand_boxes(torch.from_numpy(answers.boxes[row, column][None]), letterbox.side, spec.crop_margin)[0].numpy()
    return figures.draw_film(
        film,
        _as_box(answers.boxes[row, column] - corner) if found and spec.task.locate else None,
        None if np.isnan(true).any() else _as_box(true - corner),
        answers.heatmaps[row, column] if found else None,
        _as_box(crop - corner) if found else None,
    )


def _as_box(edges: NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = (float(edge) for edge in edges)
    return x0, y0, x1, y1
