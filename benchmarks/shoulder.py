"""Four manufacturers of shoulder prostheses on public radiographs: ten-fold cross-validation of a task that is not the study's.

    .venv/bin/python benchmarks/shoulder.py DATA --work runs/shoulder          the ten folds; the same command goes on
    .venv/bin/python benchmarks/shoulder.py DATA --work runs/shoulder --whole    one run on all films, exported

DATA is a folder of films and ``labels.csv`` (``file, manufacturer, patient``). Films of one patient, and films that are nearly the same
(``near_duplicates.py`` finds them; ``shoulder-groups.csv`` has those that a person saw), are never in two folds. All films are brought
to one size and through one JPEG first, so that the file that a film came in tells nothing. The settings are ``shoulder-settings.toml``;
each fold's run is trained on eight folds, chosen on the next, judged on its own, and converted; what is kept is
``results/shoulder.json``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from near_duplicates import find_near_duplicates
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from edgekit.bundle import export_bundle
from edgekit.evaluation.metrics import score_predictions
from edgekit.evaluation.predictions import read_predictions
from edgekit.evaluation.study import evaluate_run
from edgekit.files import hash_file, write_json
from edgekit.proportions import clopper_pearson
from edgekit.provenance import describe_software
from edgekit.studies import write_studies
from edgekit.targets import load_target
from edgekit.training.config import load_config
from edgekit.training.run import train_run
from edgekit.types import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.evaluation.predictions import Predictions

HERE = Path(__file__).parent
SETTINGS, GROUPS, RECORD = HERE / "shoulder-settings.toml", HERE / "shoulder-groups.csv", HERE / "results" / "shoulder.json"
RECIPES = {"desktop-cpu": HERE / "shoulder.toml", "web": HERE / "shoulder.toml", "ios": HERE / "shoulder-ios.toml"}
CONVERTED = ("desktop-cpu:fp32", "desktop-cpu:w8a8", "ios:w8a16")
"""What each fold's run becomes, judged on the fold's films."""
SHIPPED = ("web:w8a8", "desktop-cpu:w8a8", "ios:w8a16")
"""What the run on all films becomes."""
ENSEMBLE = "all"
"""Which of a run's ensembles answers."""
FOLDS = 10
SIDE, QUALITY = 250, 90
"""Pixels that a film is brought to, which most films have, and the quality of the JPEG that it is kept as."""
VIEW = "front"
PUBLISHED = {
    "Urban et al. 2020, NASNet, 10-fold": 0.804,
    "Zhou and Mo 2021, ResNet-50, 150 held out": 0.77,
    "DenseNet-201, class-imbalance-aware, protocol not seen": 0.895,
}
"""Accuracies on the same public films."""


@dataclass(frozen=True, slots=True)
class Film:
    """One film: its file, made even, who made the prosthesis, and the group of films that stay together."""

    file: Path
    maker: str
    group: int


def read_films(data: Path, work: Path) -> list[Film]:
    """Return the films of ``labels.csv``, all made even (`even_out`), with their groups.

    Films are one group that share a patient in the table, a row's group in `GROUPS`, or their pixels.
    """
    rows = list(csv.DictReader(io.StringIO((data / "labels.csv").read_text(encoding="utf-8"))))
    seen = {row["file"]: row["group"] for row in csv.DictReader(io.StringIO(GROUPS.read_text(encoding="utf-8")))}
    even = [work / "films" / f"{Path(row['file']).stem}.jpg" for row in rows]
    for row, path in zip(rows, even, strict=True):
        even_out(data / row["file"], path)
    pairs = list_near_duplicates(even, work / "near-duplicates.json")
    first: dict[tuple[str, str], int] = {}
    for place, row in enumerate(rows):
        for mark in (("patient", row["patient"]), ("group", seen.get(row["file"], ""))):
            if mark[1]:
                pairs.append((place, first.setdefault(mark, place)))
    joined = np.array(pairs, np.int64).reshape(-1, 2).T
    _, groups = connected_components(coo_array((np.ones(joined.shape[1]), joined), shape=(len(rows), len(rows))), directed=False)
    return [Film(path, row["manufacturer"], int(group)) for path, row, group in zip(even, rows, groups, strict=True)]


def list_near_duplicates(films: list[Path], kept: Path) -> list[tuple[int, int]]:
    """Return the pairs of films that are nearly the same, by place; those of the same films are read where they were `kept`."""
    hashes = [hash_file(path) for path in films]
    if kept.is_file() and (known := json.loads(kept.read_text(encoding="utf-8")))["films"] == hashes:
        return [(first, second) for first, second in known["pairs"]]
    pairs = find_near_duplicates([np.asarray(Image.open(path)) for path in films])
    write_json(kept, {"films": hashes, "pairs": pairs})
    return pairs


def deal_folds(films: Sequence[Film], folds: int = FOLDS) -> NDArray[np.int64]:
    """Deal groups to folds, the largest first, each to the fold that has fewest films of its manufacturer, then fewest films in all.

    Returns
    -------
    int (N,), the fold of each film; the same films are always dealt alike.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for place, film in enumerate(films):
        groups[film.group].append(place)
    makers = sorted({film.maker for film in films})
    counts, dealt = np.zeros((folds, len(makers)), np.int64), np.zeros(len(films), np.int64)
    for group in sorted(groups, key=lambda group: (-len(groups[group]), films[groups[group][0]].file.name)):
        places = groups[group]
        held = np.bincount([makers.index(films[place].maker) for place in places], minlength=len(makers))
        fold = min(range(folds), key=lambda fold: (counts[fold, held.argmax()], counts[fold].sum(), fold))
        counts[fold] += held
        dealt[places] = fold
    return dealt


def even_out(film: Path, to: Path) -> None:
    """Write a film as all others are kept, gray, `SIDE` pixels, one more JPEG of `QUALITY`, unless it is there."""
    if to.is_file():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(film).convert("L")
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.save(to, "JPEG", quality=QUALITY)


def lay_out(films: Sequence[Film], splits: Sequence[str], table: Path) -> Path:
    """Write ``studies.csv``: a row a film."""
    rows = [
        Study(film.file.stem, film.maker, split=split, films={VIEW: film.file}, boxes={VIEW: None})
        for film, split in zip(films, splits, strict=True)
    ]
    table.parent.mkdir(parents=True, exist_ok=True)
    write_studies(table, rows)
    return table


def train(table: Path, out: Path) -> float:
    """Train a run, or go on with it; returns its seconds."""
    if not (out / "pipeline.json").is_file():
        train_run(table, out, load_config("paper", SETTINGS), resume=out.exists())
    return float(json.loads((out / "provenance.json").read_text(encoding="utf-8"))["seconds"])


def judge_fold(number: int, films: Sequence[Film], dealt: NDArray[np.int64], work: Path) -> dict[str, Any]:
    """Train, evaluate and convert one fold, or read what was found of it before."""
    kept = work / f"fold-{number}" / "found.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    chosen = (number + 1) % FOLDS
    splits = ["test" if fold == number else "validation" if fold == chosen else "train" for fold in dealt]
    table = lay_out(films, splits, kept.with_name("studies.csv"))
    training, begun = train(table, kept.with_name("run")), time.monotonic()
    evaluate_run(kept.with_name("run"), table, kept.with_name("evaluation"))
    exported = {spec: convert(kept.with_name("run"), spec, kept.parent / spec.replace(":", "-")) for spec in CONVERTED}
    seconds = {"training": training, "judging": round(time.monotonic() - begun, 1)}
    found = {"films": int(np.sum(dealt == number)), "seconds": seconds, "converted": exported}
    write_json(kept, found)
    return found


def convert(run: Path, spec: str, out: Path) -> dict[str, Any]:
    """Export a run and return what its sessions say of the fold's films: too few for a verdict, so it is forced and pooled."""
    target = load_target(spec, RECIPES[spec.partition(":")[0]])
    rows = export_bundle(run, target, out, force=True).manifest.parity
    return {row["session"]: {"n": row["n"], "changed": row["flips"]} for row in rows}


def pool(films: Sequence[Film], work: Path, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of all folds together: every film was judged once, by a run that had not seen it."""

    def read(model: str) -> list[Predictions]:
        folders = [work / f"fold-{number}" / "evaluation" for number in range(len(found))]
        return [read_predictions(folder / f"predictions_{model}.csv") for folder in folders]

    asked = read(ENSEMBLE)
    brands, truth = asked[0].brands, [str(brand) for each in asked for brand in each.truth]
    patients = [patient for each in asked for patient in each.patients]

    def score(probabilities: NDArray[np.float32]) -> dict[str, Any]:
        return score_predictions(brands, truth, probabilities, patients, {})

    members = load_config("paper", SETTINGS).members.names
    others = {name: np.concatenate([each.probabilities for each in read(name)]) for name in members}
    others["mean of the members"] = np.mean(list(others.values()), axis=0)
    changed: dict[str, dict[str, Any]] = {}
    for spec in CONVERTED:
        for session in found[0]["converted"][spec]:
            n, flips = (sum(each["converted"][spec][session][key] for each in found) for key in ("n", "changed"))
            changed[f"{spec} in {session}"] = {"n": n, "changed": flips, "ci95": list(clopper_pearson(flips, n))}
    return {
        "films": len(films),
        "figures": score(np.concatenate([each.probabilities for each in asked])),
        "accuracy_of_others": {name: score(probabilities)["accuracy"] for name, probabilities in others.items()},
        "converted": changed,
        "by_fold": [each["films"] for each in found],
    }


def export_whole(films: Sequence[Film], dealt: NDArray[np.int64], work: Path) -> None:
    """Train one run on all films, a fold of them to choose on, and export it."""
    splits = ["validation" if fold == 0 else "train" for fold in dealt]
    table = lay_out(films, splits, work / "whole" / "studies.csv")
    train(table, work / "whole" / "run")
    for spec in SHIPPED:
        out = work / "whole" / spec.partition(":")[0]
        bundle = export_bundle(work / "whole" / "run", load_target(spec, RECIPES[spec.partition(":")[0]]), out, force=True)
        print(f"{out}: {bundle.manifest.name}, {'verified' if bundle.manifest.verified else 'not verified'}")


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of films and labels.csv")
    parser.add_argument("--work", type=Path, default=Path("runs/shoulder"), help="where folds are trained; the same folder goes on")
    parser.add_argument("--whole", action="store_true", help="one run on all films in place of the folds")
    asked = parser.parse_args()
    films = read_films(asked.data, asked.work)
    dealt = deal_folds(films)
    if asked.whole:
        export_whole(films, dealt, asked.work)
        return
    found = []
    for number in range(FOLDS):
        found.append(judge_fold(number, films, dealt, asked.work))
        print(f"fold {number}: {found[-1]['films']} films, {found[-1]['seconds']['training'] / 60:.0f} min of training", flush=True)
    record = {
        **describe_software(),
        "data": {"labels": hash_file(asked.data / "labels.csv"), "manufacturers": dict(Counter(film.maker for film in films))},
        "settings": SETTINGS.read_text(encoding="utf-8"),
        **pool(films, asked.work, found),
        "seconds": {part: [each["seconds"][part] for each in found] for part in ("training", "judging")},
        "published": PUBLISHED,
        "folds": {film.file.name: int(fold) for film, fold in zip(films, dealt, strict=True)},
    }
    write_json(RECORD, record)
    figures = record["figures"]
    low, high = figures["ci95"]["accuracy"]
    print(f"accuracy {figures['accuracy']:.3f} ({low:.3f}-{high:.3f}) on {len(films)} films; {RECORD}")


if __name__ == "__main__":
    main()
