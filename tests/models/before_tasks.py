"""The study's pipeline as it was written before tasks were data, view by view and member by member.

PYTHONPATH=tests/models python -m before_tasks RUN STUDIES     compare on every test patient, with each film left out too
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.contract import OUTPUTS
from edgekit.models.cropper import crop_and_resize, expand_boxes
from edgekit.models.pipeline import Pipeline, mean_of_evaluated

MARGIN = 0.05
GIVEN = ((1, 1), (1, 0), (0, 1), (0, 0))


def answer_before(pipeline: Pipeline, ap: Tensor, lateral: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Answer with the networks and coefficients of `pipeline`, but none of its own code."""
    spec, detector, ensemble = pipeline.spec, pipeline.detector, pipeline.ensemble
    assert detector is not None
    canvases = torch.cat([ap.float(), lateral.float()]) / 255.0
    ratio = spec.canvas_side // detector.side
    boxes, box_scores, view_scores = detector(functional.avg_pool2d(canvases, ratio) if ratio > 1 else canvases)
    boxes = boxes * ratio
    given = (present > 0.5).float()
    found = given * (box_scores >= spec.box_threshold).float()
    crops = expand_boxes(boxes, spec.canvas_side, MARGIN)
    squares = crop_and_resize(canvases, crops, spec.crop_side, spec.crop_side)
    rows, features = [], {}
    for name in spec.members:
        member = pipeline.member(name)
        if name == "merge":
            features[name] = member.features(squares)
            probabilities = member.classify(features[name]).softmax(dim=1) * found.unsqueeze(1)
            rows.append(probabilities.sum(dim=0, keepdim=True) / found.sum().clamp(min=1.0))
            continue
        if name == "concat":
            halves = crop_and_resize(canvases, crops, spec.crop_side, spec.crop_side // 2)
            film, usable = torch.cat([halves[0:1], halves[1:2]], dim=3), found[0] * found[1]
        else:
            view = ("ap", "lateral").index(name)
            film, usable = squares[view : view + 1], found[view]
        features[name] = member.features(film)
        rows.append(member.classify(features[name]).softmax(dim=1) * usable)
    members = torch.cat(rows)

    has_ap, has_lateral = found[0:1], found[1:2]
    case = torch.cat([has_ap * (1 - has_lateral), has_lateral * (1 - has_ap), has_ap * has_lateral]) * ensemble.answerable
    logits = (ensemble.coefficients @ members.flatten()) + ensemble.intercepts
    probabilities = (logits.softmax(dim=1) * case.unsqueeze(1)).sum(dim=0)
    conformal, unfamiliar = ((each * case).sum(dim=0, keepdim=True) for each in (ensemble.conformal, ensemble.unfamiliar))

    answered = (found.sum() > 0).float()
    top = (torch.arange(len(spec.brands)) == probabilities.unsqueeze(0).argmax(dim=1)).float()
    heatmaps = []
    for place, name in enumerate(("ap", "lateral")):
        looking = next((each for each in (name, "merge") if each in features), None)
        if looking is None:
            any_map = next(iter(features.values()))
            heatmaps.append(torch.zeros(any_map.shape[2], any_map.shape[2]) * found[place])
            continue
        row = features[looking][place if looking == "merge" else 0]
        weights = top @ pipeline.member(looking).brand_weights
        activation = functional.relu((weights.reshape(-1, 1, 1) * row).sum(dim=0))
        heatmaps.append(activation / activation.flatten().amax(dim=0).clamp(min=1e-6) * found[place])
    prediction_set = (probabilities >= conformal).to(torch.int32) * answered.to(torch.int32)
    unfamiliarity = (1.0 - mean_of_evaluated(members).amax(dim=0)).reshape(1)
    other = torch.stack([view_scores[0, 1] - view_scores[0, 0], view_scores[1, 0] - view_scores[1, 1]])
    swapped = ((other > spec.view_margin).float() * found * given).sum().reshape(1) > 0
    decision = (prediction_set.sum().reshape(1) != 1).to(torch.int32)
    decision = torch.where(unfamiliarity > unfamiliar, torch.full_like(decision, 2), decision)
    decision = torch.where(swapped, torch.full_like(decision, 4), decision)
    decision = torch.where(found.sum().reshape(1) > 0, decision, torch.full_like(decision, 3))
    return {
        "probabilities": probabilities,
        "members": members,
        "boxes": boxes * given.unsqueeze(1),
        "box_scores": box_scores * given,
        "view_scores": view_scores * given.unsqueeze(1),
        "heatmaps": torch.stack(heatmaps),
        "prediction_set": prediction_set,
        "unfamiliarity": unfamiliarity,
        "decision": decision,
    }


def find_differences(pipeline: Pipeline, ap: Tensor, lateral: Tensor) -> list[str]:
    """Return the outputs that are not the same to the bit, for each way to give the films."""
    different = []
    for given in GIVEN:
        films = [film * there for film, there in zip((ap, lateral), given, strict=True)]
        present = torch.tensor(given, dtype=torch.float32)
        with torch.inference_mode():
            now = dict(zip(OUTPUTS, pipeline(*films, present), strict=True))
            before = answer_before(pipeline, *films, present)
        different += [f"{name} with {given}" for name, tensor in before.items() if not torch.equal(tensor, now[name])]
    return different


def main(run: Path, studies: Path) -> int:
    """Compare the run's ensemble and all its members on every test patient."""
    from edgekit.canvases import stream_inputs
    from edgekit.models.runfolder import load_members_pipeline, load_pipeline
    from edgekit.studies import read_studies, select

    pipelines = [load_pipeline(run), load_members_pipeline(run)]
    rows, changed = select(read_studies(studies), "test"), 0
    for study, inputs, _ in stream_inputs(rows, ("ap", "lateral"), pipelines[0].spec.canvas_side, "comparing"):
        films = [torch.from_numpy(inputs[view]) for view in ("ap", "lateral")]
        for pipeline in pipelines:
            if found := find_differences(pipeline, *films):
                changed += 1
                print(f"{study.patient_id}: {', '.join(found)}")
    print(f"{len(rows)} patients, {changed} answers that are not the same to the bit")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
