"""The box editor without a browser: who may ask, what is saved, and how it goes on."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pedicle_screws import VIEWS
from PIL import Image
from sample_films import GIVEN, SIZES

from edgekit.box_editor.server import serve_editor
from edgekit.box_editor.table import BoxTable
from edgekit.errors import InputError
from edgekit.proposals import propose_boxes
from edgekit.studies import read_studies, write_studies

FILMS = [("p0", "ap"), ("p0", "lateral"), ("p1", "ap"), ("p1", "lateral"), ("p4", "ap")]
BOX = (100.0, 200.0, 300.0, 450.0)


@pytest.fixture
def editor(table: Path) -> Iterator[tuple[BoxTable, str]]:
    boxes = BoxTable(table)
    with serve_editor(boxes) as address:
        yield boxes, address


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run of which only the detector is done, and which finds everything."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("detector.safetensors", "detector.json"):
        shutil.copy(tiny_run / name, folder / name)
    (folder / "config.toml").write_text("canvas_side = 128\n")
    return folder


def ask(
    address: str, place: str, body: Any = None, host: str | None = None, method: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(address)
    with closing(http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)) as connection:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Host": host} if host else {}
        connection.request(method or ("PUT" if body is not None else "GET"), parts.path + place, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())


def read_boxes(table: Path) -> dict[tuple[str, str], object]:
    rows = read_studies(table.with_name("studies-boxes.csv"))
    return {(row.patient_id, view): row.box(view) for row in rows for view in VIEWS}


# -- who may ask -------------------------------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_told_or_written(editor, table):
    _, address = editor
    parts = urlsplit(address)
    assert len(parts.path.strip("/")) >= 40
    for path in ("/", "/films", "/films/0", "/editor.js", "/wrong/films", parts.path[:-2] + "/films", parts.path.rstrip("/")):
        assert ask(f"http://127.0.0.1:{parts.port}{path}", "")[0] == 404
    assert ask(f"http://127.0.0.1:{parts.port}/films/0", "", {"box": BOX})[0] == 404
    assert not table.with_name("studies-boxes.csv").exists()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example"])
def test_another_host_is_refused(editor, table, host):
    """A foreign name that resolves to this machine (DNS rebinding)."""
    _, address = editor
    host = host.format(port=urlsplit(address).port)
    assert ask(address, "films", host=host)[0] == 404
    assert ask(address, "films/0", {"box": BOX}, host=host)[0] == 404
    assert not table.with_name("studies-boxes.csv").exists()
    assert ask(address, "films", host=f"localhost:{urlsplit(address).port}")[0] == 200


def test_only_loopback_listens_and_every_token_is_new(table):
    boxes = BoxTable(table)
    with serve_editor(boxes) as first, serve_editor(boxes) as second:
        assert {urlsplit(first).hostname, urlsplit(second).hostname} == {"127.0.0.1"}
        assert urlsplit(first).path != urlsplit(second).path
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1", "127.0.1.1"}
        for other in others:
            with pytest.raises(OSError):  # noqa: PT011  (refused, or unreachable)
                socket.create_connection((other, urlsplit(first).port), timeout=2).close()


def test_the_browser_keeps_no_film_and_loads_nothing_from_elsewhere(editor):
    _, address = editor
    for place in ("", "editor.js", "editor.css", "films", "films/0"):
        status, _, headers = ask(address, place)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "place", ["films/5", "films/-1", "films/00", "films/0/", "../studies.csv", "%2e%2e/studies.csv", "films/999999999"]
)
def test_nothing_else_is_served(editor, place):
    assert ask(editor[1], place)[0] == 404


# -- what is shown -----------------------------------------------------------------------------------------------------------


def test_films_that_can_have_a_box_are_shown_as_they_are_decoded(editor):
    boxes, address = editor
    told = json.loads(ask(address, "films")[1])
    assert [(film["patient"], film["view"]) for film in told["films"]] == FILMS
    assert [film["checked"] for film in told["films"]] == [False, False, False, True, False], "a box that the table has is done"
    assert told["films"][3]["box"] == list(GIVEN)
    for number, film in enumerate(boxes.films):
        with Image.open(io.BytesIO(ask(address, f"films/{number}")[1])) as sent, Image.open(film.path) as there:
            assert sent.size == SIZES[film.view]
            np.testing.assert_array_equal(np.asarray(sent), np.asarray(there))


def test_a_film_that_cannot_be_read_says_why_and_may_have_no_box(table):
    (table.parent / "films" / "p0-ap.png").write_bytes(b"")
    with serve_editor(BoxTable(table)) as address:
        status, reason, _ = ask(address, "films/0")
        assert (status, b"p0-ap.png: the file is empty" in reason) == (422, True)
        assert ask(address, "films/0", {"box": BOX})[0] == 422
        assert ask(address, "films/0", {"box": None})[0] == 200


# -- what is saved -----------------------------------------------------------------------------------------------------------


def test_a_decision_is_in_the_table_when_it_is_answered(editor, table):
    _, address = editor
    before = table.read_bytes()
    assert ask(address, "films/1", {"box": BOX})[0] == 200
    assert read_boxes(table)["p0", "lateral"] == BOX
    rows = read_studies(table.with_name("studies-boxes.csv"))
    assert [(row.patient_id, row.brand, row.split, row.film("ap"), row.exclude) for row in rows] == [
        (row.patient_id, row.brand, row.split, row.film("ap"), row.exclude) for row in read_studies(table)
    ]
    assert read_boxes(table)["p1", "lateral"] == GIVEN
    assert ask(address, "films/1", {"box": None})[0] == 200
    assert read_boxes(table)["p0", "lateral"] is None
    assert ask(address, "films/3", {"box": None})[0] == 200
    assert read_boxes(table)["p1", "lateral"] is None, "a box of the table is taken away"
    assert table.read_bytes() == before
    assert sorted(path.name for path in table.parent.iterdir()) == [
        "films",
        "studies-boxes-checked.json",
        "studies-boxes.csv",
        "studies.csv",
    ]


@pytest.mark.parametrize(
    "box",
    [
        (100, 200, 620, 450), (-30, 200, 300, 450), (100, 200, 300, 920), (300, 200, 100, 450), (100, 200, 100, 450), (0, 0, 1, 1),
        (float("nan"), 200, 300, 450), (100, 200, float("inf"), 450),
    ],
)  # fmt: skip
def test_a_box_beyond_the_film_is_refused(editor, table, box):
    boxes, address = editor
    status, reason, _ = ask(address, "films/0", {"box": box})
    assert status == 422
    assert b"p0-ap.png" in reason
    assert (boxes.films[0].box, boxes.count_checked()) == (None, 1)
    assert not table.with_name("studies-boxes.csv").exists()


def test_a_box_that_is_a_little_too_large_ends_at_the_edge(editor, table):
    """At most 1 % of the side, as everywhere in edgekit."""
    assert ask(editor[1], "films/0", {"box": (-5, 10, 606, 909)})[0] == 200
    assert read_boxes(table)["p0", "ap"] == (0, 10, 600, 900)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"box": 1}', b'{"box": [1, 2, 3]}', b'{"box": ["a", 2, 3, 4]}', b" " * 2000])
def test_what_is_no_box_is_refused(editor, table, body):
    assert ask(editor[1], "films/0", body, method="PUT")[0] == 400
    assert not table.with_name("studies-boxes.csv").exists()


def test_a_failed_save_leaves_the_table_as_it_was(editor, table, monkeypatch):
    boxes, address = editor
    assert ask(address, "films/0", {"box": BOX})[0] == 200
    before = table.with_name("studies-boxes.csv").read_bytes()

    def fail(*_: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", fail)
    status, reason, _ = ask(address, "films/1", {"box": BOX})
    monkeypatch.undo()
    assert (status, b"No space left" in reason) == (422, True)
    assert table.with_name("studies-boxes.csv").read_bytes() == before
    assert not list(table.parent.glob("*.partial"))
    assert not list(table.parent.glob(".*.partial"))
    assert not boxes.films[1].checked
    assert ask(address, "films/1", {"box": BOX})[0] == 200


def test_a_table_that_somebody_else_changed_is_not_overwritten(editor, table):
    _, address = editor
    assert ask(address, "films/0", {"box": BOX})[0] == 200
    out = table.with_name("studies-boxes.csv")
    out.write_text(out.read_text().replace("blurred", "cut off"))
    status, reason, _ = ask(address, "films/1", {"box": BOX})
    assert (status, b"was changed by another program" in reason) == (422, True)
    assert "cut off" in out.read_text()


# -- going on ----------------------------------------------------------------------------------------------------------------


def test_starting_again_goes_on(table):
    first = BoxTable(table)
    first.decide(first.films[0], BOX)
    first.decide(first.films[1], None)
    again = BoxTable(table)
    assert [(film.box, film.checked) for film in again.films] == [(BOX, True), (None, True), (None, False), (GIVEN, True), (None, False)]
    again.decide(again.films[0], None)
    assert [film.checked for film in BoxTable(table).films] == [True, True, False, True, False]
    table.with_name("studies-boxes.csv").unlink()
    assert BoxTable(table).count_checked() == 1, "who deletes the table begins anew"


def test_a_box_that_was_changed_since_is_checked_again(table):
    boxes = BoxTable(table)
    boxes.decide(boxes.films[0], BOX)
    out = table.with_name("studies-boxes.csv")
    out.write_text(out.read_text().replace("100 200 300 450", "100 200 300 451"))
    film = BoxTable(table).films[0]
    assert (film.box, film.checked) == ((100, 200, 300, 451), False)


def test_proposals_are_saved_only_when_a_person_decides(table, run):
    boxes = BoxTable(table, run)
    assert [film.box is not None for film in boxes.films] == [True] * 5
    assert [film.checked for film in boxes.films] == [False, False, False, True, False]
    made = propose_boxes(table, run, table.with_name("other.csv"))
    assert {(p.study.patient_id, p.view): p.box for p in made.found} == {FILMS[n]: boxes.films[n].box for n in (0, 1, 2, 4)}
    boxes.decide(boxes.films[0], boxes.films[0].box)
    boxes.decide(boxes.films[1], None)
    assert {key: box is not None for key, box in read_boxes(table).items() if key in FILMS} == dict(
        zip(FILMS, (1, 0, 0, 1, 0), strict=True)
    )
    again = BoxTable(table, run)
    assert [film.checked for film in again.films] == [True, True, False, True, False]
    assert again.films[1].box is None, "no box is a decision, so nothing is proposed"
    assert again.films[2].box == boxes.films[2].box


def test_what_propose_boxes_left_is_to_be_checked(table, run):
    out = table.with_name("studies-boxes.csv")
    propose_boxes(table, run, out)
    boxes = BoxTable(table)
    assert [(film.box is not None, film.checked) for film in boxes.films] == [(True, film == ("p1", "lateral")) for film in FILMS]
    boxes.decide(boxes.films[0], BOX)
    assert read_boxes(table)["p0", "lateral"] == boxes.films[1].box, "not lost before it was looked at"
    assert BoxTable(table).count_checked() == 2
    before = out.read_bytes()
    with pytest.raises(InputError, match="a person checked"):
        propose_boxes(table, run, out)
    assert out.read_bytes() == before


def test_a_film_in_two_rows_is_looked_at_once(table):
    rows = read_studies(table)
    write_studies(table, [*rows, rows[0].with_film("lateral", None, rows[0].box("lateral"))])
    boxes = BoxTable(table)
    assert [(film.patient_id, film.view) for film in boxes.films] == FILMS
    boxes.decide(boxes.films[0], BOX)
    saved = read_studies(boxes.out)
    assert (saved[0].box("ap"), saved[-1].box("ap")) == (BOX, BOX)
    assert BoxTable(table).count_checked() == 2


def test_a_damaged_file_of_decisions_is_refused(table):
    boxes = BoxTable(table)
    boxes.decide(boxes.films[0], BOX)
    for text in ("{", "[]", '{"schema": 2}', '{"schema": 1, "checked": {"ap": []}}'):
        table.with_name("studies-boxes-checked.json").write_text(text)
        with pytest.raises(InputError, match=re.escape("studies-boxes-checked.json")):
            BoxTable(table)


def test_a_table_without_a_film_to_draw_on_is_refused(table):
    write_studies(table, [row for row in read_studies(table) if row.patient_id in ("p2", "p3")])
    with pytest.raises(InputError, match="no row has a film to draw on"):
        BoxTable(table)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C can't be sent there; run it on Linux or macOS")
def test_ctrl_c_says_where_the_boxes_are(table):
    with start(table) as process:
        address = process.stdout.readline().split()[0]
        assert "1 of 5 films are done" in process.stdout.readline()
        assert ask(address, "films/0", {"box": BOX})[0] == 200
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, "")
    assert said == f"Stopped. 2 of 5 films are done.\nThe boxes are in {table.with_name('studies-boxes.csv')}.\n"
    assert read_boxes(table)["p0", "ap"] == BOX


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C can't be sent there; run it on Linux or macOS")
def test_json_is_one_document_and_the_run_proposes(table, run):
    with start(table, "--run", run, "--json") as process:
        text = ""
        while not text.endswith("}\n"):
            text += process.stdout.readline()
        told = json.loads(text)
        assert told["studies"] == str(table.with_name("studies-boxes.csv"))
        films = json.loads(ask(told["url"], "films")[1])["films"]
        assert [film["box"] is not None for film in films] == [True] * 5
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 0
    assert not table.with_name("studies-boxes.csv").exists()


def start(table: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgekit", "studies", "boxes", str(table), *map(str, words)]
    # Where these tests run in the background, SIGINT is ignored, and a child would inherit that.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
