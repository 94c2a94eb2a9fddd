"""Small files that announce, or unpack to, far more than a film holds: made by code, and read one after the other under watch.

python tests/fuzz/bombs.py FOLDER        prints a line of JSON for each: name, expected and found reason, MB of memory, seconds
"""

from __future__ import annotations

import json
import signal
import struct
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

import imagecodecs
from film_seeds import (
    BASELINE,
    DEFLATED,
    HTJ2K,
    J2K,
    LOSSLESS_1,
    LS,
    PNG_SIGNATURE,
    RLE,
    draw,
    make_film,
    make_jpeg,
    make_png,
    pack_chunk,
    pack_rle,
    seed_dicom,
)
from fuzz_watch import measure_memory
from mutations import resize_stream

SIDE = 60_000
LIMIT_S = 5


def make_bombs() -> dict[str, tuple[str, bytes]]:
    """Return reason and file by name."""
    eight, twelve = draw(8), draw(12)
    streams = {
        "jpeg": (eight, 8, BASELINE, imagecodecs.jpeg8_encode(eight, 95)),
        "jpeg-lossless": (twelve, 12, LOSSLESS_1, imagecodecs.jpeg8_encode(twelve, lossless=True, bitspersample=12)),
        "jpeg-ls": (twelve, 12, LS, imagecodecs.jpegls_encode(twelve)),
        "jpeg-2000": (twelve, 12, J2K, imagecodecs.jpeg2k_encode(twelve, codecformat="j2k", reversible=True)),
        "htj2k": (twelve, 12, HTJ2K, imagecodecs.htj2k_encode(twelve, reversible=True)),
    }
    huge = {0x00280010: SIDE, 0x00280011: SIDE}
    bombs = {"rows-columns": ("large", make_film(eight, 8, elements=huge).to_bytes())}
    for name, (pixels, bits, syntax, stream) in streams.items():
        large = resize_stream(bytes(stream), SIDE, SIDE)
        bombs[f"{name}-announced"] = ("large", make_film(pixels, bits, syntax, [large], huge).to_bytes())
        bombs[f"{name}-stream-only"] = ("damaged", make_film(pixels, bits, syntax, [large]).to_bytes())
    bombs |= _make_decoys(streams["jpeg-2000"][3])
    bombs |= {
        "deflate": ("large", _make_deflate_bomb()),
        "rle-segment": ("blank", _make_rle_bomb(eight.shape)),
        "rle-rows-columns": ("large", make_film(eight, 8, RLE, [pack_rle(eight)], huge).to_bytes()),
        "jpeg": ("large", resize_stream(make_jpeg("L"), SIDE, SIDE)),
        "jpeg-progressive": ("large", resize_stream(make_jpeg("RGB", progressive=True), SIDE, SIDE)),
    }
    return bombs | _make_png_bombs()


def _make_decoys(stream: bytes) -> dict[str, tuple[str, bytes]]:
    """JPEG 2000 in boxes: a small stream stands where no decoder looks, before the large one that it opens."""
    twelve = draw(12)
    boxes = imagecodecs.jpeg2k_encode(twelve, codecformat="jp2", reversible=True)
    start = boxes.find(b"jp2c") - 4
    decoy = struct.pack(">I4s", 8 + len(stream), b"free") + stream
    large = resize_stream(boxes[start:], SIDE, SIDE)
    size = boxes.find(b"ihdr") + 4
    header = boxes[:size] + struct.pack(">II", SIDE, SIDE) + boxes[size + 8 : start]
    film = make_film(twelve, 12, J2K, [header + decoy + large])
    return {"jpeg-2000-decoy": ("read", film.to_bytes())}  # what was inspected is decoded, the large one never


def _make_deflate_bomb() -> bytes:
    """A deflated data set whose last element is followed by 10 GB of zeros."""
    film = make_film(draw(8), 8, "")
    meta = make_film(draw(8), 8, DEFLATED).to_bytes()[: -len(film.to_bytes()) + 132]
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    first = deflater.compress(film.to_bytes()[132:]) + deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(bytes(10 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return meta + first + zeros * 1000 + deflater.flush()


def _make_rle_bomb(shape: tuple[int, ...]) -> bytes:
    """One segment of 1 MB that unpacks to 64 MB of one shade: what stands behind the last pixel is ignored."""
    pixels = draw(8, rows=shape[0], columns=shape[1])
    stream = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x55" * (1 << 19)
    return make_film(pixels, 8, RLE, [stream]).to_bytes()


def _make_png_bombs() -> dict[str, tuple[str, bytes]]:
    zeros = zlib.compress(bytes(1 << 28), 9)
    huge = pack_chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0))
    sound = make_png(0, 16)
    return {  # texts are never unpacked further than a megabyte, and decide no pixel
        "png-ztxt": ("read", make_png(0, 8, extra=((b"zTXt", b"Comment\0\0" + zeros),))),
        "png-itxt": ("read", make_png(0, 8, extra=((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros),))),
        "png-iccp": ("read", make_png(0, 8, extra=((b"iCCP", b"profile\0\0" + zeros),))),
        "png-lines": ("read", make_png(0, 8, tail=bytes(1 << 28))),
        "png": ("large", sound[:8] + huge + sound[33:]),
        "png-second-header": ("damaged", sound[:33] + huge + sound[33:]),
        "png-header-later": ("damaged", sound[:8] + pack_chunk(b"tEXt", sound[16:29]) + huge + sound[33:]),
        "png-largest": ("read", _make_largest_png()),
    }


def _make_largest_png() -> bytes:
    """80 million pixels in colour with alpha, the most that is read."""
    width, height = 10_000, 8_000
    line = b"\0" + bytes(range(256)) * (4 * width // 256) + bytes(4 * width % 256)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(line * height, 1)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(pack_chunk(kind, content) for kind, content in chunks)


def main() -> None:
    """Read every bomb, and print what became of it."""
    from edgekit.errors import FilmError
    from edgekit.radiograph import read_radiograph

    path = Path(sys.argv[1]) / "film"
    for content in (
        make_png(0, 8),
        make_jpeg("L"),
        *(film for name, film in seed_dicom().items() if "j" in name),
    ):  # imports are paid for before
        path.write_bytes(content)
        with suppress(FilmError):
            read_radiograph(path)
    for name, (expected, content) in make_bombs().items():
        path.write_bytes(content)
        del content
        Path("/proc/self/clear_refs").write_text("5")  # the most resident memory counts from here
        least, begin = measure_memory(), time.perf_counter()
        signal.alarm(LIMIT_S)
        found = "read"
        try:
            read_radiograph(path)
        except FilmError as error:
            found = error.reason
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        signal.alarm(0)
        print(json.dumps([name, expected, found, measure_memory() - least, time.perf_counter() - begin]), flush=True)


if __name__ == "__main__":
    main()
