"""Another task: as many slots as the bundle has views, and its own words everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_steps import PHONE, give_film
from test_access import AXE, TARGETS
from test_flows import as_file, encode, make_film, read_ranking

from edgekit.app.server import serve_site
from edgekit.app.site import build_site
from edgekit.canvases import graph_inputs
from edgekit.manifest import open_bundle
from edgekit.radiograph import make_canvas
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.task import PEDICLE_SCREWS, parse_task

pytestmark = pytest.mark.browser

KNEES = parse_task(
    {
        "name": "knees",
        "question": "Which tray is this?",
        "found": "knee prosthesis",
        "told": "family",
        "views": ["ap", "lateral", "skyline_left"],
        "intended_use": "For tests alone. Not for patients.",
        "members": {"every": {"views": ["ap", "lateral", "skyline_left"], "layout": "each"}},
    },
    "knees",
)
FRONT = parse_task({"name": "hips", "views": ["front"], "found": "hip stem", "told": "stem", "locate": False}, "front")


@pytest.fixture
def front_phone(chromium: Any, web_front_bundle: Path, web_runtime: object, watch: Callable[..., Any]) -> Iterator[Any]:  # noqa: ARG001
    """The app on a phone with a bundle's own model of one view, without a detector."""
    with serve_site(build_site(open_bundle(web_front_bundle)), "127.0.0.1", 0) as port:
        page = watch(chromium.new_context(**PHONE)).new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#state.ready")
        yield page


def ask(page: Any, *views: str) -> None:
    for seed, view in enumerate(views):
        give_film(page, view, as_file(encode(make_film(seed))))
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")


def read_slots(page: Any) -> list[str]:
    return page.locator(".slot:visible .caption").all_inner_texts()


def test_a_bundle_of_one_view_answers_in_its_one_slot(front_phone: Any, web_front_bundle: Path) -> None:
    phone, bundle, film = front_phone, open_bundle(web_front_bundle), make_film(5)
    assert phone.title() == "edgekit: Which hip stem is this?"
    assert phone.inner_text("#films-title") == "Which hip stem is this?"
    assert phone.inner_text("#films-lead") == "Give the film. It stays on this device."
    assert phone.inner_text("#films-use") == "Research software for hips."
    assert read_slots(phone) == ["Film:\nFront\nTouch to add"]
    phone.click(".slot")
    assert phone.inner_text("#source-title") == "Front film"
    phone.set_input_files("#file", as_file(encode(film)))
    phone.wait_for_selector("#identify:enabled")
    phone.click("#identify")
    phone.wait_for_selector("#result:not([hidden])")

    inputs = graph_inputs({"front": make_canvas(film, bundle.canvas_side)[0]}, bundle.views, bundle.canvas_side)
    with OnnxRuntimeSession(bundle.model, bundle.manifest.tensors["inputs"], 1) as session:
        expected = session.infer(inputs)
    assert int(expected["decision"][0]) in (0, 1)  # with another random network the test says nothing
    order = np.argsort(-expected["probabilities"])
    assert [brand for brand, _ in read_ranking(phone)] == [bundle.brands[place] for place in order]
    assert phone.inner_text("#ranking-title") == "Stems"
    assert "the right stem in 95 % of cases" in phone.inner_text("#set-note")
    assert phone.inner_text("#looked") == "Front"  # the whole film: nothing was looked for on it
    assert phone.is_hidden("#toggle-box")
    assert phone.is_visible("#toggle-heat") == bool((expected["heatmaps"] > 0).any())
    assert phone.inner_text("#intended-use") == "Research software for hips. Not for choosing implants."
    shown = phone.inner_text("body")
    assert not [word for word in ("brand", "construct", "AP", "ateral", "swap", "Swap", "other film") if word in shown]


def test_one_view_has_nothing_to_swap(answering: Callable[..., Any]) -> None:
    page = answering("ambiguous", None, ("design-a", "design-b"), task=FRONT)
    ask(page, "front")
    assert page.inner_text("#verdict") == "One of 2 stems"
    text = "This film fits more than one stem. Treat each as possible. A sharper or straighter photo may help."
    assert page.inner_text("#verdict-text") == text
    assert page.get_attribute("#verdict-set", "aria-label") == "Stems that fit"
    assert page.is_hidden("#swap")


def test_three_views_have_three_slots(answering: Callable[..., Any]) -> None:
    page = answering("no construct found", task=KNEES, changed={"found": [0, 0, 0]})
    assert page.inner_text("#films-lead") == "Give one film, or better all three. They stay on this device."
    captions = ["AP\nfrom the front", "Lateral\nfrom the side", "Skyline left\nTouch to add"]
    assert read_slots(page) == [f"Film:\n{caption}" for caption in captions]
    ask(page, *KNEES.views)
    assert page.inner_text("#verdict") == "No knee prosthesis found"
    assert page.inner_text("#verdict-text").startswith("The model sees no knee prosthesis on any of these films.")
    captions = [f"{view} · no knee prosthesis, not used" for view in ("AP", "Lateral", "Skyline left")]
    assert page.locator("#looked figcaption").all_inner_texts() == captions


def test_three_views_are_not_swapped_by_a_button(answering: Callable[..., Any]) -> None:
    page = answering("films swapped", task=KNEES)
    ask(page, "ap", "skyline_left")
    assert page.inner_text("#verdict") == "Films look exchanged"
    assert page.is_hidden("#swap")
    assert page.locator("#looked figcaption").all_inner_texts() == ["AP · knee prosthesis 90 %", "Skyline left · knee prosthesis 70 %"]


def test_the_words_of_the_task_name_what_is_told(answering: Callable[..., Any]) -> None:
    page = answering("identified", "design-a", ("design-a",), task=KNEES)
    ask(page, "lateral")
    assert page.inner_text("#verdict-text") == "The only family that fits this film. Probability 55 %."
    assert page.inner_text("#ranking-title") == "Families"
    assert page.inner_text("#intended-use") == KNEES.intended_use
    page.click("#again")
    page.wait_for_selector("#films:not([hidden])")
    assert page.locator(".slot .film:not([hidden])").count() == 0


def test_a_film_on_which_nothing_is_found_has_no_box_beside_one_that_has(answering: Callable[..., Any]) -> None:
    """`found` says so, and not a score, however high."""
    page = answering("identified", "design-a", ("design-a",), changed={"found": [0, 1], "box_scores": [0.99, 0.02]})
    ask(page, "ap", "lateral")
    assert page.locator("#looked figcaption").all_inner_texts() == ["AP · no construct, not used", "Lateral · construct 2 %"]
    page.click("#toggle-heat")
    page.wait_for_timeout(100)
    code = """() => Array.from(document.querySelectorAll("#looked canvas"), (canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value, place) => place % 4 === 0 && value !== data[place + 1]); // a box is blue, a film is gray
    })"""
    assert page.evaluate(code) == [False, True]


@pytest.mark.parametrize(
    ("cases", "lead"),
    [
        (("both",), "Give both films. They stay on this device."),
        (("ap", "both"), "Give films of AP, or of AP and lateral. They stay on this device."),
        (None, "Give one film, or better both. They stay on this device."),
    ],
)
def test_a_bundle_says_which_films_it_needs(answering: Callable[..., Any], cases: tuple[str, ...] | None, lead: str) -> None:
    page = answering("no construct found", cases=cases, changed={"found": [0, 1]})
    assert page.inner_text("#films-lead") == lead
    ask(page, "lateral")
    if cases is None:
        assert page.inner_text("#verdict") == "No construct found"
    else:
        assert page.inner_text("#verdict") == "Another film is needed"
        assert page.inner_text("#verdict-text") == "From lateral alone the model can't answer. It also needs AP."


@pytest.mark.parametrize("task", [FRONT, KNEES, PEDICLE_SCREWS], ids=lambda task: task.name)
def test_every_number_of_slots_fits_a_narrow_phone(answering: Callable[..., Any], task: Any) -> None:
    page = answering("identified", "design-a", ("design-a",), task=task)
    page.set_viewport_size({"width": 320, "height": 568})
    page.wait_for_timeout(100)
    boxes = [slot.bounding_box() for slot in page.locator(".slot").all()]
    assert len(boxes) == len(task.views)
    assert len({box["y"] for box in boxes}) == 1  # side by side
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 320 for box in boxes)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
    assert page.evaluate(TARGETS) == []
    overflowing = "Array.from(document.querySelectorAll('.slot .caption')).filter((e) => e.scrollWidth > e.clientWidth).length"
    assert page.evaluate(overflowing) == 0
    if AXE.is_file():
        page.evaluate(AXE.read_text())
        assert page.evaluate("async () => (await axe.run()).violations.map(({ id }) => id)") == []
