"""Values by index: gather, scatter, sort, and what counts along an axis.

Sources: the docstrings of ``coremltools.converters.mil.mil.ops.defs`` (``scatter_gather``, ``tensor_operation``; iOS 15 to 17). A negative
index counts from the end, as iOS 15 and 16 say; for iOS 17 that is one of the things that "undefined" may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _wrap(indices: Tensor, side: int) -> Tensor:
    """Count negative indices from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + side, indices)


def _gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0) -> Tensor:
    """Take whole slices along `axis`; the first `batch_dims` axes of `x` and `indices` go together (``tf.gather``)."""
    axis %= x.ndim
    if batch_dims:
        pairs = zip(x.flatten(0, batch_dims - 1), indices.flatten(0, batch_dims - 1), strict=True)
        items = [_gather(item, places, axis - batch_dims) for item, places in pairs]
        return torch.stack(items).reshape(*x.shape[:batch_dims], *items[0].shape)
    taken = x.index_select(axis, _wrap(indices.flatten(), x.shape[axis]))
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    return torch.take_along_dim(x, _wrap(indices, x.shape[axis]), axis)


def _gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """Take the slices ``x[indices[i, j, ...]]``; the first `batch_dims` axes go together (``tf.gather_nd``)."""
    places: list[Tensor] = []
    for axis in range(batch_dims):
        shape = [1] * (indices.ndim - 1)
        shape[axis] = -1
        places.append(torch.arange(x.shape[axis]).reshape(shape))
    places += [_wrap(part, x.shape[batch_dims + axis]) for axis, part in enumerate(indices.unbind(-1))]
    return x[tuple(places)]


def _scatter_along_axis(data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, mode: str = "add") -> Tensor:
    places = _wrap(indices, data.shape[axis])
    match mode:
        case "update":
            return data.scatter(axis, places, updates)
        case "add":
            return data.scatter_add(axis, places, updates)
        case "sub":
            return data.scatter_add(axis, places, -updates)
        case "mul":
            return data.scatter_reduce(axis, places, updates, "prod")
        case "div":
            return data / torch.ones_like(data).scatter_reduce(axis, places, updates, "prod")
        case "max":
            return data.scatter_reduce(axis, places, updates, "amax")
        case "min":
            return data.scatter_reduce(axis, places, updates, "amin")
    raise InputError(f"unknown scatter mode {mode!r}")


def _scatter(data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, mode: str = "add") -> Tensor:
    """Put slices along `axis`; `indices` has one axis."""
    axis %= data.ndim
    places = indices.reshape(-1, *[1] * (data.ndim - axis - 1)).expand(updates.shape)
    return _scatter_along_axis(data, places, updates, axis, mode)


def _scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add") -> Tensor:
    """Put slices at ``indices[i, j, ...]``."""
    depth = indices.shape[-1]
    place = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for axis, part in enumerate(indices.unbind(-1)):
        place = place * data.shape[axis] + _wrap(part, data.shape[axis])
    flat = data.reshape(-1, *data.shape[depth:])
    return _scatter(flat, place.flatten(), updates.reshape(-1, *data.shape[depth:]), 0, mode).reshape(data.shape)


def _one_hot(
    indices: Tensor, one_hot_vector_size: int, axis: int = -1, on_value: Tensor | None = None, off_value: Tensor | None = None
) -> Tensor:
    on = torch.ones(()) if on_value is None else on_value
    off = torch.zeros((), dtype=on.dtype) if off_value is None else off_value
    axis %= indices.ndim + 1
    positions = torch.arange(one_hot_vector_size).reshape(-1, *[1] * (indices.ndim - axis))
    return torch.where(indices.unsqueeze(axis) == positions, on, off)


def _argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices


def _topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    return_indices: bool = True,
) -> Any:
    """Take the largest or smallest `k`, sorted; of equal values the first comes first."""
    ordered = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    count = x.shape[axis] if k == -1 else k
    values, indices = (each.narrow(axis, 0, count) for each in (ordered.values, ordered.indices))
    return (values, indices) if return_indices else values


def _cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis)
    total = total - x if exclusive else total
    return total.flip(axis) if reverse else total


def _non_zero(x: Tensor) -> Tensor:
    return x.nonzero()


def _classify(probabilities: Tensor, classes: Any) -> tuple[Any, Tensor]:
    """Return the likeliest class and the probabilities, in the order of `classes` (what Core ML gives as a dictionary)."""
    return classes[int(probabilities.argmax())], probabilities


OPERATORS: dict[str, Callable[..., Any]] = {
    "argsort": _argsort,
    "classify": _classify,
    "cumsum": _cumsum,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
    "topk": _topk,
}
