"""Files written whole or not at all, and what they hash to."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block ends well, delete it otherwise.

    A crash or a full disk leaves what was there before. The folder of `path` is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Make sure that the file `path` can be written, before the work whose result it is to hold. Its folder is made.

    Raises
    ------
    InputError
        `path` is a folder.
    OSError
        The file, or its folder, can't be made or may not be written to.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected the name of a file", "give the output another name, or delete the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.open("ab").close()  # fails where it is write-protected, and on Windows where a spreadsheet has it open
    probe = path.with_name(f".{path.name}.{os.getpid()}.partial")
    probe.touch()
    probe.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole or not at all.

    Raises
    ------
    ValueError
        It holds NaN or infinity: an undefined figure is null.
    """
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def hash_file(path: Path) -> str:
    """Sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(path: Path) -> str:
    """Sha256 of a file's content; of a folder, over the names and hashes of its files."""
    if path.is_file():
        return hash_file(path)
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()
