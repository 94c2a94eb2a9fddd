"""An 8-bit graph computed in float: what eight bits are to be faster than, and what tells rounding from a runtime's own fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.rewriting.editing import Editor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compute_in_float(model: Any) -> Any:
    """Return a copy in which weights are the float32 numbers that their bytes stand for, and activations are not rounded.

    An activation keeps the ends of its 8-bit range, which may stand for an activation function. The films and the crop stay bytes.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in the Q/DQ form of `edgekit.quantization.placement`.
    """
    editor = Editor(model)
    for node in editor.nodes("DequantizeLinear"):
        stored = editor.constant(node.input[0])
        if stored is not None:
            editor.redirect(node.output[0], editor.add_constant(f"{node.output[0]}.wide", _dequantize(editor, node, stored)))
            continue
        rounding = editor.maker(node.input[0], "QuantizeLinear")
        if rounding is None or editor.constant(rounding.input[1]) != editor.constant(node.input[1]):  # the crop's, in grey levels
            continue
        zero = editor.constant(node.input[2])
        assert zero is not None
        ends = (np.asarray(end, zero.dtype) for end in (np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max))
        limits = [editor.add_constant(f"{node.output[0]}.end", _dequantize(editor, node, end)) for end in ends]
        editor.redirect(node.output[0], editor.add("Clip", [rounding.input[0], *limits], f"{node.output[0]}.wide"))
    return editor.finish()


def _dequantize(editor: Editor, node: Any, codes: NDArray[Any]) -> NDArray[Any]:
    """Return what a DequantizeLinear makes of `codes`: with a scale an output channel, or one for all."""
    scale = editor.constant(node.input[1])
    zero = editor.constant(node.input[2]) if len(node.input) > 2 else np.zeros_like(scale, codes.dtype)
    assert scale is not None
    assert zero is not None
    shape = (-1, *[1] * (codes.ndim - 1)) if scale.ndim else ()
    wide: NDArray[Any] = (codes.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * scale.reshape(shape)
    return wide
