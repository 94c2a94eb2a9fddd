"""What the calibration films do to a graph: ranges of activations, and means and second moments of what each convolution reads."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.quantization.running import run_patients
from edgekit.quantization.silu import LOWEST, find_silus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.types import Tensors

POSITIONS = 300
"""Places of each film at which a convolution's input is looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What was seen.

    Attributes
    ----------
    ranges
        Lowest and highest value of each tensor, zero included; of what goes into a SiLU, none below `LOWEST` counts.
    channel_means
        float64 (C,), mean of the input of each convolution over films and pixels, by tensor.
    moments
        float64 (G, K, K), by node: the summed products of every two values that a convolution's kernel sees at once, K of them in each of
        G groups, in the order of its weights.
    """

    ranges: dict[str, tuple[float, float]]
    channel_means: dict[str, NDArray[np.float64]]
    moments: dict[str, NDArray[np.float64]]


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
    counted = _leave_out_lowest(probe, activations)
    for reduction, names in (("ReduceMin", activations), ("ReduceMax", activations), ("ReduceMean", convolved)):
        axes = ["observed.axes"] if reduction == "ReduceMean" else []
        for name in names:
            output = f"{name}.{reduction}"
            read = name if axes else counted.get(name, name)
            probe.graph.node.append(helper.make_node(reduction, [read, *axes], [output], keepdims=0))
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
        moments=_observe_moments(model, [node for node in chosen if node.op_type == "Conv"], calibration),
    )


def _leave_out_lowest(probe: Any, activations: Sequence[str]) -> dict[str, str]:
    """Add a copy of what goes into each SiLU in which zero stands for all that it takes for less than `LOWEST`; return them by tensor."""
    from onnx import helper, numpy_helper

    silus = {name: read for name, read in find_silus(probe).items() if name in activations}
    constants = {"observed.lowest": LOWEST, "observed.zero": 0.0}
    probe.graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())
    for name, read in silus.items():
        probe.graph.node.append(helper.make_node("Greater", [read, "observed.lowest"], [f"{name}.counts"]))
        probe.graph.node.append(helper.make_node("Where", [f"{name}.counts", name, "observed.zero"], [f"{name}.counted"]))
    return {name: f"{name}.counted" for name in silus}


def _observe_moments(model: Any, convolutions: Sequence[Any], calibration: Sequence[Tensors]) -> dict[str, NDArray[np.float64]]:
    """Sum the second moments over patients, films and `POSITIONS` places in each film."""
    from onnx import TensorProto, helper

    read = list(dict.fromkeys(node.input[0] for node in convolutions))
    probe = copy.deepcopy(model)
    present = {output.name for output in probe.graph.output}
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in read if name not in present)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    random = np.random.default_rng(0)
    seeds = {node.name: int(random.integers(2**32)) for node in convolutions}
    moments: dict[str, NDArray[np.float64]] = {}
    lock = Lock()

    def add(films: list[NDArray[np.float32]]) -> None:
        shown = dict(zip(read, films, strict=True))
        for node in convolutions:
            columns = _sample_columns(node, shapes[node.input[1]], shown[node.input[0]], seeds[node.name])
            moment = columns.transpose(0, 2, 1) @ columns
            with lock:
                moments[node.name] = moments.get(node.name, 0) + moment.astype(np.float64)

    run_patients(probe, read, calibration, "Observing the convolutions", add)
    return moments


def _sample_columns(node: Any, shape: tuple[int, ...], films: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return what the kernels of a convolution see at some places: (G, places, K).

    Parameters
    ----------
    shape
        (O, C / G, h, w), of its weights.
    films
        (N, C, H, W), its input.
    """
    attributes = {attribute.name: list(attribute.ints) or attribute.i for attribute in node.attribute}
    pads, strides, groups = attributes.get("pads", [0] * 4), attributes.get("strides", [1, 1]), attributes.get("group", 1)
    padded: NDArray[np.float32] = np.pad(films, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape[2:], (2, 3))  # type: ignore[call-overload]  # numpy's types know one axis
    windows = windows[:, :, :: strides[0], :: strides[1]]
    random = np.random.default_rng(seed)
    count = min(POSITIONS, windows.shape[2] * windows.shape[3])
    places = random.choice(windows.shape[2] * windows.shape[3], count, replace=False)
    seen = windows[:, :, places // windows.shape[3], places % windows.shape[3]]  # (N, C, places, h, w)
    grouped = seen.reshape(len(films), groups, shape[1], count, *shape[2:]).transpose(1, 0, 3, 2, 4, 5)
    return np.ascontiguousarray(grouped.reshape(groups, len(films) * count, -1))
