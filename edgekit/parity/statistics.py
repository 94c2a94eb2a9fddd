"""The statistics of a verdict: counts of patients, and what they decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import InputError
from edgekit.proportions import CONFIDENCE, clopper_pearson, tango_interval

if TYPE_CHECKING:
    from edgekit.types import Judge, Verdict


@dataclass(frozen=True, slots=True)
class Counts:
    """Patients, as the statistical judge counts them.

    Attributes
    ----------
    n, flips
        Patients, and those whose answer changed.
    n_known
        Patients whose brand is known and is one of the run's.
    only_reference, only_candidate
        Of these, those whom only the reference, or only the candidate, answered rightly.
    """

    n: int
    flips: int
    n_known: int
    only_reference: int
    only_candidate: int

    def scaled_to(self, n: int) -> Counts:
        """Return the counts expected among `n` patients at the same rates."""
        return Counts(n, *(round(count * n / self.n) for count in (self.flips, self.n_known, self.only_reference, self.only_candidate)))


def statistical_verdict(counts: Counts, judge: Judge) -> Verdict:
    """Apply the statistical judge to counts.

    Raises
    ------
    InputError
        No patient has a known brand.
    """
    if not counts.n_known:
        raise InputError("a statistical verdict needs patients of known brand; the verification rows have none", "fill the column 'brand'")
    assert judge.margin is not None
    assert judge.agreement is not None
    lower_d, upper_d = tango_interval(counts.only_reference, counts.only_candidate, counts.n_known)
    lower_a, upper_a = clopper_pearson(counts.n - counts.flips, counts.n)
    if upper_d <= judge.margin and lower_a >= judge.agreement:
        return "PASS"
    return "FAIL" if lower_d > judge.margin or upper_a < judge.agreement else "INCONCLUSIVE"


def patients_to_decide(counts: Counts, judge: Judge, limit: int = 10_000_000) -> int | None:
    """Return how many patients would decide an inconclusive verdict at the observed rates; None when `limit` would not."""
    low, high = counts.n, 2 * counts.n
    while statistical_verdict(counts.scaled_to(high), judge) == "INCONCLUSIVE":
        if high > limit:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if statistical_verdict(counts.scaled_to(middle), judge) == "INCONCLUSIVE":
            low = middle
        else:
            high = middle
    return high


def flips_allowed(n: int, floor: float) -> int | None:
    """Return the largest number of flips among `n` patients whose agreement still clears `floor`; None when not even zero do."""
    flips = -1
    while flips + 1 < n and clopper_pearson(n - flips - 1, n)[0] >= floor:
        flips += 1
    return flips if flips >= 0 else None


def describe_power(counts: Counts, judge: Judge, verdict: Verdict) -> str:
    """Say what these patients can prove."""
    assert judge.agreement is not None
    allowed = flips_allowed(counts.n, judge.agreement)
    floor = f"{100 * judge.agreement:g} %"
    if allowed is None:
        needed = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(judge.agreement))
        text = f"agreement of {floor} needs at least {needed} patients without a flip, these are {counts.n}"
    else:
        text = f"agreement of {floor} is proven with at most {allowed} flips of {counts.n} patients"
    if verdict != "INCONCLUSIVE":
        return text
    enough = patients_to_decide(counts, judge)
    if not enough:
        return f"{text}; at the observed flip rate no number of patients would decide"
    outcome = statistical_verdict(counts.scaled_to(enough), judge)
    return f"{text}; at the observed flip rate {enough} patients would decide, for a {outcome}"
