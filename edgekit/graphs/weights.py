"""Weights of a graph that are stored in 8 bits, while all is computed in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST = 256
"""A tensor of fewer values stays float: it would not get smaller by much."""


def store_in_bytes(model: Any, is_wanted: Callable[[str], bool] = bool) -> None:
    """Store weights as int8, a scale for each output channel, and turn them back to float when the file is loaded.

    The scale is the largest magnitude of a channel over 127, so that no code is cut off (Krishnamoorthi 2018, Quantizing deep convolutional
    networks for efficient inference, 2.3).

    Parameters
    ----------
    model
        An ``onnx.ModelProto``, which is changed.
    is_wanted
        Whether the weights of a node, given by its name, are stored so.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    outputs = {node.input[1]: 0 for node in model.graph.node if node.op_type == "Conv"}  # a matrix's are its last axis
    unwanted = {name for node in model.graph.node if not is_wanted(node.name) for name in node.input}
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < LEAST or tensor.name in unwanted:
            continue
        axis = outputs.get(tensor.name, values.ndim - 1)
        others = tuple(n for n in range(values.ndim) if n != axis)
        scales = np.abs(values).max(axis=others, keepdims=True) / 127
        scales[scales == 0] = 1
        names = [f"{tensor.name}.{part}" for part in ("bytes", "scales")]
        stored = np.rint(values / scales).astype(np.int8), scales.reshape(-1).astype(np.float32)
        model.graph.initializer.remove(tensor)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in zip(names, stored, strict=True))
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
