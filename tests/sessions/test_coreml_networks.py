"""Whole networks that the interpreter was not written for: random weights, converted by coremltools, compared with torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision

from edgekit.formats.mlpackage import import_coremltools
from edgekit.sessions.coreml_reference import interpret

ct = import_coremltools()

NETWORKS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenetv3": lambda: timm.create_model("mobilenetv3_small_050", num_classes=10),
    "efficientnet_b0": lambda: timm.create_model("efficientnet_b0", num_classes=10),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=10),
    "deit": lambda: timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=64, depth=3),
    "swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", num_classes=10, img_size=64, window_size=4, depths=(1, 2, 1, 1)),
    "shufflenet": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10),
    "regnet": lambda: timm.create_model("regnety_002", num_classes=10),
}
MORE = {
    "densenet": lambda: torchvision.models.densenet121(num_classes=10),
    "googlenet": lambda: torchvision.models.googlenet(num_classes=10, init_weights=False, aux_logits=False),
    "mobilevit": lambda: timm.create_model("mobilevit_xxs", num_classes=10),
    "hrnet": lambda: timm.create_model("hrnet_w18_small", num_classes=10),
    "xcit": lambda: timm.create_model("xcit_nano_12_p16_224", num_classes=10),
    "res2net": lambda: timm.create_model("res2net50_14w_8s", num_classes=10),
    "levit": lambda: timm.create_model("levit_128s", num_classes=10, img_size=64),
    "focalnet": lambda: timm.create_model("focalnet_tiny_srf", num_classes=10),
    "sequencer": lambda: timm.create_model("sequencer2d_s", num_classes=10),
    "nfnet": lambda: timm.create_model("nfnet_l0", num_classes=10),
}


def settle(network: Any) -> Any:
    """Make every part of a fresh network matter: statistics of real activations, and no scale of nearly zero."""
    torch.manual_seed(1)
    for name, parameter in network.named_parameters():
        if parameter.abs().max() < 1e-3 or "gamma" in name:
            torch.nn.init.normal_(parameter, mean=0.0 if "bias" in name else 0.3, std=0.1)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
    return network.eval()


def compare(build: Any, precision: str, folder: Path) -> float:
    """Return the largest difference between torch and the interpreted program, by the range of the answer."""
    torch.manual_seed(0)
    network = settle(build())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(x).numpy()
        model = ct.convert(
            torch.jit.trace(network, x, check_trace=False),
            inputs=[ct.TensorType("x", x.shape, dtype=np.float32)],
            outputs=[ct.TensorType("y", dtype=np.float32)],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision[precision],
            skip_model_load=True,
        )
    model.save(str(folder / "model.mlpackage"))
    found = interpret(folder / "model.mlpackage")({"x": x.numpy()})["y"]
    spread = float(np.ptp(expected))
    assert spread > 1e-3
    return float(np.abs(found - expected).max()) / spread


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_torch_does(name: str, tmp_path: Path) -> None:
    assert compare(NETWORKS[name], "FLOAT32", tmp_path) <= 1e-4


@pytest.mark.parametrize("name", ["mobilenetv3", "deit"])
def test_float16_is_rounded_and_stays_close(name: str, tmp_path: Path) -> None:
    # float16 has steps of 2^-11 of a value; a network of some tens of layers adds up tens of them
    assert 2.0**-13 < compare(NETWORKS[name], "FLOAT16", tmp_path) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_more_networks_answer_as_torch_does(name: str, tmp_path: Path) -> None:
    assert compare(MORE[name], "FLOAT32", tmp_path) <= 1e-4
