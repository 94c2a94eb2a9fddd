"""The app's pixels against the Python reference: canvases, decoding and perspective."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from edgekit.phantom.photo.perspective import straighten
from edgekit.radiograph import make_canvas, read_radiograph

pytestmark = pytest.mark.browser

VECTORS = Path(__file__).parents[1] / "golden" / "canvas"
INDEX = json.loads((VECTORS / "index.json").read_text())

CODE = """async ({ content, side, corners, size }) => {
    const { decode } = await import("/js/decode.js");
    const { makeCanvas } = await import("/js/canvas.js");
    const { straighten } = await import("/js/perspective.js");
    let film = await decode(new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))]));
    if (corners) film = straighten(film, corners, size);
    const pixels = side ? makeCanvas(film, side).canvas : film.pixels;
    let text = "";
    for (let at = 0; at < pixels.length; at += 8192) text += String.fromCharCode(...pixels.subarray(at, at + 8192));
    return { pixels: btoa(text), width: side || film.width, height: side || film.height, view: film.view, coloured: film.coloured };
}"""


def run(page: Any, content: bytes, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What the app's modules make of a file: uint8 (height, width), and what they say about it."""
    answer = page.evaluate(CODE, {"content": base64.b64encode(content).decode(), **options})
    pixels = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(answer["height"], answer["width"])
    return pixels, answer


def differ(found: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    assert found.shape == expected.shape
    error = np.abs(found.astype(int) - expected)
    return int(error.max()), float(error.mean())


@pytest.mark.parametrize("vector", INDEX["vectors"], ids=lambda vector: vector["film"])
def test_canvases_are_those_of_the_vectors(page: Any, vector: dict[str, Any]) -> None:
    found, _ = run(page, (VECTORS / vector["film"]).read_bytes(), side=vector["side"])
    largest, mean = differ(found, np.asarray(Image.open(VECTORS / vector["canvas"])))
    assert largest <= INDEX["tolerance"]["max"]
    assert mean <= INDEX["tolerance"]["mean"]


def make_film(**changed: Any) -> pydicom.Dataset:
    """A DICOM film of 12 bits, every gray level of it."""
    film = pydicom.Dataset()
    film.file_meta = pydicom.dataset.FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = "1.2.3"
    film.Modality, film.ViewPosition = "DX", "LL"
    film.PhotometricInterpretation, film.SamplesPerPixel = "MONOCHROME2", 1
    film.Rows, film.Columns = 60, 70
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.add_new(0x00091010, "UN", b"private")
    film.ReferencedStudySequence = [pydicom.Dataset()]
    film.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3.4"
    for name, value in changed.items():
        setattr(film, name, value)
    random = np.random.default_rng(5)
    values = random.integers(0, 1 << film.BitsStored, (film.Rows, film.Columns))
    film.set_pixel_data(values.astype(f"u{film.BitsAllocated // 8}"), film.PhotometricInterpretation, film.BitsStored)
    film.PixelRepresentation = changed.get("PixelRepresentation", 0)
    return film


def make_table(first: int) -> pydicom.Dataset:
    table = pydicom.Dataset()
    table.add_new(0x00283002, "US", [512, first, 12])
    table.add_new(0x00283006, "US", [int(v) for v in np.linspace(0, 4095, 512) ** 2 / 4095])
    return table


FILMS: dict[str, dict[str, Any]] = {
    "percentiles": {},
    "linear": {"WindowCenter": ["1800.5", "20"], "WindowWidth": ["2500", "3"], "RescaleSlope": "0.7", "RescaleIntercept": "100"},
    "exact": {"WindowCenter": "1800", "WindowWidth": "2500", "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": "2000", "WindowWidth": "900", "VOILUTFunction": "SIGMOID", "PresentationLUTShape": "INVERSE"},
    "inverted": {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    "signed": {"PixelRepresentation": 1, "RescaleSlope": "-2", "RescaleIntercept": "5"},
    "padded": {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 700},
    "8 bits": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    "VOI LUT": {"VOILUTSequence": [make_table(1000)]},
    "modality LUT": {"ModalityLUTSequence": [make_table(700)], "WindowCenter": "2000", "WindowWidth": "3000"},
}
SYNTAXES = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian, "big": ExplicitVRBigEndian, "RLE": RLELossless}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", FILMS)
def test_dicom_films_are_read_as_the_reference_reads_them(page: Any, tmp_path: Path, kind: str, syntax: str) -> None:
    film = make_film(**FILMS[kind])
    if syntax == "RLE":
        film.compress(RLELossless, encoding_plugin="pydicom")
    elif syntax == "big" and film.BitsAllocated == 16:
        film.PixelData = np.frombuffer(film.PixelData, "<u2").astype(">u2").tobytes()
    path = tmp_path / "film.dcm"
    options = {"implicit_vr": syntax == "implicit", "little_endian": syntax != "big"}
    film.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    pydicom.dcmwrite(path, film, enforce_file_format=False, **options)
    found, answer = run(page, path.read_bytes())
    np.testing.assert_array_equal(found, read_radiograph(path).pixels)
    assert (answer["view"], answer["coloured"]) == ("lateral", False)


def test_sixteen_bit_png_is_read_as_the_reference_reads_it(page: Any, tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(90) ** 2, np.arange(120) * 300).astype(np.uint16)  # smooth: PNG filters it in all ways
    path = tmp_path / "film.png"
    Image.fromarray(ramp).save(path)
    np.testing.assert_array_equal(run(page, path.read_bytes())[0], read_radiograph(path).pixels)


@pytest.mark.parametrize(
    ("corners", "size"),
    [
        ([[40.2, 31.7], [251.4, 48.9], [230.1, 260.3], [22.8, 240.5]], (180, 190)),
        ([[5, 10], [290, 0], [310, 300], [0, 280]], (90, 95)),  # smaller than it appears: several samples a pixel
        ([[-12, -9], [330, 4], [300, 310], [14, 290]], (320, 300)),  # beyond the photo's border
    ],
)
def test_films_are_straightened_as_the_reference_does(page: Any, corners: list[list[float]], size: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    small = Image.fromarray(random.integers(0, 256, (40, 45), np.uint8))
    photo = np.asarray(small.resize((320, 300), Image.Resampling.BICUBIC))
    stored = io.BytesIO()
    Image.fromarray(photo).save(stored, "PNG")
    expected = straighten(photo, np.array(corners, float), size)
    found, _ = run(page, stored.getvalue(), corners=corners, size={"width": size[0], "height": size[1]})
    assert differ(found, expected)[0] <= 1
    side = 128
    canvas, _ = run(page, stored.getvalue(), corners=corners, size={"width": size[0], "height": size[1]}, side=side)
    largest, mean = differ(canvas, make_canvas(expected, side)[0])
    assert largest <= 2
    assert mean <= 0.3


def test_the_aspect_comes_from_the_perspective(page: Any) -> None:
    """A rectangle of 3 : 4 seen by a phone's camera from the side, projected by hand."""
    from edgekit.phantom.photo.viewpoint import take_position

    view = take_position((100, 50, 1000, 1250), 1512, 2016, tilt_degrees=25, azimuth_degrees=20, roll_degrees=5, fill=0.8)
    corners = view.find_corners((100, 50, 1000, 1250)).tolist()
    code = """async (corners) => (await import("/js/perspective.js")).chooseSize(corners, { width: 1512, height: 2016 })"""
    size = page.evaluate(code, corners)
    assert size["width"] / size["height"] == pytest.approx(900 / 1200, rel=2e-3)
