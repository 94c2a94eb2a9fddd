from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.manifest import open_bundle
from edgekit.model_card import write_card
from edgekit.types import Manifest, Parity


@pytest.fixture
def manifest(tiny_bundle: Path) -> dict[str, Any]:
    return open_bundle(tiny_bundle).manifest


def make_record(**changes: Any) -> dict[str, Any]:
    parity = Parity(
        session="onnxruntime",
        runtime="onnxruntime 1.2",
        precision="w8a8",
        basis="statistical",
        n=1500,
        accuracy_reference=0.98,
        accuracy_candidate=0.979,
        flips=5,
        agreement=1495 / 1500,
        agreement_ci95=(0.99224, 0.99892),
        max_probability_error=0.31,
        box_iou_p05=0.97,
        decision_flips=11,
        difference={"value": 0.001, "ci95": [-0.002, 0.0041], "at_most": 0.0041, "margin": 0.01},
        mcnemar_p=0.5,
        power="",
        verdict="PASS",
        negative_control="FAIL",
        flipped=[{"patient_id": "jane-doe-1957", "brand": "design-a"}],
    )
    return {**asdict(parity), **changes}


def test_a_card_says_what_was_proven_and_names_no_patient(manifest: Manifest) -> None:
    stages = {"detector": "w8a8", "geometry": "fp32", "members": "w8a8", "ensemble": "fp32"}
    card = write_card(replace(manifest, verified=True, stages=stages, parity=[make_record()]))
    (row,) = [line for line in card.splitlines() if line.startswith("| onnxruntime ")]
    for figure in ("| 1500 | 5 | - | 11 |", "| 99.22 % | 0.41 points |", "**PASS** | FAIL |"):
        assert figure in row
    assert "Below fp32: detector, members." in card
    assert "jane-doe" not in card
    for absent in ("NOT VERIFIED", "not proven", "nterpreted"):
        assert absent not in card


def test_a_forced_bundle_is_stamped(manifest: Manifest) -> None:
    card = write_card(replace(manifest, verified=False, parity=[make_record(verdict="FAIL")]))
    assert card.splitlines()[0].endswith(": NOT VERIFIED")
    assert "**NOT VERIFIED: it was written with --force" in card
    assert "It was never compared with its reference." in write_card(replace(manifest, verified=False, parity=[]))


def test_what_was_not_proven_is_listed(manifest: Manifest) -> None:
    unproven = ["session tensorrt was not run here: no GPU", "the engine was not built"]
    card = write_card(replace(manifest, unproven=unproven, parity=[make_record(session="coreml-reference", runtime="edgekit")]))
    section = card.split("## What was not proven")[1].split("##")[0]
    assert all(f"- {sentence}\n" in section for sentence in unproven)
    assert "| coreml-reference (interpreted) |" in card
    assert "not the device's own" in card


def test_size_and_budget_in_megabytes_of_a_million_bytes(manifest: Manifest) -> None:
    variants = {manifest.precision: {"budget": {"size_mb": 10.5}}}
    recipe = {**manifest.recipe, "variants": variants}
    files = {name: {"size": size} for name, size in (("m.mlpackage/a", 4_000_000), ("m.mlpackage/b/c", 5_500_000), ("MODEL_CARD.md", 9))}
    card = write_card(replace(manifest, model="m.mlpackage", files=files, recipe=recipe))
    assert "- Model: 9.50 MB, at most 10.5 MB accepted (MB = 10^6 bytes)." in card
    in_time = {**recipe, "variants": {manifest.precision: {"budget": {"p50_ms": 50.0}}}}
    assert "- Model: 9.50 MB (MB = 10^6 bytes)." in write_card(replace(manifest, model="m.mlpackage", files=files, recipe=in_time))


def test_unknown_brands_leave_the_accuracy_unknown(manifest: Manifest) -> None:
    record = make_record(difference={"value": None, "ci95": None, "at_most": None, "margin": None}, negative_control=None)
    assert "| unknown | **PASS** | not possible |" in write_card(replace(manifest, parity=[record]))


def test_changed_answers_bound_the_accuracy_where_brands_are_unknown(manifest: Manifest) -> None:
    record = make_record(difference={"value": None, "ci95": None, "at_most": 0.00921, "margin": 0.01})
    assert "| 0.92 points | **PASS** |" in write_card(replace(manifest, parity=[record]))
