from __future__ import annotations

import pytest

from edgekit.errors import InputError
from edgekit.parity.statistics import Counts, flips_allowed, patients_to_decide, statistical_verdict
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
