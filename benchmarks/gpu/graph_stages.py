"""How long each stage of an exported graph takes in onnxruntime on any device, copies apart.

onnxruntime's profiler times the starting of a kernel on a GPU, not the kernel. The graph is therefore cut behind each stage and each
beginning of it is timed as a whole, with its inputs and outputs on the device; a stage takes what its beginning takes longer than the one
before.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.latency.stages import TIMED_STAGES, find_stages
from edgekit.latency.workers import time_call

if TYPE_CHECKING:
    from edgekit.types import Tensors

WARMUP, REPEATS = 5, 50
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def list_borders(graph: Any) -> dict[str, list[str]]:
    """Return, by stage, the tensors that the graph up to its end hands on: to later stages, and as answers.

    Parameters
    ----------
    graph
        ``onnx.GraphProto``, nodes in topological order.
    """
    place = {stage: number for number, stage in enumerate(TIMED_STAGES)}
    made = {output: place[stage] for node, stage in zip(graph.node, find_stages(graph), strict=True) for output in node.output}
    used = {value.name: len(TIMED_STAGES) for value in graph.output}
    for node, stage in zip(graph.node, find_stages(graph), strict=True):
        for name in node.input:
            used[name] = max(used.get(name, 0), place[stage])
    return {
        stage: [name for name, origin in made.items() if origin <= number and used.get(name, -1) > number]
        for stage, number in place.items()
    }


def time_graph(model: Path, inputs: Tensors, device: str) -> dict[str, float]:
    """Return the median ms of ``copy_in``, of each of `edgekit.latency.stages.TIMED_STAGES`, and of ``copy_out``.

    A stage shorter than the noise of two medians can come out negative.
    """
    import onnx
    import onnxruntime

    def place(array: Any) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)

    taken = {"copy_in": statistics.median(time_call(lambda: [place(array) for array in inputs.values()]) for _ in range(REPEATS))}
    whole = onnx.shape_inference.infer_shapes(onnx.load(model))
    before = copy_out = 0.0
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(whole, Path(folder) / "whole.onnx")
        for stage, outputs in list_borders(whole.graph).items():
            path = Path(folder) / f"{stage}.onnx"
            onnx.utils.extract_model(str(Path(folder) / "whole.onnx"), str(path), [*inputs], outputs)
            session = onnxruntime.InferenceSession(str(path), providers=[PROVIDERS[device]])
            binding = session.io_binding()
            given = {each.name for each in session.get_inputs()}
            for name in given:
                binding.bind_ortvalue_input(name, place(inputs[name]))
            for name in outputs:
                binding.bind_output(name, device)

            def run(session: Any = session, binding: Any = binding) -> None:
                session.run_with_iobinding(binding)
                binding.synchronize_outputs()

            times = [time_call(run) for _ in range(WARMUP + REPEATS)][WARMUP:]
            taken[stage], before = statistics.median(times) - before, statistics.median(times)
            copy_out = statistics.median(time_call(binding.copy_outputs_to_cpu) for _ in range(REPEATS))
    return {**taken, "copy_out": copy_out}
