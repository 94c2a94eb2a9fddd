"""``edgekit export``, ``edgekit verify`` and ``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import console
from edgekit.errors import GateError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.emulation.judging import EmulatedCheck
    from edgekit.golden import GoldenCheck
    from edgekit.processors import Cpu
    from edgekit.types import Bundle, Study

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
    """Quantize and convert a run for a target, verify it against the run, and write the bundle if it passes.

    A target's first variant is its default. Statistical verdicts need many patients: about 600 to 1,500 test rows in --studies.

    Example: edgekit export runs/first web --studies many/studies.csv --out build/web
    """
    from edgekit.bundle import describe_verification, export_bundle
    from edgekit.targets import load_target

    wanted = load_target(target, recipe)
    bundle = export_bundle(run, wanted, out or Path("build") / wanted.name, studies, force)
    manifest = bundle.manifest
    if json:
        size = sum(entry["size"] for entry in manifest["files"].values())
        parity = {"sessions": manifest["parity"]}
        console.print_json(
            {
                "bundle": str(bundle.folder),
                "verified": manifest["verified"],
                "size": size,
                "parity": parity,
                "unproven": manifest["unproven"],
            }
        )
        return
    _print_parity(manifest["parity"])
    _print_unproven(manifest)
    console.say(f"{bundle.folder}: {manifest['name']}, {manifest['precision']}; {describe_verification(bundle)}")


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    studies: Annotated[Path | None, typer.Argument(help="studies.csv for the parity verdict: its test rows, or all.")] = None,
    session: Sessions = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run the bundle was made from, if it was moved.")] = None,
    pack: Annotated[Path | None, typer.Option("--pack", help="Write the canvases of STUDIES here, for a device to answer.")] = None,
    outputs: Annotated[Path | None, typer.Option("--outputs", help="The outputs.npz of a device: judge it in place of sessions.")] = None,
    cpu: Annotated[str | None, typer.Option("--cpu", help="Emulated processors in place of this one, as in haswell,neon.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: golden checks, parity records, provenance.")] = False,
) -> None:
    """Check a bundle's hashes and golden vectors and, with films, whether it answers as its run does.

    A PASS is kept in the bundle's processors.json, for the instructions that it was reached with.

    Example: edgekit verify build/web cohort/studies.csv

    For another device: edgekit verify BUNDLE STUDIES --pack canvases.npz, run the bundle's runner on it there, and judge what comes back:
    edgekit verify BUNDLE STUDIES --outputs outputs.npz

    As other processors answer, under qemu: edgekit verify BUNDLE STUDIES --cpu haswell,epyc,nehalem,neon,neon-dotprod
    It takes seconds a patient; a command that was stopped goes on. Without films the golden vectors are checked alone.
    """
    from dataclasses import asdict

    from edgekit.bundle import describe_verification, verification_rows
    from edgekit.manifest import open_bundle
    from edgekit.processors import choose_cpus, describe_processor
    from edgekit.proven import prove_by_verdict

    cpus = None if cpu is None else choose_cpus(cpu)
    if cpus and (session or pack or outputs):
        raise UsageError("--cpu excludes --session, --pack and --outputs", "an emulated processor answers through the bundle's own runner")
    if pack and outputs:
        raise UsageError("--pack and --outputs exclude each other", "write the pack first, and judge what the device answered afterwards")
    if (pack or outputs) and studies is None:
        raise UsageError(f"{'--pack' if pack else '--outputs'} needs the films", "name a table: edgekit verify BUNDLE STUDIES ...")
    opened = open_bundle(bundle)
    rows = verification_rows(studies) if studies else []
    if cpus:
        _verify_emulated(opened, studies, rows, cpus, run, json)
        return
    missed = [] if session or pack or outputs else _emulate_recipe(opened)
    session, golden = _check_golden(opened, session, required=not (pack or outputs))
    identity, parity = None, []
    if pack:
        from edgekit.packs import write_pack

        identity = write_pack(opened, rows, pack)
    elif outputs:
        from edgekit.models.runfolder import find_run
        from edgekit.packs import read_outputs
        from edgekit.parity import judge_recording

        parity = [judge_recording(opened, find_run(opened, run), rows, read_outputs(outputs, opened, len(rows)))]
    elif studies:
        from edgekit.models.runfolder import find_run
        from edgekit.parity import measure_parity

        parity = measure_parity(opened, find_run(opened, run), rows, session)
    _keep_proof(
        opened,
        [proof for row in parity for proof in prove_by_verdict(row)],
        [
            *((check.session, describe_processor(None)) for check in golden if check.exceeded),
            *((row.session, row.cpu) for row in parity if row.verdict != "PASS" and row.cpu),
        ],
    )
    records = [asdict(row) for row in parity]
    if json:
        document = {
            "bundle": str(bundle),
            "verified": opened.manifest["verified"],
            "golden": [{**asdict(check), "exceeded": check.exceeded} for check in golden],
            "parity": {"sessions": records} if records else None,
            "pack": {"file": str(pack), "pack": identity, "rows": len(rows)} if pack else None,
            "provenance": _trace(opened, studies),
        }
        console.print_json(document)
    console.say(f"{bundle}: {len(opened.manifest['files'])} files match their hashes; when exported: {describe_verification(opened)}")
    _print_unproven(opened.manifest)
    if golden:
        _print_golden(golden)
    _print_parity(records)
    if pack:
        console.say(f"{pack}: the canvases of {len(rows)} rows, pack {str(identity)[:12]}")
        if (bundle / "runner" / "run.py").is_file():
            console.say(f"on the device, in the bundle: python runner/run.py --pack {pack.name} --out results")
        else:
            console.say(
                "this bundle has no Python runner; edgekit.packs says what whoever answers reads, edgekit.parity.recording what it writes"
            )
        console.say(f"then here: edgekit verify {bundle} {studies} --outputs results/outputs.npz")
    for check in golden:
        if check.exceeded:
            raise GateError(
                f"golden vectors too far off in {check.session}: {', '.join(check.exceeded)}", "try another version of the runtime"
            )
    if missed:
        raise GateError("; ".join(missed), "the bundle is wrong on such processors: export it again")
    for row in parity:
        if row.verdict != "PASS":
            raise GateError(f"the verdict in {row.session} is {row.verdict}: {row.power}")


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
    console.print_table(f"Two films, decoded, to answer; {record['device']['cpu']}, {record['device']['cores']} cores", headings, rows)
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
    title = f"Stages in ms; decode and canvas are the host's, for two DICOM films of {record['provenance']['films_px']} pixels"
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


def _verify_emulated(
    bundle: Bundle, studies: Path | None, rows: Sequence[Study], cpus: Sequence[Cpu], run: Path | None, json: bool
) -> None:
    """Check a bundle on emulated processors: their verdicts, or without films their golden vectors."""
    from dataclasses import asdict

    from edgekit.emulation.judging import SESSION, check_golden_on, judge_on
    from edgekit.manifest import open_bundle
    from edgekit.models.runfolder import find_run
    from edgekit.proven import prove_by_golden, prove_by_verdict

    checks: list[EmulatedCheck] = []
    for check in judge_on(bundle, find_run(bundle, run), rows, cpus) if rows else check_golden_on(bundle, cpus):
        checks.append(check)
        right = not check.failure and (check.parity is None or check.parity.verdict == "PASS")
        proof = prove_by_verdict(check.parity) if check.parity else [prove_by_golden(check.cpu, SESSION, check.runtime)]
        _keep_proof(bundle, proof if right else [], [] if right else [(SESSION, check.cpu)])
    records = [asdict(check.parity) for check in checks if check.parity]
    names = [cpu.name for cpu in cpus]
    unproven = [f"session {name} was not emulated on {', '.join(names)}" for name in bundle.sessions if name != SESSION]
    if json:
        document = {
            "bundle": str(bundle.folder),
            "verified": bundle.manifest["verified"],
            "golden": [{"cpu": check.cpu, "runtime": check.runtime, "failure": check.failure or None} for check in checks],
            "parity": {"sessions": records} if records else None,
            "unproven": unproven,
            "processors": open_bundle(bundle.folder).processors,
            "provenance": _trace(bundle, studies),
        }
        console.print_json(document)
    states = [(check.cpu["emulated"], " ".join(check.cpu["features"]), check.runtime, check.failure or "ok") for check in checks]
    console.print_table("Golden vectors, emulated", ("cpu", "instructions", "runtime", ""), states)
    _print_parity(records)
    for sentence in unproven:
        console.say(f"not proven: {sentence}")
    problems = [check.failure for check in checks if check.failure]
    problems += [
        f"the verdict on {row['cpu']['emulated']} is {row['verdict']}: {row['power']}" for row in records if row["verdict"] != "PASS"
    ]
    if problems:
        raise GateError("; ".join(problems), "the bundle is not proven on such processors")


def _emulate_recipe(bundle: Bundle) -> list[str]:
    """Run the golden vectors on the processors that the bundle's recipe names, and return what its runner said where they are missed."""
    from edgekit.bundle import emulate_golden

    proven, unproven, missed = emulate_golden(bundle, bundle.manifest["recipe"].get("processors", ()))
    _keep_proof(bundle, proven, [])
    for row in proven:
        console.say(f"golden vectors right on an emulated {row['cpu']}")
    for sentence in unproven:
        console.say(f"not proven: {sentence}")
    return missed


def _keep_proof(bundle: Bundle, proven: Sequence[dict[str, Any]], failed: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Keep what was found in the bundle, where it can be written."""
    from edgekit.manifest import open_bundle
    from edgekit.proven import record_proof

    try:
        record_proof(open_bundle(bundle.folder), proven, failed)
    except OSError as error:
        console.say(f"not kept in {bundle.folder}: {error.strerror}")


def _check_golden(bundle: Bundle, names: list[str] | None, required: bool) -> tuple[list[str], list[GoldenCheck]]:
    """Run the golden vectors in the sessions `names`, or in those of the recipe that this machine has; it may have none unless `required`.

    Returns
    -------
    The sessions that ran, and their checks.
    """
    from edgekit.bundle import available_sessions
    from edgekit.golden import check_golden
    from edgekit.sessions import open_session

    if not names:
        try:
            names, missing = available_sessions(bundle, bundle.manifest["recipe"]["sessions"])
        except MissingError as error:
            if required:
                raise
            console.say(f"golden vectors not checked: {error.message}")
            return [], []
        for name, reason in missing.items():
            console.say(f"not checked in {name}: {reason}")
    checks = []
    for name in names:
        with open_session(name, bundle) as running:
            checks.append(check_golden(bundle, running))
    return names, checks


def _trace(bundle: Bundle, studies: Path | None) -> dict[str, Any]:
    """Return what a record kept of this check has to say about where it comes from."""
    from edgekit.files import hash_file
    from edgekit.provenance import describe_software

    manifest = bundle.manifest
    return {
        **describe_software(),
        "name": manifest["name"],
        "target": manifest["target"],
        "precision": manifest["precision"],
        "model_sha256": manifest["model_sha256"],
        "run_sha256": manifest["provenance"]["run"]["sha256"],
        "studies_sha256": hash_file(studies) if studies else None,
    }


def _print_golden(checks: Sequence[GoldenCheck]) -> None:
    rows = [
        (check.session, name, f"{error:.2e}", f"{check.tolerance[name]:g}", "too far" if name in check.exceeded else "ok")
        for check in checks
        for name, error in check.errors.items()
    ]
    console.print_table("Golden vectors", ("session", "output", "largest error", "tolerance", ""), rows)


def _print_unproven(manifest: dict[str, Any]) -> None:
    for sentence in manifest["unproven"]:
        console.say(f"not proven: {sentence}")


def _print_parity(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    headings = ("session", "on", "basis", "patients", "changed", "agreement", "max probability error", "decisions", "verdict", "control")
    body = [
        (
            row["session"],
            _name_processor(row),
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
        if row.get("changed_from_native") is not None:
            console.say(
                f"{_name_processor(row)}: another brand than on this machine for {row['changed_from_native']} of {row['n']} patients, "
                f"boxes moved by at most {_show(row['max_box_difference_px'], '.2g')} px"
            )
    _print_drift(rows)
    for row in rows:
        console.say(f"{row['session']}: {row['power']}")
        _print_changes(row)


def _name_processor(row: dict[str, Any]) -> str:
    """Return what a parity record ran on; a device, or a bundle made before this was recorded, does not tell."""
    cpu = row.get("cpu")
    return cpu["emulated"] or " ".join(cpu["features"]) if cpu else "-"


def _print_drift(rows: Sequence[dict[str, Any]]) -> None:
    """Print how far the figures moved that no gate judges."""
    headings = ("session", "accuracy", "calibration error", "mean probability error", "box IoU, percentiles 1, 5, 50", "box error px")
    body = [
        (
            row["session"],
            *(
                f"{_show(row[f'{figure}_reference'])} -> {_show(row[f'{figure}_candidate'])}"
                for figure in ("accuracy", "calibration_error")
            ),
            _show(row["mean_probability_error"], ".1e"),
            ", ".join(_show(row[f"box_iou_p{percentile}"]) for percentile in ("01", "05", "50")),
            _show(row["max_box_error_px"], ".2g"),
        )
        for row in rows
    ]
    console.print_table("From the reference to the candidate", headings, body)


def _show(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _print_changes(row: dict[str, Any]) -> None:
    """Print the patients whose answer or decision changed."""
    if not row["flipped"]:
        return

    def describe(side: dict[str, Any]) -> str:
        share = side["probabilities"].get(side["answer"])
        return f"{side['answer']} {share:.3f}, {side['decision']}" if side["answer"] else side["decision"]

    body = []
    for each in row["flipped"]:
        patient = each.get("patient_id", f"row {each['row']}")  # a bundle names no patients
        brand, right = each["brand"] or "unknown", each["right"] or "-"
        body.append((patient, brand, describe(each["reference"]), describe(each["candidate"]), right))
    console.print_table(f"Changed in {row['session']}", ("patient", "brand", "reference", "candidate", "who is right"), body)
    if row["flipped_unlisted"]:
        console.say(f"and {row['flipped_unlisted']} more")
