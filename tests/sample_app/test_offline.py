"""Offline use, updates, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_steps import PHONE, give_film

from edgekit.app.server import serve_site
from edgekit.app.site import WORKER, Page, build_site
from edgekit.manifest import open_bundle

pytestmark = pytest.mark.browser

VECTORS = Path(__file__).parents[1] / "golden" / "canvas"

KEPT = """async () => Object.fromEntries(await Promise.all((await caches.keys()).filter((name) => name.startsWith("edgekit-")).map(
    async (name) => [name, (await (await caches.open(name)).keys()).length])))"""


@pytest.fixture
def pages(site: dict[str, Page]) -> dict[str, Page]:
    """A site of its own, to be changed."""
    return dict(site)


@pytest.fixture
def served(pages: dict[str, Page]) -> Iterator[str]:
    with serve_site(pages, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(chromium: Any, watch: Callable[..., Any]) -> Any:
    return watch(chromium.new_context(**PHONE), offline=True).new_page()


def release(site: dict[str, Page]) -> dict[str, Any]:
    line = site[WORKER].read().decode().splitlines()[0]
    return dict(json.loads(line.removeprefix("const RELEASE = ").removesuffix(";")))


def change(pages: dict[str, Page], path: str, content: bytes, tmp_path: Path, web_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish another release: one file of the app differs."""
    import shutil

    import edgekit.app.site
    from edgekit.sessions.vendored import find_app

    app = tmp_path / "sample_app"
    source = find_app()
    shutil.copytree(source / "public", app / "public")
    (app / "vendor").symlink_to(source / "vendor")
    (app / "public" / path).write_bytes((app / "public" / path).read_bytes() + content)
    monkeypatch.setattr(edgekit.app.site, "find_app", lambda: app)
    pages.update(build_site(open_bundle(web_bundle)))


def test_it_starts_and_is_ready_in_flight_mode(page: Any, served: str, site: dict[str, Page]) -> None:
    page.goto(served)
    page.get_by_text("Ready offline").wait_for()
    kept = page.evaluate(KEPT)
    assert kept == {f"edgekit-{release(site)['version']}": len(release(site)["files"])}  # onnxruntime-web has one build
    page.context.set_offline(True)
    start = json.loads(site["/manifest.webmanifest"].read())["start_url"]
    page.goto(served.rstrip("/") + start)
    page.get_by_text("Ready offline").wait_for()
    assert page.evaluate("crossOriginIsolated")  # threads, offline too


def test_of_litert_only_the_build_in_use_is_kept(page: Any, served: str, pages: dict[str, Page], web_litert_bundle: Path) -> None:
    pages.clear()
    pages.update(build_site(open_bundle(web_litert_bundle)))
    page.goto(served)
    page.get_by_text("Ready offline").wait_for()
    threads = page.evaluate("navigator.hardwareConcurrency")
    cached = page.evaluate("""async () => {
        const names = (await caches.keys()).filter((name) => name.startsWith("edgekit-"));
        const kept = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
        return kept.flat().map(({ url }) => new URL(url).pathname).filter((path) => path.startsWith("/runtime/"));
    }""")
    build = "litert_wasm_threaded_internal" if threads > 1 else "litert_wasm_internal"
    assert sorted(cached) == sorted(f"/runtime/{name}" for name in ("litert.js", "wasm-utils.js", f"{build}.js", f"{build}.wasm"))
    page.context.set_offline(True)
    page.reload()
    page.get_by_text("Ready offline").wait_for()
    give_film(page, "ap", VECTORS / "rule-jpeg-lossless.dcm")
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")


def test_compressed_films_are_read_in_flight_mode(page: Any, served: str) -> None:
    page.goto(served)
    page.get_by_text("Ready offline").wait_for()
    page.context.set_offline(True)
    page.reload()
    page.get_by_text("Ready").wait_for()
    give_film(page, "ap", VECTORS / "rule-jpeg-lossless.dcm")


def test_an_update_is_offered_and_a_broken_one_changes_nothing(
    page: Any, served: str, pages: dict[str, Page], tmp_path: Path, web_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.goto(served)
    page.get_by_text("Ready offline").wait_for()
    before = page.evaluate(KEPT)
    first = dict(pages)
    change(pages, "app.css", b"/* new */", tmp_path, web_bundle, monkeypatch)
    whole = pages["/app.css"]
    pages["/app.css"] = Page(b"body { color: red }", whole.media_type, "other")  # not what the release names: the download ends here
    page.evaluate("async () => { try { await (await navigator.serviceWorker.ready).update(); } catch {} }")
    page.wait_for_timeout(1500)
    assert page.locator(".toast").count() == 0
    assert page.evaluate(KEPT).items() >= before.items()
    page.context.set_offline(True)
    page.reload()
    page.get_by_text("Ready offline").wait_for()  # the old release, whole
    page.context.set_offline(False)

    pages["/app.css"] = whole
    page.evaluate("async () => { try { await (await navigator.serviceWorker.ready).update(); } catch {} }")
    with page.expect_navigation():
        page.click(".toast button:first-of-type")
    page.get_by_text("Ready offline").wait_for()
    assert page.evaluate(KEPT).keys() == {f"edgekit-{release(pages)['version']}"}
    assert release(pages)["version"] != release(first)["version"]
    assert page.evaluate("async () => (await (await fetch('/app.css')).text()).endsWith('/* new */')")


def test_a_full_device_is_told_and_the_app_works(page: Any, served: str) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": served.rstrip("/"), "quotaSize": 3_000_000})
    page.goto(served)
    page.get_by_text("low on space").wait_for()
    assert page.inner_text("#state") == "Ready"
    assert page.evaluate(KEPT) == {}
    session.send("Storage.overrideQuotaForOrigin", {"origin": served.rstrip("/")})
    page.click(".toast button:first-of-type")
    page.get_by_text("Ready offline").wait_for()


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "corners.onnx"])
def test_a_tampered_bundle_is_refused(page: Any, served: str, pages: dict[str, Page], name: str) -> None:
    path = f"/bundle/{name}"
    content = bytearray(pages[path].read())
    content[len(content) // 2] ^= 1
    pages[path] = Page(bytes(content), pages[path].media_type, pages[path].digest)
    page.goto(served)
    page.get_by_text("The model is not genuine").wait_for()
    assert name in page.inner_text("#stopped-text")
    assert page.is_visible("#retry")
    assert page.is_hidden("#films")


def test_plain_http_shows_one_page_that_says_so(launch: Callable[..., Any], served: str) -> None:
    """As another device on the network sees it: an address that is neither HTTPS nor this machine's."""
    browser = launch("--host-resolver-rules=MAP films.example 127.0.0.1")
    page = browser.new_page()
    page.goto(served.replace("127.0.0.1", "films.example"))
    page.wait_for_url("**/insecure.html")
    assert page.inner_text("h1") == "A secure connection is needed"
    browser.close()


def test_it_is_installable(page: Any, served: str, site: dict[str, Page]) -> None:
    page.goto(served)
    page.get_by_text("Ready offline").wait_for()
    session = page.context.new_cdp_session(page)
    assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] in ([], [{"errorId": "in-incognito", "errorArguments": []}])
    found = session.send("Page.getAppManifest")
    assert found["errors"] == []
    manifest = json.loads(found["data"])
    assert manifest["display"] == "standalone"
    assert manifest["theme_color"] == page.get_attribute("meta[name=theme-color]", "content")
    sizes = {icon["sizes"] for icon in manifest["icons"]}
    assert {"192x192", "512x512"} <= sizes
    assert "maskable" in {icon.get("purpose") for icon in manifest["icons"]}
    for icon in manifest["icons"]:
        if icon["type"] == "image/png":
            content = site[f"/{icon['src']}"].read()
            assert f"{int.from_bytes(content[16:20], 'big')}x{int.from_bytes(content[20:24], 'big')}" == icon["sizes"]
