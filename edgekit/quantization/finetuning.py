"""Quantization-aware fine-tuning: the networks learn to answer through 8 bits as they did without.

Each network is its own teacher: it is shown the calibration films with its weights and the inputs of its convolutions rounded, and its
weights move until what comes out is what came out before (Jacob et al. 2018, *Quantization and training of neural networks for efficient
integer-arithmetic-only inference*; a teacher needs no labels). For where repair would give too much back to float.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from edgekit.progress import track
from edgekit.quantization.rounding import LEVELS
from edgekit.types import INPUTS

if TYPE_CHECKING:
    from edgekit.sessions import Tensors

LEARNING_RATE = 2e-5
BATCH = 8
SEED = 0

Loss = Callable[[Any, Any], Tensor]


class RoundWeights(nn.Module):
    """Rounds convolution weights to the nearest of 255 steps; the gradient passes as if it had not."""

    def forward(self, weight: Tensor) -> Tensor:
        """Map weights (O, C, h, w) to weights that 8 bits represent."""
        scales = (weight.detach().abs().amax(dim=(1, 2, 3)) / LEVELS).clamp(min=1e-12)
        return torch.fake_quantize_per_channel_affine(weight, scales, torch.zeros_like(scales, dtype=torch.int32), 0, -LEVELS, LEVELS)


class RoundInputs:
    """Rounds what goes into a convolution to 8 bits between the extremes that it has seen so far."""

    def __init__(self) -> None:
        self.low = self.high = 0.0

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take a convolution's inputs, as a forward hook does, and return them rounded."""
        x = inputs[0]
        self.low, self.high = min(self.low, float(x.detach().min())), max(self.high, float(x.detach().max()))
        scale = (self.high - self.low) / 255 or 1.0
        return (torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, 255),)


def finetune_pipeline(pipeline: Any, stages: dict[str, str], calibration: Sequence[Tensors], epochs: int) -> Any:
    """Return a copy of `pipeline` whose 8-bit stages were fine-tuned through rounding; deterministic.

    Parameters
    ----------
    pipeline
        A ``models.pipeline.Pipeline`` in eval mode, batch normalization folded.
    stages
        Precision by stage; those that are ``w8a8`` learn.
    calibration
        The graph's inputs of each patient.
    epochs
        How often each network sees every film.
    """
    student = copy.deepcopy(pipeline)
    if stages["detector"] == "w8a8":
        films, _ = _show_films(pipeline, calibration)
        _distill(student.detector, pipeline.detector, films, _compare_boxes, epochs, "Fine-tuning the detector")
    if stages["members"] == "w8a8":
        _, crops = _show_films(student, calibration)  # where the student's detector finds them
        for name, shown in crops.items():
            _distill(student.member(name), pipeline.member(name), shown, _compare_logits, epochs, f"Fine-tuning {name}")
    return student


def _show_films(pipeline: Any, calibration: Sequence[Tensors]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what the detector sees, float (N, 1, side, side), and what each member sees, by name, over all patients."""
    films: list[Tensor] = []
    crops: dict[str, list[Tensor]] = {name: [] for name in pipeline.spec.members}

    def note_film(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        films.append(inputs[0])

    def note_crop(name: str, features: Callable[[Tensor], Tensor], crop: Tensor) -> Tensor:
        crops[name].append(crop)
        return features(crop)

    hook = pipeline.detector.register_forward_pre_hook(note_film)
    for name in crops:  # not a hook: the pipeline calls a member's parts
        pipeline.member(name).features = partial(note_crop, name, pipeline.member(name).features)
    try:
        with torch.no_grad():
            for inputs in calibration:
                pipeline(*(torch.from_numpy(inputs[name].copy()) for name in INPUTS))
    finally:
        hook.remove()
        for name in crops:
            del pipeline.member(name).features
    return torch.cat(films), {name: torch.cat(shown) for name, shown in crops.items()}


def _distill(student: nn.Module, teacher: nn.Module, shown: Tensor, loss: Loss, epochs: int, description: str) -> None:
    """Fine-tune `student` in place until it answers for `shown` as `teacher` does."""
    with torch.no_grad():
        answers = [teacher(batch) for batch in torch.split(shown, BATCH)]
    convolutions = [module for module in student.modules() if isinstance(module, nn.Conv2d)]
    hooks = []
    for convolution in convolutions:
        parametrize.register_parametrization(convolution, "weight", RoundWeights())
        hooks.append(convolution.register_forward_pre_hook(RoundInputs()))
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    random = torch.Generator().manual_seed(SEED)
    batches = list(zip(torch.split(shown, BATCH), answers, strict=True))
    for _ in track(range(epochs), description):
        for place in torch.randperm(len(batches), generator=random).tolist():
            film, answer = batches[place]
            optimizer.zero_grad()
            torch.autograd.backward(loss(student(film), answer))
            optimizer.step()
    for convolution, hook in zip(convolutions, hooks, strict=True):
        hook.remove()
        parametrizations: Any = convolution.parametrizations
        weight = parametrizations.weight.original.detach()
        parametrize.remove_parametrizations(convolution, "weight", leave_parametrized=False)
        convolution.weight = nn.Parameter(weight)


def _compare_boxes(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Tensor:
    """Loss of boxes in pixels, and of view scores as logits; films in which the teacher sees nothing say nothing of boxes."""
    weights = expected[1].unsqueeze(1)
    boxes = (weights * functional.smooth_l1_loss(found[0], expected[0], reduction="none")).mean()
    return boxes + functional.mse_loss(found[2].logit(eps=1e-6), expected[2].logit(eps=1e-6))


def _compare_logits(found: Tensor, expected: Tensor) -> Tensor:
    """Mean squared difference of logits (N, K)."""
    return functional.mse_loss(found, expected)
