"""TensorRT: builds the bundle's graph into an engine for this machine's GPU, inspects it, and runs it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError
from edgekit.sessions.about import About
from edgekit.sessions.cuda_engine import COPIES, EngineSession, find_gpu, list_missing_gpu, require_precisions

if TYPE_CHECKING:
    from edgekit.types import Bundle, Session

ABOUT = About(extras=("tensorrt",), takes_threads=False, notes=COPIES, list_missing=list_missing_gpu)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:  # noqa: ARG001  (a GPU has none to choose)
    """Open the bundle's graph on the first GPU; see `edgekit.sessions.SessionModule`.

    Raises
    ------
    GateError
        The engine computes a layer wider than the bundle promises.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise MissingError(
            f"tensorrt does not load: {error}",
            "pip install 'edgekit-imaging[tensorrt]' on a machine with an NVIDIA GPU, or run the bundle's runner/run.py on the device",
        ) from error
    gpu = find_gpu()
    logger = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(logger).deserialize_cuda_engine(build_engine(trt, logger, bundle.model.read_bytes()))
    require_precisions(engine, trt, bundle)
    return EngineSession("tensorrt", f"tensorrt {trt.__version__} on {gpu.name}", trt, engine, bundle.manifest.tensors["inputs"])


def build_engine(trt: Any, logger: Any, model: bytes) -> Any:
    """Build an ONNX file as a strongly typed network for this machine's GPU; returns TensorRT's ``IHostMemory``.

    Raises
    ------
    MissingError
        This version of TensorRT does not take it on this GPU.
    """
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))  # 11 always is; 10 must be told
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        told = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise MissingError(f"TensorRT {trt.__version__} does not read the graph: {told}", "use TensorRT 10.3 or later")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # without it the engine does not tell its layers' types
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 is float32
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise MissingError(f"TensorRT {trt.__version__} can't build the graph for this GPU", "see its log above")
    return engine
