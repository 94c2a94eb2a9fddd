"""What is fuzzed: everything that reads a file which a person gave. Each may raise `EdgekitError` and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
from film_seeds import seed_dicom, seed_jpeg, seed_png
from mutations import (
    Mutation,
    mutate_film,
    mutate_jpeg,
    mutate_manifest,
    mutate_png,
    mutate_run,
    mutate_settings,
    mutate_table,
    mutate_weights,
    splice,
    structured,
)
from text_seeds import (
    BUNDLE,
    FILMS,
    seed_config,
    seed_manifest,
    seed_predictions,
    seed_processors,
    seed_recipe,
    seed_run,
    seed_studies,
    seed_weights,
)

from edgekit.errors import EdgekitError, FilmError


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of file and what reads it.

    Attributes
    ----------
    file
        The name of the file, in a folder of its own.
    seeds
        Returns sound files by name.
    mutation
        Breaks one of them.
    answer
        Reads the file at a path.
    tested
        Cases in ``make test``.
    share
        Share of the cases of a long run.
    prepare
        Puts into the folder what must lie beside the file.
    """

    file: str
    seeds: Callable[[], dict[str, bytes]]
    mutation: Mutation
    answer: Callable[[Path], None]
    tested: int
    share: float
    prepare: Callable[[Path], None] = lambda _: None


def make_case(seeds: dict[str, bytes], mutation: Mutation, name: str, steps: list[int]) -> bytes:
    """Return the seed `name`, broken once for each number of `steps`."""
    content = seeds[name]
    for step in steps:
        random = Random(step)
        if random.random() < 0.04:
            content = splice(content, seeds[random.choice(sorted(seeds))], random)
            continue
        content = mutation(content, random)
    return content


# --- films ---------------------------------------------------------------------------------------------------------------------


def read_film(path: Path) -> None:
    """Read a film and make its canvas; a refusal has a known reason, names the film and says what to do."""
    from edgekit.radiograph import make_canvas, read_radiograph
    from edgekit.radiograph.refusals import MAX_PIXELS, Reason

    pixels, refusal = None, None
    try:
        pixels = read_radiograph(path).pixels
    except FilmError as error:
        refusal = error
    if refusal:
        assert refusal.reason in get_args(Reason), f"reason {refusal.reason!r}"
        assert str(path) in refusal.message, "the refusal does not name the film"
        assert refusal.remedy, "the refusal does not say what to do"
        return
    assert pixels is not None
    assert pixels.dtype == np.uint8, f"pixels are {pixels.dtype}"
    assert pixels.ndim == 2, f"pixels are {pixels.shape}"
    assert 0 < pixels.size <= MAX_PIXELS, f"{pixels.size} pixels"
    make_canvas(pixels, 64)


# --- tables --------------------------------------------------------------------------------------------------------------------


def place_films(folder: Path) -> None:
    """Put files by the names of the table's films into `folder`; reading a table does not decode them."""
    for name in FILMS:
        (folder / name).touch()


def read_studies(path: Path) -> None:
    """Read studies; every row has a patient and a film, and boxes are boxes."""
    from edgekit import studies

    for study in studies.read_studies(path):
        assert study.patient_id, "a row without a patient"
        assert study.given, "a row without a film"
        for box in study.boxes.values():
            assert box is None or (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]), f"a box {box}"


def read_predictions(path: Path) -> None:
    """Read answers; probabilities are probabilities."""
    from edgekit.evaluation import predictions

    found = predictions.read_predictions(path)
    assert found.probabilities.shape == (len(found.patients), len(found.brands)), "rows and columns do not fit"
    assert np.all((found.probabilities >= 0) & (found.probabilities <= 1)), "a value that is no probability"
    assert all(found.patients), "a row without a patient"
    assert len(found.answers) == len(found.patients), "rows without an answer"


# --- settings, bundles, runs ---------------------------------------------------------------------------------------------------


def read_recipe(path: Path) -> None:
    """Read the default variant of a recipe, then every one."""
    from edgekit.targets import load_target

    load_target("web", path)
    for precision in ("fp32", "w8a8"):
        load_target(f"web:{precision}", path)


def read_config(path: Path) -> None:
    """Read settings of a training: every number is finite, and the TOML that is kept reads back."""
    from edgekit.training.config import load_config

    config = load_config("demo", path)

    def check(part: object) -> None:
        if isinstance(part, dict):
            for value in part.values():
                check(value)
        assert not isinstance(part, float) or math.isfinite(part), f"a setting is {part}"

    check(asdict(config))
    assert config.canvas_side > 0, f"canvas_side is {config.canvas_side}"
    kept = path.with_name("kept.toml")
    kept.write_text(config.to_toml(), encoding="utf-8")
    assert load_config("demo", kept) == config, "the settings do not read back"


def place_bundle(folder: Path) -> None:
    """Put the files of a bundle, except its manifest, into `folder`."""
    for name, content in BUNDLE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "processors.json").write_bytes(seed_processors())


def read_bundle(path: Path) -> None:
    """Open a bundle and ask it what every command asks."""
    from edgekit.manifest import open_bundle

    bundle = open_bundle(path.parent)
    assert bundle.canvas_side > 0, f"the canvas' side is {bundle.canvas_side}"
    assert all(isinstance(name, str) for name in (*bundle.brands, *bundle.sessions)), "names that are no text"
    assert bundle.model.name, "no model"


def read_weights(path: Path) -> None:
    """Load weights into a layer; a refusal names the file."""
    from torch.nn import Linear

    from edgekit.models.runfolder import load_weights

    message = ""
    try:
        load_weights(path, Linear(2, 3))
    except EdgekitError as error:
        message = error.message
    assert not message or str(path) in message, "the refusal does not name the file"


def read_run(path: Path) -> None:
    """Read every JSON document of a run folder, as far as it is there."""
    from edgekit.models import runfolder

    run = path.parent
    names = ("pipeline", "detector", "ensembles", "provenance")
    try:
        documents = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        documents = None
    for name in names:
        is_whole = not isinstance(documents, dict)
        (run / f"{name}.json").write_bytes(path.read_bytes() if is_whole else json.dumps(documents.get(name, {})).encode())
    for load in (runfolder.load_settings, runfolder.load_detector_settings, runfolder.load_ensembles, runfolder.find_studies):
        message = ""
        try:
            load(run)
        except EdgekitError as error:
            message = error.message
        assert not message or load == runfolder.find_studies or str(run) in message, "the refusal does not name the run"


TARGETS = {
    "dicom": Target("film.dcm", seed_dicom, structured(mutate_film), read_film, 1200, 0.45),
    "png": Target("film.png", seed_png, structured(mutate_png), read_film, 500, 0.15),
    "jpeg": Target("film.jpg", seed_jpeg, structured(mutate_jpeg), read_film, 400, 0.12),
    "studies": Target("studies.csv", seed_studies, structured(mutate_table), read_studies, 200, 0.06, place_films),
    "predictions": Target("predictions.csv", seed_predictions, structured(mutate_table), read_predictions, 200, 0.06),
    "manifest": Target("manifest.json", seed_manifest, structured(mutate_manifest), read_bundle, 150, 0.04, place_bundle),
    "recipe": Target("recipe.toml", seed_recipe, structured(mutate_settings), read_recipe, 100, 0.03),
    "config": Target("config.toml", seed_config, structured(mutate_settings), read_config, 100, 0.03),
    "weights": Target("network.safetensors", seed_weights, structured(mutate_weights), read_weights, 100, 0.04),
    "run": Target("documents.json", seed_run, structured(mutate_run), read_run, 50, 0.02),
}
"""By name; 3,000 cases in ``make test``."""
