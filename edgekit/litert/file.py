"""A LiteRT file being written: tensors, operators, and the names of inputs and outputs (TensorFlow's ``schema.fbs``, version 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.formats.litert import import_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"
VERSIONS = {"BROADCAST_TO": 2}
"""Versions of operators whose kernels do not know the first; every other kernel finds out from its tensors what is asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """How integers stand for numbers: ``scales * (code - zero)``.

    Attributes
    ----------
    scales
        float32 (1,), or (C,) with a scale for each place along `axis`.
    zero
        The code of zero.
    axis
        Of the tensor as it is stored; 0 where there is one scale.
    """

    scales: NDArray[np.float32]
    zero: int = 0
    axis: int = 0

    def equals(self, other: Steps | None) -> bool:
        """Tell whether the same codes stand for the same numbers."""
        return other is not None and self.zero == other.zero and self.axis == other.axis and np.array_equal(self.scales, other.scales)


class LiteRtFile:
    """Tensors and operators of one graph, in the order in which they are added."""

    def __init__(self) -> None:
        self._schema: Any = import_schema()
        self._codes: dict[str, int] = {}
        self._graph = self._schema.SubGraphT()
        self._graph.tensors, self._graph.operators, self._graph.name = [], [], "main"
        self._buffers = [self._schema.BufferT()]
        types = self._schema.TensorType
        self.types = {"float32": types.FLOAT32, "int32": types.INT32, "uint8": types.UINT8, "int8": types.INT8, "bool": types.BOOL}

    def add_tensor(self, name: str, shape: Sequence[int], dtype: str, steps: Steps | None = None, value: NDArray[Any] | None = None) -> int:
        """Add a tensor, a constant where it has a `value`, and return its number.

        Parameters
        ----------
        dtype
            ``float32``, ``int32``, ``int8``, ``uint8`` or ``bool``.
        """
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, np.int32), self.types[dtype], 0
        if steps is not None:
            tensor.quantization = self._schema.QuantizationParametersT()
            tensor.quantization.scale = steps.scales
            tensor.quantization.zeroPoint = np.full(len(steps.scales), steps.zero, np.int64)
            tensor.quantization.quantizedDimension = steps.axis
        if value is not None:
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def add(self, operator: str, inputs: Sequence[int], outputs: Sequence[int], options: str | None = None, **values: Any) -> None:
        """Add an operator.

        Parameters
        ----------
        operator
            As ``BuiltinOperator`` has it: ``CONV_2D``.
        inputs, outputs
            Numbers of tensors; -1 leaves out an optional input.
        options
            The table of its options, ``Conv2DOptions``, whose fields are `values`.
        """
        node = self._schema.OperatorT()
        node.opcodeIndex = self._codes.setdefault(operator, len(self._codes))
        node.inputs, node.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            node.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            node.builtinOptions = getattr(self._schema, f"{options}T")()
            for name, value in values.items():
                assert hasattr(node.builtinOptions, name), (options, name)
                setattr(node.builtinOptions, name, value)
        self._graph.operators.append(node)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
        """Return the file.

        Parameters
        ----------
        inputs, outputs
            The numbers of the graph's tensors by name.
        metadata
            What a person who opens the file should know.
        """
        import flatbuffers

        schema = self._schema
        self._graph.inputs, self._graph.outputs = (np.array(list(each.values()), np.int32) for each in (inputs, outputs))
        model = schema.ModelT()
        model.version, model.description, model.subgraphs = SCHEMA_VERSION, "edgekit", [self._graph]
        model.operatorCodes = [self._describe_code(operator) for operator in self._codes]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs, signature.outputs = ([self._map(*pair) for pair in each.items()] for each in (inputs, outputs))
        model.signatureDefs, model.metadata = [signature], []
        for name, text in metadata.items():
            entry, buffer = schema.MetadataT(), schema.BufferT()
            entry.name, entry.buffer = name, len(self._buffers)
            buffer.data = np.frombuffer(text.encode(), np.uint8)
            self._buffers.append(buffer)
            model.metadata.append(entry)
        model.buffers = self._buffers
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _describe_code(self, operator: str) -> Any:
        described, code = self._schema.OperatorCodeT(), getattr(self._schema.BuiltinOperator, operator)
        described.builtinCode, described.deprecatedBuiltinCode = code, min(code, 127)
        described.version = VERSIONS.get(operator, 1)
        return described

    def _map(self, name: str, tensor: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor
        return entry
