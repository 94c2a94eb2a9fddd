"""What the host does before the graph: decoding films and making their canvases."""

from __future__ import annotations

import statistics
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.latency.workers import time_call

if TYPE_CHECKING:
    from collections.abc import Iterator

FILM_SIDE = 1500
"""Long side in pixels of the DICOM films on which decoding is timed."""


def time_host(films: int, side: int, repeats: int = 7) -> dict[str, float]:
    """Return the median ms that one patient's `films` take to ``decode`` and, decoded, to become a ``canvas`` of `side` pixels each."""
    from edgekit.radiograph import make_canvas, read_radiograph

    with _simple_film() as path:
        pixels = read_radiograph(path).pixels
        decode = statistics.median(time_call(lambda: read_radiograph(path)) for _ in range(repeats))
    canvas = statistics.median(time_call(lambda: make_canvas(pixels, side)) for _ in range(repeats))
    return {"decode": films * decode, "canvas": films * canvas}


@contextmanager
def _simple_film() -> Iterator[Path]:
    """Write an uncompressed 12-bit DICOM film: what it shows does not change how long it takes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    film.Rows, film.Columns = FILM_SIDE, FILM_SIDE * 4 // 5
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = np.random.default_rng(0).integers(0, 4096, (film.Rows, film.Columns), np.uint16).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        film.save_as(path, enforce_file_format=True)
        yield path
