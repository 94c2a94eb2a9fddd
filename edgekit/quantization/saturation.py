"""Sums of products that 16 bits hold: a file whose answers don't depend on how a processor multiplies bytes.

x86 without VNNI multiplies unsigned by signed bytes with ``vpmaddubsw``, which adds the products of two neighbours in 16 bits and
saturates (Intel SDM, volume 2, *PMADDUBSW*): 255 x 127 twice is twice what fits. onnxruntime and OpenVINO use it for convolutions and
matrix products on every processor with AVX2 or AVX-512 and without VNNI. ARM without dot products takes 128 from unsigned bytes and adds
two products in 16 bits too, where 128 x 128 twice is one more than fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMIT = 2**15 - 1
REACH = {"uint8": 255, "int8": 128}
"""Largest code of an activation, by its type."""

PAIR_SUM = {kind: LIMIT // reach for kind, reach in REACH.items()}
"""Largest sum of the steps of two neighbouring weights, by the type of the activations."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """What the weights and types of a graph allow to be added in 16 bits.

    Attributes
    ----------
    layers
        Number of convolutions and matrix products in 8 bits.
    can_overflow
        Names of those with a sum beyond `limit`.
    largest_pair_sum
        The largest sum of two neighbouring products, whatever the film and the processor; one below zero counts as what is left when one is
        taken away, since 16 bits hold one more there.
    limit
        What 16 bits hold.
    """

    layers: int
    can_overflow: tuple[str, ...]
    largest_pair_sum: int
    limit: int = LIMIT


def find_neighbours(shape: tuple[int, ...]) -> list[NDArray[np.intp]]:
    """Return which weights of a kernel stand beside each other where a processor adds products in pairs.

    Neighbours in the order of memory: channels last, as onnxruntime and OpenVINO read them, and channels first. Whether a kernel takes
    even or odd places for the first of a pair is left open.

    Parameters
    ----------
    shape
        (O, C, h, w), the shape of the weights.

    Returns
    -------
    For each of the C h w weights of an output channel, in their own order, the places of its neighbours there.
    """
    places = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
    beside: list[set[int]] = [set() for _ in range(places.size)]
    for ordered in (places.ravel(), places.transpose(1, 2, 0).ravel()):
        for first, second in pairwise(ordered.tolist()):
            beside[first].add(second)
            beside[second].add(first)
    return [np.array(sorted(each), np.intp) for each in beside]


def sum_neighbours(weights: NDArray[Any]) -> NDArray[Any]:
    """Return the largest absolute sum of two neighbouring weights (O, C, h, w) of each output channel, (O,); one alone counts too."""
    flat = weights.reshape(len(weights), -1)
    largest: NDArray[Any] = np.abs(flat).max(axis=1)
    for place, beside in enumerate(find_neighbours(weights.shape)):
        if len(beside):
            largest = np.maximum(largest, np.abs(flat[:, place, None] + flat[:, beside]).max(axis=1))
    return largest


def find_saturation(model: Any) -> Saturation:
    """Find the largest sum that each 8-bit product of a graph can add in 16 bits, from its weights and the types of its activations.

    Depthwise convolutions are left out: no kernel adds their products in pairs. Of a product whose weights are computed
    (`edgekit.rewriting.cropping`) the weights are from zero to one, which their scale and zero point turn into codes.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in the Q/DQ form of `edgekit.quantization.placement`.
    """
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    sums: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            left, right = (_find_codes(name, makers, constants) for name in node.input[:2])
            sums[node.name] = max(_sum_pair(left, right), _sum_pair((left[0] - 128, left[1] - 128), right))  # x86, ARM
        if node.op_type != "Conv" or any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute):
            continue
        read, stored = (makers.get(name) for name in node.input[:2])
        if read is None or stored is None or {read.op_type, stored.op_type} != {"DequantizeLinear"}:
            continue
        reach = REACH[str(constants[read.input[2]].dtype)] if len(read.input) > 2 else REACH["int8"]
        sums[node.name] = reach * int(sum_neighbours(constants[stored.input[0]].astype(np.int64)).max())
    beyond = tuple(name for name, largest in sums.items() if largest > LIMIT)
    return Saturation(len(sums), beyond, max(sums.values(), default=0))


def _find_codes(name: str, makers: dict[str, Any], constants: dict[str, NDArray[Any]]) -> tuple[int, int]:
    """Return the lowest and the highest code of an operand of a product of integers."""
    if name in constants:
        return int(constants[name].min()), int(constants[name].max())
    node = makers.get(name)
    if node is None or node.op_type != "QuantizeLinear":  # the films
        return 0, REACH["uint8"]
    zero = constants[node.input[2]]
    if (scale := float(constants[node.input[1]])) < 1:  # weights
        return int(zero), int(zero) + round(1 / scale)
    return int(np.iinfo(zero.dtype).min), int(np.iinfo(zero.dtype).max)


def _sum_pair(left: tuple[int, int], right: tuple[int, int]) -> int:
    """Return the largest sum of two products of codes from these ranges, as `Saturation` counts it."""
    products = [a * b for a in left for b in right]
    return max(2 * max(products), -2 * min(products) - 1)
