"""The corner finder as one small file beside the pipeline's model, in the format of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.graphs.exporting import fold_batch_norms, strip_annotations
from edgekit.graphs.weights import store_in_bytes
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
        store_in_bytes(model)
    onnx.checker.check_model(model, full_check=True)
    told = {"edgekit": VERSION}
    onnx.helper.set_model_props(model, told)
    path.write_bytes(lower_graph(model, told) if path.suffix == LITERT else model.SerializeToString(deterministic=True))
