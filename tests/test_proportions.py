from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edgekit.proportions import clopper_pearson, count_discordant, mcnemar_exact, newcombe_interval, tango_interval


# Published: Fagerland, Lydersen & Laake (2017), Statistical Analysis of Contingency Tables, chapter 8 (airway reactivity, Bentur 2009:
# 1, 1, 7, 12; complete response, Cavo 2012: 59, 6, 16, 80); PropCIs 0.3 scoreci.mp(25, 28, 618) at 90 %, whose sign is the opposite.
@pytest.mark.parametrize(
    ("b", "c", "n", "confidence", "expected"),
    [
        (1, 7, 21, 0.95, (-0.517, -0.026)),
        (6, 16, 161, 0.95, (-0.1240, -0.0054)),
        (28, 25, 618, 0.90, (-0.0148, 0.0247)),
    ],
)
def test_tango_reproduces_published_intervals(b: int, c: int, n: int, confidence: float, expected: tuple[float, float]) -> None:
    assert tango_interval(b, c, n, confidence) == pytest.approx(expected, abs=5.1e-4 if n == 21 else 5.1e-5)


def test_tango_without_discordant_pairs_is_the_solved_root() -> None:
    z2 = 1.959963984540054**2  # n D / (1 - D) = z^2, solved for D
    assert tango_interval(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-9)


def test_tango_at_the_ends_and_mirrored() -> None:
    assert tango_interval(5, 0, 5)[1] == 1.0
    assert tango_interval(0, 5, 5)[0] == -1.0
    z2 = 1.959963984540054**2
    assert tango_interval(5, 0, 5)[0] == pytest.approx((5 - z2) / (5 + z2), abs=1e-6)  # n (1 - D) / (1 + D) = z^2
    lower, upper = tango_interval(9, 4, 200)
    assert tango_interval(4, 9, 200) == pytest.approx((-upper, -lower), abs=1e-9)


@pytest.mark.parametrize(("b", "c", "n"), [(3, 11, 60), (0, 4, 30), (20, 20, 45)])
def test_tango_limits_are_where_the_constrained_likelihood_is_rejected(b: int, c: int, n: int) -> None:
    """The score statistic at each limit, with the nuisance parameter maximised numerically, is 1.96."""
    from scipy.optimize import minimize_scalar

    for limit in tango_interval(b, c, n):
        low, high = max(0.0, -limit), min(1.0, 1 - limit)  # q = P(second only), q + limit = P(first only)

        def loss(q: float, limit: float = limit) -> float:
            first, both = q + limit, 1 - 2 * q - limit
            terms = ((b, first), (c, q), (n - b - c, both))
            return -sum(k * np.log(max(p, 1e-300)) for k, p in terms if k)

        q = minimize_scalar(loss, bounds=(low, (high + low) / 2 if high < 1 else high), method="bounded", options={"xatol": 1e-12}).x
        z = (b - c - n * limit) / np.sqrt(n * (2 * q + limit * (1 - limit)))
        assert abs(z) == pytest.approx(1.95996, abs=2e-3)


def test_clopper_pearson_of_all_successes_is_the_solved_root() -> None:
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))


def test_mcnemar_is_the_binomial_sum() -> None:
    assert mcnemar_exact(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=1e-6)  # Fagerland et al. 2017, table 8
    assert mcnemar_exact(0, 0) == 1.0


def test_discordant_pairs_are_counted_by_whose_they_are() -> None:
    assert count_discordant(np.array([True, True, False, True]), np.array([False, True, True, False])) == (2, 1)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 14), (1, 3), (7, 14), (98, 106), (1499, 1500)])
def test_clopper_pearson_is_scipys_exact_interval(k: int, n: int) -> None:
    assert clopper_pearson(k, n) == pytest.approx(tuple(binomtest(k, n).proportion_ci(0.95, method="exact")), abs=1e-12)


def test_clopper_pearson_of_a_part_of_a_patient_lies_between_those_of_whole_ones() -> None:
    less, between, more = (clopper_pearson(k, 20) for k in (17, 17.5, 18))
    assert less[0] < between[0] < more[0]
    assert less[1] < between[1] < more[1]


# Newcombe 1998, Statistics in Medicine 17:873-890, table II, method 10; the counts of its columns (a) to (h).
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0000)),
        ((10, 10), (0, 10), (0.6075, 1.0000)),
    ],
)
def test_newcombe_reproduces_published_intervals(first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]) -> None:
    assert newcombe_interval(*first, *second) == pytest.approx(expected, abs=5.1e-5)


def test_newcombe_mirrored_is_the_mirrored_interval() -> None:
    low, high = newcombe_interval(14, 14, 25, 29)
    assert newcombe_interval(25, 29, 14, 14) == pytest.approx((-high, -low), abs=1e-12)
