"""Convolution and pooling.

Sources: the docstrings of ``coremltools.converters.mil.mil.ops.defs.iOS15`` (``conv``, ``pool``), with the paddings that its type
inference computes (``ops/defs/_utils.py``): they are TensorFlow's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from edgekit.errors import InputError
from edgekit.sessions.coreml_reference.operators.elementwise import along_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Ints = tuple[int, ...]

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
MAX_POOLS: dict[int, Callable[..., Tensor]] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVERAGE_POOLS: dict[int, Callable[..., Tensor]] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def resolve_padding(pad_type: str, pad: Ints | None, sides: Sequence[int], kernel: Ints, strides: Ints, dilations: Ints) -> Ints:
    """Return how many values are put before and after each spatial axis: before, after, before, after ...

    ``same`` gives an output of ``ceil(side / stride)``, the odd value after; ``same_lower`` puts it before.
    """
    axes = len(sides)
    if pad_type == "valid":
        return (0, 0) * axes
    if pad_type == "custom":
        return pad or (0, 0) * axes
    if pad_type not in ("same", "same_lower"):
        raise InputError(f"unknown pad_type {pad_type!r}")
    result: list[int] = []
    for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
        total = max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
        less, more = total // 2, total - total // 2
        result += [more, less] if pad_type == "same_lower" else [less, more]
    return tuple(result)


def _pad(x: Tensor, padding: Ints, value: float) -> tuple[Tensor, Ints]:
    """Pad `x`; return it and the padding that is left for the operator: none."""
    return functional.pad(x, _last_axis_first(padding), value=value), (0,) * (len(padding) // 2)


def _last_axis_first(padding: Sequence[int]) -> list[int]:
    """Order pairs of paddings as torch does."""
    return [amount for start in range(len(padding) - 2, -1, -2) for amount in padding[start : start + 2]]


def _is_even(padding: Ints) -> bool:
    """Whether as much is put before as after every axis: then torch's operators pad themselves."""
    return padding[::2] == padding[1::2]


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    axes = x.ndim - 2
    strides, dilations = strides or (1,) * axes, dilations or (1,) * axes
    padding = resolve_padding(pad_type, pad, x.shape[2:], tuple(weight.shape[2:]), strides, dilations)
    x, even = (x, padding[::2]) if _is_even(padding) else _pad(x, padding, 0.0)
    return CONVOLUTIONS[axes](x, weight, bias, strides, even, dilations, groups)


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Spread each value over its kernel, then cut the result as `pad_type` says, or to `output_shape`."""
    axes = x.ndim - 2
    strides, dilations = strides or (1,) * axes, dilations or (1,) * axes
    if pad_type not in ("valid", "custom", "same", "same_lower"):
        raise InputError(f"unknown pad_type {pad_type!r}")
    result = TRANSPOSED[axes](x, weight, None, strides, 0, 0, groups, dilations)
    pad = pad if pad_type == "custom" and pad else (0, 0) * axes
    cuts: list[int] = []
    for axis, side in enumerate(result.shape[2:]):
        before, after = pad[2 * axis : 2 * axis + 2]
        same = pad_type.startswith("same")
        wanted = output_shape[2 + axis] if output_shape else x.shape[2 + axis] * strides[axis] if same else side - before - after
        if same:
            before = (max(0, side - wanted) + (pad_type == "same_lower")) // 2
        cuts += [before, side - before - wanted]
    result = functional.pad(result, _last_axis_first([-cut for cut in cuts]))
    return result if bias is None else result + along_channels(bias, result)


def _max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    axes = x.ndim - 2
    strides = strides or (1,) * axes
    padding = resolve_padding(pad_type, pad, x.shape[2:], kernel_sizes, strides, (1,) * axes)
    x, even = (x, padding[::2]) if _fits_window(padding, kernel_sizes) else _pad(x, padding, -torch.inf)
    return MAX_POOLS[axes](x, kernel_sizes, strides, even, 1, ceil_mode)


def _fits_window(padding: Ints, kernel: Ints) -> bool:
    """Whether torch's pooling can pad itself: evenly, and by no more than half a window."""
    return _is_even(padding) and all(2 * amount <= size for amount, size in zip(padding[::2], kernel, strict=True))


def _avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    axes = x.ndim - 2
    strides = strides or (1,) * axes
    padding = resolve_padding(pad_type, pad, x.shape[2:], kernel_sizes, strides, (1,) * axes)
    pool = AVERAGE_POOLS[axes]
    if _fits_window(padding, kernel_sizes):
        return pool(x, kernel_sizes, strides, padding[::2], ceil_mode, not exclude_padding_from_average)
    padded, none = _pad(x, padding, 0.0)
    mean = pool(padded, kernel_sizes, strides, none, ceil_mode)
    if not exclude_padding_from_average:
        return mean
    inside, _ = _pad(torch.ones_like(x[:1, :1]), padding, 0.0)
    return mean / pool(inside, kernel_sizes, strides, none, ceil_mode)


def _l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Root of the sum of squares in the window."""
    mean = _avg_pool(x * x, kernel_sizes, strides, pad_type, pad, False, ceil_mode)
    return (mean * math.prod(kernel_sizes)).sqrt()


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "avg_pool": _avg_pool,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "l2_pool": _l2_pool,
    "max_pool": _max_pool,
}
