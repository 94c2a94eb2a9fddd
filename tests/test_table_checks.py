"""What `studies check`, `studies split` and the table's reader say of tables as hospitals write them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from edgekit.cli import run
from edgekit.errors import InputError
from edgekit.studies import read_studies, select, write_studies
from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import load_config
from edgekit.training.requirements import check_boxes, check_brands
from edgekit.types import Study

HEADER = "patient_id,brand,has_crosslink,split,ap,lateral,ap_box,lateral_box,exclude"


def save_film(path: Path, seed: int, height: int = 400, width: int = 300) -> Path:
    """A film of noise, with pixels of its own."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)).save(path)
    return path


def save_dicom(path: Path, seed: int, **elements: str) -> Path:
    """A film of pydicom's own collection with other pixels and elements."""
    film = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    film.Modality = "CR"
    film.PixelData = np.random.default_rng(seed).integers(0, 2000, (128, 128), np.int16).tobytes()
    for name, value in elements.items():
        setattr(film, name, value)
    film.save_as(path)
    return path


def write_table(folder: Path, *lines: str) -> Path:
    path = folder / "studies.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return path


def make_table(folder: Path, counts: dict[str, int], splits: str = "") -> Path:
    """Write patients with two films and two boxes each; `splits`: t, v, e (test) or a blank for each patient of each brand in turn."""
    rows = []
    for brand, count in counts.items():
        for place in range(count):
            name = f"{brand}-{place}"
            films = [save_film(folder / f"{name}-{view}.png", 2 * len(rows) + number) for number, view in enumerate(("ap", "lateral"))]
            split = {"t": "train", "v": "validation", "e": "test"}.get(splits[place : place + 1])
            box = None if brand == "none" else (10, 10, 200, 300)
            rows.append(
                Study(
                    name,
                    brand,
                    has={"crosslink": None},
                    split=split,
                    films={"ap": films[0], "lateral": films[1]},
                    boxes={"ap": box, "lateral": box},
                )
            )
    write_studies(folder / "studies.csv", rows)
    return folder / "studies.csv"


def ask(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, list[str]]:
    """Return the JSON document of a command that ends well."""
    assert run(["studies", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def read_splits(path: Path) -> dict[str, str | None]:
    return {study.patient_id: study.split for study in read_studies(path)}


# --- cells ----------------------------------------------------------------------------------------------------------------------


def test_words_for_an_unknown_brand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        save_film(tmp_path / f"{number}.png", number)
    path = write_table(
        tmp_path, "p0,unknown,,,0.png,,,,", "p1,Unknown,,,1.png,,,,", "p2,,,,2.png,,,,", "p3,none,,,3.png,,,,"
    )  # fmt: skip
    assert [study.brand for study in read_studies(path)] == [None, None, None, "none"]
    assert ask(capsys, "check", path)["patients"].keys() == {"unknown", "none"}


@pytest.mark.parametrize("word", ["NA", "n/a", "#N/A", "NaN", "nan", "NULL", "-", "?"])
def test_words_that_are_no_brand_are_refused(tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_film(tmp_path / "0.png", 0)
    path = write_table(tmp_path, f"p0,{word},,,0.png,,,,")
    assert run(["studies", "check", str(path)]) == 4
    said = capsys.readouterr().err
    assert f"{path}:2 column 'brand': got '{word}'" in said
    assert "leave the cell empty or write 'unknown'" in said
    assert "'none' for no construct" in said


def test_boxes_in_parts_of_the_film_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_film(tmp_path / "0.png", 0)
    path = write_table(tmp_path, "p0,a,,,0.png,,0.39 0.23 0.57 0.87,,")
    assert run(["studies", "check", str(path)]) == 4
    said = capsys.readouterr().err
    assert "got '0.39 0.23 0.57 0.87', expected film pixels" in said
    assert "multiply x0 and x1 by its width, y0 and y1 by its height" in said
    path = write_table(tmp_path, "p0,a,,,0.png,,0.39 0.23 1.57 0.87,,")
    assert read_studies(path)[0].box("ap") == (0.39, 0.23, 1.57, 0.87)


def test_boxes_that_overshoot_a_little_are_counted_once_and_others_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Films of 300 x 400 pixels: 3 pixels of width and 4 of height are a hundredth."""
    for number in range(4):
        save_film(tmp_path / f"{number}.png", number)
    fine = ["0 0 303 404", "-3 -4 300 400", "0 0 300 401", "0 0 300 400"]
    path = write_table(tmp_path, *[f"p{number},a,,train,{number}.png,,{box},," for number, box in enumerate(fine)])
    (said,) = [warning for warning in ask(capsys, "check", path)["warnings"] if "reach" in warning]
    assert said.startswith("3 boxes reach beyond the film by at most 1% of its side")
    for box in ("0 0 303.5 400", "0 0 300 404.5", "-3.5 0 300 400", "0 -4.5 300 400", "301 0 302 400"):
        assert run(["studies", "check", str(write_table(tmp_path, f"p0,a,,train,0.png,,{box},,"))]) == 4
        assert f"the box {box} reaches beyond the film, which is 300 x 400 pixels" in capsys.readouterr().err


# --- films ----------------------------------------------------------------------------------------------------------------------


def test_two_patients_in_one_row_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_dicom(tmp_path / "a.dcm", 0, PatientID="1234", ViewPosition="AP")
    save_dicom(tmp_path / "b.dcm", 1, PatientID="4321", ViewPosition="LL")
    path = write_table(tmp_path, "p0,a,,train,a.dcm,b.dcm,,,")
    assert run(["studies", "check", str(path)]) == 4
    said = capsys.readouterr().err
    assert f"1 row has films of two patients:\n  row of patient p0: {tmp_path / 'a.dcm'} has Patient ID 1234, " in said
    assert "b.dcm has 4321" in said
    assert "'exclude'" in said
    for same in ("1234", " 1234 ", ""):  # spaces pad DICOM's text; a film that says nothing contradicts nothing
        save_dicom(tmp_path / "b.dcm", 1, PatientID=same, ViewPosition="LL")
        ask(capsys, "check", path)


def test_a_film_in_the_other_views_column_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_dicom(tmp_path / "a.dcm", 0, ViewPosition="LL")
    save_dicom(tmp_path / "b.dcm", 1, ViewPosition="PA")
    save_dicom(tmp_path / "c.dcm", 2, ViewPosition="PA")
    save_dicom(tmp_path / "d.dcm", 3, ViewPosition="")
    path = write_table(tmp_path, "p0,a,,train,a.dcm,b.dcm,,,", "p1,a,,train,c.dcm,d.dcm,,,")
    said = [warning for warning in ask(capsys, "check", path)["warnings"] if "View Position" in warning]
    assert said == [
        f"{tmp_path / 'a.dcm'} (patient p0) is in column 'ap', but its View Position says lateral",
        f"{tmp_path / 'b.dcm'} (patient p0) is in column 'lateral', but its View Position says ap",
    ]
    assert run(["studies", "check", str(path)]) == 0
    assert "warning: " + said[0] in capsys.readouterr().out


@pytest.mark.parametrize("second", ["a.png", "copy.png"])
def test_one_film_in_both_columns_is_a_warning(tmp_path: Path, second: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_film(tmp_path / "a.png", 0)
    Image.open(tmp_path / "a.png").save(tmp_path / "copy.png", compress_level=0)
    path = write_table(tmp_path, f"p0,a,,train,a.png,{second},,,")
    (said,) = [warning for warning in ask(capsys, "check", path)["warnings"] if "pixels" in warning]
    assert f"{tmp_path / second} (patient p0) have the same pixels, in the columns 'ap' and 'lateral'" in said


# --- spellings ------------------------------------------------------------------------------------------------------------------


def test_spellings_of_one_brand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brands = ["Expedium 5.5"] * 4 + ["expedium-5.5", "Expedium\u00a0\uff15.5", "Expedum 5.5", "Expedium 6.5", "Größe", "GROSSE", "GRÖSSE"]
    brands += ["Alpha X", "alpha 1"]
    for number in range(len(brands)):
        save_film(tmp_path / f"{number}.png", number)
    path = write_table(tmp_path, *[f"p{number},{brand},,,{number}.png,,,," for number, brand in enumerate(brands)])
    found = ask(capsys, "check", path)
    said = [warning for warning in found["warnings"] if warning.startswith("brands ")]
    assert len(said) == 2, "Größe and GROSSE are two words, a decimal point is punctuation"
    assert all(name in said[0] for name in ("'Expedium 5.5' (4 patients)", "'expedium-5.5' (1 patient)", "\uff15.5' (1 patient)"))
    assert "'GRÖSSE' (1 patient) and 'Größe' (1 patient)" in said[1]
    (slip,) = [hint for hint in found["hints"] if "'Expedum 5.5' (1 patient) differs in one letter" in hint]
    assert "'Expedium 5.5' (4 patients)" in slip
    assert not any(brand in text for text in (*said, *found["hints"]) for brand in ("6.5", "alpha 1")), "a digit is no letter"


def test_a_spelling_of_three_patients_is_no_slip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count, hints in ((2, 1), (3, 0)):
        brands = ["design-a"] * 5 + ["design-b"] * count
        for number in range(len(brands)):
            save_film(tmp_path / f"{number}.png", number)
        path = write_table(tmp_path, *[f"p{number},{brand},,,{number}.png,,,," for number, brand in enumerate(brands)])
        assert len(ask(capsys, "check", path)["hints"]) == hints


# --- what train would refuse ----------------------------------------------------------------------------------------------------


def test_check_names_what_train_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": 4, "b": 4, "c": 2}, "ttvv")
    rows = read_studies(path)
    rows = [replace(row, split="validation") if row.brand == "c" else row for row in rows]
    rows = [replace(row, split="train") if row.patient_id == "a-2" else row for row in rows]
    rows = [row.with_film("lateral", None, None) if row.patient_id == "b-3" else row for row in rows]
    write_studies(path, rows)
    (demo, paper) = ask(capsys, "check", path)["warnings"]
    for warning, preset in ((demo, "demo"), (paper, "paper")):
        with pytest.raises(InputError) as refused:
            check_brands(
                {split: select(rows, split) for split in ("train", "validation")}, PEDICLE_SCREWS, load_config(preset).members.names
            )  # fmt: skip
        assert warning.startswith(f"edgekit train --preset {preset} would refuse this table:")
        assert refused.value.remedy in warning
        missing = [line for line in refused.value.message.splitlines() if line not in demo and line not in paper]
        assert not missing
    assert "the train split lacks c, which validation has" in demo
    assert "member ap: 1 validation patients of a have its films, expected at least 2" in demo
    assert "member lateral: 1 validation patients of b have its films" in demo
    assert "member concat: 1 validation patients of b" in paper
    assert "member lateral" not in paper, "said once"


def test_check_names_missing_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": 4, "b": 4}, "ttvv")
    assert ask(capsys, "check", path)["warnings"] == []
    rows = [replace(row, boxes={}) if row.split == "validation" else row for row in read_studies(path)]
    write_studies(path, rows)
    (said,) = ask(capsys, "check", path)["warnings"]
    assert "no validation film has a box" in said
    assert "training film" not in said
    with pytest.raises(InputError, match="no validation film has a box"):
        check_boxes({split: select(rows, split) for split in ("train", "validation")}, ("ap", "lateral"))


def test_a_table_of_another_task_is_not_held_to_the_studys_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": 4, "b": 4}, "ttvv")
    rows = [replace(row, films={"ap": row.film("ap")}, boxes={"ap": row.box("ap")}) for row in read_studies(path)]
    write_studies(path, rows)
    (said,) = ask(capsys, "check", path)["warnings"]
    assert said.startswith("the views of this table are ap, the study's are ap, lateral: edgekit train needs a --config with a [task]")


# --- splitting ------------------------------------------------------------------------------------------------------------------


def test_split_in_place_fills_only_empty_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": 20, "b": 20}, "ttttttttttttt")
    before = read_splits(path)
    ask(capsys, "split", path)
    after = read_splits(path)
    assert {patient: after[patient] for patient, split in before.items() if split} == {p: s for p, s in before.items() if s}
    for brand in "ab":  # 13 of 20 are in train, which is its share; the other 7 go where they lack
        assert Counter(split for patient, split in after.items() if patient[0] == brand) == {"train": 13, "validation": 3, "test": 4}
    (said,) = ask(capsys, "split", path, "--seed", "7")["warnings"]
    assert "no empty cell could be filled" in said
    assert "--again" in said
    assert read_splits(path) == after
    assert ask(capsys, "split", path, "--seed", "7", "--out", tmp_path / "other.csv")["warnings"] == []
    assert read_splits(path) == after
    assert ask(capsys, "split", path, "--seed", "7", "--again")["warnings"] == []
    assert read_splits(path) == read_splits(tmp_path / "other.csv") != after


def test_a_new_visit_gets_its_patients_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": 6, "b": 6}, "tttvve")
    save_film(tmp_path / "new.png", 99)
    with path.open("a") as file:
        file.write("a-5,a,,,new.png,,,,\n")
    assert ask(capsys, "split", path)["warnings"] == []
    assert read_studies(path)[-1].split == "test"


@pytest.mark.parametrize("count", [4, 5, 6, 7, 12])
@pytest.mark.parametrize("splits", ["", "t"])
def test_split_leaves_validation_enough_for_train(tmp_path: Path, count: int, splits: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": count, "b": count}, splits)
    assert ask(capsys, "split", path)["warnings"] == []
    for brand in "ab":
        found = Counter(split for patient, split in read_splits(path).items() if patient[0] == brand)
        assert found["validation"] >= 2
        assert min(found["train"], found["test"]) >= 1
    assert ask(capsys, "check", path)["warnings"] == []


def test_what_split_says_to_do_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A brand of three patients can't teach, test and choose; and one whose split was made by hand is helped by --again."""
    path = make_table(tmp_path, {"a": 8, "b": 8, "c": 3})
    said = ask(capsys, "split", path)["warnings"][0]
    assert "1 validation patients of c have its films, expected at least 2" in said
    assert "to a smaller brand add patients, or say in the column 'exclude'" in said
    lines = [line + "too few" if line.startswith("c-") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    assert ask(capsys, "check", path)["warnings"] == []

    path = make_table(tmp_path, {"a": 8, "b": 8}, "tttttvee")
    said = ask(capsys, "check", path)["warnings"][0]
    assert "split STUDIES --again" in said
    assert ask(capsys, "split", path, "--again")["warnings"] == []


def test_a_brand_missing_in_a_split_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_table(tmp_path, {"a": 8, "b": 8, "none": 2})
    (said,) = ask(capsys, "split", path)["warnings"]
    missing = {"train", "validation", "test"} - {split for patient, split in read_splits(path).items() if patient.startswith("none")}
    assert said == f"no patient of none is in {missing.pop()}"
    assert run(["studies", "split", str(path), "--again"]) == 0
    assert "warning: no patient of none is in" in capsys.readouterr().out
