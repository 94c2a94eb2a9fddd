"""The app's decoders: every coding x bits stored x sign x predictor, against the values that were encoded.

Lossless streams must give them exactly; lossy ones what another decoder (imagecodecs: libjpeg-turbo, CharLS, OpenJPEG) makes of the same
stream, within 1. Streams come from imagecodecs, from DCMTK where it is installed, and from the standard by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_maker import draw_values, encapsulate, encode_lossless_jpeg, write_film
from numpy.typing import NDArray
from pydicom.uid import RLELossless

JPEG, JPEG_12, JPEG_57, JPEG_70, JPEG_LS, NEAR, J2K, J2K_LOSSY, HTJ2K, HTJ2K_LOSSY = (
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 203)
)
MPEG = "1.2.840.10008.1.2.4.100"
BITS = (8, 10, 12, 16)
SIGNS = (False, True)

Film = tuple[NDArray[Any], int, bool, str, bytes]
"""The values that a film shows, Bits Stored and whether they are signed; a transfer syntax and its stream."""

KINDS = [f"{bits} bits, {'signed' if signed else 'unsigned'}" for bits in BITS for signed in SIGNS]
LOSSLESS = [
    f"{coding}, {kind}"
    for kind in KINDS
    for coding in (*(f"predictor {n}" for n in range(1, 8)), "JPEG-LS", "JPEG 2000", "in boxes", "HTJ2K")
]
BY_HAND = [f"wrapped {predictor}, {bits} bits" for bits in BITS for predictor in range(1, 5)] + [f"shifted, {bits} bits" for bits in BITS]
LOSSY = [f"{coding}, {kind}" for kind in KINDS for coding in ("JPEG 2000", "HTJ2K")] + [f"near lossless, {bits} bits" for bits in BITS]
LOSSY += [f"JPEG, {used} of {bits} bits" for bits, used in ((8, 8), (8, 7), (12, 12), (12, 10))]


def make_lossless(name: str) -> Film:
    coding, kind, sign = name.split(", ")
    bits, signed = int(kind.split()[0]), sign == "signed"
    values = draw_values(bits, signed)
    cells = to_cells(values, bits, signed)
    patterns = (values & ((1 << bits) - 1)).astype("u1" if bits == 8 else "u2")  # JPEG and JPEG-LS know no sign
    if coding.startswith("predictor"):
        predictor = int(coding.split()[1])
        stream = imagecodecs.jpeg8_encode(patterns, lossless=True, predictor=predictor, bitspersample=bits)
        return values, bits, signed, JPEG_70 if predictor == 1 else JPEG_57, stream
    if coding == "JPEG-LS":
        return values, bits, signed, JPEG_LS, imagecodecs.jpegls_encode(patterns, level=0)
    if coding == "HTJ2K":
        return values, bits, signed, HTJ2K, imagecodecs.htj2k_encode(cells)
    form = "jp2" if coding == "in boxes" else "j2k"
    return values, bits, signed, J2K, imagecodecs.jpeg2k_encode(cells, level=0, codecformat=form, bitspersample=bits)


def make_by_hand(name: str) -> Film:
    """Differences that wrap, and a point transform, as the standard has them and no encoder at hand."""
    coding, kind = name.split(", ")
    bits = int(kind.split()[0])
    values = draw_values(bits, False)
    if bits == 16:  # differences of 17 bits, which the encoder does not write
        values[10:20], values[30:32] = values[9], values[29]
    if coding == "shifted":
        return values >> 2 << 2, bits, False, JPEG_57, encode_lossless_jpeg(values, bits, 6, shift=2)
    return values, bits, False, JPEG_57, encode_lossless_jpeg(values, bits, int(coding.split()[1]), wrap=True)


def make_lossy(name: str) -> Film:
    """The values are those that imagecodecs decodes; some leave the stored bits."""
    coding, kind, *sign = name.split(", ")
    bits = int(kind.split()[-2])
    used, signed = int(kind.split()[0]), sign == ["signed"]
    cells = to_cells(draw_values(used, signed), bits, signed)
    if coding == "JPEG":
        stream = imagecodecs.jpeg8_encode(cells, level=80, bitspersample=bits)
        return imagecodecs.jpeg8_decode(stream), used, False, JPEG if bits == 8 else JPEG_12, stream
    if coding == "near lossless":
        stream = imagecodecs.jpegls_encode(cells, level=3)
        return imagecodecs.jpegls_decode(stream), bits, False, NEAR, stream
    if coding == "HTJ2K":
        stream = imagecodecs.htj2k_encode(cells, level=0.02, reversible=False)
        return imagecodecs.jpeg2k_decode(stream), bits, signed, HTJ2K_LOSSY, stream
    stream = imagecodecs.jpeg2k_encode(cells, level=40, codecformat="j2k", bitspersample=bits, reversible=False)
    return imagecodecs.jpeg2k_decode(stream), bits, signed, J2K_LOSSY, stream


def to_cells(values: NDArray[np.int64], bits: int, signed: bool) -> NDArray[Any]:
    return values.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")


@pytest.fixture(scope="module")
def films() -> dict[tuple[str, str], Film]:
    made = {("lossless", name): make_lossless(name) for name in LOSSLESS} | {("by hand", name): make_by_hand(name) for name in BY_HAND}
    return made | {("lossy", name): make_lossy(name) for name in LOSSY}


@pytest.fixture(scope="module")
def decoded(read_films: Callable[..., Any], films: dict[tuple[str, str], Film], tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    folder = tmp_path_factory.mktemp("films")
    paths = []
    for number, (values, bits, signed, syntax, stream) in enumerate(films.values()):
        plain = write_film(folder / f"{number}.dcm", np.clip(values.astype(int), *get_limits(bits, signed)), bits, signed)
        paths.append(encapsulate(plain, syntax, stream))
    return dict(zip(films, read_films(paths, stored=True), strict=True))


def get_limits(bits: int, signed: bool) -> tuple[int, int]:
    half = 1 << (bits - 1)
    return (-half, half - 1) if signed else (0, 2 * half - 1)


@pytest.mark.parametrize("film", [("lossless", name) for name in LOSSLESS] + [("by hand", name) for name in BY_HAND], ids=" ".join)
def test_lossless_streams_give_what_was_encoded(films: dict[Any, Film], decoded: dict[Any, Any], film: tuple[str, str]) -> None:
    assert "stored" in decoded[film], decoded[film]
    np.testing.assert_array_equal(decoded[film]["stored"], films[film][0])


@pytest.mark.parametrize("film", [("lossy", name) for name in LOSSY], ids=" ".join)
def test_lossy_streams_give_what_another_decoder_does(films: dict[Any, Film], decoded: dict[Any, Any], film: tuple[str, str]) -> None:
    values, bits, signed, *_ = films[film]
    assert "stored" in decoded[film], decoded[film]
    assert np.abs(decoded[film]["stored"] - np.clip(values.astype(int), *get_limits(bits, signed))).max() <= 1


def test_some_lossy_streams_leave_the_stored_bits(films: dict[Any, Film]) -> None:
    """Or clipping would not be tested."""
    assert any(values.max() > get_limits(bits, signed)[1] for values, bits, signed, *_ in films.values())


@pytest.mark.parametrize("signed", SIGNS)
def test_a_stream_says_whether_it_is_lossy_where_its_syntax_does_not(read_films: Callable[..., Any], tmp_path: Path, signed: bool) -> None:
    """Values of 12 bits in a film of 10: of lossless ones the low bits count, others are clipped."""
    values = draw_values(12, signed)
    cells = to_cells(values, 12, signed)
    wrapped = (values + 512) % 1024 - 512 if signed else values % 1024
    clipped = np.clip(values, *get_limits(10, signed))
    patterns = (values & 0xFFFF).astype("u2")  # JPEG-LS of 16 bits, whose samples have no sign
    j2k = {"codecformat": "j2k", "bitspersample": 12}
    streams = [
        (J2K, imagecodecs.jpeg2k_encode(cells, level=0, **j2k), wrapped),
        (J2K_LOSSY, imagecodecs.jpeg2k_encode(cells, level=0, **j2k), clipped),
        (MPEG, imagecodecs.jpeg2k_encode(cells, level=0, **j2k), wrapped),
        (JPEG_LS, imagecodecs.jpeg2k_encode(cells, level=0, **j2k), wrapped),  # of another kind
        (MPEG, imagecodecs.jpeg2k_encode(cells, level=90, reversible=False, **j2k), clipped),
        (NEAR, imagecodecs.jpegls_encode(patterns, level=0), clipped),
        (MPEG, imagecodecs.jpegls_encode(patterns, level=0), wrapped),
        (MPEG, imagecodecs.jpegls_encode(patterns, level=1), clipped),
    ]
    paths = []
    for number, (syntax, stream, _) in enumerate(streams):
        paths.append(encapsulate(write_film(tmp_path / f"{number}.dcm", clipped, 10, signed), syntax, stream))
    for (syntax, _, expected), answer in zip(streams, read_films(paths, stored=True), strict=True):
        assert "stored" in answer, answer
        apart = np.abs(answer["stored"] - expected)
        apart[np.abs(values - get_limits(12, signed)[0]) < 4] = 0  # where JPEG-LS, which has no sign, goes around
        apart[np.abs(values - get_limits(12, signed)[1]) < 4] = 0
        if signed:
            apart[np.abs(values) < 4] = 0
        assert apart.max() <= 2, syntax


@pytest.mark.parametrize(
    ("program", "options"),
    [*[("dcmcjpeg", ("+el", "+sv", str(predictor))) for predictor in range(1, 8)], ("dcmcjpeg", ("+e1",)), ("dcmcjpls", ("+el",))],
)
def test_streams_of_dcmtk(read_films: Callable[..., Any], tmp_path: Path, program: str, options: tuple[str, ...]) -> None:
    if shutil.which(program) is None and "CI" not in os.environ:
        pytest.skip(f"{program} is not installed: apt-get install dcmtk")
    expected, paths = [], []
    for bits in BITS:
        for signed in SIGNS:
            expected.append(draw_values(bits, signed))
            plain = write_film(tmp_path / "plain.dcm", expected[-1], bits, signed)
            paths.append(tmp_path / f"{bits}-{signed}.dcm")
            subprocess.run([program, *options, plain, paths[-1]], check=True, capture_output=True)
    for answer, values in zip(read_films(paths, stored=True), expected, strict=True):
        np.testing.assert_array_equal(answer["stored"], values)


@pytest.mark.parametrize("plugin", ["pydicom", "pylibjpeg"])
def test_rle(read_films: Callable[..., Any], tmp_path: Path, plugin: str) -> None:
    expected, paths = [], []
    for bits in BITS:
        for signed in SIGNS:
            expected.append(draw_values(bits, signed))
            paths.append(write_film(tmp_path / f"{bits}-{signed}.dcm", expected[-1], bits, signed))
            film = pydicom.dcmread(paths[-1])
            film.compress(RLELossless, encoding_plugin=plugin, generate_instance_uid=False)
            film.save_as(paths[-1])
    for answer, values in zip(read_films(paths, stored=True), expected, strict=True):
        np.testing.assert_array_equal(answer["stored"], values)
