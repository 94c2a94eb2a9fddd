"""What every session asks of its inputs before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.types import INPUTS

if TYPE_CHECKING:
    from edgekit.types import Tensors


def check_inputs(inputs: Tensors, side: int) -> None:
    """Raise unless `inputs` are the graph's, for canvases of `side` pixels.

    Raises
    ------
    InputError
        A tensor is missing or unknown, or has another dtype or shape.
    """
    if set(inputs) != set(INPUTS):
        raise InputError(f"the graph takes the tensors {', '.join(INPUTS)}, got {', '.join(sorted(inputs)) or 'none'}")
    film = (np.dtype(np.uint8), (1, 1, side, side))
    for name, (dtype, shape) in {"ap": film, "lateral": film, "present": (np.dtype(np.float32), (2,))}.items():
        tensor = inputs[name]
        if tensor.dtype != dtype or tensor.shape != shape:
            raise InputError(
                f"input '{name}' is {tensor.dtype} {tensor.shape}, expected {dtype} {shape}",
                "make canvases with edgekit.radiograph.make_canvas and inputs with edgekit.canvases.graph_inputs",
            )
