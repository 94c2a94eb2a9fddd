"""Products, normalizations and reductions.

Sources: the docstrings of ``coremltools.converters.mil.mil.ops.defs`` (``linear``, ``normalization``, ``reduction``, ``transformers``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from edgekit.sessions.coreml_reference.operators.elementwise import along_channels

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Ints = tuple[int, ...]
    Tensors = tuple[Tensor, ...]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Matrix product, batched over the leading axes; a vector is not transposed."""
    x = x.transpose(-1, -2) if transpose_x and x.ndim > 1 else x
    y = y.transpose(-1, -2) if transpose_y and y.ndim > 1 else y
    return x @ y


def _einsum(values: Tensors, equation: str) -> Tensor:
    return torch.einsum(equation, *values)


def _scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask)


def _batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


def _instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    axes = tuple(range(2, x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    result = (x - mean) * (variance + epsilon).rsqrt()
    result = result if gamma is None else result * along_channels(gamma, x)
    return result if beta is None else result + along_channels(beta, x)


def _layer_norm(
    x: Tensor, axes: Ints | None = None, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    normalized = sorted(axis % x.ndim for axis in axes) if axes is not None else list(range(x.ndim))
    shape = [side if axis in normalized else 1 for axis, side in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, normalized, correction=0, keepdim=True)
    result = (x - mean) * (variance + epsilon).rsqrt()
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


def _l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Divide by the root of the sum of squares over the last three axes."""
    return x * ((x * x).sum(dim=(-3, -2, -1), keepdim=True) + epsilon).rsqrt()


def _local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    return functional.local_response_norm(x, size, alpha, beta, k)


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    """Give a reduction its MIL parameters; no axes means all."""

    def apply(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        return function(x, list(range(x.ndim)) if axes is None else list(axes), keep_dims)

    return apply


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _argument(function: Callable[[Tensor, int, bool], Tensor]) -> Callable[..., Tensor]:
    """Give argmax and argmin their MIL parameters."""

    def apply(x: Tensor, axis: int = -1, keep_dims: bool = False) -> Tensor:
        return function(x, axis, keep_dims)

    return apply


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "batch_norm": _batch_norm,
    "einsum": _einsum,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "local_response_norm": _local_response_norm,
    "matmul": _matmul,
    "reduce_argmax": _argument(torch.argmax),
    "reduce_argmin": _argument(torch.argmin),
    "reduce_l1_norm": _reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: (x * x).sum(axes, keep).sqrt()),
    "reduce_log_sum": _reduction(lambda x, axes, keep: x.sum(axes, keep).log()),
    "reduce_log_sum_exp": _reduction(torch.logsumexp),
    "reduce_max": _reduction(torch.amax),
    "reduce_mean": _reduction(lambda x, axes, keep: x.float().mean(axes, keep)),
    "reduce_min": _reduction(torch.amin),
    "reduce_prod": _reduction(_prod),
    "reduce_sum": _reduction(torch.sum),
    "reduce_sum_square": _reduction(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "scaled_dot_product_attention": _scaled_dot_product_attention,
}
