"""An 8-bit graph as a broken kernel would compute it: what a golden vector has to expose.

Two faults that devices were seen to have. Neither is a processor's own arithmetic, bit for bit: each loses what the real ones lose.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FAULTS: dict[str, Callable[[float, NDArray[Any]], tuple[str, float]]] = {
    "flushed rounding": lambda scale, _: ("Sub", scale / 2),
    "saturation": lambda scale, zero: ("Min", scale * (int(np.iinfo(zero.dtype).max) // 2 - int(zero))),
}
"""By name, from the scale and the zero point of an activation: the operator and the constant that spoil it before it is rounded.

Rounding down in place of to the nearest; and the upper half of the codes lost, as sums that saturate lose it."""


def spoil(model: Any, fault: str) -> Any:
    """Return a copy of an 8-bit graph with one of the `FAULTS` in every activation.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in the Q/DQ form of `edgekit.quantization.placement`.
    """
    from onnx import helper, numpy_helper

    spoiled = copy.deepcopy(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for place, node in enumerate(spoiled.graph.node):
        if node.op_type == "QuantizeLinear" and len(node.input) > 2:
            operator, constant = FAULTS[fault](float(constants[node.input[1]]), constants[node.input[2]])
            spoiled.graph.initializer.append(numpy_helper.from_array(np.float32(constant), f"fault.{place}"))
            nodes.append(helper.make_node(operator, [node.input[0], f"fault.{place}"], [f"fault.{place}.output"]))
            node.input[0] = f"fault.{place}.output"
        nodes.append(node)
    del spoiled.graph.node[:]
    spoiled.graph.node.extend(nodes)
    return spoiled
