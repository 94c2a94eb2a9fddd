"""Operators one by one: a tiny ML Program made with coremltools' builder, saved, interpreted, and compared with torch or numpy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit.formats.mlpackage import import_coremltools
from edgekit.sessions.coreml_reference import interpret

ct = import_coremltools()
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import Function, Program, types  # noqa: E402

RANDOM = np.random.default_rng(0)
IOS16, IOS17, IOS18 = ct.target.iOS16, ct.target.iOS17, ct.target.iOS18
TYPES = {"float32": types.fp32, "int32": types.int32, "float16": types.fp16, "bool": types.bool}


def values(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def whole(high: int, *shape: int, low: int = 0) -> np.ndarray:
    return RANDOM.integers(low, high, shape).astype(np.int32)


@dataclass(frozen=True)
class Case:
    """What an operator is given, and what torch makes of the same."""

    name: str
    build: Callable[..., Any]
    inputs: dict[str, np.ndarray]
    expected: Callable[..., Any]
    system: Any = IOS16


def unary(name: str, expected: Callable[..., Any], x: np.ndarray | None = None, **arguments: Any) -> Case:
    return Case(name, lambda x: getattr(mb, name)(x=x, **arguments), {"x": values(2, 3, 4) if x is None else x}, expected)


def binary(name: str, expected: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> Case:
    return Case(f"{name} {x.dtype}", lambda x, y: getattr(mb, name)(x=x, y=y), {"x": x, "y": y}, expected)


def between(low: float, high: float) -> np.ndarray:
    return RANDOM.uniform(low, high, (2, 3, 4)).astype(np.float32)


W34, W3, KERNEL = values(3, 4), values(3), values(6, 2, 3, 3)
GROUPED, BIAS6, TRANSPOSED = values(6, 1, 3, 3), values(6), values(4, 2, 3, 3)
ALPHA3 = np.array([0.1, 0.5, 2.0], np.float32)

UNARY = [
    unary("abs", torch.abs),
    unary("acos", torch.acos, between(-1, 1)),
    unary("asin", torch.asin, between(-1, 1)),
    unary("atan", torch.atan),
    unary("atanh", torch.atanh, between(-0.9, 0.9)),
    unary("ceil", torch.ceil),
    unary("clip", lambda x: x.clamp(-0.5, 0.7), alpha=-0.5, beta=0.7),
    unary("cos", torch.cos),
    unary("cosh", torch.cosh),
    unary("erf", torch.erf),
    unary("exp", torch.exp),
    unary("exp2", torch.exp2),
    unary("floor", torch.floor),
    unary("inverse", lambda x: 1 / (x + 0.01), between(1, 2), epsilon=0.01),
    unary("log", lambda x: torch.log(x + 0.01), between(0, 2), epsilon=0.01),
    unary("round", lambda _: torch.tensor([-2.0, -0.0, 0.0, 2.0, 2.0]), np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)),
    unary("rsqrt", lambda x: 1 / torch.sqrt(x + 0.01), between(0, 2), epsilon=0.01),
    unary("sign", torch.sign),
    unary("sin", torch.sin),
    unary("sinh", torch.sinh),
    unary("sqrt", torch.sqrt, between(0, 2)),
    unary("square", lambda x: x**2),
    unary("tan", torch.tan),
    unary("tanh", torch.tanh),
    unary("threshold", lambda x: functional.threshold(x, 0.2, 0.2), alpha=0.2),
    unary("clamped_relu", lambda x: torch.minimum(functional.leaky_relu(x, 0.3), torch.tensor(0.8)), alpha=0.3, beta=0.8),
    unary("elu", lambda x: functional.elu(x, 0.7), alpha=0.7),
    unary("gelu", lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), mode="EXACT"),
    unary("gelu", lambda x: functional.gelu(x, approximate="tanh"), mode="TANH_APPROXIMATION"),
    unary("gelu", lambda x: x / (1 + torch.exp(-1.702 * x)), mode="SIGMOID_APPROXIMATION"),
    unary("leaky_relu", lambda x: functional.leaky_relu(x, 0.2), alpha=0.2),
    unary("linear_activation", lambda x: 2 * x + 3, alpha=2.0, beta=3.0),
    unary("prelu", lambda x: functional.prelu(x, torch.from_numpy(ALPHA3)), values(2, 3, 4, 5), alpha=ALPHA3),
    unary("relu", torch.relu),
    unary("relu6", lambda x: functional.relu6(x), 8 * values(2, 3)),
    unary("scaled_tanh", lambda x: 1.7 * torch.tanh(0.6 * x), alpha=1.7, beta=0.6),
    unary("sigmoid", torch.sigmoid),
    unary("sigmoid_hard", functional.hardsigmoid, 4 * values(5, 6), alpha=1 / 6, beta=0.5),
    unary("silu", functional.silu),
    unary("softmax", lambda x: torch.softmax(x, 1), axis=1),
    unary("softplus", lambda x: torch.log(1 + torch.exp(x))),
    unary(
        "softplus_parametric",
        lambda x: torch.tensor([0.5, 1.0, 2.0]).reshape(3, 1, 1) * torch.log(1 + torch.exp(torch.from_numpy(ALPHA3).reshape(3, 1, 1) * x)),
        values(2, 3, 4, 5),
        alpha=np.array([0.5, 1.0, 2.0], np.float32),
        beta=ALPHA3,
    ),
    unary("softsign", functional.softsign),
    unary("thresholded_relu", lambda x: torch.where(x >= 0.3, x, 0.0), alpha=0.3),
    unary("identity", lambda x: x),
    unary("logical_not", torch.logical_not, values(3, 4) > 0),
]

POSITIVE = values(3, 4) ** 2 + 0.5
SIGNED, DIVISOR = whole(9, 3, 4, low=-9), np.array([[2], [-3], [4]], np.int32)
BINARY = [
    binary("add", lambda x, y: x + y, values(2, 3, 4), W34),
    binary("sub", lambda x, y: x - y, values(2, 1, 4), W34),
    binary("mul", lambda x, y: x * y, values(2, 3, 4), values(1)),
    binary("real_div", lambda x, y: x / y, W34, POSITIVE),
    binary("floor_div", lambda x, y: torch.floor(x / y), SIGNED, DIVISOR),
    binary("floor_div", lambda x, y: torch.floor(x / y), values(3, 4), POSITIVE),
    binary("mod", lambda x, y: x - torch.floor(x / y).int() * y, SIGNED, DIVISOR),
    binary("pow", lambda x, y: torch.exp(y * torch.log(x)), POSITIVE, values(3, 4)),
    binary("maximum", lambda x, y: torch.where(x > y, x, y), W34, values(4)),
    binary("minimum", lambda x, y: torch.where(x < y, x, y), SIGNED, DIVISOR),
    binary("equal", lambda x, y: x == y, SIGNED, whole(3, 3, 4)),
    binary("not_equal", lambda x, y: x != y, SIGNED, whole(3, 3, 4)),
    binary("less", lambda x, y: x < y, W34, values(4)),
    binary("less_equal", lambda x, y: x <= y, SIGNED, whole(3, 3, 4)),
    binary("greater", lambda x, y: x > y, W34, values(4)),
    binary("greater_equal", lambda x, y: x >= y, SIGNED, whole(3, 3, 4)),
    binary("logical_and", lambda x, y: x & y, W34 > 0, values(4) > 0),
    binary("logical_or", lambda x, y: x | y, W34 > 0, values(4) > 0),
    binary("logical_xor", lambda x, y: x ^ y, W34 > 0, values(4) > 0),
    Case(
        "select",
        lambda x, y: mb.select(cond=mb.greater(x=x, y=0.0), a=x, b=y),
        {"x": values(3, 4), "y": values(3, 1)},
        lambda x, y: torch.where(x > 0, x, y.expand(3, 4)),
    ),
    Case("cast to int drops the fraction", lambda x: mb.cast(x=x, dtype="int32"), {"x": 5 * values(20)}, lambda x: x.trunc().int()),
    Case("cast to bool", lambda x: mb.cast(x=x, dtype="bool"), {"x": whole(2, 9)}, lambda x: x != 0),
]


def conv(name: str, expected: Callable[..., Any], x: np.ndarray, weight: np.ndarray, system: Any = IOS16, **arguments: Any) -> Case:
    return Case(f"conv {name}", lambda x: mb.conv(x=x, weight=weight, **arguments), {"x": x}, expected, system)


def torch_of(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


IMAGE, EVEN = values(1, 2, 7, 9), values(1, 2, 6, 8)
CONVOLUTIONS = [
    conv("valid", lambda x: functional.conv2d(x, torch_of(KERNEL)), IMAGE, KERNEL, pad_type="valid"),
    # 6 and 8 pixels in steps of 2 need (3 - 1) * 2 + 3 - 6 = 1 more: after, or before with same_lower
    conv(
        "same",
        lambda x: functional.conv2d(functional.pad(x, (0, 1, 0, 1)), torch_of(KERNEL), stride=2),
        EVEN,
        KERNEL,
        pad_type="same",
        strides=[2, 2],
    ),
    conv(
        "same_lower",
        lambda x: functional.conv2d(functional.pad(x, (1, 0, 1, 0)), torch_of(KERNEL), stride=2),
        EVEN,
        KERNEL,
        pad_type="same_lower",
        strides=[2, 2],
    ),
    conv(
        "custom, uneven, dilated, with a bias",
        lambda x: functional.conv2d(functional.pad(x, (3, 4, 1, 2)), torch_of(KERNEL), torch_of(BIAS6), stride=(1, 2), dilation=2),
        IMAGE,
        KERNEL,
        pad_type="custom",
        pad=[1, 2, 3, 4],
        strides=[1, 2],
        dilations=[2, 2],
        bias=BIAS6,
    ),
    conv(
        "grouped",
        lambda x: functional.conv2d(x, torch_of(GROUPED), padding=1, groups=2),
        IMAGE,
        GROUPED,
        pad_type="custom",
        pad=[1, 1, 1, 1],
        groups=2,
    ),
    conv("1d", lambda x: functional.conv1d(x, torch_of(KERNEL[..., 0])), values(2, 2, 8), KERNEL[..., 0], pad_type="valid"),
    conv(
        "3d",
        lambda x: functional.conv3d(x, torch_of(KERNEL[..., None].repeat(2, -1)), padding=(1, 1, 0)),
        values(1, 2, 5, 6, 4),
        KERNEL[..., None].repeat(2, -1),
        pad_type="custom",
        pad=[1, 1, 1, 1, 0, 0],
    ),
    Case(
        "conv whose weight is computed",
        lambda x, w: mb.conv(x=x, weight=w, pad_type="valid"),
        {"x": IMAGE, "w": KERNEL},
        lambda x, w: functional.conv2d(x, w),
        IOS17,
    ),
    Case(
        "conv_transpose custom",
        lambda x: mb.conv_transpose(
            x=x, weight=TRANSPOSED, bias=np.ones(4, np.float32), pad_type="custom", pad=[1, 1, 0, 0], strides=[2, 2], groups=2
        ),
        {"x": values(1, 4, 5, 6)},
        lambda x: functional.conv_transpose2d(x, torch_of(TRANSPOSED), torch.ones(4), stride=2, padding=(1, 0), groups=2),
    ),
    Case(
        "conv_transpose to an output shape",
        lambda x: mb.conv_transpose(
            x=x, weight=TRANSPOSED, pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 2], output_shape=[1, 2, 10, 12]
        ),
        {"x": values(1, 4, 5, 6)},
        lambda x: functional.conv_transpose2d(x, torch_of(TRANSPOSED), stride=2, padding=1, output_padding=1),
    ),
    Case(
        "conv_transpose same",  # the gradient of a forward convolution that pads 0 before and 1 after
        lambda x: mb.conv_transpose(x=x, weight=TRANSPOSED, pad_type="same", strides=[2, 2]),
        {"x": values(1, 4, 5, 6)},
        lambda x: functional.conv_transpose2d(x, torch_of(TRANSPOSED), stride=2)[:, :, :10, :12],
    ),
]


def pool(name: str, expected: Callable[..., Any], x: np.ndarray, **arguments: Any) -> Case:
    return Case(f"{name} {arguments}", lambda x: getattr(mb, name)(x=x, **arguments), {"x": x}, expected)


POOLS = [
    pool("max_pool", lambda x: functional.max_pool2d(x, 3, 2), IMAGE, kernel_sizes=[3, 3], strides=[2, 2], pad_type="valid"),
    pool(
        "max_pool",
        lambda x: functional.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        EVEN,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        ceil_mode=True,
    ),
    pool(
        "max_pool",
        lambda x: functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-9e9), 3, 2),
        EVEN,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="same",
    ),
    pool("max_pool", lambda x: functional.max_pool1d(x, 2, 2), values(2, 3, 8), kernel_sizes=[2], strides=[2], pad_type="valid"),
    pool(
        "avg_pool",
        lambda x: functional.avg_pool2d(x, 3, 2, padding=1, count_include_pad=True),
        IMAGE,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    ),
    pool(
        "avg_pool",
        lambda x: functional.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        EVEN,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        ceil_mode=True,
        exclude_padding_from_average=True,
    ),
    pool(
        "avg_pool",  # the sums of windows with padding only after, by the number of pixels inside
        lambda x: (
            functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)
            / functional.avg_pool2d(functional.pad(torch.ones_like(x), (0, 1, 0, 1)), 3, 2)
        ),
        EVEN,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="same",
        exclude_padding_from_average=True,
    ),
    pool(
        "l2_pool",
        lambda x: functional.lp_pool2d(x, 2.0, 3, 2),
        np.abs(IMAGE),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="valid",
    ),
    pool(
        "avg_pool",
        lambda x: functional.avg_pool3d(x, 2, 2),
        values(1, 2, 4, 6, 4),
        kernel_sizes=[2, 2, 2],
        strides=[2, 2, 2],
        pad_type="valid",
    ),
]

QUERY, KEY, VALUE = values(2, 3, 5, 8), values(2, 3, 7, 8), values(2, 3, 7, 4)
MASK = values(5, 7) > -0.5
MASK[:, 0] = True
GAMMA45, BETA45, WEIGHT, BIAS = values(4, 5), values(4, 5), values(7, 4), values(7)
ALGEBRA = [
    Case(
        "linear",
        lambda x: mb.linear(x=x, weight=WEIGHT, bias=BIAS),
        {"x": values(2, 3, 4)},
        lambda x: x @ torch_of(WEIGHT).T + torch_of(BIAS),
    ),
    Case("matmul", lambda x, y: mb.matmul(x=x, y=y), {"x": values(2, 3, 4), "y": values(4, 5)}, lambda x, y: x @ y),
    Case(
        "matmul of transposes",
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True),
        {"x": values(2, 4, 3), "y": values(5, 4)},
        lambda x, y: torch.einsum("bki,jk->bij", x, y),
    ),
    Case(
        "einsum",
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
        {"x": values(2, 3, 4, 5), "y": values(2, 5, 4, 6)},
        lambda x, y: (x.permute(0, 2, 1, 3) @ y.permute(0, 2, 1, 3)).permute(0, 2, 1, 3),
    ),
    Case(
        "attention",
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=MASK),
        {"q": QUERY, "k": KEY, "v": VALUE},
        lambda q, k, v: torch.softmax((q @ k.mT / 8**0.5).masked_fill(~torch_of(MASK), -torch.inf), -1) @ v,
        IOS18,
    ),
    Case(
        "batch_norm",
        lambda x: mb.batch_norm(x=x, mean=W3, variance=ALPHA3, gamma=W3 + 1, beta=W3 - 1, epsilon=1e-2),
        {"x": values(2, 3, 4, 5)},
        lambda x: functional.batch_norm(x, torch_of(W3), torch_of(ALPHA3), torch_of(W3 + 1), torch_of(W3 - 1), eps=1e-2),
    ),
    Case(
        "instance_norm",
        lambda x: mb.instance_norm(x=x, gamma=ALPHA3, beta=W3, epsilon=1e-2),
        {"x": values(2, 3, 4, 5)},
        lambda x: functional.instance_norm(x, weight=torch_of(ALPHA3), bias=torch_of(W3), eps=1e-2),
    ),
    Case(
        "layer_norm over the last axes",
        lambda x: mb.layer_norm(x=x, axes=[-2, -1], gamma=GAMMA45, beta=BETA45, epsilon=1e-3),
        {"x": values(2, 3, 4, 5)},
        lambda x: functional.layer_norm(x, (4, 5), torch_of(GAMMA45), torch_of(BETA45), 1e-3),
    ),
    Case(
        "layer_norm over the channels",
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=ALPHA3, beta=W3),
        {"x": values(2, 3, 4, 5)},
        lambda x: functional.layer_norm(x.movedim(1, -1), (3,), torch_of(ALPHA3), torch_of(W3)).movedim(-1, 1),
    ),
    Case(
        "l2_norm",
        lambda x: mb.l2_norm(x=x, epsilon=0.0),
        {"x": values(2, 3, 4, 5)},
        lambda x: x / x.flatten(1).norm(dim=1)[:, None, None, None],
    ),
    Case(
        "local_response_norm",
        lambda x: mb.local_response_norm(x=x, size=3, alpha=0.1, beta=0.5, k=2.0),
        {"x": values(2, 6, 4, 5)},
        lambda x: x / (2 + 0.1 / 3 * sum((functional.pad(x, (0, 0, 0, 0, 1, 1)) ** 2)[:, i : i + 6] for i in range(3))) ** 0.5,
    ),
]


LSTM = torch.nn.LSTM(4, 3, bidirectional=True)
SEQUENCE = values(5, 2, 4)


def lstm_weight(name: str) -> np.ndarray:
    """torch's gates are input, forget, cell, output; MIL's are input, forget, output, cell."""
    gates = getattr(LSTM, name).detach().chunk(4)
    return torch.cat([gates[0], gates[1], gates[3], gates[2]]).numpy()


def build_lstm(x: Any, direction: str, output_sequence: bool) -> Any:
    both = direction == "bidirectional"
    back = {
        "weight_ih_back": lstm_weight("weight_ih_l0_reverse"),
        "weight_hh_back": lstm_weight("weight_hh_l0_reverse"),
        "bias_back": lstm_weight("bias_ih_l0_reverse") + lstm_weight("bias_hh_l0_reverse"),
    }
    zeros = np.zeros((2, 6 if both else 3), np.float32)
    return mb.lstm(
        x=x,
        initial_h=zeros,
        initial_c=zeros,
        weight_ih=lstm_weight("weight_ih_l0"),
        weight_hh=lstm_weight("weight_hh_l0"),
        bias=lstm_weight("bias_ih_l0") + lstm_weight("bias_hh_l0"),
        direction=direction,
        output_sequence=output_sequence,
        **(back if both else {}),
    )


def expect_lstm(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        sequence, (h, c) = LSTM(x)
    return sequence, torch.cat([*h], 1), torch.cat([*c], 1)


RECURRENT = [
    Case("lstm both ways", lambda x: build_lstm(x, "bidirectional", True), {"x": SEQUENCE}, expect_lstm),
    Case(
        "lstm, last step",
        lambda x: build_lstm(x, "forward", False),
        {"x": SEQUENCE},
        lambda x: (expect_lstm(x)[0][-1:, :, :3], *(each[:, :3] for each in expect_lstm(x)[1:])),
    ),
]


def reduction(name: str, expected: Callable[..., Any], x: np.ndarray | None = None, **arguments: Any) -> Case:
    return Case(f"{name} {arguments}", lambda x: getattr(mb, name)(x=x, **arguments), {"x": values(2, 3, 4) if x is None else x}, expected)


REDUCTIONS = [
    reduction("reduce_mean", lambda x: x.mean((0, 2)), axes=[0, -1]),
    reduction("reduce_sum", lambda x: x.sum((1, 2), keepdim=True), axes=[1, 2], keep_dims=True),
    reduction("reduce_sum", lambda x: x.sum(), axes=None),
    reduction("reduce_sum", lambda x: x.sum(1, dtype=torch.int32), whole(9, 2, 3, 4), axes=[1]),
    reduction("reduce_max", lambda x: x.max(1).values, axes=[1]),
    reduction("reduce_min", lambda x: x.min(1, keepdim=True).values, axes=[1], keep_dims=True),
    reduction("reduce_prod", lambda x: x.prod(2).prod(1), axes=[1, 2]),
    reduction("reduce_l1_norm", lambda x: x.norm(1, dim=1), axes=[1]),
    reduction("reduce_l2_norm", lambda x: x.norm(2, dim=1), axes=[1]),
    reduction("reduce_log_sum", lambda x: x.sum(1).log(), between(1, 2), axes=[1]),
    reduction("reduce_log_sum_exp", lambda x: x.exp().sum(1).log(), axes=[1]),
    reduction("reduce_sum_square", lambda x: (x**2).sum(1), axes=[1]),
    reduction("reduce_argmax", lambda x: x.max(1).indices.int(), axis=1),
    reduction("reduce_argmin", lambda x: x.min(2, keepdim=True).indices.int(), axis=2, keep_dims=True),
]

CUBE = values(4, 5, 6)
SHAPES = [
    Case("reshape", lambda x: mb.reshape(x=x, shape=[2, -1, 6]), {"x": CUBE}, lambda x: x.reshape(2, 10, 6)),
    Case("reshape keeping a side", lambda x: mb.reshape(x=x, shape=[0, 6, 5]), {"x": CUBE}, lambda x: x.reshape(4, 6, 5)),
    # The worked example of the iOS 17 documentation: a 0 counts from the last axis, one too many is 1.
    Case(
        "reshape with more zeros",
        lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]),
        {"x": values(2, 50)},
        lambda x: x.reshape(1, 1, 2, 50),
        IOS17,
    ),
    Case(
        "reshape_like",
        lambda x, y: mb.reshape_like(x=x, ref_tensors=(y, y), begins=(0, 1), ends=(1, 0), end_masks=(False, True)),
        {"x": values(6, 2), "y": values(3, 4)},
        lambda x, y: x.reshape(3, 4),  # noqa: ARG005
    ),
    Case("expand_dims", lambda x: mb.expand_dims(x=x, axes=[0, -1]), {"x": CUBE}, lambda x: x[None, ..., None]),
    Case("squeeze", lambda x: mb.squeeze(x=x, axes=[0, 2]), {"x": values(1, 5, 1, 1)}, lambda x: x.reshape(5, 1)),
    Case("transpose", lambda x: mb.transpose(x=x, perm=[2, 0, 1]), {"x": CUBE}, lambda x: x.movedim(-1, 0)),
    Case("flatten2d", lambda x: mb.flatten2d(x=x, axis=-1), {"x": CUBE}, lambda x: x.reshape(20, 6)),
    Case("shape", lambda x: mb.add(x=mb.shape(x=x), y=0), {"x": CUBE}, lambda _: torch.tensor([4, 5, 6], dtype=torch.int32)),
    Case("reverse", lambda x: mb.reverse(x=x, axes=[0, 2]), {"x": CUBE}, lambda x: torch.from_numpy(x.numpy()[::-1, :, ::-1].copy())),
    Case(
        "reverse_sequence",
        lambda x: mb.reverse_sequence(x=x, lengths=[1, 3, 5, 2], seq_axis=1, batch_axis=0),
        {"x": CUBE},
        lambda x: torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x, (1, 3, 5, 2), strict=True)]),
    ),
    Case(
        "slice_by_index",
        lambda x: mb.slice_by_index(x=x, begin=[1, -1, 0], end=[-1, 0, 6], stride=[1, -2, 3]),
        {"x": CUBE},
        lambda x: torch.from_numpy(x.numpy()[1:-1, -1:0:-2, 0:6:3].copy()),
    ),
    Case(
        "slice_by_index with masks",
        lambda x: mb.slice_by_index(
            x=x,
            begin=[2, 3, 1],
            end=[2, 0, 0],
            stride=[1, -1, 2],
            begin_mask=[False, True, False],
            end_mask=[False, True, True],
            squeeze_mask=[True, False, False],
        ),
        {"x": CUBE},
        lambda x: torch.from_numpy(x.numpy()[2, ::-1, 1::2].copy()),
    ),
    Case(
        "slice_by_index at a computed place",
        lambda x, i: mb.slice_by_index(x=x, begin=i, end=mb.add(x=i, y=2)),
        {"x": CUBE, "i": np.array([1, 0, 3], np.int32)},
        lambda x, i: x[1:3, 0:2, 3:5],  # noqa: ARG005
    ),
    Case("slice_by_size", lambda x: mb.slice_by_size(x=x, begin=[1, 3, 0], size=[2, -1, 3]), {"x": CUBE}, lambda x: x[1:3, 3:, :3]),
    Case(
        "slice_update",
        lambda x, u: mb.slice_update(x=x, update=u, begin=[0, 1, 0], end=[2, 5, 6], stride=[1, 2, 5]),
        {"x": CUBE, "u": values(2, 2, 2)},
        lambda x, u: torch.from_numpy(_assign(x.numpy(), u.numpy())),
        IOS18,
    ),
    Case("concat", lambda x, y: mb.concat(values=(x, y), axis=-1), {"x": CUBE, "y": values(4, 5, 2)}, lambda x, y: torch.cat([x, y], 2)),
    Case(
        "concat interleaved",  # the worked example of its documentation
        lambda x, y: mb.concat(values=(x, y), axis=0, interleave=True),
        {"x": np.array([[1, 2], [3, 4], [5, 6]], np.float32), "y": np.array([[7, 8], [9, 10], [11, 12]], np.float32)},
        lambda x, y: torch.tensor([[1.0, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]]),  # noqa: ARG005
    ),
    Case("stack", lambda x, y: mb.stack(values=(x, y), axis=1), {"x": W34, "y": values(3, 4)}, lambda x, y: torch.stack([x, y], 1)),
    Case("split", lambda x: mb.split(x=x, axis=1, split_sizes=[1, 4]), {"x": CUBE}, lambda x: (x[:, :1], x[:, 1:])),
    Case("split evenly", lambda x: mb.split(x=x, axis=-1, num_splits=3), {"x": CUBE}, lambda x: (x[..., :2], x[..., 2:4], x[..., 4:])),
    Case("tile", lambda x: mb.tile(x=x, reps=[2, 1, 3]), {"x": CUBE}, lambda x: torch.from_numpy(np.tile(x.numpy(), (2, 1, 3)))),
    Case(
        "pad",
        lambda x: mb.pad(x=x, pad=[1, 0, 2, 3], mode="constant", constant_val=7.0),
        {"x": CUBE},
        lambda x: torch.from_numpy(np.pad(x.numpy(), ((0, 0), (1, 0), (2, 3)), constant_values=7)),
    ),
    Case(
        "pad by reflection",
        lambda x: mb.pad(x=x, pad=[1, 2, 3, 4], mode="reflect"),
        {"x": CUBE},
        lambda x: torch.from_numpy(np.pad(x.numpy(), ((0, 0), (1, 2), (3, 4)), mode="reflect")),
    ),
    Case(
        "pad with the edge",
        lambda x: mb.pad(x=x, pad=[0, 0, 1, 2, 3, 4], mode="replicate"),
        {"x": CUBE},
        lambda x: torch.from_numpy(np.pad(x.numpy(), ((0, 0), (1, 2), (3, 4)), mode="edge")),
    ),
    Case("band_part", lambda x: mb.band_part(x=x, lower=1, upper=-1), {"x": CUBE}, lambda x: torch.triu(x, -1)),
    Case("band_part both", lambda x: mb.band_part(x=x, lower=0, upper=2), {"x": CUBE}, lambda x: torch.tril(torch.triu(x), 2)),
    # TensorFlow's worked example of space_to_depth, NCHW
    Case(
        "space_to_depth",
        lambda x: mb.space_to_depth(x=x, block_size=2),
        {"x": np.array([[[[1, 3], [7, 9]], [[2, 4], [8, 10]]]], np.float32)},
        lambda _: torch.tensor([1.0, 2, 3, 4, 7, 8, 9, 10]).reshape(1, 8, 1, 1),
    ),
    Case(
        "depth_to_space undoes space_to_depth",
        lambda x: mb.depth_to_space(x=mb.space_to_depth(x=x, block_size=2), block_size=2),
        {"x": values(2, 3, 4, 6)},
        lambda x: x,
    ),
    Case("pixel_shuffle", lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), {"x": values(2, 8, 3, 5)}, torch.nn.PixelShuffle(2)),
    Case(
        "pixel_unshuffle",
        lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
        {"x": values(2, 3, 4, 6)},
        torch.nn.PixelUnshuffle(2),
    ),
    # TensorFlow's worked example of space_to_batch
    Case(
        "space_to_batch",
        lambda x: mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[0, 0], [0, 0]]),
        {"x": np.array([[[[1, 2], [3, 4]]]], np.float32)},
        lambda _: torch.tensor([1.0, 2, 3, 4]).reshape(4, 1, 1, 1),
    ),
    Case(
        "batch_to_space undoes space_to_batch",
        lambda x: mb.batch_to_space(
            x=mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 0], [0, 2]]), block_shape=[2, 3], crops=[[1, 0], [0, 2]]
        ),
        {"x": values(2, 3, 5, 7)},
        lambda x: x,
    ),
    Case(
        "sliding_windows",
        lambda x: mb.sliding_windows(x=x, axis=1, size=3, stride=2),
        {"x": CUBE},
        lambda x: torch.stack([x[:, 0:3], x[:, 2:5]], 1),
    ),
    Case("fill", lambda x: mb.fill(shape=mb.shape(x=x), value=2.5), {"x": W34}, lambda x: torch.full_like(x, 2.5)),
    Case("fill_like", lambda x: mb.fill_like(ref_tensor=x, value=3), {"x": W34}, lambda _: torch.full((3, 4), 3, dtype=torch.int32)),
    Case(
        "range_1d",
        lambda x: mb.range_1d(start=mb.squeeze(x=x), end=10, step=3),
        {"x": np.array([1], np.int32)},
        lambda _: torch.tensor([1, 4, 7], dtype=torch.int32),
    ),
]


def _assign(x: np.ndarray, update: np.ndarray) -> np.ndarray:
    result = x.copy()
    result[0:2, 1:5:2, 0:6:5] = update
    return result


PLACES, NEGATIVE = np.array([[2, 0], [3, 3]], np.int32), np.array([-1, 1, -4], np.int32)
PAIRS = np.array([[0, 4], [3, 1], [2, 2]], np.int32)
BATCHED = np.array([[1, -1], [0, 2], [3, 3], [4, 0]], np.int32)
ALONG = whole(5, 4, 3, 6)
INDEXING = [
    Case("gather", lambda x: mb.gather(x=x, indices=PLACES, axis=0), {"x": CUBE}, lambda x: x[torch_of(PLACES).long()]),
    Case("gather from the end", lambda x: mb.gather(x=x, indices=NEGATIVE, axis=1), {"x": CUBE}, lambda x: x[:, [4, 1, 1]]),
    Case("gather of a scalar", lambda x: mb.gather(x=x, indices=2, axis=-1), {"x": CUBE}, lambda x: x[..., 2]),
    Case(
        "gather by batch",
        lambda x: mb.gather(x=x, indices=BATCHED, axis=1, batch_dims=1),
        {"x": CUBE},
        lambda x: torch.stack([row[torch_of(places).long()] for row, places in zip(x, BATCHED, strict=True)]),
    ),
    Case(
        "gather_along_axis",
        lambda x: mb.gather_along_axis(x=x, indices=ALONG, axis=1),
        {"x": CUBE},
        lambda x: torch.from_numpy(np.take_along_axis(x.numpy(), ALONG, 1)),
    ),
    Case("gather_nd", lambda x: mb.gather_nd(x=x, indices=PAIRS), {"x": CUBE}, lambda x: torch.stack([x[0, 4], x[3, 1], x[2, 2]])),
    Case(
        "gather_nd by batch",
        lambda x: mb.gather_nd(x=x, indices=BATCHED[..., None], batch_dims=1),
        {"x": CUBE},
        lambda x: torch.stack([row[torch_of(places).long()] for row, places in zip(x, BATCHED, strict=True)]),
    ),
    *(
        Case(
            f"scatter {mode}",
            lambda x, u, mode=mode: mb.scatter(data=x, indices=[4, 0, 4], updates=u, axis=1, mode=mode),
            {"x": CUBE, "u": between(1, 2).repeat(2, 0)[:, :, [0, 1, 2, 3, 0, 1]]},
            lambda x, u, apply=apply: torch.from_numpy(_scatter(x.numpy(), u.numpy(), apply)),
        )
        for mode, apply in (
            ("add", np.add),
            ("sub", np.subtract),
            ("mul", np.multiply),
            ("div", np.divide),
            ("max", np.maximum),
            ("min", np.minimum),
        )
    ),
    Case(
        "scatter_along_axis",
        lambda x, u: mb.scatter_along_axis(data=x, indices=np.full((4, 1, 6), 3, np.int32), updates=u, axis=1, mode="update"),
        {"x": CUBE, "u": values(4, 1, 6)},
        lambda x, u: torch.cat([x[:, :3], u, x[:, 4:]], 1),
    ),
    Case(
        "scatter_nd",  # the worked example of its documentation's indices
        lambda x, u: mb.scatter_nd(data=x, indices=[[0, 1], [0, 2]], updates=u, mode="update"),
        {"x": values(2, 3), "u": np.array([8, 9], np.float32)},
        lambda x, u: torch.stack([torch.stack([x[0, 0], u[0], u[1]]), x[1]]),
    ),
    Case(
        "one_hot",
        lambda x: mb.one_hot(indices=x, one_hot_vector_size=4, axis=1, on_value=2.0, off_value=-1.0),
        {"x": whole(4, 2, 3)},
        lambda x: functional.one_hot(x.long(), 4).movedim(-1, 1) * 3.0 - 1,
    ),
    Case(
        "argsort",
        lambda x: mb.argsort(x=x, axis=1, ascending=True),
        {"x": CUBE},
        lambda x: torch.from_numpy(np.argsort(x.numpy(), 1)).int(),
    ),
    Case("topk", lambda x: mb.topk(x=x, k=2, axis=1), {"x": CUBE}, lambda x: (x.topk(2, 1).values, x.topk(2, 1).indices.int())),
    Case(
        "topk of the smallest",
        lambda x: mb.topk(x=x, k=2, axis=-1, ascending=True, sort=False, return_indices=False),
        {"x": CUBE},
        lambda x: x.topk(2, -1, largest=False).values,
    ),
    Case("cumsum", lambda x: mb.cumsum(x=x, axis=1), {"x": CUBE}, lambda x: torch.from_numpy(np.cumsum(x.numpy(), 1))),
    Case(
        "cumsum from the end, without itself",  # tf.math.cumsum's example: [b + c, c, 0]
        lambda x: mb.cumsum(x=x, axis=0, exclusive=True, reverse=True),
        {"x": np.array([1, 2, 4], np.float32)},
        lambda _: torch.tensor([6.0, 4, 0]),
    ),
    Case(
        "non_zero",
        lambda x: mb.non_zero(x=x),
        {"x": np.array([[0, 3], [5, 0]], np.float32)},
        lambda _: torch.tensor([[0, 1], [1, 0]], dtype=torch.int32),
    ),
]


def _scatter(x: np.ndarray, updates: np.ndarray, apply: Any) -> np.ndarray:
    result = x.copy()
    for source, place in enumerate((4, 0, 4)):
        result[:, place] = apply(result[:, place], updates[:, source])
    return result


def upsample(size: tuple[int, int], mode: str, align: bool | None = None) -> Callable[..., Any]:
    return lambda x: functional.interpolate(x, size, mode=mode, align_corners=align)


def line(name: str, mode: str, points: list[float]) -> Case:
    """One of the worked examples of ``resize_bilinear``: [0, 1] sampled; the values are the grid points themselves."""
    return Case(
        f"resize_bilinear {name}",
        lambda x: mb.resize_bilinear(x=x, target_size_height=1, target_size_width=len(points), sampling_mode=mode),
        {"x": np.array([[[0, 1]]], np.float32)},
        lambda _: torch.tensor([[points]]),
    )


GRID = RANDOM.uniform(-1.4, 1.4, (1, 5, 6, 2)).astype(np.float32)
MATRIX = np.array([[0.8, 0.2, 0.1, -0.3, 0.9, 0.2]], np.float32)
PICTURE = values(1, 3, 6, 8)
RESIZES = [
    Case(
        "upsample_nearest_neighbor",
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        {"x": PICTURE},
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3),
    ),
    Case(
        "upsample_nearest_neighbor by a fraction",
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.5, scale_factor_width=2.5),
        {"x": PICTURE},
        lambda x: functional.interpolate(x, scale_factor=(1.5, 2.5), mode="nearest"),
    ),
    Case(
        "resize_nearest_neighbor",
        lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=4, target_size_width=11),
        {"x": PICTURE},
        upsample((4, 11), "nearest"),
    ),
    Case(
        "upsample_bilinear",
        lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2, align_corners=False),
        {"x": PICTURE},
        upsample((12, 16), "bilinear", False),
    ),
    Case(
        "upsample_bilinear with corners",
        lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2.5, scale_factor_width=1.5, align_corners=True),
        {"x": PICTURE},
        upsample((15, 12), "bilinear", True),
    ),
    Case(
        "resize_bilinear",
        lambda x: mb.resize_bilinear(x=x, target_size_height=5, target_size_width=20, sampling_mode="UNALIGN_CORNERS"),
        {"x": PICTURE},
        upsample((5, 20), "bilinear", False),
    ),
    line("unaligned", "UNALIGN_CORNERS", [0.0, 0.1, 0.5, 0.9, 1.0]),
    line("strict", "STRICT_ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
    line("aligned", "ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
    line("default", "DEFAULT", [0.0, 0.4, 0.8, 1.0, 1.0]),
    line("offset", "OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    line("aligned, one", "ALIGN_CORNERS", [0.5]),
    Case(
        "resize",
        lambda x: mb.resize(x=x, shape=[1, 5, 0], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
        {"x": PICTURE},
        upsample((5, 8), "bilinear", False),
        IOS17,
    ),
    Case("crop", lambda x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]), {"x": PICTURE}, lambda x: x[..., 1:4, :5]),
    Case(
        "crop_resize of a whole picture",
        lambda x: mb.crop_resize(
            x=x,
            roi=np.array([0, 0, 0, 5, 7], np.float32).reshape(1, 1, 5, 1, 1),
            target_height=11,
            target_width=4,
            sampling_mode="ALIGN_CORNERS",
        ),
        {"x": PICTURE},
        lambda x: functional.interpolate(x, (11, 4), mode="bilinear", align_corners=True)[None],
    ),
    Case(
        "crop_resize of boxes",
        lambda x: mb.crop_resize(
            x=x,
            boxes=np.array([[2, 1, 6, 4], [0, 0, 7, 5]], np.float32),
            box_indices=np.array([0, 0], np.int32),
            target_height=4,
            target_width=5,
            box_coordinate_mode="CORNERS_WIDTH_FIRST",
            sampling_mode="STRICT_ALIGN_CORNERS",
        ),
        {"x": PICTURE},
        lambda x: torch.cat([x[:, :, 1:5, 2:7], functional.interpolate(x, (4, 5), mode="bilinear", align_corners=True)]),
        IOS17,
    ),
    *(
        Case(
            f"resample {ours} {align}",
            lambda x, ours=ours, align=align: mb.resample(
                x=x,
                coordinates=GRID,
                sampling_mode="bilinear",
                padding_mode=ours,
                padding_value=0.0,
                coordinates_mode="normalized_minus_one_to_one",
                align_corners=align,
            ),
            {"x": PICTURE},
            lambda x, theirs=theirs, align=align: functional.grid_sample(x, torch_of(GRID), "bilinear", theirs, align_corners=align),
        )
        for ours, theirs, align in (
            ("constant", "zeros", False),
            ("constant", "zeros", True),
            ("border", "border", False),
            ("reflection", "reflection", True),
            ("symmetric", "reflection", False),
        )
    ),
    Case(
        "affine",
        lambda x: mb.affine(
            x=x,
            transform_matrix=MATRIX,
            output_height=5,
            output_width=7,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        {"x": PICTURE},
        lambda x: functional.grid_sample(
            x, functional.affine_grid(torch_of(MATRIX).reshape(1, 2, 3), [1, 3, 5, 7], align_corners=True), align_corners=True
        ),
    ),
]

STEPS = np.array([0.1, 0.2, 0.05], np.float32)
ZEROS = np.array([3, -2, 0], np.int8)
QUANTIZED = [
    Case(
        "quantize",
        lambda x: mb.cast(x=mb.quantize(input=x, scale=STEPS, zero_point=ZEROS, output_dtype="int8", axis=1), dtype="int32"),
        {"x": 10 * values(2, 3, 4)},
        lambda x: (torch.round(x / torch_of(STEPS).reshape(3, 1)) + torch_of(ZEROS).reshape(3, 1)).clamp(-128, 127).int(),
        IOS17,
    ),
    Case(
        "quantize and back",
        lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.1), zero_point=np.uint8(90), output_dtype="uint8"),
            scale=np.float32(0.1),
            zero_point=np.uint8(90),
        ),
        {"x": 10 * values(2, 3, 4)},
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 90, 0, 255),
        IOS17,
    ),
]

CONTROL = [
    Case(
        "cond",
        lambda x: mb.cond(
            pred=mb.squeeze(x=mb.greater(x=mb.slice_by_index(x=x, begin=[0], end=[1]), y=0.0)),
            _true_fn=lambda: mb.add(x=x, y=1.0),
            _false_fn=lambda: mb.mul(x=x, y=2.0),
        ),
        {"x": np.array([-1.0, 3.0], np.float32)},
        lambda _: torch.tensor([-2.0, 6.0]),
    ),
    Case(
        "while_loop",  # doubles until the sum passes 100
        lambda x: mb.while_loop(
            _cond=lambda v: mb.less(x=mb.reduce_sum(x=v, axes=[0]), y=100.0), _body=lambda v: mb.mul(x=v, y=2.0), loop_vars=(x,)
        ),
        {"x": np.array([1.0, 2.0], np.float32)},
        lambda _: torch.tensor([64.0, 128.0]),
    ),
]

CASES = [*UNARY, *BINARY, *CONVOLUTIONS, *POOLS, *ALGEBRA, *RECURRENT, *REDUCTIONS, *SHAPES, *INDEXING, *RESIZES, *QUANTIZED, *CONTROL]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[np.ndarray]]:
    """What the interpreter makes of every case, by its place in `CASES`: all cases of one system are outputs of one program."""
    found: dict[int, list[np.ndarray]] = {}
    for system in (IOS16, IOS17, IOS18):
        cases = [(index, case) for index, case in enumerate(CASES) if case.system is system]
        inputs = {f"case{index}_{name}": array for index, case in cases for name, array in case.inputs.items()}
        package = save_program(system, inputs, cases, tmp_path_factory.mktemp("operators"))
        results = list(interpret(package)(inputs).values())
        for index, case in cases:
            count = len(expect(case))
            found[index], results = results[:count], results[count:]
        assert not results
    return found


def save_program(system: Any, inputs: dict[str, np.ndarray], cases: list[tuple[int, Case]], folder: Path) -> Path:
    """Save one program with the outputs of all `cases`, with no pass of coremltools in between."""
    placeholders = {name: mb.placeholder(array.shape, TYPES[array.dtype.name]) for name, array in inputs.items()}
    with Function(placeholders, opset_version=system) as function:
        outputs = []
        for index, case in cases:
            made = case.build(*(function.inputs[f"case{index}_{name}"] for name in case.inputs))
            outputs += made if isinstance(made, tuple | list) else [made]
        function.set_outputs(outputs)
    program = Program()
    program.add_function("main", function)
    with warnings.catch_warnings():  # coremltools leaves a temporary folder to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=system,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    model.save(str(folder / "model.mlpackage"))
    return folder / "model.mlpackage"


def expect(case: Case) -> tuple[torch.Tensor, ...]:
    expected = case.expected(*(torch.tensor(array) for array in case.inputs.values()))
    return expected if isinstance(expected, tuple) else (expected,)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
def test_an_operator_computes_what_torch_computes(index: int, answers: dict[int, list[np.ndarray]]) -> None:
    for ours, theirs in zip(answers[index], expect(CASES[index]), strict=True):
        assert ours.shape == (tuple(theirs.shape) or (1,)) or ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs.numpy(), rtol=1e-5, atol=2e-6)
