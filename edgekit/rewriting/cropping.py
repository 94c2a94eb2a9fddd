"""The crop as products of integers: canvases are bytes, and so are the weights of the triangle filter, finely enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.rewriting.editing import Editor
from edgekit.rewriting.films import WHITE, bytes_of, dequantize

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMN_LEVELS, ROW_LEVELS = 64, 127
"""A weight of one in the first product and in the second. Processors without 8-bit dot products add pairs of products in 16 bits:
2 x 255 x 64 and 2 x 127 x 128 are the largest that fit."""

ROW_ZERO = np.uint8(1)
"""What stands for a weight of zero in the second product. ARM takes 128 from unsigned bytes, and a zero twice beside a black pixel then
makes 2 x 128 x 128, one more than 16 bits hold."""


def crop_in_integers(model: Any) -> Any:
    """Crop by two MatMulInteger; the result is rounded to grey levels, one level from the plain crop at most where the film is smooth.

    Weights are rounded and then divided by their own sum, so that even surfaces stay even: what rounding changes is where a sample is
    taken, by a hundredth of a pixel. The samples of the first product are rounded to grey levels too.
    """
    editor = Editor(model)
    for cropped, films, boxes, side in list(find_crops(editor)):
        _, height, width = editor.shape(cropped)
        columns = _quantize(editor, _weigh(editor, boxes, 0, side, width, turned=True), COLUMN_LEVELS, np.int8(0))
        rows = _quantize(editor, _weigh(editor, boxes, 1, side, height, turned=False), ROW_LEVELS, ROW_ZERO)
        ones = [
            editor.add_constant("crop.ones", np.ones(shape, kind)) for shape, kind in (((1, 1, side), np.uint8), ((1, side, 1), np.int8))
        ]
        across = _multiply(editor, [films, columns], [ones[0], columns])
        centred = editor.add("QuantizeLinear", [across, *_constants(editor, 1.0, np.int8(-128))], "crop.across")
        nothing, black, none = (editor.add_constant("crop.zero", value) for value in (ROW_ZERO, np.int8(-128), np.int8(0)))
        crops = _multiply(editor, [rows, centred, nothing, black], [rows, ones[1], nothing, none])
        rounded = editor.add("QuantizeLinear", [crops, *_constants(editor, 1.0, np.uint8(0))], "crop")
        editor.redirect(cropped, dequantize(editor, rounded, np.float32(1 / WHITE), np.uint8(0)))
    return editor.finish()


def find_crops(editor: Editor) -> Iterator[tuple[str, str, str, int]]:
    """Yield each crop of films that are bytes: what it makes, the films (N, S, S), the boxes (N, 4), and S."""
    for outer in editor.nodes("MatMul"):
        inner, turned = editor.maker(outer.input[0], "MatMul"), editor.maker(outer.input[1], "Transpose")
        films = bytes_of(editor, inner.input[1]) if inner and turned else None
        if films is not None:
            yield outer.output[0], films, _find_boxes(editor, inner.input[0]), editor.shape(inner.input[1])[-1]


def _find_boxes(editor: Editor, weights: str) -> str:
    """Return the tensor of boxes, (N, 4), that weights are computed from."""
    waiting = [weights]
    while waiting:
        tensor = waiting.pop()
        if len(shape := editor.shape(tensor)) == 2 and shape[1] == 4:
            return tensor
        node = next((node for node in editor.graph.node if tensor in node.output), None)
        waiting += [name for name in node.input if editor.constant(name) is None] if node else []
    raise AssertionError(f"{weights} depend on no box")


def _weigh(editor: Editor, boxes: str, axis: int, length: int, size: int, *, turned: bool) -> str:
    """Add ``1 - |distance|`` of ``edgekit.models.cropper.triangle_weights``: (N, size, length), or (N, length, size) when `turned`.

    Everything but the two differences is computed for a vector before it is spread out.
    """
    name = ("crop.columns", "crop.rows")[axis]
    pixel, sample = ((1, length, 1), (1, 1, size)) if turned else ((1, 1, length), (1, size, 1))
    one = editor.add_constant("crop.one", np.float32(1))
    start, stop = (
        editor.add("Unsqueeze", [_pick(editor, boxes, place), editor.add_constant("crop.axis", np.array([2]))], f"{name}.edge")
        for place in (axis, axis + 2)
    )
    step = editor.add(
        "Div", [editor.add("Sub", [stop, start], f"{name}.extent"), editor.add_constant("crop.size", np.float32(size))], f"{name}.step"
    )
    reach = editor.add("Max", [step, one], f"{name}.reach")
    samples = editor.add_constant("crop.samples", (np.arange(size, dtype=np.float32) + 0.5).reshape(sample))
    pixels = editor.add_constant("crop.pixels", (np.arange(length, dtype=np.float32) + 0.5).reshape(pixel))
    centres = editor.add("Add", [start, editor.add("Mul", [samples, step], f"{name}.offsets")], f"{name}.centres")
    apart = editor.add("Sub", [*(editor.add("Div", [each, reach], f"{name}.scaled") for each in (pixels, centres))], f"{name}.apart")
    return editor.add("Sub", [one, editor.add("Abs", [apart], f"{name}.distance")], f"{name}.weights")


def _pick(editor: Editor, boxes: str, column: int) -> str:
    """Add the column of the boxes, (N, 1)."""
    return editor.add("Gather", [boxes, editor.add_constant("crop.column", np.array([column]))], "crop.edges", axis=1)


def _quantize(editor: Editor, weights: str, levels: int, zero: np.generic) -> str:
    """Add the weights as integers, `levels` steps to one; what is below zero is zero."""
    positive = editor.add("Relu", [weights], f"{weights}.positive")
    return editor.add("QuantizeLinear", [positive, *_constants(editor, 1 / levels, zero)], f"{weights}.levels")


def _constants(editor: Editor, scale: float, zero: np.generic) -> list[str]:
    return [editor.add_constant("crop.scale", np.float32(scale)), editor.add_constant("crop.zero", zero)]


def _multiply(editor: Editor, factors: list[str], total: list[str]) -> str:
    """Add a product of bytes, divided by the sum of the weights in it: grey levels in float.

    Parameters
    ----------
    factors
        uint8 and int8, and their zero points where they are not zero.
    total
        The same whose product is the sum of the weights.
    """
    product, weight = (
        editor.add("Cast", [editor.add("MatMulInteger", inputs, "crop.sums")], "crop.sums.float", to=1) for inputs in (factors, total)
    )
    share = editor.add("Reciprocal", [weight], "crop.share")
    return editor.add("Mul", [product, share], "crop.levels")
