"""How far a network stays below what float16 holds, layer by layer: a GPU, a Neural Engine or a phone that overflows tells nobody.

Two figures a layer. The largest activation decides whether what is stored overflows. The largest *absolute sum*, of each product's absolute
value and the bias's, bounds every partial sum in whatever order a device adds, so that a device that also accumulates in float16 is safe
below the limit (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., section 4.2: no ordering exceeds it).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgekit.contract import input_names, views_of
from edgekit.progress import track

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from edgekit.types import Tensors

LARGEST = 65504.0
"""The largest float16 (IEEE 754-2008, binary16)."""


@dataclass(frozen=True, slots=True)
class LayerRange:
    """What a layer reached on the films.

    Attributes
    ----------
    layer
        Path of the module, such as ``members.ap.network.conv_stem``.
    largest
        Largest absolute value of its output.
    largest_sum
        Largest absolute sum of a convolution or matrix product; None for any other layer.
    """

    layer: str
    largest: float
    largest_sum: float | None


@dataclass(frozen=True, slots=True)
class Headroom:
    """The layers of the stages below float32.

    Attributes
    ----------
    limit
        The recipe's share of `LARGEST` that a layer may reach.
    patients
        How many it was measured on.
    layers
        In the order in which they are computed.
    """

    limit: float
    patients: int
    layers: tuple[LayerRange, ...]

    @property
    def widest(self) -> LayerRange:
        """The layer that comes nearest to `LARGEST`."""
        return max(self.layers, key=_reach)

    @property
    def exceeded(self) -> list[LayerRange]:
        """The layers beyond the limit; one that is not a number is."""
        return [layer for layer in self.layers if not _reach(layer) <= self.limit * LARGEST]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``float16.json``."""
        return {"largest_float16": LARGEST, **asdict(self)}


def measure_headroom(pipeline: Any, stages: Collection[str], films: Sequence[Tensors], limit: float) -> Headroom:
    """Run films through the pipeline in float32 and note what each layer of `stages` reaches.

    Parameters
    ----------
    pipeline
        A ``models.pipeline.Pipeline`` in eval mode, batch normalization folded.
    stages
        Of ``detector`` and ``members``, those whose activations are float16.
    films
        The graph's inputs of each patient.
    limit
        The recipe's.
    """
    reached: dict[str, float] = {}
    sums: dict[str, float] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for tensor in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                reached[name] = _larger(reached.get(name, 0.0), float(tensor.abs().max()))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            sums[name] = _larger(sums.get(name, 0.0), float(_sum_absolutes(module, inputs[0]).max()))

    hooks = [
        module.register_forward_hook(partial(note, name))
        for name, module in pipeline.named_modules()
        if name.partition(".")[0] in stages and "." in name
    ]
    try:
        with torch.no_grad():
            for inputs in track(films, "Looking at float16's range"):
                pipeline(*(torch.from_numpy(inputs[name].copy()) for name in input_names(views_of(inputs))))
    finally:
        for hook in hooks:
            hook.remove()
    return Headroom(limit, len(films), tuple(LayerRange(name, value, sums.get(name)) for name, value in reached.items()))


def _sum_absolutes(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """Return what `layer` would give with every weight, bias and input replaced by its absolute value."""
    bias = None if layer.bias is None else layer.bias.abs()
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x.abs(), layer.weight.abs(), bias)
    return nn.functional.conv2d(x.abs(), layer.weight.abs(), bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _larger(seen: float, found: float) -> float:
    """Return the larger of two values; what is not a number stays so."""
    return found if not found <= seen else seen


def _reach(layer: LayerRange) -> float:
    return _larger(layer.largest, layer.largest_sum or 0.0)
