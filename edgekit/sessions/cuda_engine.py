"""An engine on the first NVIDIA GPU: what the sessions of TensorRT and TensorRT-RTX have in common.

cuda-python moves the tensors: it is on the package index for every machine, drives both libraries, and lets a copy be timed apart from the
engine. Polygraphy would do for TensorRT alone.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgekit.contract import OUTPUTS
from edgekit.errors import GateError, MissingError
from edgekit.formats.engine_layers import PROMISE, find_fallbacks, read_inspector
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from edgekit.types import Bundle, Tensors

COPIES = ("copies to and from the GPU are included, and its end is waited for",)
"""What is to be said of the times of a session on a GPU."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU: its name and its compute capability, such as ``"8.6"``."""

    name: str
    capability: str


def list_gpus() -> list[dict[str, str]]:
    """List the NVIDIA GPUs that the driver reports; empty when there is no driver."""
    fields = ("name", "memory.total", "driver_version", "compute_cap")
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if answer.returncode:  # the tool is there, the driver or the GPU is not
        return []
    return [dict(zip(fields, line.split(", "), strict=True)) for line in answer.stdout.splitlines()]


def list_missing_gpu() -> list[str]:
    """Return what this machine lacks to run an engine."""
    return [] if list_gpus() else ["an NVIDIA GPU"]


def import_cuda() -> Any:
    """Return ``cuda.bindings.runtime``.

    Raises
    ------
    MissingError
        cuda-python is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise MissingError(f"cuda-python does not load: {error}", "pip install cuda-bindings, of the CUDA version of the driver") from error


def find_gpu() -> Gpu:
    """Return the first GPU.

    Raises
    ------
    MissingError
        There is none, or no driver for it.
    """
    cuda = import_cuda()
    error, count = cuda.cudaGetDeviceCount()
    if error != cuda.cudaError_t.cudaSuccess or not count:
        raise MissingError(f"there is no NVIDIA GPU that CUDA can use here ({error.name})", "run this on a machine that has one")
    properties = call(cuda, "cudaGetDeviceProperties", 0)
    return Gpu(properties.name.decode().rstrip("\0"), f"{properties.major}.{properties.minor}")


def call(cuda: Any, function: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime and return its result; its failure is an error."""
    error, *results = getattr(cuda, function)(*arguments)
    if error != cuda.cudaError_t.cudaSuccess:
        raise MissingError(f"{function} failed: {error.name}", "see whether another program holds the GPU or its memory")
    return results[0] if results else None


def require_precisions(engine: Any, library: Any, bundle: Bundle) -> None:
    """Raise when an engine computes a layer wider than the bundle promises.

    Raises
    ------
    GateError
        It does; the message counts the layers and names the first.
    """
    inspected = engine.create_engine_inspector().get_engine_information(library.LayerInformationFormat.JSON)
    promised = json.loads((bundle.folder / PROMISE).read_text(encoding="utf-8"))
    if faults := find_fallbacks(read_inspector(json.loads(inspected)), promised):
        raise GateError(
            f"the engine falls back in {len(faults)} of {len(promised)} layers: {faults[0]}",
            "this GPU has no kernel for it in this version: export a wider variant for it",
        )


class EngineSession:
    """A loaded engine with a buffer on the GPU for each tensor.

    Parameters
    ----------
    name, runtime
        See `edgekit.types.Session`.
    library
        The module ``tensorrt``, or that of TensorRT-RTX.
    engine
        Its ``ICudaEngine``.
    side
        Side of the canvases in pixels.
    """

    def __init__(self, name: str, runtime: str, library: Any, engine: Any, tensors: Mapping[str, Any]) -> None:
        self.name, self.runtime, self._tensors = name, runtime, tensors
        self._cuda = import_cuda()
        self._context = engine.create_execution_context()
        self._stream = call(self._cuda, "cudaStreamCreate")
        self._buffers: dict[str, int] = {}
        self._results: Tensors = {}
        for index in range(engine.num_io_tensors):
            tensor = engine.get_tensor_name(index)
            host = np.zeros(tuple(engine.get_tensor_shape(tensor)), library.nptype(engine.get_tensor_dtype(tensor)))
            self._buffers[tensor] = int(call(self._cuda, "cudaMalloc", host.nbytes))
            self._context.set_tensor_address(tensor, self._buffers[tensor])
            if engine.get_tensor_mode(tensor) == library.TensorIOMode.OUTPUT:
                self._results[tensor] = host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for buffer in self._buffers.values():
            call(self._cuda, "cudaFree", buffer)
        call(self._cuda, "cudaStreamDestroy", self._stream)
        del self._context

    def infer(self, inputs: Tensors) -> Tensors:
        """Copy the inputs to the GPU, run the engine, and copy the outputs back.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        check_inputs(inputs, self._tensors)
        kinds = self._cuda.cudaMemcpyKind
        for name, tensor in inputs.items():
            host = np.ascontiguousarray(tensor)
            to_device = kinds.cudaMemcpyHostToDevice
            call(self._cuda, "cudaMemcpyAsync", self._buffers[name], host.ctypes.data, host.nbytes, to_device, self._stream)
            call(self._cuda, "cudaStreamSynchronize", self._stream)  # `host` may be a copy that ends here
        if not self._context.execute_async_v3(int(self._stream)):
            raise MissingError(f"{self.runtime} could not run the engine", "see its log, and whether the GPU has memory left")
        for name, host in self._results.items():
            to_host = kinds.cudaMemcpyDeviceToHost
            call(self._cuda, "cudaMemcpyAsync", host.ctypes.data, self._buffers[name], host.nbytes, to_host, self._stream)
        call(self._cuda, "cudaStreamSynchronize", self._stream)
        return {name: self._results[name].copy() for name in OUTPUTS}
