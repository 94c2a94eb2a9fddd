"""Films to tensors: right order, right slots, bounded look-ahead."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pedicle_screws import VIEWS
from PIL import Image

from edgekit import canvases
from edgekit.canvases import graph_inputs, stream_inputs
from edgekit.errors import InputError
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.types import Radiograph, Study


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Forty patients: AP only, lateral only, both, and so on; film n has the gray level n + 21 and, for contrast, a black edge."""
    rows = []
    for place in range(40):
        films = []
        for view in range(2):
            film = tmp_path / f"{place}-{view}.png"
            pixels = np.full((30 + place, 50), 2 * place + view + 21, np.uint8)
            pixels[:5] = 0
            Image.fromarray(pixels).save(film)
            films.append(film)
        rows.append(Study(str(place), films={"ap": None if place % 3 == 1 else films[0], "lateral": None if place % 3 == 0 else films[1]}))
    return rows


def test_graph_inputs_fill_the_slots() -> None:
    canvas = np.arange(64, dtype=np.uint8).reshape(8, 8)
    inputs = graph_inputs({"lateral": canvas}, VIEWS, 8)
    assert list(inputs) == ["ap", "lateral", "present"]
    assert inputs["ap"].shape == inputs["lateral"].shape == (1, 1, 8, 8)
    assert inputs["ap"].dtype == inputs["lateral"].dtype == np.uint8
    assert not inputs["ap"].any()
    np.testing.assert_array_equal(inputs["lateral"][0, 0], canvas)
    assert inputs["present"].dtype == np.float32
    assert inputs["present"].tolist() == [0, 1]
    assert graph_inputs({"ap": canvas, "lateral": canvas}, VIEWS, 8)["present"].tolist() == [1, 1]
    assert graph_inputs({}, VIEWS, 8)["present"].tolist() == [0, 0]
    for wrong in (canvas[:4], canvas.astype(float)):
        with pytest.raises(ValueError, match="uint8 canvas"):
            graph_inputs({"ap": wrong}, VIEWS, 8)


def test_boxes_cut_at_the_edge_are_counted_in_one_warning(studies: list[Study], capsys: pytest.CaptureFixture[str]) -> None:
    """Films 50 wide: half a pixel is a hundredth. Forty rows, one line."""
    over = [row.with_box("ap", (-0.5, 0, 50.5, 20)).with_box("lateral", None) if row.film("ap") else row for row in studies]
    assert len(list(stream_inputs(over, VIEWS, 32, "Testing"))) == 40
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    count = sum(row.film("ap") is not None for row in studies)
    assert lines == [f"warning: Testing: {count} boxes reach beyond the film by at most 1% of its side and count up to its edge"]
    with pytest.raises(InputError, match="reaches beyond the film"):
        list(stream_inputs([over[0].with_box("ap", (0, 0, 50.6, 20))], VIEWS, 32, "Testing"))


def test_stream_keeps_order_and_films(studies: list[Study]) -> None:
    seen = []
    for study, inputs, letterboxes in stream_inputs(studies, VIEWS, 32, "Testing"):
        seen.append(study)
        assert inputs["present"].tolist() == [study.film("ap") is not None, study.film("lateral") is not None]
        for place, view in enumerate(("ap", "lateral")):
            film = study.film(view)  # type: ignore[arg-type]
            if film is None:
                assert view not in letterboxes
                assert not inputs[view].any()
                continue
            canvas, letterbox = make_canvas(read_radiograph(film).pixels, 32)
            np.testing.assert_array_equal(inputs[view][0, 0], canvas)
            assert canvas.max() == 2 * int(study.patient_id) + place + 21
            assert letterboxes[view] == letterbox  # type: ignore[index]
    assert seen == studies


def test_stream_of_nothing() -> None:
    assert list(stream_inputs([], VIEWS, 32, "Testing")) == []


def test_stream_decodes_a_bounded_number_ahead(studies: list[Study], monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    lock = threading.Lock()

    def read(path: Path) -> Radiograph:
        with lock:
            started.append(path)
        return read_radiograph(path)

    monkeypatch.setattr(canvases, "THREADS", 3)
    monkeypatch.setattr(canvases, "read_radiograph", read)
    both = [
        Study(study.patient_id, films={"ap": Path(study.film("ap") or study.film("lateral") or ""), "lateral": None}) for study in studies
    ]
    for taken, _ in enumerate(stream_inputs(both, VIEWS, 32, "Testing"), 1):
        time.sleep(0.01)
        assert len(started) <= taken + 2 * 3
    assert len(started) == len(both)


def test_an_unreadable_film_stops_the_stream_at_its_place(studies: list[Study], tmp_path: Path) -> None:
    (tmp_path / "7-1.png").write_bytes(b"")
    seen = []
    with pytest.raises(InputError, match=r"7-1\.png"):
        seen += [study.patient_id for study, _, _ in stream_inputs(studies, VIEWS, 32, "Testing")]
    stream = stream_inputs(studies, VIEWS, 32, "Testing")
    for place in range(7):
        assert next(stream)[0].patient_id == str(place)
    with pytest.raises(InputError):
        next(stream)


def fail_at(name: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the film `name` raise `failure`."""

    def read(path: Path) -> Radiograph:
        if path.name == name:
            raise failure
        return read_radiograph(path)

    monkeypatch.setattr(canvases, "read_radiograph", read)


@pytest.mark.parametrize("failure", [ZeroDivisionError("a codec"), AttributeError("a codec"), OSError(5, "a codec")])
def test_whatever_reading_a_row_raises_costs_only_that_row(
    studies: list[Study], failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at("7-1.png", failure, monkeypatch)
    unreadable: dict[Study, str] = {}
    seen = [study.patient_id for study, _, _ in stream_inputs(studies, VIEWS, 32, "Testing", unreadable)]
    assert seen == [str(place) for place in range(40) if place != 7]
    assert list(unreadable) == [studies[7]]
    assert "7-1.png" in unreadable[studies[7]]
    assert "a codec" in unreadable[studies[7]]


def test_a_machine_out_of_memory_is_no_fault_of_the_film(studies: list[Study], monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at("7-1.png", MemoryError(), monkeypatch)
    with pytest.raises(MemoryError):
        list(stream_inputs(studies, VIEWS, 32, "Testing", {}))


def test_rows_done_before_are_not_read_but_count(
    studies: list[Study], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = []
    monkeypatch.setattr(canvases, "read_radiograph", lambda path: read.append(path.name) or read_radiograph(path))
    done = set(range(40)) - {3, 11, 12, 30}
    seen = [(study.patient_id, inputs["ap"].max()) for study, inputs, _ in stream_inputs(studies, VIEWS, 32, "Testing", None, done)]
    assert seen == [("3", 27), ("11", 43), ("12", 45), ("30", 81)]
    assert sorted(read) == ["11-0.png", "11-1.png", "12-0.png", "3-0.png", "30-0.png"]
    assert "40/40" in capsys.readouterr().err


def test_an_abandoned_stream_leaves_no_threads(studies: list[Study]) -> None:
    before = threading.active_count()
    stream = stream_inputs(studies, VIEWS, 32, "Testing")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
