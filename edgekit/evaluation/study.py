"""Evaluate a run on studies, or a predictions file: metrics.json, predictions_<model>.csv and report.html."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.evaluation import charts
from edgekit.evaluation.asked import choose_headings, name_model
from edgekit.evaluation.cohort import (
    JOURNAL,
    RESAMPLES,
    SEED,
    Cohort,
    Models,
    ask_cohort,
    count_brands,
    describe_cohort,
    describe_file,
    load_models,
    make_predictions,
    require_scorable,
    score_cohort,
    score_model,
    select_external,
    select_test,
    write_cohort,
)
from edgekit.evaluation.examples import make_examples
from edgekit.evaluation.metrics import measure_drop
from edgekit.evaluation.photo_examples import make_photo_examples
from edgekit.evaluation.photo_losses import compare_decisions, measure_losses
from edgekit.evaluation.photos import ask_photos, describe_photos, match_photos, read_photos
from edgekit.evaluation.predictions import read_predictions
from edgekit.evaluation.readers import compare_readers, read_readers
from edgekit.evaluation.report import ReportContent, write_report
from edgekit.files import require_writable, write_json
from edgekit.progress import track
from edgekit.provenance import describe_software
from edgekit.studies import NO_CONSTRUCT, keep_filmed, read_studies, select
from edgekit.task import PEDICLE_SCREWS, parse_task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgekit.evaluation.photos import Album
    from edgekit.evaluation.predictions import Predictions
    from edgekit.evaluation.readers import ReaderAnswer
    from edgekit.task import Task
    from edgekit.types import Study

__all__ = ["Evaluation", "evaluate_run", "score_file"]


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


def evaluate_run(
    run: Path, studies_file: Path, out: Path, *, external: Path | None = None, readers: Path | None = None, photos: Path | None = None
) -> Evaluation:
    """Evaluate every member and every ensemble of `run` on the test rows of `studies_file`.

    The films pass through the pipeline once; every ensemble is applied to the same member probabilities. A patient is scored by a
    model that could have answered for the films given. Where nothing was found on them, the answer counts as wrong, with
    equal probabilities. Brands that the run does not know are left out, and rows without a film of the task's views; rows of brand
    ``none`` test the detector only. Where no brand is one that the run knows, only the detector is scored.

    Parameters
    ----------
    run
        A finished run folder.
    studies_file
        ``studies.csv``. Its test rows are used; all rows where the split column is empty throughout.
    out
        Folder for ``metrics.json``, ``predictions_<model>.csv`` and ``report.html``; with `external`, `readers` and `photos` the
        predictions for these are in folders of these names. Answers are kept there as they come: an evaluation that was interrupted
        goes on with the rows that have none.
    external
        A table of other patients to validate on: its rows of split ``external``; without any its test rows, or all where the split
        column is empty throughout. It may be `studies_file`.
    readers
        What people answered for the rows of split ``readers`` of `studies_file` (see `edgekit.evaluation.readers.read_readers`).
    photos
        ``photos.csv``: photos of a screen that showed the films which are evaluated, and the films' corners in them (see
        `edgekit.evaluation.photos.read_photos`).

    Returns
    -------
    Evaluation
        ``metrics["models"]`` has the models that `edgekit.evaluation.asked.list_models` lists: of the study ``ap``, ``lateral``,
        ``concat``, ``merge_ap``, ``merge_lateral``, ``merge_dual`` and ``merge_mean`` for the members that the run has, and its ensembles
        by name; an ensemble of one member, which is that member calibrated, is named ``<member>-calibrated``. ``metrics["external"]``,
        ``metrics["readers"]`` and ``metrics["photos"]`` are there when asked for. The last has ``table`` (name and sha256), ``taken`` (see
        `edgekit.evaluation.photos.describe_photos`), the same ``models``, ``detector``, ``comparisons`` and ``box_errors`` as at the top,
        of the photos; ``drop`` by model, paired, overall and by how bad the photos are
        (`edgekit.evaluation.photo_losses.measure_losses`); and ``decisions`` (`compare_decisions` there).

    Raises
    ------
    InputError
        The run is unfinished, too many films can't be read, there is nothing to score, the same films are in both cohorts, the
        readers' or the photos' table is faulty, or there is no photo of each film.
    OSError
        `out` can't be written to; this is noticed before the first film.
    """
    models = load_models(run)
    task, chosen = models.task, name_model(models.chosen)
    studies = read_studies(studies_file)
    test = keep_filmed(task.views, studies_file, select_test(studies_file, studies))
    elsewhere = read_studies(external) if external else []
    validation = keep_filmed(task.views, external, select_external(external, elsewhere)) if external else []
    _refuse_shared_films(test, validation)
    read = keep_filmed(task.views, studies_file, _select_readers(studies_file, studies)) if readers else []
    require_scorable(models, studies_file, test, by_brand=bool(photos))
    reader_answers = read_readers(readers) if readers else ()
    table_views = tuple(studies[0].films)
    album = match_photos(photos, read_photos(photos, table_views), task.views, studies, test) if photos else {}

    if external:
        require_scorable(models, external, validation)
    if readers:
        require_scorable(models, studies_file, read, by_brand=True)
    _require_outputs(out, [name for name, wanted in (("external", external), ("readers", readers), ("photos", photos)) if wanted])
    cohorts = {"": ask_cohort(models, studies_file, studies, test, out)}
    if external:
        cohorts["external"] = ask_cohort(models, external, elsewhere, validation, out / "external")
    if readers:
        cohorts["readers"] = ask_cohort(models, studies_file, studies, read, out / "readers")
    if photos:
        cohorts["photos"] = ask_photos(models, photos, cohorts[""], album, out / "photos")

    cohort = cohorts[""]
    scores = score_cohort(models, cohort)
    provenance = {
        "run": run.resolve().name,
        "run_sha256": models.sha256,
        "task": task.name,
        "ensemble": chosen,
        **describe_cohort(cohort),
        **_describe_scoring(make_predictions(models, cohort, chosen).scorable(), sorted(set(cohort.models) - set(scores["models"]))),
    }
    metrics: dict[str, Any] = {**scores, "provenance": provenance}
    if external:
        metrics["external"] = _score_external(models, cohort, cohorts["external"], scores)
    if readers:
        metrics["readers"] = _score_readers(models, cohorts["readers"], read, reader_answers)
    if photos:
        metrics["photos"] = _score_photos(models, cohort, cohorts["photos"], album)
    for folder, asked in cohorts.items():
        write_cohort(out / folder, models, asked)
    write_json(out / "metrics.json", metrics)
    evaluation = Evaluation(metrics, _make_report(models, metrics, cohorts, album))
    write_report(out / "report.html", evaluation.report)
    for folder in cohorts:
        (out / folder / JOURNAL).unlink()
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
    predictions, scorable = _read_scorable(predictions_file)
    name = predictions_file.stem.removeprefix("predictions_")
    models = {name: score_model(scorable)}
    provenance = {
        "predictions": describe_file(predictions_file),
        "simulated": None,
        "rows": {"file": len(predictions.truth), **count_brands(predictions.truth, predictions.brands)},
        **_describe_scoring(scorable, []),
    }
    metrics = {"models": models, "detector": None, "provenance": provenance}
    task = _guess_task(next(iter(predictions.has), ""))
    drawn = charts.chart_model(models[name], scorable, task.told) | charts.chart_sureness(scorable)
    evaluation = Evaluation(models[name], ReportContent(name, metrics, drawn, task))
    write_json(out / "metrics.json", evaluation.metrics)
    write_report(out / "report.html", evaluation.report)
    return evaluation


def score_table(predictions_file: Path) -> dict[str, Any]:
    """Return the figures of a predictions file, one model's object of ``metrics.json`` (`edgekit.evaluation.metrics.score_predictions`).

    Raises
    ------
    InputError
        As `score_file`.
    """
    return score_model(_read_scorable(predictions_file)[1])


def _read_scorable(predictions_file: Path) -> tuple[Predictions, Predictions]:
    """Return all rows of a predictions file, and those of a brand that it has a column for."""
    predictions = read_predictions(predictions_file)
    scorable = predictions.scorable()
    if not scorable.patients:
        raise InputError(f"{predictions_file}: no row has a brand out of {', '.join(predictions.brands)}", "check the brand column")
    return predictions, scorable


def _guess_task(covariate: str) -> Task:
    """Return a task for the words of a report: the file says no more than by which property figures are told apart."""
    if covariate == PEDICLE_SCREWS.covariate:
        return PEDICLE_SCREWS
    return replace(parse_task({"name": "unknown", "views": ["film"], "locate": False}, "a task without words"), covariate=covariate)


def _require_outputs(out: Path, folders: Sequence[str]) -> None:
    """Make sure, before the first film, that everything can be written in the end: also what is to replace something."""
    for path in (out / "metrics.json", out / "report.html"):
        require_writable(path)
    for folder in (out, *(out / name for name in folders)):
        for path in (folder / JOURNAL, *folder.glob("predictions_*.csv")):
            require_writable(path)


def _refuse_shared_films(test: Sequence[Study], validation: Sequence[Study]) -> None:
    """Raise when a film is in both cohorts: the same patients validate nothing."""
    films = [{film.resolve() for study in cohort for film in study.given.values()} for cohort in (test, validation)]
    if shared := films[0] & films[1]:
        raise InputError(
            f"{len(shared)} films are both in the test rows and given with --external, {min(shared).name} for example",
            "external validation needs other patients: give their table, or their rows the split 'external'",
        )


def _score_external(models: Models, here: Cohort, there: Cohort, scores_here: dict[str, Any]) -> dict[str, Any]:
    """Score another site's cohort, and how much worse each model is there than here."""
    scores = score_cohort(models, there)
    both = [name for name in scores_here["models"] if name in scores["models"]]
    drop = {
        name: measure_drop(*(make_predictions(models, cohort, name).scorable() for cohort in (here, there)), seeds=(SEED, SEED + 1))
        for name in track(both, "comparing cohorts")
    }
    return {**describe_cohort(there), **scores, "drop": drop}


def _select_readers(path: Path, studies: Sequence[Study]) -> list[Study]:
    rows = select(studies, "readers")
    if not rows:
        raise InputError(f"{path} has no rows of split 'readers'", "write 'readers' into the column 'split' of the patients that were read")
    if twice := [patient for patient, count in Counter(study.patient_id for study in rows).items() if count > 1]:
        raise InputError(
            f"{path}: readers answer once for a patient, but these have several rows of split 'readers': {', '.join(twice)}",
            "keep one row of each, and say why the others are left out in the column 'exclude'",
        )
    return rows


def _score_readers(models: Models, cohort: Cohort, rows: Sequence[Study], answers: Sequence[ReaderAnswer]) -> dict[str, Any]:
    """Compare readers with every model that answers once for a patient."""
    truth = {study.patient_id: study.brand for study in rows if study.brand is not None and study.brand != NO_CONSTRUCT}
    given = {}
    for name in cohort.models:
        if not models.asked[name].is_per_film:
            predictions = make_predictions(models, cohort, name).scorable()
            given[name] = dict(zip(predictions.patients, predictions.answers, strict=True))
    return compare_readers(answers, truth, given, models.brands)


def _score_photos(models: Models, films: Cohort, photos: Cohort, album: Album) -> dict[str, Any]:
    """Score the photos, and how much worse each model is on them than on the films."""
    taken = [shot for study in films.studies for shot in album[study].values()]
    return {
        "table": describe_file(photos.file),
        "taken": describe_photos(taken),
        **score_cohort(models, photos),
        "drop": measure_losses(models, films, photos, album),
        "decisions": compare_decisions(models, films, photos),
    }


def _describe_scoring(scored: Predictions, not_scored: list[str]) -> dict[str, Any]:
    return {
        "patients": len(set(scored.patients)),
        "not_scored": not_scored,
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED},
        **describe_software(),
    }


def _make_report(models: Models, metrics: dict[str, Any], cohorts: dict[str, Cohort], album: Album) -> ReportContent:
    task, chosen = models.task, name_model(models.chosen)
    cohort, elsewhere, photos = cohorts[""], cohorts.get("external"), cohorts.get("photos")
    scored = {name: make_predictions(models, cohort, name).scorable() for name in metrics["models"]}
    drawn = {name: charts.chart_model(metrics["models"][name], scored[name], task.told) for name in track(scored, "drawing charts")}
    probabilities = cohort.models[chosen].spread(len(cohort.studies))
    about_brands = (
        {
            **drawn.pop(chosen),
            **charts.chart_sureness(scored[chosen]),
            **charts.chart_explanations(models.pipeline, cohort.answers, probabilities),
        }
        if chosen in drawn
        else {}
    )
    return ReportContent(
        headline=chosen,
        metrics=metrics,
        task=task,
        headings=choose_headings(task, models.asked, chosen),
        figures={**about_brands, **charts.chart_metrics(metrics, chosen), **charts.chart_overlaps(cohort.answers)},
        examples=make_examples(models.pipeline, cohort.answers, cohort.models[chosen]),
        model_figures=drawn,
        external_figures=charts.chart_model(
            metrics["external"]["models"][chosen], make_predictions(models, elsewhere, chosen).scorable(), task.told
        )
        if elsewhere and chosen in metrics["external"]["models"]
        else {},
        photo_examples=make_photo_examples(models, cohort, photos, album) if photos else (),
    )
