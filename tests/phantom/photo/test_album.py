import csv
import json

import numpy as np
import pytest
from PIL import Image

from edgekit import cli
from edgekit.errors import InputError, UsageError
from edgekit.film_check import check_films
from edgekit.phantom import parallel
from edgekit.phantom.photo import album
from edgekit.phantom.photo import snapshot as photo
from edgekit.phantom.photo.album import COLUMNS, CORNERS, make_album
from edgekit.radiograph import read_radiograph
from edgekit.straightening import straighten
from edgekit.studies import read_studies, write_studies
from edgekit.types import Study


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A small sensor and one process."""
    monkeypatch.setattr(photo, "SENSOR", (504, 378))
    monkeypatch.setattr(parallel, "count_threads", lambda: 1)


@pytest.fixture
def table(tmp_path):
    """Five rows.

    Two views, larger than they appear in a photo; one view; the first patient again; a name that is no file's; a broken film, excluded.
    """
    folder = tmp_path / "cohort"
    folder.mkdir()
    rng = np.random.default_rng(0)

    def save(name, width, height):
        pixels = np.clip(rng.normal(90, 20, (height, width)), 0, 255).astype(np.uint8)
        pixels[height // 4 : height // 2, width // 4 : width // 2] = 240
        Image.fromarray(pixels).save(folder / name)
        return folder / name, (width / 4, height / 4, width / 2, height / 2)

    (a, a_box), (b, b_box), (c, c_box) = save("a.png", 600, 900), save("b.png", 800, 600), save("c.png", 100, 140)
    d, e = save("d.png", 150, 150)[0], save("e.png", 90, 200)[0]
    broken = folder / "f.png"
    broken.write_bytes(b"not a film")
    rows = [
        Study(
            "p1",
            "design-a",
            has={"crosslink": True},
            split="test",
            films={"ap": a, "lateral": b},
            boxes={"ap": a_box, "lateral": b_box},
            exclude=None,
        ),
        Study(
            "p2",
            "design-b",
            has={"crosslink": False},
            split="test",
            films={"ap": None, "lateral": c},
            boxes={"ap": None, "lateral": c_box},
            exclude=None,
        ),
        Study(
            "p1",
            "none",
            has={"crosslink": None},
            split="test",
            films={"ap": d, "lateral": None},
            boxes={"ap": None, "lateral": None},
            exclude=None,
        ),
        Study("../x y", None, has={"crosslink": None}, films={"ap": e, "lateral": None}, boxes={"ap": None, "lateral": None}, exclude=None),
        Study(
            "p5",
            "design-b",
            has={"crosslink": None},
            films={"ap": broken, "lateral": None},
            boxes={"ap": None, "lateral": None},
            exclude="cut off",
        ),
    ]
    write_studies(folder / "studies.csv", rows)
    return folder / "studies.csv"


def _read_photos(out):
    with (out / "photos.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _read_all(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_straightened_films_are_a_table_like_any_other(table, tmp_path):
    out = make_album(table, tmp_path / "out").parent
    before, after = read_studies(table), read_studies(out / "studies.csv")
    check_films(after)
    assert [(s.patient_id, s.brand, s.has.get("crosslink"), s.split, s.exclude) for s in after] == [
        (s.patient_id, s.brand, s.has.get("crosslink"), s.split, s.exclude) for s in before
    ]
    assert after[4].film("ap").resolve() == before[4].film("ap").resolve()
    for old, new in zip(before[:4], after[:4], strict=True):
        for view in ("ap", "lateral"):
            assert (old.film(view) is None) == (new.film(view) is None)
            if old.film(view) is None:
                continue
            assert new.film(view).parent == out / "straightened"
            film, flat = read_radiograph(old.film(view)).pixels, read_radiograph(new.film(view)).pixels
            assert flat.shape[0] / flat.shape[1] == pytest.approx(film.shape[0] / film.shape[1], rel=0.02)
            if old.box(view) is None:
                assert new.box(view) is None
                continue
            assert (flat.shape == film.shape) == (film.shape == (140, 100))
            x0, y0, x1, y1 = (round(edge) for edge in new.box(view))
            np.testing.assert_allclose(np.array(new.box(view)) / (flat.shape[1::-1] * 2), (0.25, 0.25, 0.5, 0.5), atol=1e-9)
            inside = flat[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
            assert inside.mean() > flat[y1 + 3 :, x1 + 3 :].mean() + 25  # the bright square is in the box


def test_photos_csv_has_the_truth_of_every_photo(table, tmp_path):
    out = make_album(table, tmp_path / "out", severity="mild").parent
    rows = _read_photos(out)
    assert [(row["patient_id"], row["view"]) for row in rows] == [
        ("p1", "ap"), ("p1", "lateral"), ("p2", "lateral"), ("p1", "ap"), ("../x y", "ap"),
    ]  # fmt: skip
    assert len({row["file"] for row in rows}) == 5
    for row in rows:
        assert tuple(row) == COLUMNS
        assert row["severity"] == "mild"
        with Image.open(out / row["file"]) as file:
            assert file.format == "JPEG"
            assert file.size == (int(row["photo_width"]), int(row["photo_height"]))
            grey = np.asarray(file.convert("L"))
        flat = np.asarray(Image.open(out / row["straightened"]))
        corners = np.array([float(row[name]) for name in CORNERS]).reshape(4, 2)
        assert np.abs(straighten(grey, corners, flat.shape[::-1]).astype(int) - flat).max() <= 1
    assert {path.parent for path in out.rglob("*.jpg")} == {out / "photos"}


def test_an_interrupted_run_continues_where_it_stopped(table, tmp_path, monkeypatch):
    whole = make_album(table, tmp_path / "whole", seed=4).parent
    calls = []

    def stop_at_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return photo.photograph(*arguments, **options)

    monkeypatch.setattr(album, "photograph", stop_at_third)
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        make_album(table, out, seed=4)
    assert not (out / "studies.csv").exists()
    assert not (out / "photos.csv").exists()
    with (out / ".finished.jsonl").open("a") as journal:
        journal.write('{"name": "p1-3", "sh')  # a kill in the middle of a line
    make_album(table, out, seed=4)
    assert len(calls) == 4 + 2
    (out / "straightened" / "p2_lateral.png").unlink()
    make_album(table, out, seed=4)
    assert len(calls) == 6 + 1
    made, wanted = _read_all(out), _read_all(whole)
    assert sorted(made.pop(".finished.jsonl").splitlines()) == sorted(wanted.pop(".finished.jsonl").splitlines())
    assert made == wanted


def test_two_processes_make_the_same_photos(table, tmp_path, monkeypatch):
    rows = [study for study in read_studies(table) if study.exclude is None][1:3]
    small = table.parent / "two.csv"
    write_studies(small, rows)
    monkeypatch.setattr(photo, "SENSOR", (2016, 1512))  # workers are new processes: they don't know of the small one
    one = make_album(small, tmp_path / "one").parent
    monkeypatch.setattr(parallel, "count_threads", lambda: 2)
    two = make_album(small, tmp_path / "two").parent
    for path in one.rglob("*.jpg"):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    assert (one / "photos.csv").read_bytes() == (two / "photos.csv").read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"severity": "severe"}])
def test_other_options_do_not_continue_an_album(table, tmp_path, change):
    make_album(table, tmp_path / "out")
    (name,) = change
    with pytest.raises(InputError, match=f"other parameters: {name}"):
        make_album(table, tmp_path / "out", **change)


def test_another_table_does_not_continue_an_album(table, tmp_path):
    make_album(table, tmp_path / "out")
    write_studies(table, read_studies(table)[:2])
    with pytest.raises(InputError, match="other parameters: studies"):
        make_album(table, tmp_path / "out")


def test_a_folder_with_other_things_is_left_alone(table, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty"):
        make_album(table, out)
    with pytest.raises(InputError, match="is not empty"):
        make_album(table, out / "thesis.txt")
    with pytest.raises(InputError, match="is not empty"):
        make_album(table, table.parent)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_impossible_options_are_refused_before_anything_is_made(table, tmp_path):
    with pytest.raises(UsageError, match="seed is -1"):
        make_album(table, tmp_path / "never", seed=-1)
    with pytest.raises(UsageError, match="unknown severity 'awful'"):
        make_album(table, tmp_path / "never", severity="awful")
    assert not (tmp_path / "never").exists()


def test_a_box_beyond_its_film_is_refused(table, tmp_path):
    text = table.read_text()
    table.write_text(text.replace("25 35 50 70", "25 35 50 700"))
    with pytest.raises(InputError, match=r"c\.png: the box 25 35 50 700 reaches beyond"):
        make_album(table, tmp_path / "out")


def test_a_full_disk_leaves_only_whole_photos(table, tmp_path, monkeypatch):
    def fill(path, content):
        raise OSError(28, "No space left on device", str(path), content[:0])

    monkeypatch.setattr(album, "write_bytes", fill)
    with pytest.raises(InputError, match="No space left"):
        make_album(table, tmp_path / "out")
    assert not [path for path in (tmp_path / "out" / "photos").iterdir() if path.is_file()]


def test_the_command_line(table, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert cli.run(["phantom", "photo", str(table), out, "--json", "--severity", "severe"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["photos"] == 5
    assert document["severity"] == "severe"
    assert 14 <= document["mean"]["tilt_degrees"] <= 32
    assert cli.run(["phantom", "photo", str(table), out, "--severity", "severe"]) == 0
    assert "5 photos" in capsys.readouterr().out
    assert cli.run(["phantom", "photo", str(table), out]) == 4
    assert cli.run(["phantom", "photo", str(table.parent / "no.csv"), str(tmp_path / "x")]) == 4
    assert cli.run(["phantom", "photo", str(table), str(tmp_path / "x"), "--severity", "awful"]) == 2
    assert cli.run(["phantom", "photo", str(table)]) == 2
    (table.parent / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    assert cli.run(["phantom", "photo", str(table), str(tmp_path / "y")]) == 4
    assert "b.png" in capsys.readouterr().err
