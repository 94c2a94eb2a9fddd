"""A page without edgekit: ultralytics' own LiteRT export and the members converted one by one, in LiteRT.js, glue in JavaScript."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgekit.errors import MissingError
from edgekit.task import PEDICLE_SCREWS
from peers.eager import load_member
from peers.setup import ENSEMBLE, Setup, export_detector

if TYPE_CHECKING:
    from types import TracebackType

    from edgekit.app.site import Page
    from edgekit.types import Tensors

VIEWS = PEDICLE_SCREWS.views

GLUE = Path(__file__).with_suffix(".js")

OPEN = """async (options) => {
    const started = performance.now();
    globalThis.glue = await import("/glue.js");
    const module = performance.now() - started;
    return { module, ...await glue.open(options) };
}"""

INFER = """async ({ address, given }) => {
    const bytes = new Uint8Array(await (await fetch(address)).arrayBuffer());
    const size = bytes.length / given.length;
    const films = given.map((present, index) => present ? glue.draw(bytes.subarray(index * size, (index + 1) * size)) : null);
    const started = performance.now();
    const answer = await glue.answer(films);
    return { ...answer, elapsedMs: performance.now() - started };
}"""


def prepare(setup: Setup) -> None:
    """Convert the three networks.

    Raises
    ------
    MissingError
        One is to be converted, and litert_torch is not installed.
    """
    export_detector_file(setup)
    for view in VIEWS:
        convert_member(setup, view)


def open_peer(setup: Setup, threads: int | None) -> PeerPage:
    """Open the three files in headless Chromium."""
    networks = {"detector": export_detector_file(setup), **{view: convert_member(setup, view) for view in VIEWS}}
    return PeerPage(setup.run, networks, threads or 1)


def export_detector_file(setup: Setup) -> Path:
    """Return the detector's file: a film float32 (1, 1, side, side) in [0, 1] to (1, 4 + V, N), boxes as shares of the side."""
    name = "detector.tflite"
    if not (setup.folder / f"detector-{setup.detector_side}" / name).exists():
        _import_litert_torch()
    return export_detector(setup, name, format="litert")


def convert_member(setup: Setup, view: str) -> Path:
    """Return a member's file: a film float32 (1, 1, side, side) in [0, 1] to logits (1, K)."""
    path = setup.folder / f"member_{view}.tflite"
    if not path.exists():
        import torch

        from edgekit.models.runfolder import load_settings

        side = load_settings(setup.run).crop_side
        _import_litert_torch().convert(load_member(setup, view), (torch.zeros(1, 1, side, side),)).export(path)
    return path


def _import_litert_torch() -> Any:
    try:
        import litert_torch
    except ModuleNotFoundError as error:
        raise MissingError("litert_torch, which converts the peer's networks, is not installed", "pip install litert-torch") from error
    return litert_torch


class PeerPage:
    """Three networks in a page of headless Chromium. Belongs to the thread that opens it; one at a time in a process.

    Parameters
    ----------
    run
        Where the ensemble and the detector's threshold come from.
    networks
        The .tflite files: ``detector``, and the member of each view.
    threads
        Of LiteRT.js; its threaded build from 2 on.

    Attributes
    ----------
    runtime
        What it runs on, with versions.
    timings
        What opening took, in ms: as a browser session's.
    elapsed_ms
        The page's own time of the last `infer`, from films that lie on canvases to the answer.

    Raises
    ------
    MissingError
        Playwright, Chromium or LiteRT.js is missing, or the browser can't open the networks.
    """

    elapsed_ms: float

    def __init__(self, run: Path, networks: dict[str, Path], threads: int) -> None:
        from edgekit.app.server import serve_site
        from edgekit.models.runfolder import load_detector_settings, load_settings
        from edgekit.sessions.browser import find_browser
        from edgekit.sessions.vendored import find_app, find_runtime

        try:
            from playwright.sync_api import Error, sync_playwright
        except ModuleNotFoundError as error:
            raise MissingError("Playwright, which drives the browser, is not installed", "pip install 'edgekit-imaging[app]'") from error
        chromium, runtime = find_browser(), find_runtime("litert")
        self._brands = len(load_settings(run).brands)
        self._pages = {"/": _make_page("/index.html", b"<!doctype html><title>peer</title>"), "/glue.js": _make_page("/glue.js", GLUE)}
        self._pages |= {f"/runtime/{name}": _make_page(name, path) for name, path in runtime.items()}
        self._pages |= {f"/networks/{name}.tflite": _make_page(name, path) for name, path in networks.items()}
        options = {"views": VIEWS, "threads": threads, "threshold": load_detector_settings(run).box_threshold, "cases": _list_cases(run)}
        with ExitStack() as stack:
            port = stack.enter_context(serve_site(self._pages, "127.0.0.1", 0))
            try:
                playwright = stack.enter_context(sync_playwright())
                started = time.perf_counter()
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], headless=True)
                launched = time.perf_counter()
                stack.callback(browser.close)
                self._page = browser.new_page()
                self._page.goto(f"http://127.0.0.1:{port}/")
                opened = self._page.evaluate(OPEN, options)
            except Error as error:
                raise MissingError(f"{chromium} can't open the peer's networks: {error.message}") from error
            self.timings = {"launch": 1000 * (launched - started), **opened}
            packages = json.loads((find_app() / "package-lock.json").read_text())["packages"]
            version, many = packages["node_modules/@litertjs/core"]["version"], "s" if threads > 1 else ""
            self.runtime = f"LiteRT.js {version} wasm, {threads} thread{many}, Chromium {browser.version.split('.')[0]}"
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._resources.close()

    def infer(self, inputs: Tensors) -> Tensors:
        """Return ``probabilities`` float32 (K,) and ``boxes`` float32 (V, 4) in film pixels; zeros where nothing was found."""
        address = f"/films/{secrets.token_urlsafe()}"  # can't be guessed, and no browser keeps it for the next patient's
        self._pages[address] = _make_page(address, b"".join(inputs[view].tobytes() for view in VIEWS))
        try:
            answer = self._page.evaluate(INFER, {"address": address, "given": (inputs["present"] > 0.5).tolist()})
        finally:
            del self._pages[address]
        self.elapsed_ms = answer["elapsedMs"]
        probabilities, boxes = answer["probabilities"] or [0] * self._brands, [box or [0] * 4 for box in answer["boxes"]]
        return {"probabilities": np.array(probabilities, np.float32), "boxes": np.array(boxes, np.float32)}

    def slow_down(self, times: float) -> None:
        """Let the page's main thread compute so many times more slowly, as a browser session does."""
        self._page.context.new_cdp_session(self._page).send("Emulation.setCPUThrottlingRate", {"rate": times})


def _make_page(path: str, content: Path | bytes) -> Page:
    """Make what an address serves. No address ever has other content, so it stands for the content's hash."""
    from edgekit.app.site import MEDIA_TYPES, Page

    return Page(content, MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"), path)


def _list_cases(run: Path) -> list[dict[str, Any]]:
    """Return the ensemble's coefficients for the page, by the views that were found."""
    from edgekit.models.runfolder import load_ensembles

    return [
        {
            "views": [VIEWS[place] for place in PEDICLE_SCREWS.cases[name]],
            "members": case.members,
            "coefficients": case.coefficients.tolist(),
            "intercepts": case.intercepts.tolist(),
        }
        for name, case in load_ensembles(run)[ENSEMBLE].fitted.items()
    ]
