"""PNG and JPEG films: "PNG and JPEG" of ``docs/canvas.md``."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from edgekit.radiograph.grey import count_patterns, look_up, to_bytes, window_percentiles
from edgekit.radiograph.refusals import check_size, refuse, refuse_damaged
from edgekit.radiograph.streams import read_jpeg_frame
from edgekit.types import Radiograph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image
    from PIL.ImageFile import ImageFile

_HEADER_END = 33
"""Bytes of a PNG's signature and IHDR chunk."""
_BAND = 256
"""Rows that are composited at a time: no copy of a large film is made."""


def read_png(path: Path) -> Radiograph:
    """Decode a PNG of any colour type and depth."""
    from PIL.PngImagePlugin import PngImageFile

    content = path.read_bytes()
    if len(content) < _HEADER_END:
        raise refuse_damaged(path, "it ends inside the PNG's header")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    check_size(path, width, height)
    is_deep = depth == 16 and colour in (0, 4)
    if is_deep and colour == 4:
        content = _split_words(content)
    with PngImageFile(BytesIO(content)) as picture:
        upright = _turn(picture)
        key = picture.info.get("transparency") if depth == 16 else None
    if not is_deep:
        if depth == 16:
            upright.info.pop("transparency", None)  # names a 16-bit colour; only the high bytes are left
        return Radiograph(_to_luminance(upright), None, None, path)
    stored = _join_words(upright) if colour == 4 else np.array(upright, np.uint16)
    if isinstance(key, int):
        stored[stored == key] = 0
    counts = count_patterns(stored, 1 << 16)
    grey = window_percentiles(np.arange(1 << 16, dtype=float), counts)
    return Radiograph(look_up(stored, to_bytes(grey)), None, None, path)


def read_jpeg(path: Path) -> Radiograph:
    """Decode a JPEG of 8 bits: baseline, extended or progressive."""
    from PIL.JpegImagePlugin import JpegImageFile

    content = path.read_bytes()
    try:
        frame = read_jpeg_frame(content)
    except ValueError as error:
        raise refuse_damaged(path, str(error)) from error
    if frame.process > 2 or frame.bits != 8:
        raise refuse(
            path,
            "syntax",
            f"a JPEG that browsers don't show (process {frame.process}, {frame.bits} bits)",
            "Save it as a plain JPEG or as PNG, or export the film as DICOM.",
        )
    check_size(path, frame.width, frame.height)
    with JpegImageFile(BytesIO(content)) as picture:
        return Radiograph(_to_luminance(_turn(picture)), None, None, path)


def _turn(picture: ImageFile) -> Image.Image:
    """Apply the orientation: EXIF's, else XMP's, as Pillow looks for it."""
    from PIL import ImageOps

    ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _take_bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield `_BAND` rows at a time, and the first of them."""
    for row in range(0, picture.height, _BAND):
        yield row, picture.crop((0, row, picture.width, min(row + _BAND, picture.height)))


def _split_words(content: bytes) -> bytes:
    """Return a PNG of 16 bits of gray and alpha as one of 8 bits RGBA, whose lines have the same bytes and filters.

    Pillow keeps only the high byte of each word of such a file; so it sees both.
    """
    body = content[12:24] + bytes([8, 6]) + content[26:29]
    return content[:12] + body + struct.pack(">I", zlib.crc32(body)) + content[_HEADER_END:]


def _join_words(picture: Image.Image) -> NDArray[np.uint16]:
    """Return gray times alpha of what `_split_words` split, ``round(v * A / 65535)``: uint16 (height, width)."""
    joined = np.empty((picture.height, picture.width), np.uint16)
    for row, band in _take_bands(picture):
        words = np.asarray(band).astype(np.uint64)
        grey, alpha = words[..., 0] << 8 | words[..., 1], words[..., 2] << 8 | words[..., 3]
        joined[row : row + _BAND] = (grey * alpha + 32767) // 65535
    return joined


def _to_luminance(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the ITU-R 601 luminance, composited on black where the picture is transparent: uint8 (height, width)."""
    if not picture.has_transparency_data:
        return np.array(picture.convert("L"))
    light = np.empty((picture.height, picture.width), np.uint8)
    for row, band in _take_bands(picture):
        opaque = band.convert("RGBA")
        grey, alpha = np.asarray(opaque.convert("RGB").convert("L")), np.asarray(opaque.getchannel("A"))
        light[row : row + _BAND] = (grey.astype(np.int32) * alpha + 127) // 255
    return light
