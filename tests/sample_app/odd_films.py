"""DICOM films as archives, converters and cut connections leave them, written byte by byte. What can be read shows `PIXELS`."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np

PIXELS = np.add.outer(np.arange(12) * 20, np.arange(14)).astype(np.uint8)
EXPLICIT, IMPLICIT, BIG, DEFLATED = ("1.2.840.10008.1.2" + end for end in (".1", "", ".2", ".1.99"))
JPEG_LOSSLESS, RLE, MPEG = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.102"
UNDEFINED = 0xFFFFFFFF
LONG = ("OB", "OW", "OF", "SQ", "UN", "UT")

Form = tuple[bool, bool]
"""Whether VRs are written, and whether the bytes are little-endian."""
PLAIN: Form = (True, True)
FORMS = {"explicit": PLAIN, "implicit": (False, True), "big": (True, False)}


def element(tag: int, vr: str, value: bytes, form: Form = PLAIN, length: int | None = None) -> bytes:
    """An element; a `length` of its own lies, or is undefined."""
    explicit, little = form
    order = "<" if little else ">"
    value += b"\0" * (len(value) % 2)
    size = len(value) if length is None else length
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack(f"{order}I", size) + value
    if vr in LONG:
        return head + vr.encode() + b"\0\0" + struct.pack(f"{order}I", size) + value
    return head + vr.encode() + struct.pack(f"{order}H", size) + value


def number(tag: int, value: int, form: Form = PLAIN, vr: str = "US", code: str = "H") -> bytes:
    return element(tag, vr, struct.pack(("<" if form[1] else ">") + code, value), form)


def item(content: bytes, form: Form = PLAIN, undefined: bool = False) -> bytes:
    order = "<" if form[1] else ">"
    head = struct.pack(f"{order}HHI", 0xFFFE, 0xE000, UNDEFINED if undefined else len(content))
    return head + content + (struct.pack(f"{order}HHI", 0xFFFE, 0xE00D, 0) if undefined else b"")


def sequence(tag: int, items: bytes, form: Form = PLAIN, undefined: bool = False, vr: str = "SQ") -> bytes:
    if not undefined:
        return element(tag, vr, items, form)
    return element(tag, vr, b"", form, UNDEFINED) + items + struct.pack(("<" if form[1] else ">") + "HHI", 0xFFFE, 0xE0DD, 0)


def fragments(*parts: bytes) -> bytes:
    """Encapsulated pixel data with an empty offset table; always little-endian."""
    return sequence(0x7FE00010, b"".join(item(part + b"\0" * (len(part) % 2)) for part in (b"", *parts)), undefined=True, vr="OB")


def make_elements(form: Form = PLAIN, extra: bytes = b"", changed: dict[int, bytes] | None = None, pixels: bytes | None = None) -> bytes:
    """The elements of a film whose gray levels are its stored values; `extra` stands in its middle, `pixels` is its last element."""
    values = {
        0x00080060: element(0x00080060, "CS", b"CR", form),
        0x00280002: number(0x00280002, 1, form),
        0x00280004: element(0x00280004, "CS", b"MONOCHROME2", form),
        0x00280010: number(0x00280010, PIXELS.shape[0], form),
        0x00280011: number(0x00280011, PIXELS.shape[1], form),
        0x00280100: number(0x00280100, 8, form),
        0x00280101: number(0x00280101, 8, form),
        0x00280102: number(0x00280102, 7, form),
        0x00280103: number(0x00280103, 0, form),
        0x00281050: element(0x00281050, "DS", b"128", form),
        0x00281051: element(0x00281051, "DS", b"256", form),
        0x7FE00010: element(0x7FE00010, "OB", PIXELS.tobytes(), form) if pixels is None else pixels,
    } | (changed or {})
    return b"".join(value if tag != 0x00280002 else extra + value for tag, value in sorted(values.items()))


def make_file(elements: bytes, syntax: str | None = EXPLICIT) -> bytes:
    meta = b"" if syntax is None else element(0x00020010, "UI", syntax.encode())
    return bytes(128) + b"DICM" + number(0x00020000, len(meta), vr="UL", code="I") + meta + elements


def nest(depth: int, form: Form) -> bytes:
    """Items of undefined length in each other."""
    order = "<" if form[1] else ">"
    opening = element(0x00091001, "SQ", b"", form, UNDEFINED) + struct.pack(f"{order}HHI", 0xFFFE, 0xE000, UNDEFINED)
    closing = struct.pack(f"{order}HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def make_readable() -> dict[str, bytes]:
    """Films by what is odd about them."""
    films = {}
    for name, form in FORMS.items():
        inner = element(0x00091002, "LO", b"private", form) + number(0x00280010, 99, form)
        syntax = {"explicit": EXPLICIT, "implicit": IMPLICIT, "big": BIG}[name]
        kinds = {
            "plain": b"",
            "private sequence": sequence(0x00091001, item(inner, form) * 2, form),
            "private sequence of undefined length": sequence(0x00091001, item(inner, form, True) * 2, form, True),
            "mixed lengths": sequence(0x00091001, item(sequence(0x00091003, item(inner, form, True), form), form), form, True),
            "empty items": sequence(0x00091001, item(b"", form, True) + item(b"", form), form, True),
            "sequence without items": sequence(0x00091001, b"", form, True) + sequence(0x00091003, b"", form),
            "nested items": nest(30, form),
            "group length": number(0x00090000, 4000, form, "UL", "I"),
            "a private element of another VR": element(0x00091004, "UN", b"\1\2\3", form) + element(0x00091005, "OF", bytes(8), form),
        }
        for kind, extra in kinds.items():
            films[f"{name}: {kind}"] = make_file(make_elements(form, extra), syntax)
        films[f"{name}: no transfer syntax"] = make_file(make_elements(form), None)
        films[f"{name}: announced as something else"] = make_file(
            make_elements(form), {EXPLICIT: BIG, IMPLICIT: EXPLICIT, BIG: IMPLICIT}[syntax]
        )
        films[f"{name}: announced as JPEG"] = make_file(make_elements(form), JPEG_LOSSLESS)
        films[f"{name}: announced as deflated"] = make_file(make_elements(form), DEFLATED)
        films[f"{name}: two frames"] = make_file(make_elements(form, pixels=element(0x7FE00010, "OB", PIXELS.tobytes() * 2, form)), syntax)
        films[f"{name}: padding behind"] = make_file(make_elements(form) + element(0xFFFCFFFC, "OB", bytes(50), form), syntax)
        films[f"{name}: rubbish behind"] = make_file(make_elements(form) + b"\xff\xfe\x00rubbish", syntax)
    icon = number(0x00280010, 4) + number(0x00280011, 4) + fragments(b"\xff\xd8\xff\xd9")
    films["icon in fragments"] = make_file(make_elements(extra=sequence(0x00880200, item(icon, undefined=True), undefined=True)))
    films["icon, plain"] = make_file(make_elements(extra=sequence(0x00880200, item(icon[:20] + element(0x7FE00010, "OB", bytes(16))))))
    inside = item(element(0x00091002, "", b"private", (False, True)), undefined=True)
    films["sequence as UN"] = make_file(make_elements(extra=sequence(0x00091001, inside, undefined=True, vr="UN")))
    films["sequence as UN, with its length"] = make_file(make_elements(extra=sequence(0x00091001, inside, vr="UN")))
    films["one element without its VR"] = make_file(make_elements(extra=number(0x00091001, 7, (False, True))))
    films["big: bytes in words"] = make_file(
        make_elements((True, False), pixels=element(0x7FE00010, "OW", PIXELS.reshape(-1, 2)[:, ::-1].tobytes(), (True, False))), BIG
    )
    for name, entries in (("words", np.arange(256, dtype="<u2").tobytes()), ("bytes", bytes(range(256)))):
        for form_name, form in (("", PLAIN), (", as UN", (False, True))):
            table = element(0x00283002, "US", struct.pack("<3H", 256, 0, 8), form) + element(0x00283006, "OW", entries, form)
            tables = sequence(0x00283010, item(table), vr="UN" if form_name else "SQ")
            changed = {0x00281050: b"", 0x00281051: b"", 0x00283010: tables}
            films[f"a table of {name}{form_name}"] = make_file(make_elements(changed=changed))
    types = {
        "as UL": number(0x00280010, 12, vr="UL", code="I"),
        "as SS": number(0x00280010, 12, vr="SS", code="h"),
        "as FD": number(0x00280010, 12, vr="FD", code="d"),
        "as UN": number(0x00280010, 12, vr="UN"),
        "as OW": number(0x00280010, 12, vr="OW"),
        "as text": element(0x00280010, "IS", b" +12.0e0 "),
        "twice": element(0x00280010, "US", b"\x0c\0\x63\0"),
    }
    films |= {f"rows {name}": make_file(make_elements(changed={0x00280010: rows})) for name, rows in types.items()}
    whole = make_elements()
    films["deflated"] = make_file(deflate(whole), DEFLATED)
    films["deflated, padded"] = make_file(deflate(whole) + b"\0", DEFLATED)
    films["no preamble"] = whole
    films["no preamble, implicit"] = make_elements((False, True))
    films["preamble missing, meta group there"] = make_file(whole)[132:]
    stream = imagecodecs.jpeg8_encode(PIXELS, lossless=True, predictor=1)
    parts = [stream[at : at + 40] for at in range(0, len(stream), 40)]
    for syntax, name in ((JPEG_LOSSLESS, "announced"), (EXPLICIT, "lying"), (None, "missing"), (MPEG, "another")):
        films[f"JPEG lossless, {name} syntax"] = make_file(make_elements(pixels=fragments(stream)), syntax)
    films["one frame in many fragments"] = make_file(make_elements(pixels=fragments(*parts)), JPEG_LOSSLESS)
    films["two frames in many fragments"] = make_file(make_elements(pixels=fragments(*parts, *parts)), JPEG_LOSSLESS)
    films["fragments without their end"] = make_file(make_elements(pixels=fragments(stream)[:-8]), JPEG_LOSSLESS)
    films["fragments of defined length"] = make_file(
        make_elements(pixels=element(0x7FE00010, "OB", item(b"") + item(stream + b"\0" * (len(stream) % 2)))), JPEG_LOSSLESS
    )
    films["a marker without a segment"] = make_file(make_elements(pixels=fragments(stream[:2] + b"\xff\x01" + stream[2:])), JPEG_LOSSLESS)
    films["stray bytes in the stream"] = make_file(make_elements(pixels=fragments(stream[:2] + b"\0\x7f\0" + stream[2:])), JPEG_LOSSLESS)
    return films


def make_refused() -> dict[str, tuple[bytes, str]]:
    """Films that can't be read, each with its reason."""
    stream = imagecodecs.jpeg8_encode(PIXELS, lossless=True, predictor=1)
    plain = make_elements()
    return {
        "empty": (b"", "empty"),
        "something else": (b"film" * 100, "unknown"),
        "a preamble and nothing else": (bytes(128) + b"DICM", "damaged"),
        "no pixel data": (make_file(make_elements(pixels=b"")), "imageless"),
        "pixel data in an item only": (make_file(make_elements(pixels=b"", extra=sequence(0x00880200, item(plain)))), "imageless"),
        "cut before the pixel data": (make_file(plain[:101]), "damaged"),
        "cut inside the pixel data": (make_file(plain[:-20]), "damaged"),
        "a length that lies": (
            make_file(make_elements(changed={0x00280004: element(0x00280004, "CS", b"MONOCHROME2", length=60000)})),
            "damaged",
        ),
        "a sequence that never ends": (make_file(make_elements(extra=sequence(0x00091001, item(b""), undefined=True)[:-8])), "damaged"),
        "an item that lies": (
            make_file(make_elements(extra=sequence(0x00091001, struct.pack("<HHI", 0xFFFE, 0xE000, 1 << 31), undefined=True))),
            "damaged",
        ),
        "deflated, cut": (make_file(deflate(make_elements(pixels=b"") + bytes(1000))[:60], DEFLATED), "damaged"),
        "deflated, broken": (make_file(b"\7" + bytes(50), DEFLATED), "damaged"),
        "deflated, a bomb": (make_file(deflate(make_elements(pixels=b"") + bytes(300_000_000)), DEFLATED), "large"),
        "no rows": (make_file(make_elements(changed={0x00280010: number(0x00280010, 0)})), "header"),
        "RLE that contradicts itself": (make_file(make_elements(pixels=fragments(struct.pack("<16I", 1, 64, *[0] * 14))), RLE), "damaged"),
        "a fragment that lies": (make_file(make_elements(pixels=fragments(stream)[:-30]), JPEG_LOSSLESS), "damaged"),
        "no fragment": (make_file(make_elements(pixels=fragments()), JPEG_LOSSLESS), "damaged"),
        "a stream of another size": (
            make_file(make_elements(pixels=fragments(imagecodecs.jpeg8_encode(PIXELS[:-1], lossless=True, predictor=1))), JPEG_LOSSLESS),
            "damaged",
        ),
        "a stream of more bits": (
            make_file(make_elements(pixels=fragments(imagecodecs.jpegls_encode(PIXELS.astype(np.uint16) * 100)))),
            "damaged",
        ),
        "a stream in colour": (
            make_file(make_elements(pixels=fragments(imagecodecs.jpeg8_encode(np.dstack([PIXELS] * 3)))), "1.2.840.10008.1.2.4.50"),
            "colour",
        ),
        "half a stream": (make_file(make_elements(pixels=fragments(stream[: len(stream) // 2])), JPEG_LOSSLESS), "damaged"),
        "another coding": (make_file(make_elements(pixels=fragments(b"\0\0\1\xb3" + bytes(60))), MPEG), "syntax"),
        "another coding, announced as RLE": (make_file(make_elements(pixels=fragments(b"\0\0\1\xb3" + bytes(60))), RLE), "damaged"),
        "RLE of too few pixels": (
            make_file(make_elements(pixels=fragments(struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07")), RLE),
            "damaged",
        ),
    }
