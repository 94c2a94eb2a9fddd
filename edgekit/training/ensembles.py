"""Fit the logistic ensembles on the validation patients, with thresholds for abstaining."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.models.ensemble import Case, Ensemble
from edgekit.models.logistic import cross_fit, fit_logistic, softmax_coefficients
from edgekit.studies import LEAST_PATIENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.task import Task
    from edgekit.training.config import EnsemblesConfig


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the members say of the validation patients that have the films of one case.

    Attributes
    ----------
    probabilities
        float32 (N, K) by member.
    brands
        int64 (N,), index of each row's brand.
    patients
        str (N,), whose row it is: rows of one patient are never in two folds.
    """

    probabilities: dict[str, NDArray[np.float32]]
    brands: NDArray[np.int64]
    patients: NDArray[np.str_]


ALL = "all"
"""Name of the ensemble of a task's members, where there are more than two."""


def fit_ensembles(evidence: dict[str, Evidence], task: Task, config: EnsemblesConfig, seed: int) -> list[Ensemble]:
    """Fit every non-empty subset of the members, each for the cases of the task that it can answer.

    Parameters
    ----------
    evidence
        By case. A case with fewer than two patients of some brand can't be cross-validated and is left out.

    Returns
    -------
    The ensembles, named by their members joined with ``+``, or `ALL`.
    """
    enough = {case: some for case, some in evidence.items() if count_rarest(some) >= LEAST_PATIENTS["validation"]}
    if not enough:
        raise InputError(f"no case has {LEAST_PATIENTS['validation']} validation patients of every brand", "split again, or add patients")
    members = [member.name for member in task.members if any(member.name in some.probabilities for some in enough.values())]
    ensembles = []
    for size in range(1, len(members) + 1):
        for subset in combinations(members, size):
            fitted, losses = {}, {}
            for case, some in enough.items():
                used = tuple(member for member in subset if member in some.probabilities)
                if used:
                    fitted[case], losses[case] = fit_case(used, some, config, seed)
            if fitted:
                most_films = list(losses)[-1]  # the cases end with all films
                name = ALL if size == len(task.members) > 2 else "+".join(subset)
                ensembles.append(Ensemble(name, subset, fitted, losses[most_films]))
    return ensembles


def count_rarest(evidence: Evidence) -> int:
    """Return the number of patients of the rarest brand."""
    n_brands = next(iter(evidence.probabilities.values())).shape[1]
    return min(len(np.unique(evidence.patients[evidence.brands == brand])) for brand in range(n_brands))


def fit_case(members: tuple[str, ...], evidence: Evidence, config: EnsemblesConfig, seed: int) -> tuple[Case, float]:
    """Fit one case with some `members`.

    Multinomial logistic regression; C by cross-validation of the log loss, stratified by brand and with each patient in one fold. The
    prediction set's threshold is the split-conformal quantile of cross-fitted probabilities (least ambiguous set classifier: Sadinle,
    Lei & Wasserman 2019).

    Returns
    -------
    case
        The fitted coefficients and thresholds.
    log_loss
        Cross-validated, at the chosen C.
    """
    probabilities, brands = [evidence.probabilities[member] for member in members], evidence.brands
    features = np.concatenate(probabilities, axis=1).astype(np.float64)
    crossed = cross_fit(features, brands, evidence.patients, min(config.folds, count_rarest(evidence)), seed)
    coefficients, intercepts = softmax_coefficients(fit_logistic(features, brands, crossed.strength))
    mean = np.mean(probabilities, axis=0)
    case = Case(
        members=members,
        coefficients=coefficients,
        intercepts=intercepts,
        regularisation=crossed.strength,
        conformal_threshold=conformal_threshold(crossed.held_out[np.arange(len(brands)), brands], config.coverage),
        unfamiliar_threshold=float(np.quantile(1 - mean.max(axis=1), config.familiar, method="higher")),
    )
    return case, crossed.log_loss


def conformal_threshold(true_probabilities: NDArray[np.float64], coverage: float) -> float:
    """Smallest probability that keeps a brand in the prediction set.

    The ceil((n + 1) * coverage)-th largest of the n true brands' probabilities (Sadinle et al. 2019, eq. 6); zero when n is too
    small for the coverage, which puts every brand in the set.
    """
    count = len(true_probabilities)
    rank = int(np.ceil((count + 1) * coverage))
    return float(np.sort(true_probabilities)[::-1][rank - 1]) if rank <= count else 0.0


def choose_ensemble(ensembles: list[Ensemble], task: Task) -> str:
    """Name the ensemble to export: lowest cross-validated log loss, ties to fewer members.

    Only those that answer every case take part, if there is one.
    """
    complete = [ensemble for ensemble in ensembles if set(ensemble.fitted) == set(task.cases)]
    return min(complete or ensembles, key=lambda ensemble: (round(ensemble.validation_log_loss, 6), len(ensemble.members))).name
