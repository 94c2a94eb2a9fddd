"""Compressed pixel data: which fragments are the first frame, what its stream says of itself, and its samples.

"DICOM: the stored values" of ``docs/canvas.md``. A stream's header is read before a decoder spends memory on it, and what a decoder
returns is checked in one place. ``tests/radiograph/test_decoders.py`` measures every decoder against the pixels that were encoded.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Coding = Literal["JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000", "RLE"]

CODINGS: dict[str, Coding] = {
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.51": "JPEG",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "JPEG 2000",
    "1.2.840.10008.1.2.4.202": "JPEG 2000",
    "1.2.840.10008.1.2.4.203": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE",
}
"""What the compressed transfer syntaxes that are read announce (PS3.5 10)."""

LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203))

ITEM = b"\xfe\xff\x00\xe0"
_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP"
_RLE_HEADER = 64


class Stream(NamedTuple):
    """What a compressed stream says of itself.

    Attributes
    ----------
    coding
        What its first bytes are.
    size
        Width and height in pixels; None for RLE, which does not say.
    components
        Samples a pixel.
    bits
        Bits a sample.
    is_signed
        Whether the samples have a sign of their own (JPEG 2000).
    is_lossy
        Whether its samples are not those that were encoded.
    """

    coding: Coding
    size: tuple[int, int] | None
    components: int
    bits: int
    is_signed: bool
    is_lossy: bool


class JpegFrame(NamedTuple):
    """The frame header of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2, T.87 C.2.2).

    Attributes
    ----------
    process
        n of the marker SOFn: 0 baseline, 1 extended, 2 progressive, 3 lossless, 55 JPEG-LS.
    bits
        Bits a sample.
    width, height
        Pixels.
    components
        Samples a pixel.
    near
        JPEG-LS: the largest error.
    """

    process: int
    bits: int
    width: int
    height: int
    components: int
    near: int


def join_fragments(value: memoryview) -> bytes:
    """Return the first frame's stream from the fragments of encapsulated pixel data (PS3.5 A.4).

    Raises
    ------
    ValueError
        There is no fragment, or one reaches beyond the end.
    """
    fragments: list[memoryview] = []
    at, has_begun = 0, False
    while bytes(value[at : at + 4]) == ITEM:
        head = bytes(value[at + 4 : at + 8])
        if len(head) < 4:
            raise ValueError("it ends inside a fragment")
        length = struct.unpack("<I", head)[0]
        fragment = value[at + 8 : at + 8 + length]
        if len(fragment) < length:
            raise ValueError("it ends inside a fragment")
        is_first = at == 0
        if _begins_stream(bytes(fragment[:8])):
            if has_begun:
                break  # another frame
            fragments, has_begun = [fragment], True
        elif not is_first:  # the first item is the offset table, unless that was left out
            fragments.append(fragment)
        at += 8 + length
    if not fragments:
        raise ValueError("its pixel data hold no fragment")
    return b"".join(fragments)


def _begins_stream(head: bytes) -> bool:
    return head.startswith((b"\xff\xd8\xff", _JPEG_2000, _JP2)) or _begins_rle(head)


def _begins_rle(head: bytes) -> bool:
    """Whether an RLE header of one or two segments begins here (PS3.5 G.5)."""
    return len(head) >= 8 and struct.unpack("<II", head[:8]) in ((1, _RLE_HEADER), (2, _RLE_HEADER))


def inspect_stream(stream: bytes) -> Stream | None:
    """Return what a compressed stream is and says; None when it is of a kind that is not read.

    Raises
    ------
    ValueError
        It is of such a kind, and ends early or contradicts itself.
    """
    if stream.startswith(_JPEG):
        frame = read_jpeg_frame(stream)
        coding: Coding | None = {0: "JPEG", 1: "JPEG", 2: "JPEG", 3: "JPEG lossless", 55: "JPEG-LS"}.get(frame.process)  # type: ignore[assignment]
        if coding is None or (coding == "JPEG" and frame.bits not in (8, 12)):
            return None
        is_lossy = coding == "JPEG" or frame.near > 0
        return Stream(coding, (frame.width, frame.height), frame.components, frame.bits, False, is_lossy)
    if stream.startswith((_JPEG_2000, _JP2)):
        return _inspect_jpeg_2000(stream)
    if _begins_rle(stream[:8]):
        segments = stream[0]
        return Stream("RLE", None, 1, 8 * segments, False, False)
    return None


def read_jpeg_frame(stream: bytes) -> JpegFrame:
    """Read the frame header of a JPEG or JPEG-LS stream; stray bytes between its segments are skipped.

    Raises
    ------
    ValueError
        It has no frame or no scan, or its end is missing.
    """
    frame: tuple[int, int, int, int, int] | None = None
    for marker, start, end in find_segments(stream):
        body = stream[start + 4 : end]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if len(body) < 6:
                break
            bits, height, width, components = struct.unpack(">BHHB", body[:6])
            frame = marker - 0xC0, bits, width, height, components
        if marker == 0xDA:
            if frame is None or b"\xff\xd9" not in stream[start:]:
                break
            process, bits, width, height, components = frame
            near = body[1 + 2 * body[0]] if process == 55 and len(body) > 1 + 2 * body[0] else 0
            return JpegFrame(process, bits, width, height, components, near)
    raise ValueError("the JPEG stream ends early")


def find_segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments of a JPEG or JPEG-LS stream up to its first scan: marker, start and end; stray bytes between them are skipped."""
    at = 2
    while at + 4 <= len(stream):
        marker = stream[at + 1]
        (length,) = struct.unpack_from(">H", stream, at + 2)
        # below C0 no marker has a segment, restarts belong into scans, and a length counts itself
        if stream[at] != 0xFF or marker < 0xC0 or marker == 0xFF or 0xD0 <= marker <= 0xD8 or (marker != 0xD9 and length < 2):
            at += 1
            continue
        if marker == 0xD9:
            return
        yield marker, at, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + length


def _join_segments(stream: bytes) -> bytes:
    """Return a JPEG or JPEG-LS stream without stray bytes between the segments before its first scan."""
    parts = [stream[start:] if marker == 0xDA else stream[start:end] for marker, start, end in find_segments(stream)]
    return b"".join([_JPEG, *parts])


def _inspect_jpeg_2000(stream: bytes) -> Stream:
    """Read the SIZ and COD segments (ITU-T T.800 A.5.1, A.6.1)."""
    start = stream.find(_JPEG_2000)
    if start < 0 or len(stream) < start + 45:
        raise ValueError("the JPEG 2000 stream ends early")
    x1, y1, x0, y0 = struct.unpack(">IIII", stream[start + 8 : start + 24])
    components, depth = struct.unpack(">HB", stream[start + 40 : start + 43])
    style = stream.find(b"\xff\x52", start)
    is_reversible = style > 0 and stream[style + 13 : style + 14] == b"\x01"
    return Stream("JPEG 2000", (x1 - x0, y1 - y0), components, (depth & 0x7F) + 1, depth > 0x7F, not is_reversible)


def decode_stream(stream: bytes, said: Stream, width: int, height: int) -> NDArray[Any]:
    """Decode a stream of one component.

    One named decoder for each coding: the same lossy film must not differ between two machines.

    Parameters
    ----------
    stream
        From `join_fragments`.
    said
        From `inspect_stream`.
    width, height
        Pixels.

    Returns
    -------
    ndarray
        The samples, (height, width): uint8, uint16, int8 or int16.

    Raises
    ------
    Exception
        Whatever the decoder raises.
    ValueError
        It returned something else than such samples.
    """
    import imagecodecs

    samples: NDArray[Any]
    # what was inspected is what is decoded: no stray bytes, no boxes
    match said.coding:
        case "JPEG" | "JPEG lossless":  # by libjpeg-turbo 3: 2 to 16 bits
            samples = imagecodecs.jpeg8_decode(_join_segments(stream))
        case "JPEG-LS":
            samples = imagecodecs.jpegls_decode(_join_segments(stream))
        case "JPEG 2000":
            samples = imagecodecs.jpeg2k_decode(stream[stream.find(_JPEG_2000) :])
        case "RLE":
            samples = _decode_rle(stream, width * height).reshape(height, width)
    if samples.shape != (height, width):
        raise ValueError(f"the decoder returned {samples.shape} samples, expected {(height, width)}")
    if samples.dtype.kind not in "ui" or samples.itemsize > 2:
        raise ValueError(f"the decoder returned samples of {samples.dtype}")
    return samples


def _decode_rle(stream: bytes, count: int) -> NDArray[Any]:
    """Undo RLE Lossless: a segment of packed bytes for each byte of a cell, the high ones first (PS3.5 G)."""
    import imagecodecs

    segments = stream[0]
    offsets = [*struct.unpack(f"<{segments}I", stream[4 : 4 + 4 * segments]), len(stream)]
    planes: list[NDArray[np.uint8]] = []
    for start, end in itertools.pairwise(offsets):
        if not _RLE_HEADER <= start < end <= len(stream):
            raise ValueError("the RLE header contradicts the segments")
        # bounded: what stands behind the last pixel is left out, but must not fill the memory
        room: Any = np.empty(2 * count + 256, np.uint8)
        try:
            plane = np.asarray(imagecodecs.packbits_decode(stream[start:end], out=room))
        except imagecodecs.PackbitsError:
            plane = np.asarray(imagecodecs.packbits_decode(_cut_runs(stream[start:end], count), out=room))
        if len(plane) < count:
            raise ValueError("an RLE segment ends early")
        planes.append(plane[:count])
    if segments == 1:
        return planes[0]
    return planes[0].astype(np.uint16) << 8 | planes[1]


def _cut_runs(packed: bytes, count: int) -> bytes:
    """Return packed bytes without what stands behind the first `count` bytes that they hold (PS3.5 G.3.2)."""
    at = made = 0
    while at < len(packed) and made < count:
        head = packed[at]
        if head < 128 and at + 1 + head >= len(packed):  # the run is longer than what is left
            rest = packed[at + 1 :]
            return packed[:at] + (bytes([len(rest) - 1]) + rest if rest else b"")
        made += head + 1 if head < 128 else (257 - head) % 129
        at += 2 + head if head < 128 else 1 + (head > 128)
    return packed[:at]
