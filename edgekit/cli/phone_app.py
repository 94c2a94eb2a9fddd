"""``edgekit app``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import console

if TYPE_CHECKING:
    from edgekit.app.certificates import Certificate


def app(
    bundle: Annotated[Path, typer.Argument(help="A bundle made for the target web.")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8642,
    lan: Annotated[bool, typer.Option("--lan", help="Serve the local network over HTTPS, for phones; else only this machine.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document once it listens: the address and the fingerprint.")] = False,
) -> None:
    """Serve the phone app: photograph a screen, get the brand, offline. It runs until Ctrl-C.

    Example: edgekit app build/web --lan
    """
    from edgekit.app.server import serve_site
    from edgekit.app.site import build_site
    from edgekit.manifest import open_bundle

    site = build_site(open_bundle(bundle))
    certificate = None
    if lan:
        from edgekit.app.certificates import find_address, make_certificate

        certificate = make_certificate(find_address(), Path(typer.get_app_dir("edgekit")))
    with serve_site(site, "0.0.0.0" if lan else "127.0.0.1", port, certificate) as number:
        try:
            _tell_address(number, certificate, json)
            _wait()
        except KeyboardInterrupt:
            console.say("Stopped.")


def _tell_address(port: int, certificate: Certificate | None, json: bool) -> None:
    if json:
        url = f"https://{certificate.address}:{port}/" if certificate else f"http://127.0.0.1:{port}/"
        console.print_json({"url": url, "fingerprint": certificate.fingerprint if certificate else None})
    elif certificate is None:
        console.say(f"http://127.0.0.1:{port}/ (this machine only; --lan serves phones). Ctrl-C stops it.")
    else:
        url = f"{certificate.address}:{port}"
        console.say(_draw_code(f"https://{url}/"))
        console.say(f"https://{url}/ for every device on this network. Ctrl-C stops it.")
        console.say("The certificate was made here, so the browser asks once. To keep the app offline a phone must trust it:")
        console.say(f"open http://{url}/ on the phone, install the authority, and compare its SHA-256 fingerprint:")
        console.say(certificate.fingerprint)


def _wait() -> None:
    """Do nothing until Ctrl-C."""
    threading.Event().wait()


def _draw_code(text: str) -> str:
    """Return a QR code for the terminal: of half blocks, or where it has none, of spaces on two grounds (ANSI), twice as large."""
    import io

    import segno

    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(drawn, compact=console.can_show("▀▄█"))
    return drawn.getvalue()
