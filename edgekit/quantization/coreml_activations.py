"""8-bit activations for Core ML, by ``coremltools.optimize.torch``: ranges are observed on calibration patients.

A Mac is needed to calibrate a converted program, so ranges are found before: coremltools' `LinearQuantizer` observes the networks in torch.
What it makes is torch's own quantized tensors, which ``torch.export`` can't trace ("quantized nyi in meta tensors"); each pair of its
operators is therefore written as the pair that ``torch.export`` and coremltools' converter both know, with the same scale and zero point.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from edgekit.contract import OUTPUTS, input_names, views_of
from edgekit.errors import GateError, InputError
from edgekit.quantization.foresight import Foresight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.types import Calibration, Tensors

OBSERVERS = {"minmax": "min_max", "average": "moving_average_min_max"}
"""coremltools' names of the recipe's methods."""
NEVER = 10**9


class Features(nn.Module):
    """The part of a timm EfficientNet that is quantized as one: all but the pooling and the linear layer.

    Parameters
    ----------
    network
        With batch normalization folded.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(network.conv_stem, network.bn1, *network.blocks, network.conv_head, network.bn2)
        self.forward_head, self.get_classifier = network.forward_head, network.get_classifier
        self.rest = nn.ModuleList([network.global_pool, network.classifier])

    def forward_features(self, film: torch.Tensor) -> torch.Tensor:
        """Map a film to the last feature map."""
        features: torch.Tensor = self.layers(film)
        return features


class Unit(nn.Module):
    """A module around a traced graph: ``torch.export`` notes modules as the origin of an operator, but no graphs.

    Parameters
    ----------
    graph
        Takes and gives one tensor.
    """

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the graph."""
        result: torch.Tensor = self.graph(x)
        return result


def quantize_activations(pipeline: Any, stages: dict[str, str], calibration: CalibrationPatients, settings: Calibration) -> Any:
    """Return a copy of `pipeline` whose ``w8a8`` stages round their activations to 8 bits.

    Parameters
    ----------
    pipeline
        In eval mode, batch normalization folded.
    stages
        Precision by stage.
    calibration
        The patients that ranges are found on.
    settings
        How ranges are found, and how much the answers may change: there is no repair here.

    Raises
    ------
    InputError
        There are no calibration patients, or too few (see `Foresight`).
    GateError
        More answers would change than ``settings.changed``.
    """
    from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig, ModuleLinearQuantizerConfig

    if not calibration.inputs:
        raise InputError("8-bit activations need calibration patients, and there are none", "give the run's studies validation rows")
    quantized = copy.deepcopy(pipeline)
    config = LinearQuantizerConfig(
        global_config=ModuleLinearQuantizerConfig(
            quantization_scheme="symmetric", activation_observer=OBSERVERS[settings.method], milestones=[0, NEVER, NEVER, NEVER]
        )
    )
    places = list(_find_units(quantized, stages))
    examples = _record_inputs(quantized, [getattr(parent, name) for parent, name in places], calibration.inputs[0])
    quantizers = []
    for parent, name in places:
        unit = getattr(parent, name)
        quantizer = LinearQuantizer(unit, config)
        _replace(parent, name, quantizer.prepare(example_inputs=(examples[unit],)).eval())
        quantizer.step()
        quantizers.append(quantizer)
    for inputs in calibration.inputs:
        _run(quantized, inputs)
    for (parent, name), quantizer in zip(places, quantizers, strict=True):
        _replace(parent, name, Unit(write_pairs(quantizer.finalize())))
    quantized.eval()
    found, expected = (np.array([_run(each, inputs).numpy() for inputs in calibration.inputs]) for each in (quantized, pipeline))
    if (share := Foresight(expected, calibration.brands).predict(found)) > settings.changed:
        raise GateError(
            f"8-bit activations would change {100 * share:.2f} % of the answers, the recipe accepts {100 * settings.changed:g} %",
            "use w8a16 or fp16 for a stage, or accept more in the recipe",
        )
    return quantized


def _find_units(pipeline: Any, stages: dict[str, str]) -> Iterator[tuple[Any, str]]:
    """Yield what is quantized as one: parent and name of each layer of the detector, of its head's branches, of each member."""
    if stages["detector"] == "w8a8":
        *layers, head = pipeline.detector.network.model
        for layer in layers:
            if any(isinstance(part, nn.Conv2d) for part in layer.modules()):
                yield pipeline.detector.network.model, str(layer.i)
        yield from ((head.cv3, str(index)) for index in range(len(head.cv3)))
        for branch in head.cv2:  # `regress_at` runs its layers one by one
            for index, layer in enumerate(branch):
                branch[index] = nn.Sequential(layer)  # a convolution that is not within something would stay as it is
                yield branch, str(index)
    if stages["members"] == "w8a8":
        for member in pipeline.members.values():
            member.network = Features(member.network)
            yield member.network, "layers"


def _replace(parent: Any, name: str, unit: Any) -> None:
    """Put `unit` in the place of another, with what ultralytics notes at a layer: where its input comes from."""
    for note in ("f", "i"):
        if (value := getattr(getattr(parent, name), note, None)) is not None:
            setattr(unit, note, value)
    setattr(parent, name, unit)


def _record_inputs(pipeline: Any, units: list[Any], inputs: Tensors) -> dict[Any, torch.Tensor]:
    """Return what each unit is given for one patient."""
    seen: dict[Any, torch.Tensor] = {}

    def note(unit: Any, given: tuple[torch.Tensor, ...]) -> None:
        seen[unit] = given[0]

    handles = [unit.register_forward_pre_hook(note) for unit in units]
    _run(pipeline, inputs)
    for handle in handles:
        handle.remove()
    return seen


def _run(pipeline: Any, inputs: Tensors) -> torch.Tensor:
    """Return the members' probabilities, (M, K)."""
    with torch.no_grad():
        members: torch.Tensor = pipeline(*(torch.from_numpy(inputs[name].copy()) for name in input_names(views_of(inputs))))[
            OUTPUTS.index("members")
        ]
    return members


def write_pairs(graph: Any) -> Any:
    """Write torch's quantized tensors as pairs of quantize and dequantize, and its quantized layers as layers with rounded weights."""
    import torch.ao.quantization.fx._decomposed  # registers the operators

    operators = torch.ops.quantized_decomposed
    for name, layer in list(graph.named_modules()):
        if hasattr(layer, "get_weight"):
            with torch.no_grad():
                layer_weight = layer.get_weight()
            plain = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
                layer.bias is not None,
            )
            plain.load_state_dict({"weight": layer_weight, **({} if layer.bias is None else {"bias": layer.bias})})
            graph.set_submodule(name, plain)
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node.target is not torch.quantize_per_tensor:
            continue
        value, scale, zero_point, kind = node.args
        low, high, dtype = (0, 255, torch.uint8) if kind is torch.quint8 else (-128, 127, torch.int8)
        steps = (float(getattr(graph, scale.target)), int(getattr(graph, zero_point.target)), low, high, dtype)
        with graph.graph.inserting_before(node):
            rounded = graph.graph.call_function(operators.quantize_per_tensor.default, (value, *steps))
            restored = graph.graph.call_function(operators.dequantize_per_tensor.default, (rounded, *steps))
        for user in list(node.users):
            user.replace_all_uses_with(restored)
            graph.graph.erase_node(user)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
