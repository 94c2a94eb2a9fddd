"""The app in a real Chromium, with the tiny bundle. Each page is watched: no request to elsewhere, no violation of its policy, no error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from app_steps import CORNERS, PHONE, find

from edgekit.app.server import HEADERS, serve_site
from edgekit.app.site import Page, build_site
from edgekit.manifest import open_bundle
from edgekit.task import PEDICLE_SCREWS, Task

sys.path.append(str(Path(__file__).parents[1] / "radiograph"))  # its dicom_maker

VIOLATIONS = """
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


WITHOUT_SERVICE_WORKER = "delete Navigator.prototype.serviceWorker;"
"""Keeping the app offline copies 25 MB; only the tests about it let it."""


@pytest.fixture(scope="session")
def read_films(node_path: str, codecs_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, Any]]]:
    """Read files with the app's modules in Node: of each what `read_films.mjs` says, with its `pixels` and, if asked, `stored` values."""

    def read_films(paths: Iterable[Path], *, stored: bool = False) -> list[dict[str, Any]]:
        out = tmp_path_factory.mktemp("node")
        command = [node_path, Path(__file__).parent / "read_films.mjs", codecs_path, out, *(["stored"] if stored else [])]
        done = subprocess.run(command, input="\n".join(map(str, paths)), capture_output=True, text=True, check=True, timeout=300)
        answers = [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]
        for answer in answers:
            shape = answer.get("height"), answer.get("width")
            for name, kind, file in (("pixels", "u1", str(answer["number"])), ("stored", "<i4", f"{answer['number']}.stored")):
                if (out / file).is_file():
                    answer[name] = np.fromfile(out / file, kind).reshape(shape)
        return answers

    return read_films


@pytest.fixture(scope="session")
def site(web_runtime: Any, web_bundle: Path) -> dict[str, Page]:  # noqa: ARG001  (skips)
    return build_site(open_bundle(web_bundle))


@pytest.fixture(scope="session")
def address(site: dict[str, Page]) -> Iterator[str]:
    with serve_site(site, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def page(chromium: Any, address: str) -> Any:
    """The app's page, for its modules to be called in."""
    page = chromium.new_page()
    page.goto(address)
    return page


@pytest.fixture
def watch() -> Iterator[Callable[..., Any]]:
    """Watch a context; at the end nothing may have been asked of another origin, forbidden by the policy, or gone wrong."""
    contexts, requests, errors = [], [], []

    def watch(context: Any, *, offline: bool = False) -> Any:
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.add_init_script(VIOLATIONS if offline else VIOLATIONS + WITHOUT_SERVICE_WORKER)
        context.on("request", lambda request: requests.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        return context

    yield watch
    violations = [v for context in contexts for page in context.pages for v in page.evaluate("globalThis.violations ?? []")]
    for context in contexts:
        context.close()
    assert violations == []
    assert errors == []
    assert {urlsplit(url).hostname for url in requests if not url.startswith("blob:")} <= {"127.0.0.1"}


WORKER_HEADERS = {"Content-Type": "text/javascript", **HEADERS}

FAKE_READER = """
    import { answerCalls } from "./workers.js";
    const task = TASK;
    const count = task.views.length;
    const OUTPUTS = { probabilities: [0.55, 0.4, 0.05], boxes: Array.from({ length: 4 * count }, (_, n) => [30, 30, 90, 100][n % 4]),
                      box_scores: [0.9, 0.8, 0.7].slice(0, count), found: Array(count).fill(1),
                      heatmaps: Array.from({ length: 64 * count }, (_, n) => (n % 64) / 63) };
    const model = { name: "a bundle for web", precision: "fp32", version: "0123456789ab", brands: ["design-a", "design-b", "design-c"],
                    task, cases: CASES, thresholds: { coverage: 0.95 }, margin: 0.05, intendedUse: task.intended_use, verified: true,
                    side: 128, cornerSide: SIDE, way: "wasm, 1 thread", rejected: [],
                    runtime: { name: "litert", version: "2.5.3", files: [] } };
    const wait = (ms) => new Promise((done) => setTimeout(done, ms));
    let whole = null; // the photo as it was first seen
    answerCalls({
        open: (_, tell) => {
            tell({ task, cases: model.cases });
            return model;
        },
        findFilm: async ({ canvas }) => {
            if (canvas.length !== model.cornerSide ** 2) throw new TypeError("not that canvas");
            whole ??= canvas;
            if (canvas.some((value, place) => value !== whole[place])) return { found: null }; // a closer look leaves the first
            await wait(SEARCH);
            if (FILM === "failure") throw new Error("out of memory");
            return { found: FILM };
        },
        infer: async () => {
            await wait(DELAY);
            const outputs = Object.fromEntries(Object.entries({ ...OUTPUTS, ...CHANGED }).map(([k, v]) => [k, Float32Array.from(v)]));
            return { ...ANSWER, outputs, shapes: { heatmaps: [count, 8, 8] }, elapsedMs: 12 };
        },
    });
"""

FILM = find(CORNERS)


@pytest.fixture
def answering(chromium: Any, address: str, watch: Callable[..., Any]) -> Callable[..., Any]:
    """Open the app with a model that gives a chosen answer and finds a chosen film, each after a delay in ms.

    It is asked what `task` asks, and can answer `cases` of it; None: all.
    """

    def answering(decision: str, brand: str | None = None, fitting: tuple[str, ...] = (), changed: dict[str, Any] | None = None,
                  delay: int = 0, film: Any = FILM, corner_side: int | None = 320, search: int = 0,
                  task: Task = PEDICLE_SCREWS, cases: tuple[str, ...] | None = None) -> Any:  # fmt: skip
        answer = {"decision": decision, "brand": brand, "predictionSet": fitting}
        values = {"ANSWER": answer, "CHANGED": changed or {}, "DELAY": delay, "FILM": film, "SIDE": corner_side, "SEARCH": search}
        values |= {"TASK": task.to_json(), "CASES": list(cases or task.cases)}
        code = FAKE_READER
        for name, value in values.items():
            code = re.sub(rf"\b{name}\b", json.dumps(value), code)
        context = watch(chromium.new_context(**PHONE))
        page = context.new_page()
        page.route("**/js/reader.js", lambda route: route.fulfill(body=code, headers=WORKER_HEADERS))
        page.goto(address)
        page.wait_for_selector("#state.ready")
        return page

    return answering


@pytest.fixture
def phone(answering: Callable[..., Any]) -> Any:
    """The app on a phone, with a model that answers at once."""
    return answering("identified", "design-a", ("design-a",))


@pytest.fixture
def real_phone(chromium: Any, address: str, watch: Callable[..., Any]) -> Any:
    """The app on a phone with the tiny bundle's own model, opened."""
    page = watch(chromium.new_context(**PHONE)).new_page()
    page.goto(address)
    page.wait_for_selector("#state.ready")
    return page
