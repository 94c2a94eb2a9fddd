"""``edgekit studies``: look after ``studies.csv``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Study

app = typer.Typer(help="Look after the table of patients and films, and what is made from it.", no_args_is_help=True)

Table = Annotated[Path, typer.Argument(help="The table, studies.csv.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


@app.command()
def check(studies: Table, json: Json = False) -> None:
    """Read every row, decode every film, and compare them with each other and with the table; all errors are listed at once.

    Errors: films that can't be read, boxes beyond the film, films of two patients in one row, the same film in two splits. Warnings: a film
    in the other view's column, two spellings of one brand, what edgekit train would refuse.

    A check that was stopped goes on where it was.

    Example: edgekit studies check cohort/studies.csv
    """
    from edgekit.film_check import check_films
    from edgekit.spellings import compare_spellings
    from edgekit.studies import read_studies
    from edgekit.training.requirements import foresee_refusals

    console.when_interrupted("What is done is kept: the same command goes on.")
    rows = read_studies(studies)
    films, brands = check_films(rows, studies), compare_spellings(rows)
    warnings = [*films.warnings, *brands.warnings, *foresee_refusals(rows)]
    _print_counts(studies, rows, json, warnings, [*films.hints, *brands.hints])


@app.command()
def template(
    out: Annotated[Path, typer.Option(help="The table to write; one that exists is left as it is.")] = Path("studies.csv"),
    json: Json = False,
) -> None:
    """Write a table to fill in: the header and example rows, which edgekit studies check explains.

    Example: edgekit studies template --out hospital/studies.csv
    """
    from edgekit.studies import EXAMPLES, write_template

    write_template(out)
    if json:
        console.print_json({"studies": str(out), "examples": [example[0] for example in EXAMPLES]})
        return
    console.say(f"{out}: {len(EXAMPLES)} examples. Replace them by your patients; then: edgekit studies check {out}")


@app.command()
def split(
    studies: Table,
    seed: Annotated[int, typer.Option(min=0, help="Which of the equally good splits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write a new split of all patients there; without it STUDIES is changed.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Discard the train, validation and test split that STUDIES has.")] = False,
    json: Json = False,
) -> None:
    """Split the patients 64/16/20 into train, validation and test, stratified by brand and crosslink.

    Without --again or --out only empty cells are filled. Rows of the splits readers and external stay as they are; rows of an unknown
    brand get no split.

    Example: edgekit studies split cohort/studies.csv --seed 1
    """
    from edgekit.studies import find_gaps, read_studies, split_studies, write_studies
    from edgekit.training.requirements import foresee_refusals

    before = read_studies(studies)
    rows = split_studies(before, seed, keep=not again and out is None)
    write_studies(out or studies, rows)
    warnings = [*find_gaps(rows), *foresee_refusals(rows)]
    if rows == before and not again and out is None:
        warnings.append("no empty cell could be filled, so the split is as it was; --again makes another, --out writes it elsewhere")
    _print_counts(out or studies, rows, json, warnings)


@app.command("reading-sheet")
def reading_sheet(
    studies: Table,
    out: Annotated[Path, typer.Argument(help="Folder to make; OUT/sheet goes to the readers, OUT/key.csv stays with you.")],
    seed: Annotated[int, typer.Option(min=0, help="Which order of the patients.")] = 0,
    illustrations: Annotated[
        Path | None, typer.Option(help="Folder with one picture a brand: <brand>.png or <brand>.jpg. Simulated designs are drawn.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The training's settings, or RUN/config.toml: what readers are asked, for another task than the study's."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a page for human readers: the patients of split readers, blinded and shuffled, with an answer for each brand.

    The page works without a network, measures the time for each patient and saves answers-<reader>.csv; give those files to
    edgekit studies collect.

    Example: edgekit studies reading-sheet cohort/studies.csv reading
    """
    from edgekit.reading.sheet import make_sheet
    from edgekit.training.config import PRESETS, load_config

    sheet = make_sheet(studies, out, seed, illustrations, load_config(PRESETS[0], config).task)
    page, key = out / "sheet" / "index.html", out / "key.csv"
    if json:
        console.print_json({"page": str(page), "key": str(key), **asdict(sheet)})
        return
    console.say(f"{page}: {sheet.cases} patients, {len(sheet.brands)} brands. Give the readers the folder {out / 'sheet'}, and keep {key}.")
    if sheet.left_out:
        console.say(f"Left out: {sheet.left_out} rows of split readers without a brand to name.")
    if sheet.plain:
        console.say(f"Without a picture: {', '.join(sheet.plain)}. Give --illustrations FOLDER to show what they look like.")
    console.say("Text burned into the films is still there: look at every film before you hand the sheet out.")


@app.command()
def collect(
    out: Annotated[Path, typer.Argument(help="The folder that reading-sheet made, with its key.csv.")],
    answers: Annotated[list[Path], typer.Argument(help="The readers' files, answers-<reader>.csv.")],
    readers: Annotated[Path, typer.Option("--out", help="The table to write, for evaluate --readers.")],
    json: Json = False,
) -> None:
    """Put the readers' answers together and turn case numbers back into patients.

    Example: edgekit studies collect reading answers-*.csv --out readers.csv
    """
    from edgekit.evaluation.readers import write_readers
    from edgekit.reading.sheet import collect_answers

    collected = collect_answers(out, answers)
    write_readers(readers, collected)
    counts = Counter(answer.reader for answer in collected)
    if json:
        console.print_json({"readers": str(readers), "answers": counts})
        return
    console.print_table("Answers", ["reader", "patients"], list(counts.items()))
    console.say(f"{readers}: {len(collected)} answers of {len(counts)} readers. Next: edgekit evaluate ... --readers {readers}")


@app.command("propose-boxes")
def propose_boxes(
    studies: Table,
    run: Annotated[Path, typer.Argument(help="A run with a detector.")],
    out: Annotated[Path | None, typer.Option(help="The table to write; <STUDIES>-boxes.csv beside it when not given.")] = None,
    json: Json = False,
) -> None:
    """Fill the empty boxes with a run's detector, for a person to correct.

    Boxes that are there stay as they are. Films where the detector isn't sure enough stay without a box. A contact sheet beside the
    table shows every film that was looked at, the least sure first.

    Example: edgekit studies propose-boxes hospital/studies.csv runs/simulated
    """
    from edgekit import proposals

    out = out or studies.with_name(f"{studies.stem}-boxes.csv")
    made = proposals.propose_boxes(studies, run, out)
    if json:
        missed = [
            {"patient_id": p.study.patient_id, "view": p.view, "film": str(p.study.film(p.view)), "score": p.score} for p in made.missed
        ]
        counts = {"kept": made.kept, "proposed": len(made.found), "not_found": missed, "unreadable": made.unreadable}
        console.print_json({"studies": str(out), "contact_sheet": [str(page) for page in made.pages], **counts})
        return
    rows = [(p.study.patient_id, p.view, f"{p.score:.2f}", p.study.film(p.view)) for p in made.missed]
    if rows:
        console.print_table("Nothing found: draw these boxes yourself", ["patient", "view", "score", "film"], rows)
    if made.unreadable:
        console.print_table("Can't be read", ["patient", "reason"], list(made.unreadable.items()))
    console.say(f"{out}: {len(made.found)} boxes proposed, {len(made.missed)} films without, {made.kept} boxes kept.")
    console.say(f"Check them, the least sure first, on {', '.join(map(str, made.pages))}.")
    console.say(f"Correct them with edgekit studies boxes {studies}; then train with the table.")


@app.command()
def boxes(
    studies: Table,
    run: Annotated[Path | None, typer.Option(help="A run whose detector proposes the boxes that are missing.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document once it listens: the address and the table.")] = False,
) -> None:
    """Draw and correct boxes on the films, in a browser on this machine. It runs until Ctrl-C.

    Every decision is saved at once to <STUDIES>-boxes.csv; STUDIES stays as it is. Proposed boxes are dashed until they are accepted or
    changed; those of --run are saved only then. The same command goes on with the first film that is not done. Nothing leaves the machine.

    Example: edgekit studies boxes hospital/studies.csv --run runs/simulated
    """
    import threading

    from edgekit.box_editor.server import serve_editor
    from edgekit.box_editor.table import BoxTable

    table = BoxTable(studies, run)
    with serve_editor(table) as address:
        if json:
            console.print_json({"url": address, "studies": str(table.out)})
        console.say(f"{address} (this machine only). Ctrl-C stops it.")
        console.say(f"{table.count_checked()} of {len(table.films)} films are done. Boxes are saved to {table.out}.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console.say(f"Stopped. {table.count_checked()} of {len(table.films)} films are done.")
            console.say(f"The boxes are in {table.out}." if table.out.exists() else f"Nothing was saved: {table.out} is not there.")


@app.command()
def deidentify(
    studies: Table,
    out: Annotated[Path, typer.Argument(help="Folder to make; the key is written beside it, <OUT>-key.csv.")],
    key: Annotated[
        Path | None, typer.Option(help="The key of an earlier delivery: its patients keep their pseudonyms, new ones are added to it.")
    ] = None,
    json: Json = False,
) -> None:
    """Copy the table and its films without anything that tells who the patients are.

    DICOM films keep their stored values and what edgekit reads, and get new UIDs, shared where the old ones were; PNG and JPEG films become
    bare 8-bit PNG. Text that is burned into the pixels stays; films on which some is found are named. The same command goes on after an
    interruption.

    Example: edgekit studies deidentify hospital/studies.csv hospital-clean
    """
    from edgekit.deidentification import deidentify_studies

    copy = deidentify_studies(studies, out, key)
    if json:
        console.print_json({**asdict(copy), "table": str(copy.table), "key": str(copy.key)})
        return
    console.say(f"{copy.table}: {copy.patients} patients, {copy.films} films. {copy.key} tells who is who: keep it apart.")
    if copy.left_out:
        console.say(f"Left out: {copy.left_out} excluded rows whose films can't be read.")
    if copy.reasons:
        console.say(f"Copied word for word from the column 'exclude': {'; '.join(copy.reasons)}")
    if copy.burned_in:
        console.say(f"Text is burned into these films, as they say themselves or as they look: {', '.join(copy.burned_in)}")
    console.say("Text burned into the pixels is still there, and not all of it is found: look at every film before you hand it out.")


def _print_counts(path: Path, rows: Sequence[Study], json: bool, warnings: Sequence[str], hints: Sequence[str] = ()) -> None:
    """Print patients per brand and split, films per view, warnings and hints."""
    from edgekit.studies import count_films, count_patients

    patients, films = count_patients(rows), count_films(rows)
    excluded = sum(row.exclude is not None for row in rows)
    if json:
        counts = {"rows": len(rows), "excluded": excluded, "patients": patients, "films": films}
        console.print_json({"studies": str(path), **counts, "warnings": [*warnings], "hints": [*hints]})
        return
    splits = list(next(iter(patients.values()), {}))
    console.print_table("Patients", ["brand", *splits], [[brand, *counts.values()] for brand, counts in patients.items()])
    console.say(f"{path}: {len(rows)} rows, {excluded} excluded; films: {', '.join(f'{n} {view}' for view, n in films.items())}.")
    for warning in warnings:
        console.say(f"warning: {warning}")
    for hint in hints:
        console.say(f"hint: {hint}")
