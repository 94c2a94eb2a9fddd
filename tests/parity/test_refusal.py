"""What turned an answer, on a pipeline small enough to check by hand; and the page that shows it, of a real bundle."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgekit.backends import onnx as backend
from edgekit.bundle import export_bundle
from edgekit.errors import GateError
from edgekit.parity.refusal import find_stage
from edgekit.studies import write_studies
from edgekit.targets import load_target
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import Artifact, Study, Target

SIDE = 64
SURE, UNSURE, OTHER = [0.9, 0.1], [0.6, 0.4], [0.1, 0.9]


class Halves:
    """A pipeline of two members that see the first brand where a box begins in the film's left half, and whose mean answers."""

    spec = SimpleNamespace(members=("ap", "lateral"), canvas_side=SIDE, crop_margin=0.05, task=PEDICLE_SCREWS)

    def classify(self, _: torch.Tensor, crops: torch.Tensor, __: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.tensor([SURE if crop[0] < SIDE / 2 else OTHER for crop in crops]), None

    def ensemble(self, members: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor]:
        return (members.mean(dim=0),)


def outputs(
    members: list[list[float]], left: tuple[float, float] = (5, 5), probabilities: list[float] | None = None
) -> dict[str, np.ndarray]:
    rows = np.array(members, np.float32)
    return {
        "members": rows,
        "probabilities": rows.mean(axis=0) if probabilities is None else np.array(probabilities, np.float32),
        "boxes": np.array([[edge, 5, edge + 20, 25] for edge in left], np.float32),
        "found": np.ones(2, np.int32),
    }


@pytest.mark.parametrize(
    ("found", "stage"),
    [
        (outputs([OTHER, OTHER], left=(40, 40)), "box"),
        (outputs([OTHER, [0.2, 0.8]]), "member ap"),
        (outputs([[0.5, 0.5], OTHER]), "member lateral"),
        (outputs([SURE, SURE], probabilities=OTHER), "ensemble"),
        (outputs([SURE, [0.0, 0.0]]), "finding"),
    ],
)
def test_the_first_stage_that_turns_the_answer_is_named(found: dict[str, np.ndarray], stage: str) -> None:
    canvas = np.zeros((1, 1, SIDE, SIDE), np.uint8)
    inputs = {"ap": canvas, "lateral": canvas, "present": np.ones(2, np.float32)}
    pipeline: Any = Halves()
    assert find_stage(pipeline, inputs, outputs([SURE, SURE]), found) == stage


def test_a_refused_export_says_what_turned_the_answers_and_shows_it(
    tiny_run: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exported ensemble is made to prefer one brand: it is what turned every answer, and the page has the patients' films."""
    films = shutil.copytree(tiny_bundle / "golden", tmp_path / "films")
    rows = [
        Study("p1", "design-a", split="test", films={"ap": films / "both-ap.png", "lateral": films / "both-lateral.png"}),
        Study("<p2>", "design-b", split="test", films={"ap": films / "ap-ap.png", "lateral": None}),
    ]
    write_studies(tmp_path / "studies.csv", rows)

    def convert(_: Any, __: Target, folder: Path, ___: Any) -> Artifact:
        model = onnx.load(tiny_bundle / "model.onnx")
        (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "ensemble.intercepts"]
        intercepts = numpy_helper.to_array(tensor).copy()
        intercepts[:, -1] += 100
        tensor.CopyFrom(numpy_helper.from_array(intercepts, tensor.name))
        onnx.save(model, folder / "model.onnx")
        return Artifact("model.onnx", ("model.onnx",))

    monkeypatch.setattr(backend, "convert", convert)
    with pytest.raises(GateError) as caught:
        export_bundle(tiny_run, load_target("web:onnx-fp32"), tmp_path / "web", tmp_path / "studies.csv")
    page = tmp_path / "web-onnx-fp32-refused.html"
    count = re.search(r"of (\d) changed answers \d had been within 5 points of a tie; turned by ensemble (\d)", caught.value.message)
    assert count is not None, caught.value.message
    assert 1 <= int(count[1]) == int(count[2]) <= 2
    assert str(page) in caught.value.message
    text = page.read_text()
    assert text.count("<article>") == int(count[1])
    assert "&lt;p2&gt;" in text or "p1" in text
    assert "<p2>" not in text
    assert text.count("data:image/jpeg;base64,") == text.count('<rect class="reference"') == text.count('<rect class="candidate"') >= 1
