"""A bundle: everything that a device needs to run a pipeline, and everything that proves what it is.

::

    build/<target>/  manifest.json  MODEL_CARD.md  recipe.toml  golden/  the model file(s)

`open_bundle` verifies every hash before anything is loaded. The manifest carries the sha256 of every other file and of itself, so
that one changed byte anywhere is noticed. It is a check against damage and careless edits, not a signature: whoever can write the
folder can also write a new manifest.

Paths of the run and the studies are recorded relative to the bundle: they tell nothing about the machine, and survive moving all of
them together.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tomllib
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from edgekit.errors import DamagedBundleError, EdgekitError, GateError, InputError
from edgekit.files import hash_file
from edgekit.provenance import describe_software
from edgekit.types import INTENDED_USE, Bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgekit.backends import Tensors
    from edgekit.models.pipeline import PipelineSpec
    from edgekit.types import Study, Target

SCHEMA = 1
MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"
RECIPE = "recipe.toml"
SELF_HASH = "manifest_sha256"
LICENCE = "AGPL-3.0-or-later"
NOTICES = (
    "The detector's network comes from ultralytics (AGPL-3.0): whoever distributes this bundle, or serves a program that embeds it, "
    "owes its users the source under that licence.",
    "The members' networks come from timm (Apache-2.0); EfficientNet-Lite0 starts from ImageNet weights under Apache-2.0.",
)
VERSIONED = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "timm", "ultralytics")
"""Packages whose version decides what is exported."""


def open_bundle(path: Path) -> Bundle:
    """Open a bundle after verifying its schema, its paths and every hash.

    Parameters
    ----------
    path
        The bundle's folder.

    Raises
    ------
    InputError
        There is no bundle, or another version of edgekit wrote it.
    DamagedBundleError
        A file is missing, changed, unlisted, a link, or leaves the folder.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such bundle", "make one with: edgekit export RUN TARGET --out BUNDLE")
    if not (path / MANIFEST).exists():
        raise InputError(f"{path} is not a bundle: it has no {MANIFEST}", "make one with: edgekit export RUN TARGET --out BUNDLE")
    manifest = _read_manifest(path / MANIFEST)
    files: dict[str, dict[str, Any]] = manifest["files"]
    for name in files:
        if not _stays_inside(name):
            raise _damaged(path, f"the manifest lists '{name}', which leaves the bundle")
    present = _list_files(path)
    if unlisted := sorted(present - set(files)):
        raise _damaged(path, f"'{unlisted[0]}' is not listed in the manifest")
    for name, entry in files.items():
        if name not in present:
            raise _damaged(path, f"'{name}' is missing")
        if entry != _measure(path / name):
            raise _damaged(path, f"'{name}' was changed: its sha256 is not the one in the manifest")
    return Bundle(path, manifest)


def export_bundle(run: Path, target: Target, out: Path, studies: Path | None = None, force: bool = False) -> Bundle:
    """Convert a run for a target, judge the result, and put the bundle in place if it passes.

    Everything happens in a temporary folder beside `out`; a bundle that is already there is replaced at the end or not at all.

    Parameters
    ----------
    run
        A finished run folder.
    target
        What to make.
    out
        The bundle's folder; it may hold an earlier bundle, and nothing else.
    studies
        ``studies.csv`` to judge on: its test rows, or all rows if the split column is empty. None takes the run's own.
    force
        Write the bundle even if the verdict is not PASS, or the run names no studies, stamped *not verified*; a verified bundle is
        still not replaced by such a one.

    Raises
    ------
    InputError
        The run, the studies or `out` can't be used.
    GateError
        The verdict is not PASS in every session of the backend.
    """
    from edgekit.backends import BACKENDS
    from edgekit.backends.torch import TorchSession
    from edgekit.golden import read_golden, write_golden
    from edgekit.model_card import write_card
    from edgekit.models.runfolder import load_pipeline, run_hash
    from edgekit.parity import measure_parity, summarize

    out = out.absolute()
    replaced = _check_destination(out)
    table, rows = _verification_rows(run, studies, force)
    backend = BACKENDS[target.backend]
    pipeline = load_pipeline(run, None if target.ensemble == "best" else target.ensemble)
    with _draft_folder(out) as draft:
        artifact = backend.convert(pipeline, target, draft)
        shutil.copyfile(target.recipe, draft / RECIPE)
        manifest = _describe(pipeline.spec, target)
        manifest["recipe"] = tomllib.loads((draft / RECIPE).read_text(encoding="utf-8"))
        manifest["model"] = artifact.model
        manifest["graph"] = backend.describe(draft / artifact.model)
        manifest["provenance"] = _trace(run, run_hash(run), table, out)
        bundle = Bundle(draft, manifest)
        write_golden(draft, bundle.canvas_side, TorchSession(pipeline))
        case = read_golden(bundle)[0]
        manifest["tensors"] = {"inputs": _describe_tensors(case.inputs), "outputs": _describe_tensors(case.outputs)}
        del pipeline
        parity = measure_parity(bundle, run, rows) if rows else []
        failed = [row for row in parity if row.verdict != "PASS"]
        if failed and not force:
            raise GateError(f"not exported: {summarize(failed[0])}", "see what differs, or write it as not verified with --force")
        strayed = [name for name in backend.SESSIONS if misses_golden(bundle, name)]
        if strayed and not force:
            raise GateError(f"not exported: {', '.join(strayed)} misses the golden vectors", "write it as not verified with --force")
        manifest["verified"] = bool(parity) and not failed and not strayed
        if replaced is not None and replaced.manifest["verified"] and not manifest["verified"]:
            raise GateError(f"{out} holds a verified bundle; one that is not verified does not replace it", "choose another --out")
        manifest["parity"] = [asdict(row) for row in parity]
        (draft / CARD).write_text(write_card(manifest), encoding="utf-8")
        manifest["files"] = {name: _measure(draft / name) for name in sorted(_list_files(draft))}
        _write_manifest(draft, manifest)
        open_bundle(draft)
        _put_in_place(draft, out)
    return open_bundle(out)


def misses_golden(bundle: Bundle, session: str) -> bool:
    """Tell whether a session's outputs for the golden canvases are too far from the reference's."""
    from edgekit.backends import BACKENDS
    from edgekit.golden import check_golden

    with BACKENDS[bundle.manifest["backend"]].open_session(session, bundle) as opened:
        return bool(check_golden(bundle, opened).exceeded)


def add_latency(bundle: Bundle, latency: dict[str, Any]) -> Bundle:
    """Add a ``latency.json`` document to the manifest's ``latency``; an earlier one of the same device gives way.

    The manifest is replaced as a whole and gets a new hash of itself.
    """
    kept = [document for document in bundle.manifest["latency"] if document["device"] != latency["device"]]
    _write_manifest(bundle.folder, {**bundle.manifest, "latency": [*kept, latency]})
    return open_bundle(bundle.folder)


def find_run(bundle: Bundle, run: Path | None = None) -> Path:
    """Return the run folder that a bundle was made from.

    Parameters
    ----------
    run
        Where it is now; None looks where it was.

    Raises
    ------
    InputError
        It is not there, or it is another run.
    """
    from edgekit.models.runfolder import run_hash

    origin = bundle.manifest["provenance"]["run"]
    folder = run or Path(os.path.normpath(bundle.folder / origin["path"]))
    if not folder.is_dir():
        raise InputError(f"{folder}: the run that this bundle was made from is not there", "say where it is with --run RUN")
    if run_hash(folder) != origin["sha256"]:
        raise InputError(f"{folder} is not the run that this bundle was made from: its weights differ", "say where that is with --run RUN")
    return folder


def describe_verification(bundle: Bundle) -> str:
    """Return ``verified: PASS in ...`` or ``not verified: ...``, for wherever the bundle is shown."""
    verdicts = ", ".join(f"{row['verdict']} in {row['session']} on {row['n']} patients" for row in bundle.manifest["parity"])
    if bundle.manifest["verified"]:
        return f"verified: {verdicts}"
    return f"not verified: {verdicts or 'never compared with its reference'}"


def verification_rows(table: Path) -> list[Study]:
    """Return the rows of ``studies.csv`` to judge on: its test rows, or all rows if the split column is empty.

    Raises
    ------
    InputError
        There are none.
    """
    from edgekit.studies import read_studies, select

    studies = read_studies(table)
    if all(study.split is None for study in studies):
        rows = [study for study in studies if study.exclude is None]
    else:
        rows = select(studies, "test")
    if not rows:
        raise InputError(f"{table}: no rows to verify on", "give rows the split 'test', or leave the whole column empty")
    return rows


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check that it is exactly what was written."""
    content = path.read_bytes()
    if path.is_symlink():
        raise _damaged(path.parent, f"{MANIFEST} is a link")
    try:
        manifest = json.loads(content)
        stated = manifest[SELF_HASH]
        files, schema = manifest["files"], manifest["schema"]
        # The bytes are compared too: JSON leaves room for changes that parse to the same values.
        genuine = stated == _hash_manifest(manifest) and content == _dump(manifest)
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path.parent, f"{MANIFEST} can't be read ({type(error).__name__}: {error})") from error
    if not genuine:
        raise _damaged(path.parent, f"{MANIFEST} was changed")
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema}, this edgekit reads {SCHEMA}", "pip install --upgrade edgekit")
    entry_keys = {"sha256", "size"}
    if not isinstance(files, dict) or not all(isinstance(entry, dict) and set(entry) == entry_keys for entry in files.values()):
        raise _damaged(path.parent, f"'files' of {MANIFEST} does not list a sha256 and a size for each file")
    return dict(manifest)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    temporary = folder.parent / f".{folder.name}.{MANIFEST}.part"  # beside the folder: an unlisted file inside would be damage
    temporary.write_bytes(_dump({**manifest, SELF_HASH: _hash_manifest(manifest)}))
    temporary.replace(folder / MANIFEST)


def _dump(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _hash_manifest(manifest: dict[str, Any]) -> str:
    """Sha256 of the manifest without its own hash."""
    return hashlib.sha256(_dump({key: value for key, value in manifest.items() if key != SELF_HASH})).hexdigest()


def _measure(path: Path) -> dict[str, Any]:
    return {"sha256": hash_file(path), "size": path.stat().st_size}


def _list_files(folder: Path) -> set[str]:
    """Return the files of a bundle except its manifest, as POSIX paths."""
    names = set()
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise _damaged(folder, f"'{relative}' is a link")
            if name in files and relative != MANIFEST:
                names.add(relative)
    return names


def _stays_inside(name: str) -> bool:
    """Whether a listed path is plain and relative on every system."""
    return (
        bool(name)
        and PurePosixPath(name).as_posix() == name
        and ".." not in PurePosixPath(name).parts
        and not PurePosixPath(name).is_absolute()
        and not PureWindowsPath(name).anchor
        and "\\" not in name
    )


def _damaged(folder: Path, what: str) -> DamagedBundleError:
    return DamagedBundleError(f"{folder} is damaged: {what}", "copy the bundle again from where it was made, or export it again")


def _check_destination(out: Path) -> Bundle | None:
    """Return the bundle that `out` holds, if it is a sound one.

    Raises
    ------
    InputError
        `out` is something else: it is never overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        return open_bundle(out)
    except EdgekitError as error:
        raise InputError(f"{out} exists and is not a sound bundle ({error.message})", "choose another --out, or delete it") from error


def _verification_rows(run: Path, studies: Path | None, force: bool) -> tuple[Path | None, Sequence[Study]]:
    """Return the table to judge on and its rows; with `force` there may be none."""
    from edgekit.models.runfolder import read_json

    if studies is None:
        recorded = read_json(run / "provenance.json").get("studies") or {}
        if not recorded.get("path"):
            if force:
                return None, ()
            raise InputError(f"{run}/provenance.json names no studies to verify on", "give a studies.csv with --studies")
        studies = run / recorded["path"]
        if not studies.is_file():
            raise InputError(f"{studies}: the run's own studies are not there", "say where they are with --studies")
        if hash_file(studies) != recorded["sha256"]:
            raise InputError(f"{studies} has changed since the run was trained on it", "name the table to verify on with --studies")
    return studies, verification_rows(studies)


@contextmanager
def _draft_folder(out: Path) -> Iterator[Path]:
    """Make a folder beside `out` and remove what is left of it at the end."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, out: Path) -> None:
    """Rename `draft` to `out`; what was there is deleted only after that."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(aside)
    try:
        draft.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise
    if aside.exists():
        shutil.rmtree(aside)


def _describe(spec: PipelineSpec, target: Target) -> dict[str, Any]:
    """Return the manifest's part that the run and the recipe decide."""
    return {
        "schema": SCHEMA,
        "name": f"{spec.ensemble} for {target.name}",
        "target": target.name,
        "precision": target.precision,
        "verified": False,
        "intended_use": INTENDED_USE,
        "brands": list(spec.brands),
        "ensemble": spec.ensemble,
        "members": list(spec.members),
        "thresholds": {"box": spec.box_threshold, "view_margin": spec.view_margin, "coverage": spec.coverage},
        "canvas": {"side": spec.canvas_side, "dtype": "uint8", "padding": 0, "specification": "docs/canvas.md"},
        "backend": target.backend,
        "stages": dict(target.stages),
        "judge": asdict(target.judge),
        "parity": [],
        "latency": [],
        "licence": LICENCE,
        "notices": list(NOTICES),
        "files": {},
    }


def _trace(run: Path, run_sha256: str, table: Path | None, out: Path) -> dict[str, Any]:
    """Return where a bundle comes from."""
    return {
        **describe_software(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        "run": {"path": Path(os.path.relpath(run, out)).as_posix(), "sha256": run_sha256},
        "studies": table and {"path": Path(os.path.relpath(table, out)).as_posix(), "sha256": hash_file(table)},
    }


def _describe_tensors(tensors: Tensors) -> dict[str, Any]:
    return {name: {"dtype": str(tensor.dtype), "shape": list(tensor.shape)} for name, tensor in tensors.items()}
