from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgekit.app import certificates
from edgekit.app.server import serve_site
from edgekit.app.site import Page, build_site
from edgekit.cli import run
from edgekit.errors import InputError, MissingError, UsageError
from edgekit.manifest import open_bundle
from edgekit.targets import load_target


@pytest.fixture(scope="module")
def bundle(web_runtime: object, web_bundle: Path) -> Path:  # noqa: ARG001  (skips)
    return web_bundle


@pytest.fixture(scope="module")
def site(bundle: Path) -> dict[str, Page]:
    return build_site(open_bundle(bundle))


@pytest.fixture(scope="module")
def port(site: dict[str, Page]) -> Iterator[int]:
    with serve_site(site, "127.0.0.1", 0) as port:
        yield port


def ask(port: int, path: str, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Fetch a page over a connection of its own, HTTPS with a context."""
    options = {"context": context} if context else {}
    connection = (http.client.HTTPSConnection if context else http.client.HTTPConnection)("127.0.0.1", port, timeout=20, **options)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_every_page_comes_with_its_type_and_the_headers_that_protect_it(site: dict[str, Page], port: int) -> None:
    types = {"/": "text/html", "/js/main.js": "text/javascript", "/sw.js": "text/javascript", "/app.css": "text/css"}
    types |= {"/manifest.webmanifest": "application/manifest+json", "/runtime/ort-wasm-simd-threaded.wasm": "application/wasm"}
    for path in site:
        status, headers, content = ask(port, path)
        assert status == 200
        assert headers["Content-Type"].startswith(types.get(path, ""))
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert not any("unsafe-inline" in rule or "'unsafe-eval'" in rule or "http" in rule for rule in policy.values())
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert headers["ETag"] == f'"{digest}"'
        status, _, content = ask(port, path, **{"If-None-Match": headers["ETag"]})
        assert (status, content) == (304, b"")


@pytest.mark.parametrize("path", ["/package.json", "/../pyproject.toml", "/node_modules/axe-core/axe.min.js", "/js", "/bundle/"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


def test_only_this_machine_is_served(port: int) -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1", "127.0.1.1"}
    for address in addresses:
        with pytest.raises(OSError):  # noqa: PT011  (refused, or unreachable)
            socket.create_connection((address, port), timeout=2).close()


def test_the_release_names_what_the_app_needs_with_its_hash(site: dict[str, Page]) -> None:
    line = site["/sw.js"].read().decode().splitlines()[0]
    release = json.loads(line.removeprefix("const RELEASE = ").removesuffix(";"))
    needed = {
        "/",
        "/index.html",
        "/app.css",
        "/js/main.js",
        "/js/reader.js",
        "/runner/corners.js",
        "/runner/edgekit.js",
        "/runner/fetching.js",
        "/runner/onnx/runtime.js",
        "/bundle/corners.onnx",
        "/bundle/manifest.json",
        "/bundle/model.onnx",
    }
    assert needed <= release["files"].keys()
    assert set(release["chosen"]) == {path for path in release["files"] if path.startswith("/runtime/")}
    for path, digest in release["files"].items():
        assert base64.b64decode(digest) == hashlib.sha256(site[path].read()).digest()


def test_the_code_that_checks_the_bundle_does_not_come_from_it(site: dict[str, Page], bundle: Path) -> None:
    for name in ("corners.js", "edgekit.js"):
        assert site[f"/runner/{name}"].content == load_target("web").folder / "runner" / name
    used = [page.read().decode() for path, page in site.items() if path.startswith("/js/")]
    assert not any("bundle/runner" in text for text in used)
    assert bundle not in Path(str(site["/runner/edgekit.js"].content)).parents


def test_a_bundle_of_another_target_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="not made for the browser"):
        build_site(open_bundle(tiny_bundle))


def test_a_port_that_is_taken_is_told(site: dict[str, Page], port: int) -> None:
    for number in (port, 70_000):
        with pytest.raises(UsageError, match=str(number)), serve_site(site, "127.0.0.1", number):
            pass


# -- the local network ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificate:
    return certificates.make_certificate("127.0.0.1", tmp_path_factory.mktemp("user") / "edgekit")


def trust(certificate: certificates.Certificate) -> ssl.SSLContext:
    """A client that trusts the authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=certificate.authority)
    return context


def test_the_network_gets_https_with_a_certificate_that_holds(site: dict[str, Page], certificate: certificates.Certificate) -> None:
    with serve_site(site, "127.0.0.1", 0, certificate) as port:
        assert ask(port, "/", trust(certificate))[2] == site["/index.html"].read()
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, "/", ssl.create_default_context())
        assert ask(port, "/app.css", trust(certificate))[0] == 200


def test_plain_http_gets_one_page_that_leads_to_https(site: dict[str, Page], certificate: certificates.Certificate) -> None:
    with serve_site(site, "127.0.0.1", 0, certificate) as port:
        for path in ("/", "/js/main.js", "/bundle/model.onnx"):
            status, headers, content = ask(port, path)
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            assert "A secure connection is needed" in content.decode()
            assert f"https://127.0.0.1:{port}/" in content.decode()
        status, headers, content = ask(port, "/edgekit-authority.crt")
        assert (headers["Content-Type"], content) == ("application/x-x509-ca-cert", certificate.authority)


def test_the_authority_stays_and_can_vouch_for_private_networks_only(tmp_path: Path) -> None:
    from cryptography import x509

    first = certificates.make_certificate("127.0.0.1", tmp_path)
    second = certificates.make_certificate("10.1.2.3", tmp_path)
    assert first.authority == second.authority
    digest = hashlib.sha256(first.authority).hexdigest()
    assert second.fingerprint.replace(" ", "").lower() == digest
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file

    with pytest.raises(ssl.SSLError):  # signed all the same, but nobody accepts it
        connect_through(certificates.make_certificate("203.0.113.7", tmp_path), "203.0.113.7")
    authority = x509.load_der_x509_certificate(first.authority)
    assert authority.extensions.get_extension_for_class(x509.NameConstraints).critical
    (tmp_path / "authority.pem").write_text("nonsense")
    with pytest.raises(InputError, match=r"authority\.pem"):
        certificates.make_certificate("127.0.0.1", tmp_path)


def connect_through(certificate: certificates.Certificate, name: str) -> None:
    """Make a whole TLS handshake in memory."""
    ends = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    client = trust(certificate).wrap_bio(ends[0], ends[1], server_hostname=name)
    server = certificate.open_context().wrap_bio(ends[1], ends[0], server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_handshake_in_memory_works_where_it_should(tmp_path: Path) -> None:
    connect_through(certificates.make_certificate("192.168.7.8", tmp_path), "192.168.7.8")


def test_a_public_address_or_no_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None: ...
        def connect(self, _: object) -> None: ...
        def getsockname(self) -> tuple[str, int]:
            return "8.8.8.8", 1

    monkeypatch.setattr(certificates.socket, "socket", Probe)
    with pytest.raises(InputError, match=r"8\.8\.8\.8 is a public address"):
        certificates.find_address()

    def fail(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(Probe, "connect", fail)
    with pytest.raises(MissingError, match="no network"):
        certificates.find_address()


# -- the command -----------------------------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_interrupted(bundle: Path) -> None:
    command = [sys.executable, "-m", "edgekit", "app", str(bundle), "--port", "0"]
    # Where these tests run in the background, SIGINT is ignored, and a child would inherit that.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = int(line.split("127.0.0.1:")[1].split("/")[0])
            assert ask(port, "/")[0] == 200
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "Stopped.\n", "")


def test_the_address_for_machines(bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgekit.cli.phone_app._wait", interrupt)
    assert run(["app", str(bundle), "--port", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["url"].startswith("http://127.0.0.1:")
    assert document["fingerprint"] is None


def test_the_command_shows_the_address_as_a_code(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code is read back from the terminal's half blocks by another library, as a phone's camera would."""
    monkeypatch.setattr(certificates, "find_address", lambda: "127.0.0.1")
    monkeypatch.setattr("typer.get_app_dir", lambda _: str(tmp_path))
    monkeypatch.setattr("edgekit.cli.phone_app._wait", interrupt)
    assert run(["app", str(bundle), "--lan", "--port", "0"]) == 0
    text = capsys.readouterr().out
    address = next(word for word in text.split() if word.startswith("https://"))
    rows = [line for line in text.split("https://")[0].splitlines() if line.strip()]
    halves = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    width = max(len(row) for row in rows)
    picture = np.array([[halves[letter][half] for letter in row.ljust(width)] for row in rows for half in (0, 1)], np.uint8)
    for terminal in (picture, 1 - picture):  # light on dark and dark on light
        assert scan(terminal) == [address]
    fingerprint = certificates.make_certificate("127.0.0.1", tmp_path).fingerprint
    assert fingerprint in text


def test_a_terminal_without_half_blocks_shows_the_code_in_ascii(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two spaces a module, on the terminal's ground or on the reversed one (ECMA-48, SGR 7)."""
    monkeypatch.setattr(certificates, "find_address", lambda: "127.0.0.1")
    monkeypatch.setattr("typer.get_app_dir", lambda _: str(tmp_path))
    monkeypatch.setattr("edgekit.cli.phone_app._wait", interrupt)
    printed = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(printed, "cp1252"))
        assert run(["app", str(bundle), "--lan", "--port", "0"]) == 0
        sys.stdout.flush()
        text = printed.getvalue().decode("ascii")
    address = next(word for word in text.split() if word.startswith("https://"))
    rows = []
    for line in text.split("https://")[0].splitlines():
        if spans := re.findall(r"\x1b\[(7|49)m( +)\x1b\[0m", line):
            rows.append([int(ground == "7") for ground, spaces in spans for _ in range(len(spaces) // 2)])
    picture = np.array(rows, np.uint8)
    assert scan(picture) == scan(1 - picture) == [address]


def scan(picture: np.ndarray) -> list[str]:
    """Read the codes in a picture of modules, 0 dark and 1 light."""
    import zxingcpp  # OpenCV's reader misses about one sound code in 300

    shown = np.pad(255 * picture, 4, constant_values=255 * int(picture[0, 0]))
    return [code.text for code in zxingcpp.read_barcodes(np.kron(shown, np.ones((8, 8), np.uint8)))]


def interrupt() -> None:
    raise KeyboardInterrupt
