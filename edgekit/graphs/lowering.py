"""The pipeline's graph in the precisions that a recipe asks for, and what lowering it is foreseen to change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.files import write_json
from edgekit.graphs.exporting import export_graph
from edgekit.graphs.places import find_places
from edgekit.graphs.weights import store_in_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.rewriting import Form
    from edgekit.types import Target

REPAIR = "quantization.json"


def export_lowered(
    pipeline: Any,
    target: Target,
    folder: Path,
    calibration: CalibrationPatients,
    opset: int,
    options: dict[str, str],
    form: Form | None,
) -> tuple[Any, tuple[str, ...]]:
    """Return the pipeline's graph in the precisions that `target` asks for, and the names of files written beside it.

    ``quantization.json`` says which blocks stayed float and why (`edgekit.quantization.repair.Repair`), and what the crop is computed in.

    Parameters
    ----------
    opset, options
        See `export_graph` and `edgekit.quantization.repair.quantize_graph`.
    form
        What the runtime has fast operators for. None where a zero point must be zero: TensorRT multiplies in 8 bits what stands between
        Q/DQ pairs, and its graph stays as it is.

    Raises
    ------
    InputError
        Stages of 8 and of 16 bits are asked for together, or see `edgekit.graphs.exporting.export_graph`.
    GateError
        The answers do not survive in 8 bits.
    """
    from edgekit.quantization.repair import foresee, quantize_graph, rewrite_graph
    from edgekit.rewriting import halve_all_but
    from edgekit.rewriting.passes import run_passes

    lowered = set(target.stages.values()) - {"fp32"}
    if len(lowered) > 1:
        raise InputError(f"the recipe asks for {' and '.join(sorted(lowered))} in one graph", "give every stage fp32 or the same precision")
    model, places = export_graph(pipeline, opset), find_places(pipeline)
    if lowered == {"fp16"}:
        keep = {node.name for node in model.graph.node if target.stages[places.find(node.name).stage] == "fp32"}
        return run_passes(model, [halve_all_but(keep)]), ()
    if lowered == {"w8a8"}:
        settings = target.calibration
        assert settings is not None
        rewritten, crop, foresight = model, "float32", foresee(model, calibration)
        if form is not None:
            rewritten, crop = rewrite_graph(model, calibration, foresight, settings.changed, pipeline.spec.task.locate, form)
        found = {node.name: places.find(node.name) for node in rewritten.graph.node}
        wanted = {name: place.block for name, place in found.items() if place.block and target.stages[place.stage] == "w8a8"}
        quantized, repair = quantize_graph(rewritten, foresight, wanted, calibration, settings, symmetric=form is None, **options)
        write_json(folder / REPAIR, {"crop": crop, **repair.to_json()})
        return quantized, (REPAIR,)
    model = model if form is None else run_passes(model, form.in_float)
    if lowered:
        store_in_bytes(model, lambda name: target.stages[places.find(name).stage] != "fp32")
    return model, ()


def read_foreseen(folder: Path) -> float | None:
    """Return the share of fresh patients foreseen to get another brand from what is in a folder; None where nothing there is in 8 bits."""
    repair = folder / REPAIR
    return float(json.loads(repair.read_text(encoding="utf-8"))["after"]) if repair.is_file() else None
