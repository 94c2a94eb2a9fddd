"""Where a graph spends its time: onnxruntime's own profiler, summed by the stage of the pipeline.

A kernel's name does not tell its stage: onnxruntime fuses, reorders and renames nodes as it optimises. What the pipeline's outputs depend
on does, before and after: `find_stages` works on the graph that was exported and on the one that onnxruntime made of it.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError

if TYPE_CHECKING:
    from edgekit.types import Tensors

TIMED_STAGES = ("detect", "crop", "members", "ensemble")
DETECTED = ("boxes", "box_scores", "view_scores")
"""What the detector answers (`edgekit.contract.OUTPUTS`)."""
WARMUP = 5
RUNS = 20


def find_stages(graph: Any) -> list[str]:
    """Return the stage of each node of a pipeline's graph.

    ``detect`` is what the boxes and their scores depend on. Of the rest, ``crop`` leads from the films and boxes to the first convolutions,
    ``members`` are the convolutions and all between them and the members' own answers, and ``ensemble`` is what comes after, heatmaps and
    unfamiliarity included. What depends on no film, such as weights on their way from 8 bits, goes with what it feeds.

    Parameters
    ----------
    graph
        ``onnx.GraphProto``, nodes in topological order.
    """
    nodes = list(graph.node)
    made_by = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    sources = [[made_by[name] for name in node.input if name in made_by] for node in nodes]

    def find_needed(wanted: set[int]) -> set[int]:
        """Return `wanted` and all they depend on; inputs come before what they feed."""
        needed = set(wanted)
        for index in reversed(range(len(nodes))):
            if index in needed:
                needed.update(sources[index])
        return needed

    detect = find_needed({made_by[name] for name in DETECTED})
    given = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    convolutions = {index for index, node in enumerate(nodes) if "Conv" in node.op_type} - detect
    live: set[int] = set()
    behind = set(convolutions)
    for index, node in enumerate(nodes):
        if given.intersection(node.input) or live.intersection(sources[index]):
            live.add(index)
        if index not in detect and behind.intersection(sources[index]):
            behind.add(index)
    before = find_needed(convolutions)
    answered = find_needed(convolutions | {made_by["members"]})

    def choose(index: int) -> str:
        if index in detect:
            return "detect"
        if index in behind and index in answered:
            return "members"
        if index in before:
            return "crop" if index in live else "members"
        return "ensemble"

    return [choose(index) for index in range(len(nodes))]


def profile_stages(model: Path, threads: int | None, inputs: Tensors) -> dict[str, float]:
    """Return the share of each stage in the time of a run, in a fresh process; they add up to 1.

    ``overhead`` is the time of a run outside every kernel, the profiler's own included. ``unattributed``, there only if it is not zero, is
    that of kernels whose node has no stage or an ambiguous name.

    Parameters
    ----------
    model
        An ONNX file of the pipeline.
    threads
        Threads within an operator; None takes one a core.

    Raises
    ------
    MissingError
        onnx is not installed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_profile, model, threads, inputs).result()


def _profile(model: Path, threads: int | None, inputs: Tensors) -> dict[str, float]:
    import onnxruntime

    try:
        import onnx
    except ImportError as error:
        raise MissingError(f"onnx does not load: {error}", "pip install 'edgekit-imaging[export]'") from error
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        options.log_severity_level = 3  # it warns that the optimized file suits this processor alone
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        for _ in range(WARMUP + RUNS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(folder / "optimized.onnx").graph
    stage_of_node: dict[str, str] = {}
    for node, stage in zip(graph.node, find_stages(graph), strict=True):
        known = stage_of_node.setdefault(node.name, stage)
        if known != stage:
            stage_of_node[node.name] = "unattributed"
    return share_time(events, stage_of_node, WARMUP)


def share_time(events: list[dict[str, Any]], stage_of_node: dict[str, str], warmup: int) -> dict[str, float]:
    """Return the share of each stage in the runs that a profile of onnxruntime tells.

    Parameters
    ----------
    events
        The profile: ``cat``, ``name``, ``ts`` and ``dur`` in microseconds.
    stage_of_node
        Stage by name of the node.
    warmup
        Runs at the beginning that do not count.
    """
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")[warmup:]
    total = sum(duration for _, duration in runs)
    spent = dict.fromkeys((*TIMED_STAGES, "unattributed"), 0.0)
    suffix = "_kernel_time"
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(suffix) and event["ts"] >= runs[0][0]:
            spent[stage_of_node.get(event["name"].removesuffix(suffix), "unattributed")] += event["dur"]
    if not spent["unattributed"]:
        del spent["unattributed"]
    return {**{stage: time / total for stage, time in spent.items()}, "overhead": 1 - sum(spent.values()) / total}
