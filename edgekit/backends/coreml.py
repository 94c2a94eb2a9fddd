"""Core ML: one ML Program for iPhone, iPad and Mac, made on any machine."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import traceback
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

from edgekit.contract import PRESENT, input_rows, output_rows
from edgekit.errors import InputError
from edgekit.formats.mlpackage import import_coremltools, read_specification
from edgekit.graphs.exporting import fold_batch_norms
from edgekit.graphs.places import STAGES, check_stages, find_places
from edgekit.sessions import coreml, coreml_reference
from edgekit.types import Artifact
from edgekit.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgekit.graphs.places import Places
    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.sessions import SessionModule
    from edgekit.task import View
    from edgekit.types import Target

EXTRAS: tuple[str, ...] = ("train", "export")
SETTINGS: dict[str, type] = {"minimum_os": str}
OPTIONS: dict[str, tuple[str, ...]] = {"weights": ("linear", "palettized")}
"""How 8-bit weights are stored: on a grid with one scale a channel, or as indices into a table of 256 values."""

PRECISIONS: dict[str, tuple[str, ...]] = {
    "detector": ("fp32", "fp16", "w8a16", "w8a8"),
    "geometry": ("fp32",),
    "members": ("fp32", "fp16", "w8a16", "w8a8"),
    "ensemble": ("fp32",),
}
IN_HALVES: tuple[str, ...] = ("fp16", "w8a16")
SESSIONS: dict[str, SessionModule] = {"coreml-reference": coreml_reference, "coreml": coreml}
EMULATED = False
VERSIONED: tuple[str, ...] = ("torch", "coremltools", "numpy", "timm", "ultralytics")
MODEL = "model.mlpackage"
SYSTEMS = ("iOS16", "iOS17", "iOS18")
"""iOS 16 is the first that reads compressed weights; each has its macOS (13, 14, 15)."""

LARGE = 12_000
"""Weights of this many values or fewer stay float16, and of twice as many where a layer has fewer outputs than inputs.

They are the first blocks', the depthwise kernels' and the first narrow layers': 5 % of a Lite0 pipeline's weights, and 70 % of the error
that 8 bits make in its answers.
"""

UNPROVEN = (
    "The Core ML file was interpreted with torch: what a device's CPU, GPU and Neural Engine make of it, their own float16 "
    "arithmetic, and their speed are shown by the session coreml on a Mac, or by the runner on a device."
)


def list_missing() -> list[str]:
    """Return nothing: it converts on any machine."""
    return []


def convert(pipeline: Any, target: Target, folder: Path, calibration: CalibrationPatients) -> Artifact:
    """Write `pipeline` as ``model.mlpackage``, an ML Program; see `edgekit.backends.Backend`.

    The films are 8-bit gray images, as a camera or a file gives them, and reach the graph as 0 to 255. The same pipeline and target give
    the same bytes: random identifiers and the date are replaced.

    Raises
    ------
    InputError
        The recipe asks for a precision or a system that this backend does not write for, or an operator can't be lowered.
    GateError
        8-bit activations change the calibration patients' answers by more than the recipe's tolerance.
    MissingError
        coremltools is not installed.
    """
    check_stages(target, PRECISIONS)
    system = target.settings["minimum_os"]
    if system not in SYSTEMS:
        raise InputError(f"the recipe asks for minimum_os {system!r}", f"accepted: {', '.join(SYSTEMS)}")
    if "w8a8" in target.stages.values() and system == "iOS16":
        raise InputError("iOS 16 has no 8-bit activations", "set minimum_os to iOS17 or iOS18")
    import_coremltools()
    places = find_places(pipeline)
    with _quiet():
        folded = fold_batch_norms(pipeline)
        if target.calibration is not None:
            from edgekit.quantization.coreml_activations import quantize_activations

            folded = quantize_activations(folded, target.stages, calibration, target.calibration)
        model = _compress_weights(_lower(folded, system, target.stages, places), target.stages, target.options["weights"])
    _describe_model(model, pipeline)
    _save(model, folder / MODEL)
    _check(folder / MODEL, pipeline.spec.task.views)
    files = sorted(path.relative_to(folder).as_posix() for path in (folder / MODEL).rglob("*") if path.is_file())
    return Artifact(model=MODEL, files=tuple(files), unproven=(UNPROVEN,))


def describe(model: Path) -> dict[str, Any]:
    """Return what a manifest tells about the file: ``specification`` version, ``opset``, and ``operators``, type to number."""
    specification, _ = read_specification(model)
    function = specification.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    operators = Counter(operation.type for operation in operations if operation.type != "const")
    return {"specification": specification.specificationVersion, "opset": function.opset, "operators": dict(sorted(operators.items()))}


def _lower(pipeline: Any, system: str, stages: dict[str, str], places: Places) -> Any:
    """Convert to an ``MLModel`` whose operators compute in their stage's precision, weights not compressed."""
    import coremltools
    import numpy as np
    import torch

    side, views = pipeline.spec.canvas_side, pipeline.spec.task.views
    example = (*(torch.zeros(1, 1, side, side) for _ in views), torch.ones(len(views)))
    layout = coremltools.colorlayout.GRAYSCALE
    films = [coremltools.ImageType(view, (1, 1, side, side), color_layout=layout) for view in views]
    below = {stage for stage, precision in stages.items() if precision != "fp32"}
    try:
        program = torch.export.export(pipeline, example).run_decompositions({torch.ops.aten.matmul.default: _multiply_matrices})
        _note_stages(program, places)
        return coremltools.convert(
            program,
            inputs=[*films, coremltools.TensorType(PRESENT, (len(views),), np.float32)],
            # Said for each: coremltools makes float16 of what is left open.
            outputs=[coremltools.TensorType(row.name, dtype=np.dtype(row.dtype).type) for row in output_rows()],
            minimum_deployment_target=coremltools.target[system],
            compute_precision=coremltools.transform.FP16ComputePrecision(lambda operation: _read_stage(operation) in below),
            skip_model_load=True,
        )
    except Exception as error:  # the exporter's and the converter's own exceptions share no base
        traceback.clear_frames(error.__traceback__)  # one of them holds a temporary folder
        raise InputError(
            f"the pipeline can't be written as an ML Program: {error}", "train another architecture, or report this"
        ) from error


def _multiply_matrices(first: Any, second: Any) -> Any:
    """Write the product of a matrix and a vector as one of matrices: MIL's has no vectors."""
    if second.ndim == 1:
        return (first @ second.unsqueeze(1)).squeeze(-1)
    if first.ndim == 1:
        return (first.unsqueeze(0) @ second).squeeze(-2)
    return NotImplemented


def _note_stages(program: Any, places: Places) -> None:
    """Give every operator of a ``torch.export`` program its stage, as a number that coremltools carries through its passes."""
    for node in program.graph.nodes:
        if node.op == "call_function":
            module = next(reversed(node.meta["nn_module_stack"].values()))[0]
            node.meta["debug_handle"] = STAGES.index(places.find(module).stage)


def _read_stage(operation: Any) -> str | None:
    """Return the stage of a MIL operator; a constant has none."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    handles = operation.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE) or [None]
    if handles[-1] is None:
        if operation.op_type == "const":
            return None
        raise InputError(f"coremltools lost the stage of operator {operation.op_type} {operation.name!r}", "report this")
    return STAGES[handles[-1]]


def _compress_weights(model: Any, stages: dict[str, str], how: str) -> Any:
    """Store the weights of the convolutions and linear layers of 8-bit stages in 8 bits.

    With float activations the large ones (`LARGE`); with 8-bit activations all, symmetric, so that integers can be multiplied.
    """
    from coremltools.optimize import coreml

    symmetric = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=0)
    grid = coreml.OpLinearQuantizerConfig(mode="linear", dtype="uint8", granularity="per_channel", weight_threshold=0)
    on_grid, in_table = {}, {}
    for operation in model._mil_program.functions["main"].operations:
        if operation.op_type not in ("conv", "linear"):
            continue
        precision = stages[_read_stage(operation) or ""]
        if precision == "w8a8":
            on_grid[operation.name] = symmetric
        elif precision == "w8a16" and _is_large(operation.weight.shape):
            if how == "linear":
                on_grid[operation.name] = grid
            else:
                in_table[operation.name] = coreml.OpPalettizerConfig(mode="kmeans", nbits=8, weight_threshold=0)
    if on_grid:
        model = coreml.linear_quantize_weights(model, coreml.OptimizationConfig(op_name_configs=on_grid))
    if in_table:
        model = coreml.palettize_weights(model, coreml.OptimizationConfig(op_name_configs=in_table))
    return model


def _is_large(shape: tuple[int, ...]) -> bool:
    """Whether a weight (outputs, inputs, ...) is worth 8 bits; see `LARGE`."""
    return math.prod(shape) > LARGE * (2 if shape[0] < shape[1] else 1)


def _describe_model(model: Any, pipeline: Any) -> None:
    """Write what Xcode and a program that opens the file should know."""
    model.author = "edgekit"
    model.license = "AGPL-3.0-or-later"
    model.version = VERSION
    task = pipeline.spec.task
    model.short_description = f"{task.question} {task.intended_use}"
    for row in input_rows(task.views):
        model.input_description[row.name] = row.description
    for row in output_rows():
        model.output_description[row.name] = row.description
    brands = list(pipeline.spec.brands)
    model.user_defined_metadata.update(
        {
            "brands": json.dumps(brands),
            "classes": ",".join(brands),
            "ensemble": pipeline.spec.ensemble,
            "edgekit": VERSION,
        }
    )


def _save(model: Any, package: Path) -> None:
    """Write the package without what differs from one conversion to the next: its item identifiers, the date, coremltools' debug table."""
    model.save(str(package))
    manifest_path = package / "Manifest.json"
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    items = sorted(manifest["itemInfoEntries"].values(), key=lambda item: item["path"])
    numbered = {f"00000000-0000-4000-8000-{index:012d}": item for index, item in enumerate(items, 1)}
    root = next(identifier for identifier, item in numbered.items() if item["path"].endswith(".mlmodel"))
    document = {"fileFormatVersion": manifest["fileFormatVersion"], "itemInfoEntries": numbered, "rootModelIdentifier": root}
    manifest_path.write_text(json.dumps(document, indent=4) + "\n", encoding="utf-8")
    specification = model.get_spec()
    specification.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    path = package / "Data" / numbered[root]["path"]
    path.write_bytes(specification.SerializeToString(deterministic=True))
    path.chmod(0o644)
    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)


def _check(package: Path, views: tuple[View, ...]) -> None:
    """Raise when the file's features are not the contract's."""
    from coremltools.proto import FeatureTypes_pb2

    specification, _ = read_specification(package)
    description, types = specification.description, FeatureTypes_pb2.ArrayFeatureType
    gray, single, whole = FeatureTypes_pb2.ImageFeatureType.GRAYSCALE, types.FLOAT32, types.INT32
    outputs = {row.name: whole if row.dtype == "int32" else single for row in output_rows()}
    expected = {**dict.fromkeys(views, gray), PRESENT: single, **outputs}
    found = {}
    for feature in (*description.input, *description.output):
        image = feature.type.WhichOneof("Type") == "imageType"
        found[feature.name] = feature.type.imageType.colorSpace if image else feature.type.multiArrayType.dataType
    if found != expected:
        raise InputError(f"the program has the features {found}, expected {expected}", "report this")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' progress bars and their warnings about untested versions to themselves."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
