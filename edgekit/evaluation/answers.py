"""What a run says about studies: the films pass through the pipeline once, then every model answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import hash_canvas
from edgekit.evaluation.predictions import unanswered_rows
from edgekit.radiograph import Letterbox
from edgekit.studies import clip_box
from edgekit.types import INPUTS, OUTPUTS, VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from edgekit.journal import Journal
    from edgekit.models.ensemble import Ensemble
    from edgekit.models.pipeline import Pipeline
    from edgekit.types import Box, Study, Tensors, View

__all__ = [
    "Answers",
    "ModelAnswers",
    "RowAnswer",
    "ask_models",
    "ask_rows",
    "collect_answers",
    "judge_answers",
    "name_model",
    "read_answered",
]


WHOLE_NUMBERS = ("prediction_set", "decision")
"""The outputs kept of each row that are whole numbers; the others are float32."""


@dataclass(frozen=True, slots=True, eq=False)
class RowAnswer:
    """What the pipeline said about one row.

    Attributes
    ----------
    letterboxes
        Where each film given lies on its canvas.
    outputs
        By name: ``members``, ``boxes``, ``box_scores``, ``heatmaps``, ``unfamiliarity``, ``prediction_set``, ``decision``,
        ``members_on_true_boxes`` and, when the run has ``merge``, ``merge_films``; shapes as in `Answers`, without the rows.
    films
        Hashes of the canvases of the films given (`edgekit.canvases.hash_canvas`).
    """

    letterboxes: dict[View, Letterbox]
    outputs: dict[str, NDArray[Any]]
    films: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the pipeline said about N rows, M members, K brands; boxes in canvas pixels, films in the order of `VIEWS`.

    Attributes
    ----------
    studies
        The N rows, without those that could not be read.
    letterboxes
        N times where each film given lies on its canvas.
    given, found
        bool (N, 2): the film was given; its box score reaches the threshold.
    members
        float32 (N, M, K), zeros where a member could not be evaluated.
    merge_films
        float32 (N, 2, K), what ``merge`` says about each film alone, zeros where it was not found; None when the run has no ``merge``.
    boxes, true_boxes
        float64 (N, 2, 4); true boxes are NaN where not annotated.
    members_on_true_boxes
        float32 (N, M, K), as `members`, had the detector found the true boxes and nothing on the other films.
    box_scores
        float64 (N, 2).
    heatmaps
        float32 (N, 2, h, w).
    prediction_sets
        bool (N, K), of the run's own ensemble.
    unfamiliarities
        float64 (N,)
    decisions
        int (N,), places in `edgekit.types.DECISIONS`; of the run's own ensemble.
    """

    studies: tuple[Study, ...]
    letterboxes: tuple[dict[View, Letterbox], ...]
    given: NDArray[np.bool_]
    found: NDArray[np.bool_]
    members: NDArray[np.float32]
    merge_films: NDArray[np.float32] | None
    boxes: NDArray[np.float64]
    true_boxes: NDArray[np.float64]
    members_on_true_boxes: NDArray[np.float32]
    box_scores: NDArray[np.float64]
    heatmaps: NDArray[np.float32]
    prediction_sets: NDArray[np.bool_]
    unfamiliarities: NDArray[np.float64]
    decisions: NDArray[np.int64]

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """The films with a true box, bool (N, 2)."""
        return ~np.isnan(self.true_boxes[..., 0])

    def with_true_boxes(self) -> Answers:
        """Return what would have been said had the detector found the true boxes, and nothing on films without one."""
        return replace(self, found=self.annotated, members=self.members_on_true_boxes, boxes=self.true_boxes, merge_films=None)


@dataclass(frozen=True, slots=True, eq=False)
class ModelAnswers:
    """What one model answered, R times.

    Attributes
    ----------
    rows
        int (R,), the row of `Answers` that each is about: those whose films the model could have answered for.
    probabilities
        float64 (R, K), equal where there is no answer.
    """

    rows: NDArray[np.intp]
    probabilities: NDArray[np.float64]

    def spread(self, n: int) -> NDArray[np.float64]:
        """Return one answer for each of the n rows of `Answers`, float64 (n, K): equal probabilities where there is none."""
        spread = np.full((n, self.probabilities.shape[1]), 1 / self.probabilities.shape[1])
        spread[self.rows] = self.probabilities
        return spread


def ask_rows(
    pipeline: Pipeline,
    films: Iterable[tuple[int, Study, Tensors, dict[View, Letterbox]]],
    journal: Journal,
    answered: dict[int, RowAnswer],
) -> None:
    """Let films pass through `pipeline`, as many patients at a time as there are threads.

    Parameters
    ----------
    pipeline
        The run's.
    films
        Place in the cohort, row, its tensors and where its films lie on the canvases.
    journal
        Where each answer is kept at once.
    answered
        Answers by place, those of an earlier call (see `read_answered`); the new ones are put in.
    """
    from edgekit.models.side_by_side import answer_side_by_side

    def ask(film: tuple[int, Study, Tensors, dict[View, Letterbox]]) -> dict[str, NDArray[Any]]:
        return _ask_row(pipeline, *film[1:])

    for (place, _, inputs, letterboxes), outputs in answer_side_by_side(ask, films):
        placed = {view: asdict(letterbox) for view, letterbox in letterboxes.items()}
        films_seen = tuple(hash_canvas(inputs[view][0, 0]) for view in letterboxes)
        kept = {name: value.tolist() for name, value in outputs.items()}
        journal.append({"place": place, "letterboxes": placed, "outputs": kept, "films": films_seen})
        answered[place] = RowAnswer(dict(letterboxes), outputs, films_seen)


def read_answered(journal: Journal) -> dict[int, RowAnswer]:
    """Return the answers that an interrupted `ask_rows` left in its journal, by place; exactly what they were."""
    return {
        entry["place"]: RowAnswer(
            {view: Letterbox(**letterbox) for view, letterbox in entry["letterboxes"].items()},
            {name: np.array(value, np.int64 if name in WHOLE_NUMBERS else np.float32) for name, value in entry["outputs"].items()},
            tuple(entry["films"]),
        )
        for entry in journal.read()
    }


def collect_answers(pipeline: Pipeline, studies: Sequence[Study], rows: Sequence[RowAnswer]) -> Answers:
    """Put N answers of `pipeline` side by side.

    Parameters
    ----------
    pipeline
        The run's.
    studies
        The N rows.
    rows
        What was said about each.
    """
    stacked = {name: np.stack([row.outputs[name] for row in rows]) for name in rows[0].outputs}
    given = np.array([[view in row.letterboxes for view in VIEWS] for row in rows])
    found = given & (stacked["box_scores"] >= pipeline.spec.box_threshold)
    true_boxes = [[_true_box(study, view, row.letterboxes) for view in VIEWS] for study, row in zip(studies, rows, strict=True)]
    return Answers(
        studies=tuple(studies),
        letterboxes=tuple(row.letterboxes for row in rows),
        given=given,
        found=found,
        members=stacked["members"],
        merge_films=stacked["merge_films"] * found[..., None] if "merge_films" in stacked else None,
        boxes=stacked["boxes"].astype(np.float64),
        true_boxes=np.array(true_boxes, np.float64),
        members_on_true_boxes=stacked["members_on_true_boxes"],
        box_scores=stacked["box_scores"].astype(np.float64),
        heatmaps=stacked["heatmaps"],
        prediction_sets=stacked["prediction_set"] > 0,
        unfamiliarities=stacked["unfamiliarity"].reshape(len(rows)).astype(np.float64),
        decisions=stacked["decision"].reshape(len(rows)).astype(np.int64),
    )


def ask_models(answers: Answers, member_rows: Sequence[str], ensembles: Iterable[Ensemble]) -> dict[str, ModelAnswers]:
    """Let every member and ensemble answer.

    Parameters
    ----------
    answers
        What the pipeline said.
    member_rows
        M names of members.
    ensembles
        The run's.

    Returns
    -------
    dict
        By model, the members first. ``merge`` answers four times: ``merge_ap`` and ``merge_lateral`` for one film, ``merge_dual`` for
        each film of a patient (AP first; two answers where there are two films) and ``merge_mean`` with the mean over them.
    """
    ap, lateral = answers.given.T
    cases = {"ap": ap & ~lateral, "lateral": lateral & ~ap, "both": ap & lateral}
    needed = {"ap": ap, "lateral": lateral, "concat": ap & lateral, "merge": ap | lateral}
    members = {name: answers.members[:, row] for row, name in enumerate(member_rows)}
    models: dict[str, ModelAnswers] = {}
    for name, probabilities in members.items():
        if name == "merge" and answers.merge_films is not None:
            models |= _split_merge(answers.given, answers.merge_films)
        models["merge_mean" if name == "merge" else name] = _take_asked(probabilities, needed[name])
    for ensemble in ensembles:
        asked = np.any([cases[case] for case in ensemble.cases], axis=0)
        models[name_model(ensemble)] = _take_asked(ensemble.predict(members, *answers.found.T), asked)
    return models


def judge_answers(model: ModelAnswers, truth: Sequence[str | None], brands: Sequence[str]) -> NDArray[np.float64]:
    """Tell which answers are right.

    Parameters
    ----------
    model
        At most one answer for each row.
    truth
        N times the true brand.
    brands
        K brands that the model knows.

    Returns
    -------
    float64 (N,); 1 right, 0 wrong or no answer, NaN where the model was not asked or does not know the brand.
    """
    right = np.full(len(truth), np.nan)
    right[model.rows] = [
        top == brands.index(brand) and not empty if (brand := truth[row]) in brands else np.nan
        for row, top, empty in zip(model.rows, model.probabilities.argmax(axis=1), unanswered_rows(model.probabilities), strict=True)
    ]
    return right


def name_model(ensemble: Ensemble) -> str:
    """Name an ensemble among the models: an ensemble of one member, which is that member calibrated, is not the member."""
    return f"{ensemble.name}-calibrated" if len(ensemble.members) == 1 else ensemble.name


def _ask_row(pipeline: Pipeline, study: Study, inputs: Tensors, letterboxes: dict[View, Letterbox]) -> dict[str, NDArray[Any]]:
    """Return what `RowAnswer` keeps of the pipeline's outputs."""
    import torch

    from edgekit.models.cropper import expand_boxes

    tensors = [torch.from_numpy(inputs[name]) for name in INPUTS]
    answer = dict(zip(OUTPUTS, pipeline(*tensors), strict=True))
    names = ("members", "boxes", "box_scores", "heatmaps", "unfamiliarity", *WHOLE_NUMBERS)
    outputs: dict[str, NDArray[Any]] = {name: answer[name].numpy().copy() for name in names}
    canvases = torch.cat(tensors[:2]).float() / 255.0
    if "merge" in pipeline.spec.members:
        outputs["merge_films"] = _ask_merge(pipeline, canvases, answer["boxes"]).numpy()
    true = torch.tensor([_true_box(study, view, letterboxes) for view in VIEWS], dtype=torch.float64)
    annotated = ~true[:, 0].isnan()
    if annotated.any():
        crops = expand_boxes(true.float().nan_to_num(), pipeline.spec.canvas_side)
        outputs["members_on_true_boxes"] = pipeline.classify(canvases, crops, annotated.float())[0].numpy()
    else:
        outputs["members_on_true_boxes"] = np.zeros_like(outputs["members"])
    return outputs


def _ask_merge(pipeline: Pipeline, canvases: Tensor, boxes: Tensor) -> Tensor:
    """Return what ``merge`` says about each film; float (2, K). The graph itself gives their mean only."""
    from edgekit.models.cropper import crop_and_resize, expand_boxes

    side = pipeline.spec.crop_side
    crops = crop_and_resize(canvases, expand_boxes(boxes, pipeline.spec.canvas_side), side, side)
    logits: Tensor = pipeline.member("merge")(crops)
    return logits.softmax(dim=1)


def _split_merge(given: NDArray[np.bool_], films: NDArray[np.float32]) -> dict[str, ModelAnswers]:
    rows, _ = np.nonzero(given)  # patient by patient, AP before lateral
    return {
        "merge_ap": _take_asked(films[:, 0], given[:, 0]),
        "merge_lateral": _take_asked(films[:, 1], given[:, 1]),
        "merge_dual": ModelAnswers(rows, _fill_unanswered(films[given])),
    }


def _take_asked(probabilities: NDArray[np.float32], asked: NDArray[np.bool_]) -> ModelAnswers:
    return ModelAnswers(np.flatnonzero(asked), _fill_unanswered(probabilities[asked]))


def _fill_unanswered(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    filled = probabilities.astype(np.float64)
    if len(filled):
        filled[unanswered_rows(filled)] = 1 / filled.shape[1]
    return filled


def _true_box(study: Study, view: View, letterboxes: dict[View, Letterbox]) -> Box:
    box = study.box(view)
    if box is None or view not in letterboxes:
        return (np.nan,) * 4
    return letterboxes[view].to_canvas(clip_box(box, letterboxes[view].width, letterboxes[view].height))
