"""A real browser: headless Chromium runs the bundle's own web runner, on the runtime that opens its backend's files.

Everything comes from a server on the loopback interface, with the headers that threads in WebAssembly need, and from nowhere else. The
films have an address that can't be guessed, so that nobody else on the machine can fetch them.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from edgekit.contract import output_dtype, views_of
from edgekit.errors import DamagedBundleError, MissingError
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs
from edgekit.sessions.vendored import RUNTIMES, find_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Commands that start a Chromium, in the order in which they are looked for."""

RUNNER = "runner/edgekit.js"

NAMES = {"onnx": "onnxruntime-web", "litert": "LiteRT.js"}
"""The runtimes as people call them, by backend."""

MEDIA_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".wasm": "application/wasm",
}

PAGE = b"<!doctype html><title>edgekit</title>"

OPEN = f"""async (options) => {{
    const started = performance.now();
    const {{ openPipeline }} = await import("/bundle/{RUNNER}");
    const moduleMs = performance.now() - started;
    globalThis.pipeline = await openPipeline("/bundle/", {{ ...options, runtime: "/runtime/", check: false }}); // Python judges
    const {{ timings: {{ fetchMs, createMs }}, runtime }} = pipeline;
    return {{ version: runtime.version, timings: {{ module: moduleMs, fetch: fetchMs, create: createMs }} }};
}}"""

INFER = """async ({ films, given }) => {
    const bytes = new Uint8Array(await (await fetch(films)).arrayBuffer());
    const film = (index) => given[index] ? bytes.subarray(index * pipeline.side ** 2, (index + 1) * pipeline.side ** 2) : null;
    const canvases = Object.fromEntries(pipeline.views.map((view, index) => [view, film(index)]));
    const { outputs, shapes, elapsedMs } = await pipeline.infer(canvases);
    const plain = Object.entries(outputs).map(([name, data]) => [name, { data: Array.from(data), shape: shapes[name] }]);
    return { outputs: Object.fromEntries(plain), elapsedMs };
}"""


def list_missing() -> list[str]:
    """Return what this machine lacks: a browser, or a runtime that it loads."""
    missing = []
    finders: list[Callable[[], object]] = [find_browser, *(partial(find_runtime, backend) for backend in RUNTIMES)]
    for find in finders:
        try:
            find()
        except MissingError as error:
            missing.append(error.message)
    return missing


ABOUT = About(
    extras=("app",),
    takes_threads=True,
    in_process=False,
    notes=(
        "timed inside the page, from the films to the answer",
        "no memory: Chromium spreads a page over several processes that share some of theirs",
    ),
    list_missing=list_missing,
)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle in Chromium, `threads` None in one thread; see `edgekit.sessions.SessionModule`."""
    threads = threads or 1
    return BrowserSession(bundle, f"wasm, {threads} thread{'s' if threads > 1 else ''}", threads)


class BrowserSession:
    """A bundle in a page of headless Chromium. Belongs to the thread that opens it; those of a process share one thread.

    Parameters
    ----------
    bundle
        It ships the web runner.
    way
        Name of the runner's way to run the graph. One that the browser doesn't have is an error, never another way.
    threads
        Threads of the runtime in that way.
    name
        The session's.

    Attributes
    ----------
    timings
        What opening took, in ms: ``launch`` (Chromium), ``module`` (the JavaScript), ``fetch`` (download and check of the model) and
        ``create`` (start of the runtime, load of the graph).
    elapsed_ms
        The graph's time in the last `infer`, as the page measured it: without the way between Python and the page.

    Raises
    ------
    MissingError
        Playwright, Chromium or the runtime is missing, the bundle has no web runner, or the browser can't open it.
    DamagedBundleError
        The page refuses a file of the bundle.
    """

    elapsed_ms: float

    def __init__(self, bundle: Bundle, way: str, threads: int = 1, name: str = "browser") -> None:
        self.name = name
        if RUNNER not in bundle.manifest.files:
            raise MissingError(f"{bundle.folder} has no {RUNNER}: it was not made for the browser", "export it for the target web")
        try:
            from playwright.sync_api import Error
        except ModuleNotFoundError as error:
            raise MissingError("Playwright, which drives the browser, is not installed", "pip install 'edgekit-imaging[app]'") from error
        chromium, runtime = find_browser(), find_runtime(bundle.manifest.backend)
        self._films = f"/films/{secrets.token_urlsafe()}"
        self._pages: dict[str, Path | bytes] = {"/index.html": PAGE, **{f"/runtime/{name}": path for name, path in runtime.items()}}
        self._pages |= {f"/bundle/{name}": bundle.folder / name for name in ("manifest.json", *bundle.manifest.files)}
        self._tensors = bundle.manifest.tensors["inputs"]
        with ExitStack() as stack:
            address = stack.enter_context(_serve(self._pages))
            try:
                playwright = stack.enter_context(_drive())
                started = time.perf_counter()
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], headless=True)
                launched = time.perf_counter()
                stack.callback(browser.close)
                self._page = browser.new_page()
                self._page.goto(f"{address}/index.html")
                opened = self._page.evaluate(OPEN, {"threads": threads, "ways": [way]})
            except Error as error:
                _, refused, reason = error.message.partition("BundleError: ")
                if refused:
                    remedy = "copy the bundle again, or export it again"
                    raise DamagedBundleError(f"{bundle.folder} is damaged: {reason.splitlines()[0]}", remedy) from error
                raise MissingError(f"{chromium} can't open {bundle.folder}: {error.message}") from error
            self.timings = {"launch": 1000 * (launched - started), **opened["timings"]}
            runs = f"{NAMES[bundle.manifest.backend]} {opened['version']} {way}"
            self.runtime = f"{runs}, Chromium {browser.version.split('.')[0]}"
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._resources.close()

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        check_inputs(inputs, self._tensors)
        self._pages[self._films] = b"".join(inputs[view].tobytes() for view in views_of(inputs))
        answer = self._page.evaluate(INFER, {"films": self._films, "given": (inputs["present"].astype(np.float32) > 0.5).tolist()})
        self.elapsed_ms = answer["elapsedMs"]
        return {name: np.array(tensor["data"], output_dtype(name)).reshape(tensor["shape"]) for name, tensor in answer["outputs"].items()}

    def slow_down(self, times: float) -> None:
        """Let the page's main thread compute so many times more slowly, as a cheap phone would (Chromium's CPU throttling)."""
        self._page.context.new_cdp_session(self._page).send("Emulation.setCPUThrottlingRate", {"rate": times})


def find_browser() -> str:
    """Return the path of a Chromium.

    Raises
    ------
    MissingError
        There is none on the PATH.
    """
    for name in BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    raise MissingError(f"the session browser needs Chromium; none of {', '.join(BROWSERS)} is on the PATH", "sudo apt-get install chromium")


_drivers: list[Any] = []
"""Playwright's driver, once for each session that is open: a process can start one."""


@contextmanager
def _drive() -> Iterator[Any]:
    """Start Playwright's driver, or share the one that runs; whoever is last stops it."""
    from playwright.sync_api import sync_playwright

    driver = _drivers[0] if _drivers else sync_playwright().start()
    _drivers.append(driver)
    try:
        yield driver
    finally:
        _drivers.pop()
        if not _drivers:
            driver.stop()


@contextmanager
def _serve(pages: Mapping[str, Path | bytes]) -> Iterator[str]:
    """Serve files and contents, by their path, on a free port of the loopback interface; yields the server's address."""
    with _Server(pages) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for answers under way

    def __init__(self, pages: Mapping[str, Path | bytes]) -> None:
        self.pages = pages
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]  # what follows tells copies of one module apart
        page = cast("_Server", self.server).pages.get(path)
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = page if isinstance(page, bytes) else page.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")  # the films of every patient have the same address
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")  # both: SharedArrayBuffer, which threads need
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Stay silent: the terminal belongs to the command."""
