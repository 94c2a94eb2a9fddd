"""The ONNX graph that TensorRT builds from: which operators, types and forms TensorRT 10.3 to 11 and TensorRT-RTX take.

TensorRT is told to be *strongly typed*: the types in the file are the types that are computed with (11 knows nothing else). What the
tables say is checked before anything is built, so that a graph that fails on the device fails here, with the node's name.

Sources: **[M]** onnx-tensorrt, ``docs/operators.md`` for TensorRT 9.2 and 10.15 - what stands in both is in 10.3, which lies between;
**[Q]** TensorRT documentation, *Working with Quantized Types*; **[P]** what the parser of TensorRT-RTX 1.7 answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.files import write_json
from edgekit.formats.engine_layers import PROMISE
from edgekit.graphs.exporting import MODEL, write_graph
from edgekit.graphs.lowering import export_lowered
from edgekit.graphs.places import find_places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgekit.graphs.places import Places
    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.types import Target

OPSETS = range(9, 21)
"""TensorRT 10.3 reads operator sets up to 20."""

FLOAT = frozenset({"FLOAT", "FLOAT16"})
NUMBER = FLOAT | {"INT32", "INT64"}
ANY = NUMBER | {"BOOL"}

TAKEN = {
    FLOAT: "AveragePool Ceil Clip Conv ConvTranspose Elu Erf Exp Floor Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish "
    "LeakyRelu Log MatMul MaxPool Pow QuantizeLinear Reciprocal Resize Round Sigmoid Softmax Softplus Sqrt Tanh",
    NUMBER: "Abs Add ArgMax ArgMin Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Neg Pad Range ReduceL1 ReduceL2 ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Sign Sub TopK",
    ANY: "Concat Expand Flatten Gather GatherElements GatherND Identity Reshape Shape Slice Split Squeeze Tile Transpose Unsqueeze Where",
    ANY | {"UINT8"}: "Cast",
    frozenset({"BOOL"}): "And Not Or Xor",
    frozenset({"INT8"}): "DequantizeLinear",
}
OPERATORS = {name: types for types, names in TAKEN.items() for name in names.split()}
"""Element types of the first input, by operator [M]."""

CONSTANT_INPUTS = {"Squeeze": 1, "Unsqueeze": 1, "Reshape": 1, "Expand": 1} | {name: 1 for name in OPERATORS if name.startswith("Reduce")}
"""The input that must be an initializer where it is given [M]; of ``Reshape`` and ``Expand``, so that every shape is static."""

RESIZE = {
    "mode": ("nearest", "linear"),
    "coordinate_transformation_mode": ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "antialias": (0,),
}
"""Attributes of ``Resize`` that are taken [M]."""

WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
"""Axis of the output channels in a weight, which per-channel scales must run along [Q]; of ``Gemm`` it depends on ``transB``."""


def write_model(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> tuple[dict[str, str], list[str]]:
    """Write the pipeline as ``model.onnx`` in the precisions that `target` asks for, and the files that tell them.

    Eight-bit stages are symmetric throughout, in the explicit Q/DQ form; blocks that the answers do not survive in 8 bits stay float32
    (see `edgekit.graphs.lowering.export_lowered`).

    Returns
    -------
    promised
        See `list_precisions`.
    files
        The names of the files written.

    Raises
    ------
    InputError
        The recipe asks for an opset or a mixture that is not made, or TensorRT does not take the graph.
    GateError
        The answers do not survive in 8 bits.
    """
    model, files = export_lowered(pipeline, target, folder, calibration, target.settings["opset"], {"activations": "int8"}, None)
    check_graph(model)
    write_graph(model, pipeline, folder / MODEL)
    promised = list_precisions(model, find_places(pipeline))
    write_json(folder / PROMISE, promised)
    return promised, [MODEL, PROMISE, *files]


def check_graph(model: Any) -> None:
    """Raise unless TensorRT takes the graph, as far as the tables of this module tell.

    Parameters
    ----------
    model
        ``onnx.ModelProto`` with static shapes.

    Raises
    ------
    InputError
        It names the node and the rule; when there are several, the first, and how many more.
    """
    versions = {each.domain: each.version for each in model.opset_import}
    if set(versions) != {""} or versions[""] not in OPSETS:
        raise InputError(f"TensorRT 10.3 reads ONNX's own operators, sets {OPSETS[0]} to {OPSETS[-1]}; the graph needs {versions}")
    graph = _Graph(model)
    faults = [
        f"node '{node.name or node.output[0]}' ({node.op_type}): {rule}" for node in model.graph.node for rule in graph.broken_rules(node)
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"TensorRT does not take the graph: {faults[0]}{more}", "change the model, or export another target")


def list_precisions(model: Any, places: Places) -> dict[str, str]:
    """Return what each convolution and matrix product of the detector and the members computes in, by node: the file's promise.

    Parameters
    ----------
    model
        ``onnx.ModelProto``.
    places
        Of its nodes.

    Returns
    -------
    dict
        ``int8`` where data and weights come out of a ``DequantizeLinear``, else ``fp16`` or ``fp32``, the type of the weights.
    """
    graph = _Graph(model)
    precisions = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or places.find(node.name).stage not in ("detector", "members"):
            continue
        data, weight = (graph.producers.get(name) for name in node.input[:2])
        quantized = all(each is not None and each.op_type == "DequantizeLinear" for each in (data, weight))
        precisions[node.name] = "int8" if quantized else {"FLOAT16": "fp16", "FLOAT": "fp32"}[graph.types[node.input[1]]]
    return precisions


class _Graph:
    """A graph with what the rules ask of it: types, ranks, constants, and who makes and reads a tensor."""

    def __init__(self, model: Any) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        values = (*graph.input, *graph.value_info, *graph.output)
        names = onnx.TensorProto.DataType.Name
        self.types = {value.name: names(value.type.tensor_type.elem_type) for value in values}
        self.ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.types |= {tensor.name: names(tensor.data_type) for tensor in graph.initializer}
        self.ranks |= {name: array.ndim for name, array in self.constants.items()}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def broken_rules(self, node: Any) -> Iterator[str]:
        """Yield what TensorRT would refuse about a node."""
        from onnx import helper

        if node.op_type not in OPERATORS:
            yield "TensorRT has no such operator [M]"
            return
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        data = node.input[1 if node.op_type == "Where" else 0]
        if self.types[data] not in OPERATORS[node.op_type]:
            yield f"its input is {self.types[data]}, accepted: {', '.join(sorted(OPERATORS[node.op_type]))} [M]"
        for name in node.output:
            if self.types.get(name) == "UINT8" and node.op_type != "QuantizeLinear":  # that has a rule of its own
                yield "its output is UINT8, which only a graph input may be, read by a Cast [M, P]"
        position = CONSTANT_INPUTS.get(node.op_type)
        if position is not None and len(node.input) > position and node.input[position] not in ("", *self.constants):
            yield f"its input {position} is computed, it must be an initializer [M]"
        if node.op_type in ("ArgMax", "ArgMin", "TopK") and self.ranks[data] < 2:
            yield "its input has one dimension, at least two are needed [P]"
        if node.op_type in ("AveragePool", "MaxPool") and set(attributes.get("dilations", [1])) != {1}:
            yield "a dilated pool is not taken [M]"
        if node.op_type == "MaxPool" and len(node.output) > 1:
            yield "the output 'Indices' is not taken [M]"
        if node.op_type == "Resize":
            for name, accepted in RESIZE.items():
                value = attributes.get(name, accepted[0])
                if (value.decode() if isinstance(value, bytes) else value) not in accepted:
                    yield f"'{name}' is {value!r}, accepted: {', '.join(map(str, accepted))} [M]"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from self._quantization_rules(node, attributes)

    def _quantization_rules(self, node: Any, attributes: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with a node that quantizes or dequantizes: symmetric int8, per channel only for weights."""
        if any(name and name not in self.constants for name in node.input[1:]):
            yield "scale and zero point must be initializers [Q]"
            return
        default = np.uint8 if node.op_type == "QuantizeLinear" else np.int8  # without a zero point ONNX quantizes to uint8
        zero = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros((), default)
        if zero.dtype != np.int8:
            yield f"the zero point is {zero.dtype}, it must be int8 [M]"
        if zero.any():
            yield "the zero point is not 0 [M]"
        if self.constants[node.input[1]].size == 1:
            return
        if node.op_type == "QuantizeLinear" or node.input[0] not in self.constants:
            yield "a scale per channel is for weights only [Q]"
            return
        for reader in self.readers.get(node.output[0], []):
            transposed = any(each.name == "transB" and each.i for each in reader.attribute)
            wanted = WEIGHT_AXIS.get(reader.op_type, 0 if transposed else 1)
            if attributes.get("axis", 1) % self.ranks[node.input[0]] != wanted:
                yield f"scales run along axis {attributes.get('axis', 1)}, the output channels of '{reader.name}' along {wanted} [Q]"
