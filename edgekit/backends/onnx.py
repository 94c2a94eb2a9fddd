"""ONNX: one file that onnxruntime (desktop, mobile and web) and other runtimes read."""

from __future__ import annotations

import copy
import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import edgekit
from edgekit.backends.inputs import check_inputs
from edgekit.errors import InputError, MissingError, UsageError
from edgekit.types import INPUTS, INTENDED_USE, OUTPUTS, Artifact

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from edgekit.backends import Session, Tensors
    from edgekit.types import Bundle, Target

SESSIONS: tuple[str, ...] = ("onnxruntime",)
MODEL = "model.onnx"
OPSETS = (18, 19, 20)
"""torch's exporter starts at 18; TensorRT 10.3 and onnxruntime-web read up to 20."""


def convert(pipeline: Any, target: Target, folder: Path) -> Artifact:
    """Write `pipeline` as one ONNX file of standard operators with static shapes.

    The same pipeline and target give the same bytes: what the exporter notes about its own run is removed.

    Parameters
    ----------
    pipeline
        A ``models.pipeline.Pipeline`` in eval mode.
    target
        Its stages are all fp32.
    folder
        Where ``model.onnx`` is written.

    Raises
    ------
    InputError
        The recipe asks for an opset or a precision that this backend does not make, or an operator can't be lowered.
    """
    import onnx

    if target.opset not in OPSETS:
        raise InputError(f"recipe of {target.name}: opset is {target.opset}", f"accepted: {', '.join(map(str, OPSETS))}")
    if below := sorted({precision for precision in target.stages.values() if precision != "fp32"}):
        raise InputError(f"the onnx backend makes fp32 only; the recipe of {target.name} asks for {', '.join(below)}", "use a variant fp32")
    model = _export(fold_batch_norms(pipeline), target.opset)
    strip_annotations(model)
    onnx.helper.set_model_props(
        model,
        {
            "edgekit": edgekit.__version__,
            "brands": json.dumps(pipeline.spec.brands),
            "intended_use": INTENDED_USE,
        },
    )
    _check(model, target.opset)
    (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    return Artifact(model=MODEL, files=(MODEL,))


def describe(model: Path) -> dict[str, Any]:
    """Return what a manifest tells about the file: ``opset`` and ``operators``, type to number of nodes."""
    import onnx

    proto = onnx.load(model)
    operators = Counter(node.op_type for node in proto.graph.node)
    return {"opset": proto.opset_import[0].version, "operators": dict(sorted(operators.items()))}


def open_session(name: str, bundle: Bundle, threads: int | None = None) -> Session:
    """Open `bundle` in the session `name`.

    Raises
    ------
    UsageError
        The session is unknown.
    MissingError
        The runtime on this machine can't open the file.
    """
    if name not in SESSIONS:
        raise UsageError(f"an ONNX bundle has no session {name!r}", f"choose one of {', '.join(SESSIONS)}")
    return OnnxRuntimeSession(bundle.model, bundle.canvas_side, threads)


class OnnxRuntimeSession:
    """onnxruntime on the CPU, and nothing else: no other provider is tried.

    Parameters
    ----------
    model
        The ONNX file.
    side
        Side of its canvases in pixels.
    threads
        Threads within an operator; None takes one a core.
    """

    name = "onnxruntime"

    def __init__(self, model: Path, side: int, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self.runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider"
        self._side = side
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base
            raise MissingError(
                f"onnxruntime {onnxruntime.__version__} can't open {model}: {error}", "pip install --upgrade onnxruntime"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._session

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        check_inputs(inputs, self._side)
        return dict(zip(OUTPUTS, self._session.run(list(OUTPUTS), inputs), strict=True))


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


def _export(pipeline: Any, opset: int) -> Any:
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
