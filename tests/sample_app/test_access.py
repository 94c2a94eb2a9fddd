"""Everybody can use it: axe, narrow screens, large targets, nothing that jumps."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_steps import PHONE, give, give_film
from test_flows import as_file, encode, make_film, make_photo

from edgekit.app.site import Page

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "sample_app" / "node_modules" / "axe-core" / "axe.min.js"

TARGETS = """() => Array.from(document.querySelectorAll("button, a, label.button, input[type=checkbox]"))
    .filter((element) => element.checkVisibility() && !element.closest(".unseen"))
    .map((element) => [element.id || element.textContent.trim(), element.closest("label") ?? element])
    .map(([name, element]) => [name, element.getBoundingClientRect()])
    .filter(([, { width, height }]) => Math.min(width, height) < 44).map(([name, { width, height }]) => `${name} ${width} x ${height}`)"""


def open_screens(page: Any) -> Any:
    """Go through all screens, yielding the name of each."""
    yield "films"
    page.click("#open-about")
    yield "about"
    page.click("#about [data-close]")
    page.click(".slot[data-view=lateral]")
    yield "source"
    page.set_input_files("#file", as_file(b"nothing"))
    page.wait_for_selector("#notice[open]")
    yield "notice"
    page.click("#notice [data-close]")
    give(page, "ap", as_file(encode(make_photo(), "JPEG"), "photo.jpg"))
    page.wait_for_selector("#use:enabled")
    yield "corners"
    page.click("#use")
    page.wait_for_selector("#identify:enabled")
    give_film(page, "lateral", as_file(encode(make_film(2))))
    yield "both films"
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")
    yield "result"
    page.click("#open-share")
    yield "share"
    page.click("#share [data-close]")


@pytest.fixture
def axe() -> str:
    if not AXE.is_file() and "CI" not in os.environ:
        pytest.skip("axe-core is not installed; npm ci --prefix sample_app")
    return AXE.read_text()


def test_axe_finds_nothing_on_any_screen(phone: Any, axe: str) -> None:
    for name in open_screens(phone):
        phone.evaluate(axe)
        found = phone.evaluate("async () => (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html)}`)")
        assert found == [], name


@pytest.mark.parametrize(("decision", "fitting"), [("ambiguous", ("design-a", "design-b")), ("unfamiliar", ()), ("films swapped", ())])
def test_axe_finds_nothing_on_the_other_answers(answering: Callable[..., Any], axe: str, decision: str, fitting: tuple[str, ...]) -> None:
    page = answering(decision, None, fitting)
    give_film(page, "ap", as_file(encode(make_film(1))))
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")
    page.evaluate(axe)
    assert page.evaluate("async () => (await axe.run()).violations.map(({ id }) => id)") == []


def test_a_narrow_phone_shows_everything(phone: Any) -> None:
    phone.set_viewport_size({"width": 320, "height": 568})
    for name in open_screens(phone):
        assert phone.evaluate("document.scrollingElement.scrollWidth") <= 320, name
        assert phone.evaluate(TARGETS) == [], name


def test_nothing_jumps(chromium: Any, address: str, watch: Callable[..., Any]) -> None:
    """Layout shifts that the user did not cause, from the start to the answer."""
    context = watch(chromium.new_context(**PHONE))
    context.add_init_script("""
        globalThis.shifts = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((entry) => (shifts += entry.hadRecentInput ? 0 : entry.value)))
            .observe({ type: "layout-shift", buffered: true });
    """)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#state.ready")
    for _ in open_screens(page):
        page.wait_for_timeout(30)
    assert page.evaluate("shifts") < 0.01


def test_the_shell_is_small(site: dict[str, Page]) -> None:
    """Everything but the runtime, the decoders and the bundle, compressed as a server would: at most 150 kB."""
    shell = {path: page.read() for path, page in site.items() if not path.startswith(("/runtime/", "/codecs/", "/bundle/")) and path != "/"}
    assert {"/index.html", "/app.css", "/js/main.js", "/js/codecs.js", "/sw.js", "/runner/edgekit.js"} <= shell.keys()
    assert sum(len(gzip.compress(content)) for content in shell.values()) <= 150_000
