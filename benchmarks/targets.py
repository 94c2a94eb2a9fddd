"""Whether a run is at parity on every target: each variant of each recipe is exported and judged on the same further patients.

.venv/bin/python benchmarks/targets.py RUN STUDIES --out benchmarks/results/targets-paper-lite0
.venv/bin/python benchmarks/targets.py RUN STUDIES --out benchmarks/results/targets-paper-lite0 --cpu haswell neon epyc nehalem neon-dotprod
.venv/bin/python benchmarks/targets.py B0RUN STUDIES --only desktop-cpu:w8a8 --recipe benchmarks/b0.toml --out ...

One JSON record a variant, and a table of them all. A variant that is done is kept: a broken run goes on where it stopped. Bundles that fail
are written too, stamped not verified, so that they can be looked at. With --cpu the 8-bit variants of CPUs are also judged as those answer,
on the first `PATIENTS` rows: one record a variant and processor, and a table of them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.backends import BACKENDS
from edgekit.bundle import export_bundle, verification_rows
from edgekit.emulation.judging import judge_on
from edgekit.errors import EdgekitError
from edgekit.files import write_json, write_text
from edgekit.latency import describe_device
from edgekit.manifest import open_bundle
from edgekit.processors import CPUS
from edgekit.provenance import describe_software
from edgekit.targets import list_targets, list_variants, load_target

if TYPE_CHECKING:
    from edgekit.types import Bundle, Target

PATIENTS = {"haswell": 150, "neon": 150, "epyc": 48, "nehalem": 48, "neon-dotprod": 48}
"""Rows judged on each emulated processor: they take seconds each."""


def describe_bundle(bundle: Bundle, target: Target, seconds: float) -> dict[str, Any]:
    """Return what is kept of a bundle: not its files, but what they are and what was found."""
    manifest = bundle.manifest
    model = manifest.model
    sizes = [entry["size"] for name, entry in manifest.files.items() if name == model or name.startswith(f"{model}/")]
    repair = bundle.folder / "quantization.json"
    keys = ("target", "precision", "verified", "stages", "ensemble", "judge", "recipe", "graph", "unproven")
    sessions = [{key: value for key, value in row.items() if key != "flipped"} for row in manifest.parity]
    return {
        **{key: getattr(manifest, key) for key in keys},
        "provenance": {key: drop_path(value) for key, value in manifest.provenance.items()},
        "model": {"sha256": manifest.model_sha256, "size_mb": sum(sizes) / 1e6},
        "budget_mb": target.size_mb,
        "quantization": json.loads(repair.read_text()) if repair.is_file() else None,
        "parity": {"sessions": sessions},
        "device": describe_device(),
        "seconds": round(seconds, 1),
    }


def drop_path(value: Any) -> Any:
    """Return an entry of a bundle's provenance without where it lay, which says nothing elsewhere."""
    return {key: each for key, each in value.items() if key != "path"} if isinstance(value, dict) else value


def tabulate(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    head = "target", "session", "patients", "accuracy", "changed", "agreement, lower", "drop, upper", "model MB", "stayed float", "verdict"
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for record in records:
        repair = record["quantization"]
        for row in record["parity"]["sessions"]:
            cells = [
                f"{record['target']}:{record['precision']}",
                row["session"],
                str(row["n"]),
                f"{row['accuracy_reference']:.4f} → {row['accuracy_candidate']:.4f}",
                str(row["flips"]),
                f"{100 * row['agreement_ci95'][0]:.2f} %",
                f"{100 * row['difference']['ci95'][1]:.2f} points",
                f"{record['model']['size_mb']:.2f}",
                f"{100 * repair['float_share']:.1f} %" if repair else "-",
                row["verdict"],
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def judge_emulated(bundle: Bundle, run: Path, studies: Path, name: str) -> dict[str, Any]:
    """Judge a bundle as the processor `name` answers, and return the record."""
    rows, start = verification_rows(studies, bundle.views)[: PATIENTS[name]], time.monotonic()
    (check,) = judge_on(bundle, run, rows, [CPUS[name]])
    keys = ("target", "precision", "model_sha256")
    return {
        **{key: getattr(bundle.manifest, key) for key in keys},
        "provenance": describe_software(),
        "rows": len(rows),
        "failure": check.failure or None,
        "parity": {key: value for key, value in asdict(check.parity).items() if key != "flipped"} if check.parity else None,
        "device": describe_device(),
        "seconds": round(time.monotonic() - start, 1),
    }


def tabulate_emulated(records: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return the records by variant and processor as a Markdown table."""
    head = "target", "processor", "patients", "another brand than natively", "box px from native", "changed", "verdict"
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for (spec, name), record in records.items():
        row = record["parity"]
        if row is None:
            lines.append(f"| {spec} | {name} | {record['rows']} | - | - | - | {record['failure']} |")
            continue
        box = "-" if row["max_box_difference_px"] is None else f"{row['max_box_difference_px']:.2g}"
        cells = [spec, name, str(row["n"]), str(row["changed_from_native"]), box, str(row["flips"]), row["verdict"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def judge_processors(arguments: argparse.Namespace, wanted: list[str]) -> None:
    """Write the records of the 8-bit variants on the processors asked for; those that are there are kept."""
    records = {}
    for spec in wanted:
        place = arguments.build / spec.replace(":", "-")
        if not place.is_dir():
            print(f"{spec}: {place} is not there; without its record in {arguments.out} it would be made", flush=True)
            continue
        bundle = open_bundle(place)
        if "w8a8" not in bundle.manifest.stages.values() or not BACKENDS[bundle.manifest.backend].EMULATED:
            continue
        for name in arguments.cpu:
            path = arguments.out / f"{spec.replace(':', '-')}-{name}.json"
            if not path.exists():
                print(f"{spec} on {name}", flush=True)
                write_json(path, judge_emulated(bundle, arguments.run, arguments.studies, name))
            records[spec, name] = json.loads(path.read_text())
    write_text(arguments.out / "processors.md", tabulate_emulated(records))
    print(tabulate_emulated(records))


def main() -> None:
    """Export, judge, and write the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--build", type=Path, default=Path("build/targets"), help="folder of the bundles")
    parser.add_argument("--only", nargs="*", help="variants, as in web:w8a8; default: all")
    parser.add_argument("--recipe", type=Path, help="a recipe to use instead of the targets' own")
    parser.add_argument("--cpu", nargs="*", choices=tuple(PATIENTS), default=(), help="emulated processors to judge 8-bit variants on too")
    arguments = parser.parse_args()
    wanted = arguments.only or [f"{name}:{variant}" for name in list_targets() for variant in list_variants(name)]
    records = []
    for spec in wanted:
        path = arguments.out / f"{spec.replace(':', '-')}.json"
        if not path.exists():
            print(spec, flush=True)
            target, start = load_target(spec, arguments.recipe), time.monotonic()
            try:
                bundle = export_bundle(arguments.run, target, arguments.build / spec.replace(":", "-"), arguments.studies, force=True)
            except EdgekitError as error:
                print(f"{spec}: {error.message}", flush=True)
                continue
            write_json(path, describe_bundle(bundle, target, time.monotonic() - start))
        records.append(json.loads(path.read_text()))
    write_text(arguments.out / "README.md", tabulate(records))
    print(tabulate(records))
    if arguments.cpu:
        judge_processors(arguments, wanted)


if __name__ == "__main__":
    main()
