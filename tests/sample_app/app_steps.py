"""What a user does in the app, for all its tests."""

from __future__ import annotations

from typing import Any

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def give(page: Any, view: str, file: Any) -> None:
    """Choose a file for a view."""
    page.click(f".slot[data-view={view}]")
    page.set_input_files("#file", file)


def give_film(page: Any, view: str, file: Any) -> None:
    """Choose a film that needs no corners, and wait until it is there."""
    give(page, view, file)
    page.wait_for_selector(f".slot[data-view={view}] .film:not([hidden])")
