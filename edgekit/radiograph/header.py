"""The elements of a DICOM film, read as they are: "DICOM: the elements" of ``docs/canvas.md``.

pydicom finds the elements; what their bytes mean is decided here, in one function for all numbers, so that another host can do the same.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.radiograph.refusals import refuse, refuse_damaged

if TYPE_CHECKING:
    from pathlib import Path

TRANSFER_SYNTAX = 0x00020010
SOP_CLASS = 0x00080016
MODALITY = 0x00080060
PRESENTATION_INTENT = 0x00080068
PATIENT_ID = 0x00100020
VIEW_POSITION = 0x00185101
IMAGER_PIXEL_SPACING = 0x00181164
SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC = 0x00280004
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
PIXEL_SPACING = 0x00280030
ASPECT_RATIO = 0x00280034
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
PIXEL_REPRESENTATION = 0x00280103
PADDING = 0x00280120
PADDING_LIMIT = 0x00280121
WINDOW_CENTER = 0x00281050
WINDOW_WIDTH = 0x00281051
RESCALE_INTERCEPT = 0x00281052
RESCALE_SLOPE = 0x00281053
VOI_FUNCTION = 0x00281056
MODALITY_LUTS = 0x00283000
LUT_DESCRIPTOR = 0x00283002
LUT_DATA = 0x00283006
VOI_LUTS = 0x00283010
PRESENTATION_SHAPE = 0x20500020
PIXEL_DATA = 0x7FE00010

_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q", "AT": "H"}
_BINARY |= {"OB": "B", "OW": "H", "OL": "I", "OV": "Q", "OF": "f", "OD": "d"}
"""How the values of a VR that is not text are packed (PS3.5 6.2)."""

_SHORTS = frozenset({SAMPLES_PER_PIXEL, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION, PADDING, PADDING_LIMIT})
_SHORTS |= {LUT_DESCRIPTOR}
"""Numbers that the dictionary has as US, or as US or SS; the others that are read here are text (PS3.6)."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 256_000_000
_PART = 16_000_000
"""Bytes that are inflated at a time, so that a small file which inflates without end is refused before it fills the memory."""

_UNDEFINED = 0xFFFFFFFF


class PixelData(NamedTuple):
    """The value of the film's Pixel Data (7FE0,0010).

    Attributes
    ----------
    value
        Its bytes; of a value of undefined length all that follows.
    vr
        ``"OB"``, ``"OW"`` ...; empty where the film does not say.
    is_encapsulated
        Whether the value has undefined length, as fragments do.
    """

    value: memoryview
    vr: str
    is_encapsulated: bool


@dataclass(frozen=True, slots=True)
class Header:
    """The elements of a data set, or of one item of a sequence.

    Attributes
    ----------
    elements
        By tag: what pydicom yields, its value not yet converted.
    is_little
        Byte order.
    syntax
        The Transfer Syntax UID as it is written; empty where there is none.
    pixel_data
        None where there is none.
    is_cut
        Whether the data set ends inside an element, or before the first.
    """

    elements: dict[int, Any]
    is_little: bool
    syntax: str = ""
    pixel_data: PixelData | None = field(default=None, repr=False)
    is_cut: bool = False

    def word(self, tag: int) -> str:
        """Return the first value of a text element without blanks around it, in capitals; empty where there is none."""
        return self._text(tag).split("\\")[0].strip().upper()

    def numbers(self, tag: int) -> list[float | None]:
        """Return every value of an element; None for one that is no finite number."""
        value, vr = self.data(tag), self.vr(tag)
        code = _BINARY.get(vr)
        if code is None:
            return [_parse_number(text) for text in self._text(tag).split("\\")]
        size = struct.calcsize(code)
        order = "<" if self.is_little else ">"
        values = struct.unpack(f"{order}{len(value) // size}{code}", value[: len(value) // size * size])
        return [float(number) if math.isfinite(number) else None for number in values]

    def number(self, tag: int) -> float | None:
        """Return the first value of an element; None where it is absent, empty or no finite number."""
        return next(iter(self.numbers(tag)), None)

    def integer(self, tag: int) -> int | None:
        """Return the first value of an element; None where it is no whole number either."""
        number = self.number(tag)
        return None if number is None or number != int(number) else int(number)

    def data(self, tag: int) -> bytes:
        """Return the bytes of an element, whatever its VR says that they are; empty where it is absent."""
        value = getattr(self.elements.get(tag), "value", None)
        return value if isinstance(value, bytes) else b""

    def first_item(self, tag: int) -> Header | None:
        """Return the first item of a sequence; None where it has none. An item that can't be read is one without elements."""
        element = self.elements.get(tag)
        if element is None:
            return None
        items = element.value
        if isinstance(items, bytes):
            from pydicom.filereader import read_sequence

            if len(items) < 8:
                return None
            try:
                # of a data set with VRs, pydicom sees at each item's first element whether it has them too: those inside UN rarely do
                items = read_sequence(BytesIO(items), element.is_implicit_VR, self.is_little, len(items), "iso8859")
            except Exception:  # pydicom raises whatever a damaged sequence leads it to
                return Header({}, self.is_little)
        if not items:
            return None
        return Header({int(tag): items[0].get_item(tag) for tag in items[0].keys()}, self.is_little)  # noqa: SIM118  (iterating converts)

    def vr(self, tag: int) -> str:
        """Return the VR of an element, that of the dictionary where it is not written or UN."""
        element = self.elements.get(tag)
        vr = "" if element is None else str(element.VR or "")
        if vr not in ("", "UN"):
            return vr
        if tag == LUT_DATA:
            return "OW"
        return "US" if tag in _SHORTS else "DS"

    def _text(self, tag: int) -> str:
        return self.data(tag).decode("latin-1").strip("\0 ")


def _parse_number(text: str) -> float | None:
    """Return a decimal or integer string as a number; a decimal comma is a point. None for anything else."""
    text = text.strip("\0 \t\r\n")
    number = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def read_header(path: Path) -> Header:
    """Read the elements of a DICOM file up to its pixel data, whatever encoding it announces.

    Raises
    ------
    FilmError
        Deflated, and larger than 256 MB or damaged.
    """
    content = path.read_bytes()
    start = 132 if content[128:132] == b"DICM" else 0
    syntax = ""
    # what pydicom says of values that play no part here: an unknown character set, for one
    warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")
    if content[start : start + 2] == b"\x02\x00":
        meta, start = _read_meta(content, start)
        syntax = meta.word(TRANSFER_SYNTAX)
    if syntax == _DEFLATED and not _begins_with_element(content[start : start + 8]):
        content, start = _inflate(path, content[start:]), 0
    is_little, is_implicit = _sniff(content[start : start + 8])
    return _read_elements(content, start, is_implicit, is_little, syntax)


def _read_meta(content: bytes, start: int) -> tuple[Header, int]:
    """Read the file meta group, which is always explicit and little-endian (PS3.10 7.1); return where it ends."""
    from pydicom.filereader import data_element_generator

    stream = BytesIO(content)
    stream.seek(start)
    elements = {}
    for element in data_element_generator(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2):
        elements[int(element.tag)] = element
    return Header(elements, True), stream.tell()


def _begins_with_element(head: bytes) -> bool:
    """Whether a data set begins here, in either byte order: an element of group 0008."""
    return head[:2] in (b"\x08\x00", b"\x00\x08")


def _sniff(head: bytes) -> tuple[bool, bool]:
    """Return whether the data set that begins with `head` is little-endian, and whether its VRs are implicit."""
    is_little = not (len(head) >= 2 and head[0] == 0 and head[1] != 0)
    return is_little, not (len(head) >= 6 and head[4:6].isalpha() and head[4:6].isupper())


def _inflate(path: Path, deflated: bytes) -> bytes:
    """Undo the deflation of a data set (PS3.5 A.5), up to a size that no film has."""
    has_header = len(deflated) > 1 and deflated[0] & 15 == 8 and (deflated[0] << 8 | deflated[1]) % 31 == 0
    inflater = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    parts: list[bytes] = []
    try:
        while deflated and len(parts) * _PART < _MAX_INFLATED:
            parts.append(inflater.decompress(deflated, _PART))
            deflated = inflater.unconsumed_tail
        if not deflated:
            parts.append(inflater.flush())
    except zlib.error as error:
        raise refuse_damaged(path, str(error)) from error
    if deflated or sum(map(len, parts)) > _MAX_INFLATED:
        raise refuse(
            path, "large", f"more than {_MAX_INFLATED // 1_000_000} MB inflated", "Export the film uncompressed, at a lower resolution."
        )
    if not inflater.eof:
        raise refuse_damaged(path, "its deflated elements end early")
    return b"".join(parts)


def _read_elements(content: bytes, start: int, is_implicit: bool, is_little: bool, syntax: str) -> Header:
    """Read the elements of a data set up to its pixel data."""
    from pydicom.filereader import data_element_generator

    stream = BytesIO(content)
    stream.seek(start)
    elements: dict[int, Any] = {}
    item_end = b"\xfe\xff\x0d\xe0" if is_little else b"\xff\xfe\xe0\x0d"
    is_cut, end = False, start
    try:
        while True:
            for element in data_element_generator(stream, is_implicit, is_little, stop_when=lambda tag, _vr, _length: tag == PIXEL_DATA):
                elements[int(element.tag)] = element
                end = stream.tell()
                length = getattr(element, "length", None)
                is_cut = length is not None and length != _UNDEFINED and element.value is not None and len(element.value) < length
            if content[stream.tell() - 8 : stream.tell() - 4] != item_end or stream.tell() - 8 < end:
                break
            end = stream.tell()  # the end of an item that never began: pydicom stops there
    except MemoryError:
        raise
    except Exception:  # pydicom raises whatever bytes that end early lead it to
        is_cut = True
    pixel_data, ends_early = _take_pixel_data(content, end, is_implicit, is_little)
    return Header(elements, is_little, syntax, pixel_data, is_cut or ends_early or not elements)


def _take_pixel_data(content: bytes, at: int, is_implicit: bool, is_little: bool) -> tuple[PixelData | None, bool]:
    """Return the pixel data element that begins `at`, if one does, and whether the file ends inside its head."""
    order = "<" if is_little else ">"
    head = content[at : at + 12]
    if len(head) < 8:
        return None, bool(head)
    group, number = struct.unpack(f"{order}HH", head[:4])
    if group << 16 | number != PIXEL_DATA:
        return None, False
    vr = "" if is_implicit else head[4:6].decode("latin-1")
    if is_implicit or not (vr.isalpha() and vr.isupper()):
        vr, length, start = "", struct.unpack(f"{order}I", head[4:8])[0], at + 8
    elif vr in ("OB", "OW", "OF", "OD", "OL", "OV", "UN", "SQ", "UT", "UC", "UR", "SV", "UV"):
        if len(head) < 12:
            return None, True
        length, start = struct.unpack(f"{order}I", head[8:12])[0], at + 12
    else:
        length, start = struct.unpack(f"{order}H", head[6:8])[0], at + 8
    value = memoryview(content)[start:] if length == _UNDEFINED else memoryview(content)[start : start + length]
    return PixelData(value, vr, length == _UNDEFINED), False
