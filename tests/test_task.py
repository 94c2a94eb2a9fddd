"""Tasks as data: what a settings file may say, and what follows from it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from edgekit.contract import OUTPUTS, PRESENT
from edgekit.errors import InputError
from edgekit.golden import EMPTY, STRESS
from edgekit.task import PEDICLE_SCREWS, parse_task

HIPS: dict[str, Any] = {"name": "hips", "views": ["front"]}


def test_the_study_is_a_task() -> None:
    assert PEDICLE_SCREWS.cases == {"ap": (0,), "lateral": (1,), "both": (0, 1)}
    evaluable = {
        case: [each.name for each in PEDICLE_SCREWS.members if PEDICLE_SCREWS.can_answer(each.name, case)] for case in PEDICLE_SCREWS.cases
    }
    assert evaluable == {"ap": ["ap", "merge"], "lateral": ["lateral", "merge"], "both": ["ap", "lateral", "concat", "merge"]}
    assert PEDICLE_SCREWS.looking_alone("lateral") == ("lateral", "merge")
    assert PEDICLE_SCREWS.missing_views("lateral") == ("ap",)
    assert parse_task(PEDICLE_SCREWS.to_json(), "here") == PEDICLE_SCREWS


def test_a_task_reads_back_from_toml() -> None:
    import tomli_w

    assert parse_task(tomllib.loads(tomli_w.dumps(PEDICLE_SCREWS.to_json())), "here") == PEDICLE_SCREWS


def test_the_least_that_a_task_says() -> None:
    task = parse_task(HIPS, "here")
    assert (task.cases, task.locate, task.covariate, task.every_case) == ({"front": (0,)}, True, "", True)
    assert [(member.name, member.views, member.layout) for member in task.members] == [("front", ("front",), "single")]
    assert task.question == "Which brand is this?"
    assert "not a medical device" in task.intended_use


def test_cases_of_three_views_are_all_subsets_smaller_ones_first() -> None:
    task = parse_task({"name": "knees", "views": ["ap", "lateral", "axial"]}, "here")
    assert list(task.cases.values()) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert list(task.cases) == ["ap", "lateral", "axial", "ap+lateral", "ap+axial", "lateral+axial", "ap+lateral+axial"]


def test_members_that_look_at_the_same_are_counted() -> None:
    assert [PEDICLE_SCREWS.repetition(member.name) for member in PEDICLE_SCREWS.members] == [0, 0, 0, 0]
    look = {"views": ["ap"], "layout": "single"}
    task = parse_task({"name": "knee", "views": ["ap"], "members": {"first": look, "second": look, "third": look}}, "here")
    assert [task.repetition(name) for name in ("first", "second", "third")] == [0, 1, 2]


def test_a_member_of_each_film_needs_one_of_its_views_side_by_side_needs_all() -> None:
    members = {"pair": {"views": ["ap", "axial"], "layout": "side by side"}, "any": {"views": ["lateral", "axial"], "layout": "each"}}
    task = parse_task({"name": "knees", "views": ["ap", "lateral", "axial"], "members": members}, "here")
    assert [case for case in task.cases if task.can_answer("pair", case)] == ["ap+axial", "ap+lateral+axial"]
    assert [case for case in task.cases if not task.can_answer("any", case)] == ["ap"]
    assert task.looking_alone("ap") == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"views": []}, "views"),
        ({"views": ["a", "b", "c", "d"]}, "one to 3"),
        ({"views": ["front", "front"]}, "different"),
        ({"views": ["both"]}, "'both'"),
        ({"views": ["levels"]}, "'levels'"),
        ({"views": ["found"]}, "'found'"),
        ({"views": ["stress"]}, "'stress'"),
        ({"views": ["p_left"]}, "'p_left'"),
        ({"views": ["ap_score"]}, "'ap_score'"),
        ({"views": ["has_x"]}, "has_x"),
        ({"views": ["Front"]}, "'Front'"),
        ({"views": [1]}, "views"),
        ({"name": 3}, "name"),
        ({"locate": "no"}, "locate"),
        ({"colour": "red"}, "unknown key colour"),
        ({"covariate": "two words"}, "covariate"),
        ({"found": " "}, "found"),
        ({"members": {}}, "members"),
        ({"members": {"m": {"views": ["front"]}}}, "views and layout"),
        ({"members": {"m": {"views": ["side"], "layout": "single"}}}, "views of the task|task's views"),
        ({"members": {"m": {"views": ["front"], "layout": "stacked"}}}, "stacked"),
        ({"members": {"m": {"views": ["front"], "layout": "each"}}}, "each"),
        ({"members": {"../m": {"views": ["front"], "layout": "single"}}}, "lower-case"),
        (
            {
                "views": ["front", "side"],
                "members": {
                    "any": {"views": ["front", "side"], "layout": "each"},
                    "any_side": {"views": ["side"], "layout": "single"},
                },
            },
            "can't be called any_side",
        ),
        ({"members": {"all": {"views": ["front"], "layout": "single"}}}, "name of an ensemble"),
    ],
)
def test_what_no_task_can_be_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_task({**HIPS, **changes}, "settings.toml [task]")
    said = f"{refused.value.message} {refused.value.remedy}"
    assert refused.value.message.startswith("settings.toml [task]")
    assert any(word in said for word in named.split("|"))


def test_no_view_is_called_as_a_tensor_or_a_golden_case() -> None:
    for taken in (*OUTPUTS, PRESENT, EMPTY, STRESS):
        with pytest.raises(InputError, match="can't be a view's name"):
            parse_task({"name": "hips", "views": [taken]}, "here")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="views missing"):
        parse_task({"name": "hips"}, "here")
