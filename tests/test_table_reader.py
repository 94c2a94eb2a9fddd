"""The one reader of tables: what spreadsheets do to a CSV file, and what is said when it is none."""

from __future__ import annotations

import itertools
from pathlib import Path
from unicodedata import normalize

import pytest

from edgekit.errors import InputError
from edgekit.tables import Row, Table, find_file, parse_number, read_rows, read_table

COLUMNS = ("patient_id", "brand", "score")
WANTED = [{"patient_id": "p1", "brand": "a", "score": "0,5"}, {"patient_id": "p2", "brand": "b", "score": "1,5"}]


def save(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path) -> Table:
    return read_table(path, COLUMNS, lambda _: ())


def cells(rows: list[Row] | tuple[Row, ...]) -> list[dict[str, str]]:
    return [row.cells for row in rows]


@pytest.mark.parametrize(("separator", "end"), [*itertools.product(",;\t", ("\n", "\r\n", "\r"))])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with a mark"])
def test_what_spreadsheets_write(tmp_path: Path, separator: str, end: str, encoding: str) -> None:
    quote = '"' if separator == "," else ""
    lines = ["patient_id, brand ,score", f"p1,a,{quote}0#5{quote}", "", ",,", f" p2 ,b , {quote}1#5{quote}", ",,"]
    text = end.join(line.replace(",", separator).replace("#", ",") for line in lines)
    mark = "\ufeff" if encoding.endswith("mark") else ""
    table = read(save(tmp_path, mark + text, encoding.split()[0]))
    assert table.columns == COLUMNS
    assert cells(table.rows) == WANTED
    assert [(row.line, row.surplus) for row in table.rows] == [(2, 0), (5, 0)]


def test_decimal_commas_do_not_choose_the_separator(tmp_path: Path) -> None:
    """Every line of it has more commas than semicolons, the header too."""
    path = save(tmp_path, "patient_id;brand;score;p_1,5 mm;p_2,5 mm;p_3,5 mm;p_4,5,6,7 mm\np1;a;0,5;0,1;0,2;0,3;0,4\n")
    (row,) = read(path).rows
    assert row.cells["score"] == "0,5"
    assert row.cells["p_2,5 mm"] == "0,2"


@pytest.mark.parametrize(
    ("first", "separator"), [("sep=;", ";"), ("SEP=,", ","), ('"sep=;"', ";"), ("sep=\t", "\t"), ("sep=|", "|"), ("sep=;;;", ";")]
)
def test_the_line_that_tells_excel_the_separator(tmp_path: Path, first: str, separator: str) -> None:
    path = save(tmp_path, f"{first}\r\n" + "patient_id;brand;score\r\np1;a;1\r\n".replace(";", separator), "utf-8-sig")
    table = read(path)
    assert table.columns == COLUMNS
    assert (table.line, table.rows[0].line) == (2, 3)
    assert table.rows[0].cells == {"patient_id": "p1", "brand": "a", "score": "1"}


def test_a_separator_that_the_first_line_gets_wrong(tmp_path: Path) -> None:
    """A program that saved the table anew with another separator kept the line as a cell."""
    path = save(tmp_path, "sep=;\npatient_id,brand,score\np1,a,1\n")
    assert cells(read(path).rows) == [{"patient_id": "p1", "brand": "a", "score": "1"}]


def test_quoted_cells_hold_separators_quotes_and_lines(tmp_path: Path) -> None:
    path = save(tmp_path, 'patient_id,brand,score\n"p1","a ""b"", c","one\ntwo"\np2,b,2\n')
    first, second = read(path).rows
    assert first.cells == {"patient_id": "p1", "brand": 'a "b", c', "score": "one\ntwo"}
    assert (first.line, second.line) == (2, 4)


def test_rows_of_another_length(tmp_path: Path) -> None:
    short, padded, long = read(save(tmp_path, "patient_id,brand,score,,\np1,a\np2,b,1,,,,\np3,c,0,9\n")).rows
    assert short.cells == {"patient_id": "p1", "brand": "a", "score": ""}
    assert (short.surplus, short.misfit) == (-1, "has 2 cells, expected 3")
    assert (padded.surplus, padded.misfit) == (0, "")
    assert long.surplus == 1
    assert "has 4 cells, expected 3 (a decimal comma" in long.misfit


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"patient_id,brand\np1,Gr\xf6\xdfe\n", r"table.csv:2 can't be read: byte 0xf6 is not UTF-8 text"),
        ("patient_id,brand\np1,a\n".encode("utf-16-le"), r"can't be read: it holds zero bytes"),
        (b'patient_id,brand,score\np1,a,1\np2,"b,1\np3,c,1\n', r"line 3: not a CSV row: a quotation mark is opened and not closed"),
        (b'patient_id,brand,score\np1,"a"b,1\n', r"line 2: not a CSV row"),
        (b"patient_id,brand,score\np1,a," + b"9" * 200_000, r"line 2: not a CSV row: field larger than field limit"),
        (b"\npatient_id,brand\n", r"line 2: expected once: score; found: patient_id, brand"),
        (b"patient_id,brand,score,brand\n", r"line 1: expected once: brand"),
        (b"", r"line 1: expected once: patient_id, brand, score; found: nothing"),
    ],
)
def test_what_is_no_such_table(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        read_rows(path, COLUMNS)
    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.csv can't be read: No such file"):
        read(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("0,5", 0.5), (",5", 0.5), ("5,", 5.0), ("-1,25E-02", -0.0125), ("1e3", 1000.0), ("12", 12.0)]
)
def test_numbers_with_either_decimal_mark(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1.234,5", "1,234.5", "1,2,3", "1_000", "0x10", "٣", "1 000", "5 %", "-", "."])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal number"):
        parse_number(text)


def test_cells_are_brought_to_one_normal_form_but_file_names_are_not(tmp_path: Path) -> None:
    composed, decomposed = normalize("NFC", "Größe"), normalize("NFD", "Größe")
    assert composed != decomposed
    (row,) = read_rows(
        save(tmp_path, f"patient_id,brand,{decomposed}\n{decomposed},{composed},{decomposed}\n"), ("brand", composed), {composed}
    )
    assert row.cells == {"patient_id": composed, "brand": composed, composed: decomposed}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("folder_form", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_files_are_found_in_either_normal_form(tmp_path: Path, on_disk: str, folder_form: str, in_table: str) -> None:
    film = tmp_path / normalize(folder_form, "Köln") / normalize(on_disk, "Müller é.png")
    film.parent.mkdir()
    film.touch()
    assert find_file(tmp_path, normalize(in_table, "Köln\\Müller é.png")) == film


def test_a_file_as_it_is_spelled_comes_first(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / normalize(form, "é.png")).touch()
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes both forms for one name; any of Linux tells them apart")
    for form in ("NFC", "NFD"):
        assert find_file(tmp_path, normalize(form, "é.png")) == tmp_path / normalize(form, "é.png")


@pytest.mark.parametrize("name", ["gone.png", "x" * 5000, "a\0b.png", "folder", "gone/film.png"])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert find_file(tmp_path, name) is None
