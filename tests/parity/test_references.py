"""The reference is computed once for a set of films, and never used for another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit.manifest import open_bundle
from edgekit.models.runfolder import run_hash
from edgekit.parity import measure_parity
from edgekit.parity.recording import THREADS, read_recording
from edgekit.parity.reference import Reference
from edgekit.sessions import torch as torch_session
from edgekit.types import Bundle, Study


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns(".references"))


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    random = np.random.default_rng(1)
    rows = [
        Study(f"p{row}", f"design-{'abc'[row]}", films={"ap": tmp_path / f"{row}.png", "lateral": tmp_path / f"{row}.png"})
        for row in range(3)
    ]
    for row in rows:
        Image.fromarray(random.integers(0, 256, (128, 128), np.uint8)).save(str(row.film("ap")), compress_level=0)
    return rows


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that the reference was opened."""
    calls: list[str] = []
    genuine = torch_session.open_run

    def open_run(*arguments: Any) -> Any:
        calls.append("torch")
        return genuine(*arguments)

    monkeypatch.setattr(torch_session, "open_run", open_run)
    return calls


def verify(bundle: Bundle, run: Path, studies: list[Study]) -> Any:
    (parity,) = measure_parity(bundle, run, studies, ["onnxruntime"])
    assert (parity.verdict, parity.negative_control) == ("PASS", "FAIL")
    return parity


def kept(run: Path) -> list[Path]:
    return sorted((run / ".references").iterdir())


def test_the_second_verification_runs_no_torch_and_says_the_same(
    bundle: Bundle, run: Path, studies: list[Study], opened: list[str]
) -> None:
    before = run_hash(run)
    first = verify(bundle, run, studies)
    assert opened == ["torch"]
    assert verify(bundle, run, studies) == first
    assert opened == ["torch"]
    assert len(kept(run)) == 1
    assert run_hash(run) == before


def test_another_film_order_ensemble_or_weight_is_another_reference(
    bundle: Bundle, run: Path, studies: list[Study], opened: list[str]
) -> None:
    verify(bundle, run, studies)
    assert Reference(run, bundle, studies).find() is not None
    assert Reference(run, bundle, [replace(study, patient_id="x", brand=None) for study in studies]).find() is not None
    assert Reference(run, bundle, studies[::-1]).find() is None
    assert Reference(run, bundle, [studies[0].with_film("lateral", None, studies[0].box("lateral")), *studies[1:]]).find() is None
    assert Reference(run, Bundle(bundle.folder, replace(bundle.manifest, ensemble="all")), studies).find() is None
    settings = run / "ensembles.json"
    settings.write_text(settings.read_text() + " ")
    assert Reference(run, bundle, studies).find() is None
    verify(bundle, run, studies)
    assert len(opened) == 2


def test_a_changed_film_is_noticed(bundle: Bundle, run: Path, studies: list[Study], opened: list[str]) -> None:
    first = verify(bundle, run, studies)
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (128, 128), np.uint8)).save(str(studies[0].film("ap")), compress_level=0)
    assert verify(bundle, run, studies).pack != first.pack
    assert len(opened) == 2


def test_a_film_that_changed_behind_its_size_and_time_is_noticed_by_its_canvas(
    bundle: Bundle, run: Path, studies: list[Study], opened: list[str]
) -> None:
    first = verify(bundle, run, studies)
    film = studies[0].film("ap")
    assert film is not None
    facts = film.stat()
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (128, 128), np.uint8)).save(film, compress_level=0)
    os.utime(film, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert film.stat().st_size == facts.st_size
    assert Reference(run, bundle, studies).find() is not None  # nothing but its content tells
    second = verify(bundle, run, studies)
    assert second.pack != first.pack
    assert len(opened) == 2
    assert verify(bundle, run, studies) == second  # the stale file gave way
    assert len(opened) == 2


@pytest.mark.parametrize("damage", ["cut short", "not a zip", "a changed byte", "pickled"])
def test_a_damaged_file_is_computed_again(bundle: Bundle, run: Path, studies: list[Study], opened: list[str], damage: str) -> None:
    first = verify(bundle, run, studies)
    (path,) = kept(run)
    content = path.read_bytes()
    match damage:
        case "cut short":
            path.write_bytes(content[: len(content) // 2])
        case "not a zip":
            path.write_bytes(b"x" * 100)
        case "a changed byte":
            place = content.index(b"boxes.npy") + 60  # inside the packed numbers
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        case "pickled":
            with np.load(path) as arrays:
                np.savez(path, **{**arrays, "boxes": np.array([{}], object)})
    assert verify(bundle, run, studies) == first
    assert len(opened) == 2
    assert path.read_bytes() == content


def test_a_run_folder_that_takes_no_file_costs_time_and_nothing_else(
    bundle: Bundle, run: Path, studies: list[Study], opened: list[str]
) -> None:
    (run / ".references").write_text("a file where the folder should be")
    assert verify(bundle, run, studies) == verify(bundle, run, studies)
    assert len(opened) == 2


def test_what_is_kept_are_the_small_outputs_of_this_run(bundle: Bundle, run: Path, studies: list[Study]) -> None:
    verify(bundle, run, studies)
    (path,) = kept(run)
    with np.load(path, allow_pickle=False) as arrays:
        assert "heatmaps" not in arrays
        assert arrays["members"].shape == (3, 2, 3)
    recording = read_recording(path, path.stem, 3, bundle.manifest.tensors["outputs"])
    with torch_session.open_run(run, "ap+lateral", THREADS) as session:  # other threads sum in another order
        canvas = np.asarray(Image.open(str(studies[1].film("ap"))))[None, None]
        outputs = session.infer({"ap": canvas, "lateral": canvas, "present": np.ones(2, np.float32)})
    np.testing.assert_allclose(recording.outputs["probabilities"][1], outputs["probabilities"], atol=1e-6)


def test_torch_has_its_threads_back(bundle: Bundle, run: Path, studies: list[Study]) -> None:
    @contextmanager
    def with_threads(count: int) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        yield
        torch.set_num_threads(before)

    with with_threads(3):
        verify(bundle, run, studies)
        assert torch.get_num_threads() == 3
