"""A run that can be known by heart: the answer is written in the films' grey level."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edgekit.cli import run as edgekit_command
from edgekit.errors import InputError
from edgekit.evaluation import study as study_module
from edgekit.evaluation.predictions import read_predictions
from edgekit.evaluation.study import evaluate_run, score_file
from edgekit.models import runfolder
from edgekit.models.ensemble import Case, Ensemble
from edgekit.types import INTENDED_USE, Study

BRANDS = ("a", "b", "c")
SIDE = 64
UNFOUND = 200
"""Grey level of a film on which the detector finds nothing; 20, 40 and 60 are the three brands."""
FOUND_BOX = (8.0, 8.0, 56.0, 56.0)


def make_study(folder: Path, patient: str, brand: str | None, levels: tuple[int | None, int | None], **more: Any) -> Study:
    """Paint the AP and lateral film of one patient with these grey levels; None: no film."""
    for view, level in zip(("ap", "lateral"), levels, strict=True):
        if level is not None:
            more[view] = folder / f"{patient}-{view}.png"
            Image.fromarray(np.full((SIDE, SIDE), level, np.uint8)).save(more[view])
    return Study(patient, brand, **more)


class Pipeline:
    """Answers what the grey level says, with 0.8."""

    spec = SimpleNamespace(brands=BRANDS, members=("ap", "lateral"), canvas_side=SIDE, ensemble="ap+lateral", box_threshold=0.5)

    def __call__(self, ap: Tensor, lateral: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        members, scores = torch.zeros(2, 3), torch.zeros(2)
        for row, film in enumerate((ap, lateral)):
            level = int(film.float().mean())
            scores[row] = present[row] * (0.1 if level == UNFOUND else 0.9)
            if scores[row] > 0.5:
                members[row] = 0.1
                members[row, level // 20 - 1] = 0.8
        boxes = torch.tensor([FOUND_BOX] * 2) * present[:, None]
        heatmaps = torch.full((2, 8, 8), 0.5)
        nothing = torch.zeros(3)
        return nothing, members, boxes, scores, torch.zeros(2, 2), heatmaps, (members.sum(0) > 0.3).int(), torch.zeros(1), torch.zeros(1)


def make_case(*weights: tuple[str, float]) -> Case:
    coefficients = np.concatenate([np.eye(3, dtype=np.float32) * weight for _, weight in weights], axis=1)
    return Case(tuple(name for name, _ in weights), coefficients, np.zeros(3, np.float32), 1.0, 0.2, 0.9)


ENSEMBLES = {
    "lateral": Ensemble("lateral", ("lateral",), {"lateral": make_case(("lateral", 5)), "both": make_case(("lateral", 5))}, 0.5),
    "ap+lateral": Ensemble(
        "ap+lateral",
        ("ap", "lateral"),
        {"ap": make_case(("ap", 5)), "lateral": make_case(("lateral", 5)), "both": make_case(("ap", 1), ("lateral", 5))},
        0.4,
    ),
}


def replace_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runfolder, "load_members_pipeline", lambda _: Pipeline())
    patch.setattr(runfolder, "load_ensembles", lambda _: ENSEMBLES)
    patch.setattr(runfolder, "run_hash", lambda _: "0" * 64)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts out: they take most of the time, and `out` has them."""
    monkeypatch.setattr(study_module, "_draw_figures", lambda *_: {})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:  # noqa: ARG001
    replace_run(monkeypatch)
    return tmp_path / "run"


def write_studies(folder: Path, studies: list[Study]) -> Path:
    from edgekit import studies as table

    table.write_studies(folder / "studies.csv", studies)
    return folder / "studies.csv"


def make_cohort(folder: Path) -> Path:
    a, b, c = 20, 40, 60
    whole, half = FOUND_BOX, (8.0, 8.0, 56.0, 32.0)
    rows: list[tuple[str, str | None, tuple[int | None, int | None], dict[str, Any]]] = [
        ("p1", "a", (a, a), {"has_crosslink": True, "ap_box": whole, "lateral_box": half}),  # both members right; IoU 1 and 0.5
        ("p2", "b", (a, b), {"has_crosslink": False, "lateral_box": whole}),  # ap is wrong, lateral weighs more
        ("p3", "b", (UNFOUND, UNFOUND), {"has_crosslink": False, "ap_box": whole}),  # nothing found
        ("p4", "c", (c, None), {"has_crosslink": True}),  # no lateral film
        ("p5", "x", (a, a), {"has_crosslink": True}),  # unseen brand
        ("p6", "none", (a, UNFOUND), {}),  # no construct: one false find of two
        ("p7", None, (b, b), {}),  # unknown brand
        ("p8", "a", (a, a), {"exclude": "two brands in one film"}),
        ("p9", "a", (a, a), {"split": "train"}),
    ]
    made = [make_study(folder, patient, brand, levels, **{"split": "test", **more}) for patient, brand, levels, more in rows]
    return write_studies(folder, made)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What evaluating the cohort wrote."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        replace_run(patch)
        evaluate_run(folder / "run", make_cohort(folder), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def metrics(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())


def test_models_are_scored_on_the_patients_that_they_could_answer_for(metrics: Any) -> None:
    models = metrics["models"]
    assert list(models) == ["ap", "lateral", "lateral-calibrated", "ap+lateral"]
    assert {name: (model["n"], model["unanswered"], model["accuracy"]) for name, model in models.items()} == {
        "ap": (4, 1, pytest.approx(2 / 4)),
        "lateral": (3, 1, pytest.approx(2 / 3)),
        "lateral-calibrated": (3, 1, pytest.approx(2 / 3)),
        "ap+lateral": (4, 1, pytest.approx(3 / 4)),
    }
    assert models["ap"]["confusion"]["matrix"] == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert {group: figures["n"] for group, figures in models["ap+lateral"]["crosslink"].items()} == {"with": 2, "without": 2}


def test_detector_is_scored_on_annotated_films_and_negatives(metrics: Any) -> None:
    detector = metrics["detector"]
    # annotated: p1 ap 1, p1 lateral 0.5, p2 lateral 1, p3 ap perfect but below the threshold
    assert detector["n"] == 4
    assert detector["mean_iou"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert detector["false_finds"] == pytest.approx(1 / 2)
    # at score 0.9: 3 hits of 4 boxes; at 0.1: 4 hits of 6
    assert detector["ap50"] == pytest.approx(3 / 4 * 3 / 4 + 1 / 4 * 4 / 6)


def test_every_row_is_accounted_for(metrics: Any, out: Path) -> None:
    provenance = metrics["provenance"]
    assert provenance["rows"] == {
        "file": 9,
        "excluded": {"two brands in one film": 1},
        "other_splits": {"train": 1},
        "without_construct": 1,
        "unseen": {"x": 1},
        "unknown_brand": 1,
        "scored": 4,
    }
    assert provenance["patients"] == 4
    assert provenance["films"] == {"n": 13, "simulated": 0, "unknown": 13}
    assert provenance["simulated"] is None
    assert provenance["ensemble"] == "ap+lateral"
    assert provenance["studies"]["name"] == "studies.csv"
    page = (out / "report.html").read_text()
    assert page.count('class="chart"') == 5
    for words in ("1 excluded (two brands in one film: 1)", "1 of brands the model does not know (x: 1)", "4 scored"):
        assert words in page


@pytest.mark.usefixtures("undrawn")
def test_a_predictions_file_scores_like_the_run_that_wrote_it(metrics: Any, out: Path, tmp_path: Path) -> None:
    for name, model in metrics["models"].items():
        file = out / f"predictions_{name}.csv"
        assert score_file(file, tmp_path / "scored").metrics == model
        assert json.loads((tmp_path / "scored/metrics.json").read_text()) == model
    rows = read_predictions(out / "predictions_ap+lateral.csv")
    assert rows.patients == ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
    assert rows.probabilities[2].tolist() == [1 / 3] * 3


def test_report_opens_with_the_chosen_ensemble_and_loads_nothing(run: Path, tmp_path: Path) -> None:
    evaluation = evaluate_run(run, make_cohort(tmp_path), tmp_path / "out")
    assert evaluation.metrics == json.loads((tmp_path / "out/metrics.json").read_text())
    page = (tmp_path / "out/report.html").read_text()
    assert "<strong>75.0\u00a0%</strong>" in page
    assert page.count(INTENDED_USE) == 2
    assert not re.search(r"""(src|href|url)\W{1,2}(https?:)?//""", page)
    assert set(re.findall(r'src="(\w+):', page)) == {"data"}
    assert "nan" not in page.lower().split("base64")[0]
    assert {example.patient_id: (example.answer, example.right) for example in evaluation.report.examples} == {
        "p1": ("a", True),
        "p2": ("b", True),
        "p4": ("c", True),
        "p3": (None, False),
    }
    assert set(evaluation.report.examples[2].films) == {"ap"}
    assert len(page) < 3_000_000


def test_all_rows_count_when_there_is_no_split(run: Path, tmp_path: Path) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, f"p{i}", "a", (20, 20)) for i in range(3)])
    metrics = evaluate_run(run, table, tmp_path / "out").metrics
    assert metrics["models"]["ap+lateral"]["n"] == 3
    assert metrics["models"]["ap+lateral"]["macro"]["auc"] is None  # one brand has no rest
    assert metrics["detector"] == {"n": 0, "mean_iou": None, "iou_p05": None, "ap50": None, "false_finds": None}


def test_models_without_a_patient_are_named(run: Path, tmp_path: Path) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, f"p{i}", "b", (40, None)) for i in range(3)])
    metrics = evaluate_run(run, table, tmp_path / "out").metrics
    assert list(metrics["models"]) == ["ap", "ap+lateral"]
    assert metrics["provenance"]["not_scored"] == ["lateral", "lateral-calibrated"]
    assert "lateral, lateral-calibrated" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("study", "expected"),
    [({"split": "train", "brand": "a"}, "no test rows"), ({"split": "test", "brand": "x"}, "no test row has a brand that the run knows")],
)
def test_nothing_to_score(run: Path, tmp_path: Path, study: dict[str, Any], expected: str) -> None:
    table = write_studies(tmp_path, [make_study(tmp_path, "p1", levels=(20, None), **study)])
    with pytest.raises(InputError, match=expected):
        evaluate_run(run, table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_simulated_films_are_called_simulated(run: Path, tmp_path: Path) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    def write_film(name: str, manufacturer: str) -> Path:
        film = Dataset()
        film.file_meta = FileMetaDataset()
        film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
        film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = "1.2.3"
        film.Manufacturer = manufacturer
        film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
        film.Rows = film.Columns = SIDE
        film.BitsAllocated = film.BitsStored = 8
        film.HighBit, film.PixelRepresentation = 7, 0
        film.WindowCenter, film.WindowWidth = 128, 256
        film.PixelData = np.full((SIDE, SIDE), 20, np.uint8).tobytes()
        film.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    phantom, device = write_film("phantom.dcm", "edgekit phantom"), write_film("device.dcm", "A maker")
    for films, expected in (((phantom, phantom), True), ((device, device), False), ((phantom, device), True)):
        table = write_studies(tmp_path, [Study("p1", "a", ap=films[0], lateral=films[1])])
        evaluate_run(run, table, tmp_path / "out")
        assert json.loads((tmp_path / "out/metrics.json").read_text())["provenance"]["simulated"] is expected
        assert ("simulated test patients" in " ".join((tmp_path / "out/report.html").read_text().split())) is expected


@pytest.mark.usefixtures("undrawn")
def test_a_real_pipeline_and_its_ensembles_give_one_answer(tiny_run: Path, tmp_path: Path) -> None:
    """Networks with random weights: what is scored for an ensemble is what its own graph answers."""
    from edgekit.canvases import stream_inputs
    from edgekit.studies import read_studies

    random = np.random.default_rng(0)
    films = []
    for number in range(4):
        films.append(tmp_path / f"noise{number}.png")
        Image.fromarray(random.integers(0, 256, (90, 128), np.uint8)).save(films[-1])
    table = write_studies(
        tmp_path,
        [
            Study("p1", "design-a", ap=films[0], lateral=films[1], ap_box=(10, 10, 60, 80)),
            Study("p2", "design-b", ap=films[2]),
            Study("p3", "design-c", lateral=films[3]),
        ],
    )
    models = evaluate_run(tiny_run, table, tmp_path / "out").metrics["models"]
    assert list(models) == ["ap", "lateral", "concat", "merge_mean", "ap-calibrated", "lateral-calibrated", "ap+lateral", "all"]
    assert models["concat"]["n"] == 1
    pipeline = runfolder.load_pipeline(tiny_run, "all")
    written = read_predictions(tmp_path / "out/predictions_all.csv")
    for row, (_, inputs, _) in enumerate(stream_inputs(read_studies(table), pipeline.spec.canvas_side, "asking")):
        with torch.inference_mode():
            answer = pipeline(*(torch.from_numpy(inputs[tensor]) for tensor in ("ap", "lateral", "present")))[0]
        assert written.probabilities[row] == pytest.approx(answer.numpy(), abs=1e-5)


def test_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit_command(["evaluate", str(run), str(make_cohort(tmp_path)), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out/metrics.json").read_text())
    file = tmp_path / "out/predictions_ap.csv"
    assert edgekit_command(["score", str(file), "--out", str(tmp_path / "scored")]) == 0
    printed = capsys.readouterr().out
    assert "0.500" in printed
    assert str(tmp_path / "scored/report.html") in printed

    with file.open(newline="") as lines:
        table = list(csv.reader(lines))
    table[2][3] = "7"
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows(table)
    assert edgekit_command(["score", str(file), "--out", str(tmp_path / "faulty")]) == 4
    assert "line 3, p_a: '7'" in capsys.readouterr().err
    assert not (tmp_path / "faulty").exists()
