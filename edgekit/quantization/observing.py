"""What the calibration films do to a graph: the range of each activation, and the mean of each convolution's input channels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.quantization.running import run_patients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.sessions import Tensors


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What was seen.

    Attributes
    ----------
    ranges
        Lowest and highest value of each tensor, zero included.
    channel_means
        float64 (C,), mean of the input of each convolution over films and pixels, by tensor.
    """

    ranges: dict[str, tuple[float, float]]
    channel_means: dict[str, NDArray[np.float64]]


def observe(model: Any, nodes: set[str], calibration: Sequence[Tensors], method: str) -> Observation:
    """Run `calibration` through `model`; only reductions leave the graph.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32.
    nodes
        Names of the nodes whose inputs and outputs are looked at.
    calibration
        The graph's inputs of each patient.
    method
        ``minmax``: the extremes of everything seen; ``average``: the mean over the patients of each one's extremes, so that one odd
        film does not stretch the scale of all.
    """
    from onnx import TensorProto, helper, numpy_helper

    probe = copy.deepcopy(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    chosen = [node for node in model.graph.node if node.name in nodes]
    activations = list(dict.fromkeys(name for node in chosen for name in (*node.input, *node.output) if name and name not in constants))
    convolved = list(dict.fromkeys(node.input[0] for node in chosen if node.op_type == "Conv"))
    wanted = []
    probe.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3], np.int64), "observed.axes"))
    for reduction, names in (("ReduceMin", activations), ("ReduceMax", activations), ("ReduceMean", convolved)):
        axes = ["observed.axes"] if reduction == "ReduceMean" else []
        for name in names:
            output = f"{name}.{reduction}"
            probe.graph.node.append(helper.make_node(reduction, [name, *axes], [output], keepdims=0))
            probe.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
            wanted.append(output)
    seen = run_patients(probe, wanted, calibration, "Calibrating")

    count = len(activations)
    extremes = np.array([row[: 2 * count] for row in seen], np.float64)  # (patients, lows then highs)
    lows, highs = extremes[:, :count], extremes[:, count:]
    low, high = (lows.min(axis=0), highs.max(axis=0)) if method == "minmax" else (lows.mean(axis=0), highs.mean(axis=0))
    return Observation(
        ranges={name: (min(float(a), 0.0), max(float(b), 0.0)) for name, a, b in zip(activations, low, high, strict=True)},
        channel_means={
            name: np.array([row[2 * count + place] for row in seen], np.float64).mean(axis=0) for place, name in enumerate(convolved)
        },
    )
