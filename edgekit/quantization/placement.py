"""Where a graph computes in 8 bits: Quantize/DequantizeLinear pairs around its nodes, and biases that make up for rounded weights."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.cores import count_threads
from edgekit.progress import track
from edgekit.quantization.rounding import round_weights
from edgekit.quantization.saturation import PAIR_SUM
from edgekit.rewriting.passes import SORTED, Condition, Pass, has_nodes, opset_from, run_passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.quantization.observing import Observation

OPERATORS = ("Conv", "Relu", "Clip", "Add", "Concat", "MaxPool", "Resize")
"""What is computed in 8 bits. With the activation functions in the list, each is folded into the output range of its convolution, and no
pair is left between the two. SiLU's Sigmoid and Mul and the squeeze-and-excitation stay float."""

SYMMETRIC_OPERATORS = ("Conv", "Add")
"""The same where a zero point must be zero: an output range can't stand for an activation function then, so only what goes into these is
quantized, and the runtime fuses each convolution with what follows it (TensorRT documentation, *Q/DQ placement recommendations*)."""

Rounded = dict[str, tuple["NDArray[np.int8]", "NDArray[np.float32]"]]
"""Steps (O, C, h, w) and their sizes (O,), by the name of the weights (see `edgekit.quantization.rounding`)."""


def insert_quantization(model: Any, nodes: set[str], observation: Observation, rounded: Rounded, activations: str, symmetric: bool) -> Any:
    """Return a copy of `model` that computes `nodes` in 8 bits, in the explicit Q/DQ form.

    Weights are int8 with a scale per output channel (Krishnamoorthi 2018, section 3.1.1). Biases stay float: onnxruntime quantizes them
    when it fuses, TensorRT wants them so, and the file does without their scales.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32.
    nodes
        Names of nodes whose types are in `OPERATORS`.
    observation
        What the calibration films did to `model`.
    rounded
        The weights of the convolutions among `nodes`.
    activations
        ``uint8`` or ``int8``.
    symmetric
        Whether the activations' zero point is zero, as TensorRT demands.
    """
    if not nodes:  # the quantizer would take none for all
        return model
    passes = [
        Pass(
            "take up the shift of rounded weights",
            partial(correct_biases, nodes=nodes, observation=observation, rounded=rounded),
            requires=(has_nodes(nodes), opset_from(13)),  # scales of a channel each
        ),
        Pass(
            "quantize",
            partial(_quantize, nodes=nodes, observation=observation, rounded=rounded, activations=activations, symmetric=symmetric),
            ensures=(_stores_in_8_bits(nodes),),
        ),
    ]
    if not symmetric:
        passes += [Pass("keep convolutions between 8 bits in float", _keep_float)]
        passes += [Pass("sign the bytes that convolutions read", _sign_bytes, ensures=(READS_SIGNED,))] if activations == "int8" else []
    return run_passes(model, [*passes, Pass("sort, and drop what says nothing", _slim, ensures=(SORTED, _stores_in_8_bits(nodes)))])


def store_weights(model: Any, nodes: set[str], observation: Observation, rounded: Rounded) -> Any:
    """Return a copy whose convolutions in `nodes` keep 8-bit weights in the file and compute in float, biases corrected.

    Bytes become float by Cast and Mul, which a runtime does once, when it loads the graph. onnxruntime leaves a DequantizeLinear to every
    run, and a convolution whose weights are no constant in the slow layout.
    """
    from onnx import TensorProto, helper, numpy_helper

    stored = correct_biases(model, nodes, observation, rounded)
    constants = {tensor.name: tensor for tensor in stored.graph.initializer}
    chosen = [node for node in stored.graph.node if node.op_type == "Conv" and node.name in nodes]
    for node in chosen:
        name = node.input[1]
        codes, scales = rounded[name]
        stored.graph.initializer.remove(constants[name])
        stored.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_quantized"))
        stored.graph.initializer.append(numpy_helper.from_array(scales.reshape(-1, 1, 1, 1), f"{name}_scale"))
        stored.graph.node.insert(0, helper.make_node("Mul", [f"{name}_levels", f"{name}_scale"], [name], name=f"{name}_Mul"))
        cast = helper.make_node("Cast", [f"{name}_quantized"], [f"{name}_levels"], name=f"{name}_Cast", to=TensorProto.FLOAT)
        stored.graph.node.insert(0, cast)
    return stored


def correct_biases(model: Any, nodes: set[str], observation: Observation, rounded: Rounded) -> Any:
    """Return a copy in which the bias of each convolution in `nodes` takes up the mean shift that rounding its weights causes.

    The shift of an output channel is the sum over the input channels of the weights' rounding error times the channel's mean: Nagel et
    al. 2019, *Data-free quantization through weight equalization and bias correction*, equation 16, with the means measured.
    """
    from onnx import numpy_helper

    corrected = copy.deepcopy(model)
    constants = {tensor.name: tensor for tensor in corrected.graph.initializer}
    for node in corrected.graph.node:
        if node.op_type != "Conv" or node.name not in nodes or len(node.input) < 3:
            continue
        weights = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
        error = (widen(*rounded[node.input[1]]) - weights).sum(axis=(2, 3))  # (O, C / groups)
        means = observation.channel_means[node.input[0]].reshape(count_groups(node), 1, -1)
        shift = (error.reshape(len(means), -1, error.shape[1]) * means).sum(axis=2).ravel()
        bias = constants[node.input[2]]
        bias.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(bias) - shift).astype(np.float32), bias.name))
    return corrected


def round_graph(model: Any, nodes: set[str], observation: Observation, activations: str | None) -> Rounded:
    """Round the weights of every convolution in `nodes`.

    Parameters
    ----------
    activations
        What the weights will be multiplied by, ``uint8`` or ``int8``: neighbours must not add up to too much, but for depthwise
        convolutions, whose products no kernel adds in pairs. None: they become float first, and any neighbours do.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = [node for node in model.graph.node if node.op_type == "Conv" and node.name in nodes]

    def round_node(node: Any) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        pair_sum = PAIR_SUM[activations] if activations is not None and count_groups(node) == 1 else None
        return round_weights(numpy_helper.to_array(constants[node.input[1]]), observation.moments[node.name], pair_sum)

    with ThreadPoolExecutor(count_threads()) as pool:
        found = track(pool.map(round_node, chosen), "Rounding the weights", total=len(chosen))
        return {node.input[1]: each for node, each in zip(chosen, found, strict=True)}


def widen(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights that steps (O, C, h, w) of the sizes (O,) stand for."""
    return codes * scales.reshape(-1, 1, 1, 1)


def count_groups(node: Any) -> int:
    """Return the groups of a convolution: more than one makes it depthwise here."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _quantize(model: Any, nodes: set[str], observation: Observation, rounded: Rounded, activations: str, symmetric: bool) -> Any:
    """Let onnxruntime's quantizer place its pairs; `model` is changed. See `insert_quantization`."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType

    overrides = _place_on_steps(model, nodes, rounded)
    ranges = {name: (np.float32(low), np.float32(high)) for name, (low, high) in observation.ranges.items()}
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "TensorQuantOverrides": overrides,
    }
    if symmetric:
        options["OpTypesToExcludeOutputQuantization"] = list(SYMMETRIC_OPERATORS)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if activations == "uint8" else QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=sorted(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=list(SYMMETRIC_OPERATORS if symmetric else OPERATORS),
        extra_options=options,
    )
    quantizer.quantize_model()  # what reads bytes already (see `edgekit.rewriting`) is left as it is
    return quantizer.model.model


def _stores_in_8_bits(nodes: set[str]) -> Condition:
    """Return the condition that the quantizer passed over none of the convolutions among `nodes`."""

    def holds(model: Any) -> bool:
        makers = {name: node.op_type for node in model.graph.node for name in node.output}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.name in nodes]
        return all(makers.get(node.input[1]) == "DequantizeLinear" for node in convolutions)

    return Condition("every convolution chosen has its weights in 8 bits", holds)


def _reads_signed(model: Any) -> bool:
    """Whether no convolution reads unsigned bytes."""
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    reads = [makers.get(node.input[0]) for node in model.graph.node if node.op_type == "Conv"]
    return not any(read is not None and read.op_type == "DequantizeLinear" and kinds[read.input[2]] == 2 for read in reads)


READS_SIGNED = Condition("no convolution reads unsigned bytes", _reads_signed)


def _place_on_steps(model: Any, nodes: set[str], rounded: Rounded) -> dict[str, list[dict[str, Any]]]:
    """Put the weights of the convolutions in `nodes` where they were rounded to, so that the quantizer finds the same steps.

    Returns
    -------
    The sizes of the steps, in the quantizer's own form.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    overrides = {}
    for name in {node.input[1] for node in model.graph.node if node.op_type == "Conv" and node.name in nodes}:
        codes, scales = rounded[name]
        constants[name].CopyFrom(numpy_helper.from_array(widen(codes, scales), name))
        overrides[name] = [{"axis": 0, "scale": scale, "zero_point": np.int8(0)} for scale in scales]
    return overrides


def _keep_float(model: Any) -> Any:
    """Put a Max that changes nothing behind each convolution that reads and writes 8 bits and is to compute in float.

    onnxruntime (WeightBiasQuantization) takes a convolution between a DequantizeLinear and a QuantizeLinear for one whose weights somebody
    forgot, and rounds them with a single scale: of a depthwise convolution little is left. An activation function between does not help.
    """
    from onnx import helper, numpy_helper

    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in [node for node in model.graph.node if node.op_type == "Conv"]:
        output, (films, weights) = node.output[0], (makers.get(name) for name in node.input[:2])
        activated = [name for reader in readers[output] if reader.op_type in ("Relu", "Clip") for name in reader.output]
        rounded = any(reader.op_type == "QuantizeLinear" for name in (output, *activated) for reader in readers[name])
        if films != "DequantizeLinear" or weights == "DequantizeLinear" or not rounded:
            continue
        lowest = numpy_helper.from_array(np.float32(np.finfo(np.float32).min), f"{output}.lowest")
        model.graph.initializer.append(lowest)
        for reader in model.graph.node:
            reader.input[:] = [f"{output}.kept" if name == output else name for name in reader.input]
        model.graph.node.append(helper.make_node("Max", [output, lowest.name], [f"{output}.kept"], name=f"{output}.kept"))
    return model


def _sign_bytes(model: Any) -> Any:
    """Let each convolution that reads unsigned bytes read signed ones, of the same scale: no runtime computes both types in one."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in [node for node in model.graph.node if node.op_type == "Conv"]:
        read = makers.get(node.input[0])
        if read is None or read.op_type != "DequantizeLinear" or constants[read.input[2]].data_type != 2:
            continue
        zero = int(numpy_helper.to_array(constants[read.input[2]])) - 128
        name = f"{read.output[0]}.signed"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(zero, np.int8), f"{name}.zero"))
        pair = [read.input[1], f"{name}.zero"]
        model.graph.node.append(helper.make_node("QuantizeLinear", [read.output[0], *pair], [name]))
        model.graph.node.append(helper.make_node("DequantizeLinear", [name, *pair], [f"{name}.float"]))
        node.input[0] = f"{name}.float"
    return model


def _slim(model: Any) -> Any:
    """Sort the nodes and drop what says nothing: zero points of zero, the default for int8, and the names of the pairs' own nodes."""
    from onnx import numpy_helper
    from onnxruntime.quantization.onnx_model import ONNXModel

    ONNXModel(model).topological_sort()
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    zeros = {
        name
        for name, tensor in constants.items()
        if name.endswith("_zero_point") and tensor.data_type == 3 and not numpy_helper.to_array(tensor).any()
    }
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
            # A QuantizeLinear without a zero point gives uint8, so only what is stored already can do without.
            if node.op_type == "DequantizeLinear" and node.input[0] in constants and len(node.input) > 2 and node.input[2] in zeros:
                del node.input[2]
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    return model
