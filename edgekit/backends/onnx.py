"""ONNX: one file that onnxruntime (desktop, mobile and web) and other runtimes read."""

from __future__ import annotations

import ast
import copy
import json
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import edgekit
from edgekit.errors import InputError
from edgekit.files import write_json
from edgekit.types import INPUTS, INTENDED_USE, OUTPUTS, Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.types import Target

SETTINGS: dict[str, type] = {"opset": int}
OPTIONS: dict[str, tuple[str, ...]] = {"activations": ("uint8", "int8"), "depthwise": ("int8", "float32")}
"""Type of 8-bit activations: x86 multiplies unsigned by signed bytes, ARM signed by signed. What blocks with a depthwise convolution
compute in: WebAssembly takes five times as long for it in 8 bits as in float."""

PRECISIONS: dict[str, tuple[str, ...]] = {
    "detector": ("fp32", "fp16", "w8a8"),
    "geometry": ("fp32",),
    "members": ("fp32", "fp16", "w8a8"),
    "ensemble": ("fp32",),
}
SESSIONS: tuple[str, ...] = ("onnxruntime", "openvino", "browser", "onnxruntime-float")
VERSIONED: tuple[str, ...] = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "timm", "ultralytics")
MODEL = "model.onnx"
REPAIR = "quantization.json"
OPSETS = (18, 19, 20)
"""torch's exporter starts at 18; TensorRT 10.3 and onnxruntime-web read up to 20."""


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
    """Write `pipeline` as one ONNX file of standard operators with static shapes; see `edgekit.backends.Backend`.

    The same pipeline, target and calibration give the same bytes: what the exporter notes about its own run is removed.

    Raises
    ------
    InputError
        The recipe asks for an opset that this backend does not make, or an operator can't be lowered.
    """
    model, files = export_lowered(pipeline, target, folder, calibration, target.options, symmetric=False)
    write_graph(model, pipeline, folder / MODEL)
    return Artifact(model=MODEL, files=(MODEL, *files))


def describe(model: Path) -> dict[str, Any]:
    """Return what a manifest tells about the file.

    ``opset``; ``operators``, type to number of nodes; and ``saturation``, what its 8-bit products can add up to (see
    `edgekit.quantization.saturation.Saturation`).
    """
    import onnx

    from edgekit.quantization.saturation import find_saturation

    proto = onnx.load(model)
    operators = Counter(node.op_type for node in proto.graph.node)
    return {
        "opset": proto.opset_import[0].version,
        "operators": dict(sorted(operators.items())),
        "saturation": asdict(find_saturation(proto)),
    }


def export_graph(pipeline: Any, opset: int) -> Any:
    """Return the pipeline as an ``onnx.ModelProto`` in float32, batch normalization folded.

    A node is named by the module that it comes from (``members.ap.network.conv_stem/conv2d_85``), which is what `stage_of` reads.

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
    _check(model, opset)
    return model


def export_lowered(
    pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients, options: dict[str, str], symmetric: bool
) -> tuple[Any, tuple[str, ...]]:
    """Return the pipeline's graph in the precisions that `target` asks for, and the names of files written beside it.

    ``quantization.json`` says which blocks stayed float and why (`edgekit.quantization.repair.Repair`), and what the crop is computed in.

    Raises
    ------
    InputError
        Stages of 8 and of 16 bits are asked for together, or see `export_graph`.
    GateError
        The answers do not survive in 8 bits.
    """
    from edgekit.quantization.half import halve
    from edgekit.quantization.repair import foresee, quantize_graph, rewrite_graph

    lowered = set(target.stages.values()) - {"fp32"}
    if len(lowered) > 1:
        raise InputError(f"the recipe asks for {' and '.join(sorted(lowered))} in one graph", "give every stage fp32 or the same precision")
    opset = target.settings["opset"]
    model = export_graph(pipeline, opset)
    if lowered == {"fp16"}:
        return halve(model, {node.name for node in model.graph.node if target.stages[stage_of(node.name)] == "fp32"}), ()
    if lowered == {"w8a8"}:
        settings = target.calibration
        assert settings is not None
        rewritten, crop, foresight = model, "float32", foresee(model, calibration)
        if not symmetric:  # what TensorRT multiplies in 8 bits are Q/DQ pairs around float operators, with a zero point of zero
            rewritten, crop = rewrite_graph(model, calibration, foresight, settings.changed)
        wanted = {node.name for node in rewritten.graph.node if target.stages[stage_of(node.name)] == "w8a8"}
        quantized, repair = quantize_graph(rewritten, foresight, wanted, calibration, settings, symmetric=symmetric, **options)
        write_json(folder / REPAIR, {"crop": crop, **repair.to_json()})
        return quantized, (REPAIR,)
    return model, ()


def read_foreseen(folder: Path) -> float | None:
    """Return the share of fresh patients foreseen to get another brand from what is in a folder; None where nothing there is in 8 bits."""
    repair = folder / REPAIR
    return float(json.loads(repair.read_text(encoding="utf-8"))["after"]) if repair.is_file() else None


def stage_of(name: str) -> str:
    """Return the stage of the recipe that a module, or a node of `export_graph`, belongs to, by its name.

    The detector's and the members' own layers are theirs; what decodes a box, crops, normalizes or explains is geometry.

    Examples
    --------
    >>> stage_of("detector.network.model.3.conv"), stage_of("detector/view"), stage_of("members.ap.network.conv_stem/conv2d_85")
    ('detector', 'geometry', 'members')
    """
    if name.startswith("detector.network."):
        return "detector"
    return next((stage for stage in ("members", "ensemble") if name.startswith(stage)), "geometry")


def write_graph(model: Any, pipeline: Any, path: Path) -> None:
    """Write a graph as it ships, with what a person who opens it should know."""
    import onnx

    onnx.helper.set_model_props(
        model,
        {
            "edgekit": edgekit.__version__,
            "brands": json.dumps(pipeline.spec.brands),
            "intended_use": INTENDED_USE,
        },
    )
    path.write_bytes(model.SerializeToString(deterministic=True))


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

    side = pipeline.spec.canvas_side
    example = (*(torch.zeros(1, 1, side, side, dtype=torch.uint8) for _ in range(2)), torch.ones(2))
    try:
        program = torch.onnx.export(
            pipeline,
            example,
            input_names=list(INPUTS),
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


def _check(model: Any, opset: int) -> None:
    """Raise when the exporter did not give what was asked for."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    versions = {each.domain: each.version for each in model.opset_import}
    if versions != {"": opset}:
        raise InputError(f"the graph needs the operator sets {versions}, expected only ONNX's own, version {opset}")
    for group, names in ((model.graph.input, INPUTS), (model.graph.output, OUTPUTS)):
        found = tuple(value.name for value in group)
        if found != names:
            raise InputError(f"the graph has the tensors {found}, expected {names}")
        for value in group:
            if not all(dim.dim_value for dim in value.type.tensor_type.shape.dim):
                raise InputError(f"tensor '{value.name}' has no static shape")
