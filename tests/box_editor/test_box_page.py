"""The box editor's page in a real Chromium. What is saved is held against the film's pixels that lay under the mouse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pedicle_screws import VIEWS
from sample_films import GIVEN, SIZES

from edgekit.box_editor.server import serve_editor
from edgekit.box_editor.table import BoxTable
from edgekit.studies import read_studies, write_studies
from edgekit.types import Box, Study

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "sample_app" / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """Open the editor's page; at the end nothing may have been asked of elsewhere, forbidden by the policy, or gone wrong."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(15_000)
    context.add_init_script(VIOLATIONS)
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))

    def open_page(address: str) -> Any:
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(".film:focus .stage[data-ready]")
        return page

    yield open_page
    violations = [violation for page in context.pages for violation in page.evaluate("globalThis.violations ?? []")]
    context.close()
    assert (violations, errors) == ([], [])
    assert {urlsplit(url).hostname for url in requests if not url.startswith("blob:")} == {"127.0.0.1"}


@pytest.fixture
def page(open_page: Any, table: Path) -> Iterator[Any]:
    with serve_editor(BoxTable(table)) as address:
        yield open_page(address)


class OnScreen:
    """Where the pixels of a film lie on the screen, worked out from the frame of its stage: fitted, and in the middle."""

    def __init__(self, page: Any, view: str) -> None:
        self.page = page
        name = {"ap": "AP", "lateral": "lateral"}[view]
        frame = page.locator(f".film[aria-label^='{name} film'] .stage").bounding_box()
        width, height = SIZES[view]
        self.scale = min(frame["width"] / width, frame["height"] / height)  # CSS pixels in a film pixel
        self.left = frame["x"] + (frame["width"] - width * self.scale) / 2
        self.top = frame["y"] + (frame["height"] - height * self.scale) / 2

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse between two points of the film."""
        mouse = self.page.mouse
        mouse.move(self.left + start[0] * self.scale, self.top + start[1] * self.scale)
        mouse.down()
        for part in (0.5, 1):
            x, y = (a + (b - a) * part for a, b in zip(start, end, strict=True))
            mouse.move(self.left + x * self.scale, self.top + y * self.scale)
        mouse.up()

    @property
    def step(self) -> int:
        """Film pixels that an arrow key moves: two CSS pixels."""
        return max(1, round(2 / self.scale))


def wait_until_saved(page: Any) -> None:
    page.get_by_text("Saved", exact=True).wait_for()


def read_boxes(table: Path) -> dict[tuple[str, str], Box | None]:
    rows = read_studies(table.with_name("studies-boxes.csv"))
    return {(row.patient_id, view): row.box(view) for row in rows for view in VIEWS}


def name_focus(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


def test_what_is_drawn_and_moved_is_in_the_table_and_there_again(open_page, table):
    with serve_editor(BoxTable(table)) as address:
        page = open_page(address)
        assert name_focus(page) == "AP film of patient p0: to do"
        assert page.text_content("#done") == "1 of 5 films done"
        film = OnScreen(page, "ap")
        film.drag((120, 200), (480, 700))
        wait_until_saved(page)
        drawn = read_boxes(table)["p0", "ap"]
        assert drawn == pytest.approx((120, 200, 480, 700), abs=1), "whole pixels where the mouse was"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Shift+ArrowDown")
        wait_until_saved(page)
        x0, y0, x1, y1 = drawn
        step = film.step
        moved = (x0 + 2 * step, y0 - step, x1 + 2 * step, y1)
        assert read_boxes(table)["p0", "ap"] == moved
        page.keyboard.press("Enter")
        assert name_focus(page) == "lateral film of patient p0: to do"
        assert page.text_content("#done") == "2 of 5 films done"
        page.keyboard.press("Delete")
        wait_until_saved(page)
        page.reload()
        page.wait_for_selector(".film:focus .stage[data-ready]")
        assert name_focus(page) == "AP film of patient p1: to do", "the first film that is not done"
        assert page.text_content("#done") == "3 of 5 films done"
        for _ in range(2):
            page.keyboard.press("p")
        assert name_focus(page) == f"AP film of patient p0: done, {x1 - x0:.0f} × {y1 - y0 + step:.0f} pixels"
    again = BoxTable(table)
    assert [(film.box, film.checked) for film in again.films[:3]] == [(moved, True), (None, True), (None, False)]
    assert read_boxes(table)["p1", "lateral"] == GIVEN


def test_a_film_of_another_tasks_view_is_named_by_it(open_page, table):
    row = next(row for row in read_studies(table) if row.film("ap"))
    write_studies(table, [Study("p9", "design-a", films={"weight_bearing": row.film("ap")}, boxes={"weight_bearing": None})])
    with serve_editor(BoxTable(table)) as address:
        assert name_focus(open_page(address)) == "weight bearing film of patient p9: to do"


def test_edges_corners_and_the_inside_are_dragged(page, table):
    film = OnScreen(page, "ap")
    film.drag((150, 200), (450, 600))
    film.drag((450, 400), (520, 480))
    wait_until_saved(page)
    assert read_boxes(table)["p0", "ap"] == pytest.approx((150, 200, 520, 600), abs=1), "the right edge moves to the right alone"
    film.drag((150, 200), (100, 120))
    wait_until_saved(page)
    assert read_boxes(table)["p0", "ap"] == pytest.approx((100, 120, 520, 600), abs=1)
    film.drag((300, 300), (340, 380))
    wait_until_saved(page)
    assert read_boxes(table)["p0", "ap"] == pytest.approx((140, 200, 560, 680), abs=2)
    film.drag((300, 300), (900, 300))
    wait_until_saved(page)
    x0, _, x1, _ = read_boxes(table)["p0", "ap"]
    assert (x1, x1 - x0) == (600, pytest.approx(420, abs=2)), "it stays on the film"
    film.drag((40, 50), (100, 150))
    wait_until_saved(page)
    assert read_boxes(table)["p0", "ap"] == pytest.approx((40, 50, 100, 150), abs=1), "outside it a new one is drawn"


def test_a_click_or_an_ended_drag_changes_nothing(page, table):
    film = OnScreen(page, "lateral")
    film.drag((300, 300), (302, 301))
    assert name_focus(page) == "lateral film of patient p0: to do", "the film that was clicked is the one in work"
    page.mouse.move(film.left + 100, film.top + 100)
    page.mouse.down()
    page.mouse.move(film.left + 200, film.top + 200)
    page.keyboard.press("Escape")
    page.mouse.up()
    assert name_focus(page) == "lateral film of patient p0: to do"
    assert not table.with_name("studies-boxes.csv").exists()


def test_a_proposal_is_dashed_until_it_is_accepted(open_page, table):
    boxes = BoxTable(table)
    boxes.films[0].box, boxes.films[1].box = (100.0, 200.0, 400.0, 500.0), (50.0, 60.0, 300.0, 400.0)
    with serve_editor(boxes) as address:
        page = open_page(address)
        dashes = "getComputedStyle(document.querySelector('.film.active .box')).strokeDasharray"
        assert page.evaluate(dashes) != "none"
        assert name_focus(page) == "AP film of patient p0: proposed, 300 × 300 pixels: Enter accepts"
        page.keyboard.press("n")
        page.keyboard.press("p")
        assert not table.with_name("studies-boxes.csv").exists(), "seen is not accepted"
        page.keyboard.press("Enter")
        wait_until_saved(page)
        assert read_boxes(table)["p0", "ap"] == (100, 200, 400, 500)
        page.keyboard.press("ArrowDown")
        wait_until_saved(page)
        step = OnScreen(page, "lateral").step
        assert read_boxes(table)["p0", "lateral"] == (50, 60 + step, 300, 400 + step)
        assert page.evaluate(dashes) == "none"
        assert page.text_content("#done") == "3 of 5 films done"


def test_everything_can_be_done_without_a_mouse(page, table):
    page.keyboard.press("ArrowLeft")
    assert name_focus(page) == "AP film of patient p0: proposed, 300 × 450 pixels: Enter accepts"
    page.keyboard.press("Enter")
    wait_until_saved(page)
    assert read_boxes(table)["p0", "ap"] == (150, 225, 450, 675)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "previous"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is visible"
    page.keyboard.press("Enter")
    assert name_focus(page).startswith("AP film of patient p0: done")


def test_what_could_not_be_saved_is_said_and_not_counted(page, table):
    page.route("**/films/0", lambda route: route.abort())
    OnScreen(page, "ap").drag((120, 200), (480, 700))
    page.wait_for_selector("#alarm:not([hidden])")
    assert "edgekit does not answer" in page.text_content("#alarm")
    assert name_focus(page) == "AP film of patient p0: not saved: the next change tries again"
    assert page.text_content("#done") == "1 of 5 films done"
    assert not table.with_name("studies-boxes.csv").exists()
    OnScreen(page, "lateral").drag((120, 200), (480, 500))
    page.get_by_text("2 of 5 films done").wait_for()
    assert read_boxes(table)["p0", "lateral"] is not None, "one film keeps no other from being saved"
    assert read_boxes(table)["p0", "ap"] is None
    page.unroute("**/films/0")
    page.keyboard.press("ArrowRight")
    wait_until_saved(page)
    assert page.is_hidden("#alarm")
    assert page.text_content("#done") == "3 of 5 films done"
    assert read_boxes(table)["p0", "ap"] is not None


def test_a_film_that_cannot_be_read_stops_nobody(open_page, table):
    (table.parent / "films" / "p0-lateral.png").write_bytes(b"")
    with serve_editor(BoxTable(table)) as address:
        page = open_page(address)
        page.keyboard.press("n")
        page.get_by_text("This film can't be read.").wait_for()
        assert "the file is empty" in page.text_content(".film:focus")
        page.keyboard.press("Enter")
        assert name_focus(page) == "AP film of patient p1: to do"


def test_names_are_text_and_everything_fits(open_page, table):
    write_studies(table, [row for row in read_studies(table) if row.patient_id == "p4"])
    table.write_text(table.read_text().replace("p4,", "<b>bold</b>,"))
    with serve_editor(BoxTable(table)) as address:
        page = open_page(address)
        assert page.text_content("#title") == "Patient <b>bold</b> (1 of 1)"
        scrolls = "[document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]"
        assert page.evaluate(scrolls) == [1280, 800]
        page.keyboard.press("Delete")
        wait_until_saved(page)
        page.keyboard.press("Enter")
        assert page.text_content("#title").startswith("All films are done.")


def test_axe_finds_nothing(page):
    if not AXE.is_file() and "CI" not in os.environ:
        pytest.skip("axe-core is not installed; npm ci --prefix sample_app")
    OnScreen(page, "ap").drag((120, 200), (480, 700))
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html)}`)")
    assert found == []
