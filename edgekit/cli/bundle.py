"""``edgekit export`` and ``edgekit bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import console, verdicts
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.choosing import Attempt

SESSIONS_HELP = "A session; may be given several times. Default: all there are."


def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    target: Annotated[str, typer.Argument(help="A target, as in web, or one of its variants, as in web:fp32.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle's folder. Default: build/<target>.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="A recipe to use instead of the target's own.")] = None,
    studies: Annotated[
        Path | None, typer.Option("--studies", help="studies.csv to verify on; brands may be empty. Default: the run's own.")
    ] = None,
    simulate: Annotated[
        int | None, typer.Option("--simulate", help="Verify on so many further simulated patients; for a run trained on simulated films.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the bundle even if the verdict is not PASS, as not verified.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the bundle and its parity records.")] = False,
) -> None:
    """Quantize and convert a run for a target, verify it against the run, and write the bundle if it passes.

    Without a precision the target's variants are tried in the order of its recipe until one passes; with --force only the first.
    Statistical verdicts need many patients: about 600 to 1,500 test rows in --studies, whose brands need not be known, or --simulate 1500.

    Example: edgekit export runs/first web --studies many/studies.csv --out build/web

    On simulated films: edgekit export runs/demo/run web --simulate 1500
    """
    from edgekit.bundle import describe_verification, export_bundle
    from edgekit.choosing import export_first, export_only
    from edgekit.targets import load_target

    wanted = load_target(target, recipe)
    if simulate is not None:
        from edgekit.further import simulate_further

        if studies is not None:
            raise UsageError("--studies and --simulate exclude each other", "judge on films of your own, or on simulated ones")
        studies, seed = simulate_further(run, simulate)
        console.say(f"verified on {simulate} simulated patients that the run has not seen, seed {seed}: {studies.parent}")
    place = out or Path("build") / wanted.name
    left: tuple[Attempt, ...] = ()
    if force:
        bundle = export_bundle(run, wanted, place, studies, force)
    elif ":" in target:
        bundle = export_only(run, wanted, place, studies)
    else:
        bundle, left = export_first(run, wanted.name, place, recipe, studies)
    manifest = bundle.manifest
    if json:
        size = sum(entry["size"] for entry in manifest.files.values())
        parity = {"sessions": manifest.parity}
        console.print_json(
            {
                "bundle": str(bundle.folder),
                "verified": manifest.verified,
                "size": size,
                "parity": parity,
                "unproven": manifest.unproven,
                "left": [asdict(attempt) for attempt in left],
            }
        )
        return
    for attempt in left:
        console.say(attempt.describe())
    verdicts.print_parity(manifest.parity)
    verdicts.print_unproven(manifest)
    console.say(f"{bundle.folder}: {manifest.name}, {manifest.precision}; {describe_verification(bundle)}")


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    session: Annotated[list[str] | None, typer.Option("--session", help=SESSIONS_HELP)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write latency.json here as well.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the content of latency.json.")] = False,
) -> None:
    """Measure time and memory of a bundle beside the run it was made from, and keep the record in its manifest.

    Example: edgekit bench build/web --out latency.json
    """
    from edgekit.bundle import add_latency
    from edgekit.files import require_writable, write_json
    from edgekit.latency import measure_latency
    from edgekit.manifest import open_bundle

    opened = open_bundle(bundle)
    if out is not None:
        require_writable(out)
    record = measure_latency(opened, session, threads=(1, 2), in_depth=True, check=True)
    if out is not None:
        write_json(out, record)
    add_latency(opened, record)
    if json:
        console.print_json(record)
        return
    times = ("p50_ms", "p95_ms", "p99_ms", "load_ms", "first_ms", "throughput_per_s")
    rows = [
        (
            row["session"],
            row["threads"] or "-",
            row["precision"],
            *(f"{row[figure]:.1f}" for figure in times),
            f"{100 * row['spread']:.0f} %",
            "-" if row["peak_rss_mb"] is None else f"{row['peak_rss_mb']:.0f}",
            f"{row['size_mb']:.1f}",
        )
        for row in record["rows"]
    ]
    headings = (
        "session",
        "threads",
        "precision",
        "p50 ms",
        "p95",
        "p99",
        "load ms",
        "first ms",
        "patients/s",
        "spread",
        "memory MB",
        "size MB",
    )
    title = f"One patient, all films decoded, to answer; {record['device']['cpu']}, {record['device']['cores']} cores"
    console.print_table(title, headings, rows)
    ratios = [
        (peer, *(f"{row['ratio'][peer]:.2f}x" if peer in row["ratio"] else "-" for row in record["rows"]))
        for peer in sorted({peer for row in record["rows"] for peer in row["ratio"]})
    ]
    if ratios:
        columns = [f"{row['session']} {row['threads'] or ''}".strip() for row in record["rows"]]
        console.print_table("How many times faster than the row's name a column is, in the same rounds", ("", *columns), ratios)
    stages = {stage: None for row in record["rows"] for stage in row["stages"]}
    shown = [
        (row["session"], row["threads"] or "-", *(f"{row['stages'][stage]:.1f}" if stage in row["stages"] else "-" for stage in stages))
        for row in record["rows"]
    ]
    title = f"Stages in ms; decode and canvas are the host's, for one patient's DICOM films of {record['provenance']['films_px']} pixels"
    console.print_table(title, ("session", "threads", *stages), shown)
    for row in record["rows"]:
        label = f"{row['session']}, threads {row['threads'] or '-'}"
        if row["floor_ms"] is not None:
            reached = f"{100 * row['floor_fraction']:.0f} % of what this machine's measured peaks allow"
            console.say(f"{label}: floor {row['floor_ms']:.1f} ms, {reached}")
        for note in row["notes"]:
            console.say(f"{label}: {note}")
    for missing in record["not_measured"]:
        console.say(f"not measured: {missing['session']}: {missing['reason']}")
    for warning in record["warnings"]:
        console.say(f"warning: {warning}")
    console.say(f"recorded in {bundle / 'manifest.json'}")
