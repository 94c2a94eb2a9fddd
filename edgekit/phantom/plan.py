"""Who is in a cohort: brands, splits, crosslinks, films without a construct. Nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import UsageError
from edgekit.phantom.metal.implants import DESIGNS, RANDOM, UNSEEN
from edgekit.phantom.sites import SITES, check_size
from edgekit.studies import NO_CONSTRUCT, SPLITS, split_studies
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import Study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgekit.phantom.scene import Metal

PRESETS = ("demo", "paper", "detector")
EXTERNAL_SITE = "b"

_DEMO = {"train": (280, 28), "validation": (40, 10), "test": (140, 14)}
"""Patients with a construct, evenly over the designs, and patients without one."""

# Yao et al. 2024: 529 patients, 338/85/106, 27 for the readers and 31 of another hospital. The test counts are those behind their Table 3,
# the validation counts are in proportion to the designs' totals (90, 85, 80, 45, 85, 60, 84).
_PAPER = {
    "train": (58, 54, 51, 29, 54, 38, 54),
    "validation": (14, 14, 13, 7, 14, 10, 13),
    "test": (18, 17, 16, 9, 17, 12, 17),
    "readers": (5, 4, 4, 2, 4, 3, 5),
    "external": (5, 5, 5, 3, 5, 3, 5),
}
_NEGATIVE_SHARE = 0.2
_UNSEEN_PATIENTS = 17

_DETECTOR = {"train": (2700, 1400, 1200, 0), "validation": (300, 100, 200, 0)}
"""Scenes taken with and without their construct, scenes with a construct, scenes with other metal, scenes without any: 17,800 films, half
of them without a construct."""
_JUDGED = {"test": (0, 1800, 500, 500)}
"""The films that a detector is judged on, made when they are asked for: nobody needs them to train one."""
_DETECTOR_SITES = {"train": "many", "validation": "others", "test": "elsewhere"}


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient to simulate.

    Attributes
    ----------
    rows
        What ``studies.csv`` will say: one row, or two (with and without the construct) of the same scene.
    seed
        Everything random follows from it.
    site
        A name in `edgekit.phantom.sites.SITES`.
    size
        Long side of the films, pixels; None leaves it to the site.
    metal
        Metal other than a construct: see `edgekit.phantom.scene.simulate_patient`.
    """

    rows: tuple[Study, ...]
    seed: int
    site: str
    size: int | None
    metal: Metal


CROSSLINK = PEDICLE_SCREWS.covariate


@dataclass(frozen=True, slots=True)
class CohortParameters:
    """What a cohort follows from; kept beside it as ``cohort.json``.

    Attributes
    ----------
    patients, preset
        Number of patients, evenly over the designs, or a name in `PRESETS`.
    site
        ``a`` or ``b``: the hospital of all but the external patients.
    size
        Long side of the films, pixels; None is 1500, or many sizes in the preset ``detector``, whose narrow films may be longer.
    split
        Put everybody into this split; None splits 64/16/20 (presets: as they say). Of the preset ``detector``, ``test`` makes the
        films to judge a detector on in place of those to train it on.
    unseen
        Add patients of a design that is in no other split to test.
    """

    patients: int | None = None
    preset: str | None = None
    site: str = "a"
    size: int | None = None
    split: str | None = None
    unseen: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise `UsageError` when a parameter is impossible; the message names it."""
        if (self.patients is None) == (self.preset is None):
            raise UsageError("a cohort needs either a number of patients or a preset", "Give one of them: --patients 140 or --preset demo.")
        if self.patients is not None and not 1 <= self.patients <= 100_000:
            raise UsageError(f"patients is {self.patients}, expected 1 to 100000", "Give another number, for example --patients 140.")
        if self.preset is not None and self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset!r}", f"Use one of: {', '.join(PRESETS)}.")
        if self.preset == "detector" and (self.unseen or self.site != "a"):
            raise UsageError("the preset detector has its own sites and designs", "Leave out --site and --unseen.")
        if self.preset == "detector" and self.split not in (None, *_JUDGED):
            raise UsageError(f"the preset detector has no films of its own for the split {self.split!r}", "Leave out --split, or use test.")
        if self.split is not None and self.split not in SPLITS:
            raise UsageError(f"unknown split {self.split!r}", f"Use one of: {', '.join(SPLITS)}.")
        if self.patients is not None and self.split is None and self.patients < 3 * len(DESIGNS):
            raise UsageError(
                f"patients is {self.patients}: with fewer than {3 * len(DESIGNS)} not every design is in train, validation and test",
                "Give more patients, or put all of them into one split, for example --split test.",
            )
        check_size(self.size)
        if self.site not in PUBLIC_SITES:
            raise UsageError(f"unknown site {self.site!r}", f"Use one of: {', '.join(PUBLIC_SITES)}.")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected 0 or more", "Give another seed, for example --seed 1.")


PUBLIC_SITES = tuple(site for site in SITES if site not in _DETECTOR_SITES.values())


@dataclass(frozen=True, slots=True)
class _Draft:
    """A patient without a name."""

    rows: tuple[Study, ...]
    metal: Metal = "chance"


def plan_cohort(out: Path, parameters: CohortParameters) -> list[Patient]:
    """Return everybody, in an order that tells neither brand nor split.

    Parameters
    ----------
    out
        The cohort's folder: films are named in it.
    """
    drafts = list(_draft(parameters))
    order = np.random.default_rng(np.random.SeedSequence((parameters.seed, 1))).permutation(len(drafts))
    digits = max(4, len(str(len(drafts))))
    patients = []
    for number, index in enumerate(order):
        patient_id = f"p{number + 1:0{digits}d}"
        rows = []
        for twin, row in enumerate(drafts[index].rows):
            films = {view: out / "films" / f"{patient_id}_{'plain_' if twin else ''}{view}.dcm" for view in PEDICLE_SCREWS.views}
            rows.append(replace(row, patient_id=patient_id, films=films, boxes=dict.fromkeys(films)))
        site = _choose_site(rows[0], parameters)
        size = parameters.size or (None if parameters.preset == "detector" else 1500)
        patients.append(Patient(tuple(rows), _patient_seed(parameters.seed, site, number), site, size, drafts[index].metal))
    if parameters.preset is None and parameters.split is None:
        split = split_studies([row for patient in patients for row in patient.rows if row.split is None], parameters.seed)
        splits = {row.patient_id: row.split for row in split}
        patients = [
            replace(one, rows=tuple(replace(row, split=splits.get(row.patient_id, row.split)) for row in one.rows)) for one in patients
        ]
    elif parameters.split is not None:
        patients = [replace(one, rows=tuple(replace(row, split=parameters.split) for row in one.rows)) for one in patients]
    return patients


def _draft(parameters: CohortParameters) -> Iterator[_Draft]:
    if parameters.preset == "detector":
        for split, (pairs, constructs, others, plain) in (_DETECTOR if parameters.split is None else _JUDGED).items():
            construct, none = (Study("", brand=brand, has={CROSSLINK: None}, split=split) for brand in (RANDOM, NO_CONSTRUCT))
            for number in range(pairs):  # in every other pair the construct is the only metal
                yield _Draft((construct, none), metal="none" if number % 2 else "chance")
            yield from [_Draft((construct,))] * constructs
            yield from [_Draft((none,), metal="some")] * others + [_Draft((none,), metal="none")] * plain
        return
    if parameters.preset == "paper":
        for split, counts in _PAPER.items():
            yield from _with_construct(dict(zip(DESIGNS, counts, strict=True)), split)
            yield from _without_construct(round(_NEGATIVE_SHARE * sum(counts)), split)
    elif parameters.preset == "demo":
        for split, (count, negatives) in _DEMO.items():
            yield from _with_construct(_spread(count), split)
            yield from _without_construct(negatives, split)
    else:
        yield from _with_construct(_spread(parameters.patients or 0), None)
    if parameters.unseen:
        yield from _with_construct(dict.fromkeys(UNSEEN, _UNSEEN_PATIENTS), "test")


def _spread(count: int) -> dict[str, int]:
    """Return `count` patients evenly over the designs."""
    return {brand: count // len(DESIGNS) + (index < count % len(DESIGNS)) for index, brand in enumerate(DESIGNS)}


def _with_construct(counts: dict[str, int], split: str | None) -> Iterator[_Draft]:
    """Every other patient of a design that has crosslinks has one."""
    designs = {**DESIGNS, **UNSEEN}
    for index, (brand, count) in enumerate(counts.items()):
        for number in range(count):
            has_crosslink = designs[brand].crosslink is not None and (number + index) % 2 == 0
            yield _Draft((Study("", brand=brand, has={CROSSLINK: has_crosslink}, split=split),))


def _without_construct(count: int, split: str) -> Iterator[_Draft]:
    """Half of them plain, half with other metal."""
    for number in range(count):
        yield _Draft((Study("", brand=NO_CONSTRUCT, has={CROSSLINK: False}, split=split),), metal="none" if number % 2 else "some")


def _choose_site(row: Study, parameters: CohortParameters) -> str:
    if parameters.preset == "detector":
        return _DETECTOR_SITES[str(row.split)]
    return EXTERNAL_SITE if row.split == "external" else parameters.site


def _patient_seed(seed: int, site: str, number: int) -> int:
    entropy = (seed, int.from_bytes(site.encode(), "little"), number)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
