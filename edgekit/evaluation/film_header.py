"""Facts from a film's DICOM header; none of them is free text that a hospital wrote."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

PHANTOM = "edgekit phantom"
"""Manufacturer of the simulated films."""

_REGIONS = {
    "CSPINE": "cervical",
    "CTSPINE": "cervicothoracic",
    "TSPINE": "thoracic",
    "TLSPINE": "thoracolumbar",
    "LSPINE": "lumbar",
    "LSSPINE": "lumbosacral",
}
"""Defined terms of Body Part Examined (DICOM PS3.16 annex L)."""


class FilmHeader(NamedTuple):
    """The facts of one film.

    Attributes
    ----------
    is_simulated
        None where the file does not say who made it.
    region
        Of the spine, by Body Part Examined (0018,0015); None where it says none.
    field, processing
        How a simulated film was taken (`edgekit.phantom.fields`) and processed (`edgekit.phantom.imaging.families`). None of other films:
        theirs is free text, which may hold anything.
    """

    is_simulated: bool | None
    region: str | None = None
    field: str | None = None
    processing: str | None = None


def read_header(film: Path) -> FilmHeader:
    """Read the header of a film; one that is no DICOM file says nothing."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    wanted = ["Manufacturer", "BodyPartExamined", "ProtocolName", "AcquisitionDeviceProcessingDescription"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydicom repeats an invalid value: it may be a name
        try:
            header = dcmread(film, stop_before_pixels=True, specific_tags=wanted)
        except InvalidDicomError:
            return FilmHeader(None)
        maker, part, field, processing = (str(header.get(name) or "").strip() for name in wanted)
    region = _REGIONS.get(part.upper())
    if maker != PHANTOM:
        return FilmHeader(False if maker else None, region)
    if not processing:  # an earlier simulator wrote LSPINE into every film
        return FilmHeader(True)
    return FilmHeader(True, region, field or "aimed at the levels", processing)
