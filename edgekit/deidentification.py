"""Clean copies of films and their table: the pixels and what edgekit reads beside them, and nothing else.

DICOM films follow the Basic Application Level Confidentiality Profile (PS3.15 E.2 and table E.1-1) from the safe side: instead of removing
what is known to identify, a new data set is made and only `KEPT` is copied into it. Pixels are decoded and written anew, so that nothing
survives in bits above those stored, in a codec's comments or in padding. Text that is burned into the pixels stays: no profile of this
kind touches it (the Clean Pixel Data Option would).
"""

from __future__ import annotations

import csv
import io
import shutil
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.files import write_text
from edgekit.progress import track
from edgekit.radiograph import read_radiograph
from edgekit.radiograph.dicom import VIEW_POSITIONS, read_stored
from edgekit.studies import read_studies, write_studies
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Sequence
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
    "RescaleIntercept",
    "RescaleSlope",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
)
"""Elements that are copied as they are. View Position is kept where it names a view, and of lookup tables what `KEPT_OF_LUT` says."""
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
        New films whose original says that text is burned in (Burned In Annotation).
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


def deidentify_studies(table: Path, out: Path) -> CleanCopy:
    """Copy a table and its films without anything that tells who the patients are; all of it or nothing.

    Patients become p0001, p0002, ... in the order of the table. A DICOM film becomes a DICOM film with the same stored values; a PNG or
    JPEG becomes an 8-bit gray PNG of what edgekit reads. Every copy is read back and must give the pixels, view and spacing of its
    original.

    Parameters
    ----------
    table
        ``studies.csv``.
    out
        Folder to make. The key is written beside it, ``<out>-key.csv``.

    Raises
    ------
    InputError
        `out` or its key exists, or films can't be read or copied exactly: all of them are listed.
    """
    key = out.with_name(f"{out.name}-key.csv")
    for path in (out, key):
        if path.exists():
            raise InputError(f"{path} exists", "choose another folder: copies and keys are never mixed")
    rows = read_studies(table)
    names = {patient: f"p{number:04}" for number, patient in enumerate(dict.fromkeys(row.patient_id for row in rows), 1)}
    partial = out.with_name(f".{out.name}.partial")
    try:
        clean = _copy_rows(rows, names, partial)
        write_studies(partial / "studies.csv", clean)
        films = {film for row in clean for view in VIEWS if (film := row.film(view)) is not None}
        for film in set((partial / "films").iterdir()) - films:
            film.unlink()  # one of two, of a row that was left out because of the other
        burned_in = tuple(sorted(film.name for film in films if film.suffix == ".dcm" and _says_burned_in(film)))
        _write_key(key, names)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return CleanCopy(
        table=out / "studies.csv",
        key=key,
        patients=len({row.patient_id for row in clean}),
        films=len(films),
        burned_in=burned_in,
        reasons=tuple(sorted({row.exclude for row in clean if row.exclude is not None})),
        left_out=len(rows) - len(clean),
    )


def _copy_rows(rows: Sequence[Study], names: dict[str, str], folder: Path) -> list[Study]:
    """Copy the films of all rows; excluded rows whose films can't be read are left out."""
    (folder / "films").mkdir(parents=True)
    problems: list[str] = []
    clean: list[Study] = []
    met: dict[str, int] = {}
    for row in track(rows, "copying films"):
        patient = names[row.patient_id]
        met[patient] = met.get(patient, 0) + 1
        stem = patient if met[patient] == 1 else f"{patient}-{met[patient]}"
        try:
            films = {view: _copy_film(film, folder / "films" / f"{stem}-{view}", patient) for view in VIEWS if (film := row.film(view))}
        except EdgekitError as error:
            if row.exclude is None:
                problems.append(error.message)
            continue
        clean.append(replace(row, patient_id=patient, ap=films.get("ap"), lateral=films.get("lateral")))
    if problems:
        count = "1 film" if len(problems) == 1 else f"{len(problems)} films"
        raise InputError(
            f"{count} can't be copied:\n  " + "\n  ".join(problems), "Replace the films, or say why in the column 'exclude' of their rows."
        )
    return clean


def _copy_film(film: Path, stem: Path, patient: str) -> Path:
    """Write a clean copy and read it back; return its path."""
    from PIL import Image

    original = read_radiograph(film)
    with film.open("rb") as file:
        is_picture = file.read(3) in (b"\x89PN", b"\xff\xd8\xff")
    if is_picture:
        copy = stem.with_name(f"{stem.name}.png")
        Image.fromarray(original.pixels).save(copy)
    else:
        copy = stem.with_name(f"{stem.name}.dcm")
        try:
            _copy_dicom(film, copy, patient)
        except OSError:  # the disk, not the film
            raise
        except Exception as error:  # pydicom refuses in many ways to write what it was willing to read
            raise InputError(f"{film}: can't be written as a clean DICOM film ({error})", "export the film again") from error
    read = read_radiograph(copy)
    same = np.array_equal(read.pixels, original.pixels) and (read.view, read.spacing_mm) == (original.view, original.spacing_mm)
    if not same:
        copy.unlink()
        raise InputError(f"{film}: the copy does not read as its original does", "convert the film to Explicit VR Little Endian first")
    return copy


def _copy_dicom(film: Path, copy: Path, patient: str) -> None:
    """Write a new data set with the pixels and `KEPT` of a DICOM film that `read_radiograph` accepts."""
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
    clean.PatientName = clean.PatientID = patient
    clean.PatientIdentityRemoved, clean.DeidentificationMethod = "YES", METHOD
    clean.LongitudinalTemporalInformationModified = "REMOVED"
    clean.StudyInstanceUID, clean.SeriesInstanceUID, clean.SOPInstanceUID = generate_uid(), generate_uid(), generate_uid()
    clean.file_meta.MediaStorageSOPClassUID, clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPClassUID, clean.SOPInstanceUID
    stored = read_stored(film)  # without what other bits of a cell hold: an overlay with text, in old files
    clean.Rows, clean.Columns = stored.patterns.shape
    clean.SamplesPerPixel, clean.PixelRepresentation = 1, int(stored.is_signed)
    clean.BitsStored, clean.HighBit, clean.BitsAllocated = stored.bits, stored.bits - 1, 8 if stored.bits <= 8 else 16
    values = stored.values.astype(f"{'i' if stored.is_signed else 'u'}{clean.BitsAllocated // 8}")[stored.patterns]
    clean.compress(RLELossless, values, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    clean.save_as(copy, enforce_file_format=True)


def _copy_elements(source: Any, target: Any, names: Sequence[str]) -> None:
    from copy import deepcopy

    for name in names:
        if name in source:
            target.add(deepcopy(source[name]))


def _says_burned_in(film: Path) -> bool:
    import pydicom

    return str(pydicom.dcmread(film, stop_before_pixels=True).get("BurnedInAnnotation")) == "YES"


def _write_key(path: Path, names: dict[str, str]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("patient_id", "original_patient_id"), *((new, old) for old, new in names.items())])
    write_text(path, text.getvalue())
