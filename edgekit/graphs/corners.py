"""The corner finder as one small file beside the pipeline's model, in the format of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.graphs.exporting import fold_batch_norms, strip_annotations
from edgekit.litert.operators import lower_graph
from edgekit.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.models.corners import CornerFinder

NAME = "corners"
"""Its file, which has the suffix of the pipeline's model."""
LITERT = ".tflite"
OPSET = 20
WEIGHTS = ("float32", "int8")
LEAST = 256
"""A tensor of fewer values stays float: it would not get smaller by much."""


def write_corner_finder(finder: CornerFinder, path: Path, weights: str) -> None:
    """Write a corner finder: ``photo`` uint8 (1, 1, 320, 320) to ``edges`` float32 (1, 4, 80, 80), see `EdgeMaps`.

    Parameters
    ----------
    path
        A file for LiteRT where its suffix is `LITERT`, else ONNX.
    weights
        How they are stored, one of `WEIGHTS`; all is computed in float32.
    """
    import onnx
    import torch

    from edgekit.models.corners import SIDE, EdgeMaps

    program = torch.onnx.export(
        EdgeMaps(fold_batch_norms(finder)).eval(),
        (torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8),),
        input_names=["photo"],
        output_names=["edges"],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    strip_annotations(model)
    if weights == "int8":
        _store_in_bytes(model)
    onnx.checker.check_model(model, full_check=True)
    told = {"edgekit": VERSION}
    onnx.helper.set_model_props(model, told)
    path.write_bytes(lower_graph(model, told) if path.suffix == LITERT else model.SerializeToString(deterministic=True))


def _store_in_bytes(model: Any) -> None:
    """Store weights as int8, a scale for each output channel, and turn them back to float when the file is loaded."""
    import numpy as np
    from onnx import helper, numpy_helper

    outputs = {node.input[1]: 0 for node in model.graph.node if node.op_type == "Conv"}  # a matrix's are its last axis
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST:
            continue
        axis = outputs.get(tensor.name, values.ndim - 1)
        others = tuple(n for n in range(values.ndim) if n != axis)
        scales = np.abs(values).max(axis=others, keepdims=True) / 127
        scales[scales == 0] = 1
        names = [f"{tensor.name}.{part}" for part in ("bytes", "scales")]
        stored = np.rint(values / scales).astype(np.int8), scales.reshape(-1).astype(np.float32)
        model.graph.initializer.remove(tensor)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in zip(names, stored, strict=True))
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
