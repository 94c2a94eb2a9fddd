"""The orientation of a PNG or JPEG picture, as its metadata say: EXIF's where there is one, else XMP's (``docs/canvas.md``).

Read here and not by Pillow, which refuses a whole picture for a fault in metadata that nobody needs.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112
_SHORT = 3
_ENTRY = 12
"""Bytes of an entry of a TIFF directory."""
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


def find_orientation(exif: bytes, xmp: bytes) -> int:
    """Return an orientation from 1 to 8 (EXIF 2.3, 4.6.4); 1 where nothing is said.

    Parameters
    ----------
    exif
        A TIFF header with its first directory; empty where there is none.
    xmp
        An XMP packet; empty where there is none.
    """
    if orientation := _read_exif(exif):
        return orientation
    found = _XMP.search(xmp)
    return int(found[1]) if found else 1


def _read_exif(exif: bytes) -> int:
    """Return 0 where the orientation isn't said."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 14:
        return 0
    (at,) = struct.unpack(f"{order}I", exif[4:8])
    if at + 2 > len(exif):
        return 0
    (count,) = struct.unpack(f"{order}H", exif[at : at + 2])
    for start in range(at + 2, min(at + 2 + _ENTRY * count, len(exif) - _ENTRY + 1), _ENTRY):
        tag, kind = struct.unpack(f"{order}HH", exif[start : start + 4])
        if tag == _ORIENTATION:
            code = "H" if kind == _SHORT else "I"
            (value,) = struct.unpack_from(order + code, exif, start + 8)
            return int(value) if 1 <= value <= 8 else 0
    return 0


def turn(picture: Image.Image, orientation: int) -> Image.Image:
    """Return the picture as it is meant; the same where nothing is to be turned."""
    from PIL.Image import Transpose

    method = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return picture if method is None else picture.transpose(method)
