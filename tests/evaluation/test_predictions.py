from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.evaluation.predictions import Predictions, read_predictions, write_predictions

HEADER = "patient_id,brand,has_crosslink,p_a,p_b"


def write(path: Path, *lines: str) -> Path:
    file = path / "predictions.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_what_is_written_reads_back_exactly(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    probabilities[4] = 1 / 3
    written = Predictions(
        ("design-a", "b, the second", "ü"),
        ("p1", "p1", "p2", "p3", "p4"),
        ("ü", "none", None, "design-x", "design-a"),
        (True, None, None, False, True),
        probabilities,
    )
    write_predictions(tmp_path / "new" / "predictions_ap+lateral.csv", written)
    read = read_predictions(tmp_path / "new" / "predictions_ap+lateral.csv")
    assert (read.brands, read.patients, read.truth, read.has_crosslink) == (
        written.brands,
        written.patients,
        written.truth,
        written.has_crosslink,
    )
    assert (read.probabilities == probabilities).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["predictions_ap+lateral.csv"]
    assert read.scorable().patients == ("p1", "p4")


def test_optional_and_unknown_columns(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufeffnote,p_b,brand,patient_id,p_a", "x,0.25,a,p1,0.75", "", "y,0.5005,,p2,0.5")
    read = read_predictions(file)
    assert read.brands == ("b", "a")
    assert read.probabilities.tolist() == [[0.25, 0.75], [0.5005, 0.5]]
    assert read.has_crosslink == (None, None)
    assert read.truth == ("a", None)


def test_all_faulty_rows_are_reported_with_their_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        HEADER,
        "p1,a,1,0.9,0.1",
        "p2,a,yes,0.9,0.1",
        "p3,a,0,0.9,0.2",
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
    assert "line 4: the probabilities sum to 1.1, expected 1 within 0.001" in message
    assert "line 5, patient_id: empty" in message
    assert "line 6, p_a: '1.5', expected a number from 0 to 1" in message
    assert "line 6, p_b: '-0.5'" in message
    assert "line 7, p_a: 'nan'" in message
    assert "line 8: 1 fewer cells" in message
    assert "line 9, p_a: ''" in message
    assert failure.value.exit_code == 4


def test_many_faulty_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"500 errors(.|\n)*and 480 more"):
        read_predictions(write(tmp_path, HEADER, *["p,a,0,0.9,0.9"] * 500))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["patient_id,p_a,p_b", "p1,0.5,0.5"], "missing columns: brand"),
        (["patient_id,brand,p_a", "p1,a,1"], "two or more"),
        (["patient_id,brand,p_a,p_b,p_a", "p1,a,0.5,0.5,0"], "repeated columns: p_a"),
        ([HEADER], "has no rows"),
        ([""], "found: nothing"),
        ([HEADER, 'p1,"a,0,0.5,0.5'], "line 2: not a CSV row"),
    ],
)
def test_files_that_are_not_predictions(tmp_path: Path, lines: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_predictions(write(tmp_path, *lines))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_predictions(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="can't be read"):
        read_predictions(tmp_path / "binary.csv")
