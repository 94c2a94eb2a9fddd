from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pedicle_screws import MEMBERS

from edgekit.evaluation.asked import choose_headings, list_models
from edgekit.evaluation.metrics import score_predictions
from edgekit.evaluation.tables import compare_kinds, duel_models, duel_readers, list_readers, tabulate_brands
from edgekit.task import PEDICLE_SCREWS

STUDY = choose_headings(PEDICLE_SCREWS, list_models(PEDICLE_SCREWS, MEMBERS, []))

# Yao et al. 2024, Table 3: All, AP + Lateral, AP + Lateral + Concat, AP + Lateral + Merge, Lateral + Concat, and the average printed.
PUBLISHED = {
    "accuracy": (0.9245, 0.9434, 0.9340, 0.9340, 0.9340, 0.9340),
    "kappa": (0.9115, 0.9335, 0.9225, 0.9224, 0.9225, 0.9225),
    "precision": {
        "A-Spine (EVO)": (0.9474, 0.9474, 0.9474, 0.9000, 0.9474, 0.9379),
        "Expedium": (0.7273, 0.8000, 0.8000, 0.8000, 0.8000, 0.7855),
        "macro": (0.9226, 0.9405, 0.9304, 0.9337, 0.9304, 0.9315),
        "micro": (0.9245, 0.9434, 0.9340, 0.9340, 0.9340, 0.9340),
    },
    "sensitivity": {
        "A-Spine (EVO)": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        "Expedium": (0.8889, 0.8889, 0.8889, 0.8889, 0.8889, 0.8889),
        "macro": (0.9248, 0.9416, 0.9332, 0.9297, 0.9332, 0.9325),
        "micro": (0.9245, 0.9434, 0.9340, 0.9340, 0.9340, 0.9340),
    },
    "f1": {
        "A-Spine (EVO)": (0.9730, 0.9730, 0.9730, 0.9474, 0.9730, 0.9679),
        "Expedium": (0.8000, 0.8421, 0.8421, 0.8421, 0.8421, 0.8337),
        "macro": (0.9181, 0.9388, 0.9302, 0.9289, 0.9299, 0.9292),
        "micro": (0.9245, 0.9434, 0.9340, 0.9340, 0.9340, 0.9340),
    },
    "auc": {
        "A-Spine (EVO)": (0.9981, 0.9956, 0.9987, 0.9949, 0.9994, 0.9973),
        "Expedium": (0.9828, 0.9828, 0.9794, 0.9874, 0.9794, 0.9824),
        "macro": (0.9811, 0.9834, 0.9842, 0.9842, 0.9854, 0.9837),
        "micro": (0.9746, 0.9830, 0.9821, 0.9748, 0.9842, 0.9797),
    },
}


def published_model(column: int) -> dict[str, Any]:
    figures = ("precision", "sensitivity", "f1", "auc")
    return {
        "n": 106,
        "kappa": PUBLISHED["kappa"][column],
        **{average: {figure: PUBLISHED[figure][average][column] for figure in figures} for average in ("macro", "micro")},
        "brands": {brand: {figure: PUBLISHED[figure][brand][column] for figure in figures} for brand in ("A-Spine (EVO)", "Expedium")},
    }


@pytest.fixture
def published() -> dict[str, Any]:
    return {name: published_model(column) for column, name in enumerate(STUDY.ensembles)}


def test_table_3_comes_out_as_printed(published: dict[str, Any]) -> None:
    table = tabulate_brands(published, STUDY.ensembles)
    assert table is not None
    assert table.columns[0] == "All"
    assert table.columns[-1] == "Average"
    assert table.rows == (106, 106, 106, 106, 106, None)
    assert [block.title for block in table.blocks] == ["", "Precision", "Sensitivity", "F1 score", "AUC"]
    assert [label for label, _ in table.blocks[0].rows] == ["Accuracy", "Kappa"]
    for block, figure in zip(table.blocks[1:], ("precision", "sensitivity", "f1", "auc"), strict=True):
        assert [label for label, _ in block.rows] == ["A-Spine (EVO)", "Expedium", "Macro-average", "Micro-average"]
        for (_, values), printed in zip(block.rows, PUBLISHED[figure].values(), strict=True):
            assert values == pytest.approx(printed, abs=1.01e-4)  # the paper averages before it rounds
    assert table.blocks[0].rows[0][1] == pytest.approx(PUBLISHED["accuracy"], abs=1.01e-4)
    assert table.blocks[0].rows[1][1] == pytest.approx(PUBLISHED["kappa"], abs=1.01e-4)


def test_a_model_that_was_not_scored_has_no_column(published: dict[str, Any]) -> None:
    del published["ap+lateral+merge"], published["all"]
    table = tabulate_brands(published, STUDY.ensembles)
    assert table is not None
    assert table.columns == ("AP + Lateral", "AP + Lateral + Concat", "Lateral + Concat", "Average")
    assert table.blocks[0].rows[0][1] == pytest.approx((0.9434, 0.9340, 0.9340, (0.9434 + 2 * 0.9340) / 3))
    assert tabulate_brands(published, STUDY.singles) is None
    assert compare_kinds(published, STUDY) is None


def test_table_4_sets_the_averages_side_by_side(published: dict[str, Any]) -> None:
    singles = {"ap": published_model(0), "merge_dual": published_model(1)}
    table = compare_kinds(published | singles, STUDY)
    assert table is not None
    assert table.columns == ("Single models", "Ensembles", "Difference")
    rows = [(block.title, *row) for block in table.blocks for row in block.rows]
    assert len(rows) == 2 + 4 * 2
    single = (0.9245 + 0.9434) / 2
    assert rows[0] == ("", "Accuracy", pytest.approx((single, 0.9340, 0.9340 - single), abs=1.01e-4))
    assert rows[-1] == ("AUC", "Micro-average", pytest.approx((0.9788, 0.9797, 0.0009), abs=1.01e-4))


def test_with_a_crosslink_the_brand_that_never_has_one_is_undefined() -> None:
    truth = ["a", "b", "a", "b", "c", "c"]
    crosslink = [True, True, False, False, False, False]
    patients = [str(number) for number in range(6)]
    ap = np.eye(3)[[0, 1, 1, 1, 2, 2]] * 0.7 + 0.1
    lateral = np.eye(3)[[0, 0, 0, 1, 2, 2]] * 0.7 + 0.1
    models = {
        name: score_predictions("abc", truth, rows, patients, {"crosslink": crosslink}, resamples=2)
        for name, rows in (("ap", ap), ("lateral", lateral))
    }
    table = tabulate_brands(models, STUDY.singles, ("crosslink", "with"))
    assert table is not None
    assert table.blocks[0].rows[0] == ("Accuracy", (1.0, 0.5, 0.75))
    sensitivity = dict(table.blocks[2].rows)
    assert sensitivity["c"] == (None, None, None)
    assert sensitivity["b"] == (1.0, 0.0, 0.5)
    assert dict(table.blocks[1].rows)["b"] == (1.0, None, 1.0), "the second model never answers b; the average is over what is defined"
    without = tabulate_brands(models, STUDY.singles, ("crosslink", "without"))
    assert without is not None
    assert without.blocks[0].rows[0] == ("Accuracy", (0.75, 1.0, 0.875))
    models["lateral"]["crosslink"]["with"] = None
    assert tabulate_brands(models, STUDY.singles, ("crosslink", "with")) is None


def test_accuracy_on_dual_images_is_a_share_of_films() -> None:
    """As in the paper: two patients, each with two films, of which three are named rightly."""
    films = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    dual = score_predictions("ab", "aabb", films, ["1", "1", "2", "2"], {}, resamples=2)
    assert (dual["accuracy"], dual["micro"]["sensitivity"]) == (0.5, 0.75)
    table = tabulate_brands({"ap": dual, "merge_dual": dual}, STUDY.singles)
    assert table is not None
    assert table.blocks[0].rows[0] == ("Accuracy", (0.75, 0.75, 0.75))
    assert table.rows == (4, 4, None)


def test_duels_are_seen_from_the_row() -> None:
    comparisons = [
        {"a": "lateral", "b": "ap", "n": 9, "only_a": 4, "only_b": 1, "p": 0.375},
        {"a": "ap", "b": "ap+lateral", "n": 8, "only_a": 0, "only_b": 5, "p": 0.0625},
        {"a": "ap+concat", "b": "ap", "n": 8, "only_a": 0, "only_b": 5, "p": 0.0625},
    ]
    triangle = duel_models(comparisons, STUDY)
    assert list(triangle) == ["ap", "lateral", "ap+lateral"]
    assert triangle["ap"] == {}
    assert (triangle["lateral"]["ap"].only_row, triangle["lateral"]["ap"].only_column, triangle["lateral"]["ap"].n) == (4, 1, 9)
    assert list(triangle["ap+lateral"]) == ["ap"]
    assert (triangle["ap+lateral"]["ap"].only_row, triangle["ap+lateral"]["ap"].only_column) == (5, 0)
    assert duel_models([], STUDY) == {}


def test_readers_come_before_models_and_are_held_against_the_headline() -> None:
    def model(name: str, correct: int) -> dict[str, Any]:
        return {"model": name, "n": 27, "correct": correct, "accuracy": correct / 27, "ci95": [0.1, 0.9]}

    readers = {
        "n": 27,
        "readers": [
            {"reader": "R6", "experience": "student", "n": 27, "correct": 10, "accuracy": 10 / 27, "ci95": [0.19, 0.58], "seconds": None},
        ],
        "models": [model("all", 25), model("concat+merge", 26), model("ap+merge", 24), model("ap", 20)],
        "comparisons": [
            {"reader": "R6", "model": "ap", "n": 27, "only_reader": 2, "only_model": 12, "p": 0.013},
            {"reader": "R6", "model": "ap+merge", "n": 27, "only_reader": 1, "only_model": 15, "p": 0.0005},
        ],
    }
    groups = list_readers(readers, STUDY, "ap+merge")
    assert {heading: [row.name for row in rows] for heading, rows in groups.items()} == {
        "Readers": ["R6"],
        "Single models": ["ap"],
        "Ensembles": ["all", "ap+merge"],
    }
    assert (groups["Readers"][0].p, groups["Readers"][0].experience, groups["Readers"][0].seconds) == (0.0005, "student", None)
    assert groups["Ensembles"][0].p is None
    assert list_readers(readers, STUDY, "all")["Readers"][0].p is None
    duels = duel_readers(readers, STUDY, "ap+merge")
    assert list(duels) == ["ap", "ap+merge"]
    assert (duels["ap"]["R6"].only_row, duels["ap"]["R6"].only_column) == (12, 2)
