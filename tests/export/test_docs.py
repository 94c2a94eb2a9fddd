"""The two pages that tell how to add something are followed to the letter, in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pedicle_screws import VIEWS
from PIL import Image

from edgekit.files import hash_file, write_json
from edgekit.studies import write_studies
from edgekit.types import Study

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"^`(?P<path>[\w./-]+)`:\n\n```\w+\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of the package and the targets, and a run with films to be judged on."""
    for name in ("edgekit", "export"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tiny_run, tmp_path / "RUN")
    random = np.random.default_rng(0)
    rows = []
    for place, brand in enumerate(("design-a", "design-b", "design-c")):
        films = {view: tmp_path / f"{brand}-{view}.png" for view in VIEWS}
        for film in films.values():
            Image.fromarray(random.integers(0, 256, (128, 128), np.uint8)).save(film)
        rows.append(Study(f"p{place}", brand, split="test", films=films))
    write_studies(tmp_path / "studies.csv", rows)
    write_json(tmp_path / "RUN" / "provenance.json", {"studies": {"path": "../studies.csv", "sha256": hash_file(tmp_path / "studies.csv")}})
    return tmp_path


@pytest.mark.parametrize("page", ["adding-a-target", pytest.param("adding-a-backend", marks=pytest.mark.slow)])
def test_the_page_works_as_it_is_written(page: str, checkout: Path) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    files = {match["path"]: match["content"] for match in FILE.finditer(text)}
    assert len(files) == (4 if page == "adding-a-backend" else 3)
    for path, content in files.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(content)
    commands = checkout / "bin"
    commands.mkdir()
    for name, words in (("edgekit", "-m edgekit "), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (commands / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(checkout)}
    outputs = []
    for block in COMMANDS.finditer(text):
        done = subprocess.run(
            ["sh", "-ec", block["lines"]], cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{block['lines']}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    assert "verified: PASS in" in outputs[-1]
    assert ("golden: ok" in outputs[-1]) == (page == "adding-a-target")


def test_the_backend_of_the_page_is_the_one_that_keeps_the_contract() -> None:
    """Its test runs with all others, from outside the package."""
    files = {match["path"]: match["content"] for match in FILE.finditer((ROOT / "docs" / "adding-a-backend.md").read_text())}
    for name in ("exported.py", "exported_session.py", "test_exported.py"):
        assert files[name] == (ROOT / "tests" / "backends" / name).read_text()
