from __future__ import annotations

import pytest
from scipy.stats import binom, binomtest

from edgekit.errors import InputError
from edgekit.parity.statistics import Counts, bound_drop, flips_allowed, patients_to_decide, statistical_verdict
from edgekit.types import Judge

JUDGE = Judge("statistical", margin=0.01, agreement=0.985)


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
    with pytest.raises(InputError, match="unknown brand"):
        statistical_verdict(Counts(10, 0, 0, 0, 0), JUDGE)


@pytest.mark.parametrize(("changed", "n"), [(0, 368), (1, 555), (7, 1439)])
def test_without_labels_agreement_decides(changed: int, n: int) -> None:
    """The fewest patients of whom so many changed answers pass.

    Independent: the upper end of Clopper and Pearson's interval is the share at which so few changes have a chance of 2.5 %.
    """
    assert binom(n, 0.01).cdf(changed) <= 0.025 < binom(n - 1, 0.01).cdf(changed)
    assert statistical_verdict(Counts(n, changed, 0, 0, 0, n, changed), JUDGE) == "PASS"
    assert statistical_verdict(Counts(n, changed + 1, 0, 0, 0, n, changed + 1), JUDGE) == "INCONCLUSIVE"
    assert statistical_verdict(Counts(n - 1, changed, 0, 0, 0, n - 1, changed), JUDGE) == "INCONCLUSIVE"


def test_without_labels_7_of_1500_pass_and_8_do_not() -> None:
    assert binom(1500, 0.01).cdf(7) <= 0.025 < binom(1500, 0.01).cdf(8)
    assert [statistical_verdict(Counts(1500, k, 0, 0, 0, 1500, k), JUDGE) for k in (7, 8)] == ["PASS", "INCONCLUSIVE"]


def test_without_labels_the_floor_fails_and_decides_where_it_is_above_the_margin() -> None:
    # At a floor of 98.5 % a FAIL is so many changes that at 1.5 % they had a chance below 2.5 %.
    first = next(changed for changed in range(1500) if binom(1500, 0.015).sf(changed - 1) < 0.025)
    for changed, verdict in ((first - 1, "INCONCLUSIVE"), (first, "FAIL")):
        assert statistical_verdict(Counts(1500, changed, 0, 0, 0, 1500, changed), JUDGE) == verdict
    strict = Judge("statistical", margin=0.02, agreement=0.995)
    most = max(changed for changed in range(20) if binom(1500, 0.005).cdf(changed) <= 0.025)
    for changed, verdict in ((most, "PASS"), (most + 1, "INCONCLUSIVE")):
        assert statistical_verdict(Counts(1500, changed, 0, 0, 0, 1500, changed), strict) == verdict


def test_rows_without_a_construct_do_not_dilute_the_changes_of_unlabelled_patients() -> None:
    assert statistical_verdict(Counts(1500, 5, 0, 0, 0, 500, 5), JUDGE) == "INCONCLUSIVE"
    assert bound_drop(Counts(1500, 5, 0, 0, 0, 500, 5)) == pytest.approx(binomtest(5, 500).proportion_ci(method="exact").high)


def test_the_number_of_patients_that_would_decide_decides_and_one_less_does_not() -> None:
    for counts in (Counts(100, 0, 100, 0, 0), Counts(400, 2, 400, 1, 1), Counts(200, 5, 200, 2, 2)):
        enough = patients_to_decide(counts, JUDGE)
        assert enough is not None
        assert statistical_verdict(counts.scaled_to(enough), JUDGE) != "INCONCLUSIVE"
        assert statistical_verdict(counts.scaled_to(enough - 1), JUDGE) == "INCONCLUSIVE"
    # Without a flip the accuracy margin decides: z^2 / (n + z^2) <= 0.01, so n >= 99 z^2 = 380.3 (agreement needs 244.1).
    assert patients_to_decide(Counts(100, 0, 100, 0, 0), JUDGE) == 381
    assert patients_to_decide(Counts(100, 0, 0, 0, 0, 100, 0), JUDGE) == 368
    assert patients_to_decide(Counts(1000, 15, 1000, 0, 0), JUDGE, limit=100_000) is None  # exactly on the floor
