from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.contract import OUTPUTS
from edgekit.errors import InputError
from edgekit.models.runfolder import load_pipeline
from edgekit.sessions.torch import open_run


def test_the_reference_is_the_runs_own_pipeline(tiny_run: Path) -> None:
    random = np.random.default_rng(0)
    canvas = random.integers(0, 256, (1, 1, 128, 128), np.uint8)
    canvas.flags.writeable = False  # as memory-mapped canvases are
    inputs = {"ap": canvas, "lateral": np.zeros_like(canvas), "present": np.array([1, 0], np.float32)}
    with open_run(tiny_run, "ap+lateral") as session:
        found = session.infer(inputs)
    with torch.no_grad():
        expected = load_pipeline(tiny_run, "ap+lateral")(*(torch.tensor(tensor) for tensor in inputs.values()))
    assert list(found) == list(OUTPUTS)
    for name, tensor in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], tensor.numpy(), atol=1e-6, err_msg=name)
    assert session.runtime.startswith("torch ")


def test_an_unknown_ensemble_is_refused(tiny_run: Path) -> None:
    with pytest.raises(InputError, match="no ensemble 'ap\\+left'"):
        open_run(tiny_run, "ap+left")


def test_torch_has_its_threads_back(tiny_run: Path) -> None:
    before = torch.get_num_threads()
    with open_run(tiny_run, "ap+lateral", threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
