"""Pipelines of other tasks than the study's: one view and the whole film, three views, cases that nobody can answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from edgekit.contract import OUTPUTS
from edgekit.models.classifier import Classifier
from edgekit.models.cropper import crop_and_resize
from edgekit.models.ensemble import Case, Ensemble
from edgekit.models.pipeline import Pipeline, PipelineSpec, find_film
from edgekit.task import Task, parse_task

BRANDS = ("a", "b", "c")
SIDE = 64
KNEES: dict[str, Any] = {
    "name": "knees",
    "views": ["ap", "lateral", "axial"],
    "locate": False,
    "members": {
        "front": {"views": ["ap"], "layout": "single"},
        "strip": {"views": ["ap", "axial"], "layout": "side by side"},
        "any": {"views": ["lateral", "axial"], "layout": "each"},
    },
}


class Brightness(torch.nn.Module):
    """A member that answers by the mean gray level of what it is shown, left half and right half: (mean, left, right)."""

    network: Any

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        half = crops.shape[3] // 2
        means = torch.stack(
            [crops.mean(dim=(1, 2, 3)), crops[..., :half].mean(dim=(1, 2, 3)), crops[..., half:].mean(dim=(1, 2, 3))], dim=1
        )
        return means[:, :, None, None].expand(-1, -1, 2, 2)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return 10 * features.mean(dim=(2, 3))

    @property
    def brand_weights(self) -> torch.Tensor:
        return torch.eye(3)


def build(task: Task, cases: dict[str, tuple[str, ...]] | None = None) -> Pipeline:
    """A pipeline whose ensemble adds its members' probabilities up; `cases` are those it can answer, with the members used."""
    names = tuple(member.name for member in task.members)
    used = cases or {case: tuple(name for name in names if task.can_answer(name, case)) for case in task.cases}
    fitted = {}
    for case, members in used.items():
        coefficients = np.tile(np.eye(len(BRANDS), dtype=np.float32), (1, len(members)))
        fitted[case] = Case(members, coefficients, np.zeros(len(BRANDS), np.float32), 1.0, 0.2, 0.99)
    spec = PipelineSpec(task, BRANDS, SIDE, SIDE, 0.0, 8, names, "all", 0.0, 0.25, 0.95)
    members = cast("dict[str, Classifier]", {name: Brightness() for name in names})
    return Pipeline(spec, None, members, Ensemble("all", names, fitted, 1.0))


def ask(pipeline: Pipeline, films: list[torch.Tensor], present: list[int]) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        answer = pipeline(*(film * given for film, given in zip(films, present, strict=True)), torch.tensor(present, dtype=torch.float32))
    return {name: tensor.numpy() for name, tensor in zip(OUTPUTS, answer, strict=True)}


def draw(level: int, left: int = 0, top: int = 0, right: int = SIDE, bottom: int = SIDE) -> torch.Tensor:
    film = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8)
    film[..., top:bottom, left:right] = level
    return film


def test_the_film_is_what_is_brighter_than_the_black_around_it() -> None:
    canvases = torch.cat([draw(200, 5, 10, 60, 41), draw(9), draw(8), draw(0)]).float() / 255
    assert find_film(canvases, 8).tolist() == [[5, 10, 60, 41], [0, 0, SIDE, SIDE], [0, 0, SIDE, SIDE], [0, 0, SIDE, SIDE]]


def test_a_whole_film_is_its_own_crop() -> None:
    task = parse_task({"name": "hips", "views": ["front"], "locate": False}, "here")
    film = draw(250, 8, 16, 56, 48)
    film[..., 16:48, 8:32] = 60
    answer = ask(build(task), [film], [1])
    assert (answer["boxes"].tolist(), answer["box_scores"].tolist()) == ([[8, 16, 56, 48]], [1])
    assert (answer["found"].tolist(), answer["view_scores"].tolist()) == ([1], [[1]])
    crop = crop_and_resize(film.float() / 255, torch.tensor([[8.0, 16, 56, 48]]), SIDE, SIDE)
    left, right = (float(half.mean()) for half in crop[0, 0].split(SIDE // 2, dim=1))
    expected = torch.tensor([10 * (left + right) / 2, 10 * left, 10 * right]).softmax(dim=0)
    np.testing.assert_allclose(answer["members"][0], expected, atol=1e-5)
    assert answer["decision"][0] in (0, 1)
    missing = ask(build(task), [film], [0])
    assert (missing["decision"][0], missing["found"].tolist(), missing["boxes"].any(), missing["heatmaps"].any()) == (3, [0], False, False)


def test_three_views_go_to_the_members_that_look_at_them() -> None:
    pipeline = build(parse_task({**KNEES, "every_case": False}, "here"))
    films = [draw(40), draw(240), draw(160)]
    answer = ask(pipeline, films, [1, 1, 1])
    front, strip, either = (np.log(row / row[0]) / 10 for row in answer["members"])  # by how much halves are brighter than the whole
    np.testing.assert_allclose(front, 0, atol=1e-4)
    np.testing.assert_allclose(strip, np.array([0, 40 - 100, 160 - 100]) / 255, atol=1e-4)  # AP on the left, axial on the right
    np.testing.assert_allclose(either, 0, atol=1e-4)
    alone = ask(pipeline, films, [0, 1, 0])
    assert [bool(row.any()) for row in alone["members"]] == [False, False, True]
    assert alone["heatmaps"].any(axis=(1, 2)).tolist() == [False, True, False]
    np.testing.assert_allclose(answer["view_scores"], np.eye(3))


@pytest.mark.parametrize("present", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_each_case_is_answered_by_its_own_coefficients(present: tuple[int, int, int]) -> None:
    task = parse_task({**KNEES, "every_case": False}, "here")
    pipeline = build(task)
    answer = ask(pipeline, [draw(40), draw(240), draw(160)], list(present))
    case = next((case for case, places in task.cases.items() if places == tuple(np.flatnonzero(present))), None)
    selected = pipeline.ensemble.select(torch.tensor(present, dtype=torch.float32))
    assert selected.tolist() == [float(each == case) for each in task.cases]
    if case is None:
        assert answer["decision"][0] == 3
        return
    used = [row for member, row in zip(task.members, answer["members"], strict=True) if task.can_answer(member.name, case)]
    logits = np.sum(used, axis=0)
    np.testing.assert_allclose(answer["probabilities"], np.exp(logits) / np.exp(logits).sum(), atol=1e-5)


def test_a_case_that_no_ensemble_answers_is_nothing_found() -> None:
    task = parse_task({**KNEES, "every_case": False}, "here")
    pipeline = build(task, {"ap": ("front",)})
    films = [draw(40), draw(240), draw(160)]
    assert ask(pipeline, films, [1, 0, 0])["decision"][0] != 3
    other = ask(pipeline, films, [0, 1, 0])
    assert (other["decision"][0], other["found"].tolist()) == (3, [0, 1, 0])
    assert not other["probabilities"].any()
    assert not other["prediction_set"].any()


def test_a_film_that_looks_more_like_any_other_view_is_in_the_wrong_slot() -> None:
    pipeline = build(parse_task({**KNEES, "every_case": False}, "here"))
    scores = torch.tensor([[0.5, 0.1, 0.9], [0.0, 0.4, 0.3], [0.9, 0.9, 0.9]])
    np.testing.assert_allclose(pipeline.compare_views(scores), [0.4, -0.1, 0.0], atol=1e-6)


def test_what_a_spec_says_of_its_sizes() -> None:
    spec = build(parse_task({**KNEES, "every_case": False}, "here")).spec
    assert spec.sizes == {"S": 64, "K": 3, "M": 3, "h": 2, "w": 2}
    assert replace(spec, crop_side=256).sizes["h"] == 8
