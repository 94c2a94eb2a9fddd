"""What fuzzing found once: a small case of each, with what it must become."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from film_seeds import (
    EXPLICIT,
    J2K,
    LS,
    PNG_SIGNATURE,
    RLE,
    draw,
    make_exif,
    make_film,
    make_jpeg,
    make_table,
    pack_chunk,
    pack_rle,
    pack_segment,
)
from numpy.typing import NDArray
from text_seeds import BUNDLE, CONFIG, RECIPE, seal, seed_manifest, seed_processors, seed_run

from edgekit.errors import DamagedBundleError, FilmError, InputError
from edgekit.manifest import open_bundle
from edgekit.models.runfolder import find_studies, load_detector_settings, load_ensembles
from edgekit.radiograph import read_radiograph
from edgekit.targets import load_target
from edgekit.training.config import load_config


def read(folder: Path, content: bytes) -> NDArray[np.uint8]:
    (folder / "film").write_bytes(content)
    return read_radiograph(folder / "film").pixels


def refuse(folder: Path, content: bytes) -> str:
    with pytest.raises(FilmError) as error:
        read(folder, content)
    return error.value.reason


# --- PNG and JPEG --------------------------------------------------------------------------------------------------------------


def pack_png(*chunks: tuple[bytes, bytes]) -> bytes:
    return PNG_SIGNATURE + b"".join(pack_chunk(kind, content) for kind, content in chunks)


def head(colour: int, depth: int, width: int = 4, height: int = 2, interlace: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


LINES = b"\0\0\x40\x80\xc0\0\xff\x20\x60\xa0"
GREY = [[0, 0x40, 0x80, 0xC0], [0xFF, 0x20, 0x60, 0xA0]]
END = (b"IEND", b"")


def test_a_png_whose_pixels_end_early_is_damaged(tmp_path: Path) -> None:
    """Pillow leaves the lines that are missing black."""
    assert read(tmp_path, pack_png(head(0, 8), (b"IDAT", zlib.compress(LINES)), END)).tolist() == GREY
    assert read(tmp_path, pack_png(head(0, 8), (b"IDAT", zlib.compress(LINES + b"more")), END)).tolist() == GREY
    assert refuse(tmp_path, pack_png(head(0, 8), (b"IDAT", zlib.compress(LINES[:-1])), END)) == "damaged"
    assert refuse(tmp_path, pack_png(head(0, 8), (b"IDAT", zlib.compress(LINES)))) == "damaged"


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gray_of_any_depth_keeps_its_transparency(tmp_path: Path, depth: int) -> None:
    top = (1 << depth) - 1
    row = bytes([0, *np.packbits([int(bit) for value in (top, 0, top, 0, top, 0, top, 0) for bit in f"{value:0{depth}b}"])])
    picture = head(0, depth, 8, 1), (b"tRNS", struct.pack(">H", 0x100 | top)), (b"IDAT", zlib.compress(row)), END  # the low bits count
    assert refuse(tmp_path, pack_png(*picture)) == "blank"
    assert read(tmp_path, pack_png(picture[0], *picture[2:])).tolist() == [[255, 0] * 4]


def test_an_index_beyond_the_palette_is_damaged(tmp_path: Path) -> None:
    picture = head(3, 8), (b"PLTE", bytes(range(0, 255, 3)) * 3), (b"IDAT", zlib.compress(LINES)), END
    assert refuse(tmp_path, pack_png(*picture)) == "damaged"
    assert refuse(tmp_path, pack_png(picture[0], *picture[2:])) == "damaged"


@pytest.mark.parametrize(
    "extra",
    [
        (b"pHYs", b"\0"),
        (b"gAMA", b""),
        (b"acTL", b"\0\0\0\1"),
        (b"fdAT", b"\0"),
        (b"eXIf", b"no TIFF header"),
        (b"eXIf", make_exif(9)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0not deflated"),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzz")),
    ],
)
def test_metadata_never_refuse_a_png(tmp_path: Path, extra: tuple[bytes, bytes]) -> None:
    assert read(tmp_path, pack_png(head(0, 8), extra, (b"IDAT", zlib.compress(LINES)), END)).tolist() == GREY


def test_a_header_that_contradicts_itself_is_damaged(tmp_path: Path) -> None:
    pixels = (b"IDAT", zlib.compress(LINES)), END
    assert refuse(tmp_path, pack_png(head(0, 8, interlace=2), *pixels)) == "damaged"
    assert refuse(tmp_path, pack_png(head(2, 4), *pixels)) == "damaged"
    assert refuse(tmp_path, pack_png(head(0, 8), head(0, 8), *pixels)) == "damaged"


@pytest.mark.parametrize(
    "segment",
    [
        pack_segment(0xE1, b"Exif\0\0"),
        pack_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        pack_segment(0xE1, b"Exif\0\0" + make_exif(0)),
        pack_segment(0xE2, b"MPF\0II*\0"),
        pack_segment(0xED, b"Photoshop 3.0\x008BIM\x04"),
    ],
)
def test_metadata_never_refuse_a_jpeg(tmp_path: Path, segment: bytes) -> None:
    assert np.array_equal(read(tmp_path, make_jpeg("L", segment)), read(tmp_path, make_jpeg("L")))


# --- DICOM ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "elements",
    [
        {0x00281052: "1e308", 0x00281053: "1.7e308"},
        {0x00281052: "0", 0x00281053: "1.7e308", 0x00281050: "5", 0x00281051: "9", 0x00281056: "SIGMOID"},
        {0x00281050: "1.7e308", 0x00281051: "1e-320", 0x00281056: "LINEAR_EXACT"},
        {0x00281052: "-1.7e308", 0x00281053: "1.7e308", 0x00280004: "MONOCHROME1"},
    ],
)
def test_numbers_at_the_end_of_their_range_say_nothing(tmp_path: Path, elements: dict[int, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(tmp_path, make_film(draw(8), 8, elements=elements).to_bytes())
        except FilmError as error:
            assert error.reason == "blank"  # noqa: PT017  (or a film)


def test_a_deflated_film_is_read_in_parts(tmp_path: Path) -> None:
    film = draw(16, rows=3000, columns=3000)  # 18 MB: more than one part
    plain, deflated = make_film(film, 16), make_film(film, 16, EXPLICIT + ".99", is_deflated=True)
    assert np.array_equal(read(tmp_path, plain.to_bytes()), read(tmp_path, deflated.to_bytes()))


def test_entries_of_a_table_are_what_they_are(tmp_path: Path) -> None:
    """Whatever VR is written before them: the app does the same."""
    item = make_table(0, 8, [255 - n for n in range(256)])
    expected = read(tmp_path, make_film(draw(8), 8, elements={0x00283010: [item]}).to_bytes())
    item[1].vr = "LO"
    assert np.array_equal(read(tmp_path, make_film(draw(8), 8, elements={0x00283010: [item]}).to_bytes()), expected)


def test_what_stands_behind_the_last_pixel_of_an_rle_segment_is_ignored(tmp_path: Path) -> None:
    film = draw(8)
    expected = read(tmp_path, make_film(film, 8).to_bytes())
    stream = pack_rle(film)
    for rest in (b"\x7f\1\2", b"\x81\x55" * 5000, b"\x80", b"\xfe"):
        assert np.array_equal(read(tmp_path, make_film(film, 8, RLE, [stream + rest]).to_bytes()), expected)
    last = 64 + len(stream[64:].rstrip(b"\0"))
    assert refuse(tmp_path, make_film(film, 8, RLE, [stream[: last - 4]]).to_bytes()) == "damaged"


def test_what_was_inspected_is_what_is_decoded(tmp_path: Path) -> None:
    film = draw(12)
    expected = read(tmp_path, make_film(film, 12).to_bytes())
    stream = bytes(imagecodecs.jpegls_encode(film))
    assert np.array_equal(read(tmp_path, make_film(film, 12, LS, [stream[:2] + b"stray" + stream[2:]]).to_bytes()), expected)
    boxes = bytes(imagecodecs.jpeg2k_encode(film, codecformat="jp2", reversible=True, bitspersample=12))
    start = boxes.find(b"\xff\x4f\xff\x51")
    broken = boxes[:40] + bytes(start - 40) + boxes[start:]
    assert np.array_equal(read(tmp_path, make_film(film, 12, J2K, [broken]).to_bytes()), expected)


# --- settings, bundles, runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 3000])
def test_toml_that_python_gives_up_on_is_no_toml(tmp_path: Path, value: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(RECIPE.replace("opset = 20", f"opset = {value}"))
    with pytest.raises(InputError, match=r"my\.toml"):
        load_target("web", path)
    path.write_text(CONFIG.replace("seed = 7", f"seed = {value}"))
    with pytest.raises(InputError, match=r"my\.toml"):
        load_config("demo", path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("2e-3", "inf", "learning_rate"),
        ("2e-3", "nan", "learning_rate"),
        ("rotation_degrees = 5", f"rotation_degrees = {'9' * 400}", "rotation_degrees"),
        ("seed = 7", "seed = -1", "seed"),
        ("canvas_side = 768", "canvas_side = 0", "canvas side 0"),
    ],
)
def test_settings_that_no_training_survives(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(CONFIG.replace(old, new))
    with pytest.raises(InputError, match=named):
        load_config("demo", path)


@pytest.mark.parametrize(
    "changes", [{"brands": None}, {"sessions": [1]}, {"canvas": {"side": "x"}}, {"model": "../model.onnx"}, {"brands": []}, {"canvas": 3}]
)
def test_a_manifest_must_describe_a_bundle(tmp_path: Path, changes: dict[str, object]) -> None:
    for name, content in BUNDLE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "processors.json").write_bytes(seed_processors())
    manifest = json.loads(seed_manifest()["sound"])
    (tmp_path / "manifest.json").write_bytes(seal(manifest))
    assert open_bundle(tmp_path).canvas_side == 128
    (tmp_path / "manifest.json").write_bytes(seal({**manifest, **changes}))
    with pytest.raises(InputError, match=next(iter(changes))):
        open_bundle(tmp_path)


def test_a_manifest_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DamagedBundleError, match=r"manifest\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        [],
        {"ap": []},
        {"ap": {"name": "ap"}},
        {"ap": {"coefficients": [[1.0]]}},
        {"ap": {"coefficients": [[1e300, 0.0], [0.0, 0.0]]}},
        {"ap": {"intercepts": [0.0, "x"]}},
    ],
)
def test_damaged_coefficients_name_their_file(tmp_path: Path, change: object) -> None:
    sound = json.loads(seed_run()["sound"])["ensembles"]
    (tmp_path / "ensembles.json").write_text(json.dumps(sound))
    assert load_ensembles(tmp_path)["ap"].cases == ("ap",)
    if isinstance(change, dict) and isinstance(change["ap"], dict) and "name" not in change["ap"]:
        change = {"ap": {**sound["ap"], "fitted": {"ap": {**sound["ap"]["fitted"]["ap"], **change["ap"]}}}}
    (tmp_path / "ensembles.json").write_text(json.dumps(change))
    with pytest.raises(InputError, match=r"ensembles\.json"):
        load_ensembles(tmp_path)


def test_documents_of_a_run_that_are_no_objects(tmp_path: Path) -> None:
    for content in ("[]", "[" * 100_000, "3"):
        (tmp_path / "detector.json").write_text(content)
        with pytest.raises(InputError, match=r"detector\.json"):
            load_detector_settings(tmp_path)
    (tmp_path / "provenance.json").write_text('{"studies": [1]}')
    with pytest.raises(InputError, match=r"provenance\.json"):
        find_studies(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps({"studies": {"path": "x" * 5000, "sha256": ""}}))
    with pytest.raises(InputError, match="not there"):
        find_studies(tmp_path)
