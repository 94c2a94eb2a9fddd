"""What a user does in the app, for all its tests."""

from __future__ import annotations

from typing import Any

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

CORNERS = [[90.0, 70.0], [420.0, 95.0], [400.0, 560.0], [75.0, 545.0]]
"""Of the film in the photo that tests give, of 480 x 640."""


def find(corners: Any, confidence: float = 0.9) -> dict[str, Any]:
    """What a network says that finds these corners of a photo of 480 x 640: its canvas of 320 has it at half the size, 40 from the left."""
    return {"corners": [[x / 2 + 40, y / 2] for x, y in corners], "confidence": confidence}


def give(page: Any, view: str, file: Any) -> None:
    """Choose a file for a view."""
    page.click(f".slot[data-view={view}]")
    page.set_input_files("#file", file)


def give_film(page: Any, view: str, file: Any) -> None:
    """Choose a film that needs no corners, and wait until it is there."""
    give(page, view, file)
    page.wait_for_selector(f".slot[data-view={view}] .film:not([hidden])")
