"""How fast a graph could be here: its multiply-adds and bytes against what this machine reaches on big layers of the same kind.

The roofline of Williams, Waterman and Patterson (2009), stage by stage: a stage takes at least as long as its arithmetic at the measured
peaks and at least as long as its bytes at the measured bandwidth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, MissingError
from edgekit.latency.stages import TIMED_STAGES, find_stages

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS = ("dense int8", "depthwise int8", "dense fp32", "depthwise fp32", "other")
"""Kinds of layer, by how a processor computes them. A float16 layer counts as fp32: the processor computes it so. ``other`` has no
multiply-adds that are counted; it could all be fused into its neighbours, so that its bytes are told but bound nothing."""

CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv", "ConvInteger")
PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
QUANTIZED = ("QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul")
FREE = ("QuantizeLinear", "DequantizeLinear", "Constant", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
"""Operators that move nothing once a runtime has optimised the graph."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a kind of layer costs in a stage.

    Attributes
    ----------
    macs
        Multiply-adds.
    bytes
        Weights and activations read, and activations written; each layer's own, in the type that it computes in.
    """

    macs: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.bytes + other.bytes)


def count_cost(model: Any, stages: list[str] | None = None) -> dict[str, dict[str, Cost]]:
    """Return the cost of a graph by stage and kind of layer; kinds that don't occur are left out.

    A convolution's multiply-adds are its output's elements times the kernel's elements times the input channels of a group; a product's are
    its output's elements times the length of the common axis. A layer is int8 when its activations and its weights both are; its output
    then counts one byte an element, as if its own rounding were fused into it.

    Parameters
    ----------
    model
        ``onnx.ModelProto`` with static shapes, of ONNX's own operators.
    stages
        The stage of each node; None finds them (`find_stages`).

    Raises
    ------
    InputError
        A shape is not known.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {}
    sizes: dict[str, int] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        if tensor.HasField("shape") and min(dims, default=0) >= 0:
            shapes[value.name] = dims
            sizes[value.name] = _size_of(tensor.elem_type)
    for weight in inferred.initializer:
        shapes[weight.name], sizes[weight.name] = tuple(weight.dims), _size_of(weight.data_type)
    rounded: dict[str, str] = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    made_by = {output: node for node in model.graph.node for output in node.output}

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise InputError(f"the shape of tensor '{name}' is not known", "export the bundle with static shapes and standard operators")
        return shapes[name]

    def stored(name: str) -> str:
        """Return the tensor that a layer's operand is kept as: the 8-bit one behind a DequantizeLinear, through layout changes."""
        while name not in rounded and name in made_by and made_by[name].op_type in FREE:
            name = str(made_by[name].input[0])
        return rounded.get(name, name)

    def read_bytes(names: list[str]) -> int:
        return sum(math.prod(shape(name)) * sizes[stored(name)] for name in names if name)

    cost: dict[str, dict[str, Cost]] = {}
    for node, stage in zip(model.graph.node, stages or find_stages(model.graph), strict=True):
        if node.op_type in FREE or any(name in rounded for name in node.output):
            continue
        kind, macs = "other", 0
        operands = [name for name in node.input if name]
        if node.op_type in (*CONVOLUTIONS, *PRODUCTS):
            left, right = (node.input[0], node.input[3]) if node.op_type.startswith("QLinear") else (node.input[0], node.input[1])
            operands = [left, right]
            eight = node.op_type in QUANTIZED or all(sizes[stored(name)] == 1 and stored(name) != name for name in operands)
            depthwise, macs = _count_macs(node, shape(left), shape(right), shape(node.output[0]))
            kind = f"{'depthwise' if depthwise else 'dense'} {'int8' if eight else 'fp32'}"
        written = sum(math.prod(shape(name)) * (1 if kind.endswith("int8") else sizes[name]) for name in node.output if name)
        of_stage = cost.setdefault(stage, {})
        of_stage[kind] = of_stage.get(kind, Cost()) + Cost(macs, read_bytes(operands) + written)
    return cost


def bound_time(cost: Mapping[str, Mapping[str, Cost]], peaks: Mapping[str, float], bandwidth: float) -> dict[str, float]:
    """Return the shortest time of each stage in ms: the longer of its arithmetic and of its traffic, ``other`` left out of both.

    Parameters
    ----------
    cost
        See `count_cost`.
    peaks
        Multiply-adds a second by kind of layer.
    bandwidth
        Bytes a second.
    """
    floors = {}
    for stage, kinds in cost.items():
        counted = {kind: each for kind, each in kinds.items() if kind != "other"}
        compute = sum(each.macs / peaks[kind] for kind, each in counted.items())
        floors[stage] = 1000 * max(compute, sum(each.bytes for each in counted.values()) / bandwidth)
    return floors


def measure_floor(path: Path, threads: int | None) -> dict[str, Any]:
    """Measure this machine's peaks and compute the floor of a graph.

    Returns
    -------
    dict
        ``threads``; ``peaks_gmacs``, 10^9 multiply-adds a second by kind of layer; ``bandwidth_gb_s``; ``stages``, by stage ``floor_ms``
        and by kind of layer ``macs`` and ``bytes``; ``macs``; ``floor_ms``, the sum over the stages.

    Raises
    ------
    MissingError
        onnx is not installed, or the graph's shapes are not known.
    """
    from edgekit.latency.peaks import measure_peaks

    try:
        import onnx
    except ImportError as error:
        raise MissingError(f"onnx does not load: {error}", "pip install 'edgekit-imaging[export]'") from error
    try:
        cost = count_cost(onnx.load(path))
    except InputError as error:
        raise MissingError(error.message, error.remedy) from error
    measured = measure_peaks(threads)
    floors = bound_time(cost, measured.macs_per_s, measured.bytes_per_s)
    told = {
        stage: {
            "floor_ms": floors[stage],
            **{kind: {"macs": cost[stage][kind].macs, "bytes": cost[stage][kind].bytes} for kind in KINDS if kind in cost[stage]},
        }
        for stage in TIMED_STAGES
        if stage in cost
    }
    return {
        "threads": threads,
        "peaks_gmacs": {kind: value / 1e9 for kind, value in measured.macs_per_s.items()},
        "bandwidth_gb_s": measured.bytes_per_s / 1e9,
        "stages": told,
        "macs": sum(each.macs for kinds in cost.values() for each in kinds.values()),
        "floor_ms": sum(floors.values()),
    }


def _count_macs(node: Any, left: tuple[int, ...], right: tuple[int, ...], output: tuple[int, ...]) -> tuple[bool, int]:
    """Return whether a layer is depthwise, and its multiply-adds."""
    if node.op_type in CONVOLUTIONS:
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        return group > 1 and right[1] == 1, math.prod(output) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return False, math.prod(output) * left[0 if transposed else -1]


def _size_of(kind: int) -> int:
    """Bytes of an element of an ONNX type; what is no number (strings) does not occur in our graphs."""
    import onnx

    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
