"""The crop from the few pixels that each of its samples sees, gathered: a fiftieth of the products of whole rows and columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.rewriting.cropping import find_crops
from edgekit.rewriting.editing import Editor
from edgekit.rewriting.films import WHITE, dequantize


def crop_by_gathering(model: Any, *, in_levels: bool) -> Any:
    """Crop by two Gathers and two products of what they bring.

    A sample of ``edgekit.models.cropper.crop_and_resize`` sees the pixels nearer than its filter reaches, and a crop is never larger than
    its canvas: so many pixels are gathered for each, and those that are outside the filter or the canvas have no weight.

    Parameters
    ----------
    model
        With films read as bytes.
    in_levels
        Whether the crop is rounded to gray levels, so that a first convolution can read bytes; the plain crop else, but for rounding.
    """
    editor = Editor(model)
    for cropped, films, boxes, side in list(find_crops(editor)):
        count, height, width = editor.shape(cropped)
        reshaped = _reshape(editor, films, (count * side, side))
        rows = _sample(editor, reshaped, boxes, 1, (count, side, height), bytes_read=True)
        columns = editor.add("Transpose", [rows], "crop.turned", perm=[0, 2, 1])
        sampled = _sample(editor, _reshape(editor, columns, (count * side, height)), boxes, 0, (count, side, width), bytes_read=False)
        crops = editor.add("Transpose", [sampled], "crop.levels", perm=[0, 2, 1])
        if in_levels:
            scale, zero = editor.add_constant("crop.scale", np.float32(1)), editor.add_constant("crop.zero", np.uint8(0))
            crops = dequantize(editor, editor.add("QuantizeLinear", [crops, scale, zero], "crop"), np.float32(1 / WHITE), np.uint8(0))
        else:
            crops = editor.add("Mul", [crops, editor.add_constant("crop.white", np.float32(1 / WHITE))], "crop")
        editor.redirect(cropped, crops)
    return editor.finish()


def _sample(editor: Editor, lines: str, boxes: str, axis: int, sizes: tuple[int, int, int], *, bytes_read: bool) -> str:
    """Add the samples along one axis: (N, size, L) from lines (N * side, L), each the weighted mean of the lines that it sees."""
    count, side, size = sizes
    name = ("crop.columns", "crop.rows")[axis]
    taps = math.ceil(2 * max(side / size, 1))
    one, half, zero = (editor.add_constant(f"crop.{what}", np.float32(what)) for what in (1, 0.5, 0))
    start, stop = (
        editor.add("Gather", [boxes, editor.add_constant("crop.column", np.array([place]))], f"{name}.edge", axis=1)
        for place in (axis, axis + 2)
    )
    step = editor.add(
        "Div", [editor.add("Sub", [stop, start], f"{name}.extent"), editor.add_constant("crop.size", np.float32(size))], f"{name}.step"
    )
    reach = editor.add("Max", [step, one], f"{name}.reach")
    places = editor.add_constant("crop.samples", (np.arange(size, dtype=np.float32) + 0.5).reshape(1, size))
    centres = editor.add("Add", [start, editor.add("Mul", [places, step], f"{name}.offsets")], f"{name}.centres")
    first = editor.add("Sub", [centres, editor.add("Sub", [reach, half], f"{name}.before")], f"{name}.first")
    first = _reshape(editor, editor.add("Floor", [first], f"{name}.first.pixel"), (count, size, 1))
    pixels = editor.add(
        "Add", [first, editor.add_constant("crop.taps", np.arange(taps, dtype=np.float32).reshape(1, 1, taps))], f"{name}.pixels"
    )
    last = editor.add_constant("crop.last", np.float32(side - 1))
    inside = editor.add("Clip", [pixels, zero, last], f"{name}.inside")
    apart = editor.add(
        "Sub", [editor.add("Add", [pixels, half], f"{name}.middles"), _reshape(editor, centres, (count, size, 1))], f"{name}.apart"
    )
    distance = editor.add("Div", [editor.add("Abs", [apart], f"{name}.distance"), _reshape(editor, reach, (count, 1, 1))], f"{name}.scaled")
    beyond = editor.add("Abs", [editor.add("Sub", [pixels, inside], f"{name}.outside")], f"{name}.beyond")
    weights = editor.add(
        "Relu", [editor.add("Sub", [one, editor.add("Add", [distance, beyond], f"{name}.away")], f"{name}.near")], f"{name}.weights"
    )
    total = editor.add("ReduceSum", [weights, editor.add_constant("crop.axis", np.array([2]))], f"{name}.total", keepdims=1)
    shares = editor.add("Div", [weights, total], f"{name}.shares")
    films = editor.add_constant("crop.films", (side * np.arange(count, dtype=np.float32)).reshape(count, 1, 1))
    chosen = editor.add("Cast", [editor.add("Add", [inside, films], f"{name}.lines")], f"{name}.numbers", to=6)
    seen = editor.add("Gather", [lines, _reshape(editor, chosen, (count * size * taps,))], f"{name}.seen", axis=0)
    if bytes_read:
        seen = dequantize(editor, seen, np.float32(1), np.uint8(0))
    seen = editor.add("Reshape", [seen, editor.add_constant("crop.shape", np.array([count * size, taps, -1]))], f"{name}.seen.each")
    mixed = editor.add("MatMul", [_reshape(editor, shares, (count * size, 1, taps)), seen], f"{name}.mixed")
    return editor.add("Reshape", [mixed, editor.add_constant("crop.shape", np.array([count, size, -1]))], f"{name}.sampled")


def _reshape(editor: Editor, tensor: str, shape: tuple[int, ...]) -> str:
    return editor.add("Reshape", [tensor, editor.add_constant("crop.shape", np.array(shape))], f"{tensor}.{'x'.join(map(str, shape))}")
