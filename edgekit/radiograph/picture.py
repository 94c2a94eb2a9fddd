"""PNG and JPEG films: "PNG and JPEG" of ``docs/canvas.md``."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from edgekit.radiograph.grey import count_patterns, look_up, to_bytes, window_percentiles
from edgekit.radiograph.orientation import find_orientation, turn
from edgekit.radiograph.refusals import check_size, refuse, refuse_damaged
from edgekit.radiograph.streams import find_segments, read_jpeg_frame
from edgekit.types import Radiograph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

_SIGNATURE = 8
_TEXT_LIMIT = 1 << 20
"""Bytes of the longest XMP packet that is unpacked."""
_EXIF = b"Exif\0\0"
_XMP_PNG, _XMP_JPEG = b"XML:com.adobe.xmp\0", b"http://ns.adobe.com/xap/1.0/\0"
_BAND = 256
"""Rows that are composited at a time: no copy of a large film is made."""


def read_png(path: Path) -> Radiograph:
    """Decode a PNG of any colour type and depth."""
    from PIL.PngImagePlugin import PngImageFile

    chunks = _read_chunks(path, path.read_bytes())
    header = next(_find_chunks(chunks, b"IHDR"))
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    check_size(path, width, height)
    is_deep = depth == 16 and colour in (0, 4)
    # Pillow keeps only the high byte of each word of gray and alpha; as RGBA of 8 bits, whose lines have the same bytes, it sees both
    plain = _make_png(header[:8] + bytes([8, 6]) + header[10:] if is_deep and colour == 4 else header, chunks)
    texts = (_unpack_xmp(content) for content in _find_chunks(chunks, b"iTXt"))
    orientation = find_orientation(next(_find_chunks(chunks, b"eXIf"), b""), next(filter(None, texts), b""))
    del chunks
    with PngImageFile(BytesIO(plain)) as picture:
        picture.load()
        key = picture.info.get("transparency") if depth == 16 else None
        if depth == 16:
            picture.info.pop("transparency", None)  # of gray it is looked for below; of colours, only the high bytes are left
        upright = turn(picture, orientation)
    if not is_deep:
        return Radiograph(_to_luminance(upright), None, None, path)
    stored = _join_words(upright) if colour == 4 else np.array(upright, np.uint16)
    if isinstance(key, int):
        stored[stored == key] = 0
    counts = count_patterns(stored, 1 << 16)
    grey = window_percentiles(np.arange(1 << 16, dtype=float), counts)
    return Radiograph(look_up(stored, to_bytes(grey)), None, None, path)


def _read_chunks(path: Path, content: bytes) -> list[tuple[bytes, memoryview]]:
    """Return kind and content of every chunk up to the end (PNG specification, third edition, 5).

    Raises
    ------
    FilmError
        It doesn't begin with a header or has two, it ends early, or a checksum is wrong; that of the pixels is in their own stream.
    """
    chunks: list[tuple[bytes, memoryview]] = []
    view, at = memoryview(content), _SIGNATURE
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, end = content[at + 4 : at + 8], at + 12 + length
        if (kind == b"IHDR") != (not chunks):
            raise refuse_damaged(path, "a PNG begins with its one header")
        if end > len(content):
            break
        if kind != b"IDAT" and zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            raise refuse_damaged(path, f"the checksum of its chunk {kind.decode('latin-1')} is wrong")
        chunks.append((kind, view[at + 8 : end - 4]))
        if kind == b"IEND":
            if len(chunks[0][1]) < 13:
                break
            return chunks
        at = end
    raise refuse_damaged(path, "the PNG ends early")


def _find_chunks(chunks: list[tuple[bytes, memoryview]], kind: bytes) -> Iterator[bytes]:
    return (bytes(content) for each, content in chunks if each == kind)


def _make_png(header: bytes, chunks: list[tuple[bytes, memoryview]]) -> bytes:
    """Return a PNG of what decides pixels: what else a file holds must not cost time, memory, or the film."""
    kept = [(b"IHDR", header[:13])]
    for kind in (b"PLTE", b"tRNS", b"IDAT"):
        found = [content for each, content in chunks if each == kind]
        kept += [(kind, b"".join(found if kind == b"IDAT" else found[:1]))] if found else []
    packed = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in [*kept, (b"IEND", b"")]:
        packed += [struct.pack(">I4s", len(content), kind), content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))]
    return b"".join(packed)


def _unpack_xmp(text: bytes) -> bytes:
    """Return the XMP packet of a chunk iTXt; empty where it is another text."""
    if not text.startswith(_XMP_PNG):
        return b""
    is_packed = text[len(_XMP_PNG) : len(_XMP_PNG) + 1] == b"\1"
    packet = text[len(_XMP_PNG) + 2 :].split(b"\0", 2)[-1]  # after the language and the keyword in that language
    if not is_packed:
        return packet
    try:
        return zlib.decompressobj().decompress(packet, _TEXT_LIMIT)
    except zlib.error:
        return b""  # it plays no part in the pixels


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
    plain, exif, xmp = [content[:2]], b"", b""
    for marker, start, end in find_segments(content):
        body = content[start + 4 : end] if marker == 0xE1 else b""
        if body.startswith(_EXIF):
            exif = exif or body[len(_EXIF) :]
        if body.startswith(_XMP_JPEG):
            xmp = xmp or body[len(_XMP_JPEG) :]
        if not 0xE0 <= marker <= 0xEF or marker in (0xE0, 0xEE):  # of the applications' segments, JFIF's and Adobe's decide colours
            plain.append(content[start:] if marker == 0xDA else content[start:end])
    with JpegImageFile(BytesIO(b"".join(plain))) as picture:
        picture.load()
        return Radiograph(_to_luminance(turn(picture, find_orientation(exif, xmp))), None, None, path)


def _take_bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield `_BAND` rows at a time, and the first of them."""
    for row in range(0, picture.height, _BAND):
        yield row, picture.crop((0, row, picture.width, min(row + _BAND, picture.height)))


def _join_words(picture: Image.Image) -> NDArray[np.uint16]:
    """Return gray times alpha of 16 bits each that were read as RGBA, ``round(v * A / 65535)``: uint16 (height, width)."""
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
