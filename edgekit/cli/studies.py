"""``edgekit studies``: look after ``studies.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Study

app = typer.Typer(help="Check and split the table of patients and films.", no_args_is_help=True)

Table = Annotated[Path, typer.Argument(help="The table, studies.csv.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


@app.command()
def check(studies: Table, json: Json = False) -> None:
    """Read every row and decode every film; all errors are listed at once.

    Example: edgekit studies check cohort/studies.csv
    """
    from edgekit.studies import check_films, read_studies

    rows = read_studies(studies)
    check_films(rows)
    _print_counts(studies, rows, json)


@app.command()
def split(
    studies: Table,
    seed: Annotated[int, typer.Option(min=0, help="Which of the equally good splits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the table is written; in place when not given.")] = None,
    json: Json = False,
) -> None:
    """Split the patients 64/16/20 into train, validation and test, stratified by brand and crosslink.

    Rows of the splits readers and external stay as they are; rows of an unknown brand get no split.

    Example: edgekit studies split cohort/studies.csv --seed 1
    """
    from edgekit.studies import read_studies, split_studies, write_studies

    rows = split_studies(read_studies(studies), seed)
    write_studies(out or studies, rows)
    _print_counts(out or studies, rows, json)


def _print_counts(path: Path, rows: Sequence[Study], json: bool) -> None:
    """Print patients per brand and split, and films per view."""
    from edgekit.studies import count_films, count_patients

    patients, films = count_patients(rows), count_films(rows)
    excluded = sum(row.exclude is not None for row in rows)
    if json:
        console.print_json({"studies": str(path), "rows": len(rows), "excluded": excluded, "patients": patients, "films": films})
        return
    splits = list(next(iter(patients.values()), {}))
    console.print_table("Patients", ["brand", *splits], [[brand, *counts.values()] for brand, counts in patients.items()])
    console.say(f"{path}: {len(rows)} rows, {excluded} excluded; films: {', '.join(f'{n} {view}' for view, n in films.items())}.")
