from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.evaluation import figures
from edgekit.evaluation.charts import chart_metrics, chart_model, chart_sureness
from edgekit.evaluation.metrics import score_predictions
from edgekit.evaluation.predictions import Predictions

BRANDS = ("a", "b", "c")


def score(scored: Predictions) -> dict[str, Any]:
    truth = [str(brand) for brand in scored.truth]
    return score_predictions(BRANDS, truth, scored.probabilities, scored.patients, scored.has, resamples=2)


@pytest.fixture
def scored() -> Predictions:
    """One right, one wrong, one without an answer."""
    probabilities = np.array([[0.8, 0.1, 0.1], [0.3, 0.1, 0.6], [1 / 3, 1 / 3, 1 / 3]])
    return Predictions(BRANDS, ("1", "2", "3"), ("a", "b", "a"), {}, probabilities)


def watch(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """Record what one figure is drawn from."""
    calls: list[tuple[Any, ...]] = []
    draw = getattr(figures, name)
    monkeypatch.setattr(figures, name, lambda *arguments: (calls.append(arguments), draw(*arguments))[1])
    return calls


def test_an_answer_that_is_missing_is_neither_right_nor_in_the_matrix(scored: Predictions, monkeypatch: pytest.MonkeyPatch) -> None:
    confusion, reliability = watch(monkeypatch, "draw_confusion"), watch(monkeypatch, "draw_reliability")
    assert set(chart_model(score(scored), scored, "maker")) == {"confusion", "roc"}
    labels, matrix, unanswered, told = confusion[0]
    assert told == "maker"
    assert list(labels) == list(BRANDS)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert unanswered.tolist() == [1, 0, 0]
    chart_sureness(scored)
    assert reliability[0][1].tolist() == [True, False, False]


def test_one_brand_alone_has_no_roc_curve(scored: Predictions) -> None:
    alone = scored.take(np.array([True, False, True]))
    assert set(chart_model(score(alone), alone, "brand")) == {"confusion"}


def test_metrics_decide_which_charts_there_are(scored: Predictions, monkeypatch: pytest.MonkeyPatch) -> None:
    model = score(scored)
    assert chart_metrics({"models": {"ap": model}, "box_errors": None, "external": None}, "ap") == {}
    bands = [
        {"low": 0.0, "high": 0.5, "n": 0, "accuracy": None},
        {"low": 0.5, "high": 0.9, "n": 2, "accuracy": 0.5},
        {"low": 0.9, "high": 1.0, "n": 1, "accuracy": 1.0},
    ]
    metrics = {
        "models": {"ap": model, "lateral": model},
        "box_errors": {"lateral": {"bands": bands}},
        "external": {"models": {"lateral": {**model, "accuracy": 0.25}}},
    }
    drawn_bands, drawn_sites = watch(monkeypatch, "draw_bands"), watch(monkeypatch, "draw_sites")
    drawn = chart_metrics(metrics, "lateral")
    assert list(drawn) == ["models", "box_errors", "external"]
    assert all(image.startswith(b"<?xml") for image in drawn.values())
    names, models = drawn_bands[0]
    assert names == ["< 0.5", "0.5–0.9", "≥ 0.9"]
    assert list(models) == ["lateral"]
    assert models["lateral"][0].tolist() == [0, 2, 1]
    np.testing.assert_equal(models["lateral"][1], [np.nan, 0.5, 1.0])
    names, sites = drawn_sites[0]
    assert names == ["lateral  n 3, 3"]
    assert [values for values, _ in sites.values()] == [[pytest.approx(1 / 3)], [0.25]]
