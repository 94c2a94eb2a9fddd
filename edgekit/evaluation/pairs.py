"""Which of two models is better on the same patients."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.proportions import count_discordant, mcnemar_exact, tango_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["compare_models", "compare_pair", "measure_loss"]


def compare_models(right: Mapping[str, NDArray[np.float64]], patients: Sequence[str]) -> list[dict[str, Any]]:
    """Compare every two models on the patients that both were asked about.

    Parameters
    ----------
    right
        By model float (N,): 1 where its answer is right, 0 where it is wrong or there is none, NaN where it was not asked.
    patients
        N identifiers.

    Returns
    -------
    list of dict
        ``a`` and ``b``, the names, and what `compare_pair` says. Pairs without a common patient are left out.
    """
    pairs = ({"a": a, "b": b, **compare_pair(right[a], right[b], patients)} for a, b in combinations(right, 2))
    return [pair for pair in pairs if pair["n"]]


def compare_pair(a: NDArray[np.float64], b: NDArray[np.float64], patients: Sequence[str]) -> dict[str, Any]:
    """McNemar's exact test of one pair (McNemar 1947; exact: binomial over the discordant pairs).

    A patient with several rows is right when every row is, so that independent patients are counted.

    Parameters
    ----------
    a, b
        float (N,): 1 right, 0 wrong, NaN not asked.
    patients
        N identifiers.

    Returns
    -------
    dict
        ``n`` patients; ``only_a`` and ``only_b`` of them, whom only one of the two got right; the two-sided ``p``, 1 where there are none.
    """
    all_a, all_b = _judge_patients(a, b, patients)
    only_a, only_b = count_discordant(all_a, all_b)
    return {"n": len(all_a), "only_a": only_a, "only_b": only_b, "p": mcnemar_exact(only_a, only_b)}


def measure_loss(a: NDArray[np.float64], b: NDArray[np.float64], patients: Sequence[str]) -> dict[str, Any]:
    """Measure how much less often one model is right about the same patients in other films of them.

    Parameters
    ----------
    a, b
        float (N,): 1 right, 0 wrong, NaN not asked; at least one row was asked both times. Patients count as in `compare_pair`.
    patients
        N identifiers.

    Returns
    -------
    dict
        What `compare_pair` says; ``a`` and ``b``, the shares that are right; ``value``, the first less the second, and ``ci95``, its
        paired score interval (`edgekit.proportions.tango_interval`).
    """
    pair = compare_pair(a, b, patients)
    n, only_a, only_b = pair["n"], pair["only_a"], pair["only_b"]
    shares = {name: float(right.mean()) for name, right in zip("ab", _judge_patients(a, b, patients), strict=True)}
    return {**pair, **shares, "value": (only_a - only_b) / n, "ci95": list(tango_interval(only_a, only_b, n))}


def _judge_patients(a: NDArray[np.float64], b: NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.bool_]:
    """Return bool (2, P): by patient that both were asked about, whether every row is right; of `a`, of `b`."""
    both = ~np.isnan(a) & ~np.isnan(b)
    known, patient = np.unique(np.asarray(patients, str)[both], return_inverse=True)
    judged = np.ones((2, len(known)), bool)
    for row, answers in zip(judged, (a, b), strict=True):
        row[patient[answers[both] == 0]] = False
    return judged
