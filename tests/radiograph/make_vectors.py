"""Write the vectors of tests/golden/canvas that stand for one rule of docs/canvas.md each.

    python tests/radiograph/make_vectors.py

Everything expected is a direct double-precision evaluation of that page from the values that were drawn here, not from an implementation
that it tests. ``rule-*`` are films with their canvas, ``refused-*`` films with the reason; the other vectors are left as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from dicom_maker import encapsulate, encode_lossless_jpeg, specify_canvas, write_film
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

FOLDER = Path(__file__).parents[1] / "golden" / "canvas"
SIDE = 48
JPEG = "1.2.840.10008.1.2.4."
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}

pydicom.config.settings.reading_validation_mode = pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


def draw(bits: int = 12, shape: tuple[int, int] = (40, 34)) -> NDArray[np.int64]:
    """Stored values: slopes, soft columns, two bars and a black border."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    share = 0.15 + 0.35 * y / shape[0] + 0.2 * np.sin(x / 4) ** 2
    share[10:13, 8:26], share[20:23, 8:26], share[:3] = 1, 0.97, 0
    return np.round(share * ((1 << bits) - 1)).astype(np.int64)


VALUES = draw()
EIGHT = draw(8)


def to_byte(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.floor(np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)


def window(values: NDArray[Any], centre: float = 2048, width: float = 4096) -> NDArray[np.uint8]:
    return to_byte((values - (centre - 0.5)) / (width - 1) + 0.5)


def percentiles(values: NDArray[Any]) -> NDArray[np.uint8]:
    ranked = np.sort(values.ravel()).astype(float)
    low, high = (ranked[math.ceil(share * ranked.size / 1000) - 1] for share in (5, 995))
    return to_byte((values - low) / (high - low))


def film(path: Path, values: NDArray[Any] = VALUES, bits: int = 12, signed: bool = False, **elements: Any) -> Path:
    return write_film(path, values, bits, signed, **(WINDOW | elements))


def change(path: Path, edit: Callable[[Dataset], None], **options: Any) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path, **options)
    return path


def patch(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) == 1, (path, old)
    path.write_bytes(content.replace(old, new))
    return path


def table(first: int, entries: Sequence[int], bits: int, announced: int | None = None) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [(announced or len(entries)) % 65536, first % 65536, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return [item]


ROOT = np.round(np.sqrt(np.linspace(0, 1, 4096)) * 4095).astype(int)
CURVED = to_byte(ROOT[VALUES] / 4095)


def write_png(
    path: Path, rows: bytes, width: int, height: int, depth: int, colour: int, interlaced: int = 0, *chunks: tuple[bytes, bytes]
) -> Path:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = b"".join(chunk(*each) for each in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def lines(array: NDArray[Any], kind: str = ">u2") -> bytes:
    return b"".join(b"\0" + row.astype(kind).tobytes() for row in array)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, steps (PNG specification, 8.2)."""
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></x:xmpmeta>'


def jpeg_with(path: Path, pixels: NDArray[np.uint8], *segments: bytes, stray: bytes = b"") -> NDArray[np.uint8]:
    """Write a gray JPEG with APP1 segments; return what it shows, as Pillow decodes it without them."""
    Image.fromarray(pixels).save(path, "JPEG", quality=95)
    shown = np.asarray(Image.open(path)).copy()
    content = path.read_bytes()
    app1 = b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments)
    at = content.index(b"\xff\xdb")
    path.write_bytes(content[:2] + app1 + content[2:at] + stray + content[at:])
    return shown


def make_films(out: Path) -> dict[str, tuple[NDArray[np.uint8], str]]:
    """Write the films; return the right gray levels of each and what it stands for. A name that ends in ~ is lossy."""
    made: dict[str, tuple[NDArray[np.uint8], str]] = {}

    def add(name: str, right: NDArray[np.uint8], about: str) -> None:
        made[name] = right, about

    def at(name: str) -> Path:
        return out / f"rule-{name}"

    plain = window(VALUES)

    # how the elements are written
    change(film(at("syntax-missing.dcm")), lambda ds: ds.file_meta.__delattr__("TransferSyntaxUID"), enforce_file_format=False,
           implicit_vr=False, little_endian=True)  # fmt: skip
    raw = at("syntax-missing.dcm").read_bytes()
    if raw[128:132] != b"DICM":
        at("syntax-missing.dcm").write_bytes(bytes(128) + b"DICM" + raw)
    add("syntax-missing.dcm", plain, "no Transfer Syntax UID")
    patch(film(at("syntax-lies.dcm")), b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    add("syntax-lies.dcm", plain, "announces implicit VR, written with explicit VR")
    film(at("syntax-lies-jpeg.dcm"))
    content = at("syntax-lies-jpeg.dcm").read_bytes()
    old = b"UI\x14\x001.2.840.10008.1.2.1\0"
    at("syntax-lies-jpeg.dcm").write_bytes(content.replace(old, b"UI\x16\x001.2.840.10008.1.2.4.50"))
    add("syntax-lies-jpeg.dcm", plain, "announces JPEG, the pixels are not compressed")
    words = film(at("big-endian-words.dcm"), EIGHT, 8, WindowCenter=128, WindowWidth=256)
    swapped = EIGHT.astype(np.uint8).reshape(-1, 2)[:, ::-1].tobytes()

    def write_words(path: Path) -> None:
        read = pydicom.dcmread(path)
        dataset = Dataset({element.tag: element for element in read})  # converted: bytes that were read are written as they are
        dataset.file_meta = read.file_meta
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.add_new("PixelData", "OW", swapped)
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)

    write_words(words)
    add("big-endian-words.dcm", window(EIGHT, 128, 256), "big endian, 8 bits in words: the bytes of each word are swapped")
    change(film(at("deflated.dcm")), lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    add("deflated.dcm", plain, "deflated")
    change(film(at("deflated-zlib.dcm")), lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    content = at("deflated-zlib.dcm").read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    at("deflated-zlib.dcm").write_bytes(content[:start] + zlib.compress(zlib.decompress(content[start:], -zlib.MAX_WBITS)))
    add("deflated-zlib.dcm", plain, "deflated, with the header of zlib that doesn't belong there")
    ge = film(at("syntax-ge.dcm"), VALUES.astype("u2").byteswap().astype(np.int64))
    patch(ge, b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0")
    add("syntax-ge.dcm", plain, "GE's own transfer syntax: the words of the pixels are big-endian in a little-endian data set")
    patch(film(at("stray-end.dcm")), b"\x28\0\x10\0US", b"\xfe\xff\x0d\xe0\0\0\0\0\x28\0\x10\0US")
    add("stray-end.dcm", plain, "the end of an item that never began")
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.BitsAllocated = icon.BitsStored = 8
    icon.add_new("PixelData", "OB", b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0\x04\0\0\0\xff\xd8\xff\xd9")
    icon["PixelData"].is_undefined_length = True
    film(at("icon.dcm"), IconImageSequence=[icon])
    add("icon.dcm", plain, "a compressed icon inside a plain film")
    change(film(at("frames-native.dcm")), lambda ds: setattr(ds, "PixelData", ds.PixelData * 2))
    add("frames-native.dcm", plain, "twice as many pixels as announced: the first frame")

    # compressed
    j2k = imagecodecs.jpeg2k_encode(VALUES.astype("u2"), level=0, codecformat="j2k", bitspersample=12)
    other = imagecodecs.jpeg2k_encode(VALUES[::-1].astype("u2"), level=0, codecformat="j2k", bitspersample=12)
    encapsulate(film(at("frames-j2k.dcm")), JPEG + "90", j2k, other)
    add("frames-j2k.dcm", plain, "JPEG 2000, two frames where one is announced, no offset table")
    encapsulate(film(at("j2k-no-offsets.dcm")), JPEG + "90", j2k, offsets=None)
    add("j2k-no-offsets.dcm", plain, "JPEG 2000, the offset table left out")
    signed = (VALUES - 2048).astype("i2")
    stream = imagecodecs.jpeg2k_encode(signed, level=0, codecformat="jp2", bitspersample=12)
    encapsulate(film(at("j2k-signed.dcm"), signed, signed=True, WindowCenter=0), JPEG + "90", stream)
    add("j2k-signed.dcm", plain, "JPEG 2000 in JP2 boxes, signed")
    encapsulate(film(at("htj2k.dcm")), JPEG + "201", imagecodecs.htj2k_encode(VALUES.astype("u2")))
    add("htj2k.dcm", plain, "HTJ2K")
    encapsulate(film(at("jpeg-ls.dcm")), JPEG + "80", imagecodecs.jpegls_encode(VALUES.astype("u2")))
    add("jpeg-ls.dcm", plain, "JPEG-LS")
    encapsulate(film(at("jpeg-lossless.dcm")), JPEG + "57", encode_lossless_jpeg(VALUES, 12, 6))
    add("jpeg-lossless.dcm", plain, "JPEG lossless, predictor 6")
    wrapped = encode_lossless_jpeg(EIGHT, 8, 1, wrap=True)
    encapsulate(film(at("jpeg-wrapped.dcm"), EIGHT, 8, WindowCenter=128, WindowWidth=256), JPEG + "70", wrapped)
    add("jpeg-wrapped.dcm", window(EIGHT, 128, 256), "JPEG lossless whose differences wrap")
    top = encode_lossless_jpeg(VALUES << 4, 16, 1)
    encapsulate(film(at("jpeg-high-bit.dcm"), HighBit=15), JPEG + "70", top)
    add("jpeg-high-bit.dcm", plain, "JPEG lossless of whole cells, High Bit 15, 12 bits stored")
    rle = film(at("rle-fragments.dcm"))
    dataset = pydicom.dcmread(rle)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    encapsulate(rle, RLELossless, *(frame[start : start + 400] for start in range(0, len(frame), 400)))
    add("rle-fragments.dcm", plain, "RLE, one frame in several fragments")
    stream = imagecodecs.jpeg8_encode(EIGHT.astype("u1"), level=90)
    encapsulate(film(at("jpeg-baseline.dcm"), EIGHT, 8, WindowCenter=128, WindowWidth=256), JPEG + "50", stream)
    add("jpeg-baseline.dcm~", window(imagecodecs.jpeg8_decode(stream).astype(int), 128, 256), "JPEG baseline")
    ten = np.minimum(VALUES // 3, 1023)
    stream = imagecodecs.jpeg8_encode(ten.astype("u2"), level=80, bitspersample=12)
    beyond = imagecodecs.jpeg8_decode(stream).astype(int)
    assert beyond.max() > 1023
    encapsulate(film(at("jpeg-extended.dcm"), ten, 10, WindowCenter=512, WindowWidth=1024), JPEG + "51", stream)
    add(
        "jpeg-extended.dcm~",
        window(np.minimum(beyond, 1023), 512, 1024),
        "JPEG extended, 12 bits, values above the 10 bits stored: clipped",
    )
    near = imagecodecs.jpegls_encode((VALUES // 3).astype("u2"), level=2)
    beyond = imagecodecs.jpegls_decode(near).astype(int)
    assert beyond.max() > 1023
    encapsulate(film(at("jpeg-ls-near.dcm"), ten, 10, WindowCenter=512, WindowWidth=1024), JPEG + "80", near)
    add("jpeg-ls-near.dcm", window(np.minimum(beyond, 1023), 512, 1024), "a lossy JPEG-LS stream announced as lossless: clipped")
    encapsulate(film(at("fragment-empty.dcm")), JPEG + "57", b"", encode_lossless_jpeg(VALUES, 12, 1))
    add("fragment-empty.dcm", plain, "an empty fragment before the first of the frame")

    # lookup tables
    film(at("table-narrow.dcm"), VOILUTSequence=table(0, ROOT, 16))
    add("table-narrow.dcm", CURVED, "a VOI LUT of 12 bits that is declared as 16")
    film(at("table-signed.dcm"), VALUES - 2048, signed=True, VOILUTSequence=table(-2048, ROOT, 12))
    add("table-signed.dcm", CURVED, "signed pixels: the first input of a table is signed, though its VR is US")
    film(at("table-rescaled.dcm"), RescaleSlope=1, RescaleIntercept=-1000, VOILUTSequence=table(-1000, ROOT, 12))
    add("table-rescaled.dcm", CURVED, "unsigned pixels that the rescale makes negative: the first input is signed")
    film(at("table-lifted.dcm"), VALUES - 2048, signed=True, RescaleSlope=1, RescaleIntercept=42048, VOILUTSequence=table(40000, ROOT, 12))
    add("table-lifted.dcm", CURVED, "signed pixels that the rescale makes positive: the first input is unsigned")
    cube = np.round(4095 * np.linspace(0, 1, 4096) ** 3).astype(int)
    film(at("table-modality.dcm"), ModalityLUTSequence=table(0, cube, 16))
    add("table-modality.dcm", window(cube[VALUES]), "a Modality LUT")
    film(at("table-xa.dcm"), Modality="XA", ModalityLUTSequence=table(0, cube, 16))
    add("table-xa.dcm", plain, "the Modality LUT of a C-arm is not for display")
    film(at("table-short.dcm"), VOILUTSequence=table(0, ROOT[:3000], 12, announced=4096))
    add("table-short.dcm", plain, "a VOI LUT with fewer entries than announced, beside a window")
    film(at("table-wide.dcm"), VOILUTSequence=table(0, ROOT, 8))
    add("table-wide.dcm", plain, "a VOI LUT whose entries need more bits than declared, beside a window")
    film(at("table-empty.dcm"), VOILUTSequence=[Dataset()])
    add("table-empty.dcm", plain, "a VOI LUT without content, beside a window")
    patch(film(at("table-unknown.dcm"), VOILUTSequence=table(0, ROOT, 12)), b"\x28\0\x10\x30SQ", b"\x28\0\x10\x30UN")
    add("table-unknown.dcm", CURVED, "a VOI LUT in a sequence of VR UN whose item has VRs")
    bent = np.round(np.sqrt(np.linspace(0, 1, 256)) * 255).astype("u1")
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTData", "OW", bent.reshape(-1, 2)[:, ::-1].tobytes())
    write_words(film(at("table-bytes.dcm"), EIGHT, 8, VOILUTSequence=[item]))
    add("table-bytes.dcm", bent[EIGHT], "a VOI LUT of bytes, two in each big-endian word")

    # numbers
    patch(patch(film(at("number-comma.dcm"), WindowCenter="1900.5", WindowWidth="3000.5"), b"1900.5", b"1900,5"), b"3000.5", b"3000,5")
    add("number-comma.dcm", window(VALUES, 1900.5, 3000.5), "decimal commas in the window")
    patch(film(at("number-nan.dcm"), WindowCenter="2048"), b"2048", b"NaN ")
    add("number-nan.dcm", percentiles(VALUES), "a window whose centre is not a number: percentiles")
    film(at("number-width-0.dcm"), WindowWidth=0)
    add("number-width-0.dcm", percentiles(VALUES), "a window width of 0 is no window: percentiles")
    film(at("number-slope-0.dcm"), RescaleSlope=0, RescaleIntercept=7)
    add("number-slope-0.dcm", plain, "a slope of 0 is ignored, with its intercept")
    film(at("number-infinite.dcm"), RescaleSlope="2", RescaleIntercept="1e999")
    add("number-infinite.dcm", plain, "an intercept that is not finite: no rescale")

    def to_other_types(ds: Dataset) -> None:
        ds.add_new("WindowCenter", "FD", 1900.25)
        ds.add_new("WindowWidth", "US", [3000, 10])
        ds.add_new("PixelPaddingValue", "OW", struct.pack("<H", 0))
        ds.add_new("PixelSpacing", "DS", "0.143")
        ds.add_new("Rows", "IS", "40")
        del ds.PixelRepresentation, ds.SamplesPerPixel, ds.HighBit

    change(film(at("number-other-types.dcm")), to_other_types)
    right = window(VALUES, 1900.25, 3000)
    right[VALUES == 0] = 0
    add("number-other-types.dcm", right, "numbers in other VRs, several for one, one for two, and elements that are missing")

    film(at("number-aspect.dcm"), PixelAspectRatio=["0", "1"])
    add("number-aspect.dcm", plain, "an aspect ratio of 0 is none")
    film(at("number-no-samples.dcm"), SamplesPerPixel=0, HighBit=16)
    add("number-no-samples.dcm", plain, "0 samples a pixel and a High Bit beyond the cell are as if absent")

    change(film(at("number-no-bits.dcm")), lambda ds: ds.__delattr__("BitsAllocated"))
    add("number-no-bits.dcm", plain, "Bits Allocated is missing: 16 follow from Bits Stored")

    # pictures
    height, width = VALUES.shape
    deep = b"".join(lines(VALUES[y::dy, x::dx]) for x, y, dx, dy in PASSES)
    write_png(at("deep-interlaced.png"), deep, width, height, 16, 0, 1)
    add("deep-interlaced.png", percentiles(VALUES), "PNG, 16 bits of gray, interlaced")
    alpha = np.where(np.arange(width) < 17, 65535, 40000)[None].repeat(height, 0)
    write_png(at("deep-alpha.png"), lines(np.stack([VALUES, alpha], 2).reshape(height, -1)), width, height, 16, 4)
    add("deep-alpha.png", percentiles((VALUES * alpha + 32767) // 65535), "PNG, 16 bits of gray and alpha")
    write_png(at("deep-key.png"), lines(VALUES), width, height, 16, 0, 0, (b"tRNS", struct.pack(">H", 4095)))
    add("deep-key.png", percentiles(np.where(VALUES == 4095, 0, VALUES)), "PNG, 16 bits of gray, one value transparent")
    colour = np.stack([VALUES * 16, VALUES * 8, 65535 - VALUES * 16], 2)
    write_png(at("deep-colour.png"), lines(colour.reshape(height, -1)), width, height, 16, 2)
    red, green, blue = (colour[..., n] >> 8 for n in range(3))
    light = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    add("deep-colour.png", light.astype(np.uint8), "PNG, 16 bits of colour: the high bytes")
    two = EIGHT >> 6
    packed = b"".join(
        b"\0" + np.packbits(np.pad(np.stack([row >> 1, row & 1], 1).ravel(), (0, -2 * len(row) % 8)).astype(np.uint8)).tobytes()
        for x, y, dx, dy in PASSES
        for row in two[y::dy, x::dx]
    )
    write_png(at("two-bits-interlaced.png"), packed, width, height, 2, 0, 1)
    add("two-bits-interlaced.png", (two * 85).astype(np.uint8), "PNG, 2 bits of gray, interlaced")
    colours = np.array([[0, 0, 0], [200, 30, 90], [80, 160, 240], [255, 255, 255]])
    clear = np.array([255, 128, 255, 255])
    write_png(at("palette.png"), b"".join(b"\0" + row.astype("u1").tobytes() for row in two), width, height, 8, 3, 0,
              (b"PLTE", colours.astype("u1").tobytes()), (b"tRNS", bytes([255, 128])))  # fmt: skip
    light = (colours @ [19595, 38470, 7471] + 32768) >> 16
    add("palette.png", ((light * clear + 127) // 255)[two].astype(np.uint8), "PNG with a palette, one colour half transparent")
    turned = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.format(6).encode()
    write_png(at("xmp.png"), lines(EIGHT, "u1"), width, height, 8, 0, 0, (b"iTXt", turned))
    add("xmp.png", EIGHT.astype(np.uint8).T[:, ::-1], "PNG turned by XMP's orientation 6")
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP.format(3).encode()
    shown = jpeg_with(at("xmp.jpg"), EIGHT.astype(np.uint8), xmp)
    add("xmp.jpg~", shown[::-1, ::-1], "JPEG turned by XMP's orientation 3")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    shown = jpeg_with(at("exif-and-xmp.jpg"), EIGHT.astype(np.uint8), exif, xmp)
    add("exif-and-xmp.jpg~", shown.T[:, ::-1], "JPEG with EXIF's orientation 6 and XMP's 3: EXIF's")
    add(
        "stray-bytes.jpg~",
        jpeg_with(at("stray-bytes.jpg"), EIGHT.astype(np.uint8), stray=b"\0\0"),
        "JPEG with stray bytes between segments",
    )
    return made


def make_refused(out: Path) -> dict[str, str]:
    """Write the films that are refused; return the reason of each by its name."""

    def at(name: str) -> Path:
        return out / f"refused-{name}"

    at("empty.dcm").write_bytes(b"")
    at("unknown.dcm").write_bytes(b"II*\0" + bytes(60))
    at("damaged.dcm").write_bytes(film(at("damaged.dcm")).read_bytes()[:-900])
    change(film(at("imageless.dcm")), lambda ds: ds.__delattr__("PixelData"))
    film(at("modality.dcm"), Modality="CT")
    film(at("raw.dcm"), Modality="DX", PresentationIntentType="FOR PROCESSING")
    film(at("frames.dcm"), NumberOfFrames=2)
    film(at("colour.dcm"), PhotometricInterpretation="PALETTE COLOR")
    change(film(at("header.dcm")), lambda ds: ds.__delattr__("PhotometricInterpretation"))
    film(at("aspect.dcm"), PixelAspectRatio=["2", "1"])
    film(at("large.dcm"))
    change(at("large.dcm"), lambda ds: ds.update({"Rows": 60000, "Columns": 60000}))
    encapsulate(film(at("syntax.dcm")), JPEG + "102", b"\0\0\0\x01\x67\x64\0\x1f")
    stream = encode_lossless_jpeg(VALUES, 12, 1).replace(b"\xff\xc3", b"\xff\xcb")
    encapsulate(film(at("syntax-arithmetic.dcm")), JPEG + "70", stream)
    film(at("table.dcm"), WindowCenter=None, WindowWidth=None, VOILUTSequence=table(0, ROOT[:9], 12, announced=4096))
    film(at("function.dcm"), VOILUTFunction="CUBIC")
    film(at("blank.dcm"), WindowCenter=20000, WindowWidth=100)
    encapsulate(film(at("damaged-stream.dcm")), JPEG + "80", imagecodecs.jpegls_encode(VALUES[:20].astype("u2")))
    stream = imagecodecs.jpeg8_encode(np.stack([EIGHT] * 3, -1).astype("u1"), level=90)
    encapsulate(film(at("colour-stream.dcm"), EIGHT, 8), JPEG + "50", stream)
    deep = imagecodecs.jpeg8_encode(VALUES.astype("u2"), level=90, bitspersample=12)
    at("syntax.jpg").write_bytes(deep)
    return {path.name: path.stem.removeprefix("refused-").split("-")[0] for path in sorted(out.glob("refused-*"))}


def main() -> None:
    """Write films, canvases and the index."""
    index = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    kept = [vector for vector in index["vectors"] if not vector["film"].startswith("rule-")]
    for path in (*FOLDER.glob("rule-*"), *FOLDER.glob("refused-*")):
        path.unlink()
    vectors = []
    for name, (right, about) in make_films(FOLDER).items():
        film_name = f"rule-{name.rstrip('~')}"
        canvas, numbers = specify_canvas(right, SIDE)
        canvas_name = f"{film_name.replace('.', '-')}.canvas.png"
        Image.fromarray(canvas).save(FOLDER / canvas_name, optimize=True)
        exact = {} if name.endswith("~") else {"sha256": hashlib.sha256(right.tobytes()).hexdigest()}
        vectors.append({"film": film_name, "canvas": canvas_name, **numbers, **exact, "about": about})
    refused = [{"film": name, "reason": reason} for name, reason in make_refused(FOLDER).items()]
    parts = [f'  "tolerance": {json.dumps(index["tolerance"])}']
    for key, rows in (("vectors", [*kept, *vectors]), ("refused", refused)):
        parts.append(f'  "{key}": [\n' + ",\n".join(f"    {json.dumps(row)}" for row in rows) + "\n  ]")
    (FOLDER / "index.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
