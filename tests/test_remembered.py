from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.remembered import FOLDER, find_cache_folder, is_remembered, remember

FACT = {"passed": "a check", "model_sha256": "0" * 64, "threads": None, "features": ("avx2",)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_fact_is_known_once_it_was_told_and_no_other_is(cache: Path) -> None:
    assert not is_remembered(FACT)
    remember(FACT)
    assert is_remembered(dict(reversed(FACT.items())))  # the order of its keys is none of it
    for key in FACT:
        assert not is_remembered({**FACT, key: "another"})
        assert not is_remembered({name: value for name, value in FACT.items() if name != key})
    (file,) = (cache / FOLDER).iterdir()
    assert '"model_sha256": "000' in file.read_text()  # people can read what was remembered


def test_the_content_counts_and_not_the_name(cache: Path) -> None:
    remember({**FACT, "threads": 1})
    (other,) = (cache / FOLDER).iterdir()
    remember(FACT)
    (file,) = set((cache / FOLDER).iterdir()) - {other}
    for content in (other.read_bytes(), b"", file.read_bytes()[:-3], file.read_bytes() + b"\n"):
        file.write_bytes(content)
        assert not is_remembered(FACT)
    file.unlink()
    file.mkdir()
    assert not is_remembered(FACT)
    remember(FACT)  # a folder stands in its place


def test_without_a_folder_nothing_is_remembered_and_nothing_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file, where a folder would have to be made")
    remember(FACT)
    assert not is_remembered(FACT)

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")  # as pathlib says it

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(OSError, match="no home"):
        find_cache_folder()
    remember(FACT)
    assert not is_remembered(FACT)


def test_many_may_remember_the_same_at_the_same_time(cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember, [FACT] * 200))
    assert is_remembered(FACT)
    assert len(list((cache / FOLDER).iterdir())) == 1  # no half-written file is left


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {}, "home/.cache"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache"),
        ("darwin", {}, "home/Library/Caches"),
        ("darwin", {"XDG_CACHE_HOME": "{}/chosen"}, "chosen"),
        ("win32", {"LOCALAPPDATA": "{}/local"}, "local"),
    ],
)
def test_the_folder_is_the_systems(
    system: str, environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(sys, "platform", system)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert find_cache_folder() == tmp_path / expected
