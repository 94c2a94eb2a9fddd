from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from edgekit.evaluation.pairs import compare_models, compare_pair

NAN = np.nan


def name_patients(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


def judge(only_a: int, only_b: int, both: int, neither: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * both + [0.0] * neither
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * both + [0.0] * neither
    return np.array(a), np.array(b)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (3, 3, 1.0),
        (5, 0, 2 / 2**5),
        (8, 1, 2 * (1 + 9) / 2**9),
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
        (12, 30, 2 * binom(42, 0.5).cdf(12)),
    ],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, p: float) -> None:
    a, b = judge(only_a, only_b, 20, 7)
    pair = compare_pair(a, b, name_patients(len(a)))
    assert pair == {"n": 27 + only_a + only_b, "only_a": only_a, "only_b": only_b, "p": pytest.approx(p, abs=1e-12)}


def test_only_patients_that_both_were_asked_about_count() -> None:
    a, b = np.array([1.0, 1.0, 0.0, NAN, 1.0]), np.array([0.0, NAN, 1.0, 1.0, 1.0])
    assert compare_pair(a, b, name_patients(5)) == {"n": 3, "only_a": 1, "only_b": 1, "p": 1.0}


def test_a_patient_with_several_rows_counts_once_and_is_right_when_all_are() -> None:
    a, b = np.array([1.0, 1.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, NAN])
    patients = ["p1", "p1", "p1", "p2", "p2"]
    assert compare_pair(a, b, patients) == {"n": 2, "only_a": 1, "only_b": 1, "p": 1.0}
    assert compare_pair(a, 1 - b, patients) == {"n": 2, "only_a": 1, "only_b": 0, "p": 1.0}  # p2 is nobody's
    assert compare_pair(1 - a, 1 - b, patients) == {"n": 2, "only_a": 1, "only_b": 0, "p": 1.0}


def test_every_pair_of_models_once() -> None:
    right = {
        "ap": np.array([1.0, 1.0, NAN]),
        "lateral": np.array([0.0, NAN, 1.0]),
        "all": np.array([1.0, 0.0, 1.0]),
        "x": np.array([NAN, 1.0, NAN]),
    }
    pairs = compare_models(right, name_patients(3))
    # lateral and x have no patient in common
    assert [(pair["a"], pair["b"], pair["n"], pair["only_a"], pair["only_b"]) for pair in pairs] == [
        ("ap", "lateral", 1, 1, 0),
        ("ap", "all", 2, 1, 0),
        ("ap", "x", 1, 0, 0),
        ("lateral", "all", 2, 0, 1),
        ("all", "x", 1, 0, 1),
    ]
