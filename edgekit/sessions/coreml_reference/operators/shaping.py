"""Shapes and places: reshape, slice, join, split, repeat, pad and rearrange. No arithmetic: results are exact.

Sources: the docstrings of ``coremltools.converters.mil.mil.ops.defs`` (``tensor_operation``, ``tensor_transformation``; iOS 15 to 18).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Ints = tuple[int, ...]
    Bools = tuple[bool, ...]
    Tensors = tuple[Tensor, ...]


def _reshape(x: Tensor, shape: Ints) -> Tensor:
    """Reshape; a 0 keeps the side of `x` in its place counted from the last (iOS 17; iOS 15 asks for equal ranks: the same)."""
    if 0 in shape and x.numel():
        lead = x.ndim - len(shape)
        shape = tuple(side or (x.shape[lead + i] if lead + i >= 0 else 1) for i, side in enumerate(shape))
    return x.reshape(shape)


def _reshape_like(x: Tensor, ref_tensors: Tensors, begins: Ints, ends: Ints, end_masks: Bools) -> Tensor:
    shape: list[int] = []
    for reference, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += reference.shape[begin:] if to_the_end else reference.shape[begin:end]
    return x.reshape(shape)


def _expand_dims(x: Tensor, axes: Ints) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes)


def _transpose(x: Tensor, perm: Ints) -> Tensor:
    return x.permute(perm)


def _flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


def _reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.flip(tuple(range(x.ndim)) if axes is None else axes)


def _reverse_sequence(x: Tensor, lengths: Ints, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Reverse the first ``lengths[i]`` values along `seq_axis` of each item i along `batch_axis`."""
    result = x.clone()
    for item, length in enumerate(lengths):
        source = x.select(batch_axis, item)
        axis = seq_axis % x.ndim - (seq_axis % x.ndim > batch_axis % x.ndim)
        result.select(batch_axis, item).narrow(axis, 0, length).copy_(source.narrow(axis, 0, length).flip(axis))
    return result


def resolve_slices(
    shape: Ints,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> list[range]:
    """Return the positions that a slice takes along every axis.

    The rules are numpy's: negative positions count from the end, and what lies outside is clipped. A masked `begin` or `end` reaches the
    end that the stride starts from or goes to; a `squeeze_mask` takes the one position `begin`.
    """
    none = (False,) * len(shape)
    taken = []
    for axis, side in enumerate(shape):
        if (squeeze_mask or none)[axis]:
            position = range(side)[begin[axis]]
            taken.append(range(position, position + 1))
            continue
        first = None if (begin_mask or none)[axis] else begin[axis]
        last = None if (end_mask or none)[axis] else end[axis]
        taken.append(range(side)[slice(first, last, stride[axis] if stride else 1)])
    return taken


def _slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    taken = resolve_slices(tuple(x.shape), begin, end, stride, begin_mask, end_mask, squeeze_mask)
    x = x[tuple(slice(places.start, places.stop, places.step) if places.step > 0 else slice(None) for places in taken)]
    for axis, places in enumerate(taken):
        if places.step < 0:
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x.squeeze([axis for axis, dropped in enumerate(squeeze_mask) if dropped]) if squeeze_mask else x


def _slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    taken = resolve_slices(tuple(x.shape), begin, end, stride, begin_mask, end_mask, squeeze_mask)
    places = torch.meshgrid(*(torch.tensor(positions, dtype=torch.int64) for positions in taken), indexing="ij")
    result = x.clone()
    result[places] = update.reshape(places[0].shape)
    return result


def _slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    for axis, (start, count) in enumerate(zip(begin, size, strict=True)):
        start %= max(1, x.shape[axis])
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


def _concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    if not interleave:
        return torch.cat([value.reshape(1) if value.ndim == 0 else value for value in values], axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def _stack(values: Tensors, axis: int) -> Tensor:
    return torch.stack(values, axis)


def _split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> Tensors:
    if split_sizes is None:
        if not num_splits:
            raise InputError("a split says neither how many parts nor how large")
        return x.chunk(num_splits, axis)
    return torch.split(x, list(split_sizes), axis)


def _tile(x: Tensor, reps: Ints) -> Tensor:
    return x.repeat(reps)


def _pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Pad the last ``len(pad) / 2`` axes, in the order of the axes."""
    first = x.ndim - len(pad) // 2
    if mode == "constant":
        reverse = [amount for start in range(len(pad) - 2, -1, -2) for amount in pad[start : start + 2]]
        return functional.pad(x, reverse, value=constant_val)
    if mode not in ("reflect", "replicate"):
        raise InputError(f"unknown pad mode {mode!r}")
    for i in range(0, len(pad), 2):  # one axis after the other is the same as all at once
        axis, side = first + i // 2, x.shape[first + i // 2]
        places = torch.arange(-pad[i], side + pad[i + 1])
        places = places.clamp(0, side - 1) if mode == "replicate" else side - 1 - (places.abs() - (side - 1)).abs()
        x = x.index_select(axis, places)
    return x


def _band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    rows, columns = torch.arange(x.shape[-2]).unsqueeze(1), torch.arange(x.shape[-1])
    inside = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        inside &= rows - columns <= lower
    if upper >= 0:
        inside &= columns - rows <= upper
    return torch.where(inside, x, torch.zeros((), dtype=x.dtype))


def _space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """TensorFlow's order: the place in the block is the slow part of the new channel."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // block_size, block_size, w // block_size, block_size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block_size, w // block_size)


def _depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Undo `space_to_depth`."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, block_size, block_size, c // block_size**2, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block_size, w * block_size)


def _pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    return functional.pixel_shuffle(x, upscale_factor)


def _pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    return functional.pixel_unshuffle(x, downscale_factor)


def _space_to_batch(x: Tensor, block_shape: Ints, paddings: Tensor) -> Tensor:
    """TensorFlow's order: the place in the block is the slow part of the new batch."""
    (top, bottom), (left, right) = paddings.tolist()
    x = functional.pad(x, (left, right, top, bottom))
    (n, c, h, w), (rows, columns) = x.shape, block_shape
    blocks = x.reshape(n, c, h // rows, rows, w // columns, columns)
    return blocks.permute(3, 5, 0, 1, 2, 4).reshape(-1, c, h // rows, w // columns)


def _batch_to_space(x: Tensor, block_shape: Ints, crops: Tensor) -> Tensor:
    """Undo `space_to_batch`."""
    (top, bottom), (left, right) = crops.tolist()
    (n, c, h, w), (rows, columns) = x.shape, block_shape
    blocks = x.reshape(rows, columns, n // (rows * columns), c, h, w)
    whole = blocks.permute(2, 3, 4, 0, 5, 1).reshape(-1, c, h * rows, w * columns)
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]


def _sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    axis %= x.ndim
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


def _fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    return torch.zeros(shape) if value is None else value.expand(shape)


def _fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    return _fill(tuple(ref_tensor.shape), value)


def _range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


OPERATORS: dict[str, Callable[..., Any]] = {
    "band_part": _band_part,
    "batch_to_space": _batch_to_space,
    "concat": _concat,
    "depth_to_space": _depth_to_space,
    "expand_dims": _expand_dims,
    "fill": _fill,
    "fill_like": _fill_like,
    "flatten2d": _flatten2d,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "range_1d": _range_1d,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "shape": _shape,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "sliding_windows": _sliding_windows,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
