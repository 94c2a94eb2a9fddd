"""How each operator of a graph is written for LiteRT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.litert import films
from edgekit.litert.films import NONE, PLACES, RELU6, find_activation, get_attributes
from edgekit.litert.lowering import Lowering, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit.litert.lowering import Tensor


def lower_graph(model: Any, metadata: dict[str, str]) -> bytes:
    """Return an ``onnx.ModelProto`` with static shapes as a LiteRT file.

    Raises
    ------
    InputError
        It has an operator that can't be written; the message names it and the module that it comes from.
    """
    return Lowering(model).run(OPERATORS, metadata)


def _quantize(lowering: Lowering, node: Any) -> None:
    """Write codes; bytes that already are codes get new steps."""
    source, steps = node.input[0], lowering.steps(node)
    last = lowering.is_last(source)
    read = lowering.find_codes(source, last) if lowering.codes_of(source) else lowering.read(source, last)
    made = lowering.write(node.output[0], last, steps)
    lowering.file.add("QUANTIZE", [read.number], [made.number], "QuantizeOptions")


def _dequantize(lowering: Lowering, node: Any) -> None:
    """Write nothing: whoever reads the result finds the codes, or asks for numbers."""
    lowering.done.add(node.output[0])


def _elementwise(operator: str, options: str | None = None) -> Callable[[Lowering, Any], None]:
    """Return what writes an operator that computes each element by itself."""

    def lower(lowering: Lowering, node: Any) -> None:
        last = any(lowering.is_last(name) for name in node.input)
        tensors = [lowering.read(name, last) for name in node.input]
        made = lowering.write(node.output[0], last)
        lowering.file.add(operator, [each.number for each in tensors], [made.number], options)

    return lower


def _clip(lowering: Lowering, node: Any) -> None:
    activation = find_activation(lowering, node)
    last = lowering.is_last(node.input[0])
    read = lowering.read(node.input[0], last)
    if activation != NONE:
        made = lowering.write(node.output[0], last)
        lowering.file.add("RELU6" if activation == RELU6 else "RELU", [read.number], [made.number])
        return
    bounds = [(name, operator) for name, operator in zip(node.input[1:], ("MAXIMUM", "MINIMUM"), strict=False) if name]
    for place, (name, operator) in enumerate(bounds):
        final = place == len(bounds) - 1
        made = lowering.write(node.output[0], last) if final else lowering.add_tensor(f"{node.name}.low", read.shape, read.dtype)
        lowering.file.add(operator, [read.number, lowering.read(name).number], [made.number], "MaximumMinimumOptions")
        read = made


def _max(lowering: Lowering, node: Any) -> None:
    if any(name in lowering.constants and (lowering.constants[name] == np.finfo(np.float32).min).all() for name in node.input[1:]):
        lowering.alias(node.output[0], node.input[0])  # what keeps onnxruntime from rounding weights
        return
    _elementwise("MAXIMUM", "MaximumMinimumOptions")(lowering, node)


def _reshape(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False, lowering.find_steps(node.output[0]) or read.steps)
    lowering.reshape(read, made)


def _transpose(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False, read.steps)
    lowering.file.add("TRANSPOSE", [read.number, lowering.axes(get_attributes(node)["perm"])], [made.number], "TransposeOptions")


def _slice(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False, lowering.find_steps(node.output[0]) or read.steps)
    starts, _, *rest = (lowering.constants[name].tolist() for name in node.input[1:])
    axes, *steps = rest or [list(range(len(starts)))]
    if steps == [[-1] * len(axes)] and read.shape == made.shape:
        turned = lowering.axes([axis % len(read.shape) for axis in axes])
        lowering.file.add("REVERSE_V2", [read.number, turned], [made.number], "ReverseV2Options")
        return
    if any(step != 1 for each in steps for step in each):
        raise refuse(node, "steps")
    begins = [0] * len(read.shape)
    for axis, start in zip(axes, starts, strict=True):
        begins[axis] = max(start + read.shape[axis], 0) if start < 0 else start
    lowering.file.add("SLICE", [read.number, lowering.axes(begins), lowering.axes(made.shape)], [made.number], "SliceOptions")


def _gather(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False, lowering.find_steps(node.output[0]) or read.steps)
    axis = get_attributes(node).get("axis", 0) % len(read.shape)
    places = lowering.read(node.input[1])
    lowering.file.add("GATHER", [read.number, places.number], [made.number], "GatherOptions", axis=axis, batchDims=0)


def _gather_elements(lowering: Lowering, node: Any) -> None:
    read, places = lowering.read(node.input[0]), lowering.read(node.input[1])
    axis = len(read.shape) - 1
    if get_attributes(node)["axis"] % len(read.shape) != axis or read.shape[:-1] != places.shape[:-1]:
        raise refuse(node, "an axis that is not the last")
    made = lowering.write(node.output[0], False)
    lowering.file.add("GATHER", [read.number, places.number], [made.number], "GatherOptions", axis=axis, batchDims=axis)


def _gather_blocks(lowering: Lowering, node: Any) -> None:
    places = lowering.constants[node.input[1]]
    if places.shape[-1] != 1 or get_attributes(node).get("batch_dims"):
        raise refuse(node, "places on several axes")
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False)
    chosen = lowering.axes(places.ravel())
    lowering.file.add("GATHER", [read.number, chosen], [made.number], "GatherOptions", axis=0, batchDims=0)


def _split(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    axis = get_attributes(node).get("axis", 0) % len(read.shape)
    parts = [lowering.write(name, False) for name in node.output]
    if len({part.shape for part in parts}) > 1:
        raise refuse(node, "parts of different sizes")
    lowering.file.add("SPLIT", [lowering.axes([axis]), read.number], [part.number for part in parts], "SplitOptions", numSplits=len(parts))


def _expand(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False)
    lowering.file.add("BROADCAST_TO", [read.number, lowering.axes(made.shape)], [made.number], "BroadcastToOptions")


def _multiply_matrices(lowering: Lowering, node: Any) -> None:
    left, right = (lowering.read(name) for name in node.input)
    made = lowering.write(node.output[0], False)
    if len(left.shape) > 1 and len(right.shape) > 1:
        lowering.file.add("BATCH_MATMUL", [left.number, right.number], [made.number], "BatchMatMulOptions")
        return
    row, column = left, right  # a vector is a row on the left and a column on the right
    if len(left.shape) == 1:
        row = lowering.add_tensor(f"{node.name}.row", (1, *left.shape), left.dtype)
        lowering.reshape(left, row)
    if len(right.shape) == 1:
        column = lowering.add_tensor(f"{node.name}.column", (*right.shape, 1), right.dtype)
        lowering.reshape(right, column)
    product = lowering.add_tensor(f"{node.name}.product", (*row.shape[:-1], column.shape[-1]), "float32")
    lowering.file.add("BATCH_MATMUL", [row.number, column.number], [product.number], "BatchMatMulOptions")
    lowering.reshape(product, made)


def _connect(lowering: Lowering, node: Any) -> None:
    attributes = get_attributes(node)
    if (
        not attributes.get("transB")
        or attributes.get("transA")
        or (attributes.get("alpha", 1.0), attributes.get("beta", 1.0)) != (1.0, 1.0)
    ):
        raise refuse(node, "factors or a turned input")
    tensors = [lowering.read(name).number for name in node.input]
    made = lowering.write(node.output[0], False)
    lowering.file.add("FULLY_CONNECTED", tensors, [made.number], "FullyConnectedOptions")


def _reduce(operator: str) -> Callable[[Lowering, Any], None]:
    def lower(lowering: Lowering, node: Any) -> None:
        attributes, rank = get_attributes(node), len(lowering.shapes[node.input[0]])
        axes = lowering.constants[node.input[1]].ravel() if len(node.input) > 1 else np.arange(rank)
        axes = [int(axis) % rank for axis in axes]
        keep = bool(attributes.get("keepdims", 1))
        last = keep and rank == 4 and lowering.is_last(node.input[0])
        read = lowering.read(node.input[0], last)
        made = lowering.write(node.output[0], last)
        places = [PLACES[axis] for axis in axes] if last else axes
        lowering.file.add(operator, [read.number, lowering.axes(sorted(places))], [made.number], "ReducerOptions", keepDims=keep)

    return lower


def _find_largest(lowering: Lowering, node: Any) -> None:
    attributes, read = get_attributes(node), lowering.read(node.input[0])
    axis = attributes["axis"] % len(read.shape)
    made = lowering.write(node.output[0], False)
    final = made
    if attributes.get("keepdims", 1):
        final = lowering.add_tensor(f"{node.name}.place", tuple(size for place, size in enumerate(read.shape) if place != axis), "int32")
    lowering.file.add("ARG_MAX", [read.number, lowering.axes([axis])], [final.number], "ArgMaxOptions", outputType=2)
    if final is not made:
        lowering.reshape(final, made)


def _softmax(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    if get_attributes(node).get("axis", -1) % len(read.shape) != len(read.shape) - 1:
        raise refuse(node, "an axis that is not the last")
    made = lowering.write(node.output[0], False)
    lowering.file.add("SOFTMAX", [read.number], [made.number], "SoftmaxOptions", beta=1.0)


def _cast(lowering: Lowering, node: Any) -> None:
    if node.input[0] in lowering.constants:  # weights that are kept in 8 bits: their convolution finds them
        lowering.done.add(node.output[0])
        return
    last = lowering.is_last(node.input[0])
    read = lowering.read(node.input[0], last)
    if read.dtype == lowering.dtypes[node.output[0]]:
        lowering.alias(node.output[0], node.input[0])
        return
    made = lowering.write(node.output[0], last)
    types = lowering.file.types
    lowering.file.add("CAST", [read.number], [made.number], "CastOptions", inDataType=types[read.dtype], outDataType=types[made.dtype])


def _multiply(lowering: Lowering, node: Any) -> None:
    cast = lowering.makers.get(node.input[0])
    if cast is not None and cast.op_type == "Cast" and cast.input[0] in lowering.constants:
        lowering.done.add(node.output[0])  # as above
        return
    _elementwise("MUL", "MulOptions")(lowering, node)


def _normalize(lowering: Lowering, node: Any) -> None:
    """Write x - mean over its deviation, times weights, plus biases (Ba et al. 2016, Layer Normalization)."""
    attributes, read = get_attributes(node), lowering.read(node.input[0])
    if attributes.get("axis", -1) % len(read.shape) != len(read.shape) - 1:
        raise refuse(node, "an axis that is not the last")
    last, rows = lowering.axes([len(read.shape) - 1]), (*read.shape[:-1], 1)

    def compute(operator: str, shape: tuple[int, ...], *given: Tensor, options: str | None = None) -> Tensor:
        made = lowering.add_tensor(f"{node.name}.{operator.lower()}", shape, "float32")
        lowering.file.add(operator, [each.number for each in given], [made.number], options)
        return made

    def average(given: Tensor) -> Tensor:
        made = lowering.add_tensor(f"{node.name}.mean", rows, "float32")
        lowering.file.add("MEAN", [given.number, last], [made.number], "ReducerOptions", keepDims=True)
        return made

    away = compute("SUB", read.shape, read, average(read), options="SubOptions")
    spread = average(compute("MUL", read.shape, away, away, options="MulOptions"))
    least = lowering.add_constant(f"{node.name}.least", np.array(attributes.get("epsilon", 1e-5), np.float32))
    factors = compute("RSQRT", rows, compute("ADD", rows, spread, least, options="AddOptions"))
    even = compute("MUL", read.shape, away, factors, options="MulOptions")
    weighted = compute("MUL", read.shape, even, lowering.read(node.input[1]), options="MulOptions")
    made = lowering.write(node.output[0], False)
    lowering.file.add("ADD", [weighted.number, lowering.read(node.input[2]).number], [made.number], "AddOptions")


def _gelu(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False)
    rough = get_attributes(node).get("approximate", b"none") == b"tanh"
    lowering.file.add("GELU", [read.number], [made.number], "GeluOptions", approximate=rough)


def _invert(lowering: Lowering, node: Any) -> None:
    read = lowering.read(node.input[0])
    made = lowering.write(node.output[0], False)
    one = lowering.add_constant(f"{node.name}.one", np.ones((), np.float32))
    lowering.file.add("DIV", [one.number, read.number], [made.number], "DivOptions")


OPERATORS: dict[str, Callable[[Lowering, Any], None]] = {
    "Abs": _elementwise("ABS", "AbsOptions"),
    "Add": films.add,
    "ArgMax": _find_largest,
    "AveragePool": films.pool("AVERAGE_POOL_2D"),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": films.join,
    "Conv": films.convolve,
    "DequantizeLinear": _dequantize,
    "Div": _elementwise("DIV", "DivOptions"),
    "Equal": _elementwise("EQUAL", "EqualOptions"),
    "Expand": _expand,
    "Floor": _elementwise("FLOOR"),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_blocks,
    "Gelu": _gelu,
    "Gemm": _connect,
    "Greater": _elementwise("GREATER", "GreaterOptions"),
    "GreaterOrEqual": _elementwise("GREATER_EQUAL", "GreaterEqualOptions"),
    "LayerNormalization": _normalize,
    "Less": _elementwise("LESS", "LessOptions"),
    "LessOrEqual": _elementwise("LESS_EQUAL", "LessEqualOptions"),
    "MatMul": _multiply_matrices,
    "Max": _max,
    "MaxPool": films.pool("MAX_POOL_2D"),
    "Min": _elementwise("MINIMUM", "MaximumMinimumOptions"),
    "Mul": _multiply,
    "Not": _elementwise("LOGICAL_NOT", "LogicalNotOptions"),
    "QuantizeLinear": _quantize,
    "Reciprocal": _invert,
    "ReduceMax": _reduce("REDUCE_MAX"),
    "ReduceMean": _reduce("MEAN"),
    "ReduceSum": _reduce("SUM"),
    "Relu": _clip,
    "Reshape": _reshape,
    "Resize": films.resize,
    "Sigmoid": _elementwise("LOGISTIC"),
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToDepth": films.cut_blocks,
    "Split": _split,
    "Squeeze": _reshape,
    "Sub": _elementwise("SUB", "SubOptions"),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Where": _elementwise("SELECT_V2", "SelectV2Options"),
}
