from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pedicle_screws import VIEWS

from edgekit.task import PEDICLE_SCREWS
from edgekit.training.config import load_config
from edgekit.training.crops import augment, cache_context, crop_films, select_samples
from edgekit.training.films import FilmSet
from edgekit.types import Study


def make_films(side: int = 96) -> tuple[FilmSet, np.ndarray]:
    """Two patients with both films, one with a lateral only; a bright ramp inside each box."""
    random = np.random.default_rng(0)
    studies = [Study("1", brand="x"), Study("2", brand="y"), Study("3", brand="x"), Study("4", brand="none")]
    view, study = np.array([0, 1, 0, 1, 1, 0]), np.array([0, 0, 1, 1, 2, 3])
    ramp = np.add.outer(np.linspace(0, 120, side), np.linspace(0, 120, side))
    canvases = np.stack([ramp + random.normal(0, 2, (side, side)) for _ in view]).clip(0, 255).astype(np.uint8)
    boxes = np.tile(np.array([24.0, 16.0, 72.0, 80.0], np.float32), (6, 1))
    boxes[5] = np.nan
    return FilmSet(canvases, view, study, boxes, studies, VIEWS), boxes


def test_samples_of_each_member() -> None:
    films, boxes = make_films()
    samples = {member.name: select_samples(member, films, boxes, ("x", "y")) for member in PEDICLE_SCREWS.members}
    assert samples["ap"].films.tolist() == [[0], [2]]
    assert samples["lateral"].films.tolist() == [[1], [3], [4]]
    assert samples["concat"].films.tolist() == [[0, 1], [2, 3]]
    assert sorted(samples["merge"].films[:, 0].tolist()) == [0, 1, 2, 3, 4]
    assert samples["lateral"].brands.tolist() == [0, 1, 0]
    boxes[1] = np.nan
    assert select_samples(PEDICLE_SCREWS.member("concat"), films, boxes, ("x", "y")).films.tolist() == [[2, 3]]


@pytest.mark.parametrize("name", ["ap", "concat"])
def test_without_augmentation_a_training_crop_is_the_pipelines_crop(name: str) -> None:
    """The context crop and the affine map must land where the pipeline's cropper does, flipped or not."""
    films, boxes = make_films()
    member = PEDICLE_SCREWS.member(name)
    plain_settings = {"rotation_degrees": 0.0, "box_jitter": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0}
    config = dataclasses.replace(load_config("demo").members, side=64, **plain_settings)
    rows = select_samples(member, films, boxes, ("x", "y")).films
    plain = crop_films(films, boxes, rows, 64, config.margin)
    context = cache_context(films.canvases, boxes, 64, config.margin)
    kinds = set()
    for seed in range(40):
        crop = augment(context, rows[:1], config, member, torch.Generator().manual_seed(seed))
        candidates = {"plain": plain[:1], "inverted": 1 - plain[:1]}
        if name == "ap":
            candidates |= {f"{kind} flipped": value.flip(3) for kind, value in candidates.items()}
        else:  # each half is flipped in its place
            candidates |= {
                f"{kind} flipped": torch.cat([value[..., :32].flip(3), value[..., 32:].flip(3)], dim=3)
                for kind, value in candidates.items()
            }
        errors = {kind: float((crop - value).abs().mean()) for kind, value in candidates.items()}
        best = min(errors, key=errors.__getitem__)
        assert errors[best] < 0.01
        kinds.add(best)
    assert {"plain", "plain flipped"} <= kinds
    assert any("inverted" in kind for kind in kinds)
