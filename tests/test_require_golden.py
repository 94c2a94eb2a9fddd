"""A bundle is checked on the machine that answers with it: once, and before the first answer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resealing import read_manifest

from edgekit import golden
from edgekit.cli import run as edgekit
from edgekit.errors import GateError
from edgekit.golden import require_golden
from edgekit.inference import Predictor
from edgekit.latency import measure_latency
from edgekit.manifest import open_bundle, seal_bundle
from edgekit.remembered import FOLDER
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.studies import write_studies
from edgekit.types import Study


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def inferred(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """Every patient that an onnxruntime session of this process is asked for."""
    asked: list[dict[str, np.ndarray]] = []
    infer = OnnxRuntimeSession.infer

    def count(self: OnnxRuntimeSession, inputs: Any) -> Any:
        asked.append(inputs)
        return infer(self, inputs)

    monkeypatch.setattr(OnnxRuntimeSession, "infer", count)
    return asked


@pytest.fixture
def altered(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The bundle with other golden outputs, sealed again: its hashes hold, and the runtime here can't reach what it expects."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "altered")
    document = json.loads((folder / "golden" / "golden.json").read_text())
    document["cases"][1]["outputs"]["boxes"][0][2] += 377
    (folder / "golden" / "golden.json").write_text(json.dumps(document))
    manifest = read_manifest(folder)
    seal_bundle(folder, manifest)
    return folder


@pytest.fixture
def films(tiny_bundle: Path) -> list[str]:
    return ["--ap", str(tiny_bundle / "golden" / "both-ap.png"), "--lateral", str(tiny_bundle / "golden" / "both-lateral.png")]


def count_cases(bundle: Path) -> int:
    return len(json.loads((bundle / "golden" / "golden.json").read_text())["cases"])


def test_the_vectors_run_once_and_before_the_answer(tiny_bundle: Path, films: list[str], inferred: list[Any]) -> None:
    cases = count_cases(tiny_bundle)
    assert edgekit(["predict", str(tiny_bundle), *films]) == 0
    assert len(inferred) == cases + 1
    assert edgekit(["predict", str(tiny_bundle), *films]) == 0
    assert len(inferred) == cases + 2
    with Predictor(tiny_bundle) as predictor:
        predictor.find_views([Path(films[1]), Path(films[3])])
    assert len(inferred) == cases + 3


def test_many_patients_cost_one_check(tiny_bundle: Path, films: list[str], tmp_path: Path, inferred: list[Any]) -> None:
    rows = [Study(f"p{row}", films={"ap": Path(shutil.copy(films[1], tmp_path / f"{row}.png")), "lateral": None}) for row in range(5)]
    write_studies(tmp_path / "studies.csv", rows)
    command = ["predict", str(tiny_bundle), "--studies", str(tmp_path / "studies.csv"), "--out", str(tmp_path / "p.csv")]
    for expected in (count_cases(tiny_bundle) + 5, 5):
        inferred.clear()
        assert edgekit(command) == 0
        assert len(inferred) == expected


def test_a_wrong_answer_does_not_leave(altered: Path, films: list[str], tmp_path: Path, cache: Path, capsys: Any) -> None:
    write_studies(tmp_path / "studies.csv", [Study("p1", films={"ap": Path(films[1]), "lateral": None})])
    out = tmp_path / "p.csv"
    for words in (films, films, ["--films", films[1], films[3]], ["--studies", str(tmp_path / "studies.csv"), "--out", str(out)]):
        assert edgekit(["predict", str(altered), *words]) == 3
        shown = capsys.readouterr()
        assert "boxes by 3.8e+02 (accepted: 0.5)" in shown.err
        assert "another version of the runtime" in shown.err
        assert f"edgekit verify {altered}" in shown.err
        assert "design-" not in shown.out
    assert not out.exists()
    assert not (cache / FOLDER).exists()  # a failure is never remembered
    assert edgekit(["predict", str(altered), *films, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 3


def test_a_wrong_answer_is_not_measured(altered: Path, tiny_bundle: Path, capsys: Any) -> None:
    before = (altered / "manifest.json").read_bytes()
    assert edgekit(["bench", str(altered), "--session", "onnxruntime"]) == 3
    assert "boxes by 3.8e+02" in capsys.readouterr().err
    assert (altered / "manifest.json").read_bytes() == before
    (row,) = measure_latency(open_bundle(altered), ["onnxruntime"], rounds=1, per_round=1)["rows"]  # as export does, which judges itself
    assert row["n"] == 1
    (row,) = measure_latency(open_bundle(tiny_bundle), ["onnxruntime"], rounds=1, per_round=1, check=True)["rows"]
    assert row["n"] == 1


def test_verify_checks_whatever_is_remembered(tiny_bundle: Path, films: list[str], inferred: list[Any]) -> None:
    assert edgekit(["predict", str(tiny_bundle), *films]) == 0
    inferred.clear()
    assert edgekit(["verify", str(tiny_bundle), "--session", "onnxruntime"]) == 0
    assert len(inferred) == count_cases(tiny_bundle)


def test_whatever_could_change_the_answers_is_checked_again(
    tiny_bundle: Path, tmp_path: Path, inferred: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = count_cases(tiny_bundle)

    def count(folder: Path = tiny_bundle, runtime: str = "", threads: int | None = 1) -> int:
        inferred.clear()
        bundle = open_bundle(folder)
        with OnnxRuntimeSession(bundle.model, bundle.manifest.tensors["inputs"], threads) as session:
            session.runtime += runtime
            require_golden(bundle, session, threads)
        return len(inferred)

    assert [count(), count()] == [cases, 0]
    assert [count(threads=2), count(threads=2)] == [cases, 0]
    assert [count(runtime=" 2"), count(runtime=" 2"), count()] == [cases, 0, 0]
    for place, name, value in ((golden, "read_features", lambda: ("sse4_1",)), (golden, "VERSION", "9.9.9")):
        with monkeypatch.context() as changed:
            changed.setattr(place, name, value)
            assert [count(), count()] == [cases, 0], name
        assert count() == 0
    features = (getattr(np, "_core", None) or np.core)._multiarray_umath.__cpu_features__
    with monkeypatch.context() as changed:  # as an emulated processor has it, whose system tells of the machine that emulates
        changed.setitem(features, "SSE42", not features.get("SSE42", False))
        assert [count(), count()] == [cases, 0]
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    manifest = read_manifest(other)
    outputs = manifest.tensors["outputs"]
    tensors = {**manifest.tensors, "outputs": {**outputs, "boxes": {**outputs["boxes"], "tolerance": 0.25}}}
    seal_bundle(other, replace(manifest, tensors=tensors))
    assert [count(other), count(other), count()] == [cases, 0, 0]


def test_a_folder_that_can_not_be_written_only_costs_time(tiny_bundle: Path, films: list[str], cache: Path, inferred: list[Any]) -> None:
    cache.write_text("no folder")  # the superuser, as whom tests may run, is not stopped by permissions
    for _ in range(2):
        inferred.clear()
        assert edgekit(["predict", str(tiny_bundle), *films]) == 0
        assert len(inferred) == count_cases(tiny_bundle) + 1


def test_what_is_remembered_is_no_film_and_no_answer(tiny_bundle: Path, films: list[str], cache: Path) -> None:
    assert edgekit(["predict", str(tiny_bundle), *films]) == 0
    (file,) = (cache / FOLDER).iterdir()
    fact = json.loads(file.read_text())
    assert fact["model_sha256"] == open_bundle(tiny_bundle).manifest.model_sha256
    assert str(tiny_bundle) not in file.read_text()
    assert "both-ap.png" not in {key for key in fact if key != "files"}


def test_a_session_that_fails_is_closed(altered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    leave = OnnxRuntimeSession.__exit__

    def record(self: OnnxRuntimeSession, *raised: Any) -> None:
        closed.append(raised[0])
        leave(self, *raised)

    monkeypatch.setattr(OnnxRuntimeSession, "__exit__", record)
    with pytest.raises(GateError, match="misses the golden vectors"), Predictor(altered) as predictor:
        predictor.predict({"ap": altered / "golden" / "ap-ap.png"})
    assert closed == [GateError]
