"""The app's reader of films, in Node: what it reads whatever is odd about it, what it refuses and with which words."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from odd_films import FORMS, PIXELS, element, fragments, make_elements, make_file, make_readable, make_refused, nest

ROOT = Path(__file__).parents[2]
READABLE = make_readable()

Read = Callable[..., list[dict[str, Any]]]


def read_contents(read_films: Read, folder: Path, contents: list[bytes]) -> list[dict[str, Any]]:
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return read_films(paths)


@pytest.fixture(scope="module")
def readable(read_films: Read, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(zip(READABLE, read_contents(read_films, tmp_path_factory.mktemp("films"), list(READABLE.values())), strict=True))


@pytest.mark.parametrize("name", READABLE)
def test_odd_films_are_read(readable: dict[str, Any], name: str) -> None:
    assert "pixels" in readable[name], readable[name]
    np.testing.assert_array_equal(readable[name]["pixels"], PIXELS)


def test_refused_films_say_why(read_films: Read, tmp_path: Path) -> None:
    refused = make_refused()
    answers = read_contents(read_films, tmp_path, [content for content, _ in refused.values()])
    said = dict(zip(refused, [answer.get("reason", answer) for answer in answers], strict=True))
    assert said == {name: reason for name, (_, reason) in refused.items()}


@pytest.mark.parametrize("form", FORMS)
def test_nesting_is_not_recursion(read_films: Read, tmp_path: Path, form: str) -> None:
    """20,000 items in each other: no stack holds them."""
    [answer] = read_contents(read_films, tmp_path, [make_file(make_elements(FORMS[form], nest(20_000, FORMS[form])), None)])
    np.testing.assert_array_equal(answer["pixels"], PIXELS)


def test_a_big_endian_film_needs_no_preamble(read_films: Read, tmp_path: Path) -> None:
    [answer] = read_contents(read_films, tmp_path, [make_elements(FORMS["big"])])
    np.testing.assert_array_equal(answer["pixels"], PIXELS)


def test_pixels_that_look_like_an_item_are_pixels(read_films: Read, tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[0, :4] = (0xFE, 0xFF, 0x00, 0xE0)
    [answer] = read_contents(read_films, tmp_path, [make_file(make_elements(pixels=element(0x7FE00010, "OB", pixels.tobytes())))])
    np.testing.assert_array_equal(answer["pixels"], pixels)


def test_pixels_that_a_decoder_invents_are_damage(read_films: Read, tmp_path: Path) -> None:
    """A scan whose middle is missing: libjpeg fills up what is not there, and only warns."""
    baseline, lossless = (imagecodecs.jpeg8_encode(PIXELS, lossless=kind, predictor=1) for kind in (False, True))
    cut = [stream[: len(stream) * 3 // 4] + stream[-2:] for stream in (baseline, lossless)]
    answers = read_contents(read_films, tmp_path, [make_file(make_elements(pixels=fragments(stream)), None) for stream in cut])
    assert [answer.get("reason", answer) for answer in answers] == ["damaged", "damaged"]


def test_nothing_ends_a_reader(read_films: Read, tmp_path: Path) -> None:
    """Every beginning of some films, and every byte of them changed: read or refused, quickly."""
    names = (
        "explicit: mixed lengths",
        "implicit: nested items",
        "big: private sequence",
        "one frame in many fragments",
        "deflated, padded",
    )
    contents = []
    random = np.random.default_rng(1)
    for name in names:
        film = READABLE[name]
        contents += [film[:size] for size in range(128, len(film), 5)]
        for at in range(132, len(film), 3):
            changed = bytearray(film)
            changed[at] = random.integers(256)
            contents.append(bytes(changed))
    answers = read_contents(read_films, tmp_path, contents)
    assert [answer for answer in answers if "crash" in answer] == []
    assert {answer["reason"] for answer in answers if "reason" in answer} >= {"damaged", "modality", "header", "imageless"}


def test_memory_goes_back(node_path: str, codecs_path: Path, tmp_path: Path) -> None:
    """A hundred compressed films, every other one damaged: the memory of the first ones is enough."""
    film = READABLE["JPEG lossless, announced syntax"]
    at = film.index(b"\xff\xda") + 30
    for name, content in (("sound", film), ("damaged", film[:at] + b"\xff\x7f" + film[at + 2 :])):
        (tmp_path / name).write_bytes(content)
    code = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ decodeStream }} from "{(ROOT / "sample_app/public/js/codecs.js").as_uri()}";
        import {{ decodeBytes }} from "{(ROOT / "sample_app/public/js/decode.js").as_uri()}";
        const codecs = await WebAssembly.compile(readFileSync("{codecs_path}"));
        const decode = async (stream) => decodeStream(stream, codecs);
        const [sound, damaged] = ["sound", "damaged"].map((name) => new Uint8Array(readFileSync(`{tmp_path}/${{name}}`)));
        const counts = {{ read: 0, refused: 0 }};
        const read = async () => {{
            for (let n = 0; n < 10; n++) {{
                await decodeBytes(sound, decode).then(() => counts.read++);
                await decodeBytes(damaged, decode).catch(() => counts.refused++);
                gc();
            }}
            return process.memoryUsage().rss;
        }};
        const first = await read();
        let last;
        for (let n = 0; n < 9; n++) last = await read();
        console.log(counts.read, counts.refused, last - first);
    """
    command = [node_path, "--expose-gc", "--input-type=module", "--eval", code]
    read, refused, growth = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert (read, refused) == (100, 100)
    assert growth < 30e6


def test_every_reason_has_words(node_path: str) -> None:
    """Each reason of docs/canvas.md that a phone can meet; what was found is said, with the element and its tag."""
    page = (ROOT / "docs" / "canvas.md").read_text()
    reasons = re.findall(r"^\| `(\w+)` \|", page[page.index("## 4.") : page.index("## 5.")], re.MULTILINE)
    code = f"""
        import {{ PROBLEMS }} from "{(ROOT / "sample_app/public/js/words.js").as_uri()}";
        const details = {{ element: "Rows (0028,0010)", found: "abc" }};
        const said = {reasons}.filter((code) => code !== "missing").map((code) => [code, PROBLEMS[code]?.(details)]);
        console.log(JSON.stringify(Object.fromEntries(said)));
    """
    command = [node_path, "--input-type=module", "--eval", code]
    words = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(words) == 15
    assert all(said["title"] and said["text"].endswith(".") and said["way"] for said in words.values())
    silent = {"empty", "unknown", "blank", "imageless"}
    assert {code for code, said in words.items() if "abc" not in said["text"]} == silent
    assert "the film is one even shade: nothing can be seen on it" in words["blank"]["text"].lower()
