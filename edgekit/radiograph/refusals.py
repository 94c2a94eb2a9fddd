"""The reasons for which a film is refused: section 4 of ``docs/canvas.md``, the same on every host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgekit.errors import FilmError

if TYPE_CHECKING:
    from pathlib import Path

Reason = Literal[
    "missing",
    "empty",
    "unknown",
    "damaged",
    "imageless",
    "modality",
    "raw",
    "frames",
    "colour",
    "header",
    "aspect",
    "large",
    "syntax",
    "table",
    "function",
    "blank",
]

MAX_PIXELS = 80_000_000
"""A film with more pixels is refused before it is decoded: a stitched full spine at 0.1 mm has 40 million."""


def refuse(path: Path, reason: Reason, found: str, remedy: str) -> FilmError:
    """Return the error that refuses the film `path`: what was `found` in it, and what to do."""
    return FilmError(f"{path}: {found}.", remedy, reason)


def refuse_damaged(path: Path, found: str) -> FilmError:
    """Return the error that refuses a film whose file ends early or contradicts itself."""
    return refuse(path, "damaged", f"damaged or cut off file ({found})", "Copy or export the film again.")


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a film of more than `MAX_PIXELS`, before memory is spent on it."""
    if width * height > MAX_PIXELS:
        raise refuse(
            path,
            "large",
            f"{width} x {height} pixels, expected at most {MAX_PIXELS // 1_000_000} million",
            "Export the film at a lower resolution.",
        )
