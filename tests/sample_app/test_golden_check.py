"""The app checks the device with the bundle's golden vectors before it answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_steps import PHONE, give_film
from resealing import change_golden
from test_flows import as_file, encode, make_film

from edgekit.app.server import serve_site
from edgekit.app.site import Page, build_site
from edgekit.manifest import open_bundle

pytestmark = pytest.mark.browser


@pytest.fixture
def pages(site: dict[str, Page]) -> dict[str, Page]:
    """A site of its own, to be changed."""
    return dict(site)


@pytest.fixture
def visit(chromium: Any, watch: Callable[..., Any], pages: dict[str, Page]) -> Iterator[Callable[[], Any]]:
    """Open the app in a new page of one phone."""
    context = watch(chromium.new_context(**PHONE))
    with serve_site(pages, "127.0.0.1", 0) as port:

        def visit() -> Any:
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("#state.ready, #state.bad")
            return page

        yield visit


def alter_golden(web_bundle: Path, tmp_path: Path) -> dict[str, Page]:
    """Return the site of a bundle whose golden answers are others, sealed as someone who means it would."""
    folder = shutil.copytree(web_bundle, tmp_path / "bundle")
    change_golden(folder, 0, "members", 0, 0, by=0.5)
    return build_site(open_bundle(folder))


def test_a_device_that_answers_otherwise_gives_no_answer(
    visit: Callable[[], Any], pages: dict[str, Page], site: dict[str, Page], web_bundle: Path, tmp_path: Path
) -> None:
    pages.update(alter_golden(web_bundle, tmp_path))
    for page in (visit(), visit()):  # a failure is not remembered as anything
        assert page.inner_text("#stopped-title") == "This device answers differently"
        text = page.inner_text("#stopped-text")
        assert "1 thread" in text or "2 threads" in text
        assert "members is off by 0.50, accepted 0.0001" in text
        assert "use another device" in text
        assert page.is_hidden("#films")
        assert page.is_hidden("#identify")
    pages.update(site)
    page.click("#retry")
    page.wait_for_selector("#state.ready")
    give_film(page, "ap", as_file(encode(make_film(1))))
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")


def test_a_device_is_checked_once_for_a_bundle(visit: Callable[[], Any], pages: dict[str, Page], web_bundle: Path, tmp_path: Path) -> None:
    assert visit().inner_text("#state") == "Ready"
    kept = {path: page for path, page in pages.items() if path.startswith("/bundle/golden/")}
    for path in kept:
        del pages[path]
    page = visit()
    assert page.inner_text("#state") == "Ready"
    page.click("#open-about")
    assert "Runs as\nwasm, " in page.inner_text("#about-facts")
    assert "Not used" not in page.inner_text("#about-facts")
    pages.update(alter_golden(web_bundle, tmp_path))
    assert visit().inner_text("#stopped-title") == "This device answers differently"


SPOILT_RUNTIME = """
    // The runtime, whose first number is another in the ways of which CONDITION holds, and from the word "spoil" on.
    import * as genuine from "./genuine.js";
    let isSpoilt = false;
    new BroadcastChannel("spoil").onmessage = () => (isSpoilt = true);
    export const { NAME, VERSION, FILES, listWays } = genuine;
    export async function start(folder, { threads, ...way }) {
        const { load } = await genuine.start(folder, { threads, ...way });
        return {
            async load(content) {
                const graph = await load(content);
                const run = async (...given) => {
                    const found = await graph.run(...given);
                    if (found.probabilities && (isSpoilt || CONDITION)) found.probabilities.data[0] += 0.2;
                    return found;
                };
                return { run, close: () => graph.close() };
            },
        };
    }
"""


def spoil(pages: dict[str, Page], condition: str) -> None:
    path = "/runner/onnx/runtime.js"
    genuine = pages[path]
    pages["/runner/onnx/genuine.js"] = genuine
    pages[path] = Page(SPOILT_RUNTIME.replace("CONDITION", condition).encode(), genuine.media_type, "spoilt")


def test_threads_that_answer_otherwise_give_way_to_one(visit: Callable[[], Any], pages: dict[str, Page]) -> None:
    spoil(pages, "threads > 1")
    for _ in range(2):  # the second time it is remembered
        page = visit()
        threads = min(4, page.evaluate("navigator.hardwareConcurrency"))
        if threads == 1:
            pytest.skip("this machine has one core, so the app runs with one thread: it takes two")
        page.click("#open-about")
        facts = page.inner_text("#about-facts")
        assert "Runs as\nwasm, 1 thread, onnxruntime-web " in facts
        assert f"Not used\nwasm, {threads} threads: probabilities is off by 0.20, accepted 0.0001" in facts


def test_a_check_that_was_asked_for_and_fails_stops_the_app(visit: Callable[[], Any], pages: dict[str, Page]) -> None:
    spoil(pages, "false")
    page = visit()
    page.click("#open-about")
    page.click("#self-test")
    page.get_by_text("This device answers as the one").wait_for()
    page.evaluate("new BroadcastChannel('spoil').postMessage('spoil')")
    page.click("#self-test")
    page.get_by_text("This device answers differently").wait_for()
    assert "probabilities is off by 0.20" in page.inner_text("#stopped-text")
    assert page.is_hidden("#films")
    assert page.is_hidden("#about")
