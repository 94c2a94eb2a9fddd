"""TensorRT-RTX: runs the engine in the bundle that was compiled for this GPU's compute capability."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgekit.errors import MissingError
from edgekit.formats.tensorrt_rtx import engine_name, import_tensorrt_rtx
from edgekit.sessions.about import About
from edgekit.sessions.cuda_engine import COPIES, EngineSession, Gpu, find_gpu, list_missing_gpu, require_precisions

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.types import Bundle, Session

ABOUT = About(extras=("export",), takes_threads=False, notes=COPIES, list_missing=list_missing_gpu)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:  # noqa: ARG001  (a GPU has none to choose)
    """Load the engine for the first GPU; see `edgekit.sessions.SessionModule`.

    Raises
    ------
    GateError
        The engine computes a layer wider than the bundle promises.
    """
    rtx = import_tensorrt_rtx()
    gpu = find_gpu()
    engine = rtx.Runtime(rtx.Logger(rtx.Logger.ERROR)).deserialize_cuda_engine(choose_engine(bundle, gpu).read_bytes())
    if engine is None:
        raise MissingError(
            f"TensorRT-RTX {rtx.__version__} does not load the engine",
            f"install the version that compiled it, {bundle.manifest.provenance['versions']['tensorrt-rtx-cu13-libs']}",
        )
    require_precisions(engine, rtx, bundle)
    return EngineSession("tensorrt-rtx", f"tensorrt-rtx {rtx.__version__} on {gpu.name}", rtx, engine, bundle.manifest.tensors["inputs"])


def choose_engine(bundle: Bundle, gpu: Gpu) -> Path:
    """Return the engine that was compiled for a GPU's compute capability.

    Raises
    ------
    MissingError
        The bundle has none for it.
    """
    path = bundle.folder / engine_name(gpu.capability)
    if not path.is_file():
        there = sorted(bundle.folder.glob("engine-sm*.trt"), key=lambda found: int(re.sub(r"\D", "", found.stem)))
        names = ", ".join(each.name for each in there)
        raise MissingError(
            f"the bundle has no engine for {gpu.name}, compute capability {gpu.capability}: it has {names}",
            f'add "{gpu.capability}" to compute_capabilities in the recipe and export again',
        )
    return path
