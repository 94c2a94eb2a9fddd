"""What this machine reaches at best: small onnxruntime graphs of big layers, and copies in memory.

A peak is what the kernels of the runtime reach on layers that suit them, not what the data sheet says: a floor computed from it is one that
this runtime could come near.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.latency.workers import time_call

LAYERS = {
    "dense": ((256, 256, 1, 1, 40), (128, 128, 3, 1, 40), (512, 512, 1, 1, 20)),
    "depthwise": ((256, 256, 3, 256, 40), (256, 256, 5, 256, 40)),
}
"""By kind: channels in and out, side of the kernel, groups, side of the film."""
DEPTH = 6
"""Layers in a row: so many that starting a run costs nothing beside them."""
REPEATS = 40
BLOCK = 8_000_000
"""Bytes copied at a time: about the graph's weights, which a run reads from wherever the caches leave them."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Multiply-adds a second by kind of layer (``dense int8`` ...), and bytes a second, read and written alike."""

    macs_per_s: dict[str, float]
    bytes_per_s: float


def measure_peaks(threads: int | None) -> Peaks:
    """Measure in a fresh process; takes some seconds.

    Parameters
    ----------
    threads
        Threads within an operator, and of the copies; None takes one a core.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, threads).result()


def make_layers(channels_in: int, channels_out: int, kernel: int, group: int, side: int, eight: bool) -> tuple[Any, int]:
    """Return an ``onnx.ModelProto`` of `DEPTH` equal convolutions in a row, and its multiply-adds.

    Parameters
    ----------
    eight
        uint8 activations and int8 weights (ARM multiplies int8 by int8 as fast); else float32.
    """
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    weights = random.normal(size=(channels_out, channels_in // group, kernel, kernel))
    kind = onnx.TensorProto.UINT8 if eight else onnx.TensorProto.FLOAT
    constants: dict[str, Any] = {"weight": np.clip(weights * 30, -127, 127).astype(np.int8) if eight else weights.astype(np.float32)}
    if eight:
        constants |= {"scale": np.float32(0.02), "zero": np.uint8(128), "weight_scale": np.float32(0.01), "weight_zero": np.int8(0)}
    nodes = []
    for index in range(DEPTH):
        source, result = f"x{index}", f"x{index + 1}"
        operands = [source, "scale", "zero", "weight", "weight_scale", "weight_zero", "scale", "zero"] if eight else [source, "weight"]
        nodes.append(
            helper.make_node("QLinearConv" if eight else "Conv", operands, [result], pads=[kernel // 2] * 4, group=group, name=result)
        )
    given, answered = (
        helper.make_tensor_value_info(f"x{index}", kind, [1, channels, side, side])
        for index, channels in ((0, channels_in), (DEPTH, channels_out))
    )
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "layers", [given], [answered], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model, DEPTH * channels_out * side**2 * channels_in // group * kernel**2


def _measure(threads: int | None) -> Peaks:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    peaks: dict[str, float] = {}
    for name, layers in LAYERS.items():
        for eight in (True, False):
            kind = f"{name} {'int8' if eight else 'fp32'}"
            for layer in layers:
                model, macs = make_layers(*layer, eight)
                session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
                shape = session.get_inputs()[0].shape
                film = np.zeros(shape, np.uint8) if eight else np.random.default_rng(0).normal(size=shape).astype(np.float32)
                fastest = min(time_call(lambda run=session.run, film=film: run(None, {"x0": film})) for _ in range(REPEATS))  # type: ignore[misc]
                peaks[kind] = max(peaks.get(kind, 0.0), 1000 * macs / fastest)
    return Peaks(peaks, _measure_bandwidth(threads))


def _measure_bandwidth(threads: int | None) -> float:
    """Return bytes a second, read and written, of copies by so many threads at once."""
    from edgekit.cores import count_cores

    workers = threads or count_cores()
    blocks = [(np.ones(BLOCK // workers, np.uint8), np.empty(BLOCK // workers, np.uint8)) for _ in range(workers)]
    with ThreadPoolExecutor(workers) as pool:  # numpy copies without holding the interpreter's lock

        def copy_all() -> None:
            for done in [pool.submit(np.copyto, target, source) for source, target in blocks]:
                done.result()

        return 2 * BLOCK / (min(time_call(copy_all) for _ in range(REPEATS)) / 1000)
