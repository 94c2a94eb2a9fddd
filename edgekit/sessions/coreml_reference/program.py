"""An ML Program evaluated operator by operator with torch on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.errors import EdgekitError, InputError
from edgekit.formats.mlpackage import Blobs, read_specification
from edgekit.sessions.coreml_reference.binding import WITHOUT_EFFECT, find_conversion, read_parameters, to_torch
from edgekit.sessions.coreml_reference.operators import EXACT, OPERATORS, compressed
from edgekit.sessions.coreml_reference.values import TORCH_TYPES, name_type, read_shape, read_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgekit.types import Tensors as Arrays

    Tensors = tuple[Any, ...]
    Values = dict[str, Any]
    """What is known while a program runs, by name."""

FLOATS = ("float16", "float32", "float64", "bfloat16")
ARRAY_TYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}
"""``FeatureTypes.proto``: ArrayDataType to numpy."""


@dataclass(frozen=True, slots=True)
class Output:
    """One result of an operator, as the program declares it.

    Attributes
    ----------
    dtype
        torch's; None for what is not a tensor.
    shape
        -1 where a side is known only at run time.
    rounded
        Whether the result is rounded to float16.
    """

    name: str
    dtype: torch.dtype | None
    shape: tuple[int, ...]
    rounded: bool

    def settle(self, value: Any) -> Any:
        """Give a result its declared type: converted, rounded to float16, its shape checked."""
        if self.dtype is None:
            return value
        if value.dtype is not self.dtype:
            value = value.to(self.dtype)
        if self.rounded:
            value = value.half().float()
        if len(value.shape) != len(self.shape) or any(side not in (-1, found) for side, found in zip(self.shape, value.shape, strict=True)):
            raise InputError(f"its result has the shape {tuple(value.shape)}, the program declares {self.shape}")
        return value


@dataclass(frozen=True, slots=True)
class Step:
    """One operator, ready to run.

    Attributes
    ----------
    label
        Type and name, for messages.
    function
        Takes `fixed` and the arguments by keyword.
    fixed
        Arguments known when the program is opened.
    arguments
        Parameter, the value's name (or names), conversion.
    outputs
        What it gives.
    used_up
        Values that no later operator needs.
    """

    label: str
    function: Callable[..., Any]
    fixed: dict[str, Any]
    arguments: tuple[tuple[str, str | tuple[str, ...], Callable[[Any], Any] | None], ...]
    outputs: tuple[Output, ...]
    used_up: list[str]

    def run(self, values: Values) -> None:
        """Compute the operator and put its results into `values`.

        Raises
        ------
        InputError
            It can't be computed; the message says where.
        """
        try:
            arguments = dict(self.fixed)
            for parameter, name, convert in self.arguments:
                value = values[name] if isinstance(name, str) else tuple(values[each] for each in name)
                arguments[parameter] = value if convert is None else convert(value)
            result = self.function(**arguments)
            results = result if isinstance(result, tuple | list) else (result,)
            for output, value in zip(self.outputs, results, strict=True):
                values[output.name] = output.settle(value)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, EdgekitError) as error:
            raise InputError(f"operator {self.label} can't be computed: {error}", "report this, with the model") from error
        for name in self.used_up:
            del values[name]


@dataclass(frozen=True, slots=True)
class _Block:
    """A nested block: the names that it is given, its steps, and the names of its results."""

    inputs: list[str]
    steps: list[Step]
    results: list[str]

    def read_names(self) -> set[str]:
        """Names of all the values that it reads, its own included."""
        names = set(self.results)
        for step in self.steps:
            for _, given, _ in step.arguments:
                names |= {given} if isinstance(given, str) else set(given)
        return names


class Program:
    """A saved ML Program that answers.

    Floating values are computed in float32. What the program declares as float16 is rounded to it after every operator, so
    that a result has float16's steps and range; the sums inside an operator are those of float32, and a device's own may differ.

    Parameters
    ----------
    package
        The ``.mlpackage``.
    half
        None rounds what the program declares as float16; False rounds nothing; True rounds every floating value.

    Raises
    ------
    InputError
        The package is damaged, or has an operator that is not known: the message names it and where it is.
    """

    def __init__(self, package: Path, half: bool | None = None) -> None:
        specification, folder = read_specification(package)
        description = specification.description
        name = description.defaultFunctionName or "main"
        function = specification.mlProgram.functions[name]
        if description.functions:  # several functions in one file (iOS 18)
            description = next(each for each in description.functions if each.name == name)
        block = function.block_specializations[function.opset]
        self.opset: str = function.opset
        self._half = half
        self._blobs = Blobs(folder)
        self._constants: Values = {}
        self._inputs = [self._declare(each, exact=False) for each in function.inputs]
        self._steps = self._compile(block)
        self._result_names: list[str] = list(block.outputs)
        self._dtypes = {feature.name: _feature_dtype(feature) for feature in description.output}
        self._release()

    def __call__(self, inputs: Arrays) -> Arrays:
        """Answer.

        Parameters
        ----------
        inputs
            By name, in the program's shapes. An image is an array (1, channels, height, width) of 0 to 255, uint8 or floating, channels in
            the order that the model declares.

        Returns
        -------
        The outputs by name, in the types that the model's description gives them.

        Raises
        ------
        InputError
            An input is missing, unknown or has another shape, or an operator can't be computed.
        """
        expected = {each.name: each for each in self._inputs}
        if set(inputs) != set(expected):
            raise InputError(f"the model takes the inputs {', '.join(expected)}, got {', '.join(inputs) or 'none'}")
        with torch.inference_mode():
            values = dict(self._constants)
            for name, given in inputs.items():
                try:
                    values[name] = expected[name].settle(torch.from_numpy(np.array(given)))
                except InputError:
                    shape = expected[name].shape
                    raise InputError(f"input '{name}' has the shape {given.shape}, the model takes {shape}") from None
            for step in self._steps:
                step.run(values)
            return {name: self._to_numpy(name, values[name]) for name in self._result_names}

    def _to_numpy(self, name: str, value: Any) -> Any:
        array = value.numpy() if isinstance(value, torch.Tensor) else np.array(value)
        dtype = self._dtypes.get(name)
        return array.copy() if dtype is None else array.astype(dtype)

    def _declare(self, value: Any, exact: bool) -> Output:
        """Read a ``MIL_pb2.NamedValueType``; `exact` says that its operator only moves or chooses values."""
        dtype = name_type(value.type)
        if dtype not in TORCH_TYPES:
            return Output(value.name, None, (), rounded=False)
        half = dtype == "float16" if self._half is None else dtype in FLOATS and self._half
        return Output(value.name, getattr(torch, TORCH_TYPES[dtype]), read_shape(value.type), half and not exact)

    def _compile(self, block: Any) -> list[Step]:
        """Make the steps of a block; what depends on constants alone is computed here and now."""
        steps = []
        for operation in block.operations:
            if operation.type == "const":
                (declared,) = operation.outputs
                constant = to_torch(read_value(operation.attributes["val"], self._blobs))
                self._constants[declared.name] = self._settle_constant(declared, constant)
                continue
            step = self._compile_operation(operation)
            if step.arguments:
                steps.append(step)
            else:
                step.run(self._constants)
        return steps

    def _settle_constant(self, declared: Any, constant: Any) -> Any:
        return self._declare(declared, exact=False).settle(constant) if isinstance(constant, torch.Tensor) else constant

    def _compile_operation(self, operation: Any) -> Step:
        kind = operation.type
        name = read_value(operation.attributes["name"], self._blobs) if "name" in operation.attributes else operation.outputs[0].name
        label = f"{kind} '{name}'"
        outputs = tuple(self._declare(each, exact=kind in EXACT) for each in operation.outputs)
        if kind in compressed.OPERATORS:
            return Step(label, self._decompress(operation), {}, (), outputs, [])
        arguments: list[tuple[str, str | tuple[str, ...], Callable[[Any], Any] | None]] = []
        fixed: dict[str, Any] = {}
        if kind in ("cond", "while_loop"):
            function, around = self._compile_control(operation)
            arguments.append(("outer", around, None))
        elif kind in OPERATORS:
            function = OPERATORS[kind]
        else:
            raise InputError(
                f"operator {label} is not known: this program can't be evaluated", "report this, with the model; or judge it on a Mac"
            )
        for parameter, argument in operation.inputs.items():
            if parameter in WITHOUT_EFFECT and parameter not in read_parameters(function):
                continue
            try:
                convert = find_conversion(function, parameter)
            except InputError as error:
                raise InputError(f"operator {label}: {error.message}", error.remedy) from error
            bindings = [
                each.name if each.WhichOneof("binding") == "name" else to_torch(read_value(each.value, self._blobs))
                for each in argument.arguments
            ]
            known = all(not isinstance(each, str) or each in self._constants for each in bindings)
            if known:
                given = tuple(self._constants[each] if isinstance(each, str) else each for each in bindings)
                value = given[0] if len(given) == 1 else given
                fixed[parameter] = value if convert is None else convert(value)
            else:
                names = tuple(self._name_binding(each, label) for each in bindings)
                arguments.append((parameter, names[0] if len(names) == 1 else names, convert))
        return Step(label, function, fixed, tuple(arguments), outputs, [])

    def _name_binding(self, binding: Any, label: str) -> str:
        """Return the name of a value; a constant that is written in place gets one."""
        if isinstance(binding, str):
            return binding
        name = f"{label}/{len(self._constants)}"
        self._constants[name] = binding
        return name

    def _decompress(self, operation: Any) -> Callable[[], Any]:
        """Return what gives the value of a compressed constant. Its arguments are attributes (iOS 16) or inputs (iOS 18)."""
        arguments: dict[str, Any] = {}
        for parameter, value in operation.attributes.items():
            if parameter != "name":
                arguments[parameter] = read_value(value, self._blobs)
        for parameter, argument in operation.inputs.items():
            (binding,) = argument.arguments
            if binding.WhichOneof("binding") == "value":
                arguments[parameter] = read_value(binding.value, self._blobs)
            else:
                value = self._constants[binding.name]
                arguments[parameter] = value.numpy() if isinstance(value, torch.Tensor) else value
        decompress = compressed.OPERATORS[operation.type]
        return lambda: to_torch(decompress(**arguments))

    def _compile_control(self, operation: Any) -> tuple[Callable[..., Any], tuple[str, ...]]:
        """Return the function of a ``cond`` or a ``while_loop``, and the names of the values around it that its blocks read."""
        bodies = [_Block([each.name for each in block.inputs], self._compile(block), list(block.outputs)) for block in operation.blocks]
        made = {name for body in bodies for name in (*body.inputs, *(each.name for step in body.steps for each in step.outputs))}
        read = {name for body in bodies for name in body.read_names()}
        around = tuple(sorted(read - made - set(self._constants)))

        def run_block(body: _Block, given: Tensors, outer: Tensors) -> Tensors:
            values = {**self._constants, **dict(zip(around, outer, strict=True)), **dict(zip(body.inputs, given, strict=True))}
            for step in body.steps:
                step.run(values)
            return tuple(values[name] for name in body.results)

        def branch(pred: bool, outer: Tensors) -> Tensors:
            return run_block(bodies[0 if pred else 1], (), outer)

        def loop(loop_vars: Tensors, outer: Tensors) -> Tensors:
            while bool(run_block(bodies[0], loop_vars, outer)[0]):
                loop_vars = run_block(bodies[1], loop_vars, outer)
            return loop_vars

        return (branch if operation.type == "cond" else loop), around

    def _release(self) -> None:
        """Note with each step what no later one needs."""
        kept = {*self._constants, *self._result_names}
        for step in reversed(self._steps):
            for _, names, _ in step.arguments:
                for name in (names,) if isinstance(names, str) else names:
                    if name not in kept:
                        kept.add(name)
                        step.used_up.append(name)
            for output in step.outputs:
                if output.name not in kept:
                    step.used_up.append(output.name)


def _feature_dtype(feature: Any) -> str | None:
    """Return numpy's type of an output; None for what is not an array."""
    kind = feature.type.WhichOneof("Type")
    return ARRAY_TYPES[feature.type.multiArrayType.dataType] if kind == "multiArrayType" else None
