"""How operators on feature maps are written for LiteRT, channels last, and in 8 bits where all that they read and write is rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.litert.file import Steps
from edgekit.litert.lowering import Tensor, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgekit.litert.lowering import Lowering

NONE, RELU, RELU6 = 0, 1, 3
"""``ActivationFunctionType`` of the schema."""
SAME, VALID = 0, 1
"""``Padding`` of the schema."""
PLACES = {0: 0, 1: 3, 2: 1, 3: 2}
"""Where an axis of a feature map is when its channels are last."""


def get_attributes(node: Any) -> dict[str, Any]:
    """Return a node's attributes by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def find_activation(lowering: Lowering, node: Any) -> int:
    """Return the activation function that a node is; `NONE` where the schema has no number for it."""
    if node.op_type == "Relu":
        return RELU
    if node.op_type != "Clip":
        return NONE
    bounds = [lowering.constants[name].item() if name in lowering.constants else None for name in node.input[1:]]
    return RELU6 if bounds == [0.0, 6.0] else NONE


def find_end(lowering: Lowering, node: Any) -> tuple[str, int, Steps | None]:
    """Return what a node writes when what follows it is computed with it: the tensor, the activation function, and the steps in 8 bits."""
    output, activation = node.output[0], NONE
    reader = lowering.only_reader(output)
    if reader is not None and (found := find_activation(lowering, reader)) != NONE:
        output, activation = reader.output[0], found
    rounding = lowering.only_reader(output)
    films = node.input if node.op_type in ("Add", "Concat") else node.input[: 2 if node.op_type == "Conv" else 1]
    in_codes = rounding is not None and rounding.op_type == "QuantizeLinear" and all(lowering.codes_of(name) for name in films)
    return output, activation, lowering.steps(rounding) if in_codes else None


def write_end(lowering: Lowering, output: str, last: bool, steps: Steps | None) -> Tensor:
    """Declare what a node writes: where there are steps, the codes that its QuantizeLinear would make."""
    if steps is None:
        return lowering.write(output, last)
    lowering.done.add(output)
    return lowering.write(lowering.only_reader(output).output[0], last, steps)


def convolve(lowering: Lowering, node: Any) -> None:
    """Write a convolution, or one for each channel."""
    attributes, channels = get_attributes(node), lowering.shapes[node.input[0]][1]
    outputs, groups = lowering.shapes[node.output[0]][1], attributes.get("group", 1)
    if groups not in (1, channels) or (groups > 1 and outputs != channels) or set(attributes.get("dilations", [1])) != {1}:
        raise refuse(node, "groups of several channels, or with gaps")
    output, activation, steps = find_end(lowering, node)
    film = lowering.take(node.input[0], steps, last=True)
    weights = _write_weights(lowering, node.input[1], depthwise=groups > 1, in_codes=steps is not None)
    bias = lowering.constants[node.input[2]] if len(node.input) > 2 else np.zeros(outputs, np.float32)
    if film.steps is not None and weights.steps is not None:
        scales = (film.steps.scales[0] * weights.steps.scales).astype(np.float32)
        codes = np.round(bias.astype(np.float64) / scales).clip(np.iinfo(np.int32).min, np.iinfo(np.int32).max)
        biases = lowering.add_constant(f"{node.name}.bias", codes.astype(np.int32), Steps(scales))
    else:
        biases = lowering.add_constant(f"{node.name}.bias", bias)
    film, padding = _pad(lowering, film, node)
    made = write_end(lowering, output, True, steps)
    options = {"strideH": attributes["strides"][0], "strideW": attributes["strides"][1], "dilationHFactor": 1, "dilationWFactor": 1}
    options |= {"padding": padding, "fusedActivationFunction": activation}
    tensors = [film.number, weights.number, biases.number]
    if groups == 1:
        lowering.file.add("CONV_2D", tensors, [made.number], "Conv2DOptions", **options)
    else:
        lowering.file.add("DEPTHWISE_CONV_2D", tensors, [made.number], "DepthwiseConv2DOptions", depthMultiplier=1, **options)


def pool(operator: str) -> Callable[[Lowering, Any], None]:
    """Return what writes a pool over a window."""

    def lower(lowering: Lowering, node: Any) -> None:
        attributes = get_attributes(node)
        if attributes.get("ceil_mode") or (operator == "AVERAGE_POOL_2D" and any(attributes.get("pads", ()))):
            raise refuse(node, "windows beyond the edge")
        output, activation, steps = find_end(lowering, node)
        film, padding = _pad(lowering, _take_with(lowering, node, steps), node)
        made = write_end(lowering, output, True, steps)
        options = {"strideH": attributes["strides"][0], "strideW": attributes["strides"][1], "padding": padding}
        options |= {"filterHeight": attributes["kernel_shape"][0], "filterWidth": attributes["kernel_shape"][1]}
        lowering.file.add(operator, [film.number], [made.number], "Pool2DOptions", fusedActivationFunction=activation, **options)

    return lower


def resize(lowering: Lowering, node: Any) -> None:
    """Write an enlargement that repeats pixels, or draws straight lines between them."""
    attributes = get_attributes(node)
    kind = attributes["mode"], attributes.get("coordinate_transformation_mode", b"half_pixel")
    if kind == (b"linear", b"half_pixel"):
        film = lowering.read(node.input[0], last=True)
        made = lowering.write(node.output[0], True)
        size = lowering.axes(made.shape[1:3])
        lowering.file.add("RESIZE_BILINEAR", [film.number, size], [made.number], "ResizeBilinearOptions", halfPixelCenters=True)
        return
    if kind != (b"nearest", b"asymmetric"):
        raise refuse(node, "other pixels between pixels")
    output, _, steps = find_end(lowering, node)
    film = _take_with(lowering, node, steps)
    made = write_end(lowering, output, True, steps)
    size = lowering.axes(made.shape[1:3])
    lowering.file.add("RESIZE_NEAREST_NEIGHBOR", [film.number, size], [made.number], "ResizeNearestNeighborOptions")


def cut_blocks(lowering: Lowering, node: Any) -> None:
    """Write the pixels of a block as channels of one: both standards order them alike."""
    film = lowering.read(node.input[0], last=True)
    made = lowering.write(node.output[0], True, lowering.find_steps(node.output[0]))
    block = get_attributes(node)["blocksize"]
    lowering.file.add("SPACE_TO_DEPTH", [film.number], [made.number], "SpaceToDepthOptions", blockSize=block)


def join(lowering: Lowering, node: Any) -> None:
    """Write a concatenation; LiteRT's joins codes only where all stand for the same numbers."""
    axis = get_attributes(node)["axis"] % len(lowering.shapes[node.output[0]])
    output, _, steps = find_end(lowering, node)
    last = any(lowering.is_last(name) for name in node.input)
    tensors = [lowering.take(name, steps, last) for name in node.input]
    if steps is not None:
        tensors = [_requantize(lowering, each, steps, f"{node.name}.{place}") for place, each in enumerate(tensors)]
        made = write_end(lowering, output, last, steps)
    else:
        made = lowering.write(output, last, lowering.find_steps(output))
    place = PLACES[axis] if last else axis
    lowering.file.add("CONCATENATION", [each.number for each in tensors], [made.number], "ConcatenationOptions", axis=place)


def add(lowering: Lowering, node: Any) -> None:
    """Write a sum."""
    output, activation, steps = find_end(lowering, node)
    last = any(lowering.is_last(name) for name in node.input)
    tensors = [lowering.take(name, steps, last) for name in node.input]
    made = write_end(lowering, output, last, steps)
    lowering.file.add("ADD", [each.number for each in tensors], [made.number], "AddOptions", fusedActivationFunction=activation)


def _write_weights(lowering: Lowering, name: str, depthwise: bool, in_codes: bool) -> Tensor:
    """Write a convolution's weights: (O, h, w, C), or (1, h, w, O) where it is depthwise; as codes, or as numbers made of codes."""
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    stored = _find_stored(lowering, name)
    if stored is None:
        return lowering.add_constant(f"{name}.weights", np.ascontiguousarray(lowering.constants[name].transpose(order)))
    codes, scales = stored
    steps = Steps(scales, 0, 3 if depthwise else 0)
    constant = lowering.add_constant(f"{name}.codes", np.ascontiguousarray(codes.transpose(order)), steps)
    if in_codes:
        return constant
    wide = lowering.add_tensor(f"{name}.weights", constant.shape, "float32")
    lowering.file.add("DEQUANTIZE", [constant.number], [wide.number], "DequantizeOptions")
    return wide


def _find_stored(lowering: Lowering, name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Return weights that are kept in 8 bits, and a scale for each channel: between Q/DQ pairs, or as a product; None for others."""
    if (found := lowering.codes_of(name)) is not None:
        codes = lowering.constants[found[0]]
        return codes, np.broadcast_to(found[1].scales, len(codes))
    if (product := lowering.makers.get(name)) is None:
        return None
    stored, scales = lowering.constants[lowering.makers[product.input[0]].input[0]], lowering.constants[product.input[1]]
    return stored, scales.ravel().astype(np.float32)


def _pad(lowering: Lowering, film: Tensor, node: Any) -> tuple[Tensor, int]:
    """Return the film as a kernel wants it, and which of the schema's kinds of padding is left to the kernel."""
    attributes = get_attributes(node)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if not any((top, left, bottom, right)):
        return film, VALID
    same = [_pad_same(*sizes) for sizes in zip(film.shape[1:3], attributes["kernel_shape"], attributes["strides"], strict=True)]
    if same == [(top, bottom), (left, right)]:
        return film, SAME
    if node.op_type == "MaxPool":
        raise refuse(node, "other padding than half a window")
    edges = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    shape = tuple(size + int(edge.sum()) for size, edge in zip(film.shape, edges, strict=True))
    padded = lowering.add_tensor(f"{node.name}.padded", shape, film.dtype, film.steps)
    constant = lowering.add_constant(f"{node.name}.edges", edges)
    lowering.file.add("PAD", [film.number, constant.number], [padded.number], "PadOptions")
    return padded, VALID


def _pad_same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many pixels LiteRT's ``SAME`` adds before and after an axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _take_with(lowering: Lowering, node: Any, steps: Steps | None) -> Tensor:
    """Return what a node reads with the steps that it writes: its kernel takes codes and gives the same ones."""
    film = lowering.take(node.input[0], steps, last=True)
    return film if steps is None else _requantize(lowering, film, steps, node.name)


def _requantize(lowering: Lowering, tensor: Tensor, steps: Steps, name: str) -> Tensor:
    """Return codes with the steps asked for."""
    if steps.equals(tensor.steps):
        return tensor
    made = lowering.add_tensor(f"{name}.steps", tensor.shape, tensor.dtype, steps)
    lowering.file.add("QUANTIZE", [tensor.number], [made.number], "QuantizeOptions")
    return made
