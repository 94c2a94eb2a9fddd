from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.errors import InputError, UsageError
from edgekit.training.config import PRESETS, load_config


@pytest.mark.parametrize("preset", PRESETS)
def test_resolved_settings_read_back_the_same(preset: str, tmp_path: Path) -> None:
    config = load_config(preset)
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_config(preset, tmp_path / "config.toml") == config


def test_the_users_file_lies_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('seed = 7\n[members]\nepochs = 3\nnames = ["ap", "lateral", "concat", "merge"]\n')
    config, preset = load_config("demo", tmp_path / "mine.toml"), load_config("demo")
    assert (config.seed, config.members.epochs, config.members.names) == (7, 3, ("ap", "lateral", "concat", "merge"))
    assert config.detector == preset.detector
    assert tomllib.loads(config.to_toml())["members"]["epochs"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", "unknown key epochs"),
        ("[detector]\npasses = 3", r"\[detector\]: unknown key passes"),
        ("[detector]\nfilm_passes = 2.5", "film_passes = 2.5 is not int"),
        ('[detector]\nbackbone = "resnet"', "resnet"),
        ("[detector]\nside = 100", "multiple of 32 that divides"),
        ("canvas_side = 700", "multiple of 32 that divides"),
        ('[members]\nnames = ["ap", "oblique"]', "oblique"),
        ("[members]\nepochs = 0", "members epochs"),
        ("[ensembles]\ncoverage = 1.5", "coverage 1.5"),
        ("detector = 3", "expected a table"),
        ('[members]\narchitecture = "resnet50"', "resnet50"),
        ('[members]\ninit = "coco"', "coco"),
        ('[detector]\nactivation = "gelu"', "gelu"),
        ("[members]\nlabel_smoothing = 2.0", "label_smoothing 2.0"),
        ("[members]\nblur = 1.5", "members blur 1.5"),
        ("[members]\nfrozen_stages = 8", "members frozen_stages 8"),
        ('[members]\nfrozen_stages = 2\ninit = "random"', "would keep random weights"),
        ("[members]\naveraging = 1", "members averaging 1.0"),
        ("[members]\nnoise = -0.1", "noise -0.1"),
        ("[corners]\nphotos = 100", "corners photos 100 must be 0 or at least 320"),
        ("[corners]\nbatch = 1", "corners batch"),
        ("[members]\ngamma = -0.1", "gamma -0.1"),
        ("[members]\nlearning_rate = true", "learning_rate = True is not float"),
        ("[members]\nweight_decay = -1e-4", "weight_decay -0.0001 must be at least 0"),
        ("[members]\nbox_jitter = 1", "box_jitter 1.0 must be at least 0 and below 1"),
        ("[detector]\ntranslate = 10", "translate 10.0 must be from 0 to 1"),
        ("[detector]\nrotation_degrees = -8", "detector rotation_degrees -8.0 must be from 0 to 180"),
        ("seed = ", "not TOML"),
        ('members = 3\n[task]\nname = "hips"\nviews = ["front"]', "expected a table"),
        (
            '[task]\nname = "hips"\nviews = ["front"]\n[task.members.double]\nviews = ["front"]\nlayout = "single"',
            "can't be called 'double'",
        ),
    ],
)
def test_bad_settings_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config("demo", tmp_path / "mine.toml")


def test_a_member_that_is_not_trained_asks_for_no_side(tmp_path: Path) -> None:
    triple = '[task]\nname = "knee"\nviews = ["a", "b", "c"]\n[task.members]\n'
    triple += (
        'one = {{views = ["a"], layout = "single"}}\nall3 = {{views = ["a", "b", "c"], layout = "side by side"}}\n[members]\nside = 224\n{}'
    )
    (tmp_path / "mine.toml").write_text(triple.format('names = ["one"]').replace("{{", "{").replace("}}", "}"))
    assert load_config("demo", tmp_path / "mine.toml").members.names == ("one",)
    (tmp_path / "mine.toml").write_text(triple.format("").replace("{{", "{").replace("}}", "}"))
    with pytest.raises(InputError, match="can't be shared by the 3 views of 'all3'"):
        load_config("demo", tmp_path / "mine.toml")


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[detector]\nlearning_rate = 1\nrotation_degrees = 4\n")
    detector = load_config("demo", tmp_path / "mine.toml").detector
    assert (repr(detector.learning_rate), repr(detector.rotation_degrees)) == ("1.0", "4.0")


def show(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["train", "--show-settings", *words]) == 0
    return capsys.readouterr().out


def test_the_settings_that_are_shown_can_be_saved_and_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text("seed = 7\n[members]\nepochs = 3\n")
    shown = show(capsys, "--preset", "paper", "--config", str(tmp_path / "mine.toml"))
    assert (tomllib.loads(shown)["seed"], tomllib.loads(shown)["members"]["epochs"]) == (7, 3)
    assert tomllib.loads(shown)["detector"]["film_passes"] == 64000
    (tmp_path / "shown.toml").write_text(shown)
    assert show(capsys, "--config", str(tmp_path / "shown.toml")) == shown
    assert json.loads(show(capsys, "--config", str(tmp_path / "shown.toml"), "--json")) == tomllib.loads(shown)


def test_settings_that_are_refused_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text("[members]\nepoch = 3\n")
    assert run(["train", "--show-settings", "--config", str(tmp_path / "mine.toml")]) == 4
    assert capsys.readouterr().out == ""


def test_unknown_preset_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown preset 'quick'"):
        load_config("quick")
    with pytest.raises(InputError, match="is missing"):
        load_config("demo", tmp_path / "none.toml")
