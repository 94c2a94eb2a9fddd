"""Broken kernels, and the golden vector that exposes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pedicle_screws import VIEWS

from edgekit.contract import OUTPUTS
from edgekit.quantization.faults import spoil
from edgekit.stress import choose_stress

SIDE = 32


def rounding(kind: type, zero: int) -> onnx.ModelProto:
    """A graph that rounds to steps of a half and back."""
    constants = [numpy_helper.from_array(np.float32(0.5), "scale"), numpy_helper.from_array(np.asarray(zero, kind), "zero")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph(nodes, "rounding", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 0), (np.uint8, 100), (np.int8, -20)])
def test_rounding_goes_down_and_the_upper_half_of_the_codes_is_lost(kind: type, zero: int) -> None:
    x = np.linspace(-200, 200, 1001, dtype=np.float32) + np.float32(0.01)  # no ties
    model, limits = rounding(kind, zero), np.iinfo(kind)
    np.testing.assert_array_equal(run(model, x), 0.5 * (np.clip(np.round(x / 0.5) + zero, limits.min, limits.max) - zero))
    down = 0.5 * (np.clip(np.floor(x / 0.5) + zero, limits.min, limits.max) - zero)
    np.testing.assert_array_equal(run(spoil(model, "flushed rounding"), x), down)
    half = 0.5 * (np.clip(np.round(x / 0.5) + zero, limits.min, limits.max // 2) - zero)
    np.testing.assert_array_equal(run(spoil(model, "saturation"), x), half)


class Kernel:
    """A session whose first probability is the share of white pixels, as a formula makes it of that share."""

    name, runtime = "kernel", "none"

    def __init__(self, formula: Any) -> None:
        self.formula = formula

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        white = float((inputs["ap"] == 255).mean())
        outputs = {name: np.zeros(2, np.float32) for name in OUTPUTS}
        outputs["probabilities"] = np.array([self.formula(white), 0], np.float32)
        return outputs


def choose(sound: Kernel, **faults: Kernel) -> Any:
    """Choose with a film whose 240 is white at twice the contrast, and another that stays gray for longer."""
    ramps = []
    for top in (240, 140):
        ramp = np.tile(np.linspace(100, top, SIDE).astype(np.uint8), (SIDE, 1))
        ramps.append(dict.fromkeys(VIEWS, ramp))
    return choose_stress(ramps, SIDE, sound, faults, {name: {"tolerance": 0.1, "of_found": False} for name in OUTPUTS})


def test_the_films_chosen_are_those_that_the_faults_change_most() -> None:
    chosen = choose(Kernel(lambda _: 0.0), a=Kernel(lambda white: white), b=Kernel(lambda _: 1.0))
    assert (chosen.canvases["ap"] == 255).mean() > 0.4
    assert chosen.exposes["b"] == pytest.approx(10)
    assert chosen.exposes["a"] == pytest.approx(10 * (chosen.canvases["ap"] == 255).mean(), rel=1e-5)


def test_films_that_sound_runtimes_would_disagree_on_are_not_chosen() -> None:
    """Where one grey level moves the answer, a fault that shows there proves nothing."""
    chosen = choose(Kernel(lambda white: 40 * white), a=Kernel(lambda white: 41 * white))
    assert (chosen.canvases["ap"] < 255).all()
