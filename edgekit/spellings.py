"""Spellings of brands in ``studies.csv`` that may mean one brand: each would be a brand of its own to the models."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING
from unicodedata import normalize

from edgekit.studies import Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Study

FEW_PATIENTS = 3
"""A spelling with fewer patients may be a slip; one letter less or more is no reason to doubt a spelling with as many."""


def compare_spellings(studies: Sequence[Study]) -> Findings:
    """Compare the brands of the rows that are not excluded.

    Returns
    -------
    Findings
        Warnings: spellings that differ only in case, spaces, punctuation or Unicode form. Hints: spellings with fewer than
        `FEW_PATIENTS` patients that differ from another in one letter.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    for study in studies:
        if study.brand is not None and study.exclude is None:
            patients[study.brand].add(study.patient_id)

    def name(brand: str) -> str:
        count = len(patients[brand])
        return f"{brand!r} ({count} {'patient' if count == 1 else 'patients'})"

    alike: dict[str, list[str]] = defaultdict(list)
    for brand in sorted(patients):
        alike[_fold(brand) or brand].append(brand)
    warnings = [
        f"brands {' and '.join(map(name, brands))} differ only in case, spaces, punctuation or Unicode form: write one brand one way"
        for brands in alike.values()
        if len(brands) > 1
    ]
    hints: dict[str, list[str]] = defaultdict(list)
    for (first, these), (second, those) in itertools.combinations(alike.items(), 2):
        if _is_one_letter_apart(first, second):
            for rare, other in itertools.product(these, those):
                if len(patients[rare]) > len(patients[other]):
                    rare, other = other, rare
                if len(patients[rare]) < FEW_PATIENTS:
                    hints[rare].append(other)
    return Findings(
        warnings, [f"brand {name(rare)} differs in one letter from {', '.join(map(name, others))}" for rare, others in hints.items()]
    )


def _fold(brand: str) -> str:
    """Return the letters and digits of a brand, without case and in one Unicode form."""
    return "".join(sign for sign in normalize("NFKC", brand).casefold() if sign.isalnum())


def _is_one_letter_apart(first: str, second: str) -> bool:
    """Tell whether one letter was replaced, left out or put in; a digit is no letter: sizes and generations differ in one."""
    short, long = sorted((first, second), key=len)
    if len(long) - len(short) > 1:
        return False
    start = next((place for place, (one, other) in enumerate(zip(short, long, strict=False)) if one != other), len(short))
    if len(short) == len(long):
        return start < len(short) and short[start + 1 :] == long[start + 1 :] and short[start].isalpha() and long[start].isalpha()
    return short[start:] == long[start + 1 :] and long[start].isalpha()
