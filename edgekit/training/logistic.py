"""scikit-learn's logistic regression as the coefficients of a softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def softmax_coefficients(model: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return coefficients float32 (K, F) and intercepts float32 (K,) of a fitted ``LogisticRegression``.

    For two classes scikit-learn keeps one row, the log odds; two opposite halves of it give the same softmax.
    """
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.hstack([-intercepts, intercepts]) / 2
    return coefficients.astype(np.float32), intercepts.astype(np.float32)
