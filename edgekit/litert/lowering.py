"""The walk from an ONNX graph to a LiteRT file: where each tensor is, in which order its axes lie, and what its codes stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.litert.file import LiteRtFile, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

LAST = (0, 2, 3, 1)
"""Axes of a feature map as LiteRT's kernels read it, channels last."""
FIRST = (0, 3, 1, 2)


def refuse(node: Any, why: str = "") -> InputError:
    """Return the error about a node that can't be written; `why` says what of it, where that is not its type."""
    module, _, call = node.name.rpartition("/")
    what = f"{node.op_type} with {why}" if why else node.op_type
    return InputError(
        f"LiteRT: the operator {what} can't be written; it is {call!r} of {module or 'the pipeline'}",
        "choose a variant in ONNX, or train another architecture",
    )


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file.

    Attributes
    ----------
    number
        Its number there.
    shape
        As it is stored.
    dtype
        ``float32``, ``int32``, ``int8``, ``uint8`` or ``bool``.
    steps
        What its codes stand for; None where they are numbers.
    """

    number: int
    shape: tuple[int, ...]
    dtype: str
    steps: Steps | None = None


class Lowering:
    """A graph on its way.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` with static shapes, in float32 or in the Q/DQ form of `edgekit.quantization.placement`.
    """

    def __init__(self, model: Any) -> None:
        import onnx
        from onnx import helper, numpy_helper

        self.file = LiteRtFile()
        self.graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        values = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        self.shapes = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}
        kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        self.dtypes = {name: _narrow(helper.tensor_dtype_to_np_dtype(kind)) for name, kind in kinds.items()}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.results = {value.name for value in self.graph.output}
        self.done: set[str] = set()
        self._stored: dict[tuple[str, bool], Tensor] = {}
        self._axes: dict[tuple[int, ...], int] = {}

    def run(self, lower: Mapping[str, Callable[[Lowering, Any], None]], metadata: Mapping[str, str]) -> bytes:
        """Lower every node by the function of its type, and return the file.

        Raises
        ------
        InputError
            There is no function for a node's type.
        """
        inputs = {}
        for value in self.graph.input:
            inputs[value.name] = self.write(value.name, last=False, steps=self.find_steps(value.name)).number
        for node in self.graph.node:
            if node.output[0] in self.done:
                continue
            if node.op_type not in lower:
                raise refuse(node)
            lower[node.op_type](self, node)
        outputs = {value.name: self.read(value.name).number for value in self.graph.output}
        return self.file.finish(inputs, outputs, metadata)

    def only_reader(self, name: str) -> Any:
        """Return the one node that reads a tensor; None where there are several, or where it is a result of the graph."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.results else None

    def codes_of(self, name: str) -> tuple[str, Steps] | None:
        """Return the tensor of codes that a float tensor is read from, and what they stand for; None where it is computed."""
        node = self.makers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        return node.input[0], self.steps(node)

    def steps(self, node: Any) -> Steps:
        """Return the steps of a QuantizeLinear or a DequantizeLinear."""
        scale = np.atleast_1d(self.constants[node.input[1]]).astype(np.float32)
        zeros = self.constants[node.input[2]] if len(node.input) > 2 else np.int8(0)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        return Steps(scale, int(np.ravel(zeros)[0]), axis if len(scale) > 1 else 0)

    def find_steps(self, name: str) -> Steps | None:
        """Return what the codes in a tensor of integers stand for: as its maker says, or a reader, through what only moves them."""
        if self.dtypes.get(name) not in ("uint8", "int8"):
            return None
        made = self.makers.get(name)
        if made is not None and made.op_type == "QuantizeLinear":
            return self.steps(made)
        for reader in self.readers.get(name, []):
            found = self.steps(reader) if reader.op_type == "DequantizeLinear" else self.find_steps(reader.output[0])
            if found is not None:
                return found
        return None

    def is_last(self, name: str) -> bool:
        """Tell whether a tensor is stored channels last, and in no other order."""
        codes = self.codes_of(name)
        if codes is not None and (name, False) not in self._stored:
            name = name if (name, True) in self._stored else codes[0]
        return (name, True) in self._stored and (name, False) not in self._stored

    def take(self, name: str, steps: Steps | None, last: bool) -> Tensor:
        """Return codes where what is made of them is rounded to `steps`, else numbers."""
        return self.read(name, last) if steps is None else self.find_codes(name, last)

    def read(self, name: str, last: bool = False) -> Tensor:
        """Return a tensor in the order asked for, as numbers; what that takes is written once."""
        if (name, last) in self._stored:
            return self._stored[name, last]
        if name in self.constants:
            return self._store_constant(name, last)
        if (codes := self.codes_of(name)) is not None and (name, not last) not in self._stored:
            return self._dequantize(name, *codes, last)
        there = self._stored[name, not last]
        moved = self.move(there, f"{name}.{'last' if last else 'first'}", LAST if last else FIRST)
        self._stored[name, last] = moved
        return moved

    def move(self, tensor: Tensor, name: str, order: Sequence[int]) -> Tensor:
        """Add a tensor with the axes of another in another order: the same bytes where only axes of one change their place."""
        shape = tuple(tensor.shape[axis] for axis in order)
        long = [axis for axis in order if tensor.shape[axis] > 1]
        moved = self.add_tensor(name, shape, tensor.dtype, tensor.steps)
        if long == sorted(long):
            self.reshape(tensor, moved)
        else:
            self.file.add("TRANSPOSE", [tensor.number, self.axes(order)], [moved.number], "TransposeOptions")
        return moved

    def reshape(self, tensor: Tensor, made: Tensor) -> None:
        """Let one tensor be the bytes of another in another shape, or with other steps."""
        self.file.add("RESHAPE", [tensor.number, self.axes(made.shape)], [made.number], "ReshapeOptions", newShape=list(made.shape))

    def write(self, name: str, last: bool, steps: Steps | None = None, dtype: str | None = None) -> Tensor:
        """Declare the output of a node."""
        shape = self.shapes[name]
        stored = tuple(shape[axis] for axis in LAST) if last else shape
        self._stored[name, last] = self.add_tensor(name, stored, dtype or self.dtypes[name], steps)
        self.done.add(name)
        return self._stored[name, last]

    def alias(self, name: str, other: str) -> None:
        """Let one name stand for the tensor of another."""
        for last in (False, True):
            if (other, last) in self._stored:
                self._stored[name, last] = self._stored[other, last]
        self.done.add(name)

    def add_tensor(self, name: str, shape: tuple[int, ...], dtype: str, steps: Steps | None = None) -> Tensor:
        """Add a tensor that is computed."""
        return Tensor(self.file.add_tensor(name, shape, dtype, steps), shape, dtype, steps)

    def add_constant(self, name: str, value: NDArray[Any], steps: Steps | None = None) -> Tensor:
        """Add a constant of a type that a file has."""
        return Tensor(self.file.add_tensor(name, value.shape, value.dtype.name, steps, value), value.shape, value.dtype.name, steps)

    def axes(self, values: Sequence[int]) -> int:
        """Return the number of a constant with some whole numbers, such as a shape; equal ones are one."""
        key = tuple(int(value) for value in values)
        if key not in self._axes:
            self._axes[key] = self.add_constant(f"axes{list(key)}", np.array(key, np.int32)).number
        return self._axes[key]

    def find_codes(self, name: str, last: bool) -> Tensor:
        """Return the codes of a float tensor that is read from codes, in the order asked for."""
        codes = self.codes_of(name)
        assert codes is not None
        tensor, steps = self.read(codes[0], last), codes[1]
        if tensor.steps is None or not tensor.steps.equals(steps):  # the same bytes stand for other numbers here
            known = self._stored.get((f"{name}.codes", last))
            if known is None:
                known = self.add_tensor(f"{name}.codes", tensor.shape, tensor.dtype, steps)
                self.reshape(tensor, known)
                self._stored[f"{name}.codes", last] = known
            return known
        return tensor

    def _dequantize(self, name: str, codes: str, steps: Steps, last: bool) -> Tensor:
        if codes in self.constants:
            self.constants[name] = _widen(self.constants[codes], steps)
            return self._store_constant(name, last)
        is_last = self.is_last(codes)
        read = self.find_codes(name, is_last)
        self._stored[name, is_last] = self.add_tensor(name, read.shape, "float32")
        self.file.add("DEQUANTIZE", [read.number], [self._stored[name, is_last].number], "DequantizeOptions")
        return self.read(name, last)

    def _store_constant(self, name: str, last: bool) -> Tensor:
        value = self.constants[name]
        if last and value.size > 1:
            value = value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(LAST)
        self._stored[name, last] = self.add_constant(f"{name}.last" if last else name, value.astype(_narrow(value.dtype)))
        return self._stored[name, last]


def _narrow(dtype: np.dtype[Any]) -> str:
    """Return the type that a file has for one of a graph: whole numbers have 32 bits there, and none of ours needs more."""
    return "int32" if dtype.name == "int64" else dtype.name


def _widen(codes: NDArray[Any], steps: Steps) -> NDArray[np.float32]:
    shape = [1] * codes.ndim
    if len(steps.scales) > 1:
        shape[steps.axis] = -1
    return ((codes.astype(np.float32) - steps.zero) * steps.scales.reshape(shape)).astype(np.float32)
