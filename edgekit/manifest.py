"""``manifest.json`` of a bundle: what is in it and what proves it, read and written so that one changed byte anywhere is noticed.

The manifest carries the sha256 of every other file and of itself. It is a check against damage and careless edits, not a signature:
whoever can write the folder can also write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgekit.errors import DamagedBundleError, InputError
from edgekit.files import hash_file
from edgekit.types import Bundle

SCHEMA = 2
MANIFEST = "manifest.json"
SELF_HASH = "manifest_sha256"


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
    if unlisted := sorted(present - set(files)):
        raise _explain_unlisted(path, unlisted)
    for name, entry in files.items():
        if name not in present:
            raise _damaged(path, f"'{name}' is missing")
        if entry != _measure(path / name):
            raise _damaged(path, f"'{name}' was changed: its sha256 is not the one in the manifest")
    return Bundle(path, manifest)


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
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path.parent, f"{MANIFEST} can't be read ({type(error).__name__}: {error})") from error
    if not genuine:
        raise _damaged(path.parent, f"{MANIFEST} was changed")
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema}, this edgekit reads {SCHEMA}", "pip install --upgrade edgekit")
    entry_keys = {"sha256", "size"}
    if not isinstance(files, dict) or not all(isinstance(entry, dict) and set(entry) == entry_keys for entry in files.values()):
        raise _damaged(path.parent, f"'files' of {MANIFEST} does not list a sha256 and a size for each file")
    _check_contents(path, manifest)
    return dict(manifest)


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


def seal_bundle(folder: Path, manifest: dict[str, Any]) -> Bundle:
    """Measure every file of a new bundle, write its manifest, and open it."""
    files = {name: _measure(folder / name) for name in sorted(_list_files(folder))}
    write_manifest(folder, {**manifest, "files": files})
    return open_bundle(folder)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest as a whole; it gets a new hash of itself."""
    temporary = folder.parent / f".{folder.name}.{MANIFEST}.part"  # beside the folder: an unlisted file inside would be damage
    content = {key: value for key, value in manifest.items() if key != SELF_HASH}
    temporary.write_bytes(_dump({**content, SELF_HASH: _hash_manifest(manifest)}))  # last: a runner cuts it off to check the rest
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
