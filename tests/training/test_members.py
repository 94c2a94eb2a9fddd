from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import InputError
from edgekit.training.config import load_config
from edgekit.training.crops import Samples, augment
from edgekit.training.devices import start_accelerator
from edgekit.training.members import Lesson, probe_linear, train_member


@pytest.mark.parametrize("n_brands", [2, 3])
def test_the_linear_layer_starts_as_a_fit_on_frozen_features(n_brands: int) -> None:
    """Bright, dark and striped crops: told apart before the first step of fine-tuning, with the features untouched."""
    from edgekit.models.classifier import start_classifier

    config = dataclasses.replace(load_config("demo").members, side=64, contrast=0.0)
    patterns = torch.zeros(n_brands, 1, 82, 82, dtype=torch.uint8)
    patterns[1, :, ::8] = 255
    patterns[n_brands - 1, :, :, ::4] = 200
    context = patterns.repeat(8, 1, 1, 1)
    samples = Samples(np.arange(8 * n_brands)[:, None], np.tile(np.arange(n_brands), 8))
    network = start_classifier("efficientnet_lite0", n_brands, "imagenet")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    lesson = Lesson("ap", tuple("xyz"[:n_brands]), samples, context, torch.zeros(2, 1, 64, 64), torch.zeros(2, dtype=torch.int64))
    probe_linear(network, lesson, config, generator)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"network.classifier.weight", "network.classifier.bias"}
    fresh = augment(context, samples.films, config, "ap", torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (network(fresh).argmax(dim=1).numpy() == samples.brands).mean() > 0.9


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path: Path) -> None:
    config = dataclasses.replace(load_config("demo").members, side=64, learning_rate=1e30, epochs=2, batch=4, init="random")
    context = torch.randint(0, 255, (8, 1, 87, 87), dtype=torch.uint8)
    lesson = Lesson(
        "ap", ("x", "y"), Samples(np.arange(8)[:, None], np.arange(8) % 2), context, torch.rand(4, 1, 64, 64), torch.arange(4) % 2
    )
    with pytest.raises(InputError, match="loss became NaN"):
        train_member(lesson, config, start_accelerator(torch.device("cpu")), 0, None, tmp_path, lambda _: None)
