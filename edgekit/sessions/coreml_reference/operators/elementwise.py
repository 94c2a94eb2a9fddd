"""Element by element: arithmetic, comparisons, activations, casts and choices.

Sources: the docstrings of ``coremltools.converters.mil.mil.ops.defs`` (iOS 15 to 18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from edgekit.errors import InputError
from edgekit.sessions.coreml_reference.values import SHORT_NAMES, TORCH_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def _of_one(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Name the operand as MIL does."""

    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Name the operands as MIL does."""

    def apply(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return apply


def _inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return 1.0 / (x + epsilon)


def _log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return (x + epsilon).log()


def _rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return (x + epsilon).rsqrt()


def _threshold(x: Tensor, alpha: float) -> Tensor:
    return x.clamp(min=alpha)


def _clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


def _clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


def _elu(x: Tensor, alpha: float) -> Tensor:
    return functional.elu(x, alpha)


def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    match mode:
        case "EXACT":
            return functional.gelu(x)
        case "TANH_APPROXIMATION":
            return functional.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise InputError(f"unknown gelu mode {mode!r}")


def _leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


def _linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, along_channels(alpha, x) * x)


def _scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0.0, 1.0)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def _softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return along_channels(alpha, x) * torch.logaddexp(along_channels(beta, x) * x, torch.zeros(()))


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, 0.0)


def _cast(x: Tensor, dtype: str) -> Tensor:
    """Change the type; a float becomes an integer by dropping its fraction."""
    name = SHORT_NAMES.get(dtype, dtype)
    if name not in TORCH_TYPES:
        raise InputError(f"unknown type {dtype!r}")
    return x.to(getattr(torch, TORCH_TYPES[name]))


def _select(cond: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
    """Elements of `a` where `cond` holds, else of `b`; without both, the indices where it holds, (n, rank)."""
    if a is None or b is None:
        return cond.nonzero()
    return torch.where(cond, a, b)


def _quantize(input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """``clip(round(input / scale) + zero_point)``, rounding half to even."""
    lowest, highest, dtype = (0, 255, torch.uint8) if output_dtype == "uint8" else (-128, 127, torch.int8)
    shape = _scale_shape(input, scale, axis)
    steps = (input / scale.reshape(shape)).round()
    if zero_point is not None:
        steps = steps + zero_point.reshape(shape)
    return steps.clamp(lowest, highest).to(dtype)


def _dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """``scale * (input - zero_point)``."""
    shape = _scale_shape(input, scale, axis)
    steps = input.float()
    if zero_point is not None:
        steps = steps - zero_point.reshape(shape).float()
    return scale.reshape(shape) * steps


def _scale_shape(x: Tensor, scale: Tensor, axis: int | None) -> list[int]:
    """Return the shape in which a scale broadcasts: a scalar everywhere, a vector along `axis`."""
    shape = [1] * x.ndim
    if scale.ndim:
        if axis is None:
            raise InputError("a vector of scales comes without its axis")
        shape[axis] = -1
    return shape


def along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Reshape a vector (C,) so that it broadcasts along the second axis of `x`."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "abs": _of_one(torch.abs),
    "acos": _of_one(torch.acos),
    "add": _of_two(torch.add),
    "asin": _of_one(torch.asin),
    "atan": _of_one(torch.atan),
    "atanh": _of_one(torch.atanh),
    "cast": _cast,
    "ceil": _of_one(torch.ceil),
    "clamped_relu": _clamped_relu,
    "clip": _clip,
    "cos": _of_one(torch.cos),
    "cosh": _of_one(torch.cosh),
    "dequantize": _dequantize,
    "elu": _elu,
    "equal": _of_two(torch.eq),
    "erf": _of_one(torch.erf),
    "exp": _of_one(torch.exp),
    "exp2": _of_one(torch.exp2),
    "floor": _of_one(torch.floor),
    "floor_div": _of_two(torch.floor_divide),
    "gelu": _gelu,
    "greater": _of_two(torch.gt),
    "greater_equal": _of_two(torch.ge),
    "identity": _of_one(lambda x: x),
    "inverse": _inverse,
    "leaky_relu": _leaky_relu,
    "less": _of_two(torch.lt),
    "less_equal": _of_two(torch.le),
    "linear_activation": _linear_activation,
    "log": _log,
    "logical_and": _of_two(torch.logical_and),
    "logical_not": _of_one(torch.logical_not),
    "logical_or": _of_two(torch.logical_or),
    "logical_xor": _of_two(torch.logical_xor),
    "maximum": _of_two(torch.maximum),
    "minimum": _of_two(torch.minimum),
    "mod": _of_two(torch.remainder),
    "mul": _of_two(torch.mul),
    "not_equal": _of_two(torch.ne),
    "pow": _of_two(torch.pow),
    "prelu": _prelu,
    "quantize": _quantize,
    "real_div": _of_two(torch.true_divide),
    "relu": _of_one(torch.relu),
    "relu6": _of_one(lambda x: x.clamp(0.0, 6.0)),
    "round": _of_one(torch.round),
    "rsqrt": _rsqrt,
    "scaled_tanh": _scaled_tanh,
    "select": _select,
    "sigmoid": _of_one(torch.sigmoid),
    "sigmoid_hard": _sigmoid_hard,
    "sign": _of_one(torch.sign),
    "silu": _of_one(functional.silu),
    "sin": _of_one(torch.sin),
    "sinh": _of_one(torch.sinh),
    "softmax": _softmax,
    "softplus": _of_one(lambda x: torch.logaddexp(x, torch.zeros(()))),
    "softplus_parametric": _softplus_parametric,
    "softsign": _of_one(functional.softsign),
    "sqrt": _of_one(torch.sqrt),
    "square": _of_one(torch.square),
    "sub": _of_two(torch.sub),
    "tan": _of_one(torch.tan),
    "tanh": _of_one(torch.tanh),
    "threshold": _threshold,
    "thresholded_relu": _thresholded_relu,
}
