"""The one list of the graph's tensors, against the tensors that a pipeline gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pedicle_screws import VIEWS

from edgekit.contract import OUTPUTS, describe_tensors, input_names, measure_errors, views_of
from edgekit.models.runfolder import load_members_pipeline
from edgekit.types import Tensors

SIZES = {"S": 8, "K": 3, "M": 4, "h": 2, "w": 2}


def test_every_tensor_is_as_the_list_says(tiny_run: Path) -> None:
    pipeline = load_members_pipeline(tiny_run)
    described = describe_tensors(VIEWS, pipeline.spec.sizes, exact=True)
    inputs = {name: np.zeros(row["shape"], row["dtype"]) for name, row in described["inputs"].items()}
    assert (tuple(inputs), views_of(inputs)) == (input_names(VIEWS), VIEWS)
    with torch.inference_mode():
        outputs = pipeline(*(torch.from_numpy(tensor) for tensor in inputs.values()))
    found = {name: (str(tensor.numpy().dtype), list(tensor.shape)) for name, tensor in zip(OUTPUTS, outputs, strict=True)}
    assert found == {name: (row["dtype"], row["shape"]) for name, row in described["outputs"].items()}


def test_below_float32_what_stands_beside_a_threshold_is_not_compared() -> None:
    exact, loose = (describe_tensors(VIEWS, SIZES, exact=each)["outputs"] for each in (True, False))
    assert all(row["tolerance"] is not None for row in exact.values())
    assert [name for name, row in loose.items() if row["tolerance"] is None] == ["found", "prediction_set", "decision"]
    assert all(row["tolerance"] > exact[name]["tolerance"] for name, row in loose.items() if row["tolerance"] is not None)


@pytest.fixture
def expected() -> Tensors:
    rows = describe_tensors(VIEWS, SIZES, exact=False)["outputs"]
    outputs: Tensors = {name: np.zeros(row["shape"], row["dtype"]) for name, row in rows.items()}
    return {**outputs, "found": np.array([1, 0], np.int32)}


def test_errors_are_the_largest_of_what_is_compared(expected: Tensors) -> None:
    rows = describe_tensors(VIEWS, SIZES, exact=False)["outputs"]
    boxes = np.zeros((2, 4), np.float32)
    boxes[0, 1], boxes[1, 2] = -3, 300  # nothing was found on the second film: its box is arbitrary
    other = {**expected, "boxes": boxes, "decision": np.array([4], np.int32), "unfamiliarity": np.array([np.nan], np.float32)}
    errors = measure_errors(expected, other, rows)
    assert errors["boxes"] == 3
    assert errors["unfamiliarity"] == np.inf
    assert "decision" not in errors
    assert errors["probabilities"] == 0
    assert measure_errors(expected, other, describe_tensors(VIEWS, SIZES, exact=True)["outputs"])["decision"] == 4
