"""Films for tests, streams that no encoder at hand writes, and the canvas as its page says it."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian


def draw_values(bits: int, signed: bool, shape: tuple[int, int] = (61, 53)) -> NDArray[np.int64]:
    """Stored values over the whole range: slopes, noise, and lines at both ends of it."""
    top = (1 << bits) - 1
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = np.round((0.5 + 0.4 * np.sin(x / 5) * np.cos(y / 9)) * top).astype(np.int64)
    values[10:20] = np.random.default_rng(bits).integers(0, top, (10, shape[1]), endpoint=True)
    values[30, 10:30], values[31, 10:30] = top, 0
    return values - (1 << (bits - 1)) if signed else values


def write_film(path: Path, values: NDArray[Any], bits: int, signed: bool = False, **elements: Any) -> Path:
    """Write stored values as an uncompressed film."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = "2.25.1"
    film.Modality, film.SamplesPerPixel, film.PhotometricInterpretation = "CR", 1, "MONOCHROME2"
    cells = values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    film.Rows, film.Columns = cells.shape
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 8 * cells.itemsize, bits, bits - 1, int(signed)
    for name, value in elements.items():
        setattr(film, name, value)
    film.add_new(0x7FE00010, "OW" if cells.itemsize == 2 else "OB", cells.tobytes() + b"\0" * (cells.nbytes % 2))
    film.save_as(path, enforce_file_format=True)
    return path


def encapsulate(path: Path, syntax: str, *fragments: bytes, offsets: bytes | None = b"") -> Path:
    """Replace the pixel data of a film by fragments, behind an offset table unless it is None."""
    film = pydicom.dcmread(path)
    film.file_meta.TransferSyntaxUID = syntax
    items = [] if offsets is None else [offsets]
    items += [*(fragment + b"\0" * (len(fragment) % 2) for fragment in fragments)]
    film.add_new(0x7FE00010, "OB", b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item for item in items))
    film["PixelData"].is_undefined_length = True
    film.save_as(path, enforce_file_format=True)
    return path


def encode_lossless_jpeg(values: NDArray[np.int64], bits: int, predictor: int, wrap: bool = False, shift: int = 0) -> bytes:
    """Encode unsigned values (height, width) as lossless JPEG (ITU-T T.81 H) with a Huffman table of 17 codes of 5 bits.

    `wrap` codes every third rise as the fall that is congruent to it modulo 2 ** bits (H.1.2.1 lets a decoder see no difference);
    `shift` is the point transform: the values lose their low bits.
    """
    height, width = values.shape
    image = values.astype(int) >> shift
    out = bytearray(b"\xff\xd8\xff\xc4" + struct.pack(">H", 36) + b"\0" + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17)))
    out += b"\xff\xc3" + struct.pack(">HBHHB", 11, bits, height, width, 1) + bytes([1, 0x11, 0])
    out += b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, predictor, 0, shift])
    code: list[str] = []
    for y in range(height):
        for x in range(width):
            if y == 0:
                guess = image[0, x - 1] if x else 1 << (bits - shift - 1)
            elif x == 0:
                guess = image[y - 1, 0]
            else:
                a, b, c = (int(image[at]) for at in ((y, x - 1), (y - 1, x), (y - 1, x - 1)))
                guess = (0, a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)[predictor]
            difference = int(image[y, x] - guess)
            if wrap and difference > 0 and x % 3 == 1:
                difference -= 1 << bits
            difference = (difference + (1 << 15) - 1) % (1 << 16) - (1 << 15) + 1  # -32767 .. 32768
            size = abs(difference).bit_length()
            code.append(f"{size:05b}")
            if 0 < size < 16:
                code.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(code)
    text += "1" * (-len(text) % 8)
    for start in range(0, len(text), 8):
        byte = int(text[start : start + 8], 2)
        out += bytes([byte, 0]) if byte == 0xFF else bytes([byte])
    return bytes(out + b"\xff\xd9")


def specify_canvas(pixels: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Sections 2 and 3 of docs/canvas.md."""

    def weigh(n: int, m: int) -> NDArray[np.float64]:
        centre = (np.arange(m)[:, None] + 0.5) * n / m
        weight = np.maximum(0, 1 - np.abs(np.arange(n)[None] + 0.5 - centre) / max(n / m, 1))
        return np.asarray(weight / weight.sum(1, keepdims=True))

    height, width = pixels.shape
    scale = side / max(width, height)
    w, h = max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))
    left, top = (side - w) // 2, (side - h) // 2
    canvas = np.zeros((side, side), np.uint8)
    canvas[top : top + h, left : left + w] = np.floor(weigh(height, h) @ pixels @ weigh(width, w).T + 0.5)
    return canvas, {"side": side, "scale": scale, "left": left, "top": top, "width": width, "height": height, "covered": [w, h]}
