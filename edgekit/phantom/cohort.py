"""A folder of simulated films with its ``studies.csv``."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

import edgekit
from edgekit.errors import InputError, UsageError
from edgekit.phantom.implants import DESIGNS
from edgekit.phantom.scene import check_parameters, simulate_patient
from edgekit.progress import track
from edgekit.studies import NO_CONSTRUCT, SPLITS, split_studies, write_studies
from edgekit.types import VIEWS, Box, Study, View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRESETS: dict[str, dict[str, tuple[int, int]]] = {"demo": {"train": (160, 16), "validation": (40, 10), "test": (140, 14)}}
"""For each preset and split: patients with a construct, and patients without one."""


@dataclass(frozen=True, slots=True)
class CohortParameters:
    """What a cohort follows from; kept beside it as ``cohort.json``."""

    patients: int | None
    preset: str | None
    site: str
    size: int
    split: str | None
    seed: int
    version: str = edgekit.__version__


@dataclass(frozen=True, slots=True)
class _Task:
    """One patient to make, small enough to send to a worker."""

    study: Study
    seed: int
    site: str
    size: int
    source: str


def make_cohort(out: Path, *, patients: int | None, preset: str | None, site: str, size: int, split: str | None, seed: int) -> Path:
    """Make simulated patients: DICOM films and ``studies.csv``.

    Films are written as they are made, by one process a core (a script that calls this needs the usual ``if __name__ == "__main__"``).
    A run that was interrupted continues where it stopped; ``studies.csv`` comes last.

    Parameters
    ----------
    out
        Folder of the cohort: new, empty, or begun with the same parameters.
    patients
        Number of patients, evenly over the designs; give this or `preset`.
    preset
        A name in `PRESETS`.
    site
        A name in `edgekit.phantom.scene.SITES`.
    size
        Long side of the films, pixels.
    split
        Put everybody into this split; None splits 64/16/20 (presets: as they say).
    seed
        Everything follows from it: the same parameters give the same bytes, whatever the number of workers.

    Returns
    -------
    Path
        ``out/studies.csv``.

    Raises
    ------
    InputError
        When a parameter is impossible or `out` holds something else.
    """
    _check(patients, preset, split, seed)
    check_parameters(size, site)
    parameters = CohortParameters(patients, preset, site, size, split, seed)
    source = json.dumps(asdict(parameters), sort_keys=True)
    tasks = [_Task(study, _patient_seed(seed, site, number), site, size, source) for number, study in enumerate(_plan(out, parameters))]
    _claim_folder(out, parameters)
    boxes = _read_journal(out)
    missing = [task for task in tasks if task.study.patient_id not in boxes]
    with (out / _JOURNAL).open("a", encoding="utf-8") as journal:
        for patient_id, found in track(_run(missing), "simulating patients", total=len(missing)):
            boxes[patient_id] = found
            journal.write(json.dumps({"patient_id": patient_id, "boxes": found}) + "\n")
            journal.flush()
    table = out / "studies.csv"
    write_studies(table, [_with_boxes(task.study, boxes[task.study.patient_id]) for task in tasks])
    return table


_JOURNAL = ".finished.jsonl"
_Boxes = dict[View, Box | None]


def _check(patients: int | None, preset: str | None, split: str | None, seed: int) -> None:
    if (patients is None) == (preset is None):
        raise UsageError("a cohort needs either a number of patients or a preset", "Give one of them: --patients 140 or --preset demo.")
    if patients is not None and not 1 <= patients <= 100_000:
        raise UsageError(f"patients is {patients}, expected 1 to 100000", "Give another number, for example --patients 140.")
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}", f"Use one of: {', '.join(PRESETS)}.")
    if split is not None and split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", f"Use one of: {', '.join(SPLITS)}.")
    if patients is not None and split is None and patients < 3 * len(DESIGNS):
        raise UsageError(
            f"patients is {patients}: with fewer than {3 * len(DESIGNS)} not every design is in train, validation and test",
            "Give more patients, or put all of them into one split, for example --split test.",
        )
    if seed < 0:
        raise UsageError(f"seed is {seed}, expected 0 or more", "Give another seed, for example --seed 1.")


def _claim_folder(out: Path, parameters: CohortParameters) -> None:
    """Make the folder, or make sure that it was begun with the same `parameters`."""
    record = out / "cohort.json"
    if record.exists():
        found, wanted = _read_record(record), asdict(parameters)
        differing = [f"{name} {found.get(name)!r}, asked for {wanted[name]!r}" for name in wanted if found.get(name) != wanted[name]]
        if differing:
            raise InputError(
                f"{out} holds a cohort made with other parameters: {'; '.join(differing)}.", "Choose another folder, or remove this one."
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no cohort", "Choose a new folder.")
    (out / "films").mkdir(parents=True, exist_ok=True)
    partial = out / ".cohort.json.partial"
    partial.write_text(json.dumps(asdict(parameters), indent=2) + "\n", encoding="utf-8")
    partial.replace(record)


def _read_record(record: Path) -> dict[str, object]:
    try:
        return dict(json.loads(record.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{record} is damaged: {error}.", "Choose another folder, or remove this one.") from error


def _plan(out: Path, parameters: CohortParameters) -> list[Study]:
    """Return everybody, in an order that tells neither brand nor split."""
    if parameters.preset is None:
        rows = _allocate(parameters.patients or 0, 0, None)
    else:
        rows = [row for split, (count, negatives) in PRESETS[parameters.preset].items() for row in _allocate(count, negatives, split)]
    order = np.random.default_rng(np.random.SeedSequence((parameters.seed, 1))).permutation(len(rows))
    digits = max(4, len(str(len(rows))))
    studies = []
    for number, index in enumerate(order):
        patient_id = f"p{number + 1:0{digits}d}"
        films = {view: out / "films" / f"{patient_id}_{view}.dcm" for view in VIEWS}
        studies.append(replace(rows[index], patient_id=patient_id, **films))
    if parameters.split is not None:
        return [replace(study, split=parameters.split) for study in studies]
    return studies if parameters.preset is not None else split_studies(studies, parameters.seed)


def _allocate(count: int, negatives: int, split: str | None) -> list[Study]:
    """Return `count` patients evenly over the designs, every other one with a crosslink, and `negatives` without construct."""
    brands = list(DESIGNS)
    rows = []
    for number in range(count):
        brand = brands[number % len(brands)]
        has_crosslink = DESIGNS[brand].crosslink is not None and (number // len(brands) + number % len(brands)) % 2 == 0
        rows.append(Study("", brand=brand, has_crosslink=has_crosslink, split=split))
    return rows + [Study("", brand=NO_CONSTRUCT, has_crosslink=False, split=split)] * negatives


def _patient_seed(seed: int, site: str, number: int) -> int:
    entropy = (seed, int.from_bytes(site.encode(), "little"), number)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def _read_journal(out: Path) -> dict[str, _Boxes]:
    """Return the boxes of everybody whose films are whole; a line that a kill cut short is not counted."""
    finished: dict[str, _Boxes] = {}
    journal = out / _JOURNAL
    if not journal.exists():
        return finished
    kept = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if all((out / "films" / f"{row['patient_id']}_{view}.dcm").exists() for view in VIEWS):
            finished[row["patient_id"]] = {view: tuple(box) if box else None for view, box in row["boxes"].items()}
            kept.append(line)
    partial = out / f"{_JOURNAL}.partial"
    partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    partial.replace(journal)
    return finished


def _count_workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(tasks: list[_Task]) -> Iterator[tuple[str, _Boxes]]:
    workers = min(_count_workers(), len(tasks))
    if workers <= 1:
        yield from map(_make_patient, tasks)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        for future in as_completed([pool.submit(_make_patient, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "A worker process died while simulating; the machine may have run out of memory.",
            "Close other programs, or take a smaller --size, and run the same command again: it continues where it stopped.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _make_patient(task: _Task) -> tuple[str, _Boxes]:
    from edgekit.phantom.dicom import write_film

    study = task.study
    films = simulate_patient(str(study.brand), task.seed, size=task.size, has_crosslink=bool(study.has_crosslink), site=task.site)
    for view, film in films.items():
        path = study.film(view)
        assert path is not None
        write_film(film, path, patient_id=study.patient_id, view=view, source=task.source)
    return study.patient_id, {view: film.box for view, film in films.items()}


def _with_boxes(study: Study, boxes: _Boxes) -> Study:
    return replace(study, ap_box=boxes["ap"], lateral_box=boxes["lateral"])
