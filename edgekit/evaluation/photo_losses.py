"""What photographing a screen costs: every model on the photos and on the films of the same patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.evaluation.answers import judge_answers
from edgekit.evaluation.asked import name_model
from edgekit.evaluation.pairs import measure_loss
from edgekit.evaluation.photos import CONDITIONS
from edgekit.proportions import clopper_pearson
from edgekit.types import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.evaluation.cohort import Cohort, Models
    from edgekit.evaluation.photos import Album

__all__ = ["compare_decisions", "measure_losses"]

THIRDS = (1 / 3, 2 / 3)
"""Where patients are parted by how bad their photos are."""


def measure_losses(models: Models, films: Cohort, photos: Cohort, album: Album) -> dict[str, dict[str, Any]]:
    """Measure how much less often each model is right on photos than on the films of the same patients.

    Parameters
    ----------
    models
        The run's.
    films, photos
        The same rows in the same order, as films and as photos.
    album
        The photos of each row of `films`.

    Returns
    -------
    dict
        By model that answers once for a patient: ``n`` patients; ``film`` and ``photo``, the shares that are right; ``value`` (film less
        photo) with ``ci95``, Tango's paired score interval; ``only_film`` and ``only_photo``, how many are right on one of them only, with
        ``p`` of McNemar's exact test; and ``conditions``, by name in `CONDITIONS` a list of up to three bands, the third of the patients
        with the best photos first, each with ``low`` and ``high``, the smallest and largest value in it, and the same figures. A
        patient's value is that of the worst photo that the model sees. Not measured conditions are absent.
    """
    truth, patients = films.truth, np.array([study.patient_id for study in films.studies], str)
    values = np.array([[_list_values(album[study], view) for view in models.task.views] for study in films.studies])  # (N, V, conditions)
    losses = {}
    for name in films.models:
        if models.asked[name].is_per_film:
            continue
        film, photo = (judge_answers(cohort.models[name], truth, models.brands) for cohort in (films, photos))
        if np.isnan(film).all():
            continue
        asked = ~np.isnan(film)
        seen = films.answers.given & np.isin(models.task.views, models.asked[name].views)
        worst = np.where(seen[..., None], values, -np.inf).max(axis=1)
        bands = {
            condition: _split_thirds(film[asked], photo[asked], patients[asked], worst[asked, column])
            for column, condition in enumerate(CONDITIONS)
        }
        losses[name] = {
            **_name_sides(measure_loss(film, photo, patients.tolist())),
            "conditions": {condition: found for condition, found in bands.items() if found},
        }
    return losses


def compare_decisions(models: Models, films: Cohort, photos: Cohort) -> dict[str, Any]:
    """Count how often the pipeline's decision changes when the film is a photo.

    Returns
    -------
    dict
        ``n`` rows of a brand that the run knows and with films that its own ensemble answers for; ``labels``, the decisions, and
        ``matrix``, counts with a row a decision on the film and a column a decision on the photo; ``changed`` of all, and ``lost`` of those
        identified on the film, each with ``n``, ``of``, ``share`` and its exact ``ci95`` (Clopper & Pearson 1934); ``other_brand``, those
        identified both times, as different brands; and ``wrong``, those identified as a wrong brand on the ``film``, on the ``photo``.
    """
    chosen = name_model(models.chosen)
    rows = np.array([row for row in films.models[chosen].rows if films.studies[row].brand in models.brands], np.intp)
    before, after = (cohort.answers.decisions[rows] for cohort in (films, photos))
    named_before, named_after = (cohort.models[chosen].spread(len(films.studies)).argmax(axis=1)[rows] for cohort in (films, photos))
    truth = np.array([models.brands.index(str(films.studies[row].brand)) for row in rows], np.intp)
    matrix = np.zeros((len(DECISIONS), len(DECISIONS)), int)
    np.add.at(matrix, (before, after), 1)
    identified = DECISIONS.index("identified")
    sure_before, sure_after = before == identified, after == identified
    return {
        "n": len(rows),
        "labels": list(DECISIONS),
        "matrix": matrix.tolist(),
        "changed": _count_share(before != after),
        "lost": _count_share(~sure_after[sure_before]),
        "other_brand": int(np.sum(sure_before & sure_after & (named_before != named_after))),
        "wrong": {
            "film": int(np.sum(sure_before & (named_before != truth))),
            "photo": int(np.sum(sure_after & (named_after != truth))),
        },
    }


def _list_values(shots: dict[Any, Any], view: str) -> list[float]:
    return [shots[view].conditions[name] if view in shots else np.nan for name in CONDITIONS]


def _split_thirds(
    film: NDArray[np.float64], photo: NDArray[np.float64], patients: NDArray[np.str_], values: NDArray[np.float64]
) -> list[dict[str, Any]]:
    known = ~np.isnan(values)
    if not known.any():
        return []
    film, photo, patients, values = film[known], photo[known], patients[known], values[known]
    names, patient = np.unique(patients, return_inverse=True)
    worst = np.full(len(names), -np.inf)
    np.maximum.at(worst, patient, values)
    band = np.searchsorted(np.quantile(worst, THIRDS), worst)
    bands = []
    for number in np.unique(band):
        rows = band[patient] == number
        limits = {"low": float(worst[band == number].min()), "high": float(worst[band == number].max())}
        bands.append({**limits, **_name_sides(measure_loss(film[rows], photo[rows], patients[rows].tolist()))})
    return bands


def _name_sides(loss: dict[str, Any]) -> dict[str, Any]:
    names = {"a": "film", "b": "photo", "only_a": "only_film", "only_b": "only_photo"}
    return {names.get(key, key): value for key, value in loss.items()}


def _count_share(flags: NDArray[np.bool_] | Sequence[bool]) -> dict[str, Any]:
    count, of = int(np.sum(flags)), len(flags)
    return {"n": count, "of": of, "share": count / of if of else None, "ci95": list(clopper_pearson(count, of)) if of else None}
