"""Which simulated patients become golden vectors; what they expose is in tests/quantization/test_faults.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pedicle_screws import VIEWS, make_manifest

from edgekit.contract import OUTPUTS, describe_tensors, output_dtype
from edgekit.golden import DRAWS, STEP, STRESS, write_golden
from edgekit.types import Bundle

SIDE = 8
FIRST_LIGHT = 100
"""Canvases are of the grey level `FIRST_LIGHT` + 2 * seed, so that an even level tells a canvas from one that is a level lighter."""


class Shaky:
    """Answers whose probability moves by `shake` of the seed when every pixel is one grey level lighter."""

    name, runtime = "shaky", "none"

    def __init__(self, shake: dict[int, float]) -> None:
        self.shake = shake
        self.seen: list[tuple[bool, bool]] = []

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        level = int(max(inputs[view].max() for view in VIEWS))
        seed, lighter = divmod(level - FIRST_LIGHT, 2)
        self.seen.append(tuple(bool(given) for given in inputs["present"]))
        outputs = {name: np.zeros(2, output_dtype(name)) for name in OUTPUTS}
        outputs["probabilities"] = np.array([lighter * self.shake.get(seed, 0.0), seed], np.float32)
        return outputs


@pytest.fixture
def draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    def simulate(_: str, seed: int, __: object, side: int) -> dict[str, np.ndarray]:
        return {view: np.full((side, side), FIRST_LIGHT + 2 * seed, np.uint8) for view in VIEWS}

    monkeypatch.setattr("edgekit.golden.simulate_canvases", simulate)
    (tmp_path / "model.mlpackage").touch()
    tensors = describe_tensors(VIEWS, {"S": SIDE, "K": 2, "M": 1, "h": 1, "w": 1}, exact=False)
    return Bundle(tmp_path, make_manifest(canvas={"side": SIDE}, model="model.mlpackage", stages={}, brands=("a", "b"), tensors=tensors))


def seeds(bundle: Bundle) -> dict[str, int]:
    cases = json.loads((bundle.folder / "golden" / "golden.json").read_text())["cases"]
    return {case["name"]: int(case["outputs"]["probabilities"][1]) for case in cases if case["name"] != STRESS}


def test_answers_that_sound_runtimes_round_differently_are_no_golden_vectors(draft: Bundle) -> None:
    """The tolerance is 0.05, half of it is borne: the first patients of two cases, and the second of one of them, are near a tie."""
    session = Shaky({0: 0.04, 1: 0.03, 5: 0.2, 2: 0.02})
    write_golden(draft, session, exact=False)
    step = STEP
    assert seeds(draft) == {"both": step, "ap": 1 + 2 * step, "lateral": 2, "none": 3}
    assert (True, False) in session.seen, "a case is judged with the films that it gives"


def test_where_no_patient_is_steady_the_steadiest_is_taken(draft: Bundle) -> None:
    step = STEP
    shake = {draw * step: 1.0 - 0.1 * (draw == 3) for draw in range(DRAWS)}
    write_golden(draft, Shaky(shake), exact=False)
    assert seeds(draft)["both"] == 3 * step


def test_in_float32_the_first_patients_are_taken(draft: Bundle) -> None:
    write_golden(draft, Shaky({0: 1.0}), exact=True)
    assert seeds(draft) == {"both": 0, "ap": 1, "lateral": 2, "none": 3}
