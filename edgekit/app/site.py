"""What the phone app is made of: every address that the server knows, and the release that a phone keeps for offline use."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgekit.errors import InputError
from edgekit.sessions.browser import RUNNER
from edgekit.sessions.vendored import CODECS, find_app, find_codecs, find_runtime
from edgekit.targets import load_target

if TYPE_CHECKING:
    from edgekit.types import Bundle

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}

WORKER = "/sw.js"
"""The service worker: the one file that is written anew for each release."""


@dataclass(frozen=True, slots=True)
class Page:
    """One address of the site.

    Attributes
    ----------
    content
        The bytes, or the file that holds them.
    media_type
        Its Content-Type.
    digest
        Its sha256 in base64, as subresource integrity spells it.
    """

    content: Path | bytes
    media_type: str
    digest: str

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def build_site(bundle: Bundle) -> dict[str, Page]:
    """Return every page by its path: the app, the runtime, the decoders of films, the web runner and the bundle.

    The JavaScript that checks the bundle's hashes comes from this installation, never from the bundle that it checks.

    Raises
    ------
    InputError
        The bundle was not made for the browser.
    MissingError
        The browser's runtime, or what decodes films there, is not installed.
    """
    if RUNNER not in bundle.manifest.files:
        raise InputError(f"{bundle.folder} was not made for the browser", "export it for the target web: edgekit export RUN web")
    runtime = find_runtime(bundle.manifest.backend)
    public = find_app() / "public"
    files = {f"/{path.relative_to(public).as_posix()}": path for path in sorted(public.rglob("*.*"))}
    files |= {f"/runtime/{name}": path for name, path in runtime.items()}
    files[f"/codecs/{CODECS}"] = find_codecs()
    runner = (load_target("web").folder / RUNNER).parent
    files |= {f"/runner/{path.relative_to(runner).as_posix()}": path for path in sorted(runner.rglob("*.js"))}
    files |= {f"/bundle/{name}": bundle.folder / name for name in ("manifest.json", *bundle.manifest.files)}
    worker = files.pop(WORKER).read_bytes()
    pages = {path: _make_page(path, file) for path, file in files.items()}
    pages["/"] = pages["/index.html"]
    pages[WORKER] = _make_page(WORKER, _describe_release(pages, bundle) + worker)
    return pages


def _describe_release(pages: dict[str, Page], bundle: Bundle) -> bytes:
    """Return the line of JavaScript that tells the service worker what to keep, and under which version."""
    golden = {f"/bundle/{name}" for name in bundle.manifest.files if name.startswith("golden/")}
    models = [bundle.manifest.model] + ([corners["model"]] if (corners := bundle.manifest.corners) else [])
    wanted = {"/bundle/manifest.json", *(f"/bundle/{model}" for model in models)} | golden
    kept = {path: page.digest for path, page in pages.items() if path in wanted or not path.startswith("/bundle/")}
    chosen = [path for path in kept if path.startswith("/runtime/")]  # of which the page names those that this browser needs
    version = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]
    return f"const RELEASE = {json.dumps({'version': version, 'files': kept, 'chosen': chosen})};\n".encode()


def _make_page(path: str, content: Path | bytes) -> Page:
    data = content if isinstance(content, bytes) else content.read_bytes()
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return Page(content, MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"), digest)
