"""What each operator of an ML Program computes, by family.

An operator is a function whose parameters have MIL's names; their annotations say what an argument becomes before the call (see
`edgekit.sessions.coreml_reference.binding`). Floating tensors are float32, whatever type the program declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.sessions.coreml_reference.operators import (
    algebra,
    convolution,
    elementwise,
    indexing,
    recurrent,
    resizing,
    shaping,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATORS: dict[str, Callable[..., Any]] = {
    **algebra.OPERATORS,
    **convolution.OPERATORS,
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **recurrent.OPERATORS,
    **resizing.OPERATORS,
    **shaping.OPERATORS,
}
"""By name, as in ``MIL_pb2.Operation.type``."""

EXACT = {
    *shaping.OPERATORS,
    *("abs", "clip", "crop", "gather", "gather_along_axis", "gather_nd", "identity", "max_pool", "maximum", "minimum"),
    *("reduce_max", "reduce_min", "relu", "relu6", "resize_nearest_neighbor", "select", "sign", "topk", "upsample_nearest_neighbor"),
} - {"fill", "fill_like", "range_1d"}
"""Operators that only move or choose values: of values that float16 has, the result is one too, and need not be rounded."""
