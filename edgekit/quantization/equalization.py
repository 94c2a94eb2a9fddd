"""Channels brought to one range, so that the 8 bits that a tensor's channels share tell all of them apart.

A tensor has one scale, and its largest channel decides it: where others are thirty times smaller, five of their eight bits are lost. A
convolution may write a channel so many times larger if whatever reads it multiplies by so many times less; between the two are only
operators that let a positive factor through (Nagel et al. 2019, *Data-free quantization through weight equalization and bias correction*,
section 4.1). What an activation gains the readers' weights lose, so channels are brought half the way (Xiao et al. 2023, *SmoothQuant*,
equation 4, with its strength of 0.5). It costs nothing where the file runs.

SiLU, x times sigmoid(x), lets no factor through, but it does when the sigmoid is given what x was: one Mul by a constant before it. What a
squeeze-and-excitation gates may get factors of its own, since its gate has one value a channel. Without, EfficientNet-B0 loses most of
its answers in 8 bits: before and behind its activations the largest channel is up to 125 times the median one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.quantization.placement import count_groups
from edgekit.quantization.running import run_patients
from edgekit.quantization.silu import LOWEST, find_silus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from edgekit.types import Tensors

PASSING = ("Relu", "Clip", "MaxPool", "Resize")
"""Operators that give a channel times a positive factor when they are given one; Clip does if its bounds are out of reach."""

STRENGTH = 0.5
"""How far channels are brought together, as an exponent: 0 leaves them, 1 gives all of them the range of the largest. It is 1 where only
depthwise convolutions read what a SiLU makes: they have a scale for each channel, so that their weights lose nothing."""

LARGEST = 64.0
"""Largest factor: a channel that hardly shows on the calibration films may show on others."""


@dataclass(frozen=True, slots=True, eq=False)
class _Channels:
    """Which channels must have the same factor.

    Attributes
    ----------
    of
        Class of each channel, (C,), by tensor.
    fixed
        bool by class: read by something that a factor would change.
    ceiling
        float by class: the bound of the Clip that makes it, infinite where there is none.
    free
        bool by class: it goes through a SiLU, and no convolution reads it that adds up channels.
    gates
        Sigmoids that must be given what their input was, by their output: the rest of a SiLU, or the gate of an excitation.
    gated
        Products of a film and a gate of one value a channel, by their output: film and gate. They have classes of their own.
    """

    of: dict[str, NDArray[np.intp]]
    fixed: NDArray[np.bool_]
    ceiling: NDArray[np.float64]
    free: NDArray[np.bool_]
    gates: dict[str, str]
    gated: dict[str, tuple[str, str]]


def equalize(model: Any, nodes: set[str], calibration: Sequence[Tensors]) -> Any:
    """Return a copy of `model` that computes the same with the ranges of its channels brought together.

    The same but for rounding of float32, and for what exceeds, on other films, the range that the calibration films showed: a channel
    that a Clip bounds from above is brought up to that bound.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32.
    nodes
        Names of the nodes that are to be 8-bit; no other is touched.
    calibration
        The graph's inputs of each patient.
    """
    from onnx import numpy_helper

    equalized = copy.deepcopy(model)
    constants = {tensor.name: tensor for tensor in equalized.graph.initializer}
    chosen = [node for node in equalized.graph.node if node.name in nodes]
    channels = _trace(equalized, chosen)
    tensors = _find_quantized(chosen, channels)
    factors = _find_factors(channels, _observe_channels(equalized, tensors, calibration))
    for node in {node.input[1]: node for node in chosen if node.op_type == "Conv"}.values():
        read, written = (factors[channels.of[name]] for name in (node.input[0], node.output[0]))
        weights = numpy_helper.to_array(constants[node.input[1]])
        grouped = weights.reshape(count_groups(node), -1, *weights.shape[1:]) / read.reshape(count_groups(node), 1, -1, 1, 1)
        scaled = [grouped.reshape(weights.shape) * written.reshape(-1, 1, 1, 1)]
        scaled += [numpy_helper.to_array(constants[name]) * written for name in node.input[2:3]]
        for name, value in zip(node.input[1:], scaled, strict=True):
            constants[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    for gate, film in channels.gates.items():
        _multiply(equalized, gate, film, 1 / factors[channels.of[film]])
    for product, (film, gate) in channels.gated.items():
        _multiply(equalized, product, gate, factors[channels.of[product]] / factors[channels.of[film]])
    return equalized


def _multiply(model: Any, output: str, read: str, by: NDArray[np.float64]) -> None:
    """Let the node that makes `output` read its input `read` times one number a channel, (C,)."""
    from onnx import helper, numpy_helper

    if (by == 1).all():
        return
    place, node = next((place, node) for place, node in enumerate(model.graph.node) if output in node.output)
    name = f"{output}.factors"
    model.graph.initializer.append(numpy_helper.from_array(by.astype(np.float32).reshape(1, -1, 1, 1), name))
    model.graph.node.insert(place, helper.make_node("Mul", [read, name], [f"{output}.equal"], name=f"{node.name}.equal"))
    node.input[list(node.input).index(read)] = f"{output}.equal"


def _trace(model: Any, chosen: Sequence[Any]) -> _Channels:
    """Follow channels from the convolutions that write them to those that read them."""
    import onnx
    from onnx import numpy_helper

    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {node.name for node in chosen}
    numbers: dict[str, list[int]] = {}
    same: list[tuple[int, int]] = []
    users: dict[str, tuple[list[int], ...]] = {}
    fixed: set[int] = set()
    ceilings: dict[int, float] = {}
    gates: dict[str, str] = {}
    gated: dict[str, tuple[str, str]] = {}
    activated: set[int] = set()
    added: set[int] = set()
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    count = 0

    def number(tensor: str) -> list[int]:
        nonlocal count
        size = shapes[tensor][1]
        numbers[tensor] = list(range(count, count + size))
        count += size
        return numbers[tensor]

    def known(tensor: str) -> list[int]:
        if tensor not in numbers:  # made by something else
            fixed.update(number(tensor))
        return numbers[tensor]

    for node in model.graph.node:
        films = [name for name in node.input if name in numbers]
        if node.op_type == "Sigmoid" and films and readers.get(node.output[0]) == {"Mul"}:
            gates[node.output[0]] = films[0]
        elif node.op_type == "Mul" and len(films) == 1 and (gate := next((name for name in node.input if name in gates), "")):
            if shapes[gate][2:] == [1, 1] != shapes[films[0]][2:]:
                gated[node.output[0]] = films[0], gate
                number(node.output[0])
            else:
                numbers[node.output[0]] = numbers[films[0]]
                activated.update(numbers[films[0]])
        elif node.op_type == "ReduceMean" and films and _is_pooling(node, constants):
            numbers[node.output[0]] = numbers[films[0]]
        elif node.name not in names:
            fixed.update(each for name in node.input for each in numbers.get(name, ()))
        elif node.op_type == "Conv":
            ends = known(node.input[0]), number(node.output[0])
            if count_groups(node) == 1:
                added.update(ends[0])
            for name, sides in ((node.input[1], ends), *((bias, ends[1:]) for bias in node.input[2:3])):
                for mine, other in zip(sides, users.setdefault(name, sides), strict=True):  # one network over two films
                    same += zip(mine, other, strict=True)
        elif node.op_type in PASSING:
            numbers[node.output[0]] = known(node.input[0])
            if node.op_type == "Clip":
                low, high = (float(numpy_helper.to_array(constants[name])) for name in node.input[1:3])
                ceilings.update(dict.fromkeys(known(node.input[0]), high))
                if low:
                    fixed.update(known(node.input[0]))
        elif node.op_type == "Add":
            same += zip(known(node.input[0]), known(node.input[1]), strict=True)
            numbers[node.output[0]] = known(node.input[0])
        else:
            numbers[node.output[0]] = [each for name in node.input for each in known(name)]
    fixed.update(each for output in model.graph.output for each in numbers.get(output.name, ()))
    classes = _join(count, same)
    ceiling = np.full(count, np.inf)
    is_fixed, is_activated, is_added = (np.isin(np.arange(count), classes[list(each)]) for each in (fixed, activated, added))
    for each, high in ceilings.items():
        ceiling[classes[each]] = min(ceiling[classes[each]], high)
    return _Channels({name: classes[each] for name, each in numbers.items()}, is_fixed, ceiling, is_activated & ~is_added, gates, gated)


def _is_pooling(node: Any, constants: dict[str, Any]) -> bool:
    """Tell whether a ReduceMean leaves one value a channel, in a film's shape."""
    from onnx import numpy_helper

    keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
    axes = numpy_helper.to_array(constants[node.input[1]]).tolist() if len(node.input) > 1 else []
    return bool(keeps) and sorted(axis % 4 for axis in axes) == [2, 3]


def _join(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """Return the class of each of `count` things of which `pairs` belong together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(pairs), np.intp).reshape(-1, 2)
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.intp)


def _find_quantized(chosen: Sequence[Any], channels: _Channels) -> list[str]:
    """Return the tensors that 8 bits hold: what is read and written, but for what goes into an activation function and nowhere else."""
    readers: dict[str, list[str]] = {}
    for node in chosen:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    written = [node.output[0] for node in chosen if node.op_type != "Conv" or set(readers.get(node.output[0], ["none"])) - {"Relu", "Clip"}]
    made = {name for node in chosen for name in node.output}
    return [*written, *(name for name in readers if name in channels.of and name not in made)]


def _observe_channels(model: Any, tensors: Sequence[str], calibration: Sequence[Tensors]) -> dict[str, NDArray[np.float64]]:
    """Return the largest absolute value of each channel on the calibration films, float64 (C,), by tensor.

    What goes into a SiLU counts from `LOWEST`.
    """
    from onnx import TensorProto, helper, numpy_helper

    probe = copy.deepcopy(model)
    probe.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3], np.int64), "equalized.axes"))
    probe.graph.initializer.append(numpy_helper.from_array(np.float32(LOWEST), "equalized.lowest"))
    wanted = [f"{name}.reach" for name in tensors]
    through = find_silus(model)
    for name, output in zip(tensors, wanted, strict=True):
        bounded = f"{name}.bounded" if name in through else name
        if name in through:
            probe.graph.node.append(helper.make_node("Max", [name, "equalized.lowest"], [bounded]))
        probe.graph.node.append(helper.make_node("Abs", [bounded], [f"{name}.absolute"]))
        probe.graph.node.append(helper.make_node("ReduceMax", [f"{name}.absolute", "equalized.axes"], [output], keepdims=0))
        probe.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    rows = run_patients(probe, wanted, calibration, "Observing the channels")
    return {name: np.max([row[place] for row in rows], axis=0).astype(np.float64) for place, name in enumerate(tensors)}


def _find_factors(channels: _Channels, seen: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the factor of each class: how far below the largest of those that share a scale with it it stays."""
    reach = np.zeros(len(channels.fixed))
    for name, largest in seen.items():
        np.maximum.at(reach, channels.of[name], largest)
    group = _join(len(reach), ((a, b) for name in seen for a, b in pairwise(channels.of[name].tolist())))
    top = np.zeros(len(reach))
    np.maximum.at(top, group, reach)
    shown = np.maximum(reach, np.finfo(np.float32).tiny)
    factors = np.minimum((top[group] / shown) ** np.where(channels.free, 1.0, STRENGTH), LARGEST)
    factors = np.minimum(factors, np.maximum(channels.ceiling / shown, 1.0))  # a channel that is clipped can't be made larger
    return np.where(channels.fixed | (reach == 0), 1.0, factors)
