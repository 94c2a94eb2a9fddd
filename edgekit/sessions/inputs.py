"""What every session asks of its inputs before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.types import Tensors


def check_inputs(inputs: Tensors, tensors: Mapping[str, Any]) -> None:
    """Raise unless `inputs` are the graph's.

    Parameters
    ----------
    tensors
        ``dtype`` and ``shape`` by name: ``inputs`` of `edgekit.contract.describe_tensors`.

    Raises
    ------
    InputError
        A tensor is missing or unknown, or has another dtype or shape.
    """
    if set(inputs) != set(tensors):
        raise InputError(f"the graph takes the tensors {', '.join(tensors)}, got {', '.join(sorted(inputs)) or 'none'}")
    for name, row in tensors.items():
        tensor, dtype, shape = inputs[name], np.dtype(row["dtype"]), tuple(row["shape"])
        if tensor.dtype != dtype or tensor.shape != shape:
            raise InputError(
                f"input '{name}' is {tensor.dtype} {tensor.shape}, expected {dtype} {shape}",
                "make canvases with edgekit.radiograph.make_canvas and inputs with edgekit.canvases.graph_inputs",
            )
