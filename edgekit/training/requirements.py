"""What the studies must hold before hours are spent on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import InputError
from edgekit.studies import LEAST_PATIENTS, NO_CONSTRUCT, select
from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import PRESETS, load_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.task import Task, View
    from edgekit.types import Study

TEACHING = ("train", "validation")
"""The splits that training reads."""


def select_teaching(studies: Sequence[Study]) -> dict[str, list[Study]]:
    """Return the rows that teach and those that choose, by split."""
    return {split: select(studies, split) for split in TEACHING}


def foresee_refusals(studies: Sequence[Study]) -> list[str]:
    """Say why ``edgekit train`` would refuse a table of the study, and what to do: a text for each preset that has reasons of its own.

    Of a table with other views, it says only that.
    """
    views = {view: None for study in studies for view in study.films}
    if views and set(views) != set(PEDICLE_SCREWS.views):
        own, known = ", ".join(views), ", ".join(PEDICLE_SCREWS.views)
        return [f"the views of this table are {own}, the study's are {known}: edgekit train needs a --config with a [task] (docs/tasks.md)"]
    splits = select_teaching(studies)
    named: set[str] = set()
    refusals = []
    for preset in PRESETS:
        found = []
        for check in (lambda names: check_brands(splits, PEDICLE_SCREWS, names), lambda _: check_boxes(splits, PEDICLE_SCREWS.views)):
            try:
                check(load_config(preset).members.names)
            except InputError as error:
                lines = [line for line in error.message.splitlines() if line not in named]
                named.update(lines)
                if lines:
                    found += [*lines, error.remedy]
        if found:
            refusals.append("\n  ".join([f"edgekit train --preset {preset} would refuse this table:", *found]))
    return refusals


def check_boxes(splits: dict[str, list[Study]], views: Sequence[View]) -> None:
    """Refuse a table from which no detector of `views` can learn.

    Raises
    ------
    InputError
        No film of a split has a box.
    """
    names = {"train": "training", "validation": "validation"}
    missing = [split for split in TEACHING if not any(study.box(view) for study in splits[split] for view in views)]
    if missing:
        raise InputError(
            "\n".join(f"no {names[split]} film has a box" for split in missing),
            "fill the columns <view>_box in studies.csv; edgekit studies propose-boxes helps, and train --detector RUN needs no boxes",
        )


def check_brands(splits: dict[str, list[Study]], task: Task, members: tuple[str, ...]) -> tuple[str, ...]:
    """Return the brands of the training rows, sorted, after checking that each member can learn all of them.

    Raises
    ------
    InputError
        There are fewer than two brands, validation has a brand that training has not, or a member lacks patients of a brand: those of
        `edgekit.studies.LEAST_PATIENTS`. All of that is listed.
    """
    brands = {split: {study.brand for study in rows if study.brand not in (None, NO_CONSTRUCT)} for split, rows in splits.items()}
    shortages = []
    if len(brands["train"]) < 2:
        shortages.append(f"the train split holds {len(brands['train'])} brands, at least two are needed")
    if unknown := brands["validation"] - brands["train"]:
        shortages.append(f"the train split lacks {', '.join(sorted(map(str, unknown)))}, which validation has")
    for member in members:
        for split in TEACHING:
            least = LEAST_PATIENTS[split]
            for brand in sorted(map(str, brands["train"])):
                found = {
                    study.patient_id for study in splits[split] if study.brand == brand and task.member(member).can_answer(study.given)
                }
                if len(found) < least:
                    shortages.append(f"member {member}: {len(found)} {split} patients of {brand} have its films, expected at least {least}")
    if shortages:
        raise InputError(
            "\n".join(shortages),
            "split with: edgekit studies split STUDIES --again, which gives enough to every brand of "
            f"{sum(LEAST_PATIENTS.values())} or more patients, or move patients between splits by hand; to a smaller brand add patients, "
            "or say in the column 'exclude' why its rows are left out; where films are missing, train other [members] names",
        )
    return tuple(sorted(map(str, brands["train"])))
