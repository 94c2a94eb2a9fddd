"""Films read as the bytes that they are: nothing of the way from a canvas to a first convolution is computed in float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.rewriting.editing import Editor

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHITE = 255
MOVES = ("Slice", "Concat", "Gather", "Unsqueeze", "Squeeze")
"""What takes values elsewhere and leaves them as they are, so that it can be done with bytes."""


def read_bytes(model: Any) -> Any:
    """Join the canvases as bytes, and turn them into [0, 1] by one DequantizeLinear: the same to the last bit but one.

    The plain graph casts each canvas to float first, which TensorRT demands. A task's only canvas has nothing to be joined with.
    """
    editor = Editor(model)
    for division in editor.nodes("Div"):
        joined = editor.maker(division.input[0], "Concat")
        floats = list(joined.input) if joined else [division.input[0]]
        casts = [cast for name in floats if (cast := editor.maker(name, "Cast"))]
        if len(casts) < len(floats) or editor.constant(division.input[1]) != WHITE:
            continue
        films = [cast.input[0] for cast in casts]
        together = editor.add("Concat", films, "canvases", axis=0) if joined else films[0]
        editor.redirect(division.output[0], dequantize(editor, together, np.float32(1 / WHITE), np.uint8(0)))
    return editor.finish()


def unfold_stems(model: Any, *, pool_first: bool = False) -> Any:
    """Let each first convolution read bytes: mean-pool, normalization and the stride become part of its weights.

    A pool of k and a convolution of stride s are one convolution of stride k s. Its input is cut into blocks of that side, each a pixel
    with as many channels (SpaceToDepth), and what remains is a convolution of stride one, 2x2 or 3x3, whose matrix product is large enough
    to be fast. The mean that is subtracted becomes the zero point, to the next grey level, and what is left of it goes to the bias: exact
    but at the film's edge, where it is half a level at most.

    Parameters
    ----------
    model
        With films read as bytes.
    pool_first
        Whether a pool stays an operation of its own, a 1x1 convolution over the blocks: a seventh of the products, for one more reading and
        writing, and in 8 bits for pooled values that are rounded.
    """
    editor = Editor(model)
    for node in editor.nodes("Conv"):
        stem = _read_stem(editor, node)
        if stem is not None:
            _replace_stem(editor, node, stem, pool_first)
    return editor.finish()


def dequantize(editor: Editor, tensor: str, scale: np.float32, zero: np.generic) -> str:
    """Add the node that turns a tensor of bytes into float, and return the name of its output."""
    constants = [editor.add_constant(f"{tensor}.scale", scale), editor.add_constant(f"{tensor}.zero", zero)]
    return editor.add("DequantizeLinear", [tensor, *constants], f"{tensor}.float")


def bytes_of(editor: Editor, tensor: str) -> str | None:
    """Return a tensor of bytes that is `tensor` times 255; None if there is none."""
    if (read := editor.maker(tensor, "DequantizeLinear")) is not None:
        scale, zero = editor.constant(read.input[1]), editor.constant(read.input[2])
        return read.input[0] if scale == np.float32(1 / WHITE) and zero == 0 else None
    node = next((made for operator in MOVES if (made := editor.maker(tensor, operator)) is not None), None)
    if node is None:
        return None
    axis = next((attribute.i for attribute in node.attribute), 0)
    if node.op_type == "Gather" and editor.shape(node.input[0])[axis] == 1:  # a squeeze, which moves nothing
        source = bytes_of(editor, node.input[0])
        return source and editor.add("Squeeze", [source, editor.add_constant("films.axis", np.array([axis]))], f"{tensor}.bytes")
    moved = list(node.input) if node.op_type == "Concat" else [node.input[0]]
    sources = [bytes_of(editor, name) for name in moved]
    if None in sources:
        return None
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return editor.add(node.op_type, [*map(str, sources), *node.input[len(moved) :]], f"{tensor}.bytes", **attributes)


@dataclass(frozen=True, slots=True, eq=False)
class _Stem:
    """What stands before a first convolution: bytes / 255, mean-pooled by `pool`, less `mean`, by `std`."""

    films: str
    pool: int
    mean: float
    std: float


def _read_stem(editor: Editor, node: Any) -> _Stem | None:
    """Return what stands before a convolution if it is bytes, pooling and normalization, and its form can be unfolded."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    tensor, mean, std, pool = node.input[0], 0.0, 1.0, 1
    division = editor.maker(tensor, "Div")
    shift = editor.maker(division.input[0], "Sub") if division else None
    if shift is not None:
        means, stds = editor.constant(shift.input[1]), editor.constant(division.input[1])
        if means is None or stds is None or means.size != 1 or stds.size != 1:
            return None
        tensor, mean, std = shift.input[0], means.item(), stds.item()
    if (pooling := editor.maker(tensor, "AveragePool")) is not None:
        settings = {attribute.name: list(attribute.ints) for attribute in pooling.attribute}
        tensor, pool = pooling.input[0], settings["kernel_shape"][0]
        if settings["strides"] != [pool, pool] or any(settings.get("pads", ())):
            return None
    if len(set(attributes["strides"].ints)) != 1 or len(set(attributes["pads"].ints)) != 1 or attributes["group"].i != 1:
        return None
    _, channels, *sides = editor.shape(tensor)
    if channels != 1 or any(side % (attributes["strides"].ints[0] * pool) for side in sides):
        return None
    films = bytes_of(editor, tensor)
    return _Stem(films, pool, mean, std) if films else None


def _replace_stem(editor: Editor, node: Any, stem: _Stem, pool_first: bool) -> None:
    """Let the convolution `node` read the bytes of `stem` in blocks."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    weights, bias = (editor.constant(name) for name in node.input[1:])
    assert weights is not None
    assert bias is not None
    scale, zero = np.float32(1 / (WHITE * stem.std)), np.uint8(round(WHITE * stem.mean))
    shift = (WHITE * stem.mean - float(zero)) / (WHITE * stem.std)
    stride, pad = attributes["strides"].ints[0], attributes["pads"].ints[0]
    unfolded, before, after = unfold(weights, stride, pad, 1 if pool_first else stem.pool)
    blocks = editor.add("SpaceToDepth", [stem.films], f"{node.output[0]}.blocks", blocksize=stride * stem.pool)
    films = dequantize(editor, blocks, scale, zero)
    if pool_first and stem.pool > 1:
        kernel = editor.add_constant(f"{node.output[0]}.means", _average(stride, stem.pool))
        nothing = editor.add_constant(f"{node.output[0]}.nothing", np.zeros(stride**2, np.float32))
        films = editor.add("Conv", [films, kernel, nothing], f"{node.output[0]}.pooled", kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4)
    shifted = (bias - shift * weights.astype(np.float64).sum(axis=(1, 2, 3))).astype(np.float32)
    node.input[:] = [
        films,
        editor.add_constant(f"{node.input[1]}.unfolded", unfolded),
        editor.add_constant(f"{node.input[2]}.shifted", shifted),
    ]
    attributes["strides"].ints[:] = [1, 1]
    attributes["pads"].ints[:] = [before, before, after, after]
    if "kernel_shape" in attributes:
        attributes["kernel_shape"].ints[:] = unfolded.shape[2:]


def _average(stride: int, pool: int) -> NDArray[np.float32]:
    """Return the weights (stride^2, (stride pool)^2, 1, 1) that average each pool of a block, both ordered as SpaceToDepth does."""
    means = np.kron(np.eye(stride, dtype=np.float32), np.full((1, pool), 1 / pool, np.float32))  # along one axis: (stride, stride pool)
    return np.ascontiguousarray(np.kron(means, means)[:, :, None, None])


def unfold(weights: NDArray[np.float32], stride: int, pad: int, pool: int) -> tuple[NDArray[np.float32], int, int]:
    """Return the weights of a convolution over blocks that equals mean-pooling and a strided convolution of one channel.

    Parameters
    ----------
    weights
        float32 (O, 1, k, k).
    stride, pad
        Of the convolution.
    pool
        Side of the mean-pool before it.

    Returns
    -------
    weights
        float32 (O, b * b, n, n) for blocks of side b = stride * pool, channels as SpaceToDepth orders them.
    before, after
        Padding in blocks.
    """
    fine = np.kron(weights, np.full((1, 1, pool, pool), 1 / pool**2, np.float32))
    block, start, stop = stride * pool, -pad * pool, fine.shape[2] - pad * pool  # rows that the first output sees, `stop` not included
    before, after = -(start // block), (stop - 1) // block
    count = before + 1 + after
    whole = np.zeros((len(weights), count * block, count * block), np.float32)
    first = start + before * block
    whole[:, first : first + fine.shape[2], first : first + fine.shape[3]] = fine[:, 0]
    blocks = whole.reshape(-1, count, block, count, block).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(blocks.reshape(len(weights), block * block, count, count)), before, after
