"""Simulated films as DICOM files that nobody can mistake for a patient's."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from edgekit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from edgekit.phantom.film import SimulatedFilm
    from edgekit.task import View

_NAMESPACE = uuid.UUID("8c1f7b52-3a5e-5d0c-9d55-6a4f5f1f0e11")
_EMPTY = (  # type 2: must be there, may be empty
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "PatientOrientation",
    "Laterality",
)
_BODY_PARTS = {"cervical": "CSPINE", "thoracic": "TSPINE", "lumbar": "LSPINE"}
"""Defined terms (DICOM PS3.16 annex L)."""
VIEW_POSITIONS: dict[View, str] = {"ap": "AP", "lateral": "LL"}


def write_film(film: SimulatedFilm, path: Path, *, patient_id: str, view: View, source: str) -> None:
    """Write one film as a Computed Radiography Image (DICOM PS3.3 A.2), losslessly compressed.

    Parameters
    ----------
    path
        Appears whole or not at all.
    source
        What the films were made from (the cohort's parameters): the UIDs follow from it, so the same film is the same file.

    Raises
    ------
    InputError
        When the file can't be written, for example on a full disk.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, RLELossless

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = _make_uid(source, patient_id, view)
    dataset.StudyInstanceUID = _make_uid(source, patient_id)
    dataset.SeriesInstanceUID = _make_uid(source, patient_id, view, "series")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    _describe(dataset, film, patient_id, view)
    dataset.Rows, dataset.Columns = film.pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = film.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, film.bits, film.bits - 1, 0
    dataset.WindowCenter, dataset.WindowWidth = film.window
    dataset.compress(RLELossless, film.pixels, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    partial = path.with_name(f".{path.name}.partial")
    try:
        dataset.save_as(partial, enforce_file_format=True)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"{path} can't be written ({error.strerror}).", "Free some space or choose another folder, then run the same command again."
        ) from error


def _describe(dataset: Dataset, film: SimulatedFilm, patient_id: str, view: View) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.Modality = "CR"
    dataset.Manufacturer = "edgekit phantom"
    dataset.PatientName, dataset.PatientID = f"SIMULATED^{patient_id}", patient_id
    for name in _EMPTY:
        setattr(dataset, name, "")
    dataset.SeriesNumber, dataset.InstanceNumber = (1, 1) if view == "ap" else (2, 1)
    dataset.BodyPartExamined = _BODY_PARTS[film.facts.region]
    dataset.ProtocolName = film.facts.field or ""
    dataset.AcquisitionDeviceProcessingDescription = film.family
    dataset.ViewPosition = VIEW_POSITIONS[view]
    spacing = f"{film.camera.spacing_mm:.6f}"
    dataset.ImagerPixelSpacing = dataset.PixelSpacing = [spacing, spacing]
    dataset.DistanceSourceToDetector = f"{film.camera.source_image_mm:.1f}"
    dataset.DistanceSourceToPatient = f"{film.camera.source_object_mm:.1f}"
    dataset.BurnedInAnnotation = "NO"


def _make_uid(*parts: str) -> str:
    """Return a UID under 2.25 (ITU-T X.667) that follows from `parts`."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"
