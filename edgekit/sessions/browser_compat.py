"""A real browser as one without relaxed SIMD: the same page as `edgekit.sessions.browser`, on LiteRT.js's build for such browsers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.sessions import browser

if TYPE_CHECKING:
    from edgekit.types import Bundle, Session

NAME = "browser-compat"
WAY = "wasm, 1 thread, compat"
"""Its name in ``runner/litert/runtime.js``: that build has one thread."""

ABOUT = replace(browser.ABOUT, takes_threads=False)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:  # noqa: ARG001  (it has one)
    """Open the bundle in Chromium; see `edgekit.sessions.SessionModule`."""
    return browser.BrowserSession(bundle, WAY, name=NAME)
