"""studies.csv: what is read, what is refused and how it is said, and a split that is exact, by patient and reproducible."""

import dataclasses
import itertools
import json
import signal
import threading
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import radiograph
from edgekit import studies as module
from edgekit.cli import run
from edgekit.errors import InputError
from edgekit.film_check import check_films
from edgekit.studies import Findings, count_films, count_patients, read_studies, select, split_studies, write_studies
from edgekit.types import Radiograph, Study

HEADER = "patient_id,brand,has_crosslink,split,ap,lateral,ap_box,lateral_box,exclude"
SHARES = {"train": 0.64, "validation": 0.16, "test": 0.20}


def save_film(path: Path, number: int, side: int = 40) -> Path:
    """A film with pixels of its own."""
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (side, 30), np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    for number, name in enumerate(("a1.png", "a2.png", "b1.png", "b2.png"), 1000):
        save_film(tmp_path / "films" / name, number)
    return tmp_path


def write_table(folder: Path, *lines: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
    path = folder / "studies.csv"
    path.write_text("\n".join((header, *lines)) + "\n", encoding=encoding)
    return path


def refuse(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_studies(path)
    assert caught.value.exit_code == 4
    assert caught.value.remedy
    return caught.value.message


# --- reading --------------------------------------------------------------------------------------------------------------------


def test_a_table_may_tell_levels_and_other_metal(folder: Path) -> None:
    header = HEADER.replace("has_crosslink", "has_crosslink,has_other_metal") + ",levels"
    path = write_table(
        folder,
        "p1,design-a,1,1,train,films/a1.png,films/a2.png,,,,4",
        "p2,none,,0,test,films/b1.png,,,,,0",
        "p3,,,,,films/b2.png,,,,,",
        header=header,
    )
    studies = read_studies(path)
    assert [study.levels for study in studies] == [4, 0, None]
    assert [study.has["other_metal"] for study in studies] == [True, False, None]
    write_studies(folder / "again.csv", studies)
    assert (folder / "again.csv").read_text() == path.read_text()
    write_studies(folder / "without.csv", [dataclasses.replace(study, levels=None) for study in studies])
    assert "levels" not in (folder / "without.csv").read_text()


@pytest.mark.parametrize(
    ("brand", "levels", "expected"),
    [
        ("design-a", "two", "a whole number from 0 to 26, or empty"),
        ("design-a", "27", "a whole number from 0 to 26, or empty"),
        ("design-a", "-1", "a whole number from 0 to 26, or empty"),
        ("design-a", "\u00b2", "a whole number from 0 to 26, or empty"),
        ("design-a", "0", "1 or more, because there is a construct"),
        ("none", "3", "0 or empty, because the brand is 'none'"),
    ],
)
def test_impossible_levels_are_refused(folder: Path, brand: str, levels: str, expected: str) -> None:
    said = refuse(write_table(folder, f"p1,{brand},,,films/a1.png,,,,,{levels}", header=HEADER + ",levels"))
    assert f"column 'levels': got {levels!r}, expected {expected}" in said


def test_other_metal_is_no_property_to_split_by() -> None:
    """Patients alike but for other metal are one stratum: the split is that of patients without the property."""
    plain = make_patients({("x", None): 40})
    marked = [dataclasses.replace(study, has={"other_metal": bool(number % 2)}) for number, study in enumerate(plain)]
    assert [study.split for study in split_studies(marked, 3)] == [study.split for study in split_studies(plain, 3)]


def test_a_table_becomes_studies(folder: Path) -> None:
    path = write_table(
        folder,
        "p1,design-a,1,train,films/a1.png,films/a2.png,1 2 20.5 30,0 0 30 40,",
        "p2,none,,test,films/b1.png,,,,",
        "p3,,0,,,films/b2.png,,,motion blur",
    )
    films = folder / "films"
    assert read_studies(path) == [
        Study(
            "p1",
            "design-a",
            has={"crosslink": True},
            split="train",
            films={"ap": films / "a1.png", "lateral": films / "a2.png"},
            boxes={"ap": (1, 2, 20.5, 30), "lateral": (0, 0, 30, 40)},
        ),
        Study(
            "p2",
            "none",
            has={"crosslink": None},
            split="test",
            films={"ap": films / "b1.png", "lateral": None},
            boxes={"ap": None, "lateral": None},
        ),
        Study(
            "p3",
            None,
            has={"crosslink": False},
            films={"ap": None, "lateral": films / "b2.png"},
            boxes={"ap": None, "lateral": None},
            exclude="motion blur",
        ),
    ]


def test_what_spreadsheets_do_to_a_table(folder: Path) -> None:
    expected = read_studies(write_table(folder, "p1,Größe 5,1,train,films/a1.png,,1 2 20 30,,"))
    line = "p1,Größe 5,1,train,films\\a1.png,,1 2 20 30,,"
    for delimiter, encoding in itertools.product(",;\t", ("utf-8", "utf-8-sig")):
        lines = [text.replace(",", delimiter) for text in (line, ",,,,,,,,", "")]
        path = write_table(folder, *lines, header=HEADER.replace(",", delimiter), encoding=encoding)
        assert read_studies(path) == expected
    columns = HEADER.split(",")
    path = write_table(folder, *[",".join(reversed(line.split(",")))], header=",".join(reversed(columns)))
    assert read_studies(path) == expected
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_studies(path) == expected
    lines = [text.replace(",", "\t") for text in (line, ",,,,,,,,")]
    assert read_studies(write_table(folder, *lines, header=HEADER.replace(",", " \t "), encoding="utf-16")) == expected
    assert ":2 can't be read: byte 0xf6 is not UTF-8" in refuse(write_table(folder, line, encoding="latin-1"))


def test_boxes_with_decimal_commas(folder: Path) -> None:
    header = HEADER.replace(",", ";")
    path = write_table(
        folder,
        "sep=;",
        header,
        "p1;a;;;films/a1.png;;0,5 1,5 20 30,25;;",
        "p2;a;;;films/a2.png;;1,234 0 20,5 30;;",  # the second comma is a decimal mark, so the first is one
        header="",
    )
    path.write_text(path.read_text().lstrip("\n"))
    assert [study.box("ap") for study in read_studies(path)] == [(0.5, 1.5, 20, 30.25), (1.234, 0, 20.5, 30)]
    message = refuse(write_table(folder, "p1;a;;;films/a1.png;;1,234 1,300 2,000 2,100;;", header=header))
    assert "studies.csv:2 column 'ap_box': got '1,234 1,300 2,000 2,100', expected numbers with a decimal point" in message
    assert "'1,234' may mean 1.234 or 1234" in message
    assert "four numbers" in refuse(write_table(folder, "p1;a;;;films/a1.png;;1,2,3,4;;", header=header))


def test_names_in_either_normal_form_are_the_same(folder: Path) -> None:
    """A table typed on Windows, films unpacked on a Mac; and the other way round in its second row."""
    composed, decomposed = (unicodedata.normalize(form, "Größe é") for form in ("NFC", "NFD"))
    for name in (f"{decomposed} 1.png", f"{composed} 2.png"):
        (folder / "films" / "a1.png").rename(folder / "films" / name)
        save_film(folder / "films" / "a1.png", 9)
    path = write_table(
        folder,
        f"{composed},{composed},,train,films/{composed} 1.png,,,,",
        f"{decomposed},{decomposed},,train,films/{decomposed} 2.png,,,,",
    )
    first, second = read_studies(path)
    assert (first.patient_id, first.brand) == (second.patient_id, second.brand) == (composed, composed)
    assert first.film("ap") == folder / "films" / f"{decomposed} 1.png"
    assert second.film("ap") == folder / "films" / f"{composed} 2.png"
    assert count_patients([first, second])[composed]["train"] == 1
    check_films([first, second])
    path.write_text(path.read_text().replace(",train,", ",test,", 1))
    assert "'train'" in refuse(path) or "'test'" in refuse(path), "one patient in two splits"


def test_every_error_of_every_row_is_reported_at_once(folder: Path) -> None:
    path = write_table(
        folder,
        "p1,design-a,1,train,films/a1.png,films/a2.png,1 2 20 30,,",
        "p1,design-a,yes,testing,films/a1.png,films/a2.png,1 2 20,30 0 10 40,",
        ",design-a,,,,,,,",
        "p2,none,,test,films/b1.png,,0 0 5 5,,",
        "p3,design-b,,test,films/b2.png,,0 0 5 5,0 0 9 9,",
        "p1,design-a,1,test,films/a1.png,,,,",
        "p4,design-b,,test,films/b2.png,,,,",
        "p5,None,0,,films/gone.png,,,,",
        "p6,design-b,0",
        "p7,design-b,0,,films/b2.png,,1 1 nan 5,,",
    )
    message = refuse(path)
    lines = [line.strip() for line in message.splitlines()]
    expected = [
        (3, "has_crosslink", "'yes'", "0, 1 or empty"),
        (3, "split", "'testing'", "train, validation, test, readers, external"),
        (3, "ap_box", "'1 2 20'", "x0 y0 x1 y1"),
        (3, "lateral_box", "'30 0 10 40'", "x0 < x1"),
        (4, "patient_id", "''", "identifier"),
        (4, "ap", "''", "'lateral'"),
        (5, "ap_box", "'0 0 5 5'", "'none'"),
        (6, "lateral_box", "'0 0 9 9'", "no film"),
        (7, "split", "'test'", "'train'"),
        (8, "ap", "'films/b2.png'", "p3"),
        (9, "brand", "'None'", "lower case"),
        (9, "ap", "'films/gone.png'", "existing file"),
        (11, "ap_box", "'1 1 nan 5'", "x0 y0 x1 y1"),
    ]
    for number, column, got, wanted in expected:
        (line,) = [line for line in lines if line.startswith(f"{path}:{number} column {column!r}: got {got}, expected ")]
        assert wanted in line.partition("expected")[2], line
    assert f"{path}:10 has 3 cells, expected 9" in lines
    numbers = [int(line.removeprefix(f"{path}:").split()[0]) for line in lines[1:]]
    assert numbers == sorted(numbers)
    assert "2" not in {str(number) for number in numbers}


def test_wrong_columns_are_named(folder: Path) -> None:
    message = refuse(write_table(folder, header=HEADER.replace("brand", "Brand").replace(",exclude", ",split")))
    for word in ("'brand' is missing", "'Brand' is unknown", "'exclude' is missing", "'split' appears 2 times"):
        assert word in message
    (folder / "studies.csv").write_bytes(b"")
    assert "'patient_id' is missing" in refuse(folder / "studies.csv")


def test_unusable_tables(folder: Path) -> None:
    assert "no rows" in refuse(write_table(folder))
    assert "No such file" in refuse(folder / "missing.csv")
    assert "directory" in refuse(folder)
    assert "UTF-8" in refuse(folder / "films" / "a1.png")


# --- writing --------------------------------------------------------------------------------------------------------------------


def test_writing_and_reading_give_the_same_rows(folder: Path) -> None:
    studies = [
        Study(
            "p1",
            "brand, with comma",
            has={"crosslink": True},
            split="train",
            films={"ap": folder / "films/a1.png", "lateral": folder / "films/a2.png"},
            boxes={"ap": (0.1, 2, 20.5, 30), "lateral": None},
        ),
        Study(
            "p2",
            None,
            has={"crosslink": False},
            films={"ap": None, "lateral": folder / "films/b1.png"},
            boxes={"ap": None, "lateral": (1 / 3, 0, 9, 9)},
            exclude='said "no"\nand more',
        ),
        Study(
            "p3",
            "none",
            has={"crosslink": None},
            split="external",
            films={"ap": folder / "films/b2.png", "lateral": None},
            boxes={"ap": None, "lateral": None},
        ),
    ]
    write_studies(folder / "out.csv", studies)
    assert read_studies(folder / "out.csv") == studies
    assert "films/a1.png" in (folder / "out.csv").read_text()
    assert str(folder) not in (folder / "out.csv").read_text()
    (folder / "tables").mkdir()
    write_studies(folder / "tables" / "out.csv", studies)
    assert "../films/a1.png" in (folder / "tables" / "out.csv").read_text()
    again = read_studies(folder / "tables" / "out.csv")
    assert [study.film("ap") and study.film("ap").resolve() for study in again] == [
        study.film("ap") and study.film("ap").resolve() for study in studies
    ]


def test_a_table_appears_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(folder, "p1,,,,films/a1.png,,,,")
    before = path.read_bytes()

    def fail(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InputError, match="No space left"):
        write_studies(path, read_studies(path))
    assert path.read_bytes() == before
    assert sorted(file.name for file in folder.iterdir()) == ["films", "studies.csv"]


# --- splitting ------------------------------------------------------------------------------------------------------------------


def make_patients(counts: dict[tuple[str | None, bool | None], int], **fields: object) -> list[Study]:
    """One row a patient; `counts` patients of each brand and crosslink."""
    keys = itertools.chain.from_iterable([key] * number for key, number in counts.items())
    return [
        Study(f"p{place:04d}", brand, **fields, films={"ap": Path("x.png"), "lateral": None})  # type: ignore[arg-type]
        for place, (brand, crosslink) in enumerate(keys)
    ]


def assert_shares(studies: Sequence[Study], tolerance: float = 1.0) -> None:
    found = Counter(study.split for study in studies)
    for split, share in SHARES.items():
        assert abs(found[split] - share * len(studies)) < tolerance, (found, len(studies))


@pytest.mark.parametrize("seed", range(40))
def test_counts_are_exact_to_one_patient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = itertools.product([f"brand-{k}" for k in range(rng.integers(1, 10))] + ["none"], (True, False, None))
    studies = split_studies(make_patients({key: int(rng.integers(1, 25)) for key in strata}), seed)
    groups = defaultdict(list)
    for study in studies:
        groups[study.brand, study.has.get("crosslink")].append(study)
        groups[study.brand, "any"].append(study)
    for group in groups.values():
        assert_shares(group)
    assert_shares(studies, 2.0)


def test_even_brands_split_evenly() -> None:
    strata = itertools.product([f"design-{k}" for k in "abcdefg"], (True, False))
    studies = split_studies(make_patients(dict.fromkeys(strata, 10)), 0)
    assert Counter(study.split for study in studies) == {"train": 90, "validation": 22, "test": 28}


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7])
def test_small_brands_are_in_every_split(number: int) -> None:
    for with_crosslink in range(number + 1):
        counts = {("small", True): with_crosslink, ("small", False): number - with_crosslink, ("large", False): 50}
        studies = split_studies(make_patients(counts), 3)
        assert {study.split for study in studies if study.brand == "small"} == set(SHARES)


def test_too_small_brands_are_named() -> None:
    with pytest.raises(InputError, match=r"rare \(2\), single \(1\)") as caught:
        split_studies(make_patients({("rare", True): 1, ("rare", False): 1, ("single", None): 1, ("fine", None): 9, ("none", None): 1}), 0)
    assert caught.value.exit_code == 4


def test_a_seed_gives_one_split_whatever_the_order() -> None:
    studies = make_patients({("a", True): 30, ("a", False): 30, ("b", None): 40})
    split = {study.patient_id: study.split for study in split_studies(studies, 5)}
    shuffled = [studies[place] for place in np.random.default_rng(0).permutation(len(studies))]
    again = split_studies(shuffled, 5)
    assert [study.patient_id for study in again] == [study.patient_id for study in shuffled]
    assert {study.patient_id: study.split for study in again} == split
    assert {study.patient_id: study.split for study in split_studies(split_studies(studies, 9), 5)} == split
    assert {study.patient_id: study.split for study in split_studies(studies, 6)} != split


def test_patients_are_never_divided() -> None:
    rows = [
        dataclasses.replace(study, brand="none" if visit == 0 and place % 3 == 0 else study.brand).with_film(
            "lateral", Path(f"{visit}.png"), study.box("lateral")
        )
        for place, study in enumerate(make_patients({("a", True): 20, ("a", False): 20, ("b", None): 20}))
        for visit in range(3)
    ]
    studies = split_studies(rows, 1)
    splits = defaultdict(set)
    for study in studies:
        splits[study.patient_id].add(study.split)
    assert all(len(found) == 1 for found in splits.values())
    assert_shares([study for study in studies[1::3] if study.brand == "a"])
    assert_shares([study for study in studies[1::3] if study.brand == "b"])


@pytest.mark.parametrize("seed", range(5))
def test_films_before_surgery_leave_a_patient_his_brand(seed: int) -> None:
    operated = make_patients({("a", None): 3})
    before = [dataclasses.replace(study, brand="none") for study in operated]
    others = [dataclasses.replace(study, patient_id=f"n{study.patient_id}") for study in make_patients({("none", None): 30})]
    studies = split_studies([*before, *operated, *others], seed)
    assert {study.split for study in studies[:3]} == {study.split for study in studies[3:6]} == set(SHARES)


def test_readers_external_unknown_and_excluded_rows() -> None:
    fixed = [
        Study(
            "r1",
            "a",
            has={"crosslink": None},
            split="readers",
            films={"ap": Path("x"), "lateral": None},
            boxes={"ap": None, "lateral": None},
        ),
        Study("r1", "a", has={"crosslink": None}, films={"ap": Path("x"), "lateral": None}, boxes={"ap": None, "lateral": None}),
        Study(
            "e1",
            "rare",
            has={"crosslink": None},
            split="external",
            films={"ap": Path("x"), "lateral": None},
            boxes={"ap": None, "lateral": None},
        ),
    ]
    unknown = [
        Study(
            "u1",
            None,
            has={"crosslink": None},
            split="train",
            films={"ap": Path("x"), "lateral": None},
            boxes={"ap": None, "lateral": None},
        ),
        Study("p0000", None, has={"crosslink": None}, films={"ap": Path("x"), "lateral": None}, boxes={"ap": None, "lateral": None}),
    ]
    excluded = [
        Study(
            "x1",
            "rare",
            has={"crosslink": None},
            split="test",
            films={"ap": Path("x"), "lateral": None},
            boxes={"ap": None, "lateral": None},
            exclude="broken",
        ),
        Study(
            "p0001",
            "a",
            has={"crosslink": None},
            films={"ap": Path("x"), "lateral": None},
            boxes={"ap": None, "lateral": None},
            exclude="blurred",
        ),
    ]
    studies = split_studies([*fixed, *unknown, *excluded, *make_patients({("a", None): 10})], 0)
    assert [study.split for study in studies[:6]] == ["readers", None, "external", None, None, None]
    assert studies[6].split == next(study.split for study in studies[7:] if study.patient_id == "p0001")
    assert_shares(studies[7:])


def test_select_leaves_excluded_rows_out() -> None:
    studies = [Study("1", split="train"), Study("2", split="test"), Study("3", split="train", exclude="blurred"), Study("4")]
    assert [study.patient_id for study in select(studies, "train", "test")] == ["1", "2"]
    assert select(studies, "readers") == []


# --- checking -------------------------------------------------------------------------------------------------------------------


def test_counts_by_hand() -> None:
    studies = [
        Study("1", "a", split="train", films={"ap": Path("x"), "lateral": Path("y")}),
        Study("1", "a", split="train", films={"ap": Path("x"), "lateral": None}),
        Study("2", "a", split="test", films={"ap": None, "lateral": Path("x")}),
        Study("3", None, films={"ap": Path("x"), "lateral": None}),
        Study("4", "b", exclude="blurred", films={"ap": Path("x"), "lateral": None}),
    ]
    patients = count_patients(studies)
    assert {brand: {split: n for split, n in splits.items() if n} for brand, splits in patients.items()} == {
        "a": {"train": 1, "test": 1},
        "unknown": {"unassigned": 1},
    }
    assert count_films(studies) == {"ap": 3, "lateral": 2}


def test_all_unusable_films_are_listed(folder: Path) -> None:
    films = folder / "films"
    (films / "a2.png").write_bytes((films / "a2.png").read_bytes()[:60])
    (films / "b1.png").write_bytes(b"")
    studies = [
        Study("1", "a", films={"ap": films / "a1.png", "lateral": films / "a2.png"}, boxes={"ap": (0, 0, 30, 40), "lateral": None}),
        Study("2", "a", films={"ap": films / "b1.png", "lateral": films / "b2.png"}, boxes={"ap": None, "lateral": (0, 0, 30.5, 40)}),
        Study("3", "a", exclude="empty file", films={"ap": films / "b1.png", "lateral": None}),
    ]
    with pytest.raises(InputError, match="3 films") as caught:
        check_films(studies)
    lines = caught.value.message.splitlines()[1:]
    assert len(lines) == 3
    for line, words in zip(lines, [("a2.png", "cut off"), ("b1.png", "empty"), ("b2.png", "0 0 30.5 40", "30 x 40 pixels")], strict=True):
        assert all(word in line for word in words), line
    check_films(studies[2:])


def test_a_film_in_two_splits_is_a_leak_however_it_is_stored(folder: Path) -> None:
    """The same pixels in two PNG files of other compression: other bytes, one film."""
    films = folder / "films"
    first, other = save_film(films / "a.png", 1), save_film(films / "other.png", 2)
    second = films / "b.png"
    Image.open(first).save(second, compress_level=0)
    assert first.read_bytes() != second.read_bytes()
    rows = [
        Study("p1", "a", split="train", films={"ap": first, "lateral": None}),
        Study("p2", "a", split="train", films={"ap": None, "lateral": other}),
        Study("p3", "a", split="test", films={"ap": None, "lateral": second}),
    ]
    with pytest.raises(InputError) as caught:
        check_films(rows)
    assert caught.value.exit_code == 4
    assert caught.value.message == (
        "1 film is in two splits under two names, with the same pixels:\n"
        f"  {first} (patient p1, split train) and {second} (patient p3, split test)"
    )
    assert "exclude" in caught.value.remedy
    assert check_films([dataclasses.replace(row, exclude="twice" if row.film("ap") else None) for row in rows]).hints == []
    assert check_films([dataclasses.replace(row, split="train", patient_id="p1") for row in rows]).hints == []
    for split in ("train", None):
        (hint,) = check_films([dataclasses.replace(row, split=split) for row in rows]).hints
        assert all(word in hint for word in (str(first), str(second), "patient p1", "patient p3"))
        assert "other.png" not in hint


def test_films_of_equal_bytes_and_another_shape_are_two(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 60), np.uint8)
    paths = [folder / "wide.png", folder / "high.png"]
    for path, shape in zip(paths, ((30, 60), (60, 30)), strict=True):
        Image.fromarray(pixels.reshape(shape)).save(path)
    assert (
        check_films(
            [
                Study("p1", "a", split="train", films={"ap": paths[0], "lateral": None}),
                Study("p2", "a", split="test", films={"ap": paths[1], "lateral": None}),
            ]
        ).hints
        == []
    )


def test_bad_films_and_leaks_are_listed_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = folder / "films"
    (films / "broken.png").write_bytes(b"no film")
    first, second, wild = save_film(films / "1.png", 1), save_film(films / "2.png", 1), save_film(films / "wild.png", 3)
    read = radiograph.read_radiograph

    def read_wildly(film: Path) -> Radiograph:
        if film == wild:
            raise ZeroDivisionError("inside a codec")
        return read(film)

    monkeypatch.setattr(radiograph, "read_radiograph", read_wildly)
    with pytest.raises(InputError) as caught:
        check_films(
            [
                Study(
                    "p1",
                    "a",
                    split="train",
                    films={"ap": wild, "lateral": films / "broken.png"},
                    boxes={"ap": None, "lateral": (0, 0, 5, 5)},
                ),
                Study("p2", "a", split="train", films={"ap": first, "lateral": None}, boxes={"ap": (0, 0, 31, 40), "lateral": None}),
                Study("p3", "a", split="readers", films={"ap": second, "lateral": None}),
            ]
        )
    lines = caught.value.message.splitlines()
    assert lines[0] == "3 films can't be used:"
    assert lines[1] == f"  {wild}: can't be decoded (ZeroDivisionError: inside a codec)"
    assert lines[2].startswith(f"  {films / 'broken.png'}")
    assert "reaches beyond the film, which is 30 x 40 pixels" in lines[3]
    assert lines[4].startswith("1 film is in two splits")
    assert len(lines) == 6


def test_a_check_that_is_stopped_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: what was decoded isn't decoded again, unless it was changed meanwhile; a bad film stays bad."""
    films = [save_film(folder / f"{number}.png", number) for number in range(40)]
    (folder / "0.png").write_bytes(b"no film")
    table = write_table(folder, *[f"p{number},a,,train,{number}.png,,,," for number in range(40)])
    read = radiograph.read_radiograph
    decoded: list[Path] = []
    interrupt = 20

    def count(film: Path) -> Radiograph:
        decoded.append(film)
        if len(decoded) == interrupt:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        if len(decoded) >= interrupt:
            time.sleep(0.3)  # the films in flight: the others must not be waited for
        return read(film)

    monkeypatch.setattr(radiograph, "read_radiograph", count)
    # Where these tests run in the background, SIGINT is ignored.
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(["studies", "check", str(table)]) == 130
    finally:
        signal.signal(signal.SIGINT, heeded)
    (kept,) = folder.glob(".*checking*")
    lines = kept.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    before = len(lines) - 1
    assert 16 <= before < 36, "20, but for the films in flight until the interrupt arrives"
    save_film(films[1], 100, side=41)
    interrupt = 1000
    decoded.clear()
    with pytest.raises(InputError, match=r"1 film can't be used:\n  .*0\.png"):
        check_films(read_studies(table), table)
    assert len(decoded) == 40 - before + 1
    assert films[1] in decoded
    assert films[0] not in decoded
    assert list(folder.glob(".*checking*")) == [], "the check ended"
    decoded.clear()
    films[0].unlink()
    save_film(films[0], 0)
    assert check_films(read_studies(table), table) == Findings([], [])
    assert len(decoded) == 40


@pytest.mark.parametrize("content", [b"{", b"nonsense\n", b'{"edgekit": "0.0.1"}\n[["x", 1, 2], [1, 2, "a", ""]]\n'])
def test_what_another_version_kept_is_not_used(folder: Path, content: bytes) -> None:
    table = write_table(folder, "p1,a,,train,films/a1.png,,,,")
    (folder / ".studies.csv.checking").write_bytes(content)
    check_films(read_studies(table), table)
    assert not (folder / ".studies.csv.checking").exists()


def test_where_nothing_can_be_kept_the_check_runs_all_the_same(folder: Path) -> None:
    table = write_table(folder, "p1,a,,train,films/a1.png,,,,")
    (folder / ".studies.csv.checking").mkdir()  # in the way; a folder without the right to write ends alike, but root may always write
    check_films(read_studies(table), table)


def test_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for place in range(12):
        save_film(folder / "films" / f"{place}.png", place)
        lines.append(f"p{place},design-{'ab'[place % 2]},{place // 2 % 2},,films/{place}.png,,1 1 20 20,,")
    path = write_table(folder, *lines)
    assert run(["studies", "split", str(path), "--seed", "2", "--out", str(folder / "split.csv"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["patients"]["design-a"] == {"train": 3, "validation": 2, "test": 1, "readers": 0, "external": 0, "unassigned": 0}
    assert document["films"] == {"ap": 12, "lateral": 0}
    assert {study.split for study in read_studies(path)} == {None}
    assert read_studies(folder / "split.csv") == split_studies(read_studies(path), 2)
    assert run(["studies", "split", str(path), "--seed", "2"]) == 0
    assert path.read_text() == (folder / "split.csv").read_text()
    capsys.readouterr()
    assert run(["studies", "check", str(path)]) == 0
    assert "design-b" in capsys.readouterr().out
    assert run(["studies", "check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**document, "studies": str(path)}
    assert all("[members] names" in warning for warning in document["warnings"]), "no lateral films, else all is well"
    (folder / "films" / "3.png").write_bytes(b"not a film")
    assert run(["studies", "check", str(path)]) == 4
    assert "3.png" in capsys.readouterr().err
    assert run(["studies", "check", str(folder / "gone.csv")]) == 4


def test_the_table_is_the_documented_one() -> None:
    assert ",".join(module.COLUMNS) == HEADER
