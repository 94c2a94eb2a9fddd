"""How many fresh patients will get another brand, foreseen from calibration patients alone.

The calibration patients are those that the ensembles were fitted on: there, the shipped ensemble is surer than it is of fresh patients, and
a change that turns fresh answers hardly shows. So they are answered by ensembles that were fitted without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import CalibrationError
from edgekit.models.logistic import cross_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.types import Tensors

LEAST_PATIENTS = 2
"""Calibration patients of each brand that it takes."""

FOLDS = 5
DRAWS = 5
"""Ways in which the patients are put into folds: with few patients the margins depend on who is in which."""

NEAR = 6.0
"""Margins below this, in log-odds of the first brand against the second, tell how many patients are near a tie: the nearer the more. Few
patients are at the tie itself."""

FAINTEST = 1e-9
"""Probabilities below it are taken for it: what is zero has no log-odds."""


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationPatients:
    """Patients to calibrate on.

    Attributes
    ----------
    inputs
        The graph's inputs of each.
    brands
        The true brand of each.
    """

    inputs: Sequence[Tensors] = ()
    brands: Sequence[str] = ()


class Foresight:
    """The members' answers of the reference, and what a change of them would do to fresh patients.

    Parameters
    ----------
    members
        The graph's `members` for one or several looks at N patients, float (L * N, M, K): first all patients, then all again.
    brands
        (N,), the true brands.

    Raises
    ------
    CalibrationError
        The patients are too few to fit an ensemble without some of them.
    """

    def __init__(self, members: NDArray[Any], brands: Sequence[str]) -> None:
        truth, count = np.asarray(brands), len(brands)
        self._evaluated = _find_evaluated(members)
        self._models: list[tuple[NDArray[np.int64], Any]] = []
        for case in np.unique(self._evaluated[:count], axis=0):
            rows = np.flatnonzero((self._evaluated[:count] == case).all(axis=1))
            names, numbers = np.unique(truth[rows], return_counts=True)
            if not case.any() or len(names) < 2 or numbers.min() < LEAST_PATIENTS:
                continue
            for seed in range(DRAWS):
                crossed = cross_fit(_flatten(members[rows]), truth[rows], rows, min(FOLDS, int(numbers.min())), seed)
                for left_out, model in crossed.models:
                    looks = np.isin(np.arange(len(members)) % count, rows[left_out]) & (self._evaluated == case).all(axis=1)
                    self._models.append((np.flatnonzero(looks), model))
        if not self._models:
            raise CalibrationError(
                f"{count} calibration patients are too few for 8 bits, which need {LEAST_PATIENTS} of each brand with the same films",
                "give more rows of the run's studies the split 'validation', or choose a variant without 8-bit activations",
            )
        self._margins, self._order = {}, {}
        for place, (looks, model) in enumerate(self._models):
            odds = _log(model.predict_proba(_flatten(members[looks])))
            self._order[place] = np.argsort(-odds, axis=1)
            self._margins[place] = _lead(odds, self._order[place])

    def predict(self, members: NDArray[Any]) -> float:
        """Return the share of fresh patients that would get another brand if the members answered so.

        An answer turns when its margin m, the log-odds of the first brand against the second, moves by more than it is. With a density p of
        margins at the tie and changes d that go either way, this happens to p E|d| / 2 of the patients. Both are estimated at once, with a
        triangular kernel: the mean of (1 - m / `NEAR`) |d| / `NEAR` over the patients with m < `NEAR`. A film whose construct is lost, or
        found anew, is an answer that turned.

        Parameters
        ----------
        members
            As in the constructor, of what is to be shipped.
        """
        lost = (_find_evaluated(members) != self._evaluated).any(axis=1)
        turned = []
        for place, (looks, model) in enumerate(self._models):
            odds, margins = _log(model.predict_proba(_flatten(members[looks]))), self._margins[place]
            change = np.abs(_lead(odds, self._order[place]) - margins)
            turned.append(np.where(lost[looks], 1.0, np.maximum(1 - margins / NEAR, 0) * change / NEAR))
        return float(np.concatenate(turned).mean())


def _find_evaluated(members: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which members could be evaluated, (N, M): the others' probabilities are zeros."""
    evaluated: NDArray[np.bool_] = members.sum(axis=2) > 0
    return evaluated


def _flatten(members: NDArray[Any]) -> NDArray[np.float64]:
    return members.reshape(len(members), -1).astype(np.float64)


def _log(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    odds: NDArray[np.float64] = np.log(np.maximum(probabilities, FAINTEST))
    return odds


def _lead(odds: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far the first brand of each row leads the second, in log-odds."""
    rows = np.arange(len(odds))
    lead: NDArray[np.float64] = odds[rows, order[:, 0]] - odds[rows, order[:, 1]]
    return lead
