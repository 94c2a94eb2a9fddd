"""The oldest onnxruntime that is supported and the newest one pass an 8-bit bundle's golden vectors, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[2]


def bound(operator: str, lines: list[str]) -> str:
    """The version of onnxruntime that a list of requirements names with an operator."""
    (requirement,) = (each for line in lines if (each := Requirement(line)).name == "onnxruntime")
    (specifier,) = (each for each in requirement.specifier if each.operator == operator)
    return specifier.version


OLDEST = bound(">=", tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"])
NEWEST = bound("==", [line for line in (PROJECT / "constraints.txt").read_text().splitlines() if line.startswith("onnxruntime==")])


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that hold one version of onnxruntime each, and nothing else."""
    folders = {version: tmp_path_factory.mktemp("onnxruntime") for version in (OLDEST, NEWEST)}
    for version, folder in folders.items():
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", f"--target={folder}"]
        subprocess.run([*command, f"onnxruntime=={version}"], check=True)
    return folders


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("kind", ["eight_bit_bundle", "tiny_bundle"])
def test_a_version_answers_as_the_one_that_made_the_bundle(
    version: str, kind: str, install: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle: Path = request.getfixturevalue(kind)
    environment = {**os.environ, "PYTHONPATH": str(install[version]), "XDG_CACHE_HOME": str(tmp_path)}
    films = [f"--{view}={bundle / 'golden' / f'both-{view}.png'}" for view in ("ap", "lateral")]
    script = str(bundle / "runner" / "run.py")
    checked = subprocess.run([sys.executable, script, *films], env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert checked.returncode == 0, checked.stderr
    found = [float(share) for share in re.findall(r"^ +(\d\.\d{4}) ", checked.stdout, re.MULTILINE)]
    (case,) = (case for case in json.loads((bundle / "golden" / "golden.json").read_bytes())["cases"] if case["name"] == "both")
    tolerance = 0.05 if kind == "eight_bit_bundle" else 1e-4
    np.testing.assert_allclose(found, sorted(case["outputs"]["probabilities"], reverse=True), atol=tolerance + 1e-4)
    asked = [sys.executable, "-c", "import onnxruntime; print(onnxruntime.__version__)"]
    named = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert named.stdout.startswith(version)
