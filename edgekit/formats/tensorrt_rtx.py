"""TensorRT-RTX: the module that binds it, and the names of its engines."""

from __future__ import annotations

import importlib
from typing import Any

from edgekit.errors import MissingError


def engine_name(capability: str) -> str:
    """Return the file of the engine for a compute capability such as ``"8.6"``."""
    return f"engine-sm{capability.replace('.', '')}.trt"


def import_tensorrt_rtx() -> Any:
    """Return the module that binds TensorRT-RTX.

    Raises
    ------
    MissingError
        It is not installed, or does not load on this machine.
    """
    try:
        return importlib.import_module("tensorrt_rtx_bindings")
    except ImportError as error:
        raise MissingError(f"TensorRT-RTX does not load: {error}", "pip install 'edgekit-imaging[export]' (Linux on x86-64)") from error
