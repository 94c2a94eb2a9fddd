from __future__ import annotations

import functools
import http.client
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pedicle_screws import VIEWS
from resealing import reseal

from edgekit.canvases import graph_inputs
from edgekit.contract import OUTPUTS
from edgekit.errors import DamagedBundleError, InputError, MissingError
from edgekit.golden import read_golden
from edgekit.manifest import open_bundle
from edgekit.sessions import browser_compat
from edgekit.sessions.browser import RUNNER, BrowserSession, find_browser, open_session
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.sessions.vendored import RUNTIMES, find_codecs, find_runtime

TOLERANCE = {"boxes": 0.5, "heatmaps": 1e-2, "members": 2e-3}
"""Random members are steeper than trained ones: what is left of rounding shows in them first. All others: 1e-4."""


@pytest.fixture
def browser(chromium_path: str, web_runtime: Any) -> None:
    """Both are needed."""


@pytest.fixture
def bundle(web_bundle: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(web_bundle, tmp_path / "site" / "bundle")


OPENED = {
    "onnxruntime-web 1.30.0 wasm, 1 thread, Chromium": ("web_bundle", open_session, 1),
    "onnxruntime-web 1.30.0 wasm, 2 threads, Chromium": ("web_bundle", open_session, 2),
    "LiteRT.js 2.5.3 wasm, 1 thread, Chromium": ("web_litert_bundle", open_session, 1),
    "LiteRT.js 2.5.3 wasm, 2 threads, Chromium": ("web_litert_bundle", open_session, 2),
    "LiteRT.js 2.5.3 wasm, 1 thread, compat, Chromium": ("web_litert_bundle", browser_compat.open_session, None),
}


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("runtime", OPENED)
def test_it_answers_as_onnxruntime_does(runtime: str, tiny_bundle: Path, request: pytest.FixtureRequest) -> None:
    fixture, open_it, threads = OPENED[runtime]
    opened, expected_of = open_bundle(request.getfixturevalue(fixture)), open_bundle(tiny_bundle)
    side = opened.canvas_side
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side), np.uint8)
    patients = [case.inputs for case in read_golden(opened)]
    patients += [graph_inputs({"ap": noise[0], "lateral": noise[1]}, VIEWS, side), graph_inputs({"lateral": noise[0]}, VIEWS, side)]
    reference = OnnxRuntimeSession(expected_of.model, expected_of.manifest.tensors["inputs"], 1)
    with open_it(opened, threads) as session, reference:
        assert isinstance(session, BrowserSession)
        assert session.name == ("browser-compat" if "compat" in runtime else "browser")
        assert session.runtime.startswith(runtime)
        assert {"launch", "module", "fetch", "create"} == set(session.timings)
        for inputs in patients:
            found, expected = session.infer(inputs), reference.infer(inputs)
            assert session.elapsed_ms > 0
            assert tuple(found) == OUTPUTS
            for name in OUTPUTS:
                assert (found[name].dtype, found[name].shape) == (expected[name].dtype, expected[name].shape)
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=TOLERANCE.get(name, 1e-4), err_msg=name)


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
def test_a_way_that_a_runtime_lacks_is_refused(web_bundle: Path) -> None:
    with pytest.raises(MissingError, match=r"onnxruntime-web has no way wasm, 1 thread, compat with 1 thread\(s\)"):
        browser_compat.open_session(open_bundle(web_bundle))


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
def test_both_corner_finders_find_the_same(web_bundle: Path, web_litert_bundle: Path) -> None:
    found = []
    with (
        open_session(open_bundle(web_bundle)) as first,
        open_session(open_bundle(web_litert_bundle)) as second,
    ):  # side by side, as judges are
        for session in (first, second):
            assert isinstance(session, BrowserSession)
            canvas = "Uint8Array.from({ length: pipeline.cornerSide ** 2 }, (_, n) => (n * 7919) % 251)"
            found.append(session._page.evaluate(f"pipeline.findFilm({canvas})"))
    np.testing.assert_allclose(found[1]["corners"], found[0]["corners"], atol=0.1)  # pixels of the canvas
    assert found[1]["confidence"] == pytest.approx(found[0]["confidence"], abs=1e-4)


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
def test_a_bundle_of_one_view_answers_as_onnxruntime_does(web_front_bundle: Path) -> None:
    opened = open_bundle(web_front_bundle)
    noise = np.random.default_rng(0).integers(0, 256, (opened.canvas_side, opened.canvas_side), np.uint8)
    inputs = graph_inputs({"front": noise}, ("front",), opened.canvas_side)
    with open_session(opened) as session, OnnxRuntimeSession(opened.model, opened.manifest.tensors["inputs"], 1) as reference:
        assert isinstance(session, BrowserSession)
        found, expected = session.infer(inputs), reference.infer(inputs)
        assert tuple(found) == OUTPUTS
        for name in OUTPUTS:
            assert (found[name].dtype, found[name].shape) == (expected[name].dtype, expected[name].shape)
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=TOLERANCE.get(name, 1e-4), err_msg=name)
        said = session._page.evaluate("({ task: pipeline.task, views: pipeline.views })")
        refused = session._page.evaluate("pipeline.infer({ ap: new Uint8Array(1) }).catch(({ name, message }) => `${name}: ${message}`)")
    assert said == {"task": opened.manifest.task.to_json(), "views": ["front"]}
    assert refused == "TypeError: 'ap' is no view of this bundle: it has front"


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
def test_only_the_bundle_is_served_and_only_to_the_page(bundle: Path) -> None:
    opened = open_bundle(bundle)
    with open_session(opened) as session:
        assert isinstance(session, BrowserSession)
        with pytest.raises(InputError, match="takes the tensors"):
            session.infer({})
        session.infer(read_golden(opened)[0].inputs)
        loaded = session._page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        address = urlsplit(session._page.url).netloc
        assert address.startswith("127.0.0.1:")
        assert {urlsplit(url).netloc for url in loaded} == {address}
        statuses = {}
        for path in ("/bundle/model.onnx", "/bundle/../../etc/passwd", "/films/", "/etc/passwd", "/"):
            connection = http.client.HTTPConnection(address)
            connection.request("GET", path)
            statuses[path] = connection.getresponse().status
            connection.close()
        assert [path for path, status in statuses.items() if status != 404] == ["/bundle/model.onnx"]
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address).request("GET", "/")


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_the_page_refuses_a_changed_byte(bundle: Path, name: str) -> None:
    opened = open_bundle(bundle)  # changed after Python looked
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(DamagedBundleError, match=rf"{name} was changed"):
        open_session(opened)


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("fixture", ["web_bundle", "web_litert_bundle"])
def test_the_runner_works_in_a_web_worker(fixture: str, request: pytest.FixtureRequest) -> None:
    code = """
        import { openPipeline } from "ORIGIN/bundle/runner/edgekit.js";
        const pipeline = await openPipeline("ORIGIN/bundle", { runtime: "ORIGIN/runtime", threads: 2 });
        const small = await pipeline.infer({ ap: new Uint8Array(5) }).catch((error) => error.message);
        postMessage({ small, ...(await pipeline.selfTest()) });"""
    start = """(code) => new Promise((done) => {
        const script = new Blob([code.replaceAll("ORIGIN", location.origin)], { type: "text/javascript" });
        const worker = new Worker(URL.createObjectURL(script), { type: "module" });
        worker.onmessage = (event) => done(event.data);
        worker.onerror = (event) => done(event.message);
    })"""
    with open_session(open_bundle(request.getfixturevalue(fixture)), 2) as session:
        assert isinstance(session, BrowserSession)
        answer = session._page.evaluate(start, code)
    assert answer["passed"], answer
    assert answer["small"] == "the canvas 'ap' must be a Uint8Array of 128 x 128"


@pytest.fixture
def visit(browser: None, bundle: Path) -> Iterator[Callable[[str], dict[str, Any]]]:  # noqa: ARG001  (`browser` skips)
    """Do what the runner's README says: serve the bundle beside its runtime with Python's server, open runner/index.html."""
    from playwright.sync_api import sync_playwright

    site = bundle.parent
    for backend, (name, _) in RUNTIMES.items():
        (site / name).mkdir()
        for file in find_runtime(backend).values():
            shutil.copy(file, site / name)

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])

                def visit(query: str = "") -> dict[str, Any]:
                    page = chromium.new_page()
                    page.goto(f"http://127.0.0.1:{server.server_port}/bundle/runner/index.html{query}")
                    page.wait_for_function("!document.getElementById('verdict').textContent.startsWith('Loading')")
                    rows = page.locator("#checks tr").all_inner_texts()
                    failed = page.locator("#checks tr.failed").all_inner_texts()
                    return {"verdict": page.inner_text("#verdict"), "rows": [row.split("\t") for row in rows[1:]], "failed": failed}

                yield visit
                chromium.close()
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.browser
def test_the_page_for_people_shows_the_self_test(bundle: Path, visit: Callable[..., dict[str, Any]]) -> None:
    shown = visit()
    assert shown["verdict"] == "Passed: ap+lateral for desktop-cpu, fp32, as wasm, 1 thread"
    assert [row[0] for row in shown["rows"]] == list(OUTPUTS)
    assert all(float(error) <= float(tolerance) for _, error, tolerance in shown["rows"])
    assert visit("?threads=2")["verdict"].startswith("FAILED: threads need a page served with Cross-Origin-Opener-Policy")

    golden = json.loads((bundle / "golden" / "golden.json").read_text())
    golden["cases"][0]["outputs"]["probabilities"][0] += 0.01
    (bundle / "golden" / "golden.json").write_text(json.dumps(golden))
    assert visit()["verdict"] == "FAILED: golden/golden.json was changed: its sha256 is not the one in the manifest"
    reseal(bundle)
    shown = visit()
    assert shown["verdict"].startswith("FAILED: ap+lateral")
    assert [row.split("\t")[0] for row in shown["failed"]] == ["probabilities"]


def test_a_bundle_of_another_target_is_refused(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)
    assert RUNNER not in opened.manifest.files
    with pytest.raises(MissingError, match="not made for the browser"):
        open_session(opened)


def test_what_is_missing_is_told(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_bundle(bundle)
    with monkeypatch.context() as patch:
        patch.setattr("edgekit.sessions.vendored.__file__", str(tmp_path / "checkout" / "edgekit" / "sessions" / "vendored.py"))
        finders = {name: functools.partial(find_runtime, backend) for backend, (name, _) in RUNTIMES.items()}
        for name, find in {**finders, "dcmjs-codecs": find_codecs}.items():
            with pytest.raises(MissingError, match=f"{name} is not in") as caught:
                find()
            assert caught.value.remedy == f"npm ci --prefix {tmp_path / 'checkout' / 'sample_app'}"
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(MissingError, match="needs Chromium") as caught:
            open_session(opened)
        assert caught.value.remedy == "sudo apt-get install chromium"
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(MissingError, match="Playwright, which drives the browser, is not installed") as caught:
        open_session(opened)
    assert caught.value.remedy == "pip install 'edgekit-imaging[app]'"
