"""Stored values become gray levels: "DICOM: from stored value to byte" of ``docs/canvas.md``.

Everything runs on a table of the bit patterns that a pixel can hold instead of on the film: exact, and a film is one indexing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.radiograph import header as tags
from edgekit.radiograph.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.radiograph.header import Header

    Window = tuple[float, float, str]
    Table = tuple[NDArray[np.float64], int]

PERMILLE = (5, 995)
"""The percentile window, in thousandths of the pixels: 0.5 % and 99.5 %."""

LEAST_CONTRAST = 12
"""Gray levels between the two percentiles of a film on which something can be seen."""

CONTRAST_BLAME = "the film is one even shade: nothing can be seen on it"
"""What is said of a film without contrast, on every host."""

_RAW_INTENSITY = ("XA", "RF")
_RAW_INTENSITY_CLASSES = ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2")
_BAND = 64
"""Rows that are worked on at a time: their indices stay in cache, and no copy of a large film is made."""


def make_grey_table(
    path: Path, header: Header, values: NDArray[np.int64], limits: tuple[int, int], count: Callable[[], NDArray[np.int64]]
) -> NDArray[np.uint8]:
    """Return the gray level of every bit pattern that a pixel can hold.

    Parameters
    ----------
    path
        The film, for messages.
    header
        Its elements.
    values
        int64 (P,), the stored value of each pattern.
    limits
        The smallest and the largest stored value that the film's bits allow.
    count
        Returns int64 (P,), the pixels of each pattern; called where a percentile window is needed.

    Returns
    -------
    ndarray
        uint8 (P,), MONOCHROME2 sense.

    Raises
    ------
    FilmError
        A lookup table or a VOI LUT function can't be used.
    """
    window = _find_window(header)
    is_padding = _find_padding(header, values, is_signed=limits[0] < 0)
    with np.errstate(over="ignore", invalid="ignore"):  # a slope of 1e308: infinities are clipped like other values
        measured, least = _apply_modality(path, header, values, limits, window)
        grey = _apply_voi(path, header, measured, least, window)
        if grey is None:
            grey = window_percentiles(measured, np.where(is_padding, 0, count()))
    # PS3.3 C.8.11.3.1.2: MONOCHROME1 goes with INVERSE, so both together are one inversion
    if header.word(tags.PHOTOMETRIC) == "MONOCHROME1" or header.word(tags.PRESENTATION_SHAPE) == "INVERSE":
        grey = 1 - grey
    return to_bytes(np.where(is_padding, 0.0, grey))


def _find_window(header: Header) -> Window | None:
    """Return centre, width and function of the first window; None where there is none that can be used (PS3.3 C.11.2.1.2)."""
    centre, width = header.number(tags.WINDOW_CENTER), header.number(tags.WINDOW_WIDTH)
    function = header.word(tags.VOI_FUNCTION) or "LINEAR"
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    return centre, width, function


def _find_padding(header: Header, values: NDArray[np.int64], is_signed: bool) -> NDArray[np.bool_]:
    """Return which patterns are padding around the film (PS3.3 C.7.5.1.1.2); none when the file does not say.

    Compared modulo 2 ** 16, for the element may be written unsigned beside signed pixels.
    """
    first, limit = header.integer(tags.PADDING), header.integer(tags.PADDING_LIMIT)
    if first is None:
        return np.zeros(values.shape, np.bool_)
    half = 1 << 15
    first, last = (
        (bound + half) % (1 << 16) - half if is_signed else bound % (1 << 16) for bound in (first, first if limit is None else limit)
    )
    low, high = min(first, last), max(first, last)
    return np.asarray((values - low) % (1 << 16) <= high - low)


def _apply_modality(
    path: Path, header: Header, values: NDArray[np.int64], limits: tuple[int, int], window: Window | None
) -> tuple[NDArray[np.float64], float]:
    """Apply the modality LUT, else the rescale (PS3.3 C.11.1); return also the smallest value that can come out."""
    is_raw_intensity = header.word(tags.MODALITY) in _RAW_INTENSITY or header.word(tags.SOP_CLASS) in _RAW_INTENSITY_CLASSES
    if not is_raw_intensity:
        table = _read_table(path, header, tags.MODALITY_LUTS, "Modality LUT Sequence (0028,3000)", values, limits[0] < 0, window)
        if table is not None:
            return table[0], 0.0
    slope, intercept = header.number(tags.RESCALE_SLOPE), header.number(tags.RESCALE_INTERCEPT)
    if slope is None or intercept is None or slope == 0:
        slope, intercept = 1.0, 0.0
    return np.asarray(values * slope + intercept, float), min(limit * slope + intercept for limit in limits)


def _apply_voi(path: Path, header: Header, values: NDArray[np.float64], least: float, window: Window | None) -> NDArray[np.float64] | None:
    """Map `values` to 0..1 by the first VOI LUT, else the first window (PS3.3 C.11.2); None when there is neither."""
    table = _read_table(path, header, tags.VOI_LUTS, "VOI LUT Sequence (0028,3010)", values, least < 0, window)
    if table is not None:
        entries, top = table
        return entries / top
    if window is None:
        return None
    centre, width, function = window
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise refuse(
            path,
            "function",
            f"VOI LUT Function (0028,1056) is {function!r}, expected LINEAR, LINEAR_EXACT or SIGMOID",
            "Correct it, or delete Window Center (0028,1050).",
        )
    if width == 0:
        return (values > centre).astype(float)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _read_table(
    path: Path, header: Header, tag: int, name: str, values: NDArray[Any], is_signed: bool, window: Window | None
) -> Table | None:
    """Look `values` up in the first table of a sequence; return the entries and the largest possible one.

    None where there is no table, or an unusable one beside a window (PS3.3 C.11.1.1.1, C.11.2.1.1).
    """
    item = header.first_item(tag)
    if item is None:
        return None
    numbers = [int(number) for number in item.numbers(tags.LUT_DESCRIPTOR)[:3] if number is not None]
    data = item.data(tags.LUT_DATA)
    if len(numbers) < 3:
        fault = "its LUT Descriptor (0028,3002) is not three numbers"
    else:
        count, first, bits = numbers
        count = count % (1 << 16) or 1 << 16
        first = (first + (1 << 15)) % (1 << 16) - (1 << 15) if is_signed else first % (1 << 16)
        is_bytes = bits == 8 and len(data) < 2 * count
        if is_bytes:
            entries = take_bytes(data, min(count, len(data)), item.vr(tags.LUT_DATA), header.is_little)
        else:
            entries = np.frombuffer(data, "<u2" if header.is_little else ">u2", min(count, len(data) // 2))
        largest = int(entries.max(initial=0))
        if entries.size < count:
            fault = f"its LUT Data (0028,3006) hold {entries.size} entries, its LUT Descriptor (0028,3002) announces {count}"
        elif not 8 <= bits <= 16 or largest >= 1 << bits:
            fault = f"its LUT Descriptor (0028,3002) announces entries of {bits} bits, and the largest is {largest}"
        elif largest == 0:
            fault = "all entries of its LUT Data (0028,3006) are 0"
        else:
            # a 12-bit table that is declared as 16 bits is common; viewers scale it by its largest entry
            top = largest if largest < 1 << (bits - 1) else (1 << bits) - 1
            return entries.astype(float)[np.clip(np.floor(values + 0.5) - first, 0, count - 1).astype(int)], top
    if window is not None:
        return None
    raise refuse(path, "table", f"{name} can't be used: {fault}; and there is no window beside it", "Export the film again.")


def take_bytes(value: bytes | memoryview, count: int, vr: str, is_little: bool) -> NDArray[np.uint8]:
    """Return the first `count` bytes of an element: uint8 (count,). Those that were written as big-endian words are swapped in pairs."""
    packed = np.frombuffer(value, np.uint8)
    if is_little or vr not in ("OW", "US", "SS"):
        return packed[:count]
    even = count // 2 * 2
    swapped = packed[:even].reshape(-1, 2)[:, ::-1].reshape(-1)
    return swapped if count == even else np.append(swapped, packed[even : even + 2][-1])


def window_percentiles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Map `values` to 0..1 between the 0.5th and the 99.5th percentile (nearest rank) of a film with `counts` pixels of each."""
    order = np.argsort(values, kind="stable")
    reached = 1000 * np.cumsum(counts[order])
    low, high = (values[order[np.searchsorted(reached, share * counts.sum())]] for share in PERMILLE)
    return np.asarray(np.clip((values - low) / (high - low or 1.0), 0, 1))


def to_bytes(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round 0..1 to 0..255, halves up; what is no number becomes 0."""
    return np.where(np.isnan(grey), 0, np.floor(grey * 255 + 0.5)).astype(np.uint8)


def count_patterns(stored: NDArray[Any], size: int) -> NDArray[np.int64]:
    """Return how many pixels of `stored` (height, width) have each of the patterns 0 .. size-1: int64 (size,)."""
    counts = np.zeros(size, np.int64)
    for row in range(0, stored.shape[0], _BAND):
        counts += np.bincount(stored[row : row + _BAND].ravel(), minlength=size)
    return counts


def look_up(stored: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Index `table` by the unsigned patterns `stored` (height, width)."""
    pixels = np.empty(stored.shape, np.uint8)
    for row in range(0, stored.shape[0], _BAND):
        np.take(table, stored[row : row + _BAND], out=pixels[row : row + _BAND], mode="clip")
    return pixels


def check_contrast(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Refuse a film (height, width) that shows nothing ("Contrast").

    Raises
    ------
    FilmError
        Its percentiles differ by less than `LEAST_CONTRAST`.
    """
    from PIL import Image

    reached = 1000 * np.cumsum(Image.fromarray(pixels).histogram())  # four times as fast as numpy's
    low, high = (int(np.searchsorted(reached, share * pixels.size)) for share in PERMILLE)
    if high - low < LEAST_CONTRAST:
        raise refuse(path, "blank", CONTRAST_BLAME, "Check that the right film was exported, and that its window fits.")
