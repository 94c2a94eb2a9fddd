"""What was established on this machine and need not be established again: small documents in the user's cache folder.

A fact is a JSON document that names all that it depends on. Its file is named by the document's hash and holds the document: a fact is
remembered only where the file says exactly that, whatever its name is. Nothing else is kept, no film and no answer.

A folder that can't be read or written remembers nothing, which costs time and is no error. Two processes may write the same fact at the
same time: it is put in place whole, and both write the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.files import write_bytes

if TYPE_CHECKING:
    Fact = dict[str, Any]

FOLDER = Path("edgekit", "remembered")
"""Of a user's cache folder."""


def is_remembered(fact: Fact) -> bool:
    """Tell whether `remember` was told exactly this before."""
    content = _dump(fact)
    try:
        return _find_file(content).read_bytes() == content
    except OSError:
        return False


def remember(fact: Fact) -> None:
    """Keep a fact, where this user has a folder for it."""
    content = _dump(fact)
    with suppress(OSError):
        write_bytes(_find_file(content), content)


def find_cache_folder() -> Path:
    """Return the folder in which this system keeps what a user's programs can make again.

    Raises
    ------
    OSError
        The user has none.
    """
    if (chosen := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():  # a relative one is to be ignored, its specification says
        return chosen
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError("this user has no home folder") from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _find_file(content: bytes) -> Path:
    return find_cache_folder() / FOLDER / f"{hashlib.sha256(content).hexdigest()}.json"


def _dump(fact: Fact) -> bytes:
    return (json.dumps(fact, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
