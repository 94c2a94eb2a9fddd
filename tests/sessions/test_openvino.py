from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pedicle_screws import VIEWS

from edgekit.canvases import graph_inputs
from edgekit.contract import OUTPUTS
from edgekit.errors import InputError, MissingError
from edgekit.golden import read_golden
from edgekit.manifest import open_bundle
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.sessions.openvino import OpenVinoSession, open_session

TOLERANCE = {"boxes": 0.5, "heatmaps": 1e-2, "members": 2e-3}
"""Random members are steeper than trained ones: what is left of rounding shows in them first. All others: 1e-4."""


def test_it_answers_as_onnxruntime_does(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    side = bundle.canvas_side
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side), np.uint8)
    patients = [case.inputs for case in read_golden(bundle)]
    patients += [graph_inputs({"ap": noise[0], "lateral": noise[1]}, VIEWS, side), graph_inputs({"ap": noise[1]}, VIEWS, side)]
    with open_session(bundle, threads=1) as session, OnnxRuntimeSession(bundle.model, bundle.manifest.tensors["inputs"], 1) as reference:
        answers = [session.infer(inputs) for inputs in patients]  # all first: an answer must not change with the next
        for inputs, found in zip(patients, answers, strict=True):
            expected = reference.infer(inputs)
            assert tuple(found) == OUTPUTS
            for name in OUTPUTS:
                assert (found[name].dtype, found[name].shape) == (expected[name].dtype, expected[name].shape)
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=TOLERANCE.get(name, 1e-4), err_msg=name)


def test_it_says_what_runs_and_computes_in_float32_on_any_processor(tiny_bundle: Path) -> None:
    """A processor with bfloat16 would use it for float32 graphs, unasked."""
    with open_session(open_bundle(tiny_bundle), threads=1) as session:
        assert session.name == "openvino"
        assert session.runtime.startswith("openvino 20")
        assert session.runtime.endswith(" CPU f32, threads 1")


def test_wrong_inputs_are_refused(tiny_bundle: Path) -> None:
    with open_session(open_bundle(tiny_bundle)) as session, pytest.raises(InputError, match="takes the tensors"):
        session.infer({"present": np.ones(2, np.float32)})


def test_an_unreadable_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(MissingError, match="can't open"):
        OpenVinoSession(tmp_path / "model.onnx", {})


def test_without_openvino_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match="not installed") as caught:
        OpenVinoSession(tmp_path / "model.onnx", {})
    assert caught.value.remedy == "pip install 'edgekit-imaging[export]'"


def test_nobody_is_told_that_it_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    """Importing OpenVINO starts a process that tells Google Analytics, and keeps an identity in the home folder."""
    code = f"""
import multiprocessing, sys
from pathlib import Path
multiprocessing.Process.start = lambda *_: sys.exit("started a process")
from edgekit.manifest import open_bundle
from edgekit.sessions.openvino import open_session
open_session(open_bundle(Path({str(tiny_bundle)!r})), 1)
assert "openvino" in sys.modules
"""
    variables = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}  # it is silent there
    subprocess.run([sys.executable, "-c", code], check=True, env={**variables, "HOME": str(tmp_path)}, timeout=120)
    assert list(tmp_path.iterdir()) == []
