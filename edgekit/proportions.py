"""How sure a share of patients is, and a difference of two: exact and score intervals, and McNemar's test.

They keep their width where nothing, or nobody, is wrong; there Wald's interval and the bootstrap's shrink to a point.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95


def clopper_pearson(k: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval for the proportion k / n (Clopper & Pearson 1934, Biometrika 26:404-413), as quantiles of beta distributions.

    Parameters
    ----------
    k
        Those who count. Not whole where each of `n` patients has several rows and counts with the share of them, as Korn & Graubard (1998,
        Survey Methodology 24:193-201) do with the effective size of a sample in clusters; the beta distributions allow it.
    n
        All, at least 1.

    Examples
    --------
    >>> [round(limit, 3) for limit in clopper_pearson(14, 14)]
    [0.768, 1.0]
    """
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    return low, float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests: the chance that any true null hypothesis falls below a level is at most that level.

    Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6 (1979) 65-70.

    Examples
    --------
    >>> adjust_by_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, row in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[row]))
        adjusted[row] = least
    return adjusted


def newcombe_interval(k_first: int, n_first: int, k_second: int, n_second: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Hybrid score interval for the difference k_first / n_first - k_second / n_second of independent proportions.

    Newcombe (1998), Statistics in Medicine 17:873-890, method 10: the squared distances of both shares from the ends of their own score
    intervals (Wilson 1927) add up.

    Examples
    --------
    >>> [round(limit, 4) for limit in newcombe_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    from scipy.stats import binomtest

    first, second = k_first / n_first, k_second / n_second
    around_first, around_second = (
        binomtest(k, n).proportion_ci(confidence, method="wilson") for k, n in ((k_first, n_first), (k_second, n_second))
    )
    below = math.hypot(first - around_first.low, around_second.high - second)
    above = math.hypot(around_first.high - first, second - around_second.low)
    return first - second - below, first - second + above


def tango_interval(b: int, c: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval for the paired difference of proportions (b - c) / n.

    Tango (1998), Statistics in Medicine 17:891-908: the differences D that the score test of equation 8 does not reject, with the
    constrained maximum-likelihood estimate of the discordant proportion.

    Parameters
    ----------
    b, c
        Discordant pairs: right in the first only, right in the second only.
    n
        All pairs.

    Examples
    --------
    >>> [round(limit, 4) for limit in tango_interval(0, 0, 100)]
    [-0.037, 0.037]
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))

    def excess(difference: float, side: float) -> float:
        # z-statistic minus its critical value, multiplied by the standard error so that it stays finite at the ends.
        linear = (2 * n - b + c) * difference - b - c
        constant = -c * difference * (1 - difference)
        discordant = (math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * discordant + difference * (1 - difference))
        return b - c - n * difference - side * z * math.sqrt(max(variance, 0.0))

    # Statistic and standard error may vanish together at the estimate itself, which is no limit: start just beside it.
    estimate, beside = (b - c) / n, 1e-12
    lower = -1.0 if estimate == -1 else brentq(excess, -1.0, estimate - beside, args=(1.0,), xtol=1e-12)
    upper = 1.0 if estimate == 1 else brentq(excess, estimate + beside, 1.0, args=(-1.0,), xtol=1e-12)
    return float(lower), float(upper)


def count_discordant(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int]:
    """Count the patients that are right in the first only, and in the second only: the discordant pairs.

    Parameters
    ----------
    first, second
        bool (P,), of the same patients.
    """
    return int((first & ~second).sum()), int((second & ~first).sum())


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of McNemar's exact test: b and c discordant pairs; 1 when there are none."""
    from scipy.stats import binomtest

    return float(binomtest(b, b + c).pvalue) if b + c else 1.0
