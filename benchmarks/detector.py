"""What a run's detector finds on films that it was not trained on, by kind of film, against the goals.

    .venv/bin/python benchmarks/detector.py RUN STUDIES --work runs/judged --out benchmarks/results/detector.json

`STUDIES` is the table of `edgekit phantom cohort J --preset detector --split test`. The run's detector is asked in float32, as it was
trained; the run needs no members. `--work` keeps the decoded films.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread

from edgekit.boxes import box_iou
from edgekit.evaluation.cells import EXPECTED, describe_film
from edgekit.evaluation.detector import score_detector
from edgekit.evaluation.film_header import read_header
from edgekit.files import hash_file, write_json
from edgekit.models.runfolder import load_detector, load_detector_settings
from edgekit.provenance import describe_software
from edgekit.studies import NO_CONSTRUCT, OTHER_METAL, read_studies
from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import load_config
from edgekit.training.films import cache_films
from edgekit.training.localisation import find_boxes

if TYPE_CHECKING:
    from edgekit.training.films import FilmSet

MEAN_IOU, FALSE_PLAIN, FALSE_OTHER = 0.80, 0.03, 0.12
SIGNIFICANT = 0.05


def main() -> None:
    """Judge a detector and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_json(arguments.out, judge(arguments.run, arguments.studies, arguments.work))


def judge(run: Path, studies: Path, work: Path) -> dict[str, Any]:
    """Return the record: ``detector`` as in ``metrics.json``, the same at any score, and the goals."""
    detector, settings = load_detector(run), load_detector_settings(run)
    side = load_config("paper").canvas_side
    films = cache_films(read_studies(studies), PEDICLE_SCREWS.views, side, work / "films.npy", side // detector.side)
    found, scores = find_boxes(detector, films)
    annotated, negative = np.isfinite(films.boxes).all(axis=1), films.brands == NO_CONSTRUCT
    figures = score_detector(
        films.boxes[annotated],
        found[annotated],
        scores[annotated],
        describe_films(films, np.flatnonzero(annotated).tolist()),
        scores[negative],
        [films.studies[study].has.get(OTHER_METAL) for study in films.study[negative]],
        settings.box_threshold,
    )
    overlaps = box_iou(films.boxes[annotated], found[annotated])
    return {
        **describe_software(),
        "run": {"sha256": hash_file(run / "detector.safetensors"), "threshold": settings.box_threshold, "basis": settings.threshold_basis},
        "cohort": json.loads((studies.parent / "cohort.json").read_text(encoding="utf-8")),
        "at_any_score": {"mean_iou": float(overlaps.mean()), "found": float((overlaps >= 0.5).mean())},
        "found": float(((overlaps >= 0.5) & (scores[annotated] >= settings.box_threshold)).mean()),
        "detector": figures,
        "goals": compare(figures),
    }


def describe_films(films: FilmSet, rows: list[int]) -> list[dict[str, str]]:
    """Say of each of some annotated films what it is."""
    described = []
    for row in rows:
        study, view = films.studies[films.study[row]], films.views[films.view[row]]
        path = study.film(view)
        assert path is not None
        size = dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        described.append(describe_film(study, view, (size.Columns, size.Rows), read_header(path)))
    return described


def compare(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was aimed at and what was reached."""
    below = sum(cell["below"] < SIGNIFICANT for cell in figures["cells"])
    negatives = {name: kind["false_finds"] for name, kind in figures["negatives"].items()}
    return [
        {"what": "mean IoU, a box that is not used counting as 0", "at_least": MEAN_IOU, "measured": figures["mean_iou"]},
        {"what": f"cells of {len(figures['cells'])} significantly below {EXPECTED:.0%}", "at_most": 0, "measured": below},
        {"what": "false finds on plain films", "at_most": FALSE_PLAIN, "measured": negatives.get("plain")},
        {"what": "false finds beside other metal", "at_most": FALSE_OTHER, "measured": negatives.get("other_metal")},
    ]


if __name__ == "__main__":
    main()
