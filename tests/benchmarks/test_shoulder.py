"""The shoulder benchmark's own parts: who stays together, how films are dealt, and what a file's size tells."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import shoulder

from edgekit.files import write_json
from edgekit.training.config import load_config


def draw_film(seed: int) -> Image.Image:
    """A film as large as most: shades, and bright discs and bars in places of its own."""
    random = np.random.default_rng(seed)
    film = Image.fromarray(random.integers(20, 120, (6, 6), np.uint8)).resize((250, 250), Image.Resampling.BICUBIC)
    pencil = ImageDraw.Draw(film)
    for _ in range(25):
        x, y, width, height = (int(number) for number in (*random.integers(10, 220, 2), *random.integers(6, 30, 2)))
        draw = pencil.ellipse if random.random() < 0.5 else pencil.rectangle
        draw((x, y, x + width, y + height), fill=int(random.integers(120, 255)))
    return film


def show_again(film: Image.Image) -> Image.Image:
    """The same film photographed again: mirrored, tilted, a part of it, larger, of less contrast, between black bars."""
    part = ImageOps.mirror(film).rotate(4, Image.Resampling.BICUBIC).crop((18, 12, 238, 240)).resize((500, 520))
    framed = Image.new("L", (620, 560))
    framed.paste(part.point(lambda level: 40 + level * 0.7), (60, 20))
    return framed


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, shoulder.Film]:
    """61 films of three manufacturers by name: a1 and a2 of one patient, a2 and a9 alike to a person, c5 is c2 again."""
    folder = tmp_path_factory.mktemp("shoulder")
    rows = ["file,manufacturer,patient"]
    for maker, count in {"a": 30, "b": 20, "c": 11}.items():
        rows += [f"{maker}{number}.png,{maker.upper()},{'7' if f'{maker}{number}' in ('a1', 'a2') else ''}" for number in range(count)]
    for seed, row in enumerate(rows[1:]):
        draw_film(seed).save(folder / row.partition(",")[0])
    show_again(Image.open(folder / "c2.png")).save(folder / "c5.png")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "groups.csv").write_text("file,group\na2.png,1\na9.png,1\nb3.png,2\nb4.png,2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shoulder, "GROUPS", folder / "groups.csv")
        return {film.file.stem: film for film in shoulder.read_films(folder, folder / "work")}


def test_films_of_one_patient_or_nearly_the_same_stay_together(films: dict[str, shoulder.Film]) -> None:
    assert films["a1"].group == films["a2"].group == films["a9"].group
    assert films["b3"].group == films["b4"].group
    assert films["c2"].group == films["c5"].group
    assert len({film.group for film in films.values()}) == 61 - 2 - 1 - 1


def test_folds_are_stratified_keep_groups_whole_and_are_always_the_same(films: dict[str, shoulder.Film]) -> None:
    dealt = shoulder.deal_folds(list(films.values()))
    for maker, count in {"A": 30, "B": 20, "C": 11}.items():
        held = np.bincount([fold for film, fold in zip(films.values(), dealt, strict=True) if film.maker == maker], minlength=10)
        assert held.sum() == count
        assert held.max() - held.min() <= 1
    by_group = {film.group: set() for film in films.values()}
    for film, fold in zip(films.values(), dealt, strict=True):
        by_group[film.group].add(int(fold))
    assert all(len(folds) == 1 for folds in by_group.values())
    np.testing.assert_array_equal(shoulder.deal_folds(list(films.values())), dealt)


def test_the_size_of_a_file_leaves_no_trace(tmp_path: Path) -> None:
    """A large film and the same film at the usual size become files of one size, one mode and nearly one content."""
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8)).resize(
        (1000, 1000), Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "large.png")
    smooth.resize((250, 250), Image.Resampling.LANCZOS).save(tmp_path / "usual.png")
    made = []
    for name in ("large", "usual"):
        shoulder.even_out(tmp_path / f"{name}.png", tmp_path / f"{name}.jpg")
        with Image.open(tmp_path / f"{name}.jpg") as picture:
            assert (picture.size, picture.mode, picture.format) == ((250, 250), "L", "JPEG")
            made.append(np.asarray(picture).astype(int))
    assert np.abs(made[0] - made[1]).mean() < 1


def test_the_settings_are_a_users() -> None:
    config = load_config("paper", shoulder.SETTINGS)
    assert (config.task.views, config.task.locate) == (("front",), False)


def test_every_film_counts_once_in_the_pooled_figures(films: dict[str, shoulder.Film], tmp_path: Path) -> None:
    """Five films in two folds: the ensemble is right on four, each member on three or fewer, and their mean on all."""
    said = {
        "all": ["0.8,0.2", "0.6,0.4", "0.3,0.7", "0.1,0.9", "0.9,0.1"],  # A, A, B, B, B
        "first": ["0.9,0.1", "0.4,0.6", "0.3,0.7", "0.4,0.6", "0.6,0.4"],
        "second": ["0.9,0.1", "0.9,0.1", "0.6,0.4", "0.6,0.4", "0.1,0.9"],
        "third": ["0.4,0.6", "0.9,0.1", "0.2,0.8", "0.1,0.9", "0.6,0.4"],
    }
    found = []
    for fold, rows in enumerate((slice(0, 3), slice(3, 5))):
        folder = tmp_path / f"fold-{fold}" / "evaluation"
        folder.mkdir(parents=True)
        for model, answers in said.items():
            lines = [f"p{row},{truth},{answer}" for row, (truth, answer) in enumerate(zip("AABBB", answers, strict=True))][rows]
            (folder / f"predictions_{model}.csv").write_text("\n".join(["patient_id,truth,p_A,p_B", *lines]))
        converted = {spec: {"onnxruntime": {"n": 3 - fold, "changed": fold}} for spec in shoulder.CONVERTED}
        found.append({"films": 3 - fold, "seconds": {"training": 60.0, "judging": 2.0}, "converted": converted})
    record = shoulder.pool(list(films.values())[:5], tmp_path, found)
    write_json(tmp_path / "record.json", record)
    assert (record["films"], record["by_fold"]) == (5, [3, 2])
    assert record["figures"]["accuracy"] == 0.8
    low, high = record["figures"]["ci95"]["accuracy"]
    assert (round(low, 3), round(high, 3)) == (0.284, 0.995), "Clopper and Pearson's of 4 of 5"
    assert record["accuracy_of_others"] == {"first": 0.6, "second": 0.6, "third": 0.6, "mean of the members": 1.0}
    assert record["converted"]["desktop-cpu:w8a8 in onnxruntime"]["changed"] == 1
    assert record["converted"]["desktop-cpu:w8a8 in onnxruntime"]["n"] == 5
