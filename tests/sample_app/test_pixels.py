"""The app's pixels against the Python reference: canvases, decoding and perspective."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from scipy.spatial.transform import Rotation

from edgekit.models.cropper import expand_boxes
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.straightening import straighten
from edgekit.task import PEDICLE_SCREWS

pytestmark = pytest.mark.browser

VECTORS = Path(__file__).parents[1] / "golden" / "canvas"
INDEX = json.loads((VECTORS / "index.json").read_text())
STRAIGHTENING = Path(__file__).parents[1] / "vectors" / "straightening"
STRAIGHTENED = json.loads((STRAIGHTENING / "index.json").read_text())

CODE = """async ({ content, side, corners, size }) => {
    const { decode } = await import("/js/decode.js");
    const { makeCanvas } = await import("/js/canvas.js");
    const { chooseSize, straighten } = await import("/js/perspective.js");
    let film;
    try {
        film = await decode(new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))]));
    } catch ({ code }) {
        return { reason: code };
    }
    if (corners) film = straighten(film, corners, size ?? chooseSize(corners, film));
    const pixels = side ? makeCanvas(film, side).canvas : film.pixels;
    let text = "";
    for (let at = 0; at < pixels.length; at += 8192) text += String.fromCharCode(...pixels.subarray(at, at + 8192));
    return { pixels: btoa(text), width: side || film.width, height: side || film.height, view: film.view, coloured: film.coloured };
}"""

MARGIN = 0.05
HEAT = """async ({ width, height, side, cells, box, task, margin }) => {
    const { describeAnswer } = await import("/js/result.js");
    const { drawFilm } = await import("/js/drawing.js");
    const { placeFilm } = await import("/js/canvas.js");
    const middle = cells / 2;
    const heatmaps = new Float32Array(2 * cells * cells);
    for (let row = middle; row < cells; row++) heatmaps.fill(1, row * cells + middle, (row + 1) * cells);
    const outputs = { probabilities: [1], found: [1, 0], box_scores: [1, 0], boxes: Float32Array.from([...box, 0, 0, 0, 0]), heatmaps };
    const found = { outputs, shapes: { heatmaps: [2, cells, cells] }, decision: "identified", brand: "a", predictionSet: ["a"] };
    const bitmap = await createImageBitmap(new ImageData(width, height));
    const slots = { ap: { bitmap, letterbox: placeFilm(width, height, side) } };
    const [film] = describeAnswer(found, slots, { brands: ["a"], cases: ["ap"], task, side, margin }, 1).looked;
    const canvas = new OffscreenCanvas(1, 1);
    drawFilm(canvas, film, { box: false, heat: true });
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const warmth = Array.from({ length: width * height }, (_, n) => data[4 * n + 3]);
    const hottest = warmth.indexOf(Math.max(...warmth));
    const [column, row] = [hottest % width, Math.floor(hottest / width)];
    const isWarm = (value) => value > warmth[hottest] / 2;
    const across = warmth.slice(row * width, (row + 1) * width).findIndex(isWarm);
    return [across, warmth.filter((_, n) => n % width === column).findIndex(isWarm)];
}"""


def run(page: Any, content: bytes, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What the app's modules make of a file: uint8 (height, width), and what they say about it."""
    answer = page.evaluate(CODE, {"content": base64.b64encode(content).decode(), **options})
    assert "pixels" in answer, answer
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


def test_vectors_are_refused_for_their_reason(page: Any) -> None:
    found = {}
    for vector in INDEX["refused"]:
        content = base64.b64encode((VECTORS / vector["film"]).read_bytes()).decode()
        found[vector["film"]] = page.evaluate(CODE, {"content": content}).get("reason")
    assert found == {vector["film"]: vector["reason"] for vector in INDEX["refused"]}


def test_a_decoder_that_never_ends_is_ended(page: Any) -> None:
    """HTJ2K whose coded blocks were overwritten: the decoder runs in circles. The next film is read all the same."""
    broken = (Path(__file__).parent / "never-ends.dcm").read_bytes()
    assert page.evaluate(CODE, {"content": base64.b64encode(broken).decode()}) == {"reason": "damaged"}
    sound = VECTORS / "rule-htj2k.dcm"
    np.testing.assert_array_equal(run(page, sound.read_bytes())[0], read_radiograph(sound).pixels)


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


def pack_png(rows: bytes, width: int, height: int, depth: int, colour: int, interlaced: int = 0, *extra: tuple[bytes, bytes]) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)), *extra]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def pack_lines(samples: np.ndarray, depth: int) -> bytes:
    """Lines without a filter: (height, width) or (height, width, channels)."""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        return b"".join(b"\0" + line.astype(">u2").tobytes() for line in flat)
    if depth == 8:
        return b"".join(b"\0" + line.astype("u1").tobytes() for line in flat)
    bits = np.unpackbits(flat.astype("u1")[..., None], axis=-1)[..., 8 - depth :].reshape(len(flat), -1)
    return b"".join(b"\0" + np.packbits(line).tobytes() for line in bits)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PNG_KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]


def specify_png(samples: np.ndarray, depth: int, colour: int, palette: np.ndarray, key: np.ndarray | None) -> np.ndarray:
    """The film of samples (height, width, channels), as docs/canvas.md has it: uint8 (height, width)."""
    alpha = np.full(samples.shape[:2], 1.0)
    if colour >= 4:
        alpha = samples[..., -1] / ((1 << depth) - 1) if colour == 4 or depth == 8 else (samples[..., -1] >> 8) / 255
    elif key is not None and colour == 3:
        alpha = np.concatenate([key, np.full(256, 255)])[samples[..., 0]] / 255
    elif key is not None and not (colour == 2 and depth == 16):
        alpha = 1.0 - (samples == key).all(-1)
    if colour in (0, 4) and depth == 16:
        values = np.floor(samples[..., 0] * alpha + 0.5)
        low, high = (np.sort(values.ravel())[int(np.ceil(share * values.size)) - 1] for share in (0.005, 0.995))
        return np.floor(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
    if colour in (0, 4):
        light = samples[..., 0] * 255 // ((1 << depth) - 1)
    else:
        rgb = palette[samples[..., 0]].astype(int) if colour == 3 else samples[..., :3] >> (depth - 8)
        light = (rgb @ [19595, 38470, 7471] + 32768) >> 16
    return np.floor(light * alpha + 0.5).astype(np.uint8)


@pytest.mark.parametrize("has_key", [False, True], ids=["", "tRNS"])
@pytest.mark.parametrize("interlaced", [0, 1], ids=["", "Adam7"])
@pytest.mark.parametrize(("colour", "depth"), PNG_KINDS)
def test_every_kind_of_png_is_read_as_specified(page: Any, colour: int, depth: int, interlaced: int, has_key: bool) -> None:
    height, width, channels = 19, 23, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    random = np.random.default_rng(depth)
    samples = random.integers(0, 1 << depth, (height, width, channels))
    palette = random.integers(0, 256, (min(256, 1 << depth), 3), np.uint8)
    palette[:2] = (20, 30, 40), (250, 240, 230)
    extra = [(b"PLTE", palette.tobytes())] if colour == 3 else []
    key = None
    if has_key and colour < 4:
        key = np.array([128, 255]) if colour == 3 else samples[3, 4]
        extra.append((b"tRNS", key.astype("u1" if colour == 3 else ">u2").tobytes()))
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in (ADAM7 if interlaced else ((0, 0, 1, 1),))]
    content = pack_png(b"".join(pack_lines(part, depth) for part in parts), width, height, depth, colour, interlaced, *extra)
    found, answer = run(page, content)
    np.testing.assert_array_equal(found, specify_png(samples, depth, colour, palette, key))
    assert answer["coloured"] == (colour in (2, 3, 6))


def test_the_filters_of_png_are_undone(page: Any, tmp_path: Path) -> None:
    """Smooth values: encoders filter each line in another way."""
    ramp = np.add.outer(np.arange(90) ** 2, np.arange(120) * 300).astype(np.uint16)
    for pixels in (ramp, (ramp >> 6).astype(np.uint8), np.dstack([(ramp >> shift).astype(np.uint8) for shift in (5, 6, 7)])):
        path = tmp_path / "film.png"
        Image.fromarray(pixels).save(path)
        np.testing.assert_array_equal(run(page, path.read_bytes())[0], read_radiograph(path).pixels)


def make_xmp(orientation: int) -> bytes:
    packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
    return b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()


def insert_segment(content: bytes, body: bytes) -> bytes:
    """Put an APP1 segment behind the start of a JPEG."""
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


def encode_jpeg(**options: Any) -> bytes:
    film = np.asarray(
        Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 6), np.uint8)).resize((90, 120), Image.Resampling.BICUBIC)
    )
    stored = io.BytesIO()
    Image.fromarray(film).save(stored, "JPEG", quality=92, **options)
    return stored.getvalue()


def list_jpegs() -> dict[str, bytes]:
    plain = encode_jpeg()
    jpegs = {f"EXIF {number}": insert_segment(plain, b"Exif\0\0" + make_exif(number)) for number in range(1, 9)}
    jpegs |= {f"XMP {number}": insert_segment(plain, make_xmp(number)) for number in range(2, 9)}
    jpegs["EXIF before XMP"] = insert_segment(insert_segment(plain, make_xmp(3)), b"Exif\0\0" + make_exif(6))
    jpegs["no orientation in EXIF"] = insert_segment(insert_segment(plain, make_xmp(3)), b"Exif\0\0" + make_exif(0))
    at = plain.index(b"\xff\xdb")
    jpegs["stray bytes"] = plain[:at] + b"\0\x12\0" + plain[at:]
    jpegs["bytes behind the end"] = plain + b"more"
    jpegs["progressive"] = encode_jpeg(progressive=True)
    return jpegs


def make_exif(orientation: int) -> bytes:
    return b"MM\0\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


JPEGS = list_jpegs()


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_pictures_are_read_and_turned_as_the_reference_does(page: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "film.jpg"
    path.write_bytes(JPEGS[kind])
    found, answer = run(page, path.read_bytes())
    assert differ(found, read_radiograph(path).pixels)[0] <= 2
    assert not answer["coloured"]


@pytest.mark.parametrize("size", [200, 900, -2])
def test_jpeg_pictures_without_their_end_are_damaged(page: Any, size: int) -> None:
    content = base64.b64encode(encode_jpeg()[:size]).decode()
    assert page.evaluate(CODE, {"content": content}) == {"reason": "damaged"}


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


@pytest.mark.parametrize(
    "box",
    [
        (30, 20, 90, 100),  # its margin ends within the film
        (17, 4, 100, 120),  # it reaches into the letterbox beside the film, and to the canvas's end below it
        (-6, -4, 60, 90),  # the box itself begins beyond the canvas
        (90, 60, 127, 127),
    ],
)
def test_a_heat_map_lies_over_the_crop_that_the_graph_looked_at(page: Any, box: tuple[float, ...]) -> None:
    """Warm in its right lower quarter: that begins in the middle of the crop, which ends at the canvas and not at the film."""
    width, height, side, cells = 300, 400, 128, 16
    _, letterbox = make_canvas(np.zeros((height, width), np.uint8), side)
    given = {"width": width, "height": height, "side": side, "cells": cells, "box": box, "task": PEDICLE_SCREWS.to_json(), "margin": MARGIN}
    found = page.evaluate(HEAT, given)
    left, top, right, bottom = letterbox.to_film(tuple(expand_boxes(torch.tensor([box], dtype=torch.float32), side, MARGIN)[0].tolist()))
    # Enlarged, the step is as wide as a cell, and half as warm in its middle, as exactly as a browser interpolates.
    assert found == pytest.approx([(left + right) / 2, (top + bottom) / 2], abs=2.5)


@pytest.mark.parametrize("vector", STRAIGHTENED["vectors"], ids=lambda vector: vector["photo"])
def test_photos_are_straightened_as_the_vectors_say(page: Any, vector: dict[str, Any]) -> None:
    photo = (STRAIGHTENING / vector["photo"]).read_bytes()
    for expected, side in ((vector["film"], None), (vector["canvas"], vector["side"])):
        found, _ = run(page, photo, corners=vector["corners"], side=side)
        largest, mean = differ(found, np.asarray(Image.open(STRAIGHTENING / expected)))
        assert largest <= STRAIGHTENED["tolerance"]["max"]
        assert mean <= STRAIGHTENED["tolerance"]["mean"]


@pytest.mark.parametrize("angles", [(0, 0, 5), (25, 0, 5), (0, 25, -3), (18, -18, 0)])
def test_the_aspect_comes_from_the_perspective(page: Any, angles: tuple[int, int, int]) -> None:
    """A rectangle of 3 : 4 seen from the side by the camera of docs/straightening.md, projected by hand."""
    rectangle = np.array([[-450, -600, 0], [450, -600, 0], [450, 600, 0], [-450, 600, 0]])
    seen = Rotation.from_euler("xyz", angles, degrees=True).apply(rectangle) + np.array([40, -60, 1800])
    corners = 0.75 * 2016 * seen[:, :2] / seen[:, 2:] + np.array([1512, 2016]) / 2
    code = """async (corners) => (await import("/js/perspective.js")).chooseSize(corners, { width: 1512, height: 2016 })"""
    size = page.evaluate(code, corners.tolist())
    assert size["width"] / size["height"] == pytest.approx(900 / 1200, rel=2e-3)
