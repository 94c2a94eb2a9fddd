"""How hard the simulated task is, and for whom: nearest neighbours and metadata against the trained members.

    .venv/bin/python benchmarks/difficulty.py COHORT/studies.csv TEST/studies.csv EVALUATION/metrics.json

The neighbours know the training patients of the first table and, like the metadata, are scored on the test patients of the second; the
members' figures are those of `edgekit evaluate` on the second.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgekit.progress import track
from edgekit.provenance import describe_software
from edgekit.radiograph import read_radiograph
from edgekit.studies import NO_CONSTRUCT, read_studies, select
from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Study

VIEWS = PEDICLE_SCREWS.views

CROP_SIDE = 32
NEIGHBOURS = (1, 3, 5, 9, 15)
MARGIN = 0.05


def read_patient(study: Study) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Return a patient's two small crops, standardised, and what is known of the films without looking at the construct."""
    crops, known = [], []
    for view in VIEWS:
        film, box = study.film(view), study.box(view)
        assert film is not None
        assert box is not None
        radiograph = read_radiograph(film)
        x0, y0, x1, y1 = box
        wide, tall = x1 - x0, y1 - y0
        edges = (x0 - MARGIN * wide, y0 - MARGIN * tall, x1 + MARGIN * wide, y1 + MARGIN * tall)
        crop = np.asarray(
            Image.fromarray(radiograph.pixels).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BOX, _clip(edges, radiograph.pixels))
        )
        crop = crop.astype(np.float32).ravel()
        crops.append((crop - crop.mean()) / (crop.std() + 1e-6))
        spacing = radiograph.spacing_mm or (0.0, 0.0)
        known += [
            *box,
            wide,
            tall,
            *radiograph.pixels.shape,
            spacing[0],
            radiograph.pixels.mean(),
            radiograph.pixels.std(),
            film.stat().st_size,
        ]
    return crops, [float(value) for value in known]


def _clip(box: tuple[float, ...], pixels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    height, width = pixels.shape
    return max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)


def read_table(studies: list[Study], what: str) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float64], NDArray[np.str_]]:
    """Return the crops by view and of both, the metadata, and the brands."""
    rows = [study for study in studies if study.brand not in (None, NO_CONSTRUCT)]
    read = [read_patient(study) for study in track(rows, f"reading {what}")]
    ap, lateral = (np.stack([crops[index] for crops, _ in read]) for index in (0, 1))
    crops = {"ap": ap, "lateral": lateral, "ap+lateral": np.concatenate([ap, lateral], axis=1)}
    metadata = np.array([[number, *known] for number, (_, known) in enumerate(read)])
    return crops, metadata, np.array([str(study.brand) for study in rows])


def with_interval(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return an accuracy with its exact (Clopper-Pearson) 95 % interval."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, "exact")
    return {"accuracy": round(float(right.mean()), 4), "ci95": [round(interval.low, 4), round(interval.high, 4)]}


def summarize(model: dict[str, Any]) -> dict[str, Any]:
    """Return the number of patients, the accuracy and its interval of one model of metrics.json."""
    return {
        "n": model["n"],
        "accuracy": round(model["accuracy"], 4),
        "ci95": [round(end, 4) for end in model["ci95"]["accuracy"]],
    }


def main() -> None:
    """Measure, print and keep a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/difficulty.json"))
    arguments = parser.parse_args()
    cohort = read_studies(arguments.cohort)
    train, _, brands = read_table(select(cohort, "train"), "training films")
    validation, _, validation_brands = read_table(select(cohort, "validation"), "validation films")
    test, metadata, truth = read_table(select(read_studies(arguments.test), "test"), "test films")
    models = json.loads(arguments.metrics.read_text(encoding="utf-8"))["models"]
    rows: dict[str, Any] = {}
    for name in test:
        fitted = [KNeighborsClassifier(k, metric="cosine").fit(train[name], brands) for k in NEIGHBOURS]
        best = max(fitted, key=lambda model: model.score(validation[name], validation_brands))
        rows[name] = {
            "neighbours": {"k": best.n_neighbors, **with_interval(best.predict(test[name]) == truth)},
            "trained": {key: models[name][key] for key in ("n", "accuracy", "kappa", "crosslink")}
            | {"ci95": models[name]["ci95"]["accuracy"]},
        }
        rows[name]["points_above_neighbours"] = round(100 * (models[name]["accuracy"] - rows[name]["neighbours"]["accuracy"]), 1)
        print(name, json.dumps(rows[name]))
    guesses = cross_val_predict(make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=3000)), metadata, truth, cv=5)
    record = {
        **describe_software(),
        "n": len(truth),
        "metadata_alone": with_interval(guesses == truth),
        "chance": round(1 / len(set(truth)), 4),
        "rows": rows,
    }
    print("metadata alone", record["metadata_alone"], "chance", record["chance"])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
