"""One cohort: which rows of a studies table it is, what every model answers for them, and how good that is.

The test patients, another site's and the readers' are all evaluated here, by the same code.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.canvases import stream_inputs
from edgekit.errors import InputError
from edgekit.evaluation.answers import ask_models, ask_rows, collect_answers, judge_answers, read_answered
from edgekit.evaluation.asked import list_models, name_model
from edgekit.evaluation.box_errors import measure_box_errors
from edgekit.evaluation.cells import describe_film
from edgekit.evaluation.detector import score_detector
from edgekit.evaluation.film_header import FilmHeader, read_header
from edgekit.evaluation.metrics import score_predictions
from edgekit.evaluation.pairs import compare_models
from edgekit.evaluation.predictions import FIGURES, PredictionRow, Predictions, write_predictions
from edgekit.files import hash_file
from edgekit.journal import Journal
from edgekit.progress import track
from edgekit.studies import NO_CONSTRUCT, OTHER_METAL, has_film, select
from edgekit.task import SINGLE
from edgekit.types import DECISIONS, REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.evaluation.answers import Answers, ModelAnswers
    from edgekit.evaluation.asked import Model
    from edgekit.models.ensemble import Ensemble
    from edgekit.models.pipeline import Pipeline
    from edgekit.task import Task, View
    from edgekit.types import Study

__all__ = [
    "JOURNAL", "RESAMPLES", "SEED", "Cohort", "Models", "ask_cohort", "count_brands", "describe_cohort",
    "describe_file", "load_models", "make_predictions", "require_scorable", "score_cohort", "score_model",
    "select_external", "select_test", "write_cohort",
]  # fmt: skip

JOURNAL = "answers.partial"
"""File of a cohort's answers, in the folder of its predictions, until the evaluation is written."""
RESAMPLES, SEED = 1000, 0
"""Of the bootstrap over patients."""


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """What a run has to evaluate.

    Attributes
    ----------
    sha256
        Of the run.
    pipeline
        With every member that was trained.
    ensembles
        All of them, by the run's names.
    asked
        Each way of asking them by name (`edgekit.evaluation.asked.list_models`).
    films
        Hashes of the films that the run learnt from; None when it did not keep them.
    """

    sha256: str
    pipeline: Pipeline
    ensembles: dict[str, Ensemble]
    asked: dict[str, Model]
    films: frozenset[str] | None

    @property
    def task(self) -> Task:
        """What the run is asked."""
        return self.pipeline.spec.task

    @property
    def brands(self) -> tuple[str, ...]:
        """The K brands that the models know."""
        return self.pipeline.spec.brands

    @property
    def chosen(self) -> Ensemble:
        """The ensemble that the run exports."""
        return self.ensembles[self.pipeline.spec.ensemble]

    def ask(self, answers: Answers) -> dict[str, ModelAnswers]:
        """Let every member and ensemble answer (see `edgekit.evaluation.answers.ask_models`)."""
        return ask_models(answers, self.task, self.pipeline.spec.members, self.ensembles.values())


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Rows of a studies table and what every model answered for them.

    Attributes
    ----------
    file
        The table.
    numbers
        Of the rows in the studies table, from 1, for each row that `answers` is about.
    answers
        What the pipeline said about the rows that could be read.
    models
        Answers by model.
    rows
        What became of every row of the table: ``provenance.rows`` of ``metrics.json``.
    learnt_from
        Patients one of whose films the run learnt from, found by equal decoded pixels; None when the run did not keep what it learnt from.
    headers
        By view, of the films of each row that `answers` is about; of photos their films'.
    """

    file: Path
    numbers: tuple[int, ...]
    answers: Answers
    models: dict[str, ModelAnswers]
    rows: dict[str, Any]
    learnt_from: tuple[str, ...] | None
    headers: tuple[dict[View, FilmHeader], ...]

    @property
    def studies(self) -> tuple[Study, ...]:
        """The rows that `answers` is about."""
        return self.answers.studies

    @property
    def truth(self) -> list[str | None]:
        """The true brand of each row."""
        return [study.brand for study in self.studies]


def load_models(run: Path) -> Models:
    """Load everything in `run` that can be evaluated.

    Raises
    ------
    InputError
        The run is unfinished, two of its models have one name, or its covariate is called as a figure is.
    """
    from edgekit.models.runfolder import load_ensembles, load_films, load_members_pipeline, run_hash

    pipeline, ensembles = load_members_pipeline(run), load_ensembles(run)
    if pipeline.spec.task.covariate in FIGURES:
        raise InputError(f"{run}: covariate = {pipeline.spec.task.covariate!r} is called as a figure is", "give it another name in [task]")
    asked = list_models(pipeline.spec.task, pipeline.spec.members, ensembles.values())
    return Models(run_hash(run), pipeline, ensembles, asked, load_films(run))


def select_test(path: Path, studies: Sequence[Study]) -> list[Study]:
    """Return the test rows; all rows where the split column is empty throughout. Excluded rows never.

    Raises
    ------
    InputError
        There are none.
    """
    test = [study for study in studies if study.exclude is None] if _is_unsplit(studies) else select(studies, "test")
    if not test:
        raise InputError(
            f"{path} has no test rows", "split it with: edgekit studies split; or leave the split column empty to use all rows"
        )
    return test


def select_external(path: Path, studies: Sequence[Study]) -> list[Study]:
    """Return the rows of split ``external``; without any, those that `select_test` takes.

    Raises
    ------
    InputError
        There are none of either.
    """
    return select(studies, "external") or select_test(path, studies)


def has_known_brand(models: Models, selected: Sequence[Study]) -> bool:
    """Tell whether any row has a brand that the run knows: members and ensembles can be scored then."""
    return any(study.brand in models.brands for study in selected)


def require_scorable(models: Models, file: Path, selected: Sequence[Study], *, by_brand: bool = False) -> None:
    """Make sure that there is something to score.

    Parameters
    ----------
    by_brand
        Whether brands must be scored; without them, boxes and films of brand ``none`` are something to score a detector by.

    Raises
    ------
    InputError
        No row has a brand that the run knows, and nothing else can be scored.
    """
    locates = models.task.locate and not by_brand
    if not has_known_brand(models, selected) and not (
        locates and any(study.brand == NO_CONSTRUCT or any(study.boxes.values()) for study in selected)
    ):
        raise InputError(
            f"{file}: none of the {len(selected)} rows to evaluate has a brand that the run knows ({', '.join(models.brands)})",
            "check the brand column",
        )


def ask_cohort(models: Models, file: Path, all_studies: Sequence[Study], selected: Sequence[Study], folder: Path) -> Cohort:
    """Let every model answer for the `selected` rows of a table; rows that can't be read are left out and counted.

    Each answer is kept in `JOURNAL` at once; a call that finds the journal of an interrupted one asks only for the rows that it lacks.

    Parameters
    ----------
    models
        What is asked.
    file
        The table.
    all_studies, selected
        Its rows, and those to ask for.
    folder
        Where the journal is, until the caller deletes it.

    Raises
    ------
    InputError
        No row has the films that the run's own ensemble needs; too many rows can't be read; or the journal is of another run, table or
        version of edgekit.
    """
    spec = models.pipeline.spec
    journal = Journal(folder / JOURNAL, {"run": models.sha256, "table": hash_file(file)})
    answered = read_answered(journal)
    unreadable: dict[Study, str] = {}
    numbers = {id(study): number for number, study in enumerate(selected)}
    films = stream_inputs(selected, spec.task.views, spec.canvas_side, "evaluating films", unreadable, frozenset(answered))
    placed = ((numbers[id(study)], study, inputs, letterboxes) for study, inputs, letterboxes in films)
    ask_rows(models.pipeline, placed, journal, answered)
    if not answered:
        raise InputError(f"no row can be read: {'; '.join(unreadable.values())}", "replace these films")
    places = sorted(answered)
    answers = collect_answers(models.pipeline, [selected[place] for place in places], [answered[place] for place in places])
    asked = models.ask(answers)
    answered_for = [answers.studies[row] for row in asked[name_model(models.chosen)].rows]
    if has_known_brand(models, selected) and not has_known_brand(models, answered_for):
        raise InputError(
            f"{file}: no patient to evaluate has the films that {spec.ensemble} needs",
            f"evaluate on patients with films of {' and '.join(spec.task.views)}, or train a run whose ensemble answers for fewer",
        )
    in_table = {id(study): number for number, study in enumerate(all_studies, 1)}
    rows = tuple(in_table[id(study)] for study in answers.studies)
    learnt_from = None
    if models.films is not None:
        learnt_from = tuple(sorted({selected[place].patient_id for place in places if not models.films.isdisjoint(answered[place].films)}))
    headers = tuple({view: read_header(film) for view, film in study.given.items() if view in answers.views} for study in answers.studies)
    counted = _count_rows(models, file, all_studies, answers.studies, unreadable)
    return Cohort(file, rows, answers, asked, counted, learnt_from, headers)


def make_predictions(models: Models, cohort: Cohort, name: str) -> Predictions:
    """Return the answers of the model `name` with the truth, as they are written and scored."""
    answered = cohort.models[name]
    studies = [cohort.studies[row] for row in answered.rows]
    return Predictions(
        brands=models.brands,
        patients=tuple(study.patient_id for study in studies),
        truth=tuple(study.brand for study in studies),
        has={name: tuple(study.has.get(name) for study in studies) for name in _list_covariates(models.task)},
        probabilities=answered.probabilities,
    )


def write_cohort(folder: Path, models: Models, cohort: Cohort) -> None:
    """Write ``predictions_<model>.csv`` of every model into `folder`; that of the run's own ensemble says what it decided."""
    answers, chosen = cohort.answers, name_model(models.chosen)
    views = [_describe_views(answers, row) for row in range(len(answers.studies))]
    for name, answered in cohort.models.items():
        rows = [
            PredictionRow(cohort.numbers[row], answers.studies[row], views[row], probabilities)
            for row, probabilities in zip(answered.rows, answered.probabilities.tolist(), strict=True)
        ]
        if name == chosen:
            rows = [_add_decision(asked, answers, row, models.brands) for asked, row in zip(rows, answered.rows, strict=True)]
        write_predictions(folder / f"predictions_{name}.csv", cohort.file.parent, models.task, models.brands, rows)


def score_cohort(models: Models, cohort: Cohort) -> dict[str, Any]:
    """Score every model that was asked about a patient of a brand that it knows.

    Returns
    -------
    dict
        ``models`` and ``detector``, as in ``metrics.json``: the latter as `edgekit.evaluation.detector.score_detector` has it.
        ``comparisons`` of every two models that answer once a patient (see `edgekit.evaluation.pairs.compare_models`). ``box_errors``
        by model (see `edgekit.evaluation.box_errors`): of the members that look at one view and of the run's own ensemble, None where
        no film is annotated. ``detector`` and ``box_errors`` are None where the task takes whole films.
    """
    scored = {name: make_predictions(models, cohort, name).scorable() for name in cohort.models}
    scored = {name: predictions for name, predictions in scored.items() if predictions.patients}
    right = {name: judge_answers(cohort.models[name], cohort.truth, models.brands) for name in scored if not models.asked[name].is_per_film}
    return {
        "models": {name: score_model(predictions) for name, predictions in track(scored.items(), "scoring models", len(scored))},
        "detector": _score_detector(cohort, models.pipeline.spec.box_threshold) if models.task.locate else None,
        "comparisons": compare_models(right, [study.patient_id for study in cohort.studies]),
        "box_errors": _score_box_errors(models, cohort) if scored else None,
    }


def score_model(scorable: Predictions) -> dict[str, Any]:
    """Score answers that are all about brands that the model knows."""
    truth = [str(brand) for brand in scorable.truth]
    return score_predictions(
        scorable.brands, truth, scorable.probabilities, scorable.patients, scorable.has, seed=SEED, resamples=RESAMPLES
    )


def describe_cohort(cohort: Cohort) -> dict[str, Any]:
    """Say where a cohort comes from.

    Returns
    -------
    dict
        ``studies``, ``rows``, ``films``; whether any is ``simulated`` (None: films do not say); and ``learnt_from``: whether it
        could be ``checked`` which ``patients`` the run learnt from, and these.
    """
    films = _count_films(cohort)
    learnt_from = {"checked": cohort.learnt_from is not None, "patients": list(cohort.learnt_from or ())}
    simulated = True if films["simulated"] else None if films["unknown"] else False
    return {"studies": describe_file(cohort.file), "films": films, "simulated": simulated, "rows": cohort.rows, "learnt_from": learnt_from}


def describe_file(path: Path) -> dict[str, str]:
    """Return name and sha256 of a file."""
    return {"name": path.name, "sha256": hash_file(path)}


def count_brands(truth: Sequence[str | None], known: Sequence[str]) -> dict[str, Any]:
    """Count rows by what their true brand allows: part of ``provenance.rows``."""
    return {
        "without_construct": sum(brand == "none" for brand in truth),
        "unseen": dict(Counter(brand for brand in truth if brand not in (None, "none", *known))),
        "unknown_brand": sum(brand is None for brand in truth),
        "scored": sum(brand in known for brand in truth),
    }


def _describe_views(answers: Answers, row: int) -> dict[str, dict[str, Any]]:
    """Return where the construct was found on the films of a row, as `edgekit.types.Prediction` has it."""
    return {
        view: {
            "box": answers.letterboxes[row][view].to_film_within(answers.boxes[row, place].tolist()) if answers.found[row, place] else None,
            "score": float(answers.box_scores[row, place]),
        }
        for place, view in enumerate(answers.views)
        if answers.given[row, place]
    }


def _add_decision(asked: PredictionRow, answers: Answers, row: int, brands: Sequence[str]) -> PredictionRow:
    """Add what the run's own ensemble decided."""
    decision = DECISIONS[answers.decisions[row]]
    possible = answers.prediction_sets[row] & (decision not in REFUSED)
    return replace(
        asked,
        decision=decision,
        prediction_set=[brand for brand, inside in zip(brands, possible, strict=True) if inside],
        unfamiliarity=float(answers.unfamiliarities[row]),
    )


def _list_covariates(task: Task) -> tuple[str, ...]:
    return (task.covariate,) if task.covariate else ()


def _is_unsplit(studies: Sequence[Study]) -> bool:
    return all(study.split is None for study in studies)


def _score_detector(cohort: Cohort, threshold: float) -> dict[str, Any]:
    answers, annotated = cohort.answers, cohort.answers.annotated
    negative = np.array([study.brand == NO_CONSTRUCT for study in answers.studies])[:, None] & answers.given
    described = []
    for row, column in zip(*np.nonzero(annotated), strict=True):
        view = answers.views[column]
        letterbox = answers.letterboxes[row][view]
        described.append(describe_film(answers.studies[row], view, (letterbox.width, letterbox.height), cohort.headers[row][view]))
    return score_detector(
        answers.true_boxes[annotated],
        answers.boxes[annotated],
        answers.box_scores[annotated],
        described,
        answers.box_scores[negative],
        [answers.studies[row].has.get(OTHER_METAL) for row in np.nonzero(negative)[0]],
        threshold,
    )


def _score_box_errors(models: Models, cohort: Cohort) -> dict[str, Any] | None:
    if not models.task.locate:
        return None
    alone = [name for name in models.pipeline.spec.members if models.task.member(name).layout == SINGLE]
    on_true_boxes = models.ask(cohort.answers.with_true_boxes())
    errors = {}
    for name in (*alone, name_model(models.chosen)):
        right, counterfactual = (judge_answers(asked[name], cohort.truth, models.brands) for asked in (cohort.models, on_true_boxes))
        errors[name] = measure_box_errors(cohort.answers, right, counterfactual, models.asked[name].views)
    return {name: measured for name, measured in errors.items() if measured is not None} or None


def _count_rows(
    models: Models, file: Path, all_studies: Sequence[Study], evaluated: Sequence[Study], unreadable: dict[Study, str]
) -> dict[str, Any]:
    views = models.task.views
    all_kept = [study for study in all_studies if study.exclude is None]
    kept = [study for study in all_kept if has_film(study, views)]
    used = {*evaluated, *unreadable}
    without = {"without_film": len(all_kept) - len(kept)} if len(kept) < len(all_kept) else {}
    return {
        "file": len(all_studies),
        "excluded": dict(Counter(study.exclude for study in all_studies if study.exclude is not None)),
        "other_splits": dict(Counter(study.split or "none" for study in kept if study not in used)),
        **without,
        "unreadable": dict(_name_film(file.parent, study, reason) for study, reason in unreadable.items()),
        **count_brands([study.brand for study in evaluated], models.brands),
    }


def _name_film(folder: Path, study: Study, reason: str) -> tuple[str, str]:
    """Return the film that `reason` begins with, as the table names it, and the rest of the reason; no path of this machine in either."""
    films = list(study.given.values())
    film = next((film for film in films if reason.startswith(f"{film}: ")), films[0])
    return Path(os.path.relpath(film, folder)).as_posix(), reason.removeprefix(f"{film}: ").replace(f"{folder}{os.sep}", "")


def _count_films(cohort: Cohort) -> dict[str, int]:
    simulated = [header.is_simulated for headers in cohort.headers for header in headers.values()]
    return {"n": len(simulated), "simulated": simulated.count(True), "unknown": simulated.count(None)}
