"""The pipeline as one ONNX graph in float32, and the file that a graph becomes."""

from __future__ import annotations

import ast
import copy
import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from edgekit.contract import OUTPUTS, input_names
from edgekit.errors import InputError
from edgekit.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "model.onnx"
OPSETS = (18, 19, 20)
"""torch's exporter starts at 18; TensorRT 10.3 and onnxruntime-web read up to 20."""


def export_graph(pipeline: Any, opset: int) -> Any:
    """Return the pipeline as an ``onnx.ModelProto`` in float32, batch normalization folded.

    A node is named by the module that it comes from (``members.ap.network.conv_stem/conv2d_85``), which is what
    `edgekit.graphs.places` reads.

    Raises
    ------
    InputError
        This backend does not make that opset, or an operator can't be lowered.
    """
    if opset not in OPSETS:
        raise InputError(f"the recipe asks for opset {opset}", f"accepted: {', '.join(map(str, OPSETS))}")
    model = _run_exporter(fold_batch_norms(pipeline), opset)
    used: Counter[str] = Counter()
    for node in model.graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        *_, module, call = ("", "", *ast.literal_eval(scopes)) if scopes else ("", "", node.name)
        module = module.replace(".slice(None, -1, None)", "")  # the detector walks a slice of its layers
        name = f"{module}/{call}" if module else call
        used[name] += 1
        node.name = f"{name}.{used[name]}" if used[name] > 1 else name  # one call of torch may take several operators
    strip_annotations(model)
    _check(model, input_names(pipeline.spec.task.views), opset)
    return model


def write_graph(model: Any, pipeline: Any, path: Path) -> None:
    """Write a graph as it ships, with what a person who opens it should know."""
    import onnx

    onnx.helper.set_model_props(model, describe_file(pipeline))
    path.write_bytes(model.SerializeToString(deterministic=True))


def describe_file(pipeline: Any) -> dict[str, str]:
    """Return what a person who opens a pipeline's file should know, by name."""
    return {"edgekit": VERSION, "brands": json.dumps(pipeline.spec.brands), "intended_use": pipeline.spec.task.intended_use}


def fold_batch_norms(pipeline: Any) -> Any:
    """Return a copy whose convolutions have taken in the batch normalization registered right after them.

    torch's exporter folds them too, one graph pattern at a time; this halves the time of an export.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    folded = copy.deepcopy(pipeline)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (name, layer), (norm_name, norm) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and layer.out_channels == norm.num_features:
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                # timm's BatchNormAct2d holds the activation that follows
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    return folded


def strip_annotations(message: Any) -> None:
    """Clear doc strings and metadata throughout a protobuf message.

    torch's exporter keeps the Python stack of every node there, with the paths of the machine that exported.
    """
    for name in ("doc_string", "metadata_props"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                strip_annotations(child)


def _run_exporter(pipeline: Any, opset: int) -> Any:
    """Run torch's exporter; returns an ``onnx.ModelProto``."""
    import onnxscript  # noqa: F401  (torch reports its absence less clearly)
    import torch

    side, views = pipeline.spec.canvas_side, pipeline.spec.task.views
    example = (*(torch.zeros(1, 1, side, side, dtype=torch.uint8) for _ in views), torch.ones(len(views)))
    try:
        program = torch.onnx.export(
            pipeline,
            example,
            input_names=list(input_names(views)),
            output_names=list(OUTPUTS),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(f"the pipeline can't be written as ONNX: {cause}", "train another architecture, or report this") from error
    assert program is not None
    return program.model_proto


def _check(model: Any, inputs: tuple[str, ...], opset: int) -> None:
    """Raise when the exporter did not give what was asked for."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    versions = {each.domain: each.version for each in model.opset_import}
    if versions != {"": opset}:
        raise InputError(f"the graph needs the operator sets {versions}, expected only ONNX's own, version {opset}")
    for group, names in ((model.graph.input, inputs), (model.graph.output, OUTPUTS)):
        found = tuple(value.name for value in group)
        if found != names:
            raise InputError(f"the graph has the tensors {found}, expected {names}")
        for value in group:
            if not all(dim.dim_value for dim in value.type.tensor_type.shape.dim):
                raise InputError(f"tensor '{value.name}' has no static shape")
