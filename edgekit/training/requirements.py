"""What the studies must hold before hours are spent on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import InputError
from edgekit.studies import NO_CONSTRUCT
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from edgekit.types import Study


def check_brands(splits: dict[str, list[Study]], members: tuple[str, ...]) -> tuple[str, ...]:
    """Return the brands of the training rows, sorted, after checking that each member can learn all of them.

    Raises
    ------
    InputError
        There are fewer than two brands, validation has a brand that training has not, or a member lacks patients of a brand: one in
        train, and two in validation, because the ensembles are cross-validated there. All shortages are listed.
    """
    brands = {split: {study.brand for study in rows if study.brand not in (None, NO_CONSTRUCT)} for split, rows in splits.items()}
    remedy = "split with: edgekit studies split STUDIES, or move patients between splits by hand"
    if len(brands["train"]) < 2:
        raise InputError(f"the train split holds {len(brands['train'])} brands, at least two are needed", remedy)
    if unknown := brands["validation"] - brands["train"]:
        raise InputError(f"the train split lacks {', '.join(sorted(map(str, unknown)))}, which validation has", remedy)
    shortages = []
    for member in members:
        for split, least in (("train", 1), ("validation", 2)):
            for brand in sorted(map(str, brands["train"])):
                found = {study.patient_id for study in splits[split] if study.brand == brand and has_films(study, member)}
                if len(found) < least:
                    shortages.append(f"member {member}: {len(found)} {split} patients of {brand} have its films, expected at least {least}")
    if shortages:
        raise InputError("\n".join(shortages), f"{remedy}; or train other [members] names")
    return tuple(sorted(map(str, brands["train"])))


def has_films(study: Study, member: str) -> bool:
    """Tell whether a patient has the films that `member` looks at."""
    given = [study.film(view) is not None for view in VIEWS]
    return all(given) if member == "concat" else any(given) if member == "merge" else given[("ap", "lateral").index(member)]
