"""Two hosts, one film: what Python reads and what the app's modules read in Node, over every film at hand.

The same pixels to the last level; of lossy streams stored values within 1, and canvases within the tolerance of docs/canvas.md; or the same
reason for refusing it. JPEG pictures need the browser: test_pixels.py has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from odd_films import make_readable, make_refused

from edgekit.errors import FilmError
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.radiograph.dicom import read_stored

VECTORS = Path(__file__).parents[1] / "golden" / "canvas"
INDEX = json.loads((VECTORS / "index.json").read_text())
LOSSY = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203))

MODALITY = re.compile(rb"(?:\x08\x00\x60\x00CS\x02\x00|\x08\x00\x60\x00\x02\x00\x00\x00|\x00\x08\x00\x60CS\x00\x02)[A-Z]{2}")
"""The element of a word of two letters, explicit, implicit and big-endian."""

ReadFilms = Callable[..., list[dict[str, Any]]]


def list_public_films() -> list[Path]:
    """The films of pydicom's tests and of pydicom-data, those that are files of their own."""
    data_store = pytest.importorskip("data_store", reason="pip install pydicom-data")
    folders = Path(data_store.__file__).parent / "data", Path(pydicom.__file__).parent / "data" / "test_files"
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix not in (".zip", ".py", ".json") and path.stat().st_size > 0]


def compare(read_films: ReadFilms, path: Path, answer: dict[str, Any]) -> str | None:
    """What the hosts disagree about."""
    if "crash" in answer:
        return str(answer["crash"])
    try:
        pixels = read_radiograph(path).pixels
    except FilmError as error:
        found = answer.get("reason", "read")
        return (
            None
            if answer.get("browser") or found == error.reason
            else f"{found} {answer.get('details')}, expected {error.reason}: {error.message}"
        )
    if answer.get("browser"):
        return None
    if "pixels" not in answer:
        return f"{answer['reason']} {answer['details']}, expected a film"
    if np.array_equal(answer["pixels"], pixels):
        return None
    if path.suffix == ".png" or pydicom.dcmread(path, force=True).file_meta.get("TransferSyntaxUID") not in LOSSY:
        return "other pixels"
    stored = read_stored(path)
    apart = np.abs(read_films([path], stored=True)[0]["stored"] - stored.values[stored.patterns]).max()
    canvases = [make_canvas(film, 256)[0].astype(int) for film in (answer["pixels"], pixels)]
    error = np.abs(canvases[0] - canvases[1])
    is_near = apart <= 1 and error.max() <= INDEX["tolerance"]["max"] and error.mean() <= INDEX["tolerance"]["mean"]
    return None if is_near else f"stored values {apart} apart, canvases {error.max()}"


def check(read_films: ReadFilms, paths: list[Path]) -> list[dict[str, Any]]:
    answers = read_films(paths)
    found = {path.name: compare(read_films, path, answer) for path, answer in zip(paths, answers, strict=True)}
    assert {name: said for name, said in found.items() if said} == {}
    return answers


def test_the_vectors(read_films: ReadFilms) -> None:
    check(read_films, [VECTORS / vector["film"] for vector in INDEX["vectors"] + INDEX["refused"]])


def test_refused_vectors_have_their_reason_in_the_app_too(read_films: ReadFilms) -> None:
    """A JPEG picture's markers are read here, too."""
    answers = read_films([VECTORS / vector["film"] for vector in INDEX["refused"]])
    assert [answer.get("reason", answer) for answer in answers] == [vector["reason"] for vector in INDEX["refused"]]


def test_public_films(read_films: ReadFilms) -> None:
    answers = check(read_films, list_public_films())
    assert sum("pixels" in answer for answer in answers) > 10


def test_public_films_said_to_be_radiographs(read_films: ReadFilms, tmp_path: Path) -> None:
    """CT and MR slices are refused by their modality: with another one they show what the decoders make of them."""
    paths = []
    for number, path in enumerate(list_public_films()):
        content = path.read_bytes()
        if found := MODALITY.search(content):
            paths.append(tmp_path / f"{number}-{path.name}")
            paths[-1].write_bytes(content[: found.end() - 2] + b"CR" + content[found.end() :])
    answers = check(read_films, paths)
    assert sum("pixels" in answer for answer in answers) > 60


def test_odd_films(read_films: ReadFilms, tmp_path: Path) -> None:
    paths = []
    for name, content in {**make_readable(), **{name: content for name, (content, _) in make_refused().items()}}.items():
        paths.append(tmp_path / re.sub(r"\W+", "-", name))
        paths[-1].write_bytes(content)
    check(read_films, paths)


@pytest.mark.parametrize(
    "name", ["window.dcm", "rule-big-endian-words.dcm", "rule-icon.dcm", "rule-rle-fragments.dcm", "rule-jpeg-ls.dcm", "rule-htj2k.dcm"]
)
def test_films_that_end_early(read_films: ReadFilms, tmp_path: Path, name: str) -> None:
    content = (VECTORS / name).read_bytes()
    sizes = [*range(0, min(len(content), 1200), 7), *range(1200, len(content), max(1, len(content) // 30))]
    paths = [tmp_path / f"{size:06}" for size in sizes]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(content[:size])
    check(read_films, paths)
