"""The gate on real sessions: what was damaged must not get through, what was not must."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from pedicle_screws import VIEWS
from PIL import Image

from edgekit.manifest import open_bundle
from edgekit.parity import measure_parity
from edgekit.parity.reference import Reference
from edgekit.types import Bundle, Parity, Study

N = 400
"""Patients, each with two films of its own: without a flip 381 are enough for a margin of 0.01 (z^2 / (n + z^2))."""


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    """The tiny bundle under the judge of an 8-bit variant."""
    opened = open_bundle(tiny_bundle)
    judge = {"basis": "statistical", "margin": 0.01, "agreement": 0.985}
    return Bundle(opened.folder, replace(opened.manifest, judge=judge, precision="w8a8"))


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run in a folder that keeps its references to itself."""
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def studies(bundle: Bundle, run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Study]:
    """Films of smooth noise. The run, whose weights are random, is taken to be right about 90 % of them."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("films")
    rows = []
    for patient in range(N):
        films = {view: folder / f"{patient}-{view}.png" for view in VIEWS}
        for path in films.values():
            coarse = Image.fromarray(random.integers(0, 256, (12, 12), np.uint8))
            coarse.resize((bundle.canvas_side,) * 2, Image.Resampling.BICUBIC).save(path, compress_level=1)
        rows.append(Study(f"p{patient}", films=films))
    answers = Reference(run, bundle, rows).compute().outputs["probabilities"].argmax(axis=1)
    truth = np.where(random.random(N) < 0.9, answers, random.integers(0, len(bundle.brands), N))
    return [
        Study(row.patient_id, bundle.brands[brand], films={"ap": row.film("ap"), "lateral": row.film("lateral")})
        for row, brand in zip(rows, truth, strict=True)
    ]


def judge(bundle: Bundle, run: Path, studies: list[Study], model: Any = None) -> Parity:
    if model is not None:
        onnx.save(model, bundle.model)
    (parity,) = measure_parity(bundle, run, studies, ["onnxruntime"])
    return parity


@pytest.fixture
def damaged(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy to write another model into; nobody opens it by its hashes."""
    return Bundle(shutil.copytree(bundle.folder, tmp_path / "bundle"), bundle.manifest)


def round_weights(model: Any, bits: int) -> None:
    """Store every weight of a convolution or matrix product in `bits` bits a channel, symmetrically."""
    used = {name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") for name in node.input}
    rounded = 0
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if tensor.name in used and weights.ndim >= 2 and tensor.name.startswith(("detector.", "members.")):
            steps = 2 ** (bits - 1) - 1
            scale = np.maximum(np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / steps, 1e-12)
            tensor.CopyFrom(numpy_helper.from_array((np.round(weights / scale) * scale).astype(np.float32), tensor.name))
            rounded += 1
    assert rounded > 100  # the detector's and both members' layers


def swap_members(model: Any) -> None:
    swapped = {"members.ap.": "members.lateral.", "members.lateral.": "members.ap."}
    contents = {tensor.name: tensor.raw_data for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        for prefix, other in swapped.items():
            if tensor.name.startswith(prefix):
                tensor.raw_data = contents[tensor.name.replace(prefix, other)]


def test_the_undamaged_file_passes_and_its_control_fails(bundle: Bundle, run: Path, studies: list[Study]) -> None:
    parity = judge(bundle, run, studies)
    assert (parity.verdict, parity.negative_control, parity.n, parity.flips, parity.flipped) == ("PASS", "FAIL", N, 0, [])
    assert 0.85 < parity.accuracy_reference < 0.99
    assert parity.agreement_ci95[0] == pytest.approx(0.025 ** (1 / N))


def test_without_brands_the_undamaged_file_passes_and_a_damaged_one_fails(
    bundle: Bundle, damaged: Bundle, run: Path, studies: list[Study]
) -> None:
    unlabelled = [replace(study, brand=None) for study in studies]
    parity = judge(bundle, run, unlabelled)
    assert (parity.verdict, parity.negative_control, parity.n, parity.n_labelled) == ("PASS", "FAIL", N, 0)
    assert parity.difference["at_most"] == pytest.approx(1 - 0.025 ** (1 / N))  # 0.92 %, the margin is 1 %
    model = onnx.load(bundle.model)
    swap_members(model)
    assert judge(damaged, run, unlabelled, model).verdict == "FAIL"


@pytest.mark.parametrize("damage", [swap_members, lambda model: round_weights(model, 3)], ids=["swapped members", "3-bit weights"])
def test_damaged_weights_fail(bundle: Bundle, damaged: Bundle, run: Path, studies: list[Study], damage: Any) -> None:
    model = onnx.load(bundle.model)
    damage(model)
    parity = judge(damaged, run, studies, model)
    assert parity.verdict == "FAIL"
    assert parity.agreement_ci95[1] < 0.985
    assert parity.accuracy_candidate < parity.accuracy_reference
    assert parity.flips + parity.decision_flips > 50
    assert len(parity.flipped) == 50
    assert all(each["reference"]["answer"] != each["candidate"]["answer"] for each in parity.flipped[: min(parity.flips, 50)])


def test_one_damaged_member_is_enough_to_fail(bundle: Bundle, damaged: Bundle, run: Path, studies: list[Study]) -> None:
    """The lateral member's classifier mixes up two brands: everything else is as it was."""
    model = onnx.load(bundle.model)
    (layer,) = (each for each in model.graph.initializer if each.name == "members.lateral.network.classifier.weight")
    weights = numpy_helper.to_array(layer)
    layer.CopyFrom(numpy_helper.from_array(weights[[1, 0, 2]], layer.name))
    assert judge(damaged, run, studies, model).verdict == "FAIL"
