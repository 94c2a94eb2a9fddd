"""A handful of simulated patients, and a run trained on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.plan import CohortParameters
from edgekit.studies import read_studies, write_studies
from edgekit.training.config import TrainingConfig, load_config
from edgekit.training.run import train_run


@pytest.fixture(scope="package")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six brands with two patients in each split, and two patients in each split that stand for films without a construct."""
    table = make_cohort(tmp_path_factory.mktemp("training") / "cohort", CohortParameters(patients=28, size=192, seed=5))
    seen: dict[str | None, int] = {}
    rows = []
    for study in read_studies(table):
        seen[study.brand] = seen.get(study.brand, 0) + 1
        study = dataclasses.replace(study, split="validation" if seen[study.brand] % 2 else "train")
        rows.append(
            dataclasses.replace(study, brand="none", levels=0).with_box("ap", None).with_box("lateral", None)
            if study.brand == "design-b"
            else study
        )
    write_studies(table, rows)
    return table


@pytest.fixture(scope="package")
def small() -> TrainingConfig:
    config = load_config("demo")
    return dataclasses.replace(
        config,
        canvas_side=192,
        device="cpu",
        detector=dataclasses.replace(config.detector, side=64, film_passes=56, photo_share=0.2),
        members=dataclasses.replace(
            config.members, names=("ap", "lateral", "concat", "merge"), side=64, epochs=2, batch=8, photo_share=0.3
        ),
        corners=dataclasses.replace(config.corners, photos=0),
        ensembles=dataclasses.replace(config.ensembles, folds=2),
    )


@pytest.fixture(scope="package")
def run(cohort: Path, small: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(cohort, tmp_path_factory.mktemp("training") / "run", small)
