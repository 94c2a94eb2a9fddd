from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.parity.statistics import (
    Counts,
    clopper_pearson,
    flips_allowed,
    mcnemar_exact,
    patients_to_decide,
    statistical_verdict,
    tango_interval,
)
from edgekit.types import Judge

JUDGE = Judge("statistical", margin=0.01, agreement=0.985)


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


@pytest.mark.parametrize(
    ("n", "floor", "expected"), [(600, 0.985, 3), (1500, 0.985, 13), (600, 0.99, 1), (1500, 0.99, 7), (100, 0.985, None)]
)
def test_flips_allowed_as_the_specification_says(n: int, floor: float, expected: int | None) -> None:
    assert flips_allowed(n, floor) == expected


def test_statistical_verdicts() -> None:
    assert statistical_verdict(Counts(1500, 0, 1500, 0, 0), JUDGE) == "PASS"
    assert statistical_verdict(Counts(1500, 13, 1500, 5, 5), JUDGE) == "PASS"
    assert statistical_verdict(Counts(1500, 14, 1500, 5, 5), JUDGE) == "INCONCLUSIVE"
    assert statistical_verdict(Counts(1500, 60, 1500, 5, 5), JUDGE) == "FAIL"  # agreement
    assert statistical_verdict(Counts(1500, 13, 1500, 13, 0), JUDGE) == "INCONCLUSIVE"  # accuracy might have dropped by 1.4 points
    assert statistical_verdict(Counts(600, 3, 600, 40, 0), JUDGE) == "FAIL"  # accuracy
    with pytest.raises(InputError, match="known brand"):
        statistical_verdict(Counts(10, 0, 0, 0, 0), JUDGE)


def test_the_number_of_patients_that_would_decide_decides_and_one_less_does_not() -> None:
    for counts in (Counts(100, 0, 100, 0, 0), Counts(400, 2, 400, 1, 1), Counts(200, 5, 200, 2, 2)):
        enough = patients_to_decide(counts, JUDGE)
        assert enough is not None
        assert statistical_verdict(counts.scaled_to(enough), JUDGE) != "INCONCLUSIVE"
        assert statistical_verdict(counts.scaled_to(enough - 1), JUDGE) == "INCONCLUSIVE"
    # Without a flip the accuracy margin decides: z^2 / (n + z^2) <= 0.01, so n >= 99 z^2 = 380.3 (agreement needs 244.1).
    assert patients_to_decide(Counts(100, 0, 100, 0, 0), JUDGE) == 381
    assert patients_to_decide(Counts(1000, 15, 1000, 0, 0), JUDGE, limit=100_000) is None  # exactly on the floor
