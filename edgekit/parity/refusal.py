"""Why an export was refused: which stage turned each answer that changed, how near to a tie it had been, and a page that shows it.

::

    refusal.html.j2     the page: films with both boxes, both answers
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.files import write_text
from edgekit.sessions import SESSIONS, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.models.pipeline import Pipeline
    from edgekit.sessions import SessionModule
    from edgekit.types import Bundle, Parity, Study, Tensors

TIE = 0.05
"""An answer is near a tie when the first brand's probability exceeds the second's by less than this."""

PICTURE_SIDE = 320


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One row whose most probable brand changed.

    Attributes
    ----------
    study
        The row.
    stage
        What turned the answer: ``finding`` (a construct was found by one of the two only), ``box``, ``member NAME`` or ``ensemble``.
    lead
        By how much the first brand's probability exceeded the second's in the reference.
    canvases
        uint8 (S, S) by view; only the films given.
    reference, candidate
        The graph's outputs.
    """

    study: Study
    stage: str
    lead: float
    canvases: dict[str, NDArray[np.uint8]]
    reference: Tensors
    candidate: Tensors


def explain_changes(
    bundle: Bundle, pipeline: Pipeline, studies: Sequence[Study], parity: Parity, modules: Mapping[str, SessionModule] = SESSIONS
) -> list[Change]:
    """Answer the rows whose brand changed once more, and find out what turned them.

    Parameters
    ----------
    bundle
        The candidate's.
    pipeline
        The reference.
    studies
        All rows that were judged.
    parity
        Their verdict; of a FAIL only the rows that it lists are looked at.
    modules
        The modules of sessions by name.
    """
    from edgekit.canvases import stream_inputs
    from edgekit.sessions.torch import TorchSession

    rows = [studies[change["row"] - 1] for change in parity.flipped if change["reference"]["answer"] != change["candidate"]["answer"]]
    changes = []
    with TorchSession(pipeline) as reference, open_session(parity.session, bundle, modules=modules) as candidate:
        for study, inputs, _ in stream_inputs(rows, bundle.views, bundle.canvas_side, "Looking at what changed"):
            expected, found = reference.infer(inputs), candidate.infer(inputs)
            first, second = np.sort(expected["probabilities"])[::-1][:2]
            films: dict[str, Any] = {view: inputs[view][0, 0] for view in bundle.views if study.film(view) is not None}
            changes.append(Change(study, find_stage(pipeline, inputs, expected, found), float(first - second), films, expected, found))
    return changes


def find_stage(pipeline: Pipeline, inputs: Tensors, expected: Tensors, found: Tensors) -> str:
    """Return what turned an answer: the first stage of the candidate that turns it in the reference (see `Change`).

    The reference's members see the candidate's boxes; then its ensemble gets one member's candidate answer at a time. Where several turn
    it, or none does alone, the member counts that takes the first brand down most.
    """
    import torch

    from edgekit.models.cropper import expand_boxes

    seen = expected["members"].sum(axis=1) > 0
    if ((found["members"].sum(axis=1) > 0) != seen).any():
        return "finding"
    answer = int(expected["probabilities"].argmax())
    present = torch.from_numpy(expected["found"]).float()
    with torch.no_grad():

        def combine(members: NDArray[Any]) -> NDArray[Any]:
            combined: NDArray[Any] = pipeline.ensemble(torch.from_numpy(members), present)[0].numpy()
            return combined

        canvases = torch.cat([torch.from_numpy(inputs[view].copy()).float() for view in pipeline.spec.task.views]) / 255
        crops = expand_boxes(torch.from_numpy(found["boxes"].copy()), pipeline.spec.canvas_side, pipeline.spec.crop_margin)
        moved = pipeline.classify(canvases, crops, present)[0].numpy()
        if combine(moved).argmax() != answer:
            return "box"
        if combine(found["members"]).argmax() == answer:
            return "ensemble"
        left = []
        for place in range(len(moved)):
            members = moved.copy()
            members[place] = found["members"][place]
            left.append(combine(members)[answer])
    return f"member {pipeline.spec.members[int(np.argmin(left))]}"


def describe_changes(changes: Sequence[Change]) -> str:
    """Return one sentence: how many had been near a tie, and what turned how many."""
    near = sum(change.lead < TIE for change in changes)
    stages = ", ".join(f"{stage} {count}" for stage, count in Counter(change.stage for change in changes).most_common())
    return f"of {len(changes)} changed answers {near} had been within {100 * TIE:.0f} points of a tie; turned by {stages}"


def write_page(path: Path, bundle: Bundle, parity: Parity, verdict: str, changes: Sequence[Change]) -> None:
    """Write a page that shows each change; it holds films, so it belongs where the films may be.

    Parameters
    ----------
    path
        The HTML file.
    parity
        The verdict on `bundle`.
    verdict
        The same in words.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("edgekit.parity", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("refusal.html.j2").render(
        name=f"{bundle.manifest.target}:{bundle.manifest.precision}",
        parity=parity,
        verdict=verdict,
        summary=describe_changes(changes),
        changes=[_describe_change(change, bundle) for change in changes],
        side=bundle.canvas_side,
        intended_use=bundle.manifest.intended_use,
    )
    write_text(path, page)


def _describe_change(change: Change, bundle: Bundle) -> dict[str, Any]:
    """Return what the page shows of one change."""
    answers = []
    for outputs in (change.reference, change.candidate):
        order = np.argsort(outputs["probabilities"])[::-1][:2]
        answers.append([(bundle.brands[place], float(outputs["probabilities"][place])) for place in order])
    boxes = {
        view: [[float(edge) for edge in outputs["boxes"][bundle.views.index(view)]] for outputs in (change.reference, change.candidate)]
        for view in change.canvases
    }
    return {
        "patient": change.study.patient_id,
        "truth": change.study.brand,
        "stage": change.stage,
        "lead": change.lead,
        "answers": answers,
        "films": [(view, _encode(canvas), boxes[view]) for view, canvas in change.canvases.items()],
        "moved": max((abs(old - new) for pair in boxes.values() for old, new in zip(*pair, strict=True)), default=0.0),
    }


def _encode(canvas: NDArray[np.uint8]) -> str:
    """Return a small JPEG of a canvas as a data address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(canvas).resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
