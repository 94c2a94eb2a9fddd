"""Documents say what the code does: docs/studies.md and docs/settings.md every column, word, number, key, default and range, and all of
them, docstrings too, names that there are."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from edgekit import studies
from edgekit.bundle import verification_rows
from edgekit.errors import InputError
from edgekit.evaluation.cohort import select_external, select_test
from edgekit.studies import COLUMNS, HAS, LEVELS, NO_CONSTRUCT, NOT_BRANDS, OTHER_METAL, SPLITS, UNKNOWN, read_studies
from edgekit.tables import SEPARATORS
from edgekit.task import PEDICLE_SCREWS, Task, parse_task
from edgekit.training.config import PRESETS, TrainingConfig, load_config
from edgekit.training.requirements import select_teaching

DOCS = Path(__file__).parent.parent / "docs"
STUDIES = (DOCS / "studies.md").read_text(encoding="utf-8")
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
TASKS = (DOCS / "tasks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```csv\n(.*?)^```\n((?:\n?- Refused: [^\n]*\n)*)", STUDIES, re.MULTILINE | re.DOTALL)
PLACES = {"": "At the top of the file", **{name: f"[{name}]" for name in ("detector", "members", "corners", "ensembles")}}


def read_section(document: str, heading: str) -> str:
    return re.split(r"^## ", document.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def read_rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    lines = [line for line in read_section(document, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def read_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# --- names ----------------------------------------------------------------------------------------------------------------------


def list_texts() -> Iterator[tuple[str, str]]:
    """Every document, and every module and test with its docstrings."""
    root = DOCS.parent
    for path in [
        *root.glob("*.md"),
        *(path for folder in ("docs", "edgekit", "tests", "benchmarks") for path in (root / folder).rglob("*")),
    ]:
        if path.suffix in (".py", ".md") and "results" not in path.parts:
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def is_defined(name: str) -> bool:
    """Whether a dotted name of edgekit is a module, or at the top of one; its attributes are not looked for."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = DOCS.parent.joinpath(*parts[:count])
        module = path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
        if module.is_file():
            break
    return count == len(parts) or parts[count] in list_names(ast.parse(module.read_text(encoding="utf-8")))


def list_names(module: ast.Module) -> set[str]:
    """What is defined, imported or assigned at the top of a module."""
    names = set()
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return names


def test_modules_and_what_is_named_in_them_exist() -> None:
    """What moved or was renamed is named as it is now."""
    examples = ("docs/adding-a-backend.md", "docs/adding-a-target.md")  # they name files that the reader writes
    assert is_defined("edgekit.types.Bundle.brands")
    assert not is_defined("edgekit.types.Bundles")
    missing = []
    for place, text in list_texts():
        missing += [f"{place}: {name}" for name in re.findall(r"`+(edgekit(?:\.\w+)+)`+", text) if not is_defined(name)]
        if place not in examples:
            paths = re.findall(r"`((?:edgekit|export|tests|benchmarks|sample_app)/[\w./-]*)`", text)
            missing += [f"{place}: {path}" for path in paths if not (DOCS.parent / path).exists()]
    assert missing == []


# --- studies.md -----------------------------------------------------------------------------------------------------------------


def test_the_columns_of_the_document_are_those_of_the_code() -> None:
    optional = (f"{HAS}{OTHER_METAL}", LEVELS)
    stated = [row[0].strip("`") for row in read_rows(STUDIES, "Columns")]
    assert tuple(name for name in stated if name not in optional) == COLUMNS
    assert all(name in stated for name in optional)


def test_the_words_of_the_document_are_those_of_the_code() -> None:
    section = read_section(STUDIES, "Words in the column brand")
    assert [row[0].strip("`") for row in read_rows(STUDIES, "Words in the column brand")] == [NO_CONSTRUCT, UNKNOWN, "any other text"]
    assert tuple(read_code(section.partition("refused as brands, in upper or lower case:")[2].partition("```")[0])) == NOT_BRANDS

    assert f"rows, `{studies.EXAMPLES[0][0]}` to `{studies.EXAMPLES[-1][0]}`, are refused" in STUDIES


def test_the_splits_of_the_document_are_those_of_the_code() -> None:
    rows = read_rows(STUDIES, "Splits")
    assert tuple(row[0].strip("`") for row in rows) == SPLITS
    assert {row[0].strip("`"): int(row[2]) for row in rows if row[2] != "0"} == studies.LEAST_PATIENTS
    shares = inspect.signature(studies.split_studies).parameters["fractions"].default
    stated = re.search(r"gives (\d+) % of the patients to train, (\d+) % to validation and (\d+) % to test", STUDIES)
    assert stated is not None
    assert [int(percent) / 100 for percent in stated.groups()] == list(shares)


def test_the_overshoot_and_the_separators_of_the_document_are_those_of_the_code() -> None:
    assert f"by at most {studies.OVERSHOOT * 100:g} % of the film's side" in STUDIES
    names = {"commas": ",", "semicolons": ";", "tabs": "\t"}
    stated = re.search(r"CSV with (\w+), (\w+) or (\w+) between the cells", STUDIES)
    assert stated is not None
    assert tuple(names[name] for name in stated.groups()) == SEPARATORS


def test_each_command_reads_the_splits_that_the_document_says(tmp_path: Path) -> None:
    table = tmp_path / "studies.csv"
    rows = [f"{split},maker-model,,{split},{split}.png,,,," for split in SPLITS]
    rows += ["unsplit,maker-model,,,unsplit.png,,,,", "excluded,maker-model,,test,excluded.png,,,,motion blur"]
    for row in rows:
        (tmp_path / f"{row.split(',')[0]}.png").write_bytes(b"not decoded here")
    table.write_text("\n".join([",".join(COLUMNS), *rows]))
    read = read_studies(table)
    taught = select_teaching(read)
    asked = {
        "train": [*taught["train"], *taught["validation"]],
        "evaluate": [*select_test(table, read), *studies.select(read, "readers"), *select_external(table, read)],
        "verify": verification_rows(table, PEDICLE_SCREWS.views),
    }
    stated = {read_code(row[0])[0]: read_code(row[1]) for row in read_rows(STUDIES, "What each command reads")}
    for command, taken in asked.items():
        assert [word for word in stated[command] if word in SPLITS] == [study.split for study in taken]
    table.write_text("\n".join([",".join(COLUMNS), "p,maker-model,,,test.png,,,,", "q,,,,,readers.png,,,"]))
    assert len(verification_rows(table, PEDICLE_SCREWS.views)) == len(select_test(table, read_studies(table))) == 2


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_table_is_read_or_refused_as_the_document_says(number: int, tmp_path: Path) -> None:
    table, said = EXAMPLES[number]
    (tmp_path / "films").mkdir()
    for film in re.findall(r"films[/\\]([^,;]+)", table):
        if "missing" not in film:
            (tmp_path / "films" / film).write_bytes(b"not decoded here")
    path = tmp_path / "studies.csv"
    path.write_text(table, encoding="utf-8")
    refusals = re.findall(r"^- Refused: line (\d+), `(.+)`$", said, re.MULTILINE)
    if not refusals:
        assert len(read_studies(path)) == len(re.findall(r"^p-", table, re.MULTILINE))
        return
    with pytest.raises(InputError) as caught:
        read_studies(path)
    errors = re.findall(r"studies\.csv:(\d+)(.*)", caught.value.message)
    assert len(errors) == len(refusals)
    for line, reason in refusals:
        assert any(line == at and reason in error for at, error in errors), (line, reason, errors)


def test_the_document_has_tables_that_are_read_and_tables_that_are_refused() -> None:
    assert len(EXAMPLES) == STUDIES.count("```csv") == 8
    assert sum(said.count("Refused") for _, said in EXAMPLES) == STUDIES.count("- Refused") > 10
    assert sum(not said for _, said in EXAMPLES) == 3


# --- settings.md ----------------------------------------------------------------------------------------------------------------


def list_keys() -> dict[str, list[str]]:
    """Keys of the code by section; the top of the file is ``""``."""
    hints = get_type_hints(TrainingConfig)
    sections: dict[str, list[str]] = {"": []}
    for field in fields(TrainingConfig):
        if field.name == "task":  # tasks.md
            continue
        if is_dataclass(hints[field.name]):
            sections[field.name] = [key.name for key in fields(hints[field.name])]
        else:
            sections[""].append(field.name)
    return sections


def list_settings() -> Iterator[tuple[str, str, list[str]]]:
    """Section, key and cells of every setting in the document."""
    for section, heading in PLACES.items():
        for row in read_rows(SETTINGS, heading):
            yield section, row[0].strip("`"), row


def test_the_keys_of_the_document_are_those_of_the_code() -> None:
    stated: dict[str, list[str]] = {section: [] for section in PLACES}
    for section, key, row in list_settings():
        stated[section].append(key)
        assert len(row) == 6
        assert all(row), key
    assert stated == list_keys()
    assert [heading for heading in re.findall(r"^## (.+)$", SETTINGS, re.MULTILINE) if heading not in PLACES.values()] == []


@pytest.mark.parametrize("column", range(len(PRESETS)), ids=PRESETS)
def test_the_defaults_of_the_document_are_those_of_the_presets(column: int) -> None:
    preset = load_config(PRESETS[column])
    for section, key, row in list_settings():
        value = getattr(getattr(preset, section) if section else preset, key)
        stated = tomllib.loads(f"value = {row[3 + column].strip('`')}")["value"]
        assert (type(stated), stated) == ((list, list(value)) if isinstance(value, tuple) else (type(value), value)), (section, key)


def judge(folder: Path, section: str, key: str, value: Any) -> str:
    """What `load_config` has against a value; empty when it is accepted."""
    text = f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
    (folder / "mine.toml").write_text(f"[{section}]\n{text}" if section else text)
    try:
        load_config("demo", folder / "mine.toml")
    except InputError as error:
        reason = f"{error.message} {error.remedy}"
        assert key in reason
        return reason
    return ""


NUMBER = re.compile(r"(?:(?P<or>0), or )?(?P<open>above |at least )?(?P<low>[0-9.]+)(?: to (?P<below>below )?(?P<high>[0-9.]+))?")
MULTIPLES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "multiple of 32": ((32, 64, 256), (-32, 0, 16, 48, 100)),
    "multiple of 32 that divides `canvas_side`": ((32, 96, 256, 768), (-32, 0, 24, 160, 1536)),
    "multiple of `[detector] side`": ((192, 384, 768), (-192, 0, 96, 288, 700)),
}
"""Some sides that are accepted and some that are not, with the demo's other settings."""
FREE = "`auto`, or what torch calls it: `cpu`, `cuda`, `cuda:1`, `mps`"


@pytest.mark.parametrize(("section", "key", "row"), [*list_settings()], ids=lambda part: part if isinstance(part, str) else "")
def test_a_range_of_the_document_is_that_of_the_code(section: str, key: str, row: list[str], tmp_path: Path) -> None:
    stated, whole = row[2], re.fullmatch(r"`\d+`", row[3]) is not None
    if stated == FREE:
        assert not any(judge(tmp_path, section, key, name) for name in read_code(stated))
    elif stated == "`true` or `false`":
        assert not any(judge(tmp_path, section, key, value) for value in (True, False))
        assert judge(tmp_path, section, key, 1)
    elif stated in MULTIPLES:
        accepted, refused = MULTIPLES[stated]
        assert not any(judge(tmp_path, section, key, value) for value in accepted)
        assert all(judge(tmp_path, section, key, value) for value in refused)
    elif stated.startswith("one "):
        several = stated.startswith("one or more of ")
        for name in read_code(stated):
            assert not judge(tmp_path, section, key, [name] if several else name)
        choices = judge(tmp_path, section, key, ["other"] if several else "other").rpartition("choose ")[2]
        assert choices.removeprefix("one of ").removeprefix("from ").split(", ") == read_code(stated)
    else:
        bounds = NUMBER.fullmatch(stated)
        assert bounds is not None, stated
        step = 1 if whole else 1e-6
        kind = int if whole else float
        low, inclusive = kind(bounds["low"]), bounds["open"] != "above "
        assert bool(judge(tmp_path, section, key, low)) is not inclusive
        assert judge(tmp_path, section, key, low - step)
        assert not judge(tmp_path, section, key, low + step)
        if bounds["or"]:
            assert not judge(tmp_path, section, key, 0)
        if bounds["high"]:
            high = kind(bounds["high"])
            assert bool(judge(tmp_path, section, key, high)) is bool(bounds["below"])
            assert judge(tmp_path, section, key, high + step)
            assert not judge(tmp_path, section, key, high - step)
        else:
            assert not judge(tmp_path, section, key, 10**6 if whole else 1e6)
        assert bool(judge(tmp_path, section, key, low + 1.5)) is (whole or bool(bounds["high"] and low + 1.5 > float(bounds["high"])))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_example_settings_of_the_document_are_accepted(preset: str, tmp_path: Path) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```", SETTINGS, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        (tmp_path / "mine.toml").write_text(example)
        assert load_config(preset, tmp_path / "mine.toml") != load_config(preset)


# --- tasks.md -------------------------------------------------------------------------------------------------------------------


def test_the_keys_of_a_task_are_those_of_the_code() -> None:
    stated = re.findall(r"^\| `(\w+)` \|", TASKS, re.MULTILINE)
    assert stated == [field.name for field in fields(Task)]


def test_the_defaults_of_a_task_are_those_of_the_code() -> None:
    least = parse_task({"name": "hips", "views": ["front"]}, "here").to_json()
    for key, default in re.findall(r"^\| `(\w+)` \|[^|]+\| `([^`]+)` \|", TASKS, re.MULTILINE):
        stated = {"true": True, "false": False}.get(default, default.replace("<told>", "brand"))
        assert least[key] == stated, key


def test_the_example_tasks_train(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.+?)```", TASKS, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "task.toml").write_text(example)
        config = load_config("paper", tmp_path / "task.toml")
        assert config.task == parse_task(tomllib.loads(example)["task"], "here")
        assert config.members.names == tuple(member.name for member in config.task.members)


def test_the_example_table_of_a_task_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```csv\n(.+?)```", TASKS, re.DOTALL)
    (tmp_path / "films").mkdir()
    for film in re.findall(r"films/([^,]+)", example):
        (tmp_path / "films" / film).write_bytes(b"not decoded here")
    (tmp_path / "studies.csv").write_text(example)
    rows = read_studies(tmp_path / "studies.csv")
    assert [(row.brand, list(row.films), row.has) for row in rows] == [("maker-one", ["front"], {}), ("maker-two", ["front"], {})]
    studies.write_studies(tmp_path / "again.csv", rows)
    assert (tmp_path / "again.csv").read_text() == example
