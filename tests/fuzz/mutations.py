"""What can be wrong with a file: one function for each kind of file, ``(content, random) -> content``.

Each knows the structure that it breaks, so that what is wrong is one length, one tag or one field, with checksums put right again; and
each falls back on bytes that are flipped, cut out, repeated or put in where a file has no structure any more.
"""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from film_elements import PIXEL_DATA, UNDEFINED, Element, Film, parse_film
from film_seeds import PNG_SIGNATURE, make_element, make_exif, pack_chunk, pack_segment
from text_seeds import pack_weights, seal

from edgekit.radiograph import header

Mutation = Callable[[bytes, Random], bytes]

LONGEST = 1 << 16
"""Bytes of the largest file that is made."""

TAGS = sorted(value for name, value in vars(header).items() if name[0].isupper() and isinstance(value, int))
TAGS += [0x00020000, 0x00080005, 0x00100010, 0x00281055, 0x60003000, 0x00880200, 0x00090010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00008]
VRS = "US SS UL SL FL FD DS IS CS LO SH ST LT UT UN OB OW OF OD AT SQ UI PN DA TM AS AE UC UR OV SV UV \0\0 ?? us éü".split(" ")  # noqa: SIM905
SHORTS = (0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 32, 255, 256, 4095, 32767, 32768, 60000, 65535)
LONGS = (0, 1, 2, 3, 7, 8, 64, 255, 65535, 65536, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, UNDEFINED)
NUMBERS = (
    b"", b" ", b"0", b"-0", b"1", b"-1", b"2", b"0.5", b"1,5", b"1e308", b"-1.7e308", b"1e-320", b"1e400", b"NaN", b"inf", b"4096 HU",
    b"\\", b"1\\2", b"\\1", b"1 2", b"+.5", b"5.", b"1e", b"9" * 400, b"0" * 70, b"1\\1\\1", b"2\\1", b"\xb2", b"1\0", b"4096\n",
    b"65536", b"-32768",
)  # fmt: skip
WORDS = (
    b"CR", b"DX", b"CT", b"XA", b"RF", b"mg", b" DX \\CT", b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"PALETTE COLOR", b"YBR_FULL_422",
    b"LINEAR", b"LINEAR_EXACT", b"SIGMOID", b"sigmoid ", b"INVERSE", b"IDENTITY", b"FOR PROCESSING", b"FOR PRESENTATION", b"AP",
    b"LL", b"", b"\0", b"\xff\xfe", b"ISO_IR 192", b"ISO 2022 IR 87", b"1.2.840.10008.5.1.4.1.1.12.1",
)  # fmt: skip
SYNTAXES = tuple(
    f"1.2.840.10008.1.2{end}".encode()
    for end in ("", ".1", ".1.99", ".2", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.94", ".4.100",
                ".4.110", ".4.201", ".4.202", ".4.203", ".5", ".9.9")
)  # fmt: skip


# --- any bytes -----------------------------------------------------------------------------------------------------------------


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Flip, set, cut, repeat, move or put in bytes."""
    data = bytearray(content)
    size = len(data)
    at = random.randrange(size + 1)
    length = min(random.choice((1, 1, 2, 4, 8, 16, 64, 256)), size - at)
    match random.randrange(9):
        case 0 if size:
            data[at % size] ^= 1 << random.randrange(8)
        case 1 if size:
            data[at % size] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, random.randrange(256)))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = random.randbytes(random.choice((1, 2, 4, 16)))
        case 5:
            data[at:at] = data[at : at + length] * random.choice((1, 2, 16))
        case 6:
            source = random.randrange(size + 1)
            data[at : at + length] = data[source : source + length]
        case 7:
            order, code = random.choice("<>"), random.choice("HI")
            number = random.choice(SHORTS if code == "H" else LONGS)
            data[at : at + struct.calcsize(code)] = struct.pack(order + code, number)
        case _:
            data[at : at + length] = bytes(length)
    return bytes(data[:LONGEST])


def splice(content: bytes, other: bytes, random: Random) -> bytes:
    """Join the beginning of one file to the end of another."""
    return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]


def structured(mutation: Mutation) -> Mutation:
    """Return a mutation that is the structured one mostly, and one of bytes sometimes or where there is no structure left."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.random() < 0.15:
            return mutate_bytes(content, random)
        try:
            return mutation(content, random)[:LONGEST]
        except (ValueError, IndexError, struct.error, zlib.error, RecursionError):
            return mutate_bytes(content, random)

    return mutate


# --- DICOM ---------------------------------------------------------------------------------------------------------------------


def mutate_film(content: bytes, random: Random) -> bytes:
    """Break one thing of a DICOM file."""
    film = parse_film(content)
    random.choice((
        _change_value, _change_value, _change_value, _change_value, _change_stream, _change_stream, _change_stream, _change_length,
        _change_vr, _change_tag, _change_order, _add_element, _change_form, _change_fragments, _nest, _change_syntax, _change_table,
    ))(film, random)  # fmt: skip
    return film.to_bytes()


def _pick_list(film: Film, random: Random) -> list[Element]:
    """Return the data set, the meta group or the elements of an item."""
    lists = [film.body, film.body, film.meta]
    lists += [item for element in film.body if isinstance(element.value, list) for item in element.value if isinstance(item, list)]
    lists = [elements for elements in lists if elements] or [film.body]
    return random.choice(lists)


def _pick(film: Film, random: Random) -> Element:
    return random.choice(_pick_list(film, random))


def _make_value(element: Element, random: Random) -> bytes:
    """Return a value that fits the VR, and is at the border of what makes sense."""
    count = random.choice((1, 1, 1, 1, 2, 3, 0))
    match element.vr:
        case "US" | "SS" | "OW" | "AT":
            return b"".join(struct.pack("<H", random.choice(SHORTS)) for _ in range(count))
        case "UL" | "SL" | "OL":
            return b"".join(struct.pack("<I", random.choice(LONGS)) for _ in range(count))
        case "FL" | "FD" | "OF" | "OD":
            numbers = (0.0, -1.0, 0.5, 4096.0, 1e-40, float("nan"), float("inf"), 3e38)
            return b"".join(struct.pack("<f" if element.vr[1] in "LF" else "<d", random.choice(numbers)) for _ in range(count))
        case "DS" | "IS":
            return random.choice(NUMBERS)
        case "UI":
            return random.choice(SYNTAXES)
    return random.choice((*WORDS, *WORDS, *NUMBERS, random.randbytes(random.choice((2, 16, 300)))))


def _change_value(film: Film, random: Random) -> None:
    element = _pick(film, random)
    if element.tag == PIXEL_DATA or isinstance(element.value, list):
        element = film.body[random.randrange(len(film.body))]
    if isinstance(element.value, bytes):
        element.value = mutate_bytes(element.value, random) if random.random() < 0.25 else _make_value(element, random)


def _change_length(film: Film, random: Random) -> None:
    element = _pick(film, random)
    true = len(element.value) if isinstance(element.value, bytes) else 8
    near = (true - 1, true + 1, true + 2, 2 * true, true - 2)
    element.length = None if element.length == UNDEFINED and random.random() < 0.5 else max(random.choice((*LONGS, *near, UNDEFINED)), 0)
    element.has_end = random.random() < 0.6


def _change_vr(film: Film, random: Random) -> None:
    _pick(film, random).vr = random.choice(VRS)


def _change_tag(film: Film, random: Random) -> None:
    _pick(film, random).tag = random.choice(TAGS)


def _change_order(film: Film, random: Random) -> None:
    elements = _pick_list(film, random)
    at, other = random.randrange(len(elements)), random.randrange(len(elements))
    match random.randrange(4):
        case 0:
            del elements[at]
        case 1:
            elements.insert(other, copy.deepcopy(elements[at]))
        case 2:
            elements[at], elements[other] = elements[other], elements[at]
        case _:
            del elements[at + 1 :]


def _add_element(film: Film, random: Random) -> None:
    elements = _pick_list(film, random)
    tag = random.choice(TAGS)
    try:
        element = make_element(tag, b"")
    except KeyError:
        element = Element(tag, random.choice(VRS), b"")
    if element.vr == "SQ":
        element.value = [_make_item(random)] * random.choice((1, 1, 2, 0))
        element.length = random.choice((None, UNDEFINED))
    else:
        element.value = _make_value(element, random)
    before = sum(each.tag < tag for each in elements) if random.random() < 0.8 else random.randrange(len(elements) + 1)
    elements.insert(before, element)


def _make_item(random: Random) -> list[Element]:
    """Return the item of a lookup table, or one that isn't."""
    count, bits = random.choice((0, 1, 2, 64, 300)), random.choice((0, 7, 8, 8, 12, 12, 16, 16, 17, 255))
    entries = [random.randrange(1 << max(bits % 17, 1)) for _ in range(count)]
    item = [make_element(0x00283002, [random.choice((count, 0, 65535)), random.choice(SHORTS), bits])]
    item.append(make_element(0x00283006, b"".join(struct.pack("<H", entry) for entry in entries)))
    return random.choice((item, item, item, item[:1], item[1:], []))


def _change_table(film: Film, random: Random) -> None:
    """Give the film another lookup table."""
    tag = random.choice((0x00283000, 0x00283010))
    film.body[:] = [element for element in film.body if element.tag != tag]
    element = Element(tag, random.choice(("SQ", "SQ", "SQ", "UN")), [_make_item(random)], random.choice((None, None, UNDEFINED)))
    film.body.insert(sum(each.tag < tag for each in film.body), element)


def _change_form(film: Film, random: Random) -> None:
    match random.randrange(5):
        case 0:
            film.has_preamble = not film.has_preamble
        case 1:
            film.is_little = not film.is_little
        case 2:
            film.is_implicit = not film.is_implicit
        case 3:
            film.is_deflated = not film.is_deflated
        case _:
            film.meta = []


def _change_syntax(film: Film, random: Random) -> None:
    film.meta = [Element(0x00020010, "UI", random.choice(SYNTAXES))]


def _nest(film: Film, random: Random) -> None:
    """Put elements into a sequence, some or very many levels deep."""
    at = random.randrange(len(film.body))
    inner = film.body[at : at + random.choice((1, 3, 100))]
    is_undefined = random.random() < 0.5
    for _ in range(random.choice((1, 1, 2, 5, 60, 500))):
        inner = [Element(random.choice((0x00880200, 0x00283010, 0x00081140)), "SQ", [inner], UNDEFINED if is_undefined else None)]
        if len(inner) > LONGEST:
            break
    film.body[at:at] = inner


def _find_pixels(film: Film) -> Element:
    for element in film.body:
        if element.tag == PIXEL_DATA:
            return element
    raise ValueError("no pixel data")


def _change_fragments(film: Film, random: Random) -> None:
    element = _find_pixels(film)
    if isinstance(element.value, bytes):
        if random.random() < 0.5:
            element.value = mutate_bytes(element.value, random)
        else:
            element.value, element.length = [b"", element.value], UNDEFINED
        return
    fragments: list[Any] = element.value
    at = random.randrange(len(fragments))
    match random.randrange(6):
        case 0:
            cut = random.randrange(len(fragments[at]) + 1)
            fragments[at : at + 1] = [fragments[at][:cut], fragments[at][cut:]]
        case 1:
            del fragments[at]
        case 2:
            fragments.insert(at, random.choice(fragments))
        case 3:
            fragments[0] = random.choice((b"", struct.pack("<I", 0), struct.pack("<2I", 0, random.choice(LONGS)), b"abc"))
        case 4:
            element.has_end = False
        case _:
            element.length = None  # a defined length around the items


def _change_stream(film: Film, random: Random) -> None:
    """Change the stream of compressed pixels, or what the header says of its size."""
    element = _find_pixels(film)
    if isinstance(element.value, bytes) or len(element.value) < 2:
        return _change_value(film, random)
    at = random.randrange(1, len(element.value))
    fragments: list[Any] = element.value
    fragments[at] = mutate_stream(fragments[at], random)
    if random.random() < 0.2:  # a size on which header and stream agree
        rows, columns = random.choice(SHORTS), random.choice(SHORTS)
        for each in film.body:
            if each.tag in (0x00280010, 0x00280011):
                each.value = struct.pack("<H", rows if each.tag == 0x00280010 else columns)
        fragments[at] = resize_stream(fragments[at], rows, columns)
    return None


def mutate_stream(stream: bytes, random: Random) -> bytes:
    """Break one field of a JPEG, JPEG-LS, JPEG 2000 or RLE stream."""
    try:
        if stream.startswith(b"\xff\xd8"):
            return mutate_jpeg(stream, random)
        if b"\xff\x4f\xff\x51" in stream:
            return _mutate_jpeg_2000(stream, random)
        if len(stream) >= 64 and stream[:4] in (b"\1\0\0\0", b"\2\0\0\0"):
            data = bytearray(stream)
            at = 4 * random.choice((0, 1, 1, 2, 2, 3))
            data[at : at + 4] = struct.pack("<I", random.choice((*LONGS, len(stream), len(stream) - 1, 66)))
            return bytes(data) if random.random() < 0.6 else stream[:64] + mutate_bytes(stream[64:], random)
    except (struct.error, IndexError, ValueError):
        pass
    return mutate_bytes(stream, random)


def resize_stream(stream: bytes, rows: int, columns: int) -> bytes:
    """Write a size into the header of a JPEG or JPEG 2000 stream."""
    start = stream.find(b"\xff\x4f\xff\x51")
    if start >= 0:
        return stream[: start + 8] + struct.pack(">II", columns, rows) + stream[start + 16 :]
    for marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
        at = stream.find(bytes([0xFF, marker]))
        if stream.startswith(b"\xff\xd8") and at >= 0:
            return stream[: at + 5] + struct.pack(">HH", rows, columns) + stream[at + 9 :]
    return stream


def _mutate_jpeg_2000(stream: bytes, random: Random) -> bytes:
    """Change a field of SIZ, COD, QCD or a tile part (ITU-T T.800 A), or anything."""
    start, data = stream.find(b"\xff\x4f\xff\x51"), bytearray(stream)
    match random.randrange(6):
        case 0:
            at = start + 8 + 4 * random.randrange(8)
            data[at : at + 4] = struct.pack(">I", random.choice((*LONGS, 13, 17, 18, 60000)))
        case 1:
            data[start + 40 : start + 42] = struct.pack(">H", random.choice(SHORTS))
        case 2:
            data[start + random.choice((42, 43, 44))] = random.choice((0, 1, 2, 7, 11, 15, 31, 37, 38, 0x8B, 255))
        case 3:
            marker = random.choice((b"\xff\x52", b"\xff\x5c", b"\xff\x90", b"\xff\x93", b"\xff\x50", b"\xff\x64"))
            at = max(stream.find(marker, start), 0) + random.randrange(2, 16)
            data[at] = random.choice((0, 1, 2, 5, 6, 32, 33, 64, 127, 128, 255))
        case 4 if start:
            at = random.randrange(start)  # a box
            data[at] = random.choice((0, 1, 12, 20, 255))
        case _:
            return mutate_bytes(stream, random)
    return bytes(data)


# --- PNG -----------------------------------------------------------------------------------------------------------------------

PNG_KINDS = tuple(
    b"IHDR PLTE IDAT IEND tRNS eXIf iTXt tEXt zTXt iCCP gAMA sRGB cHRM pHYs acTL fcTL fdAT sBIT bKGD hIST tIME XXXX abcd".split()
)


def mutate_png(content: bytes, random: Random) -> bytes:
    """Break one thing of a PNG; its checksums are right again, mostly."""
    if not content.startswith(PNG_SIGNATURE):
        raise ValueError("no PNG")
    chunks: list[list[bytes]] = []
    at = 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + length]])
        at += 12 + length
    _mutate_chunks(chunks, random)
    packed = [pack_chunk(kind, data) for kind, data in chunks]
    if packed and random.random() < 0.1:  # a length or a checksum that lies
        which = random.randrange(len(packed))
        if random.random() < 0.5:
            packed[which] = struct.pack(">I", random.choice(LONGS)) + packed[which][4:]
        else:
            packed[which] = packed[which][:-4] + random.randbytes(4)
    return PNG_SIGNATURE + b"".join(packed)


def _mutate_chunks(chunks: list[list[bytes]], random: Random) -> None:
    which = random.randrange(len(chunks))
    chunk = chunks[which]
    headers = [each for each in chunks if each[0] == b"IHDR" and len(each[1]) >= 13]
    pixels = [each for each in chunks if each[0] == b"IDAT"]
    match random.randrange(10):
        case 0 | 1 if headers:
            data = bytearray(headers[0][1])
            place = random.randrange(7)
            if place < 2:
                data[4 * place : 4 * place + 4] = struct.pack(">I", random.choice((*LONGS, 8, 10, 12, 60000)))
            else:
                data[6 + place] = random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            headers[0][1] = bytes(data)
        case 2:
            del chunks[which]
        case 3:
            chunks.insert(random.randrange(len(chunks) + 1), list(chunk))
        case 4:
            chunk[0] = random.choice(PNG_KINDS)
        case 5:
            chunks.insert(random.randrange(len(chunks) + 1), _make_chunk(random))
        case 6 if pixels:
            _mutate_lines(pixels, random)
        case 7 if pixels:
            cut = random.randrange(len(pixels[0][1]) + 1)
            chunks.insert(chunks.index(pixels[0]) + 1, [b"IDAT", pixels[0][1][cut:]])
            pixels[0][1] = pixels[0][1][:cut]
        case _:
            chunk[1] = mutate_bytes(chunk[1], random)


def _mutate_lines(pixels: list[list[bytes]], random: Random) -> None:
    """Change the inflated lines: filters, their number, their values."""
    lines = zlib.decompressobj().decompress(pixels[0][1], 1 << 20)
    match random.randrange(4):
        case 0:
            lines = mutate_bytes(lines, random)
        case 1:
            lines += bytes(random.choice((1, 10, 1000, 100_000)))
        case 2:
            lines = lines[: random.randrange(len(lines) + 1)]
        case _:
            data = bytearray(lines)
            for at in range(0, len(data), max(random.choice((2, 10, 19, 28, 37)), 1)):
                data[at] = random.choice((0, 1, 2, 3, 4, 5, 255))
            lines = bytes(data)
    pixels[0][1] = zlib.compress(lines)


def _make_chunk(random: Random) -> list[bytes]:
    """Return a chunk that ought to mean something."""
    xmp = b'<x tiff:Orientation="%b"/>' % random.choice((b"1", b"3", b"6", b"8", b"0", b"9", b"", b"6.0", b"6" * 9000, b"\xff"))
    return random.choice((
        [b"IHDR", struct.pack(">IIBBBBB", random.choice((9, 60000)), random.choice((11, 60000)), 8, random.choice((0, 2, 6)), 0, 0, 0)],
        [b"eXIf", mutate_exif(make_exif(random.randrange(10), random.random() < 0.5), random)],
        [b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp],
        [b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp + bytes(random.choice((0, 1 << 20))))],
        [b"iTXt", mutate_bytes(b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp), random)],
        [b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(mutate_bytes(b"\nexif\n      26\n" + make_exif(6).hex().encode(), random))],
        [b"tEXt", b"exif\0" + mutate_bytes(b"\nexif\n      26\n" + make_exif(6).hex().encode(), random)],
        [b"zTXt", b"a\0\0" + zlib.compress(bytes(random.choice((9, 1 << 20, 1 << 21))))],
        [b"iCCP", b"a\0\0" + zlib.compress(bytes(random.choice((9, 1 << 21))))],
        [b"tRNS", random.randbytes(random.choice((0, 1, 2, 5, 6, 255, 257)))],
        [b"PLTE", random.randbytes(random.choice((0, 1, 3, 30, 768, 771)))],
        [b"acTL", struct.pack(">II", random.choice(LONGS), random.choice(LONGS))],
        [b"fcTL", struct.pack(">IIIIIHHBB", 0, 9, 11, 0, 0, 1, 1, random.randrange(4), random.randrange(3))],
        [b"pHYs", random.randbytes(random.choice((0, 9)))],
        [random.choice(PNG_KINDS), random.randbytes(random.choice((0, 1, 4, 13, 26)))],
    ))  # fmt: skip


def mutate_exif(exif: bytes, random: Random) -> bytes:
    """Change a TIFF header: offsets, counts, types, or entries that lead in a circle."""
    data = bytearray(exif)
    at = random.choice((0, 4, 8, 10, 12, 14, 18, 22))
    match random.randrange(4):
        case 0:
            data[at : at + 2] = struct.pack(random.choice("<>") + "H", random.choice(SHORTS))
        case 1:
            data[at : at + 4] = struct.pack(random.choice("<>") + "I", random.choice((*LONGS, 8)))
        case 2:
            return mutate_bytes(exif, random)
        case _:
            pass
    return bytes(data)


# --- JPEG ----------------------------------------------------------------------------------------------------------------------


def mutate_jpeg(content: bytes, random: Random) -> bytes:
    """Break one thing of a JPEG or JPEG-LS stream."""
    if not content.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    segments: list[list[Any]] = []
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xFF:
        marker, length = content[at + 1], struct.unpack(">H", content[at + 2 : at + 4])[0]
        segments.append([marker, content[at + 4 : at + 2 + length]])
        at += 2 + max(length, 2)
        if marker == 0xDA:
            break
    scan = content[at:]
    lies: dict[int, int] = {}
    which = random.randrange(len(segments))
    segment = segments[which]
    frames = [each for each in segments if each[0] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7) and len(each[1]) >= 6]
    match random.randrange(12):
        case 0 | 1 if frames:
            data = bytearray(frames[0][1])
            place = random.randrange(6)
            if place in (1, 2):
                data[2 * place - 1 : 2 * place + 1] = struct.pack(">H", random.choice((*SHORTS, 13, 17)))
            elif place == 0:
                data[0] = random.choice((1, 2, 7, 8, 9, 10, 12, 13, 16, 17, 255))
            else:
                data[random.randrange(5, len(data))] = random.choice((0, 1, 2, 3, 4, 0x11, 0x21, 0x22, 0x41, 0x44, 255))
            frames[0][1] = bytes(data)
        case 2 if frames:
            frames[0][0] = random.choice((*range(0xC0, 0xD0), 0xF7))
        case 3:
            del segments[which]
        case 4:
            segments.insert(random.randrange(len(segments) + 1), list(segment))
        case 5:
            segment[0] = random.choice(
                (0xC4, 0xC0, 0xC8, 0xCC, 0xDA, 0xDB, 0xDD, 0xDC, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xF8, 0xFE, 0xD8, 0xD9, 0x01)
            )
        case 6:
            lies[which] = random.choice(SHORTS)
        case 7:
            scan = mutate_bytes(scan, random)
        case 8:
            end = random.choice((scan[: random.randrange(len(scan) + 1)], scan.removesuffix(b"\xff\xd9"), scan + b"\xff\xd9" * 3))
            scan = random.choice(
                (end, scan + random.randbytes(9), scan[:9] + random.choice((b"\xff\xd0", b"\xff\xd5", b"\xff\xc0")) + scan[9:])
            )
        case 9:
            segments.insert(random.randrange(len(segments)), _make_segment(random))
        case _:
            segment[1] = mutate_bytes(segment[1], random)
    packed = b""
    for index, (marker, body) in enumerate(segments):
        one = pack_segment(marker, body[:65000])
        packed += one[:2] + struct.pack(">H", lies[index]) + one[4:] if index in lies else one
        if random.random() < 0.02:
            packed += random.choice((b"\xff", b"\0", b"\xff\xff\xff", b"junk", b"\xff\x01", b"\xff\xd0", b"\xff\x00"))
    return b"\xff\xd8" + packed + scan


def _make_segment(random: Random) -> list[Any]:
    """Return a segment that ought to mean something."""
    xmp = b'<x tiff:Orientation="%b"/>' % random.choice((b"1", b"3", b"6", b"8", b"0", b"9", b"", b"6.0", b"6" * 9000, b"\xff"))
    return random.choice((
        [0xE1, b"Exif\0\0" + mutate_exif(make_exif(random.randrange(10), random.random() < 0.5), random)],
        [0xE1, b"Exif\0\0" + random.randbytes(random.choice((0, 7, 60)))],
        [0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp],
        [0xE2, b"MPF\0" + mutate_exif(make_exif(1), random)],
        [0xE2, b"ICC_PROFILE\0" + random.randbytes(random.choice((0, 2, 9)))],
        [0xED, b"Photoshop 3.0\x008BIM" + random.randbytes(random.choice((0, 7, 30)))],
        [0xEE, b"Adobe" + random.randbytes(random.choice((0, 6, 7)))],
        [0xDD, struct.pack(">H", random.choice(SHORTS))],
        [0xC0, struct.pack(">BHHB", 8, random.choice((13, 60000)), random.choice((17, 60000)), 1) + b"\1\x11\0"],
        [0xDC, struct.pack(">H", random.choice(SHORTS))],
        [0xF8, random.randbytes(13)],
        [random.choice((0xE0, 0xFE, 0xC4, 0xDB, 0xCC)), random.randbytes(random.choice((0, 1, 5, 66)))],
    ))  # fmt: skip


# --- texts ---------------------------------------------------------------------------------------------------------------------

CELLS = (
    "", " ", "0", "1", "-1", "nan", "inf", "1e308", "1e-320", "1e-9999999999", "0.3333", "0,5", "1.000,5", "1 2 3 4", "4 3 2 1",
    "1,5 2,5 3,5 4,5", "none", "NONE", "train", "test", "p1", "p_", "p_a", "a.png", "../a.png", "/etc/passwd", "\\\\server\\a.png",
    "C:\\a.png", "a.png/b", "x" * 300, "9" * 5000, "\"", '"a', 'a"b', "'", "=1+1", "\ufeff", "\u0000", "\u202e", "e\u0301", "\u00e9",
    "\U0001f600", "\ufffe", "\u2028", "\u00a0", "\u0661", "\u00b2", "\r", "\n", "\x1a", "\x85", ";", "\t", "sep=;", "patient_id", "brand",
    "0x10", "1_000", "+1", ".5", "5.", "True",
)  # fmt: skip


def mutate_table(content: bytes, random: Random) -> bytes:
    """Break one thing of a table."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = content.decode(encoding)
    end = "\r\n" if "\r\n" in text else "\r" if "\r" in text else "\n"
    lines = text.split(end)
    separator = max(",;\t", key=text.count)
    at = random.randrange(len(lines))
    cells = lines[at].split(separator)
    which = random.randrange(len(cells))
    match random.randrange(14):
        case 0 | 1 | 2 | 3 | 4 | 5 | 6:
            cells[which : which + 1] = random.choice(
                ([random.choice(CELLS)],) * 5 + ([], [cells[which], random.choice(CELLS)], [f'"{cells[which]}"'])
            )
            lines[at] = separator.join(cells)
        case 7:
            lines.insert(at, random.choice((lines[at], "", separator * 9, "sep=;", "sep=", "\ufeff", "#")))
        case 8:
            lines.insert(at, lines.pop(random.randrange(len(lines))))
        case 9:
            column = random.randrange(9)
            for index, line in enumerate(lines):
                parts = line.split(separator)
                if column < len(parts):
                    del parts[column]
                    lines[index] = separator.join(parts)
        case 10:
            end = random.choice(("\n", "\r", "\r\n", "\n\n", "\x0b", "\u2028"))
        case 11:
            lines = [line.replace(separator, random.choice((";", "\t", ",", "|", " "))) for line in lines]
        case 12:
            encoding = random.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252", "utf-32", "utf-7"))
        case _:
            lines[1:] = lines[1:] * random.choice((2, 50))
    return end.join(lines).encode(encoding, "replace")


VALUES = (
    "0", "-1", "1", "1.0", "-0.0", "0.5", "1.5", "nan", "inf", "-inf", "1e400", "9" * 400, "9" * 5000, "0x7fffffffffffffffff", '""',
    '"x"', "'ap'", "true", "[]", "{}", "[1]", "[[]]",
    "[" * 2000, "{a=" * 500, '["ap", 1]', '{ basis = "numerical" }', "1979-05-27T07:32:00Z", "2024-02-31", "25:00:00",
    '"""', "'''", "1_000", "0o9", "+1", '"\\ud800"', '"\\u0000"', '"\\q"', "", "\u00e9", "\U0001f600", '"\U0001f600"', "2147483648",
)  # fmt: skip


def mutate_settings(content: bytes, random: Random) -> bytes:
    """Break one thing of a TOML file: a value, a key, a table, a line."""
    lines = content.decode().split("\n")
    at = random.randrange(len(lines))
    match random.randrange(9):
        case 0 | 1 | 2 | 3:
            places = [index for index, line in enumerate(lines) if "=" in line] or [at]
            at = random.choice(places)
            parts = lines[at].split("=")
            which = random.randrange(1, len(parts)) if len(parts) > 1 else 0
            rest = parts[which].lstrip()
            ends = [place for place in (rest.find(","), rest.find(" }"), len(rest)) if place >= 0]
            parts[which] = f" {random.choice(VALUES)}{rest[min(ends) :]}"
            lines[at] = "=".join(parts)
        case 4:
            del lines[at]
        case 5:
            lines.insert(at, random.choice(lines))
        case 6:
            words = random.choice(
                (
                    "[variants.fp16]",
                    "[[members]]",
                    "[members",
                    "a.b.c = 1",
                    "[a." * 2000,
                    "#",
                    "\r",
                    "\0",
                    "members.epochs = 1",
                    "seed = -1",
                )
            )
            lines.insert(at, words)
        case 7:
            lines[at] = lines[at].replace(
                random.choice((" ", "=", '"', "{", "fp32", "w8a8")), random.choice(("", "=", '"', "fp16", "w8a16", "{")), 1
            )
        case _:
            return mutate_bytes(content, random)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


JSON_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 1.5, 1e308, float("nan"), float("inf"), 10**400, "", "x", "a.png", "../x", "/x", "C:\\x", "model.onnx",
    "manifest.json", "\ud800", "\0", [], [1], ["x"], [None], [[]], {}, {"x": 1}, {"sha256": "0" * 64, "size": 1}, {"side": "x"}, "nan",
)  # fmt: skip


def mutate_document(document: Any, random: Random) -> Any:
    """Change one value or key anywhere in what a JSON file holds."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in keys:
            places.append((part, key))
            walk(part[key])

    document = copy.deepcopy(document)
    walk(document)
    if not places or random.random() < 0.02:
        return random.choice(JSON_VALUES)
    part, key = random.choice(places)
    match random.randrange(6):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[random.choice(("x", "", "../x", "schema", "model.onnx\0", "CON", "a\\b", "/x", "manifest.json", "\ud800"))] = part.pop(key)
        case 1:
            part.append(part[key])
        case 2:
            for _ in range(random.choice((1, 3, 5000))):
                part[key] = [part[key]]
        case _:
            part[key] = copy.deepcopy(random.choice(JSON_VALUES))
    return document


def mutate_manifest(content: bytes, random: Random) -> bytes:
    """Change a manifest; mostly with the right hash of itself, so that what it says is looked at."""
    document = mutate_document(json.loads(content), random)
    return seal(document) if random.random() < 0.9 else json.dumps(document).encode("utf-8", "surrogatepass")


def mutate_run(content: bytes, random: Random) -> bytes:
    """Change the documents of a run folder."""
    return json.dumps(mutate_document(json.loads(content), random)).encode("utf-8", "surrogatepass")


def mutate_weights(content: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file, its length, or the tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    text, data = content[8 : 8 + length], content[8 + length :]
    match random.randrange(8):
        case 0:
            return struct.pack("<Q", random.choice((*LONGS, 1 << 63, length + 1, length - 1))) + content[8:]
        case 1:
            return pack_weights(json.loads(text), mutate_bytes(data, random))
        case 2:
            return pack_weights(
                random.choice((b"", b"{", b"[]", b"null", b"[" * 5000, b"{}" + b" " * 300, mutate_bytes(text, random))), data
            )
    document = json.loads(text)
    tensors = [each for each in document.values() if isinstance(each, dict) and "dtype" in each] if isinstance(document, dict) else []
    if not tensors:
        raise ValueError("no tensor")
    tensor = random.choice(tensors)
    match random.randrange(4):
        case 0:
            names = "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 F8_E8M0 F4 F6_E2M3 F6_E3M2 C64 I64 I32 I16 I8 U64 U32 U16 U8 BOOL X"
            tensor["dtype"] = random.choice(names.split())
        case 1:
            tensor["shape"] = random.choice(
                ([], [0], [1], [36], [2, 3], [6], [3, 2, 1], [-1], [1 << 62, 4], [1 << 40], [9, 1], ["x"], [3.0], [3] * 100)
            )
        case 2:
            tensor["data_offsets"] = random.choice(
                ([0, 0], [0, 36], [24, 0], [-1, 3], [0, 1 << 63], [12, 36], [0], [0, 12], [0, 48], [0, 24], [24, 48])
            )
        case _:
            document = mutate_document(document, random)
    return pack_weights(document, random.choice((data, data, bytes(6), bytes(48), bytes(72), bytes(12))))
