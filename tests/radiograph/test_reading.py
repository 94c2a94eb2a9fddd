"""Films to bytes, and bytes to the canvas, against hand calculation, pydicom's own grayscale pipeline and docs/canvas.md in float64."""

import contextlib
import hashlib
import io
import json
import math
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, get_args

import data_store
import numpy as np
import pydicom
import pytest
from dicom_maker import specify_canvas
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from edgekit import radiograph
from edgekit.errors import FilmError, InputError
from edgekit.radiograph import Letterbox, make_canvas, read_radiograph
from edgekit.radiograph.grey import CONTRAST_BLAME
from edgekit.radiograph.refusals import Reason

REAL = Path(data_store.__file__).parent / "data"
GOLDEN = Path(__file__).parents[1] / "golden" / "canvas"


def write_dicom(path: Path, stored: NDArray[np.generic], syntax: UID = ExplicitVRLittleEndian, **elements: object) -> Path:
    """Write `stored` as a film; `elements` are added or, when None, left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    bits = 8 * stored.itemsize
    values: dict[str, object] = {
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.tobytes(),
    }
    values |= elements
    values.setdefault("HighBit", int(values["BitsStored"]) - 1)  # type: ignore[call-overload]
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset["PixelData"].VR = "OB" if bits == 8 or syntax.is_encapsulated else "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_lut(first: int, bits: int, entries: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries), first, bits])
    item.add_new("LUTData", "OW", struct.pack(f"<{len(entries)}H", *entries))
    item.ModalityLUTType = "US"
    return item


def read_row(path: Path) -> list[int]:
    return [int(grey) for grey in read_radiograph(path).pixels[0]]


# --- gray levels ---------------------------------------------------------------------------------------------------------------


def test_linear_window_by_hand(tmp_path: Path) -> None:
    # PS3.3 C.11.2.1.2: c=128, w=256 is the identity on 8 bits; c=2048, w=4096 on 12 bits divides by 4095
    film = write_dicom(tmp_path / "a", np.array([[0, 1, 127, 255]], np.uint8), WindowCenter=128, WindowWidth=256)
    assert read_row(film) == [0, 1, 127, 255]
    stored = np.array([[0, 8, 9, 2048, 4095]], np.uint16)
    film = write_dicom(tmp_path / "b", stored, BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    assert read_row(film) == [0, 0, 1, 128, 255]


def test_linear_exact_and_sigmoid_by_hand(tmp_path: Path) -> None:
    stored = np.array([[0, 50, 100, 150, 200]], np.uint16)
    exact = write_dicom(tmp_path / "a", stored, WindowCenter=100, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")
    assert read_row(exact) == [0, 0, 128, 255, 255]
    sigmoid = write_dicom(tmp_path / "b", stored, WindowCenter=100, WindowWidth=100, VOILUTFunction="SIGMOID")
    assert read_row(sigmoid) == [math.floor(255 / (1 + math.exp(4 - value / 25)) + 0.5) for value in (0, 50, 100, 150, 200)]


def test_width_one_is_a_threshold(tmp_path: Path) -> None:
    film = write_dicom(tmp_path / "a", np.array([[9, 10, 11]], np.uint8), WindowCenter=10.5, WindowWidth=1)
    assert read_row(film) == [0, 0, 255]


def test_monochrome1_and_inverse_shape_invert_once(tmp_path: Path) -> None:
    stored = np.array([[0, 55, 255]], np.uint8)
    window = {"WindowCenter": 128, "WindowWidth": 256}
    for photometric, shape, expected in [
        ("MONOCHROME2", "IDENTITY", [0, 55, 255]),
        ("MONOCHROME1", None, [255, 200, 0]),
        ("MONOCHROME1", "INVERSE", [255, 200, 0]),
        ("MONOCHROME2", "INVERSE", [255, 200, 0]),
    ]:
        film = write_dicom(tmp_path / "a", stored, PhotometricInterpretation=photometric, PresentationLUTShape=shape, **window)
        assert read_row(film) == expected, (photometric, shape)


def test_rescale_before_window(tmp_path: Path) -> None:
    # 2 * value - 1000 in a window from 0 to 1000
    film = write_dicom(
        tmp_path / "a",
        np.array([[400, 500, 750, 1000, 1100]], np.int16),
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=500,
        WindowWidth=1000,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert read_row(film) == [0, 0, 128, 255, 255]


def test_first_of_several_windows(tmp_path: Path) -> None:
    film = write_dicom(tmp_path / "a", np.array([[10, 200]], np.uint8), WindowCenter=[128, 10], WindowWidth=[256, 1])
    assert read_row(film) == [10, 200]


def test_signed_twelve_bits_with_rubbish_above(tmp_path: Path) -> None:
    # -2048, -1, 0, 2047 in 12 bits; the four bits above hold overlay data
    raw = np.array([[0xA800, 0x5FFF, 0xF000, 0x37FF]], np.uint16)
    film = write_dicom(tmp_path / "a", raw, BitsStored=12, PixelRepresentation=1, WindowCenter=0, WindowWidth=4096)
    assert read_row(film) == [0, 127, 128, 255]


def test_high_bit_at_the_top(tmp_path: Path) -> None:
    raw = np.array([[0x0000, 0x8007, 0xFFF0]], np.uint16)
    film = write_dicom(tmp_path / "a", raw, BitsStored=12, HighBit=15, WindowCenter=2048, WindowWidth=4096)
    assert read_row(film) == [0, 128, 255]


def test_voi_lut_is_preferred_and_scaled_by_its_bits(tmp_path: Path) -> None:
    film = write_dicom(
        tmp_path / "a",
        np.array([[0, 99, 100, 101, 102, 60000]], np.uint16),
        VOILUTSequence=[make_lut(100, 10, [1023, 512, 0])],
        WindowCenter=5,
        WindowWidth=10,
    )
    assert read_row(film) == [255, 255, 255, 128, 0, 0]


def test_eight_bit_voi_lut_over_a_wide_range(tmp_path: Path) -> None:
    # an index above 255 must not wrap: 4096 entries of 8 bits
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4096, 0, 8])
    lut.add_new("LUTData", "OW", bytes(value // 16 for value in range(4096)))
    film = write_dicom(tmp_path / "a", np.array([[0, 255, 256, 4095]], np.uint16), BitsStored=12, VOILUTSequence=[lut])
    assert read_row(film) == [0, 15, 16, 255]


def test_modality_lut_then_window(tmp_path: Path) -> None:
    film = write_dicom(
        tmp_path / "a",
        np.array([[-2, -1, 0, 1]], np.int16),
        ModalityLUTSequence=[make_lut(-1, 16, [1000, 2000, 3000])],
        WindowCenter=2000,
        WindowWidth=2000,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert read_row(film) == [0, 0, 128, 255]


def test_percentile_window_by_hand(tmp_path: Path) -> None:
    # 1000 pixels 0..999: 5 of them are <= 4, 995 are <= 994
    film = write_dicom(tmp_path / "a", np.arange(1000, dtype=np.uint16)[None])
    grey = read_row(film)
    assert grey[:5] == [0] * 5
    assert grey[994:] == [255] * 6
    assert grey[499] == 128  # (499 - 4) / 990 * 255 = 127.5
    assert grey[5] == 0
    assert grey[6] == 1  # 2 / 990 * 255 = 0.515


def test_percentile_window_with_a_falling_rescale(tmp_path: Path) -> None:
    stored = np.arange(1000, dtype=np.uint16)[None]
    plain = read_radiograph(write_dicom(tmp_path / "a", stored)).pixels
    falling = read_radiograph(write_dicom(tmp_path / "b", stored[:, ::-1], RescaleSlope=-3, RescaleIntercept=999)).pixels
    np.testing.assert_allclose(falling.astype(int), plain.astype(int), atol=1)


def test_padding_counts_for_nothing_and_is_black(tmp_path: Path) -> None:
    stored = np.concatenate([np.full(5000, 4000), np.arange(1000)]).astype(np.uint16)[None]
    padded = read_row(write_dicom(tmp_path / "a", stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4000))
    alone = read_row(write_dicom(tmp_path / "b", stored[:, 5000:], PhotometricInterpretation="MONOCHROME1"))
    assert padded == [0] * 5000 + alone
    ranged = write_dicom(tmp_path / "c", stored, PixelPaddingValue=3990, PixelPaddingRangeLimit=4010)
    assert read_row(ranged)[5499] == 128


def test_padding_written_unsigned_beside_signed_pixels(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", np.array([[-2000, 0, 100]], np.int16), WindowCenter=-1000, WindowWidth=4000)
    dataset = pydicom.dcmread(path)
    assert read_row(path)[0] > 0
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.save_as(path)
    assert read_row(path)[0] == 0


def test_a_film_without_contrast_is_refused(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(200, 212, dtype=np.uint8), 20)[None]  # 12 levels: the percentiles differ by 11
    window = {"WindowCenter": 128, "WindowWidth": 256}
    refuse(write_dicom(tmp_path / "a", ramp, **window), "blank", "the film is one even shade: nothing can be seen on it")
    refuse(write_dicom(tmp_path / "a", np.full((1, 50), 700, np.uint16)), "blank")
    ramp[0, -1] = 212  # one of 240 pixels is less than 0.5 %
    refuse(write_dicom(tmp_path / "a", ramp, **window), "blank")
    ramp[0, -2] = 212
    assert read_row(write_dicom(tmp_path / "a", ramp, **window)) == ramp[0].tolist()
    Image.fromarray(np.full((30, 30), 90, np.uint8)).save(tmp_path / "a.png")
    refuse(tmp_path / "a.png", "blank")


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(tmp_path: Path, bits: int, signed: bool, function: str | None) -> None:
    low = -(1 << bits - 1) if signed else 0
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    stored = np.linspace(low, low + (1 << bits) - 1, 4096).astype(kind).reshape(64, 64)
    path = write_dicom(
        tmp_path / "a",
        stored,
        BitsStored=bits,
        RescaleSlope=0.75,
        RescaleIntercept=-31.5,
        WindowCenter=round(0.75 * (low + 0.4 * (1 << bits)), 2),
        WindowWidth=0.5 * (1 << bits),
        VOILUTFunction=function,
    )
    dataset = pydicom.dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    floor = low * 0.75 - 31.5
    expected = (shown - floor) / (((1 << bits) - 1) * 0.75) * 255
    assert np.abs(read_radiograph(path).pixels - expected).max() <= 0.5 + 1e-6


def test_view_and_spacing(tmp_path: Path) -> None:
    stored = np.arange(4, dtype=np.uint8).reshape(2, 2)
    for position, view in [("AP", "ap"), ("PA", "ap"), ("LL", "lateral"), ("LATERAL", "lateral"), ("LLO", None), ("", None), (None, None)]:
        assert read_radiograph(write_dicom(tmp_path / "a", stored, ViewPosition=position)).view == view
    for elements, spacing in [
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.4, 0.5]}, (0.2, 0.3)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.4, 0.5]}, (0.4, 0.5)),
        ({"PixelSpacing": [0, 0]}, None),
        ({}, None),
    ]:
        assert read_radiograph(write_dicom(tmp_path / "a", stored, **elements)).spacing_mm == spacing


# --- transfer syntaxes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("kind", ["u1", "u2", "i2"])
def test_uncompressed_syntaxes_are_equal(tmp_path: Path, syntax: UID, kind: str) -> None:
    stored = np.random.default_rng(0).integers(0, 127 if kind == "u1" else 30000, (30, 20)).astype(kind)
    expected = read_radiograph(write_dicom(tmp_path / "a", stored)).pixels
    if syntax == ExplicitVRBigEndian:
        stored = stored.astype(stored.dtype.newbyteorder(">"))
    np.testing.assert_array_equal(read_radiograph(write_dicom(tmp_path / "b", stored, syntax)).pixels, expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize(("kind", "bits"), [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16)])
def test_lossless_syntaxes_are_equal(tmp_path: Path, syntax: UID, kind: str, bits: int) -> None:
    low = -(1 << bits - 1) if kind == "i2" else 0
    stored = np.random.default_rng(0).integers(low, low + (1 << bits), (80, 70)).astype(kind)
    film = write_dicom(tmp_path / "a", stored, BitsStored=bits, WindowCenter=low + (1 << bits - 1), WindowWidth=1 << bits)
    expected = read_radiograph(film).pixels
    assert len(np.unique(expected)) > 100
    dataset = pydicom.dcmread(film)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "b")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "b").pixels, expected)


def test_jpeg_ls_equals_its_uncompressed_form(tmp_path: Path) -> None:
    compressed, plain = (pydicom.dcmread(REAL / name) for name in ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm"))
    frame = next(generate_frames(compressed.PixelData, number_of_frames=10))
    stored = plain.pixel_array[0]
    film = write_dicom(tmp_path / "a", stored, JPEGLSLossless, BitsStored=12, PixelData=encapsulate([frame]))
    np.testing.assert_array_equal(read_radiograph(film).pixels, read_radiograph(write_dicom(tmp_path / "b", stored, BitsStored=12)).pixels)


def test_jpeg_baseline_is_close_to_another_decoder(tmp_path: Path) -> None:
    stored = make_scene(90, 70)
    jpeg = io.BytesIO()
    Image.fromarray(stored).save(jpeg, "JPEG", quality=90)
    window = {"WindowCenter": 128, "WindowWidth": 256}
    film = write_dicom(tmp_path / "a", stored, JPEGBaseline8Bit, PixelData=encapsulate([jpeg.getvalue()]), **window)
    pillow = np.asarray(Image.open(jpeg)).astype(int)
    assert np.abs(read_radiograph(film).pixels - pillow).max() <= 2


def test_jpeg_lossless_reaches_the_recorded_extremes(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(REAL / "bad_sequence.dcm")
    assert dataset.file_meta.TransferSyntaxUID.name.startswith("JPEG Lossless")
    assert (dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue) == (13, 2267)  # written by the scanner
    dataset.RescaleIntercept, dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 0, 2047, 4094, "LINEAR_EXACT"
    dataset.Modality = "CR"  # it is a CT's, but its coding is that of films
    dataset.save_as(tmp_path / "a")
    pixels = read_radiograph(tmp_path / "a").pixels
    assert (pixels.min(), pixels.max()) == (1, 141)  # 13 / 4094 * 255 = 0.81, 2267 / 4094 * 255 = 141.2


REAL_FILMS = [("RG1", "ap", (1955, 1841)), ("RG3", "ap", (1760, 1760))]


@pytest.mark.parametrize(("name", "view", "shape"), REAL_FILMS)
def test_real_films_give_the_same_canvas_compressed_or_not(name: str, view: str, shape: tuple[int, int]) -> None:
    films = {form: read_radiograph(REAL / f"{name}_{form}.dcm") for form in ("UNCR", "J2KR", "UNCI", "J2KI")}
    canvases = {form: make_canvas(film.pixels, 640)[0].astype(int) for form, film in films.items()}
    assert all(film.view == view and film.pixels.shape == shape for film in films.values())
    np.testing.assert_array_equal(canvases["J2KR"], canvases["UNCR"])
    np.testing.assert_array_equal(films["J2KR"].pixels, films["UNCR"].pixels)
    # UNCI is what another decoder made of the lossy J2KI, and may be a stored value off
    assert np.abs(canvases["J2KI"] - canvases["UNCI"]).max() <= 1
    # lossy (1 : 10 and 1 : 30) against lossless: within the canvas tolerance
    assert_same_canvas(canvases["J2KI"], canvases["UNCR"])


def test_real_film_by_hand() -> None:
    dataset = pydicom.dcmread(REAL / "RG3_UNCR.dcm")
    stored = np.frombuffer(dataset.PixelData, "<u2").reshape(1760, 1760).astype(float)
    expected = 255 * (1 - np.clip((stored - 549.5) / 1023 + 0.5, 0, 1))  # MONOCHROME1, window 550 / 1024
    assert np.abs(read_radiograph(REAL / "RG3_UNCR.dcm").pixels - expected).max() <= 0.5 + 1e-9


def test_data_set_without_preamble_and_meta(tmp_path: Path) -> None:
    stored = make_scene(20, 30)
    film = write_dicom(tmp_path / "a", stored)
    for implicit in (True, False):
        bare = tmp_path / "b"
        pydicom.dcmwrite(bare, Dataset(pydicom.dcmread(film)), implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert bare.read_bytes()[:2] == b"\x08\x00"
        np.testing.assert_array_equal(read_radiograph(bare).pixels, read_radiograph(film).pixels)


# --- PNG and JPEG ---------------------------------------------------------------------------------------------------------------


def test_png_is_used_as_it_is(tmp_path: Path) -> None:
    stored = make_scene(20, 30)
    Image.fromarray(stored).save(tmp_path / "a.dcm", "PNG")  # the content decides, not the name
    film = read_radiograph(tmp_path / "a.dcm")
    np.testing.assert_array_equal(film.pixels, stored)
    assert film.view is None
    assert film.spacing_mm is None


def test_sixteen_bit_png_equals_the_dicom_without_a_window(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).normal(20000, 3000, (60, 50)).clip(0, 65535).astype(np.uint16)
    Image.fromarray(stored).save(tmp_path / "a.png")
    expected = read_radiograph(write_dicom(tmp_path / "a.dcm", stored)).pixels
    np.testing.assert_array_equal(read_radiograph(tmp_path / "a.png").pixels, expected)


def test_colour_becomes_luminance_and_transparency_black(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 100, 200)]
    luminance = [76, 150, 29, 84]  # 0.299 R + 0.587 G + 0.114 B
    rgb = np.array([colours], np.uint8)
    for mode in ("RGB", "P", "CMYK"):
        picture = Image.fromarray(rgb).convert(mode)
        name = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        picture.resize((4 * 16, 16), Image.Resampling.NEAREST).save(name, **({"quality": 100} if mode == "CMYK" else {}))
        np.testing.assert_allclose(read_radiograph(name).pixels[8, 8::16], luminance, atol=3 if mode == "CMYK" else 1)
    alpha = [255, 128, 0, 51]
    Image.fromarray(np.concatenate([rgb, np.array([alpha], np.uint8)[..., None]], -1)).save(tmp_path / "a.png")
    expected = [level * a / 255 for level, a in zip(luminance, alpha, strict=True)]
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.png").pixels[0], expected, atol=1)
    grey = np.array([[[200, 255], [200, 0], [200, 51]]], np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "la.png")
    assert read_row(tmp_path / "la.png") == [200, 0, 40]
    Image.fromarray(np.array([[0, 1, 1]], bool)).save(tmp_path / "one.png")
    assert read_row(tmp_path / "one.png") == [0, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "png16", "jpg"])
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    upright = np.zeros((32, 48), np.uint16 if kind == "png16" else np.uint8)
    upright[:16, :16] = 200  # one bright corner and a darker neighbour tell all eight apart
    upright[:16, 16:32] = 90
    # how a camera stores the upright picture in each orientation (EXIF 2.3, tag 0x0112)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind[:3]}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **({"quality": 95} if kind == "jpg" else {}))
    expected = upright.astype(int) * 255 // 200 if kind == "png16" else upright.astype(int)
    np.testing.assert_allclose(read_radiograph(path).pixels, expected, atol=6)


# --- bad input ------------------------------------------------------------------------------------------------------------------


def refuse(path: Path, reason: str, *words: str) -> None:
    with pytest.raises(FilmError) as caught:
        read_radiograph(path)
    text = f"{caught.value.message} {caught.value.remedy}"
    assert caught.value.exit_code == 4
    assert caught.value.reason == reason
    assert str(path) in caught.value.message
    assert caught.value.remedy
    assert "\n" not in text
    for word in words:
        assert word in text


def test_missing_empty_folder_and_foreign_files(tmp_path: Path) -> None:
    refuse(tmp_path / "nothing.dcm", "missing", "No such file")
    (tmp_path / "empty.dcm").write_bytes(b"")
    refuse(tmp_path / "empty.dcm", "empty")
    refuse(tmp_path, "missing", "directory")
    for content in (b"hello", b"GIF89a" + bytes(500), bytes(1000), b"II*\0" + bytes(200)):
        (tmp_path / "x").write_bytes(content)
        refuse(tmp_path / "x", "unknown", "not a DICOM, PNG or JPEG")
    (tmp_path / "x").write_bytes(b"\x08\x00" + np.random.default_rng(0).bytes(4000))
    refuse(tmp_path / "x", "damaged")


def as_radiograph(path: Path, folder: Path) -> Path:
    """Copy a file of pydicom's with another Modality, so that it is refused for what else it is."""
    dataset = pydicom.dcmread(path)
    dataset.Modality = "CR"
    dataset.save_as(folder / path.name)
    return folder / path.name


def test_multi_frame_colour_and_imageless_objects(tmp_path: Path) -> None:
    refuse(REAL / "emri_small.dcm", "modality", "Modality (0008,0060) is MR")
    refuse(as_radiograph(REAL / "emri_small.dcm", tmp_path), "frames", "Number of Frames (0028,0008) is 10", "single")
    refuse(as_radiograph(REAL / "US1_UNCR.dcm", tmp_path), "colour", "RGB", "MONOCHROME2")
    refuse(as_radiograph(REAL / "OBXXXX1A.dcm", tmp_path), "colour", "PALETTE COLOR")
    refuse(write_dicom(tmp_path / "a", np.zeros((2, 2), np.uint8), PhotometricInterpretation=None), "header", "(0028,0004) is missing")
    refuse(write_dicom(tmp_path / "a", np.zeros((2, 2), np.uint32), BitsStored=32), "header", "Bits Allocated (0028,0100) is 32")
    film = pydicom.dcmread(write_dicom(tmp_path / "a", np.zeros((2, 2), np.uint8)))
    del film.PixelData
    film.save_as(tmp_path / "a")
    refuse(tmp_path / "a", "imageless", "Pixel Data (7FE0,0010)")


@pytest.mark.parametrize("name", ["RG3_UNCR", "RG3_J2KI", "JPEG-LL", "JPGLosslessP14SV1_1s_1f_8b"])
@pytest.mark.parametrize("share", [0.0005, 0.002, 0.1, 0.5, 0.9, 0.999])
def test_cut_off_dicom(tmp_path: Path, name: str, share: float) -> None:
    content = re.sub(rb"(\x08\x00\x60\x00CS\x02\x00)[A-Z]{2}", rb"\1CR", (REAL / f"{name}.dcm").read_bytes())
    (tmp_path / "cut.dcm").write_bytes(content[: max(200, int(len(content) * share))])
    refuse(tmp_path / "cut.dcm", "damaged", "cut off")


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.97])
def test_cut_off_pictures(tmp_path: Path, kind: str, share: float) -> None:
    Image.fromarray(make_scene(200, 200)).save(tmp_path / f"a.{kind}")
    content = (tmp_path / f"a.{kind}").read_bytes()
    (tmp_path / f"a.{kind}").write_bytes(content[: int(len(content) * share)])
    refuse(tmp_path / f"a.{kind}", "damaged", "cut off")


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    film = write_dicom(tmp_path / "a", make_scene(40, 40), WindowCenter=100, WindowWidth=200).read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(make_scene(40, 40)).save(buffer, "PNG")
    for content in (film, buffer.getvalue()):
        for _ in range(150):
            damaged = bytearray(content)
            for place in rng.integers(0, min(len(content), 900), 3):
                damaged[place] = rng.integers(256)
            (tmp_path / "x").write_bytes(damaged)
            with contextlib.suppress(InputError):
                assert read_radiograph(tmp_path / "x").pixels.dtype == np.uint8


def test_absurd_sizes(tmp_path: Path) -> None:
    refuse(write_dicom(tmp_path / "a", np.zeros((2, 2), np.uint8), Rows=60000, Columns=60000), "large", "60000 x 60000", "lower resolution")

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    refuse(tmp_path / "bomb.png", "large", "60000 x 60000")


def test_transfer_syntax_without_a_decoder(tmp_path: Path) -> None:
    # JPIP Referenced, and a private one; the UIDs are as long as the one that they replace
    content = write_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), JPEGLSLossless, PixelData=encapsulate([b"\0\0"])).read_bytes()
    for syntax, name in ((b"1.2.840.10008.1.2.4.94", "JPIP Referenced"), (b"1.2.3.4567890.1.2.4.80", "1.2.3.4567890.1.2.4.80")):
        (tmp_path / "b.dcm").write_bytes(content.replace(JPEGLSLossless.encode(), syntax))
        refuse(tmp_path / "b.dcm", "syntax", name, syntax.decode(), "gdcmconv --raw b.dcm")
    refuse(tmp_path / "a.dcm", "damaged", "no JPEG-LS stream")


def test_a_package_that_is_not_installed_is_not_the_films_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ModuleNotFoundError, match="imagecodecs"):
        read_radiograph(REAL / "RG3_J2KI.dcm")


def test_impossible_windows_and_tables(tmp_path: Path) -> None:
    stored = np.arange(200, dtype=np.uint8)[None]
    alone = read_row(write_dicom(tmp_path / "a", stored))
    for width in (0, 0.5, -3):  # no window at all: dcm2pnm's answer too
        assert read_row(write_dicom(tmp_path / "a", stored, WindowCenter=5, WindowWidth=width)) == alone
    refuse(write_dicom(tmp_path / "a", stored, WindowCenter=5, WindowWidth=5, VOILUTFunction="CUBIC"), "function", "'CUBIC'", "SIGMOID")
    lut = make_lut(0, 8, [1, 2, 3])
    lut.LUTDescriptor = [9, 0, 8]
    refuse(write_dicom(tmp_path / "a", stored, VOILUTSequence=[lut]), "table", "VOI LUT Sequence (0028,3010)", "announces 9")


# --- the canvas -----------------------------------------------------------------------------------------------------------------


def make_scene(height: int, width: int) -> NDArray[np.uint8]:
    """A scene with slopes, edges, a fine grating and noise."""
    y, x = np.mgrid[:height, :width]
    scene = 60 + 60 * np.sin(x / 9) * np.cos(y / 7) + 50 * ((x // 3 + y // 5) % 2) + np.random.default_rng(7).normal(0, 12, (height, width))
    scene[height // 4 : height // 2, width // 5 : width // 3] = 250
    return scene.clip(0, 255).astype(np.uint8)


def assert_same_canvas(canvas: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    difference = np.abs(canvas.astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() <= 0.3


@pytest.mark.parametrize("side", [64, 333, 640])
@pytest.mark.parametrize("shape", [(300, 241), (241, 300), (31, 20), (64, 64), (640, 640), (3, 900), (1, 1), (999, 1000)])
def test_canvas_follows_the_specification(shape: tuple[int, int], side: int) -> None:
    for pixels in (make_scene(*shape), np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)):
        canvas, letterbox = make_canvas(pixels, side)
        expected, numbers = specify_canvas(pixels, side)
        assert_same_canvas(canvas, expected)
        assert {**{name: getattr(letterbox, name) for name in numbers}, "covered": list(letterbox.covered)} == numbers


def test_canvas_of_the_real_films_follows_the_specification() -> None:
    for name in ("RG1", "RG3"):
        pixels = read_radiograph(REAL / f"{name}_UNCR.dcm").pixels
        assert_same_canvas(make_canvas(pixels, 640)[0], specify_canvas(pixels, 640)[0])


def test_letterbox_arithmetic_by_hand() -> None:
    canvas, letterbox = make_canvas(np.full((1000, 601), 9, np.uint8), 640)
    # 601 * 0.64 = 384.64 -> 385; (640 - 385) / 2 = 127.5 -> 127
    assert (letterbox.scale, letterbox.left, letterbox.top, letterbox.covered) == (0.64, 127, 0, (385, 640))
    assert (canvas[:, 127 : 127 + 385] == 9).all()
    assert canvas.sum() == 9 * 385 * 640
    assert letterbox.to_canvas((0, 0, 601, 1000)) == (127, 0, 512, 640)


def test_boxes_follow_the_pixels_there_and_back() -> None:
    pixels = np.zeros((900, 700), np.uint8)
    pixels[200:500, 100:400] = 255
    canvas, letterbox = make_canvas(pixels, 320)
    rows, columns = np.nonzero(canvas > 127)
    box = letterbox.to_canvas((100, 200, 400, 500))
    np.testing.assert_allclose(box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=0.75)
    np.testing.assert_allclose(letterbox.to_film(box), (100, 200, 400, 500), atol=1e-9)


def test_canvas_refuses_other_arrays() -> None:
    for pixels in (np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8 film"):
            make_canvas(pixels, 64)


INDEX = json.loads((GOLDEN / "index.json").read_text())


@pytest.mark.parametrize("vector", INDEX["vectors"], ids=lambda vector: vector["film"])
def test_golden_vectors_hold(vector: dict[str, Any]) -> None:
    film = read_radiograph(GOLDEN / vector["film"]).pixels
    if "sha256" in vector:
        assert hashlib.sha256(film.tobytes()).hexdigest() == vector["sha256"]
    expected = np.asarray(Image.open(GOLDEN / vector["canvas"]))
    canvas, letterbox = make_canvas(film, vector["side"])
    assert_same_canvas(canvas, expected)
    numbers = ("side", "scale", "left", "top", "width", "height")
    assert [getattr(letterbox, name) for name in numbers] == [vector[name] for name in numbers]
    assert list(letterbox.covered) == vector["covered"]


@pytest.mark.parametrize("vector", INDEX["refused"], ids=lambda vector: vector["film"])
def test_golden_films_are_refused_for_their_reason(vector: dict[str, Any]) -> None:
    refuse(GOLDEN / vector["film"], vector["reason"])


def test_the_index_names_every_golden_file() -> None:
    assert {vector["film"].rpartition(".")[2] for vector in INDEX["vectors"]} == {"png", "jpg", "dcm"}
    named = {vector[name] for vector in INDEX["vectors"] for name in ("film", "canvas")} | {vector["film"] for vector in INDEX["refused"]}
    assert {path.name for path in GOLDEN.iterdir()} == named | {"index.json"}
    assert all((GOLDEN / name).stat().st_size < 100_000 for name in named)


def test_the_page_lists_the_reasons_that_the_code_knows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "canvas.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)
    assert tuple(listed) == get_args(Reason)
    assert {vector["reason"] for vector in INDEX["refused"]} == set(listed) - {"missing"}
    assert CONTRAST_BLAME in page


def test_a_nearest_neighbour_host_would_be_caught() -> None:
    vector = next(vector for vector in INDEX["vectors"] if max(vector["width"], vector["height"]) > 1.5 * vector["side"])
    film = Image.fromarray(read_radiograph(GOLDEN / vector["film"]).pixels)
    canvas = np.zeros((vector["side"], vector["side"]), np.uint8)
    w, h = vector["covered"]
    canvas[vector["top"] : vector["top"] + h, vector["left"] : vector["left"] + w] = film.resize((w, h), Image.Resampling.NEAREST)
    with pytest.raises(AssertionError):
        assert_same_canvas(canvas, np.asarray(Image.open(GOLDEN / vector["canvas"])))


# --- what it costs --------------------------------------------------------------------------------------------------------------


def test_importing_is_light() -> None:
    code = "import sys, edgekit.radiograph; print([name for name in ('pydicom', 'PIL', 'torch', 'rich') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(radiograph.__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


def test_letterbox_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Letterbox(1, 1.0, 0, 0, 1, 1).side = 2  # type: ignore[misc]
