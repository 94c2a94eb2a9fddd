"""From films to the answer, as a user goes."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from app_steps import CORNERS, PHONE, find, give, give_film
from pedicle_screws import VIEWS
from PIL import Image

from edgekit.canvases import graph_inputs
from edgekit.manifest import open_bundle
from edgekit.radiograph import make_canvas
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.types import DECISIONS

pytestmark = pytest.mark.browser


def make_film(seed: int, width: int = 300, height: int = 400) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (10, 8), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encode(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind, **options)
    return stored.getvalue()


def as_file(content: bytes, name: str = "film.png") -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def make_photo() -> np.ndarray:
    """A film on a dark screen, at a slant, in colour."""
    from edgekit.straightening import fit_homography, make_rectangle

    film = Image.fromarray(np.clip(make_film(4).astype(int) // 2 + 120, 0, 255).astype(np.uint8)).convert("RGB")
    back = fit_homography(np.array(CORNERS), make_rectangle(0, 0, 300, 400)).ravel()[:8]
    warped = np.array(
        film.transform((480, 640), Image.Transform.PERSPECTIVE, list(back), Image.Resampling.BILINEAR, fillcolor=(12, 14, 18))
    )
    warped[..., 2] = np.minimum(255, warped[..., 2] + 12)  # a display's blue tint
    return warped


def read_ranking(page: Any) -> list[tuple[str, str]]:
    return [tuple(row.split("\n")) for row in page.locator("#ranking li").all_inner_texts()]


def test_the_answer_is_the_graphs(real_phone: Any, web_bundle: Path, tmp_path: Path) -> None:
    """Two files, one of them DICOM: decision, ranking and prediction set are those of onnxruntime on Python's canvases."""
    phone, bundle = real_phone, open_bundle(web_bundle)
    films = {"ap": make_film(1), "lateral": make_film(2, 350, 350)}
    give_film(phone, "ap", as_file(encode(films["ap"])))
    dicom = tmp_path / "film.dcm"
    write_dicom(dicom, films["lateral"])
    give_film(phone, "lateral", dicom)
    phone.click("#identify")
    phone.wait_for_selector("#result:not([hidden])")

    inputs = graph_inputs({view: make_canvas(film, bundle.canvas_side)[0] for view, film in films.items()}, VIEWS, bundle.canvas_side)
    with OnnxRuntimeSession(bundle.model, bundle.manifest.tensors["inputs"], 1) as session:
        expected = session.infer(inputs)
    decision = DECISIONS[int(expected["decision"][0])]
    labels = {"identified": "Identified", "ambiguous": "Ambiguous", "unfamiliar": "Unfamiliar", "films swapped": "Films swapped?"}
    assert phone.inner_text("#verdict-label") == labels[decision]
    if decision in ("identified", "ambiguous"):
        order = np.argsort(-expected["probabilities"])
        assert [brand for brand, _ in read_ranking(phone)] == [bundle.brands[i] for i in order]
        for (_, text), share in zip(read_ranking(phone), expected["probabilities"][order], strict=True):
            shown = {"over 99 %": 0.995, "under 1 %": 0.005}.get(text) or int(text.removesuffix(" %")) / 100
            assert shown == pytest.approx(share, abs=0.02)
        fitting = [bundle.brands[i] for i in order if expected["prediction_set"][i]]
        assert phone.locator("#ranking li.fits span:first-child").all_inner_texts() == fitting
    facts = phone.inner_text("#facts")
    assert re.search(r"Time\n\d+ ms|Time\n\d\.\d s", facts)
    assert bundle.manifest.provenance["run"]["sha256"][:12] in facts
    assert phone.inner_text("#intended-use") == bundle.manifest.intended_use

    phone.click("#again")
    assert phone.is_disabled("#identify")
    assert phone.locator(".slot .film:not([hidden])").count() == 0


def write_dicom(path: Path, pixels: np.ndarray, modality: str = "DX") -> None:
    film = pydicom.Dataset()
    film.file_meta = pydicom.dataset.FileMetaDataset()
    film.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3", modality
    film.WindowCenter, film.WindowWidth, film.PixelRepresentation = "128", "256", 0
    film.set_pixel_data(pixels, "MONOCHROME2", 8)
    pydicom.dcmwrite(path, film, enforce_file_format=False, implicit_vr=False, little_endian=True)


SCREENS = [
    ("identified", "design-a", ("design-a",), "Identified", "design-a", 3),
    ("ambiguous", None, ("design-a", "design-b"), "Ambiguous", "One of 2 brands", 3),
    ("ambiguous", None, (), "Ambiguous", "No clear answer", 3),
    ("unfamiliar", None, ("design-a", "design-b"), "Unfamiliar", "Not one it has learnt", 0),
    ("no construct found", None, (), "Nothing to identify", "No construct found", 0),
    ("films swapped", None, ("design-a",), "Films swapped?", "AP and lateral look exchanged", 0),
]


@pytest.mark.parametrize(("decision", "brand", "fitting", "label", "title", "rows"), SCREENS, ids=lambda value: str(value)[:12])
def test_each_decision_has_its_screen(
    answering: Callable[..., Any], decision: str, brand: str | None, fitting: tuple[str, ...], label: str, title: str, rows: int
) -> None:
    page = answering(decision, brand, fitting)
    give_film(page, "ap", as_file(encode(make_film(1))))
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")
    assert page.inner_text("#verdict-label") == label
    assert page.inner_text("#verdict") == title
    assert page.locator("#ranking li:visible").count() == rows
    assert page.locator("#verdict-set li").all_inner_texts() == (list(fitting) if decision == "ambiguous" else [])
    assert page.is_visible("#set-note") == (rows > 0)
    assert page.is_visible("#swap") == (decision == "films swapped")
    assert "design" not in page.inner_text("#verdict-text")  # an answer that is no answer names nothing


def test_swapped_films_are_exchanged_with_one_touch(answering: Callable[..., Any]) -> None:
    page = answering("films swapped")
    give_film(page, "ap", as_file(encode(make_film(1, 300, 400))))
    give_film(page, "lateral", as_file(encode(make_film(2, 200, 400))))
    page.click("#identify")
    page.click("#swap")
    page.wait_for_selector("#result:not([hidden])")
    widths = page.evaluate("Array.from(document.querySelectorAll('.slot .film'), (film) => film.width)")
    assert widths == [200, 300]


def test_box_and_heat_map_lie_on_the_construct(answering: Callable[..., Any]) -> None:
    """The fake model's box is 30, 30, 90, 100 on a canvas of 128: on a square film the same shares."""
    page = answering("identified", "design-a", ("design-a",))
    give_film(page, "ap", as_file(encode(make_film(1, 256, 256))))
    page.click("#identify")
    page.wait_for_selector("#looked canvas")
    read = """(layers) => {
        const canvas = document.querySelector("#looked canvas");
        const data = canvas.getContext("2d").getImageData(0, 0, 256, 256).data;
        const spread = (values) => Math.max(...values) - Math.min(...values);
        return Array.from({ length: 65536 }, (_, i) => spread(data.slice(4 * i, 4 * i + 3)));
    }"""
    page.click("#toggle-heat")
    rows, columns = np.nonzero(np.reshape(page.evaluate(read), (256, 256)) > 40)
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [60, 60, 180, 200], atol=3)
    page.click("#toggle-box")
    assert np.max(page.evaluate(read)) == 0
    page.click("#toggle-heat")
    rows, columns = np.nonzero(np.reshape(page.evaluate(read), (256, 256)) > 15)
    assert columns.min() >= 54 - 1
    assert rows.max() <= 207 + 1  # the crop: the box and 5 % of its sides
    assert columns.max() >= 170


def read_corners(page: Any) -> list[list[float]]:
    """Where the handles are on the screen."""
    boxes = [page.locator(f".handle[data-corner='{n}']").bounding_box() for n in range(4)]
    return [[box["x"] + box["width"] / 2, box["y"] + box["height"] / 2] for box in boxes]


def give_photo(page: Any) -> None:
    give(page, "ap", as_file(encode(make_photo(), "JPEG", quality=92), "photo.jpg"))


def wait_for_help(page: Any, words: str) -> None:
    """Wait until the help begins so, and the corners are drawn."""
    page.wait_for_function("(words) => document.getElementById('corner-help').textContent.startsWith(words)", arg=words)
    page.wait_for_timeout(100)


def open_photo(page: Any, words: str = "Check the outline.") -> None:
    """Give a photo and wait for what is said about the search for its film."""
    give_photo(page)
    page.wait_for_selector("#use:enabled")
    wait_for_help(page, words)


def find_stage(page: Any) -> tuple[float, float, float]:
    """Where the photo of 480 x 640 lies on the screen: left, top, scale."""
    box = page.locator("#stage").bounding_box()
    scale = min((box["width"] - 44) / 480, (box["height"] - 44) / 640)
    return box["x"] + (box["width"] - 480 * scale) / 2, box["y"] + (box["height"] - 640 * scale) / 2, scale


def locate_corners(page: Any) -> list[list[float]]:
    """Where the handles are in the photo."""
    left, top, scale = find_stage(page)
    return [[(x - left) / scale, (y - top) / scale] for x, y in read_corners(page)]


INSET = [[48, 64], [432, 64], [432, 576], [48, 576]]
"""Where the corners are before one is found."""


def test_the_film_in_a_photo_is_found(phone: Any) -> None:
    open_photo(phone)
    np.testing.assert_allclose(locate_corners(phone), CORNERS, atol=1)


OUTSIDE = 0.05 * 480
NOT_FOUND: dict[str, Any] = {
    "nothing": None,
    "low confidence": find(CORNERS, 0.29),
    "no number": find(CORNERS, None),
    "crossed": find([CORNERS[n] for n in (1, 0, 2, 3)]),
    "mirrored": find([CORNERS[n] for n in (1, 0, 3, 2)]),
    "outside": find([[-OUTSIDE - 1, 70], *CORNERS[1:]]),
}


@pytest.mark.parametrize("kind", NOT_FOUND)
def test_what_is_no_film_is_not_suggested(answering: Callable[..., Any], kind: str) -> None:
    page = answering("identified", film=NOT_FOUND[kind])
    open_photo(page, "No film found by itself.")
    np.testing.assert_allclose(locate_corners(page), INSET, atol=1)


def test_a_corner_a_little_outside_is_put_on_the_border(answering: Callable[..., Any]) -> None:
    page = answering("identified", film=find([[-OUTSIDE + 1, 70], [420, 95], [400, 560], [-OUTSIDE + 1, 545]]))
    open_photo(page)
    found = locate_corners(page)
    np.testing.assert_allclose([x for x, _ in (found[0], found[3])], 0, atol=0.5)
    assert min(x for x, _ in found) > -0.5


def test_a_bundle_without_a_corner_finder_says_so(answering: Callable[..., Any]) -> None:
    page = answering("identified", corner_side=None)
    open_photo(page, "This bundle finds no films by itself. Drag the corners")
    np.testing.assert_allclose(locate_corners(page), INSET, atol=1)


def test_corners_can_be_moved_before_the_film_is_found(answering: Callable[..., Any]) -> None:
    page = answering("identified", search=1500)
    open_photo(page, "Looking for the film.")
    before = locate_corners(page)
    np.testing.assert_allclose(before, INSET, atol=1)
    page.focus(".handle[data-corner='1']")
    page.keyboard.press("Shift+ArrowLeft")
    wait_for_help(page, "Drag the corners")
    found = locate_corners(page)
    np.testing.assert_allclose([found[n] for n in (0, 2, 3)], [before[n] for n in (0, 2, 3)], atol=1)
    assert found[1][0] == pytest.approx(before[1][0] - 10 / find_stage(page)[2], abs=1)

    page.click("#find")  # now the user wants them moved
    wait_for_help(page, "Check the outline.")
    np.testing.assert_allclose(locate_corners(page), CORNERS, atol=1)


def test_a_photo_turned_while_its_film_is_looked_for_is_looked_at_again(answering: Callable[..., Any]) -> None:
    """What is found on the photo as it lay first is not put on the turned one."""
    page = answering("identified", search=1500)
    open_photo(page, "Looking for the film.")
    for _ in range(4):
        page.click("#turn")
    page.wait_for_timeout(1300)  # the first search is over
    assert page.inner_text("#corner-help").startswith("Looking for the film.")
    np.testing.assert_allclose(locate_corners(page), INSET, atol=1)
    wait_for_help(page, "Check the outline.")
    np.testing.assert_allclose(locate_corners(page), CORNERS, atol=1)


def test_a_search_that_outlives_its_photo_leaves_the_next_one_alone(answering: Callable[..., Any]) -> None:
    page = answering("identified", search=1500)
    open_photo(page, "Looking for the film.")
    page.go_back()
    page.wait_for_selector("#films:not([hidden])")
    page.wait_for_timeout(700)
    open_photo(page, "Looking for the film.")
    page.wait_for_timeout(900)  # the first search is over
    assert page.inner_text("#corner-help").startswith("Looking for the film.")
    np.testing.assert_allclose(locate_corners(page), INSET, atol=1)
    wait_for_help(page, "Check the outline.")


def test_a_reader_that_fails_leaves_the_corners_to_the_user(answering: Callable[..., Any]) -> None:
    page = answering("identified", film="failure")
    open_photo(page, "No film found by itself.")
    np.testing.assert_allclose(locate_corners(page), INSET, atol=1)
    page.click("#use")
    page.wait_for_selector("#identify:enabled")


def test_a_reader_that_is_stopped_while_it_looks_can_be_asked_again(answering: Callable[..., Any]) -> None:
    page = answering("identified", search=1500)
    open_photo(page, "Looking for the film.")
    page.evaluate("document.getElementById('cancel').click()")  # of an answer that was asked for before
    wait_for_help(page, "No film found by itself.")
    np.testing.assert_allclose(locate_corners(page), INSET, atol=1)
    page.click("#find")
    wait_for_help(page, "Check the outline.")
    np.testing.assert_allclose(locate_corners(page), CORNERS, atol=1)


def test_corners_move_by_touch_and_by_keyboard(phone: Any) -> None:
    open_photo(phone)
    left, top, scale = find_stage(phone)
    phone.click("#whole")
    phone.wait_for_timeout(100)
    start = read_corners(phone)[0]
    touch = phone.context.new_cdp_session(phone)
    goal = [left + CORNERS[0][0] * scale, top + CORNERS[0][1] * scale]
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start[0], "y": start[1]}]})
    for share in (0.5, 1):
        point = [a + share * (b - a) for a, b in zip(start, goal, strict=True)]
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": point[0], "y": point[1]}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    phone.wait_for_timeout(100)
    np.testing.assert_allclose(read_corners(phone)[0], goal, atol=1.5)

    handle = phone.locator(".handle[data-corner='2']")
    before = read_corners(phone)[2]
    handle.focus()
    for key, count in (("Shift+ArrowLeft", 3), ("ArrowUp", 4), ("ArrowRight", 1)):
        for _ in range(count):
            phone.keyboard.press(key)
    phone.wait_for_timeout(100)
    np.testing.assert_allclose(read_corners(phone)[2], [before[0] - 29, before[1] - 4], atol=0.6)
    assert re.fullmatch(r"\d+ % across, \d+ % down", phone.inner_text("#corner-place"))
    for _ in range(60):  # an outline never crosses itself
        phone.keyboard.press("Shift+ArrowLeft")
    phone.wait_for_timeout(100)
    assert read_corners(phone)[2][0] > read_corners(phone)[3][0] + 0.2


def test_a_straightened_photo_is_the_film(phone: Any) -> None:
    """By the outline that was found, a quarter turn there and back, and into the slot: it looks like the film."""
    open_photo(phone)
    for _ in range(4):
        phone.click("#turn")
    phone.wait_for_timeout(200)
    phone.click("#use")
    phone.wait_for_selector(".slot[data-view=ap] .film:not([hidden])")
    code = """() => {
        const film = document.querySelector(".slot .film");
        const canvas = new OffscreenCanvas(60, 80);
        canvas.getContext("2d").drawImage(film, 0, 0, 60, 80);
        const { data } = canvas.getContext("2d").getImageData(0, 0, 60, 80);
        return { shape: [film.width, film.height], pixels: Array.from({ length: 4800 }, (_, i) => data[4 * i]) };
    }"""
    found = phone.evaluate(code)
    assert found["shape"][0] / found["shape"][1] == pytest.approx(0.72, abs=0.06)
    expected = np.asarray(Image.fromarray(make_film(4)).resize((60, 80), Image.Resampling.BOX)).ravel()
    assert np.corrcoef(found["pixels"], expected)[0, 1] > 0.95  # the outline is right to 2 %


def encode_huge() -> bytes:
    """A PNG that is whole but for its pixels, which would be 100 million."""
    chunks = [(b"IHDR", struct.pack(">II", 10_000, 10_000) + bytes([8, 0, 0, 0, 0])), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    packed = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BAD = {
    "empty": (b"", "This file is empty"),
    "text": (b"hello, this is no picture at all" * 9, "Not a film this app can read"),
    "cut off": (encode(make_film(1), "JPEG")[:900], "This file is damaged"),
    "black": (encode(np.zeros((300, 200), np.uint8)), "Nothing to see here"),
    "huge": (encode_huge(), "This picture is too large"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_get_a_calm_message_with_a_way_on(phone: Any, kind: str) -> None:
    content, title = BAD[kind]
    give(phone, "lateral", as_file(content, "film"))
    phone.wait_for_selector("#notice[open]")
    assert phone.inner_text("#notice-title") == title
    assert "rror" not in phone.inner_text("#notice")
    phone.click("#notice-way")
    assert phone.inner_text("#source-title") == "Lateral film"
    phone.set_input_files("#file", as_file(encode(make_film(1))))
    phone.wait_for_selector("#identify:enabled")


def test_a_dicom_file_of_another_modality_is_refused(phone: Any, tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct.dcm", make_film(1), modality="CT")
    give(phone, "ap", tmp_path / "ct.dcm")
    phone.wait_for_selector("#notice[open]")
    assert phone.inner_text("#notice-title") == "Not a radiograph"
    assert "CT" in phone.inner_text("#notice-text")


def test_a_film_that_cant_be_read_is_named_with_what_was_found(phone: Any, tmp_path: Path) -> None:
    write_dicom(tmp_path / "mr.dcm", make_film(1), modality="MR")
    give(phone, "ap", tmp_path / "mr.dcm")
    phone.wait_for_selector("#notice[open]")
    assert phone.inner_text("#notice-text").startswith("mr.dcm: Modality (0008,0060) is MR.")


def compress(path: Path) -> Path:
    film = pydicom.dcmread(path, force=True)
    film.compress(pydicom.uid.JPEG2000Lossless, encoding_plugin="pylibjpeg")
    compressed = path.with_stem("compressed")
    film.save_as(compressed, enforce_file_format=True)
    return compressed


def test_a_compressed_film_brings_its_decoder_when_it_is_opened(phone: Any, tmp_path: Path) -> None:
    requests = []
    phone.context.on("request", lambda request: requests.append(request.url))
    pixels = make_film(3)
    write_dicom(tmp_path / "plain.dcm", pixels)
    give_film(phone, "ap", tmp_path / "plain.dcm")
    assert not any("/codecs/" in url for url in requests)
    shown = 'document.querySelector(".slot[data-view=VIEW] .film").toDataURL()'
    give_film(phone, "lateral", compress(tmp_path / "plain.dcm"))
    assert [url for url in requests if "/codecs/" in url] == [f"{phone.url}codecs/dcmjs-native-codecs.wasm"]
    assert phone.evaluate(shown.replace("VIEW", "lateral")) == phone.evaluate(shown.replace("VIEW", "ap"))


def test_a_decoder_that_cant_be_reached_is_told(phone: Any, tmp_path: Path) -> None:
    write_dicom(tmp_path / "film.dcm", make_film(3))
    film = compress(tmp_path / "film.dcm")
    give_film(phone, "lateral", tmp_path / "film.dcm")
    phone.context.set_offline(True)
    give(phone, "ap", film)
    phone.wait_for_selector("#notice[open]")
    assert phone.inner_text("#notice-title") == "The decoder can't be reached"
    phone.context.set_offline(False)
    phone.click("#notice-way")
    phone.set_input_files("#file", film)
    phone.wait_for_selector(".slot[data-view=ap] .film:not([hidden])")


def test_a_photo_of_something_else_is_answered_calmly(answering: Callable[..., Any]) -> None:
    """A cat: no film is found in it, the whole picture is used, and the model finds no construct."""
    page = answering("no construct found", changed={"found": [0, 0]})
    cat = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    give(page, "ap", as_file(encode(cat, "JPEG"), "cat.jpg"))
    page.wait_for_selector("#use:enabled")
    page.click("#whole")
    page.click("#use")
    page.click("#identify")
    page.wait_for_selector("#result:not([hidden])")
    assert page.inner_text("#verdict") == "No construct found"
    assert page.inner_text("#looked") == "AP · no construct, not used"
    assert "Films read\nAP (no construct found)" in page.inner_text("#facts")
    assert page.is_hidden("#toggle-box")
    assert page.is_hidden("#toggle-heat")
    assert page.is_visible("#again")


def test_reading_can_be_cancelled(answering: Callable[..., Any]) -> None:
    page = answering("identified", "design-a", ("design-a",), delay=60_000)
    give_film(page, "ap", as_file(encode(make_film(1))))
    page.click("#identify")
    page.click("#cancel")
    page.wait_for_selector("#identify:enabled")
    page.wait_for_selector("#state.ready")
    assert page.is_hidden("#result")
    assert page.is_hidden("#notice")


def test_the_back_button_goes_back(phone: Any) -> None:
    open_photo(phone)
    phone.go_back()
    phone.wait_for_selector("#films:not([hidden])")
    assert phone.locator(".slot .film:not([hidden])").count() == 0
    assert phone.is_enabled(".slot[data-view=ap]")


@pytest.mark.parametrize("with_films", [False, True])
def test_the_shared_picture_holds_the_film_only_when_asked(answering: Callable[..., Any], tmp_path: Path, with_films: bool) -> None:
    page = answering("identified", "design-a", ("design-a",))
    film = make_film(7, 400, 400)
    exif = Image.Exif()
    exif[0x010E] = "SECRET NAME"
    give_film(page, "ap", as_file(encode(film, "JPEG", exif=exif, quality=95), "film.jpg"))
    page.click("#identify")
    page.click("#open-share")
    if with_films:
        page.check("#share-films")
    with page.expect_download() as download:
        page.click("#share-now")
    path = tmp_path / "shared.png"
    download.value.save_as(path)
    content = path.read_bytes()
    assert b"SECRET" not in content
    assert b"eXIf" not in content
    shared = np.asarray(Image.open(path).convert("L"))
    shown = np.asarray(Image.fromarray(film).resize((952, 952), Image.Resampling.BILINEAR))[::8, ::8].astype(float)
    windows = (shared[top : top + 952 : 8, 64 : 64 + 952 : 8] for top in range(0, shared.shape[0] - 952, 2))
    agreements = [np.corrcoef(window.ravel(), shown.ravel())[0, 1] for window in windows]
    assert (max(agreements, default=0) > 0.95) == with_films
    assert shared.std() > 5


def test_the_device_can_check_its_answers(real_phone: Any) -> None:
    real_phone.click("#open-about")
    real_phone.click("#self-test")
    real_phone.get_by_text("This device answers").wait_for()
    assert real_phone.inner_text("#self-test-result") == "This device answers as the one that made the model."


def test_a_browser_without_simd_is_told(chromium: Any, address: str, watch: Callable[..., Any]) -> None:
    context = watch(chromium.new_context(**PHONE))
    context.add_init_script("WebAssembly.validate = () => false")
    page = context.new_page()
    page.goto(address)
    assert page.inner_text("#stopped-title") == "This browser is too old"
    assert page.is_visible("#retry")


# -- the camera --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_camera(launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Chromium whose camera shows a simulated photo of a screen."""
    from edgekit.phantom.photo.snapshot import photograph

    photo = photograph(make_film(4, 600, 800), np.random.default_rng(2), "mild")
    clip = tmp_path_factory.mktemp("camera") / "clip.mjpeg"
    clip.write_bytes(encode(photo.pixels[: photo.pixels.shape[0] // 16 * 16, : photo.pixels.shape[1] // 16 * 16], "JPEG", quality=90) * 3)
    fakes = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={clip}")
    browser = launch(*fakes)
    yield browser
    browser.close()


def test_a_photo_from_the_camera_becomes_a_film(with_camera: Any, address: str, watch: Callable[..., Any]) -> None:
    context = watch(with_camera.new_context(**PHONE))
    page = context.new_page()
    page.goto(address)
    page.click(".slot[data-view=ap]")
    page.click("#choose-camera")
    page.wait_for_selector("#shutter:enabled")
    assert page.is_visible(".guide")
    page.set_viewport_size({"width": 844, "height": 390})  # the phone is turned while the camera runs
    page.click("#shutter")
    page.wait_for_selector("#use:enabled")
    assert page.evaluate("document.getElementById('video').srcObject") is None  # the camera is off again
    page.set_viewport_size(PHONE["viewport"])
    page.click("#use")
    page.wait_for_selector("#identify:enabled")


def test_a_refused_camera_leaves_other_ways(phone: Any) -> None:
    phone.context.grant_permissions([])
    phone.click(".slot[data-view=ap]")
    phone.click("#choose-camera")
    phone.wait_for_selector("#notice[open]")
    assert phone.inner_text("#notice-title") == "The camera is not available"
    assert phone.is_visible("#notice-camera")
    with phone.expect_file_chooser() as chooser:
        phone.click("#notice-camera")
    chooser.value.set_files(as_file(encode(make_film(1))))
    phone.wait_for_selector("#identify:enabled")
