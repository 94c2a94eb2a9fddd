"""Compressed constants (``constexpr_*``): quantized, palettized and sparse weights, in the forms of iOS 16 and iOS 18.

They are decompressed once, when a program is opened. Arguments are numpy arrays as stored. Results that are declared float16 are rounded
to it by whoever calls; the arithmetic here is float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.sessions.coreml_reference.values import unpack_bits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]


def affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    """``scale * (quantized_data - zero_point)``; scale and zero point are scalars or vectors along `axis`."""
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    offset, factor = (each.astype(np.float32).reshape(shape if each.ndim else [1] * quantized_data.ndim) for each in (zero_point, scale))
    return factor * (quantized_data.astype(np.float32) - offset)


def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """``scale * (data - offset)``, where a scale and an offset stand for a block of values along every axis (iOS 18)."""
    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - spread(offset.astype(np.float32), data.shape)
    return spread(scale.astype(np.float32), data.shape) * shifted


def spread(values: Array, shape: tuple[int, ...]) -> Array:
    """Repeat block values along every axis until they have `shape`.

    Raises
    ------
    InputError
        A side of `shape` is not a multiple of the number of blocks along it.
    """
    for axis, side in enumerate(shape):
        blocks = values.shape[axis]
        if side % blocks:
            raise InputError(
                f"{blocks} blocks do not divide the {side} values along axis {axis}", "the package is damaged: export it again"
            )
        values = np.repeat(values, side // blocks, axis)
    return values


def lut_to_dense(indices: Array, lut: Array, shape: Array | None = None, vector_axis: Array | None = None) -> Array:
    """Look up palettized values.

    Parameters
    ----------
    indices
        iOS 16: uint8 bytes of packed indices; iOS 18: indices in the result's shape.
    lut
        iOS 16: (palette,); iOS 18: (blocks along every axis ..., palette, vector size).
    shape
        The result's shape; iOS 16 only.
    vector_axis
        The axis along which the elements of a vector are laid; iOS 18 only.
    """
    if shape is not None:
        count = int(np.prod(shape, dtype=np.int64))
        dense: Array = lut[unpack_bits(indices, lut.size.bit_length() - 1, count)]
        return dense.reshape(shape)
    palettes = lut
    for axis, side in enumerate(indices.shape):
        palettes = np.repeat(palettes, side // lut.shape[axis], axis)
    picked = np.take_along_axis(palettes, indices[..., None, None].astype(np.int64), axis=-2)[..., 0, :]  # (..., vector size)
    if vector_axis is None:
        return picked[..., 0]
    axis = int(vector_axis) % indices.ndim
    result_shape = list(indices.shape)
    result_shape[axis] *= lut.shape[-1]
    return np.moveaxis(picked, -1, axis + 1).reshape(result_shape)


def sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """Lay values where the mask is set; zeros elsewhere. iOS 16 packs the mask's bits and gives `shape`."""
    if shape is not None:
        mask = unpack_bits(mask, 1, int(np.prod(shape, dtype=np.int64))).reshape(shape)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def lut_to_sparse(indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None) -> tuple[Array, Array]:
    """Look up the palettized values of a sparse tensor: its mask and its nonzero values (iOS 18)."""
    dense = lut_to_dense(sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask if vector_axis is None else np.repeat(indices_mask, lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


def sparse_blockwise_shift_scale(data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None) -> tuple[Array, Array]:
    """`blockwise_shift_scale` of a sparse tensor: its mask and its nonzero values (iOS 18)."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def cast_constant(source_val: Array, output_dtype: str) -> Array:
    """Widen a float16 constant."""
    if output_dtype not in ("fp32", "float32"):
        raise InputError(f"a constexpr_cast to {output_dtype} can't be read", "report this, with the model")
    return source_val.astype(np.float32)


OPERATORS: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_cast": cast_constant,
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": sparse_to_dense,
}
