from __future__ import annotations

import csv
import errno
import io
import re
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest
from pedicle_screws import VIEWS
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)

from edgekit import cli, deidentification
from edgekit.cli import run as edgekit
from edgekit.deidentification import deidentify_studies
from edgekit.errors import InputError
from edgekit.radiograph import read_radiograph
from edgekit.studies import read_studies, write_studies
from edgekit.types import Study

SECRET = "SECRET"
REAL = Path(data_store.__file__).parent / "data"


def make_lut(**notes: str) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "OW", struct.pack("<4096H", *range(4095, -1, -1)))
    for name, value in notes.items():
        setattr(item, name, value)
    return item


def write_dicom(path: Path, stored: np.ndarray, **elements: object) -> Path:
    """A film that tells who the patient is in every way that there is beside the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = elements.pop("syntax", ExplicitVRLittleEndian)
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = syntax
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = film.StudyInstanceUID = film.SeriesInstanceUID = generate_uid()
    film.PatientName, film.PatientID, film.PatientBirthDate, film.StudyDate = f"{SECRET}^NAME", f"{SECRET}1", "19491231", "20240131"
    film.AccessionNumber, film.InstitutionName, film.ImageComments = f"{SECRET}2", f"{SECRET} hospital", f"{SECRET} was here"
    film.WindowCenterWidthExplanation, film.StationName, film.ProtocolName = f"{SECRET} window", f"{SECRET}3", f"{SECRET}4"
    film.DerivationDescription = SECRET
    block = film.private_block(0x0011, f"{SECRET} CORP", create=True)
    block.add_new(1, "LO", f"{SECRET}5")
    request = Dataset()
    request.RequestedProcedureDescription = f"{SECRET}6"
    film.RequestAttributesSequence = [request]
    film.Rows, film.Columns = stored.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated = film.BitsStored = 8 * stored.itemsize
    film.PixelRepresentation = int(stored.dtype.kind == "i")
    film.ViewPosition, film.ImagerPixelSpacing = "LL", [0.15, 0.25]
    film.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes() if syntax == ExplicitVRBigEndian else stored.tobytes()
    for name, value in elements.items():
        setattr(film, name, value)
    film["PixelData"].VR = "OB" if stored.itemsize == 1 or syntax.is_encapsulated else "OW"
    film.HighBit = elements.get("HighBit", film.BitsStored - 1)
    film.preamble = SECRET.encode().ljust(128, b"\0")
    film.save_as(path, enforce_file_format=True)
    return path


def copy_one(film: Path, out: Path) -> Path:
    """Copy a table of one film; return the new film."""
    table = film.parent / "studies.csv"
    write_studies(table, [Study(f"{SECRET}1", "x", films={"ap": film, "lateral": None})])
    (row,) = read_studies(deidentify_studies(table, out).table)
    assert row.film("ap") is not None
    return row.film("ap")


def read_key(path: Path) -> dict[str, str]:
    """Return the new names by the old ones."""
    with path.open(newline="") as file:
        return {row["original_patient_id"]: row["patient_id"] for row in csv.DictReader(file)}


def assert_no_secret(folder: Path, secrets: tuple[bytes, ...] = (SECRET.encode(), b"19491231", b"20240131")) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert SECRET not in path.name
        assert not [secret for secret in secrets if secret in path.read_bytes()], path


RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (40, 30), np.uint16)
SIGNED = RNG.integers(-2000, 2000, (40, 30), np.int16)
WRITTEN = np.frombuffer((SECRET.encode() * 400)[:2400], "<u2").reshape(40, 30) & 0xF000  # half of the letters, in the unused bits
CASES = {
    "percentiles": (TWELVE, {"BitsStored": 12}),
    "inverted": (TWELVE, {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"}),
    "overlay bits": (TWELVE | WRITTEN, {"BitsStored": 12}),
    "left-aligned": (TWELVE << 4 | 9, {"BitsStored": 12, "HighBit": 15}),
    "window": (TWELVE, {"BitsStored": 12, "WindowCenter": [900, 2000], "WindowWidth": [700, 500], "VOILUTFunction": "SIGMOID"}),
    "padding": (TWELVE, {"BitsStored": 12, "PixelPaddingValue": 0, "PixelPaddingRangeLimit": 900}),
    "signed": (SIGNED, {"RescaleSlope": 2, "RescaleIntercept": -7, "WindowCenter": 100, "WindowWidth": 3000}),
    "eight bits": (TWELVE.astype(np.uint8), {"PresentationLUTShape": "INVERSE"}),
    "VOI LUT": (TWELVE, {"BitsStored": 12, "VOILUTSequence": [make_lut(LUTExplanation=SECRET)]}),
    "modality LUT": (TWELVE, {"BitsStored": 12, "ModalityLUTSequence": [make_lut(ModalityLUTType="US", LUTExplanation=SECRET)]}),
    "big endian": (TWELVE, {"BitsStored": 12, "syntax": ExplicitVRBigEndian}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_dicom_film_keeps_its_pixels_and_no_secret(tmp_path, case):
    stored, elements = CASES[case]
    film = write_dicom(tmp_path / "in" / f"{SECRET}.dcm", stored, **elements)
    copy = copy_one(film, tmp_path / "out")
    original, read = read_radiograph(film), read_radiograph(copy)
    np.testing.assert_array_equal(read.pixels, original.pixels)
    assert original.pixels.std() > 20, "a film with something on it"
    assert (read.view, read.spacing_mm) == ("lateral", (0.15, 0.25))
    assert_no_secret(tmp_path / "out")


def test_stored_values_are_kept_and_other_bits_are_not(tmp_path):
    stored, elements = CASES["overlay bits"]
    copy = pydicom.dcmread(copy_one(write_dicom(tmp_path / "in" / "a.dcm", stored, **elements), tmp_path / "out"))
    np.testing.assert_array_equal(copy.pixel_array, TWELVE)
    assert (copy.BitsStored, copy.HighBit) == (12, 11)


def test_a_compressed_film_loses_the_codecs_comments(tmp_path):
    picture = io.BytesIO()
    Image.fromarray(np.add.outer(np.arange(40), 4 * np.arange(30)).astype(np.uint8)).save(picture, "JPEG", comment=f"{SECRET} comment")
    assert SECRET.encode() in picture.getvalue()
    values = {"syntax": JPEGBaseline8Bit, "PixelData": encapsulate([picture.getvalue()]), "LossyImageCompression": "01"}
    film = write_dicom(tmp_path / "in" / "a.dcm", np.zeros((40, 30), np.uint8), **values)
    np.testing.assert_array_equal(read_radiograph(copy_one(film, tmp_path / "out")).pixels, read_radiograph(film).pixels)
    assert_no_secret(tmp_path / "out")


def test_the_header_is_new(tmp_path):
    film = write_dicom(tmp_path / "in" / "a.dcm", TWELVE, BitsStored=12, Modality="CR", Manufacturer="Maker")
    original, copy = pydicom.dcmread(film), pydicom.dcmread(copy_one(film, tmp_path / "out"))
    assert (copy.PatientID, str(copy.PatientName), copy.PatientIdentityRemoved) == ("p0001", "p0001", "YES")
    assert (copy.Modality, copy.Manufacturer) == ("CR", "Maker")
    uids = [copy.SOPInstanceUID, copy.StudyInstanceUID, copy.SeriesInstanceUID]
    assert len({*uids, original.SOPInstanceUID}) == 4
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert not [element for element in copy if element.tag.is_private or (element.VR in ("DA", "TM", "DT") and element.value)]


def test_real_films_of_many_makers(tmp_path):
    """Files that come with pydicom, those that could be films: no identifier of the header is anywhere in the copy."""
    copied = 0
    for number, source in enumerate(sorted(path for path in REAL.glob("*.dcm") if path.stat().st_size < 1_000_000)):
        film = tmp_path / f"{number}" / "film.dcm"
        film.parent.mkdir()
        film.write_bytes(re.sub(rb"(\x08\x00\x60\x00(?:CS)?\x02\x00(?:\0\0)?)(CT|MR|NM|US)", rb"\1CR", source.read_bytes(), count=1))
        try:
            pixels = read_radiograph(film).pixels
        except InputError:  # of several frames, in colour, or without pixels
            continue
        copy = copy_one(film, tmp_path / f"{number}" / "out")
        np.testing.assert_array_equal(read_radiograph(copy).pixels, pixels, source.name)
        names = ("PatientName", "PatientID", "InstitutionName", "StudyInstanceUID", "SOPInstanceUID", "AccessionNumber", "StudyDate")
        told = [str(pydicom.dcmread(film, force=True).get(name, "")).encode() for name in names]
        assert_no_secret(copy.parent, tuple(text for text in told if len(text) >= 6))
        copied += 1
    assert copied >= 15


def test_pictures_lose_their_notes(tmp_path):
    (tmp_path / "in").mkdir()
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", f"{SECRET}^NAME")
    Image.fromarray(TWELVE * 15).save(tmp_path / "in" / "ap.png", pnginfo=notes)
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, f"{SECRET} film"
    Image.fromarray(TWELVE.astype(np.uint8)).save(tmp_path / "in" / "lateral.jpg", exif=turned)
    films = {"ap": tmp_path / "in" / "ap.png", "lateral": tmp_path / "in" / "lateral.jpg"}
    write_studies(tmp_path / "in" / "studies.csv", [Study(SECRET, "x", films=films)])
    (row,) = read_studies(deidentify_studies(tmp_path / "in" / "studies.csv", tmp_path / "out").table)
    for view in VIEWS:
        np.testing.assert_array_equal(read_radiograph(row.film(view)).pixels, read_radiograph(films[view]).pixels)
        with Image.open(row.film(view)) as copy:
            assert copy.format == "PNG"
            assert copy.info == {}
    assert read_radiograph(row.film("lateral")).pixels.shape == (30, 40), "turned as the original says"
    assert_no_secret(tmp_path / "out")


# -- the table ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path) -> Path:
    films = [write_dicom(tmp_path / "in" / f"{SECRET}-{number}.dcm", TWELVE + np.uint16(number), BitsStored=13) for number in range(5)]
    rows = [
        Study(f"{SECRET}-b", "x", films={"ap": films[0], "lateral": films[1]}, boxes={"ap": (1.0, 2.0, 20.0, 30.5), "lateral": None}),
        Study(f"{SECRET}-a", "none", films={"ap": None, "lateral": films[2]}),
        Study(f"{SECRET}-b", "x", exclude="two brands", films={"ap": films[3], "lateral": None}),
        Study(f"{SECRET}-c", None, exclude="cut off", films={"ap": films[4], "lateral": None}),
    ]
    write_studies(tmp_path / "in" / "studies.csv", rows)
    return tmp_path / "in" / "studies.csv"


def test_rows_keep_everything_but_the_patient(table, tmp_path):
    copy = deidentify_studies(table, tmp_path / "out")
    rows, names = read_studies(copy.table), read_key(copy.key)
    assert [row.patient_id for row in rows] == [names[row.patient_id] for row in read_studies(table)]
    assert {*names.values()} == {"p0001", "p0002", "p0003"}
    for row, old in zip(rows, read_studies(table), strict=True):
        assert (row.brand, row.has.get("crosslink"), row.split, row.box("ap"), row.exclude) == (
            old.brand,
            old.has.get("crosslink"),
            old.split,
            old.box("ap"),
            old.exclude,
        )
        for view in VIEWS:
            assert (row.film(view) is None) == (old.film(view) is None)
            if row.film(view):
                np.testing.assert_array_equal(read_radiograph(row.film(view)).pixels, read_radiograph(old.film(view)).pixels)
    assert (copy.patients, copy.films, copy.left_out, copy.reasons) == (3, 5, 0, ("cut off", "two brands"))
    assert_no_secret(tmp_path / "out")


def test_the_key_lies_outside(table, tmp_path):
    copy = deidentify_studies(table, tmp_path / "out")
    assert copy.key == tmp_path / "out-key.csv"
    assert stat.S_IMODE(copy.key.stat().st_mode) == 0o600
    assert read_key(copy.key).keys() == {f"{SECRET}-{letter}" for letter in "abc"}


def test_films_that_cannot_be_read_are_all_named_and_nothing_is_left(table, tmp_path):
    for number in (1, 2, 4):
        (table.parent / f"{SECRET}-{number}.dcm").write_bytes(b"")
    with pytest.raises(InputError, match="2 films can't be copied") as caught:
        deidentify_studies(table, tmp_path / "out")
    assert f"{SECRET}-1.dcm" in caught.value.message
    assert f"{SECRET}-2.dcm" in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_full_disk_is_no_fault_of_the_films(table, tmp_path, monkeypatch, capsys):
    def fill(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Dataset, "save_as", fill)
    assert edgekit(["studies", "deidentify", str(table), str(tmp_path / "out")]) == 4
    shown = capsys.readouterr().err
    assert "The disk is full" in shown
    assert ".dcm" not in shown
    assert not (tmp_path / "out").exists()


def test_excluded_rows_that_cannot_be_read_are_left_out(table, tmp_path):
    (table.parent / "cut-off.dcm").write_bytes(b"")
    rows = read_studies(table)
    write_studies(table, [*rows[:3], rows[3].with_film("lateral", table.parent / "cut-off.dcm", rows[3].box("lateral"))])
    copy = deidentify_studies(table, tmp_path / "out")
    assert (copy.left_out, copy.films, copy.patients) == (1, 4, 2)
    names = read_key(copy.key)
    assert [row.patient_id for row in read_studies(copy.table)] == [names[f"{SECRET}-{letter}"] for letter in "bab"]
    assert len(list((tmp_path / "out" / "films").iterdir())) == 4


@pytest.mark.parametrize("name", ["out", "out-key.csv"])
def test_nothing_is_overwritten(table, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} exists"):
        deidentify_studies(table, tmp_path / "out")
    assert (tmp_path / name).read_text() == "mine"


def test_films_with_burned_in_text_are_named(tmp_path):
    film = write_dicom(tmp_path / "in" / "a.dcm", TWELVE, BitsStored=12, BurnedInAnnotation="YES")
    write_studies(tmp_path / "in" / "studies.csv", [Study("a", "x", films={"ap": film, "lateral": None})])
    assert deidentify_studies(tmp_path / "in" / "studies.csv", tmp_path / "out").burned_in == ("p0001-ap.dcm",)


@pytest.mark.parametrize("says", ["NO", None])
def test_text_is_found_where_the_header_denies_it(tmp_path, says):
    notes = {} if says is None else {"BurnedInAnnotation": says}
    for number, words in enumerate(("", "L", "ROE, JANE 1949-12-31", "4711 0815")):
        row, column = np.mgrid[:400, :300]
        grey = 1800 + 1400 * np.sin(column / 96) * np.sin(row / 40) + np.random.default_rng(number).normal(0, 100, (400, 300))
        picture = Image.fromarray(np.clip(grey, 0, 3900).astype(np.uint16))
        ImageDraw.Draw(picture).text((12, 30), words, fill=4095, font=ImageFont.load_default(16))
        write_dicom(tmp_path / "in" / f"{number}.dcm", np.asarray(picture), BitsStored=12, **notes)
    films = [tmp_path / "in" / f"{number}.dcm" for number in range(4)]
    write_studies(
        tmp_path / "in" / "studies.csv", [Study(f"{number}", "x", films={"ap": film, "lateral": None}) for number, film in enumerate(films)]
    )
    copy = deidentify_studies(tmp_path / "in" / "studies.csv", tmp_path / "out")
    names = read_key(copy.key)
    assert copy.burned_in == tuple(sorted(f"{names[patient]}-ap.dcm" for patient in "23"))
    for patient in "0123":
        said = pydicom.dcmread(tmp_path / "out" / "films" / f"{names[patient]}-ap.dcm").get("BurnedInAnnotation")
        assert said == ("YES" if patient in "23" else says)


# -- what belongs together -----------------------------------------------------------------------------------------------------


def test_shared_uids_stay_shared(tmp_path):
    study, frame = generate_uid(), generate_uid()
    uids = {"StudyInstanceUID": study, "FrameOfReferenceUID": frame}
    films = [write_dicom(tmp_path / "in" / f"{n}.dcm", TWELVE, BitsStored=12, SeriesInstanceUID=generate_uid(), **uids) for n in range(2)]
    other = write_dicom(tmp_path / "in" / "other.dcm", TWELVE, BitsStored=12)
    write_studies(
        tmp_path / "in" / "studies.csv",
        [Study("a", "x", films={"ap": films[0], "lateral": films[1]}), Study("b", "x", films={"ap": other, "lateral": None})],
    )
    rows = read_studies(deidentify_studies(tmp_path / "in" / "studies.csv", tmp_path / "out").table)
    ap, lateral, other = (pydicom.dcmread(film) for film in (rows[0].film("ap"), rows[0].film("lateral"), rows[1].film("ap")))
    assert ap.StudyInstanceUID == lateral.StudyInstanceUID not in (study, other.StudyInstanceUID)
    assert ap.FrameOfReferenceUID == lateral.FrameOfReferenceUID != frame
    assert "FrameOfReferenceUID" not in other
    assert ap.SeriesInstanceUID != lateral.SeriesInstanceUID
    assert ap.SOPInstanceUID != lateral.SOPInstanceUID


def test_lossy_compression_stays_said(tmp_path):
    lossy = {"LossyImageCompression": "01", "LossyImageCompressionRatio": 12.5, "LossyImageCompressionMethod": "ISO_10918_1"}
    copy = pydicom.dcmread(copy_one(write_dicom(tmp_path / "in" / "a.dcm", TWELVE, BitsStored=12, **lossy), tmp_path / "out"))
    assert {name: copy.get(name) for name in lossy} == lossy


def test_pseudonyms_do_not_depend_on_the_order_of_rows(table, tmp_path):
    first = read_key(deidentify_studies(table, tmp_path / "out").key)
    write_studies(table, read_studies(table)[::-1])
    assert read_key(deidentify_studies(table, tmp_path / "again").key) == first


def test_a_second_delivery_keeps_the_pseudonyms_of_the_first(table, tmp_path):
    rows = read_studies(table)
    first = deidentify_studies(table, tmp_path / "first")
    names = read_key(first.key)
    films = {"0": rows[1].film("lateral"), "c": rows[3].film("ap"), "b": rows[0].film("ap"), "z": rows[2].film("ap")}
    write_studies(table, [Study(f"{SECRET}-{patient}", "x", films={"ap": film, "lateral": None}) for patient, film in films.items()])
    second = deidentify_studies(table, tmp_path / "second", first.key)
    assert second.key == first.key
    assert not (tmp_path / "second-key.csv").exists()
    grown = read_key(first.key)
    assert grown.items() > names.items()
    assert {grown[f"{SECRET}-0"], grown[f"{SECRET}-z"]} == {"p0004", "p0005"}
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    again = next(row for row in read_studies(second.table) if row.patient_id == names[f"{SECRET}-b"])
    before = next(row for row in read_studies(first.table) if row.patient_id == names[f"{SECRET}-b"])
    assert again.film("ap").read_bytes() == before.film("ap").read_bytes(), "the same film of the same patient, down to its UIDs"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [("p0002", "p0001", "p0001 is there twice"), (f"{SECRET}-a", f"{SECRET}-b", f"{SECRET}-b is there twice"), ("p0002", "anna", "line 3")],
)
def test_a_key_that_does_not_fit_is_refused(table, tmp_path, capsys, old, new, fault):
    key = deidentify_studies(table, tmp_path / "first").key
    key.write_text(changed := key.read_text().replace(old, new))
    assert cli.run(["studies", "deidentify", str(table), str(tmp_path / "second"), "--key", str(key)]) == 4
    said = capsys.readouterr().err
    assert fault in said
    assert "give the key that deidentify wrote" in said
    assert key.read_text() == changed
    assert not (tmp_path / "second").exists()


# -- interruptions -------------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from edgekit import deidentification

calls = []
def deadly(function):
    def call_and_die(*values):
        done = function(*values)
        calls.append(function)
        if len(calls) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call_and_die

deidentification._write_key = deadly(deidentification._write_key)
deidentification.write_bytes = deadly(deidentification.write_bytes)
deidentification.write_studies = deadly(deidentification.write_studies)
deidentification.deidentify_studies(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("calls", [1, 3, 7], ids=["key", "films", "table"])
def test_a_job_that_was_killed_is_done_by_the_same_command(table, tmp_path, calls):
    done = subprocess.run([sys.executable, "-c", KILLED, table, tmp_path / "out", f"{calls}"], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    key = (tmp_path / "out-key.csv").read_text()
    copied = {path.name: path.read_bytes() for path in tmp_path.rglob(".out.partial/films/*.dcm")}
    assert len(copied) == min(calls - 1, 5)
    assert not (tmp_path / "out").exists()
    copy = deidentify_studies(table, tmp_path / "out")
    assert (copy.films, copy.patients) == (5, 3)
    assert copy.key.read_text() == key
    assert {name: (tmp_path / "out" / "films" / name).read_bytes() for name in copied} == copied
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out-key.csv"]


def test_a_full_disk_is_said_to_be_one(table, tmp_path, capsys, monkeypatch):
    def refuse(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(deidentification, "write_bytes", refuse)
    assert cli.run(["studies", "deidentify", str(table), str(tmp_path / "out")]) == 4
    said = capsys.readouterr().err
    assert "The disk is full" in said
    assert "can't be" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
