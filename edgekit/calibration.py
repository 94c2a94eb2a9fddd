"""The films on which the ranges of activations below float32 are found: those of the run's validation patients, never one that judges."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.files import hash_file
from edgekit.quantization.foresight import CalibrationPatients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.models.pipeline import PipelineSpec
    from edgekit.types import Calibration, Float16, Study


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationFilms:
    """What a backend calibrates on.

    Attributes
    ----------
    patients
        None where no stage has 8-bit activations.
    table
        The ``studies.csv`` they come from; None when there are none.
    unreadable
        Why patients were left out, one reason each.
    """

    patients: CalibrationPatients
    table: Path | None
    unreadable: tuple[str, ...] = ()

    def provenance(self, bundle: Path) -> dict[str, Any] | None:
        """Return what a bundle's manifest tells about them, paths relative to the bundle."""
        if self.table is None:
            return None
        path = Path(os.path.relpath(self.table, bundle)).as_posix()
        return {"path": path, "sha256": hash_file(self.table), "split": "validation", "patients": len(self.patients.inputs)}


def read_calibration(run: Path, wanted: Calibration | Float16 | None, judged_on: Sequence[Study], spec: PipelineSpec) -> CalibrationFilms:
    """Read the validation films of the run's own studies; when there are more patients than wanted, evenly spaced ones.

    A patient whose films can't be read is left out, as long as such patients are few.

    Parameters
    ----------
    run
        A finished run folder.
    wanted
        The recipe's; None reads nothing.
    judged_on
        The rows that the artefact will be judged on.
    spec
        The run's.

    Raises
    ------
    InputError
        The run's studies are gone or were changed, have no validation film with a construct, or share a film with `judged_on`.
    """
    if wanted is None:
        return CalibrationFilms(CalibrationPatients(), None)
    from edgekit.canvases import stream_inputs
    from edgekit.models.runfolder import find_studies
    from edgekit.studies import has_film, read_studies, select

    table = find_studies(run)
    if table is None:
        raise InputError(f"{run}/provenance.json names no studies to calibrate on", "choose a variant without 8-bit activations, or train")
    known = [study for study in select(read_studies(table), "validation") if study.brand not in (None, "none")]
    rows = [study for study in known if has_film(study, spec.task.views)]
    if not rows:
        raise InputError(f"{table}: no validation patient with a construct to calibrate on", "give some rows the split 'validation'")
    rows = [rows[index * len(rows) // wanted.patients] for index in range(wanted.patients)] if len(rows) > wanted.patients else rows
    _refuse_shared_films(rows, judged_on)
    unreadable: dict[Study, str] = {}
    read = [
        (inputs, str(study.brand))
        for study, inputs, _ in stream_inputs(rows, spec.task.views, spec.canvas_side, "Reading the calibration films", unreadable)
    ]
    inputs, brands = zip(*read, strict=True)
    return CalibrationFilms(CalibrationPatients(inputs, brands), table, tuple(unreadable.values()))


def _refuse_shared_films(rows: Sequence[Study], judged_on: Sequence[Study]) -> None:
    """Raise when a film is among both, under whatever name."""

    def hashes(studies: Sequence[Study]) -> dict[str, Path]:
        films = [film for study in studies for film in study.given.values()]
        return {hash_file(film): film for film in films if film.is_file()}  # one that is missing is told when it is read

    calibration, judged = hashes(rows), hashes(judged_on)
    if shared := calibration.keys() & judged.keys():
        first = min(shared)
        raise InputError(
            f"{len(shared)} films are both calibrated and judged on, such as {calibration[first]} and {judged[first]}",
            "judge on patients that the run was not trained or calibrated on",
        )
