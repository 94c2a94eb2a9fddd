"""A bundle that somebody changed and who sealed it again."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from edgekit.manifest import seal_bundle
from edgekit.task import parse_task
from edgekit.types import Bundle, Manifest


def read_manifest(folder: Path) -> Manifest:
    """Return what the manifest says, whatever became of the files that it lists."""
    document = json.loads((folder / "manifest.json").read_bytes())
    values = {field.name: document[field.name] for field in fields(Manifest)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Manifest(**{**values, "task": parse_task(document["task"], "[task]")})


def reseal(folder: Path) -> Bundle:
    """Hash the files of a bundle anew, as someone who means it would."""
    return seal_bundle(folder, read_manifest(folder))


def change_golden(folder: Path, case: int, output: str, *places: int, by: float) -> None:
    """Expect another number of one output in one case of the golden vectors, and seal that."""
    path = folder / "golden" / "golden.json"
    golden = json.loads(path.read_text())
    values = golden["cases"][case]["outputs"][output]
    for place in places[:-1]:
        values = values[place]
    values[places[-1]] += by
    path.write_text(json.dumps(golden))
    reseal(folder)


def tolerate(folder: Path, output: str, tolerance: float | None) -> None:
    """Accept another difference of one output, and seal that."""
    manifest = read_manifest(folder)
    manifest.tensors["outputs"][output]["tolerance"] = tolerance
    seal_bundle(folder, manifest)
