"""Our one float graph, quantized by NNCF for OpenVINO: the same graph, another toolchain."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from edgekit.errors import MissingError
from peers.openvino_int8 import read_validation
from peers.setup import Setup, without_telemetry

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.types import Tensors

NETWORKS = ("detector.network.", "members.")
"""What the names of their nodes begin with."""


class Graph(AbstractContextManager["Graph"]):
    """A compiled model whose outputs have our names."""

    def __init__(self, compiled: Any, runtime: str) -> None:
        self._request, self.runtime = compiled.create_infer_request(), runtime

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        del self._request

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph."""
        answer = self._request.infer(inputs)
        return {name: answer[name] for name in ("probabilities", "boxes")}


def prepare(setup: Setup) -> None:
    """Quantize the graph on the run's validation films."""
    read_validation(setup)  # refuses films that judge, even when the file is there
    _quantize(setup)


def open_peer(setup: Setup, threads: int | None, hint: str) -> Graph:
    """Open the quantized graph; what is float in it is computed in `hint`."""
    with without_telemetry():
        import openvino

        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(_quantize(setup), "CPU", settings)
        return Graph(compiled, f"openvino {openvino.__version__.split('-')[0]} {hint}")


def _quantize(setup: Setup) -> Path:
    path = setup.folder / "graph_int8.xml"
    if setup.graph is None:
        raise MissingError("no bundle given holds the run's float graph", "export RUN desktop-cpu:fp32, and name it with --bundle")
    if not path.exists():
        with without_telemetry():
            import nncf
            import onnx
            import openvino

            films = read_validation(setup)
            model = openvino.Core().read_model(setup.graph)
            # Box decode, crop and ensemble stay float, as in our own recipe: 8 bits are for the networks, and an 8-bit box is 3 px off.
            around = [node.name for node in onnx.load(setup.graph).graph.node if not node.name.startswith(NETWORKS)]
            kinds = ["MatMul", "Softmax", "Multiply", "Divide", "Subtract", "ReduceSum", "ReduceMax"]
            scope = nncf.IgnoredScope(names=around, types=kinds, validate=False)
            quantized = nncf.quantize(
                model, nncf.Dataset(films), preset=nncf.QuantizationPreset.MIXED, subset_size=len(films), ignored_scope=scope
            )
            openvino.save_model(quantized, path)
    return path
