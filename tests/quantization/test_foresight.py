"""The changed answers that are foreseen: by hand, and against what happens to patients that nothing was fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from edgekit.errors import CalibrationError
from edgekit.models.logistic import fit_logistic
from edgekit.quantization.foresight import NEAR, Foresight

BRANDS = 4


def draw_members(random: np.random.Generator, count: int, clarity: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-odds of two members, (N, 2, K), for patients of whom some are hard."""
    truth = np.arange(count) % BRANDS
    logits = random.normal(0, 1.5, (count, 2, BRANDS))
    logits[np.arange(count), :, truth] += random.gamma(2, clarity / 2, (count, 1))
    return logits, truth


def name(truth: NDArray[np.int64]) -> list[str]:
    return [f"design-{number}" for number in truth]


@pytest.mark.parametrize(("clarity", "noise"), [(8.0, 0.3), (5.0, 1.0)])
def test_as_many_fresh_answers_change_as_were_foreseen(clarity: float, noise: float) -> None:
    """Within a factor of two, from 84 patients in six looks."""
    ratios = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        calibration, truth = draw_members(random, 84, clarity)
        looks = np.concatenate([calibration + random.normal(0, 0.2, calibration.shape) for _ in range(6)])
        foreseen = Foresight(softmax(looks, axis=2), name(truth)).predict(softmax(looks + random.normal(0, noise, looks.shape), axis=2))
        shipped = fit_logistic(softmax(calibration, axis=2).reshape(84, -1), truth, 10)
        fresh, _ = draw_members(random, 20_000, clarity)
        before, after = (
            shipped.predict(softmax(logits, axis=2).reshape(len(fresh), -1))
            for logits in (fresh, fresh + random.normal(0, noise, fresh.shape))
        )
        ratios.append(foreseen / (before != after).mean())
    assert 0.5 < np.exp(np.log(ratios).mean()) < 2, ratios


def test_nothing_that_changes_nothing_is_foreseen_to_turn_an_answer() -> None:
    logits, truth = draw_members(np.random.default_rng(0), 40, 8.0)
    members = softmax(logits, axis=2)
    assert Foresight(members, name(truth)).predict(members) == 0


def test_a_lost_construct_is_a_changed_answer() -> None:
    """By hand: one of 40 patients loses both films, nothing else changes."""
    logits, truth = draw_members(np.random.default_rng(0), 40, 8.0)
    members = softmax(logits, axis=2)
    foresight = Foresight(members, name(truth))
    members[7] = 0
    assert foresight.predict(members) == pytest.approx(1 / 40)


def test_a_patient_is_answered_by_an_ensemble_that_has_not_seen_it() -> None:
    """By hand, with the same kernel: an ensemble that has seen the patients is sure of them, and foresees next to nothing."""
    random = np.random.default_rng(0)
    logits, truth = draw_members(random, 40, 4.0)
    members = softmax(np.concatenate([logits, random.normal(0, 2, (40, 6, BRANDS))], axis=1), axis=2)
    moved = softmax(np.log(members) + random.normal(0, 0.3, members.shape), axis=2)
    foresight = Foresight(members, name(truth))
    seen = fit_logistic(members.reshape(40, -1), truth, 1000)
    odds, after = (seen.predict_log_proba(each.reshape(40, -1)) for each in (members, moved))
    first, second = np.argsort(-odds, axis=1)[:, :2].T
    rows = np.arange(40)
    margins, change = (
        odds[rows, first] - odds[rows, second],
        odds[rows, first] - odds[rows, second] - after[rows, first] + after[rows, second],
    )
    assert 5 * np.mean(np.maximum(1 - margins / NEAR, 0) * np.abs(change) / NEAR) < foresight.predict(moved)


def test_patients_with_other_films_are_answered_by_an_ensemble_of_their_own() -> None:
    logits, truth = draw_members(np.random.default_rng(0), 80, 8.0)
    members = softmax(logits, axis=2)
    members[::2][:, 1] = 0  # every other patient has no lateral film
    truth = np.arange(80) // 2 % BRANDS
    foresight = Foresight(members, name(truth))
    moved = members.copy()
    moved[::2, 0] = softmax(np.log(members[::2, 0]) + np.random.default_rng(1).normal(0, 0.5, (40, BRANDS)), axis=1)
    assert 0 < foresight.predict(moved) < 0.2
    assert foresight.predict(members) == 0


@pytest.mark.parametrize("brands", [["a", "a", "a", "a"], ["a", "a", "a", "b"], ["a", "b"], []])
def test_too_few_patients_are_refused(brands: list[str]) -> None:
    members = softmax(np.random.default_rng(0).normal(size=(len(brands), 2, 3)), axis=2)
    with pytest.raises(CalibrationError, match=f"{len(brands)} calibration patients are too few for 8 bits, which need 2 of each brand"):
        Foresight(members, brands)
