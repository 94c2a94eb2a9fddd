"""Where a result comes from."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from edgekit.version import VERSION


def describe_software() -> dict[str, str | None]:
    """Return what every record starts with: ``edgekit`` (version), ``commit`` and ``date`` (UTC)."""
    return {"edgekit": VERSION, "commit": find_commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}


def find_commit() -> str | None:
    """Return the commit of the checkout that edgekit is imported from; None when it is installed, or git is not there."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    answer = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None
