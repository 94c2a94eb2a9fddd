"""What the members say of the validation patients: what ensembles are fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.task import EACH
from edgekit.training.crops import classify_crops, crop_films
from edgekit.training.ensembles import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.models.classifier import Classifier
    from edgekit.task import Task
    from edgekit.training.films import FilmSet


def gather_evidence(
    task: Task,
    members: dict[str, Classifier],
    films: FilmSet,
    boxes: NDArray[np.float32],
    brands: tuple[str, ...],
    side: int,
    margin: float,
) -> dict[str, Evidence]:
    """Run the members over the validation patients, by case: on all patients whose films of that case can be cropped.

    Parameters
    ----------
    side, margin
        See `edgekit.training.crops.cache_context`.

    Raises
    ------
    InputError
        No case has a patient.
    """
    columns = np.stack([films.film_of(place) for place in range(len(task.views))], axis=1)
    cropable = (columns >= 0) & np.isfinite(boxes[columns]).all(axis=2)
    index = {brand: number for number, brand in enumerate(brands)}
    patients = np.array([study.patient_id for study in films.studies])
    truth = np.array([index.get(study.brand or "", -1) for study in films.studies], dtype=np.int64)

    def classify(name: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return classify_crops(members[name], crop_films(films, boxes, rows, side, margin)).numpy()

    evidence = {}
    for case, places in task.cases.items():
        chosen = (truth >= 0) & cropable[:, places].all(axis=1)
        probabilities = {}
        for name in members:
            if not task.can_answer(name, case) or not chosen.any():
                continue
            seen = [place for view in task.member(name).views if (place := task.place(view)) in places]
            if task.member(name).layout == EACH:
                probabilities[name] = np.mean([classify(name, columns[chosen][:, [place]]) for place in seen], axis=0)
            else:
                probabilities[name] = classify(name, columns[chosen][:, seen])
        if probabilities:
            evidence[case] = Evidence(probabilities, truth[chosen], patients[chosen])
    if not evidence:
        raise InputError("no validation film of a known brand can be cropped", "annotate boxes, or train the detector longer")
    return evidence
