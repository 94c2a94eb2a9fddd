from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from edgekit.cli import run as edgekit
from edgekit.errors import InputError
from edgekit.evaluation.readers import ReaderAnswer, read_readers
from edgekit.radiograph import read_radiograph
from edgekit.reading.sheet import collect_answers, make_sheet
from edgekit.studies import write_studies
from edgekit.types import Study

READERS = 6


def write_film(path: Path, seed: int) -> Path:
    """A film that carries a name in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", "SECRET^NAME")
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 30), np.uint8)).save(path, pnginfo=notes)
    return path


@pytest.fixture
def table(tmp_path) -> Path:
    """Six patients to read, two of each of three brands, and rows that readers must not see."""
    rows = []
    for number in range(READERS):
        films = {view: write_film(tmp_path / "in" / f"SECRET{number}-{view}.png", 10 * number + len(view)) for view in ("ap", "lateral")}
        if number == 0:
            films["lateral"] = None
        rows.append(Study(f"SECRET-{number}", f"brand {'xyz'[number % 3]}", split="readers", films=films))
    others = [("brand x", "train", None), ("brand w", "external", None), ("none", "readers", None), ("brand y", "readers", "blurred")]
    for number, (brand, split, exclude) in enumerate(others):
        film = write_film(tmp_path / "in" / f"SECRET-other{number}.png", 100 + number)
        rows.append(Study(f"SECRET-other{number}", brand, split=split, exclude=exclude, films={"ap": film, "lateral": None}))
    write_studies(tmp_path / "in" / "studies.csv", rows)
    return tmp_path / "in" / "studies.csv"


def read_key(out: Path) -> list[dict[str, str]]:
    with (out / "key.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_content(out: Path) -> dict:
    page = (out / "sheet" / "index.html").read_text()
    return json.loads(re.search(r'<script id="content" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def write_answers(path: Path, reader: str, rows: list[tuple[str, str, str]]) -> Path:
    lines = ["reader,experience,patient_id,brand,seconds", *(f"{reader},fellow,{','.join(row)}" for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


# -- the sheet ---------------------------------------------------------------------------------------------------------------


def test_every_reader_patient_is_on_it_once_and_nobody_else(table, tmp_path):
    sheet = make_sheet(table, tmp_path / "out", 0, None)
    key = read_key(tmp_path / "out")
    assert (sheet.cases, sheet.left_out) == (READERS, 1)
    assert {row["patient_id"]: row["brand"] for row in key} == {f"SECRET-{n}": f"brand {'xyz'[n % 3]}" for n in range(READERS)}
    assert [case["case"] for case in read_content(tmp_path / "out")["cases"]] == [row["case"] for row in key]


def test_readers_choose_among_the_brands_that_training_knows(table, tmp_path):
    sheet = make_sheet(table, tmp_path / "out", 0, None)
    assert sheet.brands == ("brand x", "brand y", "brand z")
    assert [brand["brand"] for brand in read_content(tmp_path / "out")["brands"]] == list(sheet.brands)


def test_the_seed_decides_the_order(table, tmp_path):
    orders = []
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        make_sheet(table, tmp_path / name, seed, None)
        orders.append([row["patient_id"] for row in read_key(tmp_path / name)])
    assert orders[0] == orders[1] != orders[2]
    assert all(order != sorted(order) for order in orders)


def test_films_are_those_of_the_key(table, tmp_path):
    make_sheet(table, tmp_path / "out", 0, None)
    for case, row in zip(read_content(tmp_path / "out")["cases"], read_key(tmp_path / "out"), strict=True):
        number = row["patient_id"][-1]
        assert set(case["films"]) == ({"ap"} if number == "0" else {"ap", "lateral"})
        for view, address in case["films"].items():
            assert address == f"films/{row['case'][:7]}-{view}.png"
            with Image.open(tmp_path / "out" / "sheet" / address) as copy:
                assert copy.info == {}
                np.testing.assert_array_equal(np.asarray(copy), read_radiograph(table.parent / f"SECRET{number}-{view}.png").pixels)


def test_nothing_in_the_sheet_tells_who_a_case_is(table, tmp_path):
    make_sheet(table, tmp_path / "out", 0, None)
    files = [path for path in (tmp_path / "out" / "sheet").rglob("*") if path.is_file()]
    assert len(files) == 2 * READERS - 1 + 2
    assert not [path for path in files if b"SECRET" in path.read_bytes() or "SECRET" in path.name]
    template = (tmp_path / "out" / "sheet" / "answers-template.csv").read_text()
    assert template.splitlines()[0] == "reader,experience,patient_id,brand,seconds"
    assert [line.split(",")[2] for line in template.splitlines()[1:]] == [row["case"] for row in read_key(tmp_path / "out")]
    assert "brand x" not in template


def test_the_page_needs_no_network(table, tmp_path):
    make_sheet(table, tmp_path / "out", 0, None)
    assert not re.search(r"https?:|src=\"//|@import|url\(", (tmp_path / "out" / "sheet" / "index.html").read_text())


def test_a_brands_name_cannot_break_the_page(tmp_path):
    film = write_film(tmp_path / "in" / "film.png", 0)
    name = '</script><b>"a"'
    write_studies(tmp_path / "in" / "studies.csv", [Study("p", name, split="readers", films={"ap": film, "lateral": None})])
    make_sheet(tmp_path / "in" / "studies.csv", tmp_path / "out", 0, None)
    assert read_content(tmp_path / "out")["brands"][0]["brand"] == name


def test_another_task_has_its_own_views_and_words(tmp_path, capsys):
    """Readers are asked the task's question, and see the films of its views only."""
    films = {view: write_film(tmp_path / "in" / f"{view}.png", seed) for seed, view in enumerate(("side", "left_oblique", "ap"))}
    boxes = dict.fromkeys(films)
    rows = [
        Study("p1", "x", split="readers", films=films, boxes=boxes),
        Study("p2", "y", split="readers", films={**dict.fromkeys(films), "ap": write_film(tmp_path / "in" / "other.png", 9)}, boxes=boxes),
    ]
    write_studies(tmp_path / "in" / "studies.csv", rows)
    settings = tmp_path / "hips.toml"
    settings.write_text(
        '[task]\nname = "hips"\nquestion = "Which maker made this stem?"\ntold = "maker"\nviews = ["side", "left_oblique"]\n'
    )
    command = ["studies", "reading-sheet", str(tmp_path / "in/studies.csv"), str(tmp_path / "out"), "--config", str(settings), "--json"]
    assert edgekit(command) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == 1, "p2 has no film of these views"
    content = read_content(tmp_path / "out")
    assert content["views"] == [["side", "side"], ["left_oblique", "left oblique"]]
    assert [list(case["films"]) for case in content["cases"]] == [["left_oblique", "side"]]
    page = (tmp_path / "out/sheet/index.html").read_text()
    assert "<h1>Which maker made this stem?</h1>" in page
    assert "Choose the maker, or say" in page
    assert 'aria-label="Maker"' in page
    assert not re.search("screw|pedicle|construct", page)
    with pytest.raises(InputError, match="the task has the views ap, lateral, and the table lacks lateral, lateral_box"):
        make_sheet(tmp_path / "in/studies.csv", tmp_path / "other", 0, None)


# -- illustrations -----------------------------------------------------------------------------------------------------------


def test_simulated_designs_are_drawn_and_pictures_win(table, tmp_path):
    rows = [
        Study(f"p{n}", brand, split="readers", films={"ap": table.parent / f"SECRET{n}-ap.png", "lateral": None})
        for n, brand in enumerate(["design-a", "design-b", "q"])
    ]
    write_studies(table, rows)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (60, 40), "red").save(pictures / "design-b.JPG", exif=b"Exif\0\0SECRET")
    sheet = make_sheet(table, tmp_path / "out", 0, pictures)
    assert sheet.plain == ("q",)
    places = [brand["picture"] for brand in read_content(tmp_path / "out")["brands"]]
    assert places[2] is None
    drawn, given = (Image.open(tmp_path / "out" / "sheet" / place) for place in places[:2])
    with drawn, given:
        assert drawn.mode == "L"
        assert given.size == (60, 40)
        assert given.info == {}
        assert given.getpixel((5, 5))[0] > 200


def test_a_picture_is_found_by_its_brand_in_either_normal_form(table, tmp_path):
    """A Mac writes the name of the file in NFD; the table was typed in NFC."""
    composed, decomposed = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"
    write_studies(table, [Study("p1", composed, split="readers", films={"ap": table.parent / "SECRET0-ap.png", "lateral": None})])
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (60, 40), "red").save(tmp_path / "pictures" / f"{decomposed}.png")
    assert make_sheet(table, tmp_path / "out", 0, tmp_path / "pictures").plain == ()


def test_pictures_that_cannot_be_read_are_refused(table, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        make_sheet(table, tmp_path / "out", 0, tmp_path / "nowhere")
    (tmp_path / "brand x.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"brand x\.png: not a picture"):
        make_sheet(table, tmp_path / "out", 0, tmp_path)


# -- what is refused ---------------------------------------------------------------------------------------------------------


def test_a_sheet_is_never_replaced(table, tmp_path):
    make_sheet(table, tmp_path / "out", 0, None)
    before = (tmp_path / "out" / "key.csv").read_bytes()
    with pytest.raises(InputError, match=r"key\.csv exists"):
        make_sheet(table, tmp_path / "out", 1, None)
    assert (tmp_path / "out" / "key.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("split", "twice", "message"), [("test", False, "no row of split 'readers'"), ("readers", True, "more than one row.*: p")]
)
def test_tables_that_cannot_be_read_blindly_are_refused(tmp_path, split, twice, message):
    rows = [Study("p", "x", split=split, films={"ap": write_film(tmp_path / f"{n}.png", n), "lateral": None}) for n in range(1 + twice)]
    write_studies(tmp_path / "studies.csv", rows)
    with pytest.raises(InputError, match=message):
        make_sheet(tmp_path / "studies.csv", tmp_path / "out", 0, None)


# -- collecting --------------------------------------------------------------------------------------------------------------


def test_cases_become_patients_again(table, tmp_path):
    make_sheet(table, tmp_path / "out", 3, None)
    key = read_key(tmp_path / "out")
    one = write_answers(tmp_path / "one.csv", "A", [(row["case"], row["brand"], "12.5") for row in key])
    two = write_answers(tmp_path / "two.csv", "B", [(key[4]["case"], "", "")])
    collected = collect_answers(tmp_path / "out", [one, two])
    assert collected == [
        *(ReaderAnswer("A", "fellow", row["patient_id"], row["brand"], 12.5) for row in key),
        ReaderAnswer("B", "fellow", key[4]["patient_id"], None, None),
    ]


def test_answers_to_another_sheet_are_refused(table, tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        make_sheet(table, tmp_path / name, seed, None)
    file = write_answers(tmp_path / "a.csv", "A", [(row["case"], "", "") for row in read_key(tmp_path / "one")])
    with pytest.raises(InputError, match="cases that are not on the sheet"):
        collect_answers(tmp_path / "two", [file])


def test_a_reader_in_two_files_is_refused(table, tmp_path):
    make_sheet(table, tmp_path / "out", 0, None)
    case = read_key(tmp_path / "out")[0]["case"]
    files = [write_answers(tmp_path / name, "A", [(case, "", "")]) for name in ("1.csv", "2.csv")]
    with pytest.raises(InputError, match=r"2.csv: reader 'A' is also in .*1.csv"):
        collect_answers(tmp_path / "out", files)


def test_a_folder_without_key_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"key\.csv is not the key"):
        collect_answers(tmp_path, [])


# -- the page at work --------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_reader_answers_in_the_browser(table, tmp_path, chromium):
    make_sheet(table, tmp_path / "out", 0, None)
    context = chromium.new_context()
    context.clock.install(time=0)
    context.clock.pause_at(1000)
    page = context.new_page()
    page.goto((tmp_path / "out" / "sheet" / "index.html").as_uri())

    def answer(brand: str, seconds: int) -> None:
        context.clock.run_for(1000 * seconds)
        page.get_by_role("button", name=brand, exact=True).click()
        page.locator("#next").click()

    page.locator("#reader").fill('Ä "B", C')
    page.locator("#experience").fill("resident")
    page.get_by_role("button", name="Start").click()
    answer("brand x", seconds=1)
    answer("brand y", seconds=3)
    page.reload()
    assert page.locator("#title").text_content() == f"Patient 3 of {READERS}", "a reload goes on where the reader was"
    page.get_by_role("button", name="Back").click()
    answer("brand z", seconds=2)
    for _ in range(READERS - 2):
        answer("I don't know", seconds=0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save answers").click()
    download.value.save_as(tmp_path / "answers.csv")
    context.close()
    answers = read_readers(tmp_path / "answers.csv")
    assert {(answer.reader, answer.experience) for answer in answers} == {('Ä "B", C', "resident")}
    assert [answer.patient_id for answer in answers] == [row["case"] for row in read_key(tmp_path / "out")]
    assert [answer.brand for answer in answers] == ["brand x", "brand z", *[None] * 4]
    assert [answer.seconds for answer in answers] == [1, 5, 0, 0, 0, 0], "the second is the time of both visits"
