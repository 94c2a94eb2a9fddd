"""Arguments of operators: what an operator's function asks for, and how a program's values become that.

Annotations decide. ``Tensor`` and ``Tensors`` are passed as they are; ``int``, ``Ints``, ``float``, ``bool``, ``Bools`` and ``str`` are
Python values, made once when the program is opened if the argument is constant, and at every call if it is not.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.errors import InputError
from edgekit.sessions.coreml_reference.values import NUMPY_TYPES, TORCH_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable


def to_torch(value: Any) -> Any:
    """Turn a decoded constant (`values.read_value`) into tensors: floats become float32, integers their `TORCH_TYPES`."""
    if isinstance(value, tuple):
        return tuple(to_torch(item) for item in value)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    name = next(name for name, stored in NUMPY_TYPES.items() if stored == value.dtype.name)
    return torch.from_numpy(np.array(value, TORCH_TYPES[name]))  # copied: what is stored may be a read-only file


def _to_int(value: Any) -> int:
    return int(value)


def _to_ints(value: Any) -> tuple[int, ...]:
    return tuple(int(item) for item in value) if isinstance(value, tuple) else tuple(value.flatten().tolist())


def _to_bools(value: Any) -> tuple[bool, ...]:
    return tuple(bool(item) for item in value) if isinstance(value, tuple) else tuple(value.flatten().tolist())


def _to_tensors(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


CONVERSIONS: dict[str, Callable[[Any], Any] | None] = {
    "Tensor": None,
    "Tensors": _to_tensors,
    "int": _to_int,
    "Ints": _to_ints,
    "float": float,
    "bool": bool,
    "Bools": _to_bools,
    "str": None,
    "Any": None,
}
"""By annotation; None passes a value as it is."""


WITHOUT_EFFECT = {"output_dtype", "output_indices_dtype", "sort", "validate_indices"}
"""Arguments that an operator need not take: types are declared with its results, `sort` and `validate_indices` only promise less."""


@functools.cache
def read_parameters(operator: Callable[..., Any]) -> dict[str, Callable[[Any], Any] | None]:
    """Return the conversion of each parameter of an operator's function."""
    annotations = {name: str(each.annotation) for name, each in inspect.signature(operator).parameters.items()}
    return {name: CONVERSIONS[annotation.removesuffix(" | None")] for name, annotation in annotations.items()}


def find_conversion(operator: Callable[..., Any], parameter: str) -> Callable[[Any], Any] | None:
    """Return how an argument is converted for `parameter`.

    Raises
    ------
    InputError
        The operator has no such parameter.
    """
    parameters = read_parameters(operator)
    if parameter not in parameters:
        raise InputError(f"it has the argument '{parameter}', which is not known", f"known: {', '.join(parameters)}")
    return parameters[parameter]
