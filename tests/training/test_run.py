"""Training end to end on a handful of simulated patients: what a run folder holds, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import filecmp
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pedicle_screws import VIEWS

from edgekit.errors import InputError, UsageError
from edgekit.models.runfolder import load_detector_settings, load_ensembles, load_films, load_pipeline, load_settings, read_json
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.studies import read_studies, write_studies
from edgekit.training.config import TrainingConfig, load_config
from edgekit.training.detector import lay_out_films, train_detector
from edgekit.training.devices import choose_device
from edgekit.training.films import FilmSet, cache_films
from edgekit.training.localisation import choose_threshold, cropping_boxes
from edgekit.training.run import DetectorSource, train_run


def test_the_run_folder_is_whole_and_loads(run: Path, small: TrainingConfig) -> None:
    names = {path.name for path in run.iterdir()}
    weights = {"detector.safetensors", *(f"member_{name}.safetensors" for name in small.members.names)}
    assert names == {
        *weights,
        "config.toml",
        "detector.json",
        "ensembles.json",
        "pipeline.json",
        "history.csv",
        "provenance.json",
        "films.json",
    }
    settings = load_settings(run)
    assert settings.brands == tuple(f"design-{letter}" for letter in "acdefg")
    assert load_config("demo", run / "config.toml") == small
    assert len(load_ensembles(run)) == 15
    assert load_pipeline(run, "ap+lateral").spec.members == ("ap", "lateral")
    provenance = read_json(run / "provenance.json")
    assert provenance["start"] == {"members": "imagenet"}
    assert provenance["detector"]["start"] == "imagenet"
    with (run / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history if row["stage"] == "member_merge"] == ["1", "2"]
    assert all(float(row["box_loss"]) > 0 for row in history if row["stage"] == "detector")


def test_the_run_keeps_which_films_it_learnt_from(run: Path, cohort: Path) -> None:
    """As hashes that another program can make again: sha256 over the bytes of each canvas of the train and validation rows."""
    canvases = [
        make_canvas(read_radiograph(film).pixels, 192)[0]
        for study in read_studies(cohort)
        if study.split in ("train", "validation")
        for film in (study.film("ap"), study.film("lateral"))
        if film
    ]
    assert load_films(run) == {hashlib.sha256(canvas.tobytes()).hexdigest() for canvas in canvases}
    assert len(canvases) > 40


def test_training_twice_gives_the_same_weights(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    again = train_run(cohort, tmp_path / "again", dataclasses.replace(small, members=dataclasses.replace(small.members, names=("ap",))))
    assert filecmp.cmp(again / "member_ap.safetensors", run / "member_ap.safetensors", shallow=False)
    assert filecmp.cmp(again / "detector.safetensors", run / "detector.safetensors", shallow=False)


def test_a_finished_run_is_never_overwritten(run: Path, cohort: Path, small: TrainingConfig) -> None:
    before = (run / "pipeline.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="already holds a finished run"):
        train_run(cohort, run, small)
    assert (run / "pipeline.json").stat().st_mtime_ns == before


def test_studies_that_can_not_teach_are_refused(cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    rows = read_studies(cohort)
    table = tmp_path / "studies.csv"
    write_studies(table, [row for row in rows if row.split == "train" or row.brand != "design-c"])
    with pytest.raises(InputError, match="member lateral: 0 validation patients of design-c have its films, expected at least 2"):
        train_run(table, tmp_path / "a", small)
    write_studies(table, [row.with_film("lateral", None, None) for row in rows])
    with pytest.raises(InputError, match="member lateral: 0 train patients of design-a"):
        train_run(table, tmp_path / "a", small)
    assert not (tmp_path / "a").exists()
    write_studies(table, [row.with_box("ap", row.box("ap") and (0, 0, 500, 500)) for row in rows])
    with pytest.raises(InputError, match="reaches beyond the film"):
        train_run(table, tmp_path / "c", small)
    write_studies(table, [row.with_box("ap", None).with_box("lateral", None) for row in rows])
    with pytest.raises(InputError, match="no training film has a box"):
        train_run(table, tmp_path / "b", small)
    assert not (tmp_path / "b").exists(), "it is told before the films are read"


def test_a_device_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: run on one without")
    with pytest.raises(InputError, match="'cuda' can't be used"):
        choose_device("cuda")


def films_with(boxes: np.ndarray, brands: list[str]) -> FilmSet:
    from edgekit.types import Study

    count = len(brands)
    studies = [Study(str(index), brand=brand) for index, brand in enumerate(brands)]
    return FilmSet(np.zeros((count, 8, 8), np.uint8), np.zeros(count, np.int64), np.arange(count), boxes.astype(np.float32), studies, VIEWS)


def test_the_threshold_parts_constructs_from_empty_films() -> None:
    box, none = [0, 0, 4, 4], [np.nan] * 4
    films = films_with(np.array([box, box, box, none, none, none]), ["x", "x", "x", "none", "none", "none"])
    settings = dataclasses.replace(load_config("demo").detector, default_threshold=0.3)
    assert 0.3 < choose_threshold(np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], np.float32), films, settings).score < 0.7
    # one hard empty film: 0.75 would cost two constructs, so the cut stays low and accepts it
    cut = choose_threshold(np.array([0.9, 0.72, 0.7, 0.1, 0.2, 0.75], np.float32), films, settings)
    assert 0.2 < cut.score < 0.7
    assert cut.basis == "Youden's J on validation: too few films without a construct to show a share (plain: 3)"
    only = films_with(np.array([box, box]), ["x", "x"])
    assert choose_threshold(np.array([0.9, 0.8], np.float32), only, settings).score == 0.3


def test_the_threshold_keeps_false_finds_below_what_the_settings_allow() -> None:
    """Of 200 plain films one may pass: one-sided at 95 %, 1 of 200 is up to 2.3 % of all, 2 are up to 3.1 %. Of 100 with other metal six
    may: 7 are up to 12.7 %, 6 up to 11.5 %. The stricter of the two decides."""
    from edgekit.types import Study

    rng = np.random.default_rng(0)
    scores = np.concatenate([np.full(50, 0.99), rng.permutation(np.arange(200) / 1000), rng.permutation(np.arange(100) / 200)]).astype(
        np.float32
    )
    kinds = [None] * 50 + [False] * 200 + [True] * 100
    studies = [Study(str(n), "x" if kind is None else "none", {"other_metal": kind}) for n, kind in enumerate(kinds)]
    boxes = np.array([[0, 0, 4, 4]] * 50 + [[np.nan] * 4] * 300, np.float32)
    films = FilmSet(np.zeros((350, 8, 8), np.uint8), np.zeros(350, np.int64), np.arange(350), boxes, studies, VIEWS)
    settings = dataclasses.replace(load_config("demo").detector, most_false_plain=0.03, most_false_other=0.12)
    cut = choose_threshold(scores, films, settings)
    assert np.sum(scores[50:250] >= cut.score) <= 1
    assert np.sum(scores[250:] >= cut.score) == 6
    assert cut.basis.startswith("false finds on validation, 95% sure: at most 3% of such films as the 200 (plain), at most 12% of")
    tied = np.where(np.arange(350) < 50, scores, np.where(scores > 0.1, 0.9, scores)).astype(np.float32)
    assert not np.any(tied[50:] >= choose_threshold(tied, films, settings).score), "films of one score pass together, or none of them"
    assert np.sum(scores >= choose_threshold(np.where(scores > 0.1, 1.0, scores).astype(np.float32), films, settings).score) == 0
    loose = choose_threshold(scores, films, dataclasses.replace(settings, most_false_other=1.0))
    assert np.sum(scores[50:250] >= loose.score) == 1


def test_members_learn_from_the_detectors_box_unless_it_missed() -> None:
    truth = np.array([[10, 10, 50, 50], [10, 10, 50, 50], [10, 10, 50, 50], [np.nan] * 4], np.float32)
    found = np.array([[12, 10, 50, 50], [60, 60, 90, 90], [12, 10, 50, 50], [5, 5, 20, 20]], np.float32)
    boxes = cropping_boxes(found, np.array([0.9, 0.9, 0.1, 0.9], np.float32), truth, 0.5)
    np.testing.assert_array_equal(boxes, [found[0], truth[1], truth[2], found[3]])


def test_a_folder_with_something_else_in_it_is_not_trained_into(cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    with pytest.raises(InputError, match="not an unfinished run"):
        train_run(cohort, tmp_path, small)
    assert (tmp_path / "config.toml").read_text() == "mine"


def test_a_relative_run_folder_keeps_ultralytics_out_of_the_working_folder(
    cohort: Path, small: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train_run(cohort, Path("mine"), dataclasses.replace(small, members=dataclasses.replace(small.members, names=("ap",))))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not (run / ".checkpoints").exists()


def only_ap(config: TrainingConfig) -> TrainingConfig:
    return dataclasses.replace(config, members=dataclasses.replace(config.members, names=("ap",), epochs=1))


def test_another_runs_detector_is_taken_as_it_is(run: Path, cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    other = dataclasses.replace(only_ap(small), detector=dataclasses.replace(small.detector, side=96, activation="silu"))
    taken = train_run(cohort, tmp_path / "taken", other, source=DetectorSource(run=run))
    assert filecmp.cmp(taken / "detector.safetensors", run / "detector.safetensors", shallow=False)
    assert load_detector_settings(taken) == load_detector_settings(run)
    assert load_detector_settings(taken).side == 64
    assert "side = 64" in (taken / "config.toml").read_text()
    assert read_json(taken / "provenance.json")["detector"]["run"] == str(run)


def test_a_detector_learns_from_films_of_its_own(
    cohort: Path, small: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its studies need no brands that the members know, and the run's own need no boxes but the detector's."""
    films = tmp_path / "films.csv"
    write_studies(films, [dataclasses.replace(row, brand="none" if row.brand == "none" else "any") for row in read_studies(cohort)])
    seen = {}
    from edgekit.training import run as module

    def listen(folder: Path, films: dict[str, FilmSet], *rest: object) -> None:
        seen["brands"], seen["side"] = set(films["train"].brands), films["train"].canvases.shape[1]
        lay_out_films(folder, films, *rest)

    monkeypatch.setattr(module, "lay_out_films", listen)
    made = train_run(cohort, tmp_path / "made", only_ap(small), source=DetectorSource(studies=films))
    assert seen == {"brands": {"any", "none"}, "side": 64}
    provenance = read_json(made / "provenance.json")
    assert provenance["detector"]["studies"]["path"] == str(films)
    assert provenance["studies"]["path"] == str(cohort)


def test_a_taken_detector_is_not_trained_as_well(run: Path) -> None:
    with pytest.raises(UsageError, match="takes a trained detector"):
        DetectorSource(run=run, studies=Path("studies.csv"))


def test_films_cached_for_a_detector_are_what_it_sees_of_the_canvases(cohort: Path, tmp_path: Path) -> None:
    rows = read_studies(cohort)[:3]
    whole, small = cache_films(rows, VIEWS, 192, tmp_path / "whole.npy"), cache_films(rows, VIEWS, 192, tmp_path / "small.npy", 3)
    films = torch.from_numpy(np.array(whole.canvases)).float()[:, None]
    seen = torch.nn.functional.avg_pool2d(films, 3)[:, 0]  # what the exported graph does
    assert small.canvases.shape == (len(whole), 64, 64)
    assert np.abs(small.canvases - seen.numpy()).max() <= 0.5
    np.testing.assert_allclose(small.boxes * 3, whole.boxes, rtol=1e-6)


def test_a_detector_whose_loss_is_not_a_number_ends_the_training(cohort: Path, small: TrainingConfig, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    rows = read_studies(cohort)
    splits = {split: [row for row in rows if row.split == split] for split in ("train", "validation")}
    films = {split: cache_films(some, VIEWS, 192, tmp_path / f"{split}.npy") for split, some in splits.items()}
    lay_out_films(tmp_path / "detector", films, None, small.detector, 0, None)
    start = load_file(tmp_path / "detector/start.safetensors")
    save_file({name: tensor * torch.nan for name, tensor in start.items()}, tmp_path / "detector/start.safetensors")
    with pytest.raises(InputError, match="the detector's loss became NaN in epoch 1"):
        train_detector(tmp_path / "detector", small.detector, 1, "cpu", 0, lambda _: None)
