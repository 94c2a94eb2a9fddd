"""What an engine really computes with: its layers, as TensorRT tells them, held against what the ONNX file promises.

An engine may be built without an error and compute in float32 all the same. Two sources tell its layers, both only when it was built with
profiling verbosity ``DETAILED``:

- the engine inspector (JSON), where the engine can be loaded: on its GPU. TensorRT 10 gives a tensor's type and layout in one field,
  ``Format/Datatype``; 11 and TensorRT-RTX in two, ``Datatype`` and ``Format``.
- the builder's log (one line a layer), which TensorRT-RTX writes on a machine without a GPU too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROMISE = "precisions.json"
"""The file beside ``model.onnx`` that says what each convolution and product computes in (`edgekit.graphs.tensorrt.list_precisions`)."""

WIDTHS = ("int8", "fp16", "fp32")
"""Precisions that a convolution or matrix product computes in, from narrow to wide."""

_TYPES = {"Int8": "int8", "Half": "fp16", "FP16": "fp16", "Float": "fp32", "FP32": "fp32"}
_TYPE = re.compile(r"\b(Int8|Half|FP16|Float|FP32)\b")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<weights>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: .*?, Metadata: (?P<metadata>.*)"
)
_TENSOR_TYPE = re.compile(r"Datatype: (\w+)")

POINTWISE = frozenset({"kgen", "PointWise", "PointWiseV2", "Reformat", "NoOp", "signal", "wait"})
"""Kinds of layers that go along with a convolution, and seldom are one: they count where no other layer claims the node."""


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """One layer of an engine.

    Attributes
    ----------
    kind
        TensorRT's word for it, such as ``CaskConvolution``, ``correlation``, ``kgen``.
    nodes
        Names of the ONNX nodes that it computes.
    precision
        One of `WIDTHS`, or None for a layer without floating point.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    precision: str | None


def read_inspector(document: Mapping[str, Any]) -> list[EngineLayer]:
    """Read what ``EngineInspector.get_engine_information(LayerInformationFormat.JSON)`` returned.

    Raises
    ------
    ValueError
        It holds names only: the engine was not built with profiling verbosity ``DETAILED``.
    """
    layers = []
    for layer in document["Layers"]:
        if not isinstance(layer, dict):
            raise ValueError("the engine tells only the names of its layers: it was not built with profiling verbosity DETAILED")
        inputs = [_find_type(tensor) for tensor in layer.get("Inputs", [])]
        weights = [_find_type(tensor) for tensor in layer.get("Constants", [])]
        if "Weights" in layer:
            weights = [_TYPES.get(layer["Weights"].get("Type", ""))]
        nodes = _NODE.findall(layer.get("Metadata", "")) or layer["Name"].split(" + ")
        layers.append(EngineLayer(layer["Name"], layer["LayerType"], tuple(nodes), _judge(inputs, weights)))
    return layers


def read_builder_log(lines: Iterable[str]) -> list[EngineLayer]:
    """Read the layers out of a builder's log at severity ``VERBOSE``."""
    layers = []
    for message in lines:
        for line in message.splitlines():
            if found := _LINE.match(line):
                inputs = [_TYPES.get(kind) for kind in _TENSOR_TYPE.findall(found["inputs"])]
                weights = [_TYPES.get(kind) for kind in _TENSOR_TYPE.findall(found["weights"])]
                nodes = tuple(_NODE.findall(found["metadata"]))
                layers.append(EngineLayer(found["name"], found["kind"], nodes, _judge(inputs, weights)))
    return layers


def find_fallbacks(layers: Iterable[EngineLayer], promised: Mapping[str, str]) -> list[str]:
    """Return where an engine computes wider than promised, one sentence a node; empty when it keeps every promise.

    Parameters
    ----------
    promised
        Precision by ONNX node (see `edgekit.graphs.tensorrt.list_precisions`).
    """
    claimed: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        for node in layer.nodes:
            claimed.setdefault(node, []).append(layer)
    faults = []
    for node, precision in promised.items():
        candidates = [layer for layer in claimed.get(node, []) if layer.precision]
        computing = [layer for layer in candidates if layer.kind not in POINTWISE] or candidates
        if not computing:
            faults.append(f"no layer of the engine says that it computes '{node}'")
            continue
        layer = min(computing, key=lambda layer: WIDTHS.index(layer.precision or "fp32"))
        if layer.precision and WIDTHS.index(layer.precision) > WIDTHS.index(precision):
            faults.append(f"'{node}' is computed in {layer.precision}, not {precision} (layer '{layer.name}', {layer.kind})")
    return faults


def _judge(inputs: list[str | None], weights: list[str | None]) -> str | None:
    """Return the precision of a layer: the wider of its data and its weights, each the narrowest of its tensors.

    8-bit weights beside float data are decompressed and multiplied as float. A residual that is added at the end, a bias and scales may be
    wider than what is multiplied.
    """
    sides = [min(known, key=WIDTHS.index) for tensors in (inputs, weights) if (known := [kind for kind in tensors if kind])]
    return max(sides, key=WIDTHS.index, default=None)


def _find_type(tensor: Mapping[str, Any]) -> str | None:
    """Return the precision in a tensor's ``Datatype`` or ``Format/Datatype``; None for integers and booleans."""
    text = next((str(tensor[key]) for key in ("Datatype", "DataType", "Format/Datatype", "Format") if key in tensor), "")
    found = _TYPE.search(text)
    return _TYPES[found[1]] if found else None
