"""Where the members look: Grad-CAM of one clear patient of each brand, on every film.

The maps come from the library grad-cam and its gradients, not from the graph's own heatmap, which the tests hold to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.evaluation.predictions import unanswered_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.evaluation.answers import Answers
    from edgekit.models.pipeline import Pipeline
    from edgekit.task import View

__all__ = ["Explanation", "explain_brands", "explain_films", "find_clearest"]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One film's crop and what in it speaks for the brand.

    Attributes
    ----------
    crop
        uint8 (H, W): the part of the canvas that the member sees, not stretched.
    heat
        float32 (s, s) in [0, 1], of the square that the crop is stretched to.
    """

    crop: NDArray[np.uint8]
    heat: NDArray[np.float32]


def explain_brands(pipeline: Pipeline, answers: Answers, probabilities: NDArray[np.float64]) -> dict[str, dict[View, Explanation]]:
    """Explain, for each brand, the right answer given with most confidence among the patients whose films were all found.

    Parameters
    ----------
    pipeline
        The members that look at one film by itself are explained (`edgekit.task.Task.looking_alone`).
    answers
        What it said about N rows.
    probabilities
        float (N, K), of the model that answers; a row that it can't answer has equal ones.

    Returns
    -------
    dict
        By brand, in the order of the run; a brand without a right answer is left out. Empty when no member takes single films.
    """
    from edgekit.canvases import stream_inputs

    brands, views = pipeline.spec.brands, pipeline.spec.task.views
    rows = find_clearest(brands, [study.brand for study in answers.studies], probabilities, np.all(answers.found, axis=1))
    films = stream_inputs([answers.studies[row] for row in rows.values()], views, pipeline.spec.canvas_side, "explaining answers")
    explained = {
        brand: explain_films(pipeline, np.concatenate([inputs[view][0] for view in views]), answers.boxes[row], brand)
        for (brand, row), (_, inputs, _) in zip(rows.items(), films, strict=True)
    }
    return {brand: films_of for brand, films_of in explained.items() if films_of}


def find_clearest(
    brands: Sequence[str], truth: Sequence[str | None], probabilities: NDArray[np.float64], usable: NDArray[np.bool_]
) -> dict[str, int]:
    """Find the row of each brand that is answered rightly and with the largest probability.

    Parameters
    ----------
    brands
        K names.
    truth
        N times the true brand.
    probabilities
        float (N, K).
    usable
        bool (N,): rows to choose from.

    Returns
    -------
    dict
        Row by brand; a brand without such a row is left out.
    """
    answered = usable & ~unanswered_rows(probabilities)
    top = probabilities.argmax(axis=1)
    clearest = {}
    for k, brand in enumerate(brands):
        right = [row for row in np.flatnonzero(answered & (top == k)).tolist() if truth[row] == brand]
        if right:
            clearest[brand] = max(right, key=lambda row: float(probabilities[row, k]))
    return clearest


def explain_films(pipeline: Pipeline, canvases: NDArray[np.uint8], boxes: NDArray[np.float64], brand: str) -> dict[View, Explanation]:
    """Explain `brand` on the films of a patient by Grad-CAM (Selvaraju et al. 2017) on the last feature map.

    Parameters
    ----------
    pipeline
        The member of a film is the first that looks at it by itself; a view without such a member is left out.
    canvases
        uint8 (V, S, S), in the order of the task's views.
    boxes
        float (V, 4), the box found on each, canvas pixels.
    brand
        One of the run's.
    """
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from edgekit.models.cropper import crop_and_resize, expand_boxes

    spec = pipeline.spec
    crops = expand_boxes(torch.from_numpy(boxes).float(), spec.canvas_side, spec.crop_margin)
    squares = crop_and_resize(torch.from_numpy(canvases).float()[:, None] / 255.0, crops, spec.crop_side, spec.crop_side)
    target = [ClassifierOutputTarget(spec.brands.index(brand))]
    explained: dict[View, Explanation] = {}
    for row, view in enumerate(spec.task.views):
        if (name := next((name for name in spec.task.looking_alone(view) if name in spec.members), None)) is None:
            continue
        member = pipeline.member(name)
        library = GradCAM(member, [member.network.bn2])  # timm: normalization and activation after the last convolution
        try:
            heat = library(squares[row : row + 1], target)[0]
        finally:  # its own "with" swallows IndexError
            library.activations_and_grads.release()
            member.zero_grad()
        x0, y0, x1, y1 = (round(edge) for edge in crops[row].tolist())
        explained[view] = Explanation(canvases[row, y0:y1, x0:x1], heat)
    return explained
