"""Every folder in export/ is a target: no Python names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.backends import BACKENDS
from edgekit.graphs.places import STAGES
from edgekit.targets import PRECISIONS, list_targets, load_target

EXPORT = Path(__file__).parents[2] / "export"
FOLDERS = sorted(path.name for path in EXPORT.iterdir() if path.is_dir())


def test_each_folder_is_a_target() -> None:
    assert list_targets() == FOLDERS
    assert not list(EXPORT.rglob("__init__.py"))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_recipe_loads_and_the_readme_shows_the_command(name: str) -> None:
    target = load_target(name)
    assert target.backend in BACKENDS
    assert target.precision in PRECISIONS
    assert tuple(target.stages) == STAGES
    assert target.ensemble == "ap+lateral"
    assert f"edgekit export RUN {name}" in (EXPORT / name / "README.md").read_text()
