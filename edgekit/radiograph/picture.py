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
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and the steps, of each pass of an interlaced PNG."""
_PART = 1 << 20
"""Bytes that are inflated at a time, and of the longest XMP packet that is unpacked."""
_EXIF = b"Exif\0\0"
_XMP_PNG, _XMP_JPEG = b"XML:com.adobe.xmp\0", b"http://ns.adobe.com/xap/1.0/\0"
_BAND = 256
"""Rows that are composited at a time: no copy of a large film is made."""


def read_png(path: Path) -> Radiograph:
    """Decode a PNG of any colour type and depth."""
    from PIL.PngImagePlugin import PngImageFile

    chunks = _read_chunks(path, path.read_bytes())
    header = next(_find_chunks(chunks, b"IHDR"))
    width, height, depth, colour, *methods, is_interlaced = struct.unpack(">IIBBBBB", header[:13])
    check_size(path, width, height)
    if depth not in _DEPTHS.get(colour, ()) or any(methods) or is_interlaced > 1 or not width or not height:
        raise refuse_damaged(path, "the PNG's header contradicts itself")
    _check_lines(path, chunks, _measure_lines(width, height, depth * _CHANNELS[colour], is_interlaced == 1))
    is_deep = depth == 16 and colour in (0, 4)
    # Pillow keeps only the high byte of each word of gray and alpha; as RGBA of 8 bits, whose lines have the same bytes, it sees both
    plain = _make_png(header[:8] + bytes([8, 6]) + header[10:] if is_deep and colour == 4 else header, chunks)
    texts = (_unpack_xmp(content) for content in _find_chunks(chunks, b"iTXt"))
    orientation = find_orientation(next(_find_chunks(chunks, b"eXIf"), b""), next(filter(None, texts), b""))
    transparency = next(_find_chunks(chunks, b"tRNS"), b"")
    if 0 < len(transparency) < {0: 2, 2: 6}.get(colour, 0):
        raise refuse_damaged(path, "its chunk tRNS ends early")
    with PngImageFile(BytesIO(plain)) as picture:
        picture.load()
        upright = turn(picture, orientation)
    key = [word & ((1 << depth) - 1) for word in struct.unpack_from(f">{len(transparency) // 2}H", transparency)]  # the low bits count
    if is_deep:
        stored = _join_words(upright) if colour == 4 else np.array(upright, np.uint16)
        if key and colour == 0:
            stored[stored == key[0]] = 0
        counts = count_patterns(stored, 1 << 16)
        grey = window_percentiles(np.arange(1 << 16, dtype=float), counts)
        return Radiograph(look_up(stored, to_bytes(grey)), None, None, path)
    if colour == 3:
        light = _look_up_palette(path, upright, next(_find_chunks(chunks, b"PLTE"), b""), transparency)
    else:
        light = _to_luminance(upright)
    if key and colour == 0:
        light[light == key[0] * 255 // ((1 << depth) - 1)] = 0
    if key and colour == 2 and depth == 8:
        for row, band in _take_bands(upright):
            light[row : row + _BAND][(np.asarray(band) == key[:3]).all(axis=-1)] = 0
    return Radiograph(light, None, None, path)


def _look_up_palette(path: Path, picture: Image.Image, palette: bytes, transparency: bytes) -> NDArray[np.uint8]:
    """Return the luminance of a picture of palette indices, composited on black: uint8 (height, width)."""
    indices = np.asarray(picture)
    colours = np.frombuffer(palette, np.uint8, len(palette) // 3 * 3).reshape(-1, 3)[:256]
    if indices.max() >= len(colours):
        raise refuse_damaged(path, "a pixel has a colour that its palette lacks")
    light = (colours @ np.array([19595, 38470, 7471]) + 32768) >> 16  # ITU-R 601
    alpha = np.frombuffer(transparency[: len(colours)].ljust(len(colours), b"\xff"), np.uint8)
    table = np.zeros(256, np.uint8)
    table[: len(colours)] = (light * alpha + 127) // 255
    return look_up(indices, table)


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


def _measure_lines(width: int, height: int, bits: int, is_interlaced: bool) -> int:
    """Return how many bytes the lines of a PNG have, each with its filter; `bits` are those of a pixel."""
    total = 0
    for left, top, right, down in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = max(-(-(width - left) // right), 0), max(-(-(height - top) // down), 0)
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


def _check_lines(path: Path, chunks: list[tuple[bytes, memoryview]], size: int) -> None:
    """Refuse a PNG whose lines end before the last, which Pillow would leave black, or whose checksum is wrong; more lines are ignored."""
    inflater, count = zlib.decompressobj(), 0
    try:
        for content in (content for kind, content in chunks if kind == b"IDAT"):
            rest: bytes | memoryview = content
            while len(rest) and count <= size and not inflater.eof:
                count += len(inflater.decompress(rest, min(_PART, size + 1 - count)))
                rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise refuse_damaged(path, str(error)) from error
    if count < size or (count == size and not inflater.eof):
        raise refuse_damaged(path, "the PNG's pixels end early")


def _find_chunks(chunks: list[tuple[bytes, memoryview]], kind: bytes) -> Iterator[bytes]:
    return (bytes(content) for each, content in chunks if each == kind)


def _make_png(header: bytes, chunks: list[tuple[bytes, memoryview]]) -> bytes:
    """Return a PNG of header and pixels: palette and transparency are applied here, the rest must not cost time, memory, or the film."""
    kept = [(b"IHDR", header[:13])]
    kept.append((b"IDAT", b"".join(content for kind, content in chunks if kind == b"IDAT")))
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
        return zlib.decompressobj().decompress(packet, _PART)
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
    """Return the ITU-R 601 luminance, composited on black where the picture has alpha: uint8 (height, width)."""
    if not picture.has_transparency_data:
        return np.array(picture.convert("L"))
    light = np.empty((picture.height, picture.width), np.uint8)
    for row, band in _take_bands(picture):
        opaque = band.convert("RGBA")
        grey, alpha = np.asarray(opaque.convert("RGB").convert("L")), np.asarray(opaque.getchannel("A"))
        light[row : row + _BAND] = (grey.astype(np.int32) * alpha + 127) // 255
    return light
