"""The phone app in headless Chromium: when it can be used, how long its main thread is busy at once, how often it finds a film in a photo.

Films are looked for in the photos as they are, and in the same photos cropped to a third of the room around the film.

.venv/bin/python benchmarks/app.py build/web STUDIES photos/photos.csv --out benchmarks/results/app.json

``edgekit phantom photo STUDIES photos`` makes the photos; STUDIES has the same patients' DICOM films.
"""

from __future__ import annotations

import argparse
import base64
import math
import statistics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from edgekit.app.server import serve_site
from edgekit.app.site import build_site
from edgekit.errors import EdgekitError, InputError
from edgekit.evaluation.photos import match_photos, read_photos
from edgekit.files import write_json
from edgekit.latency.device import describe_device, find_disturbances, read_load
from edgekit.manifest import open_bundle
from edgekit.progress import track
from edgekit.provenance import describe_software
from edgekit.sessions.browser import find_browser
from edgekit.studies import read_studies
from edgekit.task import PEDICLE_SCREWS, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgekit.evaluation.photos import Photo
    from edgekit.types import Study

VIEWS = PEDICLE_SCREWS.views

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
INTERACTIVE_MS = 1000
"""Goal: from the address to the end of the app's own script, after which every button works."""
TASK_MS = 50
"""Goal: no task of the main thread is longer. Browsers report longer ones and no others."""
CORNERS = (0.02, 0.9)
"""Goal: all corners within this share of the film's width, on this share of the photos."""
ROOM = 1 / 3
"""Share of the room beside the film that a cropped photo keeps, on each side."""
SHARES = (0.01, 0.02, 0.05, 0.1)

WATCH = """
    globalThis.tasks = [];
    const watcher = new PerformanceObserver((list) => list.getEntries().forEach((task) => tasks.push(task.duration)));
    watcher.observe({ type: "longtask", buffered: true });
"""
READY = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
LOOKED = """() => document.getElementById("use").checkVisibility()
    && !document.getElementById("corner-help").textContent.startsWith("Looking")"""
OPEN = """async () => {
    const { Helper } = await import("/js/workers.js");
    const helpers = ["darkroom", "reader"].map((name) => new Helper(new URL(`/js/${name}.js`, location.href)));
    const { cornerSide } = await helpers[1].call("open", { threads: 1 });
    if (cornerSide === null) return false;
    const { suggestCorners } = await import("/js/corners.js");
    globalThis.suggest = async (file) => {
        const source = new Blob([Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))]);
        const photo = await helpers[0].call("open", { source });
        const corners = await suggestCorners(photo, cornerSide, ...helpers);
        await helpers[0].call("drop", { id: photo.id });
        return corners;
    };
    return true;
}"""


def main() -> None:
    """Measure, print and keep a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="exported for web")
    parser.add_argument("studies", type=Path, help="studies.csv")
    parser.add_argument("photos", type=Path, help="photos.csv")
    parser.add_argument("--visits", type=int, default=5, help="that are timed, each with an empty cache and another patient")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        record = measure(arguments)
    except EdgekitError as error:
        raise SystemExit(f"{error.message}\n{error.remedy}") from None
    write_json(arguments.out, record)
    tasks, corners = record["tasks_above_50_ms"], record["corners"]
    print(f"usable after {record['interactive_ms']['median']:.0f} ms (goal {INTERACTIVE_MS}); tasks above {TASK_MS} ms: {tasks or 'none'}")
    print(f"corners found within a share of the film's width: {corners['within_share_of_width']} (goal {CORNERS[1]} within {CORNERS[0]})")
    print(f"the same photos, cropped: {corners['cropped_within_share_of_width']}")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the record."""
    from playwright.sync_api import sync_playwright

    load = read_load()
    studies = read_studies(arguments.studies)
    album = match_photos(arguments.photos, read_photos(arguments.photos, VIEWS), VIEWS, studies, studies)
    patients = [each for each in album.items() if len(each[1]) == len(VIEWS)]
    if not patients:
        raise InputError(
            f"{arguments.photos} has no patient with photos of both views", "photograph films with: edgekit phantom photo STUDIES OUT"
        )
    site = build_site(open_bundle(arguments.bundle))
    with serve_site(site, "127.0.0.1", 0) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        address = f"http://127.0.0.1:{port}/"
        visits = [visit(browser, address, study, photos) for study, photos in patients[: arguments.visits]]
        photos = [photo for photos in album.values() for photo in photos.values()]
        whole = find_corners(browser, address, photos)
        with TemporaryDirectory() as folder:
            cropped = find_corners(browser, address, crop_photos(photos, Path(folder)))
        browser.close()
    interactive = statistics.median(ready for ready, _ in visits)
    tasks = [task for _, each in visits for task in each]
    return {
        **describe_software(),
        "device": describe_device(),
        "warnings": find_disturbances(load, {}),
        "visits": len(visits),
        "interactive_ms": {"median": interactive, "goal": INTERACTIVE_MS},
        "tasks_above_50_ms": tasks,
        "corners": {
            "photos": len(photos),
            "within_share_of_width": count_right(whole),
            "cropped_within_share_of_width": count_right(cropped),
            "goal": {"within": CORNERS[0], "photos": CORNERS[1]},
        },
    }


def visit(browser: Any, address: str, study: Study, photos: Mapping[View, Photo]) -> tuple[float, list[dict[str, Any]]]:
    """Open the app for the first time, read a patient's films and then photos of them: when it could be used, ms, and its long tasks."""
    context = browser.new_context(**PHONE)
    page = context.new_page()
    page.add_init_script(WATCH)
    tasks: list[dict[str, Any]] = []

    def pause(step: str) -> None:
        page.wait_for_timeout(300)
        tasks.extend({"while": step, "ms": ms} for ms in page.evaluate("tasks.splice(0)"))

    page.goto(address)
    page.wait_for_selector("#state.ready", timeout=60_000)
    pause("opening")
    for kind in ("film", "photo"):
        for view, photo in photos.items():
            page.click(f".slot[data-view={view}]")
            page.set_input_files("#file", str(photo.file if kind == "photo" else study.film(view)))
            if kind == "photo":
                page.wait_for_function(LOOKED, timeout=60_000)
                pause("finding corners")
                for _ in range(4):
                    page.click("#turn")
                pause("turning")
                page.focus('.handle[data-corner="0"]')
                page.keyboard.press("ArrowLeft")
                pause("moving a corner")
                page.click("#use")
            page.wait_for_selector(f".slot[data-view={view}] .film:not([hidden])")
            pause(f"taking a {kind}")
        page.click("#identify")
        page.wait_for_selector("#verdict", state="visible", timeout=60_000)
        pause("answering")
        for button in ("#toggle-heat", "#toggle-box", "#again"):
            page.click(button)
            pause(button)
    ready = page.evaluate(READY)
    context.close()
    return ready, tasks


def find_corners(browser: Any, address: str, photos: Sequence[Photo]) -> list[float]:
    """Return for each photo how far its worst suggested corner is off, in widths of the film; infinite where no film was found."""
    page = browser.new_page()
    page.goto(address)
    if not page.evaluate(OPEN):
        raise InputError("the bundle has no corner finder", "train its run with photos for [corners], and export it again")
    errors = []
    for photo in track(photos, "Finding films", len(photos)):
        found = page.evaluate("file => suggest(file)", base64.b64encode(photo.file.read_bytes()).decode())
        top_left, top_right, bottom_right, bottom_left = photo.corners.tolist()
        width = (math.dist(top_left, top_right) + math.dist(bottom_left, bottom_right)) / 2
        errors.append(max(map(math.dist, found, photo.corners.tolist())) / width if found else math.inf)
    return errors


def crop_photos(photos: Sequence[Photo], folder: Path) -> list[Photo]:
    """Cut most of what surrounds the film away, as people do before they send a photo. The files go to `folder`."""
    cropped = []
    for number, photo in enumerate(photos):
        with Image.open(photo.file) as picture:
            (x0, y0), (x1, y1) = photo.corners.min(axis=0), photo.corners.max(axis=0)
            room = x0, y0, picture.width - x1, picture.height - y1
            left, top, right, bottom = (math.floor((1 - ROOM) * max(side, 0)) for side in room)
            file = folder / f"{number}.png"
            part = picture.crop((left, top, picture.width - right, picture.height - bottom))
            part.save(file, compress_level=1)
        cropped.append(replace(photo, file=file, size=part.size, corners=photo.corners - (left, top)))
    return cropped


def count_right(errors: Sequence[float]) -> dict[str, float]:
    """Return the share of the photos whose error is within each of `SHARES`."""
    return {str(share): sum(error <= share for error in errors) / len(errors) for share in SHARES}


if __name__ == "__main__":
    main()
