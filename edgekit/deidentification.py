"""Clean copies of films and their table: the pixels and what edgekit reads beside them, and nothing else.

DICOM films follow the Basic Application Level Confidentiality Profile (PS3.15 E.2 and table E.1-1) from the safe side: instead of removing
what is known to identify, a new data set is made and only `KEPT` is copied into it. Pixels are decoded and written anew, so that nothing
survives in bits above those stored, in a codec's comments or in padding. Text that is burned into the pixels stays: no profile of this
kind touches it (the Clean Pixel Data Option would, PS3.15 E.3.1). Films on which it is found are named, whatever their header says.

The key is written before the first film and holds all that copies depend on beside the originals: pseudonyms, and a secret of each patient
that new UIDs are made from. A job that was killed begins again with the key it wrote, and so makes the same copies.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import secrets
import shutil
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.files import replacing, write_bytes
from edgekit.progress import track
from edgekit.radiograph import read_radiograph
from edgekit.radiograph.dicom import VIEW_POSITIONS, read_stored
from edgekit.radiograph.text import has_text
from edgekit.studies import read_studies, write_studies
from edgekit.tables import read_rows, refuse_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgekit.types import Study

KEPT = (
    "SOPClassUID",
    "Modality",
    "Manufacturer",
    "ImagerPixelSpacing",
    "PixelSpacing",
    "PhotometricInterpretation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "RescaleIntercept",
    "RescaleSlope",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
)
"""Elements that are copied as they are: what was compressed with loss once stays marked so (PS3.3 C.7.6.1.1.5).

View Position is kept where it names a view, and of lookup tables what `KEPT_OF_LUT` says.
"""
LUTS, KEPT_OF_LUT = ("ModalityLUTSequence", "VOILUTSequence"), ("LUTDescriptor", "LUTData", "ModalityLUTType")
_EMPTY = (  # type 2: must be there, may be empty
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "SeriesNumber",
    "InstanceNumber",
)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
"""Replaced so that films of a patient which shared one share the new one (PS3.15 table E.1-1, action U)."""
KEY_COLUMNS = ("patient_id", "original_patient_id", "secret")
METHOD = "edgekit: pixels and allow-listed elements only, new UIDs"  # at most 64 characters (LO)


@dataclass(frozen=True, slots=True)
class CleanCopy:
    """What `deidentify_studies` made.

    Attributes
    ----------
    table, key
        The new ``studies.csv``; which patient is which, outside its folder.
    patients, films
        How many there are.
    burned_in
        New films on which text is burned in: their original says so (Burned In Annotation), or it was found (`has_text`).
    reasons
        What the column ``exclude`` says: copied word for word.
    left_out
        Excluded rows whose films can't be read, and so can't be cleaned.
    """

    table: Path
    key: Path
    patients: int
    films: int
    burned_in: tuple[str, ...]
    reasons: tuple[str, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class _Pseudonym:
    """A patient's new name, and what the new UIDs are made from beside the old ones: without it nobody can tell which became which."""

    name: str
    secret: str


def deidentify_studies(table: Path, out: Path, key: Path | None = None) -> CleanCopy:
    """Copy a table and its films without anything that tells who the patients are; all of it or nothing.

    Patients become p0001, p0002, ... in an order that depends on all of their names and not on the table's. A DICOM film becomes a DICOM
    film with the same stored values; a PNG or JPEG becomes an 8-bit gray PNG of what edgekit reads. Every copy is read back and must give
    the pixels, view and spacing of its original.

    Parameters
    ----------
    table
        ``studies.csv``.
    out
        Folder to make.
    key
        The key of an earlier delivery: its patients keep their pseudonyms, and their films' UIDs fit those delivered; new patients are
        added to it. None makes a key beside `out`, ``<out>-key.csv``. Only its owner may read it (mode 0600).

    Raises
    ------
    InputError
        `out` or its key exists, `key` is no key, or films can't be read or copied exactly: all of them are listed.
    """
    own, partial = out.with_name(f"{out.name}-key.csv"), out.with_name(f".{out.name}.partial")
    if out.exists():
        raise InputError(f"{out} exists", "choose another folder: copies and keys are never mixed")
    if own.exists() and (not partial.exists() if key is None else key.resolve() != own.resolve()):
        raise InputError(
            f"{own} exists", f"choose another folder: copies and keys are never mixed; --key {own} goes on with the pseudonyms in it"
        )
    known = _read_key(own) if key is None and own.exists() else {} if key is None else _read_key(key)
    rows = read_studies(table)
    names = _name_patients((row.patient_id for row in rows), known)
    shutil.rmtree(partial, ignore_errors=True)  # of a job that was killed; its films are made again, and are the same
    (partial / "films").mkdir(parents=True)  # before the key: it tells that the key is an unfinished job's
    try:
        _write_key(key or own, names)
        clean, burned_in = _copy_rows(rows, names, partial)
        write_studies(partial / "studies.csv", clean)
        films = {film for row in clean for film in row.given.values()}
        for film in set((partial / "films").iterdir()) - films:
            film.unlink()  # one of two, of a row that was left out because of the other
        partial.rename(out)
    except BaseException:
        if key is None:
            own.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return CleanCopy(
        table=out / "studies.csv",
        key=key or own,
        patients=len({row.patient_id for row in clean}),
        films=len(films),
        burned_in=tuple(sorted(film.name for film in films & burned_in)),
        reasons=tuple(sorted({row.exclude for row in clean if row.exclude is not None})),
        left_out=len(rows) - len(clean),
    )


def _name_patients(patients: Iterable[str], known: dict[str, _Pseudonym]) -> dict[str, _Pseudonym]:
    """Return `known` and a pseudonym of each patient who is not in it; numbers go on after the largest."""
    last = max((int(each.name[1:]) for each in known.values()), default=0)
    # By a hash: the order of the rows, or of the names, could tell something of who was first.
    new = sorted(set(patients) - known.keys(), key=lambda patient: hashlib.sha256(patient.encode()).digest())
    return {**known, **{patient: _Pseudonym(f"p{number:04}", secrets.token_hex(16)) for number, patient in enumerate(new, last + 1)}}


def _copy_rows(rows: Sequence[Study], names: dict[str, _Pseudonym], folder: Path) -> tuple[list[Study], set[Path]]:
    """Copy the films of all rows, and tell which have text; excluded rows whose films can't be read are left out."""
    problems: list[str] = []
    burned_in: set[Path] = set()
    clean: list[Study] = []
    met: dict[str, int] = {}
    for row in track(rows, "copying films"):
        patient = names[row.patient_id]
        met[patient.name] = met.get(patient.name, 0) + 1
        stem = patient.name if met[patient.name] == 1 else f"{patient.name}-{met[patient.name]}"
        try:
            films = {view: _copy_film(film, folder / "films" / f"{stem}-{view}", patient, burned_in) for view, film in row.given.items()}
        except EdgekitError as error:
            if row.exclude is None:
                problems.append(error.message)
            continue
        clean.append(replace(row, patient_id=patient.name, films={view: films.get(view) for view in row.films}))
    if problems:
        count = "1 film" if len(problems) == 1 else f"{len(problems)} films"
        raise InputError(
            f"{count} can't be copied:\n  " + "\n  ".join(problems), "Replace the films, or say why in the column 'exclude' of their rows."
        )
    return clean, burned_in


def _copy_film(film: Path, stem: Path, patient: _Pseudonym, burned_in: set[Path]) -> Path:
    """Write a clean copy and read it back; return its path, and add it to those with burned in text if it has some."""
    from PIL import Image

    original = read_radiograph(film)
    found = has_text(original.pixels)
    with film.open("rb") as file:
        is_picture = file.read(3) in (b"\x89PN", b"\xff\xd8\xff")
    if is_picture:
        copy = stem.with_name(f"{stem.name}.png")
        Image.fromarray(original.pixels).save(copy)
    else:
        copy = stem.with_name(f"{stem.name}.dcm")
        try:
            content, found = _clean_dicom(film, stem.name, patient, found)
        except Exception as error:  # pydicom refuses in many ways to write what it was willing to read
            raise InputError(f"{film}: can't be written as a clean DICOM film ({error})", "export the film again") from error
        write_bytes(copy, content)  # a full disk is no fault of the film
    if found:
        burned_in.add(copy)
    read = read_radiograph(copy)
    same = np.array_equal(read.pixels, original.pixels) and (read.view, read.spacing_mm) == (original.view, original.spacing_mm)
    if not same:
        copy.unlink()
        raise InputError(f"{film}: the copy does not read as its original does", "convert the film to Explicit VR Little Endian first")
    return copy


def _clean_dicom(film: Path, stem: str, patient: _Pseudonym, has_text: bool) -> tuple[bytes, bool]:
    """Return a new DICOM file with the pixels and `KEPT` of one that `read_radiograph` accepts, and whether it says that it has text.

    It says so where its original does, and where text was found on it (Burned In Annotation, PS3.3 C.7.6.1).
    """
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, RLELossless, generate_uid

    warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")  # how a value is spelled is only a formality
    original = pydicom.dcmread(film, force=True)
    clean = Dataset()
    clean.file_meta = FileMetaDataset()
    clean.SOPClassUID = ComputedRadiographyImageStorage  # where the original does not say
    _copy_elements(original, clean, KEPT)
    for name in LUTS:
        if original.get(name):
            item = Dataset()
            _copy_elements(original[name].value[0], item, KEPT_OF_LUT)
            setattr(clean, name, [item])
    position = str(original.get("ViewPosition") or "").strip().upper()
    if position in VIEW_POSITIONS:
        clean.ViewPosition = position
    for name in _EMPTY:
        setattr(clean, name, "")
    if has_text:
        clean.BurnedInAnnotation = "YES"
    clean.PatientName = clean.PatientID = patient.name
    clean.PatientIdentityRemoved, clean.DeidentificationMethod = "YES", METHOD
    clean.LongitudinalTemporalInformationModified = "REMOVED"
    for name in UIDS:
        old = str(original.get(name) or "")
        if old or name != "FrameOfReferenceUID":  # the others are type 1; where one is missing, the film shares it with none
            setattr(clean, name, generate_uid(entropy_srcs=[patient.secret, name, old or stem]))
    clean.file_meta.MediaStorageSOPClassUID, clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPClassUID, clean.SOPInstanceUID
    stored = read_stored(film)  # without what other bits of a cell hold: an overlay with text, in old files
    clean.Rows, clean.Columns = stored.patterns.shape
    clean.SamplesPerPixel, clean.PixelRepresentation = 1, int(stored.is_signed)
    clean.BitsStored, clean.HighBit, clean.BitsAllocated = stored.bits, stored.bits - 1, 8 if stored.bits <= 8 else 16
    values = stored.values.astype(f"{'i' if stored.is_signed else 'u'}{clean.BitsAllocated // 8}")[stored.patterns]
    clean.compress(RLELossless, values, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    file = io.BytesIO()  # pydicom would name the element that was being written, not a full disk
    clean.save_as(file, enforce_file_format=True)
    return file.getvalue(), clean.get("BurnedInAnnotation") == "YES"


def _copy_elements(source: Any, target: Any, names: Sequence[str]) -> None:
    from copy import deepcopy

    for name in names:
        if name in source:
            target.add(deepcopy(source[name]))


def _read_key(path: Path) -> dict[str, _Pseudonym]:
    """Return the pseudonyms of a key by original patient."""
    names: dict[str, _Pseudonym] = {}
    problems: list[str] = []
    met: set[str] = set()
    for row in read_rows(path, KEY_COLUMNS):
        name, patient, secret = (row.cells[column] for column in KEY_COLUMNS)
        if not re.fullmatch(r"p[0-9]{4,}", name) or not re.fullmatch(r"[0-9a-f]{32}", secret) or not patient:
            problems.append(f"line {row.line}: no pseudonym, patient and secret as deidentify writes them")
        elif name in met or patient in names:
            problems.append(f"line {row.line}: {name if name in met else patient} is there twice")
        met.add(name)
        names[patient] = _Pseudonym(name, secret)
    refuse_rows(path, problems, "give the key that deidentify wrote, <OUT>-key.csv, unchanged; without --key a new one is made")
    return names


def _write_key(path: Path, names: dict[str, _Pseudonym]) -> None:
    """Write the key so that nobody but its owner can read it, at no time."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([KEY_COLUMNS, *((each.name, old, each.secret) for old, each in names.items())])
    with replacing(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text(text.getvalue(), encoding="utf-8")
