"""Serves the phone app: plain HTTP on the loopback interface, HTTPS on all interfaces.

`Server` and `Handler` serve the box editor too.
"""

from __future__ import annotations

import html
import socket
import ssl
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgekit.app.certificates import Certificate
    from edgekit.app.site import Page

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",  # the second compiles WebAssembly; it allows no eval
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy: everything from here, nothing inline, nothing from elsewhere."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next: SharedArrayBuffer, which threads in WebAssembly need
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # ask whether it changed; the service worker keeps what it needs
}
"""Sent with every answer."""

TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection; no HTTP request begins with it."""

PATIENCE_S = 10
"""How long a connection may take to say what it wants."""

INSECURE_PAGE = "/insecure.html"
AUTHORITY_PATH = "/edgekit-authority.crt"


@contextmanager
def serve_site(pages: Mapping[str, Page], host: str, port: int, certificate: Certificate | None = None) -> Iterator[int]:
    """Serve pages until the context ends.

    Parameters
    ----------
    pages
        By path, as `edgekit.app.site.build_site` makes them. Read at each request.
    host
        Address to listen on.
    port
        0 takes a free one.
    certificate
        With it the site is HTTPS only, and plain HTTP on the same port gets one page that says so.

    Yields
    ------
    int
        The port.

    Raises
    ------
    UsageError
        The port is taken, or this user may not open it.
    """
    try:
        server = _SiteServer(pages, host, port, certificate)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected 0 to 65535"
        raise UsageError(f"port {port} can't be used: {reason}", "choose another one with --port") from error
    with run_server(server) as number:
        yield number


@contextmanager
def run_server(server: Server) -> Iterator[int]:
    """Answer a server's requests in a thread of its own until the context ends; yields the port, and closes the server."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Server(ThreadingHTTPServer):
    """A server whose connections have a thread each."""

    daemon_threads = True  # a phone may keep its connection open for as long as it likes

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about connections that end early, or that distrust the certificate; report everything else."""
        import sys

        if not isinstance(sys.exception(), (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


class _SiteServer(Server):
    def __init__(self, pages: Mapping[str, Page], host: str, port: int, certificate: Certificate | None) -> None:
        self.pages = pages
        self.certificate = certificate
        self.context = certificate.open_context() if certificate else None
        super().__init__((host, port), _SiteHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer one connection, in its own thread: the handshake of one client holds up nobody else."""
        request.settimeout(PATIENCE_S)
        if self.context is None:
            _SiteHandler(request, client_address, self)
        elif request.recv(1, socket.MSG_PEEK) != TLS_HANDSHAKE:
            _PlainHandler(request, client_address, self)
        else:
            with self.context.wrap_socket(request, server_side=True) as secured:
                _SiteHandler(secured, client_address, self)


class Handler(BaseHTTPRequestHandler):
    """Answers with `HEADERS`, without saying which Python it is."""

    protocol_version = "HTTP/1.1"
    server_version = "edgekit"
    sys_version = ""

    def answer(self, status: HTTPStatus, content: bytes, headers: Mapping[str, str]) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Stay silent: the terminal belongs to the command."""


class _SiteHandler(Handler):
    def do_GET(self) -> None:
        page = cast("_SiteServer", self.server).pages.get(urlsplit(self.path).path)
        if page is None:
            self.answer(HTTPStatus.NOT_FOUND, b"not here", {"Content-Type": "text/plain"})
        elif self.headers.get("If-None-Match") == f'"{page.digest}"':
            self.answer(HTTPStatus.NOT_MODIFIED, b"", {"ETag": f'"{page.digest}"'})
        else:
            self.answer(HTTPStatus.OK, page.read(), {"Content-Type": page.media_type, "ETag": f'"{page.digest}"'})


class _PlainHandler(_SiteHandler):
    """Plain HTTP where HTTPS is needed: one page that says so, and the certificate to trust."""

    def do_GET(self) -> None:
        server = cast("_SiteServer", self.server)
        assert server.certificate is not None
        path = urlsplit(self.path).path
        if path == AUTHORITY_PATH:
            self.answer(HTTPStatus.OK, server.certificate.authority, {"Content-Type": "application/x-x509-ca-cert"})
        elif path in ("/app.css", "/icons/icon.svg"):
            super().do_GET()
        else:
            secure = f"https://{server.certificate.address}:{server.server_port}/"
            content = server.pages[INSECURE_PAGE].read().replace(b"https://ADDRESS/", html.escape(secure).encode())
            self.answer(HTTPStatus.OK, content, {"Content-Type": "text/html; charset=utf-8"})
