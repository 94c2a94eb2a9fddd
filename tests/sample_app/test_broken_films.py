"""Broken films, the same on two hosts: the app's modules in Node answer each with pixels or a reason, as Python does.

What is fair to ask of a film that is damaged:

- Both show it: the same pixels; of lossy streams within two levels, but where coefficients are beyond what pixels can have. Each decoder
  clips those in its own way.
- Both refuse it: the same reason, or one of them says `damaged`: what is broken may lie before or behind what is checked first.
- One shows what the other calls `damaged`. So far that is JPEG whose compressed data are corrupt, of which only the app's decoder says so,
  and delimiters of sequences where there is no sequence.

The last, with those coefficients, may be one film in a hundred.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from fuzz_targets import TARGETS, make_case

from edgekit.errors import FilmError
from edgekit.radiograph import read_radiograph

KEPT = Path(__file__).parents[2] / "build" / "fuzz" / "hosts"
"""Where films are kept on which the hosts disagree."""
LIMIT_S = 30
"""Seconds after which Node is stuck: a case takes milliseconds, but the machine may be busy."""


def make_films(kind: str, count: int, folder: Path) -> list[Path]:
    target, random = TARGETS[kind], Random(kind)
    seeds, paths = target.seeds(), []
    for number in range(count):
        name = random.choice(sorted(seeds))
        steps = [random.getrandbits(64) for _ in range(random.choice((1, 1, 2)))]
        paths.append(folder / f"{number:04}-{name}")
        paths[-1].write_bytes(make_case(seeds, target.mutation, name, steps))
    return paths


def read_in_node(command: list[str], paths: list[Path], out: Path) -> Iterator[dict[str, Any]]:
    """Read one film after the other; where Node crashes or hangs, that is the answer."""
    node = None
    for path in paths:
        if node is None:
            node = subprocess.Popen([*command, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert node.stdin
        assert node.stdout
        node.stdin.write(f"{path}\n")
        is_ready = bool(select.select([node.stdout], [], [], LIMIT_S)[0])
        line = node.stdout.readline() if is_ready else ""
        if not line:
            node.kill()
            node.communicate()
            yield {"crash": "Node died" if is_ready else f"no answer within {LIMIT_S} s"}
            node = None
            continue
        answer = json.loads(line)
        if "width" in answer:
            answer["pixels"] = np.fromfile(out / str(answer["number"]), np.uint8).reshape(answer["height"], answer["width"])
        yield answer
    if node is not None:
        node.communicate()


def compare(path: Path, answer: dict[str, Any]) -> tuple[str, str]:
    """Return a fault and a difference that may occur; either may be empty."""
    if "crash" in answer:
        return str(answer["crash"]), ""
    found, told = answer.get("reason", "read"), answer.get("details", "")
    try:
        pixels = read_radiograph(path).pixels
    except FilmError as error:
        if found == error.reason:
            return "", ""
        said = f"the app: {found} {told}, Python: {error.reason}: {error.message}"
        return ("", said if found == "read" else "") if "damaged" in (found, error.reason) else (said, "")
    if found != "read":
        said = f"the app: {found} {told}, Python reads it"
        return ("", said) if found == "damaged" else (said, "")
    if pixels.shape != answer["pixels"].shape:
        return f"{answer['pixels'].shape} pixels, in Python {pixels.shape}", ""
    apart = int(np.abs(pixels.astype(int) - answer["pixels"]).max())
    is_lossy = any(word in path.name for word in ("jpeg", "lossy", "near", "lies")) and "lossless" not in path.name
    said = "" if apart <= 2 * is_lossy else f"{apart} levels apart"
    return ("", said) if is_lossy else (said, "")


@pytest.mark.skipif(sys.platform == "win32", reason="waits for a pipe: run it on Linux or macOS")
@pytest.mark.parametrize(("kind", "count"), [("dicom", 600), ("png", 400)])
def test_broken_films_on_two_hosts(kind: str, count: int, node_path: str, codecs_path: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "pixels").mkdir()
    paths = make_films(kind, count, tmp_path / "films")
    command = [node_path, str(Path(__file__).with_name("read_films.mjs")), str(codecs_path)]
    found = {}
    for path, answer in zip(paths, read_in_node(command, paths, tmp_path / "pixels"), strict=True):
        found[path] = compare(path, answer)
    for path, said in found.items():
        if any(said):
            KEPT.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, KEPT / f"{kind}-{path.name}")
    assert {path.name: fault for path, (fault, _) in found.items() if fault} == {}
    differences = {path.name: said for path, (_, said) in found.items() if said}
    assert len(differences) <= count / 100, differences
