"""``edgekit export``, ``edgekit verify`` and ``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import console
from edgekit.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Sequence

Sessions = Annotated[list[str] | None, typer.Option("--session", help="A session; may be given several times. Default: all there are.")]


def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    target: Annotated[str, typer.Argument(help="A target, as in web, or one of its variants, as in web:fp32.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle's folder. Default: build/<target>.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="A recipe to use instead of the target's own.")] = None,
    studies: Annotated[Path | None, typer.Option("--studies", help="studies.csv to verify on. Default: the run's own.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the bundle even if the verdict is not PASS, as not verified.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the bundle and its parity records.")] = False,
) -> None:
    """Convert a run for a target, verify it against the run, and write the bundle if it passes.

    Example: edgekit export runs/first web:fp32 --out build/web
    """
    from edgekit.bundle import describe_verification, export_bundle
    from edgekit.targets import load_target

    wanted = load_target(target, recipe)
    bundle = export_bundle(run, wanted, out or Path("build") / wanted.name, studies, force)
    manifest = bundle.manifest
    if json:
        size = sum(entry["size"] for entry in manifest["files"].values())
        parity = {"sessions": manifest["parity"]}
        console.print_json({"bundle": str(bundle.folder), "verified": manifest["verified"], "size": size, "parity": parity})
        return
    _print_parity(manifest["parity"])
    console.say(f"{bundle.folder}: {manifest['name']}, {manifest['precision']}; {describe_verification(bundle)}")


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    studies: Annotated[Path | None, typer.Argument(help="studies.csv for the parity verdict: its test rows, or all.")] = None,
    session: Sessions = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run the bundle was made from, if it was moved.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: golden checks and parity records.")] = False,
) -> None:
    """Check a bundle's hashes and golden vectors and, with films, whether it answers as its run does.

    Example: edgekit verify build/web cohort/studies.csv
    """
    from dataclasses import asdict

    from edgekit.bundle import available_sessions, describe_verification, find_run, verification_rows
    from edgekit.golden import check_golden
    from edgekit.manifest import open_bundle
    from edgekit.sessions import open_session

    opened = open_bundle(bundle)
    missing: dict[str, str] = {}
    if not session:
        session, missing = available_sessions(opened, opened.manifest["recipe"]["sessions"])
    for name, reason in missing.items():
        console.say(f"not checked in {name}: {reason}")
    golden = []
    for name in session:
        with open_session(name, opened) as running:
            golden.append(check_golden(opened, running))
    parity = []
    if studies is not None:
        from edgekit.parity import measure_parity

        parity = [asdict(row) for row in measure_parity(opened, find_run(opened, run), verification_rows(studies), session)]
    if json:
        checks = [{**asdict(check), "exceeded": check.exceeded} for check in golden]
        record = {"sessions": parity} if studies else None
        console.print_json({"bundle": str(bundle), "verified": opened.manifest["verified"], "golden": checks, "parity": record})
    console.say(f"{bundle}: {len(opened.manifest['files'])} files match their hashes; when exported: {describe_verification(opened)}")
    rows = [
        (check.session, name, f"{error:.2e}", f"{check.tolerance[name]:g}", "too far" if name in check.exceeded else "ok")
        for check in golden
        for name, error in check.errors.items()
    ]
    console.print_table("Golden vectors", ("session", "output", "largest error", "tolerance", ""), rows)
    _print_parity(parity)
    for check in golden:
        if check.exceeded:
            raise GateError(
                f"golden vectors too far off in {check.session}: {', '.join(check.exceeded)}", "try another version of the runtime"
            )
    for row in parity:
        if row["verdict"] != "PASS":
            raise GateError(f"the verdict in {row['session']} is {row['verdict']}: {row['power']}")


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    session: Sessions = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write latency.json here as well.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: the content of latency.json.")] = False,
) -> None:
    """Measure time and memory of a bundle beside the run it was made from, and keep the record in its manifest.

    Example: edgekit bench build/web --out latency.json
    """
    from edgekit.bundle import add_latency
    from edgekit.files import write_json
    from edgekit.latency import measure_latency
    from edgekit.manifest import open_bundle

    opened = open_bundle(bundle)
    record = measure_latency(opened, session)
    if out is not None:
        write_json(out, record)
    add_latency(opened, record)
    if json:
        console.print_json(record)
        return
    rows = [
        (
            row["session"],
            row["precision"],
            *(f"{row[figure]:.1f}" for figure in ("p50_ms", "p95_ms", "p99_ms", "load_ms")),
            f"{row['peak_rss_mb']:.0f}",
            f"{row['size_mb']:.1f}",
            ", ".join(f"{ratio:.2f}x {peer}" for peer, ratio in row["ratio"].items()),
        )
        for row in record["rows"]
    ]
    headings = ("session", "precision", "p50 ms", "p95 ms", "p99 ms", "load ms", "memory MB", "size MB", "faster than")
    console.print_table(f"Two films, decoded, to answer; {record['device']['cpu']}, {record['device']['cores']} cores", headings, rows)
    side = record["provenance"]["films_px"]
    for stage in ("decode", "canvas"):
        console.say(f"{stage}: {record['rows'][0]['stages'][stage]:.1f} ms for two DICOM films of {side} pixels")
    for missing in record["not_measured"]:
        console.say(f"not measured: {missing['session']}: {missing['reason']}")
    console.say(f"recorded in {bundle / 'manifest.json'}")


def _print_parity(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    headings = ("session", "basis", "patients", "changed", "agreement", "max probability error", "decisions", "verdict", "control")
    body = [
        (
            row["session"],
            row["basis"],
            row["n"],
            row["flips"],
            f"{100 * row['agreement']:.2f} %",
            f"{row['max_probability_error']:.1e}",
            row["decision_flips"],
            row["verdict"],
            row["negative_control"] or "-",
        )
        for row in rows
    ]
    console.print_table("Parity with the reference", headings, body)
    for row in rows:
        console.say(f"{row['session']}: {row['power']}")
