"""The detector's cells, against counts made here and published tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from edgekit.evaluation.cells import EXPECTED, LEAST_FILMS, tabulate_cells
from edgekit.evaluation.film_header import FilmHeader, read_header
from edgekit.proportions import adjust_by_holm


def test_cells_are_the_films_that_share_a_value_worst_first() -> None:
    films = [{"aspect": "under 0.5", "view": "ap"}] * 3 + [{"aspect": "over 1", "view": "ap"}] * 2
    overlaps, used = np.array([0.9, 0.5, 0.4, 0.8, 0.8]), np.array([True, True, True, True, False])
    cells = tabulate_cells(films, overlaps, used)
    assert [(cell["cell"], cell["n"], cell["found"]) for cell in cells] == [
        ({"aspect": "over 1"}, 2, 1 / 2),
        ({"aspect": "under 0.5"}, 3, 2 / 3),
    ], "all films are AP films: that makes no cell"
    assert cells[0]["mean_iou"] == pytest.approx(0.4)
    assert cells[1]["mean_iou"] == pytest.approx(0.6)


def test_a_pair_of_values_is_a_cell_when_it_has_the_films() -> None:
    films = [{"aspect": "over 1", "region": "lumbar"}] * LEAST_FILMS + [{"aspect": "under 0.5", "region": "cervical"}] * (LEAST_FILMS - 1)
    cells = [cell["cell"] for cell in tabulate_cells(films, np.ones(len(films)), np.ones(len(films), bool))]
    assert {"aspect": "over 1", "region": "lumbar"} in cells
    assert {"aspect": "under 0.5", "region": "cervical"} not in cells


def test_a_cell_is_below_by_the_exact_binomial_test() -> None:
    """Against the sum of binomial terms written out, times the number of cells: the smallest of Holm's is Bonferroni's."""
    from math import comb

    films = [{"region": "lumbar"}] * 20 + [{"region": "cervical"}] * 20
    cells = tabulate_cells(films, np.array([1.0] * 16 + [0.0] * 4 + [1.0] * 20), np.ones(40, bool))
    chance = sum(comb(20, k) * EXPECTED**k * (1 - EXPECTED) ** (20 - k) for k in range(17))
    assert cells[0]["cell"] == {"region": "lumbar"}
    assert cells[0]["below"] == pytest.approx(2 * chance)
    assert cells[1]["below"] == pytest.approx(1.0)


def test_holms_adjustment_is_that_of_r() -> None:
    """``p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")`` of R, and an order that is not theirs."""
    assert adjust_by_holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert adjust_by_holm([0.4, 0.001]) == pytest.approx([0.4, 0.002])


PROCESSED = {"AcquisitionDeviceProcessingDescription": "film"}


def write_header(path: Path, **elements: str) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_free_text_of_a_hospital_is_not_read(tmp_path: Path) -> None:
    """A name may stand in a protocol's name; of a real film only the defined term of the region is taken."""
    private = {"ProtocolName": "DOE^JANE", "AcquisitionDeviceProcessingDescription": "Dr. Doe's"}
    film = write_header(tmp_path / "a.dcm", Manufacturer="Some maker", BodyPartExamined="LSPINE", **private)
    assert read_header(film) == FilmHeader(is_simulated=False, region="lumbar")
    film = write_header(tmp_path / "b.dcm", BodyPartExamined="LSPINE", **private)
    film.write_bytes(film.read_bytes().replace(b"LSPINE", b"Jane D"))  # no defined term, and no valid value
    assert read_header(film) == FilmHeader(is_simulated=None)
    film = write_header(tmp_path / "c.dcm", Manufacturer="edgekit phantom", BodyPartExamined="CSPINE", ProtocolName="swimmer", **PROCESSED)
    assert read_header(film) == FilmHeader(is_simulated=True, region="cervical", field="swimmer", processing="film")
    film = write_header(tmp_path / "e.dcm", Manufacturer="edgekit phantom", BodyPartExamined="LSPINE")
    assert read_header(film) == FilmHeader(is_simulated=True), "an earlier simulator wrote that into every film"
    (tmp_path / "d.png").write_bytes(b"not DICOM")
    assert read_header(tmp_path / "d.png") == FilmHeader(is_simulated=None)
