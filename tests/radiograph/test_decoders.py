"""Every coding x bits stored x sign x predictor, against the pixels encoded and a third opinion: DCMTK, and OpenJPEG's own program.

Lossless streams must give what was encoded, lossy ones what another decoder makes of the same stream, within 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_maker import draw_values, encapsulate, encode_lossless_jpeg, write_film
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from edgekit.radiograph import read_radiograph
from edgekit.radiograph.dicom import read_stored

JPEG_57, JPEG_70, JPEG_LS, NEAR_LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81))
J2K, J2K_LOSSY, HTJ2K, HTJ2K_LOSSY = (f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 203))

kinds = pytest.mark.parametrize(("bits", "signed"), [(bits, signed) for bits in (8, 10, 12, 16) for signed in (False, True)])


@pytest.fixture(scope="session")
def run() -> Callable[..., None]:
    """Run a program of DCMTK or OpenJPEG."""

    def run(program: str, *arguments: object) -> None:
        if shutil.which(program) is None:
            if "CI" in os.environ:
                raise FileNotFoundError(program)
            pytest.skip(f"{program} is not installed: apt-get install dcmtk libopenjp2-tools")
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


def read_values(path: Path) -> NDArray[np.int64]:
    stored = read_stored(path)
    return stored.values[stored.patterns]


def read_cells(path: Path) -> NDArray[np.int64]:
    """The cells of an uncompressed film, without edgekit and without pydicom's codecs."""
    film = pydicom.dcmread(path)
    kind = f"<{'i' if film.PixelRepresentation else 'u'}{film.BitsAllocated // 8}"
    return np.frombuffer(film.PixelData, kind, film.Rows * film.Columns).reshape(film.Rows, film.Columns).astype(int)


@kinds
@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_of_dcmtk(tmp_path: Path, run: Callable[..., None], bits: int, signed: bool, predictor: int) -> None:
    values = draw_values(bits, signed)
    plain = write_film(tmp_path / "plain.dcm", values, bits, signed)
    run("dcmcjpeg", "+el", "+sv", predictor, plain, tmp_path / "film.dcm")
    np.testing.assert_array_equal(read_values(tmp_path / "film.dcm"), values)
    run("dcmdjpeg", tmp_path / "film.dcm", tmp_path / "third.dcm")
    np.testing.assert_array_equal(read_cells(tmp_path / "third.dcm"), values)


@kinds
@pytest.mark.parametrize(("program", "option"), [("dcmcjpeg", "+e1"), ("dcmcjpls", "+el")])
def test_first_order_prediction_and_jpeg_ls_of_dcmtk(
    tmp_path: Path, run: Callable[..., None], bits: int, signed: bool, program: str, option: str
) -> None:
    values = draw_values(bits, signed)
    run(program, option, write_film(tmp_path / "plain.dcm", values, bits, signed), tmp_path / "film.dcm")
    assert str(pydicom.dcmread(tmp_path / "film.dcm").file_meta.TransferSyntaxUID) == {"+e1": JPEG_70, "+el": JPEG_LS}[option]
    np.testing.assert_array_equal(read_values(tmp_path / "film.dcm"), values)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_by_hand(tmp_path: Path, bits: int, predictor: int) -> None:
    """Written from the standard: predictors, the point transform, and differences that wrap.

    With predictors 5 to 7 the halves of what wrapped differ between decoders, and no encoder is known that does this. Predictor 4 needs
    differences of 17 bits in 16-bit noise, which the encoder here does not write.
    """
    values = draw_values(bits, False)
    if bits == 16:
        values[10:20] = values[9]
        values[30:32] = values[29]
    film = write_film(tmp_path / "film.dcm", values, bits)
    streams = [(encode_lossless_jpeg(values, bits, predictor), values)]
    streams += [(encode_lossless_jpeg(values, bits, predictor, shift=2), values >> 2 << 2)]
    if predictor < 5:
        streams += [(encode_lossless_jpeg(values, bits, predictor, wrap=True), values)]
    for stream, expected in streams:
        encapsulate(film, JPEG_70 if predictor == 1 else JPEG_57, stream)
        np.testing.assert_array_equal(read_values(film), expected)


def test_dcmtk_reads_wrapped_differences_too(tmp_path: Path, run: Callable[..., None]) -> None:
    values = draw_values(8, False)
    film = encapsulate(write_film(tmp_path / "film.dcm", values, 8), JPEG_70, encode_lossless_jpeg(values, 8, 1, wrap=True))
    run("dcmdjpeg", film, tmp_path / "third.dcm")
    np.testing.assert_array_equal(read_cells(tmp_path / "third.dcm"), values)


@kinds
def test_jpeg_2000_of_openjpeg(tmp_path: Path, run: Callable[..., None], bits: int, signed: bool) -> None:
    values = draw_values(bits, signed)
    height, width = values.shape
    raw = tmp_path / "film.rawl"
    raw.write_bytes(values.astype(f"<{'i' if signed else 'u'}{1 if bits == 8 else 2}").tobytes())
    form = f"{width},{height},1,{bits},{'s' if signed else 'u'}"
    film = write_film(tmp_path / "film.dcm", values, bits, signed)
    run("opj_compress", "-i", raw, "-o", tmp_path / "lossless.j2k", "-F", form)
    encapsulate(film, J2K, (tmp_path / "lossless.j2k").read_bytes())
    np.testing.assert_array_equal(read_values(film), values)
    run("opj_compress", "-i", raw, "-o", tmp_path / "lossy.j2k", "-F", form, "-r", "6", "-I")
    encapsulate(film, J2K_LOSSY, (tmp_path / "lossy.j2k").read_bytes())
    assert np.abs(read_values(film) - decompress(run, tmp_path / "lossy.j2k", bits, signed, values.shape)).max() <= 1


@kinds
def test_high_throughput_jpeg_2000_of_openjph(tmp_path: Path, run: Callable[..., None], bits: int, signed: bool) -> None:
    values = draw_values(bits, signed)
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    film = write_film(tmp_path / "film.dcm", values, bits, signed)
    stream = imagecodecs.htj2k_encode(values.astype(kind))
    encapsulate(film, HTJ2K, stream)
    np.testing.assert_array_equal(read_values(film), values)
    (tmp_path / "lossless.j2k").write_bytes(stream)
    whole = 8 if bits == 8 else 16  # the encoder takes whole cells
    np.testing.assert_array_equal(decompress(run, tmp_path / "lossless.j2k", whole, signed, values.shape), values)
    stream = imagecodecs.htj2k_encode(values.astype(kind), level=0.02, reversible=False)
    (tmp_path / "lossy.j2k").write_bytes(stream)
    encapsulate(film, HTJ2K_LOSSY, stream)
    half = 1 << (bits - 1)
    limits = (-half, half - 1) if signed else (0, 2 * half - 1)
    third = decompress(run, tmp_path / "lossy.j2k", whole, signed, values.shape)
    assert np.abs(third - values).max() > 0
    assert np.abs(read_values(film) - np.clip(third, *limits)).max() <= 1


def decompress(run: Callable[..., None], stream: Path, bits: int, signed: bool, shape: tuple[int, int]) -> NDArray[np.int64]:
    """OpenJPEG's own program: little-endian cells, without the sign above the bits."""
    run("opj_decompress", "-i", stream, "-o", stream.with_suffix(".rawl"))
    cells = np.frombuffer(stream.with_suffix(".rawl").read_bytes(), "u1" if bits == 8 else "<u2").reshape(shape).astype(int)
    cells &= (1 << bits) - 1
    return np.where(cells >> (bits - 1), cells - (1 << bits), cells) if signed else cells


@kinds
@pytest.mark.parametrize("plugin", ["pydicom", "pylibjpeg"])
def test_rle(tmp_path: Path, bits: int, signed: bool, plugin: str) -> None:
    values = draw_values(bits, signed)
    film = pydicom.dcmread(write_film(tmp_path / "film.dcm", values, bits, signed))
    film.compress(RLELossless, encoding_plugin=plugin, generate_instance_uid=False)
    film.save_as(tmp_path / "film.dcm")
    np.testing.assert_array_equal(read_values(tmp_path / "film.dcm"), values)
    frame = next(generate_frames(film.PixelData, number_of_frames=1))
    parts = [frame[at : at + 100] for at in range(0, len(frame), 100)]
    np.testing.assert_array_equal(read_values(encapsulate(tmp_path / "film.dcm", RLELossless, *parts)), values)


@pytest.mark.parametrize(
    ("bits", "program", "option"), [(8, "dcmcjpeg", "+eb"), (8, "dcmcjpeg", "+ee"), (12, "dcmcjpeg", "+ee"), (12, "dcmcjpls", "+en")]
)
def test_lossy_codings_of_dcmtk(tmp_path: Path, run: Callable[..., None], bits: int, program: str, option: str) -> None:
    values = draw_values(bits, False)
    run(program, option, write_film(tmp_path / "plain.dcm", values, bits), tmp_path / "film.dcm")
    run(program.replace("cjp", "djp"), tmp_path / "film.dcm", tmp_path / "third.dcm")
    third = read_cells(tmp_path / "third.dcm")
    assert np.abs(third - values).max() > 0
    assert np.abs(read_values(tmp_path / "film.dcm") - third).max() <= 1


@pytest.mark.parametrize(("bits", "used"), [(12, 10), (8, 7)])
def test_lossy_values_beyond_the_stored_bits_are_clipped(tmp_path: Path, run: Callable[..., None], bits: int, used: int) -> None:
    values = np.minimum(draw_values(used, False), (1 << used) - 1)
    run("dcmcjpeg", "+ee" if bits == 12 else "+eb", "+q", 80, write_film(tmp_path / "plain.dcm", values, bits), tmp_path / "film.dcm")
    run("dcmdjpeg", tmp_path / "film.dcm", tmp_path / "third.dcm")
    third = read_cells(tmp_path / "third.dcm")
    assert third.max() > (1 << used) - 1
    film = pydicom.dcmread(tmp_path / "film.dcm")
    film.BitsStored, film.HighBit = used, used - 1
    film.save_as(tmp_path / "film.dcm")
    assert np.abs(read_values(tmp_path / "film.dcm") - np.minimum(third, (1 << used) - 1)).max() <= 1


@pytest.mark.parametrize(
    ("syntax", "signed"), [(J2K_LOSSY, False), (J2K_LOSSY, True), (HTJ2K_LOSSY, False), (HTJ2K_LOSSY, True), (NEAR_LOSSLESS, False)]
)
def test_lossy_values_of_other_codings_are_clipped_too(tmp_path: Path, syntax: str, signed: bool) -> None:
    """Streams whose values leave the 10 bits that the header announces. JPEG-LS has no sign: the next test."""
    low, high = (-512, 511) if signed else (0, 1023)
    values = np.clip(draw_values(12, signed) // 2, low - 300 if signed else 0, high + 300)
    film = write_film(tmp_path / "film.dcm", np.clip(values, low, high), 10, signed)
    cells = values.astype("i2" if signed else "u2")
    encode = {
        J2K_LOSSY: lambda: imagecodecs.jpeg2k_encode(cells, level=0, codecformat="j2k", bitspersample=12),
        HTJ2K_LOSSY: lambda: imagecodecs.htj2k_encode(cells),
        NEAR_LOSSLESS: lambda: imagecodecs.jpegls_encode(cells, level=0),
    }[syntax]
    np.testing.assert_array_equal(read_values(encapsulate(film, syntax, encode())), np.clip(values, low, high))


def test_signed_patterns_of_lossy_streams(tmp_path: Path) -> None:
    """Samples of 16 bits without a sign of their own: 0xFFFF is -1, and -1000 is clipped to the -512 of 10 bits."""
    values = np.tile(np.arange(-1000, 1000, 25), (40, 1))
    film = write_film(tmp_path / "film.dcm", np.clip(values, -512, 511), 10, True)
    encapsulate(film, NEAR_LOSSLESS, imagecodecs.jpegls_encode((values & 0xFFFF).astype("u2"), level=0))
    np.testing.assert_array_equal(read_values(film), np.clip(values, -512, 511))


@pytest.mark.parametrize("program", ["dcm2pnm", "dcmj2pnm", "dcml2pnm"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_gray_levels_of_dcmtk(tmp_path: Path, run: Callable[..., None], program: str, photometric: str) -> None:
    film = write_film(tmp_path / "film.dcm", draw_values(12, False), 12, PhotometricInterpretation=photometric,
                      WindowCenter=1900, WindowWidth=2500, RescaleSlope=1, RescaleIntercept=100, RescaleType="US")  # fmt: skip
    if program != "dcm2pnm":
        run(*{"dcmj2pnm": ("dcmcjpeg", "+e1"), "dcml2pnm": ("dcmcjpls", "+el")}[program], film, film)
    run(program, "+Wi", 1, "+op", film, tmp_path / "third.pgm")
    third = np.asarray(Image.open(tmp_path / "third.pgm")).astype(int)
    assert np.abs(read_radiograph(film).pixels - third).max() <= 1
