from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import InputError
from edgekit.evaluation.readers import ReaderAnswer, compare_readers, read_readers, write_readers

HEADER = "reader,experience,patient_id,brand,seconds\n"

# Yao et al. 2024, Table 5 and its note: correct of 27, accuracy as printed, and who the reader is.
SPINE, RESIDENT, FELLOW = "attending spine surgeon", "resident", "spine fellow"
PAPER = {
    "Reader 1": (22, 0.81, SPINE),
    "Reader 2": (24, 0.89, SPINE),
    "Reader 3": (21, 0.78, RESIDENT),
    "Reader 4": (24, 0.89, FELLOW),
    "Reader 5": (21, 0.78, "attending arthroplasty surgeon"),
    "Reader 6": (10, 0.37, "medical student"),
    "Reader 7": (21, 0.78, SPINE),
    "Reader 8": (22, 0.81, SPINE),
    "Reader 9": (16, 0.59, RESIDENT),
    "Reader 10": (20, 0.74, FELLOW),
    "Reader 11": (17, 0.63, "attending trauma surgeon"),
}
PAPER_MODELS = {
    "ap": (20, 0.74),
    "lateral": (27, 1.00),
    "concat": (24, 0.89),
    "merge_ap": (19, 0.70),
    "merge_lateral": (26, 0.96),
    "all": (25, 0.93),
    "ap+lateral": (27, 1.00),
}
PATIENTS = [f"p{number:02}" for number in range(27)]
TRUTH = {patient: f"design-{'abcdefg'[number % 7]}" for number, patient in enumerate(PATIENTS)}


def answer_first(correct: int) -> dict[str, str | None]:
    """The first `correct` patients right, the others not at all."""
    return {patient: TRUTH[patient] if number < correct else None for number, patient in enumerate(PATIENTS)}


def read_by(reader: str, experience: str, given: dict[str, str | None], seconds: float | None = None) -> list[ReaderAnswer]:
    return [ReaderAnswer(reader, experience, patient, brand, seconds) for patient, brand in given.items()]


@pytest.fixture
def paper() -> dict:
    answers = [answer for name, (correct, _, who) in PAPER.items() for answer in read_by(name, who, answer_first(correct))]
    return compare_readers(answers, TRUTH, {name: answer_first(correct) for name, (correct, _) in PAPER_MODELS.items()})


def test_accuracies_are_those_of_the_papers_table_5(paper):
    assert paper["n"] == 27
    assert {row["reader"]: (row["correct"], round(row["accuracy"], 2)) for row in paper["readers"]} == {
        name: row[:2] for name, row in PAPER.items()
    }
    assert {row["model"]: (row["correct"], round(row["accuracy"], 2)) for row in paper["models"]} == PAPER_MODELS


def test_spine_surgeons_are_those_of_the_paper(paper):
    """0.823 +/- 0.047 in the text, from accuracies rounded to two digits first: the mean of the counts is 89 / 108 = 0.824."""
    groups = {group["experience"]: group for group in paper["experience"]}
    assert groups[SPINE]["readers"] == 4
    assert groups[SPINE]["mean"] == pytest.approx(0.823, abs=0.0015)
    assert groups[SPINE]["sd"] == pytest.approx(0.047, abs=0.0005)
    assert groups["medical student"]["sd"] is None


def test_intervals_are_exact(paper):
    """Ends of a Clopper-Pearson interval solve the binomial's tails; 27 of 27 has the closed form (alpha / 2) ** (1 / n)."""
    from scipy.stats import binom

    models = {row["model"]: row["ci95"] for row in paper["models"]}
    assert models["lateral"] == pytest.approx([0.025 ** (1 / 27), 1.0], abs=1e-12)
    low, high = models["concat"]
    assert binom.sf(23, 27, low) == pytest.approx(0.025, abs=1e-9)
    assert binom.cdf(24, 27, high) == pytest.approx(0.025, abs=1e-9)


def test_mcnemar_by_hand():
    """Of ten patients the model alone is right on six and the reader alone on one: p = 2 (C(7,0) + C(7,1)) / 2**7 = 0.125."""
    patients = PATIENTS[:10]
    reader: dict[str, str | None] = {patient: TRUTH[patient] if number < 3 else "design-g" for number, patient in enumerate(patients)}
    reader |= {patient: None for patient in patients[3:] if TRUTH[patient] == "design-g"}
    model: dict[str, str | None] = {patient: TRUTH[patient] if number not in (0, 8) else None for number, patient in enumerate(patients)}
    truth = {patient: TRUTH[patient] for patient in patients}
    (pair,) = compare_readers(read_by("r", "", reader), truth, {"m": model})["comparisons"]
    assert pair == {"reader": "r", "model": "m", "n": 10, "only_reader": 1, "only_model": 6, "p": pytest.approx(0.125, abs=1e-12)}


def test_equal_answers_do_not_differ(paper):
    pairs = {(pair["reader"], pair["model"]): pair for pair in paper["comparisons"]}
    assert len(pairs) == len(PAPER) * len(PAPER_MODELS)
    assert pairs["Reader 2", "concat"]["p"] == 1.0
    assert pairs["Reader 6", "lateral"]["p"] == pytest.approx(2 * 0.5**17, rel=1e-12)


def test_a_pair_is_compared_where_both_answered():
    model = answer_first(27)
    del model["p00"]  # was not asked: its lateral film is missing
    result = compare_readers(read_by("r", "", dict(list(answer_first(20).items())[:25])), TRUTH, {"m": model})
    assert result["readers"][0]["n"] == 25
    assert result["models"][0]["n"] == 26
    assert result["comparisons"][0] == {"reader": "r", "model": "m", "n": 24, "only_reader": 0, "only_model": 5, "p": 0.0625}


def test_seconds_are_a_mean_and_a_sum():
    timed = read_by("r", "", {"p00": None, "p01": None}, 30.0) + read_by("r", "", {"p02": None}, 90.0) + read_by("r", "", {"p03": None})
    reader = compare_readers(timed, TRUTH, {})["readers"][0]
    assert (reader["seconds"], reader["total_seconds"], reader["correct"]) == (50.0, 150.0, 0)
    assert compare_readers(timed[3:], TRUTH, {})["readers"][0]["seconds"] is None


def test_a_brand_of_none_of_these_patients_may_be_named():
    answers = read_by("r", "", {"p00": "design-z"})
    with pytest.raises(InputError, match="unknown brands: design-z; known are design-a"):
        compare_readers(answers, TRUTH, {})
    assert compare_readers(answers, TRUTH, {}, ["design-z"])["readers"][0]["correct"] == 0


def test_unknown_patients_are_named():
    with pytest.raises(InputError, match="not in the readers' set: p77, p99"):
        compare_readers(read_by("r", "", {"p99": None, "p00": None, "p77": None}), TRUTH, {})


def test_what_is_written_reads_back(tmp_path):
    answers = (
        ReaderAnswer('Dr. "A", x', "spine; senior", "p1", "design-a", 12.5),
        ReaderAnswer("Ö", "", "p1", None, None),
    )
    write_readers(tmp_path / "readers.csv", answers)
    assert read_readers(tmp_path / "readers.csv") == answers


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_spreadsheets_table_is_read(tmp_path, separator):
    table = tmp_path / "readers.csv"
    lines = [HEADER.strip().split(","), ["A", "fellow", "p1", "design-a", "31"], ["A", "fellow", "p2", "", ""], [""] * 5]
    table.write_text("\r\n".join(separator.join(line) for line in lines) + "\r\n", encoding="utf-8-sig")
    assert read_readers(table) == (ReaderAnswer("A", "fellow", "p1", "design-a", 31.0), ReaderAnswer("A", "fellow", "p2", None, None))


def test_all_faulty_rows_are_told_at_once(tmp_path):
    table = tmp_path / "readers.csv"
    rows = ["A,fellow,p1,design-a,3", "A,fellow,p1,design-b,3", ",fellow,p2,,", "A,resident,p3,,", "A,fellow,,,", "A,fellow,p4,,soon"]
    rows += ["A,fellow,p5,,-1", "A,fellow,p6,,inf"]
    table.write_text(HEADER + "\n".join(rows))
    with pytest.raises(InputError) as caught:
        read_readers(table)
    for part in (
        "7 errors",
        "line 3: A answered patient p1 already in line 2",
        "line 4, reader: empty",
        "line 5, experience: 'resident', but line 2 says 'fellow'",
        "line 6, patient_id: empty",
        "line 7, seconds: 'soon'",
        "line 8, seconds: '-1'",
        "line 9, seconds: 'inf'",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader,patient_id,brand\n", "expected once: experience, seconds; found: reader, patient_id, brand"),
        ("", "found: nothing"),
        (HEADER, "has no rows"),
        (HEADER + '"A,b,c,d,1', "not a CSV row"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text, message):
    table = tmp_path / "readers.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        read_readers(table)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_readers(tmp_path / "readers.csv")


def test_seconds_with_decimal_commas(tmp_path):
    table = tmp_path / "readers.csv"
    table.write_bytes((HEADER.replace(",", ";") + "A;;p1;b;12,5\r\nA;;p2;b;8\r\n").encode("utf-8-sig"))
    assert [answer.seconds for answer in read_readers(table)] == [12.5, 8.0]
    table.write_text(HEADER + "A,,p1,b,12,5\n")
    with pytest.raises(InputError, match=r"line 2 has 6 cells, expected 5 \(a decimal comma"):
        read_readers(table)


def test_brands_of_readers_and_studies_meet_in_one_normal_form(tmp_path):
    table = tmp_path / "readers.csv"
    table.write_text(HEADER + "A,,p1,Gro\u0308\u00dfe,\n", encoding="utf-8")
    (reader,) = compare_readers(read_readers(table), {"p1": "Gr\u00f6\u00dfe"}, {})["readers"]
    assert reader["correct"] == 1
