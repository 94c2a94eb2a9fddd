"""``edgekit verify``: hashes, golden vectors, and the verdict on films, here and as other processors answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import console, verdicts
from edgekit.cli.bundle import SESSIONS_HELP
from edgekit.errors import GateError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.emulation.judging import EmulatedCheck
    from edgekit.golden import GoldenCheck
    from edgekit.processors import Cpu
    from edgekit.types import Bundle, Study


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    studies: Annotated[Path | None, typer.Argument(help="studies.csv for the verdict: its test rows, or all; brands may be empty.")] = None,
    session: Annotated[list[str] | None, typer.Option("--session", help=SESSIONS_HELP)] = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run the bundle was made from, if it was moved.")] = None,
    pack: Annotated[Path | None, typer.Option("--pack", help="Write the canvases of STUDIES here, for a device to answer.")] = None,
    outputs: Annotated[Path | None, typer.Option("--outputs", help="The outputs.npz of a device: judge it in place of sessions.")] = None,
    cpu: Annotated[str | None, typer.Option("--cpu", help="Emulated processors in place of this one, as in haswell,neon.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document: golden checks, parity records, provenance.")] = False,
) -> None:
    """Check a bundle's hashes and golden vectors and, with films, whether it answers as its run does.

    A PASS is kept in the bundle's processors.json, for the instructions that it was reached with; a FAIL takes it away.

    Example: edgekit verify build/web cohort/studies.csv

    For another device: edgekit verify BUNDLE STUDIES --pack canvases.npz, run the bundle's runner on it there, and judge what comes back:
    edgekit verify BUNDLE STUDIES --outputs outputs.npz

    As other processors answer, under qemu: edgekit verify BUNDLE STUDIES --cpu haswell,epyc,nehalem,neon,neon-dotprod

    It takes seconds a patient; a command that was stopped goes on. Without films the golden vectors are checked alone.
    """
    from dataclasses import asdict

    from edgekit.bundle import MORE_PATIENTS, describe_verification, verification_rows
    from edgekit.files import require_writable
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
    rows = verification_rows(studies, opened.views) if studies else []
    if cpus:
        console.when_interrupted("What is done is kept: the same command goes on.")
        _verify_emulated(opened, studies, rows, cpus, run, json)
        return
    if pack:
        require_writable(pack)
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
            *((row.session, row.cpu) for row in parity if row.verdict == "FAIL" and row.cpu),
        ],
    )
    records = [asdict(row) for row in parity]
    if json:
        document = {
            "bundle": str(bundle),
            "verified": opened.manifest.verified,
            "golden": [{**asdict(check), "exceeded": check.exceeded} for check in golden],
            "parity": {"sessions": records} if records else None,
            "pack": {"file": str(pack), "pack": identity, "rows": len(rows)} if pack else None,
            "provenance": _trace(opened, studies),
        }
        console.print_json(document)
    console.say(f"{bundle}: {len(opened.manifest.files)} files match their hashes; when exported: {describe_verification(opened)}")
    verdicts.print_unproven(opened.manifest)
    if golden:
        _print_golden(golden)
    verdicts.print_parity(records)
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
            raise GateError(
                f"the verdict in {row.session} is {row.verdict}: {row.power}", MORE_PATIENTS if row.verdict == "INCONCLUSIVE" else ""
            )


def _verify_emulated(
    bundle: Bundle, studies: Path | None, rows: Sequence[Study], cpus: Sequence[Cpu], run: Path | None, json: bool
) -> None:
    """Check a bundle on emulated processors: their verdicts, or without films their golden vectors."""
    from dataclasses import asdict

    from edgekit.emulation.judging import check_golden_on, judge_on
    from edgekit.manifest import open_bundle
    from edgekit.models.runfolder import find_run
    from edgekit.proven import prove_by_golden, prove_by_verdict

    checks: list[EmulatedCheck] = []
    for check in judge_on(bundle, find_run(bundle, run), rows, cpus) if rows else check_golden_on(bundle, cpus):
        checks.append(check)
        if check.failure or (check.parity and check.parity.verdict == "FAIL"):
            _keep_proof(bundle, [], [(check.session, check.cpu)])
        else:
            judged = prove_by_verdict(check.parity) if check.parity else []
            _keep_proof(bundle, judged or [prove_by_golden(check.cpu, check.session, check.runtime)], [])
    records = [asdict(check.parity) for check in checks if check.parity]
    names, emulated = [cpu.name for cpu in cpus], {check.session for check in checks}
    unproven = [f"session {name} was not emulated on {', '.join(names)}" for name in bundle.sessions if name not in emulated]
    if json:
        document = {
            "bundle": str(bundle.folder),
            "verified": bundle.manifest.verified,
            "golden": [{"cpu": check.cpu, "runtime": check.runtime, "failure": check.failure or None} for check in checks],
            "parity": {"sessions": records} if records else None,
            "unproven": unproven,
            "processors": open_bundle(bundle.folder).processors,
            "provenance": _trace(bundle, studies),
        }
        console.print_json(document)
    states = [(check.cpu["emulated"], " ".join(check.cpu["features"]), check.runtime, check.failure or "ok") for check in checks]
    console.print_table("Golden vectors, emulated", ("cpu", "instructions", "runtime", ""), states)
    verdicts.print_parity(records)
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

    proven, unproven, missed = emulate_golden(bundle, bundle.manifest.recipe.get("processors", ()))
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
    from edgekit.targets import find_source

    if not names:
        try:
            judges = find_source(bundle.manifest.recipe, bundle.manifest.precision)["sessions"]
            names, missing = available_sessions(bundle, judges)
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
        "name": manifest.name,
        "target": manifest.target,
        "precision": manifest.precision,
        "model_sha256": manifest.model_sha256,
        "run_sha256": manifest.provenance["run"]["sha256"],
        "studies_sha256": hash_file(studies) if studies else None,
    }


def _print_golden(checks: Sequence[GoldenCheck]) -> None:
    rows = [
        (check.session, name, f"{error:.2e}", f"{check.tolerance[name]:g}", "too far" if name in check.exceeded else "ok")
        for check in checks
        for name, error in check.errors.items()
    ]
    console.print_table("Golden vectors", ("session", "output", "largest error", "tolerance", ""), rows)
