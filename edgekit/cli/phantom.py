"""``edgekit phantom``: simulated films."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import console

app = typer.Typer(help="Simulated films.", rich_markup_mode=None)


@app.command()
def cohort(
    out: Annotated[Path, typer.Argument(help="Folder to make: new, empty, or begun with the same options.")],
    patients: Annotated[int | None, typer.Option(help="Number of patients, evenly over the seven designs.")] = None,
    preset: Annotated[str | None, typer.Option(help="A prepared cohort instead of --patients: demo, paper or detector.")] = None,
    site: Annotated[str, typer.Option(help="The hospital, a or b: spectrum, geometry, exposure and processing.")] = "a",
    size: Annotated[
        int | None, typer.Option(help="Long side of the films in pixels, 64 to 4000: 1500, or many sizes in the preset detector.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Put everybody into one split: train, validation, test, readers or external. Of the preset detector: test."),
    ] = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Add patients of a design that no model has seen, to test only.")] = False,
    seed: Annotated[int, typer.Option(help="Everything follows from it.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make simulated DICOM films and their studies.csv. An interrupted run continues where it stopped.

    Example: edgekit phantom cohort films --patients 140 --size 768 --seed 1
    """
    from edgekit.phantom.cohort import make_cohort
    from edgekit.phantom.plan import CohortParameters
    from edgekit.studies import read_studies

    console.when_interrupted("What is done is kept: the same command goes on.")
    table = make_cohort(out, CohortParameters(patients, preset, site, size, split, unseen, seed))
    studies = read_studies(table)
    brands = Counter(str(study.brand) for study in studies)
    if json:
        count = len({study.patient_id for study in studies})
        console.print_json({"studies": str(table), "patients": count, "brands": dict(sorted(brands.items()))})
        return
    console.say(f"{table}: {2 * len(studies)} simulated films.")


@app.command()
def photo(
    studies: Annotated[Path, typer.Argument(help="The films, studies.csv.")],
    out: Annotated[Path, typer.Argument(help="Folder to make: new, empty, or begun with the same table and options.")],
    severity: Annotated[str, typer.Option(help="How bad the photos are: mild, moderate or severe.")] = "moderate",
    seed: Annotated[int, typer.Option(help="Everything follows from it.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Photograph every film off a simulated screen. An interrupted run continues where it stopped.

    OUT gets the photos, photos.csv with the film's four corners and how bad each photo is, the photos straightened by these corners, and
    a studies.csv of the straightened ones that every other command takes.

    Example: edgekit phantom photo cohort/studies.csv photos --severity moderate --seed 1
    """
    from edgekit.phantom.photo.album import make_album, read_conditions

    console.when_interrupted("What is done is kept: the same command goes on.")
    table = make_album(studies, out, seed=seed, severity=severity)
    means = read_conditions(out)
    if json:
        console.print_json({"studies": str(table), "severity": severity, **means})
        return
    console.say(f"{table}: {means['photos']} photos of a screen, {severity}.")
