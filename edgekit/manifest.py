"""``manifest.json`` of a bundle: what is in it and what proves it, read and written so that one changed byte anywhere is noticed.

The manifest carries the sha256 of itself and of every other file but two: the list of the processors that the bundle is proven on grows
when it is judged on another one, and the model card shows it. So ``processors.json`` stands beside the manifest, and carries the sha256 of
the card, of itself and of the model that it belongs to; the manifest stays as it was. A bundle made before that has its card in the
manifest and needs no ``processors.json``.

It is a check against damage and careless edits, not a signature: whoever can write the folder can also write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from edgekit.errors import DamagedBundleError, InputError
from edgekit.files import hash_file
from edgekit.types import Bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = 2
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
    files: dict[str, dict[str, Any]] = manifest["files"]
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
        genuine = stated == _hash_document(manifest, SELF_HASH) and content == _dump(manifest)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path.parent, f"{MANIFEST} can't be read ({type(error).__name__}: {error})") from error
    if not genuine:
        raise _damaged(path.parent, f"{MANIFEST} was changed")
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema}, this edgekit reads {SCHEMA}", "pip install --upgrade edgekit-imaging")
    entry_keys = {"sha256", "size"}
    if not isinstance(files, dict) or not all(isinstance(entry, dict) and set(entry) == entry_keys for entry in files.values()):
        raise _damaged(path.parent, f"'files' of {MANIFEST} does not list a sha256 and a size for each file")
    _check_contents(path, manifest)
    return dict(manifest)


def _read_processors(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Read ``processors.json`` and check that it is exactly what was written for this model; without one there are no rows."""
    path = folder / PROCESSORS
    if path.is_symlink():
        raise _damaged(folder, f"{PROCESSORS} is a link")
    if not path.exists():
        if CARD not in manifest["files"]:
            raise _damaged(folder, f"'{PROCESSORS}' is missing")
        return {"card": None, "processors": []}
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
    if model != manifest.get("model_sha256"):
        raise _damaged(folder, f"{PROCESSORS} belongs to another bundle")
    return dict(document)


def _check_contents(path: Path, manifest: dict[str, Any]) -> None:
    """Refuse a manifest without what a `Bundle` is asked for."""

    def has_names(value: object) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)

    canvas, model = manifest.get("canvas"), manifest.get("model")
    side = canvas.get("side") if isinstance(canvas, dict) else None
    sound = {
        "brands": has_names(manifest.get("brands")),
        "sessions": has_names(manifest.get("sessions")),
        "canvas": type(side) is int and side > 0,
        "model": isinstance(model, str) and _stays_inside(model),
    }
    if wrong := [key for key, is_sound in sound.items() if not is_sound]:
        found = ", ".join(f"{key} = {manifest.get(key)!r}"[:200] for key in wrong)
        raise InputError(f"{path} does not describe a bundle: {found}", "export the bundle again")


def seal_bundle(folder: Path, manifest: dict[str, Any], processors: Sequence[dict[str, Any]] = ()) -> Bundle:
    """Measure every file of a new bundle, write its manifest and the processors that it is proven on, and open it."""
    files = {name: _measure(folder / name) for name in sorted(_list_files(folder) - {CARD})}
    sealed = {**manifest, "files": files}
    write_manifest(folder, sealed)
    _write_processors(folder, sealed, processors)
    return open_bundle(folder)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest as a whole; it gets a new hash of itself."""
    _replace(folder, MANIFEST, _sign(manifest, SELF_HASH))


def replace_processors(bundle: Bundle, processors: Sequence[dict[str, Any]], card: str) -> Bundle:
    """Replace the list of the processors that a bundle is proven on, and the model card that shows it; the manifest stays as it is.

    A bundle whose manifest lists its card keeps that card.
    """
    if CARD not in bundle.manifest["files"]:
        _replace(bundle.folder, CARD, card.encode())
    _write_processors(bundle.folder, bundle.manifest, processors)
    return open_bundle(bundle.folder)


def _write_processors(folder: Path, manifest: dict[str, Any], processors: Sequence[dict[str, Any]]) -> None:
    own_card = CARD not in manifest["files"] and (folder / CARD).exists()
    document = {
        "schema": PROCESSORS_SCHEMA,
        "model_sha256": manifest.get("model_sha256"),
        "card": _measure(folder / CARD) if own_card else None,
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
