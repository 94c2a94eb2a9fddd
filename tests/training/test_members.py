from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from edgekit.errors import InputError
from edgekit.models.classifier import start_classifier
from edgekit.task import SINGLE, Member
from edgekit.training.config import load_config
from edgekit.training.crops import Samples, augment
from edgekit.training.devices import start_accelerator
from edgekit.training.members import Lesson, probe_linear, train_member

AP = Member("ap", ("ap",), SINGLE)


@pytest.mark.parametrize("n_brands", [2, 3])
def test_the_linear_layer_starts_as_a_fit_on_frozen_features(n_brands: int) -> None:
    """Bright, dark and striped crops: told apart before the first step of fine-tuning, with the features untouched."""
    config = dataclasses.replace(load_config("demo").members, side=64, contrast=0.0)
    patterns = torch.zeros(n_brands, 1, 82, 82, dtype=torch.uint8)
    patterns[1, :, ::8] = 255
    patterns[n_brands - 1, :, :, ::4] = 200
    context = patterns.repeat(8, 1, 1, 1)
    samples = Samples(np.arange(8 * n_brands)[:, None], np.tile(np.arange(n_brands), 8))
    network = start_classifier("efficientnet_lite0", n_brands, "imagenet")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    lesson = Lesson(AP, tuple("xyz"[:n_brands]), samples, context, torch.zeros(2, 1, 64, 64), torch.zeros(2, dtype=torch.int64))
    probe_linear(network, lesson, config, generator)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"network.classifier.weight", "network.classifier.bias"}
    fresh = augment(context, samples.films, config, AP, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (network(fresh).argmax(dim=1).numpy() == samples.brands).mean() > 0.9


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path: Path) -> None:
    config = dataclasses.replace(load_config("demo").members, side=64, learning_rate=1e30, epochs=2, batch=4, init="random")
    with pytest.raises(InputError, match="loss became NaN"):
        train_member(make_lesson(), config, start_accelerator(torch.device("cpu")), 0, None, tmp_path, lambda _: None)


def make_lesson() -> Lesson:
    """Eight random crops of two brands: a training of two steps an epoch."""
    random = torch.Generator().manual_seed(0)
    context = torch.randint(0, 255, (8, 1, 87, 87), dtype=torch.uint8, generator=random)
    samples = Samples(np.arange(8)[:, None], np.arange(8) % 2)
    return Lesson(AP, ("x", "y"), samples, context, torch.rand(4, 1, 64, 64, generator=random), torch.arange(4) % 2)


def test_the_average_of_the_weights_is_what_is_kept(tmp_path: Path) -> None:
    """After one epoch of four steps, by hand."""
    config = dataclasses.replace(load_config("demo").members, side=64, epochs=1, batch=2, averaging=0.5)
    left: list[torch.Tensor] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        left.append(torch.cat([each.detach().flatten() for each in optimizer.param_groups[0]["params"]]))

    hook = register_optimizer_step_post_hook(note)
    try:
        trained = train_member(make_lesson(), config, start_accelerator(torch.device("cpu")), 0, None, tmp_path, lambda _: None)
    finally:
        hook.remove()
    first, second, third, fourth = left
    expected = ((first / 2 + second / 2) / 2 + third / 2) / 2 + fourth / 2
    found = torch.cat([each.detach().flatten() for each in trained.parameters()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - fourth).abs().max() > 1e-5


def test_frozen_stages_keep_imagenets_weights_and_the_others_learn(tmp_path: Path) -> None:
    config = dataclasses.replace(load_config("demo").members, side=64, epochs=1, batch=4, frozen_stages=2)
    before = start_classifier("efficientnet_lite0", 2, "imagenet").state_dict()
    after = train_member(make_lesson(), config, start_accelerator(torch.device("cpu")), 0, None, tmp_path, lambda _: None).state_dict()
    moved = {".".join(name.split(".")[1:3]) for name in after if not torch.equal(after[name], before[name])}
    assert moved == {f"blocks.{stage}" for stage in range(2, 7)} | {"conv_head.weight", "bn2.weight", "bn2.bias"} | {
        "classifier.weight",
        "classifier.bias",
    }
