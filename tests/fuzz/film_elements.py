"""DICOM files as trees of elements that may lie: written and parsed without pydicom, so that a mutation breaks one thing and no other.

A value is kept as it is in little-endian order, whatever order it is written in.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UT", "UC", "UR", "UN", "SV", "UV"})
_WORD = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4, "FD": 8, "OD": 8, "SV": 8, "UV": 8, "OV": 8}
_SHORT_TAGS = {0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120, 0x00280121, 0x00283002}
_IMPLICIT_VRS = dict.fromkeys(_SHORT_TAGS, "US") | {
    0x00283006: "OW",
    PIXEL_DATA: "OW",
    0x00283000: "SQ",
    0x00283010: "SQ",
    0x00880200: "SQ",
}
_DEPTH = 40


@dataclass(slots=True)
class Element:
    """An element: its value is bytes, the items of a sequence, or the fragments of pixel data.

    `length` is what it says of its length: None says the truth. `has_end` is whether a delimiter follows a value of undefined length.
    """

    tag: int
    vr: str
    value: bytes | list[list[Element]] | list[bytes]
    length: int | None = None
    has_end: bool = True


@dataclass(slots=True)
class Film:
    """A file: the file meta group, the data set, and how they are written."""

    body: list[Element]
    meta: list[Element] = field(default_factory=list)
    has_preamble: bool = True
    is_little: bool = True
    is_implicit: bool = False
    is_deflated: bool = False

    def to_bytes(self) -> bytes:
        body = _write(self.body, self.is_little, self.is_implicit)
        if self.is_deflated:
            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            body = deflater.compress(body) + deflater.flush()
        return (bytes(128) + b"DICM" if self.has_preamble else b"") + _write(self.meta, True, False) + body


def parse_film(content: bytes) -> Film:
    """Parse a file as far as it can be understood; what can't be is kept as it is.

    Raises
    ------
    ValueError
        Not even its first element is there.
    """
    has_preamble = content[128:132] == b"DICM"
    at = 132 if has_preamble else 0
    meta: list[Element] = []
    while content[at : at + 2] == b"\x02\x00":
        element, at = _parse_element(content, at, True, False, 0)
        meta.append(element)
    rest = content[at:]
    is_deflated = any(element.value == b"1.2.840.10008.1.2.1.99\0"[: len(element.value)] for element in meta if element.tag == 0x00020010)
    if is_deflated:
        try:
            rest = zlib.decompressobj(-zlib.MAX_WBITS).decompress(rest, 1 << 20)
        except zlib.error as error:
            raise ValueError("not deflated") from error
    if len(rest) < 8:
        raise ValueError("no element")
    is_little = not (rest[0] == 0 and rest[1] != 0)
    is_implicit = not (rest[4:6].isalpha() and rest[4:6].isupper())
    body = _parse_elements(rest, is_little, is_implicit, 0)
    return Film(body, meta, has_preamble, is_little, is_implicit, is_deflated)


def _swap(value: bytes, vr: str) -> bytes:
    size = _WORD.get(vr, 1)
    whole = len(value) // size * size
    return b"".join(value[at : at + size][::-1] for at in range(0, whole, size)) + value[whole:] if size > 1 else value


def _write(elements: list[Element], is_little: bool, is_implicit: bool) -> bytes:
    return b"".join(_write_element(element, is_little, is_implicit) for element in elements)


def _write_element(element: Element, is_little: bool, is_implicit: bool) -> bytes:
    order = "<" if is_little else ">"
    is_undefined = element.length == UNDEFINED
    if isinstance(element.value, bytes):
        value = element.value if is_little else _swap(element.value, element.vr)
        value += b"" if len(value) % 2 == 0 else b"\0" if element.vr in _WORD or element.vr in ("OB", "UI") else b" "
    else:
        parts = [part if isinstance(part, bytes) else _write(part, is_little, is_implicit) for part in element.value]
        value = b"".join(_head(ITEM, len(part) + len(part) % 2, order) + part + b"\0" * (len(part) % 2) for part in parts)
    if is_undefined and element.has_end:
        value += _head(SEQUENCE_END, 0, order)
    length = len(value) if element.length is None else element.length
    tag = struct.pack(f"{order}HH", element.tag >> 16 & 0xFFFF, element.tag & 0xFFFF)
    if is_implicit:
        return tag + struct.pack(f"{order}I", length & UNDEFINED) + value
    vr = element.vr.encode("latin-1", "replace")[:2].ljust(2)
    if element.vr in LONG_VRS:
        return tag + vr + b"\0\0" + struct.pack(f"{order}I", length & UNDEFINED) + value
    return tag + vr + struct.pack(f"{order}H", length & 0xFFFF) + value


def _head(tag: int, length: int, order: str) -> bytes:
    return struct.pack(f"{order}HHI", tag >> 16, tag & 0xFFFF, length)


def _parse_elements(content: bytes, is_little: bool, is_implicit: bool, depth: int) -> list[Element]:
    elements, at = [], 0
    while at + 8 <= len(content):
        element, at = _parse_element(content, at, is_little, is_implicit, depth)
        elements.append(element)
    return elements


def _parse_element(content: bytes, at: int, is_little: bool, is_implicit: bool, depth: int) -> tuple[Element, int]:
    order = "<" if is_little else ">"
    if len(content) < at + 8:
        raise ValueError("it ends inside an element")
    group, number = struct.unpack(f"{order}HH", content[at : at + 4])
    tag = group << 16 | number
    if is_implicit or group == 0xFFFE:
        vr = _IMPLICIT_VRS.get(tag, "LO")
        (length,) = struct.unpack(f"{order}I", content[at + 4 : at + 8])
        at += 8
    else:
        vr = content[at + 4 : at + 6].decode("latin-1")
        if vr in LONG_VRS:
            if len(content) < at + 12:
                raise ValueError("it ends inside an element")
            (length,) = struct.unpack(f"{order}I", content[at + 8 : at + 12])
            at += 12
        else:
            (length,) = struct.unpack(f"{order}H", content[at + 6 : at + 8])
            at += 8
    if length == UNDEFINED:
        return _parse_undefined(content, at, Element(tag, vr, b"", UNDEFINED), is_little, is_implicit, depth)
    value = content[at : at + length]
    stated = None if len(value) == length else length
    if vr == "SQ" and depth < _DEPTH:
        items, end, _ = _parse_items(value, 0, is_little)
        if items and end == len(value):
            return Element(tag, vr, [_parse_elements(item, is_little, is_implicit, depth + 1) for item in items], stated), at + length
    return Element(tag, vr, value if is_little else _swap(value, vr), stated), at + length


def _parse_undefined(content: bytes, at: int, element: Element, is_little: bool, is_implicit: bool, depth: int) -> tuple[Element, int]:
    items, end, has_end = _parse_items(content, at, is_little)
    if not items or depth >= _DEPTH:
        return Element(element.tag, element.vr, content[at:], UNDEFINED, False), len(content)
    value = items if element.tag == PIXEL_DATA else [_parse_elements(item, is_little, is_implicit, depth + 1) for item in items]
    return Element(element.tag, element.vr, value, UNDEFINED, has_end), end


def _parse_items(content: bytes, at: int, is_little: bool) -> tuple[list[bytes], int, bool]:
    """Return the items from `at` on (those of undefined length up to their delimiter), where they end, and whether by a delimiter."""
    order, items = "<" if is_little else ">", []
    end = _head(ITEM_END, 0, order)
    while at + 8 <= len(content):
        group, number, length = struct.unpack(f"{order}HHI", content[at : at + 8])
        tag = group << 16 | number
        if tag == SEQUENCE_END:
            return items, at + 8, True
        if tag != ITEM:
            break
        if length == UNDEFINED:
            found = content.find(end, at + 8)
            found = len(content) if found < 0 else found
            items.append(content[at + 8 : found])
            at = found + 8
        else:
            items.append(content[at + 8 : at + 8 + length])
            at += 8 + length
    return items, min(at, len(content)), False
