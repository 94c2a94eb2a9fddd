"""Serves the box editor's page, on the loopback interface alone.

Every address begins with a random token, so that no other page of the browser and no other user of the machine can read a film or write
a box, and the host's name is checked, so that no foreign name that resolves to this machine gets through (DNS rebinding).
"""

from __future__ import annotations

import io
import json
import re
import secrets
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgekit.app.server import PATIENCE_S, Handler, Server, run_server
from edgekit.app.site import MEDIA_TYPES
from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit.box_editor.table import BoxTable

PAGE = Path(__file__).parent / "page"
FILES = {"": "index.html", "editor.css": "editor.css", "editor.js": "editor.js"}
"""Files of the page by their address."""

LARGEST_BODY = 1000
"""Bytes; a decision is four numbers."""


@contextmanager
def serve_editor(table: BoxTable) -> Iterator[str]:
    """Serve the box editor on a free port until the context ends.

    Parameters
    ----------
    table
        The boxes; each decision is saved before it is answered.

    Yields
    ------
    str
        The address of the page, with its token.
    """
    server = _EditorServer(table)
    with run_server(server) as port:
        yield f"http://127.0.0.1:{port}/{server.token}/"


class _EditorServer(Server):
    def __init__(self, table: BoxTable) -> None:
        self.table = table
        self.token = secrets.token_urlsafe()
        super().__init__(("127.0.0.1", 0), _EditorHandler)


class _EditorHandler(Handler):
    protocol_version = "HTTP/1.0"  # one connection an answer: a kept one may time out in the moment in which a box is sent
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        place = self._find_place()
        if place is None:
            self._refuse(HTTPStatus.NOT_FOUND, "not here")
        elif place in FILES:
            file = PAGE / FILES[place]
            self._answer_privately(HTTPStatus.OK, file.read_bytes(), MEDIA_TYPES[file.suffix])
        elif place == "films":
            self._answer_privately(HTTPStatus.OK, json.dumps(_describe_films(self._table)).encode(), "application/json")
        elif (number := self._find_film(place)) is not None:
            self._send_film(number)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not here")

    def do_PUT(self) -> None:
        """Take a decision, ``{"box": [x0, y0, x1, y1]}`` in film pixels or ``{"box": null}``, for ``films/<number>``."""
        place = self._find_place()
        number = None if place is None else self._find_film(place)
        if number is None:
            self._refuse(HTTPStatus.NOT_FOUND, "not here")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a box")
            return
        try:
            box = json.loads(self.rfile.read(int(length)))["box"]
            if box is not None:
                x0, y0, x1, y1 = map(float, box)
                box = x0, y0, x1, y1
        except (ValueError, KeyError, TypeError):
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a box")
            return
        try:
            self._table.decide(self._table.films[number], box)
        except InputError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error.message} {error.remedy}")
        except OSError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{self._table.out} can't be written: {error.strerror}")
        else:
            self._answer_privately(HTTPStatus.OK, b"", "text/plain")

    @property
    def _table(self) -> BoxTable:
        return cast("_EditorServer", self.server).table

    def _find_place(self) -> str | None:
        """Return the address without its token, or None when the host or the token is not ours."""
        server = cast("_EditorServer", self.server)
        hosts = [f"{name}:{server.server_port}" for name in ("127.0.0.1", "localhost")]
        token, slash, place = self.path.removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(), server.token.encode())
        return place if known and slash and self.headers.get("Host") in hosts else None

    def _find_film(self, place: str) -> int | None:
        """Return the number of the film that an address means, or None."""
        found = re.fullmatch(r"films/(0|[1-9][0-9]{0,8})", place)
        return int(found[1]) if found and int(found[1]) < len(self._table.films) else None

    def _send_film(self, number: int) -> None:
        from PIL import Image

        try:
            radiograph = self._table.read_film(self._table.films[number])
        except InputError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, error.message)
            return
        picture = io.BytesIO()
        Image.fromarray(radiograph.pixels).save(picture, "PNG", compress_level=1)  # it travels within the machine: time counts, not size
        self._answer_privately(HTTPStatus.OK, picture.getvalue(), "image/png")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer_privately(status, reason.encode(errors="replace"), "text/plain; charset=utf-8")

    def _answer_privately(self, status: HTTPStatus, content: bytes, media_type: str) -> None:
        """Send an answer that the browser must not keep: patients' films have no business in its cache."""
        self.answer(status, content, {"Content-Type": media_type, "Cache-Control": "no-store"})


def _describe_films(table: BoxTable) -> dict[str, Any]:
    """Return the page's content."""
    films = [
        {
            "patient": film.patient_id,
            "row": film.rows[0],
            "view": film.view,
            "name": film.path.name,
            "box": film.box,
            "checked": film.checked,
        }
        for film in table.films
    ]
    return {"out": table.out.name, "films": films}
