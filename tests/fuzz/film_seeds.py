"""Small sound films of every kind that edgekit reads, made by code: where fuzzing starts, and where it splices from."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from film_elements import PIXEL_DATA, UNDEFINED, Element, Film
from PIL import Image

IMPLICIT, EXPLICIT, DEFLATED, BIG = ("1.2.840.10008.1.2" + end for end in ("", ".1", ".1.99", ".2"))
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_1, LS, LS_NEAR, J2K, J2K_LOSSY, HTJ2K, HTJ2K_LOSSY = (
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 203)
)
RLE = "1.2.840.10008.1.2.5"

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>'
_VRS = {
    0x00080005: "CS", 0x00080016: "UI", 0x00080018: "UI", 0x00080060: "CS", 0x00080068: "CS", 0x00100010: "PN", 0x00181164: "DS",
    0x00185101: "CS", 0x00280002: "US", 0x00280004: "CS", 0x00280008: "IS", 0x00280010: "US", 0x00280011: "US", 0x00280030: "DS",
    0x00280034: "IS", 0x00280100: "US", 0x00280101: "US", 0x00280102: "US", 0x00280103: "US", 0x00280120: "US", 0x00280121: "US",
    0x00281050: "DS", 0x00281051: "DS", 0x00281052: "DS", 0x00281053: "DS", 0x00281056: "CS", 0x00283000: "SQ", 0x00283002: "US",
    0x00283006: "OW", 0x00283010: "SQ", 0x20500020: "CS", 0x00880200: "SQ",
}  # fmt: skip


def draw(bits: int, is_signed: bool = False, rows: int = 13, columns: int = 17) -> np.ndarray[Any, Any]:
    """A gradient with a bright bar over all values of `bits`: (rows, columns) of the smallest type that holds them."""
    y, x = np.mgrid[0:rows, 0:columns]
    share = (y * columns + x) / (rows * columns - 1)
    share[rows // 2, 2:-2] = 1
    values = np.floor(share * ((1 << bits) - 1)).astype(np.int64) - ((1 << (bits - 1)) if is_signed else 0)
    return values.astype(("i" if is_signed else "u") + str(1 if bits <= 8 else 2))


def make_element(tag: int, value: Any) -> Element:
    """An element of the VR that its tag has; numbers of text and binary numbers are packed as that VR says."""
    vr = _VRS[tag]
    if vr == "US" and not isinstance(value, bytes):
        value = b"".join(struct.pack("<H", number & 0xFFFF) for number in (value if isinstance(value, list | tuple) else [value]))
    elif not isinstance(value, bytes | list):
        value = str(value).encode()
    return Element(tag, vr, value)


def make_film(
    pixels: np.ndarray[Any, Any],
    bits: int,
    syntax: str = EXPLICIT,
    fragments: list[bytes] | None = None,
    elements: dict[int, Any] | None = None,
    **form: bool,
) -> Film:
    """A film of `pixels`, uncompressed or with the `fragments` of a stream; `elements` are added or replaced, None takes one away."""
    values: dict[int, Any] = {
        0x00080016: "1.2.840.10008.5.1.4.1.1.1", 0x00080018: "2.25.1", 0x00080060: "CR", 0x00185101: "AP", 0x00280002: 1,
        0x00280004: "MONOCHROME2", 0x00280010: pixels.shape[0], 0x00280011: pixels.shape[1], 0x00280030: "0.14\\0.14",
        0x00280100: 8 * pixels.itemsize, 0x00280101: bits, 0x00280102: bits - 1, 0x00280103: int(pixels.dtype.kind == "i"),
    }  # fmt: skip
    values |= elements or {}
    body = [make_element(tag, value) for tag, value in sorted(values.items()) if value is not None]
    if fragments is None:
        body.append(Element(PIXEL_DATA, "OW" if pixels.itemsize == 2 else "OB", pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()))
    else:
        body.append(Element(PIXEL_DATA, "OB", [b"", *fragments], UNDEFINED))
    meta = [Element(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2))] if syntax else []
    return Film(body, meta, **form)


def make_table(first: int, bits: int, entries: list[int]) -> list[Element]:
    """The item of a lookup table."""
    data = struct.pack(f"<{len(entries)}H", *entries)
    return [make_element(0x00283002, [len(entries), first, bits]), make_element(0x00283006, data)]


def pack_rle(pixels: np.ndarray[Any, Any]) -> bytes:
    """An RLE Lossless stream (PS3.5 G)."""
    planes = pixels.astype(f">u{pixels.itemsize}").view(np.uint8).reshape(*pixels.shape, pixels.itemsize)
    segments = [b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in planes[..., plane]) for plane in range(pixels.itemsize)]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = list(itertools.accumulate(map(len, segments[:-1]), initial=64))
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def seed_dicom() -> dict[str, bytes]:
    """Films in every transfer syntax that ``docs/canvas.md`` names, and with every element that it names."""
    eight, twelve, sixteen = draw(8), draw(12), draw(16)
    signed = draw(12, is_signed=True)
    ramp = [index * 4095 // 63 for index in range(64)]
    films = {
        "plain-8": make_film(eight, 8),
        "plain-12": make_film(twelve, 12, elements={0x00281050: "2048", 0x00281051: "4096"}),
        "plain-16": make_film(sixteen, 16),
        "signed": make_film(signed, 12, elements={0x00281052: "-1024", 0x00281053: "1", 0x00281050: "0", 0x00281051: "4096"}),
        "padded": make_film(sixteen, 16, elements={0x00280120: 0, 0x00280121: 4000, 0x00280004: "MONOCHROME1"}),
        "implicit": make_film(twelve, 12, IMPLICIT, is_implicit=True),
        "big-endian": make_film(twelve, 12, BIG, is_little=False),
        "deflated": make_film(twelve, 12, DEFLATED, is_deflated=True),
        "no-preamble": make_film(eight, 8, "", has_preamble=False),
        "no-preamble-implicit": make_film(twelve, 12, "", has_preamble=False, is_implicit=True),
        "voi-table": make_film(twelve, 12, elements={0x00283010: [make_table(0, 12, ramp)], 0x00281050: "9", 0x00281051: "9"}),
        "modality-table": make_film(twelve, 12, elements={0x00283000: [make_table(0, 16, ramp)], 0x00281050: "2048", 0x00281051: "4096"}),
        "table-signed": make_film(signed, 12, elements={0x00283010: [make_table(0xF800, 8, [n % 256 for n in range(64)])]}),
        "sigmoid": make_film(
            twelve, 12, elements={0x00281050: "2000\\1", 0x00281051: "900,5\\2", 0x00281056: "SIGMOID", 0x20500020: "INVERSE"}
        ),
        "exact": make_film(twelve, 12, elements={0x00281050: "2000", 0x00281051: "0.5", 0x00281056: "LINEAR_EXACT", 0x00280034: "1\\1"}),
        "icon": make_film(eight, 8, elements={0x00880200: [make_film(draw(8, rows=4, columns=4), 8).body]}),
        "processing": make_film(eight, 8, elements={0x00080068: "FOR PROCESSING", 0x00280008: "2"}),
    }
    streams = {
        "jpeg": (eight, 8, BASELINE, imagecodecs.jpeg8_encode(eight, 95)),
        "jpeg-12": (twelve, 12, EXTENDED, imagecodecs.jpeg8_encode(twelve, 95, bitspersample=12)),
        "jpeg-colour": (eight, 8, BASELINE, imagecodecs.jpeg8_encode(np.dstack([eight] * 3), 95)),
        "jpeg-ls": (twelve, 12, LS, imagecodecs.jpegls_encode(twelve)),
        "jpeg-ls-near": (eight, 8, LS_NEAR, imagecodecs.jpegls_encode(eight, 2)),
        "jpeg-2000": (twelve, 12, J2K, imagecodecs.jpeg2k_encode(twelve, codecformat="j2k", reversible=True, bitspersample=12)),
        "jpeg-2000-boxes": (sixteen, 16, J2K, imagecodecs.jpeg2k_encode(sixteen, codecformat="jp2", reversible=True)),
        "jpeg-2000-signed": (signed, 12, J2K, imagecodecs.jpeg2k_encode(signed, codecformat="j2k", reversible=True)),
        "jpeg-2000-lossy": (eight, 8, J2K_LOSSY, imagecodecs.jpeg2k_encode(eight, 40, codecformat="j2k", reversible=False)),
        "htj2k": (twelve, 12, HTJ2K, imagecodecs.htj2k_encode(twelve, reversible=True)),
        "htj2k-lossy": (eight, 8, HTJ2K_LOSSY, imagecodecs.htj2k_encode(eight, reversible=False)),
        "rle-8": (eight, 8, RLE, pack_rle(eight)),
        "rle-16": (twelve, 12, RLE, pack_rle(twelve)),
    }
    for predictor in range(1, 8):
        pixels, bits = ((eight, 8), (twelve, 12), (sixteen, 16))[predictor % 3]
        stream = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits)
        streams[f"jpeg-lossless-{predictor}"] = (pixels, bits, LOSSLESS_1 if predictor == 1 else LOSSLESS, stream)
    for name, (pixels, bits, syntax, stream) in streams.items():
        films[name] = make_film(pixels, bits, syntax, [bytes(stream)])
    films["fragments"] = make_film(twelve, 12, J2K, [bytes(streams["jpeg-2000"][3])[at : at + 60] for at in range(0, 400, 60)])
    films["two-frames"] = make_film(eight, 8, RLE, [streams["rle-8"][3]] * 2)
    films["syntax-lies"] = make_film(eight, 8, EXPLICIT, [bytes(streams["jpeg"][3])])
    films["syntax-missing"] = make_film(twelve, 12, "", [bytes(streams["jpeg-ls"][3])])
    films["stream-defined"] = make_film(twelve, 12, RLE)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    rle = streams["rle-16"][3]
    films["stream-defined"].body[-1].value = item + item[:4] + struct.pack("<I", len(rle)) + rle
    return {name: film.to_bytes() for name, film in films.items()}


# --- PNG -----------------------------------------------------------------------------------------------------------------------

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def pack_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(colour: int, depth: int, is_interlaced: bool = False, extra: tuple[tuple[bytes, bytes], ...] = (), tail: bytes = b"") -> bytes:
    """A PNG of 9 x 11 pixels; the chunks `extra` stand before its pixels, and `tail` is behind its last line."""
    width, height, channels = 9, 11, CHANNELS[colour]
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    samples = ((y * width + x + 17 * c) * (1 << depth) // (width * height + 17 * (channels - 1))).astype(np.uint32)
    lines = b""
    for left, top, right, down in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        for row in samples[top::down, left::right]:
            if row.size:
                bits = "".join(f"{int(value):0{depth}b}" for value in row.ravel())
                size = -(-len(bits) // 8)
                lines += b"\0" + int(bits.ljust(8 * size, "0"), 2).to_bytes(size)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(is_interlaced))
    palette = ((b"PLTE", bytes(range(0, 256, 2)) * 6),) if colour == 3 else ()
    palette = tuple((kind, data[: 3 << depth]) for kind, data in palette)
    chunks = ((b"IHDR", header), *palette, *extra, (b"IDAT", zlib.compress(lines + tail)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(pack_chunk(kind, data) for kind, data in chunks)


def make_exif(orientation: int, is_little: bool = True) -> bytes:
    """A TIFF header with one entry: Orientation."""
    order = "<" if is_little else ">"
    return (b"II*\0" if is_little else b"MM\0*") + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def seed_png() -> dict[str, bytes]:
    """Every colour type and depth, interlaced or not, with transparency and with an orientation in either place."""
    films = {
        f"colour-{colour}-{depth}{'-interlaced' * interlaced}": make_png(colour, depth, interlaced)
        for colour, depths in DEPTHS.items()
        for depth in depths
        for interlaced in (False, True)
    }
    films |= {f"exif-{value}": make_png(0, 8, extra=((b"eXIf", make_exif(value, value % 2 == 0)),)) for value in (2, 3, 5, 8)}
    films["xmp"] = make_png(0, 16, extra=((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),))
    films["xmp-packed"] = make_png(4, 16, extra=((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),))
    films["texts"] = make_png(0, 8, extra=((b"tEXt", b"Title\0film"), (b"zTXt", b"Comment\0\0" + zlib.compress(b"film" * 9))))
    films["rare"] = make_png(2, 8, extra=((b"gAMA", struct.pack(">I", 45455)), (b"pHYs", struct.pack(">IIB", 3, 3, 1)), (b"sRGB", b"\0")))
    for colour, depth, data in ((0, 8, b"\0\7"), (0, 16, b"\1\2"), (2, 8, b"\0\1" * 3), (2, 16, b"\0\1" * 3), (3, 8, bytes(range(40)))):
        films[f"transparent-{colour}-{depth}"] = make_png(colour, depth, extra=((b"tRNS", data),))
    return films


# --- JPEG ----------------------------------------------------------------------------------------------------------------------


def pack_segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def make_jpeg(mode: str, *segments: bytes, **settings: Any) -> bytes:
    """A JPEG of 17 x 13 pixels with `segments` behind its first two bytes."""
    picture, stream = Image.fromarray(draw(8)).convert(mode), io.BytesIO()
    picture.save(stream, "jpeg", **settings)
    return b"\xff\xd8" + b"".join(segments) + stream.getvalue()[2:]


def seed_jpeg() -> dict[str, bytes]:
    """Baseline and progressive, gray, colour and CMYK, with an orientation in either place, and those that are refused."""
    xmp = pack_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    films = {
        "gray": make_jpeg("L"),
        "colour": make_jpeg("RGB", subsampling=2),
        "colour-444": make_jpeg("RGB", subsampling=0, quality=95),
        "cmyk": make_jpeg("CMYK"),
        "progressive": make_jpeg("L", progressive=True),
        "progressive-colour": make_jpeg("RGB", progressive=True),
        "restarts": make_jpeg("L", restart_marker_blocks=1),
        "xmp": make_jpeg("L", xmp),
        "both": make_jpeg("L", pack_segment(0xE1, b"Exif\0\0" + make_exif(3)), xmp),
        "stray": make_jpeg("L", b"\xff\xff\xff\xfe\x00\x04ab", b"zzz"),
        "adobe": make_jpeg("RGB", pack_segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")),
        "comment": make_jpeg("L", pack_segment(0xFE, b"a film"), pack_segment(0xE2, b"ICC_PROFILE\0\1\1abc"), pack_segment(0xED, b"8BIM")),
        "twelve": bytes(imagecodecs.jpeg8_encode(draw(12), 95, bitspersample=12)),
        "lossless": bytes(imagecodecs.jpeg8_encode(draw(8), lossless=True)),
    }
    for value in range(1, 9):
        films[f"exif-{value}"] = make_jpeg("L", pack_segment(0xE1, b"Exif\0\0" + make_exif(value, value % 2 == 0)))
    return films
