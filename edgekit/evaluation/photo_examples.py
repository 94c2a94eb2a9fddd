"""Photos shown in the report: the film, the photo as it was taken, and the photo straightened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.evaluation import figures
from edgekit.evaluation.asked import name_model
from edgekit.evaluation.report import PhotoExample
from edgekit.radiograph import read_radiograph
from edgekit.types import DECISIONS, REFUSED

if TYPE_CHECKING:
    from edgekit.evaluation.cohort import Cohort, Models
    from edgekit.evaluation.photos import Album

__all__ = ["make_photo_examples"]

EXAMPLES, LOST_EXAMPLES = 4, 2


def make_photo_examples(models: Models, films: Cohort, photos: Cohort, album: Album) -> tuple[PhotoExample, ...]:
    """Draw some patients whose answer is lost, those with most confidence in the wrong one, and some whose answer stays right.

    Of the latter the first of each brand, in the order of the file. One film of a patient is shown, that of the first view that has one.

    Parameters
    ----------
    films, photos
        The same rows in the same order.
    album
        The photos of each row.
    """
    chosen = name_model(models.chosen)
    named = [_name_answers(models, cohort) for cohort in (films, photos)]
    sureness = photos.models[chosen].spread(len(photos.studies)).max(axis=1)
    right = [row for row in films.models[chosen].rows if named[0][row] == films.studies[row].brand is not None]
    lost = sorted((row for row in right if named[1][row] != named[0][row]), key=lambda row: -sureness[row])[:LOST_EXAMPLES]
    kept = {films.studies[row].brand: row for row in reversed(right) if named[1][row] == named[0][row]}
    shown = [*sorted(kept.values())[: EXAMPLES - len(lost)], *lost]
    examples = []
    for row in shown:
        study = films.studies[row]
        view, shot = next((view, album[study][view]) for view in models.task.views if view in album[study])
        film = study.film(view)
        assert film is not None  # it was photographed
        pictures = {
            "film": figures.draw_film(read_radiograph(film).pixels, None, None, None, None),
            "photo": figures.draw_photo(shot.file, shot.corners),
            "straightened": figures.draw_film(shot.straighten(), None, None, None, None),
        }
        decision = DECISIONS[photos.answers.decisions[row]]
        examples.append(PhotoExample(study.patient_id, view, str(study.brand), named[1][row], decision, shot.conditions, pictures))
    return tuple(examples)


def _name_answers(models: Models, cohort: Cohort) -> list[str | None]:
    """Return the brand answered for each row; None where the films are refused."""
    probabilities = cohort.models[name_model(models.chosen)].spread(len(cohort.studies))
    return [
        None if DECISIONS[decision] in REFUSED else models.brands[top]
        for decision, top in zip(cohort.answers.decisions, np.argmax(probabilities, axis=1), strict=True)
    ]
