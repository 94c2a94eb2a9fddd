from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from edgekit import inference
from edgekit.cli import run as edgekit
from edgekit.errors import InputError, UsageError
from edgekit.evaluation.predictions import read_predictions
from edgekit.golden import read_golden
from edgekit.inference import Predictor, predict_table
from edgekit.manifest import open_bundle
from edgekit.radiograph import read_radiograph
from edgekit.sessions import open_session
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.studies import write_studies
from edgekit.task import INTENDED_USE
from edgekit.types import DECISIONS, Prediction, Radiograph, Study


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Any:
    with Predictor(tiny_bundle) as opened:
        yield opened


@pytest.fixture
def films(tiny_bundle: Path) -> dict[str, Path]:
    return {path.stem: path for path in (tiny_bundle / "golden").glob("*.png")}


def write_dicom(path: Path, pixels: np.ndarray, view: str) -> Path:
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    film.ViewPosition = view
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 8, 8, 7
    film.WindowCenter, film.WindowWidth = 128, 256
    film.PixelData = pixels.tobytes()
    film.save_as(path, enforce_file_format=True)
    return path


def paint(height: int, width: int, level: int) -> np.ndarray:
    """Paint a film of this mean level; one without contrast would be refused."""
    pixels = np.full((height, width), level, np.uint8)
    pixels[::2] -= 10
    pixels[1::2] += 10
    return pixels


class BrightIsLateral:
    """A session for which a film is the more lateral the brighter it is."""

    name, runtime = "stub", "stub"

    def __init__(self, answer: dict[str, np.ndarray]) -> None:
        self.answer = answer

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        brightness = np.array([inputs[view].mean() / 255 for view in ("ap", "lateral")], np.float32)
        return {**self.answer, "view_scores": np.stack([1 - brightness, brightness], axis=1)}


def replace_session(predictor: Predictor, session: object, monkeypatch: pytest.MonkeyPatch) -> None:
    future: Future[Any] = Future()
    future.set_result((session, 0.0))
    monkeypatch.setattr(predictor, "_session", future)


def test_the_answer_is_the_graphs(predictor: Predictor, tiny_bundle: Path, films: dict[str, Path]) -> None:
    case = read_golden(open_bundle(tiny_bundle))[0]
    prediction = predictor.predict({"ap": films["both-ap"], "lateral": films["both-lateral"]}, "p7")
    assert prediction.patient_id == "p7"
    assert list(prediction.probabilities) == ["design-a", "design-b", "design-c"]
    np.testing.assert_allclose(list(prediction.probabilities.values()), case.outputs["probabilities"], atol=1e-5)
    assert prediction.decision == DECISIONS[case.outputs["decision"][0]]
    assert [brand in prediction.prediction_set for brand in prediction.probabilities] == case.outputs["prediction_set"].astype(
        bool
    ).tolist()
    for row, view in enumerate(("ap", "lateral")):
        seen = prediction.views[view]
        np.testing.assert_allclose(seen["box"], case.outputs["boxes"][row], atol=1e-2)  # canvas and film are the same pixels here
        assert seen["score"] == pytest.approx(case.outputs["box_scores"][row], abs=1e-5)
        np.testing.assert_allclose(list(seen["view_scores"].values()), case.outputs["view_scores"][row], atol=1e-5)
    assert set(prediction.elapsed_ms) == {"decode", "canvas", "load", "infer"}


def test_one_film_is_enough_and_none_is_not(predictor: Predictor, films: dict[str, Path]) -> None:
    assert list(predictor.predict({"lateral": films["lateral-lateral"]}).views) == ["lateral"]
    assert list(predictor.predict({"ap": films["ap-ap"]}).views) == ["ap"]
    with pytest.raises(UsageError, match="films of no view"):
        predictor.predict({})
    with pytest.raises(InputError, match=r"gone\.png"):
        predictor.predict({"ap": Path("gone.png")})


def test_no_more_films_than_views(predictor: Predictor, films: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="3 films were given, and this bundle looks at 2"):
        predictor.find_views([films["ap-ap"]] * 3)


def test_a_row_of_other_views_is_not_answered_as_if_nothing_was_found(predictor: Predictor, films: dict[str, Path]) -> None:
    rows = [
        Study("p1", films={"oblique": films["ap-ap"], "ap": None, "lateral": None}),
        Study("p2", films={"ap": films["ap-ap"], "lateral": None}),
    ]
    (_, first), (_, second) = predictor.predict_studies(rows)
    assert isinstance(first, InputError)
    assert "no film of ap or lateral" in first.message
    assert not isinstance(second, InputError)


def answer(**changes: Any) -> dict[str, np.ndarray]:
    outputs = {
        "probabilities": np.array([0.1, 0.7, 0.2], np.float32),
        "boxes": np.array([[10, 20, 110, 100], [0, 0, 128, 128]], np.float32),
        "box_scores": np.array([0.9, 0.8], np.float32),
        "found": np.array([1, 1], np.int32),
        "prediction_set": np.array([0, 1, 0], np.int32),
        "unfamiliarity": np.array([0.25], np.float32),
        "decision": np.array([0], np.int32),
    }
    return {**outputs, **changes}


def test_boxes_come_back_in_film_pixels_within_the_film(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 512 high and 256 wide on a canvas of 128: a quarter, between columns 32 and 96.
    Image.fromarray(paint(512, 256, 90)).save(tmp_path / "tall.png")
    replace_session(predictor, BrightIsLateral(answer()), monkeypatch)
    prediction = predictor.predict({"ap": tmp_path / "tall.png"})
    assert prediction.views["ap"]["box"] == pytest.approx([0, 80, 256, 400])  # x: 4 * (10 - 32) and 4 * (110 - 32), cut to the film
    assert (prediction.decision, prediction.brand, prediction.prediction_set) == ("identified", "design-b", ["design-b"])


@pytest.mark.parametrize("decision", range(5))
def test_a_brand_is_named_only_when_identified(predictor: Predictor, films: dict[str, Path], decision: int, monkeypatch: Any) -> None:
    replace_session(predictor, BrightIsLateral(answer(decision=np.array([decision], np.int32))), monkeypatch)
    prediction = predictor.predict({"ap": films["ap-ap"]})
    assert prediction.decision == DECISIONS[decision]
    assert prediction.brand == ("design-b" if decision == 0 else None)


def test_the_box_of_a_film_on_which_nothing_was_found_is_null(
    predictor: Predictor, films: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_session(predictor, BrightIsLateral(answer(found=np.array([1, 0], np.int32))), monkeypatch)
    views = predictor.predict({"ap": films["both-ap"], "lateral": films["both-lateral"]}).views
    assert (views["ap"]["box"] is None, views["lateral"]["box"] is None) == (False, True)
    assert views["lateral"]["score"] == pytest.approx(0.8)


def test_the_detector_tells_the_views_apart(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_session(predictor, BrightIsLateral(answer()), monkeypatch)
    for name, level in (("dark", 60), ("bright", 120)):  # both look more like an AP film, one of them less
        Image.fromarray(paint(128, 128, level)).save(tmp_path / f"{name}.png")
    dark, bright = tmp_path / "dark.png", tmp_path / "bright.png"
    assert predictor.find_views([dark, bright]) == predictor.find_views([bright, dark]) == {"ap": dark, "lateral": bright}


def test_the_view_position_decides_when_both_films_have_one(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_session(predictor, BrightIsLateral(answer()), monkeypatch)
    dark, bright = paint(64, 64, 60), paint(64, 64, 120)
    lateral, ap = write_dicom(tmp_path / "1.dcm", dark, "LL"), write_dicom(tmp_path / "2.dcm", bright, "AP")
    assert predictor.find_views([lateral, ap]) == predictor.find_views([ap, lateral]) == {"ap": ap, "lateral": lateral}
    claims_ap = write_dicom(tmp_path / "3.dcm", dark, "AP")  # both say AP: the detector decides
    assert predictor.find_views([ap, claims_ap]) == {"ap": claims_ap, "lateral": ap}


def test_one_film_alone_has_a_view_too(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_session(predictor, BrightIsLateral(answer()), monkeypatch)
    for level, view in ((60, "ap"), (190, "lateral")):
        Image.fromarray(paint(128, 128, level)).save(tmp_path / f"{level}.png")
        assert predictor.find_views([tmp_path / f"{level}.png"]) == {view: tmp_path / f"{level}.png"}
    says_ap = write_dicom(tmp_path / "bright.dcm", paint(64, 64, 190), "AP")
    assert predictor.find_views([says_ap]) == {"ap": says_ap}


def test_many_patients_get_one_row_each(
    predictor: Predictor, films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = tmp_path / "studies.csv", tmp_path / "out" / "predictions.csv"
    rows = [
        Study("p1", "design-a", has={"crosslink": True}, films={"ap": films["both-ap"], "lateral": films["both-lateral"]}),
        Study("p2", None, exclude="blurred", films={"ap": films["ap-ap"], "lateral": None}),
        Study("p3", "none", films={"ap": None, "lateral": films["none-lateral"]}),
    ]
    write_studies(table, rows)
    decisions = predict_table(predictor, table, out).decisions
    assert sum(decisions.values()) == 3
    assert decisions["excluded"] == 1
    written = read_predictions(out)
    assert (written.patients, written.truth, written.has["crosslink"]) == (("p1", "p3"), ("design-a", "none"), (True, None))
    single = predictor.predict({"ap": films["both-ap"], "lateral": films["both-lateral"]})
    assert written.probabilities[0] == pytest.approx(list(single.probabilities.values()), abs=1e-6)

    replace_session(
        predictor, BrightIsLateral(answer(probabilities=np.zeros(3, np.float32), decision=np.array([3], np.int32))), monkeypatch
    )
    assert predict_table(predictor, table, out).decisions == {"no construct found": 2, "excluded": 1}
    assert read_predictions(out).probabilities == pytest.approx(np.full((2, 3), 1 / 3))


def test_memory_holds_a_few_patients_whatever_the_number_of_rows(
    predictor: Predictor, films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, answered, held = [], [], []

    def read(path: Path) -> Radiograph:
        decoded.append(path)
        return read_radiograph(path)

    class Counting(BrightIsLateral):
        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            answered.append(len(decoded))
            if len(answered) % 60 == 0:
                gc.collect()
                held.append(sum(type(each) in (Prediction, Radiograph) for each in gc.get_objects()))
            return super().infer(inputs)

    rows = [Study(f"p{row}", films={"ap": tmp_path / f"p{row}.png", "lateral": None}) for row in range(120)]
    for row in rows:
        shutil.copyfile(films["ap-ap"], tmp_path / f"{row.patient_id}.png")
    write_studies(tmp_path / "studies.csv", rows)
    replace_session(predictor, Counting(answer()), monkeypatch)
    monkeypatch.setattr(inference, "THREADS", 3)
    monkeypatch.setattr(inference, "read_radiograph", read)
    assert predict_table(predictor, tmp_path / "studies.csv", tmp_path / "predictions.csv").decisions == {"identified": 120}
    assert len(decoded) == len(answered) == 120  # the same picture in all, and each row decoded and answered
    assert all(films <= row + 2 * 3 for row, films in enumerate(answered, 1))
    assert max(held) <= 3 + 1  # a film in each decoder, the answer before


def test_over_many_patients_the_graph_leaves_cores_to_the_decoders(
    tiny_bundle: Path, films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def open_counted(name: str, bundle: Any, threads: int | None = None) -> Any:
        asked.append(threads)
        return open_session(name, bundle, threads)

    monkeypatch.setattr(inference, "open_session", open_counted)
    write_studies(tmp_path / "studies.csv", [Study("p1", films={"ap": films["ap-ap"], "lateral": None})])
    assert edgekit(["predict", str(tiny_bundle), "--ap", str(films["ap-ap"])]) == 0
    assert edgekit(["predict", str(tiny_bundle), "--studies", str(tmp_path / "studies.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    cores = os.cpu_count() or 1
    assert asked == [None, max(1, cores - min(4, cores))]


def test_the_json_document_has_exactly_the_documented_keys(tiny_bundle: Path, films: dict[str, Path], capsys: Any) -> None:
    command = ["predict", str(tiny_bundle), "--ap", str(films["both-ap"]), "--lateral", str(films["both-lateral"]), "--json"]
    assert edgekit(command) == 0
    document = json.loads(capsys.readouterr().out)
    keys = "schema patient_id decision brand probabilities prediction_set unfamiliarity views model elapsed_ms"
    assert list(document) == keys.split()
    assert document["schema"] == 1
    assert set(document["views"]) == {"ap", "lateral"}
    assert set(document["views"]["ap"]) == {"film", "box", "score", "view_scores"}
    assert set(document["views"]["ap"]["view_scores"]) == {"ap", "lateral"}
    assert document["model"]["verified"] is False


@pytest.mark.parametrize("decision", range(5))
def test_beside_a_refusal_stand_neither_ranking_nor_set(
    tiny_bundle: Path, films: dict[str, Path], decision: int, monkeypatch: Any, capsys: Any
) -> None:
    outputs = answer(decision=np.array([decision], np.int32), prediction_set=np.array([0, 1, 1], np.int32))
    infer = Predictor._infer
    monkeypatch.setattr(Predictor, "_infer", lambda self, inputs: {**infer(self, inputs), **outputs})
    command = ["predict", str(tiny_bundle), "--ap", str(films["ap-ap"])]
    assert edgekit([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert edgekit(command) == 0
    shown = capsys.readouterr().out
    if DECISIONS[decision] in ("identified", "ambiguous"):
        assert list(document["probabilities"]) == ["design-a", "design-b", "design-c"]
        assert document["prediction_set"] == ["design-b", "design-c"]
        assert "70.0 %" in shown
        assert shown.count("possible") == 2
    else:
        assert (document["brand"], document["probabilities"], document["prediction_set"]) == (None, {}, [])
        assert "design-" not in shown
        assert "%" not in shown
    assert document["unfamiliarity"] == pytest.approx(0.25)


def test_json_says_which_film_was_taken_as_which_view(tiny_bundle: Path, tmp_path: Path, capsys: Any) -> None:
    lateral, ap = write_dicom(tmp_path / "1.dcm", paint(64, 64, 60), "LL"), write_dicom(tmp_path / "2.dcm", paint(64, 64, 120), "AP")
    assert edgekit(["predict", str(tiny_bundle), "--films", str(lateral), str(ap), "--json"]) == 0
    views = json.loads(capsys.readouterr().out)["views"]
    assert {view: seen["film"] for view, seen in views.items()} == {"ap": str(ap), "lateral": str(lateral)}


def test_a_folder_of_one_patients_films_is_enough(tiny_bundle: Path, tmp_path: Path, capsys: Any) -> None:
    """As a disc has them: films without an extension in folders, a text, a hidden file."""
    folder = tmp_path / "patient"
    (folder / "DICOM" / "ST0").mkdir(parents=True)
    lateral = write_dicom(folder / "DICOM" / "ST0" / "IM0", paint(64, 64, 60), "LL")
    ap = write_dicom(folder / "DICOM" / "ST0" / "IM1", paint(64, 64, 120), "AP")
    (folder / "README.TXT").write_text("Open the viewer.")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    command = ["predict", str(tiny_bundle), "--folder", str(folder), "--json"]
    assert edgekit(command) == 0
    shown = capsys.readouterr()
    views = json.loads(shown.out)["views"]
    assert {view: seen["film"] for view, seen in views.items()} == {"ap": str(ap), "lateral": str(lateral)}
    assert "left out" in shown.err
    assert "README.TXT" in shown.err
    assert ".DS_Store" not in shown.err

    for film, patient in ((ap, "P1"), (lateral, "P2")):
        dataset = pydicom.dcmread(film)
        dataset.PatientID = patient
        dataset.save_as(film)
    assert edgekit(command) == 4
    assert "films of 2 patients by their Patient ID" in capsys.readouterr().err

    ap.unlink()  # one film is an answer too
    assert edgekit(command) == 0
    assert list(json.loads(capsys.readouterr().out)["views"]) == ["lateral"]
    lateral.write_bytes(lateral.read_bytes()[:-500])  # a damaged film is not a text: it can't be left out in silence
    assert edgekit(command) == 4
    assert str(lateral) in capsys.readouterr().err
    for name in ("1", "2", "3"):
        write_dicom(folder / name, paint(64, 64, 60), "AP")
    lateral.unlink()
    assert edgekit(command) == 4
    assert "3 films, expected at most one of each view (ap, lateral)" in capsys.readouterr().err
    assert edgekit([*command[:3], str(tmp_path / "patient" / "DICOM" / "ST0"), "--json"]) == 4
    assert "no films" in capsys.readouterr().err


def test_people_read_the_decision_the_state_and_the_intended_use(tiny_bundle: Path, films: dict[str, Path], capsys: Any) -> None:
    assert edgekit(["predict", str(tiny_bundle), "--films", str(films["both-lateral"]), str(films["both-ap"])]) == 0
    shown = capsys.readouterr().out
    assert INTENDED_USE in shown
    assert "not verified: never compared with its reference" in shown
    assert all(brand in shown for brand in ("design-a", "design-b", "design-c"))


def test_wrong_calls_and_films_have_their_exit_codes(tiny_bundle: Path, films: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    bundle, film = str(tiny_bundle), str(films["ap-ap"])
    assert edgekit(["predict", bundle]) == 2
    assert edgekit(["predict", bundle, "--ap", film, "--films", film, film]) == 2
    assert edgekit(["predict", bundle, "--studies", str(tmp_path / "s.csv")]) == 2
    assert edgekit(["predict", bundle, "--ap", str(tmp_path / "gone.dcm")]) == 4
    assert edgekit(["predict", bundle, "--studies", str(tmp_path / "s.csv"), "--out", str(tmp_path / "p.csv")]) == 4
    assert edgekit(["predict", str(tmp_path / "nowhere"), "--ap", film]) == 4
    assert "Traceback" not in capsys.readouterr().err


def test_a_model_that_does_not_open_is_told_once_the_answer_is_needed(tiny_bundle: Path, films: dict[str, Path], monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("the model does not fit")

    monkeypatch.setattr(OnnxRuntimeSession, "__init__", fail)
    with pytest.raises(MemoryError, match="does not fit"), Predictor(tiny_bundle) as predictor:
        predictor.predict({"ap": films["ap-ap"]})


def test_a_cold_process_answers_quickly_and_imports_no_toolchain(tiny_bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1200), np.uint8)
    films = [write_dicom(tmp_path / f"{view}.dcm", pixels, view.upper()) for view in ("ap", "ll")]
    program = "import sys; from edgekit.cli import main; sys.argv[1:] = sys.argv[1:]; main()"
    command = [sys.executable, "-c", program, "predict", str(tiny_bundle), "--ap", films[0], "--lateral", films[1], "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(answer.stdout)["decision"] in DECISIONS
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 3.0  # of processor time: the wall clock of a busy machine tells nothing

    listing = "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr)); " + program
    canvases = [tiny_bundle / "golden" / f"both-{view}.png" for view in ("ap", "lateral")]
    command = [sys.executable, "-c", listing, "predict", str(tiny_bundle), "--ap", canvases[0], "--lateral", canvases[1], "--json"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "torchvision", "ultralytics", "timm", "scipy", "sklearn", "pandas", "pydicom", "onnx", "matplotlib"}
