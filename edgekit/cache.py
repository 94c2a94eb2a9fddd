"""The folder where edgekit keeps what it can make again, one a user."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, which may not exist yet: ``$XDG_CACHE_HOME/edgekit``, else where the system keeps such things."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "edgekit"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "edgekit" / "Cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "edgekit"
