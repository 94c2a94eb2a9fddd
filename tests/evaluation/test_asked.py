"""Which models a task's run is asked as, and what each is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pedicle_screws import MEMBERS
from scipy.special import softmax

from edgekit.errors import InputError
from edgekit.evaluation.answers import Answers, ask_models
from edgekit.evaluation.asked import choose_headings, list_models, spell
from edgekit.evaluation.box_errors import measure_box_errors
from edgekit.evaluation.charts import chart_overlaps
from edgekit.models.ensemble import Case, Ensemble
from edgekit.task import PEDICLE_SCREWS, Task, parse_task
from edgekit.types import Study

SHOULDER = parse_task(
    {
        "name": "shoulders",
        "views": ["front", "side", "left_oblique"],
        "members": {
            "front": {"views": ["front"], "layout": "single"},
            "pair": {"views": ["front", "left_oblique"], "layout": "side by side"},
            "any": {"views": ["front", "side", "left_oblique"], "layout": "each"},
            "two": {"views": ["side", "left_oblique"], "layout": "each"},
        },
    },
    "shoulders",
)


def make_ensemble(task: Task, *members: str, name: str = "") -> Ensemble:
    """An ensemble that answers whatever its members can, as the mean of their probabilities would."""
    fitted = {}
    for case in task.cases:
        if used := tuple(member for member in members if task.can_answer(member, case)):
            coefficients = np.tile(np.eye(2, dtype=np.float32), (1, len(used)))
            fitted[case] = Case(used, coefficients, np.zeros(2, np.float32), 1.0, 0.2, 0.9)
    return Ensemble(name or "+".join(members), members, fitted, 0.5)


def test_the_studys_columns_are_the_papers() -> None:
    """Yao et al. 2024, Tables 2 and 3."""
    headings = choose_headings(PEDICLE_SCREWS, list_models(PEDICLE_SCREWS, MEMBERS, []))
    assert dict(headings.singles) == {
        "ap": "AP",
        "lateral": "Lateral",
        "concat": "Concat",
        "merge_ap": "Merge on AP images",
        "merge_lateral": "Merge on lateral images",
        "merge_dual": "Merge on dual images",
    }
    assert dict(headings.ensembles) == {
        "all": "All",
        "ap+lateral": "AP + Lateral",
        "ap+lateral+concat": "AP + Lateral + Concat",
        "ap+lateral+merge": "AP + Lateral + Merge",
        "lateral+concat": "Lateral + Concat",
    }
    assert headings.members == (*headings.singles, "merge_mean")
    assert dict(headings.pooled) == {"merge_dual": ("ap", "lateral")}


def test_other_tasks_show_every_ensemble_up_to_six() -> None:
    pairs = [make_ensemble(SHOULDER, "front", "any"), make_ensemble(SHOULDER, "front"), make_ensemble(SHOULDER, "pair", "two")]
    models = list_models(SHOULDER, ["front", "pair"], pairs)
    assert list(models) == ["front", "pair", "front+any", "front-calibrated", "pair+two"]
    assert dict(choose_headings(SHOULDER, models).ensembles) == {"front+any": "Front + Any", "pair+two": "Pair + Two"}
    many = [make_ensemble(SHOULDER, "front", "any", name=f"front+any{number}") for number in range(9)]
    listed = list_models(SHOULDER, [], many)
    assert list(choose_headings(SHOULDER, listed).ensembles) == [f"front+any{number}" for number in range(6)]
    shown = list(choose_headings(SHOULDER, listed, "front+any8").ensembles)
    assert shown == [*(f"front+any{number}" for number in range(5)), "front+any8"], "never without the one that answers"


def test_views_are_spelled_as_people_do() -> None:
    assert [spell(view) for view in ("ap", "lateral", "left_oblique", "pa")] == ["AP", "lateral", "left oblique", "PA"]


def test_three_views_have_a_model_each() -> None:
    ensembles = [make_ensemble(SHOULDER, "front", "two"), make_ensemble(SHOULDER, "two")]
    models = list_models(SHOULDER, [member.name for member in SHOULDER.members], ensembles)
    views = SHOULDER.views
    assert {name: (model.heading, model.views) for name, model in models.items()} == {
        "front": ("Front", ("front",)),
        "pair": ("Pair", ("front", "left_oblique")),
        "any_front": ("Any on front images", ("front",)),
        "any_side": ("Any on side images", ("side",)),
        "any_left_oblique": ("Any on left oblique images", ("left_oblique",)),
        "any_dual": ("Any on all images", views),
        "any_mean": ("Any, mean", views),
        "two_side": ("Two on side images", ("side",)),
        "two_left_oblique": ("Two on left oblique images", ("left_oblique",)),
        "two_dual": ("Two on dual images", views[1:]),
        "two_mean": ("Two, mean", views[1:]),
        "front+two": ("Front + Two", views),
        "two-calibrated": ("Two, calibrated", views[1:]),
    }
    assert [name for name, model in models.items() if model.is_per_film] == ["any_dual", "two_dual"]


def test_two_models_of_one_name_are_refused() -> None:
    twins = [make_ensemble(SHOULDER, "front", "any", name="pair"), make_ensemble(SHOULDER, "front", "any", name="twins")]
    assert list(list_models(SHOULDER, ["front"], twins)) == ["front", "pair", "twins"]
    with pytest.raises(InputError, match="two models of the run are called pair"):
        list_models(SHOULDER, ["pair"], twins)


def answer(given: list[tuple[int, int, int]], lost: tuple[int, int] | None = None, **more: Any) -> Answers:
    """What members said who call a film of view v "a" with a probability of 0.9 less v tenths; nothing is found on the film `lost`."""
    given_films = np.array(given, bool)
    found = given_films.copy()
    if lost is not None:
        found[lost] = False
    rows = len(given)
    films = np.zeros((rows, 4, 3, 2), np.float32)
    films[:, 2:] = np.stack([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]], axis=1)
    films[:, 3, 0] = 0  # "two" does not look at the front
    films *= found[:, None, :, None]
    members = films.sum(axis=2) / np.maximum((films.sum(axis=3) > 0).sum(axis=2), 1)[..., None]
    members[:, 0] = films[:, 2, 0]
    members[:, 1] = (found[:, 0] & found[:, 2])[:, None] * np.array([0.6, 0.4])
    arrays: dict[str, Any] = {
        "boxes": np.tile([0.0, 0, 8, 8], (rows, 3, 1)),
        "true_boxes": np.full((rows, 3, 4), np.nan),
        "members_on_true_boxes": members,
        **more,
    }
    return Answers(
        views=SHOULDER.views,
        studies=tuple(Study(f"p{row}", "a", films={"front": Path("film")}) for row in range(rows)),
        letterboxes=({},) * rows,
        given=given_films,
        found=found,
        members=members,
        members_on_films=films,
        box_scores=found.astype(float),
        heatmaps=np.zeros((rows, 3, 2, 2), np.float32),
        prediction_sets=np.ones((rows, 2), bool),
        unfamiliarities=np.zeros(rows),
        decisions=np.zeros(rows, np.int64),
        **arrays,
    )


def test_each_model_is_asked_about_the_films_that_it_sees() -> None:
    said = answer([(1, 1, 1), (1, 0, 0), (0, 1, 1), (1, 0, 1)], lost=(2, 1))
    names = [member.name for member in SHOULDER.members]
    ensembles = [make_ensemble(SHOULDER, "front", "two"), make_ensemble(SHOULDER, "pair", "front")]
    models = ask_models(said, SHOULDER, names, ensembles)
    assert list(models) == list(list_models(SHOULDER, names, ensembles))
    assert {name: model.rows.tolist() for name, model in models.items()} == {
        "front": [0, 1, 3],
        "pair": [0, 3],
        "any_front": [0, 1, 3],
        "any_side": [0, 2],
        "any_left_oblique": [0, 2, 3],
        "any_dual": [0, 0, 0, 1, 2, 2, 3, 3],
        "any_mean": [0, 1, 2, 3],
        "two_side": [0, 2],
        "two_left_oblique": [0, 2, 3],
        "two_dual": [0, 0, 2, 2, 3],
        "two_mean": [0, 2, 3],
        "front+two": [0, 1, 2, 3],
        "pair+front": [0, 1, 3],
    }
    assert models["any_dual"].probabilities[:, 0] == pytest.approx([0.9, 0.8, 0.7, 0.9, 0.5, 0.7, 0.9, 0.7])  # nothing found: no answer
    assert models["two_mean"].probabilities[:, 0] == pytest.approx([0.75, 0.7, 0.7])
    # Of the first patient front says 0.9 and two 0.75; of the second only front speaks, of the third, without the lost film, only two.
    logits = np.array([[1.65, 0.35], [0.9, 0.1], [0.7, 0.3], [1.6, 0.4]])
    assert models["front+two"].probabilities == pytest.approx(softmax(logits, axis=1), abs=1e-6)
    assert "any_side" not in ask_models(said.with_true_boxes(), SHOULDER, names, [])


def test_boxes_of_three_views_count_for_the_models_that_see_them() -> None:
    """The film of the third view has a box of half the true one; a model of the first view does not mind."""
    true = np.tile([0.0, 0, 8, 8], (2, 3, 1))
    true[:, 2, 2] = 16
    said = answer([(1, 1, 1), (1, 0, 1)], true_boxes=true)
    right = np.array([1.0, 0.0])
    assert measure_box_errors(said, right, right, ("front",))["bands"][-1]["n"] == 2
    bands = measure_box_errors(said, right, right, SHOULDER.views)["bands"]
    assert [band["n"] for band in bands] == [0, 2, 0, 0, 0]
    assert chart_overlaps(said)["overlaps"].count(b"left_oblique") >= 1
