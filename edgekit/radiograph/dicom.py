"""DICOM films: what is read and what is refused, in the order of ``docs/canvas.md``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgekit.radiograph import header as tags
from edgekit.radiograph.grey import count_patterns, look_up, make_grey_table, take_bytes
from edgekit.radiograph.header import read_header
from edgekit.radiograph.refusals import check_size, refuse, refuse_damaged
from edgekit.radiograph.streams import CODINGS, ITEM, LOSSY, decode_stream, inspect_stream, join_fragments
from edgekit.types import Radiograph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.errors import FilmError
    from edgekit.radiograph.header import Header, PixelData
    from edgekit.radiograph.streams import Stream
    from edgekit.task import View

MODALITIES = ("CR", "DX", "DR", "RG", "RF", "XA", "MG", "IO", "PX", "OT", "SC", "")
"""Projection radiographs, and objects that don't say what they are (Modality, PS3.3 C.7.3.1.1.1)."""

_GE_BIG_PIXELS = "1.2.840.113619.5.2"
"""GE's own Transfer Syntax: implicit VR, little-endian, but the words of the pixels are big-endian."""

VIEW_POSITIONS: dict[str, View] = {
    "AP": "ap",
    "PA": "ap",
    "LL": "lateral",
    "RL": "lateral",
    "LAT": "lateral",
    "LATERAL": "lateral",
}
"""DICOM View Position (0018,5101) to our views; anything else is unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredPixels:
    """The pixels of a film as they are stored.

    Attributes
    ----------
    patterns
        uint8 or uint16 (height, width).
    values
        int64 (P,), the stored value of each pattern.
    bits
        Bits Stored.
    is_signed
        Whether values can be negative.
    """

    patterns: NDArray[Any]
    values: NDArray[np.int64]
    bits: int
    is_signed: bool

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest value that the bits allow."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.is_signed else (0, 2 * half - 1)


class _Shape(NamedTuple):
    """What the header says of the pixels: width and height, bits of a cell, bits used, the highest of them, and a sign."""

    width: int
    height: int
    allocated: int
    used: int
    high_bit: int
    is_signed: bool


def read_dicom(path: Path) -> Radiograph:
    """Decode a DICOM film.

    Raises
    ------
    FilmError
        It is refused, for one of the reasons of ``docs/canvas.md``.
    """
    header = read_header(path)
    stored = _read_pixels(path, header)
    table = make_grey_table(path, header, stored.values, stored.limits, lambda: count_patterns(stored.patterns, stored.values.size))
    view = VIEW_POSITIONS.get(header.word(tags.VIEW_POSITION))
    return Radiograph(look_up(stored.patterns, table), view, _get_spacing(header), path, header.word(tags.PATIENT_ID))


def read_stored(path: Path) -> StoredPixels:
    """Read the stored values of a DICOM film; refused as `read_dicom` refuses it."""
    return _read_pixels(path, read_header(path))


def _read_pixels(path: Path, header: Header) -> StoredPixels:
    shape = _check(path, header)
    assert header.pixel_data is not None
    coding = CODINGS.get(header.syntax)
    if header.pixel_data.is_encapsulated or (coding and bytes(header.pixel_data.value[:4]) == ITEM):
        return _decode(path, header, header.pixel_data.value, shape)
    return _take_cells(path, header, header.pixel_data, shape)


def _check(path: Path, header: Header) -> _Shape:
    """Return the shape of the pixels of one grayscale film; refuse everything else, in the order of ``docs/canvas.md``."""
    if header.pixel_data is None:
        if header.is_cut:
            raise refuse_damaged(path, "it ends before its pixel data")
        raise refuse(
            path,
            "imageless",
            "a DICOM object without Pixel Data (7FE0,0010)",
            "Give the image itself, not a report or a plan; or copy it again.",
        )
    modality = header.word(tags.MODALITY)
    if modality not in MODALITIES:
        raise refuse(path, "modality", f"Modality (0008,0060) is {modality}, expected a radiograph", "Give the plain film: CR or DX.")
    if header.word(tags.PRESENTATION_INTENT) == "FOR PROCESSING":
        raise refuse(
            path,
            "raw",
            "Presentation Intent Type (0008,0068) is FOR PROCESSING: raw values of the detector, not yet a picture",
            "Export the film that is FOR PRESENTATION.",
        )
    frames = header.integer(tags.NUMBER_OF_FRAMES) or 1
    if frames > 1:
        raise refuse(
            path,
            "frames",
            f"Number of Frames (0028,0008) is {frames}, expected a single film",
            "Export the frame you mean as a film of its own.",
        )
    samples, photometric = header.integer(tags.SAMPLES_PER_PIXEL), header.word(tags.PHOTOMETRIC)
    if samples is not None and samples > 1:
        found = f"Samples per Pixel (0028,0002) is {samples}, Photometric Interpretation (0028,0004) is {photometric}"
        raise _refuse_colour(path, f"{found}; expected 1 and MONOCHROME2")
    if photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        raise _refuse_colour(path, f"Photometric Interpretation (0028,0004) is {photometric}, expected MONOCHROME1 or MONOCHROME2")
    shape = _read_shape(path, header)
    ratio = header.numbers(tags.ASPECT_RATIO)
    if len(ratio) > 1 and ratio[0] and ratio[1] and min(ratio[0], ratio[1]) > 0 and ratio[0] != ratio[1]:
        raise refuse(
            path,
            "aspect",
            f"Pixel Aspect Ratio (0028,0034) is {ratio[0]:g}\\{ratio[1]:g}: its pixels are not square",
            "Export the film with square pixels.",
        )
    check_size(path, shape.width, shape.height)
    return shape


def _refuse_colour(path: Path, found: str) -> FilmError:
    return refuse(
        path, "colour", f"not a grayscale film: {found}", "Export the original film, not a screenshot of it; a screenshot is read as PNG."
    )


def _read_shape(path: Path, header: Header) -> _Shape:
    """Return what the header says of the pixels; refuse it where a required element is missing or impossible."""

    def miss(name: str, found: object, expected: str) -> FilmError:
        said = "missing" if found in (None, "") else f"{found}"
        return refuse(path, "header", f"{name} is {said}, expected {expected}", "The header is not that of a film: export it again.")

    width, height = header.integer(tags.COLUMNS), header.integer(tags.ROWS)
    allocated, used, high_bit = (header.integer(tag) for tag in (tags.BITS_ALLOCATED, tags.BITS_STORED, tags.HIGH_BIT))
    if not height or height < 0:
        raise miss("Rows (0028,0010)", height, "the height in pixels")
    if not width or width < 0:
        raise miss("Columns (0028,0011)", width, "the width in pixels")
    if allocated is None and used is not None:
        allocated = 8 if used <= 8 else 16
    if allocated not in (8, 16):
        raise miss("Bits Allocated (0028,0100)", allocated, "8 or 16")
    if high_bit is not None and not 0 <= high_bit < allocated:
        high_bit = None
    if used is None:
        used = allocated if high_bit is None else high_bit + 1
    if not 1 <= used <= allocated:
        raise miss("Bits Stored (0028,0101)", used, f"1 to {allocated}")
    if not header.word(tags.PHOTOMETRIC):
        raise miss("Photometric Interpretation (0028,0004)", None, "MONOCHROME1 or MONOCHROME2")
    if high_bit is None or high_bit < used - 1:
        high_bit = used - 1
    return _Shape(width, height, allocated, used, high_bit, header.integer(tags.PIXEL_REPRESENTATION) == 1)


def _take_cells(path: Path, header: Header, pixel_data: PixelData, shape: _Shape) -> StoredPixels:
    """Read uncompressed pixels: the first frame of what is there."""
    size = shape.allocated // 8
    count = shape.width * shape.height
    value = pixel_data.value
    if len(value) < count * size:
        raise refuse_damaged(path, f"its Pixel Data (7FE0,0010) have {len(value)} bytes, expected {count * size}")
    if size == 2:
        is_little = header.is_little and header.syntax != _GE_BIG_PIXELS
        cells: NDArray[Any] = np.frombuffer(value, "<u2" if is_little else ">u2", count).astype(np.uint16, copy=False)
    else:
        cells = take_bytes(value, count, pixel_data.vr, header.is_little)
    values = _take_bits(np.arange(1 << shape.allocated), shape.high_bit, shape.used, shape.is_signed)
    return StoredPixels(cells.reshape(shape.height, shape.width), values, shape.used, shape.is_signed)


def _decode(path: Path, header: Header, value: memoryview, shape: _Shape) -> StoredPixels:
    """Decode compressed pixels: the first frame of what is there."""
    try:
        stream = join_fragments(value)
        said = inspect_stream(stream)
    except ValueError as error:
        raise refuse_damaged(path, str(error)) from error
    if said is None:
        if header.syntax in CODINGS and not stream.startswith(b"\xff\xd8"):
            raise refuse_damaged(path, f"its pixel data are no {CODINGS[header.syntax]} stream")
        raise refuse(
            path,
            "syntax",
            f"pixel data of this kind can't be decoded; Transfer Syntax UID (0002,0010) is {_name_syntax(header.syntax)}",
            f"First convert the film, for example with GDCM: gdcmconv --raw {path.name} uncompressed.dcm",
        )
    if said.components != 1:
        raise _refuse_colour(path, f"its {said.coding} stream has {said.components} components")
    fits = said.size in (None, (shape.width, shape.height)) and said.bits <= shape.allocated
    if not fits or (said.coding == "RLE" and said.bits != shape.allocated):
        size = "" if said.size is None else f"{said.size[0]} x {said.size[1]} pixels of "
        expected = f"{shape.width} x {shape.height} pixels of at most {shape.allocated} bits"
        raise refuse_damaged(path, f"its {said.coding} stream has {size}{said.bits} bits, its header says {expected}")
    samples = decode_stream(stream, said, shape.width, shape.height)
    is_announced = CODINGS.get(header.syntax) == said.coding and header.syntax in LOSSY
    values = _take_samples(said, shape, said.is_lossy or is_announced)
    patterns = samples.view(f"u{samples.itemsize}")
    every = np.arange(1 << 8 * samples.itemsize)
    return StoredPixels(patterns, values[every & (values.size - 1)], shape.used, shape.is_signed)


def _take_samples(said: Stream, shape: _Shape, is_lossy: bool) -> NDArray[np.int64]:
    """Return the stored value of each sample of a stream: int64 (2 ** bits,), indexed by the sample's bits."""
    samples = np.arange(1 << said.bits)
    if is_lossy:
        is_signed = shape.is_signed or said.is_signed
        values = np.where(samples >> (said.bits - 1), samples - (1 << said.bits), samples) if is_signed else samples
        half = 1 << (shape.used - 1)
        return np.clip(values, -half, half - 1) if shape.is_signed else np.clip(values, 0, 2 * half - 1)
    if said.bits > shape.high_bit:  # whole cells
        return _take_bits(samples, shape.high_bit, shape.used, shape.is_signed)
    used = min(said.bits, shape.used)
    return _take_bits(samples, used - 1, used, shape.is_signed)


def _take_bits(patterns: NDArray[np.int64], high_bit: int, used: int, is_signed: bool) -> NDArray[np.int64]:
    """Return the value of the `used` bits below and including `high_bit`, two's complement where it has a sign (PS3.5 8.1.1)."""
    values = (patterns >> (high_bit + 1 - used)) & ((1 << used) - 1)
    return np.where(values >> (used - 1), values - (1 << used), values) if is_signed else values


def _name_syntax(uid: str) -> str:
    from pydicom.uid import UID

    return f"{UID(uid).name} ({uid})" if uid else "missing"


def _get_spacing(header: Header) -> tuple[float, float] | None:
    """Return the row and column spacing in mm from Pixel Spacing, else Imager Pixel Spacing; None when neither is two positive numbers."""
    for tag in (tags.PIXEL_SPACING, tags.IMAGER_PIXEL_SPACING):
        numbers = header.numbers(tag)
        if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None and min(numbers[0], numbers[1]) > 0:
            return numbers[0], numbers[1]
    return None
