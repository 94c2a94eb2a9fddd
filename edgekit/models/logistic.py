"""scikit-learn's logistic regression: cross-fitted, and as the coefficients of a softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRENGTHS = np.logspace(-2, 3, 6)
"""scikit-learn's C (inverse regularisation strength): the candidates of the cross-validation."""

ITERATIONS = 5000


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """A logistic regression, fitted once for each fold without the rows of that fold.

    Attributes
    ----------
    strength
        scikit-learn's C with the lowest log loss on the rows left out.
    log_loss
        That loss.
    held_out
        float64 (N, K), each row's probabilities by the model that was fitted without it.
    models
        For each fold its rows, and the model fitted without them.
    """

    strength: float
    log_loss: float
    held_out: NDArray[np.float64]
    models: tuple[tuple[NDArray[np.int64], Any], ...]


def cross_fit(features: NDArray[np.float64], brands: NDArray[Any], patients: NDArray[Any], folds: int, seed: int) -> CrossFit:
    """Choose the strength by cross-validation, stratified by brand and with each patient in one fold.

    Parameters
    ----------
    features
        (N, F).
    brands
        (N,), every brand in at least `folds` patients.
    patients
        (N,), whose row it is.
    """
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(features, brands, patients))
    classes = np.unique(brands)
    fits = []
    for strength in STRENGTHS:
        models = tuple((left_out, fit_logistic(features[fitted], brands[fitted], strength)) for fitted, left_out in parts)
        held_out = np.zeros((len(brands), len(classes)))
        for left_out, model in models:
            held_out[left_out] = model.predict_proba(features[left_out])
        fits.append(CrossFit(float(strength), float(log_loss(brands, held_out, labels=classes)), held_out, models))
    return min(fits, key=lambda fit: fit.log_loss)


def fit_logistic(features: NDArray[np.float64], brands: NDArray[Any], strength: float) -> Any:
    """Return a fitted multinomial ``LogisticRegression``."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, brands)


def softmax_coefficients(model: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return coefficients float32 (K, F) and intercepts float32 (K,) of a fitted ``LogisticRegression``.

    For two classes scikit-learn keeps one row, the log odds; two opposite halves of it give the same softmax.
    """
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.hstack([-intercepts, intercepts]) / 2
    return coefficients.astype(np.float32), intercepts.astype(np.float32)
