"""A task that is not the study's, from a settings file to a bundle that answers in a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.cli import run as edgekit
from edgekit.errors import InputError
from edgekit.manifest import open_bundle
from edgekit.models.runfolder import load_detector_settings, load_ensembles, load_pipeline, load_settings, read_json, run_hash
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.studies import read_studies, select, write_studies
from edgekit.targets import load_target
from edgekit.types import Study

SETTINGS = """
canvas_side = 192
device = "cpu"

[task]
name = "hips"
question = "Whose hip is this?"
found = "hip"
told = "maker"
views = ["front"]
locate = {locate}
covariate = "cement"
members.near = {{views = ["front"], layout = "single"}}
members.far = {{views = ["front"], layout = "single"}}

[detector]
side = 64
film_passes = 40

[members]
side = 64
epochs = 1
batch = 8

[corners]
photos = 0

[ensembles]
folds = 2
"""


@pytest.fixture(scope="module")
def fronts(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort's AP films as films of another view, in a table without the study's columns; the first validation rows test."""
    rows = [
        Study(row.patient_id, row.brand, {"cement": number % 2 == 0}, row.split, {"front": row.film("ap")}, {"front": row.box("ap")})
        for number, row in enumerate(read_studies(cohort))
    ]
    tested = [Study(f"t{row.patient_id}", row.brand, row.has, "test", row.films, row.boxes) for row in select(rows, "validation")[:3]]
    table = tmp_path_factory.mktemp("hips") / "studies.csv"
    for number, row in enumerate(tested):  # a film may have one patient only
        film = row.film("front")
        assert film is not None
        copy = table.parent / f"test-{number}.dcm"
        copy.write_bytes(film.read_bytes())
        tested[number] = row.with_film("front", copy, row.box("front"))
    write_studies(table, [*rows, *tested])
    return table


@pytest.fixture(scope="module")
def whole(fronts: Path) -> Path:
    """A run of the task that takes whole films."""
    settings = fronts.with_name("whole.toml")
    settings.write_text(SETTINGS.format(locate="false"))
    assert edgekit(["train", str(fronts), "--out", str(fronts.with_name("whole")), "--config", str(settings)]) == 0
    return fronts.with_name("whole")


def test_a_table_has_the_columns_of_its_task(fronts: Path) -> None:
    header = fronts.read_text().splitlines()[0]
    assert header == "patient_id,brand,has_cement,split,front,front_box,exclude"


def test_a_run_of_whole_films_has_no_detector(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        *("config.toml", "ensembles.json", "films.json", "history.csv", "pipeline.json", "provenance.json"),
        *("member_near.safetensors", "member_far.safetensors"),
    }
    settings = load_settings(whole)
    assert (settings.task.name, settings.task.views, settings.task.locate) == ("hips", ("front",), False)
    assert settings.crop_margin == 0
    assert read_json(whole / "provenance.json")["detector"] is None
    assert set(load_ensembles(whole)) == {"near", "far", "near+far"}
    assert all(ensemble.cases == ("front",) for ensemble in load_ensembles(whole).values())
    assert len(run_hash(whole)) == 64


def test_members_that_look_at_the_same_learn_with_other_random_numbers(whole: Path) -> None:
    near, far = (load_pipeline(whole, name).member(name).state_dict() for name in ("near", "far"))
    assert any(not torch.equal(near[name], far[name]) for name in near)


def test_the_whole_film_is_what_members_learn_from_and_answer_for(whole: Path, fronts: Path) -> None:
    film = next(iter(read_studies(fronts)[0].given.values()))
    canvas, letterbox = make_canvas(read_radiograph(film).pixels, 192)
    pipeline = load_pipeline(whole, "near+far")
    with torch.inference_mode():
        _, _, boxes, *_ = pipeline(torch.from_numpy(canvas)[None, None], torch.ones(1))
    lit = np.argwhere(canvas > 8)
    assert boxes[0].tolist() == [lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1]
    assert boxes[0, 2] - boxes[0, 0] > 0.8 * letterbox.covered[0]


def test_a_detector_is_not_asked_for_where_none_is(whole: Path, fronts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = str(fronts.with_name("whole.toml"))
    for options in (["--only", "detector"], ["--detector", str(whole)], ["--detector-studies", str(fronts)]):
        assert edgekit(["train", str(fronts), "--out", str(tmp_path / "run"), "--config", settings, *options]) == 2
        assert "takes whole films" in capsys.readouterr().err


def test_members_without_a_detector_are_a_stage_too(whole: Path, fronts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = str(whole.with_name("whole.toml"))
    command = ["train", str(fronts), "--out", str(tmp_path / "run"), "--config", settings, "--only"]
    assert edgekit([*command, "members"]) == 0
    assert "members trained; go on with --resume." in capsys.readouterr().out
    assert edgekit([*command, "ensemble"]) == 0
    with pytest.raises(InputError, match="has no detector: its task takes whole films"):
        load_detector_settings(tmp_path / "run")


@pytest.mark.parametrize(
    ("target", "recipe"),
    [
        ("desktop-cpu", ("changed = 0.004", "changed = 0.99")),
        ("ios", None),
        pytest.param("web", ("changed = 0.004", "changed = 0.99"), marks=pytest.mark.slow),
        pytest.param("android", ("changed = 0.004", "changed = 0.99"), marks=pytest.mark.slow),
        pytest.param("jetson", ("changed = 0.004", "changed = 0.99"), marks=pytest.mark.slow),
    ],
)
def test_whole_films_of_one_view_are_exported_in_8_bits(whole: Path, target: str, recipe: tuple[str, str] | None, tmp_path: Path) -> None:
    """The graph is of another form: no films are joined, and no convolution sees one before the crop."""
    folder = load_target(target).folder
    text = (folder / "recipe.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace(*recipe).replace('ensemble = "ap+lateral"', 'ensemble = "best"') if recipe else text)
    taught = [replace(row, split="test") for row in select(read_studies(whole.with_name("studies.csv")), "train")[:3]]
    write_studies(tmp_path / "taught.csv", taught)  # the test rows are copies of films that 8 bits are calibrated on
    options = ["--studies", str(tmp_path / "taught.csv"), *(["--recipe", str(tmp_path / "mine.toml")] if recipe else [])]
    assert edgekit(["export", str(whole), target, "--out", str(tmp_path / "bundle"), *options, "--force"]) == 0
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.stages["members"].startswith("w8")
    assert all(row["n"] == 3 for row in manifest.parity)


def test_the_study_is_not_trained_on_another_tasks_table(fronts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgekit(["train", str(fronts), "--out", str(tmp_path / "run")]) == 4
    assert "lacks ap, ap_box, lateral, lateral_box" in capsys.readouterr().err


def test_a_detector_of_one_view_has_one_class(fronts: Path, tmp_path: Path) -> None:
    (tmp_path / "found.toml").write_text(SETTINGS.format(locate="true"))
    train = ["train", str(fronts), "--out", str(tmp_path / "run"), "--config", str(tmp_path / "found.toml"), "--only", "detector"]
    assert edgekit(train) == 0
    assert load_detector_settings(tmp_path / "run").views == ("front",)
    rows = [row.with_box("front", None) for row in read_studies(fronts)]
    write_studies(fronts.with_name("without.csv"), rows)
    assert (
        edgekit(
            ["studies", "propose-boxes", str(fronts.with_name("without.csv")), str(tmp_path / "run"), "--out", str(tmp_path / "out.csv")]
        )
        == 0
    )
    assert (tmp_path / "out.csv").read_text().startswith("patient_id,brand,has_cement,split,front,front_box,exclude")


@pytest.mark.browser
def test_a_bundle_of_whole_films_answers_in_the_browser(
    whole: Path, fronts: Path, tmp_path: Path, chromium_path: str, web_runtime: object, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgekit.golden import read_golden
    from edgekit.sessions import open_session

    bundle = tmp_path / "web"
    assert chromium_path
    assert web_runtime
    assert edgekit(["export", str(whole), "web:fp32", "--out", str(bundle)]) == 0
    manifest = open_bundle(bundle).manifest
    assert (manifest.task.name, manifest.cases, manifest.verified) == ("hips", ("front",), True)
    assert manifest.ensemble == load_settings(whole).ensemble
    assert list(manifest.tensors["inputs"]) == ["front", "present"]
    assert {row["session"]: row["verdict"] for row in manifest.parity} == dict.fromkeys(("litert", "browser", "browser-compat"), "PASS")
    case = read_golden(open_bundle(bundle))[0]
    with open_session("browser", open_bundle(bundle)) as page, open_session("litert", open_bundle(bundle)) as plain:
        np.testing.assert_allclose(page.infer(case.inputs)["probabilities"], plain.infer(case.inputs)["probabilities"], atol=1e-5)
    film = next(iter(read_studies(fronts)[0].given.values()))
    capsys.readouterr()
    assert edgekit(["predict", str(bundle), "--film", f"front={film}", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer["views"]) == ["front"]
    assert answer["views"]["front"]["score"] == 1
    assert edgekit(["predict", str(bundle), "--ap", str(film)]) == 2
    assert "this bundle looks at front" in capsys.readouterr().err
    assert "Whose hip is this?" in (bundle / "MODEL_CARD.md").read_text()
