from __future__ import annotations

import numpy as np
import pytest
from pedicle_screws import MEMBERS
from sklearn.linear_model import LogisticRegression

from edgekit.errors import InputError
from edgekit.models.ensemble import Ensemble
from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import EnsemblesConfig
from edgekit.training.ensembles import Evidence, choose_ensemble, conformal_threshold, fit_ensembles

CONFIG = EnsemblesConfig(coverage=0.9, familiar=0.99, folds=5)


def draw_members(n_brands: int, count: int, strength: dict[str, float]) -> dict[str, Evidence]:
    """Members of known strength: softmax of strength x truth + noise."""
    random = np.random.default_rng(3)
    brands = np.arange(count) % n_brands
    rows = {}
    for name, gain in strength.items():
        logits = random.normal(size=(count, n_brands)) + gain * np.eye(n_brands)[brands]
        rows[name] = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    return {
        case: Evidence({name: rows[name] for name in rows if PEDICLE_SCREWS.can_answer(name, case)}, brands, np.arange(count).astype(str))
        for case in PEDICLE_SCREWS.cases
        if any(PEDICLE_SCREWS.can_answer(name, case) for name in rows)
    }


def combine(ensemble: Ensemble, rows: dict[str, np.ndarray], has_ap: np.ndarray, has_lateral: np.ndarray) -> np.ndarray:
    return ensemble.predict(rows, np.stack([has_ap, has_lateral], axis=1), PEDICLE_SCREWS.cases)


@pytest.mark.parametrize("n_brands", [2, 3, 7])
def test_predictions_equal_scikit_learns_own(n_brands: int) -> None:
    evidence = draw_members(n_brands, 140, {"ap": 2.0, "lateral": 3.0})
    rows, brands = evidence["both"].probabilities, evidence["both"].brands
    ensembles = {ensemble.name: ensemble for ensemble in fit_ensembles(evidence, PEDICLE_SCREWS, CONFIG, seed=0)}
    assert set(ensembles) == {"ap", "lateral", "ap+lateral"}
    both = ensembles["ap+lateral"]
    features = np.concatenate([rows["ap"], rows["lateral"]], axis=1)
    model = LogisticRegression(C=both.fitted["both"].regularisation, max_iter=5000).fit(features, brands)
    yes = np.ones(len(brands), dtype=bool)
    np.testing.assert_allclose(combine(both, rows, yes, yes), model.predict_proba(features), atol=1e-4)


def test_every_subset_and_the_cases_it_can_answer() -> None:
    evidence = draw_members(2, 24, {"ap": 1.0, "lateral": 2.0, "concat": 2.0, "merge": 1.5})
    ensembles = {ensemble.name: ensemble for ensemble in fit_ensembles(evidence, PEDICLE_SCREWS, CONFIG, seed=0)}
    assert len(ensembles) == 15
    assert ensembles["ap"].cases == ("ap", "both")
    assert ensembles["concat"].cases == ("both",)
    assert ensembles["merge"].cases == ("ap", "lateral", "both")
    assert ensembles["lateral+concat"].cases == ("lateral", "both")
    assert ensembles["all"].fitted["lateral"].members == ("lateral", "merge")
    chosen = choose_ensemble(list(ensembles.values()), PEDICLE_SCREWS)
    assert set(ensembles[chosen].cases) == {"ap", "lateral", "both"}, "the exported ensemble must answer every patient"


def test_a_patient_gets_the_coefficients_of_the_films_found_and_json_keeps_them() -> None:
    evidence = draw_members(3, 90, {"ap": 1.0, "lateral": 4.0})
    ensemble = fit_ensembles(evidence, PEDICLE_SCREWS, CONFIG, seed=0)[2]
    again = Ensemble.from_json(ensemble.to_json())
    yes, no = np.ones(90, dtype=bool), np.zeros(90, dtype=bool)
    rows, brands = evidence["both"].probabilities, evidence["both"].brands
    for has_ap, has_lateral in ((yes, yes), (yes, no), (no, yes)):
        np.testing.assert_array_equal(combine(again, rows, has_ap, has_lateral), combine(ensemble, rows, has_ap, has_lateral))
    ap_only = combine(ensemble, {**rows, "lateral": np.full_like(rows["ap"], np.nan)}, yes, no)
    assert np.isfinite(ap_only).all(), "a film that is missing must not matter"
    assert not combine(ensemble, rows, no, no).any()
    by_ap, by_lateral = ((combine(ensemble, rows, *films).argmax(axis=1) == brands).mean() for films in ((yes, no), (no, yes)))
    assert by_lateral > by_ap + 0.1


def test_conformal_threshold_by_hand() -> None:
    # n = 9, coverage 0.8: rank ceil(10 * 0.8) = 8, the eighth largest of 0.9 ... 0.1 is 0.2
    assert conformal_threshold(np.arange(1, 10) / 10, 0.8) == pytest.approx(0.2)
    assert conformal_threshold(np.array([0.9, 0.8]), 0.95) == 0.0, "too few patients for the coverage: every brand stays in"


def test_conformal_sets_cover_new_patients() -> None:
    """On fresh patients the set holds the true brand at least as often as promised, within binomial noise."""
    evidence = draw_members(5, 1000, {"ap": 2.0, "lateral": 2.0})
    fit = {
        case: Evidence({name: p[:500] for name, p in e.probabilities.items()}, e.brands[:500], e.patients[:500])
        for case, e in evidence.items()
    }
    ensemble = fit_ensembles(fit, PEDICLE_SCREWS, CONFIG, seed=0)[2]
    fresh, brands = {name: rows[500:] for name, rows in evidence["both"].probabilities.items()}, evidence["both"].brands
    yes = np.ones(500, dtype=bool)
    inside = combine(ensemble, fresh, yes, yes)[np.arange(500), brands[500:]] >= ensemble.fitted["both"].conformal_threshold
    assert 0.85 <= inside.mean() <= 0.95


def test_a_brand_with_one_validation_patient_is_an_error() -> None:
    rows = draw_members(3, 30, {"ap": 1.0})["ap"].probabilities
    for lonely in (np.where(np.arange(30) == 0, 2, np.arange(30) % 2), np.arange(30) % 2):  # one patient, none at all
        with pytest.raises(InputError, match="no case has 2 validation patients of every brand"):
            fit_ensembles({"ap": Evidence(rows, lonely, np.arange(30).astype(str))}, PEDICLE_SCREWS, CONFIG, seed=0)


def test_a_hospital_with_one_view_only() -> None:
    ensembles = fit_ensembles({"ap": draw_members(3, 30, {"ap": 2.0})["ap"]}, PEDICLE_SCREWS, CONFIG, seed=0)
    assert [(ensemble.name, ensemble.cases) for ensemble in ensembles] == [("ap", ("ap",))]
    assert choose_ensemble(ensembles, PEDICLE_SCREWS) == "ap"


def test_rows_of_one_patient_are_never_in_two_folds() -> None:
    """Noise that was memorised from a patient's other rows would look like knowledge: better than guessing."""
    random = np.random.default_rng(0)
    brands, patients = np.repeat(np.arange(30) % 3, 4), np.repeat(np.arange(30), 4).astype(str)
    noise = {name: np.repeat(random.dirichlet(np.full(3, 0.3), 30), 4, axis=0).astype(np.float32) for name in MEMBERS}
    honest, fooled = (
        fit_ensembles({"both": Evidence(noise, brands, whose)}, PEDICLE_SCREWS, CONFIG, seed=0)[-1].validation_log_loss
        for whose in (patients, np.arange(120).astype(str))
    )
    assert fooled < 0.9 * np.log(3)
    assert honest > 0.97 * np.log(3)


def test_a_brand_of_one_patient_with_two_rows_is_one_patient() -> None:
    evidence = draw_members(3, 30, {"ap": 1.0})["ap"]
    brands, patients = np.arange(30) % 2, evidence.patients.copy()
    brands[:2], patients[:2] = 2, "one"
    with pytest.raises(InputError, match="no case has 2 validation patients of every brand"):
        fit_ensembles({"ap": Evidence(evidence.probabilities, brands, patients)}, PEDICLE_SCREWS, CONFIG, seed=0)
