"""A journal keeps whole rows of one job, and is taken up by the same job only."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import journal
from edgekit.errors import InputError
from edgekit.journal import Journal

BEGUN = {"bundle": "b" * 64, "table": "t" * 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three rows."""
    path = tmp_path / "new" / "rows.partial"
    journal = Journal(path, BEGUN)
    assert list(journal.read()) == []
    for row in range(3):
        journal.append({"row": row, "p": 0.1 + row, "patient": "Müller"})
    return path


def test_rows_come_back_as_they_were(path: Path) -> None:
    rows = list(Journal(path, BEGUN).read())
    assert rows == [{"row": row, "p": 0.1 + row, "patient": "Müller"} for row in range(3)]


def test_a_half_written_row_is_dropped_wherever_it_breaks_off(path: Path) -> None:
    whole = path.read_bytes()
    header, *_, last = whole.splitlines(keepends=True)
    for end in range(len(whole) - len(last), len(whole)):
        path.write_bytes(whole[:end])
        journal = Journal(path, BEGUN)
        assert [row["row"] for row in journal.read()] == [0, 1]
        journal.append({"row": "again"})
        assert [row["row"] for row in Journal(path, BEGUN).read()] == [0, 1, "again"]
    for end in range(len(header)):
        path.write_bytes(header[:end])
        assert list(Journal(path, BEGUN).read()) == []
        assert path.read_bytes() == header


@pytest.mark.parametrize(("name", "value"), [("bundle", "c" * 64), ("table", "u" * 64), ("edgekit", "9.9")])
def test_another_job_is_told_what_differs_and_how_to_start_over(path: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    if name == "edgekit":
        monkeypatch.setattr(journal, "VERSION", value)
    with pytest.raises(InputError, match="begun with something else") as error:
        Journal(path, BEGUN if name == "edgekit" else {**BEGUN, name: value})
    assert f"{name} " in error.value.message
    assert f"now {value[:12]}" in error.value.message
    assert error.value.message.count("now") == 1  # the others are the same
    assert f"delete {path}" in error.value.remedy
    assert path.read_bytes() == before


def test_without_rows_there_is_nothing_to_lose(path: Path) -> None:
    header, first, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + first[:-1])
    assert list(Journal(path, {**BEGUN, "table": "u" * 64}).read()) == []
    Journal(path, BEGUN).append({"row": 1})
    with pytest.raises(InputError, match="begun with something else"):
        Journal(path, {**BEGUN, "table": "u" * 64})


@pytest.mark.parametrize("content", [b"patient_id,brand\np1,a\n", b"notes without a line end", b"\x00\xff\n", b"[1, 2]\n", b"{}\n"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.partial"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rows\.partial"):
        Journal(path, BEGUN)
    assert path.read_bytes() == content


def test_a_damaged_row_is_named(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1], b"\x00" * 20 + b"\n", lines[3]]))
    with pytest.raises(InputError, match="line 3: damaged") as error:
        list(Journal(path, BEGUN).read())
    assert f"delete {path}" in error.value.remedy


def test_rows_of_another_schema_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older checkout of the same version left them: their fields are not today's."""
    Journal(tmp_path / "journal", {"table": "1"}).append({"row": 1})
    monkeypatch.setattr("edgekit.journal.SCHEMA", "3")
    with pytest.raises(InputError, match="begun with something else: schema 2, now 3"):
        Journal(tmp_path / "journal", {"table": "1"})
