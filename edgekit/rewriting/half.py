"""Float16: rewrite an ONNX graph so that chosen nodes compute in half precision, with a cast only where precision changes.

Every runtime we ship to is *strongly typed* here: the types in the file are the types that are computed with, and an operator whose
inputs disagree is an error. onnxruntime's own converter does not keep that promise: it casts on both sides of every node that is to stay
float32, and sends the graph's outputs through float16, which moves a box at canvas coordinate 600 by a quarter of a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

FLOAT_INPUTS = {"Resize": (1, 2)}
"""Inputs that stay float32 whatever the data's type (ONNX operator specification): ``roi`` and ``scales``."""
LARGEST = float(np.finfo(np.float16).max)


def halve(model: Any, keep: Collection[str]) -> Any:
    """Return a copy of a float32 graph in which every node computes in float16, except those named in `keep`.

    The graph's inputs and outputs keep their types, and so does whatever passes between two kept nodes. Weights of the others are
    stored as float16. No tensor is cast twice to the same type.

    Parameters
    ----------
    model
        ``onnx.ModelProto`` without subgraphs whose floating point is float32.
    keep
        Names of nodes that stay float32.

    Raises
    ------
    InputError
        A weight is too large for float16, or a node can't be rewritten.
    """
    import onnx
    from onnx import TensorProto

    types = _infer_types(model)
    names = {node.name for node in model.graph.node}
    if unknown := sorted(set(keep) - names):
        raise InputError(f"the graph has no node {unknown[0]!r} to keep in float32")
    graph = _TwoPrecisions(model, {name for name, kind in types.items() if kind == TensorProto.FLOAT})
    for node in model.graph.node:
        graph.add(node, half=node.name not in keep)
    for output in model.graph.output:
        graph.provide(output.name, half=False)
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    for field in ("node", "initializer", "value_info"):
        halved.graph.ClearField(field)
    halved.graph.node.extend(graph.nodes)
    halved.graph.initializer.extend(graph.initializers)
    onnx.checker.check_model(halved, full_check=True)
    return halved


class _TwoPrecisions:
    """The graph being written. A float tensor ``x`` may exist twice: as ``x`` in float32 and as ``x_half`` in float16."""

    def __init__(self, model: Any, floats: set[str]) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._floats = floats
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._written = {value.name for value in model.graph.input}

    def add(self, node: Any, half: bool) -> None:
        """Write a node that computes in float16 (`half`) or float32, after the tensors that it reads."""
        import onnx

        written = onnx.NodeProto()
        written.CopyFrom(node)
        for index, name in enumerate(node.input):
            wanted = half and index not in FLOAT_INPUTS.get(node.op_type, ())
            written.input[index] = self.provide(name, wanted)
        for index, name in enumerate(node.output):
            written.output[index] = _half(name) if half and name in self._floats else name
            self._written.add(written.output[index])
        if half:
            _halve_attributes(written)
        self.nodes.append(written)

    def provide(self, name: str, half: bool) -> str:
        """Return the tensor's name in the precision asked for; a cast or a copy of the weight is written when it is not there yet."""
        from onnx import TensorProto, helper, numpy_helper

        wanted = _half(name) if half and name in self._floats else name
        if not name or wanted in self._written:  # an optional input that is left out has no name
            return wanted
        self._written.add(wanted)
        if name in self._weights:
            weight = self._weights[name]
            self.initializers.append(weight if wanted == name else numpy_helper.from_array(_round(weight), wanted))
        elif half:
            self.nodes.append(helper.make_node("Cast", [name], [wanted], name=f"{name}_to_half", to=TensorProto.FLOAT16))
        else:
            self.nodes.append(helper.make_node("Cast", [_half(name)], [wanted], name=f"{name}_to_float", to=TensorProto.FLOAT))
        return wanted


def _half(name: str) -> str:
    return f"{name}_half"


def _round(weight: Any) -> Any:
    """Return a weight's values as a float16 array."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(weight)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= LARGEST:
        raise InputError(f"the weight '{weight.name}' holds {largest:g}: float16 ends at {LARGEST:g}", "keep its stage in fp32")
    return values.astype(np.float16)


def _halve_attributes(node: Any) -> None:
    """Make a cast to float32 one to float16; other attributes that carry a float tensor or a graph are refused."""
    from onnx import AttributeProto, TensorProto

    for attribute in node.attribute:
        if attribute.name == "to" and node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.TENSOR):
            raise InputError(f"node '{node.name}' ({node.op_type}) can't be written in float16", "keep its stage in fp32")


def _infer_types(model: Any) -> dict[str, int]:
    """Return the element type of every tensor in the graph."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


EXACT = frozenset(
    {"Clip", "Concat", "Gather", "Identity", "MaxPool", "Relu", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose result is one of their inputs' values, so that nothing is left to round (``Resize`` as long as it is ``nearest``)."""


def round_to_half(model: Any) -> Any:
    """Return a float32 graph with the values of a float16 one: every float16 result is computed in float32 and then rounded.

    onnxruntime has no float16 kernels for the CPU. It computes such a graph in float32 and takes out the casts between, so that nothing
    but the weights is rounded, and a range that overflows in float16 is not seen. The casts written here are a float32 graph's own,
    which it keeps. This is how a GPU rounds that accumulates in float32; one that accumulates in float16 loses more.

    Parameters
    ----------
    model
        ``onnx.ModelProto``, as `halve` returns it.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    halves = {name for name, kind in _infer_types(model).items() if kind == TensorProto.FLOAT16}
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for field in ("node", "initializer", "value_info"):
        rounded.graph.ClearField(field)
    for weight in model.graph.initializer:
        wide = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name) if weight.name in halves else weight
        rounded.graph.initializer.append(wide)
    for node in model.graph.node:
        computed = onnx.NodeProto()
        computed.CopyFrom(node)
        casts = []
        for index, name in enumerate(node.output):
            if name in halves and node.op_type not in EXACT:
                computed.output[index] = f"{name}_computed"
                casts.append(helper.make_node("Cast", [f"{name}_computed"], [f"{name}_rounded"], to=TensorProto.FLOAT16))
                casts.append(helper.make_node("Cast", [f"{name}_rounded"], [name], to=TensorProto.FLOAT))
        if node.op_type == "Cast" and casts:
            computed.attribute[0].i = TensorProto.FLOAT
        rounded.graph.node.extend([computed, *casts])
    onnx.checker.check_model(rounded, full_check=True)
    return rounded
