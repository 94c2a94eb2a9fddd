"""The statistics of a verdict: counts of patients, and what they decide."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
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
        Labelled patients: the brand is known in all their rows, and is one of the run's.
    only_reference, only_candidate
        Of these, those whom only the reference, or only the candidate, answered rightly.
    n_unlabelled, flips_unlabelled
        Patients with a row of unknown brand, and those of them whose answer changed.
    """

    n: int
    flips: int
    n_known: int
    only_reference: int
    only_candidate: int
    n_unlabelled: int = 0
    flips_unlabelled: int = 0

    def scaled_to(self, n: int) -> Counts:
        """Return the counts expected among `n` patients at the same rates."""
        return Counts(n, *(round(count * n / self.n) for count in astuple(self)[1:]))


def statistical_verdict(counts: Counts, judge: Judge) -> Verdict:
    """Apply the statistical judge to counts (see `edgekit.parity`).

    Raises
    ------
    InputError
        Every patient's brand is known, and is none of the run's: nobody can be answered rightly.
    """
    largest_drop = bound_drop(counts)
    if largest_drop is None:
        raise InputError(
            "a statistical verdict needs patients of the run's brands, or of unknown brand; the verification rows have neither",
            "give other patients, or leave the column 'brand' empty where the brand is unknown",
        )
    assert judge.margin is not None
    assert judge.agreement is not None
    lower_a, upper_a = clopper_pearson(counts.n - counts.flips, counts.n)
    if upper_a < judge.agreement:
        return "FAIL"
    if counts.n_known and tango_interval(counts.only_reference, counts.only_candidate, counts.n_known)[0] > judge.margin:
        return "FAIL"
    return "PASS" if largest_drop <= judge.margin and lower_a >= judge.agreement else "INCONCLUSIVE"


def bound_drop(counts: Counts) -> float | None:
    """Return the most that accuracy may have fallen, the upper end of a two-sided 95 % interval; None where nobody can be right.

    A changed answer without truth may have been right and become wrong, and costs accuracy no more than that. So it counts as one that only
    the reference answered rightly, in Tango's interval over labelled and unlabelled patients. Without a labelled patient the drop is at
    most the share of changed answers, whose interval is exact (Clopper & Pearson 1934).
    """
    n = counts.n_known + counts.n_unlabelled
    if not n:
        return None
    if not counts.n_known:
        return clopper_pearson(counts.flips_unlabelled, n)[1]
    return tango_interval(counts.only_reference + counts.flips_unlabelled, counts.only_candidate, n)[1]


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
    assert judge.margin is not None
    assert judge.agreement is not None
    n, least, floor = counts.n, judge.agreement, f"{100 * judge.agreement:g} %"
    if not counts.n_known and judge.agreement < 1 - judge.margin:
        n, least = counts.n_unlabelled, 1 - judge.margin
        floor = f"{100 * least:g} % (accuracy can't fall by more than the answers that change)"
    allowed = flips_allowed(n, least)
    if allowed is None:
        needed = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(least))
        text = f"agreement of {floor} needs at least {needed} patients without a flip, these are {n}"
    else:
        text = f"agreement of {floor} is proven with at most {allowed} flips of {n} patients"
    if counts.n_unlabelled:
        text += f"; the brand of {counts.n_unlabelled} patients is unknown: each changed answer of theirs counts as a right one lost"
    if verdict != "INCONCLUSIVE":
        return text
    enough = patients_to_decide(counts, judge)
    if not enough:
        return f"{text}; at the observed flip rate no number of patients would decide"
    outcome = statistical_verdict(counts.scaled_to(enough), judge)
    return f"{text}; at the observed flip rate {enough} patients would decide, for a {outcome}"
