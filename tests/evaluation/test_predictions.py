from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import run as edgekit
from edgekit.errors import InputError
from edgekit.evaluation.predictions import PredictionRow, read_predictions, write_predictions
from edgekit.task import PEDICLE_SCREWS, parse_task
from edgekit.types import Study

HEADER = "patient_id,brand,has_crosslink,p_a,p_b"


def write(path: Path, *lines: str) -> Path:
    file = path / "predictions.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_what_is_written_reads_back_exactly(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    probabilities[4] = 1 / 3
    brands = ("design-a", "b, the second", "ü")
    patients, truth = ("p1", "p1", "p2", "p3", "p4"), ("ü", "none", None, "design-x", "design-a")
    crosslinks = (True, None, None, False, True)
    has = [{"crosslink": crosslink, "cement": True} for crosslink in crosslinks]
    studies = [Study(*each) for each in zip(patients, truth, has, strict=True)]
    rows = [PredictionRow(n, study, {}, values) for n, (study, values) in enumerate(zip(studies, probabilities.tolist(), strict=True), 1)]
    write_predictions(tmp_path / "new" / "predictions_ap+lateral.csv", tmp_path, PEDICLE_SCREWS, brands, rows)
    read = read_predictions(tmp_path / "new" / "predictions_ap+lateral.csv")
    assert (read.brands, read.patients, read.truth, read.has) == (brands, patients, truth, {"crosslink": crosslinks})
    assert (read.probabilities == probabilities).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["predictions_ap+lateral.csv"]
    assert read.scorable().patients == ("p1", "p4")


def test_columns_are_those_of_the_task(tmp_path: Path) -> None:
    hips = parse_task({"name": "hips", "views": ["front"], "locate": False, "covariate": "cement"}, "hips")
    study = Study("p1", "a", {"crosslink": None, "cement": True}, films={"front": tmp_path / "film.png", "ap": None})
    row = PredictionRow(3, study, {"front": {"box": (1.0, 2.0, 3.5, 4.0), "score": 1.0}}, [0.25, 0.75])
    file = tmp_path / "predictions.csv"
    write_predictions(file, tmp_path, hips, "ab", [row])
    assert file.read_text().split() == [
        "patient_id,row,truth,has_cement,p_a,p_b,front,front_box,front_score",
        "p1,3,a,1,0.25,0.75,film.png,1", "2", "3.5", "4,1.0",
    ]  # fmt: skip
    assert read_predictions(file).has == {"cement": (True,)}
    write_predictions(file, tmp_path, replace(hips, covariate=""), "ab", [row])
    assert file.read_text().splitlines()[0] == "patient_id,row,truth,p_a,p_b,front,front_box,front_score"
    assert read_predictions(file).has == {}


def test_optional_and_unknown_columns(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufeffnote,p_b,brand,patient_id,p_a", "x,0.25,a,p1,0.75", "", "y,0.5005,,p2,0.5")
    read = read_predictions(file)
    assert read.brands == ("b", "a")
    assert read.probabilities.tolist() == [[0.25, 0.75], [0.5005, 0.5]]
    assert read.has == {}
    assert read.truth == ("a", None)


def test_the_truth_is_read_before_the_brand(tmp_path: Path) -> None:
    """``brand`` is what a table was delivered with, where a hospital added it; ``truth`` is what counts."""
    read = read_predictions(write(tmp_path, "patient_id,brand,truth,p_a,p_b", "p1,a,b,0.25,0.75", "p2,a,,0.5,0.5"))
    assert read.truth == ("b", None)


def test_excluded_rows_are_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["p1,b,identified,0.25,0.75", "p2,a,excluded,,", "p3,b,unfamiliar,0.75,0.25"]
    file = write(tmp_path, "patient_id,truth,decision,p_a,p_b", *lines)
    assert edgekit(["score", str(file), "--out", str(tmp_path / "scored"), "--json"]) == 0
    assert '"n": 2' in capsys.readouterr().out
    with pytest.raises(InputError, match="no rows with an answer"):
        read_predictions(write(tmp_path, "patient_id,truth,decision,p_a,p_b", lines[1]))


@pytest.mark.parametrize("name", ["Implant", "bone-graft"])
def test_a_property_has_any_name_in_a_file_that_others_made(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"patient_id,truth,has_{name},p_a,p_b", "p1,b,1,0.25,0.75", "p2,a,0,0.75,0.25", "p3,b,1,0.75,0.25")
    assert edgekit(["score", str(file), "--out", str(tmp_path / "scored")]) == 0
    assert name in (tmp_path / "scored/report.html").read_text()


def test_all_faulty_rows_are_reported_with_their_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        HEADER,
        "p1,a,1,0.9,0.1",
        "p2,a,yes,0.9,0.1",
        "p3,a,0,0.90,0.12",
        ",a,0,0.9,0.1",
        "p5,a,0,1.5,-0.5",
        "p6,a,0,nan,0.5",
        "p7,a,0,0.5",
        "p8,a,0,,1",
    )
    with pytest.raises(InputError) as failure:
        read_predictions(file)
    message = failure.value.message
    assert "line 2" not in message
    assert "line 3, has_crosslink: 'yes', expected 0, 1 or nothing" in message
    assert "line 4: the probabilities sum to 1.02, expected 1 within 0.01" in message
    assert "line 5, patient_id: empty" in message
    assert "line 6, p_a: '1.5', expected a number from 0 to 1" in message
    assert "line 6, p_b: '-0.5'" in message
    assert "line 7, p_a: 'nan'" in message
    assert "line 8 has 4 cells, expected 5" in message
    assert "line 9, p_a: ''" in message
    assert failure.value.exit_code == 4


def test_many_faulty_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"500 errors(.|\n)*and 480 more"):
        read_predictions(write(tmp_path, HEADER, *["p,a,0,0.9,0.9"] * 500))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["patient_id,p_a,p_b", "p1,0.5,0.5"], "missing columns: truth"),
        (["patient_id,brand,p_a", "p1,a,1"], "two or more"),
        (["patient_id,brand,p_a,p_b,p_a", "p1,a,0.5,0.5,0"], "repeated columns: p_a"),
        ([HEADER], "has no rows"),
        ([f"{HEADER},has_cement", "p1,a,0,0.5,0.5,1"], "several properties: has_crosslink, has_cement"),
        (["patient_id,brand,has_kappa,p_a,p_b", "p1,a,0,0.5,0.5"], "has_kappa is called as a figure is"),
        ([""], "found: nothing"),
        ([HEADER, 'p1,"a,0,0.5,0.5'], "line 2: not a CSV row"),
    ],
)
def test_files_that_are_not_predictions(tmp_path: Path, lines: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_predictions(write(tmp_path, *lines))


@pytest.mark.parametrize(
    ("written", "accepted"),
    [
        # 7 brands to 2 decimals: 7 x 0.005 = 0.035 to either side.
        ("0.14 0.14 0.14 0.14 0.14 0.14 0.14", True),  # 1/7 each: 0.98
        ("0.37 0.11 0.11 0.11 0.11 0.11 0.11", True),  # 1.03
        ("0.38 0.11 0.11 0.11 0.11 0.11 0.11", False),  # 1.04
        ("0.31 0.11 0.11 0.11 0.11 0.11 0.10", False),  # 0.96
        ("0.335 0.11 0.11 0.11 0.11 0.11 0.11", True),  # 0.995; one value has three decimals, the others two
        ("0.4 0.1 0.1 0.1 0.1 0.1 0.1", True),
        ("0.5 0.5 0.5 0.1 0.1 0.1 0.1", False),  # 1.9 of at most 1.35
        ("1 0 0 0 0 0 0", True),
        ("1 1 0 0 0 0 0", False),  # a whole number is no probability rounded to the unit
        ("0 0 0 0 0 0 0", False),
        ("0.0 1.0 0.02 0.01 0 0 0", True),
        ("0.0 1.0 0.02 0.02 0 0 0", False),
        ("0.3333 0.3333 0.3333 0 0 0 0", True),  # 0.9999, within 0.00035
        ("0.3333 0.3333 0.3329 0 0 0 0", False),  # 0.9995
        ("9.9E-01 1.2E-02 0 0 0 0 0", True),  # to 2 decimals and 3
        ("1,0E-01 9,2E-01 0 0 0 0 0", True),
        ("1,0E-01 9,5E-01 0 0 0 0 0", False),
    ],
)
def test_sums_have_room_for_the_decimals_written(tmp_path: Path, written: str, accepted: bool) -> None:
    header = "patient_id;brand;" + ";".join(f"p_{brand}" for brand in "abcdefg")
    file = write(tmp_path, header, f"p1;a;{written.replace(' ', ';')}")
    if accepted:
        assert read_predictions(file).probabilities[0].tolist() == [float(value.replace(",", ".")) for value in written.split()]
    else:
        with pytest.raises(InputError, match="line 2: the probabilities sum to"):
            read_predictions(file)


def test_every_number_rounded_by_hand_is_accepted(tmp_path: Path) -> None:
    """Whatever the probabilities, their rounded values sum to one within the room that is given."""
    rows = np.random.default_rng(0).dirichlet(np.full(7, 0.4), 300)
    header = "patient_id,brand," + ",".join(f"p_{brand}" for brand in "abcdefg")
    for decimals in range(1, 7):
        lines = [f"p{number},a," + ",".join(f"{value:.{decimals}f}" for value in row) for number, row in enumerate(rows)]
        assert read_predictions(write(tmp_path, header, *lines)).probabilities == pytest.approx(rows, abs=0.5001 * 10.0**-decimals)


def test_a_softmax_in_single_precision_is_accepted(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(0, 4, (200, 7)).astype(np.float32)
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert softmax.dtype == np.float32
    rows = [PredictionRow(n, Study(f"p{n}"), {}, values) for n, values in enumerate(softmax.astype(np.float64).tolist(), 1)]
    write_predictions(tmp_path / "p.csv", tmp_path, PEDICLE_SCREWS, "abcdefg", rows)
    assert (read_predictions(tmp_path / "p.csv").probabilities == softmax).all()


def test_a_table_that_a_german_spreadsheet_saved(tmp_path: Path) -> None:
    """Excel's "CSV UTF-8" where the decimal mark is a comma: as many commas as semicolons, CRLF, a mark, blank and padded rows."""
    file = tmp_path / "predictions.csv"
    lines = ("patient_id ; brand;p_a; p_b;;", "p1;a;0,5;0,5;;", ";;;;;", "p2;b;0,25;0,75", "p3;;1,2E-02;0,988")
    file.write_bytes("\r\n".join(("\ufeffsep=;", *lines, "")).encode())
    read = read_predictions(file)
    assert read.brands == ("a", "b")
    assert read.patients == ("p1", "p2", "p3")
    assert read.probabilities.tolist() == [[0.5, 0.5], [0.25, 0.75], [0.012, 0.988]]


def test_a_decimal_comma_that_splits_a_cell_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2 has 7 cells, expected 5 \(a decimal comma needs"):
        read_predictions(write(tmp_path, HEADER, "p1,a,0,0,9,0,1"))


def test_brands_and_patients_in_either_normal_form_are_the_same(tmp_path: Path) -> None:
    composed, decomposed = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"
    read = read_predictions(
        write(tmp_path, f"patient_id,brand,p_{decomposed},p_b", f"{decomposed},{composed},0.5,0.5", f"p2,{decomposed},1,0")
    )
    assert read.brands == (composed, "b")
    assert read.truth == (composed, composed)
    assert read.patients == (composed, "p2")
    assert read.scorable().patients == read.patients


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_predictions(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01\x00")
    with pytest.raises(InputError, match=r"can't be read: byte .* is not UTF-16 text"):
        read_predictions(tmp_path / "binary.csv")
