"""``manifest.json`` of a bundle: what is in it and what proves it, read and written so that one changed byte anywhere is noticed.

The manifest carries the sha256 of itself and of every other file but two: the list of the processors that the bundle is proven on grows
when it is judged on another one, and the model card shows it. So ``processors.json`` stands beside the manifest, and carries the sha256 of
the card, of itself and of the model that it belongs to; the manifest stays as it was.

It is a check against damage and careless edits, not a signature: whoever can write the folder can also write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from edgekit.errors import DamagedBundleError, InputError
from edgekit.files import hash_file
from edgekit.task import parse_task
from edgekit.types import Bundle, Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = 3
MANIFEST = "manifest.json"
SELF_HASH = "manifest_sha256"
CARD = "MODEL_CARD.md"
PROCESSORS = "processors.json"
PROCESSORS_SCHEMA = 1
PROCESSORS_HASH = "processors_sha256"


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
        A file is missing, changed, unlisted, a link, or leaves the folder. Files that macOS and Windows leave in folders by themselves
        are unlisted too, and named as what they are.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such bundle", "make one with: edgekit export RUN TARGET --out BUNDLE")
    if not (path / MANIFEST).exists():
        raise InputError(f"{path} is not a bundle: it has no {MANIFEST}", "make one with: edgekit export RUN TARGET --out BUNDLE")
    manifest = _read_manifest(path / MANIFEST)
    files = manifest.files
    for name in files:
        if not _stays_inside(name):
            raise _damaged(path, f"the manifest lists '{name}', which leaves the bundle")
    present = _list_files(path)
    beside = _read_processors(path, manifest)
    cards = {CARD: beside["card"]} if beside["card"] else {}
    if unlisted := sorted(present - set(files) - set(cards)):
        raise _explain_unlisted(path, unlisted)
    for name, entry in {**files, **cards}.items():
        if name not in present:
            raise _damaged(path, f"'{name}' is missing")
        if entry != _measure(path / name):
            place = PROCESSORS if name in cards else "the manifest"
            raise _damaged(path, f"'{name}' was changed: its sha256 is not the one in {place}")
    return Bundle(path, manifest, tuple(beside["processors"]))


def _read_manifest(path: Path) -> Manifest:
    """Read a manifest and check that it is exactly what was written."""
    content = path.read_bytes()
    if path.is_symlink():
        raise _damaged(path.parent, f"{MANIFEST} is a link")
    try:
        manifest = json.loads(content)
        stated = manifest[SELF_HASH]
        files, schema = manifest["files"], manifest["schema"]
        # The bytes are compared too: JSON leaves room for changes that parse to the same values.
        genuine = stated == _hash_document(manifest, SELF_HASH) and content == _dump(manifest)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path.parent, f"{MANIFEST} can't be read ({type(error).__name__}: {error})") from error
    if not genuine:
        raise _damaged(path.parent, f"{MANIFEST} was changed")
    if schema != SCHEMA:
        raise _explain_schema(path, manifest)
    entry_keys = {"sha256", "size"}
    if not isinstance(files, dict) or not all(isinstance(entry, dict) and set(entry) == entry_keys for entry in files.values()):
        raise _damaged(path.parent, f"'files' of {MANIFEST} does not list a sha256 and a size for each file")
    return _parse_manifest(path, manifest)


def _explain_schema(path: Path, manifest: dict[str, Any]) -> InputError:
    """Say that another version of edgekit wrote a bundle, and how to make it again."""
    schema = manifest["schema"]
    if not isinstance(schema, int) or schema > SCHEMA:
        return InputError(f"{path}: schema {schema}, this edgekit reads {SCHEMA}", "pip install --upgrade edgekit-imaging")
    try:
        run = os.path.normpath(path.parent / manifest["provenance"]["run"]["path"])
        command = f"edgekit export {run} {manifest['target']}:{manifest['precision']} --out NEW"
    except (KeyError, TypeError):
        command = "edgekit export RUN TARGET --out NEW"
    return InputError(
        f"{path} was written by an earlier edgekit: schema {schema}, this one reads {SCHEMA}", f"make it again from its run: {command}"
    )


def _read_processors(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Read ``processors.json`` and check that it is exactly what was written for this model."""
    path = folder / PROCESSORS
    if path.is_symlink():
        raise _damaged(folder, f"{PROCESSORS} is a link")
    if not path.exists():
        raise _damaged(folder, f"'{PROCESSORS}' is missing")
    content = path.read_bytes()
    try:
        document = json.loads(content)
        genuine = document[PROCESSORS_HASH] == _hash_document(document, PROCESSORS_HASH) and content == _dump(document)
        schema, model, _, rows = (document[key] for key in ("schema", "model_sha256", "card", "processors"))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(folder, f"{PROCESSORS} can't be read ({type(error).__name__}: {error})") from error
    if not genuine or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _damaged(folder, f"{PROCESSORS} was changed")
    if schema != PROCESSORS_SCHEMA:
        raise InputError(f"{path}: schema {schema}, this edgekit reads {PROCESSORS_SCHEMA}", "pip install --upgrade edgekit-imaging")
    if model != manifest.model_sha256:
        raise _damaged(folder, f"{PROCESSORS} belongs to another bundle")
    return dict(document)


def _parse_manifest(path: Path, document: dict[str, Any]) -> Manifest:
    """Turn the document into a `Manifest`: its keys are exactly that type's, and each holds what it should."""
    wanted = {field.name: str(field.type) for field in fields(Manifest)}
    if wrong := sorted(set(document) - {"schema", SELF_HASH} ^ set(wanted)):
        raise InputError(f"{path} does not describe a bundle: {', '.join(wrong)} missing or unknown", "export the bundle again")

    def is_sound(name: str, value: Any) -> bool:
        if name == "canvas":
            return isinstance(value, dict) and type(value.get("side")) is int and value["side"] > 0
        if name in ("brands", "sessions", "cases", "members"):
            return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
        if name == "model":
            return isinstance(value, str) and _stays_inside(value)
        kind = wanted[name].partition("[")[0]
        if "None" in wanted[name] and value is None:
            return True
        return isinstance(value, {"str": str, "bool": bool, "dict": dict, "tuple": list, "Task": dict}[kind])

    if wrong := [name for name in wanted if not is_sound(name, document[name])]:
        found = ", ".join(f"{name} = {document[name]!r}"[:200] for name in wrong)
        raise InputError(f"{path} does not describe a bundle: {found}", "export the bundle again")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value := document[name], list) else value for name in wanted}
    return Manifest(**{**values, "task": parse_task(document["task"], f"{path} [task]")})


def to_document(manifest: Manifest) -> dict[str, Any]:
    """Return what ``manifest.json`` says, without its own hash."""
    return {"schema": SCHEMA, **asdict(manifest), "task": manifest.task.to_json()}


def seal_bundle(folder: Path, manifest: Manifest, processors: Sequence[dict[str, Any]] = ()) -> Bundle:
    """Measure every file of a new bundle, write its manifest and the processors that it is proven on, and open it."""
    sealed = replace(manifest, files={name: _measure(folder / name) for name in sorted(_list_files(folder) - {CARD})})
    write_manifest(folder, sealed)
    _write_processors(folder, sealed, processors)
    return open_bundle(folder)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest as a whole; it gets a new hash of itself."""
    _replace(folder, MANIFEST, _sign(to_document(manifest), SELF_HASH))


def replace_processors(bundle: Bundle, processors: Sequence[dict[str, Any]], card: str) -> Bundle:
    """Replace the list of the processors that a bundle is proven on, and the model card that shows it; the manifest stays as it is."""
    _replace(bundle.folder, CARD, card.encode())
    _write_processors(bundle.folder, bundle.manifest, processors)
    return open_bundle(bundle.folder)


def _write_processors(folder: Path, manifest: Manifest, processors: Sequence[dict[str, Any]]) -> None:
    document = {
        "schema": PROCESSORS_SCHEMA,
        "model_sha256": manifest.model_sha256,
        "card": _measure(folder / CARD) if (folder / CARD).exists() else None,
        "processors": list(processors),
    }
    _replace(folder, PROCESSORS, _sign(document, PROCESSORS_HASH))


def _replace(folder: Path, name: str, content: bytes) -> None:
    """Put a file of a bundle in place as a whole."""
    temporary = folder.parent / f".{folder.name}.{name}.part"  # beside the folder: an unlisted file inside would be damage
    temporary.write_bytes(content)
    temporary.replace(folder / name)


def _sign(document: dict[str, Any], key: str) -> bytes:
    """Return the bytes of a document with its own hash under `key`."""
    content = {name: value for name, value in document.items() if name != key}
    return _dump({**content, key: _hash_document(document, key)})  # last: a runner cuts it off to check the rest


def _dump(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _hash_document(document: dict[str, Any], key: str) -> str:
    """Sha256 of a document without its own hash, which stands under `key`."""
    return hashlib.sha256(_dump({name: value for name, value in document.items() if name != key})).hexdigest()


def _measure(path: Path) -> dict[str, Any]:
    return {"sha256": hash_file(path), "size": path.stat().st_size}


def _list_files(folder: Path) -> set[str]:
    """Return the files of a bundle except its manifest and `PROCESSORS`, as POSIX paths."""
    names = set()
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise _damaged(folder, f"'{relative}' is a link")
            if name in files and relative not in (MANIFEST, PROCESSORS):
                names.add(relative)
    return names


def _explain_unlisted(folder: Path, unlisted: list[str]) -> DamagedBundleError:
    """Say that files are not in the manifest, and of those that a system puts into folders by itself what they are."""
    import shlex
    from subprocess import list2cmdline

    owners = {name: _find_owner(PurePosixPath(name).name) for name in unlisted}
    for name, owner in owners.items():
        if not owner:
            return _damaged(folder, f"'{name}' is not listed in the manifest")
    paths = [str(folder / name) for name in unlisted]
    command = list2cmdline(["del", "/f", "/a", *paths]) if os.name == "nt" else shlex.join(["rm", "-f", *paths])
    named = ", ".join(f"'{name}' ({owner})" for name, owner in owners.items())
    return DamagedBundleError(
        f"{folder} holds files that are no part of the bundle but the system's own: {named}", f"delete them: {command}"
    )


def _find_owner(name: str) -> str:
    """Say whose file this is, that a system leaves in folders by itself; empty: no such file."""
    if name == ".DS_Store":
        return "of macOS's Finder: how it shows the folder"
    if name.startswith("._"):
        return "of macOS: what it notes about a file on a disk that is not its own"
    return {"thumbs.db": "of Windows: small pictures", "desktop.ini": "of Windows: how it shows the folder"}.get(name.lower(), "")


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
