"""What a run says about studies: the films pass through the pipeline once, then every model answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import hash_canvas
from edgekit.contract import OUTPUTS, input_names
from edgekit.evaluation.asked import name_mean, name_model, name_of_view, name_pooled
from edgekit.evaluation.predictions import unanswered_rows
from edgekit.radiograph import Letterbox
from edgekit.studies import clip_box
from edgekit.task import EACH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from edgekit.journal import Journal
    from edgekit.models.ensemble import Ensemble
    from edgekit.models.pipeline import Pipeline
    from edgekit.task import Member, Task, View
    from edgekit.types import Box, Study, Tensors

__all__ = [
    "Answers",
    "ModelAnswers",
    "RowAnswer",
    "ask_models",
    "ask_rows",
    "collect_answers",
    "judge_answers",
    "read_answered",
]


WHOLE_NUMBERS = ("found", "prediction_set", "decision")
"""The outputs kept of each row that are whole numbers; the others are float32."""


@dataclass(frozen=True, slots=True, eq=False)
class RowAnswer:
    """What the pipeline said about one row.

    Attributes
    ----------
    letterboxes
        Where each film given lies on its canvas.
    outputs
        By name: ``members``, ``boxes``, ``box_scores``, ``found``, ``heatmaps``, ``unfamiliarity``, ``prediction_set``, ``decision``,
        ``members_on_films`` and ``members_on_true_boxes``; shapes as in `Answers`, without the rows.
    films
        Hashes of the canvases of the films given (`edgekit.canvases.hash_canvas`).
    """

    letterboxes: dict[View, Letterbox]
    outputs: dict[str, NDArray[Any]]
    films: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the pipeline said about N rows; V views, M members, K brands; boxes in canvas pixels.

    Attributes
    ----------
    views
        The task's, in the order of the arrays.
    studies
        The N rows, without those that could not be read.
    letterboxes
        N times where each film given lies on its canvas.
    given, found
        bool (N, V): the film was given; it counts as found.
    members
        float32 (N, M, K), zeros where a member could not be evaluated.
    members_on_films
        float32 (N, M, V, K), what the members that look at each film say about each alone; zeros where it was not found, and of all other
        members. None where that is not known.
    boxes, true_boxes
        float64 (N, V, 4); true boxes are NaN where not annotated, and where the task takes whole films.
    members_on_true_boxes
        float32 (N, M, K), as `members`, had the detector found the true boxes and nothing on the other films.
    box_scores
        float64 (N, V).
    heatmaps
        float32 (N, V, h, w).
    prediction_sets
        bool (N, K), of the run's own ensemble.
    unfamiliarities
        float64 (N,)
    decisions
        int (N,), places in `edgekit.types.DECISIONS`; of the run's own ensemble.
    """

    views: tuple[View, ...]
    studies: tuple[Study, ...]
    letterboxes: tuple[dict[View, Letterbox], ...]
    given: NDArray[np.bool_]
    found: NDArray[np.bool_]
    members: NDArray[np.float32]
    members_on_films: NDArray[np.float32] | None
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
        """The films with a true box, bool (N, V)."""
        return ~np.isnan(self.true_boxes[..., 0])

    def with_true_boxes(self) -> Answers:
        """Return what would have been said had the detector found the true boxes, and nothing on films without one."""
        return replace(self, found=self.annotated, members=self.members_on_true_boxes, boxes=self.true_boxes, members_on_films=None)


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
    task = pipeline.spec.task
    stacked = {name: np.stack([row.outputs[name] for row in rows]) for name in rows[0].outputs}
    found = stacked["found"] > 0
    return Answers(
        views=task.views,
        studies=tuple(studies),
        letterboxes=tuple(row.letterboxes for row in rows),
        given=np.array([[view in row.letterboxes for view in task.views] for row in rows]),
        found=found,
        members=stacked["members"],
        members_on_films=stacked["members_on_films"] * found[:, None, :, None],
        boxes=stacked["boxes"].astype(np.float64),
        true_boxes=np.array([_list_true_boxes(task, study, row.letterboxes) for study, row in zip(studies, rows, strict=True)], np.float64),
        members_on_true_boxes=stacked["members_on_true_boxes"],
        box_scores=stacked["box_scores"].astype(np.float64),
        heatmaps=stacked["heatmaps"],
        prediction_sets=stacked["prediction_set"] > 0,
        unfamiliarities=stacked["unfamiliarity"].reshape(len(rows)).astype(np.float64),
        decisions=stacked["decision"].reshape(len(rows)).astype(np.int64),
    )


def ask_models(answers: Answers, task: Task, member_rows: Sequence[str], ensembles: Iterable[Ensemble]) -> dict[str, ModelAnswers]:
    """Let every member and ensemble answer.

    Parameters
    ----------
    answers
        What the pipeline said.
    task
        What it was asked.
    member_rows
        M names of members.
    ensembles
        The run's.

    Returns
    -------
    dict
        By model, as `edgekit.evaluation.asked.list_models` lists them. A member that looks at each film answers about one film, about
        every film of a patient (in the order of the views; two answers where there are two films) and with the mean over them; with the
        mean alone where what it says about each film is not known.
    """
    members = {name: answers.members[:, row] for row, name in enumerate(member_rows)}
    models: dict[str, ModelAnswers] = {}
    for row, (name, probabilities) in enumerate(members.items()):
        member = task.member(name)
        given = answers.given[:, [task.place(view) for view in member.views]]
        if member.layout != EACH:
            models[name] = _take_asked(probabilities, np.all(given, axis=1))
            continue
        if answers.members_on_films is not None:
            models |= _split_films(task, member, answers.given, answers.members_on_films[:, row])
        models[name_mean(member)] = _take_asked(probabilities, np.any(given, axis=1))
    for ensemble in ensembles:
        cases = [np.isin(np.arange(len(task.views)), task.cases[case]) for case in ensemble.cases]
        asked = np.any([(answers.given == films).all(axis=1) for films in cases], axis=0)
        models[name_model(ensemble)] = _take_asked(ensemble.predict(members, answers.found, task.cases), asked)
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


def _ask_row(pipeline: Pipeline, study: Study, inputs: Tensors, letterboxes: dict[View, Letterbox]) -> dict[str, NDArray[Any]]:
    """Return what `RowAnswer` keeps of the pipeline's outputs."""
    import torch

    from edgekit.models.cropper import expand_boxes

    spec = pipeline.spec
    tensors = [torch.from_numpy(inputs[name]) for name in input_names(spec.task.views)]
    answer = dict(zip(OUTPUTS, pipeline(*tensors), strict=True))
    names = ("members", "boxes", "box_scores", "heatmaps", "unfamiliarity", *WHOLE_NUMBERS)
    outputs: dict[str, NDArray[Any]] = {name: answer[name].numpy().copy() for name in names}
    canvases = torch.cat(tensors[:-1]).float() / 255.0
    outputs["members_on_films"] = _ask_about_films(pipeline, canvases, answer["boxes"]).numpy()
    true = torch.tensor(_list_true_boxes(spec.task, study, letterboxes), dtype=torch.float64)
    annotated = ~true[:, 0].isnan()
    if annotated.any():
        crops = expand_boxes(true.float().nan_to_num(), spec.canvas_side, spec.crop_margin)
        outputs["members_on_true_boxes"] = pipeline.classify(canvases, crops, annotated.float())[0].numpy()
    else:
        outputs["members_on_true_boxes"] = np.zeros_like(outputs["members"])
    return outputs


def _ask_about_films(pipeline: Pipeline, canvases: Tensor, boxes: Tensor) -> Tensor:
    """Return what the members that look at each film say about each; float (M, V, K). The graph itself gives their mean only."""
    import torch

    from edgekit.models.cropper import crop_and_resize, expand_boxes

    spec = pipeline.spec
    said = torch.zeros(len(spec.members), len(spec.task.views), len(spec.brands))
    looking = [(row, member) for row, member in enumerate(map(spec.task.member, spec.members)) if member.layout == EACH]
    if looking:
        crops = crop_and_resize(canvases, expand_boxes(boxes, spec.canvas_side, spec.crop_margin), spec.crop_side, spec.crop_side)
        for row, member in looking:
            places = [spec.task.place(view) for view in member.views]
            said[row, places] = pipeline.member(member.name)(crops[places]).softmax(dim=1)
    return said


def _split_films(task: Task, member: Member, given: NDArray[np.bool_], films: NDArray[np.float32]) -> dict[str, ModelAnswers]:
    """Part what a member says about each film: `given` (N, V), `films` (N, V, K)."""
    places = [task.place(view) for view in member.views]
    split = {
        name_of_view(member, view): _take_asked(films[:, place], given[:, place]) for view, place in zip(member.views, places, strict=True)
    }
    rows, _ = np.nonzero(given[:, places])  # patient by patient, in the order of the views
    return {**split, name_pooled(member): ModelAnswers(rows, _fill_unanswered(films[:, places][given[:, places]]))}


def _take_asked(probabilities: NDArray[np.float32], asked: NDArray[np.bool_]) -> ModelAnswers:
    return ModelAnswers(np.flatnonzero(asked), _fill_unanswered(probabilities[asked]))


def _fill_unanswered(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    filled = probabilities.astype(np.float64)
    if len(filled):
        filled[unanswered_rows(filled)] = 1 / filled.shape[1]
    return filled


def _list_true_boxes(task: Task, study: Study, letterboxes: dict[View, Letterbox]) -> list[Box]:
    """Return the true box of each view in canvas pixels, NaN where there is none to find."""
    return [_true_box(study, view, letterboxes) if task.locate else (np.nan,) * 4 for view in task.views]


def _true_box(study: Study, view: View, letterboxes: dict[View, Letterbox]) -> Box:
    box = study.box(view)
    if box is None or view not in letterboxes:
        return (np.nan,) * 4
    return letterboxes[view].to_canvas(clip_box(box, letterboxes[view].width, letterboxes[view].height))
